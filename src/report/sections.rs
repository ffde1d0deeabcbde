//! The sections of a report on the current state of a tenant: improvements, decisions, baseline,
//! categories, composition of the score, and completeness. On a narrow screen, each row becomes a
//! card in which every cell shows its `data-l`. A URL must never become a link unless its scheme is
//! `https`. Start reading at [`improvements`].

use maud::{Markup, html};

use super::{
    Decision, Improvement, Report,
    cut::Cut,
    svg::{bar, sparkline},
    text::{grouped, rounded, shown},
};
use crate::{
    model::Number,
    text::{percent, with_separators},
};

/// The maximum number of rows of the table of improvements.
const MAX_IMPROVEMENTS: usize = 20;

/// The controls below their maximum score, with the best ratio of points to cost first.
pub(super) fn improvements(report: &Report) -> Markup {
    let cut = Cut::of(&report.improvements, MAX_IMPROVEMENTS, |i| i.missing.get());
    let link = |improvement: &Improvement| {
        // Escaping does not make a `javascript:` URL harmless, so only `https` URLs become links.
        let is_safe = improvement.url.starts_with("https://");
        html! {
            @if is_safe { a href=(improvement.url) rel="noreferrer" { (improvement.title) } }
            @else { (improvement.title) }
        }
    };

    html! {
        section {
            h2 { "Open improvements" }
            p .meta { "Ordered by missing points divided by cost: 1 for low, 2 for moderate or unknown, 3 for high." }
            table .cards {
                thead { tr { th { "Control" } th .n { "Missing points" } th { "Cost" } th { "User impact" } th { "Service" } } }
                tbody {
                    @for improvement in &cut.listed {
                        tr {
                            td .wrap { (link(improvement)) br; code { (improvement.control) } }
                            td .n data-l="Missing points" { (grouped(improvement.missing)) " of " (grouped(improvement.max)) }
                            td .word data-l="Cost" { (improvement.cost) }
                            td .word data-l="User impact" { (improvement.impact) }
                            td .word data-l="Service" { (improvement.service) }
                        }
                    }
                }
            }
            @if let Some(omission) = cut.omission("Improvements") { p .meta { (omission) } }
        }
    }
}

/// The decisions in force on the last day, with the person who is expected to act, if it is known.
pub(super) fn decisions(report: &Report) -> Markup {
    let expected = |decision: &Decision| match (&decision.expected, decision.accepts_risk) {
        (Some((owner, Some(until))), _) => format!("{owner}, until {until}"),
        (Some((owner, None)), _) => owner.clone(),
        (None, true) => "not expected".to_owned(),
        (None, false) => String::new(),
    };

    html! {
        section {
            h2 { "Decisions in force" }
            @if report.decisions.is_empty() {
                p { "There are no decisions." }
            } @else {
                table .cards {
                    thead { tr { th { "Control" } th { "State" } th { "Decided" } th { "Comment" } th .n { "Points" } th { "Expected by" } } }
                    tbody {
                        @for decision in &report.decisions {
                            tr {
                                td .wrap { (decision.title) br; code { (decision.control) } }
                                td .word data-l="State" { (decision.state) }
                                td .word data-l="Decided" { (decision.by) " " span .meta { (decision.at.get(..10).unwrap_or(&decision.at)) } }
                                td .word data-l="Comment" { (decision.comment) }
                                td .n data-l="Points" { (shown(decision.points)) }
                                td .word data-l="Expected by" { (expected(decision)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The controls below their targets; empty if the tenant has no baseline.
pub(super) fn baseline(report: &Report) -> Markup {
    let Some(baseline) = &report.baseline else { return html! {} };

    html! {
        section {
            h2 { "Baseline " (baseline.name) }
            p {
                (with_separators(baseline.below.len())) " of " (with_separators(baseline.targets)) " targets are missed"
                @if let Some(day) = baseline.day { "; the targets are the scores of " (day) } "."
            }
            @if !baseline.below.is_empty() {
                table .cards {
                    thead { tr { th { "Control" } th .n { "Target" } th .n { "Points" } th .n { "Percent" } th .n { "Missing points" } } }
                    tbody {
                        @for drift in &baseline.below {
                            tr {
                                td .wrap { (drift.title) br; code { (drift.control) } }
                                td .n data-l="Target" { (drift.target) }
                                td .n data-l="Points" { (shown(drift.score)) }
                                td .n data-l="Percent" { (shown(drift.percentage)) }
                                td .n data-l="Missing points" { (shown(drift.missing)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The points of each category on the last day, with their share of the maximum and a trend.
pub(super) fn categories(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Score by category" }
            table .cards {
                thead { tr { th { "Category" } th .n { "Points" } th .n { "Maximum" } th { "Percent" } th { "Trend" } } }
                tbody {
                    @for category in &report.categories {
                        @let share = if category.max > Number::ZERO { category.points.get() / category.max.get() } else { 0.0 };
                        tr {
                            td .wrap { (category.name) }
                            td .n data-l="Points" { (grouped(category.points)) }
                            td .n data-l="Maximum" { (grouped(category.max)) }
                            td data-l="Percent" { (bar(share)) " " (percent(share * 100.0)) }
                            td data-l="Trend" { (sparkline(&category.series)) }
                        }
                    }
                }
            }
        }
    }
}

/// How the points are achieved, and the part of the total that belongs to no control.
pub(super) fn breakdown(report: &Report) -> Markup {
    let parts = &report.breakdown;
    let unassigned = parts.total.map(|total| rounded(total.get() - parts.sum_of_controls.get()));

    html! {
        section {
            h2 { "Composition of the score" }
            table {
                tbody {
                    tr { th scope="row" { "Achieved: Microsoft detects the implementation" } td .n { (grouped(parts.achieved)) } }
                    tr { th scope="row" { "Asserted: a decision claims that a third party provides the control; not verified" } td .n { (grouped(parts.asserted)) } }
                    tr { th scope="row" { "Provided: the catalog marks the control as provided by Microsoft" } td .n { (grouped(parts.provided)) } }
                    tr { th scope="row" { "Sum of the controls" } td .n { (grouped(parts.sum_of_controls)) } }
                    tr { th scope="row" { "Total reported by the API" } td .n { (shown(parts.total)) " of " (shown(parts.max)) } }
                    tr { th scope="row" { "Part of the total that is not assigned to a control" } td .n { (shown(unassigned)) } }
                }
            }
        }
    }
}

/// The number of days in the report, and the days that are missing in it.
pub(super) fn completeness(report: &Report) -> Markup {
    let absent = report.missing.iter().filter(|missing| missing.absent).count();

    html! {
        section {
            h2 { "Completeness" }
            p {
                "Days in the report: " (with_separators(report.days.len())) ". Missing days: " (with_separators(report.missing.len()))
                @if absent > 0 { ", " (with_separators(absent)) " of which are no longer available from Microsoft" }
                "."
            }
            @if !report.missing.is_empty() {
                p .meta {
                    @for (index, missing) in report.missing.iter().enumerate() {
                        @if index > 0 { ", " } (missing.day)
                    }
                }
            }
        }
    }
}
