//! Ids of changes and observations: published, and the same whatever vanishes overnight.

use super::*;
use crate::{
    derive::{Entry, Observed, Records, Selection, quality},
    model::{ControlScore, EventId, Observation, Phase, SnapshotRef, Tenant, TenantId, What},
};

/// The records of a day whose only control is A, but for that control's own and the summary.
fn ids_of(then: ControlFacts, now: ControlFacts, decisions: Vec<StateUpdate>) -> Vec<EventId> {
    let tenant = Tenant {
        id: TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap(),
        name: "t".into(),
        labels: std::collections::BTreeMap::default(),
    };
    let case = Case::new(vec![then], vec![now])
        .catalogs(vec![slot("A", 8.0, false, vec![])], vec![slot("A", 8.0, false, decisions)]);
    let place = SnapshotRef { revision: 1, ..SnapshotRef::of_observation(case.now.day, 7) };
    let base = Base {
        seq: 1,
        facts: &case.then,
        catalog: case.catalog_then.as_ref(),
        backfilled: false,
        earlier: &[],
    };
    let entry = Entry {
        tenant: &tenant,
        snapshot: &place,
        observed_time: "",
        observed_ms: 0,
        history: &[],
        catalog: &case.catalog_now,
        comparison: Comparison { base: Some(base), ..Comparison::default() },
        rules: Rules::none(),
        replayed: false,
    };
    let control = |c: &ControlFacts| ControlScore {
        name: c.name.to_string().into(),
        score: c.score,
        percentage: c.percentage,
        count: c.count,
        ..ControlScore::default()
    };
    let controls = case.now.controls.iter().map(control).collect();
    let snapshot = Snapshot { controls, ..Snapshot::default() };
    let selection = Selection::all();
    let records = Records::new(&entry, &snapshot, &selection);
    (2..records.end()).filter_map(|place| Some(records.at(place)?.event_id)).collect()
}

#[test]
fn published_ids_of_changes_and_observations() {
    let taken = decided("Ignored", "ben", "2026-11-22T01:00:00Z");
    let mut got = ids_of(facts("A", 8.0, 100.0), facts("A", 0.0, 0.0), vec![taken]);
    let day = Day::parse("2026-11-22").unwrap();
    let observation = Observation {
        what: What::Gap,
        subject: day.to_string(),
        first_day: day,
        phase: Phase::Begin,
        details: String::new(),
        hint: None,
    };
    let tenant = Tenant {
        id: TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap(),
        name: "t".into(),
        labels: std::collections::BTreeMap::default(),
    };
    let observed = Observed {
        tenant: &tenant,
        observation: &observation,
        place: &SnapshotRef::of_observation(day, 1),
        observed_time: "",
        observed_ms: 0,
        repeats: 0,
        replayed: false,
        rules: Rules::none(),
    };
    got.push(quality(&observed).event_id);
    let again = quality(&Observed { repeats: 1, ..observed });
    assert_ne!(again.event_id, got[2], "what begins again on its day");
    let published: Vec<&str> = include_str!("../../../../tests/vectors/event_id.txt")
        .lines()
        .filter(|line| {
            ["change", "decision", "observation"].iter().any(|w| line[41..].starts_with(w))
        })
        .map(|line| &line[..40])
        .collect();
    let got: Vec<String> = got.iter().map(ToString::to_string).collect();
    assert_eq!(got, published);
}

#[test]
fn a_change_keeps_its_id_whatever_vanishes_overnight() {
    let id = |count: Option<f64>, after: f64| {
        let now = ControlFacts { count: count.and_then(Number::new), ..facts("A", after, 0.0) };
        ids_of(facts("A", 8.0, 100.0), now, vec![])[0]
    };
    assert_eq!(id(None, 0.0), id(Some(5.0), 0.0));
    assert_ne!(id(None, 0.0), id(None, 1.0));
}
