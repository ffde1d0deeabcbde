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
    check(
        &format!(r#""id":"{TENANT}_2026-11-22""#),
        r#""id":"NA""#,
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
        let observed = observations(&[], &PollPlan::default(), Some(day(newest)), today());
        let stale: Vec<_> =
            observed.into_iter().filter(|o| o.what == ObservationKind::Stale).collect();
        assert_eq!(stale.len(), 1);
        stale[0].phase
    };
    let back = |days: i32| today().plus(-days).to_string();
    assert_eq!(stale(&back(4)), Phase::Begin);
    assert_eq!((stale(&back(3)), stale(&back(0))), (Phase::End, Phase::End));
    assert!(
        observations(&[], &PollPlan::default(), None, today()).is_empty(),
        "no day has been received yet"
    );
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
    let observed = observations(&snapshots, &plan, None, today());
    for what in [
        ObservationKind::Gap,
        ObservationKind::ForeignTenant,
        ObservationKind::Implausible,
        ObservationKind::Partial,
    ] {
        let ends = observed.iter().filter(|o| o.what == what && o.phase == Phase::End);
        assert_eq!(ends.map(|o| o.subject.as_str()).collect::<Vec<_>>(), ["2026-11-21"]);
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
