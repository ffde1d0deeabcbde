//! A database in memory that fails once, at a call that a test chooses: at the beginning of a
//! transaction, at a statement, or at a commit. Another process can also write to it at such a
//! call. Nothing else about it differs from SQLite. Start reading at [`FaultPlan`].

use std::{
    fmt, io,
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
#[derive(Clone, Default)]
pub(crate) struct FaultPlan(Arc<Mutex<PlannedFault>>);

/// When a call fails, relative to its effect. The outcome of a commit can also be unknown, even
/// after the first attempt to determine it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultMoment {
    /// The call has no effect.
    Before,
    /// The call has its effect. Its transaction is rolled back nevertheless, unless it is a commit,
    /// whose outcome is then determined if it was claimed.
    After,
    /// A commit has no effect, and its outcome is unknown at first.
    LostBefore,
    /// A commit has its effect, and its outcome is unknown at first.
    LostAfter,
    /// Another process writes for the shard before a claimed transaction begins: the claim is lost.
    TakenOver,
    /// A commit has its effect, and another process writes for the shard before its outcome is
    /// determined, so it stays unknown.
    LostAndTakenOver,
}

/// What a call does, which determines how it can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallKind {
    /// A query, or the beginning of a transaction that reads. It changes nothing, so it fails in
    /// one way.
    Read,
    /// A statement that writes, or the beginning of another transaction that is not claimed.
    Write,
    /// The beginning of a claimed transaction.
    Claim,
    /// The commit of a transaction that is not claimed. Its unknown outcome is not determined.
    Commit,
    /// The commit of a claimed transaction.
    ClaimedCommit,
}

#[derive(Default)]
struct PlannedFault {
    /// Whether calls are counted, and can fail.
    is_active: bool,
    /// The number of the call that fails, counted from 0.
    fault: Option<(usize, FaultMoment)>,
    /// When the next commit fails; `None` if only its number decides.
    commit_fault: Option<FaultMoment>,
    /// The calls since the plan has begun.
    calls: Vec<CallKind>,
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
    /// What its commit is.
    commit: CallKind,
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
    pub(crate) fn set(&self, fault: Option<(usize, FaultMoment)>) {
        *self.lock() = PlannedFault { fault, ..PlannedFault::default() };
    }

    /// Plans a fault at the first commit, whose number is not known. It takes effect with the next
    /// [`Self::begin`].
    pub(crate) fn set_at_commit(&self, moment: FaultMoment) {
        *self.lock() = PlannedFault { commit_fault: Some(moment), ..PlannedFault::default() };
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

    /// Every way in which each of the counted calls can fail.
    pub(crate) fn possible_faults(&self) -> Vec<(usize, FaultMoment)> {
        let planned = self.lock();
        let calls = planned.calls.iter().enumerate();
        calls
            .flat_map(|(call, kind)| kind.moments().iter().map(move |moment| (call, *moment)))
            .collect()
    }

    /// Whether the planned fault has occurred.
    pub(crate) fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    /// Whether another process has written for the shard, so that the process that was running then
    /// has lost its claim.
    pub(crate) fn is_taken_over(&self) -> bool {
        let planned = self.lock();
        let moment = planned.fault.map(|(_, moment)| moment);
        planned.has_failed
            && matches!(moment, Some(FaultMoment::TakenOver | FaultMoment::LostAndTakenOver))
    }

    /// Counts a call. Returns when it fails; `None` if it does not.
    fn count(&self, kind: CallKind) -> Option<FaultMoment> {
        let mut planned = self.lock();
        if !planned.is_active {
            return None;
        }
        let call = planned.calls.len();
        planned.calls.push(kind);
        if matches!(kind, CallKind::Commit | CallKind::ClaimedCommit)
            && let Some(moment) = planned.commit_fault.take()
        {
            planned.fault = Some((call, moment));
        }
        let (_, moment) = planned.fault.filter(|(failing, _)| *failing == call)?;
        planned.has_failed = true;
        Some(moment)
    }

    fn is_active(&self) -> bool {
        self.lock().is_active
    }

    fn lock(&self) -> MutexGuard<'_, PlannedFault> {
        self.0.lock().unwrap()
    }
}

