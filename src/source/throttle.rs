//! Limits the requests to one tenant: requests per minute, concurrent requests, and the pauses
//! that a server demands with `Retry-After`.
//!
//! Microsoft limits Secure Score to 150 requests per minute and 4 concurrent requests per app and
//! tenant (`throttling-limits` in the documentation of Graph). Requests that are made while an app
//! is throttled count too, so the limits here are lower, and nothing is sent during a pause. Start
//! reading at [`TenantThrottle`]. See decision 0011.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// Requests to one tenant that may be sent without delay. A first backfill sends about twenty.
const BURST: u32 = 20;
/// Sustained requests per minute to one tenant.
const REQUESTS_PER_MINUTE: f64 = 100.0;
/// Concurrent requests to one tenant.
const MAX_CONCURRENT: usize = 2;
/// The longest pause: one hour, to which `Retry-After` is limited, and its random share.
const LONGEST_PAUSE: Duration = Duration::from_mins(72);

/// A token bucket: an average rate, and a burst that may exceed it.
#[derive(Debug)]
pub(super) struct RateLimiter {
    per_second: f64,
    burst: f64,
    /// The number of free slots, and when it was computed. A negative number is the count of
    /// slots that are promised to waiting callers.
    level: Mutex<(f64, Instant)>,
}

/// The throttle of one tenant.
#[derive(Debug)]
pub(super) struct TenantThrottle {
    concurrency: Semaphore,
    rate: RateLimiter,
    paused_until: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// A limiter with all slots free.
    pub(super) fn new(per_second: f64, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { per_second, burst, level: Mutex::new((burst, Instant::now())) }
    }

    /// Waits for a free slot. Callers are served in the order of their calls.
    pub(super) async fn acquire(&self) {
        tokio::time::sleep(self.reserve()).await;
    }

    /// Takes a slot and returns how long to wait before it may be used.
    fn reserve(&self) -> Duration {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);

        let now = Instant::now();
        let refilled = now.duration_since(level.1).as_secs_f64() * self.per_second;
        *level = ((level.0 + refilled).min(self.burst) - 1.0, now);

        // The number of callers that wait bounds the result; it is never close to an overflow.
        Duration::try_from_secs_f64((-level.0 / self.per_second).max(0.0)).unwrap_or(LONGEST_PAUSE)
    }
}

impl TenantThrottle {
    /// A throttle without a pause.
    pub(super) fn new() -> Self {
        Self {
            concurrency: Semaphore::new(MAX_CONCURRENT),
            rate: RateLimiter::new(REQUESTS_PER_MINUTE / 60.0, BURST),
            paused_until: Mutex::new(None),
        }
    }

    /// Waits until a request may be sent, and returns a permit to hold until its response is read.
    ///
    /// # Errors
    ///
    /// Returns the rest of the pause immediately if it is longer than `max_wait`.
    pub(super) async fn acquire(
        &self,
        max_wait: Duration,
    ) -> Result<SemaphorePermit<'_>, Duration> {
        // The semaphore is never closed, so this error does not occur.
        let permit = self.concurrency.acquire().await.map_err(|_| Duration::ZERO)?;
        self.rate.acquire().await;
        self.wait_for_pause(max_wait).await?;
        Ok(permit)
    }

    /// Waits until the pause ends, without taking a slot.
    ///
    /// # Errors
    ///
    /// Returns the rest of the pause immediately if it is longer than `max_wait`.
    pub(super) async fn wait_for_pause(&self, max_wait: Duration) -> Result<(), Duration> {
        loop {
            let wait = self.remaining_pause();
            if wait.is_zero() {
                return Ok(());
            }
            if wait > max_wait {
                return Err(wait);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Pauses all requests for the time that a server demands, plus a random share of up to a
    /// fifth, so that the tenants do not resume at the same moment.
    pub(super) fn pause_for(&self, wait: Duration) {
        let fifth = u64::try_from(wait.as_millis() / 5).unwrap_or(u64::MAX);
        self.restore_pause(wait.saturating_add(Duration::from_millis(fastrand::u64(..=fifth))));
    }

    /// Pauses for the rest of a pause that was stored before a restart. It includes its random
    /// share; adding another one at each start would lengthen it.
    pub(super) fn restore_pause(&self, wait: Duration) {
        let until = Instant::now().checked_add(wait.min(LONGEST_PAUSE));
        let Some(until) = until else { return };
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = paused.map_or(Some(until), |current| Some(current.max(until)));
    }

    /// The rest of the current pause; zero if requests may be sent.
    pub(super) fn remaining_pause(&self) -> Duration {
        let paused = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        paused.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn allows_a_burst_then_limits_the_rate() {
        let throttle = TenantThrottle::new();
        let start = Instant::now();
        let mut in_first_minute = 0;

        while start.elapsed() < Duration::from_mins(1) {
            drop(throttle.acquire(Duration::ZERO).await.unwrap());
            in_first_minute += 1;
            if in_first_minute == BURST {
                assert!(start.elapsed().is_zero(), "the burst does not wait");
            }
        }

        assert!((115..=125).contains(&in_first_minute), "{in_first_minute}");
    }

    #[tokio::test(start_paused = true)]
    async fn allows_two_concurrent_requests() {
        let throttle = TenantThrottle::new();
        let _first = throttle.acquire(Duration::ZERO).await.unwrap();
        let second = throttle.acquire(Duration::ZERO).await.unwrap();

        let third =
            tokio::time::timeout(Duration::from_hours(1), throttle.acquire(Duration::ZERO)).await;
        assert!(third.is_err());

        drop(second);
        drop(throttle.acquire(Duration::ZERO).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn respects_the_pause_of_the_server() {
        let throttle = TenantThrottle::new();
        let start = Instant::now();

        throttle.pause_for(Duration::from_secs(30));
        throttle.pause_for(Duration::from_secs(1));
        drop(throttle.acquire(Duration::from_mins(1)).await.unwrap());
        assert!((30..=36).contains(&start.elapsed().as_secs()), "the longer pause applies");

        throttle.pause_for(Duration::from_mins(50));
        let remaining = throttle.acquire(Duration::from_mins(1)).await.unwrap_err();
        assert!(remaining >= Duration::from_mins(50));

        let throttle = TenantThrottle::new();
        throttle.restore_pause(Duration::from_secs(30));
        let remaining = throttle.remaining_pause();
        assert_eq!(remaining, Duration::from_secs(30), "a restart does not lengthen a pause");
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_is_longer_than_the_limit() {
        for wait in [Duration::MAX, Duration::from_secs(1 << 62), Duration::from_hours(2)] {
            let throttle = TenantThrottle::new();
            throttle.restore_pause(wait);
            assert_eq!(throttle.remaining_pause(), LONGEST_PAUSE, "{wait:?}");
            throttle.pause_for(wait);
            assert_eq!(throttle.remaining_pause(), LONGEST_PAUSE, "{wait:?}");
        }
    }
}
