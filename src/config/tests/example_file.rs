//! Tests of the example file: it is valid, also with every section set and every key uncommented,
//! and it contains every key with its description.

use std::collections::{BTreeSet, HashSet};

use super::*;
use crate::{
    config::keys::EXAMPLE_TABLES,
    settings::{Many, ValueOrigin},
};

/// The section whose credential is in the environment, where the tests do not set it.
const ENVIRONMENT: &str = "[credentials.environment]";

/// The heading of the section in a part of the file, and how often `# ` must be removed from its
/// lines to set it. `None` for a part without a section.
fn heading(part: &str) -> Option<(&str, usize)> {
    let line = part.lines().find(|line| line.trim_start_matches("# ").starts_with('['))?;
    let heading = line.trim_start_matches("# ");
    Some((heading, (line.len() - heading.len()) / "# ".len()))
}

/// A part of the file after `# ` was removed from its lines this many times. Descriptions begin
/// with `##`, so they remain.
fn uncommented(part: &str, times: usize) -> String {
    let line = |line: &str| {
        let mut rest = line;
        for _ in 0..times {
            rest = rest.strip_prefix("# ").unwrap_or(rest);
        }
        format!("{rest}\n")
    };
    part.lines().map(line).collect()
}

/// The file after every section was set and, in addition, `# ` was removed this many times.
/// Sections whose heading is `kept` are unchanged.
fn with_all_sections(times: usize, kept: impl Fn(&str) -> bool) -> String {
    let part = |part: &str| match heading(part) {
        Some((heading, depth)) if !kept(heading) => uncommented(part, depth + times),
        _ => part.to_owned(),
    };
    example().split("\n\n").map(part).collect::<Vec<_>>().join("\n\n")
}

/// Panics if the text is not a valid configuration. `what` was changed in it.
fn expect_valid(text: &str, what: &str) {
    if let Err(error) = Configuration::parse("example", text) {
        panic!("{what}: {error}\n{text}");
    }
}

#[test]
fn every_section_is_valid_when_uncommented() {
    let text = example();
    expect_valid(&text, "nothing");

    let mut count = 0;
    for part in text.split("\n\n") {
        let Some((heading, depth)) = heading(part) else { continue };
        for times in [depth, depth + 1] {
            let changed = text.replacen(part, &uncommented(part, times), 1);
            if heading == ENVIRONMENT {
                let result = Configuration::parse("example", &changed);
                let fault = result.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(fault.is_empty() || fault.contains("AZURE_"), "{fault}");
            } else {
                expect_valid(&changed, &format!("{heading} after {times} `#` were removed"));
            }
        }
        count += 1;
    }
    assert!(count > 30, "only {count} sections");
}

#[test]
fn all_sections_are_valid_together() {
    for times in [0, 1] {
        expect_valid(&with_all_sections(times, |heading| heading == ENVIRONMENT), "all sections");
    }
}

/// Every key of every table is in a section of that table, and every key of a variant in a section
/// of that variant.
#[test]
fn every_table_has_every_key() {
    let document: toml::Table = uncommented(&example(), 2).parse().unwrap();
    let mut missing = Vec::new();
    add_missing("", KEYS, &[&document], &mut missing);
    assert!(missing.is_empty(), "{missing:?}");
}

/// Adds the path of each key that none of these tables has, and those in the tables within them.
fn add_missing(
    path: &str,
    keys: &[KeyDefinition],
    tables: &[&toml::Table],
    missing: &mut Vec<String>,
) {
    for key in keys.iter().filter(|key| !matches!(key.shape, Shape::Reserved)) {
        let path = format!("{path}.{}", key.name);
        let values: Vec<&toml::Value> =
            tables.iter().filter_map(|table| table.get(key.name)).collect();
        if values.is_empty() {
            missing.push(path.clone());
        }

        let inner: Vec<&toml::Table> = values.into_iter().flat_map(tables_in).collect();
        match key.shape {
            Shape::Table(keys) | Shape::Tables(keys) => add_missing(&path, keys, &inner, missing),
            // The value can also be a name.
            Shape::OneOfOrTable { keys, .. } if !inner.is_empty() => {
                add_missing(&path, keys, &inner, missing);
            }
            Shape::Tagged { tag, many, keys, variants } => {
                let inner = if many == Many::Named {
                    inner.into_iter().flat_map(toml::Table::values).flat_map(tables_in).collect()
                } else {
                    inner
                };
                add_missing(&path, keys, &inner, missing);

                for variant in variants() {
                    let is_of_variant =
                        |table: &&&toml::Table| table[tag].as_str() == Some(variant.name);
                    let own: Vec<&toml::Table> =
                        inner.iter().filter(is_of_variant).copied().collect();
                    assert!(!own.is_empty(), "{path}: no section for `{}`", variant.name);
                    add_missing(&path, variant.keys.unwrap_or_default(), &own, missing);
                }
            }
            _ => {}
        }
    }
}

