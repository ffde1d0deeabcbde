//! Sends batches as requests to the Logs Ingestion API. Each request has a token that Entra issued
//! for the API. A token that the API rejects is discarded, and the batch is sent again with another
//! one. Start reading at [`open`].

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

/// Only the beginning of a response is used, in error messages.
const MAX_RESPONSE_BYTES: usize = 16 << 10;

struct Sentinel {
    plan: SentinelPlan,
    client: reqwest::Client,
    tokens: Arc<dyn Tokens>,
    formatter: Formatter,
    /// The buffer for one record.
    record: Vec<u8>,
}

/// Opens the sink without a request. Fails with `Misconfigured` if a certificate cannot be read or
/// the sink has no credential.
pub(super) fn open(plan: &SentinelPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    Ok(Box::new(Sentinel::new(plan, context)?))
}

/// Sends an empty array, which the API validates only after it has accepted the token and the rule.
/// An unknown stream has a separate error code.
pub(super) async fn probe(plan: &SentinelPlan, context: &Context) -> Result<String, Failure> {
    let sentinel = Sentinel::new(plan, context)?;
    let token = sentinel.tokens.token().await?;
    let response = sentinel.post(&token, b"[]".to_vec()).await?;
    match interpret(&response) {
        Ok(_) => Ok("Entra issued a token, and the ingestion API accepts it".to_owned()),
        // No record could be delivered to an unknown stream.
        Err(Failure::TooLarge { reason, .. }) if response.message().contains("InvalidStream") => {
            Err(Failure::Misconfigured { reason, hint: Some("check `stream`".into()) })
        }
        Err(Failure::TooLarge { .. }) => Ok(format!(
            "Entra issued a token, and the ingestion API accepts it; response to an empty request: {}",
            response.message()
        )),
        Err(failure) => Err(failure),
    }
}

impl Sink for Sentinel {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        self.record.clear();
        self.formatter.write(record, &mut self.record);
        batch.push(record, |out| {
            let start = out.len();
            // Every table of Log Analytics has this column.
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
            let separators = batch.len().saturating_add(2);
            let mut body = Vec::with_capacity(batch.bytes().len().saturating_add(separators));
            for (index, item) in batch.items().iter().enumerate() {
                body.push(if index == 0 { b'[' } else { b',' });
                body.extend_from_slice(batch.payload(item));
            }
            body.push(b']');

            let token = self.tokens.token().await?;
            let mut response = self.post(&token, body.clone()).await?;
            if response.status == 401 {
                // The token may have been revoked before it expired.
                self.tokens.reject(&token).await;
                let token = self.tokens.token().await?;
                response = self.post(&token, body).await?;
            }
            interpret(&response)
        })
    }
}

impl Sentinel {
    fn new(plan: &SentinelPlan, context: &Context) -> Result<Self, Failure> {
        let Some(tokens) = context.tokens.clone() else {
            return Err(Failure::misconfigured("this sink requires a `credential`"));
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
            .map_err(|_| Failure::retry("the token is not a valid header value"))?;
        authorization.set_sensitive(true);

        let request = self
            .client
            .post(self.plan.url.clone())
            .header("Authorization", authorization)
            .header("Content-Type", "application/json")
            .header("x-ms-client-request-id", uuid::Uuid::new_v4().to_string());
        self.plan.web.post(request, body, MAX_RESPONSE_BYTES).await
    }
}

fn interpret(response: &HttpResponse) -> Result<Acknowledgement, Failure> {
    let reason = response.outcome("the ingestion API");
    match response.status {
        200 | 204 => Ok(Acknowledgement::received()),
        400 => Err(Failure::TooLarge { reason, arrived: Vec::new() }),
        403 => Err(Failure::Misconfigured {
            reason,
            hint: Some(
                "assign the role Monitoring Metrics Publisher on the data collection rule to this \
                 application; the assignment can take up to half an hour to take effect"
                    .into(),
            ),
        }),
        404 => Err(Failure::Misconfigured {
            reason,
            hint: Some("check `url`, `rule_id` and `stream`".into()),
        }),
        _ => Err(response.failure("the ingestion API")),
    }
}
