//! Decides what the outcomes of a batch mean for cursors, tenants, targets and the sink. If too
//! many records are rejected, it withholds a tenant, or parks the sink or one of its targets;
//! `rejection_limits` counts them.
//!
//! Records that have arrived are settled before. A run of rejections that no accepted record has
//! followed stays in the backlog, because the fault may have caused it. Start reading at
//! [`RejectionCounter::judge`]. See decisions 0022, 0081 and 0087.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::{
    DeliveryError,
    rejection_limits::{MAX_REJECTED_IN_A_ROW, RecentOutcomes, RejectionSource},
};
use crate::{
    checkpoint::{DeadLetter, Position},
    error::Explanation,
    model::{EventId, TenantId},
    sink::{Failure, RefusedTarget, TargetName},
};

/// The outcome of sending one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeliveryOutcome {
    /// Not sent, or neither acknowledged nor rejected yet.
    Unknown,
    /// Acknowledged by the receiver.
    Arrived,
    /// Rejected, with the message of the receiver or of the encoder.
    Rejected(String),
    /// Kept in the backlog until the receiver accepts a parked target, or the records of a withheld
    /// tenant.
    Withheld,
}

/// A record and its outcome.
#[derive(Clone, Debug)]
pub(super) struct RecordOutcome {
    /// The tenant of the record.
    pub tenant: TenantId,
    /// The position of the record in the tenant's log.
    pub at: Position,
    pub event_id: EventId,
    /// The place at the receiver; `None` if the sink has only one, or if the record could not be
    /// encoded.
    pub target: Option<TargetName>,
    pub outcome: DeliveryOutcome,
}

/// Rejections of a sink, or of one of its targets, that exceed a limit.
#[derive(Clone, Debug)]
pub(super) struct ExcessiveRejections {
    /// The target of the records; `None` for the sink itself.
    pub target: Option<TargetName>,
    /// Whose records were rejected.
    pub source: RejectionSource,
    /// The limit that was exceeded, with the message of the receiver.
    pub problem: Explanation,
}

/// The tenants of a sink, as far as the limits depend on them.
pub(super) struct ServedTenants<'s> {
    /// The tenants that are withheld because of their rejections. If a batch contains records of
    /// one of them, it is being tried again.
    pub withheld: BTreeSet<TenantId>,
    /// All tenants whose records are sent to a target; for `None`, to the sink.
    pub of_target: &'s dyn Fn(Option<&TargetName>) -> Vec<TenantId>,
}

/// What the outcomes of a batch mean for the cursors, the tenants, the targets and the sink.
pub(super) struct BatchVerdict {
    /// The outcomes. A tenant's cursor may pass its records up to the first one that is not
    /// settled.
    pub outcomes: Vec<RecordOutcome>,
    /// The targets that reject too many records.
    pub rejecting: Vec<RefusedTarget>,
    /// The tenants with too many rejected records, each with the problem.
    pub rejected: Vec<(TenantId, Explanation)>,
    /// The error that stops the sink; `None` if it continues.
    pub stopped: Option<DeliveryError>,
}

/// Counts the rejections among the most recent records of a sink and of each of its targets.
#[derive(Debug, Default)]
pub(super) struct RejectionCounter {
    /// The records without a target, and all accepted ones.
    sink: RecentOutcomes,
    /// The targets that have rejected a record.
    targets: HashMap<TargetName, RecentOutcomes>,
}

/// The limits that a batch has exceeded.
#[derive(Default)]
struct ExceededLimits {
    /// The targets that must park; `None` is the sink itself.
    parked: BTreeMap<Option<TargetName>, Explanation>,
    /// The tenants that must be withheld.
    tenants: BTreeMap<TenantId, ExcessiveRejections>,
}

/// The rejections that no accepted record has followed.
#[derive(Default)]
struct TrailingRejections {
    indexes: Vec<usize>,
    /// Whether an accepted record precedes them.
    has_begun: bool,
    /// Whether there are records that were not sent, or whose outcome is not known.
    is_incomplete: bool,
}

impl RecordOutcome {
    /// The dead letter of a rejected record.
    pub(super) fn dead_letter(&self) -> Option<DeadLetter> {
        match &self.outcome {
            DeliveryOutcome::Rejected(reason) => Some(DeadLetter {
                tenant: self.tenant,
                at: self.at,
                event_id: self.event_id,
                reason: reason.clone(),
            }),
            _ => None,
        }
    }

    /// Whether the receiver has acknowledged the record.
    pub(super) fn has_arrived(&self) -> bool {
        self.outcome == DeliveryOutcome::Arrived
    }

