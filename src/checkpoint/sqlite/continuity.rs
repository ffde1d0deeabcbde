//! Notices that the database is not the one that this program used last, although the second cursor
//! file remembers it.
//!
//! A database that was removed, emptied or replaced by an old copy would otherwise become a new
//! start that sends days again. A successor that an operator has requested states which checkpoint
//! it succeeds, so that it is accepted. Opening must never change a file of a checkpoint that is
//! not accepted; only [`Checkpoint::adopt`], at the request of an operator, does. Start reading at
//! [`check`] and [`Checkpoint::check_in_place`]. See decision 0075.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, params};

use super::{
    directory::{DATABASE, connect},
    migration::migrate,
    open::configure,
};
use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, CursorCopy, CursorFile, DatabaseLoss, SavedCursor,
        backend::{Statements, values},
        meta, running_polls,
    },
    files::{FileAccess, NewFileMode, OwnedDirectory},
    model::{CheckpointId, Seq, SinkName},
    state_directory::{CURSOR_FILE, LOCK_FILE, StateDirectory},
};

/// The row of `meta` with the ID of the checkpoint that this one has replaced, until the second
/// cursor file contains the cursors of this one.
const PREDECESSOR: &str = "predecessor";
const ID: &str = "checkpoint_id";
const WRITE_AHEAD_LOG: &str = "checkpoint.db-wal";

/// The files that a connection has opened, by which it notices that its path leads to other ones.
#[derive(Debug)]
pub(super) struct OpenedFiles {
    directory: PathBuf,
    database: FileIdentity,
    /// `None` if the file did not exist when the checkpoint was opened.
    write_ahead_log: Option<FileIdentity>,
    /// Another process could lock a file that replaces it.
    lock: Option<FileIdentity>,
}

/// The device and the inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    is_empty: bool,
}

impl OpenedFiles {
    /// The files at the paths of a checkpoint; `None` if they cannot be found.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        let identity = |name: &str| FileIdentity::of(&directory.join(name)).ok();
        Some(Self {
            directory: directory.to_owned(),
            database: identity(DATABASE)?,
            write_ahead_log: identity(WRITE_AHEAD_LOG),
            lock: identity(LOCK_FILE).map(|lock| FileIdentity { is_empty: true, ..lock }),
        })
    }

    /// Fails with [`CheckpointError::DatabaseLost`] if the paths lead to other files.
    pub(super) fn check_in_place(&self) -> Result<(), CheckpointError> {
        // The write-ahead log is empty after each complete transfer to the database.
        let log = self.write_ahead_log.map(|log| FileIdentity { is_empty: true, ..log });
        let path = self.directory.join(DATABASE);
        let is_in_place = self.database.is_at(&path)
            && log.is_none_or(|log| log.is_at(&self.directory.join(WRITE_AHEAD_LOG)));
        let is_locked = self.lock.is_none_or(|lock| lock.is_at(&self.directory.join(LOCK_FILE)));
        match (is_in_place, is_locked) {
            (true, true) => Ok(()),
            (true, false) => Err(CheckpointError::DatabaseLost(path, DatabaseLoss::Unlocked)),
            (false, _) => Err(CheckpointError::DatabaseLost(path, DatabaseLoss::Gone)),
        }
    }
}

impl FileIdentity {
    /// Does not open the file: closing it would release the locks of SQLite.
    fn of(path: &Path) -> std::io::Result<Self> {
        let found = fs_err::metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino(), is_empty: found.len() == 0 })
    }

    /// Whether a path still leads to this file. An error that does not show the opposite is
    /// reported by the next read or write.
    fn is_at(self, path: &Path) -> bool {
        match Self::of(path) {
            Ok(found) => {
                (found.device, found.inode) == (self.device, self.inode)
                    && (self.is_empty || !found.is_empty)
            }
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }
}

impl Checkpoint {
    /// Checks that the files that this process writes are still those at their paths: otherwise,
    /// everything that is written would be lost at the end of the process.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::DatabaseLost`], also if the lock file was removed or replaced.
    /// Always succeeds for a checkpoint that is open for reading only.
    pub fn check_in_place(&self) -> Result<(), CheckpointError> {
        self.sqlite.check_in_place()
    }