impl fmt::Debug for FaultPlan {
    /// Prints the fault without the calls, of which there are hundreds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let planned = self.lock();
        let calls = planned.calls.len();
        write!(f, "fault {:?} after {calls} calls, failed: {}", planned.fault, planned.has_failed)
    }
}

impl CallKind {
    /// When a call of this kind can fail.
    const fn moments(self) -> &'static [FaultMoment] {
        use FaultMoment::{After, Before, LostAfter, LostAndTakenOver, LostBefore, TakenOver};

        match self {
            Self::Read => &[After],
            Self::Write => &[Before, After],
            Self::Claim => &[Before, After, TakenOver],
            Self::Commit => &[Before, After, LostBefore],
            Self::ClaimedCommit => &[Before, After, LostBefore, LostAfter, LostAndTakenOver],
        }
    }
}

impl FaultyBackend {
    /// Runs a call that is not a commit, and makes it fail if that is planned.
    fn call<T>(
        &self,
        kind: CallKind,
        work: impl FnOnce() -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        match self.plan.count(kind) {
            None => work(),
            Some(FaultMoment::TakenOver) => {
                self.take_over()?;
                work()
            }
            Some(FaultMoment::After) => {
                drop(work()?);
                Err(unavailable())
            }
            Some(_) => Err(unavailable()),
        }
    }

    fn commit(
        &self,
        kind: CallKind,
        transaction: Box<dyn Transaction + '_>,
    ) -> Result<(), CheckpointError> {
        let Some(moment) = self.plan.count(kind) else { return transaction.commit() };
        match moment {
            FaultMoment::Before | FaultMoment::TakenOver => return Err(unavailable()),
            FaultMoment::LostBefore => drop(transaction),
            FaultMoment::After | FaultMoment::LostAfter | FaultMoment::LostAndTakenOver => {
                transaction.commit()?;
            }
        }

        if moment == FaultMoment::LostAndTakenOver {
            self.take_over()?;
        }
        let is_unreachable = matches!(moment, FaultMoment::LostBefore | FaultMoment::LostAfter);
        let is_determined = kind == CallKind::ClaimedCommit;
        self.is_unreachable.store(is_unreachable && is_determined, Relaxed);
        Err(unknown())
    }

    /// Writes for the shard, as another process with the same claim does.
    fn take_over(&self) -> Result<(), CheckpointError> {
        let transaction = self.inner.begin(Scope::Administrative)?;
        transaction.execute("UPDATE shard SET writes = writes + 1", &[])?;
        transaction.commit()
    }
}

impl Backend for FaultyBackend {
    fn begin<'a>(&'a self, scope: Scope<'a>) -> Result<Box<dyn Transaction + 'a>, CheckpointError> {
        let (begin, commit) = match scope {
            Scope::Read => (CallKind::Read, CallKind::Commit),
            Scope::Administrative | Scope::Unsynced => (CallKind::Write, CallKind::Commit),
            Scope::Claimed(_) => (CallKind::Claim, CallKind::ClaimedCommit),
        };
        let inner = self.call(begin, || self.inner.begin(scope))?;
        Ok(Box::new(FaultyTransaction { inner, backend: self, commit }))
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
        self.backend.call(CallKind::Read, || self.inner.query(sql, values, each))
    }

    fn execute(&self, sql: &'static str, values: &[SqlValue<'_>]) -> Result<u64, CheckpointError> {
        self.backend.call(CallKind::Write, || self.inner.execute(sql, values))
    }
}

impl Transaction for FaultyTransaction<'_> {
    fn commit(self: Box<Self>) -> Result<(), CheckpointError> {
        let Self { inner, backend, commit } = *self;
        backend.commit(commit, inner)
    }
}

fn unavailable() -> CheckpointError {
    let cause = DriverError::new(io::Error::other("the connection was lost"));
    CheckpointError::Storage(StorageFault::Unavailable, cause)
}

