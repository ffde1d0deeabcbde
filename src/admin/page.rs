//! The status page: one HTML document without scripts and without external resources. maud escapes
//! all text. Start reading at [`render`].

use std::cmp::Reverse;

use maud::{Markup, html};

use super::{
    overview::{Overview, SinkLine, TenantLine},
    views::{View, Views},
};
use crate::{
    conditions::{Condition, ConditionKind, Counts, Group, Health, Severity, grouped, headline},
    daemon::SinkState,
    error::Explanation,
    model::UnixMillis,
    report::{document, sparkline, with_separators},
};

/// The number of tenants per page.
const TENANTS_PER_PAGE: usize = 100;
/// The maximum number of changes in the list.
const MAX_CHANGES: usize = 25;
/// The number of columns of the tables, for rows that span all of them.
const SINK_COLUMNS: usize = 7;
const TENANT_COLUMNS: usize = 9;
/// The maximum number of groups of equal conditions in the list.
const MAX_CONDITIONS: usize = 25;
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
            (attention(overview))
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

/// The banner: the overall health in one sentence.
fn summary(overview: &Overview) -> Markup {
    let health = Health::of(&overview.conditions);
    let counts = Counts::of(&overview.facts, &overview.conditions);
    let class = class(overview.conditions.iter().map(|condition| condition.severity).max());
    html! {
        p .summary .(class) role="status" {
            b { (health.title()) } ": " (headline(counts, &overview.conditions)) "."
        }
    }
}

/// The conditions that need attention, one row for equal conditions of several subjects.
fn attention(overview: &Overview) -> Markup {
    let urgent: Vec<Condition> =
        overview.conditions.iter().filter(|c| c.severity > Severity::Info).cloned().collect();
    let groups = grouped(&urgent);

    html! {
        @if !groups.is_empty() {
            section #conditions {
                h2 { "Conditions" }
                table .cards {
                    thead { tr { th { "Severity" } th { "Condition" } th { "Since" } th { "Hint" } } }
                    tbody { @for group in groups.iter().take(MAX_CONDITIONS) { (condition_row(group)) } }
                }
                @if groups.len() > MAX_CONDITIONS {
                    p .meta { (count(groups.len() - MAX_CONDITIONS, "condition")) " more; run " code { "secure-score-forwarder status" } }
                }
            }
        }
    }
}

fn condition_row(group: &Group) -> Markup {
    let severity = group.condition.severity;
    let Explanation { message, hint } = group.explanation();
    html! {
        tr {
            td { span .badge .(class(Some(severity))) { (severity.as_str()) } }
            td .error { (message) }
            td .t data-l="Since" { @if let Some(since) = group.condition.since { (instant(since)) } }
            td .error data-l="Hint" { @if let Some(hint) = hint { (hint) } }
        }
    }
}

fn sinks(overview: &Overview) -> Markup {
    html! {
        section {
            h2 { "Sinks" }
            table .cards {
                thead { tr {
                    th { "Sink" } th { "State" } th .n { "Records sent" } th .n { "Records rejected" } th .n { "Backlog, log entries" } th { "Oldest unsent day" } th { "Last acknowledgement" }
                } }
                tbody { @for sink in &overview.sinks { (sink_row(sink)) } }
            }
        }
    }
}

fn sink_row(line: &SinkLine) -> Markup {
    let SinkLine { kind, status, state, .. } = line;
    let class = class(line.severity());
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
            td .n data-l="Records sent" { (with_separators(status.sent)) }
            td .n data-l="Records rejected" { (with_separators(status.rejected)) }
            td .n data-l="Backlog, log entries" { (with_separators(status.backlog)) }
            td .t data-l="Oldest unsent day" { @if let Some(day) = status.oldest_day { (day) } }
            td .t data-l="Last acknowledgement" { (status.last_acknowledgement.map_or_else(|| "never".to_owned(), instant)) }
        }
        (detail_row(&line.conditions, SINK_COLUMNS))
    }
}

