//! The state of the daemon at a point in time, from the checkpoint and the running engine. All
//! pages and metrics are rendered from it.

use std::{collections::HashMap, sync::atomic::Ordering::Relaxed};

use jiff::Timestamp;

use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, QueuedDeadLetter, ReplayStatus, SinkStatus, TenantStatus,
    },
    clock,
    daemon::{Engine, PollCounts, SinkState, host_name, resolved_tenant},
};

/// The state of the daemon at a point in time, without the histories of the tenants.
#[derive(Debug)]
pub(super) struct Overview {
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
    /// The newest dead letters.
    pub dead_letters: Vec<QueuedDeadLetter>,
    /// The size of the checkpoint in bytes.
    pub size: u64,
    /// Free bytes on the disk of the checkpoint; 0 if the number cannot be determined.
    pub free: u64,
    /// A description of each stalled loop.
    pub stalled: Vec<String>,
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
    /// The state of its deliverer.
    pub state: SinkState,
    /// The number of settled batches since the start of the process.
    pub batches: u64,
    /// The size of these batches in bytes, before compression.
    pub bytes: u64,
    /// The number of failed attempts to deliver since the start of the process.
    pub retries: u64,
}

impl Overview {
    /// Reads the current state through a separate connection to the checkpoint, so that no
    /// deliverer has to wait. Fails if the checkpoint cannot be read.
    pub(super) fn of(engine: &Engine) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::open_read_only(engine.checkpoint.directory())?;
        let status = checkpoint.status()?;

        let mut by_guid: HashMap<String, TenantStatus> =
            status.tenants.into_iter().map(|tenant| (tenant.guid.clone(), tenant)).collect();
        let mut polls = engine.meters.polls();
        let tenants = engine.tenants.iter().map(|state| {
            let plan = &state.plan;
            let id = resolved_tenant(plan, &checkpoint).map(|tenant| tenant.id.to_string());
            let mut status = id.as_ref().and_then(|id| by_guid.remove(id)).unwrap_or_default();
            if let Some(failure) = state.resolution_failure() {
                status.last_error = Some(failure.error);
                status.last_attempt = Some(failure.at.into());
            }
            let polls = polls.remove(&plan.name).unwrap_or_default();
            TenantLine { name: plan.name.clone(), status, polls }
        });
        let tenants = tenants.collect();

        let meters = engine.meters.sinks();
        let sinks = status.sinks.into_iter().filter_map(|status| {
            let plan = engine.sinks().find(|plan| plan.name == status.name)?;
            let meter = meters.get(&status.name)?;
            Some(SinkLine {
                kind: plan.kind,
                state: meter.state(),
                batches: meter.batches.load(Relaxed),
                bytes: meter.bytes.load(Relaxed),
                retries: meter.retries.load(Relaxed),
                status,
            })
        });

        let fs = rustix::fs::statvfs(engine.checkpoint.directory());
        let admin = engine.configuration.admin.as_ref();
        Ok(Self {
            now: clock::now(),
            started: engine.meters.started,
            host: host_name(),
            tenants,
            sinks: sinks.collect(),
            replays: status.replays,
            dead_letters: status.dead_letters,
            size: status.size,
            free: fs.map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize)),
            stalled: engine.meters.stalled(),
            tenant_series: admin.map_or(0, |admin| admin.tenant_series),
        })
    }
}