    /// Whether a cursor may pass the record.
    pub(super) fn is_settled(&self) -> bool {
        self.has_arrived() || self.is_rejected()
    }

    fn is_rejected(&self) -> bool {
        matches!(self.outcome, DeliveryOutcome::Rejected(_))
    }

    /// Whether the record counts for a target, or for the sink itself.
    fn counts_for(&self, target: Option<&TargetName>) -> bool {
        self.target.as_ref() == target || (target.is_none() && self.has_arrived())
    }
}

impl ServedTenants<'_> {
    /// The tenants whose records are sent to a target, or to the sink, without the withheld ones.
    fn not_withheld(&self, target: Option<&TargetName>) -> impl Iterator<Item = TenantId> {
        let served = (self.of_target)(target).into_iter();
        served.filter(move |tenant| !self.withheld.contains(tenant))
    }
}

impl BatchVerdict {
    /// The verdict for dead letters that were retried. One that is rejected again stays a dead
    /// letter, and does not count against the sink. Beyond a limit, the others are retried later.
    pub(super) fn of_dead_letters(
        outcomes: Vec<RecordOutcome>,
        rejecting: Vec<ExcessiveRejections>,
        stopped: Option<DeliveryError>,
        served: &ServedTenants<'_>,
    ) -> Self {
        let mut verdict = Self { outcomes, rejecting: Vec::new(), rejected: Vec::new(), stopped };

        for ExcessiveRejections { target, source, problem } in rejecting {
            match (source.tenant(), target) {
                (Some(tenant), target)
                    if served.not_withheld(target.as_ref()).any(|other| other != tenant) =>
                {
                    verdict.rejected.push((tenant, problem));
                }
                (_, Some(name)) => verdict.rejecting.push(rejecting_target(name, problem)),
                (_, None) => {
                    verdict.stopped.get_or_insert_with(|| sink_at_fault(problem));
                }
            }
        }
        verdict
    }
}

impl RejectionCounter {
    /// Counts the outcomes of a batch, oldest first, and decides which of them are settled.
    /// `rejecting` are the limits that were already exceeded within the batch, and `stopped` is the
    /// error that has already stopped its delivery.
    pub(super) fn judge(
        &mut self,
        mut outcomes: Vec<RecordOutcome>,
        rejecting: Vec<ExcessiveRejections>,
        stopped: Option<DeliveryError>,
        served: &ServedTenants<'_>,
    ) -> BatchVerdict {
        stop_cursors(&mut outcomes);
        let exceeded = self.exceeded_limits(&mut outcomes, rejecting, served);
        let ExceededLimits { mut parked, mut tenants } = exceeded;

        let sink = parked.remove(&None::<TargetName>);
        let parks = sink.is_some() || stopped.as_ref().is_some_and(DeliveryError::is_misconfigured);
        tenants.retain(|_, excessive| !parks && !parked.contains_key(&excessive.target));
        let stopped = stopped.or_else(|| sink.map(sink_at_fault));

        let targets = parked.into_iter();
        let rejecting: Vec<RefusedTarget> = targets
            .filter_map(|(target, problem)| Some(rejecting_target(target?, problem)))
            .collect();
        for target in &rejecting {
            self.targets.remove(&target.name);
            keep_back(&mut outcomes, Some(&target.name), &DeliveryOutcome::Withheld);
        }

        if parks {
            *self = Self::default();
            let mut targets: BTreeSet<Option<TargetName>> =
                outcomes.iter().map(|outcome| outcome.target.clone()).collect();
            targets.insert(None);
            for target in &targets {
                keep_back(&mut outcomes, target.as_ref(), &DeliveryOutcome::Unknown);
            }
        }
        stop_cursors(&mut outcomes);
        self.counters().for_each(RecentOutcomes::end_batch);

        let rejected = tenants.into_iter().map(|(tenant, excessive)| (tenant, excessive.problem));
        BatchVerdict { outcomes, rejecting, rejected: rejected.collect(), stopped }
    }

    /// The withheld tenants whose rejections may be due to the configuration, because no record of
    /// any tenant has been accepted since, or because of their dead letters.
    pub(super) fn suspects(&self) -> BTreeSet<TenantId> {
        let counters = std::iter::once(&self.sink).chain(self.targets.values());
        counters.flat_map(RecentOutcomes::suspects).collect()
    }

