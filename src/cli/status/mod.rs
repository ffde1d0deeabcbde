//! `status`: shows the conditions and the state of tenants and sinks, as text or as JSON. It reads
//! the checkpoint, and asks a running daemon only for what it may be unable to store; it never
//! opens another connection. What needs attention follows from `conditions` alone. Start reading at
//! [`status`].

mod json;
#[cfg(test)]
mod tests;
mod text;

use std::{cmp::Reverse, path::Path};

use jiff::Timestamp;

use super::{
    CommandFailure, ExitCode, Selected, args, daemon_client::live_facts, json::Document, print,
    print_message, selection::selected_names, table::Terminal, unknown_name,
};
use crate::{
    checkpoint::{
        Checkpoint, DeadLetterGroup, QueuedDeadLetter, ReplayStatus, SinkStatus, StatusDetail,
        TenantStatus,
    },
    clock,
    conditions::{
        BySubject, Condition, ConditionSeverity, ConditionSubject, Counts, Health, headline,
        is_incomplete, severity_of,
    },
    config::{ConfigError, Configuration},
    daemon::{ConfiguredTenant, CurrentStatus, DaemonState, LiveFacts, NoLiveFacts},
    derive::Glob,
    error::Explanation,
    model::{SinkName, TenantId},
    state_directory::{Holder, StateDirectory},
    text::plural,
};

/// What the command shows: the current status, limited by its arguments.
struct StatusView<'a> {
    current: &'a CurrentStatus,
    /// The process that holds the checkpoint; `None` if no daemon is running.
    holder: Option<&'a Holder>,
    selection: Selection<'a>,
    /// The selected tenants, in the selected order, at most `limit`.
    tenants: Vec<&'a ConfiguredTenant>,
    /// The number of selected tenants, including those that are not shown.
    selected: usize,
    /// The selected sinks; those that need attention are first.
    sinks: Vec<&'a SinkStatus>,
    /// The tenants and sinks that `--tenant` and `--sink` select, regardless of `--failing`.
    counts: Counts,
    /// The conditions of what is selected, the most urgent first.
    conditions: Vec<&'a Condition>,
    /// All conditions of sinks and tenants, also of those that are not selected.
    by_subject: BySubject<'a>,
}

/// What `--tenant` and `--sink` select. Without both, everything is selected; with one of them,
/// only its kind; with both, the tenants and the sinks that match.
#[derive(Clone, Copy)]
struct Selection<'a> {
    /// The names of tenants, sorted.
    tenants: &'a [String],
    /// The patterns for the names of sinks.
    sinks: &'a [String],
    /// Whether only what needs attention is shown.
    failing: bool,
}

/// Runs the command. Returns `Incomplete` if something is missing or unsent. Fails if the
/// checkpoint or the configuration cannot be read, or if the arguments select nothing.
pub(super) fn status(config: &Path, args: &args::StatusArgs) -> Result<ExitCode, CommandFailure> {
    Document::from_flag(args.json).run(|| match Configuration::load(config) {
        Ok(configuration) => with_configuration(&configuration, args),
        Err(error) => without_configuration(config, args, error),
    })
}

fn with_configuration(
    configuration: &Configuration,
    args: &args::StatusArgs,
) -> Result<ExitCode, CommandFailure> {
    // The names of the selected tenants replace the patterns, which can also be IDs and labels.
    let mut tenant = selected_names(configuration, &args.tenant)?;
    tenant.sort_unstable();
    let args = &args::StatusArgs { tenant, ..args.clone() };

    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
    let holder = StateDirectory::holder(checkpoint.state_directory().path());

    let live = ask(holder.as_ref());
    let now = clock::now();
    let daemon = daemon_state(holder.as_ref(), live.as_ref(), now);
    let detail = detail(args);
    let current = CurrentStatus::read(configuration, &checkpoint, detail, daemon, now)?;
    check_sinks(&current, &args.sink)?;
    let view = StatusView::new(&current, holder.as_ref(), args);
    show(&view, args)?;

    let conditions = view.conditions.iter().copied();
    let incomplete = is_incomplete(conditions) || view.replays().next().is_some();
    Ok(if incomplete { ExitCode::Incomplete } else { ExitCode::Done })
}

