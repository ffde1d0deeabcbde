//! The lane of new entries, which begins at the cursors of the sink.
//!
//! An entry that was sent from the log of an earlier checkpoint is skipped; see `reconcile`. Start
//! reading at [`Deliverer::pending_entries`].

use crate::{
    checkpoint::{CheckpointError, Pending, StoredSnapshot},
    daemon::deliverer::Deliverer,
    model::{DayFacts, Snapshot, TenantId, day_hash},
};

impl Deliverer {
    /// The tenants with entries after the cursors of the sink.
    pub(super) fn pending_entries(&self) -> Result<Vec<Pending>, CheckpointError> {
        self.engine.store().run(|checkpoint| checkpoint.pending(&self.plan.name))
    }

    /// Whether an entry has been sent completely from another log.
    pub(in crate::daemon::deliverer) fn was_sent_from_another_log(
        &self,
        tenant: TenantId,
        entry: &StoredSnapshot,
        snapshot: &Snapshot<'_>,
    ) -> bool {
        let Some(sent) = self.foreign_progress.get(&tenant) else { return false };
        // A later revision was read by this checkpoint only, so the other log did not contain it.
        entry.snapshot.revision == 1
            && DayFacts::of(snapshot)
                .is_some_and(|facts| sent.covers(entry.snapshot.day, day_hash(&facts)))
    }
}
