//! One sink's loop: read on from its cursors, derive, encode, deliver, and move the cursor when
//! the sink has its proof.

mod catalogues;
mod delivery;
mod refusals;
mod turns;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use self::{
    catalogues::Catalogues,
    delivery::Delivery,
    refusals::{Fate, Outcome, Refusals},
    turns::in_turn,
};
use super::{Engine, host_name};
use crate::{
    checkpoint::{Advance, CheckpointError, DeadLetter, Pending, Position, StoredEntry},
    clock,
    config::SinkPlan,
    derive::{Entry, Records},
    error::chain,
    model::{Catalogue, Snapshot, Tenant, TenantId},
    sink::{Batch, Context, Failure, Limits, Sink},
    wire,
};

/// Octets of bodies read from the log at a time.
const READ_AHEAD: usize = 2 << 20;
/// Waits between attempts that failed by themselves: doubling between these.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// How often a sink that wants a person is tried all the same: tokens get fixed, topics made.
const PARKED_WAIT: Duration = Duration::from_mins(5);

/// A sink that had nothing to do for so long is closed until it has.
const IDLE: Duration = Duration::from_secs(10);

/// Tenants served before it is looked again who is next.
const ROUND: usize = 64;

/// Why a deliverer stopped before everything was delivered.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    #[error("{0}")]
    Sink(Failure),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("entry {seq} of the log cannot be read: {reason}")]
    Entry { seq: u64, reason: String },
    #[error("told to stop")]
    Cancelled,
}

impl Stopped {
    /// The other tenants' logs can be read all the same.
    fn is_of_one_tenant(&self) -> bool {
        matches!(self, Self::Entry { .. } | Self::Checkpoint(CheckpointError::Damaged(_)))
    }

    fn is_misconfigured(&self) -> bool {
        matches!(self, Self::Sink(Failure::Misconfigured { .. }))
    }
}

pub struct Deliverer {
    engine: Arc<Engine>,
    plan: SinkPlan,
    context: Context,
    limits: Limits,
    sink: Option<Box<dyn Sink>>,
    batch: Batch,
    catalogues: Catalogues,
    refusals: Refusals,
    /// The tenant served last; the next in turn comes after it.
    last: Option<TenantId>,
    /// Records delivered by this deliverer.
    pub delivered: u64,
}

/// A batch on its way: where it starts, and where each record of it stands.
struct Load {
    tenant: TenantId,
    from: Position,
    places: Vec<Position>,
    /// Refused before they were sent.
    unsendable: Vec<Fate>,
}

/// An entry, read.
struct Decoded<'a> {
    catalogue: Arc<Catalogue>,
    snapshot: Snapshot<'a>,
    observed_time: String,
}

impl Load {
    /// What became of each record, sent or not, in the order of the log.
    fn fates(&mut self, batch: &Batch, outcomes: Vec<Outcome>) -> Vec<Fate> {
        let sent = batch.items().iter().zip(outcomes);
        let mut fates: Vec<Fate> = sent
            .map(|(item, outcome)| Fate {
                at: self.places[item.index],
                event_id: item.event_id,
                outcome,
            })
            .collect();
        fates.append(&mut self.unsendable);
        fates.sort_by_key(|fate| fate.at);
        fates
    }
}

impl Deliverer {
    pub fn new(engine: Arc<Engine>, plan: SinkPlan) -> Self {
        let context = Context { name: plan.name.clone(), host: host_name(), texts: plan.texts };
        let limits = plan.plan.limits();
        Self {
            engine,
            plan,
            context,
            limits,
            sink: None,
            batch: Batch::default(),
            catalogues: Catalogues::default(),
            refusals: Refusals::default(),
            last: None,
            delivered: 0,
        }
    }

    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Delivers for ever: whatever there is, then whatever comes, with patience when it fails.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut bell = self.engine.bell.subscribe();
        let mut failures = 0;
        loop {
            bell.mark_unchanged();
            let before = self.delivered;
            let drained = self.drain(&cancel).await;
            if self.delivered > before {
                tracing::info!(
                    sink = self.plan.name,
                    records = self.delivered - before,
                    "delivered"
                );
            }
            let wait = match drained {
                Ok(()) => {
                    failures = 0;
                    self.engine.keep_cursors();
                    tokio::select! {
                        _ = bell.changed() => continue,
                        () = tokio::time::sleep(IDLE), if self.sink.is_some() => {
                            self.rest().await;
                            continue;
                        }
                        () = cancel.cancelled() => break,
                    }
                }
                Err(Stopped::Cancelled) => break,
                Err(stopped) => {
                    failures += 1;
                    self.note(&stopped);
                    wait_after(&stopped, failures)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = cancel.cancelled() => break,
            }
        }
        self.close().await;
    }

    /// Delivers until nothing is left, trying a few times what may pass by itself.
    pub async fn run_once(&mut self, cancel: &CancellationToken) -> Result<(), Stopped> {
        for attempt in 1.. {
            match self.drain(cancel).await {
                Ok(()) => break,
                Err(stopped) => {
                    self.note(&stopped);
                    let passes = matches!(
                        &stopped,
                        Stopped::Sink(Failure::Retry { .. } | Failure::Broken { .. })
                    );
                    if !passes || attempt == 4 {
                        return Err(stopped);
                    }
                    tokio::time::sleep(wait_after(&stopped, attempt).min(Duration::from_secs(30)))
                        .await;
                }
            }
        }
        Ok(())
    }

