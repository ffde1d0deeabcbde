//! Tables of keys: the name, shape and description of every key that a section can have.

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
    /// The description in the JSON Schema and in the reference.
    pub doc: &'static str,
}

/// The values that a key can have.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// A non-empty string.
    Text,
    Bool,
    /// A whole number in this range, limits included.
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
    OneOf(&'static [Choice]),
    /// One of these names, or a table with these keys.
    OneOfOrTable(&'static [Choice], &'static [Key]),
    /// A list of these names.
    ManyOf(&'static [Choice]),
    /// A list of non-empty strings.
    Texts,
    /// A table of strings whose keys the operator chooses.
    Map,
    /// A reference to a secret: `{ credential = … }`, `{ file = … }` or `{ env = … }`.
    Secret,
    /// A table of references to secrets whose keys the operator chooses.
    Secrets,
    /// A table with these keys.
    Table(&'static [Key]),
    /// A list of tables with these keys.
    Tables(&'static [Key]),
    /// Tables with the common `keys` and those of the variant that the value of the key `tag` names.
    Tagged {
        tag: &'static str,
        many: Many,
        keys: &'static [Key],
        variants: fn() -> Vec<Variant>,
    },
    /// The name of something defined elsewhere, or a value of this shape.
    NameOr(&'static Shape),
    /// A switch of which this version supports only `false`.
    OffOnly,
    /// A key that is reserved for a later version and rejected by this one.
    Reserved,
}

/// How many tables a key with the shape [`Shape::Tagged`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    One,
    List,
    /// One for each name that the operator chooses.
    Named,
}

/// One of the names that a key can have as its value.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub name: &'static str,
    /// Whether the name is reserved for a later version and rejected by this one.
    pub reserved: bool,
}

/// The keys that a table has in addition if its tag has this value.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub name: &'static str,
    /// `None` for a variant that is not part of this build.
    pub keys: Option<&'static [Key]>,
}

/// A key that can be left out.
pub const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: false, doc }
}

/// A key that must be present. Its description is the hint if it is missing.
pub const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: true, doc }
}

/// A key that is reserved for a later version.
pub const fn reserved(name: &'static str) -> Key {
    Key { name, shape: Shape::Reserved, required: false, doc: "Not supported by this version." }
}

impl Choice {
    /// A value that this version supports.
    pub const fn now(name: &'static str) -> Self {
        Self { name, reserved: false }
    }

    /// A value that is reserved for a later version.
    pub const fn reserved(name: &'static str) -> Self {
        Self { name, reserved: true }
    }
}
