//! `status` as text: one sentence, what needs attention, the tenants with failing ones first, the
//! sinks, replays and dead letters. The sentence and the hint of a condition are never cut. Start
//! reading at [`document`].

use super::{
    super::{
        format_time, render,
        table::{Column, Content, Terminal, TextTable, Tone},
    },
    StatusView,
};
use crate::{
    checkpoint::{DeadLetterReason, TenantStatus},
    conditions::{
        Condition, ConditionSeverity, ConfigurationFacts, SinkHealth, TenantHealth, grouped,
        severity_of,
    },
    daemon::LiveFactsState,
    error::Explanation,
    model::UnixMillis,
    text::{count, plural, size, with_separators},
};

/// The maximum number of groups of equal conditions that are shown.
const MAX_CONDITIONS: usize = 20;
/// The number of different messages of receivers in the table of dead letters.
const MAX_REASONS: usize = 10;
/// The number of characters to which a message of a receiver is shortened before a column is
/// hidden.
const MIN_REASON: usize = 30;

/// Whether the table of tenants has a column with the number of queued commands, which are rarely
/// queued for longer than a moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QueuedColumn {
    Shown,
    Omitted,
}

/// The text: its parts are separated by an empty line.
pub(super) fn document(view: &StatusView<'_>, terminal: Terminal) -> String {
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

fn summary(view: &StatusView<'_>) -> String {
    format!("{}: {}\n", view.health().title(), view.headline())
}

/// One line per group of equal conditions that need attention, with its hint below.
fn conditions(conditions: &[&Condition]) -> String {
    let groups = grouped(conditions.iter().copied().filter(|c| c.needs_attention()));

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
        let more = groups.len() - MAX_CONDITIONS;
        lines += &plural(more, "more condition", "more conditions");
        lines.push('\n');
    }
    lines
}

fn tenants(view: &StatusView<'_>, terminal: Terminal) -> String {
    let mut statuses = view.tenants.iter().map(|tenant| &tenant.status).chain(view.other_tenants());
    let queued = if statuses.any(|status| status.queued_commands > 0) {
        QueuedColumn::Shown
    } else {
        QueuedColumn::Omitted
    };

    let mut table = TextTable::new(tenant_columns(queued));
    let now = view.current.facts.now;
    for tenant in &view.tenants {
        let of_tenant = view.by_subject.tenant(&tenant.name);
        let state = (TenantHealth::of(of_tenant).title(), tone(severity_of(of_tenant)));
        let next_poll = tenant.next_poll.map_or_else(String::new, |time| poll_time(time, now));
        table.row(tenant_cells(&tenant.name, state, &tenant.status, next_poll, queued));
    }
    let state = match view.current.facts.configuration {
        ConfigurationFacts::Invalid(_) => "unknown",
        ConfigurationFacts::InForce | ConfigurationFacts::Changed => "not configured",
    };
    for status in view.other_tenants() {
        let id = status.id.map(|id| id.to_string()).unwrap_or_default();
        table.row(tenant_cells(&id, (state, Tone::Plain), status, String::new(), queued));
    }

    let is_empty = view.tenants.is_empty() && view.other_tenants().is_empty();
    let table = if is_empty { String::new() } else { table.render(terminal) };
    table + &more_tenants(view)
}

fn tenant_columns(queued: QueuedColumn) -> Vec<Column> {
    let mut columns = vec![
        Column::new("tenant", Content::Text, 0),
        Column::new("state", Content::Text, 0),
        Column::new("newest day", Content::Text, 1),
        Column::new("days", Content::Number, 5),
        Column::new("missing days", Content::Number, 4),
        Column::new("last successful poll", Content::Text, 3),
        Column::new("next poll", Content::Text, 2),
    ];
    if queued == QueuedColumn::Shown {
        columns.push(Column::new("queued commands", Content::Number, 1));
    }
    columns
}

fn tenant_cells(
    name: &str,
    (state, tone): (&str, Tone),
    status: &TenantStatus,
    next_poll: String,
    queued: QueuedColumn,
) -> Vec<(String, Tone)> {
    let polled = status.polled;
    let newest = polled.newest_day.map_or_else(|| "none".to_owned(), |day| day.to_string());
    let mut cells = vec![
        (name.to_owned(), Tone::Plain),
        (state.to_owned(), tone),
        (newest, Tone::Plain),
        (with_separators(status.days), Tone::Plain),
        (with_separators(status.missing), Tone::Plain),
        (polled.last_success.map_or_else(|| "never".to_owned(), format_time), Tone::Plain),
        (next_poll, Tone::Plain),
    ];
    if queued == QueuedColumn::Shown {
        cells.push((with_separators(status.queued_commands), Tone::Plain));
    }
    cells
}