    /// Continues with a database that is not the one that the second cursor file remembers: gives
    /// it a new ID, and makes its sinks begin at the positions of that file. Creates an empty
    /// database if there is none. Returns the number of cursors that are taken from the file.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::StateDirectory`] if another process holds the checkpoint, and
    /// if the database is damaged or cannot be written.
    pub fn adopt(directory: &Path) -> Result<usize, CheckpointError> {
        let state = StateDirectory::open(directory)?;
        let mut connection = create(state.files())?;

        let transaction = connection.transaction()?;
        let newer = take_over(&transaction, read_saved(&state).as_ref())?;
        transaction.commit()?;

        state.files().sync()?;
        Ok(newer.cursors)
    }
}

/// What [`take_over`] has changed.
pub(super) struct TakenOver {
    /// The new ID of the checkpoint.
    pub checkpoint_id: CheckpointId,
    /// The number of cursors that will be created again from the second cursor file.
    pub cursors: usize,
}

/// Fails with [`CheckpointError::DatabaseLost`] if the second cursor file exists, and the database
/// does not, or is an empty file.
pub(super) fn require_remembered(state: &StateDirectory) -> Result<(), CheckpointError> {
    let directory = state.files();
    let loss: fn(CursorCopy) -> DatabaseLoss = match directory.inspect(DATABASE)? {
        None => DatabaseLoss::Absent,
        Some(found) if found.len() == 0 => DatabaseLoss::Empty,
        Some(_) => return Ok(()),
    };
    match cursor_copy(state)? {
        Some(copy) => Err(CheckpointError::DatabaseLost(directory.path_of(DATABASE), loss(copy))),
        None => Ok(()),
    }
}

/// Whether the second cursor file can be used; `None` if it does not exist.
fn cursor_copy(state: &StateDirectory) -> Result<Option<CursorCopy>, CheckpointError> {
    if state.files().inspect(CURSOR_FILE)?.is_none() {
        return Ok(None);
    }
    let is_usable = read_saved(state).is_some();
    Ok(Some(if is_usable { CursorCopy::Usable } else { CursorCopy::Unusable }))
}

/// Fails with [`CheckpointError::DatabaseLost`] if a database is not the one whose cursors the
/// second cursor file contains, or is older than that file. Only reads. The caller holds the lock,
/// so that the file does not change.
pub(super) fn check(
    connection: &Connection,
    state: &StateDirectory,
) -> Result<(), CheckpointError> {
    let directory = state.files();
    let lost = |loss| Err(CheckpointError::DatabaseLost(directory.path_of(DATABASE), loss));
    let version: i32 =
        connection.query_row("PRAGMA user_version", [], |row| row.get("user_version"))?;
    if version == 0 {
        return cursor_copy(state)?.map_or(Ok(()), |copy| lost(DatabaseLoss::Empty(copy)));
    }

    // A file that cannot be used is reported when it is read for its cursors.
    let Some(saved) = read_saved(state) else { return Ok(()) };
    let stored = |key| -> Result<Option<CheckpointId>, CheckpointError> {
        Ok(meta::value(connection, key)?.as_deref().map(CheckpointId::new))
    };
    let (id, predecessor) = (stored(ID)?, stored(PREDECESSOR)?);
    if Some(&saved.checkpoint_id) == id.as_ref() {
        let is_outdated = is_outdated(connection, &saved)?;
        return if is_outdated { lost(DatabaseLoss::Outdated) } else { Ok(()) };
    }
    if Some(saved.checkpoint_id) == predecessor { Ok(()) } else { lost(DatabaseLoss::Replaced) }
}

/// Fails with [`CheckpointError::DatabaseLost`] if a database that is open for reading is the one
/// of another checkpoint. `saved` was read before, and may be older than the database. Only reads.
pub(in crate::checkpoint) fn require_same(
    store: &dyn Statements,
    saved: &CursorFile,
    directory: &Path,
) -> Result<(), CheckpointError> {
    let known = [meta::value(store, ID)?, meta::value(store, PREDECESSOR)?];
    let is_same = known.iter().flatten().any(|id| id == saved.checkpoint_id.as_str());
    // The default of a file that does not exist or cannot be used has no ID.
    if is_same || saved.checkpoint_id.is_empty() {
        return Ok(());
    }
    Err(CheckpointError::DatabaseLost(directory.join(DATABASE), DatabaseLoss::Replaced))
}

