//! Sends batches as requests to the event endpoint. The client that sends them is in `post`; a
//! pending acknowledgement is a future of `acks`, which may outlive the sink. Start reading at
//! [`open`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    acks::wait_for_acknowledgement, config::HecPlan, envelope::HecEnvelope, post::Collectors,
};
use crate::{
    model::Record,
    sink::{Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, web::compress},
};

struct Hec {
    collectors: Arc<Collectors>,
    envelope: HecEnvelope,
    gzip: bool,
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
        gzip: plan.web.gzip,
        acknowledgement_timeout: plan.acknowledgement_timeout,
    }))
}

/// Checks that every collector accepts the token, without sending an event. Fails if one does not.
pub(super) async fn probe(plan: &HecPlan) -> Result<String, Failure> {
    let collectors = Collectors::new(plan)?;
    collectors.check_acknowledgement().await?;
    collectors.check_token().await?;
    Ok(match plan.urls.len() {
        1 => "the collector accepts the token".to_owned(),
        count => format!("all {count} collectors accept the token"),
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
            let body = if self.gzip {
                compress(batch.bytes()).into()
            } else {
                Bytes::copy_from_slice(batch.bytes())
            };
            let accepted = self.collectors.send(&body, batch.len()).await?;
            if accepted.ack_id.is_none() {
                return Ok(Acknowledgement::received());
            }

            let acknowledgement = wait_for_acknowledgement(
                Arc::clone(&self.collectors),
                body,
                batch.len(),
                accepted,
                self.acknowledgement_timeout,
            );
            Ok(Acknowledgement::Pending(Box::pin(acknowledgement)))
        })
    }
}
