//! Queues stored days so that a sink receives them again, and estimates how much that is. A replay
//! is stored in the checkpoint, so it survives a restart, and it never moves a live cursor. Start
//! reading at `Engine::replay`.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::{
    Deliverer, Engine, SinkReport, TenantState,
    deliverer::Catalogs,
    estimate::{formatter, measure},
    once::finish,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, LogEntry, ReadRequest, ReplayTenant},
    clock,
    config::{SinkPlan, TenantPlan},
    error::Hint,
    format::Formatter,
    model::{Day, Tenant, TenantId},
    source::Clients,
};

/// Which stored days a sink is to receive again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// The name of the sink.
    pub sink: String,
    /// The first day, as the number of days since 1970-01-01.
    pub first_day: i32,
    /// The last day, as the number of days since 1970-01-01.
    pub last_day: i32,
    /// The names of the tenants; empty for all tenants of the sink.
    pub tenants: Vec<String>,
}

/// How much a replay sends. The numbers of records and bytes are estimates.
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
    NoSink(String),
    /// The name of the sink.
    #[error("sink `{0}` does not receive the selected tenants")]
    NoTenant(String),
    /// A day of the request is outside the range of calendar dates.
    #[error("a day is out of range")]
    NoDay,
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Tenants whose days are formatted for an estimate. With more tenants, these represent the others.
const MAX_SAMPLED_TENANTS: usize = 20;

impl Hint for ReplayError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NoSink(_) | Self::NoDay => None,
            Self::NoTenant(_) => {
                Some("select tenants that match `tenants` in the section of the sink".into())
            }
            Self::Checkpoint(error) => error.hint(),
        }
    }
}

impl ReplayRequest {
    /// The first and the last day; `None` if one is outside the range of calendar dates.
    pub fn days(&self) -> Option<(Day, Day)> {
        Some((Day::from_number(self.first_day)?, Day::from_number(self.last_day)?))
    }

    /// Whether the request includes this tenant if the sink receives it.
    pub fn selects(&self, tenant: &TenantPlan) -> bool {
        self.tenants.is_empty() || self.tenants.contains(&tenant.name)
    }
}

impl Engine {
    /// Queues a replay and notifies the deliverers. Returns how much it sends.
    ///
    /// Fails if no such sink is configured, if the sink receives none of the tenants, or if a day
    /// is not a calendar date.
    pub fn replay(&self, request: &ReplayRequest) -> Result<ReplayExtent, ReplayError> {
        let plan = self.sinks().find(|plan| plan.name == request.sink);
        let plan = plan.ok_or_else(|| ReplayError::NoSink(request.sink.clone()))?;
        let (first, last) = request.days().ok_or(ReplayError::NoDay)?;

        let selected = |state: &&TenantState| {
            plan.tenants.matches(&state.plan) && request.selects(&state.plan)
        };
        let tenants: Vec<Arc<Tenant>> =
            self.tenants.iter().filter(selected).filter_map(TenantState::resolved).collect();
        if tenants.is_empty() && !request.tenants.is_empty() {
            return Err(ReplayError::NoTenant(request.sink.clone()));
        }

        let extent = block_in_place(|| {
            let days = (first, last);
            let extent = replay_extent(&self.checkpoint, plan, &tenants, days, &self.clients)?;
            let ids: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id).collect();
            self.checkpoint.add_replay(&plan.name, &ids, first, last, clock::now().into())?;
            Ok::<_, CheckpointError>(extent)
        })?;
        self.notify_log_grown();
        Ok(extent)
    }
}

/// How much a replay of these days sends, which includes the first and the last one.
///
/// Formats two sample days per tenant, of at most [`MAX_SAMPLED_TENANTS`] tenants, because
/// formatting everything could take minutes.
///
/// # Errors
///
/// Fails if the checkpoint cannot be read.
pub fn replay_extent(
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

    let mut sampler = Sampler {
        checkpoint,
        plan,
        days,
        catalogs: Catalogs::default(),
        formatter: formatter(plan, clients),
        sampled: Sampled::default(),
    };
    let step = with_days.len().div_ceil(MAX_SAMPLED_TENANTS).max(1);
    for sample in with_days.iter().step_by(step) {
        if let Some(tenant) = tenants.iter().find(|tenant| tenant.id == sample.tenant) {
            sampler.add(tenant, sample)?;
        }
    }

    let snapshots: u64 = with_days.iter().map(|tenant| tenant.snapshots).sum();
    let observations: u64 = scope.tenants.iter().map(|tenant| tenant.observations).sum();
    Ok(ReplayExtent {
        days: scope.days,
        tenants: with_days.len() as u64,
        tenant_days: with_days.iter().map(|tenant| tenant.days).sum(),
        records: sampler.sampled.scale(sampler.sampled.records, snapshots) + observations,
        bytes: sampler.sampled.scale(sampler.sampled.bytes, snapshots),
    })
}

