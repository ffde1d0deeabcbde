//! Tests of the checks of values.

use super::*;
use crate::settings::{ExampleValue, Presence, parse, typed::*};

const LINE_KEYS: &[KeyDefinition] = &[key("format", Shape::OneOf(&["csv", "json", "cef"]))];
const MESSAGE_KEYS: &[KeyDefinition] = &[key("format", Shape::OneOf(&["json", "cef"]))];
const SINK: &[KeyDefinition] = &[required("type", TEXT, "The type.").define()];
const KEYS: &[KeyDefinition] =
    &[key("sinks", Shape::Tagged { tag: "type", many: Many::List, keys: SINK, variants: kinds })];

const fn key(name: &'static str, shape: Shape) -> KeyDefinition {
    let presence = Presence::Optional("none");
    KeyDefinition { name, shape, presence, doc: "A key.", example: ExampleValue::OfKey }
}

/// The faults of a text.
fn check_text(text: &str, keys: &[KeyDefinition]) -> Vec<crate::settings::Fault> {
    let faults = Faults::of_file("c.toml", text);
    let table = parse(&faults, 0).unwrap();
    check(&Section::root(&table, &faults), keys, &faults);
    faults.sorted()
}

fn kinds() -> Vec<Variant> {
    vec![
        Variant { name: "file", keys: Some(LINE_KEYS), examples: &[] },
        Variant { name: "syslog", keys: Some(MESSAGE_KEYS), examples: &[] },
    ]
}

/// Regression: a format that only other sinks support was reported as a misspelled one, with
/// the most similar format as its correction.
#[test]
fn formats_of_other_sinks_are_not_typos() {
    let choices = "`sinks[0].format` must be one of: json, cef";
    for (kind, format, message, hint) in [
        (
            "syslog",
            "csv",
            "`sinks[0].format = \"csv\"` is not available for `type = \"syslog\"`",
            Some("use one of: json, cef"),
        ),
        ("syslog", "ceff", choices, Some("use `cef`")),
        ("syslog", "parquet", choices, None),
        ("file", "csvv", "`sinks[0].format` must be one of: csv, json, cef", Some("use `csv`")),
    ] {
        let text = format!("[[sinks]]\ntype = \"{kind}\"\nformat = \"{format}\"\n");
        let found = check_text(&text, KEYS);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].message, message);
        assert_eq!(found[0].hint.as_deref(), hint, "{message}");
    }
}

#[test]
fn entries_of_maps_are_quoted_strings() {
    const MAP: &[KeyDefinition] = &[key("properties", Shape::Map)];
    for (text, path, hint) in [
        ("\"linger.ms\" = 5", "properties.linger.ms", Some("put the value in quotes")),
        ("linger.ms = \"5\"", "properties.linger", Some("put a name with periods in quotes")),
        ("linger = \"\"", "properties.linger", None),
    ] {
        let text = format!("properties = {{ {text} }}\n");
        let found = check_text(&text, MAP);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].message, format!("`{path}` must be a non-empty string"));
        assert_eq!(found[0].hint.as_deref(), hint);
    }
}

/// Regression: a path that ended with a no-break space was valid, and another directory was used.
#[test]
fn values_with_hidden_characters_are_reported() {
    const TEXTS: &[KeyDefinition] = &[
        key("name", Shape::Text),
        key("file", Shape::File),
        key("labels", Shape::Map),
        key("days", Shape::Integer { min: 1, max: 9 }),
    ];
    let cases = [
        ("name = \"a b\"", None),
        ("name = \"a\\nb\\n\"", None),
        ("days = 7", None),
        ("name = \"a\u{a0}\"", Some("`name` contains the invisible character U+00A0 at byte 2")),
        ("name = \" a\"", Some("`name` begins with a space")),
        ("file = \"/a \"", Some("`file` ends with a space")),
        (
            "labels = { x = \"\u{feff}1\" }",
            Some("`labels.x` contains the invisible character U+FEFF at byte 1"),
        ),
    ];

    for (text, expected) in cases {
        let faults = Faults::of_file("c.toml", text);
        let table = parse(&faults, 0).unwrap();
        check(&Section::root(&table, &faults), TEXTS, &faults);
        assert!(faults.is_empty(), "{text}: {:?}", faults.sorted());
        let warnings = faults.sorted_warnings();
        let found: Vec<&str> = warnings.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{text}");
    }
}
