//! From the log to loads: whose turn it is, what is read, what becomes records.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::{Deliverer, DeliveryError, catalogs::compared_to, turns::in_turn};
use crate::{
    checkpoint::{
        Lane, Pending, Position, QueuedDeadLetter, Stored, StoredEntry, StoredObservation, Wanted,
        in_force,
    },
    derive::{Entry, Observed, Records, Rules, Selection, quality},
    error::chain,
    model::{Baseline, Catalog, Record, Snapshot, Tenant, TenantId},
    wire,
};

/// Bytes of bodies read from the log at a time.
const READ_AHEAD: usize = 2 << 20;
/// Tenants served before it is looked again who is next.
const ROUND: usize = 64;
/// A load goes out after so long, full or not.
const OLDEST_LOAD: Duration = Duration::from_secs(1);
/// Dead letters sent again at a time.
const LETTERS: u32 = 500;

/// An entry, read.
struct Decoded<'a> {
    catalog: Arc<Catalog>,
    base_catalog: Option<Arc<Catalog>>,
    snapshot: Snapshot<'a>,
    observed_time: String,
}

/// A tenant whose log is served.
struct Served {
    tenant: Arc<Tenant>,
    rules: Arc<Rules>,
}

type Tenants = HashMap<TenantId, Served>;

/// Where a tenant's entries stand when they are made into records.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    served: &'a Served,
    baselines: &'a [Baseline],
    replayed: bool,
}

impl Deliverer {
    /// Reads and sends until nothing is left: what is new first, then days to be sent once more,
    /// then dead letters. A tenant whose log cannot be read is set aside, and the others are
    /// served.
    pub(super) async fn fill(&mut self, cancel: &CancellationToken) -> Result<(), DeliveryError> {
        let mut set_aside: HashSet<TenantId> = HashSet::new();
        let mut unreadable = None;
        loop {
            let known: Tenants = self
                .engine
                .tenants
                .iter()
                .filter_map(|state| {
                    let tenant = state.resolved()?;
                    Some((tenant.id, Served { tenant, rules: Arc::clone(&state.plan.rules) }))
                })
                .collect();
            let (lane, pending) = self.next(&known, &set_aside)?;
            if pending.is_empty() {
                self.submit().await?;
                self.settle_all().await?;
                // Seen with the cursors as they are now, there may be more after all.
                if !std::mem::take(&mut self.ahead).is_empty() || self.serve_letters(&known).await?
                {
                    continue;
                }
                return unreadable.map_or(Ok(()), Err);
            }
            if self.sink.is_none() {
                self.ensure_open().await?;
                continue;
            }
            self.change_lane(lane).await?;
            for next in pending.iter().take(ROUND) {
                if cancel.is_cancelled() {
                    return Err(DeliveryError::Cancelled);
                }
                let Some(served) = known.get(&next.tenant) else { continue };
                self.last = Some(next.tenant);
                match self.serve(next, served, cancel).await {
                    Err(stopped) if stopped.is_of_one_tenant() => {
                        tracing::error!(
                            sink = self.plan.name,
                            tenant = served.tenant.name,
                            error = chain(&stopped),
                            "the tenant's log cannot be read; it is set aside"
                        );
                        set_aside.insert(next.tenant);
                        unreadable = Some(stopped);
                    }
                    served => served?,
                }
            }
        }
    }

