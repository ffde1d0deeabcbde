//! The window of batches that wait for their acknowledgement. They are submitted and settled in
//! order.
//!
//! Only [`Deliverer::settle`] moves cursors, and only as far as the outcome of every record is
//! known. Start reading at [`Deliverer::submit`].

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::{
    Deliverer, DeliveryError, RetryCause,
    delivery::Delivery,
    failing_tenants::{DivisionTime, TenantDivision},
    outgoing_batch::OutgoingBatch,
    parking::served_tenants,
    rejection_limits::{MAX_SUSPECTED_TENANTS, RejectionSource, are_too_many, source_of},
    rejections::{BatchVerdict, ExcessiveRejections, RecordOutcome, ServedTenants, sink_at_fault},
};
use crate::{
    checkpoint::{Advance, DeadLetter, Lane},
    clock,
    daemon::blocking,
    error::Explanation,
    model::EventId,
    sink::{Acknowledgement, Batch, Failure, FailurePlace, TargetName},
    text::{count, with_separators},
};

/// A submitted batch that is not settled yet.
pub(super) struct InFlight {
    outgoing: OutgoingBatch,
    acknowledgement: Acknowledgement,
}

impl Deliverer {
    /// Submits the current batch to the sink and starts an empty one. Waits for acknowledgements
    /// while the window is full. Fails if the sink cannot deliver, if too many records cannot be
    /// encoded, or if an outcome cannot be stored.
    pub(super) async fn submit(&mut self) -> Result<(), DeliveryError> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let buffer = self.spare_buffers.pop().unwrap_or_default();
        let next = OutgoingBatch::new(self.outgoing.lane, buffer);
        let mut outgoing = std::mem::replace(&mut self.outgoing, next);

        let rejecting = match encoding_faults(&outgoing) {
            Ok(rejecting) => rejecting,
            Err(error) => {
                // This batch is not sent, but earlier batches may have arrived.
                self.settle_all().await?;
                return Err(error);
            }
        };
        self.add_attachments(&mut outgoing)?;
        self.rate_limit.wait(outgoing.records()).await;
        if !rejecting.is_empty() {
            self.settle_all().await?;
            let division = self.division_of(&outgoing.batch, DivisionTime::Now);
            let delivery = Delivery::without_tenants(&outgoing.batch, rejecting);
            return self.finish(outgoing, delivery.divided_by(division)).await;
        }
        let division = self.division_of(&outgoing.batch, DivisionTime::Now);
        if self.failing.begins_divided(&division) {
            self.settle_all().await?;
            // The earlier batches may have changed it.
            let division = self.division_of(&outgoing.batch, DivisionTime::Now);
            let delivery = Delivery::by_tenant(&outgoing.batch, division);
            return self.finish(outgoing, delivery).await;
        }

        let mut submitted = self.deliver(&outgoing).await;
        if matches!(submitted, Err(Failure::Reopen)) {
            self.settle_all().await?;
            self.close().await;
            self.ensure_open().await?;
            submitted = self.deliver(&outgoing).await;
        }

