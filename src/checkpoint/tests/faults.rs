//! A database in memory that fails once, at a call that a test chooses: at the beginning of a
//! transaction, at a statement, or at a commit. Nothing else about it differs from SQLite. Start
//! reading at [`FaultPlan`].

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::checkpoint::{
    Checkpoint, CheckpointError, ShardId, StorageFault,
    backend::{
        Backend, Claim, CommitOutcome, DriverError, RowVisitor, Scope, SqlValue, Statements,
        Transaction,
    },
    meta,
    sqlite::SqliteBackend,
};

/// The call that fails, and the calls that were counted. All clones are the same plan, so that a
/// test changes the plan of a backend that it does not see.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultPlan(Arc<Mutex<PlannedFault>>);

/// When a call fails, relative to its effect. The outcome of a commit can also be unknown, even
/// after the first attempt to determine it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultMoment {
    /// The call has no effect.
    Before,
    /// The call has its effect. Its transaction is rolled back nevertheless, unless it is a commit,
    /// whose outcome is then determined.
    After,
    /// A commit has no effect, and its outcome is unknown at first.
    LostBefore,
    /// A commit has its effect, and its outcome is unknown at first.
    LostAfter,
}

#[derive(Debug, Default)]
struct PlannedFault {
    /// Whether calls are counted, and can fail.
    is_active: bool,
    /// The number of the call that fails, counted from 0.
    fault: Option<(u64, FaultMoment)>,
    /// The number of calls since the plan has begun.
    calls: u64,
    /// The numbers of the calls that were commits.
    commits: Vec<u64>,
    has_failed: bool,
}

/// A database that fails as its plan requires.
#[derive(Debug)]
struct FaultyBackend {
    inner: Arc<SqliteBackend>,
    plan: FaultPlan,
    /// Whether the next attempt to determine the outcome of a commit fails.
    is_unreachable: AtomicBool,
}

struct FaultyTransaction<'a> {
    inner: Box<dyn Transaction + 'a>,
    backend: &'a FaultyBackend,
}

impl Checkpoint {
    /// An empty checkpoint whose database fails as the plan requires.
    pub(crate) fn in_memory_with_faults(
        directory: &Path,
        plan: FaultPlan,
    ) -> Result<Self, CheckpointError> {
        Self::with_backend(directory, |inner| {
            Arc::new(FaultyBackend { inner, plan, is_unreachable: AtomicBool::new(false) })
        })
    }
}

impl FaultPlan {
    /// Plans a fault at a call, counted from 0; `None` plans none. It takes effect with the next
    /// [`Self::begin`].
    pub(crate) fn set(&self, fault: Option<(u64, FaultMoment)>) {
        *self.lock() = PlannedFault { fault, ..PlannedFault::default() };
    }

    /// Counts the calls from now on, and makes the planned one fail.
    pub(crate) fn begin(&self) {
        self.lock().is_active = true;
    }

    /// Counts no more calls.
    pub(crate) fn end(&self) {
        self.lock().is_active = false;
    }

    /// Runs work whose calls are not counted and do not fail.
    pub(crate) fn without_faults<T>(&self, work: impl FnOnce() -> T) -> T {
        let was_active = std::mem::take(&mut self.lock().is_active);
        let value = work();
        self.lock().is_active = was_active;
        value
    }

    /// The number of counted calls.
    pub(crate) fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// The numbers of the counted calls that were commits.
    pub(crate) fn commits(&self) -> Vec<u64> {
        self.lock().commits.clone()
    }

    /// Whether the planned fault has occurred.
    pub(crate) fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    /// Counts a call. Returns when it fails; `None` if it does not.
    fn count(&self) -> Option<FaultMoment> {
        let mut planned = self.lock();
        if !planned.is_active {
            return None;
        }
        let call = planned.calls;
        planned.calls += 1;
        let (_, moment) = planned.fault.filter(|(failing, _)| *failing == call)?;
        planned.has_failed = true;
        Some(moment)
    }

    /// Counts a commit, as [`Self::count`] does.
    fn count_commit(&self) -> Option<FaultMoment> {
        {
            let mut planned = self.lock();
            if planned.is_active {
                let call = planned.calls;
                planned.commits.push(call);
            }
        }
        self.count()
    }

    fn is_active(&self) -> bool {
        self.lock().is_active
    }

    fn lock(&self) -> MutexGuard<'_, PlannedFault> {
        self.0.lock().unwrap()
    }
}

impl FaultyBackend {
    /// Runs a call that is not a commit, and makes it fail if that is planned.
    fn call<T>(
        &self,
        work: impl FnOnce() -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        match self.plan.count() {
            None => work(),
            Some(FaultMoment::Before | FaultMoment::LostBefore) => Err(unavailable()),
            Some(FaultMoment::After | FaultMoment::LostAfter) => {
                drop(work()?);
                Err(unavailable())
            }
        }
    }

