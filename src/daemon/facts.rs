//! Collects the state of all tenants and sinks, and the facts from which their conditions follow.
//!
//! Everything is read from the checkpoint, so that `status` shows the same as the daemon. If the
//! daemon runs in this process, its engine adds what is not stored: stalled loops. Start reading at
//! [`CurrentStatus::read`]. See decision 0050.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Engine, RESERVED_BYTES, free_bytes, resolved_id};
use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, SinkFailure, SinkStatus, Status, TenantStatus,
        UnresolvedDomain,
    },
    conditions::{
        Condition, ConditionFacts, OpenObservation, PollErrorFacts, RejectedConfiguration,
        SinkFacts, TenantFacts, conditions,
    },
    config::{Configuration, TenantName, TenantPlan},
    model::{CredentialExpiry, Polled, TenantId, UnixMillis},
    schedule::Schedule,
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
    /// The GUID; `None` if the domain of the tenant has not been resolved yet.
    pub id: Option<TenantId>,
    /// The default if nothing is stored about the tenant.
    pub status: TenantStatus,
    /// The next poll by the schedule; `None` without a daemon.
    pub next_poll: Option<UnixMillis>,
}

/// Whether a daemon is running, and since when.
#[derive(Clone, Copy, Debug)]
pub enum DaemonState<'a> {
    /// No daemon is running.
    Stopped,
    /// Another process runs the daemon, since this time.
    Elsewhere(UnixMillis),
    /// This process runs the daemon.
    Here(&'a Engine),
}

impl CurrentStatus {
    /// Reads the current status. Fails if the checkpoint cannot be read.
    pub fn read(
        configuration: &Configuration,
        checkpoint: &Checkpoint,
        daemon: DaemonState<'_>,
        now: Timestamp,
    ) -> Result<Self, CheckpointError> {
        let mut stored = checkpoint.status()?;
        let mut by_id: HashMap<TenantId, TenantStatus> =
            stored.tenants.drain(..).filter_map(|tenant| Some((tenant.id?, tenant))).collect();

        let schedule = &configuration.schedule;
        let polling = daemon.started().map(|_| schedule);
        let tenants: Vec<ConfiguredTenant> = configuration
            .tenants
            .iter()
            .map(|plan| {
                let id = resolved_id(plan, checkpoint);
                let known = id.and_then(|id| by_id.remove(&id));
                let status = known.unwrap_or_else(|| unknown(plan, &stored.unresolved));
                let next_poll = next_poll(polling, id, &status, now);
                let (name, configured_id) = (plan.name.clone(), plan.id.clone());
                ConfiguredTenant { name, configured_id, id, status, next_poll }
            })
            .collect();

        let mut other_tenants: Vec<TenantStatus> = by_id.into_values().collect();
        other_tenants.sort_by_key(|tenant| tenant.id);

        let mut facts = facts_without_tenants(checkpoint, &stored, daemon, now);
        facts.tenants = tenants.iter().map(|tenant| tenant_facts(tenant, schedule, now)).collect();
        mark_digests(&mut facts.sinks, configuration);
        let conditions = conditions(&facts);
        Ok(Self { tenants, other_tenants, stored, facts, conditions })
    }

    /// Reads the current status without a configuration: no tenant counts as configured. Fails if
    /// the checkpoint cannot be read.
    pub fn read_without_configuration(
        checkpoint: &Checkpoint,
        daemon: DaemonState<'_>,
        now: Timestamp,
    ) -> Result<Self, CheckpointError> {
        let mut stored = checkpoint.status()?;
        let other_tenants = std::mem::take(&mut stored.tenants);
        let facts = facts_without_tenants(checkpoint, &stored, daemon, now);
        let conditions = conditions(&facts);
        Ok(Self { tenants: Vec::new(), other_tenants, stored, facts, conditions })
    }
}

impl DaemonState<'_> {
    fn started(self) -> Option<UnixMillis> {
        match self {
            Self::Stopped => None,
            Self::Elsewhere(since) => Some(since),
            Self::Here(engine) => Some(engine.meters.started.into()),
        }
    }

    fn stalled(self) -> Vec<String> {
        match self {
            Self::Here(engine) => engine.meters.stalled(),
            Self::Stopped | Self::Elsewhere(_) => Vec::new(),
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
    ConditionFacts {
        now: now.into(),
        daemon_started: daemon.started(),
        tenants: Vec::new(),
        sinks: stored.sinks.iter().map(sink_facts).collect(),
        stalled: daemon.stalled(),
        free_bytes: free_bytes(checkpoint.directory()),
        reserved_bytes: RESERVED_BYTES,
        rejected_configuration: rejected.map(|rejected| RejectedConfiguration {
            at: rejected.at,
            reason: rejected.reason.clone(),
        }),
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

fn next_poll(
    schedule: Option<&Schedule>,
    id: Option<TenantId>,
    status: &TenantStatus,
    now: Timestamp,
) -> Option<UnixMillis> {
    let next = UnixMillis::from(schedule?.next_poll(id?, &status.polled, now)?);
    // The server may have requested a longer wait than the schedule.
    Some(next.max(status.not_before.unwrap_or(next)))
}

fn tenant_facts(tenant: &ConfiguredTenant, schedule: &Schedule, now: Timestamp) -> TenantFacts {
    let ConfiguredTenant { name, id, status, .. } = tenant;
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
        expires: open.expires.map(CredentialExpiry::at),
    });

    TenantFacts {
        name: name.clone(),
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
