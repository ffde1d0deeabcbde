//! Sends batches as requests to the event endpoint. The client that sends them is in `post`; a
//! pending acknowledgement is a future of `acks`, which may outlive the sink. Start reading at
//! [`open`].

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    acks::wait_for_all,
    config::HecPlan,
    envelope::HecEnvelope,
    post::Collectors,
    requests::{BodyEncoding, EventIndex, RequestOutcomes, requests},
};
use crate::{
    model::Record,
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, Destination, EncodeError, Failure, Sink,
        TargetName,
    },
};

/// A request that fails after a longer time has no response, so that the requests for the other
/// indices would take as long.
const SLOW_FAILURE: Duration = Duration::from_secs(5);

struct Hec {
    collectors: Arc<Collectors>,
    envelope: HecEnvelope,
    encoding: BodyEncoding,
    /// The index of events that do not have their own.
    index: EventIndex,
    acknowledgement_timeout: Duration,
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
            for request in requests(batch, self.encoding, &self.index) {
                if outcomes.skips(&request) {
                    continue;
                }
                let began = Instant::now();
                match self.collectors.send(&request).await {
                    Ok(accepted) if accepted.ack_id.is_none() => outcomes.arrived(&request),
                    Ok(accepted) => waiting.push((request, accepted)),
                    Err(failure) => {
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
