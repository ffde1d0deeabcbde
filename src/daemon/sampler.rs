//! Estimates the volume of stored snapshots: how many records a sink derives from them, and how
//! large these are. Formatting all snapshots could take minutes, so only two snapshots of each of
//! at most [`MAX_SAMPLED_TENANTS`] tenants are formatted, and the result is scaled to the number of
//! all snapshots. This module reads only the checkpoint, and never sends anything. Start reading at
//! [`volume`].

use std::sync::Arc;

use super::{
    deliverer::{Catalogs, compared_to},
    sink_context,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, LogEntry, ReadRequest, StoredSnapshot},
    config::SinkPlan,
    derive::{Entry, Records, Rules},
    format::{Formatter, Options},
    model::{Day, Seq, Tenant},
    sink::Context,
    source::Clients,
    wire,
};

/// The snapshots of a tenant whose volume is estimated.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotSpan<'a> {
    pub tenant: &'a Tenant,
    /// The number of snapshots; at least one.
    pub snapshots: u64,
    /// The first snapshot.
    pub first_seq: Seq,
    /// The last snapshot.
    pub last_seq: Seq,
    /// The first day, inclusive.
    pub first_day: Day,
    /// The last day, inclusive; `None` means no limit.
    pub last_day: Option<Day>,
}

/// An amount of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Volume {
    /// The number of records, without observations.
    pub records: u64,
    /// Bytes of the formatted records, without the overhead of the protocol.
    pub bytes: u64,
}

/// The number of tenants whose snapshots are formatted. With more tenants, these represent the
/// others.
const MAX_SAMPLED_TENANTS: usize = 50;

/// Estimates what a sink derives from these snapshots.
///
/// # Errors
///
/// Fails if the checkpoint cannot be read.
pub(super) fn volume(
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    clients: &Arc<Clients>,
    spans: &[SnapshotSpan<'_>],
) -> Result<Volume, CheckpointError> {
    let mut sampler = Sampler {
        checkpoint,
        plan,
        catalogs: Catalogs::default(),
        formatter: formatter(plan, clients),
        sampled: Sampled::default(),
    };
    let step = spans.len().div_ceil(MAX_SAMPLED_TENANTS).max(1);
    for span in spans.iter().step_by(step) {
        sampler.add(span)?;
    }

    let snapshots = spans.iter().map(|span| span.snapshots).sum();
    Ok(sampler.sampled.scaled_to(snapshots))
}

/// A formatter that writes records as the sink does, without the envelope of its protocol.
pub(super) fn formatter(plan: &SinkPlan, clients: &Arc<Clients>) -> Formatter {
    let Context { host, texts, fields, .. } = sink_context(plan, clients);
    Formatter::new(plan.plan.format(), Options { texts, host, fields })
}

/// Measures sample snapshots.
struct Sampler<'a> {
    checkpoint: &'a Checkpoint,
    plan: &'a SinkPlan,
    catalogs: Catalogs,
    formatter: Formatter,
    sampled: Sampled,
}

/// The snapshots of the sampled tenants, and their estimated volume.
#[derive(Clone, Copy, Debug, Default)]
struct Sampled {
    snapshots: u64,
    volume: Volume,
}

impl Sampler<'_> {
    /// Adds the snapshots of a tenant. The newest one is measured, because its controls have texts,
    /// and one from the middle represents the others. Skips a tenant whose newest snapshot cannot
    /// be read.
    fn add(&mut self, span: &SnapshotSpan<'_>) -> Result<(), CheckpointError> {
        let Some(newest) = self.measure(span, span.last_seq)? else { return Ok(()) };
        let middle = Seq::new(span.first_seq.get().midpoint(span.last_seq.get()));
        let other = self.measure(span, middle)?.unwrap_or(newest);

        let others = span.snapshots.saturating_sub(1);
        self.sampled.snapshots += span.snapshots;
        self.sampled.volume.records += newest.records + others * other.records;
        self.sampled.volume.bytes += newest.bytes + others * other.bytes;
        Ok(())
    }

    /// The volume of the first snapshot of the span at `seq` or later; `None` if there is none that
    /// can be read.
    fn measure(
        &mut self,
        span: &SnapshotSpan<'_>,
        seq: Seq,
    ) -> Result<Option<Volume>, CheckpointError> {
        let range = ReadRequest {
            tenant: span.tenant.id,
            first_seq: seq,
            last_seq: span.last_seq,
            first_day: span.first_day,
            last_day: span.last_day,
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
        snapshot.map(|snapshot| self.volume_of(span.tenant, &snapshot)).transpose()
    }

    /// The volume of a snapshot; zero if its body cannot be decoded.
    fn volume_of(
        &mut self,
        tenant: &Tenant,
        stored: &StoredSnapshot,
    ) -> Result<Volume, CheckpointError> {
        let Ok(snapshot) = wire::snapshot(&stored.body) else { return Ok(Volume::default()) };
        let catalog = self.catalogs.get(self.checkpoint, stored.catalog)?;
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

        let records = Records::new(&entry, &snapshot, &self.plan.selection);
        let mut out = Vec::new();
        (0..records.end()).filter_map(|index| records.at(index)).for_each(|record| {
            self.formatter.write(&record, &mut out);
            out.push(b'\n');
        });
        Ok(Volume { records: records.selected().into(), bytes: out.len() as u64 })
    }
}

impl Sampled {
    /// Extrapolates the volume to this number of snapshots.
    fn scaled_to(&self, snapshots: u64) -> Volume {
        let scaled =
            |amount: u64| amount.saturating_mul(snapshots).checked_div(self.snapshots).unwrap_or(0);
        Volume { records: scaled(self.volume.records), bytes: scaled(self.volume.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_represent_all_snapshots() {
        let volume = Volume { records: 4_600, bytes: 4_000_000 };
        let sampled = Sampled { snapshots: 40, volume };
        assert_eq!(sampled.scaled_to(40), volume);
        assert_eq!(sampled.scaled_to(8), Volume { records: 920, bytes: 800_000 });

        let nothing = Sampled::default();
        assert_eq!(nothing.scaled_to(8), Volume::default(), "no snapshot could be read");
    }
}
