//! Loads on their way: handed over in order, settled in order.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tokio::task::block_in_place;

use super::{
    Deliverer, DeliveryError, Engine, SinkMeter,
    delivery::Delivery,
    outgoing_batch::OutgoingBatch,
    refusals::{BatchVerdict, RecordOutcome, are_too_many},
};
use crate::{
    checkpoint::{Advance, CheckpointError, DeadLetter, Lane},
    clock,
    sink::{Acknowledgement, Batch, Failure},
};

/// A load that waits for its acknowledgement.
pub(super) struct InFlight {
    outgoing: OutgoingBatch,
    acknowledgement: Acknowledgement,
}

impl Deliverer {
    /// Hands the load over, and begins another. Waits for proofs while too many are awaited.
    pub(super) async fn submit(&mut self) -> Result<(), DeliveryError> {
        if self.outgoing.is_void() {
            return Ok(());
        }
        let next = OutgoingBatch::new(self.outgoing.lane, self.spare.pop().unwrap_or_default());
        let mut outgoing = std::mem::replace(&mut self.outgoing, next);
        if outgoing.lane != Lane::DeadLetters
            && let Some(stopped) = unwritable(&outgoing)
        {
            // None of it has been sent; what went before it may have arrived.
            self.settle_all().await?;
            return Err(stopped);
        }
        if outgoing.lane == Lane::Live && self.plan.plan.keeps_progress() {
            let progress = block_in_place(|| self.progress_of(&outgoing))?;
            outgoing.batch.set_progress(progress);
        }
        self.pace.wait(outgoing.records()).await;
        let mut handed = self.hand_over(&outgoing).await;
        if matches!(handed, Err(Failure::Reopen)) {
            self.settle_all().await?;
            self.close().await;
            self.ensure_open().await?;
            handed = self.hand_over(&outgoing).await;
        }
        match handed {
            Ok(acknowledgement) => {
                self.count(&outgoing);
                self.in_flight.push_back(InFlight { outgoing, acknowledgement });
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
                self.deliver_in_parts(outgoing, failure).await
            }
        }
    }

    async fn hand_over(&mut self, outgoing: &OutgoingBatch) -> Result<Acknowledgement, Failure> {
        match self.sink.as_mut() {
            // Nothing for the receiver; but the loads before it come first.
            _ if outgoing.batch.is_empty() => Ok(Acknowledgement::received()),
            Some(sink) => sink.deliver(&outgoing.batch).await,
            None => Err(Failure::retry("the sink is closed")),
        }
    }

    fn count(&self, outgoing: &OutgoingBatch) {
        self.engine.meters.progress(&self.meter);
        if !outgoing.batch.is_empty() {
            self.meter.batches.fetch_add(1, Relaxed);
            self.meter.bytes.fetch_add(outgoing.batch.bytes().len() as u64, Relaxed);
        }
    }

    pub(super) async fn settle_all(&mut self) -> Result<(), DeliveryError> {
        while !self.in_flight.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// Settles those at the front whose proof is there.
    async fn settle_given(&mut self) -> Result<(), DeliveryError> {
        while matches!(
            self.in_flight.front(),
            Some(InFlight { acknowledgement: Acknowledgement::Received(_), .. })
        ) {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result<(), DeliveryError> {
        let Some(InFlight { outgoing, acknowledgement }) = self.in_flight.front_mut() else {
            return Ok(());
        };
        // Taken by reference: if this is given up halfway, the load is still there.
        let result = match acknowledgement {
            Acknowledgement::Received(receipt) => Ok(std::mem::take(receipt)),
            Acknowledgement::Pending(receipt) => receipt.await,
        };
        let mut delivery = Delivery::of(outgoing.batch.len());
        delivery.take(&outgoing.batch, result);
        let Some(InFlight { outgoing, .. }) = self.in_flight.pop_front() else { return Ok(()) };
        if let Some(DeliveryError::Sink(failure)) = &delivery.stopped {
            let failure = failure.clone();
            self.close_if_broken(&failure).await;
        }
        self.finish(outgoing, delivery).await
    }

    /// Delivers a load in as many parts as the receiver wants, after it has refused the whole.
    async fn deliver_in_parts(
        &mut self,
        outgoing: OutgoingBatch,
        failure: Failure,
    ) -> Result<(), DeliveryError> {
        let mut delivery = Delivery::of(outgoing.batch.len());
        delivery.take(&outgoing.batch, Err(failure));
        self.finish(outgoing, delivery).await
    }

    /// Sends what is still to be sent of a outgoing, and settles it.
    async fn finish(
        &mut self,
        outgoing: OutgoingBatch,
        mut delivery: Delivery,
    ) -> Result<(), DeliveryError> {
        while let Some(part) = delivery.next() {
            let Some(sink) = self.sink.as_mut() else { break };
            let result = match sink.deliver(&part).await {
                Ok(acknowledgement) => acknowledgement.wait().await,
                Err(failure) => Err(failure),
            };
            self.engine.meters.progress(&self.meter);
            if let Err(failure) = &result {
                let failure = failure.clone();
                self.close_if_broken(&failure).await;
            }
            delivery.take(&part, result);
        }
        self.settle(outgoing, delivery).await
    }

    /// Moves the cursors as far as every record's outcome is known, dead letters and mark in the same
    /// transaction. What has arrived is confirmed before anything stops the sink, so that it is
    /// not sent again.
    async fn settle(
        &mut self,
        outgoing: OutgoingBatch,
        delivery: Delivery,
    ) -> Result<(), DeliveryError> {
        let outcomes = outgoing.outcomes(delivery.outcomes);
        let verdict = match outgoing.lane {
            Lane::DeadLetters => BatchVerdict::of_letters(&outcomes, delivery.stopped),
            _ => self.refusals.judge(&outcomes, delivery.stopped),
        };
        let settled = &outcomes[..verdict.settled];
        let letters: Vec<DeadLetter> = settled.iter().filter_map(RecordOutcome::letter).collect();
        let sent = (settled.len() - letters.len()) as u64;
        let moves = outgoing.moves(&outcomes, verdict.settled);
        if !moves.is_empty() {
            commit(
                &self.engine,
                &self.meter,
                &Advance {
                    sink: &self.plan.name,
                    lane: outgoing.lane,
                    moves: &moves,
                    mark: delivery.mark.as_deref(),
                    sent,
                    truncated: outgoing.batch.truncated(),
                    dead_letters: &letters,
                    delivered_letters: &outgoing.delivered_letters(settled),
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
        if !letters.is_empty() || !outgoing.delivered_letters(settled).is_empty() {
            // The other sinks are told.
            self.engine.notify_log_grown();
        }
        self.delivered += sent;
        if sent > 0 {
            self.engine.meters.acknowledged(&self.meter);
        } else {
            self.engine.meters.progress(&self.meter);
        }
        self.keep_buffer(outgoing.batch);
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
fn unwritable(outgoing: &OutgoingBatch) -> Option<DeliveryError> {
    let (refused, first) = outgoing.refused();
    let first = first.filter(|_| are_too_many(refused, outgoing.records()))?;
    let records = outgoing.records();
    Some(DeliveryError::Sink(Failure::misconfigured(format!(
        "{refused} of {records} records cannot be sent as this sink is configured, the first: {first}"
    ))))
}

/// What has arrived must not be sent again because a disk is full: the commit is tried until there
/// is budget, while the sink waits.
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
