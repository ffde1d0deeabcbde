//! When refusals say that it is not the records: more than twenty in a row, or one in twenty of
//! the last thousand. Then the sink parks. What has arrived is settled first, and a run of
//! refusals that nothing accepted has followed yet stays in the backlog.

use std::collections::VecDeque;

use super::DeliveryError;
use crate::{
    checkpoint::{DeadLetter, Position},
    model::{EventId, TenantId},
    sink::Failure,
};

/// Refusals in a row that say: it is not the records.
const MAX_REFUSED_IN_A_ROW: usize = 20;
/// Of the last thousand records, so many refused say the same.
const MAX_REFUSED_IN_A_THOUSAND: usize = 50;

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeliveryOutcome {
    Unknown,
    Arrived,
    /// With the receiver's words, or the encoder's.
    Refused(String),
}

/// One record, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct RecordOutcome {
    pub tenant: TenantId,
    pub at: Position,
    pub event_id: EventId,
    pub outcome: DeliveryOutcome,
}

/// How many records, from the first on, are settled, and what stops the sink then.
pub(super) struct BatchVerdict {
    pub settled: usize,
    pub stopped: Option<DeliveryError>,
}

/// How the last records have fared.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    in_a_row: usize,
    window: VecDeque<bool>,
}

impl RecordOutcome {
    pub(super) fn letter(&self) -> Option<DeadLetter> {
        match &self.outcome {
            DeliveryOutcome::Refused(reason) => Some(DeadLetter {
                tenant: self.tenant,
                at: self.at,
                event_id: self.event_id,
                reason: reason.clone(),
            }),
            _ => None,
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self.outcome, DeliveryOutcome::Refused(_))
    }
}

impl BatchVerdict {
    /// Of dead letters that were sent again: one that is refused again is a dead letter still, and
    /// says nothing about the sink.
    pub(super) fn of_letters(outcomes: &[RecordOutcome], stopped: Option<DeliveryError>) -> Self {
        let unknown =
            outcomes.iter().position(|outcome| outcome.outcome == DeliveryOutcome::Unknown);
        Self { settled: unknown.unwrap_or(outcomes.len()), stopped }
    }
}

impl Refusals {
    /// Judges the outcomes of a batch, oldest first. `stopped` is what has stopped its delivery.
    pub(super) fn judge(
        &mut self,
        outcomes: &[RecordOutcome],
        stopped: Option<DeliveryError>,
    ) -> BatchVerdict {
        let known = outcomes.iter().position(|outcome| outcome.outcome == DeliveryOutcome::Unknown);
        let known = &outcomes[..known.unwrap_or(outcomes.len())];
        let too_many =
            self.count(known) || stopped.as_ref().is_some_and(DeliveryError::is_misconfigured);
        if !too_many {
            return BatchVerdict { settled: known.len(), stopped };
        }
        *self = Self::default();
        let run = known.iter().rev().take_while(|outcome| outcome.is_refused()).count();
        // A short run at the end is of the records' own making.
        let kept_back =
            if run > MAX_REFUSED_IN_A_ROW || known.len() < outcomes.len() { run } else { 0 };
        let outcomes: Vec<DeliveryOutcome> =
            known.iter().map(|outcome| outcome.outcome.clone()).collect();
        BatchVerdict {
            settled: known.len() - kept_back,
            stopped: Some(stopped.unwrap_or_else(|| self::too_many(&outcomes))),
        }
    }

    /// Whether these make it too many.
    fn count(&mut self, outcomes: &[RecordOutcome]) -> bool {
        let mut too_many = false;
        for refused in outcomes.iter().map(RecordOutcome::is_refused) {
            self.in_a_row = if refused { self.in_a_row + 1 } else { 0 };
            self.window.push_back(refused);
            if self.window.len() > 1_000 {
                self.window.pop_front();
            }
            // Counting is only of interest where the count can have grown.
            too_many |= refused
                && (self.in_a_row > MAX_REFUSED_IN_A_ROW
                    || self.window.iter().filter(|refused| **refused).count()
                        > MAX_REFUSED_IN_A_THOUSAND);
        }
        too_many
    }
}

