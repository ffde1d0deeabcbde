//! Interprets the reply to an export request. Only an `ExportLogsServiceResponse` acknowledges
//! records, and a partial success does not name the rejected ones, so it never does. Start reading
//! at [`read`].
//!
//! Source: the OTLP specification 1.x, "OTLP/HTTP Response". A reply has the encoding of the
//! request, which is JSON here, but some receivers always respond with protobuf; an empty message
//! is `{}` in JSON and has no bytes in protobuf, so an empty body is a reply only if it is labeled
//! as protobuf and its end is explicit. See decision 0070.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::protobuf::{FieldValue, read_fields};
use crate::{
    foreign_text::CUT_MARGIN_BYTES,
    sink::{
        Failure,
        reply::{BodyEnd, HttpResponse, MediaType},
        reply_json::{LimitedText, ReplyObject},
    },
    text::count,
};

/// The maximum number of characters of the receiver's text in a message.
const MAX_MESSAGE_CHARS: usize = 300;
/// The maximum number of characters of the receiver's text that are read, and of its bytes in
/// protobuf.
const MAX_TEXT_CHARS: usize = 4 * MAX_MESSAGE_CHARS + CUT_MARGIN_BYTES;

/// What the receiver states about the records of a request.
#[derive(Debug, PartialEq, Eq)]
struct ExportOutcome {
    /// The number of rejected records; `None` if it is not a number that a receiver may send.
    rejected: Option<u64>,
    /// The beginning of the receiver's message, as it was received.
    message: Vec<u8>,
}

/// The JSON of an `ExportLogsServiceResponse`. Names of members are in lowerCamelCase, and readers
/// of protobuf's JSON also accept the original names.
#[derive(Debug, Deserialize)]
struct ExportResponse<'a> {
    #[serde(rename = "partialSuccess", alias = "partial_success", borrow)]
    partial_success: Option<ReplyObject<PartialSuccess<'a>>>,
}

#[derive(Debug, Deserialize)]
struct PartialSuccess<'a> {
    /// A 64-bit integer: a text in OTLP's JSON, but some receivers write a number.
    #[serde(rename = "rejectedLogRecords", alias = "rejected_log_records", borrow)]
    rejected_log_records: Option<&'a RawValue>,
    /// A text, of which only the beginning is read.
    #[serde(rename = "errorMessage", alias = "error_message", borrow)]
    error_message: Option<&'a RawValue>,
}

/// An `ExportLogsServiceResponse` without a partial success. A later version of OTLP may add
/// members, but an object that has only unknown ones is more likely that of another server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FullSuccess {
    #[serde(rename = "partialSuccess", alias = "partial_success")]
    _partial_success: Option<IgnoredAny>,
}

/// Fails for every reply that does not confirm all records. 408, 425, 429 and 5xx are retried. If
/// the receiver rejects records, the batch must not be sent again unchanged. The reply does not
/// identify these records, so the batch is halved until each of them is alone in a request, unless
/// the receiver rejects every record; see `whole_rejection`.
pub(super) fn read(response: &HttpResponse) -> Result<(), Failure> {
    match response.status {
        200 => {
            let outcome = match response.media_type() {
                MediaType::Protobuf => of_protobuf(&response.body, response.body_end),
                _ => of_json(response),
            };
            outcome.ok_or_else(|| response.unexpected())?.into_result(response)
        }
        400 => Err(Failure::TooLarge { reason: response.outcome(), arrived: Vec::new() }),
        _ => Err(response.failure()),
    }
}

impl ExportOutcome {
    fn into_result(self, response: &HttpResponse) -> Result<(), Failure> {
        let rejected = match self.rejected {
            Some(0) => return Ok(()),
            Some(rejected) => count(rejected, "record"),
            None => "an unknown number of records".to_owned(),
        };

        let message = response.quote(&self.message, MAX_MESSAGE_CHARS);
        let reason = if message.is_empty() {
            format!("the receiver rejected {rejected}")
        } else {
            format!("the receiver rejected {rejected}: {message}")
        };
        Err(Failure::TooLarge { reason, arrived: Vec::new() })
    }
}

