//! Interprets the response to a bulk request, item by item. HTTP 200 alone acknowledges nothing: a
//! record is delivered only if its own item states it. No more items are read than records were
//! sent. Source: the references of the bulk API of Elasticsearch and OpenSearch.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    foreign_text::ForeignText,
    sink::{
        Failure, Item, Refusal,
        refusal::RefusedRecord,
        reply::HttpResponse,
        reply_json::{LimitedText, ReplyFault, ReplyObject, list},
    },
    text::count,
};

/// The maximum number of errors of a chain in a message, and of characters of each.
const MAX_CAUSES: usize = 3;
const MAX_CAUSE_CHARS: usize = 300;

/// Types of errors that apply to every document of the index, regardless of its content.
const INDEX_ERRORS: &[&str] = &[
    "alias_not_found_exception",
    "cluster_block_exception",
    "index_closed_exception",
    "index_not_found_exception",
    "invalid_index_name_exception",
    "security_exception",
    // The cluster has no shards for another index.
    "validation_exception",
];
/// What resolves an error of each type, for every status.
const REMEDIES: &[(&str, &str)] = &[
    (
        "cluster_block_exception",
        "remove the block of the index or the cluster, which can be due to a full disk",
    ),
    ("index_closed_exception", "open the index"),
];
/// Parts of the reasons of `illegal_argument_exception` that apply to every document of the index.
const INDEX_REASONS: &[&str] = &["pipeline with id [", "no write index is defined"];

/// `errors` is only a summary of the items, so it is not used, but every response contains it.
#[derive(Debug, Deserialize)]
struct BulkResponse<'a> {
    #[serde(rename = "errors")]
    _errors: bool,
    /// An array of [`BulkItem`].
    #[serde(borrow)]
    items: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct BulkItem<'a> {
    #[serde(borrow)]
    create: ReplyObject<CreateResult<'a>>,
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
    error: ReplyObject<BulkError<'a>>,
}

/// Reads the response to a bulk request with these records.
///
/// | status of an item | result |
/// |---|---|
/// | 200, 201; 409 (the document exists) | delivered |
/// | 429, 500 to 599 | sent again; documents that exist do not change |
/// | 401, 403, 404; an error that applies to the whole index | that index is parked: needs an operator |
/// | every other status, such as 400 | that record becomes a dead letter |
///
/// A body that is not from the bulk API, such as the page of a proxy, leaves the outcome unknown
/// and is retried.
pub(super) fn read(response: &HttpResponse, sent: &[Item]) -> Result<(), Failure> {
    let records = sent.len();
    let Some(BulkResponse { items, .. }) = response.json() else {
        return Err(response.unexpected());
    };
    let items: Result<Vec<ReplyObject<BulkItem<'_>>>, _> = list(items, records);
    let items = items.map_err(|fault| match fault {
        ReplyFault::TooManyElements(_) => {
            let (results, records) = (count(records, "result"), count(records, "record"));
            Failure::retry(format!("the cluster returned more than {results} for {records}"))
        }
        ReplyFault::Unexpected => response.unexpected(),
    })?;

    if items.len() != records {
        return Err(Failure::retry(format!(
            "the cluster returned {} for {}",
            count(items.len(), "result"),
            count(records, "record")
        )));
    }

    let (mut arrived, mut rejected, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    let mut busy: Option<String> = None;
    for (index, ReplyObject(item)) in items.into_iter().enumerate() {
        let ReplyObject(result) = item.create;
        match result.status {
            200 | 201 | 409 => arrived.push(index),
            429 | 500..=599 => {
                busy.get_or_insert_with(|| describe(&result));
            }
            status if matches!(status, 401 | 403 | 404) || result.applies_to_index() => {
                let (reason, hint) = (describe(&result), Some(result.remedy().into()));
                refused.push(RefusedRecord { index, reason, hint });
            }
            _ => rejected.push((index, describe(&result))),
        }
    }

    if !refused.is_empty() {
        // The cluster rejects invalid documents again when the rest is sent.
        let rest = busy.map(Failure::retry);
        return Err(Refusal::of_records("index", sent, refused, arrived, rest));
    }

    match busy {
        // If the cluster was busy, all records except the rejected ones are sent again.
        _ if !rejected.is_empty() => {
            Err(Failure::Poison { rejected, rest_delivered: busy.is_none() })
        }
        Some(reason) => Err(Failure::partial_of(arrived, Failure::retry(reason))),
        None => Ok(()),
    }
}

/// Whether the response to a rejected request is from a cluster: it states the type of the error.
pub(super) fn is_error_of_cluster(response: &HttpResponse) -> bool {
    let reply: Option<ErrorResponse<'_>> = response.json();
    reply.is_some_and(|reply| !reply.error.0.kind.as_str().is_empty())
}

impl CreateResult<'_> {
    fn error(&self) -> Option<BulkError<'_>> {
        let error = self.error.and_then(|error| serde_json::from_str(error.get()).ok());
        error.map(|ReplyObject(error)| error)
    }

    /// What an operator must do. The type of the error is more specific than the status.
    fn remedy(&self) -> &'static str {
        let kind = self.error().map(|error| error.kind).unwrap_or_default();
        let known = REMEDIES.iter().find(|(error, _)| *error == kind.as_str());
        match (known, self.status) {
            (Some(&(_, remedy)), _) => remedy,
            (None, 404) => "create the index or its template",
            (None, 401 | 403) => "allow this user or API key to create documents in the index",
            (None, _) => "correct the index, its template or its ingest pipeline",
        }
    }

    /// Whether the cluster would reject every document for the same reason.
    fn applies_to_index(&self) -> bool {
        self.error().is_some_and(|BulkError { kind, reason, .. }| {
            let reason = reason.unwrap_or_default();
            let has_reason = || INDEX_REASONS.iter().any(|part| reason.as_str().contains(part));
            INDEX_ERRORS.contains(&kind.as_str())
                || kind.as_str() == "illegal_argument_exception" && has_reason()
        })
    }
}

