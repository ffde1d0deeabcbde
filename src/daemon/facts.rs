//! Collects the state of all tenants and sinks, and the facts from which their conditions follow.
//!
//! Everything is read from the checkpoint, so that `status` shows the same as the daemon; that
//! includes what the daemon reports about itself. What it may be unable to store is taken from its
//! [`LiveFacts`]: from its engine if it runs in this process, and otherwise from its control
//! socket. Start reading at [`CurrentStatus::read`]. See decision 0050.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashMap, time::Duration};

use jiff::Timestamp;

use super::{
    Engine, LiveFacts, LiveFactsState, NoLiveFacts,
    storage_watch::MAX_SILENCE,
    tenants::{LONGEST_BACKOFF, MAX_RESTORED_RETRY_AFTER},
};
use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, DaemonReport, SinkFailure, SinkStatus, Status, StatusDetail,
        TenantStatus, UnresolvedDomain,
    },
    conditions::{
        Condition, ConditionFacts, ConfigurationFacts, DaemonFacts, Parked, PollErrorFacts,
        SinkFacts, StorageFacts, TenantFacts, conditions,
    },
    config::{Configuration, Outline, TenantName, TenantPlan},
    error::Explanation,
    model::{ClockDifference, Polled, TenantId, UnixMillis},
    schedule::Schedule,
    state_directory::RESERVED_BYTES,
};

/// The state of all tenants and sinks at one moment.
#[derive(Debug)]
pub struct CurrentStatus {
    /// The configured tenants, in the order of the configuration.
    pub tenants: Vec<ConfiguredTenant>,
    /// Tenants with stored data that are not configured.
    pub other_tenants: Vec<TenantStatus>,
    /// The rest of what the checkpoint contains; its list of tenants is empty.
    pub stored: Status,
    /// The facts about everything that is configured.
    pub facts: ConditionFacts,
    /// The conditions of `facts`.
    pub conditions: Vec<Condition>,
    /// Whether `facts` contain what only the running daemon knows.
    pub live_facts: LiveFactsState,
}

/// A configured tenant and its state.
#[derive(Debug)]
pub struct ConfiguredTenant {
    /// The name in the configuration.
    pub name: String,
    /// The GUID or the domain in the configuration.
    pub configured_id: TenantName,
    /// The name of its credential.
    pub credential: String,
    /// The GUID; `None` if the domain of the tenant has not been resolved yet.
    pub id: Option<TenantId>,
    /// The default if nothing is stored about the tenant.
    pub status: TenantStatus,
    /// The next poll, or the next attempt to resolve the domain: the time of this status if it is
    /// due or running. `None` without a daemon.
    pub next_poll: Option<UnixMillis>,
}

/// Whether a daemon is running, and since when.
#[derive(Clone, Copy, Debug)]
pub enum DaemonState<'a> {
    /// No daemon is running.
    Stopped,
    /// The process with this ID runs the daemon.
    Elsewhere {
        pid: u32,
        since: UnixMillis,
        /// What it has reported, or why it has reported nothing.
        live: &'a Result<LiveFacts, NoLiveFacts>,
    },
    /// This process runs the daemon.
    Here(&'a Engine),
}

/// What the next poll of every tenant depends on, while a daemon is running.
struct Polling<'a> {
    schedule: &'a Schedule,
    started: UnixMillis,
    now: Timestamp,
}

