//! The local store: every snapshot taken, every catalog version, and how far each sink has got.
//!
//! One SQLite database, one writer, WAL with `synchronous=FULL`: what a commit reported is on the
//! disk. It keeps bytes and facts and knows neither Microsoft's JSON nor any sink's protocol.
//! Calls block for as long as the disk takes; callers in async code say so to the runtime.

mod baseline;
mod body;
mod catalog;
mod commit_poll;
mod copy;
mod cursor_file;
mod cursors;
mod error;
mod held;
mod history;
mod lock;
mod pack;
mod polls;
mod read;
mod repair;
mod replay;
mod retention;
mod sinks;
mod status;
mod verify;

use std::{
    collections::HashMap,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, config::DbConfig, params};

pub use baseline::baseline_in_force;
pub use catalog::StoredCatalogMember;
pub use commit_poll::{CatalogMember, EnrichedDay, EntryFlags, NewEntry, PollCommit, PollEnd};
pub use copy::Restored;
pub use cursor_file::{CursorFile, CursorFileError, SavedCursor};
pub use cursors::{Advance, CursorMove, DeadLetter, Lane, Pending, Position};
pub use error::CheckpointError;
pub use held::HeldDay;
pub use history::{MissingDay, PastEntry};
pub use lock::Holder;
pub use polls::PollState;
pub use read::{
    EntryContext, LogEntry, ReadRequest, StoredBase, StoredObservation, StoredSnapshot,
};
pub use repair::{LostBody, Repaired};
pub use replay::{QueuedDeadLetter, ReplayStatus};
pub use retention::{ErasureReceipt, Pruned};
pub use status::{SinkStatus, Status, StatusSummary, TenantStatus};
pub use verify::{Finding, VerifyReport};

use crate::model::TenantId;

/// `ssf1`, so that `file` and a second program know whose database it is.
const APPLICATION_ID: i32 = 0x7373_6631;
const VERSION: i32 = 5;
/// What each version adds to the one before.
const SCHEMAS: [&str; VERSION as usize] = [
    include_str!("schema.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
];
/// The day that an entry belongs to: of an observation, the one on which it was made.
const ON_DAY: &str = "iif(e.kind = 1, e.day, e.observed / 86400000)";
/// Which entries a sink `s` is sent: an observation about itself it is not.
const FOR_SINK: &str = "(e.kind = 1 AND e.body IS NOT NULL
    OR e.kind = 2 AND s.quality AND NOT (e.what = 'dead_letter' AND e.subject = s.name))";
const DATABASE: &str = "checkpoint.db";

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    directory: PathBuf,
    connection: Mutex<Connection>,
    names: Mutex<Names>,
    /// The kernel gives it up when the process ends, however it ends.
    lock: Option<lock::Lock>,
    id: String,
    /// Cursors from before the database was lost, if it was.
    remembered: Mutex<CursorFile>,
    /// One writes the second cursor file at a time.
    cursor_file: Mutex<()>,
}

/// Names of controls and their numbers in the database.
#[derive(Debug, Default)]
struct Names {
    by_name: HashMap<Arc<str>, u32>,
    /// By number; the numbers are dense.
    by_id: Vec<Option<Arc<str>>>,
}

impl Checkpoint {
    /// Opens the checkpoint for writing, making it if there is none. The directory is 0700, the
    /// files 0600. A damaged database is an error, and is left as it was.
    pub fn open(directory: &Path) -> Result<Self, CheckpointError> {
        prepare(directory)?;
        let lock = lock::Lock::take(directory)?;
        let path = directory.join(DATABASE);
        let existed = path.exists();
        if existed {
            verify(&path)?;
        }
        let mut connection = Connection::open(&path)?;
        configure(&connection)?;
        migrate(&mut connection)?;
        for file in [
            path,
            directory.join(format!("{DATABASE}-wal")),
            directory.join(format!("{DATABASE}-shm")),
        ] {
            set_private(&file)?;
        }
        if !existed {
            // A new file is only there for good when its directory says so.
            fs_err::File::open(directory)?.sync_all()?;
        }
        Self::with(directory, connection, Some(lock))
    }

