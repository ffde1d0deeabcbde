//! Runs the work of the checkpoint in transactions.
//!
//! A closure must never call a public method of [`Checkpoint`], which would wait for the
//! transaction of its caller. Locks are taken in this order: the turn of the claim, the connection,
//! the names of controls. Start reading at [`Checkpoint::claimed`]. See decision 0089.

use super::{
    Checkpoint, CheckpointError, StorageFault,
    backend::{CommitOutcome, DriverError, Scope, Statements},
};

impl Checkpoint {
    /// Runs `work` on one consistent state of the checkpoint.
    pub(super) fn reading<T>(
        &self,
        work: impl FnOnce(&dyn Statements) -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        let transaction = self.backend.begin(Scope::Read)?;
        work(&*transaction)
    }

    /// Runs `work` as the owner of the tenants, and commits what it has written. After
    /// [`CheckpointError::Indeterminate`] it may have happened; after any other error it has not.
    pub(super) fn claimed<T>(
        &self,
        work: impl FnOnce(&dyn Statements) -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        let _turn = self.claim.take_turn();
        if self.claim.is_uncertain() {
            self.backend.resolve(&self.claim)?;
            self.claim.end_uncertainty();
        }

        let transaction = self.backend.begin(Scope::Claimed(&self.claim))?;
        let value = work(&*transaction)?;
        match transaction.commit() {
            Ok(()) => {
                self.claim.count_write();
                Ok(value)
            }
            Err(CheckpointError::Indeterminate(_)) => self.resolved(value),
            Err(error) => Err(error),
        }
    }

    /// The result of a transaction whose commit had an unknown outcome.
    fn resolved<T>(&self, value: T) -> Result<T, CheckpointError> {
        self.claim.begin_uncertainty();
        let outcome = self
            .backend
            .resolve(&self.claim)
            .map_err(|_| CheckpointError::Indeterminate(self.claim.shard))?;
        self.claim.end_uncertainty();

        match outcome {
            CommitOutcome::Applied => Ok(value),
            CommitOutcome::NotApplied => {
                let cause = std::io::Error::other("the commit was not applied");
                let cause = DriverError::new(cause);
                Err(CheckpointError::Storage(StorageFault::Unavailable, cause))
            }
        }
    }

    /// Runs `work` as a change by an operator, or of all shards, and commits what it has written.
    pub(super) fn administrative<T>(
        &self,
        work: impl FnOnce(&dyn Statements) -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        self.committed(Scope::Administrative, work)
    }

    /// Runs `work`, and commits what it has written without a wait for the disk. A power failure
    /// can undo it until the next commit of another kind.
    pub(super) fn unsynced<T>(
        &self,
        work: impl FnOnce(&dyn Statements) -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        self.committed(Scope::Unsynced, work)
    }

    fn committed<T>(
        &self,
        scope: Scope<'_>,
        work: impl FnOnce(&dyn Statements) -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        let transaction = self.backend.begin(scope)?;
        let value = work(&*transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        path::Path,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::{
        checkpoint::{
            ShardId,
            backend::{Backend, Claim, RowVisitor, SqlValue, Transaction},
            meta,
            sqlite::SqliteBackend,
        },
        error::Hint,
    };

    /// A database whose connection is lost during the next commits.
    #[derive(Debug)]
    struct UncertainBackend {
        inner: Arc<SqliteBackend>,
        /// Whether each of the next commits happens. Later commits have a known outcome.
        commits: Mutex<VecDeque<CommitOutcome>>,
        /// How often the outcome cannot be determined, because there is no new connection.
        failing_resolutions: Mutex<u32>,
    }

    struct UncertainTransaction<'a> {
        inner: Box<dyn Transaction + 'a>,
        commits: &'a Mutex<VecDeque<CommitOutcome>>,
    }

    impl Backend for UncertainBackend {
        fn begin<'a>(
            &'a self,
            scope: Scope<'a>,
        ) -> Result<Box<dyn Transaction + 'a>, CheckpointError> {
            let inner = self.inner.begin(scope)?;
            Ok(Box::new(UncertainTransaction { inner, commits: &self.commits }))
        }

