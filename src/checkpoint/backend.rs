//! What the checkpoint needs of a database: transactions, statements, rows and values.
//!
//! The domain logic of the checkpoint is written once, above these interfaces. Statements have one
//! wording, which SQLite 3.40 and PostgreSQL 15 accept; parameters are `?1`, `?2` and so on. Only a
//! backend may name a driver, and nothing here knows a table. Start reading at [`Backend`]. See
//! decision 0089.

use std::{
    error::Error,
    fmt,
    ops::ControlFlow,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
};

use super::CheckpointError;

/// Where a checkpoint is stored. Calls block, but never longer than a limit that the backend knows.
pub(super) trait Backend: Send + Sync + fmt::Debug {
    /// Begins a transaction. A claimed one fails with [`CheckpointError::ClaimLost`], before any
    /// other write, if another host has taken the shard over.
    fn begin<'a>(&'a self, scope: Scope<'a>) -> Result<Box<dyn Transaction + 'a>, CheckpointError>;

    /// Determines the outcome of the last commit of this claim after
    /// [`CheckpointError::Indeterminate`], and updates the claim.
    fn resolve(&self, claim: &Claim) -> Result<CommitOutcome, CheckpointError>;
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// Reads one consistent state.
    Read,
    /// The work of the owner of a shard: counts as a write of the claim.
    Claimed(&'a Claim),
    /// A change by an operator, or of all shards. The owners wait.
    Administrative,
    /// A note that must survive the end of the process, but not a power failure.
    Unsynced,
}

/// Statements that run in a transaction.
pub(super) trait Statements {
    /// Calls `each` with every row until it returns `Break`. `each` may run other statements of the
    /// same transaction.
    fn query(
        &self,
        sql: &'static str,
        values: &[SqlValue<'_>],
        each: &mut RowVisitor<'_>,
    ) -> Result<(), CheckpointError>;

    /// Runs a statement that returns no rows. Returns the number of changed rows.
    fn execute(&self, sql: &'static str, values: &[SqlValue<'_>]) -> Result<u64, CheckpointError>;
}

/// A transaction, which is rolled back if it is dropped.
pub(super) trait Transaction: Statements {
    /// Commits. With [`CheckpointError::Indeterminate`] the commit may have happened; with every
    /// other error it has not.
    fn commit(self: Box<Self>) -> Result<(), CheckpointError>;
}

/// What [`Statements::query`] calls with each row.
pub(super) type RowVisitor<'v> =
    dyn FnMut(&dyn StoredRow) -> Result<ControlFlow<()>, CheckpointError> + 'v;

/// A row of a result.
pub(super) trait StoredRow {
    /// The value of the column with this name. Fails with [`CheckpointError::Damaged`] if a text is
    /// not valid UTF-8 or the value has a type that no column has.
    fn value(&self, column: &'static str) -> Result<SqlValue<'_>, CheckpointError>;
}

/// A value of a parameter or of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SqlValue<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

/// Why a value cannot be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueFault {
    Type,
    Range(i64),
}

/// A type that a column contains.
pub(super) trait FromValue: Sized {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault>;
}

/// A type that a parameter can have.
pub(super) trait ToValue {
    fn to_value(&self) -> SqlValue<'_>;
}

/// Whether a commit whose outcome was unknown has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitOutcome {
    Applied,
    NotApplied,
}

/// One of the parts into which the tenants are divided by their GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u16);

/// The fencing token of a claim: it increases when a shard changes its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch(i64);

/// The right to write for a shard, one transaction at a time.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) shard: ShardId,
    pub(super) epoch: Epoch,
    /// The number of committed writes of the shard.
    writes: AtomicI64,
    /// Whether the outcome of the last commit is unknown.
    is_uncertain: AtomicBool,
    /// Held from the beginning of a transaction until its outcome is known, so that the two fields
    /// above change only in between.
    turn: Mutex<()>,
}

/// An error of a database driver, which only its backend can interpret.
#[derive(Debug)]
pub struct DriverError(Box<dyn Error + Send + Sync>);

