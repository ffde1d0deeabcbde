//! Estimates how much a sink will receive when the daemon starts, for `check` and for the warning
//! about a sink that may be renamed. Reads only the checkpoint, and sends nothing; `sampler`
//! measures the snapshots. Start reading at [`estimate`].

use std::{collections::HashMap, sync::Arc};

use super::{
    ReplayExtent, resolved_tenant,
    sampler::{SnapshotSpan, Volume, volume},
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, Pending, SnapshotRange},
    clock,
    config::{Configuration, SinkPlan, TenantPlan},
    model::{Day, Seq, Tenant, TenantId},
    source::Clients,
};

/// The estimated backlog of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The snapshots and their records, without observations. `days` is the largest number of days
    /// of a tenant.
    pub extent: ReplayExtent,
    /// Whether the checkpoint does not contain the sink yet.
    pub is_new: bool,
}

/// Estimates what a sink will receive when it is started with this configuration.
///
/// # Errors
///
/// Fails if the checkpoint cannot be read.
pub fn estimate(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    clients: &Arc<Clients>,
) -> Result<Estimate, CheckpointError> {
    // A removed sink is known too: it continues from its cursors.
    let is_known = checkpoint.stored_sinks()?.iter().any(|sink| sink.name == plan.name);
    let pending = if is_known { checkpoint.pending(&plan.name)? } else { Vec::new() };
    let pending: HashMap<TenantId, Pending> =
        pending.into_iter().map(|pending| (pending.tenant, pending)).collect();

    let received = tenants_of_sink(configuration, checkpoint, plan);
    let tenants: Vec<Tenant> = received.map(|(_, tenant)| tenant).collect();
    let (mut spans, mut days) = (Vec::new(), Vec::new());
    for tenant in &tenants {
        let (seq, first_day) = match pending.get(&tenant.id) {
            Some(pending) => (pending.at.seq, pending.first_day),
            None if is_known => continue,
            None => (Seq::FIRST, super::first_day(plan, Day::of(clock::now()))),
        };
        if let Some(range) = checkpoint.snapshot_range(tenant.id, seq, first_day)? {
            let SnapshotRange { snapshots, days: days_of_tenant, first_seq, last_seq } = range;
            days.push(days_of_tenant);
            let last_day = None;
            spans.push(SnapshotSpan {
                tenant,
                snapshots,
                first_seq,
                last_seq,
                first_day,
                last_day,
            });
        }
    }

    let Volume { records, bytes } = volume(checkpoint, plan, clients, &spans)?;
    let extent = ReplayExtent {
        days: days.iter().copied().max().unwrap_or(0),
        tenants: days.len() as u64,
        tenant_days: days.iter().sum(),
        records,
        bytes,
    };
    Ok(Estimate { extent, is_new: !is_known })
}

/// The tenants whose records a sink receives, in the order of the configuration. A tenant whose ID
/// is not known yet is left out.
pub(super) fn tenants_of_sink<'a>(
    configuration: &'a Configuration,
    checkpoint: &'a Checkpoint,
    plan: &'a SinkPlan,
) -> impl Iterator<Item = (&'a TenantPlan, Tenant)> {
    let received = configuration.tenants.iter().filter(move |tenant| plan.tenants.matches(tenant));
    received.filter_map(move |tenant| Some((tenant, resolved_tenant(tenant, checkpoint)?)))
}
