//! The delivery of one batch: its parts that are still to be sent, and the outcome of each record.
//!
//! A receiver may accept a batch as a whole, reject single records, or require smaller batches.
//! This module decides what to send next; it sends nothing itself.

use super::{
    DeliveryError,
    rejections::{DeliveryOutcome, are_too_many, too_many},
};
use crate::sink::{Batch, Failure, Receipt};

/// The state of one delivery. The caller alternates between [`Self::next`] and [`Self::record`].
#[derive(Default)]
pub(super) struct Delivery {
    /// One per item of the whole batch, in its order.
    pub outcomes: Vec<DeliveryOutcome>,
    /// The mark of the last receipt that contained one.
    pub mark: Option<Vec<u8>>,
    /// The error that ended the delivery early.
    pub stopped: Option<DeliveryError>,
    /// The parts that are still to be sent; the next one is the last element.
    parts: Vec<Batch>,
    rejected: usize,
}

impl Delivery {
    /// A delivery of a batch with this number of records, all with an unknown outcome.
    pub(super) fn new(records: usize) -> Self {
        Self { outcomes: vec![DeliveryOutcome::Unknown; records], ..Self::default() }
    }

    /// The next part to send; `None` when the delivery has ended.
    pub(super) fn next(&mut self) -> Option<Batch> {
        if self.stopped.is_some() { None } else { self.parts.pop() }
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

            Err(Failure::Partial { arrived, failure }) => {
                self.arrived(part, 0..arrived);
                self.stopped = Some(DeliveryError::Sink(*failure));
            }
            Err(failure) => self.stopped = Some(DeliveryError::Sink(failure)),
        }

        if self.stopped.is_none() && are_too_many(self.rejected, self.outcomes.len()) {
            self.stopped = Some(too_many(&self.outcomes));
        }
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
            self.rejected += usize::from(matches!(outcome, DeliveryOutcome::Rejected(_)));
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
        };
        delivery.outcomes.iter().map(letter).collect()
    }

    #[test]
    fn a_large_batch_is_sent_in_halves() {
        let whole = batch(5);
        let mut delivery = Delivery::new(5);
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

    #[test]
    fn a_failure_keeps_known_outcomes() {
        let whole = batch(4);
        let mut delivery = Delivery::new(4);
        delivery.record(&whole, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![] }));
        let first = delivery.next().unwrap();
        delivery.record(&first, Ok(Receipt::default()));

        let second = delivery.next().unwrap();
        let failure = Failure::Partial { arrived: 1, failure: Box::new(Failure::retry("gone")) };
        delivery.record(&second, Err(failure));
        assert_eq!(letters(&delivery), "aaa?");
        assert!(delivery.next().is_none() && delivery.stopped.is_some());
    }
}
