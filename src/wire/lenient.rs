//! Deserializers for fields whose JSON type varies: a number or its text, a switch or its text, a
//! string or null.
//!
//! A value of an unexpected shape must never be lost, and must never be mistaken for the field's
//! value. What is kept is paid for from a [`DecodeBudget`]. Start reading at [`Fields`].

use std::{borrow::Cow, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Value, value::RawValue};

use super::{
    budget::{DecodeBudget, DecodeLimit, ExpectedType},
    value::{ValueSeed, refusal},
};
use crate::model::{Additional, Number};

/// Any scalar, borrowed where possible; a list or an object as JSON text.
pub(super) enum JsonScalar<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    Other(String),
}

/// Deserializes any value as a [`JsonScalar`].
#[derive(Clone, Copy)]
pub(super) struct ScalarSeed<'b>(pub &'b DecodeBudget);

impl<'de> DeserializeSeed<'de> for ScalarSeed<'_> {
    type Value = JsonScalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed<'_> {
    type Value = JsonScalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(JsonScalar::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(JsonScalar::Bool(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Number::new(value).map(JsonScalar::Number).ok_or_else(|| E::custom("number out of range"))
    }

    #[expect(clippy::cast_precision_loss, reason = "counts and scores are far below 2^53")]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        self.visit_f64(value as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts and scores are far below 2^53")]
    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        self.0.fit(value.len(), DecodeLimit::TEXT)?;
        Ok(JsonScalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        self.0.fit(value.len(), DecodeLimit::TEXT)?;
        Ok(JsonScalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let value = ValueSeed::new(self.0).visit_map(map)?;
        Ok(JsonScalar::Other(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        let value = ValueSeed::new(self.0).visit_seq(seq)?;
        Ok(JsonScalar::Other(value.to_string()))
    }
}

impl JsonScalar<'_> {
    /// The value as JSON text, for the additional fields; `None` for null.
    fn into_json(self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Bool(value) => Some(value.to_string()),
            Self::Number(number) => Some(number.to_string()),
            Self::Text(text) => serde_json::to_string(&text).ok(),
            Self::Other(json) => Some(json),
        }
    }
}

/// Sets known fields from the values of a JSON object, with one method per shape. A value of a
/// shape that the field does not accept is added to `additional` instead, and noted in the budget,
/// so that it is reported.
pub(super) struct Fields<'a, 'de> {
    /// The fields that are unknown, or whose value has an unexpected shape.
    pub additional: &'a mut Additional<'de>,
    /// The budget of the document.
    pub budget: &'a DecodeBudget,
}

impl<'de> Fields<'_, 'de> {
    /// Reads a number, or a decimal that was sent as text. Fails if the field is a duplicate or the
    /// JSON is not valid.
    pub(super) fn number<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        slot: &mut Option<Number>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        reject_duplicate(&key, slot.is_some())?;
        match map.next_value_seed(ScalarSeed(self.budget))? {
            JsonScalar::Number(number) => *slot = Some(number),
            JsonScalar::Text(text) => match Number::parse(&text) {
                Some(number) => *slot = Some(number),
                None => self.keep(key, JsonScalar::Text(text), ExpectedType::Number)?,
            },
            other => self.keep(key, other, ExpectedType::Number)?,
        }
        Ok(())
    }

    /// As [`Self::number`], for a number that Microsoft documents, and that no known response has
    /// sent as null: null is noted in the budget as a value of another type.
    pub(super) fn documented_number<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        slot: &mut Option<Number>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let before = self.additional.len();
        self.number(key, slot, map)?;
        // Null is neither used nor kept.
        if slot.is_none() && self.additional.len() == before {
            self.budget.expect(ExpectedType::Number);
        }
        Ok(())
    }

    /// Reads a Boolean, or `true` or `false` that was sent as text. Fails if the field is a
    /// duplicate or the JSON is not valid.
    pub(super) fn switch<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        slot: &mut Option<bool>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        reject_duplicate(&key, slot.is_some())?;
        match map.next_value_seed(ScalarSeed(self.budget))? {
            JsonScalar::Bool(value) => *slot = Some(value),
            JsonScalar::Text(text) if text.eq_ignore_ascii_case("true") => *slot = Some(true),
            JsonScalar::Text(text) if text.eq_ignore_ascii_case("false") => *slot = Some(false),
            other => self.keep(key, other, ExpectedType::Boolean)?,
        }
        Ok(())
    }

    /// Reads a string. Fails if the field is a duplicate, if the string is longer than
    /// [`DecodeLimit::TEXT`], or if the JSON is not valid.
    pub(super) fn text<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        slot: &mut Option<Cow<'de, str>>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        reject_duplicate(&key, slot.is_some())?;
        match map.next_value_seed(ScalarSeed(self.budget))? {
            JsonScalar::Text(text) => *slot = Some(text),
            other => self.keep(key, other, ExpectedType::Text)?,
        }
        Ok(())
    }

    /// A date as text, with or without a time, or as `{"Year":…,"Month":…,"Day":…}`. Fails if the
    /// field is a duplicate or the JSON is not valid.
    pub(super) fn date<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        slot: &mut Option<Cow<'de, str>>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        reject_duplicate(&key, slot.is_some())?;
        match map.next_value_seed(ScalarSeed(self.budget))? {
            JsonScalar::Text(text) if text.len() == 10 => {
                *slot = Some(Cow::Owned(format!("{text}T00:00:00Z")));
            }
            JsonScalar::Text(text) => *slot = Some(text),
            JsonScalar::Other(json) => match date_of(&json) {
                Some(date) => *slot = Some(Cow::Owned(date)),
                None => self.keep(key, JsonScalar::Other(json), ExpectedType::Date)?,
            },
            other => self.keep(key, other, ExpectedType::Date)?,
        }
        Ok(())
    }

    /// An unknown field. Its JSON text is kept as sent. Fails if it is longer than
    /// [`DecodeLimit::TEXT`] or nested more deeply than [`DecodeLimit::DEPTH`], if receivers refuse
    /// it, or if there are too many such fields.
    pub(super) fn unknown<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let json = map.next_value::<&'de RawValue>()?.get();
        self.budget.fit(json.len(), DecodeLimit::TEXT)?;
        self.budget.check_depth(json)?;
        if let Some(reason) = refusal(json) {
            return Err(A::Error::custom(reason));
        }
        self.push(key, Cow::Borrowed(json))
    }

    /// Keeps a value of an unexpected shape; null is omitted.
    fn keep<E: Error>(
        &mut self,
        key: Cow<'de, str>,
        value: JsonScalar<'de>,
        expected: ExpectedType,
    ) -> Result<(), E> {
        let Some(json) = value.into_json() else { return Ok(()) };
        self.budget.expect(expected);
        self.push(key, Cow::Owned(json))
    }

    fn push<E: Error>(&mut self, key: Cow<'de, str>, json: Cow<'de, str>) -> Result<(), E> {
        self.budget.admit(self.additional.len(), DecodeLimit::FIELDS)?;
        self.budget.pay()?;
        self.additional.push((key, json));
        Ok(())
    }
}

