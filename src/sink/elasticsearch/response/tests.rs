//! Tests of the interpretation of bulk responses, item by item.

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
    read(&response, batch(records).items(), Some("scores"))
}

fn response(statuses: &[u16]) -> String {
    let items = statuses.iter().map(|status| {
        let kind = if *status == 409 { EXISTS } else { "some_exception" };
        let error = serde_json::json!({ "type": kind, "reason": "because" });
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
        let Err(Failure::Refused(refusal)) = read(&reply, batch.items(), None) else {
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

/// Regression: every status 409 was an acknowledgement, and so was a status 201 with an error.
#[test]
fn only_known_results_acknowledge_a_document() {
    let typed = |kind: &str| serde_json::json!({ "type": kind, "reason": "because" });

    for (status, error, expected) in [
        (409, typed(EXISTS), "ok"),
        (409, typed("conflict_exception"), "retry"),
        (409, typed("index_closed_exception"), "retry"),
        (409, serde_json::json!({}), "retry"),
        (409, serde_json::json!(EXISTS), "retry"),
        (409, serde_json::Value::Null, "retry"),
        (201, serde_json::Value::Null, "ok"),
        (200, serde_json::Value::Null, "ok"),
        (201, typed(EXISTS), "retry"),
        (201, serde_json::json!({}), "retry"),
        (200, serde_json::json!("no"), "retry"),
    ] {
        let item = serde_json::json!({ "create": { "status": status, "error": error } });
        let body = serde_json::json!({ "errors": true, "items": [item] }).to_string();
        let found = match outcome(&body, 1) {
            Ok(()) => "ok",
            Err(Failure::Retry { .. }) => "retry",
            Err(_) => "other",
        };
        assert_eq!(found, expected, "{body}");
    }
}

/// Regression: the message about a busy index did not name it.
#[test]
fn messages_name_the_busy_indexes() {
    let because = "for a document: some_exception: because";
    for status in [429, 500, 503] {
        let failure = outcome(&response(&[status]), 1).unwrap_err();
        let message = format!("index `scores`: the cluster returned status {status} {because}");
        assert_eq!(failure.to_string(), message);
    }

    let mut batch = Batch::default();
    for index in ["a", "c", "a", "b", "b"] {
        batch.push_encoded_to(TenantId::TEST, index, b"{}");
    }
    for (statuses, expected) in [
        (&[429, 201, 429, 201, 201], "index `a`: the cluster returned status 429"),
        (&[201, 503, 201, 201, 201], "index `c`: the cluster returned status 503"),
        (&[201, 503, 429, 500, 503], "index `c`: the cluster returned status 503"),
    ] {
        let body = response(statuses);
        let reply = HttpResponse::of("the cluster", 200, body.as_bytes());
        let message = read(&reply, batch.items(), None).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
        let others = if statuses[3] == 500 { "; also affected: `a`, `b`" } else { "" };
        assert!(message.ends_with(&format!("{because}{others}")), "{message}");
    }
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
    assert!(matches!(read(&page, batch(1).items(), None), Err(Failure::Retry { .. })));
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

/// The messages about records that a cluster rejects for these reasons, in a reply to a request
/// with a secret.
fn rejected_for(reasons: &[String]) -> Vec<String> {
    let items = reasons.iter().map(|reason| {
        let error = serde_json::json!({ "type": "t", "reason": reason });
        serde_json::json!({ "create": { "status": 400, "error": error } })
    });
    let items: Vec<_> = items.collect();
    let body = serde_json::json!({ "errors": true, "items": items }).to_string();
    let reply = HttpResponse::of("the cluster", 200, body.as_bytes());

    match read(&reply.with_secret("canary-token"), batch(reasons.len()).items(), None) {
        Err(Failure::Poison { rejected, .. }) => {
            rejected.into_iter().map(|(_, message)| message).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_of_items_contain_no_secret() {
    let start = "the cluster returned status 400 for a document: t: ";
    // The end of the message is within the secret.
    let cut = "x".repeat(MAX_CAUSE_CHARS - 5);
    for (reason, expected) in [
        ("no access with canary-token".to_owned(), "no access with [redacted]".to_owned()),
        ("%63anary&hyphen;token".to_owned(), "[redacted]".to_owned()),
        (format!("{cut}canary-token"), format!("{cut}[…")),
    ] {
        assert_eq!(rejected_for(&[reason]), [format!("{start}{expected}")]);
    }
}

/// Regression: every byte of a response was searched for secrets, which took seconds.
#[test]
fn only_some_long_errors_are_searched() {
    let long = |index: usize| format!("{index} canary-token {}", "x".repeat(3_000));
    let messages = rejected_for(&(0..200).map(long).collect::<Vec<_>>());
    assert!(messages[0].contains(": t: 0 [redacted] xxx"), "{}", messages[0]);
    assert!(messages[199].ends_with("are too long"), "{}", messages[199]);
    assert!(!messages.concat().contains("canary"));

    let messages = rejected_for(&vec![long(7); 200]);
    assert!(messages.iter().all(|message| message.contains(": t: 7 [redacted] xxx")));
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

/// Regression: a mapping that no document matched made record after record a dead letter, because
/// the reasons of the cluster differ in positions and values.
#[test]
fn the_error_type_is_the_reason() {
    let reply = |errors: &[(u16, &str, &str)]| {
        let items = errors.iter().map(|(status, kind, reason)| {
            let error = serde_json::json!({ "type": kind, "reason": reason });
            serde_json::json!({ "create": { "status": status, "error": error } })
        });
        let items: Vec<_> = items.collect();
        let body = serde_json::json!({ "errors": true, "items": items }).to_string();
        HttpResponse::of("the cluster", 200, body.as_bytes())
    };

    let (parsing, strict) = ("document_parsing_exception", "strict_dynamic_mapping_exception");
    for (errors, expected) in [
        (&[(400, strict, "[1:2] no"), (400, strict, "[1:9] no")][..], true),
        (&[(400, strict, "no"), (400, parsing, "no")], false),
        (&[(400, strict, "no"), (422, strict, "no")], false),
        (&[(400, strict, "no")], true),
        (&[], false),
    ] {
        assert_eq!(has_one_reason(&reply(errors), errors.len()), expected, "{errors:?}");
    }
    assert!(!has_one_reason(&reply(&[(400, strict, "no"); 3]), 2), "too many items");
    assert!(!has_one_reason(&HttpResponse::of("the cluster", 200, b"{}"), 2));
}
