//! The home of each type: its methods are in the file that declares it, so that one file shows what
//! the type does and which code can see its fields.

use crate::{
    code::{identifier, production_code},
    files::{expect_none, rust_files},
    types::declared_type,
};

/// Types that have methods in other files: the type, the folder or the file with these methods, and
/// the reason. The engine of the daemon is not one of them: it only composes its parts.
const OTHER_PLACES: &[(&str, &str, &str)] = &[
    ("Change", "src/derive/change/", "the model contains the data, and `derive` compares it"),
    ("ChangeRecord", "src/derive/change/", "as for `Change`"),
    ("Checkpoint", "src/checkpoint/", "one file per table, which share its transactions"),
    ("CheckpointError", "src/checkpoint/sqlite/", "the conversion of the driver's errors"),
    ("Collector", "src/daemon/collector/", "one file per step of a poll"),
    ("Command", "src/cli/args/", "what each command changes, in one table"),
    ("Configuration", "src/config/", "one file per kind of check"),
    ("ControlScore", "src/wire/", "the model contains the data, and `wire` decodes it"),
    ("Deliverer", "src/daemon/deliverer/", "one file per step of a delivery"),
    ("Delivery", "src/daemon/deliverer/delivery/", "one file per way to divide a batch"),
    ("DeliveryError", "src/daemon/deliverer/", "the retries that follow from an error"),
    ("EntryReader", "src/checkpoint/history.rs", "the fewer columns of past entries"),
    ("Graph", "src/source/pages.rs", "the methods of paging"),
    ("OwnedDirectory", "src/files/", "one file per operation on a directory"),
    ("PollError", "src/daemon/collector/", "which errors are those of this host"),
    ("Report", "src/report/", "the sentence that summarizes a report"),
    ("Rules", "src/derive/", "the values of rules that records contain"),
    ("SecretStore", "src/cli/init/", "the texts about a store"),
    ("SqliteBackend", "src/checkpoint/sqlite/", "one file per operation on the database file"),
    ("StateDirectory", "src/state_directory/", "one file per file of the directory"),
    ("StorageFault", "src/checkpoint/sqlite/", "the conversion of the driver's errors"),
    ("Typed", "src/settings/typed/", "the defaults of integers, with the types of integers"),
];

#[test]
fn types_have_their_methods_in_one_file() {
    let mut violations = Vec::new();
    let mut used = Vec::new();
    for file in rust_files(&["src"]) {
        let code = production_code(&file);
        let declares = |name: &str| code.iter().any(|(_, line)| declared_type(line) == Some(name));
        for (line, name) in inherent_impls(&code) {
            if declares(&name) {
                continue;
            }
            let other = OTHER_PLACES
                .iter()
                .find(|(other, place, _)| *other == name && file.path.starts_with(*place));
            match other {
                Some((other, ..)) => used.push(*other),
                None => violations.push(format!("{}:{line}: `impl {name}`", file.path)),
            }
        }
    }

    for (name, place, _) in OTHER_PLACES.iter().filter(|(name, ..)| !used.contains(name)) {
        violations.push(format!("{place} has no methods of `{name}`: remove it"));
    }
    expect_none(&violations, "implement methods in the file that declares the type");
}

/// The types of the inherent implementations in the code of a file, each with its line number.
/// Implementations in macros have no type.
fn inherent_impls(code: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, (number, line)) in code.iter().enumerate() {
        let rest = line.trim_start().strip_prefix("unsafe ").unwrap_or(line.trim_start());
        if !rest.starts_with("impl<") && !rest.starts_with("impl ") {
            continue;
        }
        let lines = code[index..].iter().map(|(_, line)| line.trim());
        let text = lines.take(10).collect::<Vec<_>>().join(" ");
        if let Some(name) = inherent_type(&text) {
            found.push((*number, name.to_owned()));
        }
    }
    found
}

/// The type of an implementation that begins with this text; `None` if it implements a trait.
fn inherent_type(text: &str) -> Option<&str> {
    let header = text.strip_prefix("impl")?.split('{').next()?;
    let header = without_parameters(header).split(" where ").next()?.trim_start();
    if header.contains(" for ") {
        return None;
    }

    let path = header.strip_prefix("dyn ").unwrap_or(header);
    let end = path.find(|c: char| c == '<' || c.is_whitespace()).unwrap_or(path.len());
    let name = identifier(path[..end].rsplit("::").next()?);
    (!name.is_empty()).then_some(name)
}

/// The text after the generic parameters at its beginning, if it has any.
fn without_parameters(text: &str) -> &str {
    let mut depth = 0;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if previous != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return if c == '>' { &text[at + 1..] } else { text };
        }
        previous = c;
    }
    text
}

#[test]
fn inherent_impls_are_found() {
    for (text, name) in [
        ("impl Engine {", Some("Engine")),
        ("impl<'a> RunningPoll<'a> {", Some("RunningPoll")),
        ("impl<T: FromFields<'de> + Named> Seed<'_, T> where T: for<'a> Take<'a> {", Some("Seed")),
        ("impl<F: Fn() -> T, T> Lazy<F, T> {", Some("Lazy")),
        ("impl super::graph::Graph {", Some("Graph")),
        ("impl dyn Statements + '_ {", Some("Statements")),
        ("impl Drop for Guard<'_> {", None),
        ("impl<'a> IntoIterator for &'a Tenants {", None),
        ("impl $name {", None),
    ] {
        assert_eq!(inherent_type(text), name, "{text}");
    }
}