impl ShardId {
    /// The shard of a single host, which owns all tenants.
    pub const ONLY: Self = Self(0);
}

impl Epoch {
    /// The epoch of a single host, whose shard never changes its owner.
    pub(super) const FIRST: Self = Self(0);
}

impl Claim {
    pub(super) fn new(shard: ShardId, epoch: Epoch, writes: i64) -> Self {
        let writes = AtomicI64::new(writes);
        Self { shard, epoch, writes, is_uncertain: AtomicBool::new(false), turn: Mutex::new(()) }
    }

    /// Waits until no other claimed transaction is running or has an unknown outcome. The result is
    /// held from before [`Backend::begin`] until after [`Backend::resolve`].
    pub(super) fn take_turn(&self) -> MutexGuard<'_, ()> {
        // A panic has rolled back its transaction, and the number of writes did not change.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of committed writes of the shard.
    pub(super) fn writes(&self) -> i64 {
        self.writes.load(Relaxed)
    }

    /// Called when a write has been committed, and once its outcome is known if it was unknown.
    pub(super) fn count_write(&self) {
        self.writes.fetch_add(1, Relaxed);
    }

    /// Whether [`Backend::resolve`] must determine an outcome before the next transaction.
    pub(super) fn is_uncertain(&self) -> bool {
        self.is_uncertain.load(Relaxed)
    }

    /// Called when the outcome of a commit is unknown.
    pub(super) fn begin_uncertainty(&self) {
        self.is_uncertain.store(true, Relaxed);
    }

    /// Called when [`Backend::resolve`] has determined the outcome.
    pub(super) fn end_uncertainty(&self) {
        self.is_uncertain.store(false, Relaxed);
    }
}

impl DriverError {
    pub(super) fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for DriverError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl ToValue for ShardId {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Int(self.0.into())
    }
}

impl ToValue for Epoch {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Int(self.0)
    }
}

impl FromValue for Epoch {
    fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
        i64::from_value(value).map(Self)
    }
}

impl dyn StoredRow + '_ {
    /// The value of a column as a type of the model.
    pub(super) fn get<T: FromValue>(&self, column: &'static str) -> Result<T, CheckpointError> {
        T::from_value(self.value(column)?).map_err(|fault| {
            CheckpointError::Damaged(match fault {
                ValueFault::Type => format!("a value of the column `{column}` has a wrong type"),
                ValueFault::Range(number) => format!("the number `{number}` is out of range"),
            })
        })
    }
}

impl dyn Statements + '_ {
    /// The result of `read` for the first row; `None` if there is no row.
    pub(super) fn query_optional<T>(
        &self,
        sql: &'static str,
        values: &[SqlValue<'_>],
        read: impl FnOnce(&dyn StoredRow) -> Result<T, CheckpointError>,
    ) -> Result<Option<T>, CheckpointError> {
        let (mut read, mut found) = (Some(read), None);
        self.query(sql, values, &mut |row| {
            if let Some(read) = read.take() {
                found = Some(read(row)?);
            }
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// The result of `read` for the first row. Fails with [`CheckpointError::Damaged`] if there is
    /// no row.
    pub(super) fn query_one<T>(
        &self,
        sql: &'static str,
        values: &[SqlValue<'_>],
        read: impl FnOnce(&dyn StoredRow) -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        let absent =
            || CheckpointError::Damaged("a row that others refer to does not exist".into());
        self.query_optional(sql, values, read)?.ok_or_else(absent)
    }

    /// The results of `read` for all rows.
    pub(super) fn query_all<T>(
        &self,
        sql: &'static str,
        values: &[SqlValue<'_>],
        mut read: impl FnMut(&dyn StoredRow) -> Result<T, CheckpointError>,
    ) -> Result<Vec<T>, CheckpointError> {
        let mut all = Vec::new();
        self.query(sql, values, &mut |row| {
            all.push(read(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }
}

/// The parameters of a statement. They borrow their values, so the macro is used inline in the
/// call.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        &[$($crate::checkpoint::backend::ToValue::to_value(&$value)),*]
            as &[$crate::checkpoint::backend::SqlValue<'_>]
    };
}
pub(super) use values;
