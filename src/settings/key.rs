//! Definitions of keys: the name, shape, default, description and example of every key that a
//! section can have. Validation, the JSON Schema, the reference and the example file are derived
//! from lists of definitions. A definition is made from a typed [`super::Key`], with which the
//! value is also read. A definition must never depend on the content of a configuration. Start
//! reading at [`KeyDefinition`].

use std::{fmt, time::Duration};

use super::{
    ExampleSection, SecretCheck,
    units::{show_duration, show_size},
};

/// The effect of a key of `[defaults]` that is not set.
pub(super) const NOTHING_IS_INHERITED: &str = "nothing is inherited";

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct KeyDefinition {
    /// The key as it is written in the file.
    pub name: &'static str,
    pub shape: Shape,
    pub presence: Presence,
    /// The description in the JSON Schema, in the reference and in the example file.
    pub doc: &'static str,
    pub example: ExampleValue,
}

/// Whether a key can be omitted.
#[derive(Clone, Copy, Debug)]
pub enum Presence {
    /// The section is invalid without the key.
    Required,
    /// Without the key, the section has this value.
    Default(DefaultValue),
    /// The effect of a section without the key, as a phrase that completes "If it is not set: …":
    /// "no limit".
    Optional(&'static str),
}

/// The value of a key in the example file.
#[derive(Clone, Copy, Debug)]
pub enum ExampleValue {
    /// The default of the key; without a default, a value that the shape of the key implies. The
    /// values of a key with the shape of a table are tables under their own headings.
    OfKey,
    /// This value: a single text without quotation marks, any other value as TOML.
    Written(&'static str),
    /// The default that the key has outside `[defaults]`.
    DefaultElsewhere(DefaultValue),
    /// A table under its own heading, for a key that can also have a name.
    Table,
}

/// The value of a key that is omitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    Text(&'static str),
    Bool(bool),
    Integer(i64),
    Duration(Duration),
    /// A number of bytes.
    Size(u64),
}

/// The values that a key can have.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A non-empty string.
    Text,
    /// The absolute path of a file that is read. The service and the operator have different
    /// working directories, so a relative path would name different files.
    File,
    Bool,
    /// An integer in this range, which includes both limits.
    Integer {
        min: i64,
        max: i64,
    },
    /// A duration in this range, such as `"10m"`: see [`super::parse_duration`].
    Duration {
        min: Duration,
        max: Duration,
    },
    /// A number of bytes in this range, such as `"32MiB"`: see [`super::parse_size`].
    Size {
        min: u64,
        max: u64,
    },
    /// A date such as `"2026-09-01"`.
    Day,
    /// One of these names.
    OneOf(&'static [&'static str]),
    /// One of these names, or a table with these keys.
    OneOfOrTable {
        /// The names that are offered.
        choices: &'static [&'static str],
        /// Names that are known, but that reading the value rejects with its own explanation.
        rejected: &'static [&'static str],
        keys: &'static [KeyDefinition],
    },
    /// A list of these names.
    ManyOf(&'static [&'static str]),
    /// A list of non-empty strings.
    Texts,
    /// A table of strings whose keys the operator chooses.
    Map,
    /// A reference to a secret: `{ credential = … }`, `{ file = … }` or `{ env = … }`. Its text
    /// must pass the check, if there is one.
    Secret(Option<SecretCheck>),
    /// A table of references to secrets whose keys the operator chooses.
    Secrets,
    /// A non-empty string, or a reference to a secret, for values that are secret at some
    /// receivers. The text of the secret must pass the check.
    TextOrSecret(SecretCheck),
    /// A table with these keys.
    Table(&'static [KeyDefinition]),
    /// A list of tables with these keys.
    Tables(&'static [KeyDefinition]),
    /// Tables with the common `keys` and those of the variant that the value of the key `tag`
    /// names.
    Tagged {
        tag: &'static str,
        many: Many,
        keys: &'static [KeyDefinition],
        variants: fn() -> Vec<Variant>,
    },
    /// The name of something defined elsewhere, or a value of this shape.
    NameOrSection(&'static Shape),
    /// A key that is reserved for a later version and rejected by this one.
    Reserved,
}

/// How many tables a key with the shape [`Shape::Tagged`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// One table.
    One,
    /// A list of tables.
    List,
    /// One table for each name that the operator chooses.
    Named,
}

/// The additional keys of a table whose tag has this value.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The value of the tag.
    pub name: &'static str,
    /// `None` for a variant that is not part of this build.
    pub keys: Option<&'static [KeyDefinition]>,
    /// The sections in the example file. The first one has all keys that it does not omit.
    pub examples: &'static [ExampleSection],
}

impl fmt::Display for DefaultValue {
    /// Prints the value as it is written in the configuration, but without quotation marks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Duration(duration) => {
                f.write_str(&show_duration(*duration).unwrap_or_else(|| "0s".to_owned()))
            }
            Self::Size(bytes) => f.write_str(&show_size(*bytes).unwrap_or_else(|| "0B".to_owned())),
        }
    }
}

impl KeyDefinition {
    /// A key that is reserved for a later version.
    pub const fn reserved(name: &'static str) -> Self {
        Self {
            name,
            shape: Shape::Reserved,
            presence: Presence::Optional("reserved"),
            doc: "Not supported by this version.",
            example: ExampleValue::OfKey,
        }
    }

    /// The same key in a section that contains defaults for other sections.
    #[must_use]
    pub const fn in_defaults(self) -> Self {
        let example = match (self.example, self.presence) {
            (ExampleValue::OfKey, Presence::Default(default)) => {
                ExampleValue::DefaultElsewhere(default)
            }
            (example, _) => example,
        };
        Self { presence: Presence::Optional(NOTHING_IS_INHERITED), example, ..self }
    }

    /// The same key with this value in the example file: see [`ExampleValue::Written`].
    #[must_use]
    pub const fn example(self, value: &'static str) -> Self {
        Self { example: ExampleValue::Written(value), ..self }
    }

    /// The same key with a table under its own heading in the example file.
    #[must_use]
    pub const fn example_table(self) -> Self {
        Self { example: ExampleValue::Table, ..self }
    }

    /// Whether this is the other key, regardless of its value in the example file. Keys of
    /// different sections can have the same name.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.doc == other.doc
    }

    /// Whether a section is invalid without the key.
    pub fn is_required(&self) -> bool {
        matches!(self.presence, Presence::Required)
    }

    /// The keys of a table whose tag has a value, if it is one of this build: the common ones and
    /// those of the variant. `None` for a key of another shape.
    pub(super) fn keys_of_variant(&self, value: &str) -> Option<Vec<&'static Self>> {
        let Shape::Tagged { keys, variants, .. } = self.shape else { return None };
        let variant = variants().into_iter().find(|variant| variant.name == value)?;
        Some(keys.iter().chain(variant.keys?).collect())
    }
}

/// The number of definitions in several lists.
pub const fn count_keys(lists: &[&[KeyDefinition]]) -> usize {
    let (mut total, mut index) = (0, 0);
    while index < lists.len() {
        total += lists[index].len();
        index += 1;
    }
    total
}

/// One list of the definitions of several lists, whose number is [`count_keys`].
pub const fn join_keys<const COUNT: usize>(lists: &[&[KeyDefinition]]) -> [KeyDefinition; COUNT] {
    let mut joined = [KeyDefinition::reserved(""); COUNT];
    let (mut list, mut next) = (0, 0);
    while list < lists.len() {
        let mut index = 0;
        while index < lists[list].len() {
            joined[next] = lists[list][index];
            next += 1;
            index += 1;
        }
        list += 1;
    }
    joined
}
