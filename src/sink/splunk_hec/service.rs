//! Batches as requests.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{acks::acknowledged, config::HecPlan, envelope::Envelope, post::Collectors};
use crate::{
    model::Record,
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, chain,
        web::compress,
    },
};

struct Hec {
    collectors: Arc<Collectors>,
    envelope: Envelope,
    gzip: bool,
    patience: Duration,
}

pub(super) async fn open(plan: &HecPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    // Read now, so that a missing token parks the sink before the first batch.
    plan.token.read().map_err(|error| Failure::misconfigured(chain(&error)))?;
    let collectors = Arc::new(Collectors::new(plan)?);
    collectors.probe().await?;
    Ok(Box::new(Hec {
        collectors,
        envelope: Envelope::new(plan, context),
        gzip: plan.gzip,
        patience: plan.acknowledgement_timeout,
    }))
}

pub(super) async fn probe(plan: &HecPlan) -> Result<String, Failure> {
    let collectors = Collectors::new(plan)?;
    collectors.probe().await?;
    collectors.greet().await?;
    Ok(match plan.urls.len() {
        1 => "the collector takes the token".to_owned(),
        all => format!("each of the {all} collectors takes the token"),
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
            if accepted.ack.is_none() {
                return Ok(Acknowledgement::received());
            }
            let collectors = Arc::clone(&self.collectors);
            let acknowledgement =
                acknowledged(collectors, body, batch.len(), accepted, self.patience);
            Ok(Acknowledgement::Pending(Box::pin(acknowledgement)))
        })
    }
}
