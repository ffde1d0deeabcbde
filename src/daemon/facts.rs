//! Collects the state of all tenants and sinks, and the facts from which their conditions follow.
//!
//! Everything is read from the checkpoint, so that `status` shows the same as the daemon. If the
//! daemon runs in this process, its engine adds what is not stored: stalled loops. Start reading at
//! [`CurrentStatus::read`]. See decision 0050.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Engine, RESERVED_BYTES, resolved_tenant};
use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, SinkFailure, SinkStatus, Status, TenantStatus,
        UnresolvedDomain,
    },
    conditions::{
        Condition, Facts, OpenObservation, PollErrorFacts, RejectedConfiguration, SinkFacts,
        TenantFacts, conditions,
    },
    config::{Configuration, TenantName, TenantPlan},
    model::{TenantId, UnixMillis},
    schedule::{Polled, Schedule},
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
    pub facts: Facts,
    /// The conditions of `facts`.
    pub conditions: Vec<Condition>,
}

/// A configured tenant and its state.
#[derive(Debug)]
pub struct ConfiguredTenant {
    pub name: String,
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
        let mut by_guid: HashMap<String, TenantStatus> =
            stored.tenants.drain(..).map(|tenant| (tenant.guid.clone(), tenant)).collect();

        let schedule = &configuration.schedule;
        let polling = daemon.started().map(|_| schedule);
        let tenants: Vec<ConfiguredTenant> = configuration
            .tenants
            .iter()
            .map(|plan| {
                let id = resolved_tenant(plan, checkpoint).map(|tenant| tenant.id);
                let known = id.and_then(|id| by_guid.remove(&id.to_string()));
                let status = known.unwrap_or_else(|| unknown(plan, &stored.unresolved));
                let next_poll = next_poll(polling, id, &status, now);
                ConfiguredTenant { name: plan.name.clone(), id, status, next_poll }
            })
            .collect();

        let facts = tenants.iter().map(|tenant| tenant_facts(tenant, schedule, now)).collect();
        let mut other_tenants: Vec<TenantStatus> = by_guid.into_values().collect();
        other_tenants.sort_by(|a, b| a.guid.cmp(&b.guid));
        let current = Self::of(checkpoint, stored, daemon, now, tenants, facts, other_tenants);
        Ok(current.with_digests(configuration))
    }

    /// Marks the sinks that send digests, whose backlog waits for the next one.
    fn with_digests(mut self, configuration: &Configuration) -> Self {
        for plan in configuration.sinks.iter().filter(|plan| plan.digest.is_some()) {
            let mut sinks = self.facts.sinks.iter_mut();
            if let Some(sink) = sinks.find(|sink| sink.name == plan.name) {
                sink.sends_digests = true;
            }
        }
        self.conditions = conditions(&self.facts);
        self
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
        Ok(Self::of(checkpoint, stored, daemon, now, Vec::new(), Vec::new(), other_tenants))
    }

    fn of(
        checkpoint: &Checkpoint,
        stored: Status,
        daemon: DaemonState<'_>,
        now: Timestamp,
        tenants: Vec<ConfiguredTenant>,
        tenant_facts: Vec<TenantFacts>,
        other_tenants: Vec<TenantStatus>,
    ) -> Self {
        let facts = Facts {
            now: now.into(),
            daemon_started: daemon.started(),
            tenants: tenant_facts,
            sinks: stored.sinks.iter().map(sink_facts).collect(),
            stalled: daemon.stalled(),
            free_bytes: free_bytes(checkpoint),
            reserved_bytes: RESERVED_BYTES,
            rejected_configuration: stored.rejected_reload.as_ref().map(|rejected| {
                RejectedConfiguration { at: rejected.at, reason: rejected.reason.clone() }
            }),
        };
        let conditions = conditions(&facts);
        Self { tenants, other_tenants, stored, facts, conditions }
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

/// The status of a tenant about which the log contains nothing.
fn unknown(plan: &TenantPlan, unresolved: &[UnresolvedDomain]) -> TenantStatus {
    let TenantName::Domain(domain) = &plan.id else { return TenantStatus::default() };

    let status = TenantStatus { guid: domain.clone(), ..TenantStatus::default() };
    match unresolved.iter().find(|unresolved| unresolved.domain == *domain) {
        None => status,
        Some(found) => TenantStatus {
            last_attempt: Some(found.last_attempt),
            last_error: Some(found.error.clone()),
            error_class: Some(found.class.clone()),
            failing_since: Some(found.failing_since),
            ..status
        },
    }
}

fn next_poll(
    schedule: Option<&Schedule>,
    id: Option<TenantId>,
    status: &TenantStatus,
    now: Timestamp,
) -> Option<UnixMillis> {
    let next = UnixMillis::from(schedule?.next_poll(id?, &polled(status), now)?);
    // The server may have requested a longer wait than the schedule.
    Some(next.max(status.not_before.unwrap_or(next)))
}

fn polled(status: &TenantStatus) -> Polled {
    Polled {
        last_attempt: status.last_attempt.map(Into::into),
        last_success: status.last_success.map(Into::into),
        failures: status.failures,
        newest_day: status.newest_day,
    }
}

fn tenant_facts(tenant: &ConfiguredTenant, schedule: &Schedule, now: Timestamp) -> TenantFacts {
    let ConfiguredTenant { name, id, status, next_poll } = tenant;
    let due_since = id.and_then(|id| schedule.due_since(id, status.newest_day, now));
    let error = status.last_error.clone().map(|reason| PollErrorFacts {
        reason,
        class: status.error_class.clone().unwrap_or_default(),
        since: status.failing_since,
    });
    let observations = status.observations.iter().map(|open| OpenObservation {
        what: open.what,
        first_day: open.first_day,
        since: open.since,
        reason: open.reason.clone(),
    });

    TenantFacts {
        name: name.clone(),
        newest_day: status.newest_day,
        last_attempt: status.last_attempt,
        last_success: status.last_success,
        error,
        next_poll: *next_poll,
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

/// Free bytes on the disk of the checkpoint; `None` if they cannot be determined.
fn free_bytes(checkpoint: &Checkpoint) -> Option<u64> {
    let fs = rustix::fs::statvfs(checkpoint.directory()).ok()?;
    Some(fs.f_bavail.saturating_mul(fs.f_frsize))
}
