//! Checks every key and value of a section against its table of keys.
//!
//! All faults are reported, each with its location and, if there is one, the most similar known
//! name. The value of a secret is never part of a message.

use std::{cell::RefCell, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Faults, FileUse, Key, Many, Section, Shape, Variant, parse_duration, parse_size,
    section::integer,
};
use crate::model::Day;

/// Reports every unknown key, wrong shape, unknown value and missing key of a section. Returns the
/// files that the section names, except those of secrets; see [`Section::secrets`].
pub fn check(section: &Section<'_>, keys: &[Key], faults: &Faults) -> Vec<FileUse> {
    let files = RefCell::default();
    let checker = Checker { faults, files: &files, path: String::new() };
    checker.table(section.table, 0..0, &refs(keys), None);
    files.into_inner()
}

/// The hint for a relative path.
const ABSOLUTE: &str = "write the path from the root directory, because the service does not run in your working directory";

/// Checks one part of the document.
struct Checker<'a> {
    faults: &'a Faults,
    /// The files that the parts that were checked so far name.
    files: &'a RefCell<Vec<FileUse>>,
    /// The path of that part as messages show it, such as `sinks[0].tls`.
    path: String,
}

/// The variant that the tag of a table selects, and all variants of the tag.
#[derive(Clone, Copy)]
struct SelectedVariant<'a> {
    tag: &'a str,
    name: &'a str,
    all: &'a [Variant],
}

