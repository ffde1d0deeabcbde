//! Limits how long a poll delays others. A poll that takes longer than usual returns its permits if
//! it can become one of few slow polls, and ends after a time limit. Start reading at
//! [`PollLimits::run`]. See decision 0009.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// The number of slow polls that hold no permits of other polls.
const SLOW_POLLS: usize = 4;
/// The time after which a poll counts as slow. A backfill of a large tenant takes seconds, unless
/// Microsoft throttles it.
const USUAL: Duration = Duration::from_mins(2);
/// The time after which a slow poll fails.
pub(super) const MAX_POLL_TIME: Duration = Duration::from_mins(30);

/// The permits of all polls.
#[derive(Debug)]
pub(in crate::daemon) struct PollLimits {
    /// Limits the memory of polls: a backfill takes several permits.
    pub(in crate::daemon) permits: Semaphore,
    slow: Semaphore,
}

/// The work of a poll did not end in [`MAX_POLL_TIME`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TookTooLong;

impl PollLimits {
    pub(in crate::daemon) fn new(permits: usize) -> Self {
        Self { permits: Semaphore::new(permits), slow: Semaphore::new(SLOW_POLLS) }
    }

    /// Runs the work of a poll with this number of permits, and returns its result with the permit
    /// that limits the memory of the result. The work starts when the permits are available.
    pub(super) async fn run<T, W: Future<Output = T> + Unpin>(
        &self,
        permits: u32,
        start: impl FnOnce() -> W,
    ) -> Result<(T, Option<SemaphorePermit<'_>>), TookTooLong> {
        // The semaphores are closed only when the engine is dropped, and then no poll waits.
        let mut held = self.permits.acquire_many(permits).await.ok();
        let mut work = start();
        if let Ok(result) = timeout(USUAL, &mut work).await {
            return Ok((result, held));
        }

        // Without a place among the slow polls, it keeps the permits, as its memory counts.
        if let Ok(slow) = self.slow.try_acquire() {
            held = Some(slow);
        }
        let result = timeout(MAX_POLL_TIME.saturating_sub(USUAL), work).await;
        result.map(|result| (result, held)).map_err(|_| TookTooLong)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const ALL: u32 = 8;

    async fn without_end(limits: &PollLimits) {
        let ended = limits.run(ALL, pending::<()>).await;
        assert_eq!(ended.err(), Some(TookTooLong));
    }

    /// Regression: two polls of servers that sent slowly took all permits for hours.
    #[tokio::test(start_paused = true)]
    async fn slow_polls_return_their_permits() {
        let limits = PollLimits::new(ALL as usize);
        let quick = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let start = tokio::time::Instant::now();
            limits.run(1, || ready(())).await.unwrap();
            start.elapsed()
        };
        let (waited, (), ()) = tokio::join!(quick, without_end(&limits), without_end(&limits));
        assert!(waited < USUAL * 2, "{waited:?}");
        assert_eq!(limits.permits.available_permits(), ALL as usize);
        assert_eq!(limits.slow.available_permits(), SLOW_POLLS);
    }

    /// The memory of all polls is limited, so not every slow poll can return its permits.
    #[tokio::test(start_paused = true)]
    async fn polls_without_a_place_end() {
        let limits = PollLimits::new(ALL as usize);
        let start = tokio::time::Instant::now();
        let slow = async {
            let slow = || without_end(&limits);
            tokio::join!(slow(), slow(), slow(), slow(), slow());
        };
        let quick = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            limits.run(1, || ready(())).await.unwrap();
            start.elapsed()
        };
        let ((), waited) = tokio::join!(slow, quick);
        assert!(waited < MAX_POLL_TIME + USUAL * 5, "{waited:?}");
    }
}
