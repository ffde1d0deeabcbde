//! Interprets a collector's response, according to Splunk's published table of HEC status codes.
//! Only an object with a text and a code is a response of a collector, and an unknown code never
//! counts as an acknowledgement. No more acknowledgement states are read than were requested.
//! Source: Splunk, "Troubleshoot HTTP Event Collector".

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    foreign_text::CUT_MARGIN_BYTES,
    net,
    sink::{
        Failure,
        reply::HttpResponse,
        reply_json::{LimitedText, ReplyFault, members},
    },
};

/// The maximum number of characters of the collector's text in a message.
const MAX_MESSAGE_CHARS: usize = 200;
/// The maximum number of characters of the collector's text that are read.
const MAX_TEXT_CHARS: usize = MAX_MESSAGE_CHARS + CUT_MARGIN_BYTES;

/// The code for an index that does not exist or that the token does not permit.
const INCORRECT_INDEX: u32 = 7;

/// The hint for a status other than success without a code.
const NOT_COLLECTOR: &str =
    "check that the URL belongs to a collector, and that no proxy responds instead";

/// The body of a response from the event endpoint.
#[derive(Debug, Deserialize)]
struct HecReply {
    text: LimitedText<MAX_TEXT_CHARS>,
    code: u32,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
    #[serde(rename = "invalid-event-number")]
    invalid_event: Option<usize>,
}

/// The body of a response from the acknowledgement endpoint.
#[derive(Debug, Deserialize)]
struct AckReply<'a> {
    /// An object with the state of each ackId: whether it is acknowledged.
    #[serde(borrow)]
    acks: &'a RawValue,
}

/// Reads the response to a request with `events` events. Returns the ackId, if there is one. Fails
/// for every response that does not confirm all events:
///
/// | code or status | result |
/// |---|---|
/// | 0; 24, 25 ("approaching capacity") | delivered |
/// | 8, 9, 18 to 20, 23, 26, 27; 408, 429, 5xx | retried, not before `Retry-After` |
/// | 2xx without a text and a code, such as the page of a proxy | retried: the outcome is unknown |
/// | 1 to 4, 7, 10, 11, 14, 16, 21, 22 | parked: needs an operator |
/// | 3xx and 4xx without a code; unknown codes | the records of each tenant are sent again alone; parked if none arrives |
/// | 5, 6, 12, 13, 15 with `invalid-event-number` | that event becomes a dead letter, unless the collector rejects every event |
/// | 5, 6, 12, 13, 15 without | the batch is halved until one event remains |
/// | 413 | the batch is halved |
pub(super) fn read(response: &HttpResponse, events: usize) -> Result<Option<u64>, Failure> {
    let status = response.status;
    let Some(reply) = response.json::<HecReply>() else {
        return Err(without_code(response));
    };
    let reason = || describe(response, &reply);

    match (status, reply.code) {
        (200, 0 | 24 | 25) => Ok(reply.ack_id),
        (200..=299, 0 | 24 | 25) => Err(response.unexpected()),
        (_, 8 | 9 | 18 | 19 | 20 | 23 | 26 | 27) | (408 | 429 | 500..=599, _) => {
            let after = net::retry_after(&response.headers);
            Err(Failure::Retry { reason: reason(), after, hint: None })
        }
        (413, _) => Err(Failure::TooLarge { reason: reason(), arrived: Vec::new() }),
        (_, 5 | 6 | 12 | 13 | 15) => Err(invalid_event(&reply, reason(), events)),
        (_, code @ (1..=4 | 7 | 10 | 11 | 14 | 16 | 21 | 22)) => {
            Err(Failure::Misconfigured { reason: reason(), hint: hint(code) })
        }
        // Everything else, such as an undocumented code, is not an acknowledgement and probably
        // needs an operator.
        _ => Err(Failure::Denied { reason: reason(), hint: None }),
    }
}

