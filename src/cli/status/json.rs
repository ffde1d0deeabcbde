//! The document of `status --json`: everything that the text shows, and more. Times are RFC 3339 in
//! UTC, and an absent value is `null`. `docs/how-to/automate-with-json.md` describes the members.

use serde_json::{Value, json};

use super::{
    super::format_time,
    View,
    text::{sink_state, tenant_state},
};
use crate::{
    checkpoint::{QueuedDeadLetter, ReplayStatus, SinkStatus, TenantStatus},
    conditions::{Condition, Counts, Health, headline},
    daemon::ConfiguredTenant,
    error::Explanation,
    model::UnixMillis,
};

pub(super) fn document(view: &View<'_>) -> Value {
    let current = view.current;
    let counts = Counts::of(&current.facts, &current.conditions);
    let tenants = view.tenants.iter().map(|tenant| configured(view, tenant));
    let others = current.other_tenants.iter().filter(|_| view.selected == current.tenants.len());
    let others = others.map(|status| tenant(None, "not_configured", status, None));

    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "time": format_time(current.facts.now),
        "daemon": view.holder.map(|holder| json!({
            "pid": holder.pid,
            "version": holder.version,
            "since": holder.since.map(format_time),
        })),
        "health": Health::of(&current.conditions).as_str(),
        "headline": headline(counts, &current.conditions),
        "conditions": view.conditions.iter().map(condition).collect::<Vec<_>>(),
        "checkpoint_id": current.stored.checkpoint_id,
        "size_bytes": current.stored.size,
        "free_bytes": current.facts.free_bytes,
        "tenants": tenants.chain(others).collect::<Vec<_>>(),
        "sinks": view.sinks.iter().map(|status| sink(view, status)).collect::<Vec<_>>(),
        "replays": current.stored.replays.iter().map(replay).collect::<Vec<_>>(),
        "dead_letters": current.stored.dead_letters.iter().map(dead_letter).collect::<Vec<_>>(),
    })
}

fn condition(condition: &Condition) -> Value {
    json!({
        "severity": condition.severity.as_str(),
        "kind": condition.kind.as_str(),
        "subject": condition.subject.kind(),
        "name": condition.subject.name(),
        "message": condition.sentence,
        "hint": condition.hint,
        "since": condition.since.map(format_time),
    })
}

fn configured(view: &View<'_>, line: &ConfiguredTenant) -> Value {
    let (state, _) = tenant_state(view, line);
    tenant(Some(&line.name), state, &line.status, line.next_poll)
}

fn tenant(
    name: Option<&str>,
    state: &str,
    status: &TenantStatus,
    next_poll: Option<UnixMillis>,
) -> Value {
    json!({
        "id": status.guid,
        "name": name,
        "state": state,
        "newest_day": status.newest_day.map(|day| day.to_string()),
        "days": status.days,
        "missing_days": status.missing,
        "last_success": status.last_success.map(format_time),
        "last_attempt": status.last_attempt.map(format_time),
        "next_poll": next_poll.map(format_time),
        "failures": status.failures,
        "failing_since": status.failing_since.map(format_time),
        "error": status.last_error.as_ref().map(error),
    })
}

fn sink(view: &View<'_>, status: &SinkStatus) -> Value {
    let (state, _) = sink_state(view, status);
    let cursors = status
        .cursors
        .iter()
        .map(|(tenant, seq, index)| json!({ "tenant": tenant, "seq": seq, "record_index": index }));
    json!({
        "name": status.name,
        "state": state.replace(' ', "_"),
        "sent": status.sent,
        "rejected": status.rejected,
        "truncated": status.truncated,
        "backlog_entries": status.backlog,
        "oldest_day": status.oldest_day.map(|day| day.to_string()),
        "last_acknowledgement": status.last_acknowledgement.map(format_time),
        "failing_since": status.failing_since.map(format_time),
        "error": status.last_error.as_ref().map(error),
        "dead_letters": status.dead_letters,
        "cursors": cursors.collect::<Vec<_>>(),
    })
}

fn replay(job: &ReplayStatus) -> Value {
    json!({
        "sink": job.sink,
        "from": job.first_day.to_string(),
        "to": job.last_day.to_string(),
        "entries_left": job.remaining,
    })
}

fn dead_letter(letter: &QueuedDeadLetter) -> Value {
    json!({
        "sink": letter.sink,
        "tenant": letter.tenant.to_string(),
        "day": letter.day.map(|day| day.to_string()),
        "event_id": letter.event_id.to_string(),
        "reason": letter.reason,
        "rejected_at": format_time(letter.rejected_at),
        "retry_queued": letter.retry,
    })
}

fn error(error: &Explanation) -> Value {
    json!({ "message": error.message, "hint": error.hint })
}
