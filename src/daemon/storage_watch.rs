//! Watches the storage of the checkpoint while the daemon is running.
//!
//! A write that fails is noted by the loop that tried it, and this task tests every few seconds
//! whether writing works again: then, polls that failed because of it are repeated immediately. A
//! small write at regular intervals also finds a fault while no loop has anything to write, and
//! shows to `status` that the daemon can write. If the database is removed or replaced, or if
//! another process writes to it, the daemon ends, because nothing that it writes would be kept. The
//! task also shortens the wait for the next
//! tick if a poll that failed because of this host, or a comparison of its clock, is due. Start
//! reading at [`watch_storage`]; see decisions 0076 and 0079.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{self, Instant},
};

use super::{Engine, StoreExecutor};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    clock,
    conditions::StorageFacts,
    error::Explanation,
    model::{UnixMillis, short_duration},
};

/// The interval at which the files are compared with those at their paths, and at which a fault is
/// tested again.
const INTERVAL: Duration = Duration::from_secs(10);
/// The interval of the write test without a fault.
const WRITE_INTERVAL: Duration = Duration::from_secs(30);
/// A daemon that has written nothing for this time cannot write.
pub(super) const MAX_SILENCE: Duration = Duration::from_mins(5);

/// The fault of the storage that has not passed, if there is one.
#[derive(Debug, Default)]
pub(super) struct StorageHealth(Mutex<Option<StorageFacts>>);

impl StorageHealth {
    /// Notes that the checkpoint could not be read or written. Does nothing for an error that is
    /// neither a fault of the storage nor a loss, which the next test of the storage confirms.
    pub(super) fn note_error(&self, error: &CheckpointError) {
        let is_lost = error.ends_process();
        if error.storage_fault().is_none() && !is_lost {
            return;
        }
        let reason = Explanation::of(error);
        if self.begin(reason.clone(), clock::now().into()) && !is_lost {
            tracing::error!(
                error = reason.message,
                hint = reason.hint,
                "the checkpoint cannot be used; polls and deliveries are repeated until it can"
            );
        }
    }

    /// Notes a fault. Its time is that of the first failure since the last success. Returns whether
    /// there was none before.
    fn begin(&self, reason: Explanation, now: UnixMillis) -> bool {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = trouble.as_ref().map(|earlier| earlier.since);
        *trouble = Some(StorageFacts { reason, since: since.unwrap_or(now) });
        since.is_none()
    }

    /// Notes that writing works. Returns the fault that has passed.
    fn end(&self) -> Option<StorageFacts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The current fault.
    pub(super) fn current(&self) -> Option<StorageFacts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fails if the checkpoint cannot be written while the storage is known to fail: a response of
    /// Microsoft that cannot be stored must not be requested repeatedly.
    pub(super) fn require(&self, store: &StoreExecutor) -> Result<(), CheckpointError> {
        match self.current() {
            None => Ok(()),
            Some(_) => store.run(Checkpoint::confirm_writable),
        }
    }
}

/// Watches the storage of the running engine. Ends only when the database or the claim of this
/// process is lost, which it sends to `lost`.
pub(super) async fn watch_storage(
    current: watch::Receiver<Arc<Engine>>,
    tick: Arc<Notify>,
    lost: mpsc::Sender<CheckpointError>,
) {
    let mut interval = time::interval(INTERVAL);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut last_write: Option<Instant> = None;

    loop {
        interval.tick().await;
        let engine = current.borrow().clone();
        let is_failing = engine.meters().storage.current().is_some();
        let is_write_due = last_write.is_none_or(|last| last.elapsed() >= WRITE_INTERVAL);

        let tested = engine.store().run(|checkpoint| {
            checkpoint.check_in_place()?;
            if is_failing || is_write_due {
                checkpoint.record_alive(clock::now().into())?;
            }
            // The database may be the only file that can be written: its files are open already.
            if is_failing {
                checkpoint.write_cursor_file()?;
            }
            Ok::<_, CheckpointError>(())
        });

        match tested {
            Ok(()) if is_failing || is_write_due => {
                last_write = Some(Instant::now());
                end_fault(&engine, &tick);
            }
            Ok(()) => {}
            Err(error) if error.ends_process() => {
                // Fails only if the daemon is stopping.
                let _ = lost.send(error).await;
                return;
            }
            Err(error) => engine.meters().storage.note_error(&error),
        }

        // The next tick may be a minute away.
        let is_retry_due = engine.tenants().iter().any(|state| state.is_retry_due());
        let is_comparison_due = engine.meters().clock.is_comparison_due() == Some(true);
        if is_retry_due || is_comparison_due {
            tick.notify_one();
        }
    }
}

/// Notes the end of a fault, and makes the next tick repeat the polls that failed because of it.
fn end_fault(engine: &Engine, tick: &Notify) {
    let Some(StorageFacts { since, .. }) = engine.meters().storage.end() else { return };
    let outage = UnixMillis::from(clock::now()).saturating_duration_since(since);
    tracing::info!(outage = short_duration(outage), "the checkpoint can be used again");

    for state in engine.tenants() {
        state.end_local_wait();
    }
    tick.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{DatabaseLoss, ShardId};

    /// Regression: a lost claim and an unknown outcome of a commit were no faults, so a daemon that
    /// could not store anything was `Healthy`.
    #[test]
    fn errors_that_prevent_every_write_are_faults() {
        for (error, is_fault) in [
            (CheckpointError::ClaimLost(ShardId::ONLY), true),
            (CheckpointError::Indeterminate(ShardId::ONLY), true),
            (CheckpointError::DatabaseLost("/x".into(), DatabaseLoss::Gone), true),
            (CheckpointError::Damaged("x".to_owned()), false),
            (CheckpointError::Busy, false),
        ] {
            let health = StorageHealth::default();
            health.note_error(&error);
            let found = health.current().map(|facts| facts.reason);
            assert_eq!(found, is_fault.then(|| Explanation::of(&error)), "{error:?}");
        }
    }

    #[test]
    fn a_fault_keeps_its_beginning_until_it_ends() {
        let (health, time) = (StorageHealth::default(), UnixMillis::new);
        assert_eq!(health.current(), None);
        assert!(health.begin("the disk is full".into(), time(1_000)));
        assert!(!health.begin("the disk reported an error".into(), time(2_000)));

        let facts =
            StorageFacts { reason: "the disk reported an error".into(), since: time(1_000) };
        assert_eq!(health.current(), Some(facts.clone()));
        assert_eq!(health.end(), Some(facts));
        assert_eq!((health.end(), health.current()), (None, None));
    }
}
