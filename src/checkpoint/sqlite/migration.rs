//! The schema of the database in all versions, and the migration to that of this release.
//!
//! A new database begins with [`CURRENT`], which creates what all scripts together create. A script
//! that a release has contained must never change, because databases of its version exist. The
//! caller has checked that the database is not newer than this release. Start reading at
//! [`migrate`].

use rusqlite::{Connection, params};

use crate::checkpoint::CheckpointError;

/// `ssf1` in ASCII: the SQLite application ID, by which `file` and this program recognize the
/// database.
pub(super) const APPLICATION_ID: i32 = 0x7373_6631;
/// The schema version of this release.
pub(super) const VERSION: i32 = 9;
/// The SQL that migrates each version to the next one; the first script creates the database.
pub(super) const SCHEMAS: [&str; VERSION as usize] = [
    include_str!("schema.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
    include_str!("schema-6.sql"),
    include_str!("schema-7.sql"),
    include_str!("schema-8.sql"),
    include_str!("schema-9.sql"),
];
/// The SQL that creates a database of this release.
const CURRENT: &str = include_str!("current.sql");

/// Migrates a database of an older version, or an empty file, to the version of this release, in
/// one transaction.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), CheckpointError> {
    migrate_to(connection, VERSION)
}

/// As [`migrate`], to the version `last`. Does nothing to a database of this or a later version.
pub(super) fn migrate_to(connection: &mut Connection, last: i32) -> Result<(), CheckpointError> {
    let current: i32 =
        connection.query_row("PRAGMA user_version", [], |row| row.get("user_version"))?;
    if current >= last {
        return Ok(());
    }
    let transaction = connection.transaction()?;

    if current == 0 {
        create(&transaction, last)?;
        transaction.execute(
            "INSERT INTO meta (key, value) VALUES ('checkpoint_id', ?1)",
            params![uuid::Uuid::new_v4().to_string()],
        )?;
        transaction.execute("INSERT INTO tenant (guid) VALUES ('-')", [])?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    } else {
        run_scripts(&transaction, current, last)?;
    }
    transaction.pragma_update(None, "user_version", last)?;

    transaction.commit()?;
    Ok(())
}

/// Creates the tables and indexes of a version, which is at least 1, in an empty database.
pub(super) fn create(connection: &Connection, version: i32) -> Result<(), rusqlite::Error> {
    if version == VERSION {
        return connection.execute_batch(CURRENT);
    }
    run_scripts(connection, 0, version)
}

/// Migrates a database of the version `current` to the version `last`.
fn run_scripts(connection: &Connection, current: i32, last: i32) -> Result<(), rusqlite::Error> {
    let is_missing = |version: &i32| (current..last).contains(&(version - 1));
    for (script, _) in SCHEMAS.iter().zip(1..).filter(|(_, version)| is_missing(version)) {
        connection.execute_batch(script)?;
    }
    Ok(())
}
