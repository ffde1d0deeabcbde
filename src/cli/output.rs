//! What commands write to standard output and to standard error.
//!
//! Everything that is printed can quote foreign text. Text for people is escaped here, as the last
//! line of defense: no command can send a control character to a terminal, except the colors of
//! tables. Data for other programs is printed unchanged, unless a terminal shows it. Code that puts
//! foreign text into a line escapes it there, so that it cannot begin another line.
//! See decision 0065.

use std::{
    borrow::Cow,
    io::{IsTerminal, Write},
};

use super::{CommandFailure, render};
use crate::{error::Explanation, foreign_text::ForeignText};

/// The sequences that color the cells of tables, without the escape character: red, green, yellow,
/// the default color, and what is written instead of each of them if `$NO_COLOR` is set.
const COLORS: [&str; 5] = ["[38;5;9m", "[38;5;10m", "[38;5;11m", "[39m", "[m"];

/// Prints text for people to standard output. Fails if it cannot be written.
pub(super) fn print(text: &str) -> Result<(), CommandFailure> {
    write_output(&for_terminal(text))
}

/// Prints data for other programs, such as a report or a script, to standard output. Fails if it
/// cannot be written.
pub(super) fn print_data(data: &str) -> Result<(), CommandFailure> {
    if std::io::stdout().is_terminal() { print(data) } else { write_output(data) }
}

/// Prints a JSON document, in which hidden characters are escapes of JSON, to standard output.
/// Fails if it cannot be written.
pub(super) fn print_json(document: &str) -> Result<(), CommandFailure> {
    write_output(&ForeignText::new(document).escaped_json())
}

/// The JSON text of a snapshot as one line, without a line break: unchanged for other programs, and
/// with escapes of JSON for a terminal.
pub(super) fn snapshot_line(body: &str) -> String {
    // JSON contains line breaks only between tokens; those in strings are escaped.
    let line = body.replace(['\n', '\r'], " ");
    if std::io::stdout().is_terminal() {
        ForeignText::new(&line).escaped_json().into_owned()
    } else {
        line
    }
}

/// Prints a message and its hint to standard error.
pub(super) fn print_explanation(explanation: &Explanation) {
    print_message(&render(explanation));
}

/// Prints a message to standard error. Does nothing if standard error is closed.
pub(super) fn print_message(message: &str) {
    let _ = writeln!(std::io::stderr(), "{}", for_terminal(message));
}

fn write_output(text: &str) -> Result<(), CommandFailure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// The text with escapes in place of hidden characters, except line feeds, tabs and the colors of
/// tables.
fn for_terminal(text: &str) -> Cow<'_, str> {
    let mut parts = text.split('\u{1b}');
    let mut shown = ForeignText::new(parts.next().unwrap_or_default()).escaped_lines();
    for part in parts {
        let color = COLORS.iter().find(|color| part.starts_with(**color));
        let shown = shown.to_mut();
        shown.push_str(if color.is_some() { "\u{1b}" } else { "\\u{1b}" });
        shown.push_str(&ForeignText::new(part).escaped_lines());
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        cli::table::{Column, Content, Terminal, TextTable, Tone},
        foreign_text::is_hidden,
    };

    #[test]
    fn hidden_characters_are_escaped() {
        for (text, shown) in [
            ("plain, é\n\tline two\n", "plain, é\n\tline two\n"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "\\u{1b}[2J\\u{1b}]0;title\\u{7}"),
            ("\u{9b}31m\u{202e}\u{e0041}\r", "\\u{9b}31m\\u{202e}\\u{e0041}\\r"),
            ("\u{1b}[38;5;9mred\u{1b}[39m", "\u{1b}[38;5;9mred\u{1b}[39m"),
            ("\u{1b}[38;5;12m\u{1b}[8m\u{1b}", "\\u{1b}[38;5;12m\\u{1b}[8m\\u{1b}"),
            ("\u{1b}", "\\u{1b}"),
            ("", ""),
        ] {
            assert_eq!(for_terminal(text), shown);
        }
    }

    #[test]
    fn tables_keep_their_colors() {
        let mut table = TextTable::new(vec![Column::new("state", Content::Text, 0)]);
        for tone in [Tone::Plain, Tone::Good, Tone::Warning, Tone::Bad] {
            table.row(vec![("a".to_owned(), tone)]);
        }
        let colored = table.render(Terminal { width: None, is_colored: true });
        assert_eq!(colored.matches('\u{1b}').count(), 6, "{colored:?}");
        assert_eq!(for_terminal(&colored), colored);
    }

    /// The text without the sequences that are permitted.
    fn without_colors(text: &str) -> String {
        let with_escape = COLORS.map(|color| format!("\u{1b}{color}"));
        with_escape.iter().fold(text.to_owned(), |text, color| text.replace(color, ""))
    }

    proptest! {
        #[test]
        fn no_text_controls_a_terminal(text in "(\u{1b}\\[(38;5;(9|10|11)|39|2|)[mJ]|.|\n|\r)*") {
            let shown = for_terminal(&text);
            let rest = without_colors(&shown).replace(['\n', '\t'], "");
            prop_assert!(!rest.chars().any(is_hidden), "{shown:?}");
        }
    }
}
