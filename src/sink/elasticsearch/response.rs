//! Interprets the response to a bulk request, item by item. HTTP 200 alone acknowledges nothing: a
//! record is delivered only if its own item states it. No more items are read than records were
//! sent. Source: the references of the bulk API of Elasticsearch and OpenSearch.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    foreign_text::ForeignText,
    sink::{
        Failure,
        reply_json::{LimitedText, ReplyFault, list},
    },
    text::count,
};

/// The maximum number of errors of a chain in a message, and of characters of each.
const MAX_CAUSES: usize = 3;
const MAX_CAUSE_CHARS: usize = 300;

#[derive(Debug, Deserialize)]
struct BulkResponse<'a> {
    errors: bool,
    /// An array of [`BulkItem`].
    #[serde(borrow)]
    items: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct BulkItem<'a> {
    #[serde(borrow)]
    create: CreateResult<'a>,
}

#[derive(Debug, Deserialize)]
struct CreateResult<'a> {
    status: u16,
    /// A [`BulkError`].
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct BulkError<'a> {
    #[serde(rename = "type", default)]
    kind: LimitedText<MAX_CAUSE_CHARS>,
    reason: Option<LimitedText<MAX_CAUSE_CHARS>>,
    /// Another [`BulkError`].
    #[serde(borrow)]
    caused_by: Option<&'a RawValue>,
}

/// The response to a request that is rejected as a whole.
#[derive(Debug, Deserialize)]
struct ErrorResponse<'a> {
    #[serde(borrow)]
    error: BulkError<'a>,
}

/// Reads the response to a bulk request with `records` records.
///
/// | status of an item | result |
/// |---|---|
/// | 200, 201; 409 (the document exists) | delivered |
/// | 429, 500 to 599 | sent again, together with all records after it; existing documents do not change |
/// | 401, 403, 404 | parked: needs an operator |
/// | every other status, such as 400 | that record becomes a dead letter |
///
/// Fails with `Misconfigured` if the body is not from the bulk API.
pub(super) fn read(body: &[u8], records: usize) -> Result<(), Failure> {
    let response: BulkResponse<'_> = serde_json::from_slice(body).map_err(|_| not_bulk())?;
    let items: Vec<BulkItem<'_>> = list(response.items, records).map_err(|fault| match fault {
        ReplyFault::TooManyElements(_) => {
            let (results, records) = (count(records, "result"), count(records, "record"));
            Failure::retry(format!("the cluster returned more than {results} for {records}"))
        }
        ReplyFault::Unexpected => not_bulk(),
    })?;
    if items.len() != records {
        return Err(Failure::retry(format!(
            "the cluster returned {} for {}",
            count(items.len(), "result"),
            count(records, "record")
        )));
    }
    if !response.errors {
        return Ok(());
    }

    let mut rejected = Vec::new();
    let mut busy: Option<(usize, String)> = None;
    for (index, BulkItem { create }) in items.into_iter().enumerate() {
        match create.status {
            200 | 201 | 409 => {}
            429 | 500..=599 => {
                busy.get_or_insert_with(|| (index, describe(&create)));
            }
            401 | 403 | 404 => {
                return Err(Failure::Misconfigured {
                    reason: describe(&create),
                    hint: hint(create.status),
                });
            }
            _ => rejected.push((index, describe(&create))),
        }
    }

    match busy {
        // If the cluster was busy, all records except the rejected ones are sent again.
        _ if !rejected.is_empty() => {
            Err(Failure::Poison { rejected, rest_delivered: busy.is_none() })
        }
        Some((index, reason)) => {
            Err(Failure::Partial { arrived: index, failure: Box::new(Failure::retry(reason)) })
        }
        None => Ok(()),
    }
}

/// Whether the response to a rejected request is from a cluster: it states the type of the error.
pub(super) fn is_error_of_cluster(body: &[u8]) -> bool {
    serde_json::from_slice::<ErrorResponse<'_>>(body)
        .is_ok_and(|response| !response.error.kind.as_str().is_empty())
}

fn not_bulk() -> Failure {
    let hint = "check that `url` belongs to a cluster, and that no proxy responds instead";
    Failure::Misconfigured {
        reason: "the response is not from the bulk API".to_owned(),
        hint: Some(hint.into()),
    }
}

/// The status, and the first errors of the chain.
fn describe(result: &CreateResult<'_>) -> String {
    let mut causes = Vec::new();
    let mut next = result.error;
    while let Some(error) = next.filter(|_| causes.len() < MAX_CAUSES) {
        let Ok(error) = serde_json::from_str::<BulkError<'_>>(error.get()) else { break };
        let (kind, reason) = (error.kind.as_str(), error.reason.unwrap_or_default());
        let cause = format!("{kind}: {}", reason.as_str());
        causes.push(ForeignText::new(&cause).for_message(MAX_CAUSE_CHARS));
        next = error.caused_by;
    }
    format!("the cluster returned status {} for a document: {}", result.status, causes.join(": "))
}

