//! Tests of reports and of the overview. They check the numbers, the order of rows, and that text
//! from Microsoft never becomes markup.

use std::sync::Arc;

use super::*;
use crate::{
    derive::{Base, Comparison, Entry, Rules},
    model::{
        AverageFacts, Baseline, Catalog, ControlFacts, DayFacts, Profile, ProfileSlot, Snapshot,
        SnapshotRef, StateUpdate, TenantId, UnixMillis,
    },
};

const HOSTILE: &str =
    "<script>alert(1)</script> \" onload=x 'y' <img src=x onerror=z> | [a](javascript:b)";

fn number(value: f64) -> Option<Number> {
    Number::new(value)
}

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

fn facts(date: Day, scores: &[(&str, f64)]) -> DayFacts {
    let mut facts = DayFacts::of(&Snapshot {
        created: Some(format!("{date}T00:00:00Z").into()),
        current_score: number(scores.iter().map(|(_, score)| score).sum()),
        max_score: number(20.0),
        ..Snapshot::default()
    })
    .unwrap();
    facts.averages =
        vec![AverageFacts { basis: "AllTenants".into(), score: number(46.2).unwrap() }];
    facts.controls = scores
        .iter()
        .map(|(name, score)| ControlFacts {
            name: (*name).into(),
            score: number(*score),
            percentage: None,
            count: None,
            total: None,
            on: None,
        })
        .collect();
    facts
}

fn slot(id: &str, cost: &str, state: Option<&str>) -> ProfileSlot {
    let profile = Profile {
        id: id.into(),
        title: Some(format!("{id} {HOSTILE}")),
        category: Some("Identity".into()),
        service: Some(HOSTILE.into()),
        max_score: number(10.0),
        implementation_cost: Some(cost.into()),
        action_url: Some("javascript:alert(1)".into()),
        ..Profile::default()
    };
    let decisions = state.map(|state| StateUpdate {
        state: Some(state.into()),
        updated_by: Some(HOSTILE.into()),
        updated: Some("2026-11-01T00:00:00Z".into()),
        comment: Some(HOSTILE.into()),
        ..StateUpdate::default()
    });
    ProfileSlot { key: 0, profile: profile.into(), decisions: decisions.into_iter().collect() }
}

/// The report of a tenant whose controls have these scores on consecutive days; `None` is a day
/// without a snapshot.
fn report(
    days: &[Option<&[(&str, f64)]>],
    catalog: &Catalog,
    baseline: Option<&Baseline>,
) -> Report {
    let tenant = Tenant { id: TenantId::TEST, name: HOSTILE.into(), labels: BTreeMap::default() };
    let window = Window { first: day("2026-11-01"), last: day("2026-11-30") };

    let mut builder = ReportBuilder::new(tenant.clone(), window, Detail::Page);
    let mut base: Option<(u64, Arc<DayFacts>)> = None;
    for (index, scores) in days.iter().enumerate() {
        let Some(scores) = scores else { continue };

        let date = window.first.plus(i32::try_from(index).unwrap());
        let facts = Arc::new(facts(date, scores));
        let seq = index as u64 + 1;
        let snapshot = SnapshotRef { revision: 1, ..SnapshotRef::of_observation(date, seq) };
        let comparison = Comparison {
            base: base.as_ref().map(|(seq, facts)| Base {
                seq: *seq,
                facts,
                catalog: Some(catalog),
                backfilled: false,
                earlier: &[],
            }),
            first_contact: base.is_none(),
            has_later_days: false,
            baseline,
        };
        let entry = Entry {
            tenant: &tenant,
            snapshot: &snapshot,
            observed_time: "",
            observed_at: UnixMillis::default(),
            history: &[],
            catalog,
            comparison,
            rules: Rules::none(),
            replayed: false,
        };

        builder.entry(&entry, &facts);
        base = Some((seq, facts));
    }
    builder.finish(catalog, baseline, Rules::none(), |_| false)
}

fn catalog() -> Catalog {
    Catalog::new(vec![
        slot("A", "Low", None),
        slot("B", "High", None),
        slot("C", "Moderate", Some("ThirdParty")),
        slot("D", "Low", Some("Ignored")),
    ])
}

