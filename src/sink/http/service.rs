//! Sends batches as POST requests, which are signed if a secret is configured. Signatures follow
//! the specification of Standard Webhooks; see `signature`. Only a status from 200 to 299 is an
//! acknowledgement. Start reading at [`open`].

use std::borrow::Cow;

use secrecy::{ExposeSecret, SecretString};

use super::{
    config::{BodyForm, HttpPlan},
    signature,
};
use crate::{
    clock,
    error::Explanation,
    format::Formatter,
    model::Record,
    settings::SecretRef,
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, formatter,
        web::{HttpResponse, secret_headers},
    },
};

/// Only the beginning of a response is used, in error messages.
const MAX_RESPONSE_BYTES: usize = 16 << 10;

struct Http {
    plan: HttpPlan,
    client: reqwest::Client,
    /// The header line, if the format has one.
    header_line: Option<String>,
    formatter: Formatter,
}

/// Opens the sink without a request. Fails with `Misconfigured` if a certificate or a secret cannot
/// be read.
pub(super) fn open(plan: &HttpPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    let sink = Http {
        client: plan.web.client()?,
        header_line: plan.format.header_line(),
        formatter: formatter(plan.format, context),
        plan: plan.clone(),
    };
    // The secrets are read here so that a missing one parks the sink before the first batch.
    plan.url.get()?;
    secret_headers(&plan.headers)?;
    read_signing_secrets(plan)?;
    Ok(Box::new(sink))
}

/// Sends a HEAD request, because every POST request to a webhook has an effect. A status such as
/// 404, 405 or 501 is not a failure, because an endpoint need not implement HEAD. A status of 401,
/// 407, 410 or any other 5xx is a failure.
pub(super) async fn probe(plan: &HttpPlan) -> Result<String, Failure> {
    read_signing_secrets(plan)?;
    let url = plan.url.get()?;
    let request = plan.web.client()?.head(url.clone()).headers(secret_headers(&plan.headers)?);
    let mut response = plan.web.send(request).await?;
    plan.url.redact(&url, &mut response);
    match response.status {
        401 | 407 | 410 | 500 | 502..=599 => Err(response.failure("the endpoint")),
        status => Ok(format!("the endpoint returned HTTP {status} for a HEAD request")),
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
            let url = self.plan.url.get()?;
            let mut request = self
                .client
                .post(url.clone())
                .header("Content-Type", self.plan.content_type())
                .headers(secret_headers(&self.plan.headers)?);

            let secrets = read_signing_secrets(&self.plan)?;
            let id = signature::id(batch);
            let time = clock::now();
            request = request
                .header("webhook-id", &id)
                .header("webhook-timestamp", time.as_second().to_string());
            if !secrets.is_empty() {
                // The signature covers the uncompressed body.
                let signature = signature::sign(&secrets, &id, time, &body);
                request = request.header("webhook-signature", signature);
            }

            let mut response = self.plan.web.post(request, body, MAX_RESPONSE_BYTES).await?;
            self.plan.url.redact(&url, &mut response);
            interpret(&response)
        })
    }
}

impl Http {
    fn body(&self, batch: &Batch) -> Vec<u8> {
        let mut body = Vec::with_capacity(batch.bytes().len().saturating_add(16));
        if let Some(line) = &self.header_line {
            body.extend_from_slice(line.as_bytes());
            body.push(b'\n');
        }
        if self.plan.body == BodyForm::Lines {
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

/// Reads the secrets for signatures, which may have been replaced since the configuration was
/// loaded. Fails with `Misconfigured` if one cannot be read or can be guessed.
fn read_signing_secrets(plan: &HttpPlan) -> Result<Vec<SecretString>, Failure> {
    let read = |reference: &SecretRef| {
        let secret = reference.read().map_err(|error| Failure::misconfigured_by(&error))?;
        signature::check_secret(secret.expose_secret()).map_err(
            |Explanation { message, hint }| Failure::Misconfigured {
                reason: format!("the secret in `{reference}` {message}"),
                hint: hint.map(Cow::Owned),
            },
        )?;
        Ok(secret)
    };
    plan.signing_secrets.iter().map(read).collect()
}

/// Interprets a response. If the body is rejected as invalid, the batch is halved until one record
/// remains, because the response does not identify the invalid record.
fn interpret(response: &HttpResponse) -> Result<Acknowledgement, Failure> {
    match response.status {
        200..=299 => Ok(Acknowledgement::received()),
        400 | 422 => {
            let reason = response.outcome("the endpoint");
            Err(Failure::TooLarge { reason, arrived: Vec::new() })
        }
        410 => Err(Failure::misconfigured(
            "the endpoint returned HTTP 410: it was removed permanently",
        )),
        _ => Err(response.failure("the endpoint")),
    }
}
