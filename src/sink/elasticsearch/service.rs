//! Sends batches as bulk requests, with an action and a document for each record. Every action is
//! `create` with the event ID as document ID, so that a repeated request never changes a document.
//! `response` interprets the results. Start reading at [`open`].

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;

use super::{
    config::{ElasticPlan, Login},
    response,
};
use crate::{
    format::{FormatName, Formatter},
    model::Record,
    net,
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, formatter,
        web::secret_header,
        whole_rejection::{RejectionCause, judge_results},
    },
};

/// The name of the server in messages.
const CLUSTER: &str = "the cluster";

/// The hint for a cluster that rejects every document.
const REJECTS_ALL: &str = "correct the mapping of the index, its template or its ingest pipeline, or `format`, because the cluster rejects every document";

/// An item of a response is a few hundred bytes long, and a batch has up to 2,000 records.
const MAX_RESPONSE_BYTES: usize = 8 << 20;

struct Elastic {
    plan: ElasticPlan,
    client: reqwest::Client,
    formatter: Formatter,
    /// The buffer for one document.
    document: Vec<u8>,
    rejection_cause: RejectionCause,
}

/// Opens the sink without a request. Fails with `Misconfigured` if a certificate or the login
/// cannot be read.
pub(super) fn open(plan: &ElasticPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    let sink = Elastic::new(plan, context)?;
    // The secret is read here so that a missing one parks the sink before the first batch.
    sink.authorization()?;
    Ok(Box::new(sink))
}

/// Sends an empty bulk request. A cluster that accepts the login responds that a body is required.
/// Any other response is a failure. Without a document, the cluster does not check the index, and
/// to read its settings needs permissions that this sink does not.
pub(super) async fn probe(plan: &ElasticPlan, context: &Context) -> Result<String, Failure> {
    let request = Elastic::new(plan, context)?.request()?;
    // Some proxies reject a POST request without a length.
    let request = request.header("Content-Length", "0");
    let response = plan.web.send(request, CLUSTER).await?;

    // A proxy may also reject the request, but its response does not contain an error type.
    let is_accepted = match response.status {
        200 => response::read(&response, &[], None).is_ok(),
        400 => response::is_error_of_cluster(&response),
        _ => false,
    };
    if is_accepted {
        return Ok("the cluster accepts bulk requests; the index is not checked".to_owned());
    }
    Err(response.failure())
}

impl Sink for Elastic {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        let index = match self.plan.index.fixed() {
            Some(index) => index.to_owned(),
            None => self.plan.index.of_record(record)?,
        };

        self.document.clear();
        self.formatter.write(record, &mut self.document);
        let target = Some(index.as_str()).filter(|_| self.plan.index.fixed().is_none());
        batch.push_to(record, target, |out| {
            let start = out.len();
            out.extend_from_slice(b"{\"create\":{\"_index\":\"");
            out.extend_from_slice(index.as_bytes());
            out.extend_from_slice(b"\",\"_id\":\"");
            out.extend_from_slice(&record.event_id.hex());
            out.extend_from_slice(b"\"}}\n{");
            if self.plan.format != FormatName::Ecs {
                // A data stream rejects a document without a timestamp.
                let time = record.time_text();
                out.extend_from_slice(format!("\"@timestamp\":\"{time}\",").as_bytes());
            }
            out.extend_from_slice(&self.document[1..]);
            out.push(b'\n');
            Ok(start)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            let request = self.request()?;
            let body = batch.bytes().to_vec();
            let web = &self.plan.web;
            let response = web.post(request, body, CLUSTER, MAX_RESPONSE_BYTES).await?;
            if response.status != 200 {
                return Err(response.failure());
            }

            let cause = self.rejection_cause;
            let (result, cause) = net::off_worker_to_redact(response.body.len(), || {
                let has_one_reason = || response::has_one_reason(&response, batch.len());
                let result = response::read(&response, batch.items(), self.plan.index.fixed());
                judge_results(batch, result, cause, has_one_reason, REJECTS_ALL)
            });
            self.rejection_cause = cause;
            result.map(|()| Acknowledgement::received())
        })
    }
}

impl Elastic {
    fn new(plan: &ElasticPlan, context: &Context) -> Result<Self, Failure> {
        Ok(Self {
            client: plan.web.client()?,
            formatter: formatter(plan.format, context),
            plan: plan.clone(),
            document: Vec::new(),
            rejection_cause: RejectionCause::default(),
        })
    }

    fn request(&self) -> Result<reqwest::RequestBuilder, Failure> {
        let request = self.client.post(self.plan.url.clone());
        let request = request.header("Content-Type", "application/x-ndjson");
        Ok(match self.authorization()? {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        match &self.plan.login {
            Login::None => Ok(None),
            Login::ApiKey(key) => secret_header("ApiKey ", key).map(Some),
            Login::Basic(user, password) => {
                let password =
                    password.read().map_err(|error| Failure::misconfigured_by(&error))?;
                let pair = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
                let mut value = HeaderValue::from_str(&format!("Basic {pair}")).map_err(|_| {
                    Failure::misconfigured("`username` and `password` are not a valid header value")
                })?;
                value.set_sensitive(true);
                Ok(Some(value))
            }
        }
    }
}
