//! Decisions are cited, and every cited one exists.

use std::collections::BTreeSet;

use crate::files::{expect_none, files};

/// Files that cite decisions. The pages of the decisions themselves do not count.
const PLACES: &[&str] = &["src", "tests", "docs", "Cargo.toml", "CONTRIBUTING.md", "STYLE.md"];
const DECISIONS: &str = "docs/contributing/decisions/";

/// A citation is `decision 0024`, `decisions 0013 and 0014`, or a path to the file.
#[test]
fn cited_decisions_exist_and_all_are_cited() {
    let names = files(DECISIONS).into_iter().map(|file| file.path.replace(DECISIONS, ""));
    let known: BTreeSet<String> = names.filter_map(|name| number(&name)).collect();
    assert!(!known.is_empty(), "no decisions in {DECISIONS}");

    let mut cited = BTreeSet::new();
    let mut violations = Vec::new();
    for file in PLACES.iter().flat_map(|place| files(place)) {
        if file.path.starts_with(DECISIONS) || file.path == "tests/architecture/decisions.rs" {
            continue;
        }
        for (line, text) in file.lines() {
            for number in citations(text) {
                if !known.contains(&number) {
                    violations.push(format!("{}:{line}: no decision {number}", file.path));
                }
                cited.insert(number);
            }
        }
    }

    for number in known.difference(&cited) {
        violations.push(format!("decision {number} is not cited where it is implemented"));
    }
    expect_none(&violations, "a citation of a decision is missing or wrong");
}

/// The numbers of the decisions that a line cites.
fn citations(line: &str) -> Vec<String> {
    let line = line.to_lowercase();
    let mut found = Vec::new();
    for (at, word) in line.match_indices("decision") {
        let mut rest = line[at + word.len()..].trim_start_matches('s');
        while let Some(after) =
            [" and ", ", ", " ", "/"].iter().find_map(|separator| rest.strip_prefix(separator))
        {
            let Some(number) = number(after) else { break };
            rest = &after[number.len()..];
            found.push(number);
        }
    }
    found
}

/// The number of four digits at the beginning of the text.
fn number(text: &str) -> Option<String> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let is_longer = text[4..].starts_with(|c: char| c.is_ascii_digit());
    (!is_longer).then(|| digits.to_owned())
}

#[test]
fn citations_of_several_decisions_are_found() {
    let line = "See decisions 0013 and 0014, and [0041](../contributing/decisions/0041-hints.md).";
    assert_eq!(citations(line), ["0013", "0014", "0041"]);
    assert!(citations("the decision of 2026").is_empty());
}
