//! Which bodies may be pruned: those of days that Microsoft no longer keeps, unless a sink, a
//! replay or a dead letter still needs them. A body that was not sent must never be pruned, and
//! facts are never pruned. Start reading at [`prunable_before`] and [`BodyUse::needs`].
//! See decision 0016.

use std::{collections::BTreeSet, ops::RangeInclusive};

use crate::model::{Day, Seq};

/// What still needs bodies of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyUse {
    /// The active cursors: the next entry, and the first day that the sink receives.
    pub cursors: Vec<(Seq, Day)>,
    /// The replays: the next entry, and the last one.
    pub replays: Vec<RangeInclusive<Seq>>,
    /// The entries with dead letters.
    pub dead_letters: BTreeSet<Seq>,
}

impl BodyUse {
    /// Whether the body of this entry, a snapshot of this day, is still needed.
    pub fn needs(&self, seq: Seq, day: Day) -> bool {
        let is_unsent = |(next, first_day): &(Seq, Day)| *next <= seq && *first_day <= day;
        self.cursors.iter().any(is_unsent)
            || self.replays.iter().any(|replay| replay.contains(&seq))
            || self.dead_letters.contains(&seq)
    }
}

/// The day before which bodies may be pruned, exclusive, if retention begins at `before`. Polls may
/// read the later days again, so that their bodies are never pruned.
pub fn prunable_before(before: Day, today: Day) -> Day {
    before.min(today.oldest_possible_at_source())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn unsent_bodies_are_needed() {
        let first_day = day("2026-06-01");
        let earlier = first_day.plus(-1);
        let (nothing, replayed) = (BodyUse::default(), Seq::new(3)..=Seq::new(5));
        let cursor = BodyUse { cursors: vec![(Seq::new(5), first_day)], ..BodyUse::default() };
        let replay = BodyUse { replays: vec![replayed], ..BodyUse::default() };
        let dead_letter =
            BodyUse { dead_letters: BTreeSet::from([Seq::new(5)]), ..BodyUse::default() };

        for (body_use, seq, day, expected) in [
            (&nothing, 5, first_day, false),
            (&cursor, 4, first_day, false),
            (&cursor, 5, first_day, true),
            (&cursor, 6, first_day.plus(1), true),
            (&cursor, u64::MAX, first_day, true),
            // The sink does not receive this day.
            (&cursor, 5, earlier, false),
            // The range of a replay is inclusive, and a replay may need every day.
            (&replay, 2, first_day, false),
            (&replay, 3, earlier, true),
            (&replay, 5, first_day, true),
            (&replay, 6, first_day, false),
            (&dead_letter, 4, first_day, false),
            (&dead_letter, 5, earlier, true),
            (&dead_letter, 6, first_day, false),
        ] {
            let is_needed = body_use.needs(Seq::new(seq), day);
            assert_eq!(is_needed, expected, "{body_use:?} {seq} {day}");
        }
    }

    #[test]
    fn a_completed_replay_needs_no_body() {
        for (next, last) in [(6, 5), (1, 0)] {
            let replayed = Seq::new(next)..=Seq::new(last);
            let completed = BodyUse { replays: vec![replayed], ..BodyUse::default() };
            for seq in 0..10 {
                let is_needed = completed.needs(Seq::new(seq), day("2026-06-01"));
                assert!(!is_needed, "{next} {last} {seq}");
            }
        }
    }

    /// The body of the day 90 days ago is kept, because the day may not have ended at Microsoft.
    #[test]
    fn newest_ninety_days_are_never_pruned() {
        let today = day("2026-11-22");
        for (before, expected) in [
            ("2025-01-01", "2025-01-01"),
            ("2026-08-23", "2026-08-23"),
            ("2026-08-24", "2026-08-24"),
            ("2026-08-25", "2026-08-24"),
            ("2026-11-22", "2026-08-24"),
            ("9999-12-31", "2026-08-24"),
        ] {
            assert_eq!(prunable_before(day(before), today), day(expected), "{before}");
        }
    }

    proptest! {
        #[test]
        fn another_use_needs_no_fewer_bodies(
            cursors in proptest::collection::vec((0_u64..10, 0_i32..10), 1..5),
            (first, last) in (0_u64..10, 0_u64..10),
            dead_letter in 0_u64..10,
        ) {
            let days: Vec<Day> = (0..10).filter_map(Day::from_number).collect();
            let mut body_use = BodyUse::default();
            let mut needed = BTreeSet::new();
            let needed_by = |body_use: &BodyUse| -> BTreeSet<(u64, Day)> {
                let bodies = (0..10).flat_map(|seq| days.iter().map(move |day| (seq, *day)));
                bodies.filter(|(seq, day)| body_use.needs(Seq::new(*seq), *day)).collect()
            };

            for (next, day) in cursors {
                body_use.cursors.push((Seq::new(next), Day::from_number(day).unwrap()));
                let more = needed_by(&body_use);
                prop_assert!(more.is_superset(&needed), "{body_use:?}");
                prop_assert!(!more.is_empty(), "every cursor precedes the last entry");
                needed = more;
            }
            body_use.replays.push(Seq::new(first)..=Seq::new(last));
            let more = needed_by(&body_use);
            prop_assert!(more.is_superset(&needed), "{body_use:?}");

            body_use.dead_letters.insert(Seq::new(dead_letter));
            prop_assert!(needed_by(&body_use).is_superset(&more), "{body_use:?}");
        }
    }
}