impl CurrentStatus {
    /// Reads the current status. Fails if the checkpoint cannot be read.
    pub fn read(
        configuration: &Configuration,
        checkpoint: &Checkpoint,
        detail: StatusDetail,
        daemon: DaemonState<'_>,
        now: Timestamp,
    ) -> Result<Self, CheckpointError> {
        let mut stored = checkpoint.status(detail)?;
        let mut by_id: HashMap<TenantId, TenantStatus> =
            stored.tenants.drain(..).filter_map(|tenant| Some((tenant.id?, tenant))).collect();

        let schedule = &configuration.schedule;
        let polling = daemon.started().map(|started| Polling { schedule, started, now });
        let tenants: Vec<ConfiguredTenant> = configuration
            .tenants
            .iter()
            .map(|plan| {
                let id = known_id(plan, &stored);
                let known = id.and_then(|id| by_id.remove(&id));
                let status = known.unwrap_or_else(|| unknown(plan, &stored.unresolved));
                let next_poll = polling.as_ref().and_then(|polling| polling.next(id, &status));
                ConfiguredTenant {
                    name: plan.name.clone(),
                    configured_id: plan.id.clone(),
                    credential: plan.credential.clone(),
                    id,
                    status,
                    next_poll,
                }
            })
            .collect();

        let mut other_tenants: Vec<TenantStatus> = by_id.into_values().collect();
        other_tenants.sort_by_key(|tenant| tenant.id);

        let mut facts = facts_without_tenants(checkpoint, &stored, daemon, now);
        facts.configuration = daemon.configuration(stored.daemon.as_ref(), &configuration.outline);
        facts.tenants = tenants.iter().map(|tenant| tenant_facts(tenant, schedule, now)).collect();
        mark_digests(&mut facts.sinks, configuration);
        let (conditions, live_facts) = (conditions(&facts), daemon.live_facts());
        Ok(Self { tenants, other_tenants, stored, facts, conditions, live_facts })
    }

    /// Reads the current status without a configuration, whose files are invalid for this reason:
    /// no tenant counts as configured. Fails if the checkpoint cannot be read.
    pub fn read_without_configuration(
        checkpoint: &Checkpoint,
        detail: StatusDetail,
        daemon: DaemonState<'_>,
        invalid: Explanation,
        now: Timestamp,
    ) -> Result<Self, CheckpointError> {
        let mut stored = checkpoint.status(detail)?;
        let other_tenants = std::mem::take(&mut stored.tenants);
        let mut facts = facts_without_tenants(checkpoint, &stored, daemon, now);
        facts.configuration = ConfigurationFacts::Invalid(invalid);
        let (conditions, live_facts) = (conditions(&facts), daemon.live_facts());
        let tenants = Vec::new();
        Ok(Self { tenants, other_tenants, stored, facts, conditions, live_facts })
    }
}

