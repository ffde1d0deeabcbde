//! `status` as text: one sentence, what needs attention, the tenants with failing ones first, the
//! sinks, replays and dead letters. Start reading at [`document`].

use super::{
    super::{
        as_megabytes, count, format_time, plural, render,
        table::{Column, Content, Terminal, TextTable, Tone},
    },
    View,
};
use crate::{
    checkpoint::{SinkFailure, SinkStatus, TenantStatus},
    conditions::{Condition, ConditionKind, Counts, Health, Severity, Subject, grouped, headline},
    daemon::ConfiguredTenant,
    error::Explanation,
    model::UnixMillis,
    report::with_separators,
};

/// The maximum number of groups of equal conditions that are shown.
const MAX_CONDITIONS: usize = 20;
/// The number of dead letters in the table; the JSON document lists more.
const MAX_DEAD_LETTERS: usize = 10;

pub(super) fn document(view: &View<'_>, terminal: Terminal) -> String {
    let parts = [
        summary(view),
        conditions(&view.conditions),
        tenants(view, terminal),
        sinks(view, terminal),
        replays(view),
        dead_letters(view, terminal),
        footer(view),
    ];
    let shown: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    shown.join("\n")
}

fn summary(view: &View<'_>) -> String {
    let conditions = &view.current.conditions;
    let health = Health::of(conditions).title();
    let counts = Counts::of(&view.current.facts, conditions);
    format!("{health}: {}\n", headline(counts, conditions))
}

/// One line per group of equal conditions that need attention, with its hint below.
fn conditions(conditions: &[Condition]) -> String {
    let urgent: Vec<Condition> =
        conditions.iter().filter(|c| c.severity > Severity::Info).cloned().collect();
    let groups = grouped(&urgent);

    let mut lines = String::new();
    for group in groups.iter().take(MAX_CONDITIONS) {
        let explanation = group.explanation();
        let since = group
            .condition
            .since
            .map_or_else(String::new, |since| format!(" (since {})", format_time(since)));
        let message =
            format!("{}: {}{since}", group.condition.severity.as_str(), explanation.message);
        lines += &render(&Explanation { message, hint: explanation.hint });
        lines.push('\n');
    }
    if groups.len() > MAX_CONDITIONS {
        lines += &format_more(groups.len() - MAX_CONDITIONS);
    }
    lines
}

fn format_more(conditions: usize) -> String {
    let noun = if conditions == 1 { "condition" } else { "conditions" };
    format!("{conditions} more {noun}\n")
}

fn tenants(view: &View<'_>, terminal: Terminal) -> String {
    let column = |heading, content, rank| Column { heading, content, rank };
    let mut table = TextTable::new(vec![
        column("tenant", Content::Text, 0),
        column("state", Content::Text, 0),
        column("newest day", Content::Text, 1),
        column("days", Content::Number, 5),
        column("missing days", Content::Number, 4),
        column("last successful poll", Content::Text, 3),
        column("next poll", Content::Text, 2),
    ]);

    for tenant in &view.tenants {
        let (state, tone) = tenant_state(view, tenant);
        table.row(tenant_cells(&tenant.name, state, tone, &tenant.status, tenant.next_poll));
    }
    let hidden = view.selected - view.tenants.len();
    // Tenants that are not configured are shown only in a complete list.
    let is_complete = hidden == 0 && view.selected == view.current.tenants.len();
    for status in view.current.other_tenants.iter().filter(|_| is_complete) {
        table.row(tenant_cells(&status.guid, "not configured", Tone::Plain, status, None));
    }

    let more = if hidden > 0 {
        let noun = if hidden == 1 { "tenant" } else { "tenants" };
        let explanation = Explanation::new(format!("{hidden} more {noun}"));
        render(&explanation.with_hint("use `--limit` or `--failing`")) + "\n"
    } else {
        String::new()
    };
    table.render(terminal) + &more
}

fn tenant_cells(
    name: &str,
    state: &str,
    tone: Tone,
    status: &TenantStatus,
    next_poll: Option<UnixMillis>,
) -> Vec<(String, Tone)> {
    let newest = status.newest_day.map_or_else(|| "none".to_owned(), |day| day.to_string());
    vec![
        (name.to_owned(), Tone::Plain),
        (state.to_owned(), tone),
        (newest, Tone::Plain),
        (with_separators(status.days), Tone::Plain),
        (with_separators(status.missing), Tone::Plain),
        (status.last_success.map_or_else(|| "never".to_owned(), format_time), Tone::Plain),
        (next_poll.map_or_else(String::new, format_time), Tone::Plain),
    ]
}

/// One word for the state of a tenant.
pub(super) fn tenant_state(view: &View<'_>, tenant: &ConfiguredTenant) -> (&'static str, Tone) {
    let subject = Subject::Tenant(tenant.name.clone());
    let is_behind = view.conditions.iter().any(|condition| {
        condition.kind == ConditionKind::TenantBehind && condition.subject == subject
    });
    match view.severity_of(&subject) {
        _ if is_behind => ("behind", Tone::Bad),
        None => ("current", Tone::Good),
        Some(Severity::Info) => ("waiting", Tone::Plain),
        Some(Severity::Warning) => ("degraded", Tone::Warning),
        Some(Severity::Error) => ("failing", Tone::Bad),
    }
}

