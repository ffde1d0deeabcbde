//! The frames of the last confirmed records, which are sent again after a lost connection, because
//! the receiving process may not have read what its kernel has acknowledged. See decision 0024.

use std::collections::VecDeque;

use crate::sink::Batch;

/// The last confirmed records of a link, over all of its connections.
pub(super) struct ReplayWindow {
    /// The number of records to keep.
    limit: usize,
    /// The number of records in `batches`.
    held: usize,
    /// Oldest first.
    batches: VecDeque<ConfirmedFrames>,
    /// Whether the connection of these records was lost, so that they must be sent again.
    due: bool,
}

/// The last records of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConfirmedFrames {
    records: usize,
    frames: Vec<u8>,
}

impl ReplayWindow {
    /// An empty window for this number of records.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: 0, batches: VecDeque::new(), due: false }
    }

    /// The last records of a batch, as many as the window can hold.
    pub(super) fn tail(&self, batch: &Batch) -> ConfirmedFrames {
        let records = batch.len().min(self.limit);
        let frames = match batch.items().get(batch.len() - records) {
            Some(first) => batch.bytes_from(first),
            None => &[],
        };
        ConfirmedFrames { records, frames: frames.to_vec() }
    }

    /// Adds confirmed records, and drops the oldest batches that the window no longer needs.
    pub(super) fn push(&mut self, tail: ConfirmedFrames) {
        if self.limit == 0 {
            return;
        }

        self.held += tail.records;
        self.batches.push_back(tail);
        while let Some(ConfirmedFrames { records: oldest, .. }) = self.batches.front()
            && self.held - oldest >= self.limit
        {
            self.held -= oldest;
            self.batches.pop_front();
        }
    }

    /// Removes all records: the receiver has read them.
    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.held = 0;
    }

    /// Notes that the connection of these records was lost.
    pub(super) fn set_due(&mut self) {
        self.due = true;
    }

    /// Notes that the records have been sent again.
    pub(super) fn set_sent(&mut self) {
        self.due = false;
    }

    /// Whether the records must be sent again.
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// The number of records.
    pub(super) fn records(&self) -> usize {
        self.held
    }

    /// The frames, per batch and oldest first.
    pub(super) fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.batches.iter().map(|batch| batch.frames.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventId;

    fn batch(records: u8) -> Batch {
        let mut batch = Batch::default();
        for n in 0..records {
            batch.push_encoded(EventId::from_bytes([n; 20]), &[n]);
        }
        batch
    }

    #[test]
    fn the_window_holds_the_last_records() {
        let mut window = ReplayWindow::new(5);
        let tail = window.tail(&batch(9));
        assert_eq!(tail, ConfirmedFrames { records: 5, frames: vec![4, 5, 6, 7, 8] });

        for _ in 0..4 {
            let tail = window.tail(&batch(3));
            window.push(tail);
            assert!(window.records() <= 8, "{}", window.records());
        }
        assert!(window.records() >= 5);
        assert_eq!(window.frames().map(<[u8]>::len).sum::<usize>(), window.records());

        let mut disabled = ReplayWindow::new(0);
        disabled.push(disabled.tail(&batch(3)));
        assert_eq!(disabled.frames().count(), 0);
    }

    #[test]
    fn the_window_is_due_until_it_is_sent() {
        let mut window = ReplayWindow::new(5);
        assert!(!window.is_due());
        window.set_due();
        assert!(window.is_due());
        window.set_sent();
        assert!(!window.is_due());
    }
}
