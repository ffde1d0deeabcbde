//! The status page: one HTML document without scripts and without external resources.
//!
//! maud escapes all text. The page must not decide what is healthy: states and colors follow from
//! the conditions. Start reading at [`render`].

use std::cmp::Reverse;

use maud::{Markup, html};

use super::{
    overview::{SinkLine, StatusOverview, TenantLine},
    views::{TenantView, Views},
};
use crate::{
    checkpoint::DeadLetterReason,
    conditions::{
        BySubject, Condition, ConditionSeverity, Counts, Group, Health, grouped, headline,
    },
    error::Explanation,
    report::{document, sparkline},
    text::{count, minute, percent, plural, signed, size, with_separators},
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
/// The maximum number of different messages of receivers in the list of dead letters.
const MAX_REASONS: usize = 25;
/// The maximum number of characters of a search text.
const MAX_SEARCH_CHARS: usize = 100;
/// With more tenants than this, the page has a search field.
const TENANTS_WITHOUT_SEARCH: usize = 10;

/// Renders the page for the query part of a URL.
pub(super) fn render(overview: &StatusOverview, views: &Views, query: &str) -> String {
    let filter = TenantQuery::parse(query);
    let by_subject = BySubject::new(&overview.conditions);

    let body = html! {
        header {
            h1 { "secure-score-forwarder on " (overview.host) }
            (summary(overview))
            p .meta {
                "Version " (env!("CARGO_PKG_VERSION")) " · up since " (minute(overview.started))
                " · as of " (minute(overview.now)) " · checkpoint " (size(overview.size)) ", " (size(overview.free)) " free"
            }
        }
        main {
            (attention(&overview.conditions))
            (sinks(&overview.sinks, &by_subject))
            (tenants(overview, &by_subject, views, &filter))
            (changes(overview, views))
            (replays(overview))
            (dead_letters(overview))
            p .meta .links { a href="/metrics" { "Metrics" } " · " a href="/readyz" { "Readiness" } " · " a href="/" { "Reload" } }
        }
    };
    document("Status of secure-score-forwarder", &html! { div .wide .status { (body) } })
}

/// Which tenants are shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct TenantQuery {
    /// A part of the tenant's name, not case-sensitive.
    search: String,
    /// The number of the page, counted from 0; in the query, it is counted from 1.
    page: usize,
}

impl TenantQuery {
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
fn summary(overview: &StatusOverview) -> Markup {
    let health = Health::of(&overview.conditions);
    let counts = Counts::of(&overview.facts, &overview.conditions);
    html! {
        p .summary .(health.as_str()) role="status" {
            b { (health.title()) } ": " (headline(counts, &overview.conditions)) "."
        }
    }
}

/// The conditions that need attention, one row for equal conditions of several subjects.
fn attention(conditions: &[Condition]) -> Markup {
    let groups = grouped(conditions.iter().filter(|c| c.needs_attention()));

    html! {
        @if !groups.is_empty() {
            section #conditions {
                h2 { "Conditions" }
                table .cards {
                    thead { tr { th { "Severity" } th { "Condition" } th { "Since" } th { "Hint" } } }
                    tbody { @for group in groups.iter().take(MAX_CONDITIONS) { (condition_row(group)) } }
                }
                @if groups.len() > MAX_CONDITIONS {
                    p .meta { (count(groups.len() - MAX_CONDITIONS, "condition")) " more" }
                    p .meta { "hint: run " code { "secure-score-forwarder status" } " to list all of them" }
                }
            }
        }
    }
}

fn condition_row(group: &Group<'_>) -> Markup {
    let severity = group.condition.severity;
    let Explanation { message, hint } = group.explanation();
    html! {
        tr {
            td { span .badge .(class(Some(severity))) { (severity.as_str()) } }
            td .error { (message) }
            td .t data-l="Since" { @if let Some(since) = group.condition.since { (minute(since)) } }
            td .error data-l="Hint" { @if let Some(hint) = hint { (hint) } }
        }
    }
}

/// The sinks, those that need attention first.
fn sinks(sinks: &[SinkLine], by_subject: &BySubject<'_>) -> Markup {
    let mut sinks: Vec<&SinkLine> = sinks.iter().collect();
    // The sort is stable: within the same severity, in the order in which they were added.
    sinks.sort_by_key(|line| Reverse(line.severity));

    html! {
        section {
            h2 { "Sinks" }
            table .cards {
                thead { tr {
                    th { "Sink" } th { "State" } th .n { "Records sent" } th .n { "Records rejected" } th .n { "Backlog, log entries" } th { "Oldest unsent day" } th { "Last acknowledgement" }
                } }
                tbody { @for sink in sinks { (sink_row(sink, by_subject)) } }
            }
        }
    }
}