impl<'a> DaemonState<'a> {
    /// What the running daemon knows at this moment; `None` if it has not reported it.
    fn live(self) -> Option<Cow<'a, LiveFacts>> {
        match self {
            Self::Here(engine) => Some(Cow::Owned(LiveFacts::of(engine.meters()))),
            Self::Elsewhere { live, .. } => live.as_ref().ok().map(Cow::Borrowed),
            Self::Stopped => None,
        }
    }

    /// Whether a status contains what only the running daemon knows.
    fn live_facts(self) -> LiveFactsState {
        match self {
            Self::Stopped => LiveFactsState::NoDaemon,
            Self::Here(_) => LiveFactsState::Included,
            Self::Elsewhere { live, .. } => LiveFactsState::of(live),
        }
    }

    /// Why the running daemon has not reported what it knows, if that is a fault.
    fn unreported(self) -> Option<Explanation> {
        match self {
            Self::Elsewhere { live, .. } => live.as_ref().err()?.fault().cloned(),
            Self::Here(_) | Self::Stopped => None,
        }
    }

    fn started(self) -> Option<UnixMillis> {
        match self {
            Self::Stopped => None,
            Self::Elsewhere { since, .. } => Some(since),
            Self::Here(engine) => Some(engine.meters().started.into()),
        }
    }

    /// Whether a daemon is running or, without one, whether one has stored a report.
    fn facts(self, report: Option<&DaemonReport>, now: UnixMillis) -> DaemonFacts {
        match (self.started(), report) {
            // The clock may have been ahead at the start of the daemon.
            (Some(started), _) => DaemonFacts::Running(started.min(now)),
            (None, Some(_)) => DaemonFacts::Stopped,
            (None, None) => DaemonFacts::NotUsed,
        }
    }

    /// The stalled loops, from the stored report of a daemon that does not respond.
    fn stalled(self, report: Option<&DaemonReport>) -> Vec<String> {
        match (self.live(), self) {
            (Some(live), _) => live.into_owned().stalled,
            (None, Self::Elsewhere { pid, .. }) => {
                let report = report.filter(|report| report.pid == pid);
                report.map(|report| report.stalled.clone()).unwrap_or_default()
            }
            (None, _) => Vec::new(),
        }
    }

    /// The fault of the storage. A daemon that does not respond cannot have stored one, but it has
    /// stored at which time it could write last.
    fn storage(self, alive_at: Option<UnixMillis>, now: UnixMillis) -> Option<StorageFacts> {
        match (self.live(), self) {
            (Some(live), _) => live.into_owned().storage,
            (None, Self::Elsewhere { since: started, .. }) => {
                let since = alive_at?.max(started);
                let reason = "the daemon has not been able to write to it for 5 minutes".into();
                let is_silent = now.saturating_duration_since(since) > MAX_SILENCE;
                is_silent.then_some(StorageFacts { reason, since })
            }
            (None, _) => None,
        }
    }

    /// The difference of the clock: of the last comparison of the running daemon, or the stored
    /// one, which may be older because it could not be replaced. Its beginning may be that of an
    /// earlier process.
    fn clock(self, stored: Option<ClockDifference>) -> Option<ClockDifference> {
        let Some(current) = self.live().and_then(|live| live.clock) else { return stored };
        let since = stored.map_or(current.since, |stored| stored.since.min(current.since));
        Some(ClockDifference { since, ..current })
    }

    /// Whether a daemon in another process runs with the configuration that has this outline. With
    /// other environment variables, the two cannot be compared.
    fn configuration(self, report: Option<&DaemonReport>, files: &Outline) -> ConfigurationFacts {
        match (self, report) {
            (Self::Elsewhere { pid, .. }, Some(report))
                if report.pid == pid
                    && report.variables == files.variables
                    && report.configuration != files.fingerprint() =>
            {
                ConfigurationFacts::Changed
            }
            _ => ConfigurationFacts::InForce,
        }
    }
}

/// The facts about the host and the sinks.
fn facts_without_tenants(
    checkpoint: &Checkpoint,
    stored: &Status,
    daemon: DaemonState<'_>,
    now: Timestamp,
) -> ConditionFacts {
    let report = stored.daemon.as_ref();
    ConditionFacts {
        now: now.into(),
        daemon: daemon.facts(report, now.into()),
        tenants: Vec::new(),
        sinks: stored.sinks.iter().map(|sink| sink_facts(sink, now.into())).collect(),
        stalled: daemon.stalled(report),
        free_bytes: checkpoint.state_directory().free_bytes(),
        reserved_bytes: RESERVED_BYTES,
        storage: daemon.storage(stored.daemon_alive_at, now.into()),
        clock: daemon.clock(stored.clock),
        outdated_cursor_file: stored.outdated_cursor_file.clone(),
        rejected_configuration: stored.rejected_configuration.clone(),
        configuration: ConfigurationFacts::InForce,
        unreported: daemon.unreported(),
    }
}

/// Marks the sinks that send digests, whose backlog waits for the next one.
fn mark_digests(sinks: &mut [SinkFacts], configuration: &Configuration) {
    for plan in configuration.sinks.iter().filter(|plan| plan.digest.is_some()) {
        if let Some(sink) = sinks.iter_mut().find(|sink| sink.name == plan.name) {
            sink.sends_digests = true;
        }
    }
}

/// The ID of a tenant at the moment of this status; `None` if its domain was not resolved yet.
fn known_id(plan: &TenantPlan, stored: &Status) -> Option<TenantId> {
    match &plan.id {
        TenantName::Guid(id) => Some(*id),
        TenantName::Domain(domain) => stored.resolved.get(domain).copied(),
    }
}

