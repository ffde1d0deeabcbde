//! The delivery of one batch: its parts that are still to be sent, and the outcome of each record.
//!
//! A receiver may accept a batch as a whole, reject single records, or require smaller batches.
//! This module decides what to send next; it sends nothing itself.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
};

use super::{
    DeliveryError,
    rejection_limits::{MAX_SUSPECTED_TENANTS, RejectionSource, are_too_many, source_of},
    rejections::{DeliveryOutcome, ExcessiveRejections, sink_at_fault, too_many},
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
    /// The tenants and the targets with too many rejected records in the batch.
    pub rejecting: Vec<ExcessiveRejections>,
    /// These tenants, and those with records for these targets. Nothing of them is sent anymore.
    withheld: HashSet<TenantId>,
    /// The parts that are still to be sent; the next one is the last element.
    parts: Vec<Batch>,
    /// The tenant and the target of each item of the whole batch.
    routes: Vec<(TenantId, Option<TargetName>)>,
    /// The number of rejected records of each tenant, by target.
    rejected: HashMap<Option<TargetName>, HashMap<TenantId, usize>>,
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
        for ExcessiveRejections { source, .. } in &rejecting {
            if let RejectionSource::Tenant(tenant) = source {
                delivery.withheld.insert(*tenant);
            }
        }
        delivery.rejecting = rejecting;
        delivery.send_later(batch.part(0..batch.len()));
        delivery
    }

    /// The next part to send; `None` when the delivery has ended.
    pub(super) fn next(&mut self) -> Option<Batch> {
        while self.stopped.is_none() {
            let part = self.parts.pop()?;
            let part = self.without_withheld(part);
            if !part.is_empty() {
                return Some(part);
            }
        }
        None
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

            Err(Failure::RejectsAll { reason, hint }) => {
                let hint = hint.map(Cow::into_owned);
                self.reject_all(part, Explanation { message: reason, hint });
            }
            Err(Failure::Refused(refusal)) => self.refuse(part, refusal),
            Err(Failure::Partial { arrived, failure }) => {
                self.arrived(part, arrived.into_iter());
                self.stopped = Some(DeliveryError::Sink(*failure));
            }
            Err(failure) => self.stopped = Some(DeliveryError::Sink(failure)),
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
        // If nothing has arrived, the same fault may affect all tenants.
        let is_permitted = earlier.len() < MAX_SUSPECTED_TENANTS
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

    /// Withholds the tenants of a part all of whose records are rejected, unless there are so many
    /// of them that the whole sink is at fault.
    fn reject_all(&mut self, part: &Batch, problem: Explanation) {
        let tenants: BTreeSet<TenantId> = part.items().iter().map(|item| item.tenant).collect();
        if tenants.len() > MAX_SUSPECTED_TENANTS {
            self.stopped = Some(sink_at_fault(problem));
            return;
        }

        let target = part.items().first().and_then(|item| item.target.clone());
        for tenant in &tenants {
            let (target, problem) = (target.clone(), problem.clone());
            let source = RejectionSource::Tenant(*tenant);
            self.rejecting.push(ExcessiveRejections { target, source, problem });
        }
        self.withheld.extend(tenants);
        for index in 0..part.len() {
            self.settle(part, index, DeliveryOutcome::Withheld);
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
            Some(failure) => self.stopped = Some(DeliveryError::Sink(*failure)),
            None if rest.len() < part.len() => self.send_later(rest),
            // The same batch would be refused indefinitely.
            None => {
                let failure = Failure::misconfigured(refusal.to_string());
                self.stopped = Some(DeliveryError::Sink(failure));
            }
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
            self.outcomes[item.index] = outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventId;

    fn batch(records: u8) -> Batch {
        let mut batch = Batch::default();
        for n in 0..records {
            batch.push_encoded(EventId::from_bytes([n; 20]), &[n]);
        }
        batch
    }

    /// One letter per outcome.
    fn letters(delivery: &Delivery) -> String {
        let letter = |outcome: &DeliveryOutcome| match outcome {
            DeliveryOutcome::Unknown => '?',
            DeliveryOutcome::Arrived => 'a',
            DeliveryOutcome::Rejected(_) => 'r',
            DeliveryOutcome::Withheld => 'w',
        };
        delivery.outcomes.iter().map(letter).collect()
    }

    #[test]
    fn a_large_batch_is_sent_in_halves() {
        let whole = batch(5);
        let mut delivery = Delivery::new(&whole);
        delivery.record(&whole, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![1] }));
        assert_eq!(letters(&delivery), "?a???");

        let first = delivery.next().unwrap();
        delivery.record(&first, Ok(Receipt { mark: Some(vec![1]) }));
        assert_eq!(letters(&delivery), "aaa??");

        let second = delivery.next().unwrap();
        let poison = Failure::Poison { rejected: vec![(1, "no".into())], rest_delivered: false };
        delivery.record(&second, Err(poison));
        assert_eq!(letters(&delivery), "aaa?r");

        let last = delivery.next().unwrap();
        delivery.record(&last, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![] }));
        assert_eq!(
            (letters(&delivery).as_str(), delivery.mark.as_deref()),
            ("aaarr", Some(&[1][..]))
        );
        assert!(delivery.next().is_none() && delivery.stopped.is_none());
    }

    /// A batch with one record per pair of the first digit of a tenant and a target.
    fn routed(records: &[(u8, &str)]) -> Batch {
        let mut batch = Batch::default();
        for (tenant, target) in records {
            let id = format!("{tenant:02}000000-0000-4000-8000-000000000000");
            batch.push_encoded_to(TenantId::parse(&id).unwrap(), target, b"x");
        }
        batch
    }

    fn refusal(arrived: &[usize], rest: Option<Failure>) -> Failure {
        let name = TargetName::new("bad");
        let refused = RefusedTarget { name, reason: "no `bad`".into(), hint: None };
        let (arrived, rest) = (arrived.to_vec(), rest.map(Box::new));
        Failure::Refused(Refusal { targets: vec![refused], arrived, rest })
    }

    /// Regression: the refusal of one tenant's index parked the sink for all tenants.
    #[test]
    fn a_refused_target_withholds_only_its_tenants() {
        let records = [(1, "good"), (2, "good"), (2, "bad"), (1, "good"), (2, "good"), (3, "good")];
        for (arrived, rest, letters_after, sent_later) in [
            (&[][..], None, "?ww?w?", 3),
            (&[0, 1, 3, 5], None, "aawawa", 0),
            (&[0], Some(Failure::retry("busy")), "aww?w?", 0),
        ] {
            let whole = routed(&records);
            let mut delivery = Delivery::new(&whole);
            let is_stopped = rest.is_some();
            delivery.record(&whole, Err(refusal(arrived, rest)));

            assert_eq!(letters(&delivery), letters_after);
            assert_eq!(delivery.refused.len(), 1);
            assert_eq!(delivery.stopped.is_some(), is_stopped);
            assert_eq!(delivery.next().map_or(0, |part| part.len()), sent_later);
        }
    }

    #[test]
    fn parts_that_wait_omit_withheld_tenants() {
        let whole = routed(&[(1, "bad"), (2, "good"), (1, "good"), (1, "bad")]);
        let mut delivery = Delivery::new(&whole);
        delivery.record(&whole, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![] }));
        let first = delivery.next().unwrap();
        delivery.record(&first, Err(refusal(&[], None)));

        let second = delivery.next().unwrap();
        delivery.record(&second, Ok(Receipt::default()));
        assert!(delivery.next().is_none() && delivery.stopped.is_none());
        assert_eq!(letters(&delivery), "waww");
    }

    #[test]
    fn a_refusal_of_nothing_that_was_sent_stops() {
        let whole = routed(&[(1, "good")]);
        let mut delivery = Delivery::new(&whole);
        delivery.record(&whole, Err(refusal(&[], None)));
        assert!(delivery.next().is_none());
        assert!(delivery.stopped.is_some_and(|stopped| stopped.is_misconfigured()));
    }

    #[test]
    fn a_failure_keeps_known_outcomes() {
        let whole = batch(4);
        let mut delivery = Delivery::new(&whole);
        delivery.record(&whole, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![] }));
        let first = delivery.next().unwrap();
        delivery.record(&first, Ok(Receipt::default()));

        let second = delivery.next().unwrap();
        let arrived = vec![1];
        let failure = Failure::Partial { arrived, failure: Box::new(Failure::retry("gone")) };
        delivery.record(&second, Err(failure));
        assert_eq!(letters(&delivery), "aa?a");
        assert!(delivery.next().is_none() && delivery.stopped.is_some());
    }

    /// Regression: one index, or one tenant, with too many rejected records stopped the delivery to
    /// all others.
    #[test]
    fn rejections_stop_only_their_tenant() {
        for target in ["bad", "good"] {
            let mut records = vec![(1, target); 30];
            records.extend([(2, "good"), (2, "good")]);
            let whole = routed(&records);
            let mut delivery = Delivery::new(&whole);
            let mut part = whole.part(0..whole.len());
            for _ in 0..21 {
                let rejected = vec![(0, "no".into())];
                delivery.record(&part, Err(Failure::Poison { rejected, rest_delivered: false }));
                part = delivery.next().unwrap();
            }

            assert_eq!(part.len(), 2, "only the records of the other tenant are sent");
            assert_eq!(letters(&delivery), format!("{}{}??", "r".repeat(21), "w".repeat(9)));
            assert!(delivery.stopped.is_none());
            let ExcessiveRejections { target: rejecting, source, problem } = &delivery.rejecting[0];
            assert_eq!(rejecting.as_ref(), Some(&TargetName::new(target)));
            assert_eq!(*source, RejectionSource::Tenant(whole.items()[0].tenant));
            assert_eq!(problem.message, "the receiver rejects too many records: no");
        }
    }

    /// The numbers of the tenants of a batch, one record each, that rejects all of them.
    #[test]
    fn at_most_two_tenants_are_withheld() {
        let rejects_all =
            || Failure::RejectsAll { reason: "no".into(), hint: Some("check the URL".into()) };

        for (tenants, outcomes, rejecting, is_stopped) in [
            (&[1, 1, 1][..], "www", 1, false),
            (&[1, 2, 1], "www", 2, false),
            (&[1, 2, 3], "???", 0, true),
        ] {
            let records: Vec<(u8, &str)> = tenants.iter().map(|n| (*n, "x")).collect();
            let whole = routed(&records);
            let mut delivery = Delivery::new(&whole);
            delivery.record(&whole, Err(rejects_all()));
            assert!(delivery.next().is_none());
            assert_eq!(letters(&delivery), outcomes, "{tenants:?}");
            assert_eq!(delivery.rejecting.len(), rejecting, "{tenants:?}");
            let hints = delivery.rejecting.iter().map(|rejecting| &rejecting.problem.hint);
            assert!(hints.flatten().all(|hint| hint == "check the URL"), "{tenants:?}");
            assert_eq!(delivery.stopped.is_some(), is_stopped, "{tenants:?}");
        }
    }

    #[test]
    fn a_batch_is_sent_without_withheld_tenants() {
        let whole = routed(&[(1, "x"), (2, "x"), (1, "x")]);
        let tenant = whole.items()[0].tenant;
        let source = RejectionSource::Tenant(tenant);
        let rejecting = vec![ExcessiveRejections { target: None, source, problem: too_many("no") }];
        let mut delivery = Delivery::without_tenants(&whole, rejecting);

        let part = delivery.next().unwrap();
        delivery.record(&part, Ok(Receipt::default()));
        assert_eq!(letters(&delivery), "waw");
        assert!(delivery.next().is_none() && delivery.stopped.is_none());
    }
}
