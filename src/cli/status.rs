//! `status`: shows the state of tenants and sinks, as tables or as JSON. It only reads the
//! checkpoint, even while a daemon is running, and never opens a connection.

use std::{collections::HashMap, path::Path};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use serde_json::json;

use super::{
    CommandFailure, ExitCode, args, as_megabytes, count, format_time, plural, print, render,
};
use crate::{
    checkpoint::{Checkpoint, ReplayStatus, SinkStatus, Status, TenantStatus},
    config::{ConfigError, Configuration, TenantName},
    error::Explanation,
    model::UnixMillis,
    schedule::{Polled, Schedule},
};

/// Runs the command. Returns `Incomplete` if the last poll of a configured tenant failed, a sink
/// has a backlog, or a replay is not finished. Fails if the checkpoint cannot be read and, after
/// printing the state, if the configuration is invalid.
pub(super) fn status(config: &Path, args: &args::Status) -> Result<ExitCode, CommandFailure> {
    let configuration = match Configuration::load(config) {
        Ok(configuration) => configuration,
        Err(error) => return without_configuration(config, args, error),
    };
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
    let mut status = checkpoint.status()?;

    // The checkpoint has no row for a tenant whose domain has never been resolved to an ID.
    let mut names = names(&configuration, &checkpoint);
    for (domain, name) in unresolved(&configuration, &names) {
        status.tenants.push(TenantStatus {
            guid: domain.clone(),
            last_error: Some("tenant ID not resolved yet; see the log".into()),
            ..TenantStatus::default()
        });
        names.insert(domain, name);
    }

    let schedule = Some(&configuration.schedule);
    show(&checkpoint, &status, &names, schedule, args)?;

    // The errors of a tenant that is no longer configured do not affect the exit code.
    let configured = status.tenants.iter().filter(|tenant| names.contains_key(&tenant.guid));
    let incomplete = configured.into_iter().any(|tenant| tenant.last_error.is_some())
        || status.sinks.iter().any(|s| s.backlog > 0)
        || !status.replays.is_empty();
    Ok(if incomplete { ExitCode::Incomplete } else { ExitCode::Done })
}

