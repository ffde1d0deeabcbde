//! Limits how long a poll delays others. A poll that takes longer than usual continues only if it
//! can become one of few slow polls, which hold no permits, and ends after a time limit. The next
//! poll of its tenant is slow from its beginning, so any number of slow servers can take permits
//! only once for each of their tenants. Start reading at [`PollLimits::run`]. See decision 0009.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::poll_permits::{HeldPermits, PollPermits, PollSize};

/// The number of slow polls at the same time.
pub(super) const SLOW_POLLS: usize = 4;
/// The time after which a poll counts as slow. A backfill of a large tenant takes seconds, unless
/// Microsoft throttles it.
const USUAL_POLL_TIME: Duration = Duration::from_mins(2);
/// The time after which a slow poll fails.
pub(super) const MAX_POLL_TIME: Duration = Duration::from_mins(30);

/// The permits of all polls.
#[derive(Debug)]
pub(super) struct PollLimits {
    /// Limits the memory of polls: a backfill takes several permits.
    permits: PollPermits,
    slow: Semaphore,
}

/// How long the last poll of a tenant took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) enum PollPace {
    /// Less than [`USUAL_POLL_TIME`], or the tenant has not been polled by this process.
    #[default]
    Usual,
    Slow,
}

/// A poll whose work has ended.
#[derive(Debug)]
pub(super) struct EndedPoll<'a, T> {
    pub(super) result: T,
    pub(super) pace: PollPace,
    /// What limits the memory of the result.
    pub(super) memory: PollMemory<'a>,
}

/// The permits of a poll, or its place among the slow polls.
#[derive(Debug)]
pub(super) struct PollMemory<'a> {
    _permits: Option<HeldPermits>,
    _slow: Option<SemaphorePermit<'a>>,
}

/// Why the work of a poll did not end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UnfinishedPoll {
    /// It did not end in [`USUAL_POLL_TIME`], or the last poll of the tenant was slow, and as many
    /// other polls are slow as may be.
    Postponed,
    /// It did not end in [`MAX_POLL_TIME`].
    TookTooLong,
}

impl PollLimits {
    /// Limits for this number of permits, of which a large poll takes `large`.
    pub(super) fn new(permits: usize, large: usize) -> Self {
        Self { permits: PollPermits::new(permits, large), slow: Semaphore::new(SLOW_POLLS) }
    }

    /// Runs the work of a poll of a tenant whose last poll had this pace. The work starts when the
    /// permits are available. A poll that cannot be a slow one ends at once.
    pub(super) async fn run<T, W: Future<Output = T> + Unpin>(
        &self,
        size: PollSize,
        last: PollPace,
        start: impl FnOnce() -> W,
    ) -> Result<EndedPoll<'_, T>, UnfinishedPoll> {
        if last == PollPace::Slow {
            let memory = self.slow_place()?;
            let began = Instant::now();
            let result = in_time(began, start()).await?;
            let is_usual = began.elapsed() < USUAL_POLL_TIME;
            let pace = if is_usual { PollPace::Usual } else { PollPace::Slow };
            return Ok(EndedPoll { result, pace, memory });
        }

        let permits = self.permits.acquire(size).await;
        let began = Instant::now();
        let mut work = start();
        if let Ok(result) = timeout_at(began + USUAL_POLL_TIME, &mut work).await {
            let memory = PollMemory { _permits: Some(permits), _slow: None };
            return Ok(EndedPoll { result, pace: PollPace::Usual, memory });
        }

        let memory = self.slow_place()?;
        drop(permits);
        let result = in_time(began, work).await?;
        Ok(EndedPoll { result, pace: PollPace::Slow, memory })
    }

    /// The number of permits that no poll holds.
    #[cfg(test)]
    pub(super) fn available_permits(&self) -> usize {
        self.permits.available()
    }

    fn slow_place(&self) -> Result<PollMemory<'_>, UnfinishedPoll> {
        // The semaphore is never closed.
        let slow = self.slow.try_acquire().map_err(|_| UnfinishedPoll::Postponed)?;
        Ok(PollMemory { _permits: None, _slow: Some(slow) })
    }
}

