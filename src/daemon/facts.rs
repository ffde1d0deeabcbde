//! Collects the state of all tenants and sinks, and the facts from which their conditions follow.
//!
//! Everything is read from the checkpoint, so that `status` shows the same as the daemon; that
//! includes what the daemon reports about itself. If the daemon runs in this process, its engine is
//! used instead of the report. Start reading at [`CurrentStatus::read`]. See decision 0050.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{Engine, RESERVED_BYTES, free_bytes, resolved_id, tenants::backoff_after};
use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, CursorList, DaemonReport, SinkFailure, SinkStatus, Status,
        TenantStatus, UnresolvedDomain,
    },
    conditions::{
        Condition, ConditionFacts, ConfigurationFacts, DaemonFacts, OpenObservation,
        PollErrorFacts, RejectedConfiguration, SinkFacts, TenantFacts, conditions,
    },
    config::{Configuration, Outline, TenantName, TenantPlan},
    error::Explanation,
    model::{Polled, TenantId, UnixMillis},
    schedule::Schedule,
    source::Credential,
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
    /// The next poll by the schedule, or the next attempt to resolve the domain; `None` without a
    /// daemon.
    pub next_poll: Option<UnixMillis>,
}

/// Whether a daemon is running, and since when.
#[derive(Clone, Copy, Debug)]
pub enum DaemonState<'a> {
    /// No daemon is running.
    Stopped,
    /// The process with this ID runs the daemon.
    Elsewhere { pid: u32, since: UnixMillis },
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
        cursors: CursorList,
        daemon: DaemonState<'_>,
        now: Timestamp,
    ) -> Result<Self, CheckpointError> {
        let mut stored = checkpoint.status(cursors)?;
        let mut by_id: HashMap<TenantId, TenantStatus> =
            stored.tenants.drain(..).filter_map(|tenant| Some((tenant.id?, tenant))).collect();

        let schedule = &configuration.schedule;
        let credentials = credential_names(configuration);
        let polling = daemon.started().map(|started| Polling { schedule, started, now });
        let tenants: Vec<ConfiguredTenant> = configuration
            .tenants
            .iter()
            .map(|plan| {
                let id = resolved_id(plan, Some(checkpoint));
                let known = id.and_then(|id| by_id.remove(&id));
                let status = known.unwrap_or_else(|| unknown(plan, &stored.unresolved));
                let next_poll = polling.as_ref().and_then(|polling| polling.next(id, &status));
                let (name, configured_id) = (plan.name.clone(), plan.id.clone());
                let used = credentials.get(&credential_address(&plan.access.credential));
                let credential = used.copied().unwrap_or_default().to_owned();
                ConfiguredTenant { name, configured_id, credential, id, status, next_poll }
            })
            .collect();

        let mut other_tenants: Vec<TenantStatus> = by_id.into_values().collect();
        other_tenants.sort_by_key(|tenant| tenant.id);

        let mut facts = facts_without_tenants(checkpoint, &stored, daemon, now);
        facts.configuration = daemon.configuration(stored.daemon.as_ref(), &configuration.outline);
        facts.tenants = tenants.iter().map(|tenant| tenant_facts(tenant, schedule, now)).collect();
        mark_digests(&mut facts.sinks, configuration);
        let conditions = conditions(&facts);
        Ok(Self { tenants, other_tenants, stored, facts, conditions })
    }

    /// Reads the current status without a configuration, whose files are invalid for this reason:
    /// no tenant counts as configured. Fails if the checkpoint cannot be read.
    pub fn read_without_configuration(
        checkpoint: &Checkpoint,
        cursors: CursorList,
        daemon: DaemonState<'_>,
        invalid: Explanation,
        now: Timestamp,
    ) -> Result<Self, CheckpointError> {
        let mut stored = checkpoint.status(cursors)?;
        let other_tenants = std::mem::take(&mut stored.tenants);
        let mut facts = facts_without_tenants(checkpoint, &stored, daemon, now);
        facts.configuration = ConfigurationFacts::Invalid(invalid);
        let conditions = conditions(&facts);
        Ok(Self { tenants: Vec::new(), other_tenants, stored, facts, conditions })
    }
}

