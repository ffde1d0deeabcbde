//! The names of controls and their IDs in the table `control`. Packed facts contain only the IDs,
//! so all names are cached. Only [`super::commit_poll`] adds names, within its transaction: after a
//! rollback, the cache must be read again. Start reading at [`control_id`].

use std::{
    collections::{BTreeSet, HashMap},
    ops::ControlFlow,
    sync::Arc,
};

use super::{
    CheckpointError,
    backend::{Statements, values},
};

/// All names, in both directions. The size depends only on the number of names: the ID in a damaged
/// row can be any number.
#[derive(Debug, Default)]
pub(super) struct ControlNames {
    by_name: HashMap<Arc<str>, u32>,
    by_id: HashMap<u32, Arc<str>>,
    /// Whether the cache may contain names whose rows were rolled back.
    is_stale: bool,
}

impl ControlNames {
    /// Reads all names. Fails if the database cannot be read, or if an ID does not have 32 bits.
    pub(super) fn load(store: &dyn Statements) -> Result<Self, CheckpointError> {
        let mut names = Self::default();
        store.query("SELECT id, name FROM control", values![], &mut |row| {
            names.add(row.get("id")?, &row.get::<String>("name")?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(names)
    }

    /// Adds a name that was inserted with this ID.
    pub(super) fn add(&mut self, id: u32, name: &str) {
        let name: Arc<str> = name.into();
        self.by_name.insert(Arc::clone(&name), id);
        self.by_id.insert(id, name);
    }

    /// Makes the next use read the names again. Unlike reading them now, this cannot fail, so no
    /// later transaction can refer to a row that was rolled back.
    pub(super) fn invalidate(&mut self) {
        self.is_stale = true;
    }

    /// Whether the names must be read again.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The ID of a name; `None` if the table does not contain it.
    pub(super) fn id_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The name with this ID.
    pub(super) fn get(&self, id: u32) -> Option<Arc<str>> {
        self.by_id.get(&id).cloned()
    }
}

/// The ID of a control's name, which is inserted if it does not exist. Fails if the row cannot be
/// inserted, or with [`CheckpointError::Damaged`] if its ID does not fit 32 bits.
pub(super) fn control_id(
    store: &dyn Statements,
    names: &mut ControlNames,
    name: &str,
) -> Result<u32, CheckpointError> {
    if let Some(id) = names.id_of(name) {
        return Ok(id);
    }

    let sql = "INSERT INTO control (name) VALUES (?1) ON CONFLICT (name) DO NOTHING RETURNING id";
    let inserted = store.query_optional(sql, values![name], |row| row.get::<i64>("id"))?;
    let id = if let Some(id) = inserted {
        id
    } else {
        // Another host has inserted it.
        let sql = "SELECT id FROM control WHERE name = ?1";
        store.query_one(sql, values![name], |row| row.get("id"))?
    };
    let id = u32::try_from(id)
        .map_err(|_| CheckpointError::Damaged("too many control names".to_owned()))?;
    names.add(id, name);
    Ok(id)
}

/// Inserts the names that do not exist, in their order. Fails in the same cases as [`control_id`].
pub(super) fn assign(
    store: &dyn Statements,
    names: &mut ControlNames,
    new: &BTreeSet<&str>,
) -> Result<(), CheckpointError> {
    new.iter().try_for_each(|name| control_id(store, names, name).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;

    fn in_memory() -> (tempfile::TempDir, Checkpoint) {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
        (directory, checkpoint)
    }

    /// Regression: the cache had one element for each possible ID up to the highest one, so a
    /// damaged row took all memory.
    #[test]
    fn the_highest_id_is_one_name() {
        let (_directory, checkpoint) = in_memory();
        checkpoint
            .administrative(|store| {
                let sql = "INSERT INTO control (id, name) VALUES (1, 'a'), (4294967295, 'b')";
                store.execute(sql, values![])?;
                let mut names = ControlNames::load(store)?;
                assert_eq!(names.get(u32::MAX).as_deref(), Some("b"));
                assert_eq!((names.id_of("a"), names.id_of("c")), (Some(1), None));

                // The next ID does not fit.
                let error = control_id(store, &mut names, "c").unwrap_err().to_string();
                assert!(error.contains("too many control names"), "{error}");
                assert!(ControlNames::load(store).is_err());
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn only_new_names_are_inserted() {
        let (_directory, checkpoint) = in_memory();
        checkpoint
            .administrative(|store| {
                let mut names = ControlNames::default();
                assign(store, &mut names, &BTreeSet::from(["b", "a"]))?;
                assert_eq!((names.id_of("a"), names.id_of("b")), (Some(1), Some(2)));
                assert_eq!(control_id(store, &mut names, "a")?, 1);

                // A cache without the names finds their rows.
                let mut other = ControlNames::default();
                assert_eq!(control_id(store, &mut other, "b")?, 2);
                assert_eq!((other.id_of("a"), other.id_of("b")), (None, Some(2)));
                let stored = ControlNames::load(store)?;
                assert_eq!((stored.get(1), stored.get(2)), (names.get(1), names.get(2)));
                Ok(())
            })
            .unwrap();
    }
}
