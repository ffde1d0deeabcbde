//! The status page: one document, no script, nothing from elsewhere. All texts are escaped by maud.

use maud::{Markup, html};

use super::{
    health::Level,
    overview::{Overview, SinkLine, TenantLine},
    views::{View, Views},
};
use crate::{
    daemon::SinkState,
    report::{document, sparkline},
};

/// Tenants on a page, changes and letters listed, letters of an error shown.
const TENANTS: usize = 100;
const CHANGES: usize = 25;
const ERROR: usize = 300;

pub(super) fn write(overview: &Overview, views: &Views, query: &str) -> String {
    let asked = Asked::of(query);
    let body = html! {
        header {
            h1 { "secure-score-forwarder on " (overview.host) }
            (verdict(overview))
            p .meta {
                "Version " (env!("CARGO_PKG_VERSION")) " · up since " (instant(overview.started.as_millisecond()))
                " · as of " (instant(overview.now.as_millisecond())) " · checkpoint " (size(overview.size)) ", " (size(overview.free)) " free"
            }
        }
        main {
            (sinks(overview))
            (tenants(overview, views, &asked))
            (changes(overview, views))
            (replays(overview))
            (letters(overview))
            p .meta { a href="/metrics" { "Metrics" } " · " a href="/readyz" { "Readiness" } " · " a href="/" { "This page, fresh" } }
        }
    };
    document("Status of secure-score-forwarder", &html! { div .wide { (body) } })
}

/// What the query asks for: a part of the tenants.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    /// In the tenant's name, whatever its case.
    wanted: String,
    /// From 0.
    page: usize,
}

impl Asked {
    fn of(query: &str) -> Self {
        let mut asked = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "q" => asked.wanted = value.chars().take(100).collect(),
                "page" => asked.page = value.parse::<usize>().unwrap_or(1).saturating_sub(1),
                _ => {}
            }
        }
        asked
    }

    /// The link to another page of the same.
    fn link(&self, page: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if !self.wanted.is_empty() {
            query.append_pair("q", &self.wanted);
        }
        query.append_pair("page", &(page + 1).to_string());
        format!("/?{}#tenants", query.finish())
    }
}

fn verdict(overview: &Overview) -> Markup {
    let tenants = of_level(overview.tenants.iter().map(|t| t.level(overview.today())));
    let sinks = of_level(overview.sinks.iter().map(|s| s.level(overview.started, overview.now)));
    let mut said = overview.stalled.clone();
    for ((unwell, waiting), noun, bad, passing) in [
        (tenants, "tenant", "behind", "waiting for a poll"),
        (sinks, "sink", "in need of a person", "with a backlog"),
    ] {
        if unwell > 0 {
            said.push(format!("{} {bad}", count(unwell, noun)));
        }
        if waiting > 0 {
            said.push(format!("{} {passing}", count(waiting, noun)));
        }
    }
    let (class, word) = match overview.level() {
        Level::Well => ("well", "All is well"),
        Level::Waiting => ("waiting", "At work"),
        Level::Unwell => ("unwell", "Needs attention"),
    };
    if said.is_empty() {
        said.push("every tenant is current, and every sink has everything".to_owned());
    }
    html! { p .verdict .(class) role="status" { b { (word) } ": " (said.join("; ")) "." } }
}

/// How many are unwell, and how many wait.
fn of_level(levels: impl Iterator<Item = Level>) -> (usize, usize) {
    levels.fold((0, 0), |(unwell, waiting), level| match level {
        Level::Unwell => (unwell + 1, waiting),
        Level::Waiting => (unwell, waiting + 1),
        Level::Well => (unwell, waiting),
    })
}

fn sinks(overview: &Overview) -> Markup {
    html! {
        section {
            h2 { "Sinks" }
            table .cards {
                thead { tr {
                    th { "Sink" } th { "State" } th .n { "Sent" } th .n { "Rejected" } th .n { "Backlog" } th { "Oldest" } th { "Last proof" } th { "Last error" }
                } }
                tbody { @for sink in &overview.sinks { (sink_row(overview, sink)) } }
            }
        }
    }
}

fn sink_row(overview: &Overview, line: &SinkLine) -> Markup {
    let SinkLine { kind, status, state, .. } = line;
    let class = class(line.level(overview.started, overview.now));
    let word = match state {
        SinkState::Idle if status.backlog == 0 => "up to date",
        SinkState::Idle | SinkState::Working => "delivering",
        SinkState::Retrying => "retrying",
        SinkState::Parked => "parked",
    };
    html! {
        tr {
            td { b { (status.name) } " " span .meta { (kind) } }
            td { span .badge .(class) { (word) } }
            td .n data-l="Sent" { (status.sent) } td .n data-l="Rejected" { (status.rejected) } td .n data-l="Backlog" { (status.backlog) }
            td .t data-l="Oldest" { @if let Some(day) = status.oldest_day { (day) } }
            td .t data-l="Last proof" { (status.last_acknowledgement_ms.map_or_else(|| "never".to_owned(), instant)) }
            td .error data-l="Last error" { (shortened(status.last_error.as_ref().map_or("", |error| &error.message))) }
        }
    }
}