    /// Counts the outcomes, and returns the limits that were exceeded, including those in
    /// `rejecting`. The last rejections of each tenant that must be withheld become withheld.
    fn exceeded_limits(
        &mut self,
        outcomes: &mut [RecordOutcome],
        rejecting: Vec<ExcessiveRejections>,
        served: &ServedTenants<'_>,
    ) -> ExceededLimits {
        self.counters().for_each(|recent| recent.retain_suspects(&served.withheld));
        let mut exceeded = ExceededLimits::default();
        for excessive in rejecting {
            self.exceed(excessive, served, &mut exceeded);
        }
        for outcome in outcomes.iter() {
            self.count(outcome, served, &mut exceeded);
        }
        for (tenant, excessive) in rejected_again(outcomes, &served.withheld) {
            exceeded.tenants.entry(tenant).or_insert(excessive);
        }

        for (tenant, ExcessiveRejections { target, source, .. }) in &exceeded.tenants {
            keep_back_tenant(outcomes, *tenant);
            let mut of_tenant = outcomes.iter().filter(|outcome| outcome.tenant == *tenant);
            let is_of_records = matches!(source, RejectionSource::Tenant(_));
            if is_of_records && of_tenant.any(RecordOutcome::is_rejected) {
                self.counter(target.as_ref()).note_dead_letters(*tenant);
            }
        }
        for ExcessiveRejections { target, problem, .. } in exceeded.tenants.values() {
            if self.counter(target.as_ref()).has_too_many_suspects() {
                exceeded.parked.entry(target.clone()).or_insert_with(|| problem.clone());
            }
        }
        exceeded
    }

    /// Counts an outcome. The rejected records of a tenant that is withheld do not count.
    fn count(
        &mut self,
        outcome: &RecordOutcome,
        served: &ServedTenants<'_>,
        exceeded: &mut ExceededLimits,
    ) {
        let RecordOutcome { tenant, target, .. } = outcome;
        let is_withheld = served.withheld.contains(tenant) || exceeded.tenants.contains_key(tenant);

        match &outcome.outcome {
            DeliveryOutcome::Arrived => {
                self.sink.accept();
                let own = target.as_ref().and_then(|target| self.targets.get_mut(target));
                if let Some(recent) = own {
                    recent.accept();
                }
            }

            DeliveryOutcome::Rejected(reason) if !is_withheld => {
                let recent = self.counter(target.as_ref());
                let Some(source) = recent.reject(*tenant, reason) else { return };
                let first = match source {
                    RejectionSource::Tenant(tenant) => recent.reason(tenant),
                    RejectionSource::Request(_) | RejectionSource::ManyTenants => None,
                };
                let problem = too_many(first.unwrap_or(reason));
                let target = target.clone();
                self.exceed(ExcessiveRejections { target, source, problem }, served, exceeded);
            }

            _ => {}
        }
    }

    /// Withholds a tenant after a limit was exceeded, or parks the target if that does not suffice.
    fn exceed(
        &mut self,
        excessive: ExcessiveRejections,
        served: &ServedTenants<'_>,
        exceeded: &mut ExceededLimits,
    ) {
        let target = excessive.target.clone();
        if exceeded.parked.contains_key(&target) {
            return;
        }

        let source = excessive.source;
        let is_sufficient = |tenant: &TenantId| {
            // A tenant that is tried again has been withheld before.
            served.withheld.contains(tenant) || {
                let others = served.not_withheld(target.as_ref());
                let recent = self.counter(target.as_ref());
                let are_others_left = recent.withhold(*tenant, others);
                if source == RejectionSource::Request(*tenant) {
                    recent.note_whole_request(*tenant);
                }
                are_others_left
            }
        };
        if let Some(tenant) = source.tenant().filter(is_sufficient) {
            exceeded.tenants.insert(tenant, excessive);
        } else {
            exceeded.parked.insert(target, excessive.problem);
        }
    }

    /// The counter of a target, or of the sink itself.
    fn counter(&mut self, target: Option<&TargetName>) -> &mut RecentOutcomes {
        match target {
            None => &mut self.sink,
            Some(name) => self.targets.entry(name.clone()).or_default(),
        }
    }

    fn counters(&mut self) -> impl Iterator<Item = &mut RecentOutcomes> {
        std::iter::once(&mut self.sink).chain(self.targets.values_mut())
    }
}

impl TrailingRejections {
    /// Those of a tenant.
    fn of_tenant(outcomes: &[RecordOutcome], tenant: TenantId) -> Self {
        let mut run = Self::default();
        for (index, outcome) in outcomes.iter().enumerate().rev() {
            if outcome.tenant == tenant {
                run.add(index, &outcome.outcome);
            }
        }
        run
    }

