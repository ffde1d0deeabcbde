//! The encodings in which a server may repeat what it has received, and the form in which texts are
//! compared.
//!
//! A text is decoded without a parser, because it can be cut anywhere, and an encoding can apply
//! only to a part of it. Each decoded byte keeps its position in the text. `echo_escapes` decodes
//! the single escape sequences. Start reading at [`EchoText`]. See decision 0086.

use std::{convert::identity, ops::Range};

use super::{
    characters::{is_hidden, is_joiner},
    echo_escapes::{
        EchoUnit, any_escape, escaped_punctuation, quoted_printable, single_byte, utf8_character,
        utf16_pair,
    },
};

/// An encoding of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EchoEncoding {
    /// The escape sequences of URLs, JSON, HTML and source code, all at once, and the characters of
    /// Latin-1 in UTF-8.
    Escapes,
    /// A backslash before any punctuation, as in shells and regular expressions.
    Backslashes,
    /// `=3D` and soft line breaks (RFC 2045, section 6.7).
    QuotedPrintable,
    /// UTF-16 after this number of other bytes.
    Utf16(Utf16Order, usize),
}

/// The order of the two bytes of a unit of UTF-16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Utf16Order {
    Little,
    Big,
}

/// A text that is decoded zero or more times.
#[derive(Clone, Debug, Default)]
pub(super) struct EchoText {
    /// The decoded text.
    bytes: Vec<u8>,
    /// The position of each decoded byte in the original text, which has less than 4 GiB.
    positions: Vec<Range<u32>>,
}

impl EchoEncoding {
    /// All encodings.
    pub(super) const ALL: &'static [Self] = &[
        Self::Escapes,
        Self::Backslashes,
        Self::QuotedPrintable,
        Self::Utf16(Utf16Order::Little, 0),
        Self::Utf16(Utf16Order::Little, 1),
        Self::Utf16(Utf16Order::Big, 0),
        Self::Utf16(Utf16Order::Big, 1),
    ];

    /// The encodings that may apply to a text of this encoding, of those that may apply to it. Only
    /// escapes are nested in each other, so the number of combinations is small.
    pub(super) const fn inner(self, outer: &'static [Self]) -> &'static [Self] {
        match self {
            Self::Escapes => outer,
            Self::Backslashes | Self::QuotedPrintable | Self::Utf16(..) => &[Self::Escapes],
        }
    }
}

impl EchoText {
    /// A text as it was received.
    pub(super) fn new(text: &[u8]) -> Self {
        let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let positions = (0..text.len()).map(|at| position(at)..position(at + 1));
        Self { bytes: text.to_vec(), positions: positions.collect() }
    }

    /// The decoded text.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The decoded text.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The position in the original text of a range of the decoded text that is not empty.
    pub(super) fn position(&self, range: Range<usize>) -> Option<Range<usize>> {
        let Range { start, end } = self.span(range)?;
        Some(start as usize..end as usize)
    }

    /// Whether nothing is between the byte at this index and the byte before it in the original
    /// text.
    pub(super) fn is_adjacent(&self, index: usize) -> bool {
        let before = index.checked_sub(1).and_then(|before| self.positions.get(before));
        let end = before.map(|before| before.end);
        end.is_some() && end == self.positions.get(index).map(|position| position.start)
    }

    /// The text after all sequences of an encoding are decoded; `None` if there are none.
    pub(super) fn decoded(&self, encoding: EchoEncoding) -> Option<Self> {
        match encoding {
            EchoEncoding::Escapes => self.unescaped(any_escape),
            EchoEncoding::Backslashes => self.unescaped(escaped_punctuation),
            EchoEncoding::QuotedPrintable => self.unescaped(quoted_printable),
            EchoEncoding::Utf16(order, skipped) => self.utf16_decoded(order, skipped),
        }
    }

    /// The texts after all sequences of an encoding are decoded: of the text itself and, if that
    /// has another result, of the text without the characters that are not visible. These can be
    /// within a sequence, but also separate it from what follows. `visible` is [`Self::visible`].
    pub(super) fn all_decoded(&self, visible: Option<&Self>, encoding: EchoEncoding) -> Vec<Self> {
        let mut all: Vec<Self> = self.decoded(encoding).into_iter().collect();
        let Some(visible) = visible else { return all };

        let interrupted = match encoding {
            EchoEncoding::Escapes | EchoEncoding::Backslashes => [visible.decoded(encoding), None],
            // A line break can be within a sequence, or a part of one.
            EchoEncoding::QuotedPrintable => {
                [visible.decoded(encoding), self.visible_lines().decoded(encoding)]
            }
            // The units contain zero bytes themselves.
            EchoEncoding::Utf16(..) => [None, None],
        };
        for decoded in interrupted.into_iter().flatten() {
            let shown = decoded.visible_as(identity, is_shown).bytes;
            if all.iter().all(|other| other.visible_as(identity, is_shown).bytes != shown) {
                all.push(decoded);
            }
        }
        all
    }

