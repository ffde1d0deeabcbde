//! The report as one HTML page.
//!
//! The page is self-contained: it has no scripts and loads no fonts, images or style sheets. Text
//! from Microsoft and from administrators must be written through maud, which escapes it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Decision, Improvement, Report, ReportedChange, display,
    svg::{Line, bar, chart, sparkline},
};
use crate::model::{Day, Number, Severity};

/// The maximum number of rows of the table of the most important changes.
const MAX_IMPORTANT: usize = 12;
/// The maximum number of rows of the table of all changes.
const MAX_CHANGES: usize = 500;
/// The maximum number of rows of the table of improvements.
const MAX_IMPROVEMENTS: usize = 20;
const STYLE: &str = include_str!("style.css");

/// The page of one tenant. `generated` is the time at which it is generated, as text.
pub(super) fn page(report: &Report, generated: &str) -> String {
    let name = &report.tenant.name;

    let body = html! {
        header {
            h1 { "Microsoft Secure Score of " (name) }
            p .meta {
                "Tenant " (report.tenant.id)
                @if let (Some((first, _)), Some((last, _))) = (report.days.first_key_value(), report.days.last_key_value()) {
                    " · " (first) " to " (last)
                }
                @for (label, value) in &report.tenant.labels { " · " (label) ": " (value) }
                " · generated " (generated)
            }
        }
        main {
            @if report.days.is_empty() {
                p { (super::NO_DATA) }
            } @else {
                (figures(report))
                (over_time(report))
                (changes(report))
                (improvements(report))
                (decisions(report))
                (baseline(report))
                (categories(report))
                (breakdown(report))
                (completeness(report))
            }
        }
    };

    document(&format!("Secure Score of {name}"), &body)
}

