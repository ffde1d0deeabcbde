//! The delivery of one batch: its parts that are still to be sent, and the outcome of each record.
//!
//! A receiver may accept a batch as a whole, reject single records, or require smaller batches.
//! This module decides what to send next; it sends nothing itself. `by_tenant` sends the records of
//! each tenant separately.

mod by_tenant;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
};

use super::{
    DeliveryError,
    denials::{RejectedAlone, UsualCause},
    failing_tenants::{PartFailures, TenantDivision},
    rejection_limits::{MAX_SUSPECTED_TENANTS, RejectionSource, are_too_many, source_of},
    rejections::{DeliveryOutcome, ExcessiveRejections, sink_at_fault, too_many},
    tenant_trials::TenantTrials,
};
use crate::{
    error::Explanation,
    model::TenantId,
    sink::{Batch, Failure, Receipt, Refusal, RefusedTarget, TargetName},
};

/// The state of one delivery. The caller alternates between [`Self::next`] and [`Self::record`].
#[derive(Default)]
pub(super) struct Delivery {
    /// One per item of the whole batch, in its order.
    pub outcomes: Vec<DeliveryOutcome>,
    /// The mark of the last receipt that contained one.
    pub mark: Option<Vec<u8>>,
    /// The error that ended the delivery early.
    pub stopped: Option<DeliveryError>,
    /// The targets that the receiver has refused.
    pub refused: Vec<RefusedTarget>,
    /// The tenants and the targets with too many rejected records in the batch, and the tenants
    /// whose requests were rejected alone.
    pub rejecting: Vec<ExcessiveRejections>,
    /// The tenants whose requests fail while those of others succeed, each with the problem.
    pub failing: Vec<(TenantId, Explanation)>,
    /// The tenants whose requests were rejected alone, and that were not withheld before. If no
    /// record of another tenant arrives, the configuration can be the cause; see `denials`.
    pub alone: Vec<RejectedAlone>,
    /// The rejected requests of the attempt, including those of this delivery.
    pub trials: TenantTrials,
    /// What happened to the parts that failed without a rejection.
    pub failures: PartFailures,
    /// These tenants, and those with records for these targets. Nothing of them is sent anymore.
    withheld: HashSet<TenantId>,
    /// The parts that are still to be sent; the next one is the last element.
    parts: Vec<Batch>,
    /// The tenant and the target of each item of the whole batch.
    routes: Vec<(TenantId, Option<TargetName>)>,
    /// The number of rejected records of each tenant, by target.
    rejected: HashMap<Option<TargetName>, HashMap<TenantId, usize>>,
    /// How the records are sent again if their delivery fails without a rejection.
    division: TenantDivision,
    /// Whether the records were divided in this way.
    is_divided: bool,
    /// The suspected tenants whose records failed alone, until it is known whether others arrive.
    suspects: Vec<(TenantId, Failure)>,
    /// The number of parts with the records of one tenant that have failed since a record arrived.
    failed_in_a_row: usize,
}

impl Delivery {
    /// A delivery of a batch, all records of which have an unknown outcome.
    pub(super) fn new(batch: &Batch) -> Self {
        let routes = batch.items().iter().map(|item| (item.tenant, item.target.clone())).collect();
        let outcomes = vec![DeliveryOutcome::Unknown; batch.len()];
        Self { outcomes, routes, ..Self::default() }
    }

    /// A delivery of a batch without the records of tenants, too many of whose other records cannot
    /// be encoded. Nothing has been sent yet.
    pub(super) fn without_tenants(batch: &Batch, rejecting: Vec<ExcessiveRejections>) -> Self {
        let mut delivery = Self::new(batch);
        let tenants = rejecting.iter().filter_map(|rejecting| rejecting.source.tenant());
        delivery.withheld.extend(tenants);
        delivery.rejecting = rejecting;
        delivery.send_later(batch.part(0..batch.len()));
        delivery
    }

    /// The next part to send; `None` when the delivery has ended.
    pub(super) fn next(&mut self) -> Option<Batch> {
        while self.stopped.is_none() {
            let part = self.parts.pop()?;
            let mut part = self.without_withheld(part);
            if !part.is_empty() {
                // The rejected records are not dead letters yet. After a kill, the sink would
                // continue at the progress at the receiver, and they would be lost.
                part.omit_progress(|tenant| self.has_rejected(tenant));
                return Some(part);
            }
        }
        None
    }

    /// Whether a record of a tenant was rejected.
    fn has_rejected(&self, tenant: TenantId) -> bool {
        self.rejected.values().any(|of_target| of_target.contains_key(&tenant))
    }

