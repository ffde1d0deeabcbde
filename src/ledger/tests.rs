//! Tests of the rules that decide which days of a poll are released, held, missing or rejected. A
//! case consists of the stored days, the requested range and the snapshots of a response.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    model::{KeptDay, ObservationKind, Phase, TenantId},
    wire,
};

const TENANT: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

fn today() -> Day {
    day("2026-11-22")
}

fn json(date: &str, score: u32) -> String {
    format!(
        r#"{{"id":"{TENANT}_{date}","azureTenantId":"{TENANT}","createdDateTime":"{date}T00:00:00Z","currentScore":{score}}}"#
    )
}

fn snapshot(date: &str, score: u32) -> AcceptedSnapshot {
    let json = json(date, score);
    accepted(&json).unwrap()
}

fn accepted(json: &str) -> Result<AcceptedSnapshot, Rejected> {
    let tenant = TenantId::parse(TENANT).unwrap();
    accept(&wire::snapshot(json).unwrap(), json, tenant, today(), SnapshotOrigin::Poll, NOW)
}

/// The time of the poll; the tests do not depend on its value.
const NOW: UnixMillis = UnixMillis::new(1_795_341_600_000);
const HOUR: Duration = Duration::from_hours(1);

/// A [`Holding`] with a complete catalog and no held days.
fn complete_catalog() -> Holding {
    Holding { catalog_complete: true, since: BTreeMap::new(), now: NOW, limit: 6 * HOUR }
}

fn kept(days: &[(&str, u32, u32)]) -> BTreeMap<Day, KeptDay> {
    days.iter()
        .map(|(date, score, revision)| {
            (
                day(date),
                KeptDay {
                    revision: *revision,
                    partial: false,
                    without_body: false,
                    facts: snapshot(date, *score).facts,
                },
            )
        })
        .collect()
}

fn scope(kept: &BTreeMap<Day, KeptDay>, from: &str) -> PollScope {
    PollScope {
        from: Some(day(from)),
        earliest_kept: kept.keys().next().copied(),
        newest_kept: kept.keys().next_back().copied(),
        newest_complete: kept.iter().rfind(|(_, k)| !k.partial).map(|(day, k)| (*day, k.revision)),
        today: today(),
    }
}

/// The releases of a plan, each as `DAY rREVISION from BASE FLAGS`.
fn releases(snapshots: &[AcceptedSnapshot], kept: &BTreeMap<Day, KeptDay>) -> Vec<String> {
    released(snapshots, &plan(snapshots, kept, scope(kept, "2026-11-18"), &complete_catalog()))
}

fn released(snapshots: &[AcceptedSnapshot], plan: &PollPlan) -> Vec<String> {
    let line = |r: &Release| {
        let base = r.base.map_or("-".to_owned(), |(day, revision)| format!("{day}r{revision}"));
        let flags = [(r.late, " late"), (r.backfilled, " backfilled"), (r.partial, " partial")];
        let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        format!("{} r{} from {base}{flags}", snapshots[r.index].facts.day, r.revision)
    };
    plan.releases.iter().map(line).collect()
}

#[test]
fn a_first_poll_releases_oldest_first() {
    let snapshots =
        [snapshot("2026-11-22", 3), snapshot("2026-11-21", 2), snapshot("2026-11-18", 1)];
    assert_eq!(
        releases(&snapshots, &kept(&[])),
        [
            "2026-11-18 r1 from - backfilled",
            "2026-11-21 r1 from 2026-11-18r1",
            "2026-11-22 r1 from 2026-11-21r1",
        ]
    );
}

#[test]
fn a_poll_without_new_days_releases_nothing() {
    let snapshots = [snapshot("2026-11-22", 3), snapshot("2026-11-21", 2)];
    assert!(releases(&snapshots, &kept(&[("2026-11-21", 2, 1), ("2026-11-22", 3, 1)])).is_empty());
}

#[test]
fn a_late_day_has_no_base() {
    let snapshots = [snapshot("2026-11-22", 3), snapshot("2026-11-20", 1)];
    assert_eq!(
        releases(&snapshots, &kept(&[("2026-11-19", 1, 1), ("2026-11-21", 2, 2)])),
        ["2026-11-20 r1 from - late", "2026-11-22 r1 from 2026-11-21r2",]
    );
}

#[test]
fn base_of_a_revision_is_the_previous_one() {
    let snapshots = [snapshot("2026-11-22", 9), snapshot("2026-11-21", 7)];
    assert_eq!(
        releases(&snapshots, &kept(&[("2026-11-21", 2, 3)])),
        ["2026-11-21 r4 from 2026-11-21r3", "2026-11-22 r1 from 2026-11-21r4",]
    );
}

