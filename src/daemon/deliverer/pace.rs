//! `max_rate`: no more records a second than a receiver is to bear.

use std::time::Duration;

use tokio::time::Instant;

/// Spaces batches so that over any while no more than so many records go out a second.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: Option<u32>,
    /// When the next batch may go.
    next: Instant,
}

impl Pace {
    pub(super) fn new(per_second: Option<u32>) -> Self {
        Self { per_second, next: Instant::now() }
    }

    /// Waits until these records may go.
    pub(super) async fn wait(&mut self, records: usize) {
        let Some(rate) = self.per_second else { return };
        tokio::time::sleep_until(self.next).await;
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let cost = Duration::from_secs_f64(f64::from(records) / f64::from(rate));
        self.next = self.next.max(Instant::now()) + cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn records_are_spread_over_time() {
        let mut pace = Pace::new(Some(100));
        let began = Instant::now();
        for _ in 0..5 {
            pace.wait(50).await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        // A pause is not made up for by a burst.
        tokio::time::advance(Duration::from_mins(1)).await;
        let began = Instant::now();
        for _ in 0..3 {
            pace.wait(100).await;
        }
        assert_eq!(began.elapsed(), Duration::from_secs(2));
        let mut free = Pace::new(None);
        free.wait(1_000_000).await;
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }
}
