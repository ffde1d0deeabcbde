//! `tests/FAULTS.md` has every row of the fault matrix once, and each row names tests that exist.

use std::{collections::BTreeMap, ops::RangeInclusive};

use crate::{
    files::{expect_none, files, root},
    names::test_names,
};

/// The rows of each group.
const ROWS: &[(char, RangeInclusive<usize>)] =
    &[('A', 1..=13), ('B', 1..=10), ('C', 1..=4), ('D', 1..=16), ('E', 1..=13), ('F', 1..=5)];

/// The number of columns of a row.
const COLUMNS: usize = 5;

/// The beginning of the last cell of a row that cannot be run, before the reason.
const NOT_RUN: &str = "not run: ";

/// What precedes the parts of a row without a test.
const NOT_TESTED: &str = "not tested: ";

/// The minimum number of words of a reason.
const MIN_REASON_WORDS: usize = 5;

/// The macro that generates the tests of the contract.
const CONTRACT: &str = "tests/it/contract/mod.rs";

#[test]
fn every_fault_has_a_test_that_exists() {
    let page = files("tests/FAULTS.md").remove(0);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut violations = Vec::new();
    for (line, text) in page.lines().filter(|(_, text)| text.starts_with('|')) {
        let cells: Vec<&str> = text.trim_matches('|').split('|').map(str::trim).collect();
        if cells[0] == "row" || cells[0].starts_with('-') {
            continue;
        }

        *counts.entry(cells[0].to_owned()).or_default() += 1;
        if let Some(problem) = problem(&cells) {
            violations.push(format!("{}:{line}: {}: {problem}", page.path, cells[0]));
        }
    }

    let rows = ROWS
        .iter()
        .flat_map(|(group, numbers)| numbers.clone().map(move |number| format!("{group}{number}")));
    for row in rows {
        let count = counts.remove(&row).unwrap_or(0);
        if count != 1 {
            violations.push(format!("{}: {row} exists {count} times", page.path));
        }
    }
    violations.extend(counts.keys().map(|row| format!("{}: {row} is unknown", page.path)));
    expect_none(&violations, "name a test for each fault");
}

fn problem(cells: &[&str]) -> Option<String> {
    if cells.len() != COLUMNS {
        return Some(format!("{} columns instead of {COLUMNS}", cells.len()));
    }
    if cells[1].is_empty() || cells[2].is_empty() {
        return Some("the fault or its outcome is missing".to_owned());
    }

    let untested = cells.iter().filter_map(|cell| Some(cell.split_once(NOT_TESTED)?.1));
    let mut reasons = untested.chain(cells[4].strip_prefix(NOT_RUN));
    if reasons.any(|reason| reason.split(' ').count() < MIN_REASON_WORDS) {
        return Some("no reason".to_owned());
    }

    let tests: Vec<&str> = named_tests(cells[4]).collect();
    if tests.is_empty() && !cells[4].starts_with(NOT_RUN) {
        return Some("no test".to_owned());
    }
    let missing = tests.into_iter().find(|test| !exists(test))?;
    Some(format!("no test `{missing}`"))
}

/// The paths of tests in a cell, each in backticks.
fn named_tests(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2).filter(|text| text.contains("::"))
}

/// Whether a test exists: an integration test, whose path begins below `tests/it`, or a unit test.
fn exists(path: &str) -> bool {
    let (module, name) = path.rsplit_once("::").unwrap();
    if let Some(sink) = module.strip_prefix("contract::") {
        return is_in_contract(sink, name);
    }

    let module = module.replace("::", "/");
    // The module `tests` can be a part of the file with the code.
    let outer = module.strip_suffix("/tests");
    let places = ["tests/it", "src"].into_iter().flat_map(|root| {
        let modules = [Some(module.as_str()), outer].into_iter().flatten();
        modules.flat_map(move |module| {
            [format!("{root}/{module}.rs"), format!("{root}/{module}/mod.rs")]
        })
    });
    places.filter(|place| root().join(place).is_file()).any(|place| {
        let text = std::fs::read_to_string(root().join(place)).unwrap();
        test_names(&text).iter().any(|(_, found)| *found == name)
    })
}

/// Whether a clause of the contract applies to a sink. The macro lists the clauses after the name
/// of the sink.
fn is_in_contract(sink: &str, clause: &str) -> bool {
    let text = std::fs::read_to_string(root().join(CONTRACT)).unwrap();
    let (_, list) = text.split_once("\ncontract! {").unwrap();
    let (list, _) = list.split_once("\n}").unwrap();
    let entry = list.split(';').find_map(|entry| {
        let entry = entry.trim_start().trim_start_matches("#[cfg(feature = \"email\")]");
        entry.trim_start().strip_prefix(sink)?.strip_prefix(':')
    });
    entry.is_some_and(|clauses| clauses.split_whitespace().any(|found| found == clause))
}

#[test]
fn missing_tests_of_faults_are_found() {
    for (cells, expected) in [
        (["A1", "a kill", "it continues", "0 / 0", "`names::missing_test_name`"], false),
        (
            ["A1", "a kill", "it continues", "0 / 0", "`contract::file::splits_large_batches`"],
            false,
        ),
        (["A1", "a kill", "it continues", "0 / 0", "tested"], false),
        (["A1", "a kill", "it continues", "0 / 0", "not run: later"], false),
        (
            ["A1", "a kill", "ok; not tested: a stop", "", "`daemon::a_second_daemon_is_rejected`"],
            false,
        ),
        (["A1", "a kill", "", "0 / 0", "`daemon::a_second_daemon_is_rejected`"], false),
        (["A1", "a kill", "it continues", "0 / 0", "`daemon::a_second_daemon_is_rejected`"], true),
        (["A1", "a kill", "it continues", "", "`contract::kafka::survives_a_stop`"], true),
        (["A1", "a kill", "it continues", "", "not run: no host has a second disk"], true),
    ] {
        assert_eq!(problem(&cells).is_none(), expected, "{cells:?}");
    }
}
