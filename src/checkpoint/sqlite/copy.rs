//! Copies of the whole database: `state backup`, `state restore`, and setting a damaged database
//! aside. A copy is complete before it replaces anything, and a replaced database is renamed, never
//! deleted. Nothing of a backup is used before its schema has been compared with that of this
//! program. Start reading at [`Checkpoint::backup_without_name`] and [`Checkpoint::restore`]. See
//! decisions 0018 and 0060.

use std::{
    io,
    path::{Path, PathBuf},
};

use fs_err::File;
use rusqlite::{Connection, OpenFlags};

use super::{
    continuity::{TakenOver, assign_new_id, read_saved, take_over},
    directory::{self, DATABASE, connect},
    migration::{VERSION, migrate},
    open::{check_database, check_identity, configure},
    schema,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, CursorFile},
    error::{causes, chain},
    files::{self, FileAccess, FileError, FromStart, NewFileMode, OwnedDirectory},
    model::CheckpointId,
    state_directory::{CURSOR_FILE, StateDirectory},
};

/// The copy that becomes the database.
const RESTORED: &str = "checkpoint.db.restored";
/// The copy of a backup that only root can read, with its write-ahead log.
const RECEIVED: &str = "checkpoint.db.received";

/// The new database until it replaces one that is set aside.
const CREATED: &str = "checkpoint.db.created";

/// What [`Checkpoint::set_aside`] has renamed, and what the new database continues with. The paths
/// are the new ones, or `None` if there was nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAside {
    pub database: Option<PathBuf>,
    /// Something that is not a file, such as a directory, with the name of the second cursor file.
    pub cursor_file: Option<PathBuf>,
    /// The number of cursors in the second cursor file; `None` if that file cannot be used.
    pub cursors: Option<usize>,
}

/// The result of [`Checkpoint::restore`].
#[derive(Debug)]
pub struct Restored {
    /// The new ID of the restored checkpoint.
    pub checkpoint_id: CheckpointId,
    /// The path of the replaced database; `None` if there was none.
    pub set_aside: Option<PathBuf>,
    /// The number of cursors that were replaced by newer ones from the second cursor file.
    pub newer_cursors: usize,
}

impl Checkpoint {
    /// A consistent copy of the database, even while the daemon is running, as an open file without
    /// a name. The caller writes it to its own file.
    ///
    /// SQLite copies only into a file with a path, which another user could exchange for a link
    /// between two steps. So the copy is made in the state directory, where no other user can.
    ///
    /// # Errors
    ///
    /// Fails if the state directory cannot be used or has no space for the copy, or if the database
    /// cannot be read.
    pub fn backup_without_name(&self) -> Result<File, CheckpointError> {
        let directory = self.state.files();
        let name = format!("{DATABASE}.backup-{}", uuid::Uuid::new_v4().simple());
        let path = directory.real_path()?.join(&name);
        let file = directory.open_file(&name, FileAccess::CreateNew(NewFileMode::Secret))?;

        let copied = self.vacuum_into(&path);
        directory.remove(&name)?;
        copied?;
        Ok(file)
    }

    /// Copies the database into an empty file, and checks the copy.
    fn vacuum_into(&self, to: &Path) -> Result<(), CheckpointError> {
        self.connection().execute("VACUUM INTO ?1", [utf8_path(to)?])?;
        let connection = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        check_database(&connection, to)
    }

