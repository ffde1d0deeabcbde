//! The HTML of the changes in a report, and of the comparison with the period before. On a narrow
//! screen, each row becomes a card in which every cell shows its `data-l`. This module must never
//! bypass the escaping of maud, because users of the tenant have written parts of the texts. Start
//! reading at [`changes`].

use maud::{Markup, html};

use super::{
    Report, ReportedChange,
    ranking::{ChangeList, RankedChanges},
    text::{grouped, signed},
};
use crate::{model::Number, text::with_separators};

/// The maximum number of changes with points, and of other changes, in the tables on paper.
const MAX_RANKED: usize = 25;
/// The same for the table of all changes, which is only on the screen.
const MAX_ALL: usize = 500;

/// The changes by points, and all changes by day.
pub(super) fn changes(report: &Report) -> Markup {
    let ranked = RankedChanges::of(&report.changes, MAX_RANKED);

    html! {
        section {
            h2 { "Changes" }
            @if report.changes.is_empty() {
                p { "There are no changes." }
            } @else {
                (scored("Points lost", report.points.lost, &ranked.lost))
                (scored("Points gained", report.points.gained, &ranked.gained))
                @if ranked.other.len() > 0 {
                    h3 { "Other changes" }
                    (table(&ranked.other.listed))
                    (omission(&ranked.other))
                }
                @if ranked.listed().count() < report.changes.len() { (by_day(report)) }
            }
            @if report.implementation_changes > 0 {
                p .meta { "Implementation changes that did not affect the score of a control are not listed: "
                    (with_separators(report.implementation_changes)) "." }
            }
        }
    }
}

/// The sums of the period and of the one before.
pub(super) fn comparison(report: &Report) -> Markup {
    let Some(rows) = super::summary::comparison(report) else { return html! {} };
    let window = report.window.previous();

    html! {
        section {
            h2 { "Compared with the period before" }
            p .meta { "The period before has the same length: " (window.first) " to " (window.last) "." }
            table .compact {
                thead { tr { th {} th .n { "This period" } th .n { "Period before" } th .n { "Difference" } } }
                tbody {
                    @for row in rows {
                        tr {
                            th scope="row" { (row.name) }
                            td .n { (row.current) } td .n { (row.previous) } td .n { (row.difference) }
                        }
                    }
                }
            }
        }
    }
}

/// The changes that lost points, or those that gained points. `sum` is that of all of them.
fn scored(title: &str, sum: Number, changes: &ChangeList<'_>) -> Markup {
    html! {
        @if changes.len() > 0 {
            h3 { (title) ": " (grouped(sum)) }
            @if !changes.listed.is_empty() { (table(&changes.listed)) }
            (omission(changes))
        }
    }
}

fn omission(changes: &ChangeList<'_>) -> Markup {
    html! { @if let Some(omission) = changes.omission() { p .meta { (omission) } } }
}

/// All changes, newest first, in an element that the reader opens.
fn by_day(report: &Report) -> Markup {
    let ranked = RankedChanges::of(&report.changes, MAX_ALL);
    let mut all: Vec<&ReportedChange> = ranked.listed().collect();
    // The sort is stable: within a day, the order is that of the other tables.
    all.sort_by_key(|change| std::cmp::Reverse(change.day));

    html! {
        details {
            summary { "All changes by day" }
            (table(&all))
            @for list in [&ranked.lost, &ranked.gained, &ranked.other] { (omission(list)) }
        }
    }
}

fn table(changes: &[&ReportedChange]) -> Markup {
    html! {
        table .cards {
            thead { tr { th .n { "Points" } th { "Change" } th { "Cause" } th { "Severity" } th { "Day" } } }
            tbody { @for change in changes { (row(change)) } }
        }
    }
}

fn row(change: &ReportedChange) -> Markup {
    html! {
        tr {
            td .n data-l="Points" { @if change.points.is_some() { b { (signed(change.points.map(Number::get))) } } }
            td .wrap { (change.sentence) br; code { (change.control) } }
            td data-l="Cause" { (change.cause.as_str()) }
            td data-l="Severity" { span .badge .(change.severity.as_str()) { (change.severity.as_str()) } }
            td .t data-l="Day" { (change.day) @if change.historical { " " span .meta { "historical" } } }
        }
    }
}