    /// Records the result of sending a part, or the whole batch.
    pub(super) fn record(&mut self, part: &Batch, result: Result<Receipt, Failure>) {
        match result {
            Ok(receipt) => {
                self.mark = receipt.mark.or(self.mark.take());
                self.arrived(part, 0..part.len());
            }

            Err(Failure::Poison { rejected: refused, rest_delivered }) => {
                let is_rejected = |index: usize| refused.iter().any(|(i, _)| *i == index);
                if rest_delivered {
                    self.arrived(part, (0..part.len()).filter(|index| !is_rejected(*index)));
                } else {
                    self.send_later(part.without(is_rejected));
                }
                for (index, reason) in refused {
                    self.settle(part, index, DeliveryOutcome::Rejected(reason));
                }
            }

            Err(Failure::TooLarge { reason, .. }) if part.len() == 1 => {
                self.settle(part, 0, DeliveryOutcome::Rejected(reason));
            }
            Err(Failure::TooLarge { arrived, .. }) => {
                let rest = part.without(|index| arrived.contains(&index));
                let middle = rest.len().div_ceil(2);
                self.send_later(rest.part(middle..rest.len()));
                self.send_later(rest.part(0..middle));
                self.arrived(part, arrived.into_iter());
            }

            Err(Failure::Refused(refusal)) => self.refuse(part, refusal),
            Err(Failure::Partial { arrived, failure }) => {
                let rest = part.without(|index| arrived.contains(&index));
                self.arrived(part, arrived.into_iter());
                self.fail(&rest, *failure);
            }
            Err(failure) => self.fail(part, failure),
        }

        self.limit_rejections();
    }

    /// Sends nothing else of a tenant or to a target with too many rejected records, and nothing at
    /// all if the whole sink is at fault.
    fn limit_rejections(&mut self) {
        let mut exceeded = Vec::new();
        for (target, rejected) in &self.rejected {
            let counts = rejected.iter().map(|(tenant, records)| (*tenant, *records));
            let counts: Vec<(TenantId, usize)> =
                counts.filter(|(tenant, _)| !self.withheld.contains(tenant)).collect();
            let rejected: usize = counts.iter().map(|(_, records)| records).sum();
            let records = self.routes.iter().filter(|(_, of)| of == target).count();
            if are_too_many(rejected, records) {
                exceeded.push((target.clone(), source_of(counts)));
            }
        }

        for (target, source) in exceeded {
            self.exceed(target, source);
        }
    }

    /// Handles too many rejected records for a target, or for a sink with only one.
    fn exceed(&mut self, target: Option<TargetName>, source: RejectionSource) {
        let of_target = self.rejecting.iter().filter(|rejecting| rejecting.target == target);
        let earlier: Vec<RejectionSource> = of_target.map(|rejecting| rejecting.source).collect();
        let of_records = earlier.iter().filter(|of| matches!(of, RejectionSource::Tenant(_)));
        // If nothing has arrived, the same fault may affect all tenants.
        let is_permitted = of_records.count() < MAX_SUSPECTED_TENANTS
            || self.outcomes.contains(&DeliveryOutcome::Arrived);

        match source {
            _ if earlier.contains(&RejectionSource::ManyTenants) => {}
            RejectionSource::Tenant(tenant) if is_permitted => {
                let problem = too_many(self.first_reason(target.as_ref(), Some(tenant)));
                self.withheld.insert(tenant);
                self.rejecting.push(ExcessiveRejections { target, source, problem });
            }

            _ if target.is_none() => {
                let problem = too_many(self.first_reason(None, None));
                self.stopped.get_or_insert_with(|| sink_at_fault(problem));
            }

            _ => {
                let problem = too_many(self.first_reason(target.as_ref(), None));
                let unsent = self.parts.iter().flat_map(Batch::items);
                let unsent = unsent.filter(|item| item.target == target);
                self.withheld.extend(unsent.map(|item| item.tenant));
                let source = RejectionSource::ManyTenants;
                self.rejecting.push(ExcessiveRejections { target, source, problem });
            }
        }
    }

    /// Handles a failure of all records of a part, which ends the delivery unless the data of
    /// single tenants may be the cause.
    fn fail(&mut self, part: &Batch, failure: Failure) {
        match failure {
            Failure::RejectsAll { reason, hint } => {
                let hint = hint.map(Cow::into_owned);
                let problem = Explanation { message: reason, hint };
                self.reject_all(part, UsualCause::Records, problem);
            }
            Failure::Denied { reason, hint } => {
                let hint = hint.map(Cow::into_owned);
                let problem = Explanation { message: reason, hint };
                self.reject_all(part, UsualCause::Configuration, problem);
            }
            failure @ (Failure::Retry { .. } | Failure::Broken { .. }) => {
                self.fail_without_reason(part, failure);
            }
            failure => self.stop(failure),
        }
    }

    /// Ends the delivery with a failure.
    fn stop(&mut self, failure: Failure) {
        self.stopped = Some(DeliveryError::Sink(failure));
    }

