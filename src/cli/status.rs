//! `status`: how far everything has got. Only reads, also beside a running daemon.

use std::{collections::HashMap, path::Path};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use serde_json::json;

use super::{Exit, Failed, args, instant, on_one_line, print};
use crate::{
    checkpoint::{Checkpoint, ReplayStatus, SinkStatus, Status, TenantStatus},
    config::{ConfigError, Configuration, TenantName},
    schedule::{Polled, Schedule},
};

pub(super) fn status(config: &Path, args: &args::Status) -> Result<Exit, Failed> {
    let configuration = match Configuration::load(config) {
        Ok(configuration) => configuration,
        Err(error) => return without_configuration(config, args, error),
    };
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
    let mut status = checkpoint.status()?;
    let mut names = names(&configuration, &checkpoint);
    for (domain, name) in unmet(&configuration, &names) {
        status.tenants.push(TenantStatus {
            guid: domain.clone(),
            last_error: Some("tenant ID not resolved yet; see the log".into()),
            ..TenantStatus::default()
        });
        names.insert(domain, name);
    }
    let schedule = Some(&configuration.schedule);
    show(&checkpoint, &status, &names, schedule, args)?;
    // Who is no longer configured owes nothing.
    let configured = status.tenants.iter().filter(|tenant| names.contains_key(&tenant.guid));
    let missing = configured.into_iter().any(|tenant| tenant.last_error.is_some())
        || status.sinks.iter().any(|s| s.backlog > 0)
        || !status.replays.is_empty();
    Ok(if missing { Exit::Incomplete } else { Exit::Done })
}

/// A file with a fault is no reason to say nothing: the daemon may be at work under the one before.
fn without_configuration(
    config: &Path,
    args: &args::Status,
    error: ConfigError,
) -> Result<Exit, Failed> {
    let checkpoint = Configuration::state_directory_in(config)
        .and_then(|directory| Checkpoint::open_read_only(&directory).ok());
    let Some(checkpoint) = checkpoint else { return Err(error.into()) };
    let status = checkpoint.status()?;
    let guids = status.tenants.iter().map(|tenant| (tenant.guid.clone(), tenant.guid.clone()));
    show(&checkpoint, &status, &guids.collect(), None, args)?;
    Err(error.into())
}

fn show(
    checkpoint: &Checkpoint,
    status: &Status,
    names: &HashMap<String, String>,
    schedule: Option<&Schedule>,
    args: &args::Status,
) -> Result<(), Failed> {
    let holder = Checkpoint::holder(checkpoint.directory());
    // Without a daemon nobody tries again.
    let schedule = schedule.filter(|_| holder.is_some());
    if args.json {
        print(&format!("{:#}\n", as_json(status, names, schedule)))?;
    } else {
        let daemon = holder.map_or_else(
            || "no daemon is running".to_owned(),
            |h| format!("the daemon runs as process {}", h.pid),
        );
        print(&format!(
            "{}\n{}\n{}{}{daemon}; the checkpoint has {:.1} MB\n",
            tenant_table(status, names, schedule),
            sink_table(status),
            replays(status),
            letters(status, names),
            super::as_megabytes(status.size)
        ))?;
    }
    Ok(())
}

/// The configured names, by GUID.
fn names(configuration: &Configuration, checkpoint: &Checkpoint) -> HashMap<String, String> {
    let guid = |id: &TenantName| match id {
        TenantName::Guid(id) => Some(id.to_string()),
        TenantName::Domain(domain) => {
            checkpoint.tenant_of_domain(domain).ok().flatten().map(|id| id.to_string())
        }
    };
    configuration.tenants.iter().filter_map(|t| Some((guid(&t.id)?, t.name.clone()))).collect()
}

/// Tenants named by a domain that has never been resolved: domain and name.
fn unmet(configuration: &Configuration, names: &HashMap<String, String>) -> Vec<(String, String)> {
    let known = |name: &String| names.values().any(|known| known == name);
    let unmet = configuration.tenants.iter().filter(|tenant| !known(&tenant.name));
    unmet
        .filter_map(|tenant| match &tenant.id {
            TenantName::Domain(domain) => Some((domain.clone(), tenant.name.clone())),
            TenantName::Guid(_) => None,
        })
        .collect()
}

/// When the daemon asks again for a tenant whose last poll failed.
fn next_attempt(schedule: Option<&Schedule>, tenant: &TenantStatus) -> Option<i64> {
    let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).ok();
    let polled = Polled {
        last_attempt: tenant.last_attempt_ms.and_then(time),
        failures: tenant.failures,
        ..Polled::default()
    };
    let retry = schedule?.retry_at(&polled)?.as_millisecond();
    Some(retry.max(tenant.not_before_ms.unwrap_or(retry)))
}

