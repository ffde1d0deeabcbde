//! The types of values that a key can have, and how each is read. Reading must never report a
//! fault: a value of the wrong shape reads as absent, because `settings::check` has reported it.
//! Start reading at [`Text`].

use std::{collections::BTreeMap, marker::PhantomData, path::PathBuf, time::Duration};

use super::{Choices, HasDefault, KeyType, Typed, WithDefault};
use crate::{
    model::Day,
    settings::{DefaultValue, SecretRef, Section, node::Node, parse_duration, parse_size},
};

/// A text, or the reference to a secret that contains it.
#[derive(Clone, Debug)]
pub enum TextOrSecretValue<'a> {
    Text(&'a str),
    Secret(SecretRef),
}

/// The name of something defined elsewhere, or a section that defines it.
#[derive(Clone, Copy, Debug)]
pub enum NameOrSectionValue<'a> {
    Name(&'a str),
    Section(Section<'a>),
}

/// A non-empty string, as `&str`.
#[derive(Debug)]
pub struct Text;
/// The absolute path of a file that is read, as `PathBuf`.
#[derive(Debug)]
pub struct FilePath;
/// `true` or `false`, as `bool`.
#[derive(Debug)]
pub struct Flag;
/// An integer, as `I`.
#[derive(Debug)]
pub struct Integer<I>(PhantomData<I>);
/// A duration, as `Duration`.
#[derive(Debug)]
pub struct Timespan;
/// A number of bytes, as `usize`.
#[derive(Debug)]
pub struct Size;
/// A date, as `Day`.
#[derive(Debug)]
pub struct Date;
/// One of several names, as `E`.
#[derive(Debug)]
pub struct OneOf<E>(PhantomData<E>);
/// Some of several names, as `Vec<E>`.
#[derive(Debug)]
pub struct ManyOf<E>(PhantomData<E>);
/// A list of strings, as `Vec<&str>`.
#[derive(Debug)]
pub struct Texts;
/// A table of strings, as `BTreeMap<String, String>`.
#[derive(Debug)]
pub struct Map;
/// A reference to a secret, as `SecretRef`.
#[derive(Debug)]
pub struct Secret;
/// References to secrets by name, as `Vec<(&str, SecretRef)>`.
#[derive(Debug)]
pub struct Secrets;
/// A string or a reference to a secret, as [`TextOrSecretValue`].
#[derive(Debug)]
pub struct TextOrSecret;
/// A table, as `Section`.
#[derive(Debug)]
pub struct SubSection;
/// A list of tables, as `Vec<Section>`.
#[derive(Debug)]
pub struct Sections;
/// Tables by name, as `Vec<(&str, Section)>`.
#[derive(Debug)]
pub struct NamedSections;
/// A name or a table, as [`NameOrSectionValue`]. The default, if there is one, is a name.
#[derive(Debug)]
pub struct NameOrSection;

/// The types whose default is a constant of the type that they are read as, each with that type
/// and, for a generic one, the bound of its parameter.
macro_rules! defaults_as_read {
    ($($kind:ty => $default:ty $(, $parameter:ident: $bound:ident)?;)*) => {$(
        impl$(<$parameter: $bound>)? HasDefault for $kind {
            type Default = $default;

            fn default<'a>(default: $default) -> Self::Value<'a> {
                default
            }
        }
    )*};
}
defaults_as_read! {
    Text => &'static str;
    Flag => bool;
    Timespan => Duration;
    Size => usize;
    OneOf<E> => E, E: Choices;
}

impl KeyType for Text {
    type Value<'a> = &'a str;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<&'a str> {
        non_empty(node)
    }
}

impl KeyType for FilePath {
    type Value<'a> = PathBuf;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<PathBuf> {
        non_empty(node).map(PathBuf::from)
    }
}

impl KeyType for Flag {
    type Value<'a> = bool;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<bool> {
        node.bool()
    }
}

impl KeyType for Timespan {
    type Value<'a> = Duration;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<Duration> {
        parse_duration(node.text()?)
    }
}

impl KeyType for Size {
    type Value<'a> = usize;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<usize> {
        parse_size(node.text()?).and_then(|size| size.try_into().ok())
    }
}

impl KeyType for Date {
    type Value<'a> = Day;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<Day> {
        Day::parse(node.text()?)
    }
}

