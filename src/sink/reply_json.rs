//! The JSON of receivers, read with a budget: a list has at most as many elements as this program
//! expects, and a text is cut while it is read.
//!
//! A reply must never be parsed without a limit, for example into `serde_json::Value`, because it
//! can expand to many times its size. Members that are not needed are skipped and not stored; a
//! nested value that is read later remains text until then (`RawValue`). Every object is read as a
//! [`ReplyObject`]. Start reading at [`list`]. See decision 0068.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{cell::Cell, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::text::{count, cut};

/// A text that a receiver determines, of which at most `MAX` characters are kept; see [`cut`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LimitedText<const MAX: usize>(String);

/// The name of a member of an object that has numbers as names. The longest number has 20 digits.
pub(super) type MemberName = LimitedText<20>;

/// A JSON object. A type with derived `Deserialize` also accepts an array that contains its members
/// in order, so that `[]` would be a reply without members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReplyObject<T>(pub T);

/// Why a part of a reply cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyFault {
    /// The limit.
    #[error("the response has more than {}", count(*.0, "element"))]
    TooManyElements(usize),
    #[error("the response is not the expected JSON")]
    Unexpected,
}

/// Reads an array of at most `max` elements. Stops reading at the first element above the limit,
/// which is a fault.
pub(super) fn list<'de, T: Deserialize<'de>>(
    json: &'de RawValue,
    max: usize,
) -> Result<Vec<T>, ReplyFault> {
    let budget = Budget::new(max);
    let visitor = ListVisitor { budget: &budget, element: PhantomData };
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    deserializer.deserialize_seq(visitor).map_err(|_| budget.fault())
}

/// Like [`list`], for an object: reads the names and the values of at most `max` members.
pub(super) fn members<'de, T: Deserialize<'de>>(
    json: &'de RawValue,
    max: usize,
) -> Result<Vec<(MemberName, T)>, ReplyFault> {
    let budget = Budget::new(max);
    let visitor = MembersVisitor { budget: &budget, value: PhantomData };
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    deserializer.deserialize_map(visitor).map_err(|_| budget.fault())
}

impl<const MAX: usize> LimitedText<MAX> {
    /// The text as it was received, which ends in `…` if it was cut. A message contains it only as
    /// [`HttpResponse::quote`](super::reply::HttpResponse::quote) returns it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for LimitedText<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor::<MAX>)
    }
}

struct TextVisitor<const MAX: usize>;

impl<const MAX: usize> Visitor<'_> for TextVisitor<MAX> {
    type Value = LimitedText<MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(LimitedText(cut(text, MAX).into_owned()))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ReplyObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = ReplyObject<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(ReplyObject)
    }
}

/// The number of elements that may be read. The errors of serde have no type, so it also records
/// whether the budget was exceeded.
struct Budget {
    max: usize,
    is_exceeded: Cell<bool>,
}

impl Budget {
    fn new(max: usize) -> Self {
        Self { max, is_exceeded: Cell::new(false) }
    }

    /// Fails if no further element may be stored next to those that have been read.
    fn check<E: Error>(&self, read: usize) -> Result<(), E> {
        if read < self.max {
            return Ok(());
        }
        self.is_exceeded.set(true);
        Err(E::custom("too many elements"))
    }

    fn fault(&self) -> ReplyFault {
        if self.is_exceeded.get() {
            ReplyFault::TooManyElements(self.max)
        } else {
            ReplyFault::Unexpected
        }
    }
}

struct ListVisitor<'a, T> {
    budget: &'a Budget,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            self.budget.check::<A::Error>(list.len())?;
            list.push(element);
        }
        Ok(list)
    }
}

struct MembersVisitor<'a, T> {
    budget: &'a Budget,
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for MembersVisitor<'_, T> {
    type Value = Vec<(MemberName, T)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(member) = members.next_entry()? {
            self.budget.check::<A::Error>(list.len())?;
            list.push(member);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn lists_have_at_most_the_expected_length() {
        for (json, max, expected) in [
            ("[]", 0, Ok(vec![])),
            ("[1, 2]", 2, Ok(vec![1, 2])),
            ("[1, 2, 3]", 2, Err(ReplyFault::TooManyElements(2))),
            ("[1]", 0, Err(ReplyFault::TooManyElements(0))),
            ("[1, \"x\"]", 2, Err(ReplyFault::Unexpected)),
            ("{}", 2, Err(ReplyFault::Unexpected)),
        ] {
            assert_eq!(list::<u64>(raw(json), max), expected, "{json}");
        }
    }

    /// The elements above the limit are not even parsed.
    #[test]
    fn reading_stops_at_the_limit() {
        let elements = format!("[{}\"x\"]", "0,".repeat(1_000_000));
        assert_eq!(list::<u64>(raw(&elements), 10), Err(ReplyFault::TooManyElements(10)));
    }

    #[test]
    fn objects_have_at_most_the_expected_size() {
        let names = |json: &str, max: usize| -> Result<Vec<String>, ReplyFault> {
            let members = members::<bool>(raw(json), max)?;
            Ok(members.iter().map(|(name, value)| format!("{}={value}", name.as_str())).collect())
        };
        for (json, max, expected) in [
            ("{}", 0, Ok(vec![])),
            ("{\"0\": true, \"7\": false}", 2, Ok(vec!["0=true".to_owned(), "7=false".to_owned()])),
            ("{\"0\": true, \"1\": true}", 1, Err(ReplyFault::TooManyElements(1))),
            ("{\"0\": 1}", 1, Err(ReplyFault::Unexpected)),
            ("[]", 1, Err(ReplyFault::Unexpected)),
        ] {
            assert_eq!(names(json, max), expected, "{json}");
        }
    }

    #[test]
    fn texts_are_cut_while_they_are_read() {
        for (json, expected) in [
            ("\"\"", ""),
            ("\"abc\"", "abc"),
            ("\"abcd\"", "ab…"),
            ("\"\\u00e4\\n\\u00e4\\u00e4\"", "ä\n…"),
        ] {
            let text: LimitedText<3> = serde_json::from_str(json).unwrap();
            assert_eq!(text.as_str(), expected, "{json}");
        }
        assert!(serde_json::from_str::<LimitedText<3>>("7").is_err());
    }

    /// Regression: an array was read as an object without members, or with its elements as members.
    #[test]
    fn an_array_is_not_an_object() {
        #[derive(Debug, Deserialize)]
        struct Reply<'a> {
            #[serde(borrow)]
            code: Option<&'a RawValue>,
        }

        let code = |json: &str| {
            let reply: Result<ReplyObject<Reply<'_>>, _> = serde_json::from_str(json);
            reply.map(|ReplyObject(reply)| reply.code.map(|code| code.get().to_owned())).ok()
        };
        for (json, expected) in [
            ("{}", Some(None)),
            ("{\"other\": [1]}", Some(None)),
            ("{\"code\": 0}", Some(Some("0".to_owned()))),
            ("[]", None),
            ("[0]", None),
            ("null", None),
            ("{} x", None),
        ] {
            assert_eq!(code(json), expected, "{json}");
        }
    }

    #[test]
    fn faults_state_the_limit() {
        let fault = ReplyFault::TooManyElements(2_000);
        assert_eq!(fault.to_string(), "the response has more than 2,000 elements");
    }
}