        fn resolve(&self, claim: &Claim) -> Result<CommitOutcome, CheckpointError> {
            let mut left = self.failing_resolutions.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return Err(CheckpointError::Indeterminate(claim.shard));
            }
            self.inner.resolve(claim)
        }
    }

    impl Statements for UncertainTransaction<'_> {
        fn query(
            &self,
            sql: &'static str,
            values: &[SqlValue<'_>],
            each: &mut RowVisitor<'_>,
        ) -> Result<(), CheckpointError> {
            self.inner.query(sql, values, each)
        }

        fn execute(
            &self,
            sql: &'static str,
            values: &[SqlValue<'_>],
        ) -> Result<u64, CheckpointError> {
            self.inner.execute(sql, values)
        }
    }

    impl Transaction for UncertainTransaction<'_> {
        fn commit(self: Box<Self>) -> Result<(), CheckpointError> {
            let Some(outcome) = self.commits.lock().unwrap().pop_front() else {
                return self.inner.commit();
            };
            if outcome == CommitOutcome::Applied {
                self.inner.commit()?;
            }
            Err(CheckpointError::Indeterminate(ShardId::ONLY))
        }
    }

    /// A checkpoint that loses its connection during each of these commits, and cannot determine
    /// the outcome so often.
    fn uncertain(
        directory: &Path,
        commits: &[CommitOutcome],
        failing_resolutions: u32,
    ) -> Checkpoint {
        let commits = Mutex::new(commits.iter().copied().collect());
        let failing_resolutions = Mutex::new(failing_resolutions);
        let wrap = |inner| -> Arc<dyn Backend> {
            Arc::new(UncertainBackend { inner, commits, failing_resolutions })
        };
        Checkpoint::with_backend(directory, wrap).unwrap()
    }

    fn is_stored(checkpoint: &Checkpoint, key: &str) -> bool {
        checkpoint.reading(|store| meta::value(store, key)).unwrap().is_some()
    }

    fn failed() -> CheckpointError {
        CheckpointError::Damaged("interrupted".to_owned())
    }

    #[test]
    fn only_complete_work_is_committed() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
        let is_stored = |key: &str| is_stored(&checkpoint, key);

        let value = checkpoint.claimed(|store| meta::set(store, "a", "1").map(|()| 7));
        assert_eq!((value.unwrap(), is_stored("a")), (7, true));
        checkpoint.administrative(|store| meta::set(store, "b", "1")).unwrap();
        checkpoint.unsynced(|store| meta::set(store, "c", "1")).unwrap();
        assert!(is_stored("b") && is_stored("c"));

        let fail = |store: &dyn Statements| meta::set(store, "d", "1").and(Err::<(), _>(failed()));
        for result in
            [checkpoint.claimed(fail), checkpoint.administrative(fail), checkpoint.unsynced(fail)]
        {
            assert!(matches!(result, Err(CheckpointError::Damaged(_))), "{result:?}");
        }
        checkpoint.reading(|store| meta::set(store, "d", "1")).unwrap();
        assert!(!is_stored("d"));

        let restarted = checkpoint.restarted().unwrap();
        let value = restarted.reading(|store| meta::value(store, "a")).unwrap();
        assert_eq!((restarted.id(), value.as_deref()), (checkpoint.id(), Some("1")));
    }

    #[test]
    fn an_unknown_outcome_is_determined() {
        let directory = tempfile::tempdir().unwrap();
        let commits = [CommitOutcome::Applied, CommitOutcome::NotApplied, CommitOutcome::Applied];
        let checkpoint = uncertain(directory.path(), &commits, 0);
        let write = |key| checkpoint.claimed(|store| meta::set(store, key, "1").map(|()| 7));

        assert_eq!(write("a").unwrap(), 7);
        let error = write("b").unwrap_err();
        assert_eq!(error.storage_fault(), Some(StorageFault::Unavailable));
        assert!(error.is_transient() && !error.is_unusable(), "{error:?}");
        assert!(error.hint().is_some(), "{error:?}");
        assert_eq!((write("c").unwrap(), write("d").unwrap()), (7, 7));

        let stored = ["a", "b", "c", "d"].map(|key| is_stored(&checkpoint, key));
        assert_eq!(stored, [true, false, true, true]);
        assert!(!checkpoint.claim.is_uncertain());
        assert_eq!(checkpoint.claim.writes(), 3);
    }

    #[test]
    fn an_unresolved_outcome_is_determined_later() {
        for outcome in [CommitOutcome::Applied, CommitOutcome::NotApplied] {
            let directory = tempfile::tempdir().unwrap();
            let checkpoint = uncertain(directory.path(), &[outcome], 2);

            let error = checkpoint.claimed(|store| meta::set(store, "a", "1")).unwrap_err();
            assert!(matches!(error, CheckpointError::Indeterminate(_)), "{error:?}");
            assert_eq!(error.storage_fault(), Some(StorageFault::Unavailable));
            assert!(!error.is_transient() && !error.is_unusable(), "{error:?}");
            assert!(error.hint().is_some(), "{error:?}");

            // The next work does not begin before the outcome is known.
            let unreachable = || -> Result<(), CheckpointError> { panic!("the work has begun") };
            assert!(checkpoint.claimed(|_| unreachable()).is_err());
            assert!(checkpoint.claim.is_uncertain());
            assert_eq!(checkpoint.claimed(|_| Ok(7)).unwrap(), 7);
            assert!(!checkpoint.claim.is_uncertain());
            assert_eq!(is_stored(&checkpoint, "a"), outcome == CommitOutcome::Applied);
        }
    }
}