/// The time of a poll that is due, or `now`.
fn poll_time(time: UnixMillis, now: UnixMillis) -> String {
    if time <= now { "now".to_owned() } else { format_time(time) }
}

/// The number of tenants that are not shown.
fn more_tenants(view: &StatusView<'_>) -> String {
    let hidden = view.selected - view.tenants.len();
    if hidden == 0 {
        return String::new();
    }
    let explanation = Explanation::new(plural(hidden, "more tenant", "more tenants"));
    let hint =
        if view.selection.failing { "use `--limit`" } else { "use `--limit` or `--failing`" };
    render(&explanation.with_hint(hint)) + "\n"
}

/// The tone of the state of a tenant or a sink.
fn tone(severity: Option<ConditionSeverity>) -> Tone {
    match severity {
        None => Tone::Good,
        Some(ConditionSeverity::Info) => Tone::Plain,
        Some(ConditionSeverity::Warning) => Tone::Warning,
        Some(ConditionSeverity::Error) => Tone::Bad,
    }
}

fn sinks(view: &StatusView<'_>, terminal: Terminal) -> String {
    let mut table = TextTable::new(vec![
        Column::new("sink", Content::Text, 0),
        Column::new("state", Content::Text, 0),
        Column::new("records sent", Content::Number, 3),
        Column::new("records rejected", Content::Number, 4),
        Column::new("backlog, log entries", Content::Number, 1),
        Column::new("oldest unsent day", Content::Text, 5),
        Column::new("last acknowledgement", Content::Text, 2),
    ]);

    for sink in &view.sinks {
        let of_sink = view.by_subject.sink(&sink.name);
        table.row(vec![
            (sink.name.to_string(), Tone::Plain),
            (SinkHealth::of(of_sink).title().to_owned(), tone(severity_of(of_sink))),
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

/// One line per replay that is not finished.
fn replays(view: &StatusView<'_>) -> String {
    let lines = view.replays().map(|job| {
        let left = plural(job.remaining, "log entry", "log entries");
        format!("replay to `{}`: {} to {}, {left} left\n", job.sink, job.first_day, job.last_day)
    });
    lines.collect()
}

/// The dead letters, with one line for each message of a receiver, and how to send them again.
fn dead_letters(view: &StatusView<'_>, terminal: Terminal) -> String {
    let reasons = DeadLetterReason::of(view.dead_letter_groups());
    if reasons.is_empty() {
        return String::new();
    }

    let mut table = TextTable::new(vec![
        Column::new("sink", Content::Text, 0),
        Column::new("dead letters", Content::Number, 1),
        Column::new("tenants", Content::Number, 2),
        Column::new("last rejected at", Content::Text, 3),
        Column::new("receiver's message", Content::Label { min: MIN_REASON }, 0),
    ]);
    for reason in reasons.iter().take(MAX_REASONS) {
        table.row(vec![
            (reason.sink.to_string(), Tone::Plain),
            (with_separators(reason.letters), Tone::Plain),
            (with_separators(reason.tenants), Tone::Plain),
            (format_time(reason.newest_at), Tone::Plain),
            (reason.reason.to_owned(), Tone::Plain),
        ]);
    }

    let total: u64 = reasons.iter().map(|reason| reason.letters).sum();
    let more = match reasons.len().saturating_sub(MAX_REASONS) {
        0 => String::new(),
        more => format!("; {}", plural(more, "more message", "more messages")),
    };
    let explanation = Explanation::new(format!("{}{more}", count(total, "dead letter"))).with_hint(
        "run `dead-letters list`, and then `dead-letters retry` or `dead-letters discard`",
    );
    format!("{}{}\n", table.render(terminal), render(&explanation))
}

fn footer(view: &StatusView<'_>) -> String {
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
    format!("{daemon}; checkpoint: {}\n{}", size(view.current.stored.size), note(view))
}

/// What the status does not contain, although nothing is wrong.
fn note(view: &StatusView<'_>) -> String {
    if view.current.live_facts != LiveFactsState::NotPermitted {
        return String::new();
    }
    let message = "note: a fault of the storage, which only the daemon knows, is not included: only root and the user of the service may ask the daemon";
    let note =
        Explanation::new(message).with_hint("run `status` as root or as the user of the service");
    render(&note) + "\n"
}
