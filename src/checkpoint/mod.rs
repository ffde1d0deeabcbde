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
mod claims;
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
mod fields;
mod held;
mod history;
mod host_clock;
#[cfg(test)]
mod in_memory;
mod key_frames;
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
mod queued_commands;
mod read;
mod registration;
mod removed_sinks;
mod replay;
mod row_ids;
mod running_polls;
mod saved_cursors;
mod sink_status;
mod sinks;
mod sql;
mod sqlite;
mod start_days;
mod status;
mod storage_fault;
mod tenant_status;
mod transactions;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use advance::{Advance, CursorMove};
pub use backend::{DriverError, ShardId};
pub use baseline::baseline_in_force;
pub use catalog::StoredCatalogMember;
pub use cursor_file::{CursorFile, SavedCursor};
pub use daemon_report::DaemonReport;
pub use days::SnapshotRange;
pub use dead_letter_groups::{DeadLetterGroup, DeadLetterReason};
pub use dead_letter_records::DeadLetter;
pub use dead_letters::{DeadLetterFilter, DeadLetterKey, QueuedDeadLetter};
pub use entry_flags::EntryFlags;
pub use erasure::ErasureReceipt;
pub use error::{CheckpointError, CursorCopy, DatabaseLoss};
pub use held::HeldDay;
pub use history::PastEntry;
pub use log_growth::LogGrowth;
pub use pending::{Lane, Pending, Position};
pub use poll_commit::{CatalogMember, EnrichedDay, NewEntry, PollCommit, PollEnd};
pub use polls::{FoundPollState, PollFailure, PollState, PollStates, ResolutionFailure};
pub use pruning::Pruned;
pub use queued_commands::QueuedImport;
pub use read::{
    EntryContext, LogEntry, ReadRequest, StoredBase, StoredObservation, StoredSnapshot,
};
pub use registration::OtherTenants;
pub use removed_sinks::StoredSink;
pub use replay::{ReplayScope, ReplayStatus, ReplayTenant};
pub use row_ids::{CatalogVersion, CommandId, DeadLetterId, ProfileId, ReplayId};
pub use sink_status::{CursorStatus, SinkStatus};
pub use sinks::{EntryFilter, SinkFailure};
pub use sqlite::{
    Finding, LostBody, RepairResult, RepairStep, Repaired, Restored, SetAside, StructureRepair,
    VerifyReport,
};
pub use status::{Status, StatusDetail, StoredFailures};
pub use storage_fault::StorageFault;
pub use tenant_status::{TenantStatus, UnresolvedDomain};
#[cfg(test)]
pub(crate) use tests::faults::{FaultMoment, FaultPlan};

use self::{
    backend::{Backend, Claim, Scope, Statements, values},
    control_names::ControlNames,
    row_ids::{tenant_id, tenant_row},
    sqlite::{SqliteBackend, continuity, directory},
};
use crate::{
    files::FileError,
    model::CheckpointId,
    state_directory::{CursorFileError, StateDirectory},
};

/// An open checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    backend: Arc<dyn Backend>,
    /// The same database for the maintenance, which has no common interface.
    sqlite: Arc<SqliteBackend>,
    /// Without its lock if the checkpoint is read-only. Dropped after the database, so that the
    /// lock is held until the database is closed.
    state: StateDirectory,
    claim: Claim,
    control_names: Mutex<ControlNames>,
    id: CheckpointId,
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
        let state = StateDirectory::open(directory)?;
        let sqlite = SqliteBackend::open(&state)?;
        Self::over_sqlite(state, sqlite)
    }

    /// Opens an existing checkpoint for reading only, even while a daemon is using it.
    ///
    /// # Errors
    ///
    /// Fails if it does not exist ([`CheckpointError::Absent`]), if its version is not the version
    /// of this release ([`CheckpointError::Newer`], [`CheckpointError::Older`]), if it is foreign,
    /// damaged or not trusted, or if it is not the one that the second cursor file remembers.
    pub fn open_read_only(directory: &Path) -> Result<Self, CheckpointError> {
        let state = directory::existing(directory)?;
        let sqlite = SqliteBackend::open_read_only(state.files())?;
        let checkpoint = Self::over_sqlite(state, sqlite)?;
        checkpoint.reading(|store| {
            continuity::require_same(store, &checkpoint.saved_cursors(), directory)
        })?;
        Ok(checkpoint)
    }

    fn over_sqlite(state: StateDirectory, sqlite: SqliteBackend) -> Result<Self, CheckpointError> {
        let sqlite = Arc::new(sqlite);
        let backend = Arc::clone(&sqlite);
        Self::over(state, sqlite, backend)
    }

    /// A checkpoint over an open database. `backend` uses the database `sqlite`.
    fn over(
        state: StateDirectory,
        sqlite: Arc<SqliteBackend>,
        backend: Arc<dyn Backend>,
    ) -> Result<Self, CheckpointError> {
        let (id, claim, control_names) = {
            let transaction = backend.begin(Scope::Read)?;
            let store: &dyn Statements = &*transaction;
            let sql = "SELECT value FROM meta WHERE key = 'checkpoint_id'";
            let id = store.query_one(sql, values![], |row| row.get("value"))?;
            (id, claims::stored(store, ShardId::ONLY)?, ControlNames::load(store)?)
        };

        let saved_cursors = match CursorFile::read(&state) {
            Ok(file) => file.unwrap_or_default(),
            // A file that cannot be read now must not be rewritten without its content.
            Err(CursorFileError::Read(error @ FileError::Io { .. })) if state.is_locked() => {
                return Err(error.into());
            }
            Err(error) => {
                let error = crate::error::chain(&error);
                // A reader does not rewrite the file, so every `status` would repeat the warning.
                if state.is_locked() {
                    tracing::warn!(
                        error,
                        "the second cursor file `cursors.json` is not usable and will be rewritten"
                    );
                }
                CursorFile::default()
            }
        };

        Ok(Self {
            backend,
            sqlite,
            state,
            claim,
            control_names: Mutex::new(control_names),
            id,
            saved_cursors: Mutex::new(saved_cursors),
            cursor_file_writer: Mutex::default(),
        })
    }

    /// The ID of this checkpoint.
    pub fn id(&self) -> &CheckpointId {
        &self.id
    }

    /// The state directory with which the checkpoint was opened.
    pub fn state_directory(&self) -> &StateDirectory {
        &self.state
    }

    fn saved_cursors(&self) -> MutexGuard<'_, CursorFile> {
        self.saved_cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cached names of controls. The transaction must have begun, or the connection must be
    /// locked, before. Fails if the cache must be read again and the database cannot be read.
    fn control_names(
        &self,
        store: &dyn Statements,
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

/// Decodes the packed facts of a day, in which every control has the same name.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_packed_facts(bytes: &[u8]) {
    pack::fuzz_unpack(bytes);
}

#[cfg(test)]
mod tests;
