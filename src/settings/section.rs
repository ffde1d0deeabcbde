//! Reads the values of a section that [`super::check`] has checked.
//!
//! A value of the wrong shape reads as absent, because its fault has already been reported.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Faults, Location, Origin, SecretRef, parse_duration, parse_size};
use crate::model::Day;

/// A parsed TOML file.
#[derive(Debug)]
pub struct Document<'a> {
    root: Spanned<DeTable<'a>>,
}

/// One table of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    pub(super) table: &'a DeTable<'a>,
    span: (usize, usize),
    faults: &'a Faults,
}

/// A reference to a secret and its location.
#[derive(Clone, Debug)]
pub struct SecretUse {
    /// Where the secret is read from.
    pub reference: SecretRef,
    /// The path of the configuration file that contains the reference, as given.
    pub file: String,
    pub location: Location,
}

/// A file that the configuration names, other than that of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileUse {
    /// The absolute path of the file.
    pub path: PathBuf,
    pub origin: Origin,
}

impl<'a> Document<'a> {
    /// Parses TOML text. If it is not valid, reports the fault and returns `None`.
    pub fn parse(text: &'a str, faults: &Faults) -> Option<Self> {
        match DeTable::parse(text) {
            Ok(root) => Some(Self { root }),
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                faults.at(span, error.message().replace('\n', ", "), None);
                None
            }
        }
    }

    /// The top level of the document.
    pub fn section(&'a self, faults: &'a Faults) -> Section<'a> {
        Section { table: self.root.get_ref(), span: (0, 0), faults }
    }
}

impl<'a> Section<'a> {
    /// The section of a value; `None` if the value is not a table.
    pub(super) fn new(value: &'a Spanned<DeValue<'a>>, faults: &'a Faults) -> Option<Self> {
        let Range { start, end } = value.span();
        Some(Self { table: value.get_ref().as_table()?, span: (start, end), faults })
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// Whether the key is present, with any value.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The string value of a key.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.get_ref().as_str()
    }

    /// The path that a key contains; a relative path is not resolved.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// The Boolean value of a key.
    pub fn bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.get_ref().as_bool()
    }

    /// The integer value of a key.
    pub fn integer(&self, key: &str) -> Option<i64> {
        integer(self.get(key)?.get_ref())
    }

    /// The duration that a key contains as text, such as `5m`.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        parse_duration(self.text(key)?)
    }

    /// The size in bytes that a key contains as text, such as `10GiB`.
    pub fn size(&self, key: &str) -> Option<u64> {
        parse_size(self.text(key)?)
    }

    /// The day that a key contains as `YYYY-MM-DD`.
    pub fn day(&self, key: &str) -> Option<Day> {
        Day::parse(self.text(key)?)
    }

    /// The strings of a list.
    pub fn texts(&self, key: &str) -> Option<Vec<&'a str>> {
        let values = self.get(key)?.get_ref().as_array()?;
        Some(values.iter().filter_map(|value| value.get_ref().as_str()).collect())
    }

    /// The entries of a table of strings; empty if the key is absent.
    pub fn map(&self, key: &str) -> BTreeMap<String, String> {
        let table = self.get(key).and_then(|value| value.get_ref().as_table());
        let pairs = table.into_iter().flat_map(DeTable::iter);
        pairs
            .filter_map(|(k, v)| Some((k.get_ref().to_string(), v.get_ref().as_str()?.to_owned())))
            .collect()
    }

    /// The reference to a secret.
    pub fn secret(&self, key: &str) -> Option<SecretRef> {
        let reference = self.section(key)?;
        let credential =
            reference.text("credential").map(|name| SecretRef::Credential(name.to_owned()));
        let file = reference.path("file").map(SecretRef::File);
        let env = reference.text("env").map(|name| SecretRef::Env(name.to_owned()));
        credential.or(file).or(env)
    }

    /// The entries of a table of references to secrets.
    pub fn secret_map(&self, key: &str) -> Vec<(&'a str, SecretRef)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let names = section.table.iter().map(|(name, _)| name.get_ref().as_ref());
        names.filter_map(|name| Some((name, section.secret(name)?))).collect()
    }

    /// Every reference to a secret in this section and in the sections within it.
    pub fn secrets(&self) -> Vec<SecretUse> {
        let mut uses = Vec::new();
        for (name, value) in self.table {
            let key = name.get_ref();
            // The operator chooses the keys of these tables, so a table can look like a reference
            // to a secret.
            if matches!(key.as_ref(), "labels" | "extra_fields") {
                continue;
            }

            if let Some(reference) = self.secret(key)
                && value.get_ref().as_table().is_some_and(|table| table.len() == 1)
            {
                uses.push(SecretUse {
                    reference,
                    file: self.faults.file().to_owned(),
                    location: self.location(key),
                });
            } else if let Some(inner) = self.section(key) {
                uses.extend(inner.secrets());
            } else {
                uses.extend(self.sections(key).iter().flat_map(Self::secrets));
            }
        }
        uses
    }

    /// The location of the value of a key, or of the section if the key is absent.
    pub fn location(&self, key: &str) -> Location {
        self.faults.location(self.get(key).map_or(self.span.0, |value| value.span().start))
    }

    /// The location of the value of a key, or of the section if the key is absent, with its file.
    pub fn origin(&self, key: &str) -> Origin {
        Origin { file: self.faults.file().to_owned(), location: self.location(key) }
    }

    /// The tables within the table of a key, with their names.
    pub fn named(&self, key: &str) -> Vec<(&'a str, Self)> {
        let table = self.get(key).and_then(|value| value.get_ref().as_table());
        let items = table.into_iter().flat_map(DeTable::iter);
        items
            .filter_map(|(name, value)| {
                Some((name.get_ref().as_ref(), Self::new(value, self.faults)?))
            })
            .collect()
    }

    /// The list to which faults of this section are added.
    pub fn faults(&self) -> &'a Faults {
        self.faults
    }

    /// The table of a key.
    pub fn section(&self, key: &str) -> Option<Self> {
        Self::new(self.get(key)?, self.faults)
    }

    /// The tables of a list.
    pub fn sections(&self, key: &str) -> Vec<Self> {
        let list = self.get(key).and_then(|value| value.get_ref().as_array());
        list.into_iter()
            .flat_map(|list| list.iter())
            .filter_map(|value| Self::new(value, self.faults))
            .collect()
    }

    /// Reports a fault at the value of a key, or at the section if the key is absent.
    pub fn fault(&self, key: &str, message: impl Into<String>) {
        self.fault_with(key, message.into(), None);
    }

    /// Like [`Self::fault`], with a hint.
    pub fn fault_with(&self, key: &str, message: String, hint: Option<String>) {
        let span = self.get(key).map_or(self.span.0..self.span.1, Spanned::span);
        self.faults.at(span, message, hint);
    }

    /// Reports a problem that does not make the configuration invalid, at the value of a key.
    pub fn warn_with(&self, key: &str, message: String, hint: Option<String>) {
        let span = self.get(key).map_or(self.span.0..self.span.1, Spanned::span);
        self.faults.warn(span, message, hint);
    }
}

/// The value of an integer in any radix that TOML allows.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let written = value.as_integer()?;
    i64::from_str_radix(written.as_str(), written.radix()).ok()
}
