//! Deserializers for fields whose JSON type varies: a number or its text, a switch or its text, a
//! string or null.
//!
//! A value of an unexpected shape must never be lost, and must never be mistaken for the field's
//! value. Start reading at [`Fields`].

use std::{borrow::Cow, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
    value::{MapAccessDeserializer, SeqAccessDeserializer},
};
use serde_json::{Value, value::RawValue};

use crate::model::{Additional, Number};

/// Any scalar, borrowed where possible; a list or an object as JSON text.
pub(super) enum JsonScalar<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    Other(String),
}

impl<'de> Deserialize<'de> for JsonScalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl<'de> Visitor<'de> for ScalarVisitor {
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
                Number::new(value)
                    .map(JsonScalar::Number)
                    .ok_or_else(|| E::custom("number out of range"))
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
                bounded(value)?;
                Ok(JsonScalar::Text(Cow::Borrowed(value)))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                bounded(value)?;
                Ok(JsonScalar::Text(Cow::Owned(value.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let value = Value::deserialize(MapAccessDeserializer::new(map))?;
                Ok(JsonScalar::Other(value.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                let value = Value::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(JsonScalar::Other(value.to_string()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
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
/// shape that the field does not accept is added to `additional` instead.
pub(super) struct Fields<'a, 'de> {
    /// The fields that are unknown, or whose value has an unexpected shape.
    pub additional: &'a mut Additional<'de>,
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
        match map.next_value()? {
            JsonScalar::Number(number) => *slot = Some(number),
            JsonScalar::Text(text) => match Number::parse(&text) {
                Some(number) => *slot = Some(number),
                None => self.keep(key, JsonScalar::Text(text)),
            },
            other => self.keep(key, other),
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
        match map.next_value()? {
            JsonScalar::Bool(value) => *slot = Some(value),
            JsonScalar::Text(text) if text.eq_ignore_ascii_case("true") => *slot = Some(true),
            JsonScalar::Text(text) if text.eq_ignore_ascii_case("false") => *slot = Some(false),
            other => self.keep(key, other),
        }
        Ok(())
    }

    /// Reads a string. Fails if the field is a duplicate, if the string is longer than 1 MiB, or if
    /// the JSON is not valid.
    pub(super) fn text<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        slot: &mut Option<Cow<'de, str>>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        reject_duplicate(&key, slot.is_some())?;
        match map.next_value()? {
            JsonScalar::Text(text) => *slot = Some(text),
            other => self.keep(key, other),
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
        match map.next_value()? {
            JsonScalar::Text(text) if text.len() == 10 => {
                *slot = Some(Cow::Owned(format!("{text}T00:00:00Z")));
            }
            JsonScalar::Text(text) => *slot = Some(text),
            JsonScalar::Other(json) => match date_of(&json) {
                Some(date) => *slot = Some(Cow::Owned(date)),
                None => self.keep(key, JsonScalar::Other(json)),
            },
            other => self.keep(key, other),
        }
        Ok(())
    }

    /// An unknown field. Its JSON text is kept as sent. Fails if it is nested more than 64 levels
    /// deep.
    pub(super) fn unknown<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let raw: &'de RawValue = map.next_value()?;
        if is_too_deep(raw.get()) {
            return Err(A::Error::custom(format_args!("`{key}` is nested too deeply")));
        }
        self.additional.push((key, Cow::Borrowed(raw.get())));
        Ok(())
    }

    fn keep(&mut self, key: Cow<'de, str>, value: JsonScalar<'de>) {
        if let Some(json) = value.into_json() {
            self.additional.push((key, Cow::Owned(json)));
        }
    }
}

fn date_of(json: &str) -> Option<String> {
    let date: Value = serde_json::from_str(json).ok()?;
    let part = |name: &str| date.get(name)?.as_i64();
    let (year, month, day) = (part("Year")?, part("Month")?, part("Day")?);
    Some(format!("{year:04}-{month:02}-{day:02}T00:00:00Z"))
}

/// Whether a value is nested more deeply than a receiver can be expected to parse. Brackets inside
/// strings count too, so the result is an approximation; no known field is close to the limit.
fn is_too_deep(raw: &str) -> bool {
    const MAX_DEPTH: usize = 64;
    raw.starts_with(['[', '{'])
        && raw.bytes().filter(|b| matches!(b, b'[' | b'{')).count() > MAX_DEPTH
        && {
            let mut depth = 0_usize;
            raw.bytes().any(|byte| {
                match byte {
                    b'[' | b'{' => depth += 1,
                    b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                depth > MAX_DEPTH
            })
        }
}

/// Rejects a string that is longer than a receiver can be expected to accept.
fn bounded<E: Error>(text: &str) -> Result<(), E> {
    const MAX_TEXT: usize = 1 << 20;
    if text.len() > MAX_TEXT { Err(E::custom("a string is longer than 1 MiB")) } else { Ok(()) }
}

/// Rejects a duplicate field, because it is unclear which of the two values is correct. Fails if
/// `seen` is `true`.
pub(super) fn reject_duplicate<E: Error>(key: &str, seen: bool) -> Result<(), E> {
    if seen { Err(E::custom(format_args!("duplicate `{key}`"))) } else { Ok(()) }
}

/// A key or a string, borrowed if the JSON text has no escapes.
pub(super) struct JsonText<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for JsonText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = JsonText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
                bounded(value)?;
                Ok(JsonText(Cow::Borrowed(value)))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                bounded(value)?;
                Ok(JsonText(Cow::Owned(value.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A list whose elements are deserialized by the seed; null is an empty list.
pub(super) struct List<S>(pub S);

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for List<S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for List<S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.0)? {
            items.push(item);
        }
        Ok(items)
    }
}