fn date_of(json: &str) -> Option<String> {
    let date: Value = serde_json::from_str(json).ok()?;
    let part = |name: &str| date.get(name)?.as_i64();
    let (year, month, day) = (part("Year")?, part("Month")?, part("Day")?);
    Some(format!("{year:04}-{month:02}-{day:02}T00:00:00Z"))
}

/// Rejects a duplicate field, because it is unclear which of the two values is correct. Fails if
/// `seen` is `true`.
pub(super) fn reject_duplicate<E: Error>(key: &str, seen: bool) -> Result<(), E> {
    if seen { Err(E::custom(format_args!("duplicate `{key}`"))) } else { Ok(()) }
}

/// Deserializes a string, borrowed if the JSON text has no escapes.
#[derive(Clone, Copy)]
pub(super) struct TextSeed<'b> {
    budget: &'b DecodeBudget,
    limit: DecodeLimit,
}

impl<'b> TextSeed<'b> {
    /// A key, or a name such as the ID of a control.
    pub(super) fn name(budget: &'b DecodeBudget) -> Self {
        Self { budget, limit: DecodeLimit::NAME }
    }
}

impl<'de> DeserializeSeed<'de> for TextSeed<'_> {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for TextSeed<'_> {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        self.budget.fit(value.len(), self.limit)?;
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        self.budget.fit(value.len(), self.limit)?;
        Ok(Cow::Owned(value.to_owned()))
    }
}

/// A list whose elements are deserialized by the seed; null is an empty list.
#[derive(Clone, Copy)]
pub(super) struct List<'b, S> {
    pub seed: S,
    /// The largest number of elements.
    pub limit: DecodeLimit,
    pub budget: &'b DecodeBudget,
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.seed)? {
            self.budget.admit(items.len(), self.limit)?;
            items.push(item);
        }
        Ok(items)
    }
}

/// A number, or a short text. Any other value is skipped, however large it is.
#[derive(Debug, Default, PartialEq)]
pub(super) enum NumberOrText {
    Number(Number),
    Text(String),
    /// Also the absence of a value.
    #[default]
    Other,
}

impl NumberOrText {
    /// The number, also if it was sent as text.
    pub(super) fn number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => Number::parse(text),
            Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for NumberOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrTextVisitor;
        impl<'de> Visitor<'de> for NumberOrTextVisitor {
            type Value = NumberOrText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }

            fn visit_unit<E>(self) -> Result<NumberOrText, E> {
                Ok(NumberOrText::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<NumberOrText, E> {
                Ok(NumberOrText::Other)
            }

            fn visit_f64<E>(self, number: f64) -> Result<NumberOrText, E> {
                Ok(Number::new(number).map_or(NumberOrText::Other, NumberOrText::Number))
            }

            #[expect(clippy::cast_precision_loss, reason = "large numbers are only compared")]
            fn visit_i64<E: Error>(self, number: i64) -> Result<NumberOrText, E> {
                self.visit_f64(number as f64)
            }

            #[expect(clippy::cast_precision_loss, reason = "large numbers are only compared")]
            fn visit_u64<E: Error>(self, number: u64) -> Result<NumberOrText, E> {
                self.visit_f64(number as f64)
            }

            fn visit_str<E>(self, text: &str) -> Result<NumberOrText, E> {
                let is_short = text.len() <= DecodeLimit::NAME.max;
                Ok(if is_short { NumberOrText::Text(text.to_owned()) } else { NumberOrText::Other })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<NumberOrText, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(NumberOrText::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NumberOrText, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(NumberOrText::Other)
            }
        }
        deserializer.deserialize_any(NumberOrTextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_other_shapes_are_skipped() {
        let read = |json: &str| serde_json::from_str::<NumberOrText>(json).unwrap();
        for (json, number) in [("3599", 3_599.0), ("-1", -1.0), ("1.5", 1.5), ("1e308", 1e308)] {
            assert_eq!(read(json).number(), Number::new(number), "{json}");
        }
        assert_eq!(read(r#""60""#), NumberOrText::Text("60".to_owned()));
        for other in ["null", "true", "[[0],{}]", r#"{"a":[1],"b":{}}"#] {
            assert_eq!(read(other), NumberOrText::Other, "{other}");
        }
        let long = format!("\"{}\"", "9".repeat(DecodeLimit::NAME.max + 1));
        assert_eq!(read(&long), NumberOrText::Other);
    }
}
