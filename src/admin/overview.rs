//! The state of the daemon at a point in time, from the checkpoint and the running engine.
//!
//! All pages and metrics are rendered from it, so that they agree. Reading it must never make a
//! deliverer wait, and copies nothing that a page can borrow while it is rendered. Start reading at
//! [`StatusOverview::of`].

use std::sync::atomic::Ordering::Relaxed;

use jiff::Timestamp;

use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, DeadLetterGroup, ReplayStatus, SinkStatus, StatusDetail,
        TenantStatus,
    },
    clock,
    conditions::{
        BySubject, Condition, ConditionFacts, ConditionSeverity, SinkHealth, TenantHealth,
        severity_of,
    },
    daemon::{ContainedTask, CurrentStatus, DaemonState, Engine, PollCounts, host_name},
    model::UnixMillis,
};

/// The state of the daemon at a point in time, without the histories of the tenants.
#[derive(Debug)]
pub(super) struct StatusOverview {
    /// The time at which the state was read.
    pub now: Timestamp,
    /// The time at which the process started.
    pub started: Timestamp,
    /// The name of this host.
    pub host: String,
    /// In the order of the configuration.
    pub tenants: Vec<TenantLine>,
    /// The configured sinks that have a deliverer, in the order in which they were added.
    pub sinks: Vec<SinkLine>,
    /// Replays that are not finished.
    pub replays: Vec<ReplayStatus>,
    /// All dead letters by sink, tenant and message, with [`StatusDetail::Groups`].
    pub dead_letters: Vec<DeadLetterGroup>,
    /// The size of the checkpoint in bytes.
    pub size: u64,
    /// Free bytes on the disk of the checkpoint; 0 if the number cannot be determined.
    pub free: u64,
    /// The facts from which the conditions follow.
    pub facts: ConditionFacts,
    /// What needs attention, the most urgent first.
    pub conditions: Vec<Condition>,
    /// The contained panics since the start of the process.
    pub panics: [(ContainedTask, u64); ContainedTask::ALL.len()],
    /// With more tenants than this, the metrics have no series per tenant.
    pub tenant_series: usize,
}

/// A configured tenant.
#[derive(Debug)]
pub(super) struct TenantLine {
    /// The name in the configuration.
    pub name: String,
    /// The state in the checkpoint. Before the first poll, it has only default values; if the ID of
    /// the tenant could not be resolved, it contains that failure.
    pub status: TenantStatus,
    /// The next poll by the schedule; `None` if it is unknown.
    pub next_poll: Option<UnixMillis>,
    /// When the credential expires, if that is known.
    pub credential_expires: Option<UnixMillis>,
    /// The health that follows from the tenant's conditions.
    pub health: TenantHealth,
    /// The most urgent severity of the tenant's conditions; `None` without conditions.
    pub severity: Option<ConditionSeverity>,
    /// The polls since the start of the process.
    pub polls: PollCounts,
}

/// A configured sink.
#[derive(Debug)]
pub(super) struct SinkLine {
    /// The type of the sink as configured.
    pub kind: &'static str,
    /// The state in the checkpoint.
    pub status: SinkStatus,
    /// The health that follows from the sink's conditions.
    pub health: SinkHealth,
    /// The most urgent severity of the sink's conditions; `None` without conditions.
    pub severity: Option<ConditionSeverity>,
    /// The number of settled batches since the start of the process.
    pub batches: u64,
    /// The size of these batches in bytes, before compression.
    pub bytes: u64,
    /// The number of failed attempts to deliver since the start of the process.
    pub retries: u64,
    /// The names of the parked targets, such as indices that the receiver refuses, and of the
    /// withheld tenants.
    pub parked_targets: Vec<String>,
}

impl StatusOverview {
    /// Reads the current state through a separate connection to the checkpoint, so that no
    /// deliverer has to wait. Fails if the checkpoint cannot be read.
    pub(super) fn of(engine: &Engine, detail: StatusDetail) -> Result<Self, CheckpointError> {
        let checkpoint =
            Checkpoint::open_read_only(engine.store().checkpoint().state_directory().path())?;
        let now = clock::now();
        let daemon = DaemonState::Here(engine);
        let current =
            CurrentStatus::read(engine.configuration(), &checkpoint, detail, daemon, now)?;
        let CurrentStatus { tenants, stored, facts, conditions, .. } = current;

        let by_subject = BySubject::new(&conditions);
        // Both are in the order of the configuration.
        let tenants = tenants.into_iter().zip(engine.tenants()).map(|(tenant, state)| {
            let of_tenant = by_subject.tenant(&tenant.name);
            TenantLine {
                credential_expires: state.graph.access().credential.expires().map(Into::into),
                health: TenantHealth::of(of_tenant),
                severity: severity_of(of_tenant),
                polls: engine.meters().polls_of(&tenant.name),
                name: tenant.name,
                status: tenant.status,
                next_poll: tenant.next_poll,
            }
        });
        let tenants = tenants.collect();

        let meters = engine.meters().sinks();
        let sinks = stored.sinks.into_iter().filter_map(|status| {
            let plan = engine.sinks().named(&status.name)?;
            let meter = meters.get(&status.name)?;
            let of_sink = by_subject.sink(&status.name);
            Some(SinkLine {
                kind: plan.kind,
                health: SinkHealth::of(of_sink),
                severity: severity_of(of_sink),
                batches: meter.batches.load(Relaxed),
                bytes: meter.bytes.load(Relaxed),
                retries: meter.retries.load(Relaxed),
                parked_targets: meter.parked_targets(),
                status,
            })
        });
        let sinks = sinks.collect();

        let admin = engine.configuration().admin.as_ref();
        Ok(Self {
            now,
            started: engine.meters().started,
            host: host_name(),
            tenants,
            sinks,
            replays: stored.replays,
            dead_letters: stored.dead_letter_groups,
            size: stored.size,
            free: facts.free_bytes.unwrap_or(0),
            facts,
            conditions,
            panics: ContainedTask::ALL.map(|task| (task, engine.meters().panics(task))),
            tenant_series: admin.map_or(0, |admin| admin.tenant_series),
        })
    }
}
