//! What the collector's answer means: Splunk's published table of codes.

use std::time::Duration;

use serde::Deserialize;

use crate::sink::Failure;

/// Reads an answer; gives the ackId, if there is one. `events` is how many the request carried.
///
/// | code or status | what is done |
/// |---|---|
/// | 0; 24, 25 ("approaching capacity") | delivered |
/// | 8, 9, 18 to 20, 23, 26, 27; 408, 429, 5xx | tried again, not before `Retry-After` |
/// | 1 to 4, 7, 10, 11, 14, 16, 21, 22; 401, 403, 404, 415 | parked: it wants a person |
/// | 5, 6, 12, 13, 15 with `invalid-event-number` | that event is a dead letter |
/// | 5, 6, 12, 13, 15 without | the batch is halved until one event stands alone |
/// | 413 | the batch is halved |
pub(super) fn read(
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
    events: usize,
) -> Result<Option<u64>, Failure> {
    let answer: HecReply = serde_json::from_slice(body).unwrap_or_default();
    let reason = describe(status, &answer);
    match (status, answer.code) {
        (200, Some(0 | 24 | 25)) => Ok(answer.ack_id),
        (_, Some(8 | 9 | 18 | 19 | 20 | 23 | 26 | 27)) | (408 | 429 | 500..=599, _) => {
            Err(Failure::Retry { reason, after: retry_after })
        }
        (413, _) => Err(Failure::TooLarge { reason, arrived: Vec::new() }),
        (_, Some(5 | 6 | 12 | 13 | 15)) => Err(poison(&answer, reason, events)),
        // Whatever else it may be, it is no acknowledgement: a proxy's page, or a code that nobody has
        // published. Somebody has to look.
        _ => Err(Failure::misconfigured(reason)),
    }
}

/// Reads the answer to a question for acknowledgements; gives the numbers that are acknowledged. A
/// channel that the collector does not know is `Broken`.
pub(super) fn read_acks(
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Result<Vec<u64>, Failure> {
    if status == 200
        && let Ok(Acks { acks }) = serde_json::from_slice(body)
    {
        let said = acks.into_iter().filter(|(_, indexed)| *indexed);
        return Ok(said.filter_map(|(id, _)| id.parse().ok()).collect());
    }
    let answer: HecReply = serde_json::from_slice(body).unwrap_or_default();
    match (answer.code, read(status, body, retry_after, 0)) {
        (Some(10 | 11), Err(failure)) => Err(Failure::Broken { reason: failure.to_string() }),
        (_, Err(Failure::TooLarge { reason, .. })) => {
            Err(Failure::Misconfigured { reason, hint: None })
        }
        (_, Err(failure)) => Err(failure),
        // 200 without what was asked for proves nothing.
        (_, Ok(_)) => Err(Failure::retry("the collector did not answer for acknowledgements")),
    }
}

#[derive(Debug, Deserialize)]
struct Acks {
    acks: std::collections::HashMap<String, bool>,
}

#[derive(Debug, Default, Deserialize)]
struct HecReply {
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
    code: Option<u32>,
    #[serde(default)]
    text: String,
    #[serde(rename = "invalid-event-number")]
    invalid_event: Option<usize>,
}

/// Those before the named event may or may not have been taken: all others are sent again.
fn poison(answer: &HecReply, reason: String, events: usize) -> Failure {
    match answer.invalid_event.filter(|index| *index < events) {
        Some(index) => Failure::Poison { rejected: vec![(index, reason)], rest_delivered: false },
        None => Failure::TooLarge { reason, arrived: Vec::new() },
    }
}

fn describe(status: u16, answer: &HecReply) -> String {
    let Some(code) = answer.code else {
        return format!(
            "the collector answered HTTP {status} without a code: a proxy, or not a collector"
        );
    };
    let text: String = answer.text.chars().filter(|c| !c.is_control()).take(200).collect();
    let remedy = match code {
        1 | 22 => ": enable the token in Splunk",
        2..=4 | 21 => ": check the token",
        7 => ": allow this index for the token, or correct `index`",
        14 => {
            ": enable indexer acknowledgement for the token, or leave out `acknowledgement = true`"
        }
        _ => "",
    };
    format!("the collector answered {code} \"{text}\"{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The class of an answer, by a word of its own.
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
    fn every_published_code() {
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
            let want = match row.proposed_action.as_str() {
                "ok" | "ok-warn" => "ok",
                "retry" | "retry-poll-acks" => "retry",
                "bisect" | "drop-empty" => "halve",
                // We asked neither for acknowledgement nor for health.
                "config" | "downgrade-ack" | "healthy" => "config",
                other => panic!("unknown action {other}"),
            };
            assert_eq!(
                class(&read(row.http, body.as_bytes(), None, 10)),
                want,
                "{row_code}",
                row_code = row.code
            );
            rows += 1;
        }
        assert_eq!(rows, 28);
    }

    #[test]
    fn status_decides_where_there_is_no_code() {
        let html = b"<html><body>Request Entity Too Large</body></html>";
        for (status, want) in [
            (413, "halve"),
            (415, "config"),
            (503, "retry"),
            (429, "retry"),
            (404, "config"),
            (200, "config"),
            (302, "config"),
        ] {
            assert_eq!(class(&read(status, html, None, 1)), want, "{status}");
        }
    }

    #[test]
    fn the_named_event_is_isolated() {
        let body = br#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#;
        let Err(Failure::Poison { rejected: refused, rest_delivered: false }) =
            read(400, body, None, 10)
        else {
            panic!("poison")
        };
        assert_eq!(refused[0].0, 3);
        assert_eq!(class(&read(400, body, None, 2)), "halve");
    }

    #[test]
    fn retry_after_is_kept() {
        let body = br#"{"text":"Server is busy","code":9}"#;
        let wait = Some(Duration::from_secs(7));
        assert!(
            matches!(read(503, body, wait, 1), Err(Failure::Retry { after, .. }) if after == wait)
        );
    }
}
