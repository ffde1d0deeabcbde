//! When refusals say that it is not the records: more than twenty in a row, or one in twenty of
//! the last thousand. Then the sink parks before they are committed.

use std::collections::{HashSet, VecDeque};

use super::Stopped;
use crate::{checkpoint::DeadLetter, model::EventId, sink::Failure};

/// Refusals in a row that say: it is not the records.
const MAX_REFUSED_IN_A_ROW: usize = 20;
/// Of the last thousand records, so many refused say the same.
const MAX_REFUSED_IN_A_THOUSAND: usize = 50;
/// How the last records have fared.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    in_a_row: usize,
    window: VecDeque<bool>,
}

impl Refusals {
    /// Counts what became of a batch, oldest first. Too many refusals stop the sink before they
    /// are committed: then it is not the records that are wrong.
    pub(super) fn count(
        &mut self,
        sent: impl Iterator<Item = EventId>,
        letters: &[DeadLetter],
    ) -> Result<(), Stopped> {
        let refused: HashSet<EventId> = letters.iter().map(|letter| letter.event_id).collect();
        let unsent = letters.len();
        let mut outcomes: Vec<bool> = sent.map(|id| refused.contains(&id)).collect();
        let counted = outcomes.iter().filter(|refused| **refused).count();
        outcomes.extend(std::iter::repeat_n(true, unsent - counted.min(unsent)));
        let (mut in_a_row, mut window) = (self.in_a_row, self.window.clone());
        for refused in outcomes {
            in_a_row = if refused { in_a_row + 1 } else { 0 };
            window.push_back(refused);
            if window.len() > 1_000 {
                window.pop_front();
            }
            let in_window = window.iter().filter(|refused| **refused).count();
            if in_a_row > MAX_REFUSED_IN_A_ROW || in_window > MAX_REFUSED_IN_A_THOUSAND {
                *self = Self::default();
                return Err(too_many(letters));
            }
        }
        (self.in_a_row, self.window) = (in_a_row, window);
        Ok(())
    }
}

/// Whether so many refusals in one batch already say that it is not the records: each of them may
/// cost sending the rest again.
pub(super) fn are_too_many(refused: usize, batch: usize) -> bool {
    (refused > MAX_REFUSED_IN_A_ROW && refused > batch / 2)
        || refused > MAX_REFUSED_IN_A_THOUSAND.max(batch / 20)
}

/// The fault that too many refusals are.
pub(super) fn too_many(letters: &[DeadLetter]) -> Stopped {
    let said = letters.first().map(|letter| letter.reason.as_str()).unwrap_or_default();
    Stopped::Sink(Failure::misconfigured(format!(
        "the receiver refuses too many records, the first with: {said}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Position;

    fn letter(n: u8) -> DeadLetter {
        DeadLetter {
            at: Position { seq: 1, place: 0 },
            event_id: EventId::from_bytes([n; 20]),
            reason: "no".into(),
        }
    }

    #[test]
    fn more_than_twenty_in_a_row_park_the_sink() {
        let mut refusals = Refusals::default();
        let letters: Vec<DeadLetter> = (0..20).map(letter).collect();
        let ids = || letters.iter().map(|l| l.event_id);
        refusals.count(ids(), &letters).unwrap();
        assert!(refusals.count(ids(), &letters[..1]).is_err());
        // After that the count begins anew.
        refusals.count(ids(), &letters).unwrap();
    }

    #[test]
    fn five_in_a_hundred_of_a_thousand_park_the_sink() {
        let mut refusals = Refusals::default();
        let ids: Vec<EventId> = (0..20).map(|n| EventId::from_bytes([n; 20])).collect();
        let rounds = (0..200)
            .take_while(|_| refusals.count(ids.iter().copied(), &[letter(3)]).is_ok())
            .count();
        assert_eq!(rounds, 200, "one in twenty is five in a hundred, and not more");
        assert!(refusals.count(ids.iter().copied(), &[letter(3), letter(7)]).is_err());
    }
}
