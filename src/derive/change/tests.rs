//! Tests of the changes between a day and its base: kinds, causes, severities and drift. [`Case`]
//! describes both days and their catalogs; `ids` tests the event IDs, `lost_controls` tests days
//! of which some controls could not be used, and `spelling` tests names in another case.

use super::*;
use crate::{
    derive::{Expectation, Glob, Rules, SeverityRule},
    model::{Acceptance, Cause, Profile, Severity, Snapshot, StateUpdate},
};

fn number(value: f64) -> Option<Number> {
    Number::new(value)
}

fn facts(name: &str, score: f64, percentage: f64) -> ControlFacts {
    ControlFacts {
        name: name.into(),
        score: number(score),
        percentage: number(percentage),
        count: None,
        total: None,
        on: None,
    }
}

fn day(date: &str, controls: Vec<ControlFacts>) -> DayFacts {
    let mut facts = DayFacts::of(&Snapshot {
        created: Some(format!("{date}T00:00:00Z").into()),
        ..Snapshot::default()
    })
    .unwrap();
    facts.controls = controls;
    facts
}

fn slot(id: &str, max: f64, decisions: Vec<StateUpdate>) -> ProfileSlot {
    let profile = Profile { id: id.into(), max_score: number(max), ..Profile::default() };
    ProfileSlot { key: 0, profile: profile.into(), decisions }
}

fn deprecated(mut slot: ProfileSlot) -> ProfileSlot {
    Arc::make_mut(&mut slot.profile).deprecated = Some(true);
    slot
}

fn decided(state: &str, by: &str, at: &str) -> StateUpdate {
    StateUpdate {
        state: Some(state.into()),
        updated_by: Some(by.into()),
        updated: Some(at.into()),
        ..StateUpdate::default()
    }
}

/// A day and its base.
struct Case {
    before: DayFacts,
    after: DayFacts,
    catalog_before: Option<Catalog>,
    catalog_after: Catalog,
    earlier: Vec<Arc<DayFacts>>,
    baseline: Option<Baseline>,
    has_later_days: bool,
    historical: bool,
}

impl Case {
    fn new(before: Vec<ControlFacts>, after: Vec<ControlFacts>) -> Self {
        Self {
            before: day("2026-11-21", before),
            after: day("2026-11-22", after),
            catalog_before: Some(Catalog::new(vec![slot("A", 8.0, vec![])])),
            catalog_after: Catalog::new(vec![slot("A", 8.0, vec![])]),
            earlier: vec![],
            baseline: None,
            has_later_days: false,
            historical: false,
        }
    }

    fn catalogs(mut self, before: Vec<ProfileSlot>, after: Vec<ProfileSlot>) -> Self {
        self.catalog_before = Some(Catalog::new(before));
        self.catalog_after = Catalog::new(after);
        self
    }

    fn with_changes<T>(&self, f: impl FnOnce(Vec<Change<'_>>) -> T) -> T {
        let base = Base {
            seq: Seq::FIRST,
            facts: &self.before,
            catalog: self.catalog_before.as_ref(),
            backfilled: false,
            earlier: &self.earlier,
        };

        let comparison = Comparison {
            base: Some(base),
            first_contact: false,
            has_later_days: self.has_later_days,
            baseline: self.baseline.as_ref(),
        };

        let day = ComparedDay {
            day: self.after.day,
            historical: self.historical,
            backfilled: false,
            has_lost_controls: self.after.has_lost_controls,
            catalog: &self.catalog_after,
            comparison: &comparison,
        };

        let controls: Vec<ControlFactsRef<'_>> =
            self.after.controls.iter().map(ControlFactsRef::of).collect();
        f(changes(&day, &controls))
    }

    /// The changes, each as `what control cause delta`.
    fn lines(&self) -> Vec<String> {
        self.with_changes(|changes| {
            let line = |c: &Change<'_>| {
                let delta = c.delta.map(|d| format!(" {d}")).unwrap_or_default();
                format!("{} {} {}{delta}", c.what.as_str(), c.control, c.cause.as_str())
            };
            changes.iter().map(line).collect()
        })
    }
}

/// One control with the score and percentage of each day.
fn one(before: (f64, f64), after: (f64, f64)) -> Case {
    Case::new(vec![facts("A", before.0, before.1)], vec![facts("A", after.0, after.1)])
}

