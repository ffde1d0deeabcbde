//! The report for tickets and wikis.

use std::fmt::Write as _;

use super::{
    Report,
    html::{percent, signed},
    shown,
};
use crate::{
    format::{cut, plain},
    model::Number,
};

/// Rows of a table before the rest is only counted.
const ROWS: usize = 30;
const TEXT: usize = 300;

pub(super) fn page(report: &Report, made: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# Microsoft Secure Score of {}\n", cell(&report.tenant.name));
    let Some((day, line)) = report.newest() else {
        let _ = writeln!(out, "Nothing is known of these days.");
        return out;
    };
    let _ = writeln!(
        out,
        "{} of {} points ({}) on {day}; {} percentage points in 30 days. Made {made}.\n",
        shown(line.current),
        shown(line.max),
        percent(line.percentage),
        Some(signed(report.gained(30))).filter(|s| !s.is_empty()).unwrap_or("unknown".into())
    );
    let changes = report.most_important(usize::MAX);
    let changes = changes.iter().map(|c| {
        let delta = signed(c.delta.map(Number::get));
        let (severity, cause) = (c.severity.as_str().to_owned(), c.cause.as_str().to_owned());
        vec![c.day.to_string(), severity, cell(&c.sentence), delta, cause]
    });
    let heads = ["Day", "Severity", "Change", "Points", "Cause"];
    table("What changed, and why", &heads, changes, ROWS, &mut out);
    let open = report.improvements.iter().map(|i| {
        let points = format!("{} of {}", i.missing, i.max);
        vec![cell(&i.title), cell(&i.service), points, cell(&i.cost), cell(&i.impact)]
    });
    let heads = ["Control", "Service", "Points", "Cost", "Impact"];
    table("Open improvements, best first", &heads, open, ROWS, &mut out);
    let decisions = report.decisions.iter().map(|d| {
        let expected = d.expected.as_ref().map_or("", |(owner, _)| owner);
        let points = shown(d.points);
        let (by, at) = (cell(&d.by), cell(&d.at));
        vec![cell(&d.title), cell(&d.state), by, at, cell(&d.comment), points, cell(expected)]
    });
    let heads = ["Control", "State", "By", "At", "Comment", "Points", "Expected by"];
    table("Decisions in force", &heads, decisions, ROWS, &mut out);
    if let Some(baseline) = &report.baseline {
        let below = baseline
            .below
            .iter()
            .map(|d| vec![cell(&d.title), d.target.clone(), shown(d.score), shown(d.percentage)]);
        let heads = ["Control", "Target", "Points", "Percent"];
        table(&format!("Below baseline {}", cell(&baseline.name)), &heads, below, ROWS, &mut out);
    }
    let missing: Vec<String> = report.missing.iter().map(|m| m.day.to_string()).collect();
    let _ = writeln!(out, "## Completeness\n\n{} days known.", report.days.len());
    if !missing.is_empty() {
        let _ = writeln!(out, "Missing: {}.", missing.join(", "));
    }
    out
}

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
        let _ = writeln!(out, "\n{} more.", count - limit);
    }
    out.push('\n');
}

/// A text that stays in its cell, and is no markup: of Microsoft's or of anybody's.
pub(super) fn cell(text: &str) -> String {
    let text = plain(text);
    let text = cut(&text, TEXT);
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '|' | '<' | '>' | '[' | ']' | '*' | '_' | '`' | '\\' | '#' | '!') {
            out.push('\\');
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}
