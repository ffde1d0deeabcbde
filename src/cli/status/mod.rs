//! `status`: shows the conditions and the state of tenants and sinks, as text or as JSON. It only
//! reads the checkpoint, even while a daemon is running, and never opens a connection. What needs
//! attention follows from `conditions` alone. Start reading at [`status`].

mod json;
mod text;

use std::{cmp::Reverse, path::Path};

use jiff::Timestamp;

use super::{CommandFailure, ExitCode, args, print, table::Terminal, unknown_name};
use crate::{
    checkpoint::{Checkpoint, Holder, SinkStatus},
    clock,
    conditions::{
        BySubject, Condition, ConditionSeverity, ConditionSubject, is_incomplete, severity_of,
    },
    config::{ConfigError, Configuration},
    daemon::{ConfiguredTenant, CurrentStatus, DaemonState},
    derive::Glob,
};

/// What the command shows: the current status, limited by its arguments.
struct StatusView<'a> {
    current: &'a CurrentStatus,
    /// The process that holds the checkpoint; `None` if no daemon is running.
    holder: Option<&'a Holder>,
    /// The selected tenants, in the selected order, at most `limit`.
    tenants: Vec<&'a ConfiguredTenant>,
    /// The number of selected tenants, including those that are not shown.
    selected: usize,
    sinks: Vec<&'a SinkStatus>,
    /// The conditions of what is selected, the most urgent first.
    conditions: Vec<&'a Condition>,
    /// All conditions.
    by_subject: BySubject<'a>,
}

/// Runs the command. Returns `Incomplete` if something is missing or unsent. Fails if the checkpoint
/// or the configuration cannot be read, or if the arguments select nothing.
pub(super) fn status(config: &Path, args: &args::StatusArgs) -> Result<ExitCode, CommandFailure> {
    let configuration = match Configuration::load(config) {
        Ok(configuration) => configuration,
        Err(error) => return without_configuration(config, args, error),
    };
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
    let holder = Checkpoint::holder(checkpoint.directory());

    let now = clock::now();
    let daemon = daemon_state(holder.as_ref(), now);
    let current = CurrentStatus::read(&configuration, &checkpoint, daemon, now)?;
    let view = StatusView::new(&current, holder.as_ref(), args)?;
    show(&view, args)?;

    let incomplete = is_incomplete(&current.conditions) || !current.stored.replays.is_empty();
    Ok(if incomplete { ExitCode::Incomplete } else { ExitCode::Done })
}

/// Shows the status of the checkpoint even though the configuration is invalid, and then fails with
/// its faults: the daemon may be running with the previous configuration.
fn without_configuration(
    config: &Path,
    args: &args::StatusArgs,
    error: ConfigError,
) -> Result<ExitCode, CommandFailure> {
    let checkpoint = Configuration::state_directory_in(config)
        .and_then(|directory| Checkpoint::open_read_only(&directory).ok());
    let Some(checkpoint) = checkpoint else { return Err(error.into()) };
    let holder = Checkpoint::holder(checkpoint.directory());

    let now = clock::now();
    let daemon = daemon_state(holder.as_ref(), now);
    let current = CurrentStatus::read_without_configuration(&checkpoint, daemon, now)?;
    show(&StatusView::new(&current, holder.as_ref(), args)?, args)?;
    Err(error.into())
}

/// A process that does not state its start counts as started now.
fn daemon_state(holder: Option<&Holder>, now: Timestamp) -> DaemonState<'static> {
    holder.map_or(DaemonState::Stopped, |holder| {
        DaemonState::Elsewhere(holder.since.unwrap_or(now.into()))
    })
}

fn show(view: &StatusView<'_>, args: &args::StatusArgs) -> Result<(), CommandFailure> {
    let shown = if args.json {
        format!("{:#}\n", json::document(view))
    } else {
        text::document(view, Terminal::of_stdout())
    };
    print(&shown)
}

impl<'a> StatusView<'a> {
    /// Applies the arguments. Fails if a pattern selects nothing.
    fn new(
        current: &'a CurrentStatus,
        holder: Option<&'a Holder>,
        args: &args::StatusArgs,
    ) -> Result<Self, CommandFailure> {
        let by_subject = BySubject::new(&current.conditions);
        let of_tenant = |tenant: &ConfiguredTenant| severity_of(by_subject.tenant(&tenant.name));
        let of_sink = |sink: &SinkStatus| severity_of(by_subject.sink(&sink.name));

        let mut tenants: Vec<&ConfiguredTenant> =
            current.tenants.iter().filter(|tenant| selects(&args.tenant, &tenant.name)).collect();
        let mut sinks: Vec<&SinkStatus> =
            current.stored.sinks.iter().filter(|sink| selects(&args.sink, &sink.name)).collect();
        let names = || current.tenants.iter().map(|tenant| tenant.name.as_str());
        fail_if_empty("tenant", &args.tenant, tenants.is_empty(), names())?;
        let names = current.stored.sinks.iter().map(|sink| sink.name.as_str());
        fail_if_empty("sink", &args.sink, sinks.is_empty(), names)?;

        if args.failing {
            tenants.retain(|tenant| of_tenant(tenant) > Some(ConditionSeverity::Info));
            sinks.retain(|sink| of_sink(sink) > Some(ConditionSeverity::Info));
        }
        match args.sort {
            // The sorts are stable: equal tenants stay in the order of the configuration.
            args::StatusSort::Severity => tenants.sort_by_key(|tenant| Reverse(of_tenant(tenant))),
            args::StatusSort::Name => tenants.sort_by(|a, b| a.name.cmp(&b.name)),
            args::StatusSort::Age => tenants.sort_by_key(|tenant| tenant.status.polled.newest_day),
        }

        let selected = tenants.len();
        if !args.json {
            tenants.truncate(args.limit);
        }
        let conditions = current.conditions.iter().filter(|condition| match &condition.subject {
            ConditionSubject::Daemon => args.tenant.is_empty() && args.sink.is_empty(),
            ConditionSubject::Sink(name) => args.tenant.is_empty() && selects(&args.sink, name),
            ConditionSubject::Tenant(name) => args.sink.is_empty() && selects(&args.tenant, name),
        });
        let conditions = conditions.collect();
        Ok(Self { current, holder, tenants, selected, sinks, conditions, by_subject })
    }
}

/// Whether one of the patterns matches; without patterns, everything is selected.
fn selects(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| Glob::new(pattern).matches(name))
}

fn fail_if_empty<'a>(
    what: &str,
    patterns: &[String],
    is_empty: bool,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), CommandFailure> {
    match patterns.first() {
        Some(pattern) if is_empty => Err(unknown_name(what, pattern, names)),
        _ => Ok(()),
    }
}
