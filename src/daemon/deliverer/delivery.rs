//! The delivery of one batch: its parts that are still to be sent, and the outcome of each record.
//!
//! A receiver may accept a batch as a whole, reject single records, or require smaller batches.
//! This module decides what to send next; it sends nothing itself.

use std::collections::{HashMap, HashSet};

use super::{
    DeliveryError,
    rejections::{DeliveryOutcome, are_too_many, rejecting_target, too_many},
};
use crate::{
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
    /// The targets that have rejected too many records of the batch.
    pub rejecting: Vec<RefusedTarget>,
    /// The tenants with records for these targets. Nothing of them is sent anymore.
    withheld: HashSet<TenantId>,
    /// The parts that are still to be sent; the next one is the last element.
    parts: Vec<Batch>,
    /// The target of each item of the whole batch.
    targets: Vec<Option<TargetName>>,
    /// The number of rejected records of each target.
    rejected: HashMap<Option<TargetName>, usize>,
}

impl Delivery {
    /// A delivery of a batch, all records of which have an unknown outcome.
    pub(super) fn new(batch: &Batch) -> Self {
        let targets = batch.items().iter().map(|item| item.target.clone()).collect();
        let outcomes = vec![DeliveryOutcome::Unknown; batch.len()];
        Self { outcomes, targets, ..Self::default() }
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

            Err(Failure::Refused(refusal)) => self.refuse(part, refusal),
            Err(Failure::Partial { arrived, failure }) => {
                self.arrived(part, arrived.into_iter());
                self.stopped = Some(DeliveryError::Sink(*failure));
            }
            Err(failure) => self.stopped = Some(DeliveryError::Sink(failure)),
        }

        self.limit_rejections();
    }

    /// Sends nothing else to a target that has rejected too many records, and nothing at all if it
    /// is the only one.
    fn limit_rejections(&mut self) {
        let rejected = self.rejected.iter().filter(|(target, rejected)| {
            let records = self.of_target(target.as_ref()).count();
            are_too_many(**rejected, records)
        });
        let exceeded: Vec<Option<TargetName>> =
            rejected.map(|(target, _)| target.clone()).collect();

        for target in exceeded {
            let Some(name) = &target else {
                if self.stopped.is_none() {
                    self.stopped = Some(too_many(self.of_target(None)));
                }
                continue;
            };
            if self.rejecting.iter().all(|rejecting| rejecting.name != *name) {
                let rejecting = rejecting_target(name.clone(), self.of_target(Some(name)));
                self.rejecting.push(rejecting);
                let unsent = self.parts.iter().flat_map(Batch::items);
                let unsent = unsent.filter(|item| item.target == target);
                self.withheld.extend(unsent.map(|item| item.tenant));
            }
        }
    }

    /// The outcomes of the records for a target.
    fn of_target<'d>(
        &'d self,
        target: Option<&'d TargetName>,
    ) -> impl Iterator<Item = &'d DeliveryOutcome> {
        let outcomes = self.outcomes.iter().zip(&self.targets);
        outcomes.filter(move |(_, of)| of.as_ref() == target).map(|(outcome, _)| outcome)
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
                let rejected = self.rejected.entry(item.target.clone()).or_default();
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

    /// Regression: one index that rejected too many records stopped the delivery to all others.
    #[test]
    fn a_rejecting_target_stops_only_itself() {
        let mut records = vec![(1, "bad"); 30];
        records.extend([(2, "good"), (2, "good")]);
        let whole = routed(&records);
        let mut delivery = Delivery::new(&whole);
        let mut part = whole.part(0..whole.len());
        for _ in 0..21 {
            let rejected = vec![(0, "no".into())];
            delivery.record(&part, Err(Failure::Poison { rejected, rest_delivered: false }));
            part = delivery.next().unwrap();
        }

        assert_eq!(part.len(), 2, "only the records for the other index are sent");
        assert_eq!(letters(&delivery), format!("{}{}??", "r".repeat(21), "w".repeat(9)));
        assert!(delivery.stopped.is_none());
        assert_eq!(delivery.rejecting[0].name, TargetName::new("bad"));
    }
}
