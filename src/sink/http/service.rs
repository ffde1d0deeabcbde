//! Batches as requests.

use secrecy::SecretString;

use super::{config::HttpPlan, signature};
use crate::{
    clock,
    format::Formatter,
    model::Record,
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, chain, formatter,
        web::{HttpResponse, secret_headers},
    },
};

const MAX_ANSWER: usize = 16 << 10;

struct Http {
    plan: HttpPlan,
    client: reqwest::Client,
    heading: Option<String>,
    formatter: Formatter,
}

pub(super) fn open(plan: &HttpPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    let sink = Http {
        client: plan.web.client()?,
        heading: plan.format.heading(),
        formatter: formatter(plan.format, context),
        plan: plan.clone(),
    };
    // Read now, so that a missing secret parks the sink before the first batch.
    secret_headers(&plan.headers)?;
    secrets(plan)?;
    Ok(Box::new(sink))
}

/// A webhook has no message that says nothing, so it is only asked for its head.
pub(super) async fn probe(plan: &HttpPlan) -> Result<String, Failure> {
    secrets(plan)?;
    let request = plan.web.client()?.head(plan.url.clone()).headers(secret_headers(&plan.headers)?);
    let answer = plan.web.send(request).await?;
    match answer.status {
        401 | 407 | 410 | 500..=599 => Err(answer.failure("the endpoint")),
        status => Ok(format!("the endpoint answers: HTTP {status} to a HEAD")),
    }
}

impl Sink for Http {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        batch.push(record, |out| {
            let start = out.len();
            self.formatter.write(record, out);
            out.push(b'\n');
            Ok(start)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            let body = self.body(batch);
            let mut request = self
                .client
                .post(self.plan.url.clone())
                .header("Content-Type", self.plan.content_type())
                .headers(secret_headers(&self.plan.headers)?);
            let secrets = secrets(&self.plan)?;
            let id = signature::id(batch);
            let timestamp = clock::now().as_second();
            request = request
                .header("webhook-id", &id)
                .header("webhook-timestamp", timestamp.to_string());
            if !secrets.is_empty() {
                // Signed is what the receiver sees after it has unpacked.
                let signature = signature::sign(&secrets, &id, timestamp, &body);
                request = request.header("webhook-signature", signature);
            }
            understand(&self.plan.web.post(request, body, MAX_ANSWER).await?)
        })
    }
}

impl Http {
    fn body(&self, batch: &Batch) -> Vec<u8> {
        let mut body = Vec::with_capacity(batch.bytes().len() + 16);
        if let Some(heading) = &self.heading {
            body.extend_from_slice(heading.as_bytes());
            body.push(b'\n');
        }
        if !self.plan.array {
            body.extend_from_slice(batch.bytes());
            return body;
        }
        body.push(b'[');
        for (index, item) in batch.items().iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(batch.payload(item).trim_ascii_end());
        }
        body.push(b']');
        body
    }
}

/// What requests are signed with.
fn secrets(plan: &HttpPlan) -> Result<Vec<SecretString>, Failure> {
    let read = |secret: &crate::settings::SecretRef| {
        secret.read().map_err(|error| Failure::misconfigured(chain(&error)))
    };
    plan.signing.iter().map(read).collect()
}

/// What an answer means. A body that is refused as such is halved until one record stands alone.
fn understand(answer: &HttpResponse) -> Result<Acknowledgement, Failure> {
    match answer.status {
        200..=299 => Ok(Acknowledgement::received()),
        400 | 422 => Err(Failure::TooLarge {
            reason: format!("the endpoint answered HTTP {}: {}", answer.status, answer.message()),
            arrived: Vec::new(),
        }),
        410 => Err(Failure::misconfigured("the endpoint is gone for good (HTTP 410)")),
        _ => Err(answer.failure("the endpoint")),
    }
}
