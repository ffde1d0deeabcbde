//! Tables of keys: the name, shape and description of every key that a section can have. A table is
//! the only definition of its keys: validation, the JSON Schema and the reference are derived from
//! it. Start reading at [`Key`].

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key as it is written in the file.
    pub name: &'static str,
    pub shape: Shape,
    /// Whether the section is invalid without the key.
    pub required: bool,
    /// The description in the JSON Schema and in the reference.
    pub doc: &'static str,
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
    /// `"10m"`: see [`super::parse_duration`].
    Duration,
    /// `"32MiB"`: see [`super::parse_size`].
    Size,
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
        keys: &'static [Key],
    },
    /// A list of these names.
    ManyOf(&'static [&'static str]),
    /// A list of non-empty strings.
    Texts,
    /// A table of strings whose keys the operator chooses.
    Map,
    /// A reference to a secret: `{ credential = … }`, `{ file = … }` or `{ env = … }`.
    Secret,
    /// A table of references to secrets whose keys the operator chooses.
    Secrets,
    /// A non-empty string, or a reference to a secret, for values that are secret at some receivers.
    TextOrSecret,
    /// A table with these keys.
    Table(&'static [Key]),
    /// A list of tables with these keys.
    Tables(&'static [Key]),
    /// Tables with the common `keys` and those of the variant that the value of the key `tag`
    /// names.
    Tagged {
        tag: &'static str,
        many: Many,
        keys: &'static [Key],
        variants: fn() -> Vec<Variant>,
    },
    /// The name of something defined elsewhere, or a value of this shape.
    NameOr(&'static Shape),
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
    pub keys: Option<&'static [Key]>,
}

/// A key that can be omitted.
pub const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: false, doc }
}

/// A key that must be present. If it is missing, the hint contains the first sentence of its
/// description.
pub const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: true, doc }
}

/// A key that is reserved for a later version.
pub const fn reserved(name: &'static str) -> Key {
    Key { name, shape: Shape::Reserved, required: false, doc: "Not supported by this version." }
}
