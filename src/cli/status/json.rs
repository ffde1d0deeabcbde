//! The document of `status --json`: everything that the text shows, and more. Times are RFC 3339 in
//! UTC, and an absent value is `null`. This module must never decide what is healthy: the states
//! follow from the conditions. `docs/how-to/automate-with-json.md` describes the members.

use serde_json::{Value, json};

use super::{
    super::{format_time, json},
    StatusView,
};
use crate::{
    checkpoint::{CursorStatus, ReplayStatus, SinkStatus, TenantStatus},
    conditions::{Condition, ConfigurationFacts, SinkHealth, TenantHealth},
    config::TenantName,
    daemon::{ConfiguredTenant, LiveFactsState},
    model::UnixMillis,
};

/// The document.
pub(super) fn document(view: &StatusView<'_>) -> Value {
    let current = view.current;
    let tenants = view.tenants.iter().map(|tenant| configured(view, tenant));
    let state = match current.facts.configuration {
        ConfigurationFacts::Invalid(_) => "unknown",
        ConfigurationFacts::InForce | ConfigurationFacts::Changed => "not_configured",
    };
    let others = view.other_tenants().iter().map(|status| {
        let id = status.id.map(|id| id.to_string());
        tenant(None, id.as_deref(), state, status, None)
    });

    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "time": format_time(current.facts.now),
        "daemon": view.holder.map(|holder| json!({
            "pid": holder.pid,
            "version": holder.version,
            "since": holder.since.map(format_time),
            "own_facts": own_facts(current.live_facts),
        })),
        "health": view.health().as_str(),
        "headline": view.headline(),
        "conditions": view.conditions.iter().copied().map(condition).collect::<Vec<_>>(),
        "checkpoint_id": current.stored.checkpoint_id,
        "size_bytes": current.stored.size,
        "free_bytes": current.facts.free_bytes,
        "tenants": tenants.chain(others).collect::<Vec<_>>(),
        "sinks": view.sinks.iter().map(|status| sink(view, status)).collect::<Vec<_>>(),
        "replays": view.replays().map(replay).collect::<Vec<_>>(),
        "dead_letters": view.dead_letters().map(json::dead_letter).collect::<Vec<_>>(),
    })
}

/// Whether the conditions contain what only the daemon knows, such as a fault of its storage;
/// `None` for another process that holds the checkpoint.
const fn own_facts(state: LiveFactsState) -> Option<&'static str> {
    match state {
        LiveFactsState::NoDaemon => None,
        LiveFactsState::Included => Some("included"),
        LiveFactsState::NotPermitted => Some("not_permitted"),
        LiveFactsState::NoResponse => Some("no_response"),
    }
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

fn configured(view: &StatusView<'_>, line: &ConfiguredTenant) -> Value {
    let state = TenantHealth::of(view.by_subject.tenant(&line.name)).as_str();
    let id = match &line.configured_id {
        TenantName::Domain(domain) if line.id.is_none() => Some(domain.clone()),
        _ => line.id.map(|id| id.to_string()),
    };
    tenant(Some(&line.name), id.as_deref(), state, &line.status, line.next_poll)
}

/// `id` is the GUID, or the domain of a tenant that has not been resolved yet.
fn tenant(
    name: Option<&str>,
    id: Option<&str>,
    state: &str,
    status: &TenantStatus,
    next_poll: Option<UnixMillis>,
) -> Value {
    let polled = status.polled;
    json!({
        "id": id,
        "name": name,
        "state": state,
        "newest_day": polled.newest_day.map(|day| day.to_string()),
        "days": status.days,
        "missing_days": status.missing,
        "last_success": polled.last_success.map(format_time),
        "last_attempt": polled.last_attempt.map(format_time),
        "next_poll": next_poll.map(format_time),
        "queued_commands": status.queued_commands,
        "failures": polled.failures,
        "failing_since": status.failing_since.map(format_time),
        "error": status.last_error.as_ref().map(json::error),
    })
}

fn sink(view: &StatusView<'_>, status: &SinkStatus) -> Value {
    let health = SinkHealth::of(view.by_subject.sink(&status.name));
    json!({
        "name": status.name,
        "state": health.as_str(),
        "sent": status.sent,
        "rejected": status.rejected,
        "truncated": status.truncated,
        "backlog_entries": status.backlog,
        "oldest_day": status.oldest_day.map(|day| day.to_string()),
        "last_acknowledgement": status.last_acknowledgement.map(format_time),
        "failing_since": status.failing_since.map(format_time),
        "error": status.last_error.as_ref().map(json::error),
        "dead_letters": status.dead_letters,
        "cursors": status.cursors.iter().map(cursor).collect::<Vec<_>>(),
    })
}

fn cursor(cursor: &CursorStatus) -> Value {
    json!({
        "tenant": cursor.tenant,
        "seq": cursor.at.seq,
        "record_index": cursor.at.record_index,
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
