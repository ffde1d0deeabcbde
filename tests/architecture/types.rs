//! Names of types: one name for one thing. A type that is visible outside its module has a name
//! that no other such type has.

use std::collections::BTreeMap;

use crate::{
    code::{identifier, production_code},
    files::{expect_none, rust_files},
};

/// Names that several types have, each with the reason why a reader does not confuse them.
const SHARED_NAMES: &[(&str, &str)] = &[
    ("BoxFuture", "the same alias: `sink` and `source` do not see each other"),
    ("Compression", "the compressions of one sink, which only the folder of that sink sees"),
    ("Texts", "in `settings`, it appears only in declarations of keys"),
];

/// The keywords that declare a type.
const DECLARATIONS: &[&str] = &["struct", "enum", "trait", "type", "union"];

#[test]
fn names_of_types_are_unique() {
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files(&["src"]) {
        for (line, text) in production_code(&file) {
            if let Some(name) = visible_type(&text) {
                let place = format!("{}:{line}", file.path);
                declared.entry(name.to_owned()).or_default().push(place);
            }
        }
    }

    let mut violations = Vec::new();
    for (name, places) in &declared {
        let is_shared = SHARED_NAMES.iter().any(|(shared, _)| shared == name);
        for place in places.iter().skip(1).filter(|_| !is_shared) {
            violations.push(format!("{place}: `{name}` is also declared in {}", places[0]));
        }
        if is_shared && places.len() == 1 {
            violations.push(format!("{}: `{name}` is unique: remove it", places[0]));
        }
    }
    expect_none(&violations, "name a type with its noun, such as `SmtpSession`");
}

/// The name of the type that a line declares, if it is visible outside its module.
fn visible_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(restricted) => restricted.split_once(')')?.1,
        None => rest,
    };
    declaration(rest)
}

/// The name of the type that a line declares.
pub fn declared_type(line: &str) -> Option<&str> {
    visible_type(line).or_else(|| declaration(line))
}

/// The name of the type in a declaration without its visibility.
fn declaration(text: &str) -> Option<&str> {
    let (keyword, name) = text.trim_start().split_once(' ')?;
    DECLARATIONS.contains(&keyword).then(|| identifier(name))
}

#[test]
fn declarations_of_visible_types_are_found() {
    for (line, name) in [
        ("pub struct Batch {", Some("Batch")),
        ("    pub(in crate::cli) enum StateCommand {", Some("StateCommand")),
        ("pub(super) type Fields<'a> = Vec<&'a str>;", Some("Fields")),
        ("pub trait Sink: Send {", Some("Sink")),
        ("struct Private;", None),
        ("    type Value = T;", None),
        ("pub fn enumerate() {", None),
        ("public struct Other {", None),
    ] {
        assert_eq!(visible_type(line), name, "{line}");
    }
}
