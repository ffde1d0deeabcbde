//! An overview of many tenants, the lowest percentage first. A row must never be computed from
//! anything other than the report of its tenant, so that both contain the same numbers. Start
//! reading at [`Row::of`] and [`Overview::write`].

use std::fmt::Write as _;

use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    Format, PointTotals, Report, Window, csv, html,
    json::{indented, number},
    markdown, summary,
    svg::sparkline,
    text::{display, grouped, percent, rounded, shown, signed},
};
use crate::{
    model::{Day, Number, Severity},
    text::{count, with_separators},
};

/// The overview of several tenants.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Tenants without a percentage are first, then the lowest percentage.
    rows: Vec<Row>,
    /// The period of the reports.
    window: Window,
    /// The heading; `None` for the default.
    title: Option<String>,
}

/// One tenant in the overview.
#[derive(Clone, Debug)]
pub struct Row {
    /// The name of the tenant in the configuration.
    pub name: String,
    /// The GUID of the tenant in lower case.
    pub id: String,
    /// The newest day of the report; `None` if it has no days.
    pub newest: Option<Day>,
    /// The points of the tenant on the newest day; `None` if they are unknown.
    pub current: Option<Number>,
    /// The maximum number of points on the newest day; `None` if it is unknown.
    pub max: Option<Number>,
    /// `current` × 100 / `max`, rounded to two decimal places; `None` if one of them is unknown.
    pub percentage: Option<Number>,
    /// What the controls gained and lost in the period of the report.
    pub points: PointTotals,
    /// What they gained and lost in the period before; `None` if it has no stored days.
    pub previous_points: Option<PointTotals>,
    /// The percentage on the newest stored day of the period before; `None` if it is unknown.
    pub previous_percentage: Option<Number>,
    /// Percentage points gained in 7 days; `None` if there is no day to compare with.
    pub gained_7: Option<f64>,
    /// Percentage points gained in 30 days; `None` if there is no day to compare with.
    pub gained_30: Option<f64>,
    /// The number of changes of at least high severity in 30 days.
    pub high_changes: usize,
    /// The number of controls below the baseline; `None` without a baseline.
    pub below_baseline: Option<usize>,
    /// The number of accepted risks.
    pub accepted: usize,
    /// The number of missing days.
    pub missing: usize,
    /// Percentages of the last 90 days, oldest first, at most [`TREND_POINTS`] of them.
    pub trend: Vec<(Day, f64)>,
}

/// The columns of CSV, which are also those of Markdown without the ID.
const COLUMNS: &str = "tenant_id,tenant_name,date,score,max_score,percentage,gained_7_days,gained_30_days,high_changes_30_days,below_baseline,accepted_risks,missing_days,points_gained,points_lost,previous_points_gained,previous_points_lost,previous_percentage";
const HEADS: [&str; 16] = [
    "Tenant",
    "Day",
    "Points",
    "Maximum",
    "Percent",
    "7 days",
    "30 days",
    "High-severity changes",
    "Below baseline",
    "Accepted risks",
    "Missing days",
    "Points gained",
    "Points lost",
    "Gained before",
    "Lost before",
    "Percent before",
];

/// The number of days of a trend.
const TREND_DAYS: i32 = 90;
/// The maximum number of points of a trend, which is enough for its small chart.
const TREND_POINTS: usize = 45;

