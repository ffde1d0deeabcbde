//! Caches for rendered parts of records. The output must be the same with an empty cache. Both
//! caches are bounded, so memory does not grow with the number of tenants. See decision 0045.

use std::collections::HashMap;

use crate::model::{Day, Record, Seq, TenantId, UnixMillis};

/// Rendered parts by the key of a profile. Equal profiles of different tenants have equal keys and
/// share the part.
#[derive(Debug)]
pub(super) struct ByProfile<T>(HashMap<u64, T>);

/// The number of cached profiles at which the cache is cleared; several times the number of
/// profiles that Microsoft publishes.
const MAX_PROFILES: usize = 4_096;

/// The part that all records of the most recent entry share.
#[derive(Debug, Default)]
pub(super) struct ByEntry {
    /// Everything that the part may depend on: tenant, day, seq, and the times of the record.
    key: Option<(TenantId, Day, Seq, UnixMillis, UnixMillis)>,
    bytes: Vec<u8>,
}

impl<T> Default for ByProfile<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> ByProfile<T> {
    /// The cached part of a profile, which `render` creates if it is missing.
    pub(super) fn get(&mut self, key: u64, render: impl FnOnce() -> T) -> &mut T {
        if self.0.len() >= MAX_PROFILES && !self.0.contains_key(&key) {
            self.0.clear();
        }
        self.0.entry(key).or_insert_with(render)
    }
}

impl ByEntry {
    /// The cached part of the record's entry, which `render` creates if the entry is new.
    pub(super) fn get(&mut self, record: &Record<'_>, render: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let snapshot = record.snapshot;
        let key = (record.tenant.id, snapshot.day, snapshot.seq, record.observed_at, record.time);
        if self.key != Some(key) {
            self.key = Some(key);
            self.bytes.clear();
            render(&mut self.bytes);
        }
        &self.bytes
    }
}
