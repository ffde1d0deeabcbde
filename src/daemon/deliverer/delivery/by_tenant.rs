//! Sends the records of each tenant of a batch separately, because a receiver rejects or fails for
//! each request with the records of one of them.
//!
//! A request that fails without a reason is neither a rejection nor a delivery: its outcome stays
//! unknown, and no record becomes a dead letter. A tenant is withheld only if records of others
//! arrive; otherwise, the receiver is the cause, and the whole batch is retried. Start reading at
//! [`Delivery::fail_without_reason`]. See decisions 0087 and 0093.

use std::{
    collections::{BTreeSet, HashSet},
    mem::take,
};

use super::{Delivery, DeliveryError, MAX_SUSPECTED_TENANTS, PartFailures, TenantDivision};
use crate::{
    daemon::deliverer::{failing_tenants::DivisionTime, rejections::DeliveryOutcome},
    error::Explanation,
    model::TenantId,
    sink::{Batch, Failure},
};

/// The hint for a tenant whose requests fail.
const CHECK_TEXTS: &str = "check whether the receiver, or a firewall before it, fails because of a text of this tenant; the log of the receiver can name it";

impl Delivery {
    /// The same delivery, whose batch is divided in this way if it fails.
    pub(in crate::daemon::deliverer) fn divided_by(mut self, division: TenantDivision) -> Self {
        self.trials = division.trials;
        self.division = division;
        self
    }

    /// A delivery of a batch that is divided at once. Nothing has been sent yet.
    pub(in crate::daemon::deliverer) fn by_tenant(batch: &Batch, division: TenantDivision) -> Self {
        let mut delivery = Self::new(batch).divided_by(division);
        delivery.divide(batch);
        delivery
    }

    /// Sends the records of each of these tenants in a separate part, in this order.
    pub(super) fn send_by_tenant(
        &mut self,
        part: &Batch,
        tenants: impl DoubleEndedIterator<Item = TenantId>,
    ) {
        let all: HashSet<TenantId> = part.items().iter().map(|item| item.tenant).collect();
        // The next part to send is the last one.
        for tenant in tenants.rev() {
            let others = all.iter().copied().filter(|other| *other != tenant).collect();
            self.send_later(part.without_tenants(&others));
        }
    }

    /// Handles a part whose delivery has failed for an unknown reason, which is retried unless the
    /// text of a single tenant may be the cause.
    pub(super) fn fail_without_reason(&mut self, part: &Batch, failure: Failure) {
        self.failures.has_failed = true;
        let tenants: BTreeSet<TenantId> = part.items().iter().map(|item| item.tenant).collect();
        let is_suspected = tenants.iter().any(|tenant| self.division.suspected.contains(tenant));
        // A sink with a mark cannot be opened again before the mark is stored.
        let must_close = self.mark.is_some() && failure.requires_new_client();
        let can_continue = is_suspected && !must_close;

        let only = tenants.first().copied().filter(|_| tenants.len() == 1);
        let Some(tenant) = only else {
            let waits = self.division.time == DivisionTime::NextAttempt || requests_delay(&failure);
            if can_continue && !waits {
                // The failures of its parts count instead.
                self.divide(part);
            } else {
                self.failures.is_division_due |= can_continue;
                self.failures.together.extend(tenants);
                self.stop(failure);
            }
            return;
        };

        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        let PartFailures { alone, single, .. } = &mut self.failures;
        let failed = if self.is_divided { alone } else { single };
        failed.insert(tenant);
        if can_continue {
            self.fail_alone(tenant, failure);
        } else {
            self.stop(failure);
        }
    }

    /// Whether the delivery continues after a failure without a reason, which may have closed the
    /// sink.
    pub(in crate::daemon::deliverer) fn needs_open_sink(&self) -> bool {
        self.failures.has_failed && self.stopped.is_none()
    }

    /// Decides what the failures of single tenants mean when the delivery has ended. If records of
    /// others arrive, the tenants are withheld; otherwise, the delivery is retried.
    pub(in crate::daemon::deliverer) fn conclude(&mut self) {
        for (tenant, failure) in take(&mut self.suspects) {
            if !self.have_others_arrived(tenant) {
                self.stopped.get_or_insert(DeliveryError::Sink(failure));
                continue;
            }

            let records = self.outcomes.iter_mut().zip(&self.routes);
            for (outcome, _) in records.filter(|(_, (of, _))| *of == tenant) {
                if *outcome == DeliveryOutcome::Unknown {
                    *outcome = DeliveryOutcome::Withheld;
                }
            }
            let message = format!("each request with its records fails: {failure}");
            self.failing.push((tenant, Explanation::new(message).with_hint(CHECK_TEXTS)));
        }
    }

    /// Handles a failed part with the records of one suspected tenant. Several failures without a
    /// record that arrives between them have another cause than the texts of tenants.
    fn fail_alone(&mut self, tenant: TenantId, failure: Failure) {
        self.withheld.insert(tenant);
        self.suspects.push((tenant, failure.clone()));

        // The receiver requests a delay for everything that is left. With the next attempt, the
        // records of this tenant are sent last.
        let waits = requests_delay(&failure) && !self.parts.is_empty();
        self.failures.is_division_due |= waits;
        if waits || self.failed_in_a_row > MAX_SUSPECTED_TENANTS {
            self.stop(failure);
        }
    }

    /// Sends the records of all tenants that are not suspected together, and then those of each
    /// suspected one.
    fn divide(&mut self, part: &Batch) {
        self.is_divided = true;
        let suspected = self.division.suspected.clone();
        self.send_by_tenant(part, suspected.iter().copied());
        self.send_later(part.without_tenants(&suspected.into_iter().collect()));
    }

    /// Whether records of another tenant have arrived in this delivery, or since the last failure
    /// of this one.
    fn have_others_arrived(&self, tenant: TenantId) -> bool {
        let mut records = self.outcomes.iter().zip(&self.routes);
        self.division.witnessed.contains(&tenant)
            || records
                .any(|(outcome, (of, _))| *outcome == DeliveryOutcome::Arrived && *of != tenant)
    }
}

/// Whether the receiver requests a delay before the next request.
fn requests_delay(failure: &Failure) -> bool {
    matches!(failure, Failure::Retry { after: Some(_), .. })
}