impl DaemonState<'_> {
    fn started(self) -> Option<UnixMillis> {
        match self {
            Self::Stopped => None,
            Self::Elsewhere { since, .. } => Some(since),
            Self::Here(engine) => Some(engine.meters.started.into()),
        }
    }

    /// Whether a daemon is running or, without one, whether one has stored a report.
    fn facts(self, report: Option<&DaemonReport>) -> DaemonFacts {
        match (self.started(), report) {
            (Some(started), _) => DaemonFacts::Running(started),
            (None, Some(_)) => DaemonFacts::Stopped,
            (None, None) => DaemonFacts::NotUsed,
        }
    }

    /// The stalled loops, from the report if the daemon runs in another process.
    fn stalled(self, report: Option<&DaemonReport>) -> Vec<String> {
        match self {
            Self::Here(engine) => engine.meters.stalled(),
            Self::Elsewhere { pid, .. } => {
                let report = report.filter(|report| report.pid == pid);
                report.map(|report| report.stalled.clone()).unwrap_or_default()
            }
            Self::Stopped => Vec::new(),
        }
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
    let rejected = stored.rejected_reload.as_ref();
    let report = stored.daemon.as_ref();
    ConditionFacts {
        now: now.into(),
        daemon: daemon.facts(report),
        tenants: Vec::new(),
        sinks: stored.sinks.iter().map(sink_facts).collect(),
        stalled: daemon.stalled(report),
        free_bytes: free_bytes(checkpoint.directory()),
        reserved_bytes: RESERVED_BYTES,
        rejected_configuration: rejected.map(|rejected| RejectedConfiguration {
            at: rejected.at,
            reason: rejected.reason.clone(),
        }),
        configuration: ConfigurationFacts::InForce,
    }
}

/// Credential names by the address of the `Arc` that tenants share.
fn credential_names(configuration: &Configuration) -> HashMap<*const (), &str> {
    let named = configuration.credentials.iter();
    named.map(|named| (credential_address(&named.credential), named.name.as_str())).collect()
}

fn credential_address(credential: &Arc<dyn Credential>) -> *const () {
    Arc::as_ptr(credential).cast()
}

/// Marks the sinks that send digests, whose backlog waits for the next one.
fn mark_digests(sinks: &mut [SinkFacts], configuration: &Configuration) {
    for plan in configuration.sinks.iter().filter(|plan| plan.digest.is_some()) {
        if let Some(sink) = sinks.iter_mut().find(|sink| sink.name == plan.name) {
            sink.sends_digests = true;
        }
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
            ..TenantStatus::default()
        },
    }
}

impl Polling<'_> {
    /// The next poll of a tenant; `None` if the cron expression never matches again.
    fn next(&self, id: Option<TenantId>, status: &TenantStatus) -> Option<UnixMillis> {
        let Some(id) = id else { return Some(self.next_resolution(status)) };
        let next = UnixMillis::from(self.schedule.next_poll(id, &status.polled, self.now)?);
        // The server may have requested a longer wait than the schedule.
        Some(next.max(status.not_before.unwrap_or(next)))
    }

    /// When the domain of a tenant is resolved, and the tenant then polled: now, or after the
    /// backoff, which a restart resets.
    fn next_resolution(&self, status: &TenantStatus) -> UnixMillis {
        let now = UnixMillis::from(self.now);
        let last = status.polled.last_attempt.filter(|last| *last >= self.started);
        let (Some(last), Some(since)) = (last, status.failing_since) else { return now };

        let failing = last.saturating_duration_since(since.max(self.started));
        last.saturating_add(backoff_after(failing)).max(now)
    }
}

fn tenant_facts(tenant: &ConfiguredTenant, schedule: &Schedule, now: Timestamp) -> TenantFacts {
    let ConfiguredTenant { name, credential, id, status, .. } = tenant;
    let Polled { last_attempt, newest_day, .. } = status.polled;
    let due_since = id.and_then(|id| schedule.due_since(id, newest_day, now));
    let error = status.last_error.clone().map(|reason| PollErrorFacts {
        reason,
        class: status.error_class,
        since: status.failing_since,
    });
    let observations = status.observations.iter().map(|open| OpenObservation {
        what: open.what,
        first_day: open.first_day,
        since: open.since,
        reason: open.reason.clone(),
        expires: open.expires,
    });

    TenantFacts {
        name: name.clone(),
        credential: credential.clone(),
        newest_day,
        last_attempt,
        error,
        due_since: due_since.map(Into::into),
        observations: observations.collect(),
    }
}

fn sink_facts(sink: &SinkStatus) -> SinkFacts {
    SinkFacts {
        name: sink.name.clone(),
        failure: sink.last_error.clone(),
        parked: sink.failure == Some(SinkFailure::Parked),
        failing_since: sink.failing_since,
        backlog: sink.backlog,
        oldest_day: sink.oldest_day,
        last_acknowledgement: sink.last_acknowledgement,
        sends_digests: false,
        dead_letters: sink.dead_letters,
    }
}