    /// What is to be read next, in turn, from where it has been read to.
    fn next(
        &self,
        known: &Tenants,
        set_aside: &HashSet<TenantId>,
    ) -> Result<(Lane, Vec<Pending>), DeliveryError> {
        let checkpoint = &self.engine.checkpoint;
        let unread = |lane: Lane, mut pending: Vec<Pending>| {
            for next in &mut pending {
                next.at = *self.ahead.get(&(lane, next.tenant)).unwrap_or(&next.at);
            }
            // Of a tenant that is no longer configured the log stays, and nothing is sent.
            pending.retain(|p| {
                p.at.seq <= p.last
                    && known.contains_key(&p.tenant)
                    && !set_aside.contains(&p.tenant)
            });
            in_turn(&mut pending, self.last);
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

    /// A load is of one lane.
    async fn change_lane(&mut self, lane: Lane) -> Result<(), DeliveryError> {
        if self.outgoing.lane != lane {
            self.submit().await?;
            self.outgoing.lane = lane;
        }
        Ok(())
    }

    /// Loads some of a tenant's log.
    async fn serve(
        &mut self,
        pending: &Pending,
        served: &Served,
        cancel: &CancellationToken,
    ) -> Result<(), DeliveryError> {
        let wanted = Wanted {
            tenant: pending.tenant,
            seq: pending.at.seq,
            last: pending.last,
            floor: pending.floor,
            ceiling: pending.ceiling,
            bytes: READ_AHEAD,
            bases: self.plan.selection.needs_base(),
            observations: self.plan.selection.quality,
        };
        let (entries, baselines) = block_in_place(|| {
            let checkpoint = &self.engine.checkpoint;
            Ok::<_, DeliveryError>((
                checkpoint.read(&wanted)?,
                checkpoint.baselines(pending.tenant)?,
            ))
        })?;
        let replayed = self.outgoing.lane != Lane::Live;
        let around = Surroundings { served, baselines: &baselines, replayed };
        self.outgoing.begin(pending.tenant, pending.at);
        for stored in &entries {
            match stored {
                Stored::Snapshot(entry) => {
                    let decoded = self.decode(entry)?;
                    let sent = self.outgoing.lane == Lane::Live
                        && self.was_sent_elsewhere(pending.tenant, entry, &decoded.snapshot);
                    if !sent {
                        self.serve_entry(entry, decoded, around, pending.at, cancel).await?;
                    }
                }
                Stored::Observation(observed) => self.serve_observation(observed, around)?,
            }
            let next = Position { seq: stored.seq() + 1, record_index: 0 };
            self.reached(pending.tenant, next);
            if self.outgoing.is_full(self.limits) {
                self.submit().await?;
                self.outgoing.begin(pending.tenant, next);
            }
        }
        if entries.is_empty() {
            self.reached(pending.tenant, Position { seq: pending.last + 1, record_index: 0 });
        }
        if self.outgoing.age() > OLDEST_LOAD {
            self.submit().await?;
        }
        Ok(())
    }

    fn reached(&mut self, tenant: TenantId, to: Position) {
        self.outgoing.reached(to);
        self.ahead.insert((self.outgoing.lane, tenant), to);
    }

    fn decode<'e>(&mut self, entry: &'e StoredEntry) -> Result<Decoded<'e>, DeliveryError> {
        let seq = entry.snapshot.seq;
        let unreadable = |reason: String| DeliveryError::Entry { seq, reason };
        let checkpoint = &self.engine.checkpoint;
        let (catalog, base_catalog) =
            block_in_place(|| self.catalogs.pair(checkpoint, entry.catalog, &entry.context))?;
        let snapshot = wire::snapshot(&entry.body).map_err(|error| unreadable(chain(&error)))?;
        let observed_time = rfc3339(entry.observed_ms).map_err(unreadable)?;
        Ok(Decoded { catalog, base_catalog, snapshot, observed_time })
    }

    async fn serve_entry(
        &mut self,
        entry: &StoredEntry,
        decoded: Decoded<'_>,
        around: Surroundings<'_>,
        at: Position,
        cancel: &CancellationToken,
    ) -> Result<(), DeliveryError> {
        let seq = entry.snapshot.seq;
        let selection = Arc::clone(&self.plan.selection);
        let tenant = around.served.tenant.id;
        let entry = decoded.entry(entry, around);
        let records = Records::new(&entry, &decoded.snapshot, &selection);
        let first = if seq == at.seq { at.record_index } else { 0 };
        for record_index in first..records.end() {
            if let Some(record) = records.at(record_index) {
                self.encode(&record, Position { seq, record_index });
            }
            if self.outgoing.is_full(self.limits) && !self.plan.plan.whole_entries() {
                if cancel.is_cancelled() {
                    return Err(DeliveryError::Cancelled);
                }
                let next = Position { seq, record_index: record_index + 1 };
                self.reached(tenant, next);
                self.submit().await?;
                self.outgoing.begin(tenant, next);
            }
        }
        Ok(())
    }

    /// What is about this sink goes to the others only.
    fn serve_observation(
        &mut self,
        stored: &StoredObservation,
        around: Surroundings<'_>,
    ) -> Result<(), DeliveryError> {
        let seq = stored.place.seq;
        let what = stored.observation.what;
        if what.is_about_a_sink() && stored.observation.subject == self.plan.name {
            return Ok(());
        }
        let observed_time =
            rfc3339(stored.observed_ms).map_err(|reason| DeliveryError::Entry { seq, reason })?;
        let record = quality(&observed(stored, &observed_time, around));
        self.encode(&record, Position { seq, record_index: 0 });
        Ok(())
    }

    /// Puts a record into the outgoing.
    fn encode(&mut self, record: &Record<'_>, at: Position) {
        if let Some(sink) = self.sink.as_mut() {
            let refused =
                sink.encode(record, &mut self.outgoing.batch).err().map(|refusal| refusal.0);
            self.outgoing.put(at, record.event_id, refused);
        }
    }