impl Row {
    /// The row of a tenant, from its report. Counts of 7, 30 and 90 days end with the report's
    /// newest day.
    pub fn of(report: &Report) -> Self {
        let newest = report.newest();
        let totals = newest.map(|(_, totals)| totals);
        let last = newest.map(|(day, _)| day);
        let since = |days: i32| last.map(|day| day.plus(-days));

        // The step is counted from the newest day, so that the trend ends with it.
        let recent = report.days.iter().filter(|(day, _)| Some(**day) > since(TREND_DAYS));
        let trend: Vec<(Day, f64)> =
            recent.filter_map(|(day, totals)| Some((*day, totals.percentage?.get()))).collect();
        let step = trend.len().div_ceil(TREND_POINTS).max(1);
        let mut trend: Vec<(Day, f64)> = trend.into_iter().rev().step_by(step).collect();
        trend.reverse();

        let high_changes = report
            .changes
            .iter()
            .filter(|c| c.severity >= Severity::High && Some(c.day) > since(30));
        let previous = report.previous.as_ref();
        Self {
            name: report.tenant.name.clone(),
            id: report.tenant.id.to_string(),
            newest: last,
            current: totals.and_then(|totals| totals.current),
            max: totals.and_then(|totals| totals.max),
            percentage: totals.and_then(|totals| totals.percentage),
            points: report.points,
            previous_points: previous.map(|previous| previous.points),
            previous_percentage: previous.and_then(|previous| previous.newest()?.1.percentage),
            gained_7: report.gained(7),
            gained_30: report.gained(30),
            high_changes: high_changes.count(),
            below_baseline: report.baseline.as_ref().map(|baseline| baseline.below.len()),
            accepted: report.decisions.iter().filter(|d| d.state == "Ignored").count(),
            missing: report.missing.len(),
            trend,
        }
    }

    fn value(&self) -> Value {
        json!({
            "tenant": { "id": self.id, "name": self.name },
            "date": self.newest.map(|day| day.to_string()),
            "score": number(self.current), "max_score": number(self.max), "percentage": number(self.percentage),
            "points_gained": self.points.gained.get(), "points_lost": self.points.lost.get(),
            "previous_period": self.previous_points.map(|points| json!({
                "points_gained": points.gained.get(), "points_lost": points.lost.get(),
                "percentage": number(self.previous_percentage),
            })),
            "gained_7_days": self.gained_7, "gained_30_days": self.gained_30, "high_changes_30_days": self.high_changes,
            "below_baseline": self.below_baseline, "accepted_risks": self.accepted, "missing_days": self.missing,
        })
    }

    /// The cells of CSV and Markdown, in the order of the columns of CSV. `number` writes a number.
    fn cells(&self, number: fn(Option<Number>) -> String) -> Vec<String> {
        let difference = |value: Option<f64>| number(value.map(rounded));
        let previous = self.previous_points;

        vec![
            self.id.clone(),
            self.name.clone(),
            self.newest.map(|day| day.to_string()).unwrap_or_default(),
            number(self.current),
            number(self.max),
            number(self.percentage),
            difference(self.gained_7),
            difference(self.gained_30),
            self.high_changes.to_string(),
            self.below_baseline.map(|count| count.to_string()).unwrap_or_default(),
            self.accepted.to_string(),
            self.missing.to_string(),
            number(Some(self.points.gained)),
            number(Some(self.points.lost)),
            number(previous.map(|points| points.gained)),
            number(previous.map(|points| points.lost)),
            number(self.previous_percentage),
        ]
    }

    /// The row of the HTML table. On a narrow screen, each cell shows its `data-l`.
    fn markup(&self) -> Markup {
        let since = self.percentage.zip(self.previous_percentage);
        let since = since.map(|(now, before)| now.get() - before.get());

        html! {
            tr {
                td .wrap { b { (self.name) } }
                td .n data-l="Percent" { b { (percent(self.percentage)) } }
                td .n data-l="Points lost" { (grouped(self.points.lost)) }
                td .n data-l="Points gained" { (grouped(self.points.gained)) }
                td .n data-l="Since the period before" { (signed(since)) }
                td .spark-cell { (sparkline(&self.trend)) }
                td .n .fraction data-l="Points" { (shown(self.current)) " of " (shown(self.max)) }
                td .n data-l="7 days" { (signed(self.gained_7)) }
                td .n data-l="30 days" { (signed(self.gained_30)) }
                td .n data-l="High-severity changes" { @if self.high_changes > 0 { span .badge .high { (with_separators(self.high_changes)) } } @else { "0" } }
                td .n data-l="Below baseline" { (self.below_baseline.map(with_separators).unwrap_or_default()) }
                td .n data-l="Accepted risks" { (with_separators(self.accepted)) }
                td .n data-l="Missing days" { (with_separators(self.missing)) }
                td .t data-l="Newest day" { (self.newest.map_or_else(|| "unknown".to_owned(), |day| day.to_string())) }
            }
        }
    }
}

