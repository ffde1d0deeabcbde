//! The output of `check --show-effective`: every key with its value and its origin.
//!
//! The text is TOML, and the origin of a value is its comment. Start reading at [`as_toml`].

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::settings::{EffectiveTable, EffectiveValue, ValueOrigin};

/// The values as TOML.
pub(super) fn as_toml(tables: &[EffectiveTable]) -> String {
    let mut text = String::new();
    for EffectiveTable { heading, values } in tables {
        text.push('\n');
        if !heading.is_empty() {
            let _ = writeln!(text, "{heading}");
        }

        // The comments of a table begin in one column, unless a value is long.
        let widths = values.iter().map(|value| value.key.len() + value.value.chars().count() + 3);
        let width = widths.filter(|width| *width <= MAX_ALIGNED).max().unwrap_or_default();
        for EffectiveValue { key, value, origin } in values {
            let assignment = format!("{key} = {value}");
            let _ = writeln!(text, "{assignment:width$}  # {origin}");
        }
    }
    text
}

/// The values as a JSON list of tables.
pub(super) fn as_json(tables: &[EffectiveTable]) -> Value {
    let value = |EffectiveValue { key, value, origin }: &EffectiveValue| {
        let (set_by, place) = match origin {
            ValueOrigin::Section(origin) => ("section", Some(origin.to_string())),
            ValueOrigin::Defaults(origin) => ("defaults", Some(origin.to_string())),
            ValueOrigin::BuiltIn => ("program", None),
        };
        json!({ "key": key, "value": value, "set_by": set_by, "origin": place })
    };

    let table = |EffectiveTable { heading, values }: &EffectiveTable| json!({ "table": heading, "values": values.iter().map(value).collect::<Value>() });
    tables.iter().map(table).collect()
}

/// The longest assignment, in characters, that the comments of its table are aligned with.
const MAX_ALIGNED: usize = 60;
