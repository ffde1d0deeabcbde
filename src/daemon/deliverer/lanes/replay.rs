//! The lane of stored days that are sent again, which begins at the positions of a replay job.
//!
//! The jobs of a sink are read one after the other, in the order in which they were queued. A job
//! with entries of waiting tenants alone delays no later one. They never move its live cursors.
//! Start reading at [`Deliverer::pending_replay`].

use crate::{
    checkpoint::{CheckpointError, Lane, Pending},
    daemon::deliverer::Deliverer,
    model::TenantId,
};

impl Deliverer {
    /// The lane of the oldest replay job with entries that it has not sent for a tenant that
    /// `is_served`, and all tenants with such entries; `None` if there is no such job.
    pub(super) fn pending_replay(
        &self,
        is_served: impl Fn(TenantId) -> bool,
    ) -> Result<Option<(Lane, Vec<Pending>)>, CheckpointError> {
        let sink = &self.plan.name;
        self.engine.store().run(|checkpoint| checkpoint.pending_replay(sink, &is_served))
    }
}
