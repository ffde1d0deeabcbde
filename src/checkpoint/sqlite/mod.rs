//! A checkpoint in one SQLite database, with one connection and one writer.
//!
//! A transaction holds the connection until it ends, so transactions of one process never overlap.
//! The lock of the state directory excludes other processes. The other files of this folder open,
//! check, copy and repair the database, for which there is no common interface. No other module may
//! name the driver. Start reading at [`SqliteBackend`]; decisions 0014 and 0089 have the reasons.

mod busy;
pub(super) mod continuity;
mod copy;
pub(super) mod directory;
mod fault;
mod maintenance;
mod migration;
mod open;
mod partial_indexes;
#[cfg(test)]
pub(super) mod raw;
mod rebuild;
mod repair;
mod repair_steps;
mod schema;
mod statements;
#[cfg(test)]
mod tests;
mod texts;
mod verify;

use std::{
    io::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

use fs_err::File;
use rusqlite::{Connection, config::DbConfig};

pub use copy::{Restored, SetAside};
pub use rebuild::StructureRepair;
pub use repair::{LostBody, Repaired};
pub use repair_steps::{RepairResult, RepairStep};
pub use verify::{Finding, VerifyReport};

use self::{continuity::OpenedFiles, statements::SqliteStatements};
use super::{
    Checkpoint, CheckpointError, DatabaseLoss,
    backend::{
        Backend, Claim, CommitOutcome, RowVisitor, Scope, SqlValue, Statements, Transaction,
    },
    claims,
};
use crate::files::OwnedDirectory;

/// The last message of a process that cannot use its checkpoint anymore.
const NOT_ROLLED_BACK: &[u8] =
    b"an interrupted transaction was not rolled back: the process ends\n";

/// An open database.
#[derive(Debug)]
pub(super) struct SqliteBackend {
    connection: Mutex<Connection>,
    /// Files of the database that were read without SQLite. They are closed after the connection,
    /// because closing them releases its locks.
    read_files: Mutex<Vec<File>>,
    /// The files that the connection has opened. `None` if the database is read-only or in memory,
    /// or if the files could not be examined; they are then not checked.
    opened: Option<OpenedFiles>,
}

/// Rolls back if it is dropped before the commit.
struct SqliteTransaction<'a> {
    connection: MutexGuard<'a, Connection>,
    is_unsynced: bool,
}

impl SqliteBackend {
    fn new(connection: Connection, opened: Option<OpenedFiles>) -> Self {
        Self { connection: Mutex::new(connection), read_files: Mutex::default(), opened }
    }

    /// An empty database in memory.
    #[cfg(test)]
    pub(super) fn in_memory() -> Result<Self, CheckpointError> {
        let mut connection = Connection::open_in_memory()?;
        schema::harden(&connection)?;
        open::configure(&mut connection)?;
        migration::migrate(&mut connection)?;
        Ok(Self::new(connection, None))
    }

    /// The connection, which no transaction of another thread uses.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(|poisoned| {
            let connection = poisoned.into_inner();
            // A panic rolls back its transaction. If one is open nevertheless, nothing is known
            // about what the next commit would write, so the process must not continue.
            if !connection.is_autocommit() {
                // The log may not be written before the process ends.
                let _ = std::io::stderr().write_all(NOT_ROLLED_BACK);
                std::process::abort();
            }
            self.connection.clear_poison();
            connection
        })
    }

    /// See [`Checkpoint::check_in_place`].
    fn check_in_place(&self) -> Result<(), CheckpointError> {
        let Some(opened) = &self.opened else { return Ok(()) };
        let checked = opened.check_in_place();
        if let Err(CheckpointError::DatabaseLost(_, DatabaseLoss::Gone)) = checked {
            // Closing the connection must not write the rest of the log into an emptied file.
            let setting = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let _ = self.connection().set_db_config(setting, true);
        }
        checked
    }

    /// Fails if the operating system cannot read the files of the database, which are in this
    /// directory. Anything that looks like damage is examined again after this.
    fn require_readable(&self, directory: &OwnedDirectory) -> Result<(), CheckpointError> {
        let files = directory::read_all(directory)?;
        self.read_files.lock().unwrap_or_else(PoisonError::into_inner).extend(files);
        Ok(())
    }
}

impl Checkpoint {
    /// The connection, for the maintenance, which does not use the backend.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.sqlite.connection()
    }
}

impl Backend for SqliteBackend {
    fn begin<'a>(&'a self, scope: Scope<'a>) -> Result<Box<dyn Transaction + 'a>, CheckpointError> {
        let claim = match scope {
            Scope::Claimed(claim) => Some(claim),
            Scope::Read | Scope::Administrative | Scope::Unsynced => None,
        };
        if claim.is_some() {
            self.check_in_place()?;
        }
        let connection = self.connection();

        let is_unsynced = matches!(scope, Scope::Unsynced);
        if is_unsynced {
            // In WAL mode, this level syncs only when the log is moved into the database.
            connection.execute_batch("PRAGMA synchronous = NORMAL")?;
        }
        // A writer waits for the lock of the database here, and not at its first write, which would
        // fail if another connection had written since its first read.
        let begin = if matches!(scope, Scope::Read) { "BEGIN" } else { "BEGIN IMMEDIATE" };
        let transaction = SqliteTransaction { connection, is_unsynced };
        transaction.connection.prepare_cached(begin)?.execute([])?;
        if let Some(claim) = claim {
            claims::fence(&transaction, claim)?;
        }
        Ok(Box::new(transaction))
    }

    /// SQLite reports the outcome of each commit, so only a backend that wraps this one needs it.
    fn resolve(&self, claim: &Claim) -> Result<CommitOutcome, CheckpointError> {
        let transaction = self.begin(Scope::Read)?;
        claims::resolve(&*transaction, claim)
    }
}

impl Statements for SqliteTransaction<'_> {
    fn query(
        &self,
        sql: &'static str,
        values: &[SqlValue<'_>],
        each: &mut RowVisitor<'_>,
    ) -> Result<(), CheckpointError> {
        SqliteStatements(&self.connection).query(sql, values, each)
    }

    fn execute(&self, sql: &'static str, values: &[SqlValue<'_>]) -> Result<u64, CheckpointError> {
        SqliteStatements(&self.connection).execute(sql, values)
    }
}

impl Transaction for SqliteTransaction<'_> {
    fn commit(self: Box<Self>) -> Result<(), CheckpointError> {
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

impl Drop for SqliteTransaction<'_> {
    fn drop(&mut self) {
        // An error of the rollback is noticed by the next user of the connection.
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        if self.is_unsynced {
            let _ = self.connection.execute_batch("PRAGMA synchronous = FULL");
        }
    }
}
