//! Loads on their way: handed over in order, settled in order.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::task::block_in_place;

use super::{
    Deliverer, Engine, SinkMeter, Stopped,
    delivery::Delivery,
    load::Load,
    refusals::{Fate, Verdict, are_too_many},
};
use crate::{
    checkpoint::{Advance, CheckpointError, DeadLetter, Lane},
    clock,
    sink::{Batch, Failure, Proof},
};

/// A load that waits for its proof.
pub(super) struct InFlight {
    load: Load,
    proof: Proof,
}

impl Deliverer {
    /// Hands the load over, and begins another. Waits for proofs while too many are awaited.
    pub(super) async fn submit(&mut self) -> Result<(), Stopped> {
        if self.load.is_void() {
            return Ok(());
        }
        let next = Load::new(self.load.lane, self.spare.pop().unwrap_or_default());
        let mut load = std::mem::replace(&mut self.load, next);
        if load.lane != Lane::Rejected
            && let Some(stopped) = unwritable(&load)
        {
            // None of it has been sent; what went before it may have arrived.
            self.settle_all().await?;
            return Err(stopped);
        }
        if load.lane == Lane::Live && self.plan.plan.keeps_progress() {
            let progress = block_in_place(|| self.progress_of(&load))?;
            load.batch.set_progress(progress);
        }
        self.pace.wait(load.records()).await;
        let mut handed = self.hand_over(&load).await;
        if matches!(handed, Err(Failure::Reopen)) {
            self.settle_all().await?;
            self.close().await;
            self.ensure_open().await?;
            handed = self.hand_over(&load).await;
        }
        match handed {
            Ok(proof) => {
                self.count(&load);
                self.in_flight.push_back(InFlight { load, proof });
                self.settle_given().await?;
                while self.in_flight.len() >= self.limits.in_flight.max(1) {
                    self.settle_oldest().await?;
                }
                Ok(())
            }
            Err(failure) => {
                self.close_if_broken(&failure).await;
                // What went before it may have arrived all the same.
                self.settle_all().await?;
                self.deliver_in_parts(load, failure).await
            }
        }
    }

    async fn hand_over(&mut self, load: &Load) -> Result<Proof, Failure> {
        match self.sink.as_mut() {
            // Nothing for the receiver; but the loads before it come first.
            _ if load.batch.is_empty() => Ok(Proof::given()),
            Some(sink) => sink.deliver(&load.batch).await,
            None => Err(Failure::retry("the sink is closed")),
        }
    }

    fn count(&self, load: &Load) {
        self.engine.meters.progress(&self.meter);
        if !load.batch.is_empty() {
            self.meter.batches.fetch_add(1, Relaxed);
            self.meter.octets.fetch_add(load.batch.octets().len() as u64, Relaxed);
        }
    }

