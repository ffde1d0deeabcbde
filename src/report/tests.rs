//! Tests of reports and of the overview. They check the numbers, the order of rows, and that text
//! from Microsoft never becomes markup.

use std::sync::Arc;

use super::*;
use crate::{
    derive::{Base, Comparison, Entry, Rules},
    model::{
        AverageFacts, Baseline, Catalog, Cause, ChangeKind, ControlFacts, DayFacts, Profile,
        ProfileSlot, Seq, Severity, Snapshot, SnapshotRef, StateUpdate, TenantId, UnixMillis,
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

/// A change with these points, for tests of order and sums.
pub(super) fn change_of_points(points: Option<f64>) -> ReportedChange {
    ReportedChange {
        day: day("2026-11-22"),
        what: ChangeKind::Regressed,
        cause: Cause::Tenant,
        severity: Severity::Medium,
        control: "AdminMFAV2".into(),
        title: "Require MFA".into(),
        points: points.and_then(Number::new),
        delta: points.and_then(Number::new),
        historical: false,
        flapping: false,
        below_baseline: false,
        sentence: "Require MFA: score changed".into(),
    }
}

/// The report on November 2026 of a tenant whose controls have these scores on consecutive days;
/// `None` is a day without a snapshot.
fn report(
    days: &[Option<&[(&str, f64)]>],
    catalog: &Catalog,
    baseline: Option<&Baseline>,
) -> Report {
    report_of(days, day("2026-11-01"), |_| false, catalog, baseline)
}

/// The same for days that begin with `first`. `is_backfilled` returns whether a day was read by a
/// backfill, which makes its changes historical.
fn report_of(
    days: &[Option<&[(&str, f64)]>],
    first: Day,
    is_backfilled: fn(Day) -> bool,
    catalog: &Catalog,
    baseline: Option<&Baseline>,
) -> Report {
    let tenant = Tenant { id: TenantId::TEST, name: HOSTILE.into(), labels: BTreeMap::default() };
    let window = Window::of_month("2026-11").unwrap();

    let mut builder = ReportBuilder::new(tenant.clone(), window, Detail::Page);
    let mut base: Option<(Seq, Arc<DayFacts>)> = None;
    for (index, scores) in days.iter().enumerate() {
        let Some(scores) = scores else { continue };

        let date = first.plus(i32::try_from(index).unwrap());
        let facts = Arc::new(facts(date, scores));
        let seq = Seq::new(index as u64 + 1);
        let snapshot = SnapshotRef {
            revision: 1,
            backfilled: is_backfilled(date),
            ..SnapshotRef::of_observation(date, seq)
        };

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

fn overview(rows: Vec<Row>) -> Overview {
    Overview::new(rows, Window::of_month("2026-11").unwrap())
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
            since: Seq::FIRST,
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
        overview(vec![row.clone(), row.clone()]).write(Format::Html, "now"),
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
    let csv = overview(vec![row]).write(Format::Csv, "now");
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
    let csv = overview(rows).write(Format::Csv, "now");
    let names: Vec<&str> = csv.lines().skip(1).map(|l| l.split(',').nth(1).unwrap()).collect();
    assert_eq!(names, ["unknown", "bad", "good"]);
}

/// Regression: a report showed every change of a backfill as informational, because records of
/// history have the lowest severity.
#[test]
fn history_has_the_severity_of_the_rules() {
    let days: [Option<&[_]>; 3] = [Some(&[("A", 10.0)]), Some(&[("A", 4.0)]), Some(&[("A", 3.0)])];
    let report = report_of(&days, day("2026-11-01"), |_| true, &catalog(), None);

    let scored = report.changes.iter().filter(|change| change.points.is_some());
    let changes: Vec<_> = scored.map(|c| (c.points, c.severity, c.historical)).collect();
    assert_eq!(
        changes,
        [(number(-1.0), Severity::Medium, true), (number(-6.0), Severity::High, true)]
    );

    let json: serde_json::Value = serde_json::from_str(&report.write(Format::Json, "now")).unwrap();
    assert_eq!(json["changes"][0]["points"], -6.0);
    assert_eq!(json["changes"][0]["severity"], 8);
}

#[test]
fn added_and_removed_controls_count_as_points() {
    let days: [Option<&[_]>; 2] =
        [Some(&[("A", 10.0), ("B", 5.0)]), Some(&[("A", 10.0), ("C", 3.0), ("D", 0.0)])];
    let report = report(&days, &catalog(), None);

    let points = |kind| {
        let mut changes = report.changes.iter();
        changes.find(|change| change.what == kind).and_then(|change| change.points)
    };
    assert_eq!(points(ChangeKind::Removed), number(-5.0));
    let totals = PointTotals { gained: number(3.0).unwrap(), lost: number(5.0).unwrap() };
    assert_eq!(report.points, totals);
}

#[test]
fn old_decisions_are_not_changes_of_the_period() {
    let decided = |at: &str| {
        let mut slot = slot("A", "Low", Some("Ignored"));
        slot.decisions[0].updated = Some(at.into());
        Catalog::new(vec![slot])
    };
    let days: [Option<&[_]>; 1] = [Some(&[("A", 0.0)])];

    for (at, listed) in [
        ("2026-03-02T09:30:00Z", vec![]),
        ("2026-11-05T09:30:00Z", vec![day("2026-11-05")]),
        // The day of the entry, because the time cannot be parsed.
        ("unknown", vec![day("2026-11-10")]),
    ] {
        let report = report_of(&days, day("2026-11-10"), |_| true, &decided(at), None);
        let found: Vec<Day> = report.changes.iter().map(|change| change.day).collect();
        assert_eq!(found, listed, "{at}");
        assert_eq!(report.decisions.len(), 1, "the decision is in force");
    }
}

/// Two days of October and two of November.
fn two_periods() -> Report {
    let days: [Option<&[_]>; 4] =
        [Some(&[("A", 10.0)]), Some(&[("A", 4.0)]), Some(&[("A", 9.0)]), Some(&[("A", 8.0)])];
    report_of(&days, day("2026-10-30"), |_| false, &catalog(), None)
}

#[test]
fn the_period_before_is_compared() {
    let report = two_periods();
    let previous = report.previous.as_ref().unwrap();
    let totals =
        |gained, lost| PointTotals { gained: number(gained).unwrap(), lost: number(lost).unwrap() };
    assert_eq!((report.points, previous.points), (totals(5.0, 1.0), totals(0.0, 6.0)));
    assert_eq!((report.days.len(), previous.days.len()), (2, 2));

    let json: serde_json::Value = serde_json::from_str(&report.write(Format::Json, "now")).unwrap();
    let expected = serde_json::json!({
        "first_day": "2026-10-02", "last_day": "2026-10-31", "stored_days": 2, "points_gained": 0.0,
        "points_lost": 6.0, "high_severity_changes": 1, "score": 4.0, "percentage": 20.0,
    });
    assert_eq!(json["previous_period"], expected);

    let markdown = report.write(Format::Markdown, "now");
    assert!(markdown.contains("| Points lost | 1 | 6 | −5 |"), "{markdown}");
    assert!(report.write(Format::Html, "now").contains("2026-10-02 to 2026-10-31"));

    let row = Row::of(&report);
    assert_eq!(row.previous_points, Some(previous.points));
    assert_eq!(row.previous_percentage, number(20.0));
}

#[test]
fn csv_keeps_its_columns_for_both_periods() {
    let mut days: Vec<Option<&[_]>> = vec![None; 31];
    days[0] = Some(&[("A", 4.0)]);
    days[30] = Some(&[("A", 9.0)]);
    let report = report_of(&days, day("2026-10-31"), |_| false, &catalog(), None);

    let csv = report.write(Format::Csv, "now");
    let last = csv.lines().last().unwrap();
    assert!(last.contains(",2026-11-30,9,") && last.ends_with(",5,0,4,20"), "{last}");
}

#[test]
fn the_summary_is_one_sentence() {
    let summary = two_periods().summary();
    let expected = "On 2026-11-02, the score was 40.0% (8 of 20 points), 20 percentage points more than on 2026-10-31; from 2026-11-01 to 2026-11-02, controls lost 1 point and gained 5 points, and the largest loss was 1 point (A ";
    assert!(summary.starts_with(expected) && summary.ends_with(", 2026-11-02)."), "{summary}");

    let days: [Option<&[_]>; 1] = [Some(&[("A", 4.0)])];
    assert_eq!(
        report(&days, &catalog(), None).summary(),
        "On 2026-11-01, the score was 20.0% (4 of 20 points); from 2026-11-01 to 2026-11-01, controls neither lost nor gained points."
    );

    for format in [Format::Html, Format::Markdown, Format::Json] {
        let text = two_periods().write(format, "now");
        assert!(text.contains("the score was 40.0% (8 of 20 points)"), "{format:?}");
    }
}

#[test]
fn the_overview_names_the_largest_loss() {
    let row = |name: &str, gained: f64, lost: f64| Row {
        name: name.into(),
        points: PointTotals { gained: number(gained).unwrap(), lost: number(lost).unwrap() },
        ..Row::of(&sample())
    };
    let rows = vec![row("one", 0.0, 2.5), row("two", 1_000.5, 35.0), row("three", 0.0, 0.0)];
    let json = overview(rows).write(Format::Json, "now");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["summary"],
        "From 2026-11-01 to 2026-11-30, points were lost in 2 and gained in 1 of 3 tenants: their controls lost 37.5 points and gained 1,000.5 points, and the largest loss was 35 points (two)."
    );
}

/// Regression: the page listed the newest and most severe changes, so that it omitted losses of ten
/// points and listed changes of 0.1 points.
#[test]
fn small_changes_are_omitted_and_added_up() {
    let names: Vec<String> = (1..=40).map(|number| format!("C{number:02}")).collect();
    let scores = |lost: fn(f64) -> f64| -> Vec<(&str, f64)> {
        let numbers = (1_u32..).map(f64::from);
        names.iter().zip(numbers).map(|(name, n)| (name.as_str(), 10.0 - lost(n))).collect()
    };
    let (before, after) = (scores(|_| 0.0), scores(|number| number / 10.0));
    let days = [Some(before.as_slice()), Some(after.as_slice())];
    let report = report(&days, &Catalog::new(Vec::new()), None);

    let html = report.write(Format::Html, "now");
    let changes = html.split("<h2>Changes</h2>").nth(1).unwrap();
    let tables = changes.split("<details>").next().unwrap();
    assert!(tables.contains(">−4<") && tables.contains(">−1.6<") && !tables.contains(">−1.5<"));
    let omission = "not listed: 15, with 12 points in total and at most 1.5 points each.";
    assert!(tables.contains(omission), "{tables}");

    let markdown = report.write(Format::Markdown, "now");
    let omission = "not listed: 10, with 5.5 points in total and at most 1 point each.";
    assert!(markdown.contains(omission), "{markdown}");

    let json: serde_json::Value = serde_json::from_str(&report.write(Format::Json, "now")).unwrap();
    assert_eq!(json["changes"].as_array().unwrap().len(), 40);
    assert_eq!(json["changes"][0]["points"], -4.0);
}

#[test]
fn a_title_replaces_the_heading() {
    let title = "Review <b>of</b> November";
    let report = sample().titled(Some(title));
    let html = report.write(Format::Html, "now");
    assert!(html.contains("<h1>Review &lt;b&gt;of&lt;/b&gt; November</h1>"), "{html}");
    assert!(html.contains("<title>Review &lt;b&gt;of&lt;/b&gt; November</title>"));
    assert!(report.write(Format::Markdown, "now").starts_with("# Review of November\n"));

    let overview = overview(vec![Row::of(&report)]).titled(Some(title));
    let json = overview.write(Format::Json, "now");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["title"], title);
    assert!(overview.write(Format::Html, "now").contains("<h1>Review &lt;b&gt;of"));
}

/// On a narrow screen, a row is a card without the head of the table.
#[test]
fn every_cell_of_a_card_has_a_label() {
    let html = sample().write(Format::Html, "now");
    let tables: Vec<&str> = html.split("<table class=\"cards\">").skip(1).collect();
    assert!(tables.len() >= 5, "{}", tables.len());

    for table in tables {
        let table = table.split("</table>").next().unwrap();
        let rows = table.matches("<tr>").count() - 1;
        let labels = table.matches("data-l=").count();
        // The title of a card has no label.
        assert_eq!(table.matches("<td").count() - labels, rows, "{table}");
    }
}
