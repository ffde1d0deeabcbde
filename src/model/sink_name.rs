//! The names of sinks. A name must agree between the configuration, the checkpoint and the command
//! line, so it has its own type, which is cheap to clone. The name of a configured sink is valid,
//! and only [`SinkName::parse`] knows the rule. A stored or requested name can be any text, because
//! it is only compared with those of configured sinks.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a sink. In JSON and in the checkpoint, it is its text. It is hashed and compared
/// like its text, so that a map by name can be searched with a text. The default is empty: the name
/// of no sink.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkName(Arc<str>);

impl SinkName {
    /// The name that a checkpoint contains or that a command requests, without a check.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The name of a sink in a configuration; `None` if it is too long, or contains a character
    /// other than an ASCII letter, a digit, `.`, `_` and `-`.
    pub fn parse(text: &str) -> Option<Self> {
        const MAX_LEN: usize = 64;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);

        (text.len() <= MAX_LEN && text.bytes().all(is_allowed)).then(|| Self::new(text))
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for SinkName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

impl fmt::Debug for SinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for SinkName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SinkName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

/// Only tests write names as literals.
#[cfg(test)]
impl From<&str> for SinkName {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
impl PartialEq<str> for SinkName {
    fn eq(&self, text: &str) -> bool {
        self.as_str() == text
    }
}

#[cfg(test)]
impl PartialEq<&str> for SinkName {
    fn eq(&self, text: &&str) -> bool {
        self.as_str() == *text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    #[test]
    fn only_valid_names_are_parsed() {
        let longest = "a".repeat(64);
        for name in ["siem", "SIEM-2.eu_west", "2026", &longest] {
            assert_eq!(SinkName::parse(name), Some(SinkName::new(name)), "{name}");
        }

        let too_long = "a".repeat(65);
        for name in ["a b", "ä", "a/b", "a\n", "\"", &too_long] {
            assert_eq!(SinkName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn maps_are_searched_with_texts() {
        let names = ["siem", "", "ä"];
        let hashed = HashMap::from(names.map(|name| (SinkName::new(name), name)));
        let ordered = BTreeMap::from(names.map(|name| (SinkName::new(name), name)));
        for name in names {
            assert_eq!((hashed.get(name), ordered.get(name)), (Some(&name), Some(&name)), "{name}");
        }
    }

    #[test]
    fn every_form_is_the_text() {
        for text in ["siem", "a \"b\"\n", ""] {
            let name = SinkName::new(text);
            assert_eq!(format!("{name}|{name:>9}|{name:?}"), format!("{text}|{text:>9}|{text:?}"));

            let json = serde_json::to_string(text).unwrap();
            assert_eq!(serde_json::to_string(&name).unwrap(), json);
            assert_eq!(serde_json::from_str::<SinkName>(&json).unwrap(), name);
        }
    }
}
