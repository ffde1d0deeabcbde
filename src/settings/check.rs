//! Checks every key and value of a section against its table of keys.
//!
//! All faults are reported, each with its location and, if there is one, the most similar known
//! name. The value of a secret is never part of a message.

mod part_path;
mod scalar;

use std::{cell::RefCell, path::Path};

use part_path::PartPath;
pub(super) use scalar::between;
use scalar::{as_phrase, expected_scalar, is_valid_scalar};

use super::{
    Faults, FileUse, KeyDefinition, Many, SecretCheck, SecretRef, SecretUse, Section, Shape, Span,
    Table, Variant,
    absolute::require_absolute,
    hidden::HiddenCharacter,
    node::{Node, SetBy, Value},
};
use crate::text::nearest;

/// What a configuration refers to.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// The files that are named, except those of secrets.
    pub files: Vec<FileUse>,
    pub secrets: Vec<SecretUse>,
}

/// Reports every unknown key, wrong shape, unknown value and missing key of a section. Returns what
/// the section refers to.
pub fn check(section: &Section<'_>, keys: &[KeyDefinition], faults: &Faults) -> References {
    let references = RefCell::default();
    let checker = Checker { faults, references: &references, path: PartPath::default() };
    checker.table(section.table, section.span, &refs(keys), None);
    references.into_inner()
}

/// Reports every key at the top level of a file that is not one of `keys`. The values are not
/// checked.
pub fn check_names(table: &Table, keys: &[KeyDefinition], faults: &Faults) {
    let references = RefCell::default();
    let checker = Checker { faults, references: &references, path: PartPath::default() };
    for (name, span) in table.names().filter(|(name, _)| !keys.iter().any(|k| k.name == *name)) {
        checker.unknown_key(name, span, &refs(keys));
    }
}

/// Checks one part of the document.
struct Checker<'a> {
    faults: &'a Faults,
    /// What the parts that were checked so far refer to.
    references: &'a RefCell<References>,
    /// The path of that part.
    path: PartPath,
}

/// The variant that the tag of a table selects, and all variants of the tag.
#[derive(Clone, Copy)]
struct SelectedVariant<'a> {
    tag: &'a str,
    name: &'a str,
    all: &'a [Variant],
}