/// Shows the status of the checkpoint even though the configuration is invalid, and prints its
/// faults: the daemon may be running with the previous configuration. Fails with these faults if
/// there is no checkpoint that can be shown. The selection is not checked, because no tenant is
/// known, and its failure would replace the faults.
fn without_configuration(
    config: &Path,
    args: &args::StatusArgs,
    error: ConfigError,
) -> Result<ExitCode, CommandFailure> {
    let checkpoint = Configuration::state_directory_in(config)
        .and_then(|directory| Checkpoint::open_read_only(&directory).ok());
    let Some(checkpoint) = checkpoint else { return Err(error.into()) };
    let holder = StateDirectory::holder(checkpoint.state_directory().path());

    let live = ask(holder.as_ref());
    let now = clock::now();
    let daemon = daemon_state(holder.as_ref(), live.as_ref(), now);
    let failure = CommandFailure::from(error);
    let invalid = first_fault(&failure.explanations);
    let current =
        CurrentStatus::read_without_configuration(&checkpoint, detail(args), daemon, invalid, now);
    let Ok(current) = current else { return Err(failure) };
    show(&StatusView::new(&current, holder.as_ref(), args), args)?;

    // An error would print a second document.
    print_message(&format!("error: {failure}"));
    Ok(failure.code)
}

/// The first fault of the configuration, and the number of the others.
fn first_fault(faults: &[Explanation]) -> Explanation {
    let Some(first) = faults.first() else { return Explanation::default() };
    let others = match faults.len() - 1 {
        0 => String::new(),
        others => format!(" ({})", plural(others, "more fault", "more faults")),
    };
    Explanation { message: format!("{}{others}", first.message), hint: first.hint.clone() }
}

/// What the running daemon knows, or why that is unknown; `None` if no daemon is running. Other
/// commands, such as `once`, hold the checkpoint too, but only the daemon accepts commands.
fn ask(holder: Option<&Holder>) -> Option<Result<LiveFacts, NoLiveFacts>> {
    holder.and_then(|holder| holder.socket.as_deref()).map(live_facts)
}

/// A process that does not state its start counts as started now.
fn daemon_state<'a>(
    holder: Option<&Holder>,
    live: Option<&'a Result<LiveFacts, NoLiveFacts>>,
    now: Timestamp,
) -> DaemonState<'a> {
    let (Some(holder), Some(live)) = (holder, live) else { return DaemonState::Stopped };
    let since = holder.since.unwrap_or(now.into());
    DaemonState::Elsewhere { pid: holder.pid, since, live }
}

fn show(view: &StatusView<'_>, args: &args::StatusArgs) -> Result<(), CommandFailure> {
    match Document::from_flag(args.json) {
        Document::Printed => Document::Printed.print(|| json::document(view)),
        Document::Omitted => print(&text::document(view, Terminal::of_stdout())),
    }
}

impl<'a> StatusView<'a> {
    /// Applies the arguments.
    fn new(
        current: &'a CurrentStatus,
        holder: Option<&'a Holder>,
        args: &'a args::StatusArgs,
    ) -> Self {
        let selection =
            Selection { tenants: &args.tenant, sinks: &args.sink, failing: args.failing };
        let by_subject = BySubject::new(&current.conditions);
        let of_tenant = |tenant: &ConfiguredTenant| severity_of(by_subject.tenant(&tenant.name));
        let of_sink = |sink: &SinkStatus| severity_of(by_subject.sink(&sink.name));

        let tenants = current.tenants.iter();
        let mut tenants: Vec<&ConfiguredTenant> =
            tenants.filter(|tenant| selection.has_tenant(&tenant.name)).collect();
        let sinks = current.stored.sinks.iter();
        let mut sinks: Vec<&SinkStatus> =
            sinks.filter(|sink| selection.has_sink(&sink.name)).collect();
        let conditions = current.conditions.iter();
        let conditions: Vec<&Condition> =
            conditions.filter(|condition| selection.has_condition(condition, current)).collect();
        let counts = Counts::of_named(
            tenants.iter().map(|tenant| tenant.name.as_str()),
            sinks.iter().map(|sink| sink.name.as_str()),
            conditions.iter().copied(),
        );

        if args.failing {
            tenants.retain(|tenant| of_tenant(tenant) > Some(ConditionSeverity::Info));
            sinks.retain(|sink| of_sink(sink) > Some(ConditionSeverity::Info));
        }
        // The sorts are stable: what is equal stays in the order of the configuration.
        sinks.sort_by_key(|sink| Reverse(of_sink(sink)));
        match args.sort {
            args::StatusSort::Severity => tenants.sort_by_key(|tenant| Reverse(of_tenant(tenant))),
            args::StatusSort::Name => tenants.sort_by(|a, b| a.name.cmp(&b.name)),
            args::StatusSort::Age => tenants.sort_by_key(|tenant| tenant.status.polled.newest_day),
        }

        let selected = tenants.len();
        if !args.json {
            tenants.truncate(args.limit);
        }
        Self {
            current,
            holder,
            selection,
            tenants,
            selected,
            sinks,
            counts,
            conditions,
            by_subject,
        }
    }