    /// Handles a part all of whose records are rejected. The text of a single tenant may be the
    /// cause, so the records of several tenants are sent again, each tenant's alone. A tenant whose
    /// records are rejected alone is withheld, unless so many of them have been rejected since a
    /// record arrived that the whole sink is at fault.
    fn reject_all(&mut self, part: &Batch, cause: UsualCause, problem: Explanation) {
        let tenants: BTreeSet<TenantId> = part.items().iter().map(|item| item.tenant).collect();
        let is_new = tenants.iter().any(|tenant| self.division.is_new(*tenant));
        if is_new {
            self.trials.add_request();
        }

        let (Some(item), true) = (part.items().first(), tenants.len() == 1) else {
            if self.trials.is_exhausted() {
                self.stopped = Some(sink_at_fault(problem));
            } else {
                self.limit_retries();
                let order = self.division.in_order(tenants);
                self.send_by_tenant(part, order.into_iter());
            }
            return;
        };

        // With the next attempt, the tenant is served last.
        let tenant = item.tenant;
        self.failures.alone.insert(tenant);
        if is_new {
            self.trials.add_tenant();
            if self.trials.is_exhausted() {
                self.stopped = Some(sink_at_fault(problem));
                return;
            }
            self.alone.push(RejectedAlone { tenant, cause, problem: problem.clone() });
        } else if self.division.withheld.contains(&tenant) {
            self.trials.add_retried();
            self.limit_retries();
        }

        // A reply that is usually due to the configuration is not about a target.
        let target = item.target.clone().filter(|_| cause == UsualCause::Records);
        let source = RejectionSource::Request(tenant);
        self.rejecting.push(ExcessiveRejections { target, source, problem });
        self.withheld.insert(tenant);
        for index in 0..part.len() {
            self.settle(part, index, DeliveryOutcome::Withheld);
        }
    }

    /// Sends nothing else of the tenants that were withheld before, if several of them have been
    /// rejected again since a record arrived.
    fn limit_retries(&mut self) {
        if self.trials.has_retried_enough() {
            self.withheld.extend(&self.division.withheld);
        }
    }

    /// The first message for a rejected record for a target, of one tenant or of all.
    fn first_reason(&self, target: Option<&TargetName>, tenant: Option<TenantId>) -> &str {
        let mut records = self.outcomes.iter().zip(&self.routes);
        let reason = records.find_map(|(outcome, (of_tenant, of_target))| match outcome {
            DeliveryOutcome::Rejected(reason)
                if of_target.as_ref() == target && tenant.is_none_or(|id| id == *of_tenant) =>
            {
                Some(reason.as_str())
            }
            _ => None,
        });
        reason.unwrap_or_default()
    }

    /// Withholds all records of the tenants with records for a refused target: a cursor cannot pass
    /// one of them. The rest is sent in another part.
    fn refuse(&mut self, part: &Batch, mut refusal: Refusal) {
        let arrived: HashSet<usize> = refusal.arrived.iter().copied().collect();
        let refused = part.items().iter().filter(|item| refusal.applies_to(item));
        self.withheld.extend(refused.map(|item| item.tenant));
        self.refused.extend(refusal.targets.iter().cloned());
        self.arrived(part, arrived.iter().copied());

        let rest = self.without_withheld(part.without(|index| arrived.contains(&index)));
        match refusal.rest.take() {
            _ if rest.is_empty() => {}
            Some(failure) => self.fail(&rest, *failure),
            None if rest.len() < part.len() => self.send_later(rest),
            // The same batch would be refused indefinitely.
            None => self.stop(Failure::misconfigured(refusal.to_string())),
        }
    }

    /// The part without the records of withheld tenants, whose outcome is set.
    fn without_withheld(&mut self, part: Batch) -> Batch {
        if self.withheld.is_empty() {
            return part;
        }
        for (index, item) in part.items().iter().enumerate() {
            if self.withheld.contains(&item.tenant) {
                self.settle(&part, index, DeliveryOutcome::Withheld);
            }
        }
        part.without_tenants(&self.withheld)
    }

    fn send_later(&mut self, part: Batch) {
        if !part.is_empty() {
            self.parts.push(part);
        }
    }

    fn arrived(&mut self, part: &Batch, indexes: impl Iterator<Item = usize>) {
        for index in indexes {
            self.settle(part, index, DeliveryOutcome::Arrived);
        }
    }

    /// Sets the outcome of the item at an index of a part. An index out of range, which a receiver
    /// may return, has no effect.
    fn settle(&mut self, part: &Batch, index: usize, outcome: DeliveryOutcome) {
        if let Some(item) = part.items().get(index) {
            if matches!(outcome, DeliveryOutcome::Rejected(_)) {
                let of_target = self.rejected.entry(item.target.clone()).or_default();
                let rejected = of_target.entry(item.tenant).or_default();
                *rejected = rejected.saturating_add(1);
            }
            if outcome == DeliveryOutcome::Arrived {
                self.failed_in_a_row = 0;
                self.trials.note_arrival();
            }
            self.outcomes[item.index] = outcome;
        }
    }
}

#[cfg(test)]
mod tests;
