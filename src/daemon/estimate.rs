//! Estimates how much a sink will receive when the daemon starts: the `check` command. The estimate
//! is a product of stored days and the size of sample days, because formatting a whole backlog
//! could take minutes. Reads only the checkpoint, and sends nothing. Start reading at [`estimate`].

use std::sync::Arc;

use super::{
    deliverer::{Catalogs, compared_to},
    sink_context,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, LogEntry, ReadRequest, StoredSnapshot},
    clock,
    config::SinkPlan,
    derive::{Entry, Records, Rules},
    format::{Formatter, Options},
    model::{Day, Tenant},
    sink::Context,
    source::Clients,
    wire,
};

/// The estimated backlog of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The number of snapshots, over all tenants.
    pub days: u64,
    /// The estimated number of records of these snapshots, without observations.
    pub records: u64,
    /// Bytes of the formatted records, without the overhead of the protocol.
    pub bytes: u64,
    /// Whether the checkpoint does not contain the sink yet.
    pub is_new: bool,
}

/// Estimates what a sink will receive when it is started with this configuration.
///
/// Formats two sample days per tenant: the newest one, whose controls have texts, and one a few
/// days older, whose controls may have none.
///
/// # Errors
///
/// Fails if the checkpoint cannot be read.
pub fn estimate(
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    tenants: &[Tenant],
    clients: &Arc<Clients>,
) -> Result<Estimate, CheckpointError> {
    // A removed sink is known too: it continues from its cursors.
    let is_known = checkpoint.stored_sinks()?.iter().any(|sink| sink.name == plan.name);
    let pending = if is_known { checkpoint.pending(&plan.name)? } else { Vec::new() };

    let mut formatter = formatter(plan, clients);
    let mut catalogs = Catalogs::default();

    let mut total = Estimate { is_new: !is_known, ..Estimate::default() };
    for tenant in tenants {
        let (seq, first_day) = match pending.iter().find(|pending| pending.tenant == tenant.id) {
            Some(pending) => (pending.at.seq, pending.first_day),
            None if is_known => continue,
            None => (1, super::first_day(plan)),
        };
        let days = checkpoint.count_snapshots(tenant.id, seq, first_day)?;
        if days == 0 {
            continue;
        }
        total.days += days;

        let mut samples = samples(checkpoint, plan, tenant)?.into_iter();
        let mut measure =
            |stored| measure(checkpoint, plan, tenant, &stored, &mut catalogs, &mut formatter);
        let Some(newest) = samples.next().map(&mut measure).transpose()? else { continue };
        let older = samples.next().map(measure).transpose()?.unwrap_or(newest);
        total.records += newest.0 + (days - 1) * older.0;
        total.bytes += newest.1 + (days - 1) * older.1;
    }
    Ok(total)
}

/// A formatter that writes records as the sink does, without the envelope of its protocol.
pub(super) fn formatter(plan: &SinkPlan, clients: &Arc<Clients>) -> Formatter {
    let Context { host, texts, fields, .. } = sink_context(plan, clients);
    Formatter::new(plan.plan.format(), Options { texts, host, fields })
}

/// A tenant's newest day, followed by one that is a few days older if there is one.
fn samples(
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    tenant: &Tenant,
) -> Result<Vec<StoredSnapshot>, CheckpointError> {
    let end = checkpoint.next_seq(tenant.id)?;
    let range = ReadRequest {
        tenant: tenant.id,
        // Observations may follow the newest day in the log.
        first_seq: end.saturating_sub(20),
        last_seq: end,
        first_day: Day::of(clock::now()).plus(-400),
        last_day: None,
        max_bytes: usize::MAX,
        with_bases: plan.selection.needs_base(),
        with_observations: false,
    };

    let mut days: Vec<StoredSnapshot> = checkpoint
        .read(&range)?
        .into_iter()
        .filter_map(|stored| match stored {
            LogEntry::Snapshot(entry) => Some(*entry),
            LogEntry::Observation(_) => None,
        })
        .collect();
    let newest = days.pop();
    Ok(newest.into_iter().chain(days.into_iter().next()).collect())
}

/// The number of records of a day, and their size in bytes.
pub(super) fn measure(
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    tenant: &Tenant,
    stored: &StoredSnapshot,
    catalogs: &mut Catalogs,
    formatter: &mut Formatter,
) -> Result<(u64, u64), CheckpointError> {
    let Ok(snapshot) = wire::snapshot(&stored.body) else { return Ok((0, 0)) };
    let catalog = catalogs.get(checkpoint, stored.catalog)?;
    let entry = Entry {
        tenant,
        snapshot: &stored.snapshot,
        observed_time: "2026-01-01T00:00:00.000Z",
        observed_at: stored.observed_at,
        history: &stored.history,
        catalog: &catalog,
        comparison: compared_to(&stored.context, Some(&*catalog), None),
        rules: Rules::none(),
        replayed: false,
    };

    let records = Records::new(&entry, &snapshot, &plan.selection);
    let mut out = Vec::new();
    (0..records.end()).filter_map(|index| records.at(index)).for_each(|record| {
        formatter.write(&record, &mut out);
        out.push(b'\n');
    });
    Ok((records.selected().into(), out.len() as u64))
}
