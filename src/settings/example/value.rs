//! The values of keys in the example file, as TOML. A value that is not valid is written
//! unchanged: the tests of the configuration read every section of the file, and report it. Start
//! reading at [`value`].

use crate::settings::{ExampleValue, KeyDefinition, Presence, Shape, toml_string};

/// The value of a key on one line. `None` for a key whose value is a table under its own heading,
/// or a list of such tables.
pub(super) fn value(key: &KeyDefinition) -> Option<String> {
    let text = match (key.example, key.presence) {
        (ExampleValue::Written(text), _) => text.to_owned(),
        (ExampleValue::DefaultElsewhere(default), _)
        | (ExampleValue::OfKey, Presence::Default(default)) => default.to_string(),
        (ExampleValue::OfKey, _) => implied_value(key)?,
        (ExampleValue::Table, _) => return None,
    };
    Some(if is_text(key.shape, &text) { quoted(&text) } else { text })
}

/// A value that the shape of a key implies, and an empty text for other shapes: their keys require
/// an example.
fn implied_value(key: &KeyDefinition) -> Option<String> {
    match key.shape {
        Shape::Table(_) | Shape::Tables(_) | Shape::Tagged { .. } => None,
        Shape::Bool => Some("true".to_owned()),
        Shape::OneOf(choices) => choices.first().map(|choice| (*choice).to_owned()),
        Shape::ManyOf(choices) => {
            let choices: Vec<String> = choices.iter().map(|choice| toml_string(choice)).collect();
            Some(format!("[{}]", choices.join(", ")))
        }
        Shape::Secret(_) => {
            let name = key.name.replace('_', "-");
            Some(format!("{{ credential = {} }}", toml_string(&name)))
        }
        _ => Some(String::new()),
    }
}

/// Whether a value is a single text, which requires quotation marks.
fn is_text(shape: Shape, text: &str) -> bool {
    match shape {
        Shape::Text
        | Shape::File
        | Shape::Duration { .. }
        | Shape::Size { .. }
        | Shape::Day
        | Shape::OneOf(_) => true,
        Shape::TextOrSecret(_) | Shape::NameOrSection(_) | Shape::OneOfOrTable { .. } => {
            !text.starts_with('{')
        }
        _ => false,
    }
}

/// A TOML string. A text that contains quotation marks, such as JSON, is written as a literal
/// string, in which they need no escape characters.
fn quoted(text: &str) -> String {
    let is_literal = text.contains('"') && !text.contains(|c: char| c == '\'' || c.is_control());
    if is_literal { format!("'{text}'") } else { toml_string(text) }
}
