//! Fills batches from the log: selects the lane and the tenants to serve, reads entries, derives
//! records, and encodes them into the current batch.
//!
//! It reads ahead of the cursors, which move only when a batch is settled; see `window`. Start
//! reading at [`Deliverer::fill`]. See decision 0020.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{task::block_in_place, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Deliverer, DeliveryError,
    catalogs::{Catalogs, compared_to},
    rotation::rotate,
};
use crate::{
    checkpoint::{
        Checkpoint, Lane, LogEntry, Pending, Position, ReadRequest, StoredObservation,
        StoredSnapshot, baseline_in_force,
    },
    derive::{Entry, ObservationEntry, Records, Rules, quality},
    error::{Explanation, chain},
    model::{Baseline, Catalog, Record, Snapshot, Tenant, TenantId, UnixMillis},
    wire,
};

/// The number of bytes of bodies that are read from the log at a time.
const READ_AHEAD_BYTES: usize = 2 << 20;
/// The number of tenants that are served before the pending tenants are determined again.
const TENANTS_PER_ROUND: usize = 64;
/// A batch is submitted after this time even if it is not full.
const MAX_BATCH_AGE: Duration = Duration::from_secs(1);

/// An entry whose body and catalogs are decoded.
pub(super) struct Decoded<'a> {
    catalog: Arc<Catalog>,
    base_catalog: Option<Arc<Catalog>>,
    pub snapshot: Snapshot<'a>,
    observed_time: String,
}

/// A configured tenant whose ID is resolved.
pub(super) struct ResolvedTenant {
    pub tenant: Arc<Tenant>,
    pub rules: Arc<Rules>,
}

pub(super) type ResolvedTenants = HashMap<TenantId, ResolvedTenant>;

/// What all entries of one read have in common.
#[derive(Clone, Copy)]
pub(super) struct ReadContext<'a> {
    pub tenant: &'a Tenant,
    pub rules: &'a Rules,
    pub baselines: &'a [Baseline],
    pub replayed: bool,
}

impl Deliverer {
    /// Reads and submits until nothing is left: new entries first, then replays, then dead letters.
    ///
    /// If the log of one tenant cannot be read, its target is parked, or it is withheld, the others
    /// are served, and the error is returned at the end.
    pub(super) async fn fill(&mut self, cancel: &CancellationToken) -> Result<(), DeliveryError> {
        let mut skipped = self.suspects.waiting();
        let mut last_unreadable = None;
        let started = Instant::now();
        loop {
            let mut tenants = self.resolved_tenants();
            tenants.retain(|_, resolved| !self.is_blocked(&resolved.tenant, started));
            let (lane, pending) = self.next(&tenants, &skipped)?;
            if pending.is_empty() {
                if self.is_finished(&tenants, &mut skipped).await? {
                    let finished = self.finish_targets(started);
                    return last_unreadable.map_or(finished, Err);
                }
                continue;
            }
            if self.sink.is_none() {
                // This may move cursors, so the pending entries are determined again.
                self.ensure_open().await?;
                continue;
            }

            self.change_lane(lane).await?;

            for next in pending.iter().take(TENANTS_PER_ROUND) {
                if cancel.is_cancelled() {
                    return Err(DeliveryError::Canceled);
                }
                let Some(resolved) = tenants.get(&next.tenant) else { continue };
                // Another tenant may have shown in the meantime that its target is refused.
                if self.is_blocked(&resolved.tenant, started) {
                    continue;
                }

                self.last = Some(next.tenant);
                self.suspects.begin(next.tenant);
                let read = self.read_tenant(next, resolved, cancel).await;
                self.suspects.end();
                match read {
                    // A sink that was closed has lost records that are not acknowledged, so the
                    // logs are read again from the cursors.
                    Err(error) if error.affects_one_tenant() && self.sink.is_some() => {
                        let explanation = Explanation::of(&error);
                        tracing::error!(
                            sink = self.plan.name,
                            tenant = resolved.tenant.name,
                            error = explanation.message,
                            hint = explanation.hint,
                            "cannot read the tenant's log; skipping the tenant"
                        );
                        skipped.insert(next.tenant);
                        last_unreadable = Some(error);
                    }
                    result => result?,
                }
            }
        }
    }

    /// Settles everything that was read. Returns whether nothing is left to read.
    async fn is_finished(
        &mut self,
        tenants: &ResolvedTenants,
        skipped: &mut HashSet<TenantId>,
    ) -> Result<bool, DeliveryError> {
        self.submit().await?;
        self.settle_all().await?;
        self.targets.cursors_are_read();
        // A settled batch may have left records unsent, so the cursors are read again.
        if !std::mem::take(&mut self.read_positions).is_empty()
            || self.retry_dead_letters(tenants).await?
        {
            return Ok(false);
        }

        let suspect = self.suspects.take_next();
        Ok(suspect.is_none_or(|suspect| !skipped.remove(&suspect)))
    }

