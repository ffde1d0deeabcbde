//! Reads Rust code as text: production code without comments and tests, and the paths in it.

use crate::files::SourceFile;

/// The lines of a file with their numbers, without comments and without items for tests.
pub fn production_code(file: &SourceFile) -> Vec<(usize, String)> {
    if file.path.contains("/tests/") || file.path.ends_with("tests.rs") {
        return Vec::new();
    }

    let mut code = Vec::new();
    // The indentation of an item that is annotated with `#[cfg(test)]`, until the item ends.
    let mut skipped: Option<usize> = None;
    for (number, line) in file.lines() {
        let text = line.split("//").next().unwrap();
        let indentation = text.len() - text.trim_start().len();
        match skipped {
            Some(margin) if indentation == margin && ends_item(text) => skipped = None,
            Some(_) => {}
            None if text.trim() == "#[cfg(test)]" => skipped = Some(indentation),
            None => code.push((number, text.to_owned())),
        }
    }
    code
}

/// Whether a line at the indentation of an item, as rustfmt has formatted it, is its last one.
fn ends_item(line: &str) -> bool {
    !line.trim_start().starts_with('#') && line.trim_end().ends_with([';', '}', ','])
}

/// Every path in the production code that begins with `root::`, with its line number. The braces
/// of imports are expanded: `use std::{env, io::{self, Read}}` has the paths `std::env`,
/// `std::io::self` and `std::io::Read`.
pub fn paths(file: &SourceFile, root: &str) -> Vec<(usize, String)> {
    let code = production_code(file);
    let text: String = code.iter().map(|(_, line)| format!("{line}\n")).collect();

    let mut found = Vec::new();
    for (at, start) in text.match_indices(&format!("{root}::")) {
        if !text[..at].ends_with(is_word) {
            expand(&text, at + start.len(), root, &mut found);
        }
    }

    let line_at = |offset: usize| code[text[..offset].matches('\n').count()].0;
    found.into_iter().map(|(offset, path)| (line_at(offset), path)).collect()
}

/// Appends the paths of the tree at an offset, and returns the offset of its end.
fn expand(text: &str, start: usize, root: &str, found: &mut Vec<(usize, String)>) -> usize {
    let skip = |from: usize, separators: &[char]| {
        let rest = &text[from..];
        from + rest.len() - rest.trim_start_matches(separators).len()
    };
    let mut at = skip(start, &[' ', '\n']);

    if text[at..].starts_with('{') {
        at += 1;
        loop {
            at = skip(at, &[' ', '\n', ',']);
            if at == text.len() || text[at..].starts_with('}') {
                return text.len().min(at + 1);
            }
            at = expand(text, at, root, found);
        }
    }

    let name = identifier(&text[at..]);
    let (path, end) = (format!("{root}::{name}"), at + name.len());
    if !name.is_empty() && text[end..].starts_with("::") {
        return expand(text, end + 2, &path, found);
    }
    found.push((at, path));
    // An alias (`as name`) is skipped.
    text[end..].find([',', '}', ';']).map_or(text.len(), |length| end + length)
}

pub fn identifier(text: &str) -> &str {
    &text[..text.find(|c: char| !is_word(c)).unwrap_or(text.len())]
}

/// Whether the text contains a path that is not a part of a longer name.
pub fn names(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let after = &text[at + path.len()..];
        !text[..at].ends_with(is_word) && (path.ends_with("::") || !after.starts_with(is_word))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Regression: only the text `std::fs` was found, so a grouped import could bypass the rules.
#[test]
fn paths_of_grouped_imports_are_found() {
    let text = "use std::{\n    fs::{File, OpenOptions as Options},\n    io,\n};\n\n\
                fn f() -> std::env::Args {}\n";
    let file = SourceFile { path: "src/a.rs".to_owned(), text: text.to_owned() };

    let found = paths(&file, "std");
    let expected =
        [(2, "std::fs::File"), (2, "std::fs::OpenOptions"), (3, "std::io"), (6, "std::env::Args")];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}

/// Regression: everything after the first item for tests was skipped.
#[test]
fn only_items_for_tests_are_skipped() {
    let text = "#[cfg(test)]\nuse a::{\n    b,\n};\nfn f() {}\n\
                #[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn g() {}\n}\nfn h() {}\n";
    let file = SourceFile { path: "src/a.rs".to_owned(), text: text.to_owned() };

    let lines: Vec<usize> = production_code(&file).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [5, 11]);
}
