//! `status` as text: one sentence, what needs attention, the tenants with failing ones first, the
//! sinks, replays and dead letters. Start reading at [`document`].

use super::{
    super::{
        format_time, render,
        table::{Column, Content, Terminal, TextTable, Tone},
    },
    StatusView,
};
use crate::{
    checkpoint::TenantStatus,
    conditions::{
        Condition, ConditionSeverity, Counts, Health, SinkHealth, TenantHealth, grouped, headline,
        severity_of,
    },
    error::Explanation,
    model::UnixMillis,
    text::{count, plural, size, with_separators},
};

/// The maximum number of groups of equal conditions that are shown.
const MAX_CONDITIONS: usize = 20;
/// The number of dead letters in the table; the JSON document lists more.
const MAX_DEAD_LETTERS: usize = 10;

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
    let conditions = &view.current.conditions;
    let health = Health::of(conditions).title();
    let counts = Counts::of(&view.current.facts, conditions);
    format!("{health}: {}\n", headline(counts, conditions))
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
        let of_tenant = view.by_subject.tenant(&tenant.name);
        let state = (TenantHealth::of(of_tenant).name(), tone(severity_of(of_tenant)));
        table.row(tenant_cells(&tenant.name, state, &tenant.status, tenant.next_poll));
    }
    let hidden = view.selected - view.tenants.len();
    // Tenants that are not configured are shown only in a complete list.
    let is_complete = hidden == 0 && view.selected == view.current.tenants.len();
    for status in view.current.other_tenants.iter().filter(|_| is_complete) {
        let id = status.id.map(|id| id.to_string()).unwrap_or_default();
        table.row(tenant_cells(&id, ("not configured", Tone::Plain), status, None));
    }

    let more = if hidden > 0 {
        let explanation = Explanation::new(plural(hidden, "more tenant", "more tenants"));
        render(&explanation.with_hint("use `--limit` or `--failing`")) + "\n"
    } else {
        String::new()
    };
    table.render(terminal) + &more
}

fn tenant_cells(
    name: &str,
    (state, tone): (&str, Tone),
    status: &TenantStatus,
    next_poll: Option<UnixMillis>,
) -> Vec<(String, Tone)> {
    let polled = status.polled;
    let newest = polled.newest_day.map_or_else(|| "none".to_owned(), |day| day.to_string());
    vec![
        (name.to_owned(), Tone::Plain),
        (state.to_owned(), tone),
        (newest, Tone::Plain),
        (with_separators(status.days), Tone::Plain),
        (with_separators(status.missing), Tone::Plain),
        (polled.last_success.map_or_else(|| "never".to_owned(), format_time), Tone::Plain),
        (next_poll.map_or_else(String::new, format_time), Tone::Plain),
    ]
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
        let of_sink = view.by_subject.sink(&sink.name);
        table.row(vec![
            (sink.name.clone(), Tone::Plain),
            (SinkHealth::of(of_sink).name().to_owned(), tone(severity_of(of_sink))),
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
    let lines = view.current.stored.replays.iter().map(|job| {
        let left = plural(job.remaining, "log entry", "log entries");
        format!("replay to `{}`: {} to {}, {left} left\n", job.sink, job.first_day, job.last_day)
    });
    lines.collect()
}

/// The newest dead letters, and how to send them again.
fn dead_letters(view: &StatusView<'_>, terminal: Terminal) -> String {
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
    format!("{daemon}; checkpoint: {}\n", size(view.current.stored.size))
}

#[cfg(test)]
mod tests {
    use super::{super::json, *};
    use crate::{
        checkpoint::{SinkStatus, Status},
        conditions::{BySubject, ConditionFacts, ConditionKind, ConditionSubject},
        daemon::CurrentStatus,
    };

    /// Regression: the page showed a sink with dead letters as up to date, and `status` did not.
    #[test]
    fn the_state_of_a_sink_follows_from_its_conditions() {
        let sink = SinkStatus { name: "siem".to_owned(), ..SinkStatus::default() };
        let current = CurrentStatus {
            tenants: Vec::new(),
            other_tenants: Vec::new(),
            stored: Status { sinks: vec![sink], ..Status::default() },
            facts: ConditionFacts::default(),
            conditions: vec![Condition {
                severity: ConditionSeverity::Error,
                kind: ConditionKind::DeadLetters,
                subject: ConditionSubject::Sink("siem".to_owned()),
                sentence: "the receiver rejected 7 records".to_owned(),
                hint: None,
                since: None,
            }],
        };

        let view = StatusView {
            current: &current,
            holder: None,
            tenants: Vec::new(),
            selected: 0,
            sinks: current.stored.sinks.iter().collect(),
            conditions: current.conditions.iter().collect(),
            by_subject: BySubject::new(&current.conditions),
        };
        let table = sinks(&view, Terminal { width: None, is_colored: false });
        assert!(table.contains("siem  rejected records"), "{table}");
        assert_eq!(json::document(&view)["sinks"][0]["state"], "rejected_records");
    }
}