fn unknown() -> CheckpointError {
    CheckpointError::Indeterminate(ShardId::ONLY)
}

/// The calls of one claimed write.
const BEGIN: usize = 0;
const STATEMENT: usize = 1;
const COMMIT: usize = 2;

/// A fault at each call of one claimed write: whether the write fails, and whether it has happened.
#[test]
fn each_call_fails_as_planned() {
    for (call, moment, fails, is_stored) in [
        (BEGIN, FaultMoment::Before, true, false),
        (BEGIN, FaultMoment::After, true, false),
        (BEGIN, FaultMoment::TakenOver, true, false),
        (STATEMENT, FaultMoment::Before, true, false),
        (STATEMENT, FaultMoment::After, true, false),
        (COMMIT, FaultMoment::Before, true, false),
        // The outcome is determined at once.
        (COMMIT, FaultMoment::After, false, true),
        (COMMIT, FaultMoment::LostBefore, true, false),
        (COMMIT, FaultMoment::LostAfter, true, true),
        (COMMIT, FaultMoment::LostAndTakenOver, true, true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let plan = FaultPlan::default();
        let checkpoint = Checkpoint::in_memory_with_faults(directory.path(), plan.clone()).unwrap();
        plan.set(Some((call, moment)));
        plan.begin();
        let written = checkpoint.claimed(|store| meta::set(store, "a", "1"));
        assert_eq!((written.is_err(), plan.has_failed()), (fails, true), "{call} {moment:?}");
        plan.end();

        let stored = checkpoint.reading(|store| meta::value(store, "a")).unwrap();
        assert_eq!(stored.is_some(), is_stored, "{call} {moment:?}");
        let next = checkpoint.claimed(|store| meta::set(store, "b", "1"));
        assert_eq!(next.is_err(), plan.is_taken_over(), "{call} {moment:?}: {next:?}");
        let restarted = checkpoint.restarted().unwrap();
        restarted.claimed(|store| meta::set(store, "c", "1")).unwrap();
    }
}

#[test]
fn each_kind_of_call_has_its_faults() {
    let directory = tempfile::tempdir().unwrap();
    let plan = FaultPlan::default();
    let checkpoint = Checkpoint::in_memory_with_faults(directory.path(), plan.clone()).unwrap();
    let faults = |work: &dyn Fn()| {
        plan.set(None);
        plan.begin();
        work();
        let mut faults = [0; 3];
        for (call, _) in plan.possible_faults() {
            faults[call] += 1;
        }
        faults
    };

    let set = |store: &dyn Statements| meta::set(store, "a", "1");
    assert_eq!(faults(&|| checkpoint.claimed(set).unwrap()), [3, 2, 5]);
    assert_eq!(faults(&|| checkpoint.administrative(set).unwrap()), [2, 2, 3]);
    let read = || checkpoint.reading(|store| meta::value(store, "a")).map(drop).unwrap();
    assert_eq!(faults(&read), [1, 1, 0]);
}

#[test]
fn the_first_commit_fails_as_planned() {
    let directory = tempfile::tempdir().unwrap();
    let plan = FaultPlan::default();
    let checkpoint = Checkpoint::in_memory_with_faults(directory.path(), plan.clone()).unwrap();
    plan.set_at_commit(FaultMoment::LostAfter);
    plan.begin();

    let write = || checkpoint.administrative(|store| meta::set(store, "a", "1"));
    checkpoint.reading(|store| meta::value(store, "a")).unwrap();
    assert!(!plan.has_failed());
    assert!(matches!(write(), Err(CheckpointError::Indeterminate(_))));
    assert!(checkpoint.reading(|store| meta::value(store, "a")).unwrap().is_some());
    assert!(write().is_ok(), "only one commit fails");
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
    assert_eq!((plan.possible_faults().len(), plan.has_failed()), (0, false));
    assert!(read().is_err());
    assert!(read().is_ok(), "only one call fails");
}