impl Checker<'_> {
    /// Checks a table at a span of the document: its unknown keys, values and missing keys.
    /// `variant` is `None` for a table without a tag.
    fn table(
        &self,
        table: &DeTable<'_>,
        span: std::ops::Range<usize>,
        keys: &[&Key],
        variant: Option<SelectedVariant<'_>>,
    ) {
        for (name, value) in table {
            let inner = self.inside(name.get_ref());
            let Some(key) = keys.iter().find(|key| key.name == name.get_ref()) else {
                self.unknown_key(name, keys);
                continue;
            };

            let choices = variant.and_then(|variant| variant.alternatives_to(key, value.get_ref()));
            match (variant, choices) {
                (Some(variant), Some(choices)) => inner.unavailable(value, variant, choices),
                _ => inner.value(value, name, key.shape),
            }
        }

        for key in keys.iter().filter(|key| key.required) {
            if !table.iter().any(|(name, _)| name.get_ref() == key.name) {
                let path = self.inside(key.name).path;
                let hint = format!("set `{}` to {}", key.name, as_phrase(key.doc));
                self.faults.at(span.clone(), format!("`{path}` is missing"), Some(hint));
            }
        }
    }

    fn unknown_key(&self, name: &Spanned<std::borrow::Cow<'_, str>>, keys: &[&Key]) {
        let path = self.inside(name.get_ref()).path;
        // A reserved key is not supported, so it is not offered either.
        let offered = keys.iter().filter(|key| !matches!(key.shape, Shape::Reserved));
        let nearest = nearest(name.get_ref(), offered.map(|key| key.name));
        let hint = nearest.map(|near| format!("use `{near}`"));
        self.faults.at(name.span(), format!("unknown key `{path}`"), hint);
    }

    /// Checks the value of the key `name` against the shape of the key.
    fn value(
        &self,
        value: &Spanned<DeValue<'_>>,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        shape: Shape,
    ) {
        let read = value.get_ref();

        match shape {
            Shape::Reserved => {
                let message = format!("`{}` is not supported by this version", self.path);
                self.faults.at(name.span(), message, None);
            }
            Shape::Table(keys) => {
                self.with_table(value, |checker, table| {
                    checker.table(table, value.span(), &refs(keys), None);
                });
            }
            Shape::Tables(keys) => self.each(value, |checker, item| {
                checker.with_table(item, |checker, table| {
                    checker.table(table, item.span(), &refs(keys), None);
                });
            }),

            Shape::NameOr(_) | Shape::TextOrSecret if read.is_str() => {
                self.scalar(value, Shape::Text);
            }
            Shape::NameOr(shape) => self.value(value, name, *shape),
            Shape::Tagged { tag, many, keys, variants } => {
                self.tables(value, many, |checker, table, span| {
                    checker.tagged(table, span, tag, keys, &variants());
                });
            }

            Shape::Secret | Shape::TextOrSecret => self.secret(value),
            Shape::Secrets => self.with_table(value, |checker, table| {
                table.iter().for_each(|(name, value)| checker.inside(name.get_ref()).secret(value));
            }),
            Shape::OneOfOrTable { keys, .. } if read.is_table() => {
                self.value(value, name, Shape::Table(keys));
            }

            Shape::OneOfOrTable { rejected, .. }
                if read.as_str().is_some_and(|text| rejected.contains(&text)) => {}
            Shape::OneOf(choices) | Shape::OneOfOrTable { choices, .. } => {
                self.choice(value, choices);
            }
            Shape::ManyOf(choices) => {
                self.each(value, |checker, item| checker.choice(item, choices));
            }
            Shape::Map => self.with_table(value, |checker, table| {
                table.iter().for_each(|(name, value)| checker.inside(name.get_ref()).entry(value));
            }),
            Shape::Texts => self.each(value, |checker, item| checker.scalar(item, Shape::Text)),
            Shape::File => self.file(value),
            scalar => self.scalar(value, scalar),
        }
    }

    /// Checks the one table, or every table, of a key with the shape [`Shape::Tagged`].
    fn tables(
        &self,
        value: &Spanned<DeValue<'_>>,
        many: Many,
        check: impl Fn(&Self, &DeTable<'_>, std::ops::Range<usize>),
    ) {
        let check = |checker: &Self, item: &Spanned<DeValue<'_>>| {
            checker.with_table(item, |checker, table| check(checker, table, item.span()));
        };

        match many {
            Many::One => check(self, value),
            Many::List => self.each(value, check),
            Many::Named => self.with_table(value, |checker, table| {
                table.iter().for_each(|(name, item)| check(&checker.inside(name.get_ref()), item));
            }),
        }
    }

    /// Checks a value that is neither a table nor a list.
    fn scalar(&self, value: &Spanned<DeValue<'_>>, shape: Shape) {
        let read = value.get_ref();
        let text = read.as_str();
        let (is_valid, expected) = match shape {
            Shape::Bool => (read.is_bool(), "true or false".to_owned()),
            Shape::Integer { min, max } => (
                integer(read).is_some_and(|i| (min..=max).contains(&i)),
                format!("a whole number from {min} to {max}"),
            ),
            Shape::Duration => (
                text.and_then(parse_duration).is_some(),
                "a duration such as \"10m\" or \"6h\"".to_owned(),
            ),
            Shape::Size => {
                (text.and_then(parse_size).is_some(), "a size such as \"32MiB\"".to_owned())
            }
            Shape::Day => {
                (text.and_then(Day::parse).is_some(), "a date such as \"2026-09-01\"".to_owned())
            }
            _ => (text.is_some_and(|t| !t.is_empty()), "a non-empty string".to_owned()),
        };

        if !is_valid {
            let hint = read.is_datetime().then(|| "put the date in quotes".to_owned());
            self.faults.at(value.span(), format!("`{}` must be {expected}", self.path), hint);
        }
    }

    /// Checks a value of a table of strings. A period in a name that is not in quotes creates
    /// another table.
    fn entry(&self, value: &Spanned<DeValue<'_>>) {
        let read = value.get_ref();
        let hint = if read.is_table() {
            "put a name with periods in quotes"
        } else if read.is_bool() || read.as_integer().is_some() {
            "put the value in quotes"
        } else {
            return self.scalar(value, Shape::Text);
        };
        let message = format!("`{}` must be a non-empty string", self.path);
        self.faults.at(value.span(), message, Some(hint.to_owned()));
    }

    /// Checks the path of a file, and adds it to the files that are named.
    fn file(&self, value: &Spanned<DeValue<'_>>) {
        let text = value.get_ref().as_str().unwrap_or_default();
        if text.is_empty() {
            return self.scalar(value, Shape::Text);
        }
        if !text.starts_with('/') {
            let message = format!("`{}` must be an absolute path", self.path);
            return self.faults.at(value.span(), message, Some(ABSOLUTE.to_owned()));
        }

        let origin = self.faults.origin(value.span().start);
        self.files.borrow_mut().push(FileUse { path: Path::new(text).to_owned(), origin });
    }

    /// Checks a value that must be one of a few names.
    fn choice(&self, value: &Spanned<DeValue<'_>>, choices: &[&str]) {
        let text = value.get_ref().as_str().unwrap_or_default();
        if !choices.contains(&text) {
            self.unknown_value(value, text, choices.iter().copied());
        }
    }

    /// Checks a table whose keys are the common ones and those of the variant that its tag names.
    fn tagged(
        &self,
        table: &DeTable<'_>,
        span: std::ops::Range<usize>,
        tag: &str,
        keys: &[Key],
        variants: &[Variant],
    ) {
        let tagged = table.iter().find(|(name, _)| name.get_ref() == tag).map(|(_, value)| value);
        let name = tagged.and_then(|value| value.get_ref().as_str());
        let variant = name.and_then(|name| variants.iter().find(|variant| variant.name == name));

        match (tagged, variant) {
            (Some(value), Some(Variant { name, keys: None })) => {
                // The keys of a variant that is not part of this build are unknown, so they are not
                // checked.
                self.inside(tag).not_built(value, name);
            }
            (_, Some(Variant { name, keys: Some(own) })) => {
                let keys: Vec<&Key> = keys.iter().chain(own.iter()).collect();
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
                self.faults.at(span, format!("`{}` is missing", self.inside(tag).path), None);
                self.common(table, keys);
            }
        }
    }

    /// Checks the common keys of a table whose tag is missing or unknown. Other keys are not
    /// checked, because each variant has its own.
    fn common(&self, table: &DeTable<'_>, keys: &[Key]) {
        for (name, value) in table {
            if let Some(key) = keys.iter().find(|key| key.name == name.get_ref()) {
                self.inside(key.name).value(value, name, key.shape);
            }
        }
    }

    /// Checks a reference to a secret: a table with one known key.
    fn secret(&self, value: &Spanned<DeValue<'_>>) {
        const KINDS: [&str; 3] = ["credential", "file", "env"];
        let hint = "write { credential = \"name\" }, { file = \"/path\" } or { env = \"NAME\" }";

        let table = value.get_ref().as_table();
        let one = table.filter(|table| table.len() == 1).and_then(|table| table.iter().next());
        let is_valid = one.is_some_and(|(kind, target)| {
            KINDS.contains(&kind.get_ref().as_ref())
                && target.get_ref().as_str().is_some_and(|target| !target.is_empty())
        });

        let is_relative_file = one.is_some_and(|(kind, target)| {
            kind.get_ref() == "file"
                && target.get_ref().as_str().is_some_and(|target| !target.starts_with('/'))
        });
        if is_valid && is_relative_file {
            let message = format!("`{}.file` must be an absolute path", self.path);
            self.faults.at(value.span(), message, Some(ABSOLUTE.to_owned()));
        }

        if !is_valid {
            // The value is not printed: it may be the secret itself.
            let message = if value.get_ref().is_str() {
                format!("`{}` must refer to a secret, not contain it", self.path)
            } else {
                format!("`{}` must be a reference to one secret", self.path)
            };
            self.faults.at(value.span(), message, Some(hint.to_owned()));
        }
    }

    fn not_built(&self, value: &Spanned<DeValue<'_>>, name: &str) {
        self.faults.at(
            value.span(),
            format!("`{} = \"{name}\"` is not supported by this build", self.path),
            Some(format!("build with `--features {name}`")),
        );
    }

    /// Reports a value that is valid, but not for the selected variant.
    fn unavailable(
        &self,
        value: &Spanned<DeValue<'_>>,
        variant: SelectedVariant<'_>,
        choices: &[&str],
    ) {
        let text = value.get_ref().as_str().unwrap_or_default();
        let SelectedVariant { tag, name, .. } = variant;
        let message =
            format!("`{} = \"{text}\"` is not available for `{tag} = \"{name}\"`", self.path);
        let hint = format!("use one of: {}", choices.join(", "));
        self.faults.at(value.span(), message, Some(hint));
    }

    fn unknown_value<'b>(
        &self,
        value: &Spanned<DeValue<'_>>,
        text: &str,
        known: impl Iterator<Item = &'b str>,
    ) {
        let known: Vec<&str> = known.collect();
        let message = format!("`{}` must be one of: {}", self.path, known.join(", "));
        let hint = nearest(text, known.into_iter()).map(|near| format!("use `{near}`"));
        self.faults.at(value.span(), message, hint);
    }

    /// Checks every item of a list.
    fn each(&self, value: &Spanned<DeValue<'_>>, check: impl Fn(&Self, &Spanned<DeValue<'_>>)) {
        let Some(list) = value.get_ref().as_array() else {
            let table = value.get_ref().is_table();
            let hint = table.then(|| format!("write [[{0}]] with double brackets", self.path));
            return self.faults.at(value.span(), format!("`{}` must be a list", self.path), hint);
        };
        for (index, item) in list.iter().enumerate() {
            check(&self.at(format!("{}[{index}]", self.path)), item);
        }
    }

    fn with_table(&self, value: &Spanned<DeValue<'_>>, check: impl FnOnce(&Self, &DeTable<'_>)) {
        match value.get_ref().as_table() {
            Some(table) => check(self, table),
            None => self.faults.at(value.span(), format!("`{}` must be a table", self.path), None),
        }
    }

    /// The checker of a key within this part.
    fn inside(&self, key: &str) -> Self {
        let path =
            if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        self.at(path)
    }

    /// The checker of the part at this path.
    fn at(&self, path: String) -> Self {
        Self { faults: self.faults, files: self.files, path }
    }
}

