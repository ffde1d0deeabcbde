//! The checkpoint: every accepted snapshot, every catalog version, and the cursors of every sink.
//!
//! It is one SQLite database with one writer, in WAL mode with `synchronous=FULL`, so a commit that
//! has returned is on disk. It stores bodies and facts, and depends neither on Microsoft's JSON nor
//! on the protocol of any sink. All calls block until the disk operation has finished; asynchronous
//! callers wrap them in `block_in_place` or `spawn_blocking`. Start reading at
//! [`Checkpoint::open`], then [`Checkpoint::commit_poll`] (write), [`Checkpoint::read`] (read) and
//! [`Checkpoint::advance`] (cursors). See decisions 0014 and 0089.

mod advance;
mod backend;
mod baseline;
mod body;
mod catalog;
mod columns;
mod commit_poll;
mod control_names;
mod cursor_checks;
mod cursor_file;
mod daemon_report;
mod days;
mod dead_letter_groups;
mod dead_letter_records;
mod dead_letters;
mod entry_flags;
mod entry_reader;
mod erasure;
mod error;
mod exchange;
mod fields;
mod held;
mod history;
mod host_clock;
#[cfg(test)]
mod in_memory;
mod key_frames;
mod lock;
mod log;
mod log_growth;
mod marks;
mod meta;
mod missing_days;
mod observations;
mod pack;
mod pending;
mod poll_commit;
mod polls;
mod pruning;
mod read;
mod registration;
mod removed_sinks;
mod replay;
mod row_ids;
mod running_polls;
mod saved_cursors;
mod sink_status;
mod sinks;
#[allow(unused_macros, unused_imports, reason = "the next changes use the other fragments")]
mod sql;
mod sqlite;
mod start_days;
mod status;
mod storage_fault;
mod tenant_status;
mod transactions;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig, params};

pub use advance::{Advance, CursorMove};
pub use backend::{DriverError, ShardId};
pub use baseline::baseline_in_force;
pub use catalog::StoredCatalogMember;
pub use cursor_file::{CursorFile, CursorFileError, SavedCursor};
pub use daemon_report::DaemonReport;
pub use days::SnapshotRange;
pub use dead_letter_groups::{DeadLetterGroup, DeadLetterReason};
pub use dead_letter_records::DeadLetter;
pub use dead_letters::{DeadLetterFilter, DeadLetterKey, QueuedDeadLetter};
pub use entry_flags::EntryFlags;
pub use erasure::ErasureReceipt;
pub use error::{CheckpointError, DatabaseLoss};
pub use exchange::exchange_warning;
pub use held::HeldDay;
pub use history::PastEntry;
pub use lock::Holder;
pub use log_growth::LogGrowth;
pub use pending::{Lane, Pending, Position};
pub use poll_commit::{CatalogMember, EnrichedDay, NewEntry, PollCommit, PollEnd};
pub use polls::{PollFailure, PollState, ResolutionFailure};
pub use pruning::Pruned;
pub use read::{
    EntryContext, LogEntry, ReadRequest, StoredBase, StoredObservation, StoredSnapshot,
};
pub use registration::OtherTenants;
pub use removed_sinks::StoredSink;
pub use replay::{ReplayScope, ReplayStatus, ReplayTenant};
pub use row_ids::{CatalogVersion, DeadLetterId, ProfileId, ReplayId};
pub use sink_status::{CursorStatus, SinkStatus};
pub use sinks::{EntryFilter, SinkFailure};
pub use sqlite::{
    Finding, LostBody, RepairResult, RepairStep, Repaired, Restored, SetAside, StructureRepair,
    VerifyReport,
};
pub use status::{Status, StatusDetail, StoredFailures};
pub use storage_fault::StorageFault;
pub use tenant_status::{TenantStatus, UnresolvedDomain};

use self::{
    backend::{Backend, Claim, Epoch},
    control_names::ControlNames,
    row_ids::{tenant_id, tenant_row},
    sqlite::{
        SqliteBackend, busy,
        continuity::{self, OpenedFiles},
        directory::{self, connect},
        schema,
    },
};
use crate::files::{FileAccess, FileError, NewFileMode, OwnedDirectory};

/// `ssf1` in ASCII: the SQLite application ID, by which `file` and this program recognize the
/// database.
const APPLICATION_ID: i32 = 0x7373_6631;
/// The schema version of this release.
const VERSION: i32 = 8;
/// The SQL that migrates each version to the next one; the first script creates the database.
const SCHEMAS: [&str; VERSION as usize] = [
    include_str!("sqlite/schema.sql"),
    include_str!("sqlite/schema-2.sql"),
    include_str!("sqlite/schema-3.sql"),
    include_str!("sqlite/schema-4.sql"),
    include_str!("sqlite/schema-5.sql"),
    include_str!("sqlite/schema-6.sql"),
    include_str!("sqlite/schema-7.sql"),
    include_str!("sqlite/schema-8.sql"),
];
const DATABASE: &str = "checkpoint.db";

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    directory: PathBuf,
    backend: Arc<dyn Backend>,
    /// The same database for the maintenance, which has no common interface.
    sqlite: Arc<SqliteBackend>,
    claim: Claim,
    control_names: Mutex<ControlNames>,
    /// `None` if the checkpoint is read-only. The kernel releases the lock when the process ends,
    /// even if it crashes.
    lock: Option<lock::Lock>,
    id: String,
    /// The second cursor file as it was when the checkpoint was opened. If the previous database
    /// was lost, it contains the cursors of that database.
    saved_cursors: Mutex<CursorFile>,
    /// Held while the second cursor file is written.
    cursor_file_writer: Mutex<()>,
}

