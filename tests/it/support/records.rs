//! Reads the records that a file sink has written.

use std::{collections::HashMap, path::Path};

/// The records of a file of canonical JSON. Panics on an invalid or incomplete line.
pub fn records(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "{} ends with an incomplete line",
        path.display()
    );
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The number of complete days in a file of canonical JSON: a summary is the last record of a day.
pub fn summaries(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.matches("\"kind\":\"summary\"").count())
}

/// The control and summary records, without changes and observations.
pub fn scores(path: &Path) -> Vec<serde_json::Value> {
    records_of_kinds(path, &["control", "summary"])
}

/// All records except observations, which differ between sinks: a sink receives only those about
/// other sinks.
pub fn without_observations(path: &Path) -> Vec<serde_json::Value> {
    records_of_kinds(path, &["control", "summary", "change"])
}

pub fn records_of_kinds(path: &Path, kinds: &[&str]) -> Vec<serde_json::Value> {
    let mut all = records(path);
    all.retain(|record| kinds.iter().any(|kind| record["kind"] == *kind));
    all
}

/// How often each event ID occurs.
pub fn counts<'a>(ids: impl Iterator<Item = &'a str>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for id in ids {
        *counts.entry(id.to_owned()).or_default() += 1;
    }
    counts
}

pub fn ids(records: &[serde_json::Value]) -> impl Iterator<Item = &str> {
    records.iter().map(|record| record["event_id"].as_str().unwrap())
}

/// The event IDs in alphabetical order. A message does not list records in the order of the log.
pub fn sorted_ids(records: &[serde_json::Value]) -> Vec<String> {
    let mut sorted: Vec<String> = ids(records).map(str::to_owned).collect();
    sorted.sort();
    sorted
}
