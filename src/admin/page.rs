//! The status page: one HTML document without scripts and without external resources. maud escapes
//! all text. Start reading at [`render`].

use std::cmp::Reverse;

use maud::{Markup, html};

use super::{
    health::Health,
    overview::{Overview, SinkLine, TenantLine},
    views::{View, Views},
};
use crate::{
    daemon::SinkState,
    error::Explanation,
    model::UnixMillis,
    report::{document, sparkline},
};

/// The number of tenants per page.
const TENANTS_PER_PAGE: usize = 100;
/// The maximum number of changes in the list.
const MAX_CHANGES: usize = 25;
/// The maximum number of characters of an error that are shown.
const MAX_ERROR_CHARS: usize = 300;
/// The maximum number of characters of a search text.
const MAX_SEARCH_CHARS: usize = 100;
/// With more tenants than this, the page has a search field.
const TENANTS_WITHOUT_SEARCH: usize = 10;

/// Renders the page for the query part of a URL.
pub(super) fn render(overview: &Overview, views: &Views, query: &str) -> String {
    let filter = TenantFilter::parse(query);

    let body = html! {
        header {
            h1 { "secure-score-forwarder on " (overview.host) }
            (summary(overview))
            p .meta {
                "Version " (env!("CARGO_PKG_VERSION")) " · up since " (instant(overview.started.into()))
                " · as of " (instant(overview.now.into())) " · checkpoint " (size(overview.size)) ", " (size(overview.free)) " free"
            }
        }
        main {
            (sinks(overview))
            (tenants(overview, views, &filter))
            (changes(overview, views))
            (replays(overview))
            (dead_letters(overview))
            p .meta { a href="/metrics" { "Metrics" } " · " a href="/readyz" { "Readiness" } " · " a href="/" { "Reload" } }
        }
    };
    document("Status of secure-score-forwarder", &html! { div .wide { (body) } })
}

/// Which tenants are shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct TenantFilter {
    /// A part of the tenant's name, not case-sensitive.
    search: String,
    /// The number of the page, counted from 0; in the query, it is counted from 1.
    page: usize,
}

impl TenantFilter {
    /// Reads `q` and `page` from a query. Invalid values have no effect.
    fn parse(query: &str) -> Self {
        let mut filter = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "q" => filter.search = value.chars().take(MAX_SEARCH_CHARS).collect(),
                "page" => filter.page = value.parse::<usize>().unwrap_or(1).saturating_sub(1),
                _ => {}
            }
        }
        filter
    }

    /// The link to another page with the same search.
    fn link(&self, page: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if !self.search.is_empty() {
            query.append_pair("q", &self.search);
        }
        query.append_pair("page", &(page + 1).to_string());
        format!("/?{}#tenants", query.finish())
    }
}

/// The banner: the overall health, and what is not healthy.
fn summary(overview: &Overview) -> Markup {
    let tenants = count_unhealthy(overview.tenants.iter().map(|t| t.health(overview.today())));
    let sinks =
        count_unhealthy(overview.sinks.iter().map(|s| s.health(overview.started, overview.now)));

    let mut parts = overview.stalled.clone();
    for ((failing, waiting), noun, if_failing, if_waiting) in [
        (tenants, "tenant", "behind", "waiting for a successful poll"),
        (sinks, "sink", "failing", "with a backlog"),
    ] {
        if failing > 0 {
            parts.push(format!("{} {if_failing}", count(failing, noun)));
        }
        if waiting > 0 {
            parts.push(format!("{} {if_waiting}", count(waiting, noun)));
        }
    }
    if parts.is_empty() {
        parts.push("every tenant is current, and every sink is up to date".to_owned());
    }

    let health = overview.health();
    let title = match health {
        Health::Healthy => "Healthy",
        Health::Waiting => "Working",
        Health::Failing => "Needs attention",
    };
    html! { p .summary .(class(health)) role="status" { b { (title) } ": " (parts.join("; ")) "." } }
}

