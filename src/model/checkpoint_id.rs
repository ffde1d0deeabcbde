//! The ID by which a checkpoint, its second cursor file and the progress at a receiver are matched.
//! It is compared and stored, and never interpreted.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The ID that a checkpoint receives when it is created: a random UUID. In JSON and in the
/// database, it is its text. The default is empty: the ID of no checkpoint.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct CheckpointId(Arc<str>);

impl CheckpointId {
    /// The ID with this text, without a check: another process, or damage, may have stored any
    /// text, which is the ID of no other checkpoint.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text of the ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the ID of no checkpoint.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

impl fmt::Debug for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for CheckpointId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for CheckpointId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_text_in_json() {
        let id = CheckpointId::new("10997699-3e78-408f-bc74-99be707bb04d");
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<CheckpointId>(&json).unwrap(), id);
        assert!(CheckpointId::default().is_empty() && !id.is_empty());
    }
}