impl<E: Choices> KeyType for OneOf<E> {
    type Value<'a> = E;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<E> {
        E::from_name(node.text()?)
    }
}

impl<E: Choices> KeyType for ManyOf<E> {
    type Value<'a> = Vec<E>;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<Vec<E>> {
        let names = node.list()?.iter().filter_map(Node::text);
        Some(names.filter_map(E::from_name).collect())
    }
}

impl KeyType for Texts {
    type Value<'a> = Vec<&'a str>;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<Vec<&'a str>> {
        Some(node.list()?.iter().filter_map(Node::text).collect())
    }
}

impl KeyType for Map {
    type Value<'a> = BTreeMap<String, String>;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<BTreeMap<String, String>> {
        let entries = node.table()?.entries().iter();
        Some(
            entries
                .filter_map(|entry| Some((entry.name.clone(), entry.value.text()?.to_owned())))
                .collect(),
        )
    }
}

impl KeyType for Secret {
    type Value<'a> = SecretRef;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<SecretRef> {
        SecretRef::of(node)
    }
}

impl KeyType for Secrets {
    type Value<'a> = Vec<(&'a str, SecretRef)>;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<Vec<(&'a str, SecretRef)>> {
        let entries = node.table()?.entries().iter();
        Some(
            entries
                .filter_map(|entry| Some((entry.name.as_str(), SecretRef::of(&entry.value)?)))
                .collect(),
        )
    }
}

impl KeyType for TextOrSecret {
    type Value<'a> = TextOrSecretValue<'a>;

    fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<TextOrSecretValue<'a>> {
        let text = non_empty(node).map(TextOrSecretValue::Text);
        text.or_else(|| SecretRef::of(node).map(TextOrSecretValue::Secret))
    }
}

impl KeyType for SubSection {
    type Value<'a> = Section<'a>;

    fn read<'a>(node: &'a Node, section: Section<'a>) -> Option<Section<'a>> {
        section.inside(node)
    }
}

impl KeyType for Sections {
    type Value<'a> = Vec<Section<'a>>;

    fn read<'a>(node: &'a Node, section: Section<'a>) -> Option<Vec<Section<'a>>> {
        Some(node.list()?.iter().filter_map(|item| section.inside(item)).collect())
    }
}

impl KeyType for NamedSections {
    type Value<'a> = Vec<(&'a str, Section<'a>)>;

    fn read<'a>(node: &'a Node, section: Section<'a>) -> Option<Vec<(&'a str, Section<'a>)>> {
        let entries = node.table()?.entries().iter();
        Some(
            entries
                .filter_map(|entry| Some((entry.name.as_str(), section.inside(&entry.value)?)))
                .collect(),
        )
    }
}

impl KeyType for NameOrSection {
    type Value<'a> = NameOrSectionValue<'a>;

    fn read<'a>(node: &'a Node, section: Section<'a>) -> Option<NameOrSectionValue<'a>> {
        let name = non_empty(node).map(NameOrSectionValue::Name);
        name.or_else(|| section.inside(node).map(NameOrSectionValue::Section))
    }
}

impl HasDefault for NameOrSection {
    type Default = &'static str;

    fn default<'a>(default: &'static str) -> Self::Value<'a> {
        NameOrSectionValue::Name(default)
    }
}

/// The text of a value. An empty one has the wrong shape, so it reads as absent.
fn non_empty(node: &Node) -> Option<&str> {
    node.text().filter(|text| !text.is_empty())
}

/// The types of integers that a key can have.
macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Typed<Integer<$integer>> {
            /// Adds a default.
            #[allow(clippy::cast_lossless, clippy::cast_possible_wrap, reason = "a small constant")]
            pub const fn or(self, default: $integer) -> WithDefault<Integer<$integer>> {
                WithDefault::new(self, default, DefaultValue::Integer(default as i64))
            }
        }

        impl KeyType for Integer<$integer> {
            type Value<'a> = $integer;

            fn read<'a>(node: &'a Node, _: Section<'a>) -> Option<$integer> {
                node.integer().and_then(|integer| integer.try_into().ok())
            }
        }

        defaults_as_read!(Integer<$integer> => $integer;);
    )*};
}
integers!(i32, u32, usize);
