//! Repairs a database whose structure is damaged: copies its rows into a new database without using
//! its indexes, which are built again.
//!
//! The damaged database is only read, and is set aside when the copy is complete. If a row cannot
//! be read, nothing is copied, because a log with a gap is of no use. Start reading at
//! [`Checkpoint::repair_structure`]. See decision 0074.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Transaction, config::DbConfig};

use super::{
    continuity::{assign_new_id, read_saved},
    copy::{close_as_one_file, remove_database, replace_database, utf8_path},
    directory::{DATABASE, confirm_damage, connect, existing, read_all},
    migration::{VERSION, migrate, migrate_to},
    open::{check_before_open, check_database, configure},
    partial_indexes, texts,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, claims},
    files::{FileAccess, NewFileMode, OwnedDirectory},
    state_directory::StateDirectory,
};

/// The new database until it replaces the damaged one.
const REBUILT: &str = "checkpoint.db.rebuilt";

/// What [`Checkpoint::repair_structure`] has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StructureRepair {
    /// Nothing: the database can be opened.
    Unchanged,
    /// All rows were copied into a new database; the damaged one has this path.
    Rebuilt(PathBuf),
    /// Nothing: the database can neither be opened nor copied, for this reason.
    Unusable(String),
}

/// How much of the structure of a database is intact.
enum Structure {
    Intact,
    /// The database can be opened, but an index differs from its table.
    Inconsistent,
    /// The database cannot be opened, for this reason.
    Broken(String),
}

impl Checkpoint {
    /// Repairs what prevents the database from being opened, or its indexes from being used. If a
    /// new database had to be built, its path ends with `stamp` for the damaged one.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database does not exist, if another process holds it, or
    /// if the operating system cannot read or write its files.
    pub fn repair_structure(
        directory: &Path,
        stamp: &str,
    ) -> Result<StructureRepair, CheckpointError> {
        let state = existing(directory)?.into_locked()?;
        let directory = state.files();
        let structure = structure(directory)?;
        if matches!(structure, Structure::Intact) {
            return Ok(StructureRepair::Unchanged);
        }

        let suffix = format!("damaged-{stamp}");
        let rebuilt = confirm_damage(directory, || rebuild(&state))
            .and_then(|()| replace_database(directory, REBUILT, &suffix));
        if rebuilt.is_err() {
            let _ = remove_database(directory, REBUILT);
        }
        match (rebuilt, structure) {
            (Ok(damaged), _) => Ok(StructureRepair::Rebuilt(damaged.unwrap_or_default())),
            (Err(error), Structure::Broken(reason)) if error.is_about_content() => {
                Ok(StructureRepair::Unusable(reason))
            }
            // The verification reports what remains.
            (Err(error), _) if error.is_about_content() => Ok(StructureRepair::Unchanged),
            (Err(error), _) => Err(error),
        }
    }

    /// Repairs or removes all texts that are not valid UTF-8, and repairs a claim that is not
    /// valid: both would prevent the database from being opened. Returns the number of affected
    /// texts.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be read or written.
    pub fn repair_texts(directory: &Path) -> Result<usize, CheckpointError> {
        let state = existing(directory)?.into_locked()?;
        let mut connection = connect(state.files(), DATABASE, OpenFlags::default())?;
        configure(&mut connection)?;
        migrate(&mut connection)?;

        let transaction = connection.transaction()?;
        claims::repair(&*transaction)?;
        let repaired = texts::repair(&transaction, read_saved(&state).as_ref())?;
        transaction.commit()?;
        Ok(repaired)
    }
}

/// Checks everything that opening the database checks, and its indexes. Damage is examined again
/// after all bytes have been read, because a failed read can look like it.
fn structure(directory: &OwnedDirectory) -> Result<Structure, CheckpointError> {
    match examine(directory)? {
        Structure::Intact => Ok(Structure::Intact),
        Structure::Inconsistent | Structure::Broken(_) => {
            drop(read_all(directory)?);
            examine(directory)
        }
    }
}

