use super::*;
use crate::{
    model::{Day, MaxScoreSource, Number, Outcome, Profile, ProfileSlot, TenantId},
    wire,
};

fn tenant() -> Tenant {
    let id = TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap();
    Tenant { id, name: "contoso".into(), labels: std::collections::BTreeMap::default() }
}

fn reference(revision: u32, backfilled: bool) -> SnapshotRef {
    SnapshotRef {
        id: "x_2026-11-22".into(),
        day: Day::parse("2026-11-22").unwrap(),
        revision,
        seq: 7,
        late: false,
        backfilled,
        partial: false,
        imported: false,
    }
}

fn profile(key: u64, id: &str, max: f64) -> ProfileSlot {
    let profile = Profile { id: id.into(), max_score: Number::new(max), ..Profile::default() };
    ProfileSlot { key, profile: profile.into(), decisions: vec![] }
}

fn with_records<T>(
    json: &str,
    at: &SnapshotRef,
    history: &[DayFacts],
    selection: &Selection,
    f: impl FnOnce(&Records<'_>) -> T,
) -> T {
    let tenant = tenant();
    let catalog = Catalog::new(vec![profile(0, "A", 10.0), profile(1, "B", 5.0)]);
    let snapshot = wire::snapshot(json).unwrap();
    let entry = Entry {
        tenant: &tenant,
        snapshot: at,
        observed_time: "2026-11-22T06:15:00Z",
        observed_ms: 0,
        history,
        catalog: &catalog,
        comparison: Comparison::default(),
        rules: Rules::none(),
        replayed: false,
    };
    f(&Records::new(&entry, &snapshot, selection))
}

fn ids(json: &str, revision: u32, history: &[DayFacts]) -> Vec<(String, EventId)> {
    with_records(json, &reference(revision, false), history, &Selection::all(), |records| {
        (0..records.end())
            .filter_map(|p| records.at(p))
            .map(|r| (r.control_id().to_owned(), r.event_id))
            .collect()
    })
}

fn facts(json: &str) -> DayFacts {
    DayFacts::of(&wire::snapshot(json).unwrap()).unwrap()
}

fn day(a: f64, b: Option<f64>) -> String {
    let b = b.map_or(String::new(), |b| {
        format!(r#",{{"controlName":"B","score":{b},"scoreInPercentage":50}}"#)
    });
    format!(
        r#"{{"createdDateTime":"2026-11-22T00:00:00Z","currentScore":{a},"controlScores":[{{"controlName":"A","score":{a}}}{b}]}}"#
    )
}

#[test]
fn places_are_by_control_id_then_the_summary() {
    let json = r#"{"currentScore":3,"maxScore":15,"controlScores":[{"controlName":"B","score":1,"controlCategory":"Apps"},
        {"controlName":"A","score":0.1,"controlCategory":"Identity"},{"controlName":"C","score":0.2,"controlCategory":"Identity"},{"controlName":"B","score":9}]}"#;
    with_records(json, &reference(1, false), &[], &Selection::all(), |records| {
        let names: Vec<_> =
            (0..records.end()).map(|p| records.at(p).unwrap().control_id().to_owned()).collect();
        assert_eq!(names, ["A", "B", "C", ""]);
        assert!(records.at(4).is_none());
        let Body::Summary(summary) = records.at(3).unwrap().body else {
            panic!("the last place is the summary")
        };
        assert_eq!((summary.controls_total, summary.records_sent), (3, 4));
        assert_eq!(summary.percentage, Number::new(20.0));
        assert_eq!(summary.categories[1], ("Identity".into(), Number::new(0.3).unwrap()));
    });
}

#[test]
fn a_selection_moves_no_place() {
    let only_summary = &Selection { controls: false, ..Selection::all() };
    with_records(&day(1.0, Some(2.0)), &reference(1, false), &[], only_summary, |records| {
        assert!(records.at(0).is_none() && records.at(1).is_none());
        assert!(records.at(2).is_some());
        assert_eq!((records.end(), records.selected()), (3, 1));
    });
}