#[test]
fn score_change_is_attributed_by_catalog() {
    type Expectation = (&'static str, Case, &'static [&'static str]);

    let maximum = |max| vec![slot("A", max, vec![])];
    let retired = || vec![deprecated(slot("A", 8.0, vec![]))];

    let same_catalog: [Expectation; 3] = [
        ("no change", one((8.0, 100.0), (8.0, 100.0)), &[]),
        ("fell", one((8.0, 100.0), (0.0, 0.0)), &["regressed A tenant -8"]),
        ("rose", one((0.44, 5.5), (7.83, 97.88)), &["improved A tenant 7.39"]),
    ];

    let other_catalog: [Expectation; 5] = [
        (
            "lower maximum, same percentage",
            one((8.0, 100.0), (7.0, 100.0)).catalogs(maximum(8.0), maximum(7.0)),
            &["regressed A microsoft -1", "max_score_changed A microsoft -1"],
        ),
        (
            "higher maximum, same score",
            one((4.0, 50.0), (4.0, 40.0)).catalogs(maximum(8.0), maximum(10.0)),
            &["max_score_changed A microsoft 2"],
        ),
        (
            "lower maximum, lower percentage",
            one((8.0, 100.0), (3.5, 50.0)).catalogs(maximum(8.0), maximum(7.0)),
            &["regressed A unknown -4.5", "max_score_changed A microsoft -1"],
        ),
        (
            "deprecated",
            one((8.0, 100.0), (0.0, 0.0)).catalogs(maximum(8.0), retired()),
            &["regressed A microsoft -8", "deprecated A microsoft"],
        ),
        (
            "left the catalog",
            one((8.0, 100.0), (0.0, 0.0)).catalogs(maximum(8.0), vec![]),
            &["regressed A microsoft -8"],
        ),
    ];

    for (name, case, expected) in same_catalog.into_iter().chain(other_catalog) {
        assert_eq!(case.lines(), expected, "{name}");
    }
}

#[test]
fn cause_is_unknown_without_catalogs() {
    let mut case = one((8.0, 0.0), (0.0, 0.0));
    case.catalog_before = None;
    case.catalog_after = Catalog::default();
    assert_eq!(case.lines(), ["regressed A unknown -8"]);
}

#[test]
fn reports_added_and_removed_controls() {
    let a = || vec![slot("A", 8.0, vec![])];
    let b = facts("B", 2.0, 40.0);
    let both = || vec![slot("A", 8.0, vec![]), slot("B", 5.0, vec![])];
    let with = || vec![facts("A", 1.0, 12.5), b.clone()];
    let without = || vec![facts("A", 1.0, 12.5)];

    let added = || Case::new(without(), with());
    assert_eq!(added().catalogs(a(), both()).lines(), ["added B microsoft"]);
    assert_eq!(added().catalogs(both(), both()).lines(), ["added B unknown"]);

    let removed = || Case::new(with(), without());
    assert_eq!(removed().catalogs(both(), a()).lines(), ["removed B microsoft"]);
    assert_eq!(removed().catalogs(both(), both()).lines(), ["removed B unknown"]);
}

#[test]
fn implementation_changes_without_score() {
    let with = |count: Option<f64>, on| ControlFacts {
        count: count.and_then(Number::new),
        on,
        ..facts("A", 8.0, 100.0)
    };

    for (before, after, is_change) in [
        (with(Some(5.0), None), with(Some(6.0), None), true),
        (with(None, Some(true)), with(None, Some(false)), true),
        // Microsoft removes the counts from the copy of a past day.
        (with(None, None), with(Some(6.0), Some(true)), false),
        (with(Some(5.0), Some(true)), with(None, None), false),
    ] {
        let lines = Case::new(vec![before], vec![after]).lines();
        assert_eq!(!lines.is_empty(), is_change, "{lines:?}");
        assert!(lines.iter().all(|line| line == "implementation_changed A tenant"), "{lines:?}");
    }
}

#[test]
fn reports_each_new_decision_once() {
    let old = decided("Ignored", "anna", "2026-03-02T10:00:00Z");
    let new = decided("Default", "ben", "2026-11-22T01:00:00Z");
    let newer = decided("ThirdParty", "ben", "2026-11-22T02:00:00Z");
    let untouched = StateUpdate { state: Some("Default".into()), ..StateUpdate::default() };
    let case = one((0.0, 0.0), (0.0, 0.0)).catalogs(
        vec![slot("A", 8.0, vec![old.clone()])],
        vec![slot("A", 8.0, vec![newer.clone(), old, new.clone(), new, untouched])],
    );

    case.with_changes(|changes| {
        let states: Vec<_> = changes
            .iter()
            .map(|c| {
                let state = |side: &ControlState<'_>| side.decision.and_then(|d| d.state.clone());
                (state(&c.before).unwrap(), state(&c.after).unwrap(), c.historical)
            })
            .collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned(), false);
        assert_eq!(states, [pair("Default", "ThirdParty"), pair("Ignored", "Default")]);
    });
}

#[test]
fn decisions_at_first_contact_are_historical() {
    let old = decided("Ignored", "anna", "2026-03-02T10:00:00Z");
    let catalog = Catalog::new(vec![slot("A", 8.0, vec![old])]);

    // Without a base, an entry that is not the first one reports no decisions.
    for (first_contact, count) in [(true, 1), (false, 0)] {
        let comparison = Comparison { base: None, first_contact, ..Comparison::default() };
        let day = ComparedDay {
            day: Day::parse("2026-11-22").unwrap(),
            historical: false,
            backfilled: false,
            has_lost_controls: false,
            catalog: &catalog,
            comparison: &comparison,
        };
        let a = facts("A", 0.0, 0.0);
        let found = changes(&day, &[ControlFactsRef::of(&a)]);
        assert_eq!(found.len(), count);
        assert!(found.iter().all(|change| change.historical && change.base_day.is_none()));
    }
}

/// Decisions and catalog changes that became known after a newer day was released are reported
/// with the next day and not with a revision of an old one.
#[test]
fn revision_of_a_past_day_reports_only_scores() {
    let accepted = decided("Ignored", "ben", "2026-11-22T01:00:00Z");
    let mut case = one((8.0, 100.0), (6.0, 75.0))
        .catalogs(vec![slot("A", 8.0, vec![])], vec![deprecated(slot("A", 7.0, vec![accepted]))]);
    case.baseline = Some(targets("A 100%", 2));
    assert!(case.lines().len() > 3, "the newest day reports everything: {:?}", case.lines());

    case.has_later_days = true;
    let lines = case.lines();
    assert!(lines.len() == 1 && lines[0].starts_with("regressed A"), "{lines:?}");
}

/// After an outage, the oldest day of the poll reports the decisions and the changes of the
/// catalog. They are recent although that day is backfilled.
#[test]
fn catalog_changes_on_a_backfilled_day_are_recent() {
    let accepted = decided("Ignored", "ben", "2026-11-22T01:00:00Z");
    let mut case = one((8.0, 100.0), (0.0, 0.0))
        .catalogs(vec![slot("A", 8.0, vec![])], vec![slot("A", 7.0, vec![accepted])]);
    case.historical = true;

    case.with_changes(|changes| {
        let kinds: Vec<_> = changes.iter().map(|c| (c.what, c.historical)).collect();
        assert_eq!(
            kinds,
            [
                (ChangeKind::Regressed, true),
                (ChangeKind::MaxScoreChanged, false),
                (ChangeKind::DecisionChanged, false),
            ]
        );
    });
}

#[test]
fn microsoft_causes_a_fall_with_an_equal_percentage() {
    // The catalog that was read with the earlier day already has the new maximum of 8 points,
    // while that day still has 10 of 10 points.
    let case = one((10.0, 100.0), (8.0, 100.0));
    assert_eq!(case.lines(), ["regressed A microsoft -2"]);
}

#[test]
fn added_control_below_its_target_drifts() {
    let mut case = Case::new(vec![], vec![facts("A", 0.0, 0.0)]);
    case.baseline = Some(targets("A 100%", 1));
    let lines = case.lines();
    assert!(lines.iter().any(|line| line.starts_with("baseline_drift A")), "{lines:?}");
}

#[test]
fn score_with_two_reversals_is_flapping() {
    for (earlier, before, after, is_flapping) in [
        (vec![], 8.0, 0.0, false),
        (vec![0.0], 8.0, 0.0, false),
        (vec![8.0, 0.0], 8.0, 0.0, true),
        (vec![8.0, 0.0, 0.0], 8.0, 0.0, true),
        (vec![1.0, 2.0, 3.0], 4.0, 5.0, false),
        (vec![8.0, 8.0, 8.0], 8.0, 0.0, false),
    ] {
        let mut case = one((before, 50.0), (after, 50.0));
        case.earlier = earlier
            .iter()
            .map(|score| Arc::new(day("2026-11-10", vec![facts("A", *score, 50.0)])))
            .collect();
        case.with_changes(|changes| {
            assert_eq!(changes[0].flapping, is_flapping, "{earlier:?}");
        });
    }
}

fn targets(text: &str, since: u64) -> Baseline {
    let targets = Baseline::parse_targets(text).unwrap();
    Baseline { name: "q3".into(), day: None, since: Seq::new(since), targets }
}

#[test]
fn reports_drift_when_it_begins_moves_and_ends() {
    let drift = |before: f64, after: f64, since| {
        let mut case = one((before, before * 12.5), (after, after * 12.5));
        case.baseline = Some(targets("A 100%", since));
        case.lines().into_iter().filter(|s| s.starts_with("baseline")).collect::<Vec<_>>()
    };

    assert_eq!(drift(8.0, 4.0, 1), ["baseline_drift A tenant -4"]);
    assert_eq!(drift(4.0, 2.0, 1), ["baseline_drift A tenant -6"]);
    assert_eq!(drift(4.0, 8.0, 1), ["baseline_drift A tenant 0"]);
    assert!(drift(4.0, 4.0, 1).is_empty());

    // The base is older than the baseline, so every control below its target is reported.
    assert_eq!(drift(4.0, 4.0, 2), ["baseline_drift A tenant -4"]);
    assert!(drift(8.0, 8.0, 2).is_empty());
}

#[test]
fn first_matching_rule_sets_the_severity() {
    let rules = Rules {
        severity: vec![SeverityRule {
            what: vec!["regressed".into()],
            controls: vec![Glob::new("a*")],
            categories: vec![],
            cause: Some(Cause::Tenant),
            points: number(5.0),
            severity: Severity::Critical,
        }],
        expected: vec![],
    };
    let severity = |case: &Case, historical| {
        case.with_changes(|mut changes| {
            let mut change = changes.swap_remove(0);
            change.historical = historical;
            rules.severity(&change, None, Acceptance::None)
        })
    };

    let fell = one((8.0, 100.0), (0.0, 0.0));
    assert_eq!(severity(&fell, false), Severity::Critical);
    assert_eq!(severity(&fell, true), Severity::Informational);
    assert_eq!(severity(&one((8.0, 100.0), (6.0, 75.0)), false), Severity::Medium);
    assert_eq!(severity(&one((0.0, 0.0), (8.0, 100.0)), false), Severity::Informational);
}

#[test]
fn acceptance_is_expected_through_its_last_day() {
    let expects = |expires: &str| Expectation {
        control: Glob::new("A"),
        state: "Ignored".into(),
        owner: "anna".into(),
        expires: Day::parse(expires),
    };
    let rules = Rules { severity: vec![], expected: vec![expects("2026-11-21")] };
    let on = |date: &str| Day::parse(date).unwrap();

    let acceptance = |state, date| rules.acceptance("A", Some(state), on(date));
    assert!(matches!(acceptance("Ignored", "2026-11-21"), Acceptance::Expected(_)));
    assert_eq!(acceptance("Ignored", "2026-11-22"), Acceptance::Unexpected);
    assert_eq!(acceptance("ThirdParty", "2026-11-21"), Acceptance::Unexpected);
    assert_eq!(acceptance("Reviewed", "2026-11-21"), Acceptance::None);

    let expired = |rules: &Rules, base, date| {
        rules.expired("A", Some("Ignored"), on(base), on(date)).is_some()
    };
    assert!(expired(&rules, "2026-11-21", "2026-11-22"));
    assert!(expired(&rules, "2026-11-20", "2026-11-24"));
    assert!(!expired(&rules, "2026-11-22", "2026-11-23"), "the base already reported it");
    assert!(!expired(&rules, "2026-11-20", "2026-11-21"), "the last day counts");
    let renewed = Rules { expected: vec![expects("2026-11-21"), expects("2027-11-21")], ..rules };
    assert!(!expired(&renewed, "2026-11-21", "2026-11-22"));
}

#[test]
fn changes_applied_to_the_base_give_the_day() {
    let controls = |seed: u64| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut list = Vec::new();
        for name in ["A", "B", "C", "D", "E"] {
            if random.u8(0..5) > 0 {
                let count = f64::from(random.u8(0..4));
                list.push(ControlFacts {
                    count: number(count),
                    total: number(4.0),
                    on: Some(random.bool()),
                    ..facts(name, f64::from(random.u8(0..3)), f64::from(random.u8(0..3)))
                });
            }
        }
        list
    };

    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..500 {
        let case = Case::new(controls(random.u64(..)), controls(random.u64(..)));
        let rebuilt = case.with_changes(|changes| apply(&case.before.controls, &changes));
        assert_eq!(rebuilt, case.after.controls, "round {round}");
    }
}

fn apply(before: &[ControlFacts], changes: &[Change<'_>]) -> Vec<ControlFacts> {
    let mut controls = before.to_vec();

    for change in changes {
        let ControlState { score, percentage, count, total, on, .. } = change.after;
        match change.what {
            ChangeKind::Added => controls.push(ControlFacts {
                name: change.control.into(),
                score,
                percentage,
                count,
                total,
                on,
            }),
            ChangeKind::Removed => controls.retain(|c| *c.name != *change.control),
            _ => {
                let control = controls.iter_mut().find(|c| *c.name == *change.control).unwrap();
                control.score = score.or(control.score);
                control.percentage = percentage.or(control.percentage);
                control.count = count.or(control.count);
                control.total = total.or(control.total);
                control.on = on.or(control.on);
            }
        }
    }

    controls.sort_by(|a, b| a.name.cmp(&b.name));
    controls
}

mod ids;
mod lost_controls;
mod spelling;
