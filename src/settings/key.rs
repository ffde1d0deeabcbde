//! What a configuration may say.

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
    /// One sentence for people; it becomes the description in the JSON Schema.
    pub doc: &'static str,
}

/// What a key may hold.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Text,
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    /// `"10m"`: see [`super::parse_duration`].
    Duration,
    /// `"32MiB"`: see [`super::parse_size`].
    Size,
    /// `"2026-09-01"`.
    Day,
    OneOf(&'static [Choice]),
    /// One of these names, or a table of these keys instead.
    OneOfOrTable(&'static [Choice], &'static [Key]),
    ManyOf(&'static [Choice]),
    Texts,
    /// A table of names and texts of the operator's own.
    Map,
    /// `{ credential = … }`, `{ file = … }` or `{ env = … }`; never the text itself.
    Secret,
    /// Secrets by names of the operator's own.
    Secrets,
    Table(&'static [Key]),
    Tables(&'static [Key]),
    /// Tables whose further keys depend on the value of one: its tag.
    Tagged {
        tag: &'static str,
        many: Many,
        keys: &'static [Key],
        variants: fn() -> Vec<Variant>,
    },
    /// The name of something said elsewhere, or what this shape is.
    NameOr(&'static Shape),
    /// A switch that only `false` is honoured for in this version.
    OffOnly,
    /// Part of the contract, not in this version.
    Later,
}

/// How many tables stand under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    One,
    List,
    /// One a name of the operator's own.
    Named,
}

/// One value of a key that takes few.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub name: &'static str,
    /// Part of the contract, not in this version.
    pub later: bool,
}

/// The further keys that one value of a tag brings; `None` if it is not in this build.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub name: &'static str,
    pub keys: Option<&'static [Key]>,
}

pub const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: false, doc }
}

pub const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Key {
    Key { name, shape, required: true, doc }
}

pub const fn reserved(name: &'static str) -> Key {
    Key { name, shape: Shape::Later, required: false, doc: "Not in this version." }
}

impl Choice {
    pub const fn now(name: &'static str) -> Self {
        Self { name, later: false }
    }

    pub const fn reserved(name: &'static str) -> Self {
        Self { name, later: true }
    }
}
