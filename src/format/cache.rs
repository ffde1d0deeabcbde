//! What a formatter has rendered and will write again.

use crate::model::{Day, Record, TenantId};

/// Rendered pieces by the catalogue's version and the profile's place in it.
#[derive(Debug)]
pub(super) struct ByProfile<T> {
    version: u64,
    slots: Vec<Option<T>>,
}

/// The piece that all records of one entry share.
#[derive(Debug, Default)]
pub(super) struct ByEntry {
    key: Option<(TenantId, Day, u64, i64)>,
    bytes: Vec<u8>,
}

impl<T> Default for ByProfile<T> {
    fn default() -> Self {
        Self { version: 0, slots: Vec::new() }
    }
}

impl<T> ByProfile<T> {
    pub(super) fn get(&mut self, version: u64, slot: usize, render: impl FnOnce() -> T) -> &mut T {
        if self.version != version {
            self.version = version;
            self.slots.clear();
        }
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        self.slots[slot].get_or_insert_with(render)
    }
}

impl ByEntry {
    pub(super) fn get(&mut self, record: &Record<'_>, render: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let at = record.snapshot;
        let key = (record.tenant.id, at.day, at.seq, record.observed_ms);
        if self.key != Some(key) {
            self.key = Some(key);
            self.bytes.clear();
            render(&mut self.bytes);
        }
        &self.bytes
    }
}
