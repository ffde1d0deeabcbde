//! Characters that are not shown, and that an editor, a browser or a spreadsheet has added to a
//! value: no-break and zero-width spaces, byte order marks, and characters that reorder text. They
//! must never be removed silently, because only an operator knows whether they are meant. Start
//! reading at [`HiddenCharacter`].

use std::fmt;

use crate::foreign_text::{is_hidden, is_joiner};

/// A character of a text that is not shown. Displayed as the object of `contains`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HiddenCharacter {
    character: char,
    /// The position in the text in bytes, counted from 1.
    byte: usize,
}

impl HiddenCharacter {
    /// The first one in a secret, in which no such character is expected.
    pub(super) fn in_secret(text: &str) -> Option<Self> {
        Self::first(text, |c| is_unusual(c) || is_joiner(c) || is_variation_selector(c))
    }

    /// The first one in another value. Names can contain joiners and the forms of symbols.
    pub(super) fn in_value(text: &str) -> Option<Self> {
        Self::first(text, |c| is_unusual(c) && !c.is_control())
    }

    fn first(text: &str, is_reported: impl Fn(char) -> bool) -> Option<Self> {
        let (at, character) = text.char_indices().find(|(_, c)| is_reported(*c))?;
        Some(Self { character, byte: at + 1 })
    }
}

/// Whether a character looks like a space or like nothing. A space itself is visible by the
/// distance of its neighbors.
pub fn is_unusual(c: char) -> bool {
    is_hidden(c) || (c.is_whitespace() && c != ' ')
}

/// Whether a character selects the form of the symbol before it.
const fn is_variation_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}')
}

impl fmt::Display for HiddenCharacter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the invisible character U+{:04X} at byte {}",
            u32::from(self.character),
            self.byte
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_have_a_position() {
        for (text, in_secret, in_value) in [
            ("plain text", None, None),
            ("a\u{a0}", Some((0xa0, 2)), Some((0xa0, 2))),
            ("\u{e4}\u{200b}", Some((0x200b, 3)), Some((0x200b, 3))),
            ("a\u{e0041}", Some((0xe0041, 2)), Some((0xe0041, 2))),
            ("a\u{200d}b", Some((0x200d, 2)), None),
            ("\u{2764}\u{fe0f}", Some((0xfe0f, 4)), None),
            ("two\nlines", Some((0xa, 4)), None),
        ] {
            let found = |hidden: Option<HiddenCharacter>| {
                hidden.map(|hidden| (u32::from(hidden.character), hidden.byte))
            };
            assert_eq!(found(HiddenCharacter::in_secret(text)), in_secret, "{text:?}");
            assert_eq!(found(HiddenCharacter::in_value(text)), in_value, "{text:?}");
        }
    }
}