impl Checkpoint {
    /// Opens the checkpoint for writing, and creates it if it does not exist. A new directory has
    /// mode 0700, and files of this user have mode 0600; in an existing directory to which its
    /// group can write, they are shared with it. Migrates a database of an older version.
    ///
    /// Fails if another process holds the lock, and with [`CheckpointError::Untrusted`] if the
    /// files are links or belong to another user. Also fails if the database is damaged, newer or
    /// foreign, or not the one that the second cursor file remembers, and leaves it unchanged. A
    /// cursor that is outside its log is damage too.
    pub fn open(directory: &Path) -> Result<Self, CheckpointError> {
        let checkpoint = Self::open_with_any_cursors(directory)?;
        checkpoint.reading(cursor_checks::require_valid)?;
        Ok(checkpoint)
    }

    /// As [`Self::open`], but accepts cursors that must be repaired before anything is delivered.
    fn open_with_any_cursors(directory: &Path) -> Result<Self, CheckpointError> {
        let opened = directory::prepare(directory)?;
        let lock = lock::Lock::acquire(&opened)?;

        let connection = directory::confirm_damage(&opened, || open_for_writing(&opened))
            .map_err(|error| directory::find_cause(error, &opened))?;
        Self::from_connection(directory, connection, Some(lock))
    }

    /// Opens an existing checkpoint for reading only, even while a daemon is using it.
    ///
    /// # Errors
    ///
    /// Fails if it does not exist ([`CheckpointError::Absent`]), if its version is not the version
    /// of this release ([`CheckpointError::Newer`], [`CheckpointError::Older`]), if it is foreign,
    /// damaged or not trusted, or if it is not the one that the second cursor file remembers.
    pub fn open_read_only(directory: &Path) -> Result<Self, CheckpointError> {
        let opened = directory::existing(directory)?;
        let connection =
            open_for_reading(&opened).map_err(|error| directory::find_cause(error, &opened))?;
        let checkpoint = Self::from_connection(directory, connection, None)?;
        continuity::require_same(&checkpoint.connection(), &checkpoint.saved_cursors(), directory)?;
        Ok(checkpoint)
    }

    fn from_connection(
        directory: &Path,
        connection: Connection,
        lock: Option<lock::Lock>,
    ) -> Result<Self, CheckpointError> {
        let opened = lock.as_ref().and_then(|_| OpenedFiles::of(directory));
        let sqlite = Arc::new(SqliteBackend::new(connection, opened));
        let backend = Arc::clone(&sqlite);
        Self::over(directory, sqlite, backend, lock)
    }

    /// A checkpoint over an open database. `backend` uses the database `sqlite`.
    fn over(
        directory: &Path,
        sqlite: Arc<SqliteBackend>,
        backend: Arc<dyn Backend>,
        lock: Option<lock::Lock>,
    ) -> Result<Self, CheckpointError> {
        let (id, control_names) = {
            let connection = sqlite.connection();
            let sql = "SELECT value FROM meta WHERE key = 'checkpoint_id'";
            let id = connection.query_row(sql, [], |row| row.get("value"))?;
            (id, ControlNames::load(&connection)?)
        };

        let saved_cursors = match CursorFile::read(directory) {
            Ok(file) => file.unwrap_or_default(),
            // A file that cannot be read now must not be rewritten without its content.
            Err(CursorFileError::Read(error @ FileError::Io { .. })) if lock.is_some() => {
                return Err(error.into());
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                // A reader does not rewrite the file, so every `status` would repeat the warning.
                if lock.is_some() {
                    tracing::warn!(
                        error,
                        "the second cursor file `cursors.json` is not usable and will be rewritten"
                    );
                }
                CursorFile::default()
            }
        };

        Ok(Self {
            directory: directory.to_owned(),
            backend,
            sqlite,
            claim: Claim::new(ShardId::ONLY, Epoch::FIRST, 0),
            control_names: Mutex::new(control_names),
            lock,
            id,
            saved_cursors: Mutex::new(saved_cursors),
            cursor_file_writer: Mutex::default(),
        })
    }

    /// The ID of this checkpoint: a random UUID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The state directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Publishes in the lock file the socket on which the holder of this checkpoint accepts
    /// commands.
    ///
    /// # Errors
    ///
    /// Fails if the lock file cannot be written. Does nothing for a checkpoint that is open for
    /// reading only.
    pub fn announce(&self, socket: &Path) -> Result<(), CheckpointError> {
        match &self.lock {
            Some(lock) => lock.announce(socket),
            None => Ok(()),
        }
    }