/// A row below the row of a tenant or a sink, with its conditions. Nothing without conditions.
fn detail_row(conditions: &[Condition], columns: usize) -> Markup {
    html! {
        @if !conditions.is_empty() {
            tr .detail { td .error colspan=(columns) { (listed(conditions)) } }
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
    // The sort is stable: within the same severity, in the order of the configuration.
    lines.sort_by_key(|line| Reverse(line.severity()));

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
                    th { "Tenant" } th { "State" } th { "Score, 30 days" } th .n { "Score" } th .n { "Percentage points, 7 days" } th { "Newest day" } th .n { "Missing days" } th { "Last successful poll" } th { "Next poll" }
                } }
                tbody { @for line in shown { (tenant_row(line, views.get(&line.name))) } }
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

fn tenant_row(line: &TenantLine, view: Option<&View>) -> Markup {
    let severity = line.severity();
    let state = if line.has(ConditionKind::TenantBehind) {
        "behind"
    } else {
        match severity {
            None => "current",
            Some(Severity::Info) => "waiting",
            Some(Severity::Warning) => "degraded",
            Some(Severity::Error) => "failing",
        }
    };
    let row = view.map(|view| &view.row);

    html! {
        tr {
            td { b { (line.name) } }
            td { span .badge .(class(severity)) { (state) } }
            td data-l="Score, 30 days" { @if let Some(row) = row { (sparkline(&row.trend)) } }
            td .n data-l="Score" { @if let Some(share) = row.and_then(|row| row.percentage) { (format!("{:.1}%", share.get())) } }
            td .n data-l="Percentage points, 7 days" { @if let Some(gained) = row.and_then(|row| row.gained_7) { (signed(gained)) } }
            td .t data-l="Newest day" { (line.status.newest_day.map_or_else(|| "none".to_owned(), |day| day.to_string())) }
            td .n data-l="Missing days" { (line.status.missing) }
            td .t data-l="Last successful poll" { (line.status.last_success.map_or_else(|| "never".to_owned(), instant)) }
            td .t data-l="Next poll" { @if let Some(time) = line.next_poll { (instant(time)) } }
        }
        (detail_row(&line.conditions, TENANT_COLUMNS))
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
                p .meta { (total) " in total; the newest are listed. To send them again, run " code { "dead-letters retry --sink NAME" } "." }
                table {
                    thead { tr { th { "Rejected at" } th { "Sink" } th { "Day" } th { "Event ID" } th { "Receiver's message" } } }
                    tbody {
                        @for letter in &overview.dead_letters {
                            tr {
                                td .t { (instant(letter.rejected_at)) }
                                td { (letter.sink) }
                                td .t { @if let Some(day) = letter.day { (day) } }
                                td { code { (letter.event_id) } }
                                td .error { (letter.reason) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The CSS class of `report/style.css`.
fn class(severity: Option<Severity>) -> &'static str {
    match severity {
        None => "healthy",
        Some(Severity::Info | Severity::Warning) => "waiting",
        Some(Severity::Error) => "failing",
    }
}

/// The sentences of the conditions with their hints. Neither is ever cut.
fn listed(conditions: &[Condition]) -> Markup {
    html! {
        @for (index, condition) in conditions.iter().enumerate() {
            @if index > 0 { br; }
            (condition.sentence)
            @if let Some(hint) = &condition.hint { " " span .meta { "hint: " (hint) } }
        }
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
    use crate::conditions::Subject;

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

    /// Regression: the page cut a long error exactly before its hint.
    #[test]
    fn conditions_are_shown_in_full() {
        let condition = Condition {
            severity: Severity::Error,
            kind: ConditionKind::CredentialRejected,
            subject: Subject::Tenant("contoso".to_owned()),
            sentence: format!("no <token>{}", "x".repeat(1_000)),
            hint: Some("run `login` again".to_owned()),
            since: None,
        };
        assert_eq!(
            listed(&[condition]).into_string(),
            format!(
                "no &lt;token&gt;{} <span class=\"meta\">hint: run `login` again</span>",
                "x".repeat(1_000)
            )
        );
        assert_eq!(listed(&[]).into_string(), "");
    }
}
