//! The report as Markdown, for tickets and wikis. Text from Microsoft and from administrators must
//! be written through [`cell`], which makes links, mentions and markup inert and limits the length.
//! A long table ends with the number and the sum of the rows that are not listed.

use std::fmt::Write as _;

use super::{
    Report,
    cut::Cut,
    ranking::{ChangeList, RankedChanges},
    summary::comparison,
    text::{grouped, shown, signed},
};
use crate::{foreign_text::ForeignText, format::plain, model::Number};

/// The maximum number of rows of a table; further rows are counted and added up.
const MAX_ROWS: usize = 30;
/// The maximum number of characters of a cell.
const MAX_CELL: usize = 300;
/// The maximum number of characters of the heading and of the sentence below it.
const MAX_HEAD: usize = 1_000;

/// The page of one tenant. `generated` is the time at which it is generated, as text.
pub(super) fn page(report: &Report, generated: &str) -> String {
    let mut out = head(&report.heading(), &report.summary());
    if report.days.is_empty() {
        return out;
    }
    let tenant = &report.tenant;
    let _ = writeln!(out, "Tenant {}, {}. Generated {generated}.\n", cell(&tenant.name), tenant.id);

    write_comparison(report, &mut out);
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

/// The heading and the sentence below it.
pub(super) fn head(heading: &str, summary: &str) -> String {
    format!("# {}\n\n{}\n\n", escaped(heading, MAX_HEAD), escaped(summary, MAX_HEAD))
}

fn write_comparison(report: &Report, out: &mut String) {
    let Some(rows) = comparison(report) else { return };
    let rows = rows
        .into_iter()
        .map(|row| vec![row.name.to_owned(), row.current, row.previous, row.difference]);
    let heads = ["", "This period", "Period before", "Difference"];
    table("Compared with the period before", &heads, rows, out);
}

fn write_changes(report: &Report, out: &mut String) {
    let ranked = RankedChanges::of(&report.changes, MAX_ROWS);
    let title = |name: &str, points: Number| format!("{name}: {}", grouped(points));
    write_list(&title("Points lost", report.points.lost), &ranked.lost, out);
    write_list(&title("Points gained", report.points.gained), &ranked.gained, out);
    write_list("Other changes", &ranked.other, out);
}

fn write_list(title: &str, changes: &ChangeList<'_>, out: &mut String) {
    let rows = changes.listed.iter().map(|c| {
        let points = signed(c.points.map(Number::get));
        let (severity, cause) = (c.severity.as_str().to_owned(), c.cause.as_str().to_owned());
        vec![points, cell(&c.sentence), cause, severity, c.day.to_string()]
    });
    let heads = ["Points", "Change", "Cause", "Severity", "Day"];

    // All changes of a list may be too small to be listed.
    if changes.listed.is_empty() && changes.len() > 0 {
        let _ = writeln!(out, "## {title}\n");
    } else {
        table(title, &heads, rows, out);
    }
    write_omission(changes.omission(), out);
}

fn write_improvements(report: &Report, out: &mut String) {
    let cut = Cut::of(&report.improvements, MAX_ROWS, |i| i.missing.get());
    let open = cut.listed.iter().map(|i| {
        let points = format!("{} of {}", grouped(i.missing), grouped(i.max));
        vec![cell(&i.title), cell(&i.service), points, cell(&i.cost), cell(&i.impact)]
    });
    let heads = ["Control", "Service", "Missing points", "Cost", "User impact"];
    table("Open improvements", &heads, open, out);
    write_omission(cut.omission("Improvements"), out);
}

fn write_decisions(report: &Report, out: &mut String) {
    let cut = Cut::of(&report.decisions, MAX_ROWS, |d| d.points.map_or(0.0, Number::get));
    let decisions = cut.listed.iter().map(|d| {
        let expected = d.expected.as_ref().map_or("", |(owner, _)| owner);
        let points = shown(d.points);
        let (by, at) = (cell(&d.by), cell(&d.at));
        vec![cell(&d.title), cell(&d.state), by, at, cell(&d.comment), points, cell(expected)]
    });
    let heads = ["Control", "State", "By", "Time", "Comment", "Points", "Expected by"];
    table("Decisions in force", &heads, decisions, out);
    write_omission(cut.omission("Decisions"), out);
}

fn write_baseline(report: &Report, out: &mut String) {
    let Some(baseline) = &report.baseline else { return };
    let cut = Cut::of(&baseline.below, MAX_ROWS, |d| d.missing.map_or(0.0, Number::get));
    let below = cut.listed.iter().map(|d| {
        let target = d.target.clone();
        vec![cell(&d.title), target, shown(d.score), shown(d.percentage), shown(d.missing)]
    });
    let heads = ["Control", "Target", "Points", "Percent", "Missing points"];
    table(&format!("Below baseline {}", cell(&baseline.name)), &heads, below, out);
    write_omission(cut.omission("Controls"), out);
}

/// Appends the number and the sum of the rows that a table does not list.
fn write_omission(omission: Option<String>, out: &mut String) {
    if let Some(omission) = omission {
        let _ = writeln!(out, "{omission}\n");
    }
}

/// Appends a section with a table.
pub(super) fn table(
    title: &str,
    heads: &[&str],
    rows: impl ExactSizeIterator<Item = Vec<String>>,
    out: &mut String,
) {
    let count = rows.len();
    let _ = writeln!(out, "## {title}\n");
    if count == 0 {
        let _ = writeln!(out, "None.\n");
        return;
    }

    let _ = writeln!(out, "| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out.push('\n');
}

/// Escapes text for a cell of a table, so that it contains neither markup nor line breaks.
pub(super) fn cell(text: &str) -> String {
    escaped(text, MAX_CELL)
}

fn escaped(text: &str, max: usize) -> String {
    ForeignText::new(&plain(text)).markdown(max)
}
