//! Compares the clock of this host with Microsoft's, from the responses of polls. A clock that was
//! wrong is compared every half minute until it is right, because the next poll may be a day away.
//! As soon as the clock can be used, the polls that it has prevented are due.
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
    model::{CLOCK_HINT, ClockAccuracy, ClockDifference, ClockOffset, Day, UnixMillis},
};

/// The interval at which a wrong clock is compared without a poll. Polls that wait for the clock
/// must be due within a minute after it is right.
const INTERVAL: Duration = Duration::from_secs(30);

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
    /// From the last response; `None` before the first one.
    last: Mutex<Option<Comparison>>,
    /// When the last comparison without a poll began, which may have failed.
    last_attempt: Mutex<Option<Instant>>,
    /// Whether the first days of all cursors have been compared with a confirmed clock.
    has_checked_cursors: AtomicBool,
}

/// The clock of this host, compared with a response.
#[derive(Clone, Copy, Debug)]
struct Comparison {
    difference: ClockDifference,
    /// When the response arrived.
    at: Instant,
}

impl HostClock {
    /// Whether the last response has shown that the day of this host is right.
    pub(super) fn is_confirmed(&self) -> bool {
        self.accuracy().is_some_and(|accuracy| accuracy != ClockAccuracy::Unusable)
    }

    /// The difference in the last response, which may have no effect. A wrong clock has been wrong
    /// since the first of the responses that have shown it.
    pub(super) fn difference(&self) -> Option<ClockDifference> {
        self.last().map(|last| last.difference)
    }

    /// Whether the clock must be compared without a poll; `None` if that depends on what an earlier
    /// process has found.
    pub(super) fn is_comparison_due(&self) -> Option<bool> {
        let last = self.last()?;
        let attempt = *self.last_attempt.lock().unwrap_or_else(PoisonError::into_inner);
        let compared = attempt.map_or(last.at, |attempt| attempt.max(last.at));
        let is_wrong = last.difference.offset.accuracy() != ClockAccuracy::Accurate;
        Some(is_wrong && compared.elapsed() >= INTERVAL)
    }

    /// Notes that a comparison without a poll begins.
    fn begin_comparison(&self) {
        let now = Some(Instant::now());
        *self.last_attempt.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn accuracy(&self) -> Option<ClockAccuracy> {
        self.difference().map(|difference| difference.offset.accuracy())
    }

    fn last(&self) -> Option<Comparison> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the offset in a response, and the time of the response by Microsoft's clock.
    fn set(&self, offset: ClockOffset, at: UnixMillis) {
        let is_wrong = |offset: ClockOffset| offset.accuracy() != ClockAccuracy::Accurate;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = last.map(|last| last.difference).filter(|earlier| is_wrong(earlier.offset));
        let since = earlier.filter(|_| is_wrong(offset)).map_or(at, |earlier| earlier.since);
        let difference = ClockDifference { offset, since };
        *last = Some(Comparison { difference, at: Instant::now() });
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

        self.meters.clock.begin_comparison();
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

    /// Uses a new offset: if the clock can be used, the polls that it has prevented are due. A
    /// failure of the checkpoint is only logged.
    fn use_offset(&self, state: &TenantState, offset: ClockOffset) {
        self.meters.clock.set(offset, offset.correct(clock::now()).into());
        if self.meters.clock.is_confirmed() {
            for waiting in &*self.tenants {
                waiting.end_clock_wait();
            }
        }
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

    /// Offsets of each accuracy.
    const ACCURATE: Duration = Duration::from_secs(3);
    const INACCURATE: Duration = Duration::from_mins(10);
    const UNUSABLE: Duration = Duration::from_hours(40 * 24);

    fn at(second: i64) -> UnixMillis {
        UnixMillis::new(1_795_341_600_000 + second * 1_000)
    }

    fn ahead(offset: Duration) -> ClockOffset {
        ClockOffset::between(at(0).saturating_add(offset).into(), at(0).into())
    }

    #[test]
    fn only_a_usable_clock_is_confirmed() {
        let clock = HostClock::default();
        assert!(!clock.is_confirmed(), "nothing was compared");
        for (offset, is_confirmed) in [(ACCURATE, true), (UNUSABLE, false), (INACCURATE, true)] {
            clock.set(ahead(offset), at(1));
            assert_eq!(clock.is_confirmed(), is_confirmed, "{offset:?}");
        }
    }

    #[test]
    fn a_wrong_clock_has_a_beginning() {
        let clock = HostClock::default();
        assert_eq!(clock.difference(), None);
        for (offset, time, since) in [
            (ACCURATE, 1, 1),
            (INACCURATE, 2, 2),
            (UNUSABLE, 3, 2),
            (INACCURATE, 4, 2),
            (ACCURATE, 5, 5),
            (UNUSABLE, 6, 6),
        ] {
            clock.set(ahead(offset), at(time));
            let expected = ClockDifference { offset: ahead(offset), since: at(since) };
            assert_eq!(clock.difference(), Some(expected), "{time}");
        }
    }

    /// Regression: a clock that was set right was reported as wrong until the next poll.
    #[tokio::test(start_paused = true)]
    async fn a_wrong_clock_is_compared_again() {
        let clock = HostClock::default();
        assert_eq!(clock.is_comparison_due(), None);
        for (offset, is_repeated) in [(INACCURATE, true), (UNUSABLE, true), (ACCURATE, false)] {
            clock.set(ahead(offset), at(1));
            assert_eq!(clock.is_comparison_due(), Some(false), "{offset:?}");
            tokio::time::advance(INTERVAL).await;
            assert_eq!(clock.is_comparison_due(), Some(is_repeated), "{offset:?}");

            // A comparison that fails is not repeated at once.
            clock.begin_comparison();
            assert_eq!(clock.is_comparison_due(), Some(false), "{offset:?}");
            tokio::time::advance(INTERVAL).await;
            assert_eq!(clock.is_comparison_due(), Some(is_repeated), "{offset:?}");
        }
    }
}