    /// The text with the characters of Latin-1 as single bytes; `None` if there are none.
    pub(super) fn in_single_bytes(&self) -> Option<Self> {
        self.unescaped(single_byte)
    }

    /// The text without the characters that are not visible, such as NUL, line breaks and soft
    /// hyphens; `None` if there are none.
    pub(super) fn visible(&self) -> Option<Self> {
        let visible = self.visible_as(identity, is_shown);
        (visible.bytes.len() < self.bytes.len()).then_some(visible)
    }

    /// The form in which texts are compared: in lower case, with a space for `+`, which represents
    /// one in forms, and without the characters that are not visible.
    pub(super) fn comparable(&self) -> Self {
        self.visible_as(comparable_byte, is_shown)
    }

    /// The characters that are visible, and line breaks.
    fn visible_lines(&self) -> Self {
        self.visible_as(identity, |byte| is_shown(byte) || matches!(byte, b'\r' | b'\n'))
    }

    /// The characters that are visible, each byte as `form` returns it. Of the ASCII characters,
    /// `is_kept` selects them.
    fn visible_as(&self, form: impl Fn(u8) -> u8, is_kept: impl Fn(u8) -> bool) -> Self {
        let mut echo = Self::default();
        let mut at = 0;
        while let Some(&byte) = self.bytes.get(at) {
            let (is_visible, length) = if byte.is_ascii() {
                (is_kept(byte), 1)
            } else {
                match utf8_character(&self.bytes[at..]) {
                    Some((c, length)) => (!is_invisible(c), length),
                    // 0xAD is a soft hyphen in Latin-1.
                    None => (byte != 0xad, 1),
                }
            };

            if is_visible {
                let kept = at..at + length;
                echo.bytes.extend(self.bytes[kept.clone()].iter().map(|byte| form(*byte)));
                echo.positions.extend_from_slice(&self.positions[kept]);
            }
            at += length;
        }
        echo
    }

    /// The text after all sequences that `decode` recognizes at their beginning are decoded.
    fn unescaped(&self, decode: impl Fn(&[u8]) -> Option<(EchoUnit, usize)>) -> Option<Self> {
        let first = (0..self.bytes.len()).find(|at| decode(&self.bytes[*at..]).is_some())?;

        let mut echo = Self {
            bytes: self.bytes[..first].to_vec(),
            positions: self.positions[..first].to_vec(),
        };
        let mut at = first;
        while let Some(&byte) = self.bytes.get(at) {
            let (unit, length) = decode(&self.bytes[at..]).unwrap_or((EchoUnit::Byte(byte), 1));
            echo.push(unit, &self.span(at..at + length)?);
            at += length;
        }
        Some(echo)
    }

    /// The text in UTF-8 if it is UTF-16 after `skipped` bytes. A text without a zero byte is not
    /// UTF-16, because even one in other scripts contains line breaks, spaces or digits.
    fn utf16_decoded(&self, order: Utf16Order, skipped: usize) -> Option<Self> {
        if !self.bytes.contains(&0) {
            return None;
        }
        let unit = |at: usize| {
            let bytes = [*self.bytes.get(at)?, *self.bytes.get(at + 1)?];
            Some(match order {
                Utf16Order::Little => u16::from_le_bytes(bytes),
                Utf16Order::Big => u16::from_be_bytes(bytes),
            })
        };

        let mut echo = Self::default();
        let mut at = skipped;
        while let Some(first) = unit(at) {
            let pair = unit(at + 2).and_then(|second| utf16_pair(first, second));
            let (c, length) = match pair {
                Some(c) => (c, 4),
                None => (char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER), 2),
            };
            echo.push(EchoUnit::Character(c), &self.span(at..at + length)?);
            at += length;
        }
        Some(echo)
    }

    fn push(&mut self, unit: EchoUnit, span: &Range<u32>) {
        match unit {
            EchoUnit::Byte(byte) => self.bytes.push(byte),
            EchoUnit::Character(c) => {
                self.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            EchoUnit::Nothing => {}
        }
        self.positions.resize(self.bytes.len(), span.clone());
    }

    fn span(&self, range: Range<usize>) -> Option<Range<u32>> {
        let found = self.positions.get(range)?;
        Some(found.first()?.start..found.last()?.end)
    }
}

const fn is_shown(byte: u8) -> bool {
    !byte.is_ascii_control()
}

