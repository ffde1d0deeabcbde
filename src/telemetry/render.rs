//! Renders a line as text or as JSON. All messages and values are foreign text: they must not start
//! a new line, send commands to a terminal, or hide a part of the line.

use std::io::Write as _;

use serde_json::json;
use tracing::Level;

use super::{FieldValue, LogLine};
use crate::foreign_text::ForeignText;

/// The form in which a line is rendered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Render {
    /// One line of text; hidden characters are escaped.
    Text(LevelColor),
    /// One JSON object.
    Json,
}

/// Whether text output colors the level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LevelColor {
    /// With ANSI escape sequences.
    Ansi,
    /// Without color, for output that is not a terminal.
    Plain,
}

impl Render {
    /// Appends the line, with a line feed.
    pub(super) fn line(self, line: &LogLine, out: &mut Vec<u8>) {
        match self {
            Self::Text(color) => text(line, color, out),
            Self::Json => json(line, out),
        }
        out.push(b'\n');
    }
}

fn text(line: &LogLine, color: LevelColor, out: &mut Vec<u8>) {
    let (on, off) = match color {
        LevelColor::Ansi => (color_code(line.level), "\x1b[0m"),
        LevelColor::Plain => ("", ""),
    };
    let time = line.time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{time} {on}{:>5}{off} ", line.level.as_str());
    message_and_fields(line, out);
}

/// The message, followed by the fields as `name=value`.
pub(super) fn message_and_fields(line: &LogLine, out: &mut Vec<u8>) {
    out.extend_from_slice(ForeignText::new(&line.message).escaped().as_bytes());
    for (name, value) in &line.fields {
        let _ = match value {
            FieldValue::Formatted(text) if is_plain(text) => write!(out, " {name}={text}"),
            FieldValue::Text(text) | FieldValue::Formatted(text) => {
                write!(out, " {name}={}", ForeignText::new(text).escaped_in_quotes())
            }
            FieldValue::Bare(text) => write!(out, " {name}={text}"),
        };
    }
    if line.repeated > 0 {
        let _ = write!(out, " repeated={}", line.repeated);
    }
}

/// Whether a value is a single word that needs neither quotes nor escapes.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\'))
}

fn color_code(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

fn json(line: &LogLine, out: &mut Vec<u8>) {
    let mut object = serde_json::Map::new();
    for (name, value) in &line.fields {
        let value = match value {
            FieldValue::Text(text) | FieldValue::Formatted(text) => json!(text),
            FieldValue::Bare(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        };
        object.insert((*name).to_owned(), value);
    }

    // Inserted last, so that no field of an event can replace them.
    object.insert("time".to_owned(), json!(line.time.to_string()));
    object.insert("level".to_owned(), json!(line.level.as_str().to_lowercase()));
    object.insert("message".to_owned(), json!(line.message));
    if line.repeated > 0 {
        object.insert("repeated".to_owned(), json!(line.repeated));
    }
    let document = serde_json::Value::Object(object).to_string();
    out.extend_from_slice(ForeignText::new(&document).escaped_json().as_bytes());
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn rendered(render: Render) -> String {
        let line = LogLine {
            time: Timestamp::from_millisecond(1_795_456_896_703).unwrap(),
            level: Level::WARN,
            message: "delivery\x1b[2J failed".to_owned(),
            fields: vec![
                ("sink", FieldValue::Text("far".to_owned())),
                ("records", FieldValue::Bare("3".to_owned())),
                ("newest", FieldValue::Formatted("2026-11-22".to_owned())),
                ("error", FieldValue::Text("line one\nline \"two\"".to_owned())),
            ],
            is_uncollapsed: false,
            repeated: 7,
        };
        let mut out = Vec::new();
        render.line(&line, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_one_line_without_control_characters() {
        assert_eq!(
            rendered(Render::Text(LevelColor::Plain)),
            "2026-11-23T18:01:36.703Z  WARN delivery\\u{1b}[2J failed sink=\"far\" records=3 newest=2026-11-22 \
             error=\"line one\\nline \\\"two\\\"\" repeated=7\n"
        );
        assert!(
            rendered(Render::Text(LevelColor::Ansi))
                .starts_with("2026-11-23T18:01:36.703Z \x1b[33m WARN\x1b[0m ")
        );
    }

    #[test]
    fn json_keeps_numbers_and_escapes_strings() {
        let line = rendered(Render::Json);
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["records"], 3);
        assert_eq!(value["error"], "line one\nline \"two\"");
        assert_eq!(value["repeated"], 7);
    }

    /// Regression: DEL, C1, and characters that are invisible or reorder text were not escaped.
    #[test]
    fn hidden_characters_are_escaped_in_all_forms() {
        let hidden = "\u{1b}\u{7f}\u{9b}31m\u{202e}\u{200d}\u{e0041}";
        let line = LogLine {
            time: Timestamp::UNIX_EPOCH,
            level: Level::ERROR,
            message: format!("failed {hidden}"),
            fields: vec![
                ("error", FieldValue::Text(hidden.to_owned())),
                ("details", FieldValue::Formatted(hidden.to_owned())),
            ],
            is_uncollapsed: false,
            repeated: 0,
        };

        let escapes = "\\u{1b}\\u{7f}\\u{9b}31m\\u{202e}\\u{200d}\\u{e0041}";
        let mut text = Vec::new();
        Render::Text(LevelColor::Plain).line(&line, &mut text);
        let expected = format!("failed {escapes} error=\"{escapes}\" details=\"{escapes}\"\n");
        assert!(String::from_utf8(text).unwrap().ends_with(&expected));

        let mut json = Vec::new();
        Render::Json.line(&line, &mut json);
        let json = String::from_utf8(json).unwrap();
        assert!(json.is_ascii(), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["error"], &value["details"]), (&json!(hidden), &json!(hidden)));
    }
}
