//! Compares the clock of this host with Microsoft's, from the responses of polls. A clock that was
//! wrong is compared every few minutes until it is right, because the next poll may be a day away.
//!
//! What lasts is decided only after a response has confirmed the clock in this process: the first
//! days of new cursors, the deletion of removed sinks, and the pruning of bodies. Start reading at
//! [`HostClockWatch::compare`]. See decision 0079.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use super::{
    LogSignal, Meters, SinkConfiguration, StoreExecutor, TenantState, Tenants,
    apply::{StartDayCheck, StartDays},
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    clock,
    error::{Explanation, chain},
    model::{CLOCK_HINT, ClockAccuracy, ClockOffset, Day},
};

/// The interval at which a wrong clock is compared without a poll.
const INTERVAL: Duration = Duration::from_mins(2);

/// Compares the clock under one configuration, and confirms what depends on it. It never sets a
/// clock: what it knows survives a reload in [`HostClock`].
#[derive(Debug)]
pub(super) struct HostClockWatch {
    store: StoreExecutor,
    meters: Arc<Meters>,
    tenants: Arc<Tenants>,
    sinks: Arc<SinkConfiguration>,
    log: Arc<LogSignal>,
}

/// What is known about the clock of this host since the start of the process.
#[derive(Debug, Default)]
pub(super) struct HostClock {
    /// From the last response, and when it arrived; `None` before the first one.
    last: Mutex<Option<(ClockAccuracy, Instant)>>,
    /// Whether the first days of all cursors have been compared with a confirmed clock.
    has_checked_cursors: AtomicBool,
}

impl HostClock {
    /// Whether the last response has shown that the day of this host is right.
    pub(super) fn is_confirmed(&self) -> bool {
        matches!(self.last(), Some((ClockAccuracy::Accurate | ClockAccuracy::Inaccurate, _)))
    }

    /// Whether the clock must be compared without a poll; `None` if that depends on what an earlier
    /// process has found.
    fn is_comparison_due(&self) -> Option<bool> {
        self.last()
            .map(|(accuracy, at)| accuracy != ClockAccuracy::Accurate && at.elapsed() >= INTERVAL)
    }

    fn last(&self) -> Option<(ClockAccuracy, Instant)> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, accuracy: ClockAccuracy) {
        let last = Some((accuracy, Instant::now()));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }
}

impl HostClockWatch {
    pub(super) fn new(
        store: StoreExecutor,
        meters: Arc<Meters>,
        tenants: Arc<Tenants>,
        sinks: Arc<SinkConfiguration>,
        log: Arc<LogSignal>,
    ) -> Self {
        Self { store, meters, tenants, sinks, log }
    }

    /// Compares the clock of this host with the responses of a poll: reports a difference, and
    /// confirms what depends on the clock if it is right. A failure of the checkpoint is only
    /// logged: the next poll compares again. Returns the difference if it is inaccurate.
    pub(super) fn compare(&self, state: &TenantState) -> Option<Explanation> {
        let offset = state.graph.take_clock_offset()?;
        // The poll fails with the same message if the clock is unusable.
        let difference = (offset.accuracy() == ClockAccuracy::Inaccurate).then(|| {
            let message = format!("the clock of this host is {offset}");
            tracing::warn!(tenant = state.plan.name, hint = CLOCK_HINT, "{message}");
            Explanation::new(message).with_hint(CLOCK_HINT)
        });

        self.use_offset(state, offset);
        difference
    }

    /// Starts [`Self::compare_wrong_clock`] as the only task of `running`, unless it is running.
    pub(super) fn start_comparison(self: &Arc<Self>, running: &mut JoinSet<()>) {
        while running.try_join_next().is_some() {}
        if running.is_empty() {
            let watch = Arc::clone(self);
            running.spawn(async move { watch.compare_wrong_clock().await });
        }
    }

    /// Compares a clock that was wrong with a request that requires no token, unless it was
    /// compared a short time ago. If the request fails, the next call tries again.
    async fn compare_wrong_clock(&self) {
        let Some(state) = self.tenants.iter().next() else { return };
        let is_due = self.meters.clock.is_comparison_due().unwrap_or_else(|| {
            // An error is also found, and reported, by the other users of the checkpoint.
            self.store.run(Checkpoint::clock_difference).is_ok_and(|found| found.is_some())
        });
        if !is_due {
            return;
        }

        match Box::pin(state.graph.measure_clock()).await {
            Ok(Some(offset)) => {
                self.use_offset(state, offset);
                if offset.accuracy() == ClockAccuracy::Accurate {
                    tracing::info!("the clock of this host is accurate again");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(error = chain(&error), "cannot compare the clock"),
        }
    }

    /// Uses a new offset. A failure of the checkpoint is only logged.
    fn use_offset(&self, state: &TenantState, offset: ClockOffset) {
        self.meters.clock.set(offset.accuracy());
        if let Err(error) = self.store.run(|checkpoint| self.apply(checkpoint, offset)) {
            let error = Explanation::of(&error);
            tracing::warn!(
                tenant = state.plan.name,
                error = error.message,
                hint = error.hint,
                "cannot store the state of the clock in the checkpoint"
            );
        }
    }

    /// Stores an offset, and confirms the first days of cursors if the clock is right.
    fn apply(&self, checkpoint: &Checkpoint, offset: ClockOffset) -> Result<(), CheckpointError> {
        let now = clock::now();
        checkpoint.record_clock(offset, offset.correct(now).into())?;
        let clock = &self.meters.clock;
        if !clock.is_confirmed() {
            return Ok(());
        }

        let has_checked_all = clock.has_checked_cursors.load(Relaxed);
        let check = if has_checked_all { StartDayCheck::Provisional } else { StartDayCheck::All };
        let days = self.sinks.confirm_start_days(check, Day::of(now))?;
        clock.has_checked_cursors.store(true, Relaxed);
        if days == StartDays::Corrected {
            self.log.notify_all();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_usable_clock_is_confirmed() {
        let clock = HostClock::default();
        assert!(!clock.is_confirmed(), "nothing was compared");
        for (accuracy, is_confirmed) in [
            (ClockAccuracy::Accurate, true),
            (ClockAccuracy::Unusable, false),
            (ClockAccuracy::Inaccurate, true),
        ] {
            clock.set(accuracy);
            assert_eq!(clock.is_confirmed(), is_confirmed, "{accuracy:?}");
        }
    }

    /// Regression: a clock that was set right was reported as wrong until the next poll.
    #[tokio::test(start_paused = true)]
    async fn a_wrong_clock_is_compared_again() {
        let clock = HostClock::default();
        assert_eq!(clock.is_comparison_due(), None);
        for (accuracy, is_repeated) in [
            (ClockAccuracy::Inaccurate, true),
            (ClockAccuracy::Unusable, true),
            (ClockAccuracy::Accurate, false),
        ] {
            clock.set(accuracy);
            assert_eq!(clock.is_comparison_due(), Some(false), "{accuracy:?}");
            tokio::time::advance(INTERVAL).await;
            assert_eq!(clock.is_comparison_due(), Some(is_repeated), "{accuracy:?}");
        }
    }
}
