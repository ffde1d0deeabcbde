//! Records as OTLP log records, and batches as export requests. `response` interprets the replies.
//! Source: the OTLP specification 1.x, "OTLP/HTTP". Start reading at [`open`].

use super::{config::OtlpPlan, response};
use crate::{
    format::{Formatter, cef_severity, json_string},
    model::{Body, ControlOutcome, Record},
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, formatter,
        web::secret_headers,
        whole_rejection::{BatchFailure, BatchSender, RejectionCause, deliver_batch},
    },
};

/// A response has a few members, one of which is a message from the receiver.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// The name of the server in messages.
const RECEIVER: &str = "the receiver";

struct Otlp {
    plan: OtlpPlan,
    client: reqwest::Client,
    /// The request up to its first log record.
    head: Vec<u8>,
    formatter: Formatter,
    /// The buffer for the body of one log record.
    body: Vec<u8>,
    rejection_cause: RejectionCause,
}

/// Opens the sink without a request. Fails with `Misconfigured` if a certificate or a secret cannot
/// be read.
pub(super) fn open(plan: &OtlpPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    let mut head = b"{\"resourceLogs\":[{\"resource\":{\"attributes\":[".to_vec();
    attribute("service.name", "secure-score-forwarder", &mut head);
    head.push(b',');
    attribute("host.name", &context.host, &mut head);
    head.extend_from_slice(
        b"]},\"scopeLogs\":[{\"scope\":{\"name\":\"secure-score-forwarder\",\"version\":\"",
    );
    head.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    head.extend_from_slice(b"\"},\"logRecords\":[");

    let sink = Otlp {
        client: plan.web.client()?,
        head,
        formatter: formatter(plan.format, context),
        body: Vec::new(),
        rejection_cause: RejectionCause::default(),
        plan: plan.clone(),
    };
    // The secrets are read here so that a missing one parks the sink before the first batch.
    secret_headers(&plan.headers)?;
    Ok(Box::new(sink))
}

/// Sends an export request without records, to which a receiver responds with success (OTLP 1.0,
/// "Full Success"). Any other response is a failure.
pub(super) async fn probe(plan: &OtlpPlan) -> Result<String, Failure> {
    let request = post(&plan.web.client()?, plan)?;
    let body = br#"{"resourceLogs":[]}"#.to_vec();
    let response = plan.web.post(request, body, RECEIVER, MAX_RESPONSE_BYTES).await?;
    response::read(&response)?;
    Ok("the receiver accepts an empty export request".to_owned())
}

fn post(client: &reqwest::Client, plan: &OtlpPlan) -> Result<reqwest::RequestBuilder, Failure> {
    Ok(client
        .post(plan.url.clone())
        .header("Content-Type", "application/json")
        .headers(secret_headers(&plan.headers)?))
}

impl Sink for Otlp {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        self.body.clear();
        self.formatter.write(record, &mut self.body);
        batch.push(record, |out| {
            let start = out.len();
            write_record(record, &self.body, out);
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

impl BatchSender for Otlp {
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), BatchFailure>> {
        Box::pin(async move {
            let mut body = self.head.clone();
            for (index, item) in batch.items().iter().enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(batch.payload(item));
            }
            body.extend_from_slice(b"]}]}]}");

            let request = post(&self.client, &self.plan)?;
            let web = &self.plan.web;
            let response = web.post(request, body, RECEIVER, MAX_RESPONSE_BYTES).await?;
            BatchFailure::of(response.status, response::read(&response))
        })
    }
}

fn write_record(record: &Record<'_>, body: &[u8], out: &mut Vec<u8>) {
    let time = record.time.as_i64();
    out.extend_from_slice(
        format!(
            "{{\"timeUnixNano\":\"{time}000000\",\"observedTimeUnixNano\":\"{}000000\",\"eventName\":\"secure_score.{}\",",
            record.observed_at.as_i64(),
            record.kind().as_str()
        )
        .as_bytes(),
    );

    let (number, text) = severity(cef_severity(record));
    out.extend_from_slice(
        format!("\"severityNumber\":{number},\"severityText\":\"{text}\",").as_bytes(),
    );

    out.extend_from_slice(b"\"body\":{\"stringValue\":");
    json_string(&String::from_utf8_lossy(body), out);

    out.extend_from_slice(b"},\"attributes\":[");
    attribute("event_id", &record.event_id.to_string(), out);
    out.push(b',');
    attribute("kind", record.kind().as_str(), out);
    out.push(b',');
    attribute("tenant.id", &record.tenant.id.to_string(), out);
    out.push(b',');
    attribute("tenant.name", &record.tenant.name, out);
    for (label, value) in &record.tenant.labels {
        out.push(b',');
        attribute(&format!("tenant.label.{label}"), value, out);
    }

    if let Body::Control(control) = &record.body {
        out.push(b',');
        attribute("control.id", control.id, out);
        for (key, number) in [
            ("control.score", control.score),
            ("control.max_score", control.max_score.map(|m| m.0)),
        ] {
            if let Some(number) = number {
                out.extend_from_slice(
                    format!(",{{\"key\":\"{key}\",\"value\":{{\"doubleValue\":").as_bytes(),
                );
                number.write_plain(out);
                out.extend_from_slice(b"}}");
            }
        }
        if let Some(outcome) = control.outcome().map(ControlOutcome::as_str) {
            out.push(b',');
            attribute("control.outcome", outcome, out);
        }
    }

    out.extend_from_slice(b"]}");
}

fn attribute(key: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"key\":");
    json_string(key, out);
    out.extend_from_slice(b",\"value\":{\"stringValue\":");
    json_string(value, out);
    out.extend_from_slice(b"}}");
}

/// The `SeverityNumber` and `SeverityText` of OpenTelemetry's log data model, in which INFO is 9,
/// WARN 13 and ERROR 17, for a CEF severity.
fn severity(cef: u8) -> (u8, &'static str) {
    match cef {
        0..=2 => (9, "INFO"),
        3 => (10, "INFO2"),
        4..=6 => (13, "WARN"),
        7..=8 => (17, "ERROR"),
        _ => (18, "ERROR2"),
    }
}
