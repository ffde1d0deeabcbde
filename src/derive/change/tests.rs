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

fn slot(id: &str, max: f64, deprecated: bool, decisions: Vec<StateUpdate>) -> ProfileSlot {
    let profile = Profile {
        id: id.into(),
        max_score: number(max),
        deprecated: Some(deprecated),
        ..Profile::default()
    };
    ProfileSlot { key: 0, profile: profile.into(), decisions }
}

fn decided(state: &str, by: &str, at: &str) -> StateUpdate {
    StateUpdate {
        state: Some(state.into()),
        updated_by: Some(by.into()),
        updated: Some(at.into()),
        ..StateUpdate::default()
    }
}

/// What a day shows against its base.
struct Case {
    then: DayFacts,
    now: DayFacts,
    catalog_then: Option<Catalog>,
    catalog_now: Catalog,
    earlier: Vec<Arc<DayFacts>>,
    baseline: Option<Baseline>,
    base_seq: u64,
    behind: bool,
    historical: bool,
}

impl Case {
    fn new(then: Vec<ControlFacts>, now: Vec<ControlFacts>) -> Self {
        Self {
            then: day("2026-11-21", then),
            now: day("2026-11-22", now),
            catalog_then: Some(Catalog::new(vec![slot("A", 8.0, false, vec![])])),
            catalog_now: Catalog::new(vec![slot("A", 8.0, false, vec![])]),
            earlier: vec![],
            baseline: None,
            base_seq: 1,
            behind: false,
            historical: false,
        }
    }

    fn catalogs(mut self, then: Vec<ProfileSlot>, now: Vec<ProfileSlot>) -> Self {
        self.catalog_then = Some(Catalog::new(then));
        self.catalog_now = Catalog::new(now);
        self
    }

    fn with<T>(&self, f: impl FnOnce(Vec<Change<'_>>) -> T) -> T {
        let base = Base {
            seq: self.base_seq,
            facts: &self.then,
            catalog: self.catalog_then.as_ref(),
            backfilled: false,
            earlier: &self.earlier,
        };
        let comparison = Comparison {
            base: Some(base),
            first_contact: false,
            behind: self.behind,
            baseline: self.baseline.as_ref(),
        };
        let measured = Measured {
            day: self.now.day,
            historical: self.historical,
            backfilled: false,
            catalog: &self.catalog_now,
            comparison: &comparison,
        };
        let points: Vec<Point<'_>> = self.now.controls.iter().map(Point::of).collect();
        f(changes(&measured, &points))
    }

    /// `what control cause delta`, each.
    fn shown(&self) -> Vec<String> {
        self.with(|changes| {
            let shown = |c: &Change<'_>| {
                let delta = c.delta.map(|d| format!(" {d}")).unwrap_or_default();
                format!("{} {} {}{delta}", c.what.as_str(), c.control, c.cause.as_str())
            };
            changes.iter().map(shown).collect()
        })
    }
}

fn one(then: (f64, f64), now: (f64, f64)) -> Case {
    Case::new(vec![facts("A", then.0, then.1)], vec![facts("A", now.0, now.1)])
}

#[test]
fn a_score_that_moves_is_the_tenants_doing_unless_the_catalog_moved() {
    let weighs = |max| vec![slot("A", max, false, vec![])];
    let retired = || vec![slot("A", 8.0, true, vec![])];
    let cases: Vec<(&str, Case, &[&str])> = vec![
        ("nothing", one((8.0, 100.0), (8.0, 100.0)), &[]),
        ("fell", one((8.0, 100.0), (0.0, 0.0)), &["regressed A tenant -8"]),
        ("rose", one((0.44, 5.5), (7.83, 97.88)), &["improved A tenant 7.39"]),
        (
            "weighs less",
            one((8.0, 100.0), (7.0, 100.0)).catalogs(weighs(8.0), weighs(7.0)),
            &["regressed A microsoft -1", "max_score_changed A microsoft -1"],
        ),
        (
            "weighs more, and nothing else",
            one((4.0, 50.0), (4.0, 40.0)).catalogs(weighs(8.0), weighs(10.0)),
            &["max_score_changed A microsoft 2"],
        ),
        (
            "weighs less, and is met less",
            one((8.0, 100.0), (3.5, 50.0)).catalogs(weighs(8.0), weighs(7.0)),
            &["regressed A unknown -4.5", "max_score_changed A microsoft -1"],
        ),
        (
            "retired",
            one((8.0, 100.0), (0.0, 0.0)).catalogs(weighs(8.0), retired()),
            &["regressed A microsoft -8", "deprecated A microsoft"],
        ),
        (
            "left the catalog",
            one((8.0, 100.0), (0.0, 0.0)).catalogs(weighs(8.0), vec![]),
            &["regressed A microsoft -8"],
        ),
    ];
    for (name, case, want) in cases {
        assert_eq!(case.shown(), want, "{name}");
    }
}

