//! An overview of many tenants, the lowest percentage first. Each row is computed from the report
//! of its tenant, so both contain the same numbers. Start reading at [`Row::of`] and
//! [`Row::write_all`].

use maud::html;
use serde_json::{Value, json};

use super::{
    Format, Report, csv, display, html,
    html::{percent, signed},
    json::number,
    markdown,
    svg::sparkline,
};
use crate::model::{Day, Number, Severity};

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
        Self {
            name: report.tenant.name.clone(),
            id: report.tenant.id.to_string(),
            newest: last,
            current: totals.and_then(|totals| totals.current),
            max: totals.and_then(|totals| totals.max),
            percentage: totals.and_then(|totals| totals.percentage),
            gained_7: report.gained(7),
            gained_30: report.gained(30),
            high_changes: high_changes.count(),
            below_baseline: report.baseline.as_ref().map(|baseline| baseline.below.len()),
            accepted: report.decisions.iter().filter(|d| d.state == "Ignored").count(),
            missing: report.missing.len(),
            trend,
        }
    }

    /// Renders the overview. Tenants without a percentage are first, then the lowest percentage.
    pub fn write_all(mut rows: Vec<Self>, format: Format, generated: &str) -> String {
        rows.sort_by(|a, b| {
            let percentage = |row: &Self| row.percentage.map_or(-1.0, Number::get);
            percentage(a).total_cmp(&percentage(b)).then_with(|| a.name.cmp(&b.name))
        });

        match format {
            Format::Html => page(&rows, generated),
            Format::Csv => csv_lines(&rows),
            Format::Markdown => markdown_page(&rows, generated),
            Format::Json => {
                let rows: Vec<Value> = rows.iter().map(Self::value).collect();
                format!("{:#}\n", json!({ "generated": generated, "tenants": rows }))
            }
        }
    }

    fn value(&self) -> Value {
        json!({
            "tenant": { "id": self.id, "name": self.name },
            "date": self.newest.map(|day| day.to_string()),
            "score": number(self.current), "max_score": number(self.max), "percentage": number(self.percentage),
            "gained_7_days": self.gained_7, "gained_30_days": self.gained_30, "high_changes_30_days": self.high_changes,
            "below_baseline": self.below_baseline, "accepted_risks": self.accepted, "missing_days": self.missing,
        })
    }

    /// The cells of CSV and Markdown, in the order of the columns of CSV.
    fn cells(&self) -> Vec<String> {
        let day = self.newest.map(|day| day.to_string()).unwrap_or_default();
        let plain =
            |value: Option<f64>| value.map(|v| super::rounded(v).to_string()).unwrap_or_default();

        vec![
            self.id.clone(),
            self.name.clone(),
            day,
            display(self.current),
            display(self.max),
            display(self.percentage),
            plain(self.gained_7),
            plain(self.gained_30),
            self.high_changes.to_string(),
            self.below_baseline.map(|count| count.to_string()).unwrap_or_default(),
            self.accepted.to_string(),
            self.missing.to_string(),
        ]
    }
}

fn page(rows: &[Row], generated: &str) -> String {
    let known: Vec<f64> = rows.iter().filter_map(|row| Some(row.percentage?.get())).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand tenants")]
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;

    let body = html! {
        header {
            h1 { "Microsoft Secure Score of " (rows.len()) " tenants" }
            p .meta {
                "Lowest percentage first · mean " (percent((!known.is_empty()).then(|| super::rounded(mean))))
                " · generated " (generated)
            }
        }

        main {
            section {
                table {
                    thead { tr {
                        th { "Tenant" } th { "Trend" } th .n { "Percent" } th .n { "Points" } th .n { "7 days" } th .n { "30 days" }
                        th .n { "High-severity changes" } th .n { "Below baseline" } th .n { "Accepted risks" } th .n { "Missing days" } th { "Newest day" }
                    } }
                    tbody {
                        @for row in rows {
                            tr {
                                td { (row.name) } td { (sparkline(&row.trend)) }
                                td .n { b { (percent(row.percentage)) } }
                                td .n { (display(row.current)) " of " (display(row.max)) }
                                td .n { (signed(row.gained_7)) } td .n { (signed(row.gained_30)) }
                                td .n { @if row.high_changes > 0 { span .badge .high { (row.high_changes) } } @else { "0" } }
                                td .n { (row.below_baseline.map(|count| count.to_string()).unwrap_or_default()) }
                                td .n { (row.accepted) } td .n { (row.missing) }
                                td { (row.newest.map_or_else(|| "unknown".to_owned(), |day| day.to_string())) }
                            }
                        }
                    }
                }
            }
        }
    };

    html::document("Secure Score of all tenants", &body)
}

fn csv_lines(rows: &[Row]) -> String {
    let mut out = b"tenant_id,tenant_name,date,score,max_score,percentage,gained_7_days,gained_30_days,high_changes_30_days,below_baseline,accepted_risks,missing_days\n".to_vec();
    for row in rows {
        csv::write_row(&row.cells(), &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn markdown_page(rows: &[Row], generated: &str) -> String {
    let count = rows.len();
    let mut out =
        format!("# Microsoft Secure Score of {count} tenants\n\nGenerated {generated}.\n\n");

    let cells = rows.iter().map(|row| {
        row.cells().into_iter().skip(1).map(|cell| markdown::cell(&cell)).collect::<Vec<_>>()
    });
    let heads = [
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
    ];
    markdown::table("Lowest percentage first", &heads, cells, usize::MAX, &mut out);
    out
}
