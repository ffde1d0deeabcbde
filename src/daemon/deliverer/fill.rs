//! Fills batches from the log: selects the tenants to serve, round by round, until nothing is left.
//!
//! It reads ahead of the cursors, which move only when a batch is settled; see `window`. `lanes`
//! determines what is pending, `reading` reads the log of one tenant, and `encoding` adds its
//! records to batches. Start reading at [`Deliverer::fill`]. See decision 0020.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Deliverer, DeliveryError};
use crate::{
    derive::Rules,
    error::Explanation,
    model::{Tenant, TenantId},
};

/// The number of tenants that are served before the pending tenants are determined again.
const TENANTS_PER_ROUND: usize = 64;

/// A configured tenant whose ID is resolved.
pub(super) struct ResolvedTenant {
    pub tenant: Arc<Tenant>,
    pub rules: Arc<Rules>,
}

pub(super) type ResolvedTenants = HashMap<TenantId, ResolvedTenant>;

impl Deliverer {
    /// Reads and submits until nothing is left: new entries first, then replays, then dead letters.
    ///
    /// Tenants whose requests fail are served when nothing of the others is left in any lane: their
    /// failure can end the attempt, and only records of others show whether the receiver works; see
    /// `failing_tenants`.
    ///
    /// If the log of one tenant cannot be read, its target is parked, or it is withheld, the others
    /// are served, and the error is returned at the end.
    pub(super) async fn fill(&mut self, cancel: &CancellationToken) -> Result<(), DeliveryError> {
        let mut skipped = self.suspects.waiting();
        let mut last_unreadable = None;
        let started = Instant::now();
        self.failing.begin_attempt();
        self.failing.note_withheld(&self.targets.withheld_tenants());
        self.denials.begin_attempt();
        self.trials.begin_attempt();

        loop {
            let tenants = self.tenants_of_turn(started);
            let (lane, pending) = self.next_lane(&tenants, &skipped)?;
            if pending.is_empty() {
                if self.is_finished(&tenants, &mut skipped).await? {
                    self.park_if_denied()?;
                    let finished = self.finish_targets(started);
                    return last_unreadable.map_or(finished, Err);
                }
                continue;
            }
            if self.sink.is_none() {
                // This may move cursors, so the pending entries are determined again.
                self.ensure_open().await?;
                continue;
            }

            self.change_lane(lane).await?;

            for next in pending.iter().take(TENANTS_PER_ROUND) {
                if cancel.is_cancelled() {
                    return Err(DeliveryError::Canceled);
                }
                let Some(resolved) = tenants.get(&next.tenant) else { continue };
                // Another tenant may have shown in the meantime that its target is refused.
                if self.is_blocked(&resolved.tenant, started) {
                    continue;
                }

                self.last = Some(next.tenant);
                self.suspects.begin(next.tenant);
                let read = self.read_tenant(next, resolved, cancel).await;
                self.suspects.end();
                match read {
                    // A sink that was closed has lost records that are not acknowledged, so the
                    // logs are read again from the cursors.
                    Err(error) if error.affects_one_tenant() && self.sink.is_some() => {
                        let explanation = Explanation::of(&error);
                        tracing::error!(
                            sink = self.plan.name.as_str(),
                            tenant = resolved.tenant.name,
                            error = explanation.message,
                            hint = explanation.hint,
                            "cannot read the tenant's log; skipping the tenant"
                        );
                        skipped.insert(next.tenant);
                        last_unreadable = Some(error);
                    }
                    result => result?,
                }
            }
        }
    }

    /// Settles everything that was read, retries dead letters, and begins the next turn. Returns
    /// whether nothing is left to read.
    async fn is_finished(
        &mut self,
        tenants: &ResolvedTenants,
        skipped: &mut HashSet<TenantId>,
    ) -> Result<bool, DeliveryError> {
        self.submit().await?;
        self.settle_all().await?;
        self.targets.cursors_are_read();
        // A settled batch may have left records unsent, so the cursors are read again.
        if !std::mem::take(&mut self.read_positions).is_empty()
            || self.retry_dead_letters(tenants).await?
        {
            return Ok(false);
        }
        if self.failing.begin_next_turn() {
            return Ok(false);
        }

        let suspect = self.suspects.take_next();
        Ok(suspect.is_none_or(|suspect| !skipped.remove(&suspect)))
    }

    /// Whether a request has failed in this attempt, and tenants with records are left that have
    /// failed less often than those of the failed batch. `false` if the checkpoint cannot be read,
    /// and for a sink that stores its progress, because its receiver does not interpret texts.
    pub(super) fn has_untried_tenants(&self) -> bool {
        if !self.failing.has_failed() || self.plan.plan.stores_progress() {
            return false;
        }
        let (tenants, skipped) = (self.tenants_of_turn(Instant::now()), self.suspects.waiting());
        let pending = self.next_lane(&tenants, &skipped);
        pending.is_ok_and(|(_, pending)| !pending.is_empty())
            || self.next_dead_letters(&tenants).is_ok_and(|letters| !letters.is_empty())
    }

    /// The tenants that are served in the current turn and do not wait at this time.
    fn tenants_of_turn(&self, now: Instant) -> ResolvedTenants {
        let mut tenants = self.resolved_tenants();
        tenants.retain(|id, resolved| {
            self.failing.serves(*id) && !self.is_blocked(&resolved.tenant, now)
        });
        tenants
    }

    fn resolved_tenants(&self) -> ResolvedTenants {
        let states = self.engine.tenants().iter();
        let resolved = states.filter_map(|state| {
            let tenant = state.resolved()?;
            let rules = Arc::clone(&state.plan.rules);
            Some((tenant.id, ResolvedTenant { tenant, rules }))
        });
        resolved.collect()
    }
}
