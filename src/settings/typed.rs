//! Typed keys: a key, the type of its value, its default, its description, its example and the way
//! to read it are one constant.
//!
//! [`super::Section::get`] takes such a constant, so neither the name nor the type of a key is
//! repeated where its value is used. The macro `keys!` declares the keys of a
//! section together with the list of their definitions. See decision 0044.

mod declare;
mod types;

use std::{marker::PhantomData, time::Duration};

pub(crate) use declare::{choices, keys, names};
pub use types::{
    Date, FilePath, Flag, Integer, ManyOf, Map, NameOrSection, NameOrSectionValue, NamedSections,
    OneOf, Secret, Secrets, Sections, Size, SubSection, Text, TextOrSecret, TextOrSecretValue,
    Texts, Timespan,
};

use super::{
    DefaultValue, ExampleValue, KeyDefinition, Presence, SecretCheck, Section, Shape, node::Node,
};

/// A key whose value is a `T`. A section without the key has no value.
#[derive(Debug)]
pub struct Key<T> {
    definition: KeyDefinition,
    kind: PhantomData<fn() -> T>,
}

/// A key whose value is a `T`. A section without the key has the default.
#[derive(Debug)]
pub struct KeyWithDefault<T: HasDefault> {
    key: Key<T>,
    default: T::Default,
}

/// The shape of the values of a key, and the type `T` that they are read as.
#[derive(Debug)]
pub struct Typed<T> {
    shape: Shape,
    kind: PhantomData<fn() -> T>,
}

/// A shape and the default of a key.
#[derive(Debug)]
pub struct WithDefault<T: HasDefault> {
    typed: Typed<T>,
    default: T::Default,
    shown: DefaultValue,
}

/// A type of values.
pub trait KeyType: 'static {
    /// The value as it is read.
    type Value<'a>;

    /// Reads the value of a section. `None` if it has another shape, which has been reported.
    fn read<'a>(node: &'a Node, section: Section<'a>) -> Option<Self::Value<'a>>;
}

/// A type of values that can have a default.
pub trait HasDefault: KeyType {
    /// The default as a constant.
    type Default: Copy + std::fmt::Debug + 'static;

    /// The default as a value.
    fn default<'a>(default: Self::Default) -> Self::Value<'a>;
}

/// A key with a name.
pub trait Named {
    /// The definition of the key.
    fn definition(&self) -> KeyDefinition;
}

/// A key that can be read.
pub trait Readable: Named {
    /// `T` for a key with a default, otherwise `Option<T>`.
    type Output<'a>;

    /// Reads the value in a section.
    fn read<'a>(&self, section: Section<'a>) -> Self::Output<'a>;
}

/// A name in the configuration, and the value that it selects.
#[derive(Clone, Copy, Debug)]
pub struct Choice<E> {
    pub name: &'static str,
    pub value: E,
}

/// A type whose values have names in the configuration.
pub trait Choices: Copy + std::fmt::Debug + 'static {
    /// The value of this name.
    fn from_name(name: &str) -> Option<Self>;
}

/// Non-empty strings.
pub const TEXT: Typed<Text> = typed(Shape::Text);
/// Absolute paths of files that are read.
pub const FILE: Typed<FilePath> = typed(Shape::File);
/// `true` and `false`.
pub const FLAG: Typed<Flag> = typed(Shape::Bool);
/// Dates such as `"2026-09-01"`.
pub const DAY: Typed<Date> = typed(Shape::Day);
/// Lists of non-empty strings.
pub const TEXTS: Typed<Texts> = typed(Shape::Texts);
/// Tables of strings whose keys the operator chooses.
pub const MAP: Typed<Map> = typed(Shape::Map);
/// References to a secret.
pub const SECRET: Typed<Secret> = typed(Shape::Secret(None));
/// Tables of references to secrets whose keys the operator chooses.
pub const SECRETS: Typed<Secrets> = typed(Shape::Secrets);

/// A key that must be present. If it is missing, the hint contains the first sentence of its
/// description.
#[expect(clippy::needless_pass_by_value, reason = "a constant expression")]
pub const fn required<T>(name: &'static str, typed: Typed<T>, doc: &'static str) -> Key<T> {
    Key::new(name, typed.shape, Presence::Required, doc)
}

/// A key that can be omitted. `without` is the effect of that, as a phrase that completes "If it is
/// not set: …": "no limit".
#[expect(clippy::needless_pass_by_value, reason = "a constant expression")]
pub const fn optional<T>(
    name: &'static str,
    typed: Typed<T>,
    without: &'static str,
    doc: &'static str,
) -> Key<T> {
    Key::new(name, typed.shape, Presence::Optional(without), doc)
}

/// A key that can be omitted, and then has a default.
pub const fn defaulted<T: HasDefault>(
    name: &'static str,
    with_default: WithDefault<T>,
    doc: &'static str,
) -> KeyWithDefault<T> {
    let WithDefault { typed, default, shown } = with_default;
    KeyWithDefault { key: Key::new(name, typed.shape, Presence::Default(shown), doc), default }
}

/// References to a secret whose text must pass the check.
pub const fn checked_secret(check: SecretCheck) -> Typed<Secret> {
    typed(Shape::Secret(Some(check)))
}

/// Non-empty strings, or references to a secret whose text must pass the check, for values that are
/// secret at some receivers.
pub const fn text_or_secret(check: SecretCheck) -> Typed<TextOrSecret> {
    typed(Shape::TextOrSecret(check))
}

/// Integers from `min` to `max`.
pub const fn integer<I>(min: i64, max: i64) -> Typed<Integer<I>> {
    typed(Shape::Integer { min, max })
}

