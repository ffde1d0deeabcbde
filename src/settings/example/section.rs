//! The sections of the example file, and which keys each of them has. All keys of a table are in
//! its first section, except those that are not valid there: a section must omit them, and another
//! one must set them. Start reading at [`ExampleSection`].

use crate::settings::{ExampleValue, KeyDefinition, Many, Shape, toml_key};

/// The key that contains the name of an item of a list.
const NAME: &str = "name";

/// A section of the example file. It has the required keys of its table; the first section of a
/// table, or of a variant, also has the other ones, which are commented out.
#[derive(Clone, Copy, Debug)]
pub struct ExampleSection {
    /// The name of the item of a list, or of one of the tables by name; empty for other sections.
    pub name: &'static str,
    /// The introduction; may be empty.
    pub about: &'static str,
    pub state: ExampleState,
    /// Keys that are set although they are not required, and keys with another value than in their
    /// declaration. A key of a table within the section can be among them.
    pub sets: &'static [KeyDefinition],
    /// Keys that are not valid together with the values of the section.
    pub omits: &'static [KeyDefinition],
    /// Keys that the section has in addition, commented out. For a section of a variant, they can
    /// be keys that all variants have.
    pub lists: &'static [KeyDefinition],
    /// The introduction to those of `lists` that all variants have; may be empty.
    pub about_listed: &'static str,
}

/// Whether a section of the example file is commented out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExampleState {
    /// The section has an effect.
    Set,
    /// The section is commented out.
    NotSet,
}

/// Which keys of its table a section has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All keys that the section does not omit.
    AllKeys,
    /// The required keys, and those that the section sets or lists.
    NecessaryKeys,
}

/// The keys of a table, or of one variant of it.
#[derive(Clone, Copy)]
pub(super) struct TableKeys<'a> {
    /// The path of the table, without brackets.
    pub path: &'a str,
    /// How many such tables there are.
    pub many: Many,
    /// The key that selects the variant, and its value. `None` for a table without variants.
    pub tag: Option<(&'static str, &'static str)>,
    /// The keys that all variants have.
    pub common: &'static [KeyDefinition],
    /// The other keys.
    pub own: &'static [KeyDefinition],
}

/// The keys of a section with their values, in their order.
pub(super) struct SectionKeys {
    /// Keys that have an effect if the section is set.
    pub set: Vec<KeyDefinition>,
    /// Keys that are commented out in a section that is set.
    pub not_set: Vec<KeyDefinition>,
    /// Like `not_set`, but keys that all variants have.
    pub listed: Vec<KeyDefinition>,
}

impl<'a> TableKeys<'a> {
    /// The keys of a table without variants.
    pub(super) fn without_variants(
        path: &'a str,
        many: Many,
        keys: &'static [KeyDefinition],
    ) -> Self {
        Self { path, many, tag: None, common: &[], own: keys }
    }

    /// The heading of a section in TOML. `name` is used only in tables by name.
    pub(super) fn heading(self, name: &str) -> String {
        let path = self.path;
        match self.many {
            Many::One => format!("[{path}]"),
            Many::List => format!("[[{path}]]"),
            Many::Named => format!("[{path}.{}]", toml_key(name)),
        }
    }
}

impl SectionKeys {
    pub(super) fn of(section: &ExampleSection, table: TableKeys<'_>, extent: Extent) -> Self {
        let is_set = |key: &&KeyDefinition| key.is_required() || contains(section.sets, key);
        let with_value = |key: &KeyDefinition| section.with_value(key, table.tag);
        let (required, optional): (Vec<&KeyDefinition>, Vec<&KeyDefinition>) =
            table.common.iter().partition(|key| key.is_required());

        // The name and the tag are at the beginning.
        let all = required.into_iter().chain(table.own).chain(optional.iter().copied());
        let other = table.own.iter().filter(|key| !is_set(key) && section.has(key, extent));
        let listed = optional.iter().copied();
        let listed = listed.filter(|key| !is_set(key) && contains(section.lists, key));
        Self {
            set: all.filter(is_set).map(with_value).collect(),
            not_set: other.map(with_value).collect(),
            listed: listed.map(with_value).collect(),
        }
    }
}

impl ExampleSection {
    /// A section that is commented out and has nothing except its keys.
    pub const NOT_SET: Self = Self {
        name: "",
        about: "",
        state: ExampleState::NotSet,
        sets: &[],
        omits: &[],
        lists: &[],
        about_listed: "",
    };

    /// A section like [`Self::NOT_SET`], but with an effect.
    pub const SET: Self = Self { state: ExampleState::Set, ..Self::NOT_SET };

    /// Whether the section has an effect.
    pub(super) fn is_set(&self) -> bool {
        self.state == ExampleState::Set
    }

    /// The keys, with their values, of the table that is the value of a key. The tag of a table
    /// with variants must be among the keys that the section sets.
    pub(super) fn inner_keys(&self, key: &KeyDefinition, extent: Extent) -> Vec<KeyDefinition> {
        let keys: Vec<&KeyDefinition> = match key.shape {
            Shape::Table(keys) | Shape::OneOfOrTable { keys, .. } => keys.iter().collect(),
            Shape::NameOrSection(shape) => {
                self.variant_keys(&KeyDefinition { shape: *shape, ..*key })
            }
            _ => Vec::new(),
        };

        let is_shown = |key: &&KeyDefinition| {
            key.is_required() || contains(self.sets, key) || self.has(key, extent)
        };
        keys.into_iter().filter(is_shown).map(|key| self.with_value(key, None)).collect()
    }

    /// The keys of the variant of a table that the value of its tag in this section selects.
    fn variant_keys(&self, key: &KeyDefinition) -> Vec<&'static KeyDefinition> {
        let Shape::Tagged { tag, .. } = key.shape else { return Vec::new() };
        let selected = self.sets.iter().find_map(|set| match set.example {
            ExampleValue::Written(variant) if set.name == tag => Some(variant),
            _ => None,
        });
        selected.and_then(|variant| key.keys_of_variant(variant)).unwrap_or_default()
    }

    /// Whether the section has a key that it does not set.
    fn has(&self, key: &KeyDefinition, extent: Extent) -> bool {
        let is_reserved = matches!(key.shape, Shape::Reserved);
        let is_included = extent == Extent::AllKeys && !contains(self.omits, key);
        !is_reserved && (is_included || contains(self.lists, key))
    }

    /// The key with the value that it has in this section. `tag` is the key that selects the
    /// variant, and its value.
    fn with_value(
        &self,
        key: &KeyDefinition,
        tag: Option<(&'static str, &'static str)>,
    ) -> KeyDefinition {
        match tag {
            Some((tag, variant)) if key.name == tag => key.example(variant),
            _ if key.name == NAME && !self.name.is_empty() => key.example(self.name),
            _ => *self.sets.iter().find(|set| set.is(key)).unwrap_or(key),
        }
    }
}

fn contains(keys: &[KeyDefinition], key: &KeyDefinition) -> bool {
    keys.iter().any(|other| other.is(key))
}
