//! Bytes of answers in memory, over all tenants.
//!
//! Half of the room is for answers of the usual size: each reserves its share before it is asked
//! for, and waits for nothing after that. The other half is for the one answer at a time that
//! turns out larger. So nobody waits for a share while holding one that others wait for, and the
//! whole is never more than was said.

use std::sync::Arc;

use crate::net::Grow;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// What an answer of the usual size needs: three days of a large tenant, or its catalog.
const USUAL: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct MemoryBudget {
    usual: Arc<Semaphore>,
    large: Arc<Mutex<()>>,
    /// Bytes that the one large answer may have.
    limit: usize,
}

/// The share of one answer; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _usual: Option<OwnedSemaphorePermit>,
    large: Arc<Mutex<()>>,
    large_held: Option<OwnedMutexGuard<()>>,
    limit: usize,
}

impl MemoryBudget {
    pub(super) fn new(bytes: u64) -> Self {
        let half = usize::try_from(bytes / 2).unwrap_or(usize::MAX).max(USUAL);
        Self {
            usual: Arc::new(Semaphore::new((half / USUAL).min(1 << 16))),
            large: Arc::default(),
            limit: half,
        }
    }

    /// Waits for the share of one answer.
    pub(super) async fn share(&self) -> Share {
        Share {
            _usual: self.usual.clone().acquire_owned().await.ok(),
            large: self.large.clone(),
            large_held: None,
            limit: self.limit,
        }
    }
}

impl Share {
    /// The largest answer that is ever taken in.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

impl Grow for Share {
    /// An answer that has grown beyond the usual waits for its turn; one beyond the limit is the
    /// caller's to refuse.
    async fn grow(&mut self, bytes: usize) {
        if bytes > USUAL && self.large_held.is_none() {
            self.large_held = Some(self.large.clone().lock_owned().await);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_answer_at_a_time_is_larger_than_usual() {
        let budget = MemoryBudget::new(8 << 20);
        let mut shares = Vec::new();
        for _ in 0..4 {
            shares.push(budget.share().await);
        }
        let more = tokio::time::timeout(Duration::from_secs(1), budget.share()).await;
        assert!(more.is_err(), "half of it is four usual answers");
        let [first, second, ..] = &mut shares[..] else { panic!() };
        first.grow(3 << 20).await;
        first.grow(4 << 20).await;
        second.grow(USUAL).await;
        let waits = tokio::time::timeout(Duration::from_secs(1), second.grow(USUAL + 1)).await;
        assert!(waits.is_err());
        shares.remove(0);
        shares[0].grow(2 << 20).await;
        assert_eq!(shares[0].limit(), 4 << 20);
    }
}
