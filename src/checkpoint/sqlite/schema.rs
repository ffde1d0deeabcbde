//! What this program expects of the schema of a database: the tables and indexes that its scripts
//! create, and nothing that runs by itself.
//!
//! A database file can contain triggers and views, which SQLite would run with the permissions of
//! this process. Every connection ignores them ([`harden`]), and a backup that contains anything
//! else than the scripts create is rejected ([`compare`]). See decision 0060.

use std::{borrow::Cow, collections::BTreeSet, sync::OnceLock};

use rusqlite::{Connection, config::DbConfig};

use super::migration::{VERSION, create};
use crate::checkpoint::CheckpointError;

/// More objects than any version has; further ones make no difference.
const MAX_OBJECTS: u32 = 1_000;

/// The settings of every connection.
const SETTINGS: [(DbConfig, bool); 4] = [
    (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
    (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
];

/// A row of `sqlite_schema`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SchemaObject {
    kind: String,
    name: String,
    table: String,
    /// The normalized statement that creates it; empty for an index that SQLite creates itself.
    sql: String,
}

/// Makes a connection distrust its database: no trigger fires, no view can be read, no function
/// with side effects is called from the schema, and no statement can corrupt the file.
pub(super) fn harden(connection: &Connection) -> Result<(), rusqlite::Error> {
    for (setting, value) in SETTINGS {
        connection.set_db_config(setting, value)?;
    }
    Ok(())
}

/// Fails with [`CheckpointError::Damaged`] if a database of the current version lacks one of its
/// tables or indexes. An older version is not checked, because its migration fails otherwise.
pub(super) fn require_current(connection: &Connection) -> Result<(), CheckpointError> {
    let version: i32 =
        connection.query_row("PRAGMA user_version", [], |row| row.get("user_version"))?;
    if version != VERSION || expected_objects(version)?.is_subset(&objects(connection)?) {
        return Ok(());
    }
    Err(CheckpointError::Damaged(format!("its tables are not those of version {version}")))
}

/// Fails with [`CheckpointError::Damaged`] if a database contains anything but the tables and
/// indexes of this version, which is at least 1.
pub(super) fn compare(connection: &Connection, version: i32) -> Result<(), CheckpointError> {
    let (expected, found) = (expected_objects(version)?, objects(connection)?);
    if *expected == found {
        return Ok(());
    }
    // The names are those of a file that is not trusted, so they are not shown.
    let is_active = |object: &SchemaObject| !matches!(object.kind.as_str(), "table" | "index");
    let reason = if found.iter().any(is_active) {
        "it contains a trigger or a view".to_owned()
    } else {
        format!("its tables are not those of version {version}")
    };
    Err(CheckpointError::Damaged(reason))
}

/// The tables and indexes of a version, which is at least 1.
fn expected_objects(version: i32) -> Result<Cow<'static, BTreeSet<SchemaObject>>, rusqlite::Error> {
    static CURRENT: OnceLock<BTreeSet<SchemaObject>> = OnceLock::new();
    let created = || {
        let database = Connection::open_in_memory()?;
        create(&database, version)?;
        objects(&database)
    };

    if version != VERSION {
        return created().map(Cow::Owned);
    }
    let current = match CURRENT.get() {
        Some(current) => current,
        None => CURRENT.get_or_init({
            let created = created()?;
            || created
        }),
    };
    Ok(Cow::Borrowed(current))
}

fn objects(connection: &Connection) -> Result<BTreeSet<SchemaObject>, rusqlite::Error> {
    let mut statement =
        connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT ?1")?;
    let rows = statement.query_map([MAX_OBJECTS], |row| {
        let sql: Option<String> = row.get("sql")?;
        Ok(SchemaObject {
            kind: row.get("type")?,
            name: row.get("name")?,
            table: row.get("tbl_name")?,
            sql: normalized(&sql.unwrap_or_default()),
        })
    })?;
    rows.collect()
}

