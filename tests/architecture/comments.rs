//! The documentation of modules: its number of sentences. Reviewers check that it states what the
//! module does, what it must never do, and where to start reading.

use std::ops::RangeInclusive;

use crate::files::{RUST, expect_none, rust_files};

/// The number of sentences of a module's documentation.
const SENTENCES: RangeInclusive<usize> = 2..=6;

/// Abbreviations whose period does not end a sentence.
const ABBREVIATIONS: &[&str] = &["e.g.", "i.e.", "etc.", "vs."];

/// One sentence is enough for a file of tests.
#[test]
fn module_documentation_has_two_to_six_sentences() {
    let mut violations = Vec::new();
    for file in rust_files(RUST) {
        let is_test = file.path.starts_with("tests/")
            || file.path.contains("/tests/")
            || file.path.ends_with("/tests.rs");
        let allowed = if is_test { 1..=*SENTENCES.end() } else { SENTENCES };

        let count = sentences(&module_documentation(&file.text));
        if !allowed.contains(&count) {
            violations.push(format!("{}:1: {count} sentences, not {allowed:?}", file.path));
        }
    }
    expect_none(&violations, "describe the module at the beginning of the file");
}

fn module_documentation(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The number of sentences. A period in backticks ends none.
fn sentences(text: &str) -> usize {
    // Every second part is in backticks.
    let prose = text.split('`').step_by(2).collect::<Vec<_>>().join("code");
    prose.split_whitespace().filter(|word| ends_sentence(word)).count()
}

fn ends_sentence(word: &str) -> bool {
    let word = word.trim_end_matches(['"', '\'', ')', '*', '_']);
    let is_abbreviation = ABBREVIATIONS.contains(&word.trim_start_matches('('));
    word.ends_with(['.', '!', '?']) && !is_abbreviation
}

#[test]
fn sentences_of_documentation_are_counted() {
    for (text, count) in [
        ("", 0),
        ("The keys of `[state]`", 0),
        ("The keys of `[state]`.", 1),
        ("Reads `a.b. c`, e.g. version 1.2. Start reading at [`Key`].", 2),
        ("What is it? It is *this.* See decision 0044.", 3),
    ] {
        assert_eq!(sentences(text), count, "{text}");
    }
    let file = "//! One.\n//!\n//! Two.\n\n//! Three.\nuse a;\n";
    assert_eq!(sentences(&module_documentation(file)), 2);
}
