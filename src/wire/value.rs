//! Deserializes a value whose shape is unexpected, so that it can be kept as JSON text, and decides
//! which JSON texts can be forwarded.
//!
//! `serde_json::Value` would accept any number of elements, each of which takes a hundred times its
//! size in the text; the seeds pay for each of them from the budget of the document. Start reading
//! at [`ValueSeed`] and [`refusal`].

use std::{borrow::Cow, cell::Cell, collections::BTreeSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{
    WireError,
    budget::{DecodeBudget, DecodeLimit},
    lenient::{TextSeed, reject_duplicate},
    salvage::quoted,
    surrogates,
};

/// Why receivers refuse a value at any depth of which they are sent the JSON text, although it is
/// valid JSON; `None` if they accept it.
pub(super) fn refusal(json: &str) -> Option<String> {
    if surrogates::has_half(json) {
        return Some("half of a character".to_owned());
    }

    let budget = DecodeBudget::new();
    if budget.check_depth::<serde_json::Error>(json).is_err() {
        return Some(DecodeLimit::DEPTH.to_string());
    }
    let duplicate = Cell::new(None);
    let error = budget.decode(json, ForwardableSeed { budget: &budget, duplicate: &duplicate });
    match (error.err()?, duplicate.take()) {
        (WireError::Exceeds(limit), _) => Some(limit.to_string()),
        (_, Some(key)) => Some(format!("`{}` appears more than once", quoted(&key))),
        (_, None) => Some("a number out of range".to_owned()),
    }
}

/// Reads a value without storing it. Fails if a number is out of range, or if an object has two
/// members with one key.
#[derive(Clone, Copy)]
struct ForwardableSeed<'b> {
    budget: &'b DecodeBudget,
    /// The first key that an object has twice. The error of a deserializer is only a text.
    duplicate: &'b Cell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for ForwardableSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ForwardableSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys: BTreeSet<Cow<'de, str>> = BTreeSet::new();
        while let Some(key) = map.next_key_seed(TextSeed::name(self.budget))? {
            self.budget.pay()?;
            if keys.contains(&key) {
                self.duplicate.set(Some(key.into_owned()));
                return Err(A::Error::custom("duplicate key"));
            }
            keys.insert(key);
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// Deserializes any value within the budget.
#[derive(Clone, Copy)]
pub(super) struct ValueSeed<'b> {
    budget: &'b DecodeBudget,
    /// The number of lists and objects that contain this value.
    depth: usize,
}

impl<'b> ValueSeed<'b> {
    /// The seed of a value that is not nested.
    pub(super) fn new(budget: &'b DecodeBudget) -> Self {
        Self { budget, depth: 0 }
    }

    /// The seed of the elements of this value. Fails if they would be nested too deeply.
    fn of_elements<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        self.budget.fit(depth, DecodeLimit::DEPTH)?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.budget.fit(value.len(), DecodeLimit::TEXT)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let seed = self.of_elements()?;
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element_seed(seed)? {
            self.budget.pay()?;
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let seed = self.of_elements()?;
        let mut members = Map::new();
        while let Some(key) = map.next_key_seed(TextSeed::name(self.budget))? {
            self.budget.pay()?;
            reject_duplicate(&key, members.contains_key(key.as_ref()))?;
            members.insert(key.into_owned(), map.next_value_seed(seed)?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: numbers out of range and repeated keys in unknown values were forwarded, and
    /// receivers refused the records.
    #[test]
    fn values_that_receivers_refuse_are_found() {
        for (json, expected) in [
            ("null", None),
            ("-1.5e300", None),
            (r#"{"a":[1,{"b":"\ud83d\ude00"}],"b":{"a":1}}"#, None),
            ("1e400", Some("a number out of range")),
            (r#"{"y":-1e400}"#, Some("a number out of range")),
            (r#"[[{"y":[1e400]}]]"#, Some("a number out of range")),
            (r#"[{"y":1,"y":1}]"#, Some("`y` appears more than once")),
            (r#"{"a":{"\u0079":1,"y":2}}"#, Some("`y` appears more than once")),
            (r#"["\ud83d"]"#, Some("half of a character")),
        ] {
            assert_eq!(refusal(json).as_deref(), expected, "{json}");
        }
        let integer = "9".repeat(400);
        assert_eq!(refusal(&integer).as_deref(), Some("a number out of range"));
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert_eq!(refusal(&deep), Some(DecodeLimit::DEPTH.to_string()));
    }

    #[test]
    fn values_are_equal_to_those_without_limits() {
        let json = r#"{"b":[1,-2,2.5,1e3,true,null,"\u00e4"],"a":{"c":{}}}"#;
        let budget = DecodeBudget::new();
        let value = budget.decode(json, ValueSeed::new(&budget)).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(json).unwrap());
    }

    #[test]
    fn elements_and_nesting_are_limited() {
        let decode = |json: &str| {
            let budget = DecodeBudget::new();
            budget.decode(json, ValueSeed::new(&budget)).map(|_| ())
        };
        let max = DecodeLimit::DEPTH.max;
        decode(&format!("{}{}", "[".repeat(max), "]".repeat(max))).unwrap();
        let deep = format!("{}1{}", r#"{"a":"#.repeat(max + 1), "}".repeat(max + 1));
        assert!(matches!(decode(&deep), Err(WireError::Exceeds(DecodeLimit::DEPTH))));

        let max = DecodeLimit::ELEMENTS.max;
        decode(&format!("[{}0]", "0,".repeat(max - 1))).unwrap();
        for element in ["0,", "{},", "[[]],"] {
            let long = format!("[{}0]", element.repeat(max));
            assert!(matches!(decode(&long), Err(WireError::Exceeds(DecodeLimit::ELEMENTS))));
        }
    }
}
