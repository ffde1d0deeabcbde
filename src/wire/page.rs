//! Pages of a collection: the items in `value`, and the link to the next page. An item must never
//! be changed here, because it is stored exactly as Microsoft sent it. Start reading at [`page`].
//! Source: Microsoft Graph, "Paging Microsoft Graph data in your app".

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::WireError;

/// One page. The items are JSON text that is not parsed yet, so that each can be stored as sent.
#[derive(Debug)]
pub struct Page<'a> {
    /// The JSON text of each item, in the order of the page.
    pub items: Vec<&'a str>,
    /// The opaque URL of the next page, unchanged.
    pub next_link: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct PageEnvelope<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
    #[serde(borrow, rename = "@odata.nextLink")]
    next_link: Option<Cow<'a, str>>,
}

/// Parses the envelope of a page. A page may have no items and still link to a next page.
///
/// # Errors
///
/// Fails if the body is not a JSON object with a list `value`.
pub fn page(body: &[u8]) -> Result<Page<'_>, WireError> {
    let text = std::str::from_utf8(body).map_err(|_| WireError::NotText)?;
    let envelope: PageEnvelope<'_> = serde_json::from_str(text).map_err(WireError::NotJson)?;
    let items = envelope.value.into_iter().map(RawValue::get).collect();
    Ok(Page { items, next_link: envelope.next_link.filter(|link| !link.is_empty()) })
}

/// Parses a JSON list, which is the response of the original API. It has no further pages.
///
/// # Errors
///
/// Fails if the body is not a JSON list.
pub fn bare_list(body: &[u8]) -> Result<Page<'_>, WireError> {
    let text = std::str::from_utf8(body).map_err(|_| WireError::NotText)?;
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(WireError::NotJson)?;
    Ok(Page { items: items.into_iter().map(RawValue::get).collect(), next_link: None })
}

/// The items of saved responses: pages, lists, single items, or a sequence of these.
///
/// # Errors
///
/// Fails if the text is not a sequence of JSON values.
pub fn saved_items(text: &str) -> Result<Vec<&str>, WireError> {
    let mut items = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let json = value.map_err(WireError::NotJson)?.get();
        match serde_json::from_str::<PageEnvelope<'_>>(json) {
            Ok(envelope) => items.extend(envelope.value.into_iter().map(RawValue::get)),
            Err(_) if json.starts_with('[') => items.extend(bare_list(json.as_bytes())?.items),
            Err(_) => items.push(json),
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_items_as_sent() {
        let read = page(br#"{"@odata.context":"x","value":[ {"a" : 1.50}, {"b":"\u0041"} ],"@odata.nextLink":"https:\/\/h\/p"}"#).unwrap();
        assert_eq!(read.items, [r#"{"a" : 1.50}"#, r#"{"b":"\u0041"}"#]);
        assert_eq!(read.next_link.as_deref(), Some("https://h/p"));

        let empty = page(br#"{"value":[]}"#).unwrap();
        assert!(empty.items.is_empty() && empty.next_link.is_none());
    }

    #[test]
    fn reads_saved_responses_of_every_shape() {
        let text = "{\"value\":[{\"id\":1},{\"id\":2}]}\n[{\"id\":3}] {\"id\":4}\n";
        assert_eq!(
            saved_items(text).unwrap(),
            [r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#, r#"{"id":4}"#]
        );
        assert!(saved_items("").unwrap().is_empty());
        assert!(saved_items("{\"id\":1} {").is_err());
        assert!(bare_list(b"{}").is_err());
    }

    #[test]
    fn rejects_bodies_that_are_not_pages() {
        for bad in [
            &b"<!doctype html><title>Sign in</title>"[..],
            b"",
            b"{}",
            b"{\"value\":{}}",
            b"{\"value\":[1",
            b"\xff\xfe",
        ] {
            assert!(page(bad).is_err(), "{bad:?}");
        }
    }
}