/// The outcome in a reply that is JSON; `None` if it is not an `ExportLogsServiceResponse`.
fn of_json(response: &HttpResponse) -> Option<ExportOutcome> {
    let ExportResponse { partial_success } = response.json()?;
    let Some(ReplyObject(partial_success)) = partial_success else {
        response.json::<FullSuccess>()?;
        return Some(ExportOutcome { rejected: Some(0), message: Vec::new() });
    };

    let rejected = match partial_success.rejected_log_records {
        None => Some(0),
        Some(value) => value.get().trim_matches('"').parse().ok(),
    };
    let text = partial_success.error_message.map(|value| serde_json::from_str(value.get()));
    let text: LimitedText<MAX_TEXT_CHARS> = text.and_then(Result::ok).unwrap_or_default();
    Some(ExportOutcome { rejected, message: text.as_str().into() })
}

/// Like [`of_json`], for the binary encoding. The beginning of a message can be a message, too, so
/// an empty body must have an explicit end, and any other must contain the partial success.
fn of_protobuf(body: &[u8], end: BodyEnd) -> Option<ExportOutcome> {
    let mut outcome = ExportOutcome { rejected: Some(0), message: Vec::new() };
    let mut is_known = body.is_empty() && end == BodyEnd::Explicit;

    read_fields(body, |number, value| match (number, value) {
        (1, FieldValue::Bytes(partial_success)) => {
            is_known = true;
            read_fields(partial_success, |number, value| read_member(number, value, &mut outcome))
        }
        (1, _) => None,
        _ => Some(()),
    })?;
    is_known.then_some(outcome)
}