    /// Until tomorrow nothing is needed: neither the connection nor what was rendered.
    async fn rest(&mut self) {
        self.close().await;
        self.batch = Batch::default();
        self.catalogues = Catalogues::default();
        if let Err(error) = block_in_place(|| self.engine.checkpoint.rest()) {
            tracing::debug!(error = chain(&error), "the checkpoint could not be put to rest");
        }
    }

    /// Says goodbye to the receiver.
    pub async fn close(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.close().await;
        }
    }

    /// Delivers until nothing is left. A tenant whose log cannot be read is set aside, and the
    /// others are served.
    async fn drain(&mut self, cancel: &CancellationToken) -> Result<(), Stopped> {
        let mut set_aside: HashSet<TenantId> = HashSet::new();
        let mut unreadable = None;
        loop {
            let known: HashMap<TenantId, Arc<Tenant>> = self
                .engine
                .tenants
                .iter()
                .filter_map(|state| state.known().map(|tenant| (tenant.id, tenant)))
                .collect();
            let mut pending = block_in_place(|| self.engine.checkpoint.pending(&self.plan.name))?;
            // Of a tenant that is no longer configured the log stays, and nothing is sent.
            pending.retain(|p| known.contains_key(&p.tenant) && !set_aside.contains(&p.tenant));
            in_turn(&mut pending, self.last);
            if pending.is_empty() {
                return unreadable.map_or(Ok(()), Err);
            }
            for next in pending.iter().take(ROUND) {
                let Some(tenant) = known.get(&next.tenant) else { continue };
                self.last = Some(next.tenant);
                match self.serve(next, tenant, cancel).await {
                    Err(stopped) if stopped.is_of_one_tenant() => {
                        tracing::error!(
                            sink = self.plan.name,
                            tenant = tenant.name,
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

    /// Delivers some of a tenant's log.
    async fn serve(
        &mut self,
        pending: &Pending,
        tenant: &Tenant,
        cancel: &CancellationToken,
    ) -> Result<(), Stopped> {
        let read = || {
            self.engine.checkpoint.read(pending.tenant, pending.at.seq, pending.floor, READ_AHEAD)
        };
        let entries = block_in_place(read)?;
        let mut load = Load {
            tenant: pending.tenant,
            from: pending.at,
            places: Vec::new(),
            unsendable: Vec::new(),
        };
        self.batch.clear();
        for entry in &entries {
            match self.decode(entry) {
                Ok(decoded) => {
                    self.serve_entry(entry, decoded, tenant, pending.at, &mut load, cancel).await?;
                }
                Err(stopped) => {
                    // What comes before it can go out all the same.
                    let here = Position { seq: entry.snapshot.seq, place: 0 };
                    if here > load.from {
                        self.flush(&mut load, here).await?;
                    }
                    return Err(stopped);
                }
            }
        }
        match entries.last() {
            Some(last) => {
                self.flush(&mut load, Position { seq: last.snapshot.seq + 1, place: 0 }).await
            }
            None => Ok(()),
        }
    }

    fn decode<'e>(&mut self, entry: &'e StoredEntry) -> Result<Decoded<'e>, Stopped> {
        let seq = entry.snapshot.seq;
        let unreadable = |reason: String| Stopped::Entry { seq, reason };
        let checkpoint = &self.engine.checkpoint;
        let catalogue = block_in_place(|| self.catalogues.get(checkpoint, entry.catalogue))?;
        let snapshot = wire::snapshot(&entry.body).map_err(|error| unreadable(chain(&error)))?;
        let observed = jiff::Timestamp::from_millisecond(entry.observed_ms)
            .map_err(|error| unreadable(error.to_string()))?;
        Ok(Decoded { catalogue, snapshot, observed_time: observed.to_string() })
    }

    async fn serve_entry(
        &mut self,
        entry: &StoredEntry,
        decoded: Decoded<'_>,
        tenant: &Tenant,
        at: Position,
        load: &mut Load,
        cancel: &CancellationToken,
    ) -> Result<(), Stopped> {
        let seq = entry.snapshot.seq;
        let Decoded { catalogue, snapshot, observed_time } = decoded;
        let entry = Entry {
            tenant,
            snapshot: &entry.snapshot,
            observed_time: &observed_time,
            observed_ms: entry.observed_ms,
            history: &entry.history,
            catalogue: &catalogue,
        };
        let records = Records::new(&entry, &snapshot, self.plan.selection);
        let first = if seq == at.seq { at.place } else { 0 };
        for place in first..records.end() {
            if let Some(record) = records.at(place) {
                self.ensure_open().await?;
                let position = Position { seq, place };
                let Some(sink) = self.sink.as_mut() else { continue };
                match sink.encode(&record, &mut self.batch) {
                    Ok(()) => load.places.push(position),
                    Err(refusal) => load.unsendable.push(Fate {
                        at: position,
                        event_id: record.event_id,
                        outcome: Outcome::Refused(refusal.0),
                    }),
                }
            }
            // Records that cannot be encoded fill a batch too, or they would be remembered without end.
            if self.batch.len() + load.unsendable.len() >= self.limits.records
                || self.batch.octets().len() >= self.limits.octets
            {
                if cancel.is_cancelled() {
                    return Err(Stopped::Cancelled);
                }
                self.flush(load, Position { seq, place: place + 1 }).await?;
            }
        }
        Ok(())
    }

    /// Delivers the batch and moves the cursor as far as every record's fate is known, dead letters
    /// and mark in the same transaction. What has arrived is confirmed before anything stops the
    /// sink, so that it is not sent again.
    async fn flush(&mut self, load: &mut Load, to: Position) -> Result<(), Stopped> {
        let delivery =
            if self.batch.is_empty() { Delivery::default() } else { self.deliver().await };
        let fates = load.fates(&self.batch, delivery.outcomes);
        let verdict = self.refusals.judge(&fates, delivery.stopped);
        let settled = &fates[..verdict.settled];
        let letters: Vec<DeadLetter> = settled.iter().filter_map(Fate::letter).collect();
        let sent = (settled.len() - letters.len()) as u64;
        let to = fates.get(verdict.settled).map_or(to, |unsettled| unsettled.at);
        if to != load.from {
            self.commit(&Advance {
                sink: &self.plan.name,
                tenant: load.tenant,
                from: load.from,
                to,
                mark: delivery.mark.as_deref(),
                sent,
                dead_letters: &letters,
                now_ms: clock::now().as_millisecond(),
            })
            .await?;
        }
        for letter in &letters {
            tracing::warn!(sink = self.plan.name, event_id = %letter.event_id, reason = letter.reason, "a record is on the dead-letter list");
        }
        self.delivered += sent;
        load.from = to;
        load.places.clear();
        self.batch.clear();
        verdict.stopped.map_or(Ok(()), Err)
    }

    /// What has arrived must not be sent again because a disk is full: the commit is tried until
    /// there is room, while the sink waits.
    async fn commit(&self, advance: &Advance<'_>) -> Result<(), CheckpointError> {
        loop {
            match block_in_place(|| self.engine.checkpoint.advance(advance)) {
                Err(CheckpointError::Full(_)) => {
                    tracing::error!(
                        sink = self.plan.name,
                        "the disk is full: the cursor waits for room"
                    );
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    self.engine.cursors_moved.store(true, std::sync::atomic::Ordering::Relaxed);
                    return Ok(());
                }
            }
        }
    }

    /// Delivers the batch until it is through or something stops it.
    async fn deliver(&mut self) -> Delivery {
        let mut delivery = Delivery::of(self.batch.len());
        let mut part: Option<Batch> = None;
        loop {
            let batch = part.as_ref().unwrap_or(&self.batch);
            let Some(sink) = self.sink.as_mut() else { break };
            let result = sink.deliver(batch).await;
            let is_broken = matches!(result, Err(Failure::Broken { .. }));
            delivery.take(batch, result);
            if is_broken {
                self.close().await;
            }
            part = delivery.next();
            if part.is_none() {
                break;
            }
        }
        delivery
    }

    async fn ensure_open(&mut self) -> Result<(), Stopped> {
        if self.sink.is_some() {
            return Ok(());
        }
        let kept = block_in_place(|| self.engine.checkpoint.mark(&self.plan.name))?;
        let sink =
            self.plan.plan.open(&self.context, kept.as_deref()).await.map_err(Stopped::Sink)?;
        if let Some(mark) = sink.mark()
            && kept.as_ref() != Some(&mark)
        {
            block_in_place(|| self.engine.checkpoint.set_mark(&self.plan.name, &mark))?;
        }
        self.sink = Some(sink);
        Ok(())
    }

    fn note(&self, stopped: &Stopped) {
        let reason = chain(stopped);
        if stopped.is_misconfigured() {
            tracing::error!(
                sink = self.plan.name,
                error = reason,
                "the sink is parked; its backlog stays"
            );
        } else {
            tracing::warn!(
                sink = self.plan.name,
                error = reason,
                "delivery failed and will be tried again"
            );
        }
        let noted = block_in_place(|| {
            self.engine.checkpoint.set_sink_error(&self.plan.name, Some(&reason))
        });
        if let Err(error) = noted {
            tracing::warn!(error = chain(&error), "the failure could not be kept");
        }
    }
}

/// How long to wait after the `failures`-th failure in a row.
fn wait_after(stopped: &Stopped, failures: u32) -> Duration {
    match stopped {
        Stopped::Sink(Failure::Misconfigured { .. }) => PARKED_WAIT,
        Stopped::Sink(Failure::Retry { after: Some(after), .. }) => (*after).max(FIRST_WAIT),
        _ => {
            let doubled = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_WAIT);
            // Half of it by chance, so that many forwarders do not come back all at once.
            doubled / 2 + doubled.mul_f64(fastrand::f64() / 2.0)
        }
    }
}
