//! Takes objects and lists apart without decoding their values, also those that are too large, so
//! that the usable parts can be kept. Start reading at [`members`].

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{kind, path, removed};
use crate::{
    model::DataFaults,
    text::plural,
    wire::{
        WireError,
        budget::{DecodeBudget, DecodeLimit},
    },
};

/// The members of an object with the JSON text of their values, sorted by key.
pub(in crate::wire) type RawMembers<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The members of an object. Of several members with one key, the first one in the order of their
/// JSON text is used, unless it is null. `owner` names the object in faults; it is empty for a
/// document.
///
/// Fails if the text is not a JSON object, or if it has too many members.
pub(in crate::wire) fn members<'a>(
    json: &'a str,
    owner: &str,
    faults: &mut DataFaults,
) -> Result<RawMembers<'a>, WireError> {
    let budget = DecodeBudget::new();
    let listed = budget.decode(json, MembersSeed(&budget));
    let listed = listed.map_err(|error| not_an_object(json, error))?;

    let mut members = RawMembers::new();
    for (key, value) in listed {
        let key = whole_characters(key, owner, faults);
        if key.len() > DecodeLimit::NAME.max {
            removed(&path(owner, &key), &DecodeLimit::NAME.to_string(), faults);
            continue;
        }
        let Some(other) = members.get(&key).copied() else {
            members.insert(key, value);
            continue;
        };

        faults.add(format!("`{}` appears more than once", path(owner, &key)));
        let is_null = |value: &RawValue| value.get() == "null";
        if (is_null(value), value.get()) < (is_null(other), other.get()) {
            members.insert(key, value);
        }
    }
    Ok(members)
}

/// Removes the last unknown fields of an object, in the order of their keys, if it has more fields
/// than [`DecodeLimit::FIELDS`]. `owner` names the object in faults.
pub(in crate::wire) fn limit_fields(
    members: &mut RawMembers<'_>,
    known: &[&str],
    owner: &str,
    faults: &mut DataFaults,
) {
    let max = DecodeLimit::FIELDS.max.saturating_sub(known.len());
    let (before, mut unknown) = (members.len(), 0_usize);
    // The keys are visited in ascending order.
    members.retain(|key, _| {
        let is_known = known.contains(&key.as_ref());
        unknown = unknown.saturating_add(usize::from(!is_known));
        is_known || unknown <= max
    });

    let count = before.saturating_sub(members.len());
    if count > 0 {
        let named = format!("`{owner}`");
        let owner = if owner.is_empty() { "the snapshot" } else { named.as_str() };
        let one = format!("unknown field of {owner} was removed");
        let many = format!("unknown fields of {owner} were removed");
        faults.add(format!("{}: {}", plural(count, &one, &many), DecodeLimit::FIELDS));
    }
}

/// The JSON text of the first elements of a list, up to the limit; that there are more is a fault
/// of the list. Fails if the text is not a JSON list.
pub(in crate::wire) fn first_items<'a>(
    json: &'a str,
    limit: DecodeLimit,
    list: &str,
    faults: &mut DataFaults,
) -> Result<Vec<&'a str>, WireError> {
    let (items, others) = DecodeBudget::new().decode(json, FirstItemsSeed { max: limit.max })?;
    if others > 0 {
        let one = format!("element of `{list}` was removed");
        let many = format!("elements of `{list}` were removed");
        faults.add(format!("{}: {limit}", plural(others, &one, &many)));
    }
    Ok(items)
}

/// The key without halves of surrogate pairs, of which each was three replacement characters.
fn whole_characters<'a>(key: Cow<'a, str>, owner: &str, faults: &mut DataFaults) -> Cow<'a, str> {
    if !key.contains(char::REPLACEMENT_CHARACTER) {
        return key;
    }
    let key = key.replace("\u{fffd}\u{fffd}\u{fffd}", "\u{fffd}");
    let path = path(owner, &key);
    faults.add(format!("the name of `{path}` contains half of a character"));
    Cow::Owned(key)
}

/// The error for a text that is not an object, if it is another JSON value.
fn not_an_object(json: &str, error: WireError) -> WireError {
    let is_json = serde_json::from_str::<&RawValue>(json).is_ok();
    match error {
        WireError::NotJson(_) if is_json && kind(json) != "an object" => {
            WireError::NotAnObject(kind(json))
        }
        error => error,
    }
}

/// Deserializes the members of an object, whose keys may contain halves of surrogate pairs.
struct MembersSeed<'b>(&'b DecodeBudget);

impl<'de> DeserializeSeed<'de> for MembersSeed<'_> {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MembersSeed<'_> {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key_seed(AnyKeySeed)? {
            self.0.admit(members.len(), DecodeLimit::MEMBERS)?;
            members.push((key, map.next_value()?));
        }
        Ok(members)
    }
}

/// Deserializes a key of any length.
struct AnyKeySeed;

impl<'de> DeserializeSeed<'de> for AnyKeySeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // Halves of surrogate pairs are an error in a string, and WTF-8 in bytes.
        deserializer.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for AnyKeySeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_bytes<E: Error>(self, key: &'de [u8]) -> Result<Self::Value, E> {
        Ok(String::from_utf8_lossy(key))
    }

    fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(String::from_utf8_lossy(key).into_owned()))
    }
}

/// Deserializes the first elements of a list, and counts the others.
struct FirstItemsSeed {
    max: usize,
}

impl<'de> DeserializeSeed<'de> for FirstItemsSeed {
    type Value = (Vec<&'de str>, usize);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FirstItemsSeed {
    type Value = (Vec<&'de str>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.max {
            let Some(item) = seq.next_element::<&'de RawValue>()? else { return Ok((items, 0)) };
            items.push(item.get());
        }

        let mut others = 0_usize;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            others = others.saturating_add(1);
        }
        Ok((items, others))
    }
}
