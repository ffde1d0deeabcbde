//! The report as one HTML page.
//!
//! The page is self-contained: it has no scripts and loads no fonts, images or style sheets. Text
//! from Microsoft and from administrators must be written through maud, which escapes it. Hidden
//! characters are replaced in the complete page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    DayTotals, Report,
    change_tables::{changes, comparison},
    sections::{baseline, breakdown, categories, completeness, decisions, improvements},
    svg::{Line, chart},
    text::{grouped, percent, points, rounded, shown},
};
use crate::{foreign_text::ForeignText, model::Day, text::with_separators};

/// The style sheet of all pages.
const STYLE: &str = include_str!("style.css");
/// The rules for reports and for the status page on paper and on narrow screens.
const PAPER_STYLE: &str = include_str!("paper.css");

/// The page of one tenant. `generated` is the time at which it is generated, as text.
pub(super) fn page(report: &Report, generated: &str) -> String {
    let tenant = &report.tenant;

    // On paper, each tenant begins on a new page.
    let body = html! {
        article .report .tenant {
            header {
                h1 { (report.heading()) }
                p .meta {
                    "Tenant " (tenant.name) ", " (tenant.id)
                    @for (label, value) in &tenant.labels { " · " (label) ": " (value) }
                    " · " (report.window.first) " to " (report.window.last) " · generated " (generated)
                }
                p .lead { (report.summary()) }
            }
            @if !report.days.is_empty() {
                main { (content(report)) }
            }
        }
    };

    document(&report.heading(), &body)
}

fn content(report: &Report) -> Markup {
    html! {
        (figures(report))
        (over_time(report))
        (comparison(report))
        (changes(report))
        (improvements(report))
        (decisions(report))
        (baseline(report))
        (categories(report))
        (breakdown(report))
        (completeness(report))
    }
}

/// A complete HTML document with this title and body, without hidden characters.
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
                style { (PreEscaped(STYLE)) (PreEscaped(PAPER_STYLE)) }
            }
            body { (body) }
        }
    };
    ForeignText::new(&page.into_string()).visible().into_owned()
}

fn figures(report: &Report) -> Markup {
    let Some((day, totals)) = report.newest() else { return html! {} };
    let open: f64 = report.improvements.iter().map(|i| i.missing.get()).sum();
    let accepted = report.decisions.iter().filter(|d| d.state == "Ignored").count();
    let max = totals.max.map_or_else(|| "unknown".to_owned(), points);
    let of_max = format!("{} of {max} on {day}", shown(totals.current));

    html! {
        section .figures aria-label="Key figures" {
            (figure(&percent(totals.percentage), &of_max))
            (figure(&grouped(report.points.lost), "points lost"))
            (figure(&grouped(report.points.gained), "points gained"))
            (figure(&with_separators(report.high_changes()), "high-severity changes"))
            (figure(&grouped(rounded(open)), "points missing in open improvements"))
            (figure(&with_separators(accepted), "accepted risks"))
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
        let average = |totals: &DayTotals| {
            let score = totals.average(basis)?.get();
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
                table .compact {
                    thead { tr { th { "Day" } th .n { "Points" } th .n { "Maximum" } th .n { "Percent" } th .n { "Controls" } } }
                    tbody {
                        @for (day, totals) in report.days.iter().rev() {
                            tr {
                                td { (day) @if totals.partial { " (partial)" } @if totals.revision > 1 { " (revised)" } }
                                td .n { (shown(totals.current)) } td .n { (shown(totals.max)) }
                                td .n { (shown(totals.percentage)) } td .n { (with_separators(totals.controls)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