    fn commit(&self, transaction: Box<dyn Transaction + '_>) -> Result<(), CheckpointError> {
        let Some(moment) = self.plan.count_commit() else { return transaction.commit() };
        let is_unreachable = matches!(moment, FaultMoment::LostBefore | FaultMoment::LostAfter);
        match moment {
            FaultMoment::Before => return Err(unavailable()),
            FaultMoment::LostBefore => drop(transaction),
            FaultMoment::After | FaultMoment::LostAfter => transaction.commit()?,
        }
        self.is_unreachable.store(is_unreachable, Relaxed);
        Err(unknown())
    }
}

impl Backend for FaultyBackend {
    fn begin<'a>(&'a self, scope: Scope<'a>) -> Result<Box<dyn Transaction + 'a>, CheckpointError> {
        let inner = self.call(|| self.inner.begin(scope))?;
        Ok(Box::new(FaultyTransaction { inner, backend: self }))
    }

    fn resolve(&self, claim: &Claim) -> Result<CommitOutcome, CheckpointError> {
        let is_unreachable = self.is_unreachable.swap(false, Relaxed);
        if is_unreachable && self.plan.is_active() {
            Err(unknown())
        } else {
            self.inner.resolve(claim)
        }
    }
}

impl Statements for FaultyTransaction<'_> {
    fn query(
        &self,
        sql: &'static str,
        values: &[SqlValue<'_>],
        each: &mut RowVisitor<'_>,
    ) -> Result<(), CheckpointError> {
        self.backend.call(|| self.inner.query(sql, values, each))
    }

    fn execute(&self, sql: &'static str, values: &[SqlValue<'_>]) -> Result<u64, CheckpointError> {
        self.backend.call(|| self.inner.execute(sql, values))
    }
}

impl Transaction for FaultyTransaction<'_> {
    fn commit(self: Box<Self>) -> Result<(), CheckpointError> {
        let Self { inner, backend } = *self;
        backend.commit(inner)
    }
}

fn unavailable() -> CheckpointError {
    let cause = DriverError::new(io::Error::other("the connection was lost"));
    CheckpointError::Storage(StorageFault::Unavailable, cause)
}

fn unknown() -> CheckpointError {
    CheckpointError::Indeterminate(ShardId::ONLY)
}

/// A fault at each call of one claimed write: whether the write fails, and whether it has happened.
#[test]
fn each_call_fails_as_planned() {
    const BEGIN: u64 = 0;
    const STATEMENT: u64 = 1;
    const COMMIT: u64 = 2;
    for (call, moment, fails, is_stored) in [
        (BEGIN, FaultMoment::Before, true, false),
        (BEGIN, FaultMoment::After, true, false),
        (STATEMENT, FaultMoment::Before, true, false),
        (STATEMENT, FaultMoment::After, true, false),
        (COMMIT, FaultMoment::Before, true, false),
        // The outcome is determined at once.
        (COMMIT, FaultMoment::After, false, true),
        (COMMIT, FaultMoment::LostBefore, true, false),
        (COMMIT, FaultMoment::LostAfter, true, true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let plan = FaultPlan::default();
        let checkpoint = Checkpoint::in_memory_with_faults(directory.path(), plan.clone()).unwrap();
        plan.set(Some((call, moment)));
        plan.begin();
        let written = checkpoint.claimed(|store| meta::set(store, "a", "1"));
        assert_eq!((written.is_err(), plan.has_failed()), (fails, true), "{call} {moment:?}");

        let is_counted = (plan.calls(), plan.commits().len());
        let expected = if call == COMMIT { (COMMIT + 1, 1) } else { (call + 1, 0) };
        assert_eq!(is_counted, expected, "{call} {moment:?}");
        plan.end();
        let stored = checkpoint.reading(|store| meta::value(store, "a")).unwrap();
        assert_eq!(stored.is_some(), is_stored, "{call} {moment:?}");
        checkpoint.claimed(|store| meta::set(store, "b", "1")).unwrap();
    }
}

#[test]
fn work_without_faults_is_not_counted() {
    let directory = tempfile::tempdir().unwrap();
    let plan = FaultPlan::default();
    let checkpoint = Checkpoint::in_memory_with_faults(directory.path(), plan.clone()).unwrap();
    plan.set(Some((0, FaultMoment::Before)));
    plan.begin();

    let read = || checkpoint.reading(|store| meta::value(store, "a"));
    assert!(plan.without_faults(read).is_ok());
    assert_eq!((plan.calls(), plan.has_failed()), (0, false));
    assert!(read().is_err());
    assert!(read().is_ok(), "only one call fails");
}
