//! Encoded records, side by side in one buffer that is used again and again.

use std::ops::Range;

use aws_lc_rs::digest::{Context, SHA256};

use super::Progress;
use crate::model::{EventId, Record};

#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    items: Vec<Item>,
    truncated: u64,
    progress: Vec<Progress>,
}

/// One encoded record. What comes before `split` is the sink's own (a key, say), the rest is what
/// the receiver gets.
#[derive(Clone, Debug)]
pub struct Item {
    pub event_id: EventId,
    /// Its index in the batch that it was first put in; parts of a batch keep it.
    pub index: usize,
    start: usize,
    split: usize,
    end: usize,
}

/// Names these records, in this order: the same whenever they are sent. 32 hex digits.
pub(super) fn digest(items: &[Item]) -> String {
    let mut context = Context::new(&SHA256);
    for item in items {
        context.update(item.event_id.as_bytes());
    }
    let digest = context.finish();
    let hex: Vec<String> = digest.as_ref()[..16].iter().map(|b| format!("{b:02x}")).collect();
    hex.concat()
}

impl Batch {
    /// Appends one record: `write` gets the buffer and returns where the payload starts.
    pub fn push<E>(
        &mut self,
        record: &Record<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<usize, E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        match write(&mut self.bytes) {
            Ok(split) => {
                let index = self.items.len();
                self.items.push(Item {
                    event_id: record.event_id,
                    index,
                    start,
                    split,
                    end: self.bytes.len(),
                });
                Ok(())
            }
            Err(refusal) => {
                self.bytes.truncate(start);
                Err(refusal)
            }
        }
    }

    /// The record pushed last had to be cut.
    pub fn note_truncated(&mut self) {
        self.truncated += 1;
    }

    /// How far the tenants' logs have come with these records.
    pub fn progress(&self) -> &[Progress] {
        &self.progress
    }

    pub fn set_progress(&mut self, progress: Vec<Progress>) {
        self.progress = progress;
    }

    /// How many records had to be cut.
    pub fn truncated(&self) -> u64 {
        self.truncated
    }

    /// A record that is encoded already.
    #[cfg(test)]
    pub(crate) fn push_encoded(&mut self, event_id: EventId, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let (index, end) = (self.items.len(), self.bytes.len());
        self.items.push(Item { event_id, index, start, split: start, end });
    }

    pub fn items(&self) -> &[Item] {
        &self.items
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All that was appended, in order: for sinks whose records follow one another on the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All from one record on.
    pub fn from(&self, first: &Item) -> &[u8] {
        &self.bytes[first.start..]
    }

    pub fn key(&self, item: &Item) -> &[u8] {
        &self.bytes[item.start..item.split]
    }

    pub fn payload(&self, item: &Item) -> &[u8] {
        &self.bytes[item.split..item.end]
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
        self.truncated = 0;
        self.progress.clear();
    }

    /// A batch of some of these records.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        let end = range.end;
        let mut part = self.without(|index| !range.contains(&index));
        // What comes before the last part has not come so far.
        if end < self.items.len() {
            part.progress.clear();
        }
        part
    }

    /// A batch without the records whose index `left_out` names.
    #[must_use]
    pub fn without(&self, left_out: impl Fn(usize) -> bool) -> Self {
        let mut part = Self { progress: self.progress.clone(), ..Self::default() };
        for (_, item) in self.items.iter().enumerate().filter(|(index, _)| !left_out(*index)) {
            let start = part.bytes.len();
            part.bytes.extend_from_slice(&self.bytes[item.start..item.end]);
            let split = start + (item.split - item.start);
            part.items.push(Item {
                event_id: item.event_id,
                index: item.index,
                start,
                split,
                end: part.bytes.len(),
            });
        }
        part
    }
}
