//! Interprets a collector's response, according to Splunk's published table of HEC status codes. An
//! unknown code never counts as an acknowledgement. No more acknowledgement states are read than
//! were requested. Source: Splunk, "Troubleshoot HTTP Event Collector".

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    foreign_text::ForeignText,
    sink::{
        Failure,
        reply_json::{LimitedText, ReplyFault, members},
    },
};

/// The maximum number of characters of the collector's text in a message.
const MAX_MESSAGE_CHARS: usize = 200;

/// The body of a response from the event endpoint.
#[derive(Debug, Default, Deserialize)]
struct HecReply {
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
    code: Option<u32>,
    #[serde(default)]
    text: LimitedText<MAX_MESSAGE_CHARS>,
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
/// | 1 to 4, 7, 10, 11, 14, 16, 21, 22; 401, 403, 404, 415 | parked: needs an operator |
/// | 5, 6, 12, 13, 15 with `invalid-event-number` | that event becomes a dead letter |
/// | 5, 6, 12, 13, 15 without | the batch is halved until one event remains |
/// | 413 | the batch is halved |
pub(super) fn read(
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
    events: usize,
) -> Result<Option<u64>, Failure> {
    let reply: HecReply = serde_json::from_slice(body).unwrap_or_default();
    let reason = describe(status, &reply);

    match (status, reply.code) {
        (200, Some(0 | 24 | 25)) => Ok(reply.ack_id),
        (_, Some(8 | 9 | 18 | 19 | 20 | 23 | 26 | 27)) | (408 | 429 | 500..=599, _) => {
            Err(Failure::Retry { reason, after: retry_after, hint: None })
        }
        (413, _) => Err(Failure::TooLarge { reason, arrived: Vec::new() }),
        (_, Some(5 | 6 | 12 | 13 | 15)) => Err(invalid_event(&reply, reason, events)),
        // Everything else, such as the page of a proxy or an undocumented code, is not an
        // acknowledgement and needs an operator.
        _ => Err(Failure::Misconfigured { reason, hint: hint(reply.code) }),
    }
}

/// Reads the response to a poll for the states of `requested` ackIds. Returns those that are
/// acknowledged; fails with `Broken` if the channel is unknown to the collector.
pub(super) fn read_acks(
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
    requested: usize,
) -> Result<Vec<u64>, Failure> {
    if status == 200
        && let Ok(AckReply { acks }) = serde_json::from_slice(body)
    {
        match members::<bool>(acks, requested) {
            Ok(indexed) => {
                let acknowledged = indexed.iter().filter(|(_, is_indexed)| *is_indexed);
                return Ok(acknowledged.filter_map(|(id, _)| id.as_str().parse().ok()).collect());
            }
            Err(fault @ ReplyFault::TooManyElements(_)) => {
                let reason = format!("cannot read the acknowledgement states: {fault}");
                return Err(Failure::retry(reason));
            }
            Err(ReplyFault::Unexpected) => {}
        }
    }

    let reply: HecReply = serde_json::from_slice(body).unwrap_or_default();
    match (reply.code, read(status, body, retry_after, 0)) {
        (Some(10 | 11), Err(failure)) => Err(Failure::Broken { reason: failure.to_string() }),
        (_, Err(Failure::TooLarge { reason, .. })) => {
            Err(Failure::Misconfigured { reason, hint: None })
        }
        (_, Err(failure)) => Err(failure),
        // HTTP 200 without acknowledgement states does not acknowledge anything.
        (_, Ok(_)) => Err(Failure::retry("the collector returned no acknowledgement states")),
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

fn describe(status: u16, reply: &HecReply) -> String {
    let Some(code) = reply.code else {
        return format!("the collector returned HTTP {status} without a code");
    };
    let text = ForeignText::new(reply.text.as_str()).for_message(MAX_MESSAGE_CHARS);
    if text.is_empty() {
        format!("the collector returned code {code}")
    } else {
        format!("the collector returned code {code}: {text}")
    }
}

fn hint(code: Option<u32>) -> Option<Cow<'static, str>> {
    let hint = match code {
        None => "check that the URL belongs to a collector, and that no proxy responds instead",
        Some(1 | 22) => "enable the token in Splunk",
        Some(2..=4 | 21) => "check the token",
        Some(7) => "allow this index for the token, or correct `index`",
        Some(14) => {
            "enable indexer acknowledgement for the token, or remove `acknowledgement = true`"
        }
        Some(_) => return None,
    };
    Some(hint.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The class of a result, as a short name.
    fn class(result: &Result<Option<u64>, Failure>) -> &'static str {
        match result {
            Ok(_) => "ok",
            Err(Failure::Retry { .. }) => "retry",
            Err(Failure::Misconfigured { .. }) => "config",
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
            let found = class(&read(row.http, body.as_bytes(), None, 10));
            assert_eq!(found, expected, "code {}", row.code);
            rows += 1;
        }
        assert_eq!(rows, 28);
    }

    #[test]
    fn the_status_decides_without_a_code() {
        let html = b"<html><body>Request Entity Too Large</body></html>";
        for (status, expected) in [
            (413, "halve"),
            (415, "config"),
            (503, "retry"),
            (429, "retry"),
            (404, "config"),
            (200, "config"),
            (302, "config"),
        ] {
            assert_eq!(class(&read(status, html, None, 1)), expected, "{status}");
        }
    }

    #[test]
    fn isolates_the_invalid_event() {
        let body = br#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#;
        let Err(Failure::Poison { rejected, rest_delivered: false }) = read(400, body, None, 10)
        else {
            panic!("the event is not isolated")
        };

        assert_eq!(rejected[0].0, 3);
        assert_eq!(class(&read(400, body, None, 2)), "halve");
    }

    #[test]
    fn numbers_out_of_range_confirm_nothing() {
        for number in ["-1", "-0.5", "1e308", "18446744073709551616", "\"NaN\""] {
            for reply in [
                format!("{{\"code\":{number},\"ackId\":1}}"),
                format!("{{\"code\":0,\"ackId\":{number}}}"),
            ] {
                assert_eq!(class(&read(200, reply.as_bytes(), None, 10)), "config", "{reply}");
            }

            let reply = format!("{{\"code\":6,\"invalid-event-number\":{number}}}");
            let result = read(400, reply.as_bytes(), None, 10);
            assert!(matches!(class(&result), "config" | "halve"), "{reply}");
            let states = format!("{{\"acks\":{{\"{}\":true}}}}", number.trim_matches('"'));
            let acknowledged = read_acks(200, states.as_bytes(), None, 1).unwrap();
            assert_eq!(acknowledged, Vec::<u64>::new(), "{states}");
        }

        let reply = format!("{{\"code\":0,\"ackId\":{}}}", u64::MAX);
        assert_eq!(read(200, reply.as_bytes(), None, 10).unwrap(), Some(u64::MAX));
        let reply = format!("{{\"code\":6,\"invalid-event-number\":{}}}", u64::MAX);
        assert_eq!(class(&read(400, reply.as_bytes(), None, 10)), "halve");
    }

    /// Regression: all states of a response were stored, however many there were.
    #[test]
    fn no_more_states_are_read_than_were_requested() {
        let read = |body: &str, requested| read_acks(200, body.as_bytes(), None, requested);
        let states = r#"{"acks":{"0":true,"1":false,"7":true,"x":true}}"#;
        assert_eq!(read(states, 4).unwrap(), [0, 7]);
        assert_eq!(read(r#"{"acks":{}}"#, 0).unwrap(), Vec::<u64>::new());

        let failure = read(states, 3).unwrap_err();
        let message =
            "cannot read the acknowledgement states: the response has more than 3 elements";
        assert_eq!(failure, Failure::retry(message));
        for unexpected in [r#"{"acks":[0]}"#, r#"{"acks":{"0":1}}"#, "<html>"] {
            let failure = read(unexpected, 4).unwrap_err();
            assert!(matches!(failure, Failure::Misconfigured { .. }), "{unexpected}");
        }
    }

    #[test]
    fn returns_retry_after() {
        let body = br#"{"text":"Server is busy","code":9}"#;
        let wait = Some(Duration::from_secs(7));
        assert!(
            matches!(read(503, body, wait, 1), Err(Failure::Retry { after, .. }) if after == wait)
        );
    }
}
