//! What a server is spared: so many requests a minute, two at a time, and none before it wants
//! one again.
//!
//! Microsoft's limits on Secure Score are 150 requests a minute and 4 at a time, for an app and a
//! tenant (Graph's `throttling-limits`); requests made while throttled count too.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// A first backfill is some twenty requests, and is not slowed.
const BURST: u32 = 20;
const PER_MINUTE: f64 = 100.0;
const AT_ONCE: usize = 2;

/// So many a second on average, and a burst of so many at once.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    burst: f64,
    /// What was left, and when; below zero it is promised to those who wait.
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    pub(super) fn new(per_second: f64, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { per_second, burst, level: Mutex::new((burst, Instant::now())) }
    }

    /// Waits for a turn. Those who wait are served in the order in which they came.
    pub(super) async fn take(&self) {
        tokio::time::sleep(self.reserve()).await;
    }

    /// Takes one, and says how long to wait before it may be used.
    fn reserve(&self) -> Duration {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let gained = now.duration_since(level.1).as_secs_f64() * self.per_second;
        *level = ((level.0 + gained).min(self.burst) - 1.0, now);
        Duration::from_secs_f64((-level.0 / self.per_second).max(0.0))
    }
}

/// The door to one tenant's data.
#[derive(Debug)]
pub(super) struct TenantThrottle {
    at_once: Semaphore,
    bucket: Bucket,
    closed_until: Mutex<Option<Instant>>,
}

impl TenantThrottle {
    pub(super) fn new() -> Self {
        Self {
            at_once: Semaphore::new(AT_ONCE),
            bucket: Bucket::new(PER_MINUTE / 60.0, BURST),
            closed_until: Mutex::new(None),
        }
    }

    /// Waits for a turn; gives up at once where that would be later than `patience` allows, and
    /// says how long the server wants to be left alone.
    pub(super) async fn enter(&self, patience: Duration) -> Result<SemaphorePermit<'_>, Duration> {
        // Closed only when the tenant is dropped, and then nobody waits.
        let permit = self.at_once.acquire().await.map_err(|_| Duration::ZERO)?;
        self.bucket.take().await;
        self.open(patience).await?;
        Ok(permit)
    }

    /// Waits until the server wants to be asked again, as [`Self::enter`] does.
    pub(super) async fn open(&self, patience: Duration) -> Result<(), Duration> {
        loop {
            let wait = self.wait();
            if wait.is_zero() {
                return Ok(());
            }
            if wait > patience {
                return Err(wait);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The server's own word: nobody enters for so long. A fifth more by chance, so that not all
    /// come back at the same moment.
    pub(super) fn close_for(&self, wait: Duration) {
        self.stay_closed_for(wait + wait.mul_f64(fastrand::f64() / 5.0));
    }

    /// What is left of a wait that had its chance before.
    pub(super) fn stay_closed_for(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut closed = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = closed.map_or(Some(until), |known| Some(known.max(until)));
    }

    /// How long the server still wants to be left alone.
    pub(super) fn wait(&self) -> Duration {
        let closed = *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        closed.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_then_the_pace_is_kept() {
        let throttle = TenantThrottle::new();
        let began = Instant::now();
        let mut in_first_minute = 0;
        while began.elapsed() < Duration::from_mins(1) {
            drop(throttle.enter(Duration::ZERO).await.unwrap());
            in_first_minute += 1;
            if in_first_minute == BURST {
                assert!(began.elapsed().is_zero(), "the burst does not wait");
            }
        }
        assert!((115..=125).contains(&in_first_minute), "{in_first_minute}");
    }

    #[tokio::test(start_paused = true)]
    async fn two_at_a_time() {
        let throttle = TenantThrottle::new();
        let _first = throttle.enter(Duration::ZERO).await.unwrap();
        let second = throttle.enter(Duration::ZERO).await.unwrap();
        let third =
            tokio::time::timeout(Duration::from_hours(1), throttle.enter(Duration::ZERO)).await;
        assert!(third.is_err());
        drop(second);
        drop(throttle.enter(Duration::ZERO).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_word_is_never_broken() {
        let throttle = TenantThrottle::new();
        let began = Instant::now();
        throttle.close_for(Duration::from_secs(30));
        throttle.close_for(Duration::from_secs(1));
        drop(throttle.enter(Duration::from_mins(1)).await.unwrap());
        assert!((30..=36).contains(&began.elapsed().as_secs()));
        throttle.close_for(Duration::from_mins(50));
        let left = throttle.enter(Duration::from_mins(1)).await.unwrap_err();
        assert!(left >= Duration::from_mins(50));
        let throttle = TenantThrottle::new();
        throttle.stay_closed_for(Duration::from_secs(30));
        assert_eq!(throttle.wait(), Duration::from_secs(30), "each start would make it longer");
    }
}