/// The number of failing and of waiting items.
fn count_unhealthy(items: impl Iterator<Item = Health>) -> (usize, usize) {
    items.fold((0, 0), |(failing, waiting), health| match health {
        Health::Failing => (failing + 1, waiting),
        Health::Waiting => (failing, waiting + 1),
        Health::Healthy => (failing, waiting),
    })
}

fn sinks(overview: &Overview) -> Markup {
    html! {
        section {
            h2 { "Sinks" }
            table .cards {
                thead { tr {
                    th { "Sink" } th { "State" } th .n { "Records sent" } th .n { "Records rejected" } th .n { "Backlog, log entries" } th { "Oldest unsent day" } th { "Last acknowledgement" } th { "Last error" }
                } }
                tbody { @for sink in &overview.sinks { (sink_row(overview, sink)) } }
            }
        }
    }
}

fn sink_row(overview: &Overview, line: &SinkLine) -> Markup {
    let SinkLine { kind, status, state, .. } = line;
    let class = class(line.health(overview.started, overview.now));
    let state = match state {
        SinkState::Idle if status.backlog == 0 => "up to date",
        SinkState::Idle | SinkState::Working => "delivering",
        SinkState::Retrying => "retrying",
        SinkState::Parked => "parked",
    };

    html! {
        tr {
            td { b { (status.name) } " " span .meta { (kind) } }
            td { span .badge .(class) { (state) } }
            td .n data-l="Records sent" { (status.sent) } td .n data-l="Records rejected" { (status.rejected) } td .n data-l="Backlog, log entries" { (status.backlog) }
            td .t data-l="Oldest unsent day" { @if let Some(day) = status.oldest_day { (day) } }
            td .t data-l="Last acknowledgement" { (status.last_acknowledgement.map_or_else(|| "never".to_owned(), instant)) }
            td .error data-l="Last error" { (last_error(status.last_error.as_ref())) }
        }
    }
}

fn tenants(overview: &Overview, views: &Views, filter: &TenantFilter) -> Markup {
    let search = filter.search.to_lowercase();
    let mut lines: Vec<&TenantLine> = overview
        .tenants
        .iter()
        .filter(|line| search.is_empty() || line.name.to_lowercase().contains(&search))
        .collect();
    // The sort is stable: within the same health, in the order of the configuration.
    lines.sort_by_key(|line| Reverse(line.health(overview.today())));

    let pages = lines.len().div_ceil(TENANTS_PER_PAGE).max(1);
    let page = filter.page.min(pages - 1);
    let shown = lines.iter().skip(page * TENANTS_PER_PAGE).take(TENANTS_PER_PAGE);

    html! {
        section #tenants {
            h2 { "Tenants" }
            @if overview.tenants.len() > TENANTS_WITHOUT_SEARCH {
                form method="get" action="/" role="search" {
                    label { "Name " input type="search" name="q" value=(filter.search); } " "
                    button { "Search" }
                }
            }
            p .meta {
                (count(lines.len(), "tenant")) @if !search.is_empty() { " found" } ", those that need attention first"
                @if pages > 1 { " · page " (page + 1) " of " (pages) }
            }
            table .cards {
                thead { tr {
                    th { "Tenant" } th { "State" } th { "Score, 30 days" } th .n { "Score" } th .n { "Percentage points, 7 days" } th { "Newest day" } th .n { "Missing days" } th { "Last successful poll" } th { "Last error" }
                } }
                tbody { @for line in shown { (tenant_row(overview, line, views.get(&line.name))) } }
            }
            @if pages > 1 {
                p .pages {
                    @if page > 0 { a href=(filter.link(page - 1)) rel="prev" { "← previous" } " " }
                    @if page + 1 < pages { a href=(filter.link(page + 1)) rel="next" { "next →" } }
                }
            }
        }
    }
}