fn tenant_table(
    status: &Status,
    names: &HashMap<String, String>,
    schedule: Option<&Schedule>,
) -> Table {
    let mut table = table(["tenant", "newest day", "days", "owed", "last success", "last error"]);
    for tenant in &status.tenants {
        let TenantStatus { guid, newest_day, days, missing, last_success_ms, last_error, .. } =
            tenant;
        table.add_row([
            names.get(guid).cloned().unwrap_or_else(|| format!("{guid} (not configured)")),
            newest_day.map_or_else(|| "none".to_owned(), |day| day.to_string()),
            days.to_string(),
            missing.to_string(),
            last_success_ms.map_or_else(|| "never".to_owned(), instant),
            match (last_error, next_attempt(schedule, tenant)) {
                (Some(error), Some(next)) => {
                    format!("{}; tried again at {}", on_one_line(error), instant(next))
                }
                (error, _) => error.as_ref().map(on_one_line).unwrap_or_default(),
            },
        ]);
    }
    table
}

fn sink_table(status: &Status) -> Table {
    let mut table =
        table(["sink", "sent", "rejected", "backlog", "oldest", "last proof", "last error"]);
    for sink in &status.sinks {
        let SinkStatus {
            name,
            sent,
            rejected,
            backlog,
            oldest_day,
            last_acknowledgement_ms,
            last_error,
            ..
        } = sink;
        table.add_row([
            name.clone(),
            sent.to_string(),
            rejected.to_string(),
            format!("{backlog} to send"),
            oldest_day.map_or_else(String::new, |day| day.to_string()),
            last_acknowledgement_ms.map_or_else(|| "never".to_owned(), instant),
            last_error.as_ref().map(on_one_line).unwrap_or_default(),
        ]);
    }
    table
}

/// The jobs under way, a line each.
fn replays(status: &Status) -> String {
    let line = |job: &ReplayStatus| {
        let left = super::count(job.remaining, "day");
        format!("replay to {}: {} to {}, {left} left\n", job.sink, job.first_day, job.last_day)
    };
    let lines: String = status.replays.iter().map(line).collect();
    if lines.is_empty() { lines } else { lines + "\n" }
}

/// Dead letters that a table shows; JSON has more.
const LETTERS: usize = 10;

/// The dead letters, and what can be done about them.
fn letters(status: &Status, names: &HashMap<String, String>) -> String {
    if status.dead_letters.is_empty() {
        return String::new();
    }
    let mut table = table(["dead letter of", "tenant", "day", "event_id", "reason"]);
    for letter in status.dead_letters.iter().take(LETTERS) {
        let tenant = letter.tenant.to_string();
        table.add_row([
            letter.sink.clone(),
            names.get(&tenant).unwrap_or(&tenant).clone(),
            letter.day.map_or_else(String::new, |day| day.to_string()),
            letter.event_id.to_string(),
            letter.reason.clone(),
        ]);
    }
    let total: u64 = status.sinks.iter().map(|sink| sink.dead_letters).sum();
    let newest = if total > LETTERS as u64 { "the newest are shown; " } else { "" };
    format!(
        "{table}\n{newest}{} in all; `replay --sink NAME --rejected` sends them again\n\n",
        super::count(total, "dead letter")
    )
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    table
}

fn as_json(
    status: &Status,
    names: &HashMap<String, String>,
    schedule: Option<&Schedule>,
) -> serde_json::Value {
    let tenants = status.tenants.iter().map(|t| {
        json!({
            "id": t.guid, "name": names.get(&t.guid), "newest_day": t.newest_day.map(|d| d.to_string()), "days": t.days,
            "missing_days": t.missing, "last_success": t.last_success_ms.map(instant), "last_attempt": t.last_attempt_ms.map(instant),
            "last_error": t.last_error.as_ref().map(|e| &e.message), "last_hint": t.last_error.as_ref().and_then(|e| e.hint.as_ref()), "next_attempt": next_attempt(schedule, t).map(instant),
        })
    });
    let sinks = status.sinks.iter().map(|s| {
        let cursors = s.cursors.iter().map(|(tenant, seq, index)| json!({ "tenant": tenant, "seq": seq, "record_index": index }));
        json!({
            "name": s.name, "sent": s.sent, "rejected": s.rejected, "truncated": s.truncated, "backlog_days": s.backlog,
            "oldest_day": s.oldest_day.map(|d| d.to_string()), "last_acknowledgement": s.last_acknowledgement_ms.map(instant), "last_error": s.last_error.as_ref().map(|e| &e.message), "last_hint": s.last_error.as_ref().and_then(|e| e.hint.as_ref()),
            "dead_letters": s.dead_letters, "cursors": cursors.collect::<Vec<_>>(),
        })
    });
    let replays = status.replays.iter().map(|r| {
        json!({ "sink": r.sink, "from": r.first_day.to_string(), "to": r.last_day.to_string(), "days_left": r.remaining })
    });
    let letters = status.dead_letters.iter().map(|l| {
        json!({
            "sink": l.sink, "tenant": l.tenant.to_string(), "day": l.day.map(|d| d.to_string()), "event_id": l.event_id.to_string(),
            "reason": l.reason, "rejected": instant(l.rejected_ms), "to_be_sent_again": l.retry,
        })
    });
    json!({
        "checkpoint_id": status.checkpoint_id, "size": status.size,
        "tenants": tenants.collect::<Vec<_>>(), "sinks": sinks.collect::<Vec<_>>(),
        "replays": replays.collect::<Vec<_>>(), "dead_letters": letters.collect::<Vec<_>>(),
    })
}