    /// Sends dead letters again, if any are wanted to be. Says whether there were some.
    async fn serve_letters(&mut self, known: &Tenants) -> Result<bool, DeliveryError> {
        let checkpoint = &self.engine.checkpoint;
        let letters = block_in_place(|| checkpoint.pending_letters(&self.plan.name, LETTERS))?;
        let letters: Vec<QueuedDeadLetter> =
            letters.into_iter().filter(|l| known.contains_key(&l.tenant)).collect();
        if letters.is_empty() {
            return Ok(false);
        }
        self.ensure_open().await?;
        self.outgoing.lane = Lane::DeadLetters;
        for letter in &letters {
            self.serve_letter(letter, &known[&letter.tenant]).await?;
        }
        self.submit().await?;
        self.settle_all().await?;
        self.outgoing.lane = Lane::Live;
        Ok(true)
    }

    async fn serve_letter(
        &mut self,
        letter: &QueuedDeadLetter,
        served: &Served,
    ) -> Result<(), DeliveryError> {
        let QueuedDeadLetter { at, .. } = *letter;
        let wanted = Wanted {
            tenant: letter.tenant,
            seq: at.seq,
            last: at.seq,
            floor: letter.day.unwrap_or(crate::model::Day::of(jiff::Timestamp::UNIX_EPOCH)),
            ceiling: None,
            bytes: READ_AHEAD,
            bases: true,
            observations: true,
        };
        let (entries, baselines) = block_in_place(|| {
            let checkpoint = &self.engine.checkpoint;
            Ok::<_, DeliveryError>((
                checkpoint.read(&wanted)?,
                checkpoint.baselines(letter.tenant)?,
            ))
        })?;
        let around = Surroundings { served, baselines: &baselines, replayed: true };
        self.outgoing.begin(letter.tenant, at);
        self.outgoing.reached(Position { record_index: at.record_index + 1, ..at });
        let refuse = |reason: &str| Some(reason.to_owned());
        match entries.first() {
            None => {
                self.outgoing.put_letter(letter, refuse("its day is no longer in the checkpoint"));
            }
            Some(Stored::Observation(stored)) => {
                let observed_time = rfc3339(stored.observed_ms)
                    .map_err(|reason| DeliveryError::Entry { seq: at.seq, reason })?;
                let record = quality(&observed(stored, &observed_time, around));
                self.encode_letter(letter, &record);
            }
            Some(Stored::Snapshot(entry)) => {
                let decoded = self.decode(entry)?;
                // What was refused once is wanted, whatever the configuration has come to select
                // since.
                let selection = Selection::all();
                let derived = decoded.entry(entry, around);
                let given =
                    Records::new(&derived, &decoded.snapshot, &self.plan.selection).selected();
                let records =
                    Records::new(&derived, &decoded.snapshot, &selection).of_which_given(given);
                // A day that was enriched since may have it at another place.
                let is_it = |record: &Record<'_>| record.event_id == letter.event_id;
                let elsewhere = || {
                    (0..records.end())
                        .filter_map(|record_index| records.at(record_index))
                        .find(is_it)
                };
                match records.at(at.record_index).filter(is_it).or_else(elsewhere) {
                    Some(record) => self.encode_letter(letter, &record),
                    None => self.outgoing.put_letter(letter, refuse("its day has no such record")),
                }
            }
        }
        if self.outgoing.is_full(self.limits) {
            self.submit().await?;
            self.outgoing.lane = Lane::DeadLetters;
        }
        Ok(())
    }

    fn encode_letter(&mut self, letter: &QueuedDeadLetter, record: &Record<'_>) {
        if let Some(sink) = self.sink.as_mut() {
            let refused =
                sink.encode(record, &mut self.outgoing.batch).err().map(|refusal| refusal.0);
            self.outgoing.put_letter(letter, refused);
        }
    }
}

fn rfc3339(ms: i64) -> Result<String, String> {
    let instant = jiff::Timestamp::from_millisecond(ms).map_err(|error| error.to_string())?;
    Ok(instant.to_string())
}

fn observed<'e>(
    stored: &'e StoredObservation,
    observed_time: &'e str,
    around: Surroundings<'e>,
) -> Observed<'e> {
    Observed {
        tenant: &around.served.tenant,
        observation: &stored.observation,
        place: &stored.place,
        observed_time,
        observed_ms: stored.observed_ms,
        repeats: stored.repeats,
        replayed: around.replayed,
        rules: &around.served.rules,
    }
}

impl Decoded<'_> {
    fn entry<'e>(&'e self, stored: &'e StoredEntry, around: Surroundings<'e>) -> Entry<'e> {
        Entry {
            tenant: &around.served.tenant,
            snapshot: &stored.snapshot,
            observed_time: &self.observed_time,
            observed_ms: stored.observed_ms,
            history: &stored.history,
            catalog: &self.catalog,
            comparison: compared_to(
                &stored.context,
                self.base_catalog.as_deref(),
                in_force(around.baselines, stored.snapshot.seq),
            ),
            rules: &around.served.rules,
            replayed: around.replayed,
        }
    }
}
