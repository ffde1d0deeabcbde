use std::collections::BTreeMap;

use super::*;
use crate::{
    model::{KeptDay, Phase, TenantId, What},
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

fn seen(date: &str, score: u32) -> Seen {
    let json = json(date, score);
    accepted(&json).unwrap()
}

fn accepted(json: &str) -> Result<Seen, Refused> {
    let tenant = TenantId::parse(TENANT).unwrap();
    accept(&wire::snapshot(json).unwrap(), json, tenant, today(), Origin::Poll, NOW)
}

/// Milliseconds; any will do.
const NOW: i64 = 1_795_341_600_000;
const HOUR: i64 = 3_600_000;

/// With a whole catalog, and nothing held.
fn whole() -> Holding {
    let since = BTreeMap::new();
    Holding { catalog_whole: true, since, now_ms: NOW, limit_ms: 6 * HOUR }
}

fn kept(days: &[(&str, u32, u32)]) -> BTreeMap<Day, KeptDay> {
    days.iter()
        .map(|(date, score, revision)| {
            (
                day(date),
                KeptDay {
                    revision: *revision,
                    partial: false,
                    bodiless: false,
                    facts: seen(date, *score).facts,
                },
            )
        })
        .collect()
}

fn asked(kept: &BTreeMap<Day, KeptDay>, from: &str) -> Asked {
    Asked {
        from: Some(day(from)),
        earliest_kept: kept.keys().next().copied(),
        newest_kept: kept.keys().next_back().copied(),
        newest_whole: kept.iter().rfind(|(_, k)| !k.partial).map(|(day, k)| (*day, k.revision)),
        today: today(),
    }
}

/// `day rN base late backfilled`, one a release.
fn releases(seen: &[Seen], kept: &BTreeMap<Day, KeptDay>) -> Vec<String> {
    released(seen, &plan(seen, kept, asked(kept, "2026-11-18"), &whole()))
}

fn released(seen: &[Seen], plan: &Plan) -> Vec<String> {
    let line = |r: &Release| {
        let base = r.base.map_or("-".to_owned(), |(day, revision)| format!("{day}r{revision}"));
        let flags = [(r.late, " late"), (r.backfilled, " backfilled"), (r.partial, " partial")];
        let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        format!("{} r{} from {base}{flags}", seen[r.index].facts.day, r.revision)
    };
    plan.releases.iter().map(line).collect()
}

#[test]
fn a_first_poll_releases_oldest_first_each_from_the_one_before() {
    let seen = [seen("2026-11-22", 3), seen("2026-11-21", 2), seen("2026-11-18", 1)];
    assert_eq!(
        releases(&seen, &kept(&[])),
        [
            "2026-11-18 r1 from - backfilled",
            "2026-11-21 r1 from 2026-11-18r1",
            "2026-11-22 r1 from 2026-11-21r1",
        ]
    );
}

#[test]
fn nothing_new_releases_nothing() {
    let seen = [seen("2026-11-22", 3), seen("2026-11-21", 2)];
    assert!(releases(&seen, &kept(&[("2026-11-21", 2, 1), ("2026-11-22", 3, 1)])).is_empty());
}

#[test]
fn a_late_day_has_no_base_and_changes_nobodys() {
    let seen = [seen("2026-11-22", 3), seen("2026-11-20", 1)];
    assert_eq!(
        releases(&seen, &kept(&[("2026-11-19", 1, 1), ("2026-11-21", 2, 2)])),
        ["2026-11-20 r1 from - late", "2026-11-22 r1 from 2026-11-21r2",]
    );
}

#[test]
fn a_revision_is_measured_from_what_was_told_before() {
    let seen = [seen("2026-11-22", 9), seen("2026-11-21", 7)];
    assert_eq!(
        releases(&seen, &kept(&[("2026-11-21", 2, 3)])),
        ["2026-11-21 r4 from 2026-11-21r3", "2026-11-22 r1 from 2026-11-21r4",]
    );
}

#[test]
fn days_between_days_known_are_missing() {
    let seen = [seen("2026-11-22", 3), seen("2026-11-19", 2)];
    let missing = |seen: &[Seen], kept: &[(&str, u32, u32)], from: &str| {
        let kept = self::kept(kept);
        let missing = plan(seen, &kept, asked(&kept, from), &whole()).missing;
        missing.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(missing(&seen, &[], "2026-11-18"), ["2026-11-20", "2026-11-21"]);
    assert_eq!(missing(&seen, &[("2026-11-20", 1, 1)], "2026-11-18"), ["2026-11-21"]);
    // A tenant's first day is the first there is.
    assert!(missing(&[], &[("2026-11-18", 1, 1)], "2026-11-01").is_empty());
}

/// An owed day older than all that an answer lists was not counted as asked for, and asked for
/// at every poll for three months.
#[test]
fn a_day_missing_at_the_edge_of_an_answer_counts_as_asked_for() {
    let missing = |seen: &[Seen], kept: &[(&str, u32, u32)], from: &str| {
        let kept = self::kept(kept);
        plan(seen, &kept, asked(&kept, from), &whole()).missing
    };
    let kept = [("2026-11-10", 1, 1), ("2026-11-12", 1, 1), ("2026-11-13", 1, 1)];
    assert_eq!(missing(&[seen("2026-11-12", 1)], &kept, "2026-11-11"), [day("2026-11-11")]);
    // Above the newest day kept, with the newest day kept not listed any more.
    let missed = missing(&[seen("2026-11-15", 1)], &kept, "2026-11-13");
    assert_eq!(missed, [day("2026-11-14")]);
    // What was not asked for is not missing.
    assert!(missing(&[seen("2026-11-13", 1)], &kept, "2026-11-12").is_empty());
}

#[test]
fn what_is_not_believed() {
    let check = |from: &str, to: &str, what: What| {
        let json = json("2026-11-22", 1).replacen(from, to, 1);
        let refused = accepted(&json);
        assert_eq!(refused.unwrap_err().observation.what, what, "{json}");
    };
    check(
        &format!(r#""azureTenantId":"{TENANT}""#),
        r#""azureTenantId":"NA""#,
        What::ForeignTenant,
    );
    check(&format!(r#""id":"{TENANT}_2026-11-22""#), r#""id":"NA""#, What::ForeignTenant);
    check(TENANT, "aaaaaaaa-0000-4000-8000-00000000c0de", What::ForeignTenant);
    check("_2026-11-22", "_2026-11-21", What::Implausible);
    check("2026-11-22T", "2026-13-22T", What::Implausible);
    let ahead = json("2026-11-24", 1);
    let refused = accepted(&ahead);
    let refused = refused.unwrap_err();
    assert_eq!((refused.observation.what, refused.day), (What::Implausible, None));
}

fn partial(date: &str, score: u32) -> Seen {
    Seen { partial: true, ..seen(date, score) }
}

/// Releases, held days and unfinished days of a plan.
fn told(seen: &[Seen], plan: &Plan) -> (Vec<String>, Vec<Day>, Vec<Day>) {
    let held = plan.held.iter().map(|index| seen[*index].facts.day).collect();
    (released(seen, plan), held, plan.unfinished.clone())
}

#[test]
fn a_partial_day_is_held_and_then_released_as_what_it_is() {
    let kept = kept(&[("2026-11-20", 1, 1)]);
    let at = |seen: &[Seen], holding: &Holding| {
        told(seen, &plan(seen, &kept, asked(&kept, "2026-11-20"), holding))
    };
    let (d21, d22) = (day("2026-11-21"), day("2026-11-22"));
    let days = [partial("2026-11-22", 3), seen("2026-11-21", 2)];
    assert_eq!(
        at(&days, &whole()),
        (vec!["2026-11-21 r1 from 2026-11-20r1".into()], vec![d22], vec![d22])
    );
    // Without a whole catalog no day is whole.
    let no_catalog = Holding { catalog_whole: false, ..whole() };
    assert_eq!(at(&days, &no_catalog), (vec![], vec![d21, d22], vec![d21, d22]));
    // Held for long enough: released, without a base, and still wanted.
    let later = Holding { since: [(d21, NOW - 6 * HOUR), (d22, NOW - HOUR)].into(), ..no_catalog };
    assert_eq!(
        at(&days, &later),
        (vec!["2026-11-21 r1 from - partial".into()], vec![d22], vec![d21, d22])
    );
}

#[test]
fn a_partial_day_is_no_base_and_its_completion_is_a_revision() {
    let mut kept = kept(&[("2026-11-20", 1, 1), ("2026-11-21", 2, 1)]);
    kept.get_mut(&day("2026-11-21")).unwrap().partial = true;
    let at = |seen: &[Seen]| told(seen, &plan(seen, &kept, asked(&kept, "2026-11-20"), &whole()));
    // The day after is measured from the last whole one; the part that differs changes nothing.
    let days = [seen("2026-11-22", 3), partial("2026-11-21", 9)];
    assert_eq!(
        at(&days),
        (vec!["2026-11-22 r1 from 2026-11-20r1".into()], vec![], vec![day("2026-11-21")])
    );
    let days = [seen("2026-11-22", 3), seen("2026-11-21", 2)];
    assert_eq!(at(&days).0, ["2026-11-21 r2 from 2026-11-20r1", "2026-11-22 r1 from 2026-11-21r2"]);
}

#[test]
fn a_part_of_a_day_known_to_its_end_says_nothing() {
    let kept = kept(&[("2026-11-22", 3, 1)]);
    let days = [partial("2026-11-22", 1)];
    let plan = plan(&days, &kept, asked(&kept, "2026-11-22"), &whole());
    assert_eq!(told(&days, &plan), (vec![], vec![], vec![]));
}

#[test]
fn a_saved_answer_adds_history_and_changes_none() {
    let kept = kept(&[("2026-11-21", 2, 1)]);
    let import = |date: &str, score| Seen { origin: Origin::Import, ..seen(date, score) };
    let days = [import("2026-11-21", 7), import("2025-01-02", 1), import("2025-01-01", 1)];
    let asked = Asked { from: None, ..asked(&kept, "2026-11-21") };
    let plan = plan(&days, &kept, asked, &whole());
    assert_eq!(
        released(&days, &plan),
        ["2025-01-01 r1 from - late backfilled", "2025-01-02 r1 from - late backfilled"]
    );
    assert!(plan.missing.is_empty());
}

#[test]
fn a_score_that_stands_still_is_stale_until_a_new_one_comes() {
    let stale = |newest: &str| {
        let noticed = observations(&[], &Plan::default(), Some(day(newest)), today());
        let stale: Vec<_> = noticed.into_iter().filter(|o| o.what == What::Stale).collect();
        assert_eq!(stale.len(), 1);
        stale[0].phase
    };
    let back = |days: i32| today().plus(-days).to_string();
    assert_eq!(stale(&back(4)), Phase::Begin);
    assert_eq!((stale(&back(3)), stale(&back(0))), (Phase::End, Phase::End));
    assert!(observations(&[], &Plan::default(), None, today()).is_empty(), "nothing ever came");
}

#[test]
fn a_day_refused_that_comes_after_all_ends_what_was_said_of_it() {
    let seen = [seen("2026-11-21", 1)];
    let plan = plan(&seen, &BTreeMap::new(), asked(&BTreeMap::new(), "2026-11-20"), &whole());
    let noticed = observations(&seen, &plan, None, today());
    for what in [What::Gap, What::ForeignTenant, What::Implausible, What::Partial] {
        let ends = noticed.iter().filter(|o| o.what == what && o.phase == Phase::End);
        assert_eq!(ends.map(|o| o.subject.as_str()).collect::<Vec<_>>(), ["2026-11-21"]);
    }
}

/// What was told went out under ids over its facts: the texts of a copy that states one more would
/// go out under others.
#[test]
fn a_rich_copy_that_states_a_fact_more_does_not_enrich() {
    let copy = |control: &str| {
        let json = json("2026-11-20", 40);
        let json = json.strip_suffix('}').unwrap();
        accepted(&format!("{json},\"controlScores\":[{control}]}}")).unwrap()
    };
    let poor = copy(r#"{"controlName":"A","score":1}"#);
    let texts = r#""description":"text","lastSynced":"2026-11-20T00:00:00Z","count":"5""#;
    let rich = |more: &str| copy(&format!(r#"{{"controlName":"A","score":1,{texts}{more}}}"#));
    let enriched = |seen: Seen| {
        let facts = poor.facts.clone();
        let kept = KeptDay { revision: 1, partial: false, bodiless: false, facts };
        let kept = BTreeMap::from([(day("2026-11-20"), kept)]);
        assert!(seen.facts.rich && !poor.facts.rich);
        let plan = plan(&[seen], &kept, asked(&kept, "2026-11-20"), &whole());
        assert!(plan.releases.is_empty());
        plan.enriched.len()
    };
    assert_eq!(enriched(rich("")), 1);
    assert_eq!(enriched(rich(r#","scoreInPercentage":10"#)), 0);
}
