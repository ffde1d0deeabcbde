//! Opens the database of a state directory, and checks it before anything in it is used.
//!
//! A database that is damaged, newer or foreign, or not the one that the second cursor file
//! remembers, is left unchanged. The caller holds the lock of the directory if the database is
//! opened for writing. Start reading at [`SqliteBackend::open`]. See decisions 0060 and 0075.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    SqliteBackend,
    busy::{self, BUSY_TIMEOUT},
    continuity::{self, OpenedFiles},
    directory::{DATABASE, PARTS, confirm_damage, connect, find_cause},
    migration::{APPLICATION_ID, VERSION, migrate},
    schema,
};
use crate::{
    checkpoint::{CheckpointError, StorageFault},
    files::{FileAccess, FileError, NewFileMode, OwnedDirectory},
    state_directory::StateDirectory,
};

impl SqliteBackend {
    /// Opens the database of a directory whose lock is held, and creates it if it does not exist.
    /// See [`Checkpoint::open`](crate::checkpoint::Checkpoint::open) for what makes it fail.
    pub(in crate::checkpoint) fn open(state: &StateDirectory) -> Result<Self, CheckpointError> {
        let connection = confirm_damage(state.files(), || open_for_writing(state))
            .map_err(|error| find_cause(error, state.files()))?;
        Ok(Self::new(connection, OpenedFiles::of(state.path())))
    }

    /// Opens the existing database of a directory for reading. See
    /// [`Checkpoint::open_read_only`](crate::checkpoint::Checkpoint::open_read_only) for what makes
    /// it fail.
    pub(in crate::checkpoint) fn open_read_only(
        directory: &OwnedDirectory,
    ) -> Result<Self, CheckpointError> {
        let connection =
            open_for_reading(directory).map_err(|error| find_cause(error, directory))?;
        Ok(Self::new(connection, None))
    }
}

fn open_for_writing(state: &StateDirectory) -> Result<Connection, CheckpointError> {
    let directory = state.files();
    continuity::require_remembered(state)?;
    let existed = directory.inspect(DATABASE)?.is_some();
    if existed {
        check_before_open(directory)?;
    } else {
        directory.open_file(DATABASE, FileAccess::CreateNew(NewFileMode::State))?;
    }
    let mut connection = connect(directory, DATABASE, OpenFlags::default())?;
    continuity::check(&connection, state)?;
    configure(&mut connection)?;
    migrate(&mut connection)?;

    for part in PARTS {
        directory.restrict_file(&format!("{DATABASE}{part}"))?;
    }
    if !existed {
        // A new file survives a power failure only after its directory has been synced.
        directory.sync()?;
    }

    Ok(connection)
}

fn open_for_reading(directory: &OwnedDirectory) -> Result<Connection, CheckpointError> {
    let connection = connect(directory, DATABASE, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    check_identity(&connection, &directory.path_of(DATABASE))?;
    match connection.query_row("PRAGMA user_version", [], |row| row.get("user_version"))? {
        VERSION => Ok(connection),
        older => Err(CheckpointError::Older(older)),
    }
}

/// Checks the whole database without writing to it. The file is opened for writing only if a killed
/// process left a transaction to roll back, because SQLite cannot read it before the rollback.
pub(super) fn check_before_open(directory: &OwnedDirectory) -> Result<(), CheckpointError> {
    let path = directory.path_of(DATABASE);
    let connection = connect(directory, DATABASE, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match check_database(&connection, &path) {
        // SQLite cannot roll back or recover through a connection that is read-only.
        Err(CheckpointError::Storage(StorageFault::ReadOnly, _)) => {}
        other => return other,
    }
    drop(connection);

    let connection = connect(directory, DATABASE, OpenFlags::default())?;
    // Closing a damaged database must not write the write-ahead log into it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    check_database(&connection, &path)
}

/// Checks that the database belongs to this program, that this release can read its version, and
/// that its structure is intact.
pub(super) fn check_database(connection: &Connection, path: &Path) -> Result<(), CheckpointError> {
    check_identity(connection, path)?;
    schema::require_current(connection)?;
    let result: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get("quick_check"))?;
    if result == "ok" { Ok(()) } else { Err(CheckpointError::of_integrity_check(&result)) }
}

/// Checks that the database belongs to this program, and that this release can read its version.
pub(super) fn check_identity(connection: &Connection, path: &Path) -> Result<(), CheckpointError> {
    let pragma = |name: &str| {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(name))
    };
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);

    match (application, version) {
        (APPLICATION_ID, 1..=VERSION) => Ok(()),
        (APPLICATION_ID, newer) if newer > VERSION => Err(CheckpointError::Newer(newer)),
        // The process that created the file was killed before its first commit.
        (0, 0) if length_of(path)? == 0 => Ok(()),
        (0, 0) if has_no_tables(connection)? => Ok(()),
        _ => Err(CheckpointError::Foreign(path.to_owned())),
    }
}

fn length_of(path: &Path) -> Result<u64, FileError> {
    Ok(path.metadata().map_err(FileError::io("read the metadata of", path))?.len())
}

fn has_no_tables(connection: &Connection) -> Result<bool, CheckpointError> {
    let sql = "SELECT count(*) AS tables FROM sqlite_schema";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>("tables"))? == 0)
}

/// Makes a connection wait for locks, and every commit durable.
pub(super) fn configure(connection: &mut Connection) -> Result<(), CheckpointError> {
    connection.busy_handler(Some(busy::handler()))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA journal_size_limit = 8388608; PRAGMA cache_size = -1000;",
    )?;
    // More than the statements that a running daemon uses; `release_memory` empties the cache.
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}
