//! The files of the database in the state directory.
//!
//! SQLite opens its files by path and follows links, so each of them is checked before, and the
//! path has no links. No other module may open a connection to a file in the state directory. Start
//! reading at [`connect`]. See decision 0060.

use std::{io::ErrorKind, os::unix::fs::FileExt, path::Path};

use fs_err::File;
use rusqlite::{Connection, OpenFlags};

use super::{continuity, schema::harden};
use crate::{
    checkpoint::{CheckpointError, StorageFault},
    files::{FileAccess, FileError, NewFileMode, OwnedDirectory},
    state_directory::StateDirectory,
};

/// The name of the database.
pub(in crate::checkpoint) const DATABASE: &str = "checkpoint.db";
/// The ends of the names of a database and of the files that SQLite keeps next to it.
pub(super) const PARTS: [&str; 4] = ["", "-wal", "-shm", "-journal"];
/// The parts that contain data.
const DATA: [&str; 3] = ["", "-wal", "-journal"];
/// The size of the buffer with which data is read.
const BUFFER_BYTES: usize = 256 << 10;
/// A file that is created only to find out why no file can be created.
const PROBE: &str = "checkpoint.db.probe";

/// Opens a state directory that contains a database, without its lock. Fails with
/// [`CheckpointError::Absent`] if it does not exist or contains none, and with
/// [`CheckpointError::DatabaseLost`] if it contained one.
pub(in crate::checkpoint) fn existing(path: &Path) -> Result<StateDirectory, CheckpointError> {
    let absent = || CheckpointError::Absent(path.join(DATABASE));
    let state = match StateDirectory::open_read_only(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(absent()),
        opened => opened?,
    };
    continuity::require_remembered(&state)?;
    if state.files().inspect(DATABASE)?.is_some() { Ok(state) } else { Err(absent()) }
}

/// Opens a database of this directory, which must be one that only this user and those it shares
/// the directory with can change.
pub(super) fn connect(
    directory: &OwnedDirectory,
    name: &str,
    flags: OpenFlags,
) -> Result<Connection, CheckpointError> {
    for part in PARTS {
        directory.inspect(&format!("{name}{part}"))?;
    }
    let path = directory.real_path()?.join(name);
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NOFOLLOW)?;
    harden(&connection)?;
    Ok(connection)
}

/// Reads all bytes of the database and its logs without SQLite, which reports some errors of the
/// disk as damage. The content does not matter.
///
/// Returns the open files: closing one of them releases the locks of SQLite on it, so a caller that
/// has a connection must keep them as long as the connection.
///
/// # Errors
///
/// Fails with [`CheckpointError::File`] if the operating system cannot read a file.
pub(super) fn read_all(directory: &OwnedDirectory) -> Result<Vec<File>, CheckpointError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut files = Vec::new();
    for part in DATA {
        let name = format!("{DATABASE}{part}");
        if directory.inspect(&name)?.is_none() {
            continue;
        }

        let file = directory.open_file(&name, FileAccess::Read)?;
        let mut offset = 0;
        loop {
            match file.file().read_at(&mut buffer, offset) {
                Ok(0) => break,
                Ok(length) => offset += length as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::io("read", file.path())(error).into()),
            }
        }
        files.push(file);
    }
    Ok(files)
}

/// Repeats an operation that has found damage, after all bytes have been read: only damage that is
/// found again is not an error of the disk. This process must have no other connection to the
/// database. Fails as the operation does, and if the operating system cannot read the files.
pub(super) fn confirm_damage<T>(
    directory: &OwnedDirectory,
    operation: impl Fn() -> Result<T, CheckpointError>,
) -> Result<T, CheckpointError> {
    match operation() {
        Err(error) if error.is_about_content() => {
            drop(read_all(directory)?);
            operation()
        }
        result => result,
    }
}

/// Replaces the error of a file next to the database that cannot be created. SQLite then tries to
/// open the file without creating it, and reports only that it does not exist.
pub(super) fn find_cause(error: CheckpointError, directory: &OwnedDirectory) -> CheckpointError {
    if !matches!(error, CheckpointError::Storage(StorageFault::Missing, _)) {
        return error;
    }

    let created = directory.open_file(PROBE, FileAccess::CreateNew(NewFileMode::State));
    let found = created.err().map(CheckpointError::from);
    let _ = directory.remove_if_exists(PROBE);
    found.filter(|cause| cause.storage_fault().is_some()).unwrap_or(error)
}
