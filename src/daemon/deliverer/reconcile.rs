//! Cursors beside what the receiver itself has kept of its progress.
//!
//! Of the same log, whichever is further is right: a batch may have been committed there and not
//! here. Of another log (the database was lost, or put back as it was yesterday) places mean
//! nothing; then the days that were sent are passed over as they come up again, by day and digest.

use std::collections::HashMap;

use tokio::task::block_in_place;

use super::{Deliverer, DeliveryError, outgoing_batch::OutgoingBatch};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, Position, StoredEntry},
    model::{DayFacts, Snapshot, TenantId, day_digest},
    sink::{Progress, Sent},
};

/// What was sent from other logs, by tenant.
pub(super) type Elsewhere = HashMap<TenantId, Sent>;

impl Deliverer {
    /// Takes in what the receiver has kept; cursors may move forward.
    pub(super) fn reconcile(&mut self, kept: &[Progress]) -> Result<(), DeliveryError> {
        self.elsewhere.clear();
        for progress in kept {
            let tenant = progress.tenant;
            if block_in_place(|| is_of(&self.engine.checkpoint, progress))? {
                let to = Position { seq: progress.seq, record_index: 0 };
                let moved =
                    block_in_place(|| self.engine.checkpoint.skip_to(&self.plan.name, tenant, to))?;
                if moved {
                    tracing::info!(
                        sink = self.plan.name,
                        tenant = %tenant,
                        seq = to.seq,
                        "the receiver has more than the checkpoint knew: going on behind it"
                    );
                }
            } else {
                tracing::info!(
                    sink = self.plan.name,
                    tenant = %tenant,
                    days = progress.sent.ranges(),
                    "another checkpoint has sent days of this tenant: they are passed over"
                );
                self.elsewhere.insert(tenant, progress.sent.clone());
            }
        }
        Ok(())
    }

    /// Whether all of an entry has been sent from another log.
    pub(super) fn was_sent_elsewhere(
        &self,
        tenant: TenantId,
        entry: &StoredEntry,
        snapshot: &Snapshot<'_>,
    ) -> bool {
        let Some(sent) = self.elsewhere.get(&tenant) else { return false };
        // A revision of this log is one that the other has not seen.
        entry.snapshot.revision == 1
            && DayFacts::of(snapshot)
                .is_some_and(|facts| sent.covers(entry.snapshot.day, day_digest(&facts)))
    }

    /// How far each tenant of a load comes with it.
    pub(super) fn progress_of(
        &self,
        outgoing: &OutgoingBatch,
    ) -> Result<Vec<Progress>, CheckpointError> {
        let checkpoint = &self.engine.checkpoint;
        let progress = |(tenant, to): (TenantId, Position)| {
            let mut sent = sent_before(checkpoint, tenant, to.seq)?;
            if let Some(elsewhere) = self.elsewhere.get(&tenant) {
                sent.merge(elsewhere);
            }
            Ok(Progress { tenant, checkpoint: checkpoint.id().to_owned(), seq: to.seq, sent })
        };
        outgoing.ends().map(progress).collect()
    }
}

/// Whether a progress was made in this very log, as it is now.
fn is_of(checkpoint: &Checkpoint, progress: &Progress) -> Result<bool, CheckpointError> {
    if progress.checkpoint != checkpoint.id()
        || checkpoint.next_seq(progress.tenant)? < progress.seq
    {
        return Ok(false);
    }
    let ours = sent_before(checkpoint, progress.tenant, progress.seq)?;
    Ok(ours.newest() == progress.sent.newest())
}

fn sent_before(
    checkpoint: &Checkpoint,
    tenant: TenantId,
    seq: u64,
) -> Result<Sent, CheckpointError> {
    let (days, digest) = checkpoint.days_before(tenant, seq)?;
    let newest = days.first().copied().zip(digest);
    Ok(Sent::new(days, newest))
}
