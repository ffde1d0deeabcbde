//! Pages of a collection: the items in `value`, and the link to the next page. An item must never
//! be changed here, because it is stored exactly as Microsoft sent it. Start reading at [`page`].
//! Source: Microsoft Graph, "Paging Microsoft Graph data in your app".

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    WireError,
    budget::{DecodeBudget, DecodeLimit},
    lenient::{JsonScalar, ScalarSeed, TextSeed, reject_duplicate},
};

/// One page. The items are JSON text that is not parsed yet, so that each can be stored as sent.
#[derive(Debug)]
pub struct Page<'a> {
    /// The JSON text of each item, in the order of the page.
    pub items: Vec<&'a str>,
    /// The opaque URL of the next page, unchanged. It may be any text; a link that is not a text is
    /// `(not a text)`, which is not a valid URL, so that the items are read nevertheless.
    pub next_link: Option<Cow<'a, str>>,
}

/// See [`Page::next_link`].
const NOT_A_LINK: &str = "(not a text)";

/// Parses the envelope of a page. A page may have no items and still link to a next page.
///
/// # Errors
///
/// Fails if the body is not a JSON object with a list `value`, or with [`WireError::Exceeds`] if
/// the list has more items than [`DecodeLimit::ITEMS`].
pub fn page(body: &[u8]) -> Result<Page<'_>, WireError> {
    envelope(text(body)?, DecodeLimit::ITEMS)
}

/// Parses a JSON list, which is the response of the original API. It has no further pages.
///
/// # Errors
///
/// Fails if the body is not a JSON list, or with [`WireError::Exceeds`] if it has more items than
/// [`DecodeLimit::ITEMS`].
pub fn bare_list(body: &[u8]) -> Result<Page<'_>, WireError> {
    Ok(Page { items: items(text(body)?, DecodeLimit::ITEMS)?, next_link: None })
}

/// The items of saved responses: pages, lists, single items, or a sequence of these.
///
/// # Errors
///
/// Fails if the text is not a sequence of JSON values, or with [`WireError::Exceeds`] if a page or
/// a list has more items than [`DecodeLimit::SAVED_ITEMS`].
pub fn saved_items(text: &str) -> Result<Vec<&str>, WireError> {
    let limit = DecodeLimit::SAVED_ITEMS;
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let json = value.map_err(WireError::NotJson)?.get();
        if json.starts_with('[') {
            found.extend(items(json, limit)?);
            continue;
        }
        match envelope(json, limit) {
            Ok(page) => found.extend(page.items),
            Err(error @ WireError::Exceeds(_)) => return Err(error),
            // A single item.
            Err(_) => found.push(json),
        }
    }
    Ok(found)
}

fn text(body: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(body).map_err(|_| WireError::NotText)
}

fn envelope(json: &str, limit: DecodeLimit) -> Result<Page<'_>, WireError> {
    let budget = DecodeBudget::new();
    budget.decode(json, EnvelopeSeed { budget: &budget, limit })
}

/// The JSON text of each element of a list. Fails if the text is not a JSON list, or with
/// [`WireError::Exceeds`] if it has more elements than the limit.
pub(super) fn items(json: &str, limit: DecodeLimit) -> Result<Vec<&str>, WireError> {
    let budget = DecodeBudget::new();
    budget.decode(json, ItemsSeed { budget: &budget, limit })
}

/// Deserializes the envelope of a page, of which only two fields are kept.
struct EnvelopeSeed<'b> {
    budget: &'b DecodeBudget,
    /// The largest number of items.
    limit: DecodeLimit,
}

impl<'de> DeserializeSeed<'de> for EnvelopeSeed<'_> {
    type Value = Page<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Page<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EnvelopeSeed<'_> {
    type Value = Page<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Page<'de>, A::Error> {
        let Self { budget, limit } = self;
        let (mut items, mut next_link) = (None, None);
        while let Some(key) = map.next_key_seed(TextSeed::name(budget))? {
            match key.as_ref() {
                "value" => {
                    reject_duplicate(&key, items.is_some())?;
                    items = Some(map.next_value_seed(ItemsSeed { budget, limit })?);
                }
                "@odata.nextLink" => {
                    reject_duplicate(&key, next_link.is_some())?;
                    next_link = match map.next_value_seed(ScalarSeed(budget))? {
                        JsonScalar::Text(link) => Some(link),
                        JsonScalar::Null => None,
                        _ => Some(Cow::Borrowed(NOT_A_LINK)),
                    };
                }
                _ => {
                    budget.pay()?;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }

        let items = items.ok_or_else(|| A::Error::missing_field("value"))?;
        Ok(Page { items, next_link: next_link.filter(|link: &Cow<'_, str>| !link.is_empty()) })
    }
}

/// Deserializes a list whose elements are kept as JSON text.
struct ItemsSeed<'b> {
    budget: &'b DecodeBudget,
    limit: DecodeLimit,
}

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = Vec<&'de str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<&'de RawValue>()? {
            self.budget.admit(items.len(), self.limit)?;
            items.push(item.get());
        }
        Ok(items)
    }
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

    /// Regression: a link that is not a text made the whole page unreadable.
    #[test]
    fn a_link_of_another_type_keeps_the_items() {
        for link in ["1", "true", "{}", "[\"https://h/p\"]"] {
            let body = format!(r#"{{"value":[1],"@odata.nextLink":{link}}}"#);
            let read = page(body.as_bytes()).unwrap();
            assert_eq!(read.items, ["1"]);
            assert_eq!(read.next_link.as_deref(), Some(NOT_A_LINK), "{link}");
        }
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
    fn pages_have_a_limited_number_of_items() {
        let list = |items: usize| format!("[{}0]", "0,".repeat(items - 1));
        let max = DecodeLimit::ITEMS.max;
        let (full, larger) = (list(max), list(max + 1));
        assert_eq!(bare_list(full.as_bytes()).unwrap().items.len(), max);

        let larger_page = format!(r#"{{"value":{larger}}}"#);
        for result in [bare_list(larger.as_bytes()), page(larger_page.as_bytes())] {
            assert!(matches!(result, Err(WireError::Exceeds(DecodeLimit::ITEMS))));
        }
        assert_eq!(saved_items(&larger).unwrap().len(), max + 1);
    }

    #[test]
    fn rejects_bodies_that_are_not_pages() {
        for bad in [
            &b"<!doctype html><title>Sign in</title>"[..],
            b"",
            b"{}",
            b"{\"value\":{}}",
            b"{\"value\":null}",
            b"{\"value\":[1",
            b"{\"value\":[],\"value\":[]}",
            b"\xff\xfe",
        ] {
            assert!(page(bad).is_err(), "{bad:?}");
        }
    }
}