/// Shows the status of the checkpoint even though the configuration is invalid, and then fails with
/// its faults: the daemon may be running with the previous configuration.
fn without_configuration(
    config: &Path,
    args: &args::Status,
    error: ConfigError,
) -> Result<ExitCode, CommandFailure> {
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
) -> Result<(), CommandFailure> {
    let holder = Checkpoint::holder(checkpoint.directory());
    // Without a daemon, there is no next attempt.
    let schedule = schedule.filter(|_| holder.is_some());

    if args.json {
        print(&format!("{:#}\n", as_json(status, names, schedule)))?;
    } else {
        let daemon = holder.map_or_else(
            || "no daemon is running".to_owned(),
            |h| format!("the daemon is running as process {}", h.pid),
        );
        print(&format!(
            "{}\n{}\n{}{}{}{daemon}; checkpoint: {:.1} MB\n",
            tenant_table(status, names, schedule),
            sink_table(status),
            error_lines(status, names),
            replay_lines(status),
            dead_letter_table(status, names),
            as_megabytes(status.size)
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

/// The domain and the name of each tenant whose domain has never been resolved to an ID.
fn unresolved(
    configuration: &Configuration,
    names: &HashMap<String, String>,
) -> Vec<(String, String)> {
    let known = |name: &String| names.values().any(|known| known == name);
    configuration
        .tenants
        .iter()
        .filter(|tenant| !known(&tenant.name))
        .filter_map(|tenant| match &tenant.id {
            TenantName::Domain(domain) => Some((domain.clone(), tenant.name.clone())),
            TenantName::Guid(_) => None,
        })
        .collect()
}

/// When the daemon retries a failed poll of a tenant; `None` if the last poll succeeded or no
/// daemon is running.
fn next_attempt(schedule: Option<&Schedule>, tenant: &TenantStatus) -> Option<UnixMillis> {
    let polled = Polled {
        last_attempt: tenant.last_attempt.map(Into::into),
        failures: tenant.failures,
        ..Polled::default()
    };

    // The server may have requested a longer wait than the schedule.
    let retry = UnixMillis::from(schedule?.retry_at(&polled)?);
    Some(retry.max(tenant.not_before.unwrap_or(retry)))
}

fn tenant_table(
    status: &Status,
    names: &HashMap<String, String>,
    schedule: Option<&Schedule>,
) -> Table {
    let mut table = table([
        "tenant",
        "newest day",
        "days",
        "missing days",
        "last successful poll",
        "next attempt",
    ]);

    for tenant in &status.tenants {
        let TenantStatus { guid, newest_day, days, missing, last_success, .. } = tenant;
        table.add_row([
            tenant_name(guid, names),
            newest_day.map_or_else(|| "none".to_owned(), |day| day.to_string()),
            days.to_string(),
            missing.to_string(),
            last_success.map_or_else(|| "never".to_owned(), format_time),
            next_attempt(schedule, tenant).map_or_else(String::new, format_time),
        ]);
    }
    table
}

fn tenant_name(guid: &str, names: &HashMap<String, String>) -> String {
    names.get(guid).cloned().unwrap_or_else(|| format!("{guid} (not configured)"))
}

fn sink_table(status: &Status) -> Table {
    let mut table = table([
        "sink",
        "records sent",
        "records rejected",
        "backlog, log entries",
        "oldest unsent day",
        "last acknowledgement",
    ]);

    for sink in &status.sinks {
        let SinkStatus { name, sent, rejected, backlog, oldest_day, last_acknowledgement, .. } =
            sink;

        table.add_row([
            name.clone(),
            sent.to_string(),
            rejected.to_string(),
            backlog.to_string(),
            oldest_day.map_or_else(String::new, |day| day.to_string()),
            last_acknowledgement.map_or_else(|| "never".to_owned(), format_time),
        ]);
    }
    table
}

/// The last error of each tenant and each sink with its hint, between empty lines. Empty if there
/// are none. Errors are not in the tables, because their texts are too long for a column.
fn error_lines(status: &Status, names: &HashMap<String, String>) -> String {
    let tenants = status.tenants.iter().filter_map(|tenant| {
        let error = tenant.last_error.clone()?;
        let what = match names.get(&tenant.guid) {
            Some(name) => format!("tenant `{name}`"),
            None => format!("tenant `{}` (not configured)", tenant.guid),
        };
        Some(error.within(&what))
    });
    let sinks = status.sinks.iter().filter_map(|sink| {
        let error = sink.last_error.clone()?;
        Some(error.within(&format!("sink `{}`", sink.name)))
    });

    let lines: String = tenants.chain(sinks).map(|error| render(&error) + "\n").collect();
    if lines.is_empty() { lines } else { format!("\n{lines}\n") }
}

/// One line per replay, followed by an empty line if there are any.
fn replay_lines(status: &Status) -> String {
    let line = |job: &ReplayStatus| {
        let ReplayStatus { sink, first_day, last_day, remaining, .. } = job;
        let left = plural(*remaining, "log entry", "log entries");
        format!("replay to `{sink}`: `{first_day}` to `{last_day}`, {left} left\n")
    };
    let lines: String = status.replays.iter().map(line).collect();
    if lines.is_empty() { lines } else { lines + "\n" }
}

/// The number of dead letters in the table; the JSON document lists more.
const MAX_DEAD_LETTERS: usize = 10;

/// The newest dead letters, and how to send them again. Empty if there are none.
fn dead_letter_table(status: &Status, names: &HashMap<String, String>) -> String {
    if status.dead_letters.is_empty() {
        return String::new();
    }

    let mut table = table(["dead letter", "sink", "tenant", "day", "reason"]);
    for letter in status.dead_letters.iter().take(MAX_DEAD_LETTERS) {
        let tenant = letter.tenant.to_string();
        table.add_row([
            letter.event_id.to_string(),
            letter.sink.clone(),
            names.get(&tenant).unwrap_or(&tenant).clone(),
            letter.day.map_or_else(String::new, |day| day.to_string()),
            letter.reason.clone(),
        ]);
    }

    let total: u64 = status.sinks.iter().map(|sink| sink.dead_letters).sum();
    let shown = if total > MAX_DEAD_LETTERS as u64 {
        format!(", of which the newest {MAX_DEAD_LETTERS} are shown")
    } else {
        String::new()
    };
    let explanation = Explanation::new(format!("{}{shown}", count(total, "dead letter")));
    let hint = "run `replay --sink NAME --rejected` to send them again";
    format!("{table}\n{}\n\n", render(&explanation.with_hint(hint)))
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    table
}

/// The document of `status --json`. Times are RFC 3339 in UTC; an absent value is `null`.
fn as_json(
    status: &Status,
    names: &HashMap<String, String>,
    schedule: Option<&Schedule>,
) -> serde_json::Value {
    let message = |error: &Option<Explanation>| error.as_ref().map(|e| e.message.clone());
    let hint = |error: &Option<Explanation>| error.as_ref().and_then(|e| e.hint.clone());

    let tenants = status.tenants.iter().map(|t| {
        json!({
            "id": t.guid,
            "name": names.get(&t.guid),
            "newest_day": t.newest_day.map(|d| d.to_string()),
            "days": t.days,
            "missing_days": t.missing,
            "last_success": t.last_success.map(format_time),
            "last_attempt": t.last_attempt.map(format_time),
            "last_error": message(&t.last_error),
            "last_hint": hint(&t.last_error),
            "next_attempt": next_attempt(schedule, t).map(format_time),
        })
    });

    let sinks = status.sinks.iter().map(|s| {
        let cursor = |(tenant, seq, index): &(String, u64, u32)| json!({ "tenant": tenant, "seq": seq, "record_index": index });
        json!({
            "name": s.name,
            "sent": s.sent,
            "rejected": s.rejected,
            "truncated": s.truncated,
            "backlog_entries": s.backlog,
            "oldest_day": s.oldest_day.map(|d| d.to_string()),
            "last_acknowledgement": s.last_acknowledgement.map(format_time),
            "last_error": message(&s.last_error),
            "last_hint": hint(&s.last_error),
            "dead_letters": s.dead_letters,
            "cursors": s.cursors.iter().map(cursor).collect::<Vec<_>>(),
        })
    });

    let replays = status.replays.iter().map(|r| {
        json!({ "sink": r.sink, "from": r.first_day.to_string(), "to": r.last_day.to_string(), "entries_left": r.remaining })
    });

    let dead_letters = status.dead_letters.iter().map(|l| {
        json!({
            "sink": l.sink,
            "tenant": l.tenant.to_string(),
            "day": l.day.map(|d| d.to_string()),
            "event_id": l.event_id.to_string(),
            "reason": l.reason,
            "rejected_at": format_time(l.rejected_at),
            "retry_queued": l.retry,
        })
    });

    json!({
        "checkpoint_id": status.checkpoint_id,
        "size_bytes": status.size,
        "tenants": tenants.collect::<Vec<_>>(),
        "sinks": sinks.collect::<Vec<_>>(),
        "replays": replays.collect::<Vec<_>>(),
        "dead_letters": dead_letters.collect::<Vec<_>>(),
    })
}
