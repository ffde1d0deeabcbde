//! Converts TOML text to a [`Table`] with the origin of every value. No other module uses the
//! parser. A fault names the character that the parser stopped at if an editor or a word processor
//! has probably added it, because it looks like a permitted one. Start reading at [`parse`].

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Faults, Span, Table, hidden,
    node::{Node, TableEntry, Value},
};
use crate::error::Explanation;

/// Marks that word processors write in place of `"` and `'`.
const TYPOGRAPHIC_QUOTES: &[char] =
    &['\u{2018}', '\u{2019}', '\u{201a}', '\u{201c}', '\u{201d}', '\u{201e}', '\u{ab}', '\u{bb}'];

/// Parses the text of a source, by its index. If it is not valid TOML, reports the fault and
/// returns `None`.
pub fn parse(faults: &Faults, source: usize) -> Option<Table> {
    match DeTable::parse(faults.text(source)) {
        Ok(root) => Some(table(root.get_ref(), source)),
        Err(error) => {
            let range = error.span().unwrap_or(0..0);
            let span = Span { source, start: range.start, end: range.end };
            let Explanation { message, hint } =
                explain(faults.text(source), &range, error.message());
            faults.at(span, message, hint);
            None
        }
    }
}

/// Why the text is not valid. `range` is the part at which the parser stopped, and `message` is the
/// message of the parser.
fn explain(text: &str, range: &Range<usize>, message: &str) -> Explanation {
    let (cause, hint) = match unusual_character(text, range) {
        Some('\r') => (
            "a line ends with a carriage return alone".to_owned(),
            Some("save the file with the line ends LF or CRLF"),
        ),
        Some(c) if is_quote(c) => (
            format!("`{c}` is a typographic quotation mark"),
            Some("write straight quotation marks"),
        ),
        Some(c) => (
            format!("the invisible character U+{:04X} is not permitted here", u32::from(c)),
            Some("delete the character, and write a space in its place if it separates words"),
        ),
        None => {
            let hint = "write each backslash twice, or put the value in single quotes";
            (message.replace('\n', ", "), message.contains("escape").then_some(hint))
        }
    };

    let explanation = Explanation::new(format!("the file is not valid TOML: {cause}"));
    Explanation { hint: hint.map(str::to_owned), ..explanation }
}

/// The first character of the range, or directly before it, that looks like another one or is not
/// shown. Line feeds and tabs are part of the syntax, and so is a carriage return before a line
/// feed.
fn unusual_character(text: &str, range: &Range<usize>) -> Option<char> {
    let before = text.get(..range.start)?.char_indices().next_back();
    let after = text.get(range.start..)?.char_indices();
    let within = after
        .take_while(|(at, _)| *at < range.len().max(1))
        .map(|(at, c)| (range.start.saturating_add(at), c));

    let is_unusual = |(at, c): &(usize, char)| match c {
        '\n' | '\t' => false,
        '\r' => text.get(*at..).is_some_and(|rest| !rest.starts_with("\r\n")),
        c => is_quote(*c) || hidden::is_unusual(*c),
    };
    before.into_iter().chain(within).find(is_unusual).map(|(_, c)| c)
}

fn is_quote(c: char) -> bool {
    TYPOGRAPHIC_QUOTES.contains(&c)
}

fn table(table: &DeTable<'_>, source: usize) -> Table {
    let mut converted = Table::default();

    for (name, value) in table {
        converted.push(TableEntry {
            name: name.get_ref().to_string(),
            name_span: span(name, source),
            value: node(value, source),
        });
    }
    converted
}

fn node(spanned: &Spanned<DeValue<'_>>, source: usize) -> Node {
    let value = match spanned.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(integer) => {
            Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Float(_) => Value::Float,
        DeValue::Datetime(_) => Value::DateTime,
        DeValue::Array(list) => Value::List(list.iter().map(|item| node(item, source)).collect()),
        DeValue::Table(inner) => Value::Table(table(inner, source)),
    };

    Node::new(value, span(spanned, source))
}

fn span<T>(spanned: &Spanned<T>, source: usize) -> Span {
    let range = spanned.span();
    Span { source, start: range.start, end: range.end }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the message was that of the parser alone, such as `key with no value, expected
    /// =`, for a file with a no-break space or a zero byte.
    #[test]
    fn faults_of_the_syntax_name_their_cause() {
        let cases = [
            ("name\u{a0}= 1\n", "the invisible character U+00A0", Some("delete the character")),
            ("name\u{200b} = 1\n", "the invisible character U+200B", Some("delete the character")),
            ("a = 1\n\0", "the invisible character U+0000", Some("delete the character")),
            (
                "name = \u{201c}x\u{201d}\n",
                "`\u{201c}` is a typographic",
                Some("straight quotation marks"),
            ),
            ("a = 1\rb = 2\r", "a line ends with a carriage return alone", Some("LF or CRLF")),
            ("a = \"C:\\data\"\n", "", Some("single quotes")),
            ("name: x\n", "", None),
            ("{ \"a\": 1 }\n", "", None),
        ];

        for (text, start, hint) in cases {
            let faults = Faults::of_file("c.toml", text);
            assert!(parse(&faults, 0).is_none(), "{text:?}");
            let found = faults.sorted();
            let prefix = format!("the file is not valid TOML: {start}");
            assert!(found[0].message.starts_with(&prefix), "{text:?}: {found:?}");
            assert!(found[0].message.len() > prefix.len() || !start.is_empty(), "{found:?}");
            match (&found[0].hint, hint) {
                (Some(given), Some(expected)) => assert!(given.contains(expected), "{found:?}"),
                (given, expected) => assert_eq!(given.as_deref(), expected, "{text:?}"),
            }
        }
    }
}
