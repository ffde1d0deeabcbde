//! Decides when rejected records indicate a fault of the configuration: more than 20 rejections in
//! a row, or more than 50 among the last 1,000 records. In this case, the sink is parked.
//!
//! Records that have arrived are settled before the sink is parked. A run of rejections that no
//! accepted record has followed stays in the backlog, because the fault may have caused it.
//! Start reading at [`RejectionCounter::judge`]. See decision 0022.

use std::collections::VecDeque;

use super::DeliveryError;
use crate::{
    checkpoint::{DeadLetter, Position},
    model::{EventId, TenantId},
    sink::Failure,
};

/// More rejections in a row than this park the sink.
const MAX_REJECTED_IN_A_ROW: usize = 20;
/// More rejections than this among the last [`WINDOW_RECORDS`] park the sink.
const MAX_REJECTED_IN_WINDOW: usize = 50;
const WINDOW_RECORDS: usize = 1_000;

/// The outcome of sending one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeliveryOutcome {
    /// Not sent, or neither acknowledged nor rejected yet.
    Unknown,
    /// Acknowledged by the receiver.
    Arrived,
    /// Rejected, with the message of the receiver or of the encoder.
    Rejected(String),
}

/// A record and its outcome.
#[derive(Clone, Debug)]
pub(super) struct RecordOutcome {
    /// The tenant of the record.
    pub tenant: TenantId,
    /// The position of the record in the tenant's log.
    pub at: Position,
    pub event_id: EventId,
    pub outcome: DeliveryOutcome,
}

/// The number of records, counted from the first, that the cursors may pass, and the error that
/// stops the sink after them.
pub(super) struct BatchVerdict {
    /// How many records of the batch, from its start, the cursors may pass.
    pub settled: usize,
    /// The error that stops the sink; `None` if it continues.
    pub stopped: Option<DeliveryError>,
}

/// Counts the rejections among the most recent records of a sink.
#[derive(Debug, Default)]
pub(super) struct RejectionCounter {
    in_a_row: usize,
    /// Whether each of the last [`WINDOW_RECORDS`] records was rejected, oldest first.
    window: VecDeque<bool>,
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

    fn is_rejected(&self) -> bool {
        matches!(self.outcome, DeliveryOutcome::Rejected(_))
    }
}

impl BatchVerdict {
    /// The verdict for dead letters that were retried. One that is rejected again stays a dead
    /// letter, and does not count against the sink.
    pub(super) fn of_dead_letters(
        outcomes: &[RecordOutcome],
        stopped: Option<DeliveryError>,
    ) -> Self {
        Self { settled: known(outcomes).len(), stopped }
    }
}

impl RejectionCounter {
    /// Counts the outcomes of a batch, oldest first, and decides how many of them are settled.
    /// `stopped` is the error that has already stopped its delivery.
    pub(super) fn judge(
        &mut self,
        outcomes: &[RecordOutcome],
        stopped: Option<DeliveryError>,
    ) -> BatchVerdict {
        let known = known(outcomes);
        let parks =
            self.count(known) || stopped.as_ref().is_some_and(DeliveryError::is_misconfigured);
        if !parks {
            return BatchVerdict { settled: known.len(), stopped };
        }
        *self = Self::default();

        // A short run at the end of a complete batch is caused by the records themselves.
        let run = known.iter().rev().take_while(|outcome| outcome.is_rejected()).count();
        let kept_back =
            if run > MAX_REJECTED_IN_A_ROW || known.len() < outcomes.len() { run } else { 0 };
        let outcomes: Vec<DeliveryOutcome> =
            known.iter().map(|outcome| outcome.outcome.clone()).collect();
        BatchVerdict {
            settled: known.len() - kept_back,
            stopped: Some(stopped.unwrap_or_else(|| too_many(&outcomes))),
        }
    }

    /// Counts outcomes, and returns whether a limit was exceeded.
    fn count(&mut self, outcomes: &[RecordOutcome]) -> bool {
        let mut exceeded = false;
        for rejected in outcomes.iter().map(RecordOutcome::is_rejected) {
            self.in_a_row = if rejected { self.in_a_row + 1 } else { 0 };
            self.window.push_back(rejected);
            if self.window.len() > WINDOW_RECORDS {
                self.window.pop_front();
            }
            // Only a rejection can exceed a limit, so other records do not require counting.
            exceeded |= rejected
                && (self.in_a_row > MAX_REJECTED_IN_A_ROW
                    || self.window.iter().filter(|rejected| **rejected).count()
                        > MAX_REJECTED_IN_WINDOW);
        }
        exceeded
    }
}