fn hint(status: u16) -> Option<Cow<'static, str>> {
    match status {
        404 => Some("create the index or its template".into()),
        401 | 403 => Some("allow this user or API key to create documents in the index".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(statuses: &[u16]) -> Vec<u8> {
        let items = statuses.iter().map(|status| {
            let error = serde_json::json!({ "type": "some_exception", "reason": "because" });
            serde_json::json!({ "create": { "status": status, "error": if *status < 300 { None } else { Some(error) } } })
        });

        let errors = statuses.iter().any(|status| *status >= 300);
        serde_json::json!({ "errors": errors, "items": items.collect::<Vec<_>>() })
            .to_string()
            .into_bytes()
    }

    fn class(statuses: &[u16]) -> String {
        match read(&response(statuses), statuses.len()) {
            Ok(()) => "ok".to_owned(),
            Err(Failure::Retry { .. }) => "retry".to_owned(),
            Err(Failure::Misconfigured { .. }) => "config".to_owned(),
            Err(Failure::Poison { rejected, rest_delivered }) => {
                let rejected: Vec<usize> = rejected.iter().map(|(index, _)| *index).collect();
                format!("poison {rejected:?} {rest_delivered}")
            }
            Err(Failure::Partial { arrived, .. }) => format!("partly {arrived}"),
            Err(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn each_item_has_a_separate_result() {
        for (statuses, expected) in [
            (&[201, 201][..], "ok"),
            (&[201, 409], "ok"),
            (&[201, 429, 201], "partly 1"),
            (&[503], "partly 0"),
            (&[201, 400, 201], "poison [1] true"),
            (&[400, 429, 201], "poison [0] false"),
            (&[201, 404], "config"),
            (&[403, 400], "config"),
        ] {
            assert_eq!(class(statuses), expected, "{statuses:?}");
        }

        assert!(matches!(read(&response(&[201]), 2), Err(Failure::Retry { .. })));
        assert!(matches!(read(b"<html>", 1), Err(Failure::Misconfigured { .. })));
    }

    #[test]
    fn a_status_out_of_range_confirms_nothing() {
        for status in ["-1", "0", "-0.5", "65737", "2147483648", "1e308", "null", "\"201\""] {
            let item = format!("{{\"create\":{{\"status\":{status}}}}}");
            let body = format!("{{\"errors\":true,\"items\":[{item}]}}");
            assert!(read(body.as_bytes(), 1).is_err(), "{body}");
        }
    }

    /// Regression: all items of a response were stored, however many there were.
    #[test]
    fn no_more_items_are_read_than_sent() {
        let items = "{\"create\":{\"status\":201}},".repeat(300_000);
        let body = format!("{{\"errors\":true,\"items\":[{items}7]}}");
        let failure = read(body.as_bytes(), 2).unwrap_err();
        assert_eq!(failure.to_string(), "the cluster returned more than 2 results for 2 records");
        assert!(matches!(failure, Failure::Retry { .. }));
    }

    #[test]
    fn messages_of_the_cluster_are_cut() {
        let mut error = serde_json::json!({ "type": "last", "reason": "never shown" });
        for reason in ["third", "second", "\u{1b}first\n"] {
            let reason = format!("{reason}{}", "x".repeat(100_000));
            error = serde_json::json!({ "type": "t", "reason": reason, "caused_by": error });
        }
        let items = serde_json::json!([{ "create": { "status": 400, "error": error } }]);
        let body = serde_json::json!({ "errors": true, "items": items }).to_string();

        let Err(Failure::Poison { rejected, .. }) = read(body.as_bytes(), 1) else {
            panic!("the record is not rejected")
        };
        let message = &rejected[0].1;
        assert!(message.contains("400 for a document: t: \u{fffd}first x"), "{message}");
        assert!(message.contains(": t: third"), "{message}");
        assert!(!message.contains("last"), "{message}");
        assert!(message.chars().count() < 1_000, "{message}");
    }

    #[test]
    fn errors_of_a_cluster_have_a_type() {
        for (body, expected) in [
            (r#"{"error":{"type":"parse_exception","reason":"no body"},"status":400}"#, true),
            (r#"{"error":{"reason":"no body"}}"#, false),
            (r#"{"error":"Bad Request"}"#, false),
            (r#"{"error":{"type":{}}}"#, false),
            ("<html>", false),
        ] {
            assert_eq!(is_error_of_cluster(body.as_bytes()), expected, "{body}");
        }
    }
}
