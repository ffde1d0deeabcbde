//! The escape sequences in which a server may repeat single characters: those of URLs, JSON, HTML,
//! source code and mail. Each function decodes the sequence at the beginning of a text, and returns
//! what it represents and its length; `None` if there is none. Start reading at [`any_escape`].

use super::character_names::named_character;

/// What an escape sequence represents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EchoUnit {
    Byte(u8),
    Character(char),
    /// A line break that is not a part of the text.
    Nothing,
}

/// The longest character reference of HTML.
const MAX_REFERENCE_BYTES: usize = 32;
/// The longest number of a character in braces.
const MAX_BRACED_DIGITS: usize = 8;

/// The characters of the bytes from 0x80 in Windows-1252, which is the usual meaning of Latin-1.
/// Source: the index `windows-1252` of the WHATWG Encoding Standard.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// An escape sequence of a URL, of JSON, HTML or source code, or a character of Latin-1 in UTF-8.
/// None of them begins like another one, so a text in which they are mixed is decoded at once.
pub(super) fn any_escape(text: &[u8]) -> Option<(EchoUnit, usize)> {
    match text.first()? {
        b'%' => percent(text),
        b'\\' => backslash(text),
        b'&' => reference(text),
        _ => single_byte(text),
    }
}

/// A backslash before punctuation or a space.
pub(super) fn escaped_punctuation(text: &[u8]) -> Option<(EchoUnit, usize)> {
    match text {
        [b'\\', byte, ..] if byte.is_ascii_punctuation() || *byte == b' ' => {
            Some((EchoUnit::Byte(*byte), 2))
        }
        _ => None,
    }
}

/// `=3D`, or a line break that a mail program has inserted (RFC 2045, section 6.7).
pub(super) fn quoted_printable(text: &[u8]) -> Option<(EchoUnit, usize)> {
    match text {
        [b'=', b'\r', b'\n', ..] => Some((EchoUnit::Nothing, 3)),
        [b'=', b'\n', ..] => Some((EchoUnit::Nothing, 2)),
        [b'=', ..] => Some((EchoUnit::Byte(hex_byte(text, 1)?), 3)),
        _ => None,
    }
}

/// A character in UTF-8 that is a single byte in Latin-1.
pub(super) fn single_byte(text: &[u8]) -> Option<(EchoUnit, usize)> {
    let (c, length) = utf8_character(text)?;
    let byte = if let code @ 0x80..=0xff = u32::from(c) {
        u8::try_from(code).ok()?
    } else {
        let index = WINDOWS_1252.iter().position(|known| *known == c)?;
        u8::try_from(0x80 + index).ok()?
    };
    Some((EchoUnit::Byte(byte), length))
}

/// The character at the beginning of a text in UTF-8, and its length, if it has several bytes.
pub(super) fn utf8_character(text: &[u8]) -> Option<(char, usize)> {
    let length = match text.first()? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let character = std::str::from_utf8(text.get(..length)?).ok()?;
    Some((character.chars().next()?, length))
}

/// The character that two units of UTF-16 represent; `None` if they are not a surrogate pair.
pub(super) fn utf16_pair(first: u16, second: u16) -> Option<char> {
    let decoded = char::decode_utf16([first, second]).next()?.ok()?;
    (decoded > '\u{ffff}').then_some(decoded)
}

/// A text after its percent-encoding is decoded.
pub(super) fn percent_decoded(text: &str) -> String {
    let text = text.as_bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if let Some(escaped) = hex_byte(text, at + 1).filter(|_| byte == b'%') {
            decoded.push(escaped);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// `%2F` (RFC 3986), or `%u002F` of JavaScript's `escape`.
fn percent(text: &[u8]) -> Option<(EchoUnit, usize)> {
    match text.get(1)? {
        b'u' => utf16_escape(text, b"%u"),
        _ => Some((EchoUnit::Byte(hex_byte(text, 1)?), 3)),
    }
}

/// An escape of JSON (RFC 8259), or of the debug output of a programming language: `\/`, `\n`,
/// `\u002f`, `\u{2f}`, `\U0000002f`, `\x2f`, and `\057` with an octal number.
fn backslash(text: &[u8]) -> Option<(EchoUnit, usize)> {
    let byte = match text.get(1)? {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => return Some((EchoUnit::Byte(hex_byte(text, 2)?), 4)),
        b'u' => return braced(text).or_else(|| utf16_escape(text, b"\\u")),
        b'U' => {
            let c = char::from_u32(hex_number(text.get(2..10)?)?)?;
            return Some((EchoUnit::Character(c), 10));
        }
        b'0'..=b'3' => return octal(text),
        other @ (b'"' | b'\'' | b'\\' | b'/') => *other,
        _ => return None,
    };
    Some((EchoUnit::Byte(byte), 2))
}

/// `\u{2f}`.
fn braced(text: &[u8]) -> Option<(EchoUnit, usize)> {
    let rest = text.strip_prefix(b"\\u{")?;
    let length = rest.iter().take(MAX_BRACED_DIGITS + 1).position(|byte| *byte == b'}')?;
    let c = char::from_u32(hex_number(&rest[..length])?)?;
    Some((EchoUnit::Character(c), length + 4))
}

/// Three octal digits, or `\0`.
fn octal(text: &[u8]) -> Option<(EchoUnit, usize)> {
    let is_octal = |digits: &&[u8]| digits.iter().all(|digit| matches!(digit, b'0'..=b'7'));
    let digits = text.get(1..4).filter(is_octal);
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
        Some(byte) => Some((EchoUnit::Byte(byte), 4)),
        None => (text.get(1) == Some(&b'0')).then_some((EchoUnit::Byte(0), 2)),
    }
}

/// Four hexadecimal digits after a prefix, or two of them that are a surrogate pair.
fn utf16_escape(text: &[u8], prefix: &[u8]) -> Option<(EchoUnit, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix(prefix)?.get(..4)?;
        u16::try_from(hex_number(digits)?).ok()
    };
    let length = prefix.len() + 4;
    let first = unit(0)?;
    if let Some(c) = char::from_u32(first.into()) {
        return Some((EchoUnit::Character(c), length));
    }
    let c = utf16_pair(first, unit(length)?)?;
    Some((EchoUnit::Character(c), 2 * length))
}