fn tenants(overview: &Overview, views: &Views, asked: &Asked) -> Markup {
    let wanted = asked.wanted.to_lowercase();
    let mut lines: Vec<&TenantLine> = overview
        .tenants
        .iter()
        .filter(|line| wanted.is_empty() || line.name.to_lowercase().contains(&wanted))
        .collect();
    // What wants attention first, then as configured.
    lines.sort_by_key(|line| std::cmp::Reverse(line.level(overview.today())));
    let pages = lines.len().div_ceil(TENANTS).max(1);
    let page = asked.page.min(pages - 1);
    let shown = lines.iter().skip(page * TENANTS).take(TENANTS);
    html! {
        section #tenants {
            h2 { "Tenants" }
            @if overview.tenants.len() > 10 {
                form method="get" action="/" role="search" {
                    label { "Name " input type="search" name="q" value=(asked.wanted); } " "
                    button { "Find" }
                }
            }
            p .meta {
                (count(lines.len(), "tenant")) @if !wanted.is_empty() { " found" } ", those that want attention first"
                @if pages > 1 { " · page " (page + 1) " of " (pages) }
            }
            table .cards {
                thead { tr {
                    th { "Tenant" } th { "State" } th { "30 days" } th .n { "Percent" } th .n { "7 days" } th { "Newest day" } th .n { "Missing" } th { "Last success" } th { "Last error" }
                } }
                tbody { @for line in shown { (tenant_row(overview, line, views.get(&line.name))) } }
            }
            @if pages > 1 {
                p .pages {
                    @if page > 0 { a href=(asked.link(page - 1)) rel="prev" { "← before" } " " }
                    @if page + 1 < pages { a href=(asked.link(page + 1)) rel="next" { "next →" } }
                }
            }
        }
    }
}

fn tenant_row(overview: &Overview, line: &TenantLine, view: Option<&View>) -> Markup {
    let level = line.level(overview.today());
    let word = match level {
        Level::Well => "current",
        Level::Waiting if line.status.last_error.is_some() => "failing",
        Level::Waiting => "waiting",
        Level::Unwell => "behind",
    };
    let row = view.map(|view| &view.row);
    html! {
        tr {
            td { b { (line.name) } }
            td { span .badge .(class(level)) { (word) } }
            td data-l="30 days" { @if let Some(row) = row { (sparkline(&row.trend)) } }
            td .n data-l="Percent" { @if let Some(share) = row.and_then(|row| row.percentage) { (format!("{:.1} %", share.get())) } }
            td .n data-l="7 days" { @if let Some(gained) = row.and_then(|row| row.gained_7) { (signed(gained)) } }
            td .t data-l="Newest day" { (line.status.newest_day.map_or_else(|| "none".to_owned(), |day| day.to_string())) }
            td .n data-l="Missing" { (line.status.missing) }
            td .t data-l="Last success" { (line.status.last_success_ms.map_or_else(|| "never".to_owned(), instant)) }
            td .error data-l="Last error" { (shortened(line.status.last_error.as_ref().map_or("", |error| &error.message))) }
        }
    }
}

fn changes(overview: &Overview, views: &Views) -> Markup {
    let changes = views.changes(CHANGES);
    html! {
        section {
            h2 { "Last changes" }
            @if changes.is_empty() {
                p .meta { "Nothing has changed within a week." }
            } @else {
                table {
                    thead { tr { th { "Day" } @if overview.tenants.len() > 1 { th { "Tenant" } } th { "Severity" } th { "What" } th { "Cause" } } }
                    tbody {
                        @for (tenant, change) in changes {
                            tr {
                                td .t { (change.day) }
                                @if overview.tenants.len() > 1 { td { (tenant) } }
                                td { span .badge .(change.severity.as_str()) { (change.severity.as_str()) } }
                                td { (change.sentence) }
                                td { (change.cause.as_str()) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn replays(overview: &Overview) -> Markup {
    html! {
        @if !overview.replays.is_empty() {
            section {
                h2 { "Replays" }
                ul { @for job in &overview.replays {
                    li { "to " b { (job.sink) } ": " (job.first_day) " to " (job.last_day) ", " (job.remaining) " left" }
                } }
            }
        }
    }
}

fn letters(overview: &Overview) -> Markup {
    let total: u64 = overview.sinks.iter().map(|sink| sink.status.dead_letters).sum();
    html! {
        section {
            h2 { "Dead letters" }
            @if total == 0 {
                p .meta { "None: no receiver has refused a record." }
            } @else {
                p .meta { (total) " in all, the newest here; " code { "replay --sink NAME --rejected" } " sends them again." }
                table {
                    thead { tr { th { "When" } th { "Sink" } th { "Day" } th { "Record" } th { "The receiver's words" } } }
                    tbody {
                        @for letter in &overview.letters {
                            tr {
                                td .t { (instant(letter.rejected_ms)) }
                                td { (letter.sink) }
                                td .t { @if let Some(day) = letter.day { (day) } }
                                td { code { (letter.event_id) } }
                                td .error { (shortened(&letter.reason)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn class(level: Level) -> &'static str {
    match level {
        Level::Well => "well",
        Level::Waiting => "waiting",
        Level::Unwell => "unwell",
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(ERROR) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// UTC, to the minute.
fn instant(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms);
    time.map_or_else(|_| ms.to_string(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// With its sign, unless nothing is left of it at one decimal.
fn signed(gained: f64) -> String {
    if gained.abs() < 0.05 { "0.0".to_owned() } else { format!("{gained:+.1}") }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.0} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_linked_again() {
        let asked = Asked::of("q=a%26b+c&page=3&other=x");
        assert_eq!(asked, Asked { wanted: "a&b c".to_owned(), page: 2 });
        assert_eq!(asked.link(3), "/?q=a%26b+c&page=4#tenants");
        for odd in ["", "page=0", "page=-1", "page=x", "&&=", "q"] {
            assert_eq!(Asked::of(odd).page, 0, "{odd}");
        }
        assert_eq!(Asked::of(&format!("q={}", "ä".repeat(500))).wanted.chars().count(), 100);
    }

    #[test]
    fn a_long_error_is_cut_on_a_character() {
        assert_eq!(shortened("short"), "short");
        let cut = shortened(&"ü".repeat(1_000));
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (ERROR + 1, true));
    }
}
