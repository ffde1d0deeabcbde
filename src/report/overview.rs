//! Many tenants on one page, the worst first.

use maud::html;
use serde_json::{Value, json};

use super::{
    Format, Report, csv, html,
    html::{percent, signed},
    json::number,
    markdown, shown,
    svg::sparkline,
};
use crate::model::{Day, Number, Severity};

/// A tenant among others: of its report no more than a line.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub id: String,
    pub newest: Option<Day>,
    pub current: Option<Number>,
    pub max: Option<Number>,
    pub percentage: Option<Number>,
    pub gained_7: Option<f64>,
    pub gained_30: Option<f64>,
    /// Changes of high severity within 30 days.
    pub alerts: usize,
    pub below_baseline: Option<usize>,
    pub accepted: usize,
    pub missing: usize,
    /// Percentages of the last 90 days, or every so many.
    pub trend: Vec<(Day, f64)>,
}

/// Days of a trend, and how many of them are enough for a line of a word's size.
const TREND: i32 = 90;
const POINTS: usize = 45;

impl Row {
    pub fn of(report: &Report) -> Self {
        let newest = report.newest();
        let line = newest.map(|(_, line)| line);
        let last = newest.map(|(day, _)| day);
        let since = |days: i32| last.map(|day| day.plus(-days));
        let recent = report.days.iter().filter(|(day, _)| Some(**day) > since(TREND));
        let trend: Vec<(Day, f64)> =
            recent.filter_map(|(day, line)| Some((*day, line.percentage?.get()))).collect();
        let every = trend.len().div_ceil(POINTS).max(1);
        let alerts = report
            .changes
            .iter()
            .filter(|c| c.severity >= Severity::High && Some(c.day) > since(30));
        Self {
            name: report.tenant.name.clone(),
            id: report.tenant.id.to_string(),
            newest: last,
            current: line.and_then(|line| line.current),
            max: line.and_then(|line| line.max),
            percentage: line.and_then(|line| line.percentage),
            gained_7: report.gained(7),
            gained_30: report.gained(30),
            alerts: alerts.count(),
            below_baseline: report.baseline.as_ref().map(|baseline| baseline.below.len()),
            accepted: report.decisions.iter().filter(|d| d.state == "Ignored").count(),
            missing: report.missing.len(),
            trend: trend
                .into_iter()
                .rev()
                .step_by(every)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect(),
        }
    }

    /// All rows as one page; those of which nothing is known come first, then the lowest.
    pub fn write_all(mut rows: Vec<Self>, format: Format, made: &str) -> String {
        rows.sort_by(|a, b| {
            let share = |row: &Self| row.percentage.map_or(-1.0, Number::get);
            share(a).total_cmp(&share(b)).then_with(|| a.name.cmp(&b.name))
        });
        match format {
            Format::Html => page(&rows, made),
            Format::Csv => lines(&rows),
            Format::Markdown => text(&rows, made),
            Format::Json => {
                let rows: Vec<Value> = rows.iter().map(Self::value).collect();
                format!("{:#}\n", json!({ "made": made, "tenants": rows }))
            }
        }
    }

    fn value(&self) -> Value {
        json!({
            "tenant": { "id": self.id, "name": self.name },
            "date": self.newest.map(|day| day.to_string()),
            "score": number(self.current), "max_score": number(self.max), "percentage": number(self.percentage),
            "gained_7_days": self.gained_7, "gained_30_days": self.gained_30, "high_changes_30_days": self.alerts,
            "below_baseline": self.below_baseline, "accepted_risks": self.accepted, "missing_days": self.missing,
        })
    }

    fn cells(&self) -> Vec<String> {
        let day = self.newest.map(|day| day.to_string()).unwrap_or_default();
        let plain =
            |value: Option<f64>| value.map(|v| super::tidy(v).to_string()).unwrap_or_default();
        vec![
            self.id.clone(),
            self.name.clone(),
            day,
            shown(self.current),
            shown(self.max),
            shown(self.percentage),
            plain(self.gained_7),
            plain(self.gained_30),
            self.alerts.to_string(),
            self.below_baseline.map(|count| count.to_string()).unwrap_or_default(),
            self.accepted.to_string(),
            self.missing.to_string(),
        ]
    }
}

fn page(rows: &[Row], made: &str) -> String {
    let known: Vec<f64> = rows.iter().filter_map(|row| Some(row.percentage?.get())).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand tenants")]
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    let body = html! {
        header {
            h1 { "Microsoft Secure Score of " (rows.len()) " tenants" }
            p .meta {
                "The lowest first · mean " (percent((!known.is_empty()).then(|| super::tidy(mean))))
                " · made " (made)
            }
        }
        main {
            section {
                table {
                    thead { tr {
                        th { "Tenant" } th { "Trend" } th .n { "Percent" } th .n { "Points" } th .n { "7 days" } th .n { "30 days" }
                        th .n { "High changes" } th .n { "Below baseline" } th .n { "Risks accepted" } th .n { "Days missing" } th { "Newest day" }
                    } }
                    tbody {
                        @for row in rows {
                            tr {
                                td { (row.name) } td { (sparkline(&row.trend)) }
                                td .n { b { (percent(row.percentage)) } }
                                td .n { (shown(row.current)) " of " (shown(row.max)) }
                                td .n { (signed(row.gained_7)) } td .n { (signed(row.gained_30)) }
                                td .n { @if row.alerts > 0 { span .badge .high { (row.alerts) } } @else { "0" } }
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

fn lines(rows: &[Row]) -> String {
    let mut out = b"tenant_id,tenant_name,date,score,max_score,percentage,gained_7_days,gained_30_days,high_changes_30_days,below_baseline,accepted_risks,missing_days\n".to_vec();
    for row in rows {
        csv::write_row(&row.cells(), &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn text(rows: &[Row], made: &str) -> String {
    let mut out = format!("# Microsoft Secure Score of {} tenants\n\nMade {made}.\n\n", rows.len());
    let cells = rows.iter().map(|row| {
        row.cells().into_iter().skip(1).map(|cell| markdown::cell(&cell)).collect::<Vec<_>>()
    });
    let heads = [
        "Tenant",
        "Day",
        "Score",
        "Max",
        "Percent",
        "7 days",
        "30 days",
        "High changes",
        "Below baseline",
        "Accepted",
        "Missing",
    ];
    markdown::table("The lowest first", &heads, cells, usize::MAX, &mut out);
    out
}
