//! Decodes entries of the log, and connects each with everything that its records are derived from.
//!
//! All lanes use it, so a record is the same in each of them, except that it may be marked as
//! replayed. Start reading at [`Decoded::read`].

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    DeliveryError,
    catalogs::{Catalogs, compared_to},
};
use crate::{
    checkpoint::{Checkpoint, StoredObservation, StoredSnapshot, baseline_in_force},
    derive::{Entry, ObservationEntry, Rules},
    error::chain,
    model::{Baseline, Catalog, Snapshot, Tenant, UnixMillis},
    wire,
};

/// An entry whose body and catalogs are decoded.
pub(super) struct Decoded<'a> {
    catalog: Arc<Catalog>,
    base_catalog: Option<Arc<Catalog>>,
    snapshot: Snapshot<'a>,
    observed_time: String,
}

/// What all entries of one read have in common.
#[derive(Clone, Copy)]
pub(super) struct ReadContext<'a> {
    pub tenant: &'a Tenant,
    pub rules: &'a Rules,
    pub baselines: &'a [Baseline],
    pub replayed: bool,
}

impl<'a> Decoded<'a> {
    /// Decodes an entry, with its catalogs. Fails if the catalogs cannot be read, or if the body
    /// cannot be decoded.
    pub(super) fn read(
        entry: &'a StoredSnapshot,
        checkpoint: &Checkpoint,
        catalogs: &mut Catalogs,
    ) -> Result<Self, DeliveryError> {
        let seq = entry.snapshot.seq;
        let (catalog, base_catalog) = catalogs.pair(checkpoint, entry.catalog, &entry.context)?;

        let snapshot = wire::snapshot(&entry.body)
            .map_err(|error| DeliveryError::Entry { seq, reason: chain(&error) })?;
        let observed_time = rfc3339(entry.observed_at);
        Ok(Self { catalog, base_catalog, snapshot, observed_time })
    }

    /// The decoded body.
    pub(super) fn snapshot(&self) -> &Snapshot<'a> {
        &self.snapshot
    }

    /// The entry from which records are derived.
    pub(super) fn entry<'e>(
        &'e self,
        stored: &'e StoredSnapshot,
        context: ReadContext<'e>,
    ) -> Entry<'e> {
        Entry {
            tenant: context.tenant,
            snapshot: &stored.snapshot,
            observed_time: &self.observed_time,
            observed_at: stored.observed_at,
            history: &stored.history,
            catalog: &self.catalog,
            comparison: compared_to(
                &stored.context,
                self.base_catalog.as_deref(),
                baseline_in_force(context.baselines, stored.snapshot.seq),
            ),
            rules: context.rules,
            replayed: context.replayed,
        }
    }
}

/// The entry from which the record of an observation is derived.
pub(super) fn observation_entry<'e>(
    stored: &'e StoredObservation,
    observed_time: &'e str,
    context: ReadContext<'e>,
) -> ObservationEntry<'e> {
    ObservationEntry {
        tenant: context.tenant,
        observation: &stored.observation,
        snapshot: &stored.snapshot,
        observed_time,
        observed_at: stored.observed_at,
        repeats: stored.repeats,
        replayed: context.replayed,
        rules: context.rules,
    }
}

/// A time as RFC 3339 in UTC.
pub(super) fn rfc3339(time: UnixMillis) -> String {
    Timestamp::from(time).to_string()
}