/// The status of a tenant about which the log contains nothing.
fn unknown(plan: &TenantPlan, unresolved: &[UnresolvedDomain]) -> TenantStatus {
    let TenantName::Domain(domain) = &plan.id else { return TenantStatus::default() };

    match unresolved.iter().find(|unresolved| unresolved.domain == *domain) {
        None => TenantStatus::default(),
        Some(found) => TenantStatus {
            polled: Polled { last_attempt: Some(found.last_attempt), ..Polled::default() },
            last_error: Some(found.error.clone()),
            error_class: found.class,
            failing_since: Some(found.failing_since),
            not_before: found.not_before,
            ..TenantStatus::default()
        },
    }
}

impl Polling<'_> {
    /// The next poll of a tenant; `None` if the cron expression never matches again.
    fn next(&self, id: Option<TenantId>, status: &TenantStatus) -> Option<UnixMillis> {
        let Some(id) = id else { return Some(self.next_resolution(status)) };
        let next = if self.is_unfinished(status) {
            UnixMillis::from(self.now)
        } else {
            UnixMillis::from(self.schedule.next_poll(id, &status.polled, self.now)?)
        };
        // The server may have requested a longer wait than the schedule.
        Some(next.max(self.end_of_wait(status, MAX_RESTORED_RETRY_AFTER)))
    }

    /// Whether a poll is due regardless of the schedule: the start of the daemon repeats failed
    /// polls and continues queued backfills, and a command requests a backfill.
    fn is_unfinished(&self, status: &TenantStatus) -> bool {
        let last = status.polled.last_attempt;
        let is_due_since = |time| last.is_none_or(|last| last < time);
        let has_failed = status.polled.failures > 0;
        match status.backfill_requested {
            Some(requested) => is_due_since(requested.max(self.started)),
            None => has_failed && is_due_since(self.started),
        }
    }

    /// When the domain of a tenant is resolved, and the tenant then polled: now, or after the
    /// backoff, which a restart resets.
    fn next_resolution(&self, status: &TenantStatus) -> UnixMillis {
        let last = status.polled.last_attempt;
        if last.is_some_and(|last| last >= self.started) {
            self.end_of_wait(status, LONGEST_BACKOFF)
        } else {
            self.now.into()
        }
    }

    /// The end of the stored wait of a tenant, of at most `longest`; now if there is none.
    fn end_of_wait(&self, status: &TenantStatus, longest: Duration) -> UnixMillis {
        let now = UnixMillis::from(self.now);
        let rest = status.not_before.map(|end| end.known_rest(now, longest));
        now.saturating_add(rest.unwrap_or_default())
    }
}

fn tenant_facts(tenant: &ConfiguredTenant, schedule: &Schedule, now: Timestamp) -> TenantFacts {
    let ConfiguredTenant { name, credential, id, status, .. } = tenant;
    let Polled { last_attempt, newest_day, .. } = status.polled;
    let due_since = id.and_then(|id| schedule.due_since(id, newest_day, now));
    let error = status.last_error.clone().map(|reason| PollErrorFacts {
        reason,
        class: status.error_class,
        since: status.failing_since.and_then(|since| since.known_past(now.into())),
    });

    TenantFacts {
        name: name.clone(),
        credential: credential.clone(),
        newest_day,
        last_attempt,
        error,
        due_since: due_since.map(Into::into),
        observations: status.observations.clone(),
    }
}

/// Times in the future are unknown: otherwise, a sink without an acknowledgement would count as
/// working until then.
fn sink_facts(sink: &SinkStatus, now: UnixMillis) -> SinkFacts {
    let known = |time: Option<UnixMillis>| time.and_then(|time| time.known_past(now));
    SinkFacts {
        name: sink.name.clone(),
        failure: sink.last_error.clone(),
        parked: match sink.failure {
            Some(SinkFailure::Parked) => Parked::Sink,
            Some(SinkFailure::TargetsParked) => Parked::Targets,
            Some(SinkFailure::TenantsWithheld) => Parked::Tenants,
            Some(SinkFailure::Retrying) | None => Parked::Nothing,
        },
        failing_since: known(sink.failing_since),
        backlog: sink.backlog,
        oldest_day: sink.oldest_day,
        last_acknowledgement: known(sink.last_acknowledgement),
        sends_digests: false,
        dead_letters: sink.dead_letters,
    }
}