fn examine(directory: &OwnedDirectory) -> Result<Structure, CheckpointError> {
    match check_before_open(directory) {
        Err(CheckpointError::Damaged(reason)) => return Ok(Structure::Broken(reason)),
        Err(error @ CheckpointError::Newer(_)) => return Err(error),
        Err(error) if error.is_about_content() => {
            return Ok(Structure::Broken(error.to_string()));
        }
        checked => checked?,
    }

    let connection = connect(directory, DATABASE, OpenFlags::default())?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let sql = "PRAGMA integrity_check(1)";
    let checked = connection.query_row(sql, [], |row| row.get::<_, String>("integrity_check"));
    let found = checked.map_err(CheckpointError::from).and_then(|result| match result.as_str() {
        "ok" => Ok(partial_indexes::findings(&connection)?.is_empty()),
        _ => Err(CheckpointError::of_integrity_check(&result)),
    });
    match found {
        Ok(true) => Ok(Structure::Intact),
        Ok(false) => Ok(Structure::Inconsistent),
        Err(error) if error.is_about_content() => Ok(Structure::Inconsistent),
        Err(error) => Err(error),
    }
}

/// Builds a new database with all rows of the damaged one.
fn rebuild(state: &StateDirectory) -> Result<(), CheckpointError> {
    let directory = state.files();
    remove_database(directory, REBUILT)?;
    directory.open_file(REBUILT, FileAccess::CreateNew(NewFileMode::State))?;
    let mut connection = connect(directory, REBUILT, OpenFlags::default())?;
    configure(&mut connection)?;

    // The write-ahead log of the damaged database stays as it was.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let damaged = directory.real_path()?.join(DATABASE);
    connection.execute("ATTACH ?1 AS damaged", [utf8_path(&damaged)?])?;
    // The rows are copied table by table, so they refer to others that are not copied yet.
    connection.execute_batch("PRAGMA foreign_keys = OFF")?;
    // The rows are copied between the same tables, and migrated afterward.
    let version = attached_version(&connection)?;
    migrate_to(&mut connection, version)?;

    let transaction = connection.transaction()?;
    for table in tables(&transaction)? {
        copy_rows(&transaction, &table)?;
    }
    // A cursor that is lost is created again from the second cursor file, which applies only to a
    // new ID.
    assign_new_id(&transaction, read_saved(state).as_ref())?;
    transaction.commit()?;

    connection.execute_batch("DETACH damaged")?;
    migrate(&mut connection)?;
    check_database(&connection, &directory.path_of(REBUILT))?;
    close_as_one_file(directory, REBUILT, connection)
}

/// The schema version of the damaged database, which is attached.
fn attached_version(connection: &Connection) -> Result<i32, CheckpointError> {
    let sql = "PRAGMA damaged.user_version";
    let version = connection.query_row(sql, [], |row| row.get("user_version"))?;
    if (1..=VERSION).contains(&version) {
        return Ok(version);
    }
    Err(CheckpointError::Damaged(format!("its version `{version}` does not exist")))
}

/// The names of the tables of the new database, which the scripts of this program have created.
fn tables(connection: &Connection) -> Result<Vec<String>, CheckpointError> {
    let mut statement = connection.prepare(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
    )?;
    let names = statement.query_map([], |row| row.get("name"))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn copy_rows(transaction: &Transaction<'_>, table: &str) -> Result<(), CheckpointError> {
    let columns: Vec<String> = transaction
        .prepare("SELECT name FROM pragma_table_info(?1, 'main')")?
        .query_map([table], |row| row.get("name"))?
        .collect::<Result<_, _>>()?;
    let columns = columns.join(", ");

    // With a limit, SQLite does not copy the pages of the indexes instead of the rows.
    transaction.execute_batch(&format!(
        "DELETE FROM main.{table};
         INSERT INTO main.{table} ({columns}) SELECT {columns} FROM damaged.{table} NOT INDEXED LIMIT -1;"
    ))?;
    Ok(())
}