    /// Adds the outcome that precedes those that were added before.
    fn add(&mut self, index: usize, outcome: &DeliveryOutcome) {
        match outcome {
            DeliveryOutcome::Arrived => self.has_begun = true,
            DeliveryOutcome::Rejected(_) if self.has_begun => {}
            DeliveryOutcome::Rejected(_) => self.indexes.push(index),
            DeliveryOutcome::Unknown | DeliveryOutcome::Withheld => self.is_incomplete = true,
        }
    }

    /// Whether a fault may have caused the rejections. A short run at the end of a complete batch
    /// is caused by the records themselves.
    fn may_have_another_cause(&self) -> bool {
        self.is_incomplete || self.indexes.len() > MAX_REJECTED_IN_A_ROW
    }
}

/// Gives all records of a tenant after its first one that is not settled the same outcome, because
/// the cursor stops there.
fn stop_cursors(outcomes: &mut [RecordOutcome]) {
    let mut stopped: HashMap<TenantId, DeliveryOutcome> = HashMap::new();
    for outcome in outcomes {
        if let Some(first) = stopped.get(&outcome.tenant) {
            outcome.outcome = first.clone();
        } else if !outcome.is_settled() {
            stopped.insert(outcome.tenant, outcome.outcome.clone());
        }
    }
}

/// Returns rejections to the backlog, as `kept`: those that no accepted record of the target, or of
/// the target and the same tenant, has followed, if they may have another cause.
fn keep_back(outcomes: &mut [RecordOutcome], target: Option<&TargetName>, kept: &DeliveryOutcome) {
    // The key `None` is for the records of all tenants.
    let mut runs: HashMap<Option<TenantId>, TrailingRejections> = HashMap::new();
    for (index, outcome) in outcomes.iter().enumerate().rev() {
        if outcome.counts_for(target) {
            for key in [None, Some(outcome.tenant)] {
                runs.entry(key).or_default().add(index, &outcome.outcome);
            }
        }
    }

    for run in runs.into_values().filter(TrailingRejections::may_have_another_cause) {
        for index in run.indexes {
            outcomes[index].outcome = kept.clone();
        }
    }
}

/// Returns the last rejections of a tenant that must be withheld to the backlog, unless they may be
/// caused by the records themselves: the receiver has accepted others of the tenant before them.
fn keep_back_tenant(outcomes: &mut [RecordOutcome], tenant: TenantId) {
    let run = TrailingRejections::of_tenant(outcomes, tenant);
    if !run.has_begun || run.may_have_another_cause() {
        for index in run.indexes {
            outcomes[index].outcome = DeliveryOutcome::Withheld;
        }
    }
}

/// The withheld tenants that were tried again and whose records are still rejected: none was
/// accepted, or too many were rejected afterward.
fn rejected_again(
    outcomes: &[RecordOutcome],
    withheld: &BTreeSet<TenantId>,
) -> Vec<(TenantId, ExcessiveRejections)> {
    let rejected = |tenant: &TenantId| {
        let run = TrailingRejections::of_tenant(outcomes, *tenant);
        let first = &outcomes[*run.indexes.last()?];
        let DeliveryOutcome::Rejected(reason) = &first.outcome else { return None };
        if run.has_begun && run.indexes.len() <= MAX_REJECTED_IN_A_ROW {
            return None;
        }

        let source = RejectionSource::Tenant(*tenant);
        let (target, problem) = (first.target.clone(), too_many(reason));
        Some((*tenant, ExcessiveRejections { target, source, problem }))
    };
    withheld.iter().filter_map(rejected).collect()
}

/// The problem of a sink, a target or a tenant with too many rejected records. `reason` is the
/// receiver's message for one of them.
pub(super) fn too_many(reason: &str) -> Explanation {
    Explanation::new(format!("the receiver rejects too many records: {reason}"))
}

/// The error that parks a sink because of its rejections.
pub(super) fn sink_at_fault(problem: Explanation) -> DeliveryError {
    let Explanation { message: reason, hint } = problem;
    DeliveryError::Sink(Failure::Misconfigured { reason, hint: hint.map(Cow::Owned) })
}

/// A target that is parked because of its rejections.
fn rejecting_target(name: TargetName, problem: Explanation) -> RefusedTarget {
    let Explanation { message: reason, hint } = problem.within(&format!("target `{name}`"));
    RefusedTarget { name, reason, hint: hint.map(Cow::Owned) }
}

#[cfg(test)]
mod tests;