/// A character reference of HTML: `&amp;`, `&#47;` or `&#x2f;`.
fn reference(text: &[u8]) -> Option<(EchoUnit, usize)> {
    let end = text.iter().take(MAX_REFERENCE_BYTES).position(|byte| *byte == b';')?;
    let name = std::str::from_utf8(text.get(1..end)?).ok()?;

    let character = match name.strip_prefix('#') {
        None => named_character(name)?,
        Some(number) => {
            let number = match number.strip_prefix(['x', 'X']) {
                Some(digits) => hex_number(digits.as_bytes())?,
                None => number.parse().ok()?,
            };
            char::from_u32(number)?
        }
    };
    Some((EchoUnit::Character(character), end + 1))
}

/// The byte that two hexadecimal digits at this position represent.
fn hex_byte(text: &[u8], at: usize) -> Option<u8> {
    u8::try_from(hex_number(text.get(at..at + 2)?)?).ok()
}

/// The number that hexadecimal digits represent.
fn hex_number(digits: &[u8]) -> Option<u32> {
    // The parser of numbers also accepts a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_represent_characters_or_bytes() {
        use EchoUnit::{Byte, Character};

        for (text, expected) in [
            ("%2f/", Some((Byte(b'/'), 3))),
            ("%C3", Some((Byte(0xc3), 3))),
            ("%u0041", Some((Character('A'), 6))),
            ("%uD83D%uDE00", Some((Character('😀'), 12))),
            (r"\/", Some((Byte(b'/'), 2))),
            (r"\n", Some((Byte(b'\n'), 2))),
            (r"\x41", Some((Byte(b'A'), 4))),
            (r"\u002F", Some((Character('/'), 6))),
            (r"\ud83d\ude00", Some((Character('😀'), 12))),
            (r"\u{41}", Some((Character('A'), 6))),
            (r"\u{0001f600}", Some((Character('😀'), 12))),
            (r"\U0000003d", Some((Character('='), 10))),
            (r"\075", Some((Byte(b'='), 4))),
            (r"\344", Some((Byte(0xe4), 4))),
            (r"\05", Some((Byte(0), 2))),
            ("&amp;", Some((Character('&'), 5))),
            ("&equals;", Some((Character('='), 8))),
            ("&#61;", Some((Character('='), 5))),
            ("&#x3D;", Some((Character('='), 6))),
            ("&#X0003d;", Some((Character('='), 9))),
            ("ä", Some((Byte(0xe4), 2))),
            ("€", Some((Byte(0x80), 3))),
        ] {
            assert_eq!(any_escape(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn other_text_is_not_decoded() {
        for text in ["", "a", "=3D", "+", "東", "😀"] {
            assert_eq!(any_escape(text.as_bytes()), None, "{text}");
        }
        for text in ["%", "%zz", "%+1", "%u004", "%ud83d", "%ud83d%u0041"] {
            assert_eq!(any_escape(text.as_bytes()), None, "{text}");
        }
        for text in ["&", "&;", "&none;", "&#;x", "&#xd800;", "&#x110000;", "& ;"] {
            assert_eq!(any_escape(text.as_bytes()), None, "{text}");
        }
        for text in [r"\", r"\c", r"\x4", r"\u12", r"\1", r"\190", r"\400", r"\U0000"] {
            assert_eq!(any_escape(text.as_bytes()), None, "{text}");
        }
        for text in [r"\ud83d \ude00", r"\u{}x", r"\u{110000}", r"\u{123456789}"] {
            assert_eq!(any_escape(text.as_bytes()), None, "{text}");
        }

        for text in ["=", "=3", "=zz", "= \n", "%3D"] {
            assert_eq!(quoted_printable(text.as_bytes()), None, "{text}");
        }
        for text in [r"\a", r"\1", "=", r"\"] {
            assert_eq!(escaped_punctuation(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn percent_encoding_is_decoded_once() {
        for (text, expected) in
            [("a%2f%C3%BC", "a/ü"), ("%2541 + %zz %", "%41 + %zz %"), ("%e4", "\u{fffd}"), ("", "")]
        {
            assert_eq!(percent_decoded(text), expected, "{text}");
        }
    }
}
