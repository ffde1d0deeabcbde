//! A batch: encoded records in one contiguous buffer, which is reused for the next batch. The
//! deliverer owns the buffer. A sink appends to it in `encode` and reads it in `deliver`, and never
//! changes records that are already in it. Start reading at [`Batch::push`].

use std::{borrow::Borrow, collections::HashSet, fmt, ops::Range, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};

use super::Progress;
use crate::model::{EventId, Kind, Record, Seq, TenantId, hex};

/// Records that are sent to a receiver together.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    items: Vec<Item>,
    truncated: u64,
    progress: Vec<Progress>,
    attachment: Option<Attachment>,
    origin: BatchOrigin,
}

/// Where the records of a batch are from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchOrigin {
    /// The log.
    #[default]
    Log,
    /// Dead letters, which the receiver has rejected before.
    DeadLetters,
}

/// A file that is sent together with the records of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The file name with its extension, which determines its type.
    pub name: String,
    pub content: String,
}

/// The name of the place at a receiver to which a record is sent, such as a topic, an index or a
/// folder. A clone shares its memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetName(Arc<str>);

/// One encoded record of a batch, and what its routing depends on.
#[derive(Clone, Debug)]
pub struct Item {
    /// The event ID of the record.
    pub event_id: EventId,
    /// The tenant of the record.
    pub tenant: TenantId,
    /// The kind of the record.
    pub kind: Kind,
    /// The entry of the tenant's log that the record was derived from.
    pub seq: Seq,
    /// The place at the receiver; `None` if all records of the sink are sent to the same one.
    pub target: Option<TargetName>,
    /// The record's index in the batch that it was first added to; parts of that batch keep it.
    pub index: usize,
    /// The record's key is in `start..split` of the buffer and its payload in `split..end`.
    start: usize,
    split: usize,
    end: usize,
}

/// Identifies a sequence of records, independent of the attempt: the first 32 hex digits of the
/// SHA-256 of their event IDs.
pub(super) fn hash_of_ids(items: &[Item]) -> String {
    let mut context = Context::new(&SHA256);
    for item in items {
        context.update(item.event_id.as_bytes());
    }

    hex(&context.finish().as_ref()[..16])
}

impl TargetName {
    /// The target with this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as the receiver knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TargetName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Batch {
    /// Appends one record. `write` appends the key and the payload to the buffer and returns the
    /// position where the payload starts. If it fails, the batch is unchanged.
    ///
    /// # Errors
    ///
    /// Fails with the error of `write`.
    pub fn push<E>(
        &mut self,
        record: &Record<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.push_to(record, None, write)
    }

