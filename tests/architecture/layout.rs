//! The maximum length of a file, the maximum width of a comment, and blank lines between the phases
//! of long functions.

use crate::files::{RUST, expect_none, rust_files};

/// The maximum number of lines of a Rust file.
const MAX_LINES: usize = 500;

/// The maximum width of a line of a comment, which rustfmt does not wrap.
const MAX_COMMENT_COLUMNS: usize = 100;

/// A function of at least this many lines, from `fn` to its closing brace, has a blank line.
const PARAGRAPHS_FROM: usize = 25;

/// The maximum number of lines of a function without a blank line between them.
const MAX_PARAGRAPH_LINES: usize = 29;

#[test]
fn files_have_at_most_500_lines() {
    let mut violations = Vec::new();
    for file in rust_files(RUST) {
        let lines = file.text.lines().count();
        if lines > MAX_LINES {
            violations.push(format!("{}: {lines} lines, more than {MAX_LINES}", file.path));
        }
    }
    expect_none(&violations, "a file is too long: split it");
}

#[test]
fn comments_have_at_most_100_columns() {
    let mut violations = Vec::new();
    for file in rust_files(RUST) {
        for (number, line) in file.lines().filter(|(_, line)| is_too_wide(line)) {
            let columns = line.chars().count();
            violations.push(format!(
                "{}:{number}: {columns} columns, more than {MAX_COMMENT_COLUMNS}",
                file.path
            ));
        }
    }
    expect_none(&violations, "a comment is too wide: wrap it");
}

/// Whether a line is a comment that can be wrapped and is too wide. A row of a table and a URL
/// cannot be wrapped.
fn is_too_wide(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("//") else { return false };
    let text = comment.trim_start_matches(['/', '!']).trim_start();
    let can_be_wrapped = !text.starts_with('|') && !text.contains("://");
    can_be_wrapped && line.chars().count() > MAX_COMMENT_COLUMNS
}

#[test]
fn only_comments_that_can_be_wrapped_are_limited() {
    let long = "word ".repeat(30);
    for (line, expected) in [
        (format!("    // {long}"), true),
        (format!("//! {long}"), true),
        (format!("/// See <https://example.com/{}>", "x".repeat(90)), false),
        (format!("//! | {long} |"), false),
        (format!("let text = \"{long}\"; // short"), false),
        (format!("// {}", "ä".repeat(97)), false),
    ] {
        assert_eq!(is_too_wide(&line), expected, "{line}");
    }
}

/// A function whose body is a single expression has one phase, regardless of its length: for
/// example one `match`, or one macro with a table, in which rustfmt removes blank lines. Loops and
/// conditions are not exempt.
#[test]
fn long_functions_have_blank_lines() {
    let mut violations = Vec::new();
    for file in rust_files(RUST) {
        let lines: Vec<&str> = file.text.lines().collect();
        for function in functions(&lines) {
            if let Some(problem) = function.problem() {
                violations.push(format!("{}:{}: {problem}", file.path, function.line));
            }
        }
    }
    expect_none(&violations, "separate the phases of a long function with blank lines");
}

struct Function<'a> {
    /// The number of the line with `fn`.
    line: usize,
    /// From the line with `fn` to the closing brace.
    lines: &'a [&'a str],
    /// Whether the body is one expression that is neither a loop nor a condition.
    is_one_expression: bool,
}

impl Function<'_> {
    fn problem(&self) -> Option<String> {
        if self.is_one_expression {
            return None;
        }

        let paragraphs = self.lines.split(|line| line.trim().is_empty());
        let (count, longest) = paragraphs
            .fold((0, 0), |(count, longest), paragraph| (count + 1, paragraph.len().max(longest)));
        if count == 1 && self.lines.len() >= PARAGRAPHS_FROM {
            return Some(format!("no blank line in {} lines", self.lines.len()));
        }
        (longest > MAX_PARAGRAPH_LINES).then(|| format!("{longest} lines without a blank line"))
    }
}

/// The functions of a file that rustfmt has formatted: a body ends at the first line that closes
/// a brace at the indentation of the `fn`.
fn functions<'a>(lines: &'a [&'a str]) -> Vec<Function<'a>> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| declares_function(line)) {
        let indentation = line.len() - line.trim_start().len();
        let close = format!("{}}}", " ".repeat(indentation));

        // A declaration without a body, and a body on one line, have no phases.
        let ends = |line: &&str| line.ends_with(['{', ';', '}']);
        let Some(signature) = lines[start..].iter().position(ends) else { continue };
        let open = start + signature;
        if !lines[open].ends_with('{') {
            continue;
        }

        let Some(length) = lines[open..].iter().position(|line| *line == close) else { continue };
        let body = &lines[open + 1..open + length];
        found.push(Function {
            line: start + 1,
            lines: &lines[start..=open + length],
            is_one_expression: is_one_expression(body, indentation + 4),
        });
    }
    found
}

fn declares_function(line: &str) -> bool {
    let words = line.split_whitespace().take(6);
    words.take_while(|word| !word.starts_with("//")).any(|word| word == "fn")
}

fn is_one_expression(body: &[&str], indentation: usize) -> bool {
    let margin = " ".repeat(indentation);
    let at_margin = body.iter().filter_map(|line| line.strip_prefix(margin.as_str()));
    let starts: Vec<&str> =
        at_margin.filter(|rest| !rest.starts_with([' ', '}', ')', ']', '.', '/', '#'])).collect();

    let blocks = ["for ", "while ", "loop ", "if ", "async ", "unsafe "];
    starts.len() == 1 && !blocks.iter().any(|block| starts[0].starts_with(block))
}

/// Regression: one blank line anywhere in a function was enough, however long the rest was.
#[test]
fn every_paragraph_is_measured() {
    let problems = |body: &str| {
        let text = format!("fn f() {{\n{body}}}\n");
        let lines: Vec<&str> = text.lines().collect();
        functions(&lines).iter().filter_map(Function::problem).count()
    };

    // The closing brace is a line of the last paragraph.
    let statements = |count: usize| "    x();\n".repeat(count);
    assert_eq!(problems(&format!("    x();\n\n{}", statements(MAX_PARAGRAPH_LINES - 1))), 0);
    assert_eq!(problems(&format!("    x();\n\n{}", statements(MAX_PARAGRAPH_LINES))), 1);

    // The line with `fn` and the closing brace count.
    assert_eq!(problems(&statements(PARAGRAPHS_FROM - 3)), 0);
    assert_eq!(problems(&statements(PARAGRAPHS_FROM - 2)), 1);

    let arms = "        1 => 2,\n".repeat(40);
    assert_eq!(problems(&format!("    match x {{\n{arms}    }}\n")), 0);
    assert_eq!(problems(&format!("    loop {{\n{arms}    }}\n")), 1);
}
