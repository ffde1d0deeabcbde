//! The effective value of every key: from a file, from the environment, from `[defaults]`, or the
//! default of the program.
//!
//! References to secrets are listed, and the secrets themselves are never read. The text of a key
//! that can also be a reference, such as the URL of a webhook, is redacted, and so are the secret
//! parts of every URL. Start reading at [`effective`].

use std::fmt;

use super::{
    Faults, KeyDefinition, Many, Origin, Presence, Shape, Table,
    key::NOTHING_IS_INHERITED,
    node::{Node, SetBy},
    redacted::{REDACTED, redacted},
    toml_key, toml_string,
};

/// One table of the configuration, and its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveTable {
    /// The heading of the table in TOML, such as `[[sinks]]`; empty for the top level.
    pub heading: String,
    pub values: Vec<EffectiveValue>,
}

/// One key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveValue {
    pub key: &'static str,
    /// The value as TOML on one line; `None` for a key that is not set and has no fixed default.
    pub value: Option<String>,
    pub origin: ValueOrigin,
}

/// Where an effective value is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueOrigin {
    /// From the section itself.
    Section(Origin),
    /// From `[defaults]`.
    Defaults(Origin),
    /// The default of the program.
    BuiltIn,
    /// The key is not set, with this effect, as a phrase: "no limit".
    NotSet(&'static str),
}

/// Collects one table after another.
struct Collector<'a> {
    faults: &'a Faults,
    tables: Vec<EffectiveTable>,
}

/// The path of a table, and whether it is an item of a list.
#[derive(Clone, Copy)]
enum Heading<'a> {
    Root,
    Single(&'a str),
    Item(&'a str),
}

/// Every table of a configuration, in the order of `keys`. The configuration must be valid.
pub fn effective(table: &Table, keys: &[KeyDefinition], faults: &Faults) -> Vec<EffectiveTable> {
    let mut collector = Collector { faults, tables: Vec::new() };
    let keys: Vec<&KeyDefinition> = keys.iter().collect();
    collector.add_table(Some(table), &keys, Heading::Root);
    collector.tables.retain(|table| !table.values.is_empty());
    collector.tables
}

impl Collector<'_> {
    /// Adds a table, and then the tables within it.
    fn add_table(&mut self, table: Option<&Table>, keys: &[&KeyDefinition], heading: Heading<'_>) {
        let value = |key: &KeyDefinition| table.and_then(|table| table.get(key.name));
        let (inner, scalars): (Vec<&KeyDefinition>, Vec<&KeyDefinition>) =
            keys.iter().copied().partition(|key| is_table(key.shape, value(key)));

        // A table that is absent has only the defaults.
        let is_shown = |shown: &EffectiveValue| shown.value.is_some() || table.is_some();
        let values = scalars.into_iter().filter_map(|key| self.value(key, value(key)));
        let values = values.filter(is_shown).collect();
        self.tables.push(EffectiveTable { heading: heading.as_toml(), values });
        for key in inner {
            self.add_tables(key, value(key), heading);
        }
    }

    /// The value of a key; `None` for a key that is missing or not supported, and for a default
    /// that is not set.
    fn value(&self, key: &KeyDefinition, node: Option<&Node>) -> Option<EffectiveValue> {
        let (value, origin) = match (node, key.presence) {
            (Some(node), _) => (Some(shown(key.shape, node)), self.origin(node)),
            (None, Presence::Default(default)) => {
                let text = default.to_string();
                let is_bare = matches!(key.shape, Shape::Bool | Shape::Integer { .. });
                let value = if is_bare { text } else { toml_string(&text) };
                (Some(value), ValueOrigin::BuiltIn)
            }
            (None, Presence::Optional(NOTHING_IS_INHERITED) | Presence::Required) => return None,
            (None, _) if matches!(key.shape, Shape::Reserved) => return None,
            (None, Presence::Optional(without)) => (None, ValueOrigin::NotSet(without)),
        };
        Some(EffectiveValue { key: key.name, value, origin })
    }

    /// Adds the tables of a key. A single table has values even if it is absent, because its keys
    /// can have defaults.
    fn add_tables(&mut self, key: &KeyDefinition, node: Option<&Node>, parent: Heading<'_>) {
        let path = parent.path_of(key.name);
        let items = || node.and_then(Node::list).unwrap_or_default().iter();

        match key.shape {
            Shape::Table(keys) | Shape::OneOfOrTable { keys, .. } => {
                let keys: Vec<&KeyDefinition> = keys.iter().collect();
                // A table with a required key is a feature that is off without the table.
                if node.is_some() || !keys.iter().any(|key| key.is_required()) {
                    self.add_table(node.and_then(Node::table), &keys, Heading::Single(&path));
                }
            }

            Shape::Tables(keys) => {
                let keys: Vec<&KeyDefinition> = keys.iter().collect();
                for item in items() {
                    self.add_table(item.table(), &keys, Heading::Item(&path));
                }
            }
            Shape::Tagged { many: Many::List, .. } => {
                for item in items() {
                    self.add_tagged(key, item, Heading::Item(&path));
                }
            }

            Shape::Tagged { many: Many::Named, .. } => {
                let entries = node.and_then(Node::table).map(Table::entries).unwrap_or_default();
                for entry in entries {
                    let path = Heading::Single(&path).path_of(&entry.name);
                    self.add_tagged(key, &entry.value, Heading::Single(&path));
                }
            }
            Shape::NameOrSection(shape) => {
                let key = KeyDefinition { shape: *shape, ..*key };
                if let Some(node) = node {
                    self.add_tagged(&key, node, Heading::Single(&path));
                }
            }
            _ => {}
        }
    }

    fn add_tagged(&mut self, key: &KeyDefinition, node: &Node, heading: Heading<'_>) {
        let Shape::Tagged { tag, .. } = key.shape else { return };
        let table = node.table();
        let keys = table.and_then(|table| key.keys_of_variant(table.text(tag)?));
        self.add_table(table, &keys.unwrap_or_default(), heading);
    }

    fn origin(&self, node: &Node) -> ValueOrigin {
        let origin = self.faults.origin(node.span);
        match node.set {
            SetBy::Table => ValueOrigin::Section(origin),
            SetBy::Defaults => ValueOrigin::Defaults(origin),
        }
    }
}

impl Heading<'_> {
    fn as_toml(self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Single(path) => format!("[{path}]"),
            Self::Item(path) => format!("[[{path}]]"),
        }
    }

    /// The path of a table within this one.
    fn path_of(self, name: &str) -> String {
        let name = toml_key(name);
        match self {
            Self::Root => name,
            Self::Single(path) | Self::Item(path) => format!("{path}.{name}"),
        }
    }
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Section(origin) => origin.fmt(f),
            Self::Defaults(origin) => write!(f, "defaults, {origin}"),
            Self::BuiltIn => f.write_str("default"),
            Self::NotSet(without) => write!(f, "not set: {without}"),
        }
    }
}

/// Whether the keys of the value are listed one by one.
fn is_table(shape: Shape, node: Option<&Node>) -> bool {
    match shape {
        Shape::Table(_) | Shape::Tables(_) | Shape::Tagged { .. } => true,
        Shape::OneOfOrTable { .. } | Shape::NameOrSection(_) => {
            node.is_some_and(|node| node.table().is_some())
        }
        _ => false,
    }
}

/// The value as TOML. Text that may be a secret is replaced.
fn shown(shape: Shape, node: &Node) -> String {
    match (shape, node.text()) {
        (Shape::TextOrSecret(_), Some(_)) => toml_string(REDACTED),
        _ => node.map_texts(&redacted).to_toml(),
    }
}
