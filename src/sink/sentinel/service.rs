//! Batches as requests.

use std::sync::Arc;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::config::SentinelPlan;
use crate::{
    format::Formatter,
    model::Record,
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, Tokens, formatter,
        web::HttpResponse,
    },
};

const MAX_ANSWER: usize = 16 << 10;

struct Sentinel {
    plan: SentinelPlan,
    client: reqwest::Client,
    tokens: Arc<dyn Tokens>,
    formatter: Formatter,
    record: Vec<u8>,
}

pub(super) fn open(plan: &SentinelPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    Ok(Box::new(Sentinel::new(plan, context)?))
}

/// An array of nothing: who has the role, and names rule and stream rightly, gets as far as that.
pub(super) async fn probe(plan: &SentinelPlan, context: &Context) -> Result<String, Failure> {
    let sentinel = Sentinel::new(plan, context)?;
    let token = sentinel.tokens.token().await?;
    let answer = sentinel.post(&token, b"[]".to_vec()).await?;
    match understand(&answer) {
        Ok(_) => Ok("Entra gives a token, and the ingestion API lets us in with it".to_owned()),
        // It is the stream that it does not know, and no record would find it.
        Err(Failure::TooLarge { reason, .. }) if answer.message().contains("InvalidStream") => {
            Err(Failure::misconfigured(format!("{reason}: check `stream`")))
        }
        Err(Failure::TooLarge { .. }) => Ok(format!(
            "Entra gives a token, and the ingestion API lets us in with it; of nothing to take it says: {}",
            answer.message()
        )),
        Err(failure) => Err(failure),
    }
}

impl Sentinel {
    fn new(plan: &SentinelPlan, context: &Context) -> Result<Self, Failure> {
        let Some(tokens) = context.tokens.clone() else {
            return Err(Failure::misconfigured("this sink wants a `credential`"));
        };
        Ok(Self {
            client: plan.web.client()?,
            formatter: formatter(plan.format, context),
            plan: plan.clone(),
            tokens,
            record: Vec::new(),
        })
    }

    async fn post(&self, token: &SecretString, body: Vec<u8>) -> Result<HttpResponse, Failure> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| Failure::retry("the token is not text for a header"))?;
        authorization.set_sensitive(true);
        let request = self
            .client
            .post(self.plan.url.clone())
            .header("Authorization", authorization)
            .header("Content-Type", "application/json")
            .header("x-ms-client-request-id", uuid::Uuid::new_v4().to_string());
        self.plan.web.post(request, body, MAX_ANSWER).await
    }
}

impl Sink for Sentinel {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        self.record.clear();
        self.formatter.write(record, &mut self.record);
        batch.push(record, |out| {
            let start = out.len();
            // The one column that every table has.
            out.extend_from_slice(b"{\"TimeGenerated\":\"");
            out.extend_from_slice(record.observed_time.as_bytes());
            out.extend_from_slice(b"\",");
            out.extend_from_slice(&self.record[1..]);
            Ok(start)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            let mut body = Vec::with_capacity(batch.bytes().len() + batch.len() + 2);
            for (index, item) in batch.items().iter().enumerate() {
                body.push(if index == 0 { b'[' } else { b',' });
                body.extend_from_slice(batch.payload(item));
            }
            body.push(b']');
            let token = self.tokens.token().await?;
            let mut answer = self.post(&token, body.clone()).await?;
            if answer.status == 401 {
                // It may have been taken back before its time.
                self.tokens.reject(&token).await;
                let token = self.tokens.token().await?;
                answer = self.post(&token, body).await?;
            }
            understand(&answer)
        })
    }
}

fn understand(answer: &HttpResponse) -> Result<Acknowledgement, Failure> {
    let said = format!("the ingestion API answered HTTP {}: {}", answer.status, answer.message());
    match answer.status {
        200 | 204 => Ok(Acknowledgement::received()),
        400 => Err(Failure::TooLarge { reason: said, arrived: Vec::new() }),
        403 => Err(Failure::misconfigured(format!(
            "{said}: give this application the role Monitoring Metrics Publisher on the data collection rule; it takes up to half an hour"
        ))),
        404 => Err(Failure::misconfigured(format!("{said}: check `url`, `rule_id` and `stream`"))),
        _ => Err(answer.failure("the ingestion API")),
    }
}