#[test]
fn without_catalogs_nobody_knows_why() {
    let mut case = one((8.0, 0.0), (0.0, 0.0));
    case.catalog_then = None;
    case.catalog_now = Catalog::default();
    assert_eq!(case.shown(), ["regressed A unknown -8"]);
}

#[test]
fn controls_come_and_go() {
    let a = || vec![slot("A", 8.0, false, vec![])];
    let b = facts("B", 2.0, 40.0);
    let both = || vec![slot("A", 8.0, false, vec![]), slot("B", 5.0, false, vec![])];
    let with = || vec![facts("A", 1.0, 12.5), b.clone()];
    let without = || vec![facts("A", 1.0, 12.5)];
    let comes = Case::new(without(), with());
    assert_eq!(comes.catalogs(a(), both()).shown(), ["added B microsoft"]);
    let comes = Case::new(without(), with());
    assert_eq!(comes.catalogs(both(), both()).shown(), ["added B unknown"]);
    let goes = Case::new(with(), without());
    assert_eq!(goes.catalogs(both(), a()).shown(), ["removed B microsoft"]);
    let goes = Case::new(with(), without());
    assert_eq!(goes.catalogs(both(), both()).shown(), ["removed B unknown"]);
}

#[test]
fn without_a_change_of_score_the_extent_may_change() {
    let with = |count: Option<f64>, on| ControlFacts {
        count: count.and_then(Number::new),
        on,
        ..facts("A", 8.0, 100.0)
    };
    for (then, now, changes) in [
        (with(Some(5.0), None), with(Some(6.0), None), true),
        (with(None, Some(true)), with(None, Some(false)), true),
        // Yesterday's copy has lost its counts.
        (with(None, None), with(Some(6.0), Some(true)), false),
        (with(Some(5.0), Some(true)), with(None, None), false),
    ] {
        let shown = Case::new(vec![then], vec![now]).shown();
        assert_eq!(!shown.is_empty(), changes, "{shown:?}");
        assert!(shown.iter().all(|s| s == "implementation_changed A tenant"), "{shown:?}");
    }
}

#[test]
fn every_decision_is_told_once() {
    let old = decided("Ignored", "anna", "2026-03-02T10:00:00Z");
    let new = decided("Default", "ben", "2026-11-22T01:00:00Z");
    let newer = decided("ThirdParty", "ben", "2026-11-22T02:00:00Z");
    let untouched = StateUpdate { state: Some("Default".into()), ..StateUpdate::default() };
    let case = one((0.0, 0.0), (0.0, 0.0)).catalogs(
        vec![slot("A", 8.0, false, vec![old.clone()])],
        vec![slot("A", 8.0, false, vec![newer.clone(), old, new.clone(), new, untouched])],
    );
    case.with(|changes| {
        let states: Vec<_> = changes
            .iter()
            .map(|c| {
                let state = |side: &Side<'_>| side.decision.and_then(|d| d.state.clone());
                (state(&c.before).unwrap(), state(&c.after).unwrap(), c.historical)
            })
            .collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned(), false);
        assert_eq!(states, [pair("Default", "ThirdParty"), pair("Ignored", "Default")]);
    });
}

#[test]
fn decisions_met_at_first_contact_are_history_and_a_late_day_tells_none() {
    let old = decided("Ignored", "anna", "2026-03-02T10:00:00Z");
    let catalog = Catalog::new(vec![slot("A", 8.0, false, vec![old])]);
    for (first_contact, told) in [(true, 1), (false, 0)] {
        let comparison = Comparison { base: None, first_contact, ..Comparison::default() };
        let measured = Measured {
            day: Day::parse("2026-11-22").unwrap(),
            historical: false,
            backfilled: false,
            catalog: &catalog,
            comparison: &comparison,
        };
        let a = facts("A", 0.0, 0.0);
        let found = changes(&measured, &[Point::of(&a)]);
        assert_eq!(found.len(), told);
        assert!(found.iter().all(|change| change.historical && change.base_day.is_none()));
    }
}

/// What a poll learned after a newer day was told belongs to the next day, not to an old one's revision.
#[test]
fn a_revision_behind_other_days_tells_scores_alone() {
    let taken = decided("Ignored", "ben", "2026-11-22T01:00:00Z");
    let mut case = one((8.0, 100.0), (6.0, 75.0))
        .catalogs(vec![slot("A", 8.0, false, vec![])], vec![slot("A", 7.0, true, vec![taken])]);
    case.baseline = Some(targets("A 100%", 2));
    assert!(case.shown().len() > 3, "in its turn it tells all: {:?}", case.shown());
    case.behind = true;
    let shown = case.shown();
    assert!(shown.len() == 1 && shown[0].starts_with("regressed A"), "{shown:?}");
}