#[test]
fn a_revision_streams_the_summary_and_what_differs() {
    let first = facts(&day(1.0, Some(2.0)));
    let revised = ids(&day(4.0, Some(2.0)), 2, std::slice::from_ref(&first));
    assert_eq!(revised.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["A", ""]);
    let original = ids(&day(1.0, Some(2.0)), 1, &[]);
    assert!(revised.iter().all(|(_, id)| original.iter().all(|(_, o)| o != id)));
}

#[test]
fn going_back_to_an_earlier_value_is_a_third_id() {
    let (one, two) = (facts(&day(1.0, None)), facts(&day(4.0, None)));
    let first = ids(&day(1.0, None), 1, &[]);
    let third = ids(&day(1.0, None), 3, &[one, two]);
    assert_ne!(first[0].1, third[0].1);
    assert_ne!(first[1].1, third[1].1);
}

#[test]
fn a_control_that_comes_back_is_streamed_again() {
    let history = [facts(&day(1.0, Some(2.0))), facts(&day(1.0, None))];
    let back = ids(&day(1.0, Some(2.0)), 3, &history);
    assert_eq!(back.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["B", ""]);
}

#[test]
fn maximum_and_outcome() {
    let check = |backfilled, json: &str, want: Option<(f64, MaxScoreSource)>, outcome| {
        let json = format!(r#"{{"controlScores":[{json}]}}"#);
        with_records(&json, &reference(1, backfilled), &[], &Selection::all(), |records| {
            let Body::Control(control) = records.at(0).unwrap().body else { panic!("a control") };
            let max = want.map(|(max, source)| (Number::new(max).unwrap(), source));
            assert_eq!((control.max_score, control.outcome()), (max, outcome), "{json}");
        });
    };
    use crate::model::MaxScoreSource::{Catalog as C, Percentage as P};
    check(
        false,
        r#"{"controlName":"A","score":4,"scoreInPercentage":50}"#,
        Some((10.0, C)),
        Some(Outcome::Partial),
    );
    check(
        true,
        r#"{"controlName":"A","score":4,"scoreInPercentage":50}"#,
        Some((8.0, P)),
        Some(Outcome::Partial),
    );
    check(
        true,
        r#"{"controlName":"A","score":7.83,"scoreInPercentage":97.88}"#,
        Some((8.0, P)),
        Some(Outcome::Partial),
    );
    check(
        true,
        r#"{"controlName":"A","score":0,"scoreInPercentage":0}"#,
        Some((10.0, C)),
        Some(Outcome::Fail),
    );
    check(
        false,
        r#"{"controlName":"Z","score":3,"scoreInPercentage":100}"#,
        Some((3.0, P)),
        Some(Outcome::Pass),
    );
    check(false, r#"{"controlName":"Z","score":0,"scoreInPercentage":0}"#, None, None);
    check(false, r#"{"controlName":"A"}"#, Some((10.0, C)), None);
}

#[test]
fn a_summary_sent_again_says_what_the_sink_was_given() {
    with_records(&day(1.0, Some(2.0)), &reference(1, false), &[], &Selection::all(), |records| {
        assert_eq!(records.selected(), 3);
    });
    let tenant = tenant();
    let (catalog, at) = (Catalog::default(), reference(1, false));
    let json = day(1.0, Some(2.0));
    let snapshot = wire::snapshot(&json).unwrap();
    let entry = Entry {
        tenant: &tenant,
        snapshot: &at,
        observed_time: "",
        observed_ms: 0,
        history: &[],
        catalog: &catalog,
        comparison: Comparison::default(),
        rules: Rules::none(),
        replayed: true,
    };
    let selection = Selection::all();
    let records = Records::new(&entry, &snapshot, &selection).of_which_given(1);
    let Body::Summary(summary) = records.at(2).unwrap().body else { panic!("the summary") };
    assert_eq!(summary.records_sent, 1);
}