/// A complete HTML document with this title and body.
pub fn document(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // A second line of defense: even unescaped markup could not load or run anything.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}

fn figures(report: &Report) -> Markup {
    let Some((day, totals)) = report.newest() else { return html! {} };
    let high = report.changes.iter().filter(|c| c.severity >= Severity::High).count();
    let open: f64 = report.improvements.iter().map(|i| i.missing.get()).sum();
    let accepted = report.decisions.iter().filter(|d| d.state == "Ignored").count();

    html! {
        section .figures aria-label="Key figures" {
            (figure(&percent(totals.percentage), &format!("{} of {} points on {day}", display(totals.current), display(totals.max))))
            (figure(&signed(report.gained(30)), "percentage points in 30 days"))
            (figure(&high.to_string(), "high-severity changes"))
            (figure(&super::rounded(open).to_string(), "points missing in open improvements"))
            (figure(&accepted.to_string(), "accepted risks"))
        }
    }
}

fn figure(value: &str, what: &str) -> Markup {
    html! { div .figure { b { (value) } span { (what) } } }
}

fn over_time(report: &Report) -> Markup {
    let own: Vec<(Day, f64)> =
        report.days.iter().filter_map(|(day, t)| Some((*day, t.percentage?.get()))).collect();

    let mut lines = vec![Line { name: "This tenant", class: "own", points: own }];
    for (basis, name, class) in [
        ("AllTenants", "All tenants", "all"),
        ("TotalSeats", "Tenants of this size", "seats"),
        ("IndustryTypes", "This industry", "industry"),
    ] {
        let average = |totals: &super::DayTotals| {
            let score = totals.averages.iter().find(|(name, _)| name == basis)?.1.get();
            // The averages are percentages, but in 2018 they were points.
            (score <= 100.0).then_some(score)
        };
        let points: Vec<(Day, f64)> =
            report.days.iter().filter_map(|(day, t)| Some((*day, average(t)?))).collect();
        if !points.is_empty() {
            lines.push(Line { name, class, points });
        }
    }

    let text = report
        .newest()
        .map(|(day, totals)| format!("{} on {day}", percent(totals.percentage)))
        .unwrap_or_default();
    html! {
        section {
            h2 { "Score over time" }
            (chart(&lines, "Percentage of the maximum score by day", &text))
            details {
                summary { "Values by day" }
                table {
                    thead { tr { th { "Day" } th .n { "Points" } th .n { "Maximum" } th .n { "Percent" } th .n { "Controls" } } }
                    tbody {
                        @for (day, totals) in report.days.iter().rev() {
                            tr {
                                td { (day) @if totals.partial { " (partial)" } @if totals.revision > 1 { " (revised)" } }
                                td .n { (display(totals.current)) } td .n { (display(totals.max)) }
                                td .n { (display(totals.percentage)) } td .n { (totals.controls) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn changes(report: &Report) -> Markup {
    let important = report.most_important(MAX_IMPORTANT);
    let all: Vec<&ReportedChange> = report.changes.iter().take(MAX_CHANGES).collect();
    let unlisted = report.changes.len() - all.len();

    html! {
        section {
            h2 { "Changes" }
            @if important.is_empty() {
                p { "There are no changes." }
            } @else {
                p .meta { "Most important first: " (important.len()) " of " (report.changes.len()) " changes." }
                (change_table(&important))
            }
            @if all.len() > important.len() {
                details {
                    summary { "All changes by day" }
                    (change_table(&all))
                    @if unlisted > 0 { p .meta { (unlisted) " older changes are not listed." } }
                }
            }
            @if report.implementation_changes > 0 {
                p .meta { "Implementation changes that did not affect the score of a control are not listed: "
                    (report.implementation_changes) "." }
            }
        }
    }
}

fn change_table(changes: &[&ReportedChange]) -> Markup {
    html! {
        table {
            thead { tr { th { "Day" } th { "Severity" } th { "Change" } th .n { "Points" } th { "Cause" } } }
            tbody { @for change in changes { (row(change)) } }
        }
    }
}

fn row(change: &ReportedChange) -> Markup {
    html! {
        tr {
            td { (change.day) @if change.historical { br; span .meta { "historical" } } }
            td { span .badge .(change.severity.as_str()) { (change.severity.as_str()) } }
            td { (change.sentence) br; code { (change.control) } }
            td .n { (signed(change.delta.map(Number::get))) }
            td { (change.cause.as_str()) }
        }
    }
}

fn improvements(report: &Report) -> Markup {
    let (listed, rest) =
        report.improvements.split_at(report.improvements.len().min(MAX_IMPROVEMENTS));
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
            table {
                thead { tr { th { "Control" } th { "Service" } th .n { "Missing points" } th { "Cost" } th { "User impact" } } }
                tbody {
                    @for improvement in listed {
                        tr {
                            td { (link(improvement)) br; code { (improvement.control) } }
                            td { (improvement.service) }
                            td .n { (improvement.missing) " of " (improvement.max) }
                            td { (improvement.cost) } td { (improvement.impact) }
                        }
                    }
                }
            }
            @if !rest.is_empty() { p .meta { (rest.len()) " more improvements are not listed." } }
        }
    }
}

fn decisions(report: &Report) -> Markup {
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
                table {
                    thead { tr { th { "Control" } th { "State" } th { "Decided" } th { "Comment" } th .n { "Points" } th { "Expected by" } } }
                    tbody {
                        @for decision in &report.decisions {
                            tr {
                                td { (decision.title) br; code { (decision.control) } }
                                td { (decision.state) }
                                td { (decision.by) br; span .meta { (decision.at.get(..10).unwrap_or(&decision.at)) } }
                                td { (decision.comment) }
                                td .n { (display(decision.points)) }
                                td { (expected(decision)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn baseline(report: &Report) -> Markup {
    let Some(baseline) = &report.baseline else { return html! {} };

    html! {
        section {
            h2 { "Baseline " (baseline.name) }
            p {
                (baseline.below.len()) " of " (baseline.targets) " targets are missed"
                @if let Some(day) = baseline.day { "; the targets are the scores of " (day) } "."
            }
            @if !baseline.below.is_empty() {
                table {
                    thead { tr { th { "Control" } th .n { "Target" } th .n { "Points" } th .n { "Percent" } } }
                    tbody {
                        @for drift in &baseline.below {
                            tr {
                                td { (drift.title) br; code { (drift.control) } }
                                td .n { (drift.target) } td .n { (display(drift.score)) } td .n { (display(drift.percentage)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn categories(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Score by category" }
            table {
                thead { tr { th { "Category" } th .n { "Points" } th .n { "Maximum" } th { "Percent" } th { "Trend" } } }
                tbody {
                    @for category in &report.categories {
                        @let share = if category.max > Number::ZERO { category.points.get() / category.max.get() } else { 0.0 };
                        tr {
                            td { (category.name) } td .n { (category.points) } td .n { (category.max) }
                            td { (bar(share)) " " (format!("{:.0}%", share * 100.0)) }
                            td { (sparkline(&category.series)) }
                        }
                    }
                }
            }
        }
    }
}

fn breakdown(report: &Report) -> Markup {
    let parts = &report.breakdown;
    let unassigned =
        parts.total.map(|total| super::rounded(total.get() - parts.sum_of_controls.get()));

    html! {
        section {
            h2 { "Composition of the score" }
            table {
                tbody {
                    tr { th scope="row" { "Achieved: Microsoft detects the implementation" } td .n { (parts.achieved) } }
                    tr { th scope="row" { "Asserted: a decision claims that a third party provides the control; not verified" } td .n { (parts.asserted) } }
                    tr { th scope="row" { "Provided: the catalog marks the control as provided by Microsoft" } td .n { (parts.provided) } }
                    tr { th scope="row" { "Sum of the controls" } td .n { (parts.sum_of_controls) } }
                    tr { th scope="row" { "Total reported by the API" } td .n { (display(parts.total)) " of " (display(parts.max)) } }
                    tr { th scope="row" { "Part of the total that is not assigned to a control" } td .n { (display(unassigned)) } }
                }
            }
        }
    }
}

fn completeness(report: &Report) -> Markup {
    let absent = report.missing.iter().filter(|missing| missing.absent).count();

    html! {
        section {
            h2 { "Completeness" }
            p {
                "Days in the report: " (report.days.len()) ". Missing days: " (report.missing.len())
                @if absent > 0 { ", " (absent) " of which are no longer available from Microsoft" }
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

/// A percentage with one decimal place, or `unknown`.
pub(super) fn percent(number: Option<Number>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |number| format!("{:.1}%", number.get()))
}

/// A difference with its sign; empty if it is absent.
pub(super) fn signed(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| {
        let value = super::rounded(value);

        if value > Number::ZERO {
            format!("+{value}")
        } else {
            value.to_string().replace('-', "−")
        }
    })
}