/// Whether the collector refuses the index of a request.
pub(super) fn refuses_index(response: &HttpResponse) -> bool {
    response.json::<HecReply>().is_some_and(|reply| reply.code == INCORRECT_INDEX)
}

/// The message of a collector that rejects events of a request because of their content; `None` for
/// any other response.
pub(super) fn rejection(response: &HttpResponse) -> Option<String> {
    let reply = response.json::<HecReply>()?;
    let is_of_status = matches!(response.status, 408 | 413 | 429 | 500..=599);
    let is_rejection = !is_of_status && matches!(reply.code, 5 | 6 | 12 | 13 | 15);
    is_rejection.then(|| describe(response, &reply))
}

/// Reads the response to a poll for the states of `requested` ackIds. Returns those that are
/// acknowledged; fails with `Broken` if the channel is unknown to the collector.
pub(super) fn read_acks(response: &HttpResponse, requested: usize) -> Result<Vec<u64>, Failure> {
    if response.status == 200
        && let Some(AckReply { acks }) = response.json()
    {
        return match members::<bool>(acks, requested) {
            Ok(indexed) => {
                let acknowledged = indexed.iter().filter(|(_, is_indexed)| *is_indexed);
                Ok(acknowledged.filter_map(|(id, _)| id.as_str().parse().ok()).collect())
            }
            Err(fault @ ReplyFault::TooManyElements(_)) => {
                let reason = format!("cannot read the acknowledgement states: {fault}");
                Err(Failure::retry(reason))
            }
            Err(ReplyFault::Unexpected) => Err(response.unexpected()),
        };
    }

    let code = response.json::<HecReply>().map(|reply| reply.code);
    match (code, read(response, 0)) {
        (Some(10 | 11), Err(failure)) => Err(Failure::Broken { reason: failure.to_string() }),
        (_, Err(Failure::TooLarge { reason, .. })) => {
            Err(Failure::Misconfigured { reason, hint: None })
        }
        (_, Err(failure)) => Err(failure.without_records()),
        // HTTP 200 without acknowledgement states does not acknowledge anything.
        (_, Ok(_)) => Err(Failure::retry("the collector returned no acknowledgement states")),
    }
}

/// The failure for a response that is not from a collector, or that Splunk's web server returned,
/// such as a page with status 413. The status decides.
fn without_code(response: &HttpResponse) -> Failure {
    let or_default = |hint: Option<Cow<'static, str>>| hint.or_else(|| Some(NOT_COLLECTOR.into()));
    match response.failure() {
        Failure::Misconfigured { reason, hint } => {
            Failure::Misconfigured { reason, hint: or_default(hint) }
        }
        Failure::RejectsAll { reason, hint } => {
            Failure::RejectsAll { reason, hint: or_default(hint) }
        }
        Failure::Denied { reason, hint } => Failure::Denied { reason, hint: or_default(hint) },
        failure => failure,
    }
}

/// The collector may or may not have accepted the events before the invalid one, so all others are
/// sent again.
fn invalid_event(reply: &HecReply, reason: String, events: usize) -> Failure {
    match reply.invalid_event.filter(|index| *index < events) {
        Some(index) => Failure::Poison { rejected: vec![(index, reason)], rest_delivered: false },
        None => Failure::TooLarge { reason, arrived: Vec::new() },
    }
}

fn describe(response: &HttpResponse, reply: &HecReply) -> String {
    let code = reply.code;
    let text = response.quote(reply.text.as_str().as_bytes(), MAX_MESSAGE_CHARS);
    if text.is_empty() {
        format!("the collector returned code {code}")
    } else {
        format!("the collector returned code {code}: {text}")
    }
}