const fn comparable_byte(byte: u8) -> u8 {
    if byte == b'+' { b' ' } else { byte.to_ascii_lowercase() }
}

/// Whether a character has no visible form and can be between the characters of a secret.
const fn is_invisible(c: char) -> bool {
    is_hidden(c) || is_joiner(c) || matches!(c, '\u{fe00}'..='\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(encoding: EchoEncoding, text: &[u8]) -> Option<Vec<u8>> {
        EchoText::new(text).decoded(encoding).map(EchoText::into_bytes)
    }

    #[test]
    fn decoded_bytes_keep_their_positions() {
        let echo = EchoText::new(br"x\u0041y").decoded(EchoEncoding::Escapes).unwrap();
        assert_eq!(echo.bytes(), b"xAy");
        assert_eq!(echo.position(1..2), Some(1..7));
        assert_eq!(echo.position(0..3), Some(0..8));
        assert_eq!(echo.position(3..4), None);

        let again = EchoText::new(b"%2541").decoded(EchoEncoding::Escapes).unwrap();
        let again = again.decoded(EchoEncoding::Escapes).unwrap();
        assert_eq!((again.bytes(), again.position(0..1)), (&b"A"[..], Some(0..5)));
        assert!(again.decoded(EchoEncoding::Escapes).is_none());
    }

    #[test]
    fn each_encoding_is_decoded() {
        let (little, big) = (Utf16Order::Little, Utf16Order::Big);
        for (encoding, text, expected) in [
            (EchoEncoding::Escapes, &b"a%2fb\\/c&amp;d"[..], Some("a/b/c&d")),
            (EchoEncoding::Escapes, b"plain 100% \\ &", None),
            (EchoEncoding::Backslashes, br"a\=b\ c\\d\e", Some(r"a=b c\d\e")),
            (EchoEncoding::QuotedPrintable, b"a=3Db=\r\nc=\nd=zz", Some("a=bcd=zz")),
            (EchoEncoding::Utf16(little, 0), b"a\0\xe4\0\x3d\xd8\x00\xde", Some("aä😀")),
            (EchoEncoding::Utf16(big, 1), b"x\0a\x20\xac\xd8\x3d", Some("a€\u{fffd}")),
            (EchoEncoding::Utf16(big, 0), b"no zero byte", None),
        ] {
            let found = decoded(encoding, text);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{encoding:?}: {text:?}");
        }
    }

    /// Regression: a sequence with an invisible character in it was not decoded.
    #[test]
    fn interrupted_sequences_are_decoded() {
        for (text, expected) in [
            ("\\x\u{200b}70a", &["pa"][..]),
            ("\\\u{2060}x7\u{2060}0", &["p"]),
            ("%\u{200b}70", &["p"]),
            ("&#x\n70;", &["p"]),
            ("\\u00\r\n70", &["p"]),
            // The result is the same.
            ("%70\u{200b}%61", &["p\u{200b}a"]),
            ("%2570", &["%70"]),
            // It is not known whether the character is a separator.
            ("\\0\u{200b}75", &["\0\u{200b}75", "="]),
            ("plain \u{200b} text", &[]),
        ] {
            let echo = EchoText::new(text.as_bytes());
            let visible = echo.visible();
            let found = echo.all_decoded(visible.as_ref(), EchoEncoding::Escapes);
            let found: Vec<Vec<u8>> = found.into_iter().map(EchoText::into_bytes).collect();
            let expected: Vec<&[u8]> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(found, expected, "{text:?}");
        }

        let echo = EchoText::new("x\\\u{200b}x70y".as_bytes());
        let decoded = echo.visible().unwrap().decoded(EchoEncoding::Escapes).unwrap();
        assert_eq!((decoded.bytes(), decoded.position(1..2)), (&b"xpy"[..], Some(1..8)));
        assert!(EchoText::new(b"visible").visible().is_none());
    }

    #[test]
    fn comparable_texts_are_visible() {
        for (text, expected) in [
            ("Aä+B", "aä b".as_bytes()),
            ("a\0b\r\nc\u{ad}d\u{200b}e\u{200d}f\u{fe0f}g", b"abcdefg"),
            ("😀…", "😀…".as_bytes()),
        ] {
            assert_eq!(EchoText::new(text.as_bytes()).comparable().bytes(), expected, "{text}");
        }

        let latin = EchoText::new(b"a\xadb\xe4c").comparable();
        assert_eq!(latin.bytes(), b"ab\xe4c");
        assert_eq!(latin.position(0..2), Some(0..3));
        assert!(!latin.is_adjacent(1) && latin.is_adjacent(2));
        assert!(!latin.is_adjacent(0) && !latin.is_adjacent(4));
    }
}
