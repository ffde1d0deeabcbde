//! Limits on what is decoded from one document, because a short text can describe a value that
//! takes hundreds of times its size in memory.
//!
//! Every seed of this module counts before it stores, so a document that exceeds a limit is
//! rejected without being materialized; `salvage` then reads a document without a value that is too
//! large. Start reading at [`DecodeLimit`] and [`DecodeBudget`]. See decisions 0063 and 0077.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Error};

use super::WireError;
use crate::text::with_separators;

/// A limit on what is decoded. Each one is several times what the largest known tenant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimit {
    /// The largest number that is accepted.
    pub max: usize,
    /// What is counted, and where.
    what: &'static str,
}

impl DecodeLimit {
    /// The averages of peers in a snapshot.
    pub const AVERAGES: Self = Self::new(64, "averages in a snapshot");
    /// The controls in a snapshot: ten times those of the largest known tenant.
    pub const CONTROLS: Self = Self::new(5_000, "controls in a snapshot");
    /// The tenant's decisions on a control.
    pub const DECISIONS: Self = Self::new(1_000, "decisions in a control profile");
    /// The nesting of a value; a receiver cannot be expected to parse a deeper one.
    pub const DEPTH: Self = Self::new(64, "levels of nesting in a value");
    /// The unknown fields of all objects of a document, and the elements of values of unexpected
    /// shape.
    pub const ELEMENTS: Self = Self::new(65_536, "unknown elements in a document");
    /// The unknown fields of one object.
    pub const FIELDS: Self = Self::new(256, "unknown fields in an object");
    /// The items of a page.
    pub const ITEMS: Self = Self::new(1_000, "items in a page");
    /// The fields of one object, known and unknown, when they are read one by one.
    pub const MEMBERS: Self = Self::new(65_536, "fields in an object");
    /// A key, or a name such as the ID of a control.
    pub const NAME: Self = Self::new(1 << 10, "bytes in a name");
    /// The bytes of a control profile.
    pub const PROFILE: Self = Self::new(1 << 20, "bytes in a control profile");
    /// The control profiles of a catalog.
    pub const PROFILES: Self = Self::new(5_000, "control profiles in a catalog");
    /// The items of a page or a list in a file that an operator imports.
    pub const SAVED_ITEMS: Self = Self::new(100_000, "snapshots in a list");
    /// The services of a tenant.
    pub const SERVICES: Self = Self::new(256, "services in a snapshot");
    /// The bytes of a snapshot with all its texts.
    pub const SNAPSHOT: Self = Self::new(8 << 20, "bytes in a snapshot");
    /// A text; a receiver cannot be expected to accept a longer one.
    pub const TEXT: Self = Self::new(1 << 20, "bytes in a text");
    /// The threats that a control mitigates.
    pub const THREATS: Self = Self::new(256, "threats in a control profile");
    /// An access token or a refresh token.
    pub const TOKEN: Self = Self::new(16 << 10, "bytes in a token");

    const fn new(max: usize, what: &'static str) -> Self {
        Self { max, what }
    }
}

impl fmt::Display for DecodeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} {}", with_separators(self.max), self.what)
    }
}

/// Counts what the document that is being decoded contains.
#[derive(Debug)]
pub(super) struct DecodeBudget {
    /// How many more elements are accepted; see [`DecodeLimit::ELEMENTS`].
    elements: Cell<usize>,
    /// The first limit that was exceeded. The error of a deserializer is only a text.
    exceeded: Cell<Option<DecodeLimit>>,
    /// What the first known field with a value of another type should have been.
    unexpected: Cell<Option<ExpectedType>>,
}

/// The type of a known field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedType {
    Number,
    Boolean,
    Text,
    Date,
    Object,
}

impl fmt::Display for ExpectedType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "a number",
            Self::Boolean => "a Boolean",
            Self::Text => "a text",
            Self::Date => "a date",
            Self::Object => "an object",
        })
    }
}

impl DecodeBudget {
    /// The budget of a document with few fields, whose size is limited elsewhere.
    pub(super) fn new() -> Self {
        Self {
            elements: Cell::new(DecodeLimit::ELEMENTS.max),
            exceeded: Cell::new(None),
            unexpected: Cell::new(None),
        }
    }

    /// The budget of this document. Fails if the document is larger than the limit.
    pub(super) fn of(json: &str, limit: DecodeLimit) -> Result<Self, WireError> {
        if json.len() > limit.max { Err(WireError::Exceeds(limit)) } else { Ok(Self::new()) }
    }

