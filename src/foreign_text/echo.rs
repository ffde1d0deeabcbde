//! The encodings in which a server may repeat what it has received: percent-encoding, and the
//! escapes of JSON, of HTML and of debug output.
//!
//! A text is decoded without a parser, because it can be cut anywhere, and an encoding can apply
//! only to a part of it. Each decoded byte keeps its position in the text. Start reading at
//! [`EchoText`].

use std::ops::Range;

/// An encoding of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EchoEncoding {
    /// `%2F` (RFC 3986).
    Percent,
    /// Like `Percent`, and `+` for a space, as in forms.
    Form,
    /// `\/`, `\u002f` (RFC 8259), and the `\x2f` of debug output.
    Json,
    /// `&amp;`, `&#47;` and `&#x2f;`.
    Html,
}

/// A text that is decoded zero or more times.
#[derive(Clone, Debug, Default)]
pub(super) struct EchoText {
    /// The decoded text.
    bytes: Vec<u8>,
    /// The position of each decoded byte in the original text.
    positions: Vec<Range<usize>>,
}

/// What an escape sequence represents.
enum EchoUnit {
    Byte(u8),
    Character(char),
}

impl EchoEncoding {
    /// All encodings.
    pub(super) const ALL: [Self; 4] = [Self::Percent, Self::Form, Self::Json, Self::Html];

    /// Decodes the escape sequence at the beginning of a text, and returns its length. `None` if
    /// there is none.
    fn decode(self, text: &[u8]) -> Option<(EchoUnit, usize)> {
        match (self, text.first()?) {
            (Self::Percent | Self::Form, b'%') => Some((EchoUnit::Byte(hex_byte(text, 1)?), 3)),
            (Self::Form, b'+') => Some((EchoUnit::Byte(b' '), 1)),
            (Self::Json, b'\\') => json(text),
            (Self::Html, b'&') => html(text),
            _ => None,
        }
    }
}

impl EchoText {
    /// A text at this offset, as it was received.
    pub(super) fn new(text: &[u8], offset: usize) -> Self {
        let positions =
            (offset..offset.saturating_add(text.len())).map(|at| at..at.saturating_add(1));
        Self { bytes: text.to_vec(), positions: positions.collect() }
    }

    /// The decoded text.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The position in the original text of a range of the decoded text that is not empty.
    pub(super) fn position(&self, range: Range<usize>) -> Option<Range<usize>> {
        let found = self.positions.get(range)?;
        Some(found.first()?.start..found.last()?.end)
    }

    /// The text after all escape sequences of an encoding are decoded; `None` if there are none.
    pub(super) fn decoded(&self, encoding: EchoEncoding) -> Option<Self> {
        let mut echo = Self::default();
        let (mut at, mut is_decoded) = (0, false);

        while at < self.bytes.len() {
            let (decoded, length) = match encoding.decode(&self.bytes[at..]) {
                Some(found) => {
                    is_decoded = true;
                    found
                }
                None => (EchoUnit::Byte(self.bytes[at]), 1),
            };
            let position = self.position(at..at + length)?;
            echo.push(&decoded, &position);
            at += length;
        }
        is_decoded.then_some(echo)
    }

    fn push(&mut self, decoded: &EchoUnit, position: &Range<usize>) {
        match decoded {
            EchoUnit::Byte(byte) => self.bytes.push(*byte),
            EchoUnit::Character(c) => {
                self.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        self.positions.resize(self.bytes.len(), position.clone());
    }
}

/// A text after its percent-encoding is decoded.
pub(super) fn percent_decoded(text: &str) -> String {
    let decoded = EchoText::new(text.as_bytes(), 0).decoded(EchoEncoding::Percent);
    decoded.map_or_else(
        || text.to_owned(),
        |decoded| String::from_utf8_lossy(decoded.bytes()).into_owned(),
    )
}

/// Decodes an escape sequence that begins with a backslash.
fn json(text: &[u8]) -> Option<(EchoUnit, usize)> {
    let byte = match text.get(1)? {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => return Some((EchoUnit::Byte(hex_byte(text, 2)?), 4)),
        b'u' => return json_character(text),
        other @ (b'"' | b'\'' | b'\\' | b'/') => *other,
        _ => return None,
    };
    Some((EchoUnit::Byte(byte), 2))
}

/// Decodes `\uXXXX`, or two of them that are a surrogate pair.
fn json_character(text: &[u8]) -> Option<(EchoUnit, usize)> {
    let unit = |at: usize| {
        let [high, low] = [hex_byte(text, at)?, hex_byte(text, at + 2)?];
        Some(u16::from_be_bytes([high, low]))
    };
    let first = unit(2)?;
    if let Some(c) = char::from_u32(first.into()) {
        return Some((EchoUnit::Character(c), 6));
    }

    let second = if text.get(6..8)? == b"\\u" { unit(8)? } else { return None };
    let decoded = char::decode_utf16([first, second]).next()?.ok()?;
    Some((EchoUnit::Character(decoded), 12))
}

/// Decodes a character reference of HTML.
fn html(text: &[u8]) -> Option<(EchoUnit, usize)> {
    /// The longest reference, such as `&#x10ffff;`.
    const MAX_REFERENCE_BYTES: usize = 10;

    let end = text.iter().take(MAX_REFERENCE_BYTES).position(|byte| *byte == b';')?;
    let name = std::str::from_utf8(text.get(1..end)?).ok()?.to_ascii_lowercase();
    let character = match name.as_str() {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(number)?
        }
    };
    Some((EchoUnit::Character(character), end + 1))
}

/// The byte that two hexadecimal digits at this position represent.
fn hex_byte(text: &[u8], at: usize) -> Option<u8> {
    let digits = std::str::from_utf8(text.get(at..at + 2)?).ok()?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hex { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_is_decoded_with_its_positions() {
        for (encoding, text, expected) in [
            (EchoEncoding::Percent, "a%2f%C3%BC", Some("a/ü")),
            (EchoEncoding::Percent, "100% %zz %+1", None),
            (EchoEncoding::Form, "a+b%2Bc", Some("a b+c")),
            (EchoEncoding::Json, r#"\/a\u002F\"\\\x41"#, Some("/a/\"\\A")),
            (EchoEncoding::Json, r"\ud83d\ude00", Some("😀")),
            (EchoEncoding::Json, r"\ud83d \u12", None),
            (EchoEncoding::Html, "&amp;&#47;&#x2F;&none;", Some("&//&none;")),
        ] {
            let decoded = EchoText::new(text.as_bytes(), 0).decoded(encoding);
            let found = decoded.map(|echo| String::from_utf8_lossy(echo.bytes()).into_owned());
            assert_eq!(found.as_deref(), expected, "{text}");
        }

        let echo = EchoText::new(br"x\u0041y", 10).decoded(EchoEncoding::Json).unwrap();
        assert_eq!(echo.position(1..2), Some(11..17));
        assert_eq!(echo.position(0..3), Some(10..18));
        assert_eq!(echo.position(3..4), None);
    }
}
