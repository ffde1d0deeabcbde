//! Tests of the records of an entry: their order, their selection and their event IDs. The changes
//! of an entry have separate tests in `change`.

use super::*;
use crate::{
    model::{ControlOutcome, Day, MaxScoreSource, Number, Profile, ProfileSlot, Seq, TenantId},
    wire,
};

fn tenant() -> Tenant {
    let id = TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap();
    Tenant { id, name: "contoso".into(), labels: std::collections::BTreeMap::default() }
}

fn reference(revision: u32) -> SnapshotRef {
    SnapshotRef {
        id: "x_2026-11-22".into(),
        day: Day::parse("2026-11-22").unwrap(),
        revision,
        seq: Seq::new(7),
        late: false,
        backfilled: false,
        partial: false,
        imported: false,
    }
}

fn profile(key: u64, id: &str, max: f64) -> ProfileSlot {
    let profile = Profile { id: id.into(), max_score: Number::new(max), ..Profile::default() };
    ProfileSlot { key, profile: profile.into(), decisions: vec![] }
}

/// Derives the records of a snapshot and passes them to `f`.
fn with_records<T>(
    json: &str,
    snapshot_ref: &SnapshotRef,
    history: &[DayFacts],
    selection: &Selection,
    f: impl FnOnce(&Records<'_>) -> T,
) -> T {
    let tenant = tenant();
    let catalog = Catalog::new(vec![profile(0, "A", 10.0), profile(1, "B", 5.0)]);
    let snapshot = wire::snapshot(json).unwrap();
    let entry = Entry {
        tenant: &tenant,
        snapshot: snapshot_ref,
        observed_time: "2026-11-22T06:15:00Z",
        observed_at: UnixMillis::default(),
        history,
        catalog: &catalog,
        comparison: Comparison::default(),
        rules: Rules::none(),
        replayed: false,
    };
    f(&Records::new(&entry, &snapshot, selection))
}

/// The control ID and the event ID of each record; the control ID of a summary is empty.
fn ids(json: &str, revision: u32, history: &[DayFacts]) -> Vec<(String, EventId)> {
    with_records(json, &reference(revision), history, &Selection::all(), |records| {
        (0..records.end())
            .filter_map(|slot| records.at(slot))
            .map(|record| (record.control_id().to_owned(), record.event_id))
            .collect()
    })
}

fn control_ids(records: &[(String, EventId)]) -> Vec<&str> {
    records.iter().map(|(control, _)| control.as_str()).collect()
}

fn facts(json: &str) -> DayFacts {
    DayFacts::of(&wire::snapshot(json).unwrap()).unwrap()
}

/// A snapshot with the scores of control A and, if it is given, of control B.
fn day(a: f64, b: Option<f64>) -> String {
    let b = b.map_or(String::new(), |b| {
        format!(r#",{{"controlName":"B","score":{b},"scoreInPercentage":50}}"#)
    });
    format!(
        r#"{{"createdDateTime":"2026-11-22T00:00:00Z","currentScore":{a},"controlScores":[{{"controlName":"A","score":{a}}}{b}]}}"#
    )
}

#[test]
fn slots_are_controls_then_summary() {
    let json = r#"{"currentScore":3,"maxScore":15,"controlScores":[{"controlName":"B","score":1,"controlCategory":"Apps"},
        {"controlName":"A","score":0.1,"controlCategory":"Identity"},{"controlName":"C","score":0.2,"controlCategory":"Identity"},{"controlName":"B","score":9}]}"#;
    with_records(json, &reference(1), &[], &Selection::all(), |records| {
        let names: Vec<_> = (0..records.end())
            .map(|slot| records.at(slot).unwrap().control_id().to_owned())
            .collect();
        assert_eq!(names, ["A", "B", "C", ""]);
        assert!(records.at(4).is_none());

        let Body::Summary(summary) = records.at(3).unwrap().body else {
            panic!("expected a summary in the last slot")
        };
        assert_eq!((summary.controls_total, summary.records_sent), (3, 4));
        assert_eq!(summary.percentage, Number::new(20.0));
        assert_eq!(summary.categories[1], ("Identity".into(), Number::new(0.3).unwrap()));
    });
}

