//! The output of `check --show-effective`: every key with its value and its origin.
//!
//! The text is TOML, and the origin of a value is its comment. A key that is not set and has no
//! fixed default is printed as a comment that states the effect. Start reading at [`as_toml`].

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::settings::{EffectiveTable, EffectiveValue, Origin, ValueOrigin};

/// The values as TOML.
pub(super) fn as_toml(tables: &[EffectiveTable]) -> String {
    let mut text = String::new();
    for EffectiveTable { heading, values } in tables {
        text.push('\n');
        if !heading.is_empty() {
            let _ = writeln!(text, "{heading}");
        }

        // The comments of a table begin in one column, unless a value is long.
        let assignments = values.iter().filter_map(|EffectiveValue { key, value, origin }| {
            Some((format!("{key} = {}", value.as_ref()?), origin))
        });
        let assignments: Vec<(String, &ValueOrigin)> = assignments.collect();
        let widths = assignments.iter().map(|(assignment, _)| assignment.chars().count());
        let width = widths.filter(|width| *width <= MAX_ALIGNED).max().unwrap_or_default();
        for (assignment, origin) in assignments {
            let _ = writeln!(text, "{assignment:width$}  # {origin}");
        }
        for EffectiveValue { key, origin, .. } in values.iter().filter(|v| v.value.is_none()) {
            let _ = writeln!(text, "# {key} is {origin}");
        }
    }
    text
}

/// The values as a JSON list of tables.
pub(super) fn as_json(tables: &[EffectiveTable]) -> Value {
    let value = |EffectiveValue { key, value, origin }: &EffectiveValue| {
        let (set_by, origin, effect) = match origin {
            ValueOrigin::Section(origin @ Origin::Variable(_)) => {
                ("environment", Some(origin.to_string()), None)
            }
            ValueOrigin::Section(origin) => ("section", Some(origin.to_string()), None),
            ValueOrigin::Defaults(origin) => ("defaults", Some(origin.to_string()), None),
            ValueOrigin::BuiltIn => ("program", None, None),
            ValueOrigin::NotSet(without) => ("program", None, Some(without)),
        };
        json!({ "key": key, "value": value, "set_by": set_by, "origin": origin, "if_not_set": effect })
    };

    let table = |EffectiveTable { heading, values }: &EffectiveTable| json!({ "table": heading, "values": values.iter().map(value).collect::<Value>() });
    tables.iter().map(table).collect()
}

/// The longest assignment, in characters, that the comments of its table are aligned with.
const MAX_ALIGNED: usize = 60;
