//! The maximum length of a file, and blank lines between the phases of long functions.

use crate::files::{SourceFile, expect_none, rust_files};

/// The maximum number of lines of a Rust file.
const MAX_LINES: usize = 500;

/// A function of at least this many lines requires a blank line between its phases.
const PARAGRAPHS_FROM: usize = 25;

#[test]
fn files_have_at_most_500_lines() {
    let mut violations = Vec::new();
    for file in rust_files(&["src", "tests", "benches"]) {
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            violations.push(format!("{}: {lines} lines, more than {MAX_LINES}", file.path));
        }
    }
    expect_none(&violations, "a file is too long: split it");
}

#[test]
fn long_functions_have_blank_lines() {
    let mut violations = Vec::new();
    for file in rust_files(&["src", "benches"]) {
        for function in functions(&file) {
            if function.lines >= PARAGRAPHS_FROM && function.statements >= 3 && !function.has_blank
            {
                let Function { line, lines, .. } = function;
                violations.push(format!("{}:{line}: no blank line in {lines} lines", file.path));
            }
        }
    }
    expect_none(&violations, "separate the phases of a long function with blank lines");
}

struct Function {
    line: usize,
    /// Lines of the body.
    lines: usize,
    /// Statements at the top level of the body; a function that is a single `match` has one phase.
    statements: usize,
    has_blank: bool,
}

/// The functions of a file that rustfmt has formatted: a body ends at the first line that closes
/// a brace at the indentation of the `fn`.
fn functions(file: &SourceFile) -> Vec<Function> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let indentation = line.len() - line.trim_start().len();
        let words = line.split_whitespace().take(6);
        let is_function = words.take_while(|w| !w.starts_with("//")).any(|word| word == "fn");
        if !is_function || line.trim_start().starts_with("//") {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indentation));
        // A declaration without a body, or a body on one line.
        let Some(open) = lines[index..]
            .iter()
            .position(|l| l.ends_with('{') || l.ends_with(';') || l.ends_with('}'))
        else {
            continue;
        };
        if !lines[index + open].ends_with('{') {
            continue;
        }
        let start = index + open + 1;
        let Some(length) = lines[start..].iter().position(|line| *line == close) else { continue };
        let body = &lines[start..start + length];
        let top = " ".repeat(indentation + 4);
        let begins = |line: &&&str| {
            line.strip_prefix(top.as_str())
                .is_some_and(|rest| !rest.starts_with([' ', '}', ')', ']', '.', '/', '#']))
        };
        found.push(Function {
            line: index + 1,
            lines: length,
            statements: body.iter().filter(begins).count(),
            has_blank: body.iter().any(|line| line.is_empty()),
        });
    }
    found
}