    /// Replaces the checkpoint with a backup, and sets the replaced database aside under a name
    /// that ends with `stamp`.
    ///
    /// The restored checkpoint gets a new ID, because its log continues differently from the
    /// replaced one. Cursors in the second cursor file take precedence over those of the backup, so
    /// that records that were sent since the backup are not sent again. Marks of sinks are cleared,
    /// because their receivers have newer data than the backup.
    ///
    /// Fails with [`CheckpointError::InvalidBackup`], and changes nothing, if `from` is not a
    /// database of this program.
    pub fn restore(
        directory: &Path,
        from: &Path,
        stamp: &str,
    ) -> Result<Restored, CheckpointError> {
        let invalid = |error: CheckpointError| match error {
            newer @ CheckpointError::Newer(_) => newer,
            error => CheckpointError::InvalidBackup(from.to_owned(), backup_fault(error, from)),
        };
        // An invalid backup is rejected before anything is created.
        let named = match files::opened_by_root(from) {
            None => Some(open_backup(from).map_err(invalid)?),
            Some(_) => None,
        };

        let state = StateDirectory::open(directory)?;
        let directory = state.files();
        // A restore that was interrupted may have left these files.
        remove_database(directory, RESTORED)?;
        remove_database(directory, RECEIVED)?;
        let source = match named {
            Some(source) => Ok(source),
            None => receive_backup(directory, from).map_err(invalid),
        };

        let restored = source.and_then(|source| replace_with(&state, source, stamp));
        remove_database(directory, RECEIVED)?;
        restored
    }

    /// Renames the database, and puts an empty one in its place, which uses the second cursor file.
    ///
    /// Nothing in the database makes this fail, because its content is not used.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, with [`CheckpointError::StateDirectory`] if another process
    /// holds the checkpoint, and with [`CheckpointError::File`] or [`CheckpointError::Storage`] if
    /// the database cannot be read, because it may be intact, or if the new one cannot be created.
    pub fn set_aside(directory: &Path, stamp: &str) -> Result<SetAside, CheckpointError> {
        let state = StateDirectory::open_read_only(directory)?.into_locked()?;
        let directory = state.files();
        drop(directory::read_all(directory)?);

        // On a full disk, nothing may be renamed before the new database is complete.
        let saved = read_saved(&state);
        let database = create_successor(directory, saved.as_ref())
            .and_then(|()| replace_database(directory, CREATED, &format!("damaged-{stamp}")));
        if database.is_err() {
            let _ = remove_database(directory, CREATED);
        }
        let database = database?;
        let cursor_file = set_cursor_file_aside(directory, stamp)?;
        let cursors = saved.map(|saved| saved.cursors.len() + saved.carried.len());
        Ok(SetAside { database, cursor_file, cursors })
    }
}

/// Creates a complete, empty database that succeeds the one of the second cursor file, which is
/// `saved`.
fn create_successor(
    directory: &OwnedDirectory,
    saved: Option<&CursorFile>,
) -> Result<(), CheckpointError> {
    // An interrupted process may have left it.
    remove_database(directory, CREATED)?;
    directory.open_file(CREATED, FileAccess::CreateNew(NewFileMode::State))?;
    let mut connection = connect(directory, CREATED, OpenFlags::default())?;
    configure(&mut connection)?;
    migrate(&mut connection)?;

    let transaction = connection.transaction()?;
    assign_new_id(&transaction, saved)?;
    transaction.commit()?;
    close_as_one_file(directory, CREATED, connection)
}

/// Renames what has the name of the second cursor file, if it cannot be replaced by a file or could
/// lead to one of another directory. Returns its new path.
fn set_cursor_file_aside(
    directory: &OwnedDirectory,
    stamp: &str,
) -> Result<Option<PathBuf>, CheckpointError> {
    let is_unusable = match directory.inspect(CURSOR_FILE) {
        Err(FileError::NotRegular(_) | FileError::SymbolicLink(_)) => true,
        Err(error) => error.kind() == io::ErrorKind::IsADirectory,
        Ok(_) => false,
    };
    if !is_unusable {
        return Ok(None);
    }

    let new = format!("{CURSOR_FILE}.damaged-{stamp}");
    directory.rename(CURSOR_FILE, &new)?;
    directory.sync()?;
    Ok(Some(directory.path_of(&new)))
}

