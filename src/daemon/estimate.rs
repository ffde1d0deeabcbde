//! How much a sink will be sent that is new, or behind: told before it is.

use super::{
    deliverer::{Catalogs, compared_to},
    sink_context,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, Stored, StoredEntry, Wanted},
    clock,
    config::SinkPlan,
    derive::{Entry, Records, Rules},
    format::{Formatter, Options},
    model::{Day, Tenant},
    source::Clients,
    wire,
};

/// What waits for a sink, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    pub days: u64,
    pub records: u64,
    /// Of the records as they are written, without what the protocol adds.
    pub bytes: u64,
    /// The checkpoint has never heard of the sink.
    pub is_new: bool,
}

/// What will be sent to a sink when it is started with this configuration. Records are counted and
/// weighed by the newest day of each tenant, which has its texts, and by one that has lost them.
pub fn estimate(
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    tenants: &[Tenant],
    clients: &std::sync::Arc<Clients>,
) -> Result<Estimate, CheckpointError> {
    let known = checkpoint.status()?.sinks.iter().any(|sink| sink.name == plan.name);
    let mut total = Estimate { is_new: !known, ..Estimate::default() };
    let pending = if known { checkpoint.pending(&plan.name)? } else { Vec::new() };
    let context = sink_context(plan, clients);
    let options =
        Options { texts: plan.texts, host: context.host.clone(), fields: context.fields.clone() };
    let mut formatter = Formatter::new(plan.plan.format(), options);
    let mut catalogs = Catalogs::default();
    for tenant in tenants {
        let from = match pending.iter().find(|pending| pending.tenant == tenant.id) {
            Some(pending) => (pending.at.seq, pending.floor),
            None if known => continue,
            None => (1, super::first_day(plan)),
        };
        let days = checkpoint.extent(tenant.id, from.0, from.1)?;
        if days == 0 {
            continue;
        }
        total.days += days;
        let mut samples = samples(checkpoint, plan, tenant)?.into_iter();
        let mut weigh =
            |stored| weigh(checkpoint, plan, tenant, &stored, &mut catalogs, &mut formatter);
        let Some(newest) = samples.next().map(&mut weigh).transpose()? else { continue };
        let older = samples.next().map(weigh).transpose()?.unwrap_or(newest);
        total.records += newest.0 + (days - 1) * older.0;
        total.bytes += newest.1 + (days - 1) * older.1;
    }
    Ok(total)
}

/// A tenant's newest day, and one some days before it.
fn samples(
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    tenant: &Tenant,
) -> Result<Vec<StoredEntry>, CheckpointError> {
    let newest = checkpoint.next_seq(tenant.id)?;
    let wanted = Wanted {
        tenant: tenant.id,
        // Observations may stand behind the newest day.
        seq: newest.saturating_sub(20),
        last: newest,
        floor: Day::of(clock::now()).plus(-400),
        ceiling: None,
        bytes: usize::MAX,
        bases: plan.selection.needs_base(),
        observations: false,
    };
    let read = checkpoint.read(&wanted)?;
    let mut days: Vec<StoredEntry> = read
        .into_iter()
        .filter_map(|stored| match stored {
            Stored::Snapshot(entry) => Some(*entry),
            Stored::Observation(_) => None,
        })
        .collect();
    let newest = days.pop();
    Ok(newest.into_iter().chain(days.into_iter().next()).collect())
}

/// The records of a day, and their bytes.
fn weigh(
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    tenant: &Tenant,
    stored: &StoredEntry,
    catalogs: &mut Catalogs,
    formatter: &mut Formatter,
) -> Result<(u64, u64), CheckpointError> {
    let Ok(snapshot) = wire::snapshot(&stored.body) else { return Ok((0, 0)) };
    let catalog = catalogs.get(checkpoint, stored.catalog)?;
    let entry = Entry {
        tenant,
        snapshot: &stored.snapshot,
        observed_time: "2026-01-01T00:00:00.000Z",
        observed_ms: stored.observed_ms,
        history: &stored.history,
        catalog: &catalog,
        comparison: compared_to(&stored.context, Some(&*catalog), None),
        rules: Rules::none(),
        replayed: false,
    };
    let records = Records::new(&entry, &snapshot, &plan.selection);
    let mut out = Vec::new();
    (0..records.end()).filter_map(|place| records.at(place)).for_each(|record| {
        formatter.write(&record, &mut out);
        out.push(b'\n');
    });
    Ok((records.selected().into(), out.len() as u64))
}
