//! Reads the log of one tenant in the lanes of new entries and replays, from the position up to
//! which it has been read, and submits batches as they become full or old.
//!
//! A read is limited in bytes, so that the entries of a long backlog are never in memory at the
//! same time. Start reading at [`Deliverer::read_tenant`]. See decision 0020.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    Deliverer, DeliveryError,
    decoded::{Decoded, ReadContext},
    fill::ResolvedTenant,
};
use crate::{
    checkpoint::{Lane, LogEntry, Pending, Position, ReadRequest, StoredSnapshot},
    model::Baseline,
};

/// The number of bytes of bodies that are read from the log at a time.
const READ_AHEAD_BYTES: usize = 2 << 20;
/// A batch is submitted after this time even if it is not full.
const MAX_BATCH_AGE: Duration = Duration::from_secs(1);

impl Deliverer {
    /// Reads the next entries of a tenant and adds their records to batches.
    pub(super) async fn read_tenant(
        &mut self,
        pending: &Pending,
        resolved: &ResolvedTenant,
        cancel: &CancellationToken,
    ) -> Result<(), DeliveryError> {
        let range = ReadRequest {
            tenant: pending.tenant,
            first_seq: pending.at.seq,
            last_seq: pending.last_seq,
            first_day: pending.first_day,
            last_day: pending.last_day,
            max_bytes: READ_AHEAD_BYTES,
            with_bases: self.plan.selection.needs_base(),
            with_observations: self.plan.selection.quality,
        };
        let (entries, baselines) = self.read_log(&range)?;
        let replayed = self.outgoing.lane != Lane::Live;
        let context = ReadContext {
            tenant: &resolved.tenant,
            rules: &resolved.rules,
            baselines: &baselines,
            replayed,
        };

        self.begin_tenant(context.tenant).await?;
        self.outgoing.begin(pending.tenant, pending.at);
        for stored in &entries {
            if self.waits_for_target(pending.tenant) {
                return Ok(());
            }
            match stored {
                LogEntry::Snapshot(entry) => {
                    let decoded = self.decode(entry)?;
                    let (tenant, snapshot) = (pending.tenant, decoded.snapshot());
                    let is_sent = self.outgoing.lane == Lane::Live
                        && self.was_sent_from_another_log(tenant, entry, snapshot);
                    if !is_sent {
                        self.add_entry(entry, decoded, context, pending.at, cancel).await?;
                    }
                }
                LogEntry::Observation(stored) => self.add_observation(stored, context),
            }

            let next = Position { seq: stored.seq().next(), record_index: 0 };
            self.advance_to(pending.tenant, next);
            self.submit_if_full(pending.tenant, next).await?;
        }

        if entries.is_empty() {
            self.advance_to(
                pending.tenant,
                Position { seq: pending.last_seq.next(), record_index: 0 },
            );
        }
        // A digest is one message, however long it takes to read its entries.
        if self.outgoing.age() > MAX_BATCH_AGE && self.plan.digest.is_none() {
            self.submit().await?;
        }
        Ok(())
    }

    fn read_log(
        &self,
        range: &ReadRequest,
    ) -> Result<(Vec<LogEntry>, Vec<Baseline>), DeliveryError> {
        let store = self.engine.store();
        store.run(|checkpoint| Ok((checkpoint.read(range)?, checkpoint.baselines(range.tenant)?)))
    }

    fn decode<'e>(&mut self, entry: &'e StoredSnapshot) -> Result<Decoded<'e>, DeliveryError> {
        let store = self.engine.store();
        store.run(|checkpoint| Decoded::read(entry, checkpoint, &mut self.catalogs))
    }
}