/// The status, and the first errors of the chain.
fn describe(result: &CreateResult<'_>) -> String {
    let mut causes = Vec::new();
    let mut next = result.error;
    while let Some(error) = next.filter(|_| causes.len() < MAX_CAUSES) {
        let Ok(ReplyObject(error)) =
            serde_json::from_str::<ReplyObject<BulkError<'_>>>(error.get())
        else {
            break;
        };
        let (kind, reason) = (error.kind.as_str(), error.reason.unwrap_or_default());
        let cause = format!("{kind}: {}", reason.as_str());
        causes.push(ForeignText::new(&cause).for_message(MAX_CAUSE_CHARS));
        next = error.caused_by;
    }
    format!("the cluster returned status {} for a document: {}", result.status, causes.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::Hint,
        model::{EventId, TenantId},
        sink::Batch,
    };

    /// A batch with this number of records for one index.
    fn batch(records: usize) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..records {
            batch.push_encoded(EventId::from_bytes([0; 20]), b"{}");
        }
        batch
    }

    fn outcome(body: &str, records: usize) -> Result<(), Failure> {
        let response = HttpResponse::of("the cluster", 200, body.as_bytes());
        read(&response, batch(records).items())
    }

    fn response(statuses: &[u16]) -> String {
        let items = statuses.iter().map(|status| {
            let error = serde_json::json!({ "type": "some_exception", "reason": "because" });
            serde_json::json!({ "create": { "status": status, "error": if *status < 300 { None } else { Some(error) } } })
        });

        let errors = statuses.iter().any(|status| *status >= 300);
        serde_json::json!({ "errors": errors, "items": items.collect::<Vec<_>>() }).to_string()
    }

    fn class(statuses: &[u16]) -> String {
        match outcome(&response(statuses), statuses.len()) {
            Ok(()) => "ok".to_owned(),
            Err(Failure::Retry { .. }) => "retry".to_owned(),
            Err(Failure::Misconfigured { .. }) => "config".to_owned(),
            Err(Failure::Poison { rejected, rest_delivered }) => {
                let rejected: Vec<usize> = rejected.iter().map(|(index, _)| *index).collect();
                format!("poison {rejected:?} {rest_delivered}")
            }
            Err(Failure::Partial { arrived, .. }) => format!("partly {arrived:?}"),
            Err(other) => format!("{other:?}"),
        }
    }

    /// Regression: an index that did not exist parked the sink for the tenants of all others.
    #[test]
    fn only_the_refused_index_is_parked() {
        for (statuses, arrived, rest) in [
            (&[201, 404, 409][..], &[0, 2][..], None),
            (&[503, 404, 503], &[], Some("busy")),
            (&[201, 404, 400], &[0], None),
            (&[201, 404, 429], &[0], Some("busy")),
        ] {
            let mut batch = Batch::default();
            for (index, _) in ["good", "bad", "good"].iter().zip(statuses) {
                batch.push_encoded_to(TenantId::TEST, index, b"{}");
            }
            let body = response(statuses);
            let reply = HttpResponse::of("the cluster", 200, body.as_bytes());
            let Err(Failure::Refused(refusal)) = read(&reply, batch.items()) else {
                panic!("{statuses:?}: no target is refused")
            };
            assert_eq!(refusal.arrived, arrived, "{statuses:?}");
            assert_eq!(refusal.rest.is_some(), rest.is_some(), "{statuses:?}");
            let message = refusal.to_string();
            assert!(message.contains("index `bad`: the cluster returned status 404"), "{message}");
        }
    }

    /// Regression: with one busy index, no record after its first one was acknowledged.
    #[test]
    fn each_item_has_a_separate_result() {
        for (statuses, expected) in [
            (&[201, 201][..], "ok"),
            (&[201, 409], "ok"),
            (&[201, 429, 201], "partly [0, 2]"),
            (&[503, 201, 409], "partly [1, 2]"),
            (&[503], "retry"),
            (&[201, 400, 201], "poison [1] true"),
            (&[400, 429, 201], "poison [0] false"),
            (&[201, 404], "config"),
            (&[403, 400], "config"),
        ] {
            assert_eq!(class(statuses), expected, "{statuses:?}");
        }

        assert!(matches!(outcome(&response(&[201]), 2), Err(Failure::Retry { .. })));
    }

    /// Regression: a response that was cut off parked the sink, an array was read as an object, and
    /// with `"errors":false` the statuses of the items were not read.
    #[test]
    fn only_bulk_responses_are_believed() {
        for body in [
            "",
            "<html>",
            "{}",
            "[]",
            "{\"errors\":false}",
            "{\"errors\":false,\"items\":{}}",
            "{\"errors\":false,\"items\":[]}",
            "{\"errors\":false,\"items\":[{}]}",
            "{\"errors\":false,\"items\":[{\"create\":[201,null]}]}",
            "{\"errors\":false,\"items\":[[{\"status\":201}]]}",
            "{\"errors\":false,\"items\":[{\"index\":{\"status\":201}}]}",
            "[false,[{\"create\":{\"status\":201}}]]",
            "{\"items\":[{\"create\":{\"status\":201}}]}",
            "{\"errors\":false,\"items\":[{\"create\":{\"status\":201}}]",
            "{\"errors\":false,\"items\":[{\"create\":{\"status\":201}}]} x",
        ] {
            let failure = outcome(body, 1).unwrap_err();
            assert!(matches!(failure, Failure::Retry { .. }), "{body}: {failure}");
        }

        let body = response(&[201]);
        assert_eq!(outcome(&body, 1), Ok(()));
        let page = HttpResponse::of("the cluster", 200, body.as_bytes()).labeled("text/html");
        assert!(matches!(read(&page, batch(1).items()), Err(Failure::Retry { .. })));
        let rejected = "{\"errors\":false,\"items\":[{\"create\":{\"status\":400}}]}";
        assert!(matches!(outcome(rejected, 1), Err(Failure::Poison { .. })));
    }

    /// Regression: with a pipeline that does not exist, record after record became a dead letter.
    #[test]
    fn an_index_fault_is_no_document_fault() {
        for (kind, reason, is_parked) in [
            ("illegal_argument_exception", "pipeline with id [score] does not exist", true),
            ("illegal_argument_exception", "no write index is defined for alias [score]", true),
            ("index_closed_exception", "closed", true),
            ("illegal_argument_exception", "Document contains at least one immense term", false),
            ("mapper_parsing_exception", "failed to parse field [score]", false),
        ] {
            let error = serde_json::json!({ "type": kind, "reason": reason });
            let items = serde_json::json!([{ "create": { "status": 400, "error": error } }]);
            let body = serde_json::json!({ "errors": true, "items": items }).to_string();
            let failure = outcome(&body, 1).unwrap_err();
            let is_found = matches!(failure, Failure::Misconfigured { .. });
            assert_eq!(is_found, is_parked, "{reason}: {failure:?}");
        }
    }

    /// Regression: an index without write access due to a full disk had the hint to change the
    /// permissions of the user.
    #[test]
    fn hints_follow_the_error_type() {
        for (status, kind, expected) in [
            (403, "cluster_block_exception", "remove the block"),
            (403, "index_closed_exception", "open the index"),
            (400, "index_closed_exception", "open the index"),
            (403, "security_exception", "allow this user"),
            (404, "index_not_found_exception", "create the index"),
            (400, "invalid_index_name_exception", "correct the index"),
        ] {
            let error = serde_json::json!({ "type": kind, "reason": "because" });
            let items = serde_json::json!([{ "create": { "status": status, "error": error } }]);
            let body = serde_json::json!({ "errors": true, "items": items }).to_string();
            let hint = outcome(&body, 1).unwrap_err().hint().unwrap_or_default();
            assert!(hint.starts_with(expected), "{status} {kind}: {hint}");
        }
    }

    #[test]
    fn a_status_out_of_range_confirms_nothing() {
        for status in ["-1", "0", "-0.5", "65737", "2147483648", "1e308", "null", "\"201\""] {
            let item = format!("{{\"create\":{{\"status\":{status}}}}}");
            let body = format!("{{\"errors\":true,\"items\":[{item}]}}");
            assert!(outcome(&body, 1).is_err(), "{body}");
        }
    }

    /// Regression: all items of a response were stored, however many there were.
    #[test]
    fn no_more_items_are_read_than_sent() {
        let items = "{\"create\":{\"status\":201}},".repeat(300_000);
        let body = format!("{{\"errors\":true,\"items\":[{items}7]}}");
        let failure = outcome(&body, 2).unwrap_err();
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

        let Err(Failure::Poison { rejected, .. }) = outcome(&body, 1) else {
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
            (r#"{"error":["parse_exception",null,null]}"#, false),
            ("<html>", false),
        ] {
            let response = HttpResponse::of("the cluster", 400, body.as_bytes());
            assert_eq!(is_error_of_cluster(&response), expected, "{body}");
        }
    }
}