impl Checker<'_> {
    /// Checks a table at a span: its unknown keys, values and missing keys. `variant` is `None` for
    /// a table without a tag.
    fn table(
        &self,
        table: &Table,
        span: Span,
        keys: &[&KeyDefinition],
        variant: Option<SelectedVariant<'_>>,
    ) {
        for entry in table.entries() {
            let (name, value) = (entry.name.as_str(), &entry.value);
            let inner = self.inside(name);
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                self.unknown_key(name, entry.name_span, keys);
                continue;
            };

            // An inherited value has been checked in `[defaults]`, where its fault is.
            if value.set == SetBy::Defaults {
                continue;
            }
            let choices = variant.and_then(|variant| variant.alternatives_to(key, value));
            match (variant, choices) {
                (Some(variant), Some(choices)) => inner.unavailable(value, variant, choices),
                _ => inner.value(value, entry.name_span, key.shape),
            }
        }

        for key in keys.iter().filter(|key| key.is_required()) {
            if table.get(key.name).is_none() {
                let inner = self.inside(key.name);
                let path = inner.shown(span);
                let hint = format!("set `{}` to {}", key.name, as_phrase(key.doc));
                self.faults.at(span, format!("`{path}` is missing"), Some(hint));
            }
        }
    }

    fn unknown_key(&self, name: &str, span: Span, keys: &[&KeyDefinition]) {
        let inner = self.inside(name);
        let path = inner.shown(span);
        // A reserved key is not supported, so it is not offered either.
        let offered = keys.iter().filter(|key| !matches!(key.shape, Shape::Reserved));
        let hint = nearest(name, offered.map(|key| key.name)).map(|near| format!("use `{near}`"));
        self.faults.at(span, format!("unknown key `{path}`"), hint);
    }

    /// Checks a value against the shape of its key. `name` is the span of the key.
    fn value(&self, value: &Node, name: Span, shape: Shape) {
        match shape {
            Shape::Reserved => {
                let message = format!("`{}` is not supported by this version", self.shown(name));
                self.faults.at(name, message, None);
            }
            Shape::Table(keys) => self.table_of(value, keys),
            Shape::Tables(keys) => self.each(value, |checker, item| checker.table_of(item, keys)),

            Shape::NameOrSection(_) | Shape::TextOrSecret(_) if value.text().is_some() => {
                self.scalar(value, Shape::Text);
            }
            Shape::NameOrSection(shape) => self.value(value, name, *shape),
            Shape::Tagged { tag, many, keys, variants } => {
                self.tables(value, many, |checker, table, span| {
                    checker.tagged(table, span, tag, keys, &variants());
                });
            }

            Shape::Secret(check) => self.secret(value, check),
            Shape::TextOrSecret(check) => self.secret(value, Some(check)),
            Shape::Secrets => self.each_entry(value, |checker, item| checker.secret(item, None)),
            Shape::OneOfOrTable { keys, .. } if value.table().is_some() => {
                self.table_of(value, keys);
            }

            Shape::OneOfOrTable { rejected, .. }
                if value.text().is_some_and(|text| rejected.contains(&text)) => {}
            Shape::OneOf(choices) | Shape::OneOfOrTable { choices, .. } => {
                self.choice(value, choices);
            }
            Shape::ManyOf(choices) => {
                self.each(value, |checker, item| checker.choice(item, choices));
            }
            Shape::Map => self.each_entry(value, Self::entry),
            Shape::Texts => self.each(value, |checker, item| checker.scalar(item, Shape::Text)),
            Shape::File => self.file(value),
            scalar => self.scalar(value, scalar),
        }
    }

    /// Checks the one table, or every table, of a key with the shape [`Shape::Tagged`].
    fn tables(&self, value: &Node, many: Many, check: impl Fn(&Self, &Table, Span)) {
        let check = |checker: &Self, item: &Node| {
            checker.with_table(item, |checker, table| check(checker, table, item.span));
        };

        match many {
            Many::One => check(self, value),
            Many::List => self.each(value, check),
            Many::Named => self.each_entry(value, check),
        }
    }

    /// Checks a table without a tag.
    fn table_of(&self, value: &Node, keys: &[KeyDefinition]) {
        self.with_table(value, |checker, table| {
            checker.table(table, value.span, &refs(keys), None);
        });
    }

    /// Checks a value that is neither a table nor a list.
    fn scalar(&self, value: &Node, shape: Shape) {
        if is_valid_scalar(value, shape) {
            return self.warn_of_hidden(value);
        }
        let expected = expected_scalar(value, shape);
        let is_date = matches!(value.value, Value::DateTime);
        let hint = is_date.then(|| "put the date in quotes".to_owned());
        let message = format!("`{}` must be {expected}", self.shown(value.span));
        self.faults.at(value.span, message, hint);
    }

    /// Adds a warning if a text contains a character that is not shown, or begins or ends with a
    /// space, because the value then differs from the one that the reader sees.
    fn warn_of_hidden(&self, value: &Node) {
        let text = value.text().unwrap_or_default();
        let problem = match HiddenCharacter::in_value(text) {
            Some(hidden) => format!("contains {hidden}"),
            None if text.starts_with(' ') => "begins with a space".to_owned(),
            None if text.ends_with(' ') => "ends with a space".to_owned(),
            None => return,
        };
        let message = format!("`{}` {problem}", self.shown(value.span));
        let hint = "write the value again without this character";
        self.faults.warn(value.span, message, Some(hint.to_owned()));
    }

    /// Checks a value of a table of strings. A period in a name that is not in quotes creates
    /// another table.
    fn entry(&self, value: &Node) {
        let hint = match value.value {
            Value::Table(_) => "put a name with periods in quotes",
            Value::Bool(_) | Value::Integer(_) => "put the value in quotes",
            _ => return self.scalar(value, Shape::Text),
        };
        let message = format!("`{}` must be a non-empty string", self.shown(value.span));
        self.faults.at(value.span, message, Some(hint.to_owned()));
    }

    /// Checks the path of a file, and adds it to the files that are named.
    fn file(&self, value: &Node) {
        let text = value.text().unwrap_or_default();
        if text.is_empty() {
            return self.scalar(value, Shape::Text);
        }
        if let Err(fault) = require_absolute(self.shown(value.span), Path::new(text)) {
            return self.faults.at(value.span, fault.message, fault.hint);
        }

        self.warn_of_hidden(value);
        let origin = self.faults.origin(value.span);
        let (key, path) = (self.shown(value.span).to_owned(), Path::new(text).to_owned());
        let named = FileUse { key, path, origin };
        self.references.borrow_mut().files.push(named);
    }

    /// Checks a value that must be one of a few names.
    fn choice(&self, value: &Node, choices: &[&str]) {
        let text = value.text().unwrap_or_default();
        if !choices.contains(&text) {
            self.unknown_value(value, text, choices.iter().copied());
        }
    }

    /// Checks a table whose keys are the common ones and those of the variant that its tag names.
    fn tagged(
        &self,
        table: &Table,
        span: Span,
        tag: &str,
        keys: &[KeyDefinition],
        variants: &[Variant],
    ) {
        let tagged = table.get(tag);
        let name = tagged.and_then(Node::text);
        let variant = name.and_then(|name| variants.iter().find(|variant| variant.name == name));

        match (tagged, variant) {
            (Some(value), Some(Variant { name, keys: None, .. })) => {
                // The keys of a variant that is not part of this build are unknown, so they are not
                // checked.
                self.inside(tag).not_built(value, name);
            }
            (_, Some(Variant { name, keys: Some(own), .. })) => {
                let keys: Vec<&KeyDefinition> = keys.iter().chain(own.iter()).collect();
                let selected = SelectedVariant { tag, name, all: variants };
                self.table(table, span, &keys, Some(selected));
            }
            (Some(value), None) => {
                let known = variants
                    .iter()
                    .filter(|variant| variant.keys.is_some())
                    .map(|variant| variant.name);
                self.inside(tag).unknown_value(value, name.unwrap_or_default(), known);
                self.common(table, keys);
            }
            (None, _) => {
                let message = format!("`{}` is missing", self.inside(tag).shown(span));
                self.faults.at(span, message, None);
                self.common(table, keys);
            }
        }
    }

    /// Checks the common keys of a table whose tag is missing or unknown. Other keys are not
    /// checked, because each variant has its own.
    fn common(&self, table: &Table, keys: &[KeyDefinition]) {
        for entry in table.entries().iter().filter(|entry| entry.value.set == SetBy::Table) {
            if let Some(key) = keys.iter().find(|key| key.name == entry.name) {
                self.inside(key.name).value(&entry.value, entry.name_span, key.shape);
            }
        }
    }

    /// Checks a reference to a secret: a table with one known key. The text of the secret is
    /// checked later, when it is read.
    fn secret(&self, value: &Node, check: Option<SecretCheck>) {
        let hint = "write { credential = \"name\" }, { file = \"/path\" } or { env = \"NAME\" }";

        let one = match value.table().map(Table::entries) {
            Some([one]) => Some(one),
            _ => None,
        };
        let target = one.filter(|one| SecretRef::kinds().any(|kind| kind == one.name));
        let target = target.and_then(|one| one.value.text()).filter(|target| !target.is_empty());

        match (target, SecretRef::of(value)) {
            (Some(target), Some(SecretRef::File(path))) if path.is_relative() => {
                let name = format!("{}.file", self.shown(value.span));
                if let Err(fault) = require_absolute(&name, Path::new(target)) {
                    self.faults.at(value.span, fault.message, fault.hint);
                }
            }
            (Some(_), Some(reference)) => {
                if let Some(one) = one {
                    self.inside(&one.name).warn_of_hidden(&one.value);
                }
                let origin = self.faults.origin(value.span);
                self.references.borrow_mut().secrets.push(SecretUse { reference, origin, check });
            }
            _ => {
                // The value is not printed: it may be the secret itself.
                let path = self.shown(value.span);
                let message = if value.text().is_some() {
                    format!("`{path}` must refer to a secret, not contain it")
                } else {
                    format!("`{path}` must be a reference to one secret")
                };
                self.faults.at(value.span, message, Some(hint.to_owned()));
            }
        }
    }

    fn not_built(&self, value: &Node, name: &str) {
        self.faults.at(
            value.span,
            format!("`{} = \"{name}\"` is not supported by this build", self.shown(value.span)),
            Some(format!("build with `--features {name}`")),
        );
    }

    /// Reports a value that is valid, but not for the selected variant.
    fn unavailable(&self, value: &Node, variant: SelectedVariant<'_>, choices: &[&str]) {
        let text = value.text().unwrap_or_default();
        let SelectedVariant { tag, name, .. } = variant;
        let path = self.shown(value.span);
        let message = format!("`{path} = \"{text}\"` is not available for `{tag} = \"{name}\"`");
        let hint = format!("use one of: {}", choices.join(", "));
        self.faults.at(value.span, message, Some(hint));
    }

    fn unknown_value<'b>(&self, value: &Node, text: &str, known: impl Iterator<Item = &'b str>) {
        let known: Vec<&str> = known.collect();
        let path = self.shown(value.span);
        let message = format!("`{path}` must be one of: {}", known.join(", "));
        let hint = nearest(text, known).map(|near| format!("use `{near}`"));
        self.faults.at(value.span, message, hint);
    }

    /// Checks every item of a list. The lists of several files are joined; an item has the index
    /// that it has in its file.
    fn each(&self, value: &Node, check: impl Fn(&Self, &Node)) {
        let Some(list) = value.list() else {
            let is_table = value.table().is_some();
            let path = self.shown(value.span);
            let hint = is_table.then(|| format!("write [[{path}]] with double brackets"));
            return self.faults.at(value.span, format!("`{path}` must be a list"), hint);
        };

        let (mut source, mut first) = (None, 0);
        for (index, item) in list.iter().enumerate() {
            if source != Some(item.span.source) {
                (source, first) = (Some(item.span.source), index);
            }
            check(&self.at(self.path.item(index - first, item)), item);
        }
    }

    /// Checks every value of a table whose keys the operator chooses.
    fn each_entry(&self, value: &Node, check: impl Fn(&Self, &Node)) {
        self.with_table(value, |checker, table| {
            for entry in table.entries() {
                check(&checker.inside(&entry.name), &entry.value);
            }
        });
    }

    fn with_table(&self, value: &Node, check: impl FnOnce(&Self, &Table)) {
        if let Some(table) = value.table() {
            check(self, table);
        } else {
            let message = format!("`{}` must be a table", self.shown(value.span));
            self.faults.at(value.span, message, None);
        }
    }

    /// The path of this part in a message about a value at this span.
    fn shown(&self, span: Span) -> &str {
        if self.faults.is_variable(span) { self.path.named() } else { self.path.indexed() }
    }

    /// The checker of a key within this part.
    fn inside(&self, key: &str) -> Self {
        self.at(self.path.inside(key))
    }

    /// The checker of the part at this path.
    fn at(&self, path: PartPath) -> Self {
        Self { faults: self.faults, references: self.references, path }
    }
}

impl SelectedVariant<'_> {
    /// The choices of a key of this variant if its value is not one of them, and another variant
    /// accepts the value for the key of the same name; `None` in all other cases.
    fn alternatives_to(self, key: &KeyDefinition, value: &Node) -> Option<&'static [&'static str]> {
        let Shape::OneOf(choices) = key.shape else { return None };
        let text = value.text()?;

        let accepts = |other: &KeyDefinition| {
            other.name == key.name
                && matches!(other.shape, Shape::OneOf(known) if known.contains(&text))
        };
        let mut others = self.all.iter().filter_map(|variant| variant.keys).flatten();
        (!choices.contains(&text) && others.any(accepts)).then_some(choices)
    }
}

fn refs(keys: &[KeyDefinition]) -> Vec<&KeyDefinition> {
    keys.iter().collect()
}

#[cfg(test)]
mod tests;
