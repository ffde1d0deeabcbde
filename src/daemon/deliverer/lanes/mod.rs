//! The lanes of a sink, each of which is a source of records: new entries (`live`), stored days
//! that are sent again (`replay`), and dead letters that are retried (`dead_letters`).
//!
//! A batch has records of one lane only. A lane is read when nothing is left in those before it, in
//! this order, for the tenants that are served: those whose requests fail are served last, in all
//! lanes; see `failing_tenants`. Start reading at [`Deliverer::next_lane`]. See decision 0020.

mod dead_letters;
mod live;
mod replay;

use std::collections::HashSet;

pub(in crate::daemon) use self::dead_letters::{DeadLetterContext, derive_dead_letter};
use super::{Deliverer, DeliveryError, fill::ResolvedTenants, rotation::rotate};
use crate::{
    checkpoint::{Lane, Pending},
    model::TenantId,
};

impl Deliverer {
    /// The lane to read next, and its tenants in the order in which they are served, each with the
    /// position from which to continue reading. Dead letters are not included: they are retried
    /// when no tenant is left in the other lanes.
    pub(super) fn next_lane(
        &self,
        tenants: &ResolvedTenants,
        skipped: &HashSet<TenantId>,
    ) -> Result<(Lane, Vec<Pending>), DeliveryError> {
        let is_served =
            |tenant: TenantId| tenants.contains_key(&tenant) && !skipped.contains(&tenant);
        let unread = |lane: Lane, mut pending: Vec<Pending>| {
            for next in &mut pending {
                next.at = *self.read_positions.get(&(lane, next.tenant)).unwrap_or(&next.at);
            }
            // The log of a tenant that is no longer configured is kept but not sent. A tenant with
            // withheld records is read again after everything that was read is settled.
            pending.retain(|p| {
                p.at.seq <= p.last_seq && is_served(p.tenant) && !self.targets.holds(lane, p.tenant)
            });
            rotate(&mut pending, self.last, |tenant| self.targets.is_busy(tenant));
            pending
        };

        let live = unread(Lane::Live, self.pending_entries()?);
        if live.is_empty()
            && let Some((lane, pending)) = self.pending_replay(is_served)?
        {
            return Ok((lane, unread(lane, pending)));
        }
        Ok((Lane::Live, live))
    }

    /// Submits the current batch if it belongs to another lane.
    pub(super) async fn change_lane(&mut self, lane: Lane) -> Result<(), DeliveryError> {
        if self.outgoing.lane != lane {
            self.submit().await?;
            self.outgoing.lane = lane;
        }
        Ok(())
    }
}
