//! Escapes and converts text.
//!
//! Text from Microsoft is untrusted input: it may contain HTML, and comments contain any text that
//! a user of the tenant has entered. Every format must escape or replace the characters that could
//! end a line, or hide or reorder text for the reader of a record; see [`is_hidden`].

use std::borrow::Cow;

pub use crate::text::cut;
use crate::{
    foreign_text::{is_hidden, is_joiner, push_json_escape},
    model::Number,
};

/// Appends a JSON string with its quotes. In addition to what RFC 8259, section 7, requires, it
/// escapes every character that could end a line or hide or reorder text, and every joiner. The
/// value is preserved.
pub fn json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    if text.bytes().fold(false, |found, b| found | !is_plain(b) | (b == b'"')) {
        json_escaped(text, out);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

/// The unit of a number of points: `point` for exactly one, else `points`.
pub(super) fn points_unit(number: Option<Number>) -> &'static str {
    if number == Some(Number::from(1_u32)) { "point" } else { "points" }
}

/// Whether a byte is neither a backslash nor the beginning of a hidden character. Delimiters of a
/// format, such as `"` and `=`, are checked separately. In UTF-8, 0xC2 begins the C1 control
/// characters, and the other bytes begin characters that break lines, reorder text or are
/// invisible. A byte that also begins other characters only makes a text slower to write.
pub(super) const fn is_plain(byte: u8) -> bool {
    (byte >= 0x20)
        & (byte != b'\\')
        & (byte != 0x7f)
        & (byte != 0xc2)
        & (byte != 0xcd)
        & (byte != 0xd8)
        & ((byte < 0xe1) | (byte > 0xe3))
        & (byte < 0xef)
}

/// The number of leading bytes that are plain and not `special`.
pub(super) fn plain_run(bytes: &[u8], special: u8) -> usize {
    const STEP: usize = 16;
    let is_special = |b: u8| !is_plain(b) | (b == special);

    // A fold without a branch per byte lets the compiler check a whole chunk with vector
    // instructions.
    let mut chunks = bytes.chunks_exact(STEP);
    let clean = chunks
        .by_ref()
        .take_while(|chunk| !chunk.iter().fold(false, |found, b| found | is_special(*b)))
        .count();
    let rest = &bytes[clean * STEP..];
    clean * STEP + rest.iter().position(|b| is_special(*b)).unwrap_or(rest.len())
}

fn json_escaped(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;

    loop {
        let (run, special) = rest.split_at(plain_run(rest.as_bytes(), b'"'));
        out.extend_from_slice(run.as_bytes());
        let Some(c) = special.chars().next() else { return };
        rest = &special[c.len_utf8()..];

        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if is_hidden(c) || is_joiner(c) => push_json_escape(c, out),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Same as `str::trim`, but faster for a text that begins and ends with a visible ASCII character.
pub(super) fn trim(text: &str) -> &str {
    let is_visible = |b: Option<&u8>| b.is_some_and(u8::is_ascii_graphic);
    let bytes = text.as_bytes();
    if is_visible(bytes.first()) && is_visible(bytes.last()) { text } else { text.trim() }
}

/// Converts HTML to plain text: removes tags, decodes entities and collapses whitespace. A text
/// without markup is returned unchanged, apart from whitespace at its ends. A `<` that does not
/// begin a complete tag is kept.
pub fn plain(text: &str) -> Cow<'_, str> {
    let text = trim(text);
    if !text.bytes().fold(false, |found, b| found | (b == b'<') | (b == b'&')) {
        return Cow::Borrowed(text);
    }

    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['<', '&']) {
        let (before, special) = rest.split_at(at);
        push_words(&mut out, before);
        rest = if special.starts_with('<') {
            skip_tag(special, &mut out)
        } else {
            decode_entity(special, &mut out)
        };
    }
    push_words(&mut out, rest);
    out.truncate(out.trim_end().len());
    Cow::Owned(out)
}

