//! Limits the bytes of response bodies in memory, over all tenants.
//!
//! Half of the budget is divided into shares of [`USUAL_BODY_BYTES`]. A request reserves one share
//! before it is sent, and waits for nothing else if its body fits. The other half is reserved for
//! one larger body at a time. Every request takes its share first and the other half second, so
//! requests cannot deadlock, and the total stays within the budget. See decision 0009.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::net::Grow;

/// The usual maximum size of a body: three days of a large tenant, or its catalog.
const USUAL_BODY_BYTES: usize = 1 << 20;

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
}

impl Grow for Share {
    /// Waits for the large half of the budget when a body grows beyond the usual size. The caller
    /// rejects a body that is larger than [`Share::limit`].
    async fn grow(&mut self, bytes: usize) {
        if bytes > USUAL_BODY_BYTES && self.large_guard.is_none() {
            self.large_guard = Some(self.large.clone().lock_owned().await);
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
        first.grow(3 << 20).await;
        first.grow(4 << 20).await;
        second.grow(USUAL_BODY_BYTES).await;
        let blocked =
            tokio::time::timeout(Duration::from_secs(1), second.grow(USUAL_BODY_BYTES + 1)).await;
        assert!(blocked.is_err());

        shares.remove(0);
        shares[0].grow(2 << 20).await;
        assert_eq!(shares[0].limit(), 4 << 20);
    }
}