/// The result of work that began at this time.
async fn in_time<T>(began: Instant, work: impl Future<Output = T>) -> Result<T, UnfinishedPoll> {
    timeout_at(began + MAX_POLL_TIME, work).await.map_err(|_| UnfinishedPoll::TookTooLong)
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::Arc,
    };

    use tokio::{task::JoinSet, time::sleep};

    use super::{
        PollSize::{Large, Small},
        *,
    };

    const ALL: usize = 8;
    /// The seconds after which two polls, one after the other, have ended or become slow.
    const TWO_POLLS: u64 = 2 * USUAL_POLL_TIME.as_secs();

    fn limits() -> Arc<PollLimits> {
        Arc::new(PollLimits::new(ALL, 4))
    }

    /// Runs a poll whose server never responds, and returns how it ended and after how many
    /// seconds.
    async fn without_end(
        limits: &PollLimits,
        size: PollSize,
        last: PollPace,
    ) -> (UnfinishedPoll, u64) {
        let start = Instant::now();
        let ended = limits.run(size, last, pending::<()>).await;
        (ended.unwrap_err(), start.elapsed().as_secs())
    }

    /// How long a poll waits whose server responds at once.
    async fn wait_of_quick_poll(limits: &PollLimits, size: PollSize) -> Duration {
        let start = Instant::now();
        let ended = limits.run(size, PollPace::Usual, || ready(())).await.unwrap();
        assert_eq!(ended.pace, PollPace::Usual);
        start.elapsed()
    }

    /// Regression: two polls of servers that sent slowly took all permits for hours.
    #[tokio::test(start_paused = true)]
    async fn slow_polls_return_their_permits() {
        let limits = limits();
        let quick = async {
            sleep(Duration::from_secs(1)).await;
            wait_of_quick_poll(&limits, Small).await
        };
        let slow = || without_end(&limits, Large, PollPace::Usual);
        let (waited, first, second) = tokio::join!(quick, slow(), slow());

        assert!(waited <= USUAL_POLL_TIME, "{waited:?}");
        for ended in [first, second] {
            assert_eq!(ended, (UnfinishedPoll::TookTooLong, MAX_POLL_TIME.as_secs()));
        }
        assert_eq!(limits.available_permits(), ALL);
        assert_eq!(limits.slow.available_permits(), SLOW_POLLS);
    }

    /// Regression: a fifth slow poll kept its permits for 30 minutes.
    #[tokio::test(start_paused = true)]
    async fn polls_without_a_place_are_postponed() {
        let limits = limits();
        let mut polls = JoinSet::new();
        for _ in 0..12 {
            let limits = limits.clone();
            polls.spawn(async move { without_end(&limits, Small, PollPace::Usual).await });
        }
        sleep(Duration::from_secs(1)).await;
        // Eight polls have all permits, and four more wait.
        let waited = wait_of_quick_poll(&limits, Small).await;
        assert!(waited.as_secs() <= TWO_POLLS, "{waited:?}");

        let ended = polls.join_all().await;
        let slow = ended.iter().filter(|(ended, _)| *ended == UnfinishedPoll::TookTooLong);
        assert_eq!(slow.count(), SLOW_POLLS);
        for (ended, seconds) in &ended {
            let is_postponed = *ended == UnfinishedPoll::Postponed;
            assert_eq!(*seconds <= TWO_POLLS, is_postponed, "{seconds}");
        }
    }

    /// Any number of slow servers holds only the places of slow polls.
    #[tokio::test(start_paused = true)]
    async fn slow_tenants_take_no_permits_again() {
        let limits = limits();
        let mut polls = JoinSet::new();
        for _ in 0..100 {
            let limits = limits.clone();
            polls.spawn(async move { without_end(&limits, Large, PollPace::Slow).await });
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(limits.available_permits(), ALL);
        assert_eq!(wait_of_quick_poll(&limits, Large).await, Duration::ZERO);

        let ended = polls.join_all().await;
        let (postponed, slow): (Vec<_>, Vec<_>) =
            ended.into_iter().partition(|(ended, _)| *ended == UnfinishedPoll::Postponed);
        assert_eq!((postponed.len(), slow.len()), (96, SLOW_POLLS));
        assert!(postponed.iter().all(|(_, seconds)| *seconds == 0));
        assert!(slow.iter().all(|(_, seconds)| *seconds == MAX_POLL_TIME.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_poll_decides_the_pace() {
        let limits = limits();
        for (seconds, last, expected) in [
            (119, PollPace::Usual, PollPace::Usual),
            (121, PollPace::Usual, PollPace::Slow),
            (121, PollPace::Slow, PollPace::Slow),
            (119, PollPace::Slow, PollPace::Usual),
        ] {
            let work = || Box::pin(sleep(Duration::from_secs(seconds)));
            let ended = limits.run(Small, last, work).await.unwrap();
            assert_eq!(ended.pace, expected, "{seconds} {last:?}");
        }
        assert_eq!(limits.available_permits(), ALL);
    }

    /// Regression: a backfill that waited for four permits blocked the polls behind it.
    #[tokio::test(start_paused = true)]
    async fn small_polls_overtake_waiting_backfills() {
        let limits = limits();
        let mut polls = JoinSet::new();
        for size in [Large, Small, Small, Small, Large] {
            let limits = limits.clone();
            polls.spawn(async move { without_end(&limits, size, PollPace::Usual).await });
            tokio::task::yield_now().await;
        }

        assert_eq!(limits.available_permits(), 1, "the second backfill waits");
        assert_eq!(wait_of_quick_poll(&limits, Small).await, Duration::ZERO);
    }
}
