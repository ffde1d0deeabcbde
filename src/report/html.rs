//! The report as one page that needs nothing else: no script, no font, no picture from elsewhere.
//! Texts of Microsoft's and of administrators' go through maud, which escapes them all.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Decision, Improvement, Report, ReportedChange, shown,
    svg::{Line, bar, chart, sparkline},
};
use crate::model::{Day, Number, Severity};

/// Rows of a table before the rest is only counted.
const IMPORTANT: usize = 12;
const CHANGES: usize = 500;
const IMPROVEMENTS: usize = 20;
const STYLE: &str = include_str!("style.css");

pub(super) fn page(report: &Report, made: &str) -> String {
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
                " · made " (made)
            }
        }
        main {
            @if report.days.is_empty() {
                p { "Nothing is known of these days." }
            } @else {
                (figures(report))
                (over_time(report))
                (changes(report))
                (improvements(report))
                (decisions(report))
                (baseline(report))
                (categories(report))
                (adds_up(report))
                (completeness(report))
            }
        }
    };
    document(&format!("Secure Score of {name}"), &body)
}

/// A whole document around a body.
pub fn document(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Nothing is ever loaded or run, whatever found its way into a text.
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
    let Some((day, line)) = report.newest() else { return html! {} };
    let high = report.changes.iter().filter(|c| c.severity >= Severity::High).count();
    let open: f64 = report.improvements.iter().map(|i| i.missing.get()).sum();
    let accepted = report.decisions.iter().filter(|d| d.state == "Ignored").count();
    html! {
        section .figures aria-label="Key figures" {
            (figure(&percent(line.percentage), &format!("{} of {} points on {day}", shown(line.current), shown(line.max))))
            (figure(&signed(report.gained(30)), "percentage points in 30 days"))
            (figure(&high.to_string(), "changes of high severity"))
            (figure(&super::tidy(open).to_string(), "points open to be had"))
            (figure(&accepted.to_string(), "risks accepted"))
        }
    }
}

fn figure(value: &str, what: &str) -> Markup {
    html! { div .figure { b { (value) } span { (what) } } }
}

