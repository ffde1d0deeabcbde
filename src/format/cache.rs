//! What a formatter has rendered and will write again.

use std::collections::HashMap;

use crate::model::{Day, Record, TenantId};

/// Rendered pieces by the profile's content, so that tenants with the same profiles share them.
#[derive(Debug)]
pub(super) struct ByProfile<T>(HashMap<u64, T>);

/// Several times the profiles there are; old ones go when there are more.
const MAX_PROFILES: usize = 4_096;

/// The piece that all records of one entry share.
#[derive(Debug, Default)]
pub(super) struct ByEntry {
    key: Option<(TenantId, Day, u64, i64, i64)>,
    bytes: Vec<u8>,
}

impl<T> Default for ByProfile<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> ByProfile<T> {
    pub(super) fn get(&mut self, key: u64, render: impl FnOnce() -> T) -> &mut T {
        if self.0.len() >= MAX_PROFILES && !self.0.contains_key(&key) {
            self.0.clear();
        }
        self.0.entry(key).or_insert_with(render)
    }
}

impl ByEntry {
    pub(super) fn get(&mut self, record: &Record<'_>, render: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let at = record.snapshot;
        let key = (record.tenant.id, at.day, at.seq, record.observed_ms, record.time_ms);
        if self.key != Some(key) {
            self.key = Some(key);
            self.bytes.clear();
            render(&mut self.bytes);
        }
        &self.bytes
    }
}