    /// The process that holds the checkpoint in this directory, if there is one.
    pub fn holder(directory: &Path) -> Option<Holder> {
        lock::holder(directory)
    }

    /// Frees SQLite's caches and moves the write-ahead log into the database. Called before a long
    /// idle time between two polls.
    ///
    /// # Errors
    ///
    /// Fails if the write-ahead log cannot be written to the database.
    pub fn release_memory(&self) -> Result<(), CheckpointError> {
        let connection = self.connection();
        connection.flush_prepared_statement_cache();
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory;")?;
        Ok(())
    }

    /// The connection, for the maintenance and for code that does not use the backend.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.sqlite.connection()
    }

    fn saved_cursors(&self) -> MutexGuard<'_, CursorFile> {
        self.saved_cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cached names of controls. The transaction must have begun, or the connection must be
    /// locked, before. Fails if the cache must be read again and the database cannot be read.
    fn control_names(
        &self,
        store: &dyn backend::Statements,
    ) -> Result<MutexGuard<'_, ControlNames>, CheckpointError> {
        match self.control_names.lock() {
            Ok(names) if !names.is_stale() => Ok(names),
            Ok(mut names) => {
                *names = ControlNames::load(store)?;
                Ok(names)
            }
            Err(poisoned) => {
                // A panic has rolled back the rows of new names, but not the cache.
                let mut names = poisoned.into_inner();
                *names = ControlNames::load(store)?;
                self.control_names.clear_poison();
                Ok(names)
            }
        }
    }
}

/// Opens the database of a directory whose lock is held. See [`Checkpoint::open`].
fn open_for_writing(directory: &OwnedDirectory) -> Result<Connection, CheckpointError> {
    continuity::require_remembered(directory)?;
    let existed = directory.inspect(DATABASE)?.is_some();
    if existed {
        check_before_open(directory)?;
    } else {
        directory.open_file(DATABASE, FileAccess::CreateNew(NewFileMode::State))?;
    }
    let mut connection = connect(directory, DATABASE, OpenFlags::default())?;
    continuity::check(&connection, directory)?;
    configure(&mut connection)?;
    migrate(&mut connection)?;

    for part in directory::PARTS {
        directory.restrict_file(&format!("{DATABASE}{part}"))?;
    }
    if !existed {
        // A new file survives a power failure only after its directory has been synced.
        directory.sync()?;
    }

    Ok(connection)
}

/// Opens the database of a directory for reading. See [`Checkpoint::open_read_only`].
fn open_for_reading(directory: &OwnedDirectory) -> Result<Connection, CheckpointError> {
    let connection = connect(directory, DATABASE, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(busy::BUSY_TIMEOUT)?;
    check_identity(&connection, &directory.path_of(DATABASE))?;
    match connection.query_row("PRAGMA user_version", [], |row| row.get("user_version"))? {
        VERSION => Ok(connection),
        older => Err(CheckpointError::Older(older)),
    }
}

/// Checks the whole database without writing to it. The file is opened for writing only if a killed
/// process left a transaction to roll back, because SQLite cannot read it before the rollback.
fn check_before_open(directory: &OwnedDirectory) -> Result<(), CheckpointError> {
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
fn check_database(connection: &Connection, path: &Path) -> Result<(), CheckpointError> {
    check_identity(connection, path)?;
    schema::require_current(connection)?;
    let result: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get("quick_check"))?;
    if result == "ok" { Ok(()) } else { Err(CheckpointError::of_integrity_check(result)) }
}

fn check_identity(connection: &Connection, path: &Path) -> Result<(), CheckpointError> {
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

fn configure(connection: &mut Connection) -> Result<(), CheckpointError> {
    connection.busy_handler(Some(busy::handler()))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA journal_size_limit = 8388608; PRAGMA cache_size = -1000;",
    )?;
    // More than the statements that a running daemon uses; `release_memory` empties the cache.
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

/// Migrates a database of an older version, or an empty file, to the version of this release, in
/// one transaction.
fn migrate(connection: &mut Connection) -> Result<(), CheckpointError> {
    let current: i32 =
        connection.query_row("PRAGMA user_version", [], |row| row.get("user_version"))?;
    let transaction = connection.transaction()?;

    for (schema, version) in SCHEMAS.iter().zip(1..).filter(|(_, version)| *version > current) {
        transaction.execute_batch(schema)?;
        if version == 1 {
            transaction.execute(
                "INSERT INTO meta VALUES ('checkpoint_id', ?1)",
                params![uuid::Uuid::new_v4().to_string()],
            )?;
            transaction.execute("INSERT INTO tenant (guid) VALUES ('-')", [])?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        transaction.pragma_update(None, "user_version", version)?;
    }

    transaction.commit()?;
    Ok(())
}

/// Decodes the packed facts of a day, in which every control has the same name.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_packed_facts(bytes: &[u8]) {
    pack::fuzz_unpack(bytes);
}

#[cfg(test)]
mod tests;
