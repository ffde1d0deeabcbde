//! Sends batches as requests to the event endpoint, and single events of a rejected request. The
//! client that sends them is in `post`; a pending acknowledgement is a future of `acks`, which may
//! outlive the sink. Start reading at [`open`]. See decision 0087.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    acks::{wait_for_acknowledgement, wait_for_all},
    config::HecPlan,
    envelope::HecEnvelope,
    post::{Collectors, EventFailure},
    requests::{BodyEncoding, EventIndex, EventRequest, RequestOutcomes, request_of, requests},
};
use crate::{
    model::Record,
    sink::{
        Acknowledgement, Batch, BatchOrigin, BoxFuture, Context, Destination, EncodeError, Failure,
        Sink, TargetName,
        whole_rejection::{RejectionCause, samples},
    },
};

/// A request that fails after a longer time has no response, so that the requests for the other
/// indices would take as long.
const SLOW_FAILURE: Duration = Duration::from_secs(5);

/// The hint for a collector that rejects every event.
const REJECTS_ALL: &str = "check the settings of the token, and `sourcetype` and `fields` of the sink, because the collector rejects every event";

struct Hec {
    collectors: Arc<Collectors>,
    envelope: HecEnvelope,
    encoding: BodyEncoding,
    /// The index of events that do not have their own.
    index: EventIndex,
    acknowledgement_timeout: Duration,
    rejection_cause: RejectionCause,
}

/// Opens the sink. Fails if the token or a certificate cannot be read, or if `acknowledgement =
/// true` and the token does not support it.
pub(super) async fn open(plan: &HecPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    // The token is read here so that a missing one parks the sink before the first batch.
    plan.token.read().map_err(|error| Failure::misconfigured_by(&error))?;
    let collectors = Arc::new(Collectors::new(plan)?);
    collectors.check_acknowledgement().await?;

    Ok(Box::new(Hec {
        collectors,
        envelope: HecEnvelope::new(plan, context),
        encoding: if plan.web.gzip { BodyEncoding::Gzip } else { BodyEncoding::Plain },
        index: only_index(plan),
        acknowledgement_timeout: plan.acknowledgement_timeout,
        rejection_cause: RejectionCause::default(),
    }))
}

fn only_index(plan: &HecPlan) -> EventIndex {
    let index = plan.index.as_ref().and_then(Destination::fixed);
    index.map_or(EventIndex::OfToken, |name| EventIndex::Only(TargetName::new(name)))
}

/// Checks that every collector accepts the token, without sending an event. Fails if one does not.
/// Without an event, a collector does not check the index.
pub(super) async fn probe(plan: &HecPlan) -> Result<String, Failure> {
    let collectors = Collectors::new(plan)?;
    collectors.check_acknowledgement().await?;
    collectors.check_token().await?;
    Ok(match plan.urls.len() {
        1 => "the collector accepts the token; the index is not checked".to_owned(),
        count => format!("all {count} collectors accept the token; the index is not checked"),
    })
}

impl Sink for Hec {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        self.envelope.write(record, batch)
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            let (mut outcomes, mut waiting) = (RequestOutcomes::default(), Vec::new());
            let index = self.index.clone();
            for request in requests(batch, self.encoding, &index) {
                if outcomes.skips(&request) {
                    continue;
                }
                let began = Instant::now();
                match self.collectors.send(&request).await {
                    Ok(accepted) => {
                        self.rejection_cause = RejectionCause::Records;
                        match accepted.ack_id {
                            None => outcomes.arrived(&request),
                            Some(_) => waiting.push((request, accepted)),
                        }
                    }
                    Err(failure) => {
                        let failure = self.judge(batch, &request, failure, &mut outcomes).await;
                        outcomes.failed(&request, failure);
                        if began.elapsed() > SLOW_FAILURE {
                            outcomes.end();
                        }
                    }
                }
                if outcomes.is_stopped() {
                    break;
                }
            }
            if waiting.is_empty() {
                return outcomes.into_result().map(Acknowledgement::Received);
            }

            let collectors = Arc::clone(&self.collectors);
            let limit = self.acknowledgement_timeout;
            let acknowledgement = wait_for_all(collectors, waiting, outcomes, limit);
            Ok(Acknowledgement::Pending(Box::pin(acknowledgement)))
        })
    }
}

impl Hec {
    /// The failure of a request that was not accepted. If the collector rejects its events, has
    /// accepted nothing yet, and rejects up to three events that are sent alone with the same
    /// message, it rejects all. Adds a single event that arrives to the outcomes.
    ///
    /// A collector rejects a request as a whole and names at most one of its events, so the other
    /// events have no results; see `whole_rejection`.
    async fn judge(
        &mut self,
        batch: &Batch,
        request: &EventRequest,
        failure: EventFailure,
        outcomes: &mut RequestOutcomes,
    ) -> Failure {
        let (message, failure) = match failure {
            EventFailure::Rejected { message, failure } => (message, failure),
            EventFailure::Other(failure) => return failure,
        };
        let is_new = batch.origin() == BatchOrigin::Log;
        if self.rejection_cause == RejectionCause::Records || request.len() < 2 || !is_new {
            return failure;
        }

        let events = request.events();
        for index in samples(&batch.part(events.clone())) {
            let position = events.start.saturating_add(index);
            let sample = request_of(batch, position, self.encoding, &self.index);
            let Some(sample) = sample else { continue };
            match self.send_alone(&sample).await {
                Err(EventFailure::Rejected { message: other, .. }) if other == message => continue,
                Err(EventFailure::Other(other)) => return other,
                Ok(()) => outcomes.arrived(&sample),
                Err(EventFailure::Rejected { .. }) => {}
            }
            self.rejection_cause = RejectionCause::Records;
            return failure;
        }
        Failure::RejectsAll { reason: message, hint: Some(REJECTS_ALL.into()) }
    }

    /// Sends a request and waits for its acknowledgement.
    async fn send_alone(&self, request: &EventRequest) -> Result<(), EventFailure> {
        let accepted = self.collectors.send(request).await?;
        let limit = self.acknowledgement_timeout;
        wait_for_acknowledgement(&self.collectors, request, accepted, limit).await?;
        Ok(())
    }
}
