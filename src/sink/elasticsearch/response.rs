//! Interprets the response to a bulk request, item by item. HTTP 200 alone acknowledges nothing: a
//! record is delivered only if its own item states it. Source: the references of the bulk API of
//! Elasticsearch and OpenSearch.

use std::borrow::Cow;

use serde::Deserialize;

use crate::{sink::Failure, text::count};

#[derive(Debug, Deserialize)]
struct BulkResponse {
    errors: bool,
    items: Vec<BulkItem>,
}

#[derive(Debug, Deserialize)]
struct BulkItem {
    create: CreateResult,
}

#[derive(Debug, Deserialize)]
struct CreateResult {
    status: u16,
    error: Option<BulkError>,
}

#[derive(Debug, Deserialize)]
struct BulkError {
    #[serde(rename = "type", default)]
    kind: String,
    reason: Option<String>,
    caused_by: Option<Box<BulkError>>,
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
    let Ok(response) = serde_json::from_slice::<BulkResponse>(body) else {
        return Err(Failure::Misconfigured {
            reason: "the response is not from the bulk API".to_owned(),
            hint: Some(
                "check that `url` belongs to a cluster, and that no proxy responds instead".into(),
            ),
        });
    };
    if response.items.len() != records {
        return Err(Failure::retry(format!(
            "the cluster returned {} for {}",
            count(response.items.len(), "result"),
            count(records, "record")
        )));
    }
    if !response.errors {
        return Ok(());
    }

    let mut rejected = Vec::new();
    let mut busy: Option<(usize, String)> = None;
    for (index, BulkItem { create }) in response.items.into_iter().enumerate() {
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

/// The status, and up to three errors of the chain.
fn describe(result: &CreateResult) -> String {
    let mut causes = Vec::new();
    let mut error = result.error.as_ref();
    while let Some(BulkError { kind, reason, caused_by }) = error {
        let reason = reason.as_deref().unwrap_or_default();
        causes.push(format!("{kind}: {reason}").chars().take(300).collect::<String>());
        error = caused_by.as_deref().filter(|_| causes.len() < 3);
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
}