    /// Opens an existing checkpoint to look at it, beside a daemon that may be using it.
    pub fn open_read_only(directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join(DATABASE);
        match fs_err::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(CheckpointError::Absent(path));
            }
            other => other?,
        };
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        check_identity(&connection, &path)?;
        match connection.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            VERSION => Self::with(directory, connection, None),
            older => Err(CheckpointError::Older(older)),
        }
    }

    fn with(
        directory: &Path,
        connection: Connection,
        lock: Option<lock::Lock>,
    ) -> Result<Self, CheckpointError> {
        let id = connection.query_row(
            "SELECT value FROM meta WHERE key = 'checkpoint_id'",
            [],
            |row| row.get(0),
        )?;
        let remembered = match CursorFile::read(directory) {
            Ok(file) => file.unwrap_or_default(),
            Err(error) => {
                let error = crate::error::chain(&error);
                // Who only looks writes nothing, and looks often.
                if lock.is_some() {
                    tracing::warn!(
                        error,
                        "the second cursor file cannot be used; it will be written anew"
                    );
                }
                CursorFile::default()
            }
        };
        let names = Mutex::new(Names::load(&connection)?);
        Ok(Self {
            directory: directory.to_owned(),
            connection: Mutex::new(connection),
            names,
            lock,
            id,
            remembered: Mutex::new(remembered),
            cursor_file: Mutex::default(),
        })
    }

    /// Differs between any two checkpoints.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Says to other processes where the holder of this checkpoint can be talked to.
    pub fn announce(&self, socket: &Path) -> Result<(), CheckpointError> {
        match &self.lock {
            Some(lock) => lock.announce(socket),
            None => Ok(()),
        }
    }

    /// Who holds the checkpoint in this directory, if anybody does.
    pub fn holder(directory: &Path) -> Option<Holder> {
        lock::holder(directory)
    }

    /// Gives back what was kept at hand for the next statement, and folds the write-ahead log into
    /// the database: for the long quiet between two polls.
    pub fn release_memory(&self) -> Result<(), CheckpointError> {
        let connection = self.connection();
        connection.flush_prepared_statement_cache();
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory;")?;
        Ok(())
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic ends the process; until then a transaction that it cut short is rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self) -> MutexGuard<'_, CursorFile> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn load(connection: &Connection) -> Result<Self, CheckpointError> {
        let mut names = Self::default();
        let mut statement = connection.prepare("SELECT id, name FROM control")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            names.add(row.get(0)?, &row.get::<_, String>(1)?);
        }
        Ok(names)
    }

    fn add(&mut self, id: u32, name: &str) {
        let name: Arc<str> = name.into();
        self.by_name.insert(Arc::clone(&name), id);
        let index = id as usize;
        if self.by_id.len() <= index {
            self.by_id.resize(index + 1, None);
        }
        self.by_id[index] = Some(name);
    }

    fn get(&self, id: u32) -> Option<Arc<str>> {
        self.by_id.get(id as usize)?.clone()
    }
}

/// The row of a tenant, made when it is first heard of.
fn tenant_row(connection: &Connection, guid: &str) -> Result<i64, CheckpointError> {
    let known = connection
        .prepare_cached("SELECT id FROM tenant WHERE guid = ?1")?
        .query_row([guid], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    connection.execute("INSERT INTO tenant (guid) VALUES (?1)", [guid])?;
    Ok(connection.last_insert_rowid())
}

fn tenant_id(guid: &str) -> Result<TenantId, CheckpointError> {
    TenantId::parse(guid).map_err(|_| CheckpointError::Damaged(format!("`{guid}` is no tenant")))
}

fn prepare(directory: &Path) -> Result<(), CheckpointError> {
    if directory.exists() && !directory.is_dir() {
        let error = std::io::ErrorKind::NotADirectory.into();
        return Err(CheckpointError::Directory(directory.to_owned(), error));
    }
    if !directory.exists() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| CheckpointError::Directory(directory.to_owned(), error))?;
    }
    let metadata = fs_err::metadata(directory)?;
    if metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.permissions().mode() & 0o077 != 0
    {
        set_mode(directory, 0o700)?;
    }
    Ok(())
}

fn set_private(path: &Path) -> Result<(), CheckpointError> {
    if path.exists() { set_mode(path, 0o600) } else { Ok(()) }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), CheckpointError> {
    Ok(fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

/// Looks at the whole file without writing to it, unless a process that was killed left something to
/// be rolled back: then that is done first, as it must be.
fn verify(path: &Path) -> Result<(), CheckpointError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match examine(&connection, path) {
        Err(CheckpointError::Database(error)) if is_read_only(&error) => {}
        other => return other,
    }
    drop(connection);
    let connection = Connection::open(path)?;
    // What is wrong with it must not get worse by closing it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    examine(&connection, path)
}

fn examine(connection: &Connection, path: &Path) -> Result<(), CheckpointError> {
    check_identity(connection, path)?;
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(unreadable)?;
    if verdict == "ok" { Ok(()) } else { Err(CheckpointError::Damaged(verdict)) }
}

fn is_read_only(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ReadOnly)
}

/// A file that cannot even be looked at is damaged, unless it only wants to be written to.
fn unreadable(error: rusqlite::Error) -> CheckpointError {
    if is_read_only(&error) {
        CheckpointError::Database(error)
    } else {
        CheckpointError::Damaged(error.to_string())
    }
}

fn check_identity(connection: &Connection, path: &Path) -> Result<(), CheckpointError> {
    let pragma = |name: &str| {
        let read = connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
        read.map_err(unreadable)
    };
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    match (application, version) {
        (APPLICATION_ID, 1..=VERSION) => Ok(()),
        (APPLICATION_ID, newer) if newer > VERSION => Err(CheckpointError::Newer(newer)),
        // Made, and killed before its first commit.
        (0, 0) if fs_err::metadata(path)?.len() == 0 => Ok(()),
        (0, 0) if is_blank(connection) => Ok(()),
        _ => Err(CheckpointError::Foreign(path.to_owned())),
    }
}

fn is_blank(connection: &Connection) -> bool {
    let tables =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    tables.is_ok_and(|count| count == 0)
}

fn configure(connection: &Connection) -> Result<(), CheckpointError> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA journal_size_limit = 8388608; PRAGMA cache_size = -1000;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Brings an older file to this version, whole or not at all.
fn migrate(connection: &mut Connection) -> Result<(), CheckpointError> {
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let transaction = connection.transaction()?;
    for (schema, makes) in SCHEMAS.iter().zip(1..).filter(|(_, makes)| *makes > version) {
        transaction.execute_batch(schema)?;
        if makes == 1 {
            transaction.execute(
                "INSERT INTO meta VALUES ('checkpoint_id', ?1)",
                params![uuid::Uuid::new_v4().to_string()],
            )?;
            transaction.execute("INSERT INTO tenant (guid) VALUES ('-')", [])?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        transaction.pragma_update(None, "user_version", makes)?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests;