fn sample() -> Report {
    report(
        &[
            Some(&[("A", 10.0), ("B", 1.0), ("C", 10.0), ("D", 0.0)]),
            None,
            Some(&[("A", 4.0), ("B", 1.0), ("C", 10.0), ("D", 0.0)]),
        ],
        &catalog(),
        Some(&Baseline {
            name: HOSTILE.into(),
            day: None,
            since: 1,
            targets: Baseline::parse_targets("A 10\nB 1").unwrap(),
        }),
    )
}

#[test]
fn report_has_changes_improvements_and_decisions() {
    let report = sample();
    assert_eq!(report.missing, [MissingReportDay { day: day("2026-11-02"), absent: true }]);

    let changes: Vec<_> = report.changes.iter().map(|c| (c.what, c.delta, c.historical)).collect();
    assert_eq!(
        changes,
        [
            (ChangeKind::Regressed, number(-6.0), false),
            (ChangeKind::BaselineDrift, number(-6.0), false),
            // Decisions from before the first poll are historical.
            (ChangeKind::DecisionChanged, None, true),
            (ChangeKind::DecisionChanged, None, true),
        ]
    );
    assert_eq!(report.most_important(1)[0].control, "A");

    // B lacks more points, but at three times the cost. C is claimed for a third party, and D is an
    // accepted risk.
    let open: Vec<_> =
        report.improvements.iter().map(|i| (i.control.as_str(), i.missing)).collect();
    assert_eq!(open, [("A", number(6.0).unwrap()), ("B", number(9.0).unwrap())]);

    let parts = &report.breakdown;
    assert_eq!((parts.achieved, parts.asserted), (number(5.0).unwrap(), number(10.0).unwrap()));
    assert_eq!((parts.sum_of_controls, parts.total), (number(15.0).unwrap(), number(15.0)));

    let decisions: Vec<_> = report.decisions.iter().map(|d| (d.state.as_str(), d.points)).collect();
    assert_eq!(decisions, [("ThirdParty", number(10.0)), ("Ignored", number(10.0))]);
    let below: Vec<_> = report.baseline.unwrap().below.into_iter().map(|d| d.control).collect();
    assert_eq!(below, ["A"]);
}

#[test]
fn text_never_becomes_markup() {
    let row = Row::of(&sample());
    for html in [
        sample().write(Format::Html, "now"),
        Row::write_all(vec![row.clone(), row.clone()], Format::Html, "now"),
    ] {
        assert!(html.contains("&lt;script&gt;alert(1)"));
        for forbidden in
            ["<script", "<img", "href=\"javascript", "\" onload=x", "http-equiv=\"refresh"]
        {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }

    let markdown = sample().write(Format::Markdown, "now");
    assert!(!markdown.contains("<img") && !markdown.contains("[a](javascript"), "{markdown}");
    let csv = Row::write_all(vec![row], Format::Csv, "now");
    assert_eq!(csv.lines().count(), 2);
}

#[test]
fn json_and_csv_have_the_same_numbers() {
    let report = sample();
    let json: serde_json::Value = serde_json::from_str(&report.write(Format::Json, "now")).unwrap();
    assert_eq!(json["generated"], "now");
    assert_eq!(json["days"][1]["score"], 15.0);
    assert_eq!(json["changes"][0]["delta"], -6.0);
    assert_eq!(json["missing_days"][0]["date"], "2026-11-02");

    let csv = report.write(Format::Csv, "now");
    let last = csv.lines().last().unwrap();
    assert!(last.contains(",2026-11-03,15,20,75,15,4,1,false,46.2,,"), "{last}");
}

#[test]
fn report_without_days_has_no_data() {
    let report = report(&[], &catalog(), None);
    assert!(report.write(Format::Html, "now").contains("There is no data for this period."));
    assert!(report.write(Format::Markdown, "now").contains("There is no data for this period."));
    assert_eq!(report.write(Format::Csv, "now").lines().count(), 1);
    assert_eq!(Row::of(&report).percentage, None);
}

#[test]
fn overview_orders_unknown_then_lowest() {
    let row = |name: &str, percentage: Option<f64>| Row {
        name: name.into(),
        percentage: percentage.and_then(Number::new),
        ..Row::of(&sample())
    };
    let rows = vec![row("good", Some(80.0)), row("unknown", None), row("bad", Some(20.0))];
    let csv = Row::write_all(rows, Format::Csv, "now");
    let names: Vec<&str> = csv.lines().skip(1).map(|l| l.split(',').nth(1).unwrap()).collect();
    assert_eq!(names, ["unknown", "bad", "good"]);
}
