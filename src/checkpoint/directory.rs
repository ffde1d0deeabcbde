//! The state directory and the files of the database in it.
//!
//! SQLite opens its files by path and follows links, so each of them is checked before, and the
//! path has no links. No other module may open a connection to a file in the state directory. Start
//! reading at [`connect`]. See decision 0060.

use std::{io::ErrorKind, path::Path};

use rusqlite::{Connection, OpenFlags};

use super::{CheckpointError, DATABASE, schema::harden};
use crate::files::{FileError, OwnedDirectory};

/// The ends of the names of a database and of the files that SQLite keeps next to it.
pub(super) const PARTS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Opens the state directory. Creates it if it does not exist, and makes it private if it belongs
/// to this user and is not shared with a group.
pub(super) fn prepare(path: &Path) -> Result<OwnedDirectory, CheckpointError> {
    OwnedDirectory::prepare(path).map_err(|error| match error {
        FileError::Io { source, .. } if !path.is_dir() => {
            CheckpointError::Directory(path.to_owned(), source)
        }
        error => error.into(),
    })
}

/// Opens a state directory that contains a database. Fails with [`CheckpointError::Absent`] if it
/// does not exist or contains none.
pub(super) fn existing(path: &Path) -> Result<OwnedDirectory, CheckpointError> {
    let absent = || CheckpointError::Absent(path.join(DATABASE));
    let directory = match OwnedDirectory::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(absent()),
        opened => opened?,
    };
    if directory.inspect(DATABASE)?.is_some() { Ok(directory) } else { Err(absent()) }
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
