//! Reconciles cursors with the progress that a receiver has stored, for example in a Kafka topic.
//!
//! The progress of the same log is compared by `seq`, and the later position is correct: a batch
//! may have been committed by the receiver but not in the checkpoint. The progress of another log
//! (the database was lost or restored) cannot be compared; days that were sent from that log are
//! recognized by day and hash, and skipped.

use std::collections::HashMap;

use super::{Deliverer, DeliveryError, outgoing_batch::OutgoingBatch};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, Position},
    model::{Seq, TenantId},
    sink::{Progress, SentDays},
};

/// The days that were sent from other logs, by tenant.
pub(super) type ForeignProgress = HashMap<TenantId, SentDays>;

impl Deliverer {
    /// Compares the receiver's progress with the checkpoint, and moves cursors forward. Fails if
    /// the checkpoint cannot be read or written.
    pub(super) fn reconcile(&mut self, stored: &[Progress]) -> Result<(), DeliveryError> {
        self.foreign_progress.clear();
        let store = self.engine.store();

        for progress in stored {
            let tenant = progress.tenant;
            if store.run(|checkpoint| is_of_this_log(checkpoint, progress))? {
                let to = Position { seq: progress.seq, record_index: 0 };
                let moved =
                    store.run(|checkpoint| checkpoint.skip_to(&self.plan.name, tenant, to))?;
                if moved {
                    tracing::info!(
                        sink = self.plan.name.as_str(),
                        tenant = %tenant,
                        seq = to.seq.get(),
                        "the receiver's progress is ahead of the checkpoint; continuing after it"
                    );
                }
            } else {
                tracing::info!(
                    sink = self.plan.name.as_str(),
                    tenant = %tenant,
                    days = progress.sent.ranges(),
                    "another checkpoint has already sent days of this tenant; skipping them"
                );
                self.foreign_progress.insert(tenant, progress.sent.clone());
            }
        }
        Ok(())
    }

    /// The progress of each tenant of a batch, for the receiver to store with it. A tenant with a
    /// record that could not be encoded has none: after a kill before the record is stored as a
    /// dead letter, the batch is read again. Fails if the checkpoint cannot be read.
    pub(super) fn progress_of(
        &self,
        outgoing: &OutgoingBatch,
    ) -> Result<Vec<Progress>, CheckpointError> {
        let checkpoint = self.engine.store().checkpoint();
        let rejected = outgoing.rejected();
        let progress = |(tenant, to): (TenantId, Position)| {
            let mut sent = sent_before(checkpoint, tenant, to.seq)?;
            if let Some(foreign) = self.foreign_progress.get(&tenant) {
                sent.merge(foreign);
            }
            Ok(Progress { tenant, checkpoint: checkpoint.id().clone(), seq: to.seq, sent })
        };
        let complete = outgoing.ends().filter(|(tenant, _)| !rejected.contains_key(tenant));
        complete.map(progress).collect()
    }
}

/// Whether progress refers to this log. The ID alone is not sufficient: a database that was copied
/// back without `state restore` has the same ID, but may contain other entries.
fn is_of_this_log(checkpoint: &Checkpoint, progress: &Progress) -> Result<bool, CheckpointError> {
    if progress.checkpoint != *checkpoint.id()
        || checkpoint.next_seq(progress.tenant)? < progress.seq
    {
        return Ok(false);
    }
    let own = sent_before(checkpoint, progress.tenant, progress.seq)?;
    Ok(own.newest() == progress.sent.newest())
}

/// The days of a tenant's log before `seq`.
fn sent_before(
    checkpoint: &Checkpoint,
    tenant: TenantId,
    seq: Seq,
) -> Result<SentDays, CheckpointError> {
    let (days, hash) = checkpoint.days_before(tenant, seq)?;
    let newest = days.first().copied().zip(hash);
    Ok(SentDays::new(days, newest))
}