fn sink_row(line: &SinkLine, by_subject: &BySubject<'_>) -> Markup {
    let SinkLine { kind, status, health, severity, .. } = line;

    html! {
        tr {
            td { b { (status.name) } " " span .meta { (kind) } }
            td { span .badge .(class(*severity)) { (health.title()) } }
            td .n data-l="Records sent" { (with_separators(status.sent)) }
            td .n data-l="Records rejected" { (with_separators(status.rejected)) }
            td .n data-l="Backlog, log entries" { (with_separators(status.backlog)) }
            td .t data-l="Oldest unsent day" { @if let Some(day) = status.oldest_day { (day) } }
            td .t data-l="Last acknowledgement" { (status.last_acknowledgement.map_or_else(|| "never".to_owned(), minute)) }
        }
        (detail_row(by_subject.sink(&status.name), SINK_COLUMNS))
    }
}

/// A row below the row of a tenant or a sink, with its conditions. Nothing without conditions.
fn detail_row(conditions: &[&Condition], columns: usize) -> Markup {
    html! {
        @if !conditions.is_empty() {
            tr .detail { td .error colspan=(columns) { (listed(conditions)) } }
        }
    }
}

fn tenants(
    overview: &StatusOverview,
    by_subject: &BySubject<'_>,
    views: &Views,
    filter: &TenantQuery,
) -> Markup {
    let search = filter.search.to_lowercase();
    let mut lines: Vec<&TenantLine> = overview
        .tenants
        .iter()
        .filter(|line| search.is_empty() || line.name.to_lowercase().contains(&search))
        .collect();
    // The sort is stable: within the same severity, in the order of the configuration.
    lines.sort_by_key(|line| Reverse(line.severity));

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
                tbody { @for line in shown { (tenant_row(line, by_subject, views.get(&line.name))) } }
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

fn tenant_row(line: &TenantLine, by_subject: &BySubject<'_>, view: Option<&TenantView>) -> Markup {
    let row = view.map(|view| &view.row);
    let polled = line.status.polled;

    html! {
        tr {
            td { b { (line.name) } }
            td { span .badge .(class(line.severity)) { (line.health.title()) } }
            td data-l="Score, 30 days" { @if let Some(row) = row { (sparkline(&row.trend)) } }
            td .n data-l="Score" { @if let Some(share) = row.and_then(|row| row.percentage) { (percent(share.get())) } }
            td .n data-l="Percentage points, 7 days" { @if let Some(gained) = row.and_then(|row| row.gained_7) { (signed(gained)) } }
            td .t data-l="Newest day" { (polled.newest_day.map_or_else(|| "none".to_owned(), |day| day.to_string())) }
            td .n data-l="Missing days" { (with_separators(line.status.missing)) }
            td .t data-l="Last successful poll" { (polled.last_success.map_or_else(|| "never".to_owned(), minute)) }
            td .t data-l="Next poll" { @if let Some(time) = line.next_poll { (minute(time)) } }
        }
        (detail_row(by_subject.tenant(&line.name), TENANT_COLUMNS))
    }
}

fn changes(overview: &StatusOverview, views: &Views) -> Markup {
    let changes = views.changes(MAX_CHANGES);

    html! {
        section {
            h2 { "Recent changes" }
            @if changes.is_empty() {
                p .meta { "No changes in the last 7 days." }
            } @else {
                table .cards {
                    thead { tr { th { "Day" } @if overview.tenants.len() > 1 { th { "Tenant" } } th { "Severity" } th { "Change" } th { "Cause" } } }
                    tbody {
                        @for (tenant, change) in changes {
                            tr {
                                td .t { (change.day) }
                                @if overview.tenants.len() > 1 { td .wrap { (tenant) } }
                                td { span .badge .(change.severity.as_str()) { (change.severity.as_str()) } }
                                td .error { (change.sentence) }
                                td data-l="Cause" { (change.cause.as_str()) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn replays(overview: &StatusOverview) -> Markup {
    html! {
        @if !overview.replays.is_empty() {
            section {
                h2 { "Replays" }
                ul { @for job in &overview.replays {
                    li { "to " b { (job.sink) } ": " (job.first_day) " to " (job.last_day) ", " (plural(job.remaining, "log entry", "log entries")) " left" }
                } }
            }
        }
    }
}

/// The dead letters, with one row for each message of a receiver.
fn dead_letters(overview: &StatusOverview) -> Markup {
    let reasons = DeadLetterReason::of(&overview.dead_letters);
    let total: u64 = reasons.iter().map(|reason| reason.letters).sum();

    html! {
        section {
            h2 { "Dead letters" }
            @if reasons.is_empty() {
                p .meta { "There are no dead letters." }
            } @else {
                p .meta { (count(total, "dead letter")) }
                p .meta { "hint: run " code { "secure-score-forwarder dead-letters list" } " to list them, and " code { "dead-letters retry --sink NAME" } " to send them again" }
                table .cards {
                    thead { tr { th { "Sink" } th .n { "Dead letters" } th .n { "Tenants" } th { "Last rejected at" } th { "Receiver's message" } } }
                    tbody { @for reason in reasons.iter().take(MAX_REASONS) { (reason_row(reason)) } }
                }
                @if reasons.len() > MAX_REASONS {
                    p .meta { (plural(reasons.len() - MAX_REASONS, "more message", "more messages")) }
                }
            }
        }
    }
}

fn reason_row(reason: &DeadLetterReason<'_>) -> Markup {
    html! {
        tr {
            td { b { (reason.sink) } }
            td .n data-l="Dead letters" { (with_separators(reason.letters)) }
            td .n data-l="Tenants" { (with_separators(reason.tenants)) }
            td .t data-l="Last rejected at" { (minute(reason.newest_at)) }
            td .error data-l="Receiver's message" { (reason.reason) }
        }
    }
}

/// The CSS class of `report/style.css`, which is the word of the severity.
fn class(severity: Option<ConditionSeverity>) -> &'static str {
    Health::of_severity(severity).as_str()
}

/// The sentences of the conditions with their hints. Neither is ever cut.
fn listed(conditions: &[&Condition]) -> Markup {
    html! {
        @for (index, condition) in conditions.iter().enumerate() {
            @if index > 0 { br; }
            (condition.sentence)
            @if let Some(hint) = &condition.hint { " " span .meta { "hint: " (hint) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::SinkStatus,
        conditions::{
            ConditionKind, ConditionSubject, SinkHealth, conditions, severity_of,
            tests::fleet::{self, TENANTS},
        },
        model::SinkName,
    };

    fn line(name: &str, by_subject: &BySubject<'_>) -> SinkLine {
        let name = SinkName::new(name);
        let of_sink = by_subject.sink(&name);
        SinkLine {
            kind: "syslog",
            health: SinkHealth::of(of_sink),
            severity: severity_of(of_sink),
            status: SinkStatus { name, ..SinkStatus::default() },
            batches: 1,
            bytes: 1,
            retries: 0,
            parked_targets: Vec::new(),
        }
    }

    #[test]
    fn a_fleet_lists_each_condition_once() {
        let conditions = conditions(&fleet::facts());
        let table = attention(&conditions).into_string();
        assert!(table.matches("<tr>").count() < 20, "{TENANTS} tenants: {table}");
        for condition in &conditions {
            let message = html! { (condition.explanation().message) }.into_string();
            assert_eq!(table.matches(&message).count(), 1, "{message}: {table}");
        }
    }

    /// Regression: sinks were listed in the order of the configuration.
    #[test]
    fn failing_sinks_are_first() {
        let conditions = conditions(&fleet::facts());
        let by_subject = BySubject::new(&conditions);
        let lines = ["healthy", "c", "a"].map(|name| line(name, &by_subject));
        let table = sinks(&lines, &by_subject).into_string();
        let position = |name: &str| table.find(&format!("<b>{name}</b>")).unwrap();
        assert!(position("a") < position("c") && position("c") < position("healthy"), "{table}");
    }

    #[test]
    fn parses_and_links_queries() {
        let filter = TenantQuery::parse("q=a%26b+c&page=3&other=x");
        assert_eq!(filter, TenantQuery { search: "a&b c".to_owned(), page: 2 });
        assert_eq!(filter.link(3), "/?q=a%26b+c&page=4#tenants");

        for invalid in ["", "page=0", "page=-1", "page=x", "&&=", "q"] {
            assert_eq!(TenantQuery::parse(invalid).page, 0, "{invalid}");
        }
        let long = TenantQuery::parse(&format!("q={}", "ä".repeat(500)));
        assert_eq!(long.search.chars().count(), 100);
    }

    /// Regression: the page cut a long error exactly before its hint.
    #[test]
    fn conditions_are_shown_in_full() {
        let condition = Condition {
            severity: ConditionSeverity::Error,
            kind: ConditionKind::CredentialRejected,
            subject: ConditionSubject::Tenant("contoso".to_owned()),
            sentence: format!("no <token>{}", "x".repeat(1_000)),
            hint: Some("run `login` again".to_owned()),
            since: None,
        };
        assert_eq!(
            listed(&[&condition]).into_string(),
            format!(
                "no &lt;token&gt;{} <span class=\"meta\">hint: run `login` again</span>",
                "x".repeat(1_000)
            )
        );
        assert_eq!(listed(&[]).into_string(), "");
    }

    /// Regression: the page showed a sink with dead letters as up to date, and `status` did not.
    #[test]
    fn a_sink_state_follows_from_its_conditions() {
        let conditions = [Condition {
            severity: ConditionSeverity::Error,
            kind: ConditionKind::DeadLetters,
            subject: ConditionSubject::Sink("siem".into()),
            sentence: "the receiver rejected 7 records".to_owned(),
            hint: None,
            since: None,
        }];
        let by_subject = BySubject::new(&conditions);
        let of_sink = by_subject.sink(&"siem".into());

        assert_eq!(of_sink.len(), 1);

        let row = sink_row(&line("siem", &by_subject), &by_subject).into_string();
        assert!(row.contains("<span class=\"badge failing\">rejected records</span>"), "{row}");
        assert!(row.contains("the receiver rejected 7 records"), "{row}");
    }
}
