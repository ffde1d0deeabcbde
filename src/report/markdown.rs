//! The report as Markdown, for tickets and wikis. Text from Microsoft and from administrators must
//! be written through [`cell`], which escapes markup and limits the length. A long table ends with
//! the number of rows that are not listed.

use std::fmt::Write as _;

use super::{
    Report, display,
    html::{percent, signed},
};
use crate::{
    format::{cut, plain},
    model::Number,
};

/// The maximum number of rows of a table; further rows are only counted.
const MAX_ROWS: usize = 30;
/// The maximum number of characters of a cell.
const MAX_CELL: usize = 300;

/// The page of one tenant. `generated` is the time at which it is generated, as text.
pub(super) fn page(report: &Report, generated: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# Microsoft Secure Score of {}\n", cell(&report.tenant.name));
    let Some((day, totals)) = report.newest() else {
        let _ = writeln!(out, "{}", super::NO_DATA);
        return out;
    };

    let gained = match report.gained(30) {
        Some(gained) => format!("{} percentage points in 30 days", signed(Some(gained))),
        None => "change in 30 days unknown".to_owned(),
    };
    let _ = writeln!(
        out,
        "{} of {} points ({}) on {day}; {gained}. Generated {generated}.\n",
        display(totals.current),
        display(totals.max),
        percent(totals.percentage),
    );

    write_changes(report, &mut out);
    write_improvements(report, &mut out);
    write_decisions(report, &mut out);
    write_baseline(report, &mut out);

    let _ = writeln!(out, "## Completeness\n\nDays in the report: {}.", report.days.len());
    let missing: Vec<String> = report.missing.iter().map(|m| m.day.to_string()).collect();
    if !missing.is_empty() {
        let _ = writeln!(out, "Missing days: {}.", missing.join(", "));
    }
    out
}

fn write_changes(report: &Report, out: &mut String) {
    let changes = report.most_important(usize::MAX);
    let changes = changes.iter().map(|c| {
        let delta = signed(c.delta.map(Number::get));
        let (severity, cause) = (c.severity.as_str().to_owned(), c.cause.as_str().to_owned());
        vec![c.day.to_string(), severity, cell(&c.sentence), delta, cause]
    });
    let heads = ["Day", "Severity", "Change", "Points", "Cause"];
    table("Changes", &heads, changes, MAX_ROWS, out);
}

fn write_improvements(report: &Report, out: &mut String) {
    let open = report.improvements.iter().map(|i| {
        let points = format!("{} of {}", i.missing, i.max);
        vec![cell(&i.title), cell(&i.service), points, cell(&i.cost), cell(&i.impact)]
    });
    let heads = ["Control", "Service", "Missing points", "Cost", "User impact"];
    table("Open improvements", &heads, open, MAX_ROWS, out);
}

fn write_decisions(report: &Report, out: &mut String) {
    let decisions = report.decisions.iter().map(|d| {
        let expected = d.expected.as_ref().map_or("", |(owner, _)| owner);
        let points = display(d.points);
        let (by, at) = (cell(&d.by), cell(&d.at));
        vec![cell(&d.title), cell(&d.state), by, at, cell(&d.comment), points, cell(expected)]
    });
    let heads = ["Control", "State", "By", "Time", "Comment", "Points", "Expected by"];
    table("Decisions in force", &heads, decisions, MAX_ROWS, out);
}

fn write_baseline(report: &Report, out: &mut String) {
    let Some(baseline) = &report.baseline else { return };
    let below = baseline
        .below
        .iter()
        .map(|d| vec![cell(&d.title), d.target.clone(), display(d.score), display(d.percentage)]);
    let heads = ["Control", "Target", "Points", "Percent"];
    table(&format!("Below baseline {}", cell(&baseline.name)), &heads, below, MAX_ROWS, out);
}

/// Appends a section with a table of at most `limit` rows.
pub(super) fn table(
    title: &str,
    heads: &[&str],
    rows: impl ExactSizeIterator<Item = Vec<String>>,
    limit: usize,
    out: &mut String,
) {
    let count = rows.len();
    let _ = writeln!(out, "## {title}\n");
    if count == 0 {
        let _ = writeln!(out, "None.\n");
        return;
    }

    let _ = writeln!(out, "| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for row in rows.take(limit) {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    if count > limit {
        let _ = writeln!(out, "\n{} more rows are not listed.", count - limit);
    }
    out.push('\n');
}

/// Escapes text for a cell of a table, so that it contains neither markup nor line breaks.
pub(super) fn cell(text: &str) -> String {
    let text = plain(text);
    let text = cut(&text, MAX_CELL);
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '|' | '<' | '>' | '[' | ']' | '*' | '_' | '`' | '\\' | '#' | '!') {
            out.push('\\');
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}
