//! The lane of stored days that are sent again, which begins at the positions of a replay job.
//!
//! The jobs of a sink are read one after the other, in the order in which they were queued. They
//! never move its live cursors. Start reading at [`Deliverer::pending_replay`].

use crate::{
    checkpoint::{CheckpointError, Lane, Pending},
    daemon::deliverer::Deliverer,
};

impl Deliverer {
    /// The lane of the oldest replay job that is not complete, and the tenants with entries that it
    /// has not sent; `None` if there is no such job.
    pub(super) fn pending_replay(&self) -> Result<Option<(Lane, Vec<Pending>)>, CheckpointError> {
        self.engine.store().run(|checkpoint| checkpoint.pending_replay(&self.plan.name))
    }
}