fn tables_in(value: &toml::Value) -> Vec<&toml::Table> {
    match value {
        toml::Value::Table(table) => vec![table],
        toml::Value::Array(items) => items.iter().filter_map(toml::Value::as_table).collect(),
        _ => Vec::new(),
    }
}

/// A key that is commented out is in one section of its table, or of its variant, so that a reader
/// finds its default in one place.
#[test]
fn commented_keys_appear_once_per_variant() {
    let text = example();
    let mut seen = HashSet::new();
    for part in text.split("\n\n") {
        let Some((heading, depth)) = heading(part) else { continue };
        let table = heading.split_once("s.").map_or(heading, |(table, _)| table);
        let tag = |line: &&str| line.starts_with("type = ") || line.starts_with("kind = ");
        let variant = part.lines().map(|line| line.trim_start_matches("# ")).find(tag);

        let mut inner = "";
        for line in part.lines() {
            let Some(line) = line.strip_prefix("# ".repeat(depth + 1).as_str()) else { continue };
            match line.split_once(" = ") {
                Some((key, _)) => {
                    assert!(seen.insert((table, variant, inner, key)), "{heading}: `{key}`");
                }
                None => inner = line,
            }
        }
    }
    assert!(seen.len() > 100, "only {} keys", seen.len());
}

/// Regression: the comment of a key stated another default than that of the key.
#[test]
fn uncommented_defaults_change_nothing() {
    // A value of `[defaults]` would be that of a sink.
    let kept = |heading: &str| heading == ENVIRONMENT || heading.starts_with("[defaults.");
    let values = |times: usize| {
        let layers = layers_of("example", &with_all_sections(times, kept), Vec::new());
        settings::effective(&layers.merge().unwrap(), KEYS, &layers.faults)
    };
    let (before, after) = (values(0), values(1));
    let headings: BTreeSet<&str> = before.iter().map(|table| table.heading.as_str()).collect();

    let (mut count, mut changed) = (0, Vec::new());
    for heading in headings {
        let is_of_heading = |table: &&EffectiveTable| table.heading == heading;
        let after = after.iter().filter(is_of_heading);
        for (before, after) in before.iter().filter(is_of_heading).zip(after) {
            for value in before.values.iter().filter(|value| value.origin == ValueOrigin::BuiltIn) {
                let set = after.values.iter().find(|set| set.key == value.key).unwrap();
                if set.value != value.value {
                    changed.push(value.key);
                }
                count += usize::from(set.origin != ValueOrigin::BuiltIn);
            }
        }
    }

    // `full_every` requires this value.
    assert_eq!(changed, ["controls"]);
    assert!(comments().contains("differ from the base. Values: `all`, `changed`. Default: `all`."));
    assert!(count > 45, "only {count} defaults were compared");
}

#[test]
fn every_key_has_its_description() {
    let comments = comments();
    // Tables have introductions instead.
    let tables: HashSet<&str> =
        EXAMPLE_TABLES.iter().flat_map(|table| table.path).map(|key| key.doc).collect();

    let docs = every_key(KEYS).into_iter().map(|key| key.doc);
    let missing: BTreeSet<&str> =
        docs.filter(|doc| !tables.contains(doc) && !comments.contains(doc)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The text of all comments on one line.
fn comments() -> String {
    let text = example();
    let comments: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    comments.join(" ")
}

#[test]
fn lines_have_at_most_100_columns() {
    let text = example();
    let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
