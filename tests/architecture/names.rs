//! Names of tests: three to eight words that state the behavior.

use std::ops::RangeInclusive;

use crate::{
    code::identifier,
    files::{RUST, expect_none, rust_files},
};

/// The number of words in the name of a test.
const WORDS: RangeInclusive<usize> = 3..=8;

#[test]
fn names_of_tests_have_three_to_eight_words() {
    let mut violations = Vec::new();
    for file in rust_files(RUST) {
        for (line, name) in test_names(&file.text) {
            let words = name.split('_').count();
            if !WORDS.contains(&words) {
                violations.push(format!("{}:{line}: `{name}` has {words} words", file.path));
            }
        }
    }
    expect_none(&violations, "name a test with three to eight words");
}

/// The names of all tests, each with the number of its line. A test that a macro generates has no
/// name in the text.
pub fn test_names(text: &str) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    let mut is_annotated = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim_start)) {
        is_annotated |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let declared = line.split_once("fn ").filter(|_| is_annotated && !line.starts_with("//"));
        let Some((_, rest)) = declared else { continue };

        is_annotated = false;
        let name = identifier(rest);
        if !name.is_empty() {
            names.push((number, name));
        }
    }
    names
}

#[test]
fn names_of_annotated_functions_are_found() {
    let text = [
        "fn helper() {}",
        "#[test]",
        "// A function (fn x).",
        "#[ignore]",
        "fn a_b_c() {}",
        "#[tokio::test(start_paused = true)]",
        "async fn d_e_f() {}",
        "#[test]",
        "fn $name() {}",
        "fn other() {}",
    ];
    assert_eq!(test_names(&text.join("\n")), [(5, "a_b_c"), (7, "d_e_f")]);
}
