//! Writes JSON members directly into a buffer. Each function writes a comma after its member;
//! [`close`] removes the last comma of an object or list.

use super::text::{is_plain, json_string};
use crate::{
    foreign_text::{is_hidden, is_joiner, push_json_escape},
    model::Number,
};

/// Writes an object of unknown fields. The values are the JSON that Microsoft sent, on one line and
/// with every character escaped that could end a line.
pub(super) fn write_additional<'a>(
    fields: impl Iterator<Item = (&'a str, &'a str)>,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    for (key, value) in fields {
        raw(key, value, out);
    }
    close(b'}', out);
}

/// Writes a member whose value is JSON text.
pub(super) fn raw(key: &str, value: &str, out: &mut Vec<u8>) {
    json_string(key, out);
    out.push(b':');
    if value.bytes().any(|b| !is_plain(b) && b != b'\\') {
        write_sanitized(value, out);
    } else {
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b',');
}

/// Writes JSON text: removes control characters between its tokens and escapes hidden characters in
/// its strings.
fn write_sanitized(value: &str, out: &mut Vec<u8>) {
    let mut in_string = false;
    let mut escaped = false;
    for c in value.chars() {
        if is_hidden(c) || is_joiner(c) {
            if in_string {
                push_json_escape(c, out);
            }
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            in_string ^= c == '"' && !escaped;
        }
        escaped = c == '\\' && !escaped;
    }
}

/// Writes a string, if there is one.
pub(super) fn text(key: &str, value: Option<&str>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_key(key, out);
        json_string(value, out);
        out.push(b',');
    }
}

/// Writes a list of strings.
pub(super) fn list<'a>(key: &str, values: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    write_key(key, out);
    out.push(b'[');
    for value in values {
        json_string(value, out);
        out.push(b',');
    }
    close(b']', out);
    out.push(b',');
}

/// Writes a number with a decimal point, if there is one: `8.0`. Receivers that infer types then
/// always infer a floating-point type.
pub(super) fn float(key: &str, value: Option<Number>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_key(key, out);
        value.write_float(out);
        out.push(b',');
    }
}

/// Writes a number in its shortest form, if there is one: `8`.
pub(super) fn plain_number(key: &str, value: Option<Number>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_key(key, out);
        value.write_plain(out);
        out.push(b',');
    }
}

/// Writes `true` or `false`, if there is a value.
pub(super) fn boolean(key: &str, value: Option<bool>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_key(key, out);
        out.extend_from_slice(if value { b"true," } else { b"false," });
    }
}

/// Writes the key of a member and the colon after it.
pub(super) fn write_key(key: &str, out: &mut Vec<u8>) {
    json_string(key, out);
    out.push(b':');
}

/// Removes the comma of the last member and closes an object or list.
pub(super) fn close(bracket: u8, out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(bracket);
}

/// Opens an object that is a member of another one.
pub(super) fn open(key: &str, out: &mut Vec<u8>) {
    write_key(key, out);
    out.push(b'{');
}

/// Closes an object that is a member, with the comma after it.
pub(super) fn end(out: &mut Vec<u8>) {
    close(b'}', out);
    out.push(b',');
}

/// Writes an integer.
pub(super) fn integer(key: &str, value: i64, out: &mut Vec<u8>) {
    write_key(key, out);
    if value < 0 {
        out.push(b'-');
    }
    crate::model::write_integer(value.unsigned_abs(), out);
    out.push(b',');
}