/// The outcomes before the first unknown one.
fn known(outcomes: &[RecordOutcome]) -> &[RecordOutcome] {
    let unknown = outcomes.iter().position(|outcome| outcome.outcome == DeliveryOutcome::Unknown);
    &outcomes[..unknown.unwrap_or(outcomes.len())]
}

/// Whether the number of rejections in one batch of `records` indicates a fault of the
/// configuration. If so, the delivery ends early, because each rejection may require sending the
/// rest again.
pub(super) fn are_too_many(rejected: usize, records: usize) -> bool {
    (rejected > MAX_REJECTED_IN_A_ROW && rejected > records / 2)
        || rejected > MAX_REJECTED_IN_WINDOW.max(records / 20)
}

/// The error that parks a sink after too many rejections. Quotes the first reason.
pub(super) fn too_many(outcomes: &[DeliveryOutcome]) -> DeliveryError {
    let first = outcomes.iter().find_map(|outcome| match outcome {
        DeliveryOutcome::Rejected(reason) => Some(reason.as_str()),
        _ => None,
    });
    DeliveryError::Sink(Failure::misconfigured(format!(
        "the receiver rejects too many records: {}",
        first.unwrap_or_default()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One outcome per letter: `a` arrived, `r` rejected, `?` unknown.
    fn outcomes(text: &str) -> Vec<RecordOutcome> {
        let tenant = TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap();
        let outcome = |(record_index, letter)| RecordOutcome {
            tenant,
            at: Position { seq: 1, record_index },
            event_id: EventId::from_bytes([u8::try_from(record_index % 256).unwrap(); 20]),
            outcome: match letter {
                'a' => DeliveryOutcome::Arrived,
                'r' => DeliveryOutcome::Rejected("no".into()),
                _ => DeliveryOutcome::Unknown,
            },
        };
        (0..).zip(text.chars()).map(outcome).collect()
    }

    fn judge(counter: &mut RejectionCounter, text: &str) -> (usize, bool) {
        let verdict = counter.judge(&outcomes(text), None);
        (verdict.settled, verdict.stopped.is_some())
    }

    #[test]
    fn a_run_of_rejections_stays_in_the_backlog() {
        let mut counter = RejectionCounter::default();
        assert_eq!(judge(&mut counter, &"r".repeat(20)), (20, false));
        // The run exceeds the limit, but only one of its records is in this batch.
        assert_eq!(judge(&mut counter, "r"), (1, true));
        // The counter starts again after the sink has been parked.
        assert_eq!(judge(&mut counter, &"r".repeat(20)), (20, false));

        let mut counter = RejectionCounter::default();
        assert_eq!(judge(&mut counter, &format!("aaa{}", "r".repeat(30))), (3, true));
        assert_eq!(judge(&mut counter, &"r".repeat(30)), (0, true));
    }

    /// Regression: records that had arrived after a run of rejections were sent again with every
    /// attempt of the parked sink.
    #[test]
    fn arrived_records_are_settled_before_parking() {
        let mut counter = RejectionCounter::default();
        let text = format!("{}aaa", "r".repeat(30));
        assert_eq!(judge(&mut counter, &text), (33, true));
        assert_eq!(judge(&mut counter, "aaa"), (3, false));
    }

    #[test]
    fn nothing_after_an_unknown_outcome_is_settled() {
        let mut counter = RejectionCounter::default();
        assert_eq!(judge(&mut counter, "aar?ara"), (3, false));
        let stopped = Some(DeliveryError::Sink(Failure::misconfigured("no")));
        let verdict = counter.judge(&outcomes("aarr?a"), stopped);
        assert_eq!((verdict.settled, verdict.stopped.is_some()), (2, true));
    }

    #[test]
    fn parks_above_five_percent_of_a_thousand() {
        let mut counter = RejectionCounter::default();
        let batch = format!("aaar{}", "a".repeat(16));
        for _ in 0..200 {
            let judged = judge(&mut counter, &batch);
            assert_eq!(judged, (20, false), "one record in twenty does not exceed the limit");
        }
        assert_eq!(judge(&mut counter, &format!("rr{}", "a".repeat(18))), (20, true));
    }
}
