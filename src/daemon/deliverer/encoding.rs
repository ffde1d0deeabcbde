//! Adds the records of entries to the current batch, and submits the batch when it is full.
//!
//! It notes up to which position each log has been read, so that the next batch continues there.
//! Start reading at [`Deliverer::add_entry`].

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    Deliverer, DeliveryError,
    decoded::{Decoded, ReadContext, observation_entry, rfc3339},
};
use crate::{
    checkpoint::{Position, StoredObservation, StoredSnapshot},
    derive::{Records, quality},
    model::{Record, TenantId},
};

impl Deliverer {
    /// Adds the records of an entry, submitting batches as they become full. `at` is the position
    /// at which the read began, which may be inside this entry.
    pub(super) async fn add_entry(
        &mut self,
        entry: &StoredSnapshot,
        decoded: Decoded<'_>,
        context: ReadContext<'_>,
        at: Position,
        cancel: &CancellationToken,
    ) -> Result<(), DeliveryError> {
        let seq = entry.snapshot.seq;
        let selection = Arc::clone(&self.plan.selection);
        let tenant = context.tenant.id;
        let entry = decoded.entry(entry, context);
        let records = Records::new(&entry, decoded.snapshot(), &selection);

        let first = if seq == at.seq { at.record_index } else { 0 };
        for record_index in first..records.end() {
            let Some(record) = records.at(record_index) else { continue };
            self.encode(&record, Position { seq, record_index });
            if !self.plan.plan.whole_entries() && self.is_full() {
                if cancel.is_cancelled() {
                    return Err(DeliveryError::Canceled);
                }
                let next = Position { seq, record_index: record_index + 1 };
                self.advance_to(tenant, next);
                self.submit_if_full(tenant, next).await?;
                if self.waits_for_target(tenant) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Adds an observation. A sink never receives an observation about itself.
    pub(super) fn add_observation(&mut self, stored: &StoredObservation, context: ReadContext<'_>) {
        if stored.observation.subject.is_sink(&self.plan.name) {
            return;
        }

        let observed_time = rfc3339(stored.observed_at);
        let record = quality(&observation_entry(stored, &observed_time, context));
        self.encode(&record, Position { seq: stored.snapshot.seq, record_index: 0 });
    }

    /// Notes that the log of a tenant has been read up to this position.
    pub(super) fn advance_to(&mut self, tenant: TenantId, to: Position) {
        self.outgoing.advance_to(to);
        self.read_positions.insert((self.outgoing.lane, tenant), to);
    }

    /// Submits the current batch if it is full, and begins the next one at this position of the
    /// tenant's log. If the last record shows whether a parked target is still refused, waits for
    /// its outcome.
    pub(super) async fn submit_if_full(
        &mut self,
        tenant: TenantId,
        next: Position,
    ) -> Result<(), DeliveryError> {
        if !self.is_full() {
            return Ok(());
        }
        let tries_one_record = self.targets.tries_one_record();
        self.submit().await?;
        if tries_one_record {
            self.settle_all().await?;
        }
        if !self.waits_for_target(tenant) {
            self.outgoing.begin(tenant, next);
        }
        Ok(())
    }

    /// Whether records of the tenant were withheld, so that no later ones are read.
    pub(super) fn waits_for_target(&self, tenant: TenantId) -> bool {
        self.targets.holds(self.outgoing.lane, tenant)
    }

    /// Whether the current batch is submitted before another record is added.
    pub(super) fn is_full(&self) -> bool {
        let batch = &self.outgoing.batch;
        self.outgoing.is_full(self.limits)
            || (self.targets.tries_one_record() && !batch.is_empty())
            || self.sink.as_ref().is_some_and(|sink| sink.is_full(batch))
    }

    /// Encodes a record into the current batch. A record that cannot be encoded is added as
    /// rejected.
    fn encode(&mut self, record: &Record<'_>, at: Position) {
        if let Some(sink) = self.sink.as_mut() {
            let rejected = sink.encode(record, &mut self.outgoing.batch).err().map(|r| r.0);
            self.outgoing.add(at, record.event_id, rejected);
        }
    }
}