/// Appends text, with every run of whitespace replaced with one space.
fn push_words(out: &mut String, text: &str) {
    let mut rest = text;
    loop {
        let (run, other) = rest.split_at(run_of_words(rest.as_bytes()));
        out.push_str(run);
        let Some(c) = other.chars().next() else { return };
        rest = &other[c.len_utf8()..];
        if !c.is_whitespace() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
    }
}

/// The number of leading bytes that are visible ASCII characters with single spaces between them.
fn run_of_words(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += bytes[at..].iter().take_while(|b| b.is_ascii_graphic()).count();
        match &bytes[at..] {
            [b' ', next, ..] if at > 0 && next.is_ascii_graphic() => at += 1,
            _ => return at,
        }
    }
}

/// Skips a tag `<…>` and returns the rest. A tag of a block element becomes a space, so that words
/// are not joined.
fn skip_tag<'a>(text: &'a str, out: &mut String) -> &'a str {
    let is_tag = text[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
    match text.split_once('>') {
        Some((tag, rest)) if is_tag => {
            let name = tag.trim_start_matches(['<', '/']).to_ascii_lowercase();
            let block = ["p", "li", "ol", "ul", "br", "div", "tr", "td", "h"];
            if block.iter().any(|b| name.starts_with(b)) {
                push_words(out, " ");
            }
            rest
        }
        _ => {
            out.push('<');
            &text[1..]
        }
    }
}

/// Decodes an entity, `&name;` or `&#n;`, and returns the rest. Any other `&` is kept.
fn decode_entity<'a>(text: &'a str, out: &mut String) -> &'a str {
    let entity = text[1..].split_once(';').filter(|(name, _)| name.len() <= 8);
    if let Some((name, rest)) = entity
        && let Some(c) = entity_char(name)
    {
        push_words(out, c.encode_utf8(&mut [0; 4]));
        return rest;
    }
    out.push('&');
    &text[1..]
}

fn entity_char(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "rsquo" => '’',
        "lsquo" => '‘',
        "ldquo" => '“',
        "rdquo" => '”',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        _ => {
            let number = name.strip_prefix('#')?;
            let hex = number.strip_prefix(['x', 'X']).map(|digits| u32::from_str_radix(digits, 16));
            return char::from_u32(hex.unwrap_or_else(|| number.parse()).ok()?);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn converts_html_to_text() {
        for (html, text) in [
            ("no markup", "no markup"),
            (" <p>1. Go</p><p>2. Click <b>OK</b>&nbsp;now</p> ", "1. Go 2. Click OK now"),
            ("<ol> <li>a</li> <li>b &gt; c</li> </ol>", "a b > c"),
            ("5 < 6 & 7 > 3", "5 < 6 & 7 > 3"),
            ("&#8217;&#x2019;&bogus;&", "’’&bogus;&"),
            ("<script>alert(1)</script>", "alert(1)"),
            ("<unclosed", "<unclosed"),
            ("a  b\u{a0} \n c &amp; é\u{2003}d &lt; ", "a b c & é d <"),
        ] {
            assert_eq!(plain(html), text, "{html}");
        }
    }

    /// A text without other characters is copied without looking at them.
    #[test]
    fn no_hidden_character_begins_with_a_plain_byte() {
        let all = (0..=u32::from(char::MAX)).filter_map(char::from_u32);
        for c in all.filter(|c| is_hidden(*c) || is_joiner(*c)) {
            assert!(!is_plain(c.encode_utf8(&mut [0; 4]).as_bytes()[0]), "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn json_strings_round_trip_without_hidden_characters(text in any::<String>()) {
            let mut out = Vec::new();
            json_string(&text, &mut out);
            let written = String::from_utf8(out).unwrap();
            prop_assert!(!written.chars().any(is_hidden));
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }

        #[test]
        fn plain_text_is_never_longer(text in ".*") {
            prop_assert!(plain(&text).chars().count() <= text.chars().count());
        }
    }
}
