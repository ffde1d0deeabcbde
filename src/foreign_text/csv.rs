//! A cell of a CSV file (RFC 4180) that no spreadsheet evaluates.
//!
//! A spreadsheet evaluates a cell that begins with a sign such as `=`, and where a cell begins
//! depends on its settings: in many countries, the separator is `;`, and quotation marks inside
//! such a cell have no effect. An apostrophe therefore precedes a sign at every place where a cell
//! could begin. Start reading at [`write_cell`].

use super::characters::visible;

/// The signs with which a formula begins, also in the forms that spreadsheets convert to them.
const SIGNS: [char; 12] = ['=', '+', '-', '@', '＝', '＋', '－', '＠', '﹦', '﹢', '﹣', '﹫'];
/// The separators of cells, one of which a spreadsheet uses. A tab becomes a space.
const SEPARATORS: [char; 3] = [',', ';', '|'];
/// The characters because of which a cell is written in quotation marks.
const QUOTED: [char; 3] = [',', ';', '"'];

/// Appends a text as one cell: trimmed, quoted if necessary, with U+FFFD in place of hidden
/// characters, and with an apostrophe before every sign at which a formula could begin. A number
/// with its sign is not a formula.
pub(super) fn write_cell(text: &str, out: &mut Vec<u8>) {
    let text = text.trim();
    if is_plain(text) {
        out.extend_from_slice(text.as_bytes());
        return;
    }

    let is_quoted = text.contains(QUOTED);
    if is_quoted {
        out.push(b'"');
    }
    let mut is_start = true;
    for (index, c) in text.char_indices() {
        let shown = visible(c);
        if is_start && SIGNS.contains(&shown) && !begins_number(&text[index..]) {
            out.push(b'\'');
        }
        if c == '"' {
            out.push(b'"');
        }
        out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
        is_start = SEPARATORS.contains(&c) || (is_start && is_skipped(shown));
    }
    if is_quoted {
        out.push(b'"');
    }
}

/// Whether a text begins with a letter or a digit of ASCII and contains only letters, digits,
/// spaces and a few signs that are harmless there. Most cells are such texts.
fn is_plain(text: &str) -> bool {
    let is_harmless =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-' | b'_' | b'.' | b':');
    text.as_bytes().first().is_none_or(u8::is_ascii_alphanumeric) && text.bytes().all(is_harmless)
}

/// Whether a spreadsheet may ignore a character at the beginning of a cell.
fn is_skipped(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | char::REPLACEMENT_CHARACTER)
}

/// Whether everything up to the next separator is a number, such as `-1.5` and `+2e3`.
fn begins_number(text: &str) -> bool {
    let end = text.find(SEPARATORS).unwrap_or(text.len());
    let number = text[..end].trim_end();
    let has_only_digits =
        number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    has_only_digits && number.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::foreign_text::is_hidden;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        write_cell(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cells_are_quoted_and_formulas_disarmed() {
        let cases = [
            ("plain", "plain"),
            ("2026-11-22", "2026-11-22"),
            ("a,b", "\"a,b\""),
            ("a;b", "\"a;b\""),
            ("a \"b\"", "\"a \"\"b\"\"\""),
            ("-1.5", "-1.5"),
            ("+2e3", "+2e3"),
            ("-inf", "'-inf"),
            ("-2+3", "'-2+3"),
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("＝1+1", "'＝1+1"),
            ("－1", "'－1"),
            ("-a,b", "\"'-a,b\""),
            ("  =1", "'=1"),
            ("\t=1", "'=1"),
            ("\u{200b}=1", "\u{fffd}'=1"),
            ("\"=1", "\"\"\"'=1\""),
            ("'=1", "''=1"),
            ("x;=1+1;y", "\"x;'=1+1;y\""),
            ("x; \"=1\"", "\"x; \"\"'=1\"\"\""),
            ("x,＝cmd|'/c calc'!A0", "\"x,'＝cmd|'/c calc'!A0\""),
            ("1;-2,5;-x", "\"1;-2,5;'-x\""),
            ("two\nlines\u{1b}[31m", "two lines\u{fffd}[31m"),
            ("two\r=1", "two =1"),
            ("", ""),
        ];

        for (text, expected) in cases {
            assert_eq!(written(text), expected, "{text}");
        }
    }

    /// The beginnings of all cells that a program could find, with each of the separators, whether
    /// it removes quotation marks and spaces or not.
    fn beginnings(line: &str) -> Vec<&str> {
        let mut cells = vec![line];
        for separator in SEPARATORS {
            cells.extend(line.split(separator));
        }
        cells.into_iter().map(|cell| cell.trim_start_matches([' ', '"'])).collect()
    }

    proptest! {
        #[test]
        fn no_cell_begins_with_a_formula(text in "[-=+@＝a1 ,;|\"'\t\r\n\u{1b}\u{e0041}]*") {
            let cell = written(&text);
            prop_assert!(!cell.chars().any(is_hidden), "{cell}");
            for beginning in beginnings(&cell) {
                let is_number = begins_number(beginning.trim_end_matches([' ', '"']));
                prop_assert!(!beginning.starts_with(SIGNS) || is_number, "{cell}");
            }
        }

        #[test]
        fn cells_are_read_back(text in "[a-z ,;\"\n]*") {
            let mut reader = ::csv::ReaderBuilder::new();
            let line = format!("{},x\n", written(&text));
            let mut records = reader.has_headers(false).from_reader(line.as_bytes()).into_records();
            let record = records.next().unwrap().unwrap();
            prop_assert_eq!(record.len(), 2);
            prop_assert_eq!(&record[0], text.trim().replace('\n', " "));
        }
    }
}
