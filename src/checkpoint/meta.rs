//! The rows of the table `meta`: values and JSON documents that belong to no other table, each
//! under a key.
//!
//! A key may have a prefix that groups the rows of one purpose. Nothing here knows the keys; their
//! modules define them. Start reading at [`set`] and [`document`].

use serde::{Serialize, de::DeserializeOwned};

use super::{
    CheckpointError,
    backend::{Statements, values},
};

/// The value of a key; `None` if it has no row.
pub(super) fn value(store: &dyn Statements, key: &str) -> Result<Option<String>, CheckpointError> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    store.query_optional(sql, values![key], |row| row.get("value"))
}

/// Stores the value of a key, instead of its previous one.
pub(super) fn set(store: &dyn Statements, key: &str, value: &str) -> Result<(), CheckpointError> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = ?2";
    store.execute(sql, values![key, value])?;
    Ok(())
}

/// Deletes the row of a key, if it exists.
pub(super) fn remove(store: &dyn Statements, key: &str) -> Result<(), CheckpointError> {
    store.execute("DELETE FROM meta WHERE key = ?1", values![key])?;
    Ok(())
}

/// All keys that begin with a prefix, sorted.
pub(super) fn keys(store: &dyn Statements, prefix: &str) -> Result<Vec<String>, CheckpointError> {
    let sql = "SELECT key FROM meta WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key";
    store.query_all(sql, values![prefix], |row| row.get("key"))
}

/// Deletes the rows of all keys that begin with a prefix.
pub(super) fn remove_all(store: &dyn Statements, prefix: &str) -> Result<(), CheckpointError> {
    let sql = "DELETE FROM meta WHERE substr(key, 1, length(?1)) = ?1";
    store.execute(sql, values![prefix])?;
    Ok(())
}

/// The document of a key; `None` if it has no row, and if its document is from another version.
pub(super) fn document<T: DeserializeOwned>(
    store: &dyn Statements,
    key: &str,
) -> Result<Option<T>, CheckpointError> {
    let text = value(store, key)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Stores the document of a key; `None` deletes it.
pub(super) fn set_document<T: Serialize>(
    store: &dyn Statements,
    key: &str,
    document: Option<&T>,
) -> Result<(), CheckpointError> {
    match document {
        // Serializing a struct of strings and numbers cannot fail.
        Some(document) => set(store, key, &serde_json::to_string(document).unwrap_or_default()),
        None => remove(store, key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    #[test]
    fn rows_are_replaced_and_removed_by_key() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
        checkpoint
            .administrative(|store| {
                set(store, "of a b", "1")?;
                set(store, "of a b", "2")?;
                set(store, "of a c", "3")?;
                // A prefix is not a pattern.
                set(store, "of_a d", "4")?;
                set(store, "OF a e", "5")?;
                assert_eq!(value(store, "of a b")?.as_deref(), Some("2"));
                assert_eq!(keys(store, "of a ")?, ["of a b", "of a c"]);

                remove(store, "of a b")?;
                remove(store, "of a b")?;
                assert_eq!(keys(store, "of a ")?, ["of a c"]);
                remove_all(store, "of_a ")?;
                assert_eq!(keys(store, "o")?, ["of a c"]);
                remove_all(store, "of a ")?;
                assert_eq!((keys(store, "o")?.len(), keys(store, "O")?.len()), (0, 1));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn documents_of_another_version_are_absent() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
        checkpoint
            .administrative(|store| {
                assert_eq!(document::<Vec<u32>>(store, "key")?, None);
                set_document(store, "key", Some(&[1, 2]))?;
                assert_eq!(document(store, "key")?, Some(vec![1, 2]));
                assert_eq!(document::<String>(store, "key")?, None);

                set_document::<Vec<u32>>(store, "key", None)?;
                assert_eq!(value(store, "key")?, None);
                Ok(())
            })
            .unwrap();
    }
}