    fn resolved_tenants(&self) -> ResolvedTenants {
        let states = self.engine.tenants.iter();
        let resolved = states.filter_map(|state| {
            let tenant = state.resolved()?;
            let rules = Arc::clone(&state.plan.rules);
            Some((tenant.id, ResolvedTenant { tenant, rules }))
        });
        resolved.collect()
    }

    /// The lane to read next, and its tenants in the order in which they are served, each with the
    /// position from which to continue reading.
    fn next(
        &self,
        tenants: &ResolvedTenants,
        skipped: &HashSet<TenantId>,
    ) -> Result<(Lane, Vec<Pending>), DeliveryError> {
        let checkpoint = &self.engine.checkpoint;
        let unread = |lane: Lane, mut pending: Vec<Pending>| {
            for next in &mut pending {
                next.at = *self.read_positions.get(&(lane, next.tenant)).unwrap_or(&next.at);
            }
            // The log of a tenant that is no longer configured is kept but not sent. A tenant with
            // withheld records is read again after everything that was read is settled.
            pending.retain(|p| {
                p.at.seq <= p.last_seq
                    && tenants.contains_key(&p.tenant)
                    && !skipped.contains(&p.tenant)
                    && !self.targets.holds(lane, p.tenant)
            });
            rotate(&mut pending, self.last, |tenant| self.targets.is_busy(tenant));
            pending
        };

        let name = &self.plan.name;
        let live = unread(Lane::Live, block_in_place(|| checkpoint.pending(name))?);
        if live.is_empty()
            && let Some((lane, pending)) = block_in_place(|| checkpoint.pending_replay(name))?
        {
            return Ok((lane, unread(lane, pending)));
        }
        Ok((Lane::Live, live))
    }

    /// Submits the current batch if it belongs to another lane.
    async fn change_lane(&mut self, lane: Lane) -> Result<(), DeliveryError> {
        if self.outgoing.lane != lane {
            self.submit().await?;
            self.outgoing.lane = lane;
        }
        Ok(())
    }

    /// Reads the next entries of a tenant and adds their records to batches.
    async fn read_tenant(
        &mut self,
        pending: &Pending,
        resolved: &ResolvedTenant,
        cancel: &CancellationToken,
    ) -> Result<(), DeliveryError> {
        let range = ReadRequest {
            tenant: pending.tenant,
            first_seq: pending.at.seq,
            last_seq: pending.last_seq,
            first_day: pending.first_day,
            last_day: pending.last_day,
            max_bytes: READ_AHEAD_BYTES,
            with_bases: self.plan.selection.needs_base(),
            with_observations: self.plan.selection.quality,
        };
        let (entries, baselines) = self.read_log(&range)?;
        let replayed = self.outgoing.lane != Lane::Live;
        let context = ReadContext {
            tenant: &resolved.tenant,
            rules: &resolved.rules,
            baselines: &baselines,
            replayed,
        };

        self.begin_tenant(context.tenant).await?;
        self.outgoing.begin(pending.tenant, pending.at);
        for stored in &entries {
            if self.waits_for_target(pending.tenant) {
                return Ok(());
            }
            match stored {
                LogEntry::Snapshot(entry) => {
                    let decoded = self.decode(entry)?;
                    let is_sent = self.outgoing.lane == Lane::Live
                        && self.was_sent_from_another_log(pending.tenant, entry, &decoded.snapshot);
                    if !is_sent {
                        self.add_entry(entry, decoded, context, pending.at, cancel).await?;
                    }
                }
                LogEntry::Observation(stored) => self.add_observation(stored, context),
            }

            let next = Position { seq: stored.seq() + 1, record_index: 0 };
            self.advance_to(pending.tenant, next);
            self.submit_if_full(pending.tenant, next).await?;
        }

        if entries.is_empty() {
            self.advance_to(
                pending.tenant,
                Position { seq: pending.last_seq + 1, record_index: 0 },
            );
        }
        // A digest is one message, however long it takes to read its entries.
        if self.outgoing.age() > MAX_BATCH_AGE && self.plan.digest.is_none() {
            self.submit().await?;
        }
        Ok(())
    }

    fn read_log(
        &self,
        range: &ReadRequest,
    ) -> Result<(Vec<LogEntry>, Vec<Baseline>), DeliveryError> {
        let checkpoint = &self.engine.checkpoint;
        block_in_place(|| Ok((checkpoint.read(range)?, checkpoint.baselines(range.tenant)?)))
    }

    fn advance_to(&mut self, tenant: TenantId, to: Position) {
        self.outgoing.advance_to(to);
        self.read_positions.insert((self.outgoing.lane, tenant), to);
    }

