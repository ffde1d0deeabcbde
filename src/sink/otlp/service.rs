//! Records as OTLP log records, and batches as export requests. A partial success does not name the
//! rejected records, so it never counts as an acknowledgement. Source: the OTLP specification 1.x,
//! "OTLP/HTTP". Start reading at [`open`].

use serde::Deserialize;
use serde_json::value::RawValue;

use super::config::OtlpPlan;
use crate::{
    foreign_text::ForeignText,
    format::{Formatter, cef_severity, json_string},
    model::{Body, ControlOutcome, Record},
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink, formatter,
        reply_json::LimitedText,
        web::{HttpResponse, secret_headers},
    },
    text::count,
};

/// A response has a few members, one of which is a message from the receiver.
const MAX_RESPONSE_BYTES: usize = 64 << 10;
/// The maximum number of characters of the receiver's text in a message.
const MAX_MESSAGE_CHARS: usize = 300;

/// The name of the server in messages.
const RECEIVER: &str = "the receiver";

/// The body of a response (`ExportLogsServiceResponse`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExportResponse<'a> {
    #[serde(borrow)]
    partial_success: Option<PartialSuccess<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PartialSuccess<'a> {
    /// A 64-bit integer: a text in OTLP's JSON, but some receivers write a number.
    #[serde(borrow)]
    rejected_log_records: Option<&'a RawValue>,
    /// A text, of which only the beginning is read.
    #[serde(borrow)]
    error_message: Option<&'a RawValue>,
}

struct Otlp {
    plan: OtlpPlan,
    client: reqwest::Client,
    /// The request up to its first log record.
    head: Vec<u8>,
    formatter: Formatter,
    /// The buffer for the body of one log record.
    body: Vec<u8>,
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
    let response = plan.web.post(request, body, MAX_RESPONSE_BYTES).await?;
    interpret(&response).map(|_| "the receiver accepts an empty export request".to_owned())
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
            let mut body = self.head.clone();
            for (index, item) in batch.items().iter().enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(batch.payload(item));
            }
            body.extend_from_slice(b"]}]}]}");

            let request = post(&self.client, &self.plan)?;
            interpret(&self.plan.web.post(request, body, MAX_RESPONSE_BYTES).await?)
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

impl PartialSuccess<'_> {
    /// The number of rejected records. `None` if it is not a number that a receiver may send.
    fn rejected(&self) -> Option<u64> {
        let Some(value) = self.rejected_log_records else { return Some(0) };
        let digits = value.get().trim_matches('"');
        digits.parse().ok()
    }

    fn message(&self) -> String {
        let text = self.error_message.map(|value| serde_json::from_str(value.get()));
        let text: LimitedText<MAX_MESSAGE_CHARS> = text.and_then(Result::ok).unwrap_or_default();
        ForeignText::new(text.as_str()).for_message(MAX_MESSAGE_CHARS)
    }
}

/// Interprets a response. 408, 425, 429 and 5xx are retried. If the receiver rejects records, the
/// batch must not be sent again unchanged. The response does not identify these records, so the
/// batch is halved until each of them is alone in a request.
fn interpret(response: &HttpResponse) -> Result<Acknowledgement, Failure> {
    match response.status {
        200 => {
            let body = response.content(RECEIVER)?;
            let export: ExportResponse<'_> = serde_json::from_slice(body).unwrap_or_default();
            let partial_success = export.partial_success.unwrap_or_default();
            let rejected = match partial_success.rejected() {
                Some(0) => return Ok(Acknowledgement::received()),
                Some(rejected) => count(rejected, "record"),
                None => "an unknown number of records".to_owned(),
            };

            let reason = match partial_success.message() {
                message if message.is_empty() => format!("the receiver rejected {rejected}"),
                message => format!("the receiver rejected {rejected}: {message}"),
            };
            Err(Failure::TooLarge { reason, arrived: Vec::new() })
        }
        400 => {
            let reason = response.outcome(RECEIVER);
            Err(Failure::TooLarge { reason, arrived: Vec::new() })
        }
        _ => Err(response.failure(RECEIVER)),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;
    use crate::net::BodyError;

    fn outcome(body: Result<&str, BodyError>) -> String {
        let body = body.map(|text| text.as_bytes().to_vec());
        let response = HttpResponse { status: 200, headers: HeaderMap::new(), body };
        match interpret(&response) {
            Ok(_) => "delivered".to_owned(),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn rejected_records_are_numbers_or_texts() {
        for (rejected, expected) in [
            ("\"2\"", "the receiver rejected 2 records: no"),
            ("2", "the receiver rejected 2 records: no"),
            (
                "18446744073709551615",
                "the receiver rejected 18,446,744,073,709,551,615 records: no",
            ),
            ("0", "delivered"),
            ("\"0\"", "delivered"),
            ("null", "delivered"),
        ] {
            let partial = format!("\"rejectedLogRecords\":{rejected},\"errorMessage\":\"no\"");
            let body = format!("{{\"partialSuccess\":{{{partial}}}}}");
            assert_eq!(outcome(Ok(&body)), expected, "{body}");
        }
        assert_eq!(outcome(Ok("")), "delivered");
    }

    /// Regression: a number out of range, and a message that was not a text, were read as a full
    /// success.
    #[test]
    fn invalid_numbers_acknowledge_nothing() {
        for rejected in [
            "-1",
            "\"-1\"",
            "-0.5",
            "1e308",
            "18446744073709551616",
            "\"NaN\"",
            "\"many\"",
            "\"\"",
            "true",
            "[2]",
        ] {
            let partial = format!("\"rejectedLogRecords\":{rejected},\"errorMessage\":\"no\"");
            let reason = outcome(Ok(&format!("{{\"partialSuccess\":{{{partial}}}}}")));
            let expected = "the receiver rejected an unknown number of records: no";
            assert_eq!(reason, expected, "{partial}");
        }

        for message in ["null", "7", "{\"text\":\"no\"}"] {
            let partial = format!("\"rejectedLogRecords\":2,\"errorMessage\":{message}");
            let reason = outcome(Ok(&format!("{{\"partialSuccess\":{{{partial}}}}}")));
            assert_eq!(reason, "the receiver rejected 2 records", "{partial}");
        }
    }

    /// Regression: records counted as delivered although the response could not be read, so a
    /// partial success was not noticed.
    #[test]
    fn an_unreadable_response_acknowledges_nothing() {
        let reason = outcome(Err(BodyError::TooLarge(MAX_RESPONSE_BYTES)));
        assert!(reason.starts_with("cannot read the response of the receiver: "), "{reason}");
    }

    #[test]
    fn messages_of_the_receiver_are_cut() {
        let message = "x".repeat(50_000);
        let partial = format!("\"rejectedLogRecords\":1,\"errorMessage\":\"{message}\"");
        let reason = outcome(Ok(&format!("{{\"partialSuccess\":{{{partial}}}}}")));
        assert!(reason.starts_with("the receiver rejected 1 record: xxx"), "{reason}");
        assert!(reason.chars().count() < 400, "{reason}");
    }
}
