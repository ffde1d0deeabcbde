//! The path of a part of the configuration as messages show it. A message with a location in a file
//! shows an item of a list by its index, and one about an environment variable, which has no
//! location, by its name. Start reading at [`PartPath`].

use crate::settings::node::Node;

/// The path of a part in both forms.
#[derive(Default)]
pub(super) struct PartPath {
    indexed: String,
    named: String,
}

impl PartPath {
    /// The path with the indexes of items, such as `sinks[0].tls`.
    pub(super) fn indexed(&self) -> &str {
        &self.indexed
    }

    /// The path with the names of items, such as `sinks.siem.tls`.
    pub(super) fn named(&self) -> &str {
        &self.named
    }

    /// The path of a key within this part.
    pub(super) fn inside(&self, key: &str) -> Self {
        let inside = |path: &str| match path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        Self { indexed: inside(&self.indexed), named: inside(&self.named) }
    }

    /// The path of an item of this part, which is a list. An item without a name is shown by its
    /// index in both forms.
    pub(super) fn item(&self, index: usize, item: &Node) -> Self {
        let named = match item.table().and_then(|table| table.text("name")) {
            Some(name) => format!("{}.{name}", self.named),
            None => format!("{}[{index}]", self.named),
        };
        Self { indexed: format!("{}[{index}]", self.indexed), named }
    }
}