fn sinks(view: &View<'_>, terminal: Terminal) -> String {
    let column = |heading, content, rank| Column { heading, content, rank };
    let mut table = TextTable::new(vec![
        column("sink", Content::Text, 0),
        column("state", Content::Text, 0),
        column("records sent", Content::Number, 3),
        column("records rejected", Content::Number, 4),
        column("backlog, log entries", Content::Number, 1),
        column("oldest unsent day", Content::Text, 5),
        column("last acknowledgement", Content::Text, 2),
    ]);

    for sink in &view.sinks {
        let (state, tone) = sink_state(view, sink);
        table.row(vec![
            (sink.name.clone(), Tone::Plain),
            (state.to_owned(), tone),
            (with_separators(sink.sent), Tone::Plain),
            (with_separators(sink.rejected), Tone::Plain),
            (with_separators(sink.backlog), Tone::Plain),
            (sink.oldest_day.map_or_else(String::new, |day| day.to_string()), Tone::Plain),
            (
                sink.last_acknowledgement.map_or_else(|| "never".to_owned(), format_time),
                Tone::Plain,
            ),
        ]);
    }
    if view.sinks.is_empty() { String::new() } else { table.render(terminal) }
}

/// One word for the state of a sink.
pub(super) fn sink_state(view: &View<'_>, sink: &SinkStatus) -> (&'static str, Tone) {
    match (sink.failure, view.severity_of(&Subject::Sink(sink.name.clone()))) {
        (Some(SinkFailure::Parked), _) => ("parked", Tone::Bad),
        (Some(SinkFailure::Retrying), severity) => {
            let tone = if severity == Some(Severity::Error) { Tone::Bad } else { Tone::Warning };
            ("retrying", tone)
        }
        (None, None) => ("up to date", Tone::Good),
        (None, Some(Severity::Error)) => ("rejected records", Tone::Bad),
        (None, Some(Severity::Warning)) => ("silent", Tone::Warning),
        (None, Some(Severity::Info)) => ("delivering", Tone::Plain),
    }
}

/// One line per replay that is not finished.
fn replays(view: &View<'_>) -> String {
    let lines = view.current.stored.replays.iter().map(|job| {
        let left = plural(job.remaining, "log entry", "log entries");
        format!("replay to `{}`: {} to {}, {left} left\n", job.sink, job.first_day, job.last_day)
    });
    lines.collect()
}

/// The newest dead letters, and how to send them again.
fn dead_letters(view: &View<'_>, terminal: Terminal) -> String {
    let selected: Vec<_> = view
        .current
        .stored
        .dead_letters
        .iter()
        .filter(|letter| view.sinks.iter().any(|sink| sink.name == letter.sink))
        .collect();
    if selected.is_empty() {
        return String::new();
    }

    let column = |heading, rank| Column { heading, content: Content::Text, rank };
    let mut table = TextTable::new(vec![
        column("dead letter", 0),
        column("sink", 3),
        column("tenant", 2),
        column("day", 1),
        column("reason", 0),
    ]);
    for letter in selected.iter().take(MAX_DEAD_LETTERS) {
        let id = letter.tenant.to_string();
        let known = view.current.tenants.iter().find(|tenant| tenant.id == Some(letter.tenant));
        table.row(vec![
            (letter.event_id.to_string(), Tone::Plain),
            (letter.sink.clone(), Tone::Plain),
            (known.map_or(id, |tenant| tenant.name.clone()), Tone::Plain),
            (letter.day.map_or_else(String::new, |day| day.to_string()), Tone::Plain),
            (letter.reason.clone(), Tone::Plain),
        ]);
    }

    let total: u64 = view.sinks.iter().map(|sink| sink.dead_letters).sum();
    let shown = if total > MAX_DEAD_LETTERS as u64 {
        format!(", of which the newest {MAX_DEAD_LETTERS} are shown")
    } else {
        String::new()
    };
    let explanation = Explanation::new(format!("{}{shown}", count(total, "dead letter")))
        .with_hint("run `dead-letters retry` or `dead-letters discard`");
    format!("{}{}\n", table.render(terminal), render(&explanation))
}

fn footer(view: &View<'_>) -> String {
    let daemon = view.holder.map_or_else(
        || "no daemon is running".to_owned(),
        |holder| {
            let version =
                holder.version.as_ref().map_or_else(String::new, |v| format!(", version {v}"));
            let since = holder
                .since
                .map_or_else(String::new, |time| format!(", since {}", format_time(time)));
            format!("the daemon is running as process {}{version}{since}", holder.pid)
        },
    );
    format!("{daemon}; checkpoint: {:.1} MB\n", as_megabytes(view.current.stored.size))
}
