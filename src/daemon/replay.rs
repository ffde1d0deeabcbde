//! Which stored days a sink receives again, and how much that is. A replay is stored in the
//! checkpoint, so it survives a restart, and it never moves a live cursor; `operations` queues it.
//! Start reading at [`ReplayRequest`].

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    Deliverer, Engine, SinkReport,
    estimate::tenants_of_sink,
    once::finish,
    sampler::{SnapshotSpan, Volume, volume},
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, ReplayTenant},
    config::{Configuration, SinkPlan, TenantPlan},
    error::Hint,
    model::{Day, SinkName, Tenant, TenantId},
    source::Clients,
};

/// Which stored days a sink is to receive again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// The name of the sink.
    pub sink: SinkName,
    /// The first day, inclusive.
    pub first_day: Day,
    /// The last day, inclusive.
    pub last_day: Day,
    /// The names of the tenants; empty for all tenants of the sink.
    pub tenants: Vec<String>,
}

/// How much a replay or the delivery of a backlog sends. The numbers of records and bytes are
/// estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayExtent {
    /// The number of different days.
    pub days: u64,
    /// The number of tenants that have at least one of these days.
    pub tenants: u64,
    /// The sum of the days of all tenants.
    pub tenant_days: u64,
    /// The number of records.
    pub records: u64,
    /// Bytes of the formatted records, without the overhead of the protocol.
    pub bytes: u64,
}

/// Why a replay was not queued. Nothing has changed in the checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("there is no sink `{0}`")]
    NoSink(SinkName),
    /// The name of the sink.
    #[error("sink `{0}` does not receive the selected tenants")]
    NoTenant(SinkName),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl Hint for ReplayError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NoSink(_) => None,
            Self::NoTenant(_) => {
                Some("select tenants that match `tenants` in the section of the sink".into())
            }
            Self::Checkpoint(error) => error.hint(),
        }
    }
}

impl ReplayRequest {
    /// Whether the request includes this tenant if the sink receives it.
    pub(super) fn selects(&self, tenant: &TenantPlan) -> bool {
        self.tenants.is_empty() || self.tenants.contains(&tenant.name)
    }

    /// Fails if the request names tenants, and the sink receives none of them. `tenants` are those
    /// that it receives.
    pub(super) fn check(&self, tenants: &[Arc<Tenant>]) -> Result<(), ReplayError> {
        if tenants.is_empty() && !self.tenants.is_empty() {
            return Err(ReplayError::NoTenant(self.sink.clone()));
        }
        Ok(())
    }
}

/// How much a replay to the sink of this plan would send. Reads only the checkpoint.
///
/// # Errors
///
/// Fails if the sink receives none of the tenants, or if the checkpoint cannot be read.
pub fn estimate_replay(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    request: &ReplayRequest,
    clients: &Arc<Clients>,
) -> Result<ReplayExtent, ReplayError> {
    let received = tenants_of_sink(configuration, checkpoint, plan);
    let selected = received.filter(|(tenant, _)| request.selects(tenant));
    let tenants: Vec<Arc<Tenant>> = selected.map(|(_, tenant)| Arc::new(tenant)).collect();
    request.check(&tenants)?;

    let days = (request.first_day, request.last_day);
    Ok(replay_extent(checkpoint, plan, &tenants, days, clients)?)
}

/// How much a replay of these days sends, which includes the first and the last one. Fails if the
/// checkpoint cannot be read.
pub(super) fn replay_extent(
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    tenants: &[Arc<Tenant>],
    days: (Day, Day),
    clients: &Arc<Clients>,
) -> Result<ReplayExtent, CheckpointError> {
    let ids: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id).collect();
    let scope = checkpoint.replay_scope(&plan.name, &ids, days.0, days.1)?;
    let with_days: Vec<&ReplayTenant> =
        scope.tenants.iter().filter(|tenant| tenant.snapshots > 0).collect();

    let by_id: HashMap<TenantId, &Tenant> =
        tenants.iter().map(|tenant| (tenant.id, &**tenant)).collect();
    let span = |scope: &&ReplayTenant| {
        Some(SnapshotSpan {
            tenant: by_id.get(&scope.tenant).copied()?,
            snapshots: scope.snapshots,
            first_seq: scope.first_seq,
            last_seq: scope.last_seq,
            first_day: days.0,
            last_day: Some(days.1),
        })
    };
    let spans: Vec<SnapshotSpan<'_>> = with_days.iter().filter_map(span).collect();

    let Volume { records, bytes } = volume(checkpoint, plan, clients, &spans)?;
    let observations: u64 = scope.tenants.iter().map(|tenant| tenant.observations).sum();
    Ok(ReplayExtent {
        days: scope.days,
        tenants: with_days.len() as u64,
        tenant_days: with_days.iter().map(|tenant| tenant.days).sum(),
        records: records + observations,
        bytes,
    })
}

/// Delivers everything that is queued for one sink, without a daemon. Delivers nothing if no such
/// sink is configured. The caller writes the second cursor file with
/// [`CursorFileWriter::update`](super::CursorFileWriter::update).
pub async fn deliver_queued(engine: &Arc<Engine>, sink: &SinkName) -> SinkReport {
    let Some(plan) = engine.sinks().named(sink) else {
        return SinkReport { name: sink.clone(), ..SinkReport::default() };
    };
    let mut deliverer = Deliverer::new(engine.clone(), plan.clone());
    let stopped = deliverer.run_once(&CancellationToken::new()).await.err();
    finish(engine, deliverer, stopped).await
}