    /// The health of what is selected.
    fn health(&self) -> Health {
        Health::of(self.conditions.iter().copied())
    }

    fn headline(&self) -> String {
        headline(self.counts, self.conditions.iter().copied())
    }

    /// Stored tenants that are not configured, if everything is selected. The list is empty if the
    /// list of the configured tenants is shortened.
    fn other_tenants(&self) -> &'a [TenantStatus] {
        let is_complete = self.tenants.len() == self.selected;
        if self.selection.is_everything() && is_complete {
            &self.current.other_tenants
        } else {
            &[]
        }
    }

    /// The unfinished replays to the selected sinks.
    fn replays(&self) -> impl Iterator<Item = &'a ReplayStatus> {
        let selection = self.selection;
        self.current.stored.replays.iter().filter(move |job| selection.has_sink(&job.sink))
    }

    /// The newest dead letters of what is selected.
    fn dead_letters(&self) -> impl Iterator<Item = &'a QueuedDeadLetter> {
        let (selection, current) = (self.selection, self.current);
        let letters = current.stored.dead_letters.iter();
        letters.filter(move |letter| selection.has_letters(&letter.sink, letter.tenant, current))
    }

    /// All dead letters of what is selected, by sink, tenant and message.
    fn dead_letter_groups(&self) -> impl Iterator<Item = &'a DeadLetterGroup> {
        let (selection, current) = (self.selection, self.current);
        let groups = current.stored.dead_letter_groups.iter();
        groups.filter(move |group| selection.has_letters(&group.sink, group.tenant, current))
    }
}

impl Selection<'_> {
    /// Whether there is no selection, not even by `--failing`.
    fn is_everything(self) -> bool {
        self.tenants.is_empty() && self.sinks.is_empty() && !self.failing
    }

    fn has_tenant(self, name: &str) -> bool {
        match self.tenants {
            [] => self.sinks.is_empty(),
            names => names.binary_search_by(|known| known.as_str().cmp(name)).is_ok(),
        }
    }

    fn has_sink(self, name: &SinkName) -> bool {
        selects(self.sinks, name.as_str()) && (!self.sinks.is_empty() || self.tenants.is_empty())
    }

    /// Dead letters belong to a sink and to a tenant, and both must match.
    fn has_letters(self, sink: &SinkName, tenant: TenantId, current: &CurrentStatus) -> bool {
        let named = || current.tenants.iter().find(|known| known.id == Some(tenant));
        selects(self.sinks, sink.as_str())
            && (self.tenants.is_empty()
                || named().is_some_and(|tenant| self.has_tenant(&tenant.name)))
    }

    /// The conditions of the daemon affect everything, and those of a credential its tenants.
    fn has_condition(self, condition: &Condition, current: &CurrentStatus) -> bool {
        match &condition.subject {
            ConditionSubject::Daemon => true,
            ConditionSubject::Sink(name) => self.has_sink(name),
            ConditionSubject::Tenant(name) => self.has_tenant(name),
            ConditionSubject::Credential(name) => current
                .tenants
                .iter()
                .any(|tenant| tenant.credential == *name && self.has_tenant(&tenant.name)),
        }
    }
}

/// The JSON document lists single dead letters and cursors, and the text groups of dead letters.
fn detail(args: &args::StatusArgs) -> StatusDetail {
    if args.json { StatusDetail::Items } else { StatusDetail::Groups }
}

/// Whether one of the patterns matches; without patterns, everything is selected.
fn selects(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| Glob::new(pattern).matches(name))
}

/// Fails if the patterns match no sink.
fn check_sinks(current: &CurrentStatus, patterns: &[String]) -> Result<(), CommandFailure> {
    let names = || current.stored.sinks.iter().map(|sink| sink.name.as_str());
    match patterns.first() {
        Some(pattern) if !names().any(|name| selects(patterns, name)) => {
            Err(unknown_name(Selected::Sink, pattern, names()))
        }
        _ => Ok(()),
    }
}
