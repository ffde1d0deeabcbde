//! Members of JSON objects, written one after the other. Each leaves a comma behind, which
//! [`close`] takes away.

use super::text::json_string;
use crate::model::Number;

/// Fields kept as they were sent: the same JSON, on one line, with nothing in it that could be
/// taken for a line end.
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

pub(super) fn raw(key: &str, value: &str, out: &mut Vec<u8>) {
    json_string(key, out);
    out.push(b':');
    if value.bytes().any(|b| !super::text::is_plain(b) && b != b'\\') {
        write_tamed(value, out);
    } else {
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b',');
}

/// JSON text that holds white space between its tokens, or suspicious characters in its strings.
pub(super) fn write_tamed(value: &str, out: &mut Vec<u8>) {
    let mut in_string = false;
    let mut escaped = false;
    for c in value.chars() {
        if super::text::is_unsafe(c) {
            if in_string {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            in_string ^= c == '"' && !escaped;
        }
        escaped = c == '\\' && !escaped;
    }
}

pub(super) fn text(key: &str, value: Option<&str>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_key(key, out);
        json_string(value, out);
        out.push(b',');
    }
}

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

pub(super) fn float(key: &str, value: Option<Number>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_key(key, out);
        value.write_float(out);
        out.push(b',');
    }
}

pub(super) fn plain_number(key: &str, value: Option<Number>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_key(key, out);
        value.write_plain(out);
        out.push(b',');
    }
}

pub(super) fn boolean(key: &str, value: Option<bool>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        write_key(key, out);
        out.extend_from_slice(if value { b"true," } else { b"false," });
    }
}

pub(super) fn write_key(key: &str, out: &mut Vec<u8>) {
    json_string(key, out);
    out.push(b':');
}

/// Ends an object or a list whose members each left a comma.
pub(super) fn close(bracket: u8, out: &mut Vec<u8>) {
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(bracket);
}

/// Opens an object under a key.
pub(super) fn open(key: &str, out: &mut Vec<u8>) {
    write_key(key, out);
    out.push(b'{');
}

/// Ends an object that more follow.
pub(super) fn end(out: &mut Vec<u8>) {
    close(b'}', out);
    out.push(b',');
}

pub(super) fn integer(key: &str, value: i64, out: &mut Vec<u8>) {
    write_key(key, out);
    if value < 0 {
        out.push(b'-');
    }
    crate::model::write_integer(value.unsigned_abs(), out);
    out.push(b',');
}