fn hint(code: u32) -> Option<Cow<'static, str>> {
    let hint = match code {
        1 | 22 => "enable the token in Splunk",
        2..=4 | 21 => "check the token",
        INCORRECT_INDEX => "allow this index for the token, or correct `index`",
        14 => "enable indexer acknowledgement for the token, or remove `acknowledgement = true`",
        _ => return None,
    };
    Some(hint.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::HeaderValue;

    use super::*;

    fn response(status: u16, body: &str) -> HttpResponse {
        HttpResponse::of("the collector", status, body.as_bytes())
    }

    fn outcome(status: u16, body: &str, events: usize) -> Result<Option<u64>, Failure> {
        read(&response(status, body), events)
    }

    /// The class of a result, as a short name.
    fn class(result: &Result<Option<u64>, Failure>) -> &'static str {
        match result {
            Ok(_) => "ok",
            Err(Failure::Retry { .. }) => "retry",
            Err(
                Failure::Misconfigured { .. } | Failure::RejectsAll { .. } | Failure::Denied { .. },
            ) => "config",
            Err(Failure::Poison { .. }) => "poison",
            Err(Failure::TooLarge { .. }) => "halve",
            Err(_) => "other",
        }
    }

    #[test]
    fn every_published_code_has_its_class() {
        #[derive(Deserialize)]
        struct Row {
            code: u32,
            http: u16,
            text: String,
            proposed_action: String,
        }

        let table = include_str!("../../../tests/vectors/hec-response-codes.jsonl");
        let mut rows = 0;
        for line in table.lines() {
            let row: Row = serde_json::from_str(line).unwrap();
            let body = serde_json::json!({ "code": row.code, "text": row.text }).to_string();
            let expected = match row.proposed_action.as_str() {
                "ok" | "ok-warn" => "ok",
                "retry" | "retry-poll-acks" => "retry",
                "bisect" | "drop-empty" => "halve",
                // Neither acknowledgement nor the health endpoint was requested.
                "config" | "downgrade-ack" | "healthy" => "config",
                other => panic!("unknown action {other}"),
            };
            let found = class(&outcome(row.http, &body, 10));
            assert_eq!(found, expected, "code {}", row.code);
            rows += 1;
        }
        assert_eq!(rows, 28);
    }

    #[test]
    fn the_status_decides_without_a_code() {
        let html = "<html><body>Request Entity Too Large</body></html>";
        for (status, expected) in [
            (413, "halve"),
            (415, "config"),
            (503, "retry"),
            (429, "retry"),
            (404, "config"),
            (200, "retry"),
            (204, "retry"),
            (302, "config"),
        ] {
            assert_eq!(class(&outcome(status, html, 1)), expected, "{status}");
        }
        let message = outcome(403, html, 1).unwrap_err().to_string();
        assert!(message.starts_with("the collector returned HTTP 403: <html>"), "{message}");
    }

    #[test]
    fn isolates_the_invalid_event() {
        let body = r#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#;
        let Err(Failure::Poison { rejected, rest_delivered: false }) = outcome(400, body, 10)
        else {
            panic!("the event is not isolated")
        };

        assert_eq!(rejected[0].0, 3);
        assert_eq!(class(&outcome(400, body, 2)), "halve");
    }

    #[test]
    fn rejections_of_events_have_a_message() {
        let message = |status, code: u32| {
            let body = serde_json::json!({ "text": "Invalid data format", "code": code });
            rejection(&response(status, &body.to_string()))
        };
        let expected = "the collector returned code 6: Invalid data format".to_owned();
        assert_eq!(message(400, 6), Some(expected));
        for (status, code) in [(400, 7), (400, 14), (413, 6), (503, 6), (200, 0), (403, 1)] {
            assert_eq!(message(status, code), None, "{status} {code}");
        }
        assert_eq!(rejection(&response(400, "Invalid data format")), None);
    }

    /// Regression: a response that was cut off parked the sink, and an array, or an object without
    /// the text of a collector, was an acknowledgement.
    #[test]
    fn only_a_response_of_a_collector_is_believed() {
        for body in [
            "",
            "ok",
            "{}",
            "[]",
            "[null,0,\"Success\",null]",
            "{\"code\":0}",
            "{\"text\":\"Success\"}",
            "{\"text\":0,\"code\":0}",
            "{\"text\":\"Success\",\"code\":0",
            "{\"text\":\"Success\",\"code\":0}<html>",
            "{\"status\":\"accepted\"}",
        ] {
            assert_eq!(class(&outcome(200, body, 1)), "retry", "{body}");
        }

        let body = r#"{"text":"Success","code":0}"#;
        assert_eq!(outcome(200, body, 1), Ok(None));
        let page = response(200, body).labeled("text/html");
        assert_eq!(class(&read(&page, 1)), "retry");
        for status in [201, 202, 206] {
            assert_ne!(class(&outcome(status, body, 1)), "ok", "{status}");
        }
    }

    #[test]
    fn numbers_out_of_range_confirm_nothing() {
        for number in ["-1", "-0.5", "1e308", "18446744073709551616", "\"NaN\""] {
            for reply in [
                format!("{{\"text\":\"\",\"code\":{number},\"ackId\":1}}"),
                format!("{{\"text\":\"\",\"code\":0,\"ackId\":{number}}}"),
            ] {
                assert_eq!(class(&outcome(200, &reply, 10)), "retry", "{reply}");
            }

            let reply = format!("{{\"text\":\"\",\"code\":6,\"invalid-event-number\":{number}}}");
            let result = outcome(400, &reply, 10);
            assert!(matches!(class(&result), "config" | "halve"), "{reply}");
            let states = format!("{{\"acks\":{{\"{}\":true}}}}", number.trim_matches('"'));
            let acknowledged = read_acks(&response(200, &states), 1).unwrap();
            assert_eq!(acknowledged, Vec::<u64>::new(), "{states}");
        }

        let reply = format!("{{\"text\":\"\",\"code\":0,\"ackId\":{}}}", u64::MAX);
        assert_eq!(outcome(200, &reply, 10).unwrap(), Some(u64::MAX));
        let number = u64::MAX;
        let reply = format!("{{\"text\":\"\",\"code\":6,\"invalid-event-number\":{number}}}");
        assert_eq!(class(&outcome(400, &reply, 10)), "halve");
    }

    /// Regression: all states of a response were stored, however many there were.
    #[test]
    fn no_more_states_are_read_than_were_requested() {
        let read = |body: &str, requested| read_acks(&response(200, body), requested);
        let states = r#"{"acks":{"0":true,"1":false,"7":true,"x":true}}"#;
        assert_eq!(read(states, 4).unwrap(), [0, 7]);
        assert_eq!(read(r#"{"acks":{}}"#, 0).unwrap(), Vec::<u64>::new());

        let failure = read(states, 3).unwrap_err();
        let message =
            "cannot read the acknowledgement states: the response has more than 3 elements";
        assert_eq!(failure, Failure::retry(message));
        for unexpected in [
            "",
            "[{\"0\":true}]",
            r#"{"acks":[0]}"#,
            r#"{"acks":{"0":1}}"#,
            r#"{"acks":{"0":true}"#,
            r#"{"acks":{"0":true}} x"#,
            "<html>",
        ] {
            let failure = read(unexpected, 4).unwrap_err();
            assert!(matches!(failure, Failure::Retry { .. }), "{unexpected}: {failure}");
        }
    }

    #[test]
    fn texts_of_the_collector_contain_no_secret() {
        for status in [200, 403] {
            let reply = response(status, r#"{"text":"no canary&#45;token","code":4}"#);
            let failure = read(&reply.with_secret("canary-token"), 1).unwrap_err();
            let expected = "the collector returned code 4: no [redacted]";
            assert_eq!(failure.to_string(), expected);
        }
    }

    #[test]
    fn returns_retry_after() {
        let mut response = response(503, r#"{"text":"Server is busy","code":9}"#);
        response.headers.insert("Retry-After", HeaderValue::from_static("7"));
        let wait = Some(Duration::from_secs(7));
        assert!(matches!(read(&response, 1), Err(Failure::Retry { after, .. }) if after == wait));
    }
}