fn tenant_row(overview: &Overview, line: &TenantLine, view: Option<&View>) -> Markup {
    let health = line.health(overview.today());
    let state = match health {
        Health::Healthy => "current",
        Health::Waiting if line.status.last_error.is_some() => "failing",
        Health::Waiting => "waiting",
        Health::Failing => "behind",
    };
    let row = view.map(|view| &view.row);

    html! {
        tr {
            td { b { (line.name) } }
            td { span .badge .(class(health)) { (state) } }
            td data-l="Score, 30 days" { @if let Some(row) = row { (sparkline(&row.trend)) } }
            td .n data-l="Score" { @if let Some(share) = row.and_then(|row| row.percentage) { (format!("{:.1}%", share.get())) } }
            td .n data-l="Percentage points, 7 days" { @if let Some(gained) = row.and_then(|row| row.gained_7) { (signed(gained)) } }
            td .t data-l="Newest day" { (line.status.newest_day.map_or_else(|| "none".to_owned(), |day| day.to_string())) }
            td .n data-l="Missing days" { (line.status.missing) }
            td .t data-l="Last successful poll" { (line.status.last_success.map_or_else(|| "never".to_owned(), instant)) }
            td .error data-l="Last error" { (last_error(line.status.last_error.as_ref())) }
        }
    }
}

fn changes(overview: &Overview, views: &Views) -> Markup {
    let changes = views.changes(MAX_CHANGES);

    html! {
        section {
            h2 { "Recent changes" }
            @if changes.is_empty() {
                p .meta { "No changes in the last 7 days." }
            } @else {
                table {
                    thead { tr { th { "Day" } @if overview.tenants.len() > 1 { th { "Tenant" } } th { "Severity" } th { "Change" } th { "Cause" } } }
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
                    li { "to " b { (job.sink) } ": " (job.first_day) " to " (job.last_day) ", " (job.remaining) " log entries left" }
                } }
            }
        }
    }
}

fn dead_letters(overview: &Overview) -> Markup {
    let total: u64 = overview.sinks.iter().map(|sink| sink.status.dead_letters).sum();

    html! {
        section {
            h2 { "Dead letters" }
            @if total == 0 {
                p .meta { "There are no dead letters." }
            } @else {
                p .meta { (total) " in total; the newest are listed. To send them again, run " code { "replay --sink NAME --rejected" } "." }
                table {
                    thead { tr { th { "Rejected at" } th { "Sink" } th { "Day" } th { "Event ID" } th { "Receiver's message" } } }
                    tbody {
                        @for letter in &overview.dead_letters {
                            tr {
                                td .t { (instant(letter.rejected_at)) }
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

/// The CSS class of `report/style.css`.
fn class(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Waiting => "waiting",
        Health::Failing => "failing",
    }
}

/// The message of an error, shortened, and its hint in full.
fn last_error(error: Option<&Explanation>) -> Markup {
    html! {
        @if let Some(Explanation { message, hint }) = error {
            (shortened(message))
            @if let Some(hint) = hint { " " span .meta { "hint: " (hint) } }
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A time in UTC, to the minute.
fn instant(time: UnixMillis) -> String {
    jiff::Timestamp::from(time).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A number with its sign and one decimal; without a sign if it rounds to zero.
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
    fn parses_and_links_queries() {
        let filter = TenantFilter::parse("q=a%26b+c&page=3&other=x");
        assert_eq!(filter, TenantFilter { search: "a&b c".to_owned(), page: 2 });
        assert_eq!(filter.link(3), "/?q=a%26b+c&page=4#tenants");

        for invalid in ["", "page=0", "page=-1", "page=x", "&&=", "q"] {
            assert_eq!(TenantFilter::parse(invalid).page, 0, "{invalid}");
        }
        let long = TenantFilter::parse(&format!("q={}", "ä".repeat(500)));
        assert_eq!(long.search.chars().count(), 100);
    }

    #[test]
    fn shortens_errors_at_character_boundaries() {
        assert_eq!(shortened("short"), "short");
        let short = shortened(&"ü".repeat(1_000));
        assert_eq!((short.chars().count(), short.ends_with('…')), (MAX_ERROR_CHARS + 1, true));
    }

    /// Regression: the page showed an error without its hint.
    #[test]
    fn an_error_is_shown_with_its_hint() {
        let error = Explanation::new("no <token>").with_hint("run `login` again");
        assert_eq!(
            last_error(Some(&error)).into_string(),
            "no &lt;token&gt; <span class=\"meta\">hint: run `login` again</span>"
        );
        assert_eq!(last_error(None).into_string(), "");
    }
}