impl SelectedVariant<'_> {
    /// The choices of a key of this variant if its value is not one of them, and another variant
    /// accepts the value for the key of the same name; `None` in all other cases.
    fn alternatives_to(self, key: &Key, value: &DeValue<'_>) -> Option<&'static [&'static str]> {
        let Shape::OneOf(choices) = key.shape else { return None };
        let text = value.as_str()?;

        let accepts = |other: &Key| {
            other.name == key.name
                && matches!(other.shape, Shape::OneOf(known) if known.contains(&text))
        };
        let mut others = self.all.iter().filter_map(|variant| variant.keys).flatten();
        (!choices.contains(&text) && others.any(accepts)).then_some(choices)
    }
}

fn refs(keys: &[Key]) -> Vec<&Key> {
    keys.iter().collect()
}

/// The known name with the smallest edit distance to a mistyped one, if it is small enough.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, near) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(name.len() / 3)).then_some(near)
}

/// The first sentence of a description, as the object of "set … to".
fn as_phrase(doc: &str) -> String {
    let sentence = doc.split(". ").next().unwrap_or(doc).trim_end_matches('.');
    let mut characters = sentence.chars();
    let first = characters.next().map(char::to_lowercase);
    first.into_iter().flatten().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Document, optional, required};

    const LINE_KEYS: &[Key] =
        &[optional("format", Shape::OneOf(&["csv", "json", "cef"]), "The format.")];
    const MESSAGE_KEYS: &[Key] =
        &[optional("format", Shape::OneOf(&["json", "cef"]), "The format.")];
    const SINK: &[Key] = &[required("type", Shape::Text, "The type.")];
    const KEYS: &[Key] = &[optional(
        "sinks",
        Shape::Tagged { tag: "type", many: Many::List, keys: SINK, variants: kinds },
        "The sinks.",
    )];

    fn kinds() -> Vec<Variant> {
        vec![
            Variant { name: "file", keys: Some(LINE_KEYS) },
            Variant { name: "syslog", keys: Some(MESSAGE_KEYS) },
        ]
    }

    /// Regression: a format that only other sinks support was reported as a misspelled one, with
    /// the most similar format as its correction.
    #[test]
    fn formats_of_other_sinks_are_not_typos() {
        let choices = "`sinks[0].format` must be one of: json, cef";
        for (kind, format, message, hint) in [
            (
                "syslog",
                "csv",
                "`sinks[0].format = \"csv\"` is not available for `type = \"syslog\"`",
                Some("use one of: json, cef"),
            ),
            ("syslog", "ceff", choices, Some("use `cef`")),
            ("syslog", "parquet", choices, None),
            ("file", "csvv", "`sinks[0].format` must be one of: csv, json, cef", Some("use `csv`")),
        ] {
            let text = format!("[[sinks]]\ntype = \"{kind}\"\nformat = \"{format}\"\n");
            let faults = Faults::new("c.toml", &text);
            let document = Document::parse(&text, &faults).unwrap();
            check(&document.section(&faults), KEYS, &faults);

            let found = faults.sorted();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].message, message);
            assert_eq!(found[0].hint.as_deref(), hint, "{message}");
        }
    }

    #[test]
    fn entries_of_maps_are_quoted_strings() {
        const MAP: &[Key] = &[optional("properties", Shape::Map, "The properties.")];
        for (text, path, hint) in [
            ("\"linger.ms\" = 5", "properties.linger.ms", Some("put the value in quotes")),
            ("linger.ms = \"5\"", "properties.linger", Some("put a name with periods in quotes")),
            ("linger = \"\"", "properties.linger", None),
        ] {
            let text = format!("properties = {{ {text} }}\n");
            let faults = Faults::new("c.toml", &text);
            let document = Document::parse(&text, &faults).unwrap();
            check(&document.section(&faults), MAP, &faults);

            let found = faults.sorted();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].message, format!("`{path}` must be a non-empty string"));
            assert_eq!(found[0].hint.as_deref(), hint);
        }
    }
}