/// A poll after an outage brings its news with its oldest day.
#[test]
fn decisions_and_weights_are_news_on_a_day_read_back() {
    let taken = decided("Ignored", "ben", "2026-11-22T01:00:00Z");
    let mut case = one((8.0, 100.0), (0.0, 0.0))
        .catalogs(vec![slot("A", 8.0, false, vec![])], vec![slot("A", 7.0, false, vec![taken])]);
    case.historical = true;
    case.with(|changes| {
        let told: Vec<_> = changes.iter().map(|c| (c.what, c.historical)).collect();
        assert_eq!(
            told,
            [
                (ChangeKind::Regressed, true),
                (ChangeKind::MaxScoreChanged, false),
                (ChangeKind::DecisionChanged, false),
            ]
        );
    });
}

#[test]
fn a_score_that_fell_before_its_catalog_is_microsofts_doing() {
    // The catalog read with the day before says 8 already; the day itself was still 10 of 10.
    let case = one((10.0, 100.0), (8.0, 100.0));
    assert_eq!(case.shown(), ["regressed A microsoft -2"]);
}

#[test]
fn a_control_that_comes_below_its_target_drifts_at_once() {
    let mut case = Case::new(vec![], vec![facts("A", 0.0, 0.0)]);
    case.baseline = Some(targets("A 100%", 1));
    let shown = case.shown();
    assert!(shown.iter().any(|s| s.starts_with("baseline_drift A")), "{shown:?}");
}

#[test]
fn a_score_that_keeps_turning_flaps() {
    for (earlier, then, now, flaps) in [
        (vec![], 8.0, 0.0, false),
        (vec![0.0], 8.0, 0.0, false),
        (vec![8.0, 0.0], 8.0, 0.0, true),
        (vec![8.0, 0.0, 0.0], 8.0, 0.0, true),
        (vec![1.0, 2.0, 3.0], 4.0, 5.0, false),
        (vec![8.0, 8.0, 8.0], 8.0, 0.0, false),
    ] {
        let mut case = one((then, 50.0), (now, 50.0));
        case.earlier = earlier
            .iter()
            .map(|score| Arc::new(day("2026-11-10", vec![facts("A", *score, 50.0)])))
            .collect();
        case.with(|changes| assert_eq!(changes[0].flapping, flaps, "{earlier:?}"));
    }
}

fn targets(text: &str, since: u64) -> Baseline {
    let targets = Baseline::parse_targets(text).unwrap();
    Baseline { name: "q3".into(), day: None, since, targets }
}

#[test]
fn drift_is_told_when_it_begins_moves_and_ends() {
    let drift = |then: f64, now: f64, since| {
        let mut case = one((then, then * 12.5), (now, now * 12.5));
        case.baseline = Some(targets("A 100%", since));
        case.shown().into_iter().filter(|s| s.starts_with("baseline")).collect::<Vec<_>>()
    };
    assert_eq!(drift(8.0, 4.0, 1), ["baseline_drift A tenant -4"]);
    assert_eq!(drift(4.0, 2.0, 1), ["baseline_drift A tenant -6"]);
    assert_eq!(drift(4.0, 8.0, 1), ["baseline_drift A tenant 0"]);
    assert!(drift(4.0, 4.0, 1).is_empty());
    // The base came before the baseline: everything below it is news.
    assert_eq!(drift(4.0, 4.0, 2), ["baseline_drift A tenant -4"]);
    assert!(drift(8.0, 8.0, 2).is_empty());
}

#[test]
fn severity_follows_the_first_rule_that_fits() {
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
        case.with(|mut changes| {
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
fn an_acceptance_is_expected_until_its_last_day() {
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
    assert!(!expired(&rules, "2026-11-22", "2026-11-23"), "it was told the day before");
    assert!(!expired(&rules, "2026-11-20", "2026-11-21"), "the last day counts");
    let renewed = Rules { expected: vec![expects("2026-11-21"), expects("2027-11-21")], ..rules };
    assert!(!expired(&renewed, "2026-11-21", "2026-11-22"));
}

#[test]
fn changes_applied_to_their_base_give_the_day() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..500 {
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
        let case = Case::new(controls(random.u64(..)), controls(random.u64(..)));
        let rebuilt = case.with(|changes| apply(&case.then.controls, &changes));
        assert_eq!(rebuilt, case.now.controls, "round {round}");
    }
}

fn apply(then: &[ControlFacts], changes: &[Change<'_>]) -> Vec<ControlFacts> {
    let mut controls = then.to_vec();
    for change in changes {
        let Side { score, percentage, count, total, on, .. } = change.after;
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