#[test]
fn records_do_not_depend_on_order() {
    let controls = [
        r#"{"controlName":"A","score":1,"controlCategory":"Identity"}"#,
        r#"{"controlName":"A","score":3,"controlCategory":"Apps"}"#,
        r#"{"controlName":"B","score":2,"controlCategory":"identity"}"#,
    ];
    let derived = |controls: &[&str]| {
        let json = format!(r#"{{"controlScores":[{}]}}"#, controls.join(","));
        let totals = with_records(&json, &reference(1), &[], &Selection::all(), |records| {
            let Body::Summary(summary) = records.at(2).unwrap().body else {
                panic!("expected the summary")
            };
            let categories = summary.categories.iter().map(|(name, sum)| format!("{name} {sum}"));
            (summary.sum_of_controls, categories.collect::<Vec<_>>())
        });
        (ids(&json, 1, &[]), totals)
    };

    let mut reversed = controls;
    reversed.reverse();
    let first = derived(&controls);
    assert_eq!(first.1, (Number::new(3.0).unwrap(), vec!["Identity 3".to_owned()]));
    assert_eq!(derived(&reversed), first);
    assert_eq!(derived(&[controls[2], controls[0], controls[0], controls[1]]), first);
}

#[test]
fn selection_does_not_move_slots() {
    let only_summary = &Selection { controls: false, ..Selection::all() };
    with_records(&day(1.0, Some(2.0)), &reference(1), &[], only_summary, |records| {
        assert!(records.at(0).is_none() && records.at(1).is_none());
        assert!(records.at(2).is_some());
        assert_eq!((records.end(), records.selected()), (3, 1));
    });
}

#[test]
fn revision_sends_summary_and_changed_controls() {
    let first = facts(&day(1.0, Some(2.0)));
    let revised = ids(&day(4.0, Some(2.0)), 2, std::slice::from_ref(&first));
    assert_eq!(control_ids(&revised), ["A", ""]);

    let original = ids(&day(1.0, Some(2.0)), 1, &[]);
    assert!(revised.iter().all(|(_, id)| original.iter().all(|(_, other)| other != id)));
}

#[test]
fn restored_value_gets_a_new_id() {
    let history = [facts(&day(1.0, None)), facts(&day(4.0, None))];
    let first = ids(&day(1.0, None), 1, &[]);
    let third = ids(&day(1.0, None), 3, &history);
    assert_ne!(first[0].1, third[0].1);
    assert_ne!(first[1].1, third[1].1);
}

#[test]
fn control_that_reappears_is_sent_again() {
    let history = [facts(&day(1.0, Some(2.0))), facts(&day(1.0, None))];
    let reappeared = ids(&day(1.0, Some(2.0)), 3, &history);
    assert_eq!(control_ids(&reappeared), ["B", ""]);
}

#[test]
fn computes_maximum_score_and_outcome() {
    use crate::model::MaxScoreSource::{Catalog as C, Percentage as P};

    let recent = &reference(1);
    let backfilled = &SnapshotRef { backfilled: true, ..reference(1) };

    let check =
        |day: &SnapshotRef, json: &str, expected: Option<(f64, MaxScoreSource)>, outcome| {
            let json = format!(r#"{{"controlScores":[{json}]}}"#);
            with_records(&json, day, &[], &Selection::all(), |records| {
                let Body::Control(control) = records.at(0).unwrap().body else {
                    panic!("expected a control")
                };
                let max = expected.map(|(max, source)| (Number::new(max).unwrap(), source));
                assert_eq!((control.max_score, control.outcome()), (max, outcome), "{json}");
            });
        };

    check(
        recent,
        r#"{"controlName":"A","score":4,"scoreInPercentage":50}"#,
        Some((10.0, C)),
        Some(ControlOutcome::Partial),
    );
    check(
        backfilled,
        r#"{"controlName":"A","score":4,"scoreInPercentage":50}"#,
        Some((8.0, P)),
        Some(ControlOutcome::Partial),
    );
    check(
        backfilled,
        r#"{"controlName":"A","score":7.83,"scoreInPercentage":97.88}"#,
        Some((8.0, P)),
        Some(ControlOutcome::Partial),
    );

    check(
        backfilled,
        r#"{"controlName":"A","score":0,"scoreInPercentage":0}"#,
        Some((10.0, C)),
        Some(ControlOutcome::Fail),
    );
    check(
        recent,
        r#"{"controlName":"Z","score":3,"scoreInPercentage":100}"#,
        Some((3.0, P)),
        Some(ControlOutcome::Pass),
    );
    check(recent, r#"{"controlName":"Z","score":0,"scoreInPercentage":0}"#, None, None);
    check(recent, r#"{"controlName":"A"}"#, Some((10.0, C)), None);
}

#[test]
fn repeated_summary_keeps_its_record_count() {
    with_records(&day(1.0, Some(2.0)), &reference(1), &[], &Selection::all(), |records| {
        assert_eq!(records.selected(), 3);
    });

    let tenant = tenant();
    let (catalog, snapshot_ref) = (Catalog::default(), reference(1));
    let json = day(1.0, Some(2.0));
    let snapshot = wire::snapshot(&json).unwrap();
    let entry = Entry {
        tenant: &tenant,
        snapshot: &snapshot_ref,
        observed_time: "",
        observed_at: UnixMillis::default(),
        history: &[],
        catalog: &catalog,
        comparison: Comparison::default(),
        rules: Rules::none(),
        replayed: true,
    };
    let selection = Selection::all();
    let records = Records::new(&entry, &snapshot, &selection).with_records_sent(1);
    let Body::Summary(summary) = records.at(2).unwrap().body else {
        panic!("expected the summary")
    };
    assert_eq!(summary.records_sent, 1);
}
