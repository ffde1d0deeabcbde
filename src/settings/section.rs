//! Reads the values of a section that [`super::check`] has checked.
//!
//! Reading must never report a fault: a value of the wrong shape reads as absent, because
//! [`super::check`] has already reported it. Start reading at [`Section::get`].

use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::{
    Faults, Named, Origin, Readable, SecretCheck, SecretRef, Span, Table,
    node::{Node, SetBy, Value},
};
use crate::error::Explanation;

/// One table of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    pub(super) table: &'a Table,
    pub(super) span: Span,
    faults: &'a Faults,
}

/// A reference to a secret and its origin.
#[derive(Clone, Debug)]
pub struct SecretUse {
    /// Where the secret is read from.
    pub reference: SecretRef,
    pub origin: Origin,
    pub(super) check: Option<SecretCheck>,
}

/// A file that the configuration names, other than that of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileUse {
    /// The path of the key, such as `sinks[0].ca_file`.
    pub key: String,
    /// The absolute path of the file.
    pub path: PathBuf,
    pub origin: Origin,
}

/// A text in a section, or in a table or list within it.
#[derive(Clone, Debug)]
pub struct SectionText<'a> {
    /// The key of the section that contains the text.
    pub key: &'a str,
    /// The path of the text in the section, such as `extra_fields.env`.
    pub path: String,
    pub text: &'a str,
    span: Span,
}

impl SecretUse {
    /// Why the secret cannot be used: it cannot be read, or its text does not pass the check of its
    /// key. The explanation does not contain the secret.
    pub fn problem(&self) -> Option<Explanation> {
        let secret = match self.reference.read() {
            Ok(secret) => secret,
            Err(error) => return Some(Explanation::of(&error)),
        };
        let Explanation { message, hint } = (self.check?)(secret.expose_secret()).err()?;
        Some(Explanation { message: format!("the secret in `{}` {message}", self.reference), hint })
    }
}

impl<'a> Section<'a> {
    /// The top level of the configuration, whose first source is the main file.
    pub fn root(table: &'a Table, faults: &'a Faults) -> Self {
        Self { table, span: Span { source: 0, start: 0, end: 0 }, faults }
    }

    /// The section of a value within this one; `None` if the value is not a table.
    pub(super) fn inside(&self, node: &'a Node) -> Option<Self> {
        Some(Self { table: node.table()?, span: node.span, faults: self.faults })
    }

    pub(super) fn node(&self, name: &str) -> Option<&'a Node> {
        self.table.get(name)
    }

    /// The value of a key. A key without a default is `None` if it is absent.
    pub fn get<K: Readable>(&self, key: &K) -> K::Output<'a> {
        key.read(*self)
    }

    /// Whether the key is present, with any value.
    pub fn has(&self, key: &impl Named) -> bool {
        self.node(key.definition().name).is_some()
    }

    /// Whether the section itself contains the key. A value that is inherited from `[defaults]`
    /// does not count.
    pub fn sets(&self, key: &impl Named) -> bool {
        self.node(key.definition().name).is_some_and(|node| node.set == SetBy::Table)
    }

    /// The origin of the value of a key, or of the section if the key is absent.
    pub fn origin(&self, key: &impl Named) -> Origin {
        self.faults.origin(self.span_of(key))
    }

    /// Reports a fault at the value of a key, or at the section if the key is absent.
    pub fn fault(&self, key: &impl Named, message: impl Into<String>) {
        self.fault_with(key, message.into(), None);
    }

    /// Like [`Self::fault`], with a hint.
    pub fn fault_with(&self, key: &impl Named, message: String, hint: Option<String>) {
        self.faults.at(self.span_of(key), message, hint);
    }

    /// All texts of the section, and of the tables and lists in it.
    pub fn texts(&self) -> Vec<SectionText<'a>> {
        let mut texts = Vec::new();
        for entry in self.table.entries() {
            add_texts(&entry.name, entry.name.clone(), &entry.value, &mut texts);
        }
        texts
    }

    /// Reports a fault at a text of the section.
    pub fn fault_at(&self, text: &SectionText<'_>, message: String, hint: Option<String>) {
        self.faults.at(text.span, message, hint);
    }

    /// Reports a problem that does not make the configuration invalid, at the value of a key.
    pub fn warn_with(&self, key: &impl Named, message: String, hint: Option<String>) {
        self.faults.warn(self.span_of(key), message, hint);
    }

    fn span_of(&self, key: &impl Named) -> Span {
        self.node(key.definition().name).map_or(self.span, |node| node.span)
    }
}

/// Adds the texts of a value.
fn add_texts<'a>(key: &'a str, path: String, node: &'a Node, texts: &mut Vec<SectionText<'a>>) {
    match &node.value {
        Value::Text(text) => texts.push(SectionText { key, path, text, span: node.span }),
        Value::List(items) => {
            for item in items {
                add_texts(key, path.clone(), item, texts);
            }
        }
        Value::Table(table) => {
            for entry in table.entries() {
                add_texts(key, format!("{path}.{}", entry.name), &entry.value, texts);
            }
        }
        Value::Bool(_) | Value::Integer(_) | Value::DateTime | Value::Float => {}
    }
}
