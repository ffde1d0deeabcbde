//! Event IDs of changes and observations. They match the published vectors in `tests/vectors/`.
//! They do not depend on the values that Microsoft removes from the copy of a past day.

use super::*;
use crate::{
    derive::{Entry, ObservationEntry, Records, Selection, quality},
    model::{
        ControlScore, EventId, Observation, ObservationKind, ObservationSubject, Phase,
        SnapshotRef, Tenant, TenantId, UnixMillis,
    },
};

fn tenant() -> Tenant {
    Tenant {
        id: TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap(),
        name: "t".into(),
        labels: std::collections::BTreeMap::default(),
    }
}

/// The event IDs of the changes of a day whose only control is A.
fn change_ids(
    before: ControlFacts,
    after: ControlFacts,
    decisions: Vec<StateUpdate>,
) -> Vec<EventId> {
    let tenant = tenant();
    let case = Case::new(vec![before], vec![after])
        .catalogs(vec![slot("A", 8.0, vec![])], vec![slot("A", 8.0, decisions)]);
    let snapshot_ref =
        SnapshotRef { revision: 1, ..SnapshotRef::of_observation(case.after.day, Seq::new(7)) };
    let base = Base {
        seq: Seq::FIRST,
        facts: &case.before,
        catalog: case.catalog_before.as_ref(),
        backfilled: false,
        earlier: &[],
    };
    let entry = Entry {
        tenant: &tenant,
        snapshot: &snapshot_ref,
        observed_time: "",
        observed_at: UnixMillis::default(),
        history: &[],
        catalog: &case.catalog_after,
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
    let controls = case.after.controls.iter().map(control).collect();
    let snapshot = Snapshot { controls, ..Snapshot::default() };
    let selection = Selection::all();
    let records = Records::new(&entry, &snapshot, &selection);

    // The first two slots are the control and the summary.
    (2..records.end()).filter_map(|slot| Some(records.at(slot)?.event_id)).collect()
}

#[test]
fn matches_the_published_event_ids() {
    let decision = decided("Ignored", "ben", "2026-11-22T01:00:00Z");
    let mut ids = change_ids(facts("A", 8.0, 100.0), facts("A", 0.0, 0.0), vec![decision]);

    let day = Day::parse("2026-11-22").unwrap();
    let observation = Observation {
        what: ObservationKind::Gap,
        subject: ObservationSubject::Day(day),
        first_day: day,
        phase: Phase::Begin,
        details: String::new(),
        hint: None,
    };
    let entry = ObservationEntry {
        tenant: &tenant(),
        observation: &observation,
        snapshot: &SnapshotRef::of_observation(day, Seq::FIRST),
        observed_time: "",
        observed_at: UnixMillis::default(),
        repeats: 0,
        replayed: false,
        rules: Rules::none(),
    };
    ids.push(quality(&entry).event_id);
    let repeated = quality(&ObservationEntry { repeats: 1, ..entry });
    assert_ne!(repeated.event_id, ids[2], "an observation that begins again on the same day");

    let published: Vec<&str> = include_str!("../../../../tests/vectors/event_id.txt")
        .lines()
        .filter(|line| {
            ["change", "decision", "observation"].iter().any(|w| line[41..].starts_with(w))
        })
        .map(|line| &line[..40])
        .collect();
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(ids, published);
}

#[test]
fn decision_id_ignores_the_case_of_the_state() {
    let ids = ["Ignored", "ignored", "IGNORED"].map(|state| {
        let decision = decided(state, "ben", "2026-11-22T01:00:00Z");
        change_ids(facts("A", 8.0, 100.0), facts("A", 8.0, 100.0), vec![decision])
    });
    assert!(ids.iter().all(|other| other.len() == 1 && *other == ids[0]), "{ids:?}");
}

/// An event ID must include neither the hint nor the details of an observation, because both may
/// be worded differently by another version.
#[test]
fn observation_id_ignores_details_and_hint() {
    let day = Day::parse("2026-11-22").unwrap();
    let id = |details: &str, hint: Option<&str>| {
        let observation = Observation {
            what: ObservationKind::PollFailed,
            subject: ObservationSubject::RetriedPolls,
            first_day: day,
            phase: Phase::Begin,
            details: details.to_owned(),
            hint: hint.map(str::to_owned),
        };

        quality(&ObservationEntry {
            tenant: &tenant(),
            observation: &observation,
            snapshot: &SnapshotRef::of_observation(day, Seq::FIRST),
            observed_time: "",
            observed_at: UnixMillis::default(),
            repeats: 0,
            replayed: false,
            rules: Rules::none(),
        })
        .event_id
    };

    assert_eq!(id("denied", None), id("timed out", Some("check the network")));
}

#[test]
fn change_id_ignores_removed_counts() {
    let id = |count: Option<f64>, after: f64| {
        let after = ControlFacts { count: count.and_then(Number::new), ..facts("A", after, 0.0) };
        change_ids(facts("A", 8.0, 100.0), after, vec![])[0]
    };
    assert_eq!(id(None, 0.0), id(Some(5.0), 0.0));
    assert_ne!(id(None, 0.0), id(None, 1.0));
}