/// Measures sample days.
struct Sampler<'a> {
    checkpoint: &'a Checkpoint,
    plan: &'a SinkPlan,
    /// The first and the last day of the replay.
    days: (Day, Day),
    catalogs: Catalogs,
    formatter: Formatter,
    sampled: Sampled,
}

/// The snapshots of the sampled tenants, and their estimated size.
#[derive(Clone, Copy, Debug, Default)]
struct Sampled {
    snapshots: u64,
    records: u64,
    bytes: u64,
}

impl Sampler<'_> {
    /// Adds the days of a tenant. The newest one is measured, because its controls have texts, and
    /// one from the middle represents the others.
    fn add(&mut self, tenant: &Tenant, days: &ReplayTenant) -> Result<(), CheckpointError> {
        let Some(newest) = self.measure(tenant, days.last_seq, days.last_seq)? else {
            return Ok(());
        };
        let middle = days.first_seq.midpoint(days.last_seq);
        let other = self.measure(tenant, middle, days.last_seq)?.unwrap_or(newest);

        self.sampled.snapshots += days.snapshots;
        self.sampled.records += newest.0 + (days.snapshots - 1) * other.0;
        self.sampled.bytes += newest.1 + (days.snapshots - 1) * other.1;
        Ok(())
    }

    /// The records and bytes of the first snapshot in a range of the log; `None` if there is none
    /// that can be read.
    fn measure(
        &mut self,
        tenant: &Tenant,
        first_seq: u64,
        last_seq: u64,
    ) -> Result<Option<(u64, u64)>, CheckpointError> {
        let range = ReadRequest {
            tenant: tenant.id,
            first_seq,
            last_seq,
            first_day: self.days.0,
            last_day: Some(self.days.1),
            // Reading ends after the first snapshot.
            max_bytes: 1,
            with_bases: self.plan.selection.needs_base(),
            with_observations: false,
        };
        let entries = match self.checkpoint.read(&range) {
            // The delivery reports a damaged body.
            Err(CheckpointError::Damaged(_)) => return Ok(None),
            other => other?,
        };

        let snapshot = entries.into_iter().find_map(|entry| match entry {
            LogEntry::Snapshot(snapshot) => Some(snapshot),
            LogEntry::Observation(_) => None,
        });
        let Some(snapshot) = snapshot else { return Ok(None) };
        let (catalogs, formatter) = (&mut self.catalogs, &mut self.formatter);
        measure(self.checkpoint, self.plan, tenant, &snapshot, catalogs, formatter).map(Some)
    }
}

impl Sampled {
    /// Extrapolates a measured amount to this number of snapshots.
    fn scale(&self, amount: u64, snapshots: u64) -> u64 {
        amount.saturating_mul(snapshots).checked_div(self.snapshots).unwrap_or(0)
    }
}

/// Delivers everything that is queued for one sink, without a daemon. Delivers nothing if no such
/// sink is configured.
pub async fn deliver_queued(engine: &Arc<Engine>, sink: &str) -> SinkReport {
    let Some(plan) = engine.sinks().find(|plan| plan.name == sink) else {
        return SinkReport { name: sink.to_owned(), ..SinkReport::default() };
    };
    let mut deliverer = Deliverer::new(engine.clone(), plan.clone());
    let stopped = deliverer.run_once(&CancellationToken::new()).await.err();
    let report = finish(engine, deliverer, stopped).await;
    engine.write_cursor_file();
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_represent_all_snapshots() {
        let sampled = Sampled { snapshots: 40, records: 4_600, bytes: 4_000_000 };
        assert_eq!(sampled.scale(sampled.records, 40), 4_600);
        assert_eq!(sampled.scale(sampled.records, 8), 920);
        assert_eq!(sampled.scale(sampled.bytes, 8), 800_000);
        assert_eq!(Sampled::default().scale(0, 8), 0, "no snapshot could be read");
    }

    #[test]
    fn days_out_of_range_are_rejected() {
        let day = |text| Day::parse(text).unwrap();
        let request = ReplayRequest {
            sink: "splunk".to_owned(),
            first_day: day("2026-11-01").number(),
            last_day: day("2026-11-07").number(),
            tenants: Vec::new(),
        };
        assert_eq!(request.days(), Some((day("2026-11-01"), day("2026-11-07"))));
        assert_eq!(ReplayRequest { last_day: i32::MAX, ..request }.days(), None);
    }
}
