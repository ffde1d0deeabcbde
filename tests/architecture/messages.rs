//! Messages: the error of a library never reaches a person without a sentence of this program. See
//! decision 0084.

use std::collections::BTreeSet;

use crate::{
    code::{identifier, production_code},
    files::{SourceFile, expect_none, rust_files},
};

/// The functions and fields that receive a whole message.
const MESSAGES: &[&str] = &[
    "retry(",
    "misconfigured(",
    "unreachable(",
    "Explanation::new(",
    "Explanation::from(",
    "reason: ",
    "message: ",
];

/// The functions that return the text of an error and of its causes.
const DESCRIPTIONS: &[&str] = &["chain(", "describe("];

/// The usual names of an error that a library has returned.
const NAMES: &[&str] = &["error", "err", "e", "cause", "source"];

/// Files in which the error is one of this crate, which is a sentence already, or in which the text
/// is a part of a sentence.
const OWN_ERRORS: &[&str] = &[
    "src/config/files.rs",
    "src/daemon/deliverer/decoded.rs",
    "src/error.rs",
    "src/sink/failure.rs",
    "src/sink/file/mod.rs",
];

/// The attributes of a variant whose message is that of its first field.
const TRANSPARENT: &[&str] =
    &["#[error(transparent)]", "#[error(\"{0}\")]", "#[error(\"{}\", .0)]"];

/// The types of a field that contains a message of this crate.
const TEXTS: &[&str] = &["String", "&'static str"];

#[test]
fn errors_of_libraries_follow_a_sentence() {
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        if OWN_ERRORS.contains(&file.path.as_str()) {
            continue;
        }
        let code = production_code(&file);
        for (index, (line, text)) in code.iter().enumerate() {
            let next = code.get(index + 1).map_or("", |(_, next)| next.as_str());
            if let Some(bare) = bare_message(text, next) {
                violations.push(format!("{}:{line}: `{bare}`: no sentence", file.path));
            }
        }
    }
    expect_none(&violations, "state what failed before the message of a library");
}

/// The expression in a line, or at the beginning of the next one, that uses the text of an error as
/// a whole message.
fn bare_message<'a>(line: &'a str, next: &'a str) -> Option<&'a str> {
    let found = MESSAGES.iter().flat_map(|start| {
        line.match_indices(start).map(move |(index, _)| line[index + start.len()..].trim())
    });
    let mut expressions = found.map(|rest| if rest.is_empty() { next.trim() } else { rest });
    expressions.find(|expression| is_bare(expression))
}

fn is_bare(expression: &str) -> bool {
    let expression = expression.trim_start_matches('&');
    let is_text_of = |name: &str| {
        let rest = expression.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(".to_string()"))
            || ["", ":#", ":?"]
                .iter()
                .any(|style| expression.starts_with(&format!("format!(\"{{{name}{style}}}\")")))
    };
    DESCRIPTIONS.iter().any(|start| expression.starts_with(start))
        || NAMES.iter().any(|name| is_text_of(name))
}

/// Regression: only some spellings were found.
#[test]
fn bare_messages_are_found_in_every_spelling() {
    for (line, next, is_found) in [
        (".map_err(|error| Failure::retry(error.to_string()))", "", true),
        (".map_err(|e| Failure::misconfigured(format!(\"{e}\")))", "", true),
        ("Failure::Retry { reason: chain(&cause), after: None }", "", true),
        ("Fault::elsewhere(Explanation::new(", "    format!(\"{err:#}\"),", true),
        ("    message: ", "        source.to_string(),", true),
        ("Failure::unreachable(describe(&error), &error)", "", true),
        ("Failure::retry(format!(\"cannot write: {error}\"))", "", false),
        ("Failure::retry(reason)", "error.to_string()", false),
        ("Failure::retry(failures.to_string())", "", false),
    ] {
        assert_eq!(bare_message(line, next).is_some(), is_found, "{line}");
    }
}

#[test]
fn transparent_errors_are_of_this_crate() {
    let own: BTreeSet<String> = rust_files(&["src"]).iter().flat_map(declared_types).collect();
    let mut violations = Vec::new();
    for file in rust_files(&["src"]) {
        let code = production_code(&file);
        let is_transparent = |text: &str| TRANSPARENT.iter().any(|form| text.contains(form));
        for (index, (line, _)) in
            code.iter().enumerate().filter(|(_, (_, text))| is_transparent(text))
        {
            let variant = code[index + 1..]
                .iter()
                .find(|(_, text)| !text.trim().is_empty() && !text.trim().starts_with("#["));
            let name = variant.map(|(_, text)| inner_type(text)).unwrap_or_default();
            if !own.contains(name) && !TEXTS.contains(&name) {
                violations.push(format!("{}:{line}: `{name}` is of a library", file.path));
            }
        }
    }
    expect_none(&violations, "give the variant a sentence, with the error as its source");
}

/// The names of the types that a file declares.
fn declared_types(file: &SourceFile) -> Vec<String> {
    let code = production_code(file);
    let declared = code.iter().filter_map(|(_, text)| {
        let (_, after) = [" enum ", " struct "].iter().find_map(|word| {
            let text = format!(" {}", text.trim_start());
            text.split_once(word).map(|(before, after)| (before.to_owned(), after.to_owned()))
        })?;
        Some(identifier(&after).to_owned())
    });
    declared.collect()
}

/// The name of the first type in a variant such as `File(#[from] super::FileError),`.
fn inner_type(variant: &str) -> &str {
    let inner = variant.split_once('(').map_or(variant, |(_, inner)| inner);
    let inner = inner.split(',').next().unwrap_or(inner);
    let inner = inner.rsplit("] ").next().unwrap_or(inner);
    let inner = inner.strip_prefix("pub ").unwrap_or(inner);
    let inner = inner.rsplit('<').next().unwrap_or(inner);
    let path = inner.split([')', '>', ',']).next().unwrap_or(inner);
    path.rsplit("::").next().unwrap_or(path).trim()
}

#[test]
fn the_type_of_a_variant_is_found() {
    for variant in [
        "    File(#[from] FileError),",
        "    File(#[source] super::FileError),",
        "    File(Box<crate::files::FileError>),",
        "    File(FileError, String),",
        "    File(FileError, #[source] io::Error),",
        "pub struct Wrapped(pub FileError);",
    ] {
        assert_eq!(inner_type(variant), "FileError", "{variant}");
    }
    let text = "pub(super) enum A {}\nstruct B<'a>(&'a str);\npub enum C {}\n";
    let file = SourceFile { path: "src/a.rs".to_owned(), text: text.to_owned() };
    assert_eq!(declared_types(&file), ["A", "B", "C"]);
}
