//! Connects the parked targets and the withheld tenants of a sink with its deliverer: which tenants
//! wait, what the log and the metrics report, and what ends an attempt. `targets` and `rejections`
//! make the decisions. Start reading at [`Deliverer::update_targets`]. See decisions 0081, 0087 and
//! 0093.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use tokio::time::Instant;

use super::{
    Deliverer, DeliveryError,
    rejections::{RecordOutcome, RejectionCounter, sink_at_fault},
    targets::TargetTrial,
};
use crate::{
    checkpoint::Lane,
    config::SinkPlan,
    daemon::Engine,
    error::Explanation,
    model::{Tenant, TenantId},
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
                    sink = self.plan.name.as_str(),
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
                sink = self.plan.name.as_str(),
                target_name = name.as_str(),
                error = reason,
                hint = hint.as_deref(),
                "target parked; the backlog of its tenants is kept"
            );
        }
        self.report_targets();
    }

    /// The withheld tenants whose records the receiver accepts. A batch that was in flight while a
    /// tenant was withheld does not count.
    pub(super) fn accepted_tenants(
        &self,
        lane: Lane,
        outcomes: &[RecordOutcome],
    ) -> BTreeSet<TenantId> {
        let mut tenants = self.targets.withheld_tenants();
        tenants.retain(|tenant| {
            let mut of_tenant = outcomes.iter().filter(|outcome| outcome.tenant == *tenant);
            !self.targets.holds(lane, *tenant) && of_tenant.any(RecordOutcome::has_arrived)
        });
        tenants
    }

    /// Withholds the tenants with too many rejected records, or with requests that fail, and
    /// releases all others that are `accepted`.
    pub(super) fn update_tenants(
        &mut self,
        lane: Lane,
        accepted: BTreeSet<TenantId>,
        rejected: Vec<(TenantId, Explanation)>,
    ) {
        if accepted.is_empty() && rejected.is_empty() {
            return;
        }

        for tenant in accepted {
            let is_rejected = rejected.iter().any(|(rejected, _)| *rejected == tenant);
            if !is_rejected && self.targets.release_tenant(tenant) {
                tracing::info!(
                    sink = self.plan.name.as_str(),
                    tenant = self.name_of(tenant),
                    "tenant recovered; its records are delivered again"
                );
            }
        }

        let now = Instant::now();
        for (tenant, problem) in rejected {
            let name = self.name_of(tenant);
            let Explanation { message: reason, hint } = problem.within(&format!("tenant `{name}`"));
            // The name of a target contains no space.
            let name = TargetName::new(&format!("tenant {name}"));
            let refused = RefusedTarget { name, reason, hint: hint.map(Cow::Owned) };
            self.targets.withhold(lane, tenant, refused, now);
        }
        self.report_targets();
    }

    /// Decides what the end of a batch means for the withheld tenants. `suspected` are those whose
    /// rejections could be due to the configuration before it.
    pub(super) fn update_withheld(
        &mut self,
        has_arrived: bool,
        stopped: Option<&DeliveryError>,
        suspected: BTreeSet<TenantId>,
    ) {
        if stopped.is_some_and(DeliveryError::is_misconfigured) {
            self.note_park(suspected);
        }
        if self.trials.has_retried_enough() {
            self.targets.postpone_due(Instant::now());
        }
        self.failing.note_withheld(&self.targets.withheld_tenants());
        if has_arrived {
            self.log_withheld();
        }
    }

    /// Notes that the sink is parked. Releases the tenants that were withheld although the
    /// configuration may have been the cause; the others remain withheld.
    fn note_park(&mut self, mut suspected: BTreeSet<TenantId>) {
        suspected.extend(self.denials.take_tenants());
        self.trials.park();
        self.targets.release_tenants(&suspected);
        self.report_targets();
    }

    /// Logs the tenants that were withheld since the last call. It is called when records have
    /// arrived, and at the end of an attempt: if the sink parks, its tenants are not the cause.
    pub(super) fn log_withheld(&mut self) {
        for (tenant, refused) in self.targets.take_unlogged() {
            tracing::error!(
                sink = self.plan.name.as_str(),
                tenant = self.name_of(tenant),
                error = refused.reason,
                hint = refused.hint.as_deref(),
                "tenant withheld; its backlog is kept"
            );
        }
    }

    /// The name of a tenant in the configuration.
    fn name_of(&self, id: TenantId) -> String {
        let mut tenants = self.engine.tenants().resolved();
        let tenant = tenants.find(|tenant| tenant.id == id);
        tenant.map_or_else(|| id.to_string(), |tenant| tenant.name.clone())
    }

    /// Whether the records of a tenant wait: it is withheld, or one of its targets is parked, and
    /// is not due at this time.
    pub(super) fn is_blocked(&self, tenant: &Tenant, now: Instant) -> bool {
        !self.targets.is_empty()
            && self.targets.block(tenant.id, &target_names(&self.plan, tenant), now)
    }

    /// Notes that the records of a tenant are read from now on. If they show whether a parked
    /// target is still refused, submits the records before them, because a transaction that is
    /// refused would send these again.
    pub(super) async fn begin_tenant(&mut self, tenant: &Tenant) -> Result<(), DeliveryError> {
        let is_empty = self.targets.is_empty();
        let targets = if is_empty { Vec::new() } else { target_names(&self.plan, tenant) };
        self.targets.begin(&targets);
        if self.targets.tries_one_record() { self.submit().await } else { Ok(()) }
    }

    /// Fails if requests were denied or rejected although nothing shows that their tenants are the
    /// cause: the configuration is, and the whole sink parks.
    pub(super) fn park_if_denied(&mut self) -> Result<(), DeliveryError> {
        let withheld = self.targets.withheld_tenants();
        let Some(problem) = self.denials.unexplained(&withheld) else { return Ok(()) };
        let suspected = self.rejections.suspects();
        self.rejections = RejectionCounter::default();
        self.note_park(suspected);
        Err(sink_at_fault(problem))
    }

    /// The result of an attempt after which nothing is left to send except to parked targets and
    /// for withheld tenants. `started` is the time of its beginning.
    pub(super) fn finish_targets(&mut self, started: Instant) -> Result<(), DeliveryError> {
        self.targets.release_due(started);
        self.report_targets();
        self.targets.failure().map_or(Ok(()), |failure| Err(DeliveryError::Sink(failure)))
    }

    fn report_targets(&self) {
        self.meter.set_parked_targets(self.targets.names().map(ToString::to_string).collect());
    }
}

/// The tenants whose records are sent to a target of a sink; for `None`, all tenants of the sink.
pub(super) fn served_tenants(
    engine: &Engine,
    plan: &SinkPlan,
    target: Option<&TargetName>,
) -> Vec<TenantId> {
    let states = engine.tenants().iter().filter(|state| plan.tenants.matches(&state.plan));
    let tenants = states.filter_map(|state| state.resolved());
    let is_served = |tenant: &Arc<Tenant>| {
        target.is_none_or(|target| {
            target_names(plan, tenant).iter().any(|name| name == target.as_str())
        })
    };
    tenants.filter(is_served).map(|tenant| tenant.id).collect()
}

/// The names of the places to which the records of a tenant are sent. Records without a valid name
/// become dead letters and do not wait.
fn target_names(plan: &SinkPlan, tenant: &Tenant) -> Vec<String> {
    let destination = plan.plan.destination();
    let of_tenant = destination.and_then(|destination| destination.of_tenant(tenant).ok());
    of_tenant.map(|found| found.names).unwrap_or_default()
}
