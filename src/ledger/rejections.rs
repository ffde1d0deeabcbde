//! The rejected snapshots of one poll. A response may contain any number of them, so only the first
//! ones are kept, and the others are counted: no more of them may appear in the log, the records or
//! the memory of the process. Start reading at [`Rejections`]. See decision 0063.

use std::collections::BTreeSet;

use super::Rejected;
use crate::{
    model::{Day, Observation, ObservationKind, Phase},
    text::plural,
};

/// How many rejected snapshots are reported individually.
const MAX_REPORTED: usize = 20;
/// How many days are kept: more than a poll can request.
const MAX_DAYS: usize = 128;
/// The subject of the observation about all other rejected snapshots.
const OTHERS: &str = "further snapshots";

/// The rejected snapshots of one poll.
#[derive(Clone, Debug, Default)]
pub struct Rejections {
    reported: Vec<Rejected>,
    count: usize,
    days: BTreeSet<Day>,
    has_unnamed: bool,
}

impl Rejections {
    /// Adds a snapshot. Returns it if it is one of those that are reported individually.
    pub fn push(&mut self, rejected: Rejected) -> Option<&Rejected> {
        self.count = self.count.saturating_add(1);
        match rejected.day {
            None => self.has_unnamed = true,
            Some(day) if self.days.len() < MAX_DAYS => drop(self.days.insert(day)),
            Some(_) => {}
        }

        if self.reported.len() == MAX_REPORTED {
            return None;
        }
        self.reported.push(rejected);
        self.reported.last()
    }

    /// The number of rejected snapshots.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The number of rejected snapshots that are not reported individually.
    pub fn further(&self) -> usize {
        self.count.saturating_sub(self.reported.len())
    }

    /// The days that the rejected snapshots name. They stay missing.
    pub fn days(&self) -> impl Iterator<Item = Day> + '_ {
        self.days.iter().copied()
    }

    /// Whether a rejected snapshot names no day.
    pub fn has_unnamed(&self) -> bool {
        self.has_unnamed
    }

    /// One observation for each of the first rejected snapshots, and one for all others: its end if
    /// there are none.
    pub fn observations(&self, today: Day) -> Vec<Observation> {
        let further = self.further();
        let others = Observation {
            what: ObservationKind::Implausible,
            subject: OTHERS.to_owned(),
            first_day: today,
            phase: if further > 0 { Phase::Begin } else { Phase::End },
            details: plural(further, "more snapshot was rejected", "more snapshots were rejected"),
            hint: None,
        };
        let reported = self.reported.iter().map(|rejected| rejected.observation.clone());
        reported.chain([others]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::unreadable, *};

    #[test]
    fn further_rejections_are_only_counted() {
        let today = Day::parse("2026-11-22").unwrap();
        let mut rejections = Rejections::default();
        let phase = |rejections: &Rejections| {
            let observations = rejections.observations(today);
            let others = observations.last().unwrap();
            assert_eq!(others.subject, OTHERS);
            (others.phase, others.details.clone())
        };
        assert_eq!(phase(&rejections).0, Phase::End);

        for number in 0..MAX_REPORTED {
            let day = today.plus(-i32::try_from(number).unwrap());
            let rejected = Rejected { day: Some(day), ..unreadable("{", "no JSON", today) };
            assert!(rejections.push(rejected).is_some());
        }
        assert_eq!((phase(&rejections).0, rejections.has_unnamed()), (Phase::End, false));

        for _ in 0..1_000 {
            assert!(rejections.push(unreadable("{", "no JSON", today)).is_none());
        }
        assert_eq!((rejections.count(), rejections.further()), (1_000 + MAX_REPORTED, 1_000));
        assert_eq!(rejections.observations(today).len(), MAX_REPORTED + 1);
        assert_eq!((rejections.days().count(), rejections.has_unnamed()), (MAX_REPORTED, true));
        let details = "1,000 more snapshots were rejected".to_owned();
        assert_eq!(phase(&rejections), (Phase::Begin, details));
    }
}
