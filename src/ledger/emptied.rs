//! Rejects a day whose list of controls is empty although the tenant had controls before: it would
//! report all of them as removed. A tenant that has never had a control keeps its empty days.
//!
//! The module `accept` judges a snapshot alone, and rejects a list that is null; whether an empty
//! list is possible depends on the earlier days. Start reading at [`reject_emptied`]. See decision
//! 0077.

use std::collections::BTreeMap;

use super::{AcceptedSnapshot, Rejected};
use crate::model::{Day, DayFacts, KeptDay, ObservationKind};

/// Why such a day is rejected.
const DETAILS: &str = "no control can be used: `controlScores` is an empty list, although an earlier day has controls";

/// Removes the days with an empty list of controls from the snapshots of a response or an import if
/// the last earlier day whose controls are known has some, and returns their rejections. `kept`
/// contains stored days; a stored copy of the same day counts as an earlier one.
pub fn reject_emptied(
    snapshots: &mut Vec<AcceptedSnapshot>,
    kept: &BTreeMap<Day, KeptDay>,
    today: Day,
) -> Vec<Rejected> {
    // Nothing is known about a day that has lost all of its controls.
    let stored = kept.values().map(|kept| &kept.facts);
    let stored = stored.filter(|facts| has_controls(facts) || is_empty(facts));
    let mut known: BTreeMap<Day, bool> =
        stored.map(|facts| (facts.day, has_controls(facts))).collect();
    let read = snapshots.iter().map(|snapshot| &snapshot.facts);
    known.extend(read.filter(|facts| has_controls(facts)).map(|facts| (facts.day, true)));

    let had_controls =
        |day: Day| known.range(..=day).next_back().is_some_and(|(_, has_controls)| *has_controls);
    let is_emptied =
        |snapshot: &AcceptedSnapshot| is_empty(&snapshot.facts) && had_controls(snapshot.facts.day);
    let (emptied, others): (Vec<_>, Vec<_>) =
        std::mem::take(snapshots).into_iter().partition(is_emptied);
    *snapshots = others;

    let reject = |snapshot: AcceptedSnapshot| {
        let day = Some(snapshot.facts.day);
        Rejected::new(ObservationKind::Implausible, DETAILS.to_owned(), day, today)
    };
    emptied.into_iter().map(reject).collect()
}

fn has_controls(facts: &DayFacts) -> bool {
    !facts.controls.is_empty()
}

/// Whether Microsoft has listed no control, and none was lost.
fn is_empty(facts: &DayFacts) -> bool {
    !has_controls(facts) && !facts.has_lost_controls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{SnapshotOrigin, accept},
        model::{TenantId, UnixMillis},
        wire,
    };

    const TENANT: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";

    /// The lists of controls of a day.
    const SOME: &str = r#","controlScores":[{"controlName":"A","score":1}]"#;
    const EMPTY: &str = r#","controlScores":[]"#;
    /// The day has lost its controls.
    const LOST: &str = "";

    fn day(number: i32) -> Day {
        Day::parse("2026-11-10").unwrap().plus(number)
    }

    fn snapshot(number: i32, controls: &str) -> AcceptedSnapshot {
        let (day, today) = (day(number), day(12));
        let json = format!(
            r#"{{"azureTenantId":"{TENANT}","createdDateTime":"{day}T00:00:00Z"{controls}}}"#
        );
        let tenant = TenantId::parse(TENANT).unwrap();
        let (decoded, origin) = (wire::snapshot(&json).unwrap(), SnapshotOrigin::Poll);
        accept(&decoded, &json, tenant, today, origin, UnixMillis::new(0)).unwrap()
    }

    fn kept(number: i32, controls: &str) -> (Day, KeptDay) {
        let facts = snapshot(number, controls).facts;
        (facts.day, KeptDay { revision: 1, partial: false, without_body: false, facts })
    }

    /// The numbers of days, each with its list of controls.
    type Days<'a> = &'a [(i32, &'a str)];

    /// Regression: a day with an empty list reported all controls of the tenant as removed.
    #[test]
    fn only_a_tenant_without_controls_has_empty_days() {
        let cases: [(Days<'_>, Days<'_>, &[i32]); 11] = [
            (&[], &[(1, EMPTY)], &[]),
            (&[], &[(1, EMPTY), (2, EMPTY)], &[]),
            (&[(1, EMPTY)], &[(1, EMPTY), (2, EMPTY)], &[]),
            (&[(1, SOME)], &[(2, EMPTY)], &[2]),
            (&[(1, SOME)], &[(1, EMPTY), (2, EMPTY), (3, SOME)], &[1, 2]),
            (&[], &[(1, SOME), (2, EMPTY), (3, SOME)], &[2]),
            (&[(1, SOME), (2, LOST)], &[(3, EMPTY)], &[3]),
            (&[(1, SOME)], &[(2, LOST)], &[]),
            // The tenant had no control yet.
            (&[(5, SOME)], &[(4, EMPTY)], &[]),
            (&[(1, EMPTY)], &[(2, SOME), (3, EMPTY)], &[3]),
            (&[(1, SOME), (2, EMPTY)], &[(3, EMPTY)], &[]),
        ];
        for (stored, read, expected) in cases {
            let kept = stored.iter().map(|(number, controls)| kept(*number, controls)).collect();
            let mut snapshots: Vec<AcceptedSnapshot> =
                read.iter().map(|(number, controls)| snapshot(*number, controls)).collect();

            let rejected = reject_emptied(&mut snapshots, &kept, day(12));
            let days: Vec<Option<Day>> = rejected.iter().map(|rejected| rejected.day).collect();
            let expected_days: Vec<Option<Day>> =
                expected.iter().map(|number| Some(day(*number))).collect();
            assert_eq!(days, expected_days, "{stored:?} {read:?}");
            assert_eq!(snapshots.len(), read.len() - expected.len(), "{stored:?} {read:?}");
            for Rejected { observation, .. } in &rejected {
                assert_eq!(observation.what, ObservationKind::Implausible);
                assert!(observation.details.contains("an empty list"), "{observation:?}");
            }
        }
    }
}