    pub(super) async fn settle_all(&mut self) -> Result<(), Stopped> {
        while !self.in_flight.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// Settles those at the front whose proof is there.
    async fn settle_given(&mut self) -> Result<(), Stopped> {
        while matches!(self.in_flight.front(), Some(InFlight { proof: Proof::Given(_), .. })) {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result<(), Stopped> {
        let Some(InFlight { load, proof }) = self.in_flight.front_mut() else { return Ok(()) };
        // Taken by reference: if this is given up halfway, the load is still there.
        let result = match proof {
            Proof::Given(receipt) => Ok(std::mem::take(receipt)),
            Proof::Awaited(receipt) => receipt.await,
        };
        let mut delivery = Delivery::of(load.batch.len());
        delivery.take(&load.batch, result);
        let Some(InFlight { load, .. }) = self.in_flight.pop_front() else { return Ok(()) };
        if let Some(Stopped::Sink(failure)) = &delivery.stopped {
            let failure = failure.clone();
            self.close_if_broken(&failure).await;
        }
        self.finish(load, delivery).await
    }

    /// Delivers a load in as many parts as the receiver wants, after it has refused the whole.
    async fn deliver_in_parts(&mut self, load: Load, failure: Failure) -> Result<(), Stopped> {
        let mut delivery = Delivery::of(load.batch.len());
        delivery.take(&load.batch, Err(failure));
        self.finish(load, delivery).await
    }

    /// Sends what is still to be sent of a load, and settles it.
    async fn finish(&mut self, load: Load, mut delivery: Delivery) -> Result<(), Stopped> {
        while let Some(part) = delivery.next() {
            let Some(sink) = self.sink.as_mut() else { break };
            let result = match sink.deliver(&part).await {
                Ok(proof) => proof.wait().await,
                Err(failure) => Err(failure),
            };
            self.engine.meters.progress(&self.meter);
            if let Err(failure) = &result {
                let failure = failure.clone();
                self.close_if_broken(&failure).await;
            }
            delivery.take(&part, result);
        }
        self.settle(load, delivery).await
    }

    /// Moves the cursors as far as every record's fate is known, dead letters and mark in the same
    /// transaction. What has arrived is confirmed before anything stops the sink, so that it is
    /// not sent again.
    async fn settle(&mut self, load: Load, delivery: Delivery) -> Result<(), Stopped> {
        let fates = load.fates(delivery.outcomes);
        let verdict = match load.lane {
            Lane::Rejected => Verdict::of_letters(&fates, delivery.stopped),
            _ => self.refusals.judge(&fates, delivery.stopped),
        };
        let settled = &fates[..verdict.settled];
        let letters: Vec<DeadLetter> = settled.iter().filter_map(Fate::letter).collect();
        let sent = (settled.len() - letters.len()) as u64;
        let moves = load.moves(&fates, verdict.settled);
        if !moves.is_empty() {
            commit(
                &self.engine,
                &self.meter,
                &Advance {
                    sink: &self.plan.name,
                    lane: load.lane,
                    moves: &moves,
                    mark: delivery.mark.as_deref(),
                    sent,
                    truncated: load.batch.truncated(),
                    dead_letters: &letters,
                    delivered_letters: &load.delivered_letters(settled),
                    now_ms: clock::now().as_millisecond(),
                },
            )
            .await?;
        }
        if let Some(first) = letters.first() {
            tracing::warn!(
                sink = self.plan.name,
                records = letters.len(),
                error = first.reason,
                "records are on the dead-letter list: `status` shows them"
            );
        }
        for letter in &letters {
            tracing::debug!(sink = self.plan.name, event_id = %letter.event_id, error = letter.reason, "a dead letter");
        }
        if !letters.is_empty() || !load.delivered_letters(settled).is_empty() {
            // The other sinks are told.
            self.engine.ring();
        }
        self.delivered += sent;
        if sent > 0 {
            self.engine.meters.proven(&self.meter);
        } else {
            self.engine.meters.progress(&self.meter);
        }
        self.keep_buffer(load.batch);
        verdict.stopped.map_or(Ok(()), Err)
    }

    fn keep_buffer(&mut self, batch: Batch) {
        if self.spare.len() < self.limits.in_flight {
            self.spare.push(batch);
        }
    }

    /// What wants a person is opened anew too, when it is tried again: things have changed.
    async fn close_if_broken(&mut self, failure: &Failure) {
        if matches!(
            failure,
            Failure::Broken { .. } | Failure::Misconfigured { .. } | Failure::Reopen
        ) {
            self.close().await;
        }
    }
}

/// So many that cannot be written for this sink are no matter of single records.
fn unwritable(load: &Load) -> Option<Stopped> {
    let (refused, first) = load.refused();
    let first = first.filter(|_| are_too_many(refused, load.records()))?;
    let records = load.records();
    Some(Stopped::Sink(Failure::misconfigured(format!(
        "{refused} of {records} records cannot be sent as this sink is configured, the first: {first}"
    ))))
}

/// What has arrived must not be sent again because a disk is full: the commit is tried until there
/// is room, while the sink waits.
async fn commit(
    engine: &Engine,
    meter: &SinkMeter,
    advance: &Advance<'_>,
) -> Result<(), CheckpointError> {
    loop {
        match block_in_place(|| engine.checkpoint.advance(advance)) {
            Err(CheckpointError::Full(_)) => {
                let sink = advance.sink;
                tracing::error!(sink, "the disk is full: the cursor waits for room");
                // It waits for a person, and does not hang.
                engine.meters.progress(meter);
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Err(error) => return Err(error),
            Ok(()) => {
                if advance.lane == Lane::Live {
                    engine.cursors_moved.store(true, Relaxed);
                }
                return Ok(());
            }
        }
    }
}