        match submitted {
            Ok(acknowledgement) => {
                self.count(&outgoing);
                self.in_flight.push_back(InFlight { outgoing, acknowledgement });
                self.settle_received().await?;
                while self.in_flight.len() >= self.limits.in_flight.max(1) {
                    self.settle_oldest().await?;
                }
                Ok(())
            }
            Err(failure) => {
                self.close_if_broken(&failure).await;
                // Earlier batches may nevertheless have arrived.
                self.settle_all().await?;
                self.deliver_in_parts(outgoing, failure).await
            }
        }
    }

    /// Adds what accompanies the new records of a batch: the progress of its tenants, and a report.
    /// Fails if the checkpoint cannot be read.
    fn add_attachments(&self, outgoing: &mut OutgoingBatch) -> Result<(), DeliveryError> {
        if outgoing.lane == Lane::Live && self.plan.plan.stores_progress() {
            let progress = blocking(|| self.progress_of(outgoing))?;
            outgoing.batch.set_progress(progress);
        }
        if outgoing.lane == Lane::Live
            && self.plan.plan.attaches_report()
            && !outgoing.batch.is_empty()
        {
            let report = blocking(|| self.report())?;
            outgoing.batch.set_attachment(report);
        }
        Ok(())
    }

    async fn deliver(&mut self, outgoing: &OutgoingBatch) -> Result<Acknowledgement, Failure> {
        match self.sink.as_mut() {
            // There is nothing to send. The batch joins the window nevertheless, because batches
            // are settled in order.
            _ if outgoing.batch.is_empty() => Ok(Acknowledgement::received()),
            Some(sink) => sink.deliver(&outgoing.batch).await,
            None => Err(Failure::retry("the sink is closed")),
        }
    }

    fn count(&self, outgoing: &OutgoingBatch) {
        self.engine.meters().progress(&self.meter);
        if !outgoing.batch.is_empty() {
            self.meter.batches.fetch_add(1, Relaxed);
            self.meter.bytes.fetch_add(outgoing.batch.bytes().len() as u64, Relaxed);
        }
    }

    /// Waits for all acknowledgements and settles all batches. Fails with the first delivery error,
    /// or if an outcome cannot be stored.
    pub(super) async fn settle_all(&mut self) -> Result<(), DeliveryError> {
        while !self.in_flight.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// Settles the oldest batches whose acknowledgement has arrived, without waiting.
    async fn settle_received(&mut self) -> Result<(), DeliveryError> {
        while matches!(
            self.in_flight.front(),
            Some(InFlight { acknowledgement: Acknowledgement::Received(_), .. })
        ) {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result<(), DeliveryError> {
        let Some(InFlight { acknowledgement, .. }) = self.in_flight.front_mut() else {
            return Ok(());
        };
        // Awaited by reference: if this future is dropped, the batch stays in the window.
        let result = match acknowledgement {
            Acknowledgement::Received(receipt) => Ok(std::mem::take(receipt)),
            Acknowledgement::Pending(receipt) => receipt.await,
        };

        let Some(InFlight { outgoing, .. }) = self.in_flight.pop_front() else { return Ok(()) };
        let time =
            if self.in_flight.is_empty() { DivisionTime::Now } else { DivisionTime::NextAttempt };
        let division = self.division_of(&outgoing.batch, time);
        let mut delivery = Delivery::new(&outgoing.batch).divided_by(division);
        if let Err(failure) = &result {
            let failure = failure.clone();
            self.close_if_broken(&failure).await;
        }
        delivery.record(&outgoing.batch, result);
        self.finish(outgoing, delivery).await
    }

    /// How a batch is divided if its delivery fails without a reason. A sink that stores its
    /// progress is never divided, because opening it again within a batch would move its cursors,
    /// and neither is one that fails because of this host.
    fn division_of(&mut self, batch: &Batch, time: DivisionTime) -> TenantDivision {
        let (plan, trials) = (&self.plan.plan, self.trials);
        if plan.stores_progress() || plan.failure_place() == FailurePlace::Host {
            return TenantDivision { trials, ..TenantDivision::default() };
        }

        let mut division = self.failing.division_of(batch, time);
        division.trials = trials;
        division.withheld = self.targets.withheld_tenants();
        // Records of others have arrived before these tenants were withheld.
        division.witnessed.extend(&division.withheld);
        division.withheld.extend(self.targets.tenants_of_parked(batch));
        division
    }

    /// Delivers a batch in parts after the receiver has rejected it as a whole.
    async fn deliver_in_parts(
        &mut self,
        outgoing: OutgoingBatch,
        failure: Failure,
    ) -> Result<(), DeliveryError> {
        let division = self.division_of(&outgoing.batch, DivisionTime::Now);
        let mut delivery = Delivery::new(&outgoing.batch).divided_by(division);
        delivery.record(&outgoing.batch, Err(failure));
        self.finish(outgoing, delivery).await
    }

    /// Sends the remaining parts of a batch one by one, and settles it.
    async fn finish(
        &mut self,
        outgoing: OutgoingBatch,
        mut delivery: Delivery,
    ) -> Result<(), DeliveryError> {
        while let Some(part) = delivery.next() {
            if delivery.needs_open_sink()
                && let Err(error) = self.ensure_open().await
            {
                delivery.stopped = Some(error);
                break;
            }
            let Some(sink) = self.sink.as_mut() else { break };
            let result = match sink.deliver(&part).await {
                Ok(acknowledgement) => acknowledgement.wait().await,
                Err(failure) => Err(failure),
            };
            self.engine.meters().progress(&self.meter);
            if let Err(failure) = &result {
                let failure = failure.clone();
                self.close_if_broken(&failure).await;
            }
            delivery.record(&part, result);
        }

        delivery.conclude();
        // Without an open sink, the next records would not be encoded.
        if delivery.needs_open_sink()
            && let Err(error) = self.ensure_open().await
        {
            delivery.stopped = Some(error);
        }
        self.settle(outgoing, delivery).await
    }

    /// Moves the cursor of each tenant as far as the outcome of all its records is known. Dead
    /// letters and the mark are written in the same transaction. Records that have arrived are
    /// settled before an error stops the sink, so that they are not sent again.
    async fn settle(
        &mut self,
        outgoing: OutgoingBatch,
        mut delivery: Delivery,
    ) -> Result<(), DeliveryError> {
        let mark = delivery.mark.take();
        let outcomes = outgoing.outcomes(std::mem::take(&mut delivery.outcomes));
        let arrived = outcomes.iter().filter(|outcome| outcome.has_arrived());
        let arrived: Vec<EventId> = arrived.map(|outcome| outcome.event_id).collect();
        self.failing.count(&outcomes, &delivery.failures);
        self.denials.note(&outcomes, std::mem::take(&mut delivery.alone));
        self.trials = delivery.trials;
        let (outcomes, stopped) = self.judge(outgoing.lane, outcomes, delivery);

        let dead_letters: Vec<DeadLetter> =
            outcomes.iter().filter_map(RecordOutcome::dead_letter).collect();
        let delivered_dead_letters = outgoing.delivered_dead_letters(&outcomes);
        let sent = outcomes.iter().filter(|outcome| outcome.has_arrived()).count() as u64;

        let moves = outgoing.moves(&outcomes);
        if !moves.is_empty() || !dead_letters.is_empty() || !delivered_dead_letters.is_empty() {
            let sink = self.plan.name.clone();
            self.commit(&Advance {
                sink: &sink,
                lane: outgoing.lane,
                moves: &moves,
                mark: mark.as_deref(),
                sent,
                truncated: outgoing.batch.truncated(),
                dead_letters: &dead_letters,
                delivered_dead_letters: &delivered_dead_letters,
                now: clock::now().into(),
            })
            .await?;
        }
        if sent > 0 || !dead_letters.is_empty() {
            self.retries.reset();
        }
        if sent < arrived.len() as u64 {
            // These records wait for others of their tenant, but they show that the receiver works.
            self.retries.note_arrived(arrived.into_iter());
        }

        self.log_dead_letters(&dead_letters);
        self.delivered += sent;
        self.rejected += dead_letters.len() as u64;
        self.engine.meters().progress(&self.meter);
        if sent > 0 {
            self.engine.meters().outages.advance(&self.outage_subject(), sent, Instant::now());
        }
        self.recycle(outgoing.batch);
        stopped.map_or(Ok(()), Err)
    }

    /// Decides which outcomes move cursors, and parks and releases targets and tenants. Returns the
    /// outcomes, and the error that stops the sink.
    fn judge(
        &mut self,
        lane: Lane,
        outcomes: Vec<RecordOutcome>,
        delivery: Delivery,
    ) -> (Vec<RecordOutcome>, Option<DeliveryError>) {
        let Delivery { stopped, refused, rejecting, failing, .. } = delivery;
        let suspected = self.rejections.suspects();
        let accepting = self.accepting_targets(&outcomes);
        let accepted = self.accepted_tenants(lane, &outcomes);
        let outcomes = self.targets.hold_back(lane, outcomes);

        let (engine, plan) = (&self.engine, &self.plan);
        let of_target = |target: Option<&TargetName>| served_tenants(engine, plan, target);
        let withheld = self.targets.withheld_tenants();
        let served = ServedTenants { withheld, of_target: &of_target };
        let verdict = match lane {
            Lane::DeadLetters => {
                BatchVerdict::of_dead_letters(outcomes, rejecting, stopped, &served)
            }
            _ => self.rejections.judge(outcomes, rejecting, stopped, &served),
        };

        let BatchVerdict { outcomes, rejecting, mut rejected, stopped } = verdict;
        rejected.extend(failing);
        self.targets.hold(lane, &outcomes);
        self.targets.note_busy(&outcomes);
        self.update_targets(&accepting, refused, rejecting);
        self.update_tenants(lane, accepted, rejected);
        let has_arrived = outcomes.iter().any(RecordOutcome::has_arrived);
        self.update_withheld(has_arrived, stopped.as_ref(), suspected);
        (outcomes, stopped)
    }

    /// Commits a cursor movement. While the cause of a failure is on this host and can pass, such
    /// as a full disk, waits and tries again, so that records that have arrived are not sent again.
    ///
    /// After any other failure the sink is closed: it is ahead of its cursors, and only opening it
    /// again undoes that. A file is then truncated to the confirmed length, and a sink that stores
    /// its progress moves the cursors to it. See decision 0073.
    async fn commit(&mut self, advance: &Advance<'_>) -> Result<(), DeliveryError> {
        loop {
            let error = match self.engine.store().run(|checkpoint| checkpoint.advance(advance)) {
                Ok(growth) => {
                    // An observation about dead letters is delivered by the other sinks.
                    self.engine.log().notify(growth);
                    if advance.lane == Lane::Live {
                        self.engine.cursor_file().mark_moved();
                    }
                    return Ok(());
                }
                Err(error) => DeliveryError::from(error),
            };

            let can_pass = self.retry_cause(&error) == RetryCause::Host;
            let wait = if can_pass { self.wait_after(&error) } else { None };
            let Some(wait) = wait else {
                self.close().await;
                return Err(error);
            };
            self.record_failure(&error);
            // The deliverer waits for this host and is not stalled.
            self.engine.meters().progress(&self.meter);
            tokio::time::sleep(wait).await;
        }
    }

    fn log_dead_letters(&self, dead_letters: &[DeadLetter]) {
        if let Some(first) = dead_letters.first() {
            tracing::warn!(
                sink = self.plan.name.as_str(),
                records = dead_letters.len(),
                error = first.reason,
                hint = "run `dead-letters list`, and retry or discard them",
                "the receiver rejected records; they were stored as dead letters"
            );
        }
        for letter in dead_letters {
            tracing::debug!(
                sink = self.plan.name.as_str(),
                event_id = %letter.event_id,
                error = letter.reason,
                "record stored as a dead letter"
            );
        }
    }

    fn recycle(&mut self, batch: Batch) {
        if self.spare_buffers.len() < self.limits.in_flight {
            self.spare_buffers.push(batch);
        }
    }

    /// Closes the sink after a failure that requires a new client.
    async fn close_if_broken(&mut self, failure: &Failure) {
        if failure.requires_new_client() {
            self.close().await;
        }
    }
}

/// The tenants of a batch too many of whose records cannot be encoded. Fails if the fault is not
/// that of one or two tenants, but of the sink's configuration. Dead letters are not limited.
fn encoding_faults(outgoing: &OutgoingBatch) -> Result<Vec<ExcessiveRejections>, DeliveryError> {
    let mut excessive = Vec::new();
    if outgoing.lane == Lane::DeadLetters {
        return Ok(excessive);
    }

    let mut rejected = outgoing.rejected();
    loop {
        let number: usize = rejected.values().map(|(records, _)| records).sum();
        if !are_too_many(number, outgoing.records()) {
            return Ok(excessive);
        }

        let counts = rejected.iter().map(|(tenant, (records, _))| (*tenant, *records));
        let source = source_of(counts.collect());
        match source {
            RejectionSource::Tenant(tenant) if excessive.len() < MAX_SUSPECTED_TENANTS => {
                let (number, first) = rejected.remove(&tenant).unwrap_or_default();
                let problem = cannot_encode(number, outgoing.records_of(tenant), first);
                excessive.push(ExcessiveRejections { target: None, source, problem });
            }
            _ => {
                let first = rejected.values().next().map_or("", |(_, first)| *first);
                let problem = cannot_encode(number, outgoing.records(), first);
                return Err(sink_at_fault(problem));
            }
        }
    }
}

fn cannot_encode(rejected: usize, records: usize, first: &str) -> Explanation {
    Explanation::new(format!(
        "cannot encode {} of {} for this sink: {first}",
        with_separators(rejected),
        count(records, "record")
    ))
}