    fn decode<'e>(&mut self, entry: &'e StoredSnapshot) -> Result<Decoded<'e>, DeliveryError> {
        let checkpoint = &self.engine.checkpoint;
        block_in_place(|| Decoded::read(entry, checkpoint, &mut self.catalogs))
    }

    /// Adds the records of an entry, submitting batches as they become full. `at` is the position
    /// at which the read began, which may be inside this entry.
    async fn add_entry(
        &mut self,
        entry: &StoredSnapshot,
        decoded: Decoded<'_>,
        context: ReadContext<'_>,
        at: Position,
        cancel: &CancellationToken,
    ) -> Result<(), DeliveryError> {
        let seq = entry.snapshot.seq;
        let selection = Arc::clone(&self.plan.selection);
        let tenant = context.tenant.id;
        let entry = decoded.entry(entry, context);
        let records = Records::new(&entry, &decoded.snapshot, &selection);

        let first = if seq == at.seq { at.record_index } else { 0 };
        for record_index in first..records.end() {
            let Some(record) = records.at(record_index) else { continue };
            self.encode(&record, Position { seq, record_index });
            if !self.plan.plan.whole_entries() && self.is_full() {
                if cancel.is_cancelled() {
                    return Err(DeliveryError::Canceled);
                }
                let next = Position { seq, record_index: record_index + 1 };
                self.advance_to(tenant, next);
                self.submit_if_full(tenant, next).await?;
                if self.waits_for_target(tenant) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Adds an observation. A sink never receives an observation about itself.
    fn add_observation(&mut self, stored: &StoredObservation, context: ReadContext<'_>) {
        let what = stored.observation.what;
        if what.is_about_a_sink() && stored.observation.subject == self.plan.name {
            return;
        }

        let observed_time = rfc3339(stored.observed_at);
        let record = quality(&observation_entry(stored, &observed_time, context));
        self.encode(&record, Position { seq: stored.snapshot.seq, record_index: 0 });
    }

    /// Submits the current batch if it is full, and begins the next one at this position of the
    /// tenant's log. If the last record shows whether a parked target is still refused, waits for
    /// its outcome.
    async fn submit_if_full(
        &mut self,
        tenant: TenantId,
        next: Position,
    ) -> Result<(), DeliveryError> {
        if !self.is_full() {
            return Ok(());
        }
        let tries_one_record = self.targets.tries_one_record();
        self.submit().await?;
        if tries_one_record {
            self.settle_all().await?;
        }
        if !self.waits_for_target(tenant) {
            self.outgoing.begin(tenant, next);
        }
        Ok(())
    }

    /// Whether records of the tenant were withheld, so that no later ones are read.
    fn waits_for_target(&self, tenant: TenantId) -> bool {
        self.targets.holds(self.outgoing.lane, tenant)
    }

    /// Whether the current batch is submitted before another record is added.
    pub(super) fn is_full(&self) -> bool {
        let batch = &self.outgoing.batch;
        self.outgoing.is_full(self.limits)
            || (self.targets.tries_one_record() && !batch.is_empty())
            || self.sink.as_ref().is_some_and(|sink| sink.is_full(batch))
    }

    /// Encodes a record into the current batch. A record that cannot be encoded is added as
    /// rejected.
    fn encode(&mut self, record: &Record<'_>, at: Position) {
        if let Some(sink) = self.sink.as_mut() {
            let rejected = sink.encode(record, &mut self.outgoing.batch).err().map(|r| r.0);
            self.outgoing.add(at, record.event_id, rejected);
        }
    }
}

impl<'a> Decoded<'a> {
    /// Decodes an entry, with its catalogs. Fails if the catalogs cannot be read, or if the body
    /// cannot be decoded.
    pub(super) fn read(
        entry: &'a StoredSnapshot,
        checkpoint: &Checkpoint,
        catalogs: &mut Catalogs,
    ) -> Result<Self, DeliveryError> {
        let seq = entry.snapshot.seq;
        let (catalog, base_catalog) = catalogs.pair(checkpoint, entry.catalog, &entry.context)?;

        let snapshot = wire::snapshot(&entry.body)
            .map_err(|error| DeliveryError::Entry { seq, reason: chain(&error) })?;
        let observed_time = rfc3339(entry.observed_at);
        Ok(Self { catalog, base_catalog, snapshot, observed_time })
    }

    /// The entry from which records are derived.
    pub(super) fn entry<'e>(
        &'e self,
        stored: &'e StoredSnapshot,
        context: ReadContext<'e>,
    ) -> Entry<'e> {
        Entry {
            tenant: context.tenant,
            snapshot: &stored.snapshot,
            observed_time: &self.observed_time,
            observed_at: stored.observed_at,
            history: &stored.history,
            catalog: &self.catalog,
            comparison: compared_to(
                &stored.context,
                self.base_catalog.as_deref(),
                baseline_in_force(context.baselines, stored.snapshot.seq),
            ),
            rules: context.rules,
            replayed: context.replayed,
        }
    }
}

/// The entry from which the record of an observation is derived.
pub(super) fn observation_entry<'e>(
    stored: &'e StoredObservation,
    observed_time: &'e str,
    context: ReadContext<'e>,
) -> ObservationEntry<'e> {
    ObservationEntry {
        tenant: context.tenant,
        observation: &stored.observation,
        snapshot: &stored.snapshot,
        observed_time,
        observed_at: stored.observed_at,
        repeats: stored.repeats,
        replayed: context.replayed,
        rules: context.rules,
    }
}

/// A time as RFC 3339 in UTC.
pub(super) fn rfc3339(time: UnixMillis) -> String {
    Timestamp::from(time).to_string()
}