impl Overview {
    /// The overview of these tenants. `window` is the period of their reports.
    pub fn new(mut rows: Vec<Row>, window: Window) -> Self {
        rows.sort_by(|a, b| {
            let percentage = |row: &Row| row.percentage.map_or(-1.0, Number::get);
            percentage(a).total_cmp(&percentage(b)).then_with(|| a.name.cmp(&b.name))
        });
        Self { rows, window, title: None }
    }

    /// Replaces the heading; `None` keeps the default.
    #[must_use]
    pub fn titled(mut self, title: Option<&str>) -> Self {
        self.title = title.map(str::to_owned);
        self
    }

    /// Renders the overview. `generated` is the time at which it is generated, as text.
    pub fn write(&self, format: Format, generated: &str) -> String {
        match format {
            Format::Html => self.page(generated),
            Format::Csv => self.csv_lines(),
            Format::Markdown => self.markdown_page(generated),
            Format::Json => indented(&self.value(generated)),
        }
    }

    fn heading(&self) -> String {
        let default = || format!("Microsoft Secure Score of {}", count(self.rows.len(), "tenant"));
        self.title.clone().unwrap_or_else(default)
    }

    fn summary(&self) -> String {
        summary::of_tenants(&self.rows, self.window)
    }

    fn value(&self, generated: &str) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::value).collect();
        json!({
            "generated": generated, "title": self.heading(), "summary": self.summary(),
            "first_day": self.window.first.to_string(), "last_day": self.window.last.to_string(),
            "tenants": rows,
        })
    }

    fn page(&self, generated: &str) -> String {
        let known = self.rows.iter().filter_map(|row| Some(row.percentage?.get()));
        let known: Vec<f64> = known.collect();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand tenants")]
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let mean = (!known.is_empty()).then(|| rounded(mean));

        let body = html! {
            div .wide .report {
                header {
                    h1 { (self.heading()) }
                    p .meta {
                        (count(self.rows.len(), "tenant")) ", lowest percentage first · mean " (percent(mean))
                        " · " (self.window.first) " to " (self.window.last) " · generated " (generated)
                    }
                    p .lead { (self.summary()) }
                }
                main { section { table .overview { (heads()) tbody { @for row in &self.rows { (row.markup()) } } } } }
            }
        };
        html::document(&self.heading(), &body)
    }

    fn csv_lines(&self) -> String {
        let mut out = format!("{COLUMNS}\n").into_bytes();
        for row in &self.rows {
            csv::write_row(&row.cells(display), &mut out);
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn markdown_page(&self, generated: &str) -> String {
        let cells = self.rows.iter().map(|row| {
            let cells = row.cells(shown).into_iter().skip(1);
            cells.map(|cell| markdown::cell(&cell)).collect::<Vec<_>>()
        });

        let mut out = markdown::head(&self.heading(), &self.summary());
        let _ = writeln!(out, "Generated {generated}.\n");
        markdown::table("Lowest percentage first", &HEADS, cells, &mut out);
        out
    }
}

/// The head of the HTML table, which is repeated on each page of paper.
fn heads() -> Markup {
    html! {
        thead { tr {
            th { "Tenant" } th .n { "Percent" } th .n { "Points lost" } th .n { "Points gained" } th .n { "Since the period before" }
            th .spark-cell { "Trend" } th .n { "Points" } th .n { "7 days" } th .n { "30 days" } th .n { "High-severity changes" }
            th .n { "Below baseline" } th .n { "Accepted risks" } th .n { "Missing days" } th { "Newest day" }
        } }
    }
}
