//! Implements `max_rate`, the largest number of records per second that is sent to a sink. It
//! limits only this sink and delays batches, never parts of a batch.

use std::time::Duration;

use tokio::time::Instant;

/// Spaces batches so that the average rate never exceeds the limit. Idle time does not permit a
/// burst.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: Option<u32>,
    /// The earliest time of the next batch.
    next: Instant,
}

impl RateLimit {
    /// Without `per_second`, there is no limit.
    pub(super) fn new(per_second: Option<u32>) -> Self {
        Self { per_second, next: Instant::now() }
    }

    /// Waits until a batch of this many records may be sent.
    pub(super) async fn wait(&mut self, records: usize) {
        let Some(rate) = self.per_second else { return };
        tokio::time::sleep_until(self.next).await;
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let cost = Duration::from_secs(records.into()).checked_div(rate).unwrap_or_default();
        self.next = self.next.max(Instant::now()) + cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn batches_are_spaced_by_their_records() {
        let mut limit = RateLimit::new(Some(100));
        let start = Instant::now();
        for _ in 0..5 {
            limit.wait(50).await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(2));

        // Idle time does not permit a burst.
        tokio::time::advance(Duration::from_mins(1)).await;
        let start = Instant::now();
        for _ in 0..3 {
            limit.wait(100).await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(2));

        let mut unlimited = RateLimit::new(None);
        unlimited.wait(1_000_000).await;
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }
}
