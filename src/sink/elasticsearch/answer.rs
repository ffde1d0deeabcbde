//! What `_bulk` answered, item by item.

use serde::Deserialize;

use crate::sink::Failure;

#[derive(Debug, Deserialize)]
struct Bulk {
    errors: bool,
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    create: Created,
}

#[derive(Debug, Deserialize)]
struct Created {
    status: u16,
    error: Option<Error>,
}

#[derive(Debug, Deserialize)]
struct Error {
    #[serde(rename = "type", default)]
    kind: String,
    reason: Option<String>,
    caused_by: Option<Box<Error>>,
}

/// Reads the answer to a bulk of so many records.
///
/// | status of an item | what is done |
/// |---|---|
/// | 200, 201; 409 (it is there already) | delivered |
/// | 429, 500 to 599 | sent again, with all after it; those already there change nothing |
/// | 400 and the like | that record is a dead letter |
/// | 401, 403, 404 | parked: it wants a person |
pub(super) fn read(body: &[u8], records: usize) -> Result<(), Failure> {
    let Ok(bulk) = serde_json::from_slice::<Bulk>(body) else {
        return Err(Failure::misconfigured(
            "the answer is none of a bulk request: a proxy, or no Elasticsearch",
        ));
    };
    if bulk.items.len() != records {
        return Err(Failure::retry("the cluster did not say what became of every record"));
    }
    if !bulk.errors {
        return Ok(());
    }
    let mut refused = Vec::new();
    let mut busy: Option<(usize, String)> = None;
    for (index, Item { create }) in bulk.items.into_iter().enumerate() {
        match create.status {
            200 | 201 | 409 => {}
            429 | 500..=599 => {
                busy.get_or_insert_with(|| (index, describe(&create)));
            }
            401 | 403 | 404 => {
                return Err(Failure::misconfigured(describe(&create)));
            }
            _ => refused.push((index, describe(&create))),
        }
    }
    match busy {
        // The rest, busy or not, is sent again without these.
        _ if !refused.is_empty() => {
            Err(Failure::Poison { rejected: refused, rest_delivered: busy.is_none() })
        }
        Some((index, reason)) => {
            Err(Failure::Partial { arrived: index, failure: Box::new(Failure::retry(reason)) })
        }
        None => Ok(()),
    }
}

fn describe(item: &Created) -> String {
    let mut words = Vec::new();
    let mut error = item.error.as_ref();
    while let Some(Error { kind, reason, caused_by }) = error {
        let reason = reason.as_deref().unwrap_or_default();
        words.push(format!("{kind}: {reason}").chars().take(300).collect::<String>());
        error = caused_by.as_deref().filter(|_| words.len() < 3);
    }
    let remedy = match item.status {
        404 => ": create the index or its template",
        401 | 403 => ": allow this user or key to create documents there",
        _ => "",
    };
    format!("the cluster answered {} for a document, {}{remedy}", item.status, words.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(statuses: &[u16]) -> Vec<u8> {
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
        match read(&bulk(statuses), statuses.len()) {
            Ok(()) => "ok".to_owned(),
            Err(Failure::Retry { .. }) => "retry".to_owned(),
            Err(Failure::Misconfigured { .. }) => "config".to_owned(),
            Err(Failure::Poison { rejected: refused, rest_delivered }) => {
                let refused: Vec<usize> = refused.iter().map(|(index, _)| *index).collect();
                format!("poison {refused:?} {rest_delivered}")
            }
            Err(Failure::Partial { arrived, .. }) => format!("partly {arrived}"),
            Err(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn every_item_has_its_say() {
        for (statuses, want) in [
            (&[201, 201][..], "ok"),
            (&[201, 409], "ok"),
            (&[201, 429, 201], "partly 1"),
            (&[503], "partly 0"),
            (&[201, 400, 201], "poison [1] true"),
            (&[400, 429, 201], "poison [0] false"),
            (&[201, 404], "config"),
            (&[403, 400], "config"),
        ] {
            assert_eq!(class(statuses), want, "{statuses:?}");
        }
        assert!(matches!(read(&bulk(&[201]), 2), Err(Failure::Retry { .. })));
        assert!(matches!(read(b"<html>", 1), Err(Failure::Misconfigured { .. })));
    }
}
