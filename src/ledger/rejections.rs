//! The rejected snapshots of one poll. A response may contain any number of them, so only the first
//! ones are kept, and the others are counted: no more of them may appear in the log, the records or
//! the memory of the process. Start reading at [`Rejections`]. See decision 0063.

use std::collections::BTreeSet;

use super::Rejected;
use crate::{
    model::{
        DataFaults, Day, Observation, ObservationKind, ObservationSubject, Phase, RejectedSnapshots,
    },
    text::plural,
};

/// How many rejected snapshots are reported individually.
const MAX_REPORTED: usize = 20;
/// How many days are kept: more than a poll can request.
const MAX_DAYS: usize = 128;

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

    /// Whether a rejected snapshot names this day, so that Microsoft does list it.
    pub fn names(&self, day: Day) -> bool {
        self.days.contains(&day)
    }

    /// Whether a rejected snapshot names no day.
    pub fn has_unnamed(&self) -> bool {
        self.has_unnamed
    }

    /// One observation for each of the first rejected snapshots that name a day, one of each kind
    /// for those that name none, and one for all others. The last ones end if there are none.
    pub fn observations(&self, today: Day) -> Vec<Observation> {
        let further = self.further();
        let others = Observation {
            what: ObservationKind::Implausible,
            subject: ObservationSubject::Rejected(RejectedSnapshots::Further),
            first_day: today,
            phase: if further > 0 { Phase::Begin } else { Phase::End },
            details: plural(further, "more snapshot was rejected", "more snapshots were rejected"),
            hint: None,
        };
        let dated = self.reported.iter().filter(|rejected| rejected.day.is_some());
        let dated = dated.map(|rejected| rejected.observation.clone());
        let undated = [ObservationKind::Implausible, ObservationKind::ForeignTenant]
            .map(|what| self.undated(what, today));
        dated.chain(undated).chain([others]).collect()
    }

    /// The observation about the snapshots that name no day, or its end if there are none. They
    /// have nothing stable that could distinguish them.
    fn undated(&self, what: ObservationKind, today: Day) -> Observation {
        let mut reasons = DataFaults::default();
        let undated = self.reported.iter().filter(|rejected| rejected.day.is_none());
        for rejected in undated.filter(|rejected| rejected.observation.what == what) {
            reasons.add(rejected.observation.details.clone());
        }

        let (phase, details) = if reasons.is_empty() {
            (Phase::End, "the response has no such snapshot".to_owned())
        } else {
            (Phase::Begin, reasons.to_string())
        };
        let subject = ObservationSubject::Rejected(RejectedSnapshots::Undated);
        Observation { what, subject, first_day: today, phase, details, hint: None }
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
            let further = ObservationSubject::Rejected(RejectedSnapshots::Further);
            assert_eq!(others.subject, further);
            (others.phase, others.details.clone())
        };
        assert_eq!(phase(&rejections).0, Phase::End);

        for number in 0..MAX_REPORTED {
            let day = today.plus(-i32::try_from(number).unwrap());
            let rejected = Rejected { day: Some(day), ..unreadable("no JSON", None, today) };
            assert!(rejections.push(rejected).is_some());
        }
        assert_eq!((phase(&rejections).0, rejections.has_unnamed()), (Phase::End, false));

        for _ in 0..1_000 {
            assert!(rejections.push(unreadable("no JSON", None, today)).is_none());
        }
        assert_eq!((rejections.count(), rejections.further()), (1_000 + MAX_REPORTED, 1_000));
        assert_eq!(rejections.observations(today).len(), MAX_REPORTED + 3);
        assert_eq!((rejections.days().count(), rejections.has_unnamed()), (MAX_REPORTED, true));
        let details = "1,000 more snapshots were rejected".to_owned();
        assert_eq!(phase(&rejections), (Phase::Begin, details));
    }

    /// Regression: a snapshot without a day whose ID or length changed began another observation at
    /// every poll, and none of them ended.
    #[test]
    fn undated_snapshots_are_one_observation() {
        let today = Day::parse("2026-11-22").unwrap();
        let undated = |reasons: &[&str]| {
            let mut rejections = Rejections::default();
            for reason in reasons {
                let _ = rejections.push(unreadable(reason, None, today));
            }
            // A day in the future is not an identity, because it can move.
            if !reasons.is_empty() {
                let _ = rejections.push(unreadable("b", Some(today.plus(9)), today));
            }
            let observations = rejections.observations(today);
            assert_eq!(observations.len(), 3);
            let [implausible, foreign, _] = &observations[..] else { panic!() };
            let undated = ObservationSubject::Rejected(RejectedSnapshots::Undated);
            assert_eq!(implausible.subject, undated);
            assert_eq!(foreign.phase, Phase::End);
            (implausible.phase, implausible.details.clone())
        };

        let prefix = "cannot decode a snapshot:";
        let details = format!("{prefix} a; {prefix} b (2 times)");
        assert_eq!(undated(&["b", "a"]), (Phase::Begin, details));
        assert_eq!(undated(&[]).0, Phase::End);
    }
}
