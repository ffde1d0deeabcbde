//! Limits the bytes of response bodies in memory, over all tenants.
//!
//! Half of the budget is divided into shares of [`USUAL_BODY_BYTES`]. A request reserves one share
//! before it is sent, and waits for nothing else if its body fits; the other half is reserved for
//! one larger body at a time. Every request takes its share first and the other half second, so
//! requests cannot deadlock, and the total stays within the budget. A response that needs the other
//! half while it is in use is dropped, and requested again later. See decision 0009.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::net::{BodyError, Grow};

/// The usual maximum size of a body: three days of a large tenant, or its catalog.
const USUAL_BODY_BYTES: usize = 1 << 20;

/// The slowest rate of a body that has the other half, in bytes per second: others wait for it.
const MIN_LARGE_BYTES_PER_SECOND: usize = 32 << 10;

/// The budget that all requests share.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    usual: Arc<Semaphore>,
    large: Arc<Mutex<()>>,
    /// The size limit of the one large body, in bytes.
    limit: usize,
}

/// The share of one response; dropping it returns the bytes to the budget.
#[derive(Debug)]
pub(super) struct Share {
    _usual: Option<OwnedSemaphorePermit>,
    large: Arc<Mutex<()>>,
    large_guard: Option<OwnedMutexGuard<()>>,
    limit: usize,
}

impl MemoryBudget {
    /// Creates a budget of this many bytes in total.
    pub(super) fn new(bytes: u64) -> Self {
        let half = usize::try_from(bytes / 2).unwrap_or(usize::MAX).max(USUAL_BODY_BYTES);
        let bodies = half.checked_div(USUAL_BODY_BYTES).unwrap_or(1);
        Self {
            usual: Arc::new(Semaphore::new(bodies.min(1 << 16))),
            large: Arc::default(),
            limit: half,
        }
    }

    /// Waits for the share of one response.
    pub(super) async fn share(&self) -> Share {
        Share {
            _usual: self.usual.clone().acquire_owned().await.ok(),
            large: self.large.clone(),
            large_guard: None,
            limit: self.limit,
        }
    }
}

impl Share {
    /// The size of the largest body that is accepted, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Waits for the other half of the budget, so that a body of any accepted size fits. Requests
    /// receive it in the order in which they wait.
    pub(super) async fn reserve_large(&mut self) {
        if self.large_guard.is_none() {
            self.large_guard = Some(self.large.clone().lock_owned().await);
        }
    }
}

impl Grow for Share {
    /// Takes the other half of the budget when a body grows beyond the usual size, and fails if it
    /// is in use. The caller rejects a body that is larger than [`Share::limit`].
    fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        if bytes > USUAL_BODY_BYTES && self.large_guard.is_none() {
            let guard = self.large.clone().try_lock_owned();
            self.large_guard = Some(guard.map_err(|_| BodyError::Postponed)?);
        }
        Ok(())
    }

    fn min_bytes_per_second(&self) -> usize {
        // Nothing waits for a body of the usual size.
        if self.large_guard.is_some() {
            MIN_LARGE_BYTES_PER_SECOND
        } else {
            ().min_bytes_per_second()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn allows_one_large_body_at_a_time() {
        let budget = MemoryBudget::new(8 << 20);
        let mut shares = Vec::new();
        for _ in 0..4 {
            shares.push(budget.share().await);
        }
        let fifth = tokio::time::timeout(Duration::from_secs(1), budget.share()).await;
        assert!(fifth.is_err(), "half of the budget is four usual bodies");

        let [first, second, ..] = &mut shares[..] else { panic!() };
        first.grow(3 << 20).unwrap();
        first.grow(4 << 20).unwrap();
        second.grow(USUAL_BODY_BYTES).unwrap();
        let postponed = second.grow(USUAL_BODY_BYTES + 1);
        assert!(matches!(postponed, Err(BodyError::Postponed)));
        assert!(first.min_bytes_per_second() > second.min_bytes_per_second());
        let waited = tokio::time::timeout(Duration::from_secs(1), second.reserve_large()).await;
        assert!(waited.is_err());

        shares.remove(0);
        shares[0].reserve_large().await;
        shares[0].grow(2 << 20).unwrap();
        assert_eq!(shares[0].limit(), 4 << 20);
    }
}