fn over_time(report: &Report) -> Markup {
    let own: Vec<(Day, f64)> =
        report.days.iter().filter_map(|(day, line)| Some((*day, line.percentage?.get()))).collect();
    let mut lines = vec![Line { name: "This tenant", class: "own", points: own }];
    for (basis, name, class) in [
        ("AllTenants", "All tenants", "all"),
        ("TotalSeats", "Tenants of this size", "seats"),
        ("IndustryTypes", "This industry", "industry"),
    ] {
        let average = |line: &super::DayLine| {
            let score = line.averages.iter().find(|(known, _)| known == basis)?.1.get();
            // Since they are percentages; in 2018 they were points.
            (score <= 100.0).then_some(score)
        };
        let points: Vec<(Day, f64)> =
            report.days.iter().filter_map(|(day, line)| Some((*day, average(line)?))).collect();
        if !points.is_empty() {
            lines.push(Line { name, class, points });
        }
    }
    let text = report
        .newest()
        .map(|(day, line)| format!("{} on {day}", percent(line.percentage)))
        .unwrap_or_default();
    html! {
        section {
            h2 { "Score over time" }
            (chart(&lines, "Percentage of attainable points by day", &text))
            details {
                summary { "The numbers" }
                table {
                    thead { tr { th { "Day" } th .n { "Points" } th .n { "Attainable" } th .n { "Percent" } th .n { "Controls" } } }
                    tbody {
                        @for (day, line) in report.days.iter().rev() {
                            tr {
                                td { (day) @if line.partial { " (in part)" } @if line.revision > 1 { " (revised)" } }
                                td .n { (shown(line.current)) } td .n { (shown(line.max)) }
                                td .n { (shown(line.percentage)) } td .n { (line.controls) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn changes(report: &Report) -> Markup {
    let important = report.most_important(IMPORTANT);
    let all: Vec<&ReportedChange> = report.changes.iter().take(CHANGES).collect();
    let untold = report.changes.len() - all.len();
    html! {
        section {
            h2 { "What changed, and why" }
            @if important.is_empty() {
                p { "Nothing has changed." }
            } @else {
                p .meta { "What matters most first: " (important.len()) " of " (report.changes.len()) " changes." }
                (change_table(&important))
            }
            @if all.len() > important.len() {
                details {
                    summary { "All changes by day" }
                    (change_table(&all))
                    @if untold > 0 { p .meta { (untold) " older changes are not listed here." } }
                }
            }
            @if report.implementations > 0 {
                p .meta { "Besides, controls were met by more or fewer, without a change of score, "
                    (report.implementations) " times." }
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
            td { (change.day) @if change.historical { br; span .meta { "seen later" } } }
            td { span .badge .(change.severity.as_str()) { (change.severity.as_str()) } }
            td { (change.sentence) br; code { (change.control) } }
            td .n { (signed(change.delta.map(Number::get))) }
            td { (change.cause.as_str()) }
        }
    }
}

fn improvements(report: &Report) -> Markup {
    let (told, rest) = report.improvements.split_at(report.improvements.len().min(IMPROVEMENTS));
    let link = |improvement: &Improvement| {
        let safe = improvement.url.starts_with("https://");
        html! {
            @if safe { a href=(improvement.url) rel="noreferrer" { (improvement.title) } }
            @else { (improvement.title) }
        }
    };
    html! {
        section {
            h2 { "Open improvements, best first" }
            p .meta { "By points over cost: a cost of 1 where it is low, 2 moderate, 3 high." }
            table {
                thead { tr { th { "Control" } th { "Service" } th .n { "Points" } th { "Cost" } th { "Impact on users" } } }
                tbody {
                    @for improvement in told {
                        tr {
                            td { (link(improvement)) br; code { (improvement.control) } }
                            td { (improvement.service) }
                            td .n { (improvement.missing) " of " (improvement.max) }
                            td { (improvement.cost) } td { (improvement.impact) }
                        }
                    }
                }
            }
            @if !rest.is_empty() { p .meta { (rest.len()) " more." } }
        }
    }
}

fn decisions(report: &Report) -> Markup {
    let expected = |decision: &Decision| match (&decision.expected, decision.accepts) {
        (Some((owner, Some(until))), _) => format!("{owner}, until {until}"),
        (Some((owner, None)), _) => owner.clone(),
        (None, true) => "nobody".to_owned(),
        (None, false) => String::new(),
    };
    html! {
        section {
            h2 { "Decisions in force" }
            @if report.decisions.is_empty() {
                p { "No control has a decision." }
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
                                td .n { (shown(decision.points)) }
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
                @if let Some(day) = baseline.day { ", measured from " (day) } "."
            }
            @if !baseline.below.is_empty() {
                table {
                    thead { tr { th { "Control" } th .n { "Target" } th .n { "Points" } th .n { "Percent" } } }
                    tbody {
                        @for drift in &baseline.below {
                            tr {
                                td { (drift.title) br; code { (drift.control) } }
                                td .n { (drift.target) } td .n { (shown(drift.score)) } td .n { (shown(drift.percentage)) }
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
            h2 { "By category" }
            table {
                thead { tr { th { "Category" } th .n { "Points" } th .n { "Attainable" } th { "Share" } th { "Trend" } } }
                tbody {
                    @for category in &report.categories {
                        @let share = if category.max > Number::ZERO { category.points.get() / category.max.get() } else { 0.0 };
                        tr {
                            td { (category.name) } td .n { (category.points) } td .n { (category.max) }
                            td { (bar(share)) " " (format!("{:.0} %", share * 100.0)) }
                            td { (sparkline(&category.series)) }
                        }
                    }
                }
            }
        }
    }
}

fn adds_up(report: &Report) -> Markup {
    let points = &report.points;
    let rest = points.total.map(|total| super::tidy(total.get() - points.sum_of_controls.get()));
    html! {
        section {
            h2 { "How the score adds up" }
            table {
                tbody {
                    tr { th scope="row" { "Achieved: Microsoft sees it implemented" } td .n { (points.achieved) } }
                    tr { th scope="row" { "Asserted: somebody said that a third party does it, and nobody has looked" } td .n { (points.asserted) } }
                    tr { th scope="row" { "Of controls that the catalog marks as provided by Microsoft" } td .n { (points.provided) } }
                    tr { th scope="row" { "Sum of the controls" } td .n { (points.sum_of_controls) } }
                    tr { th scope="row" { "Total that the API gives" } td .n { (shown(points.total)) " of " (shown(points.max)) } }
                    tr { th scope="row" { "Of the total, in no control" } td .n { (shown(rest)) } }
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
                (report.days.len()) " days are known, " (report.missing.len()) " are missing"
                @if absent > 0 { "; " (absent) " of them cannot be had any more" }
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

pub(super) fn percent(number: Option<Number>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |number| format!("{:.1} %", number.get()))
}

pub(super) fn signed(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| {
        let value = super::tidy(value);
        if value > Number::ZERO {
            format!("+{value}")
        } else {
            value.to_string().replace('-', "−")
        }
    })
}