/// Whether a cursor of the second cursor file is ahead of the same cursor in the database, or of
/// its log. The file is written after the transactions that moved its cursors, and cursors only
/// move forward, so the database must contain all these moves.
fn is_outdated(connection: &Connection, saved: &CursorFile) -> Result<bool, CheckpointError> {
    let store: &dyn Statements = connection;
    let sql = "SELECT s.name, t.guid, min(c.seq, t.next_seq) AS seq
               FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant";
    let stored = store.query_all(sql, values![], |row| {
        let key = (row.get::<SinkName>("name")?, row.get::<String>("guid")?);
        Ok((key, row.get::<Seq>("seq")?))
    })?;
    let stored: HashMap<(SinkName, String), Seq> = stored.into_iter().collect();

    // A cursor without a row belongs to a sink or a tenant that was deleted, and the file was not
    // written since.
    let is_ahead = |cursor: &SavedCursor| {
        let key = (cursor.sink.clone(), cursor.tenant.clone());
        stored.get(&key).is_some_and(|seq| cursor.seq > *seq)
    };
    Ok(saved.cursors.iter().any(is_ahead))
}

/// Opens the database of a directory for a change by an operator, and creates it if it does not
/// exist.
pub(super) fn create(directory: &OwnedDirectory) -> Result<Connection, CheckpointError> {
    if directory.inspect(DATABASE)?.is_none() {
        directory.open_file(DATABASE, FileAccess::CreateNew(NewFileMode::State))?;
    }
    let mut connection = connect(directory, DATABASE, OpenFlags::default())?;
    configure(&mut connection)?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Gives a checkpoint that succeeds another one a new ID, because its log continues differently.
/// `saved` contains the cursors of the other one.
pub(super) fn assign_new_id(
    connection: &Connection,
    saved: Option<&CursorFile>,
) -> Result<CheckpointId, CheckpointError> {
    let checkpoint_id = CheckpointId::new(&uuid::Uuid::new_v4().to_string());
    connection.execute("DELETE FROM meta WHERE key IN (?1, ?2)", [ID, PREDECESSOR])?;
    let insert = "INSERT INTO meta (key, value) VALUES (?1, ?2)";
    connection.execute(insert, [ID, checkpoint_id.as_str()])?;
    if let Some(saved) = saved {
        connection.execute(insert, [PREDECESSOR, saved.checkpoint_id.as_str()])?;
    }
    Ok(checkpoint_id)
}

/// Turns an older or foreign copy into the successor of the checkpoint that the second cursor file
/// remembers. Its cursors are deleted if the file has them, so that they are created again from the
/// file when their sinks are registered.
pub(super) fn take_over(
    connection: &Connection,
    saved: Option<&CursorFile>,
) -> Result<TakenOver, CheckpointError> {
    let checkpoint_id = assign_new_id(connection, saved)?;
    // Receivers have newer data than the copy, and fail for other reasons. The registration of the
    // sinks creates the rows again.
    connection.execute("DELETE FROM sink_host", [])?;
    // The replays of the copy are finished or obsolete, and so are the polls during which it was
    // made.
    connection.execute("DELETE FROM replay", [])?;
    running_polls::forget_all(connection)?;

    let mut cursors = 0;
    for cursor in saved.into_iter().flat_map(|file| file.lost_cursors(&checkpoint_id)) {
        cursors += connection.execute(
            "DELETE FROM cursor WHERE sink = (SELECT id FROM sink WHERE name = ?1)
               AND tenant = (SELECT id FROM tenant WHERE guid = ?2)",
            params![cursor.sink.as_str(), cursor.tenant],
        )?;
    }
    Ok(TakenOver { checkpoint_id, cursors })
}

/// The second cursor file; `None` if it does not exist or cannot be used.
pub(super) fn read_saved(state: &StateDirectory) -> Option<CursorFile> {
    CursorFile::read(state).ok().flatten()
}