    /// Decodes a whole document. Fails with [`WireError::Exceeds`] if a seed has exceeded a limit,
    /// and with [`WireError::NotJson`] otherwise.
    pub(super) fn decode<'de, S: DeserializeSeed<'de>>(
        &self,
        json: &'de str,
        seed: S,
    ) -> Result<S::Value, WireError> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let decoded = seed.deserialize(&mut deserializer);
        let decoded = decoded.and_then(|value| deserializer.end().map(|()| value));
        decoded.map_err(|error| self.explain(error))
    }

    /// The typed error for an error of the deserializer.
    pub(super) fn explain(&self, error: serde_json::Error) -> WireError {
        match self.exceeded.get() {
            Some(limit) => WireError::Exceeds(limit),
            None => WireError::not_json(error),
        }
    }

    /// Fails if a list of this length is full, so that nothing may be added.
    pub(super) fn admit<E: Error>(&self, length: usize, limit: DecodeLimit) -> Result<(), E> {
        if length < limit.max { Ok(()) } else { Err(self.exceed(limit)) }
    }

    /// Fails if a number, such as the length of a text in bytes, is larger than the limit.
    pub(super) fn fit<E: Error>(&self, number: usize, limit: DecodeLimit) -> Result<(), E> {
        if number <= limit.max { Ok(()) } else { Err(self.exceed(limit)) }
    }

    /// Counts one element; see [`DecodeLimit::ELEMENTS`].
    pub(super) fn pay<E: Error>(&self) -> Result<(), E> {
        match self.elements.get().checked_sub(1) {
            Some(left) => {
                self.elements.set(left);
                Ok(())
            }
            None => Err(self.exceed(DecodeLimit::ELEMENTS)),
        }
    }

    /// Notes that the value of a known field has another type than this one.
    pub(super) fn expect(&self, expected: ExpectedType) {
        self.unexpected.set(self.unexpected.get().or(Some(expected)));
    }

    /// The type of the first known field whose value has another type; `None` if there is none.
    pub(super) fn unexpected(&self) -> Option<ExpectedType> {
        self.unexpected.get()
    }

    /// Fails if the JSON text of a value is nested too deeply.
    pub(super) fn check_depth<E: Error>(&self, json: &str) -> Result<(), E> {
        // Counting is fast, and nearly no value has so many brackets, even with those in texts.
        let is_nested = json.starts_with(['[', '{']);
        let brackets = || json.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
        if is_nested && brackets() > DecodeLimit::DEPTH.max {
            return self.fit(depth(json), DecodeLimit::DEPTH);
        }
        Ok(())
    }

    fn exceed<E: Error>(&self, limit: DecodeLimit) -> E {
        self.exceeded.set(self.exceeded.get().or(Some(limit)));
        E::custom(limit)
    }
}

/// The levels of nesting in valid JSON. A bracket in a text does not count.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut is_text) = (0_usize, 0_usize, false);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_text = !is_text,
            // The escaped character may be a quotation mark.
            b'\\' => {
                bytes.next();
            }
            b'[' | b'{' if !is_text => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_names_its_number() {
        let controls = DecodeLimit::CONTROLS.to_string();
        assert_eq!(controls, "more than 5,000 controls in a snapshot");
    }

    #[test]
    fn depth_counts_brackets_outside_texts() {
        for (json, expected) in [
            ("1", 0),
            ("[]", 1),
            ("[[],{}]", 2),
            (r#"{"a":{"b":[1]},"c":[[]]}"#, 3),
            (r#"["[[[[", "\"[[", "\\", []]"#, 2),
        ] {
            assert_eq!(depth(json), expected, "{json}");
        }
    }

    /// Regression: brackets in a text counted as nesting, so a harmless value was rejected.
    #[test]
    fn brackets_in_texts_are_not_nesting() {
        let nested = |json: &str| DecodeBudget::new().check_depth::<serde_json::Error>(json);
        let max = DecodeLimit::DEPTH.max;
        nested(&format!(r#"["{}"]"#, "[".repeat(max * 2))).unwrap();
        nested(&format!("{}{}", "[".repeat(max), "]".repeat(max))).unwrap();
        assert!(nested(&format!("{}{}", "[".repeat(max + 1), "]".repeat(max + 1))).is_err());
    }

    #[test]
    fn the_first_exceeded_limit_is_reported() {
        let budget = DecodeBudget::new();
        let number: serde_json::Error = budget.exceed(DecodeLimit::NAME);
        let _: serde_json::Error = budget.exceed(DecodeLimit::TEXT);
        let explained = budget.explain(number);
        assert!(matches!(explained, WireError::Exceeds(DecodeLimit::NAME)), "{explained}");
    }
}