/// Whether so many refusals in one batch already say that it is not the records: each of them may
/// cost sending the rest again.
pub(super) fn are_too_many(refused: usize, batch: usize) -> bool {
    (refused > MAX_REFUSED_IN_A_ROW && refused > batch / 2)
        || refused > MAX_REFUSED_IN_A_THOUSAND.max(batch / 20)
}

/// The fault that too many refusals are.
pub(super) fn too_many(outcomes: &[DeliveryOutcome]) -> DeliveryError {
    let said = outcomes.iter().find_map(|outcome| match outcome {
        DeliveryOutcome::Refused(reason) => Some(reason.as_str()),
        _ => None,
    });
    DeliveryError::Sink(Failure::misconfigured(format!(
        "the receiver refuses too many records, the first with: {}",
        said.unwrap_or_default()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One outcome a letter: `a` arrived, `r` refused, `?` unknown.
    fn outcomes(text: &str) -> Vec<RecordOutcome> {
        let tenant = TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap();
        let outcome = |(record_index, letter)| RecordOutcome {
            tenant,
            at: Position { seq: 1, record_index },
            event_id: EventId::from_bytes([u8::try_from(record_index % 256).unwrap(); 20]),
            outcome: match letter {
                'a' => DeliveryOutcome::Arrived,
                'r' => DeliveryOutcome::Refused("no".into()),
                _ => DeliveryOutcome::Unknown,
            },
        };
        (0..).zip(text.chars()).map(outcome).collect()
    }

    fn judge(refusals: &mut Refusals, text: &str) -> (usize, bool) {
        let verdict = refusals.judge(&outcomes(text), None);
        (verdict.settled, verdict.stopped.is_some())
    }

    #[test]
    fn more_than_twenty_in_a_row_park_the_sink_and_stay_in_the_backlog() {
        let mut refusals = Refusals::default();
        assert_eq!(judge(&mut refusals, &"r".repeat(20)), (20, false));
        // The twenty-first: it alone was not followed by anything yet.
        assert_eq!(judge(&mut refusals, "r"), (1, true));
        // After that the count begins anew.
        assert_eq!(judge(&mut refusals, &"r".repeat(20)), (20, false));
        let mut refusals = Refusals::default();
        assert_eq!(judge(&mut refusals, &format!("aaa{}", "r".repeat(30))), (3, true));
        assert_eq!(judge(&mut refusals, &"r".repeat(30)), (0, true));
    }

    /// What arrived behind a run of refusals was sent again every five minutes, for ever.
    #[test]
    fn what_arrived_is_settled_before_the_sink_parks() {
        let mut refusals = Refusals::default();
        let text = format!("{}aaa", "r".repeat(30));
        assert_eq!(judge(&mut refusals, &text), (33, true));
        assert_eq!(judge(&mut refusals, "aaa"), (3, false));
    }

    #[test]
    fn nothing_behind_an_unknown_record_is_settled() {
        let mut refusals = Refusals::default();
        assert_eq!(judge(&mut refusals, "aar?ara"), (3, false));
        let stopped = Some(DeliveryError::Sink(Failure::misconfigured("no")));
        let verdict = refusals.judge(&outcomes("aarr?a"), stopped);
        assert_eq!((verdict.settled, verdict.stopped.is_some()), (2, true));
    }

    #[test]
    fn five_in_a_hundred_of_a_thousand_park_the_sink() {
        let mut refusals = Refusals::default();
        let round = format!("aaar{}", "a".repeat(16));
        for _ in 0..200 {
            let judged = judge(&mut refusals, &round);
            assert_eq!(judged, (20, false), "one in twenty is five in a hundred, and not more");
        }
        assert_eq!(judge(&mut refusals, &format!("rr{}", "a".repeat(18))), (20, true));
    }
}
