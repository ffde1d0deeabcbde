//! Connects the parked targets of a sink with its deliverer: which tenants wait, what the log and
//! the metrics report, and what ends an attempt. `targets` makes the decisions. Start reading at
//! [`Deliverer::update_targets`]. See decision 0081.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{Deliverer, DeliveryError, rejections::RecordOutcome, targets::TargetTrial};
use crate::{
    model::Tenant,
    sink::{RefusedTarget, TargetName},
};

impl Deliverer {
    /// The parked targets to which records have arrived.
    pub(super) fn accepting_targets(&self, outcomes: &[RecordOutcome]) -> BTreeSet<TargetName> {
        if self.targets.is_empty() {
            return BTreeSet::new();
        }
        let arrived = outcomes.iter().filter(|outcome| outcome.has_arrived());
        let targets = arrived.filter_map(|outcome| outcome.target.as_ref());
        targets.filter(|target| self.targets.contains(target)).cloned().collect()
    }

    /// Parks the targets that the receiver has refused, or that have rejected too many records, and
    /// releases all others that are `accepting` records.
    pub(super) fn update_targets(
        &mut self,
        accepting: &BTreeSet<TargetName>,
        refused: Vec<RefusedTarget>,
        rejecting: Vec<RefusedTarget>,
    ) {
        if self.targets.is_empty() && refused.is_empty() && rejecting.is_empty() {
            return;
        }

        for target in accepting {
            let is_parked = rejecting.iter().any(|rejecting| rejecting.name == *target);
            if !is_parked && self.targets.release(target) {
                tracing::info!(
                    sink = self.plan.name,
                    target_name = target.as_str(),
                    "target recovered"
                );
            }
        }

        let now = Instant::now();
        let mut parked = self.targets.park(refused, TargetTrial::OneRecord, now);
        parked.extend(self.targets.park(rejecting, TargetTrial::WholeBatch, now));
        for RefusedTarget { name, reason, hint } in parked {
            tracing::error!(
                sink = self.plan.name,
                target_name = name.as_str(),
                error = reason,
                hint = hint.as_deref(),
                "target parked; the backlog of its tenants is kept"
            );
        }
        self.report_targets();
    }

    /// Whether the records of a tenant wait for a parked target that is not due at this time.
    pub(super) fn is_blocked(&self, tenant: &Tenant, now: Instant) -> bool {
        !self.targets.is_empty() && self.targets.block(&self.targets_of(tenant), now)
    }

    /// Notes that the records of a tenant are read from now on. If they show whether a parked
    /// target is still refused, submits the records before them, because a transaction that is
    /// refused would send these again.
    pub(super) async fn begin_tenant(&mut self, tenant: &Tenant) -> Result<(), DeliveryError> {
        let targets = if self.targets.is_empty() { Vec::new() } else { self.targets_of(tenant) };
        self.targets.begin(&targets);
        if self.targets.tries_one_record() { self.submit().await } else { Ok(()) }
    }

    /// The result of an attempt after which nothing is left to send except to parked targets.
    /// `started` is the time of its beginning.
    pub(super) fn finish_targets(&mut self, started: Instant) -> Result<(), DeliveryError> {
        self.targets.release_due(started);
        self.report_targets();
        self.targets.failure().map_or(Ok(()), |failure| Err(DeliveryError::Sink(failure)))
    }

    /// The names of the places to which the records of a tenant are sent. Records without a valid
    /// name become dead letters and do not wait.
    fn targets_of(&self, tenant: &Tenant) -> Vec<String> {
        let destination = self.plan.plan.destination();
        let of_tenant = destination.and_then(|destination| destination.of_tenant(tenant).ok());
        of_tenant.map(|found| found.names).unwrap_or_default()
    }

    fn report_targets(&self) {
        self.meter.set_parked_targets(self.targets.names().map(ToString::to_string).collect());
    }
}