/// Reads a field of an `ExportLogsPartialSuccess`.
fn read_member(number: u64, value: FieldValue<'_>, outcome: &mut ExportOutcome) -> Option<()> {
    match (number, value) {
        // A negative number has the highest bit.
        (1, FieldValue::Integer(rejected)) => {
            outcome.rejected = (rejected <= i64::MAX.unsigned_abs()).then_some(rejected);
        }
        (2, FieldValue::Bytes(text)) => {
            outcome.message = text[..text.len().min(MAX_TEXT_CHARS)].to_vec();
        }
        (1 | 2, _) => return None,
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(response: &HttpResponse) -> String {
        match read(response) {
            Ok(()) => "delivered".to_owned(),
            Err(Failure::Retry { .. }) => "retry".to_owned(),
            Err(failure) => failure.to_string(),
        }
    }

    fn json(body: &str) -> String {
        outcome(&HttpResponse::of("the receiver", 200, body.as_bytes()).labeled("application/json"))
    }

    fn protobuf(body: &[u8]) -> String {
        outcome(&HttpResponse::of("the receiver", 200, body).labeled("application/x-protobuf"))
    }

    /// Regression: every HTTP 200 was an acknowledgement: an empty body, a page and other JSON.
    #[test]
    fn only_an_export_response_is_believed() {
        for body in [
            "{}",
            " {}\n",
            "{\"partialSuccess\":{}}",
            "{\"partialSuccess\":null}",
            "{\"partial_success\":{}}",
        ] {
            assert_eq!(json(body), "delivered", "{body}");
        }
        for body in [
            "",
            "ok",
            "<html>",
            "null",
            "[]",
            "{",
            "{}x",
            "{}{}",
            "{\"status\":\"accepted\"}",
            "{\"error\":\"no backend\"}",
            "{\"partialSuccess\":[]}",
            "{\"partialSuccess\":{}",
            "{\"partialSuccess\":\"yes\"}",
        ] {
            assert_eq!(json(body), "retry", "{body}");
        }

        let response = |status| HttpResponse::of("the receiver", status, b"{}");
        assert_eq!(outcome(&response(200)), "delivered");
        assert_eq!(outcome(&response(200).labeled("text/html")), "retry");
        assert_eq!(outcome(&response(202)), "retry", "only 200 is a success of OTLP");
    }

    #[test]
    fn protobuf_is_read_if_it_is_labeled() {
        for (body, expected) in [
            (&b""[..], "delivered"),
            (b"\x0a\x00", "delivered"),
            (b"\x0a\x02\x08\x00", "delivered"),
            (b"\x0a\x02\x08\x02", "the receiver rejected 2 records"),
            (b"\x0a\x06\x08\x02\x12\x02no", "the receiver rejected 2 records: no"),
            (
                b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                "the receiver rejected an unknown number of records",
            ),
            (b"\x0a\x02\x08", "retry"),
            (b"\x08\x00", "retry"),
            (b"\x0a\x02\x0a\x00", "retry"),
            (b"<html>", "retry"),
            (b"{}", "retry"),
        ] {
            assert_eq!(protobuf(body), expected, "{body:?}");
        }
        assert_eq!(json("\n\0"), "retry");
    }

    /// Regression: a head without a body and without a length, which a server that fails also
    /// returns, was an acknowledgement.
    #[test]
    fn an_empty_body_needs_an_explicit_end() {
        for (body, expected) in [(&b""[..], "retry"), (b"\x0a\x00", "delivered")] {
            let mut response = HttpResponse::of("the receiver", 200, body);
            response.body_end = BodyEnd::Closed;
            assert_eq!(outcome(&response.labeled("application/x-protobuf")), expected, "{body:?}");
        }
    }

    /// Regression: a message of another kind, in which every field is unknown, was an
    /// acknowledgement.
    #[test]
    fn unknown_protobuf_fields_acknowledge_nothing() {
        for (body, expected) in [
            (&b"\x12\x02no"[..], "retry"),
            (b"\x10\x01", "retry"),
            (b"\x10\x01\x0a\x00", "delivered"),
            (b"\x0a\x02\x08\x02\x10\x01", "the receiver rejected 2 records"),
        ] {
            assert_eq!(protobuf(body), expected, "{body:?}");
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
            assert_eq!(json(&body), expected, "{body}");
        }
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
            let reason = json(&format!("{{\"partialSuccess\":{{{partial}}}}}"));
            let expected = "the receiver rejected an unknown number of records: no";
            assert_eq!(reason, expected, "{partial}");
        }

        for message in ["null", "7", "{\"text\":\"no\"}"] {
            let partial = format!("\"rejectedLogRecords\":2,\"errorMessage\":{message}");
            let reason = json(&format!("{{\"partialSuccess\":{{{partial}}}}}"));
            assert_eq!(reason, "the receiver rejected 2 records", "{partial}");
        }
    }

    #[test]
    fn messages_of_the_receiver_contain_no_secret() {
        let partial = "\"rejectedLogRecords\":1,\"errorMessage\":\"no canary-token\"";
        let json = format!("{{\"partialSuccess\":{{{partial}}}}}");
        let protobuf = b"\x0a\x13\x08\x01\x12\x0fno canary-token";
        for (content_type, body) in
            [("application/json", json.as_bytes()), ("application/x-protobuf", protobuf)]
        {
            let response = HttpResponse::of("the receiver", 200, body).labeled(content_type);
            let expected = "the receiver rejected 1 record: no [redacted]";
            assert_eq!(outcome(&response.with_secret("canary-token")), expected, "{content_type}");
        }
    }

    #[test]
    fn messages_of_the_receiver_are_cut() {
        let message = "x".repeat(50_000);
        let partial = format!("\"rejectedLogRecords\":1,\"errorMessage\":\"{message}\"");
        let reason = json(&format!("{{\"partialSuccess\":{{{partial}}}}}"));
        assert!(reason.starts_with("the receiver rejected 1 record: xxx"), "{reason}");
        assert!(reason.chars().count() < 400, "{reason}");
    }
}
