//! A batch on its way to the receiver, in as many parts as the receiver wants.

use super::{
    DeliveryError,
    refusals::{DeliveryOutcome, are_too_many, too_many},
};
use crate::sink::{Batch, Failure, Receipt};

/// How far a batch has come.
#[derive(Default)]
pub(super) struct Delivery {
    /// By index in the whole batch.
    pub outcomes: Vec<DeliveryOutcome>,
    pub mark: Option<Vec<u8>>,
    /// What ended it before its time.
    pub stopped: Option<DeliveryError>,
    /// Still to be sent, the next one last.
    parts: Vec<Batch>,
    refused: usize,
}

impl Delivery {
    pub(super) fn of(records: usize) -> Self {
        Self { outcomes: vec![DeliveryOutcome::Unknown; records], ..Self::default() }
    }

    /// The next part to send.
    pub(super) fn next(&mut self) -> Option<Batch> {
        if self.stopped.is_some() { None } else { self.parts.pop() }
    }

    /// Takes in what a part, or the whole, came to.
    pub(super) fn take(&mut self, batch: &Batch, result: Result<Receipt, Failure>) {
        match result {
            Ok(receipt) => {
                self.mark = receipt.mark.or(self.mark.take());
                self.settle_all(batch, 0..batch.len());
            }
            Err(Failure::Poison { refused, rest_delivered }) => {
                let is_poison = |index: usize| refused.iter().any(|(p, _)| *p == index);
                if rest_delivered {
                    self.settle_all(batch, (0..batch.len()).filter(|index| !is_poison(*index)));
                } else {
                    self.send_later(batch.without(is_poison));
                }
                for (index, reason) in refused {
                    self.settle(batch, index, DeliveryOutcome::Refused(reason));
                }
            }
            Err(Failure::TooLarge { reason, .. }) if batch.len() == 1 => {
                self.settle(batch, 0, DeliveryOutcome::Refused(reason));
            }
            Err(Failure::TooLarge { arrived, .. }) => {
                let rest = batch.without(|index| arrived.contains(&index));
                let middle = rest.len().div_ceil(2);
                self.send_later(rest.part(middle..rest.len()));
                self.send_later(rest.part(0..middle));
                self.settle_all(batch, arrived.into_iter());
            }
            Err(Failure::Partly { arrived, failure }) => {
                self.settle_all(batch, 0..arrived);
                self.stopped = Some(DeliveryError::Sink(*failure));
            }
            Err(failure) => self.stopped = Some(DeliveryError::Sink(failure)),
        }
        if self.stopped.is_none() && are_too_many(self.refused, self.outcomes.len()) {
            self.stopped = Some(too_many(&self.outcomes));
        }
    }

    fn send_later(&mut self, part: Batch) {
        if !part.is_empty() {
            self.parts.push(part);
        }
    }

    fn settle_all(&mut self, batch: &Batch, arrived: impl Iterator<Item = usize>) {
        for index in arrived {
            self.settle(batch, index, DeliveryOutcome::Arrived);
        }
    }

    fn settle(&mut self, batch: &Batch, index: usize, outcome: DeliveryOutcome) {
        if let Some(item) = batch.items().get(index) {
            self.refused += usize::from(matches!(outcome, DeliveryOutcome::Refused(_)));
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

    /// The outcomes, a letter each.
    fn shown(delivery: &Delivery) -> String {
        let letter = |outcome: &DeliveryOutcome| match outcome {
            DeliveryOutcome::Unknown => '?',
            DeliveryOutcome::Arrived => 'a',
            DeliveryOutcome::Refused(_) => 'r',
        };
        delivery.outcomes.iter().map(letter).collect()
    }

    #[test]
    fn a_batch_too_large_goes_in_halves_and_each_keeps_its_places() {
        let whole = batch(5);
        let mut delivery = Delivery::of(5);
        delivery.take(&whole, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![1] }));
        assert_eq!(shown(&delivery), "?a???");
        let first = delivery.next().unwrap();
        delivery.take(&first, Ok(Receipt { mark: Some(vec![1]) }));
        assert_eq!(shown(&delivery), "aaa??");
        let second = delivery.next().unwrap();
        let poison = Failure::Poison { refused: vec![(1, "no".into())], rest_delivered: false };
        delivery.take(&second, Err(poison));
        assert_eq!(shown(&delivery), "aaa?r");
        let last = delivery.next().unwrap();
        delivery.take(&last, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![] }));
        assert_eq!(
            (shown(&delivery).as_str(), delivery.mark.as_deref()),
            ("aaarr", Some(&[1][..]))
        );
        assert!(delivery.next().is_none() && delivery.stopped.is_none());
    }

    #[test]
    fn a_failure_keeps_what_is_known_and_sends_no_more() {
        let whole = batch(4);
        let mut delivery = Delivery::of(4);
        delivery.take(&whole, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![] }));
        let first = delivery.next().unwrap();
        delivery.take(&first, Ok(Receipt::default()));
        let second = delivery.next().unwrap();
        let gone = Failure::Partly { arrived: 1, failure: Box::new(Failure::retry("gone")) };
        delivery.take(&second, Err(gone));
        assert_eq!(shown(&delivery), "aaa?");
        assert!(delivery.next().is_none() && delivery.stopped.is_some());
    }
}