#[test]
fn unlisted_days_between_known_days_are_missing() {
    let snapshots = [snapshot("2026-11-22", 3), snapshot("2026-11-19", 2)];
    let missing = |snapshots: &[AcceptedSnapshot], kept: &[(&str, u32, u32)], from: &str| {
        let kept = self::kept(kept);
        let missing = plan(snapshots, &kept, scope(&kept, from), &complete_catalog()).missing;
        missing.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(missing(&snapshots, &[], "2026-11-18"), ["2026-11-20", "2026-11-21"]);
    assert_eq!(missing(&snapshots, &[("2026-11-20", 1, 1)], "2026-11-18"), ["2026-11-21"]);
    // No day before the first known day is missing.
    assert!(missing(&[], &[("2026-11-18", 1, 1)], "2026-11-01").is_empty());
}

/// Regression: a missing day that was older than all days of the response did not count as
/// requested, and was requested by every poll for three months.
#[test]
fn missing_day_before_the_response_counts_as_requested() {
    let missing = |snapshots: &[AcceptedSnapshot], kept: &[(&str, u32, u32)], from: &str| {
        let kept = self::kept(kept);
        plan(snapshots, &kept, scope(&kept, from), &complete_catalog()).missing
    };
    let kept = [("2026-11-10", 1, 1), ("2026-11-12", 1, 1), ("2026-11-13", 1, 1)];
    assert_eq!(missing(&[snapshot("2026-11-12", 1)], &kept, "2026-11-11"), [day("2026-11-11")]);
    // A day after the newest stored day, which is no longer listed.
    let missed = missing(&[snapshot("2026-11-15", 1)], &kept, "2026-11-13");
    assert_eq!(missed, [day("2026-11-14")]);
    // A day that was not requested is not missing.
    assert!(missing(&[snapshot("2026-11-13", 1)], &kept, "2026-11-12").is_empty());
}

#[test]
fn rejects_foreign_and_implausible_snapshots() {
    let check = |from: &str, to: &str, what: ObservationKind| {
        let json = json("2026-11-22", 1).replacen(from, to, 1);
        let rejected = accepted(&json);
        assert_eq!(rejected.unwrap_err().observation.what, what, "{json}");
    };
    check(
        &format!(r#""azureTenantId":"{TENANT}""#),
        r#""azureTenantId":"NA""#,
        ObservationKind::ForeignTenant,
    );
    check(TENANT, "aaaaaaaa-0000-4000-8000-00000000c0de", ObservationKind::ForeignTenant);
    check("_2026-11-22", "_2026-11-21", ObservationKind::Implausible);
    check("2026-11-22T", "2026-13-22T", ObservationKind::Implausible);
    let ahead = json("2026-11-24", 1);
    let rejected = accepted(&ahead);
    let rejected = rejected.unwrap_err();
    assert_eq!((rejected.observation.what, rejected.day), (ObservationKind::Implausible, None));
}

#[test]
fn rejections_state_what_is_wrong() {
    let message = |from: &str, to: &str| {
        let json = json("2026-11-22", 1).replacen(from, to, 1);
        accepted(&json).unwrap_err().observation.details
    };
    let tenant_field = format!(r#""azureTenantId":"{TENANT}""#);
    let some = [
        (
            tenant_field.as_str(),
            r#""azureTenantId":"NA""#,
            "`azureTenantId` of the snapshot is `NA`",
        ),
        (
            r#""id":"3f"#,
            r#""id":"aa"#,
            "the ID of the snapshot, `aa5c1d2e-0000-4000-8000-00000000c0de_2026-11-22`, names another tenant",
        ),
        (
            "_2026-11-22",
            "_2026-11-21",
            "the ID of the snapshot names `2026-11-21`, and its `createdDateTime` names `2026-11-22`",
        ),
    ];

    let others = [
        (
            "2026-11-22T00:00:00Z",
            "yesterday",
            "`createdDateTime` of the snapshot is `yesterday`, not a date",
        ),
        (
            "2026-11-22T",
            "1900-01-01T",
            "`createdDateTime` of the snapshot is `1900-01-01T00:00:00Z`, which is out of range",
        ),
        (r#""createdDateTime":"#, r#""x":"#, "the snapshot has no `createdDateTime`"),
    ];

    for (from, to, expected) in some.into_iter().chain(others) {
        assert_eq!(message(from, to), expected);
    }
}

/// Regression: an ID of another form was a reason to reject the snapshot, with the message that it
/// named the tenant that it belonged to.
#[test]
fn ids_of_any_form_are_accepted() {
    let id = format!(r#""id":"{TENANT}_2026-11-22""#);
    for (other, tenant) in [
        (r#""id":"NA""#, Some(TENANT)),
        (r#""id":"7c1d""#, Some(TENANT)),
        (r#""x":1"#, Some(TENANT)),
        (r#""id":"7c1d_2026-11-22""#, Some(TENANT)),
        (id.as_str(), None),
    ] {
        let mut json = json("2026-11-22", 1).replacen(&id, other, 1);
        if tenant.is_none() {
            json = json.replacen(&format!(r#""azureTenantId":"{TENANT}","#), "", 1);
        }
        let snapshot = accepted(&json).unwrap();
        assert_eq!(
            (snapshot.facts.day, snapshot.faults.is_empty()),
            (day("2026-11-22"), true),
            "{json}"
        );
    }
}

#[test]
fn one_copy_of_a_repeated_day_is_used() {
    let more = |date: &str, score: u32, fields: &str| {
        let json = json(date, score);
        accepted(&format!("{},{fields}}}", json.strip_suffix('}').unwrap())).unwrap()
    };
    let control = r#""controlScores":[{"controlName":"A","score":1,"count":"#;
    let copies = [
        partial("2026-11-22", 9),
        snapshot("2026-11-22", 3),
        snapshot("2026-11-22", 4),
        more("2026-11-22", 2, r#""controlScores":[{"controlName":"A","score":1}]"#),
        more("2026-11-22", 1, &format!("{control}1}}]")),
        more("2026-11-22", 1, &format!("{control}2}}]")),
    ];
    for (index, copy) in copies.iter().enumerate() {
        for better in &copies[index + 1..] {
            let (first, second) =
                (copy.clone().or(better.clone()), better.clone().or(copy.clone()));
            assert_eq!(first.facts, better.facts, "{index}");
            assert_eq!((second.facts, second.faults), (first.facts, first.faults), "{index}");
        }
    }

    let repeated = copies[1].clone().or(copies[1].clone());
    assert_eq!(repeated.faults.to_string(), "the day appears more than once");
    let differing = copies[1].clone().or(copies[2].clone());
    assert!(differing.faults.to_string().ends_with("with different values"));
}

/// Regression: every day ended the observation of the day before, so that one control with the same
/// fault gave two records a day.
#[test]
fn only_a_newer_day_ends_faults() {
    let faulty = |date: &str| accepted(&json(date, 7).replacen("re\":7", "re\":-7", 1)).unwrap();
    let observed = |snapshots: &[AcceptedSnapshot], kept: &BTreeMap<Day, KeptDay>| {
        let newest = kept.keys().copied().chain(snapshots.iter().map(|s| s.facts.day)).max();
        let plan = plan(snapshots, kept, scope(kept, "2026-11-18"), &complete_catalog());
        let observed = observations(snapshots, &plan, &Rejections::default(), newest, today());
        let about_scores = observed.into_iter().filter(|o| o.subject.text() == "secureScores");
        about_scores.map(|o| format!("{} {}", o.first_day, o.phase.as_str())).collect::<Vec<_>>()
    };

    let snapshots = [
        snapshot("2026-11-22", 3),
        faulty("2026-11-21"),
        faulty("2026-11-20"),
        snapshot("2026-11-19", 1),
    ];
    let begun = ["2026-11-20 begin", "2026-11-21 begin"];
    let expected = ["2026-11-19 end", begun[0], begun[1], "2026-11-22 end"];
    assert_eq!(observed(&snapshots, &BTreeMap::new()), expected);

    // Late days and revisions of older days begin an observation, but end none.
    assert_eq!(observed(&snapshots, &kept(&[("2026-11-19", 9, 1), ("2026-11-22", 3, 1)])), begun);
    // The next poll reads the same days again.
    let keep = |copy: &AcceptedSnapshot| {
        let facts = copy.facts.clone();
        (facts.day, KeptDay { revision: 1, partial: false, without_body: false, facts })
    };
    assert!(observed(&snapshots, &snapshots.iter().map(keep).collect()).is_empty());
}

/// Regression: a day whose snapshot was rejected was also reported as not listed by Microsoft.
#[test]
fn a_rejected_day_is_not_a_gap() {
    let snapshots = [snapshot("2026-11-22", 3), snapshot("2026-11-19", 1)];
    let kept = BTreeMap::new();
    let plan = plan(&snapshots, &kept, scope(&kept, "2026-11-18"), &complete_catalog());
    let gaps = |rejections: &Rejections| {
        let observed = observations(&snapshots, &plan, rejections, None, today());
        let gaps = observed.into_iter().filter(|o| o.what == ObservationKind::Gap);
        let begins = gaps.filter(|o| o.phase == Phase::Begin);
        begins.map(|o| format!("{}: {}", o.subject, o.details)).collect::<Vec<_>>()
    };
    let not_listed = |date: &str| format!("{date}: Microsoft does not list this day");
    let mut rejections = Rejections::default();
    assert_eq!(gaps(&rejections), [not_listed("2026-11-20"), not_listed("2026-11-21")]);

    let named = Some(day("2026-11-20"));
    let rejected = rejections.push(unreadable("no JSON", named, today())).unwrap();
    assert_eq!(rejected.observation.subject.text(), "2026-11-20");
    assert_eq!(gaps(&rejections), [not_listed("2026-11-21")]);

    let _ = rejections.push(unreadable("no JSON", None, today()));
    assert_eq!(gaps(&rejections), ["2026-11-21: no readable snapshot names this day"]);
}

fn partial(date: &str, score: u32) -> AcceptedSnapshot {
    AcceptedSnapshot { partial: true, ..snapshot(date, score) }
}

/// Releases, held days and unfinished days of a plan.
fn summary(snapshots: &[AcceptedSnapshot], plan: &PollPlan) -> (Vec<String>, Vec<Day>, Vec<Day>) {
    let held = plan.held.iter().map(|index| snapshots[*index].facts.day).collect();
    (released(snapshots, plan), held, plan.unfinished.clone())
}

#[test]
fn a_partial_day_is_held_then_released() {
    let kept = kept(&[("2026-11-20", 1, 1)]);
    let at = |snapshots: &[AcceptedSnapshot], holding: &Holding| {
        summary(snapshots, &plan(snapshots, &kept, scope(&kept, "2026-11-20"), holding))
    };
    let (d21, d22) = (day("2026-11-21"), day("2026-11-22"));
    let days = [partial("2026-11-22", 3), snapshot("2026-11-21", 2)];
    assert_eq!(
        at(&days, &complete_catalog()),
        (vec!["2026-11-21 r1 from 2026-11-20r1".into()], vec![d22], vec![d22])
    );
    // Without a complete catalog, no day is complete.
    let no_catalog = Holding { catalog_complete: false, ..complete_catalog() };
    assert_eq!(at(&days, &no_catalog), (vec![], vec![d21, d22], vec![d21, d22]));
    // After the hold time, the day is released without a base and requested again.
    let since = [(d21, NOW.saturating_sub(6 * HOUR)), (d22, NOW.saturating_sub(HOUR))].into();
    let later = Holding { since, ..no_catalog };
    assert_eq!(
        at(&days, &later),
        (vec!["2026-11-21 r1 from - partial".into()], vec![d22], vec![d21, d22])
    );
}

/// Regression: a day that was held while the clock was ahead stayed held until the clock had caught
/// up.
#[test]
fn holds_from_the_future_are_not_awaited() {
    let (day, limit) = (day("2026-11-22"), 6 * HOUR);
    let future = NOW.saturating_add(HOUR * 960);
    let (recent, long_ago) = (NOW.saturating_sub(HOUR), NOW.saturating_sub(HOUR * 960));
    for (since, observed_at, is_held) in [
        (Some(recent), NOW, true),
        (Some(long_ago), NOW, false),
        // The hold begins with the copy that this poll has read.
        (Some(future), NOW, true),
        // The poll has read no copy, and the time of the stored one is unknown too.
        (Some(future), future, false),
        (None, NOW, true),
        (None, future, false),
    ] {
        let since = since.map(|since| (day, since)).into_iter().collect();
        let holding = Holding { since, limit, ..complete_catalog() };
        assert_eq!(holding.is_held(day, observed_at), is_held, "{holding:?} {observed_at:?}");
    }
}

#[test]
fn completing_a_partial_day_is_a_revision() {
    let mut kept = kept(&[("2026-11-20", 1, 1), ("2026-11-21", 2, 1)]);
    kept.get_mut(&day("2026-11-21")).unwrap().partial = true;
    let at = |snapshots: &[AcceptedSnapshot]| {
        summary(snapshots, &plan(snapshots, &kept, scope(&kept, "2026-11-20"), &complete_catalog()))
    };
    // The base of the next day is the last complete one; another partial copy changes nothing.
    let days = [snapshot("2026-11-22", 3), partial("2026-11-21", 9)];
    assert_eq!(
        at(&days),
        (vec!["2026-11-22 r1 from 2026-11-20r1".into()], vec![], vec![day("2026-11-21")])
    );
    let days = [snapshot("2026-11-22", 3), snapshot("2026-11-21", 2)];
    assert_eq!(at(&days).0, ["2026-11-21 r2 from 2026-11-20r1", "2026-11-22 r1 from 2026-11-21r2"]);
}

#[test]
fn partial_copy_of_a_complete_day_is_ignored() {
    let kept = kept(&[("2026-11-22", 3, 1)]);
    let days = [partial("2026-11-22", 1)];
    let plan = plan(&days, &kept, scope(&kept, "2026-11-22"), &complete_catalog());
    assert_eq!(summary(&days, &plan), (vec![], vec![], vec![]));
}

#[test]
fn an_import_adds_days_and_revises_none() {
    let kept = kept(&[("2026-11-21", 2, 1)]);
    let origin = SnapshotOrigin::Import;
    let import = |date: &str, score| AcceptedSnapshot { origin, ..snapshot(date, score) };
    let days = [import("2026-11-21", 7), import("2025-01-02", 1), import("2025-01-01", 1)];
    let scope = PollScope { from: None, ..scope(&kept, "2026-11-21") };
    let plan = plan(&days, &kept, scope, &complete_catalog());
    assert_eq!(
        released(&days, &plan),
        ["2025-01-01 r1 from - late backfilled", "2025-01-02 r1 from - late backfilled"]
    );
    assert!(plan.missing.is_empty());
}

#[test]
fn a_score_without_new_days_is_stale() {
    let stale = |newest: &str| {
        let observed = observations(
            &[],
            &PollPlan::default(),
            &Rejections::default(),
            Some(day(newest)),
            today(),
        );
        let stale: Vec<_> =
            observed.into_iter().filter(|o| o.what == ObservationKind::Stale).collect();
        assert_eq!(stale.len(), 1);
        stale[0].phase
    };
    let back = |days: i32| today().plus(-days).to_string();
    assert_eq!(stale(&back(4)), Phase::Begin);
    assert_eq!((stale(&back(3)), stale(&back(0))), (Phase::End, Phase::End));
    // No day has been received yet.
    let none = observations(&[], &PollPlan::default(), &Rejections::default(), None, today());
    assert!(none.is_empty());
}

#[test]
fn a_received_day_ends_its_observations() {
    let snapshots = [snapshot("2026-11-21", 1)];
    let plan = plan(
        &snapshots,
        &BTreeMap::new(),
        scope(&BTreeMap::new(), "2026-11-20"),
        &complete_catalog(),
    );
    let observed = observations(&snapshots, &plan, &Rejections::default(), None, today());
    // The faults in the data of the day before end as well.
    for (what, expected) in [
        (ObservationKind::Gap, &["2026-11-21"][..]),
        (ObservationKind::ForeignTenant, &["2026-11-21"]),
        (ObservationKind::Implausible, &["2026-11-21", "secureScores"]),
        (ObservationKind::Partial, &["2026-11-21"]),
    ] {
        let ends = observed.iter().filter(|o| o.what == what && o.phase == Phase::End);
        assert_eq!(ends.map(|o| o.subject.text()).collect::<Vec<_>>(), expected, "{what:?}");
    }
}

/// The event IDs of sent records are computed from the stored facts; a copy with one more fact
/// would have different IDs.
#[test]
fn a_copy_with_more_facts_does_not_enrich() {
    let copy = |control: &str| {
        let json = json("2026-11-20", 40);
        let json = json.strip_suffix('}').unwrap();
        accepted(&format!("{json},\"controlScores\":[{control}]}}")).unwrap()
    };
    let poor = copy(r#"{"controlName":"A","score":1}"#);
    let texts = r#""description":"text","lastSynced":"2026-11-20T00:00:00Z","count":"5""#;
    let rich = |more: &str| copy(&format!(r#"{{"controlName":"A","score":1,{texts}{more}}}"#));
    let enriched = |snapshot: AcceptedSnapshot| {
        let facts = poor.facts.clone();
        let kept = KeptDay { revision: 1, partial: false, without_body: false, facts };
        let kept = BTreeMap::from([(day("2026-11-20"), kept)]);
        assert!(snapshot.facts.rich && !poor.facts.rich);
        let plan = plan(&[snapshot], &kept, scope(&kept, "2026-11-20"), &complete_catalog());
        assert!(plan.releases.is_empty());
        plan.enriched.len()
    };
    assert_eq!(enriched(rich("")), 1);
    assert_eq!(enriched(rich(r#","scoreInPercentage":10"#)), 0);
}
