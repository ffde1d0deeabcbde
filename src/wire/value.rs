//! Deserializes a value whose shape is unexpected, so that it can be kept as JSON text.
//!
//! `serde_json::Value` would accept any number of elements, each of which takes a hundred times its
//! size in the text; this seed pays for each of them from the budget of the document. Start reading
//! at [`ValueSeed`].

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{
    budget::{DecodeBudget, DecodeLimit},
    lenient::TextSeed,
};

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
            members.insert(key.into_owned(), map.next_value_seed(seed)?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WireError;

    #[test]
    fn values_are_equal_to_those_without_limits() {
        let json = r#"{"b":[1,-2,2.5,1e3,true,null,"\u00e4"],"a":{"c":{}},"a":[]}"#;
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