/// A statement without comments, white space, quotation marks of names, and differences in case.
/// Releases have changed the comments, and SQLite quotes the names that it changes.
fn normalized(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());

    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '-' if after.starts_with('-') => after.split_once('\n').map_or("", |(_, next)| next),
            '/' if after.starts_with('*') => after.split_once("*/").map_or("", |(_, next)| next),
            '\'' | '"' => {
                // What looks like a comment in a literal is a part of it.
                let (literal, next) = after.split_once(c).unwrap_or((after, ""));
                if c == '"' {
                    text.push_str(&literal.to_ascii_lowercase());
                } else {
                    text.extend(["'", literal, "'"]);
                }
                next
            }
            c => {
                if !c.is_ascii_whitespace() {
                    text.push(c.to_ascii_lowercase());
                }
                after
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::sqlite::migration::SCHEMAS;

    #[test]
    fn statements_are_compared_without_comments_and_quotes() {
        for (sql, expected) in [
            ("CREATE TABLE x (a TEXT) STRICT", "createtablex(atext)strict"),
            ("CREATE TABLE \"X\" (\n  -- a comment\n  a /* b */ TEXT\n)", "createtablex(atext)"),
            ("a DEFAULT '-- no CHECK'", "adefault'-- no CHECK'"),
            ("a DEFAULT '/*' CHECK (b) '*/'", "adefault'/*'check(b)'*/'"),
            ("\"--\" CHECK", "--check"),
            ("a -- to the end", "a"),
            ("a /* to the end", "a"),
            ("'open", "'open'"),
        ] {
            assert_eq!(normalized(sql), expected, "{sql}");
        }
    }

    #[test]
    fn every_version_is_equal_to_itself_only() {
        for version in 1..=VERSION {
            let database = Connection::open_in_memory().unwrap();
            for script in SCHEMAS.iter().take(usize::try_from(version).unwrap()) {
                database.execute_batch(script).unwrap();
            }
            compare(&database, version).unwrap();
            let created = Connection::open_in_memory().unwrap();
            create(&created, version).unwrap();
            assert_eq!(objects(&created).unwrap(), objects(&database).unwrap(), "{version}");
            if version > 1 {
                assert!(compare(&database, version - 1).is_err(), "{version}");
            }
        }
    }

    /// Regression: a trigger in a backup ran when the backup was restored.
    #[test]
    fn everything_unexpected_is_rejected() {
        for (change, reason) in [
            ("CREATE TRIGGER t AFTER INSERT ON meta BEGIN DELETE FROM entry; END", "a trigger"),
            ("CREATE VIEW v AS SELECT 1", "a view"),
            ("CREATE TEMP TABLE only_of_this_connection (a)", ""),
            ("CREATE TABLE another (a)", "not those of version"),
            ("CREATE INDEX another ON meta (value)", "not those of version"),
            ("DROP INDEX entry_body", "not those of version"),
            ("ALTER TABLE meta ADD COLUMN a INTEGER CHECK (a > 1)", "not those of version"),
            ("CREATE VIRTUAL TABLE another USING fts5(a)", "not those of version"),
        ] {
            let database = Connection::open_in_memory().unwrap();
            create(&database, VERSION).unwrap();

            // A build without the extension cannot create such a table either.
            if database.execute_batch(change).is_err() {
                assert!(change.contains("VIRTUAL"), "{change}");
                continue;
            }
            let compared = compare(&database, VERSION);
            let text = compared.err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(text.is_empty(), reason.is_empty(), "{change}: {text}");
            assert!(text.contains(reason), "{change}: {text}");
        }
    }

    #[test]
    fn a_missing_table_or_index_is_damage() {
        let database = Connection::open_in_memory().unwrap();
        create(&database, VERSION).unwrap();
        database.pragma_update(None, "user_version", VERSION).unwrap();
        require_current(&database).unwrap();
        database.execute_batch("CREATE INDEX of_an_operator ON meta (value)").unwrap();
        require_current(&database).unwrap();

        for statement in ["DROP INDEX entry_body", "DROP TABLE held"] {
            database.execute_batch(&format!("SAVEPOINT intact; {statement}")).unwrap();
            assert!(require_current(&database).is_err(), "{statement}");
            database.execute_batch("ROLLBACK TO intact; RELEASE intact").unwrap();
        }
        require_current(&database).unwrap();
    }

    #[test]
    fn a_hardened_connection_fires_no_trigger() {
        let database = Connection::open_in_memory().unwrap();
        database
            .execute_batch(
                "CREATE TABLE a (x); CREATE TABLE b (x); CREATE VIEW v AS SELECT x FROM a;
                 CREATE TRIGGER t AFTER INSERT ON a BEGIN INSERT INTO b VALUES (1); END;
                 CREATE TABLE parent (id INTEGER PRIMARY KEY);
                 CREATE TABLE child (id REFERENCES parent ON DELETE CASCADE);
                 PRAGMA foreign_keys = ON;
                 INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1);",
            )
            .unwrap();
        harden(&database).unwrap();
        database.execute_batch("INSERT INTO a VALUES (1); DELETE FROM parent").unwrap();

        let rows = |table: &str| -> rusqlite::Result<i64> {
            let sql = format!("SELECT count(*) AS number FROM {table}");
            database.query_row(&sql, [], |row| row.get("number"))
        };
        assert_eq!((rows("a").unwrap(), rows("b").unwrap()), (1, 0));
        assert_eq!(rows("child").unwrap(), 0, "foreign keys still cascade");
        assert!(rows("v").is_err());
    }
}
