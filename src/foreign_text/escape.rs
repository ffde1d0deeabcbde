//! Escapes, for media in which no character may be lost: terminals, logs and JSON. Hidden
//! characters and joiners become escapes in the notation of Rust, such as `\n` and `\u{1b}`, or in
//! that of JSON. A text without them is returned unchanged.

use std::borrow::Cow;

use super::characters::{is_hidden, is_joiner, is_layout};

/// Escapes everything that is hidden, also line feeds and tabs.
pub(super) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_escaped)
}

/// Escapes everything that is hidden, except line feeds and tabs.
pub(super) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_escaped(c) && !is_layout(c))
}

/// Escapes everything that is hidden, except line feeds.
pub(super) fn field(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_escaped(c) && c != '\n')
}

/// As [`line`], in quotation marks; those in the text, and backslashes, are escaped.
pub(super) fn in_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_escaped(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Escapes hidden characters in the strings of a JSON document. Between its tokens, a document has
/// no hidden characters except whitespace: line feeds and tabs are kept, and a carriage return
/// becomes a space.
pub(super) fn json(document: &str) -> Cow<'_, str> {
    let is_replaced = |c: char| is_escaped(c) && !is_layout(c);
    if !document.contains(is_replaced) {
        return Cow::Borrowed(document);
    }

    let mut out = Vec::with_capacity(document.len() + 16);
    for c in document.chars() {
        match c {
            '\r' => out.push(b' '),
            c if is_replaced(c) => push_json_escape(c, &mut out),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Appends a character as an escape in a string of JSON (RFC 8259, section 7). One outside the
/// basic multilingual plane is two escapes.
pub fn push_json_escape(c: char, out: &mut Vec<u8>) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.extend_from_slice(b"\\u");
        for shift in [12, 8, 4, 0] {
            let digit = usize::from(*unit >> shift & 15);
            out.push(b"0123456789abcdef"[digit]);
        }
    }
}

fn is_escaped(c: char) -> bool {
    is_hidden(c) || is_joiner(c)
}

fn escaped(text: &str, is_selected: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_selected) {
        return Cow::Borrowed(text);
    }

    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_selected(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}