    /// Like [`Self::push`], for a record with its own place at the receiver.
    ///
    /// # Errors
    ///
    /// Fails with the error of `write`.
    pub fn push_to<E>(
        &mut self,
        record: &Record<'_>,
        target: Option<&str>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<usize, E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();

        match write(&mut self.bytes) {
            Ok(split) => {
                let item = Item {
                    event_id: record.event_id,
                    tenant: record.tenant.id,
                    kind: record.kind(),
                    seq: record.snapshot.seq,
                    target: target.map(|name| self.target(name)),
                    index: self.items.len(),
                    start,
                    split,
                    end: self.bytes.len(),
                };
                self.items.push(item);
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// The target with this name. Adjacent records with the same target share the name.
    fn target(&self, name: &str) -> TargetName {
        let last = self.items.last().and_then(|item| item.target.as_ref());
        last.filter(|last| last.as_str() == name).cloned().unwrap_or_else(|| TargetName::new(name))
    }

    /// Counts the last record as truncated.
    pub fn note_truncated(&mut self) {
        self.truncated += 1;
    }

    /// The progress of the tenants after this batch, for sinks that store it at the receiver.
    pub fn progress(&self) -> &[Progress] {
        &self.progress
    }

    /// Replaces the progress that [`Self::progress`] returns.
    pub fn set_progress(&mut self, progress: Vec<Progress>) {
        self.progress = progress;
    }

    /// Removes the progress of the tenants that `is_omitted` selects.
    pub fn omit_progress(&mut self, is_omitted: impl Fn(TenantId) -> bool) {
        self.progress.retain(|progress| !is_omitted(progress.tenant));
    }

    /// The file for sinks that attach one to their messages; see
    /// [`Plan::attaches_report`](super::Plan::attaches_report).
    pub fn attachment(&self) -> Option<&Attachment> {
        self.attachment.as_ref()
    }

    /// Replaces the file that [`Self::attachment`] returns.
    pub fn set_attachment(&mut self, attachment: Option<Attachment>) {
        self.attachment = attachment;
    }

    /// Where the records are from.
    pub fn origin(&self) -> BatchOrigin {
        self.origin
    }

    /// Replaces what [`Self::origin`] returns.
    pub fn set_origin(&mut self, origin: BatchOrigin) {
        self.origin = origin;
    }

    /// The number of records that were truncated.
    pub fn truncated(&self) -> u64 {
        self.truncated
    }

    /// Appends a record that is already encoded.
    #[cfg(test)]
    pub(crate) fn push_encoded(&mut self, event_id: EventId, bytes: &[u8]) {
        self.push_encoded_with_key(event_id, &[], bytes);
    }

    /// Appends a record that is already encoded, with its key.
    #[cfg(test)]
    pub(crate) fn push_encoded_with_key(&mut self, event_id: EventId, key: &[u8], bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let split = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let (index, end) = (self.items.len(), self.bytes.len());
        let (tenant, kind, seq, target) = (TenantId::TEST, Kind::Control, Seq::ZERO, None);
        self.items.push(Item { event_id, tenant, kind, seq, target, index, start, split, end });
    }

    /// Appends a record of a tenant with its own place at the receiver.
    #[cfg(test)]
    pub(crate) fn push_encoded_to(&mut self, tenant: TenantId, target: &str, bytes: &[u8]) {
        let number = u8::try_from(self.items.len() % 256).unwrap_or_default();
        let target = self.target(target);
        self.push_encoded(EventId::from_bytes([number; 20]), bytes);
        if let Some(item) = self.items.last_mut() {
            item.tenant = tenant;
            item.target = Some(target);
        }
    }

    /// The records in the order in which they were added.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the batch contains no record.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The buffer with all records in order, for sinks that send them as one stream.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The part of the buffer from one record to the end.
    pub fn bytes_from(&self, first: &Item) -> &[u8] {
        &self.bytes[first.start..]
    }

    /// Bytes that precede the payload, for the sink's own use, such as a message key.
    pub fn key(&self, item: &Item) -> &[u8] {
        &self.bytes[item.start..item.split]
    }

    /// The bytes that are sent to the receiver for one record.
    pub fn payload(&self, item: &Item) -> &[u8] {
        &self.bytes[item.split..item.end]
    }

    /// Empties the batch and keeps its buffers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
        self.truncated = 0;
        self.progress.clear();
        self.attachment = None;
        self.origin = BatchOrigin::Log;
    }

    /// A batch with the records in a range of positions.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        let end = range.end;
        let mut part = self.without(|position| !range.contains(&position));

        // Only the part with the last record reaches the progress.
        if end < self.items.len() {
            part.progress.clear();
        }

        part
    }

    /// A copy of this batch without the records whose positions `is_omitted` selects.
    #[must_use]
    pub fn without(&self, is_omitted: impl Fn(usize) -> bool) -> Self {
        let progress = self.progress.clone();
        let mut part = Self { progress, origin: self.origin, ..Self::default() };

        let items = self.items.iter().enumerate();
        for (_, item) in items.filter(|(position, _)| !is_omitted(*position)) {
            let start = part.bytes.len();
            part.bytes.extend_from_slice(&self.bytes[item.start..item.end]);
            let split = start + (item.split - item.start);
            let end = part.bytes.len();
            part.items.push(Item { start, split, end, ..item.clone() });
        }

        part
    }

    /// A copy of this batch without the records, and without the progress, of these tenants.
    #[must_use]
    pub fn without_tenants(&self, tenants: &HashSet<TenantId>) -> Self {
        let mut part = self.without(|position| tenants.contains(&self.items[position].tenant));
        part.progress.retain(|progress| !tenants.contains(&progress.tenant));
        part
    }
}