/// Opens a backup under its name, and checks it.
fn open_backup(from: &Path) -> Result<Connection, CheckpointError> {
    // SQLite would report only that it cannot open the file.
    drop(files::open_regular(from)?);
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    schema::harden(&source)?;
    check_backup(&source, from)?;
    Ok(source)
}

/// Copies a backup that root has opened into the state directory, opens the copy, and checks it.
fn receive_backup(directory: &OwnedDirectory, from: &Path) -> Result<Connection, CheckpointError> {
    for part in ["", "-wal"] {
        let mut name = from.as_os_str().to_owned();
        name.push(part);
        let Some(file) = files::opened_by_root(Path::new(&name)) else { continue };
        let access = FileAccess::CreateNew(NewFileMode::Secret);
        let copy = directory.open_file(&format!("{RECEIVED}{part}"), access)?;
        io::copy(&mut FromStart::of(file), &mut copy.file())?;
    }

    let source = connect(directory, RECEIVED, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    check_backup(&source, from)?;
    Ok(source)
}

/// Checks that a file is a backup of this program before anything else of it is read.
fn check_backup(source: &Connection, from: &Path) -> Result<(), CheckpointError> {
    check_identity(source, from)?;
    let version: i32 =
        source.query_row("PRAGMA user_version", [], |row| row.get("user_version"))?;
    // An empty file has no identity, and `open` would turn it into a new checkpoint.
    if version == 0 {
        return Err(CheckpointError::Foreign(from.to_owned()));
    }
    schema::compare(source, version)?;
    check_database(source, from)
}

/// Copies a backup, and replaces the database of the directory with the converted copy.
fn replace_with(
    state: &StateDirectory,
    source: Connection,
    stamp: &str,
) -> Result<Restored, CheckpointError> {
    let directory = state.files();
    directory.open_file(RESTORED, FileAccess::CreateNew(NewFileMode::State))?;
    let new = directory.real_path()?.join(RESTORED);
    // Unlike a copy of the file, this includes the commits in the write-ahead log of the source.
    source.execute("VACUUM INTO ?1", [utf8_path(&new)?])?;
    drop(source);

    let restored = convert_backup(state)?;
    let connection = connect(directory, RESTORED, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    schema::compare(&connection, VERSION)?;
    check_database(&connection, &new)?;
    drop(connection);

    let set_aside = replace_database(directory, RESTORED, &format!("before-restore-{stamp}"))?;
    Ok(Restored { set_aside, ..restored })
}

/// Removes a database that is not the one of the checkpoint, if it exists.
pub(super) fn remove_database(
    directory: &OwnedDirectory,
    name: &str,
) -> Result<(), CheckpointError> {
    for part in directory::PARTS {
        directory.remove_if_exists(&format!("{name}{part}"))?;
    }
    Ok(())
}

/// Why a file cannot be restored, without the name of the file and without a statement about the
/// checkpoint.
fn backup_fault(error: CheckpointError, file: &Path) -> String {
    if matches!(&error, CheckpointError::File(error) if error.kind() == io::ErrorKind::NotFound) {
        return "the file does not exist".to_owned();
    }

    let reason = match error {
        CheckpointError::Damaged(reason) => reason,
        CheckpointError::Foreign(_) => "not a checkpoint of this program".to_owned(),
        // The last cause does not repeat the path.
        CheckpointError::File(error) => {
            causes(&error).last().map(ToString::to_string).unwrap_or_default()
        }
        CheckpointError::Storage(_, error) => error.to_string(),
        other => chain(&other),
    };
    // SQLite ends the message about a file that it cannot open with the path.
    let path = format!(": {}", file.display());
    format!("not a valid backup ({})", reason.strip_suffix(&path).unwrap_or(&reason))
}

/// Converts a path for SQLite, which accepts only UTF-8.
pub(super) fn utf8_path(path: &Path) -> std::io::Result<&str> {
    path.to_str().ok_or_else(|| {
        let message = format!("the path `{}` is not valid UTF-8", path.display());
        std::io::Error::new(std::io::ErrorKind::InvalidFilename, message)
    })
}

/// Turns the copy of a backup into the checkpoint of this directory, in place.
fn convert_backup(state: &StateDirectory) -> Result<Restored, CheckpointError> {
    let directory = state.files();
    let mut connection = connect(directory, RESTORED, OpenFlags::default())?;
    configure(&mut connection)?;
    migrate(&mut connection)?;

    let saved = CursorFile::read(state).unwrap_or_else(|error| {
        let error = crate::error::chain(&error);
        tracing::warn!(
            error,
            "the second cursor file `cursors.json` is not usable: records that were sent since the backup are sent again"
        );
        None
    });
    let transaction = connection.transaction()?;
    let taken_over = take_over(&transaction, saved.as_ref())?;
    transaction.commit()?;

    let TakenOver { checkpoint_id, cursors: newer_cursors } = taken_over;
    close_as_one_file(directory, RESTORED, connection)?;
    Ok(Restored { checkpoint_id, set_aside: None, newer_cursors })
}

/// Closes a database so that it is one file without a write-ahead log, which can be renamed.
pub(super) fn close_as_one_file(
    directory: &OwnedDirectory,
    name: &str,
    connection: Connection,
) -> Result<(), CheckpointError> {
    connection.execute_batch(
        "PRAGMA main.wal_checkpoint(TRUNCATE); PRAGMA main.journal_mode = DELETE;",
    )?;
    connection.close().map_err(|(_, error)| error)?;
    let file = directory.open_file(name, FileAccess::ReadWrite)?;
    file.file().sync_all().map_err(FileError::io("synchronize", file.path()))?;
    Ok(())
}

/// Renames the database and the files next to it so that their names end with `suffix`, and gives
/// the database `new`, which is complete, its name. Returns the new path of the previous database;
/// `None` if there was none. If anything fails, the previous names are restored.
pub(super) fn replace_database(
    directory: &OwnedDirectory,
    new: &str,
    suffix: &str,
) -> Result<Option<PathBuf>, CheckpointError> {
    // A database that was set aside within the same second must not be overwritten.
    let is_taken =
        |suffix: &String| !matches!(directory.inspect(&format!("{DATABASE}.{suffix}")), Ok(None));
    let numbered = (2..).map(|number| format!("{suffix}-{number}"));
    let suffix = std::iter::once(suffix.to_owned())
        .chain(numbered)
        .find(|suffix| !is_taken(suffix))
        .unwrap_or_default();

    let replaced = set_aside(directory, &suffix).and_then(|moved| {
        directory.rename(new, DATABASE)?;
        directory.sync()?;
        Ok(moved)
    });
    if replaced.is_err() {
        restore_names(directory, new, &suffix);
    }
    replaced
}

/// Renames the database and the files next to it.
fn set_aside(directory: &OwnedDirectory, suffix: &str) -> Result<Option<PathBuf>, CheckpointError> {
    let mut moved = None;
    for part in ["-wal", "-shm", "-journal", ""] {
        let old = format!("{DATABASE}{part}");
        if directory.inspect(&old)?.is_some() {
            let new = format!("{DATABASE}.{suffix}{part}");
            directory.rename(&old, &new)?;
            moved = Some(directory.path_of(&new));
        }
    }
    directory.sync()?;
    Ok(moved)
}

/// Undoes what an unfinished [`replace_database`] has renamed. The caller returns the failure that
/// has prevented it, so that of a name that cannot be restored is not important.
fn restore_names(directory: &OwnedDirectory, new: &str, suffix: &str) {
    if matches!(directory.inspect(new), Ok(None)) {
        let _ = directory.rename(DATABASE, new);
    }
    for part in directory::PARTS {
        let (moved, original) = (format!("{DATABASE}.{suffix}{part}"), format!("{DATABASE}{part}"));
        let _ = directory.rename(&moved, &original);
    }
    let _ = directory.sync();
}
