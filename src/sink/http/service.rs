//! Sends batches as POST requests, which are signed if a secret is configured. Signatures follow
//! the specification of Standard Webhooks; see `signature`. Only a complete response with a status
//! from 200 to 299 is an acknowledgement, unless it is HTML, which a proxy returns. Start reading
//! at [`open`].

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
        reply::HttpResponse,
        web::secret_headers,
        whole_rejection::{BatchFailure, BatchSender, RejectionCause, deliver_batch},
    },
};

/// Only the beginning of a response is used, in messages, but some endpoints repeat what they have
/// received.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// The name of the server in messages.
const ENDPOINT: &str = "the endpoint";

struct Http {
    plan: HttpPlan,
    client: reqwest::Client,
    /// The header line, if the format has one.
    header_line: Option<String>,
    formatter: Formatter,
    rejection_cause: RejectionCause,
}

/// Opens the sink without a request. Fails with `Misconfigured` if a certificate or a secret cannot
/// be read.
pub(super) fn open(plan: &HttpPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    let sink = Http {
        client: plan.web.client()?,
        header_line: plan.format.header_line(),
        formatter: formatter(plan.format, context),
        rejection_cause: RejectionCause::default(),
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
    let headers = secret_headers(&plan.headers)?;
    let request = plan.url.get()?.head(&plan.web.client()?);
    let request = request.map(|request| request.headers(headers));
    let response = plan.web.send(request, ENDPOINT).await?;
    match response.status {
        401 | 407 | 410 | 500 | 502..=599 => Err(response.failure()),
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
            let (result, cause) = deliver_batch(&*self, batch, self.rejection_cause).await;
            self.rejection_cause = cause;
            result.map(|()| Acknowledgement::received())
        })
    }
}

impl BatchSender for Http {
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), BatchFailure>> {
        Box::pin(async move {
            let body = self.body(batch);
            let headers = secret_headers(&self.plan.headers)?;
            let request = self.plan.url.get()?.post(&self.client);
            let secrets = read_signing_secrets(&self.plan)?;
            let id = signature::id(batch);
            let time = clock::now();
            let request = request.map(|request| {
                let request = request
                    .header("Content-Type", self.plan.content_type())
                    .headers(headers)
                    .header("webhook-id", &id)
                    .header("webhook-timestamp", time.as_second().to_string());
                if secrets.is_empty() {
                    return request;
                }
                // The signature covers the uncompressed body.
                request.header("webhook-signature", signature::sign(&secrets, &id, time, &body))
            });

            let web = &self.plan.web;
            let response = web.post(request, body, ENDPOINT, MAX_RESPONSE_BYTES).await?;
            BatchFailure::of(response.status, interpret(&response))
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
/// remains, because the response does not identify the invalid record, unless the endpoint rejects
/// every record; see `whole_rejection`.
fn interpret(response: &HttpResponse) -> Result<(), Failure> {
    match response.status {
        200..=299 if response.is_any_success() => Ok(()),
        400 | 422 => Err(Failure::TooLarge { reason: response.outcome(), arrived: Vec::new() }),
        410 => {
            let reason = "the endpoint returned HTTP 410: it was removed permanently".to_owned();
            Err(Failure::Denied { reason, hint: None })
        }
        _ => Err(response.failure()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_success_but_a_page_is_an_acknowledgement() {
        let outcome = |status: u16, body: &str| {
            let response = HttpResponse::of(ENDPOINT, status, body.as_bytes());
            interpret(&response.labeled("text/html; charset=utf-8"))
        };
        for (status, body) in
            [(200, ""), (200, "ok"), (200, "{\"any\":1}"), (201, "x"), (202, ""), (204, "")]
        {
            assert_eq!(outcome(status, body), Ok(()), "{status} {body}");
        }

        for page in ["<!DOCTYPE html><title>Sign in</title>", "\n<html>"] {
            let failure = outcome(200, page).unwrap_err();
            assert!(matches!(failure, Failure::Retry { .. }), "{failure}");
            assert!(failure.to_string().contains("without an acknowledgement"), "{failure}");
        }
    }

    /// A generic receiver can reject a single malformed record with 400 or 422; the other statuses
    /// are those of a firewall.
    #[test]
    fn invalid_bodies_are_divided_by_record() {
        for (status, is_divided) in
            [(400, true), (422, true), (403, false), (406, false), (451, false), (404, false)]
        {
            let response = HttpResponse::of(ENDPOINT, status, b"no");
            let failure = BatchFailure::of(status, interpret(&response)).unwrap_err();
            let is_rejected = matches!(failure, BatchFailure::Rejected(_));
            assert_eq!(is_rejected, is_divided, "{status}: {failure:?}");
        }
    }
}