/// Durations from `min` to `max`.
pub const fn duration(min: Duration, max: Duration) -> Typed<Timespan> {
    typed(Shape::Duration { min, max })
}

/// Numbers of bytes from `min` to `max`.
pub const fn size(min: u64, max: u64) -> Typed<Size> {
    typed(Shape::Size { min, max })
}

/// One of these names, each of which is the name of an `E`.
pub const fn one_of<E>(choices: &'static [&'static str]) -> Typed<OneOf<E>> {
    typed(Shape::OneOf(choices))
}

/// A list of these names, each of which is the name of an `E`.
pub const fn many_of<E>(choices: &'static [&'static str]) -> Typed<ManyOf<E>> {
    typed(Shape::ManyOf(choices))
}

/// A table with these keys.
pub const fn section(keys: &'static [KeyDefinition]) -> Typed<SubSection> {
    typed(Shape::Table(keys))
}

/// A list of tables with these keys.
pub const fn sections(keys: &'static [KeyDefinition]) -> Typed<Sections> {
    typed(Shape::Tables(keys))
}

/// A list of tables whose shape must be [`Shape::Tagged`] with [`super::Many::List`].
pub const fn tagged_sections(shape: Shape) -> Typed<Sections> {
    typed(shape)
}

/// Tables by name, whose shape must be [`Shape::Tagged`] with [`super::Many::Named`].
pub const fn named_sections(shape: Shape) -> Typed<NamedSections> {
    typed(shape)
}

/// A name or a table, whose shape must be [`Shape::NameOrSection`] or [`Shape::OneOfOrTable`].
pub const fn name_or_section(shape: Shape) -> Typed<NameOrSection> {
    typed(shape)
}

const fn typed<T>(shape: Shape) -> Typed<T> {
    Typed { shape, kind: PhantomData }
}

impl<T> Key<T> {
    const fn new(name: &'static str, shape: Shape, presence: Presence, doc: &'static str) -> Self {
        let example = ExampleValue::OfKey;
        let definition = KeyDefinition { name, shape, presence, doc, example };
        Self { definition, kind: PhantomData }
    }

    /// The same key with this value in the example file: see [`ExampleValue::Written`].
    #[must_use]
    pub const fn example(self, value: &'static str) -> Self {
        Self { definition: self.definition.example(value), kind: PhantomData }
    }

    /// The definition of the key, for a list of keys.
    pub const fn define(&self) -> KeyDefinition {
        self.definition
    }

    /// The key as it is written in the file.
    pub const fn name(&self) -> &'static str {
        self.definition.name
    }
}

impl<T: HasDefault> KeyWithDefault<T> {
    /// The same key with this value in the example file, instead of its default: see
    /// [`ExampleValue::Written`].
    #[must_use]
    pub const fn example(self, value: &'static str) -> Self {
        let Self { key, default } = self;
        Self { key: key.example(value), default }
    }

    /// The definition of the key, for a list of keys.
    pub const fn define(&self) -> KeyDefinition {
        self.key.definition
    }

    /// The key as it is written in the file.
    pub const fn name(&self) -> &'static str {
        self.key.definition.name
    }

    /// The value of a section without the key.
    pub const fn default(&self) -> T::Default {
        self.default
    }
}

impl<T: HasDefault> WithDefault<T> {
    const fn new(typed: Typed<T>, default: T::Default, shown: DefaultValue) -> Self {
        Self { typed, default, shown }
    }
}

impl Typed<Text> {
    /// Adds a default.
    pub const fn or(self, default: &'static str) -> WithDefault<Text> {
        WithDefault::new(self, default, DefaultValue::Text(default))
    }
}

impl Typed<Flag> {
    /// Adds a default.
    pub const fn or(self, default: bool) -> WithDefault<Flag> {
        WithDefault::new(self, default, DefaultValue::Bool(default))
    }
}

impl Typed<Timespan> {
    /// Adds a default.
    pub const fn or(self, default: Duration) -> WithDefault<Timespan> {
        WithDefault::new(self, default, DefaultValue::Duration(default))
    }
}

impl Typed<Size> {
    /// Adds a default, in bytes.
    pub const fn or(self, default: usize) -> WithDefault<Size> {
        WithDefault::new(self, default, DefaultValue::Size(default as u64))
    }
}

impl Typed<NameOrSection> {
    /// Adds a default, which must be a name.
    pub const fn or(self, default: &'static str) -> WithDefault<NameOrSection> {
        WithDefault::new(self, default, DefaultValue::Text(default))
    }
}

impl<E: Choices> Typed<OneOf<E>> {
    /// Adds a default.
    pub const fn or(self, default: Choice<E>) -> WithDefault<OneOf<E>> {
        WithDefault::new(self, default.value, DefaultValue::Text(default.name))
    }
}

impl<T: KeyType> Named for Key<T> {
    fn definition(&self) -> KeyDefinition {
        self.definition
    }
}

impl<T: HasDefault> Named for KeyWithDefault<T> {
    fn definition(&self) -> KeyDefinition {
        self.key.definition
    }
}

impl Named for KeyDefinition {
    fn definition(&self) -> KeyDefinition {
        *self
    }
}

impl<T: KeyType> Readable for Key<T> {
    type Output<'a> = Option<T::Value<'a>>;

    fn read<'a>(&self, section: Section<'a>) -> Option<T::Value<'a>> {
        T::read(section.node(self.definition.name)?, section)
    }
}

impl<T: HasDefault> Readable for KeyWithDefault<T> {
    type Output<'a> = T::Value<'a>;

    fn read<'a>(&self, section: Section<'a>) -> T::Value<'a> {
        self.key.read(section).unwrap_or_else(|| T::default(self.default))
    }
}
