//! Which characters are hidden: those that are not shown themselves, but change how other text is
//! shown. One list applies to all media and all formats of records. Start reading at [`is_hidden`].

use std::borrow::Cow;

/// Whether a character must not be shown unchanged:
///
/// - the control characters, which command a terminal or end a line, and the separators of lines
///   and paragraphs;
/// - the characters that reorder text in two directions;
/// - all others that are invisible, such as zero-width spaces, tag characters and the variation
///   selectors of the supplement, in which text can be hidden, and interlinear annotations.
///
/// The invisible characters are those with the property `Default_Ignorable_Code_Point` in
/// `DerivedCoreProperties.txt` of Unicode 17, except for two kinds that ordinary text requires: the
/// joiners (see [`is_joiner`]), and U+FE00 to U+FE0F, which select the form of a symbol.
pub const fn is_hidden(c: char) -> bool {
    matches!(
        c,
        // The control characters C0, DEL and C1.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
            // The separators of lines and paragraphs, and the embeddings and overrides after them.
            | '\u{2028}'..='\u{202e}'
            // The other characters that reorder text.
            | '\u{61c}' | '\u{200e}' | '\u{200f}'
            // The isolates are in the middle of this range of invisible characters.
            | '\u{2060}'..='\u{206f}'
            // Invisible characters of the basic multilingual plane.
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            // The last three are interlinear annotations.
            | '\u{fff0}'..='\u{fffb}'
            // Controls of shorthand and of musical notation.
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            // Tag characters, and the variation selectors of the supplement.
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether a character joins its neighbors or prevents that. Persian, the scripts of India and
/// emoji require it, so only media that can escape it without loss do so.
pub const fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// The replacement for a hidden character in a medium or a format that has no escape for it: a
/// space for a character that separates words or lines, and U+FFFD for any other.
pub const fn replacement(c: char) -> char {
    match c {
        '\t' | '\u{b}' | '\u{c}' | '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// The character itself, or its replacement if it is hidden.
pub(super) const fn visible(c: char) -> char {
    if is_hidden(c) { replacement(c) } else { c }
}

/// The text with the replacements of its hidden characters, except line feeds and tabs.
pub(super) fn visible_lines(text: &str) -> Cow<'_, str> {
    let is_replaced = |c: char| is_hidden(c) && !is_layout(c);
    if !text.contains(is_replaced) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if is_layout(c) { c } else { visible(c) }).collect())
}

/// Whether a character separates the lines and columns of a complete output.
pub(super) const fn is_layout(c: char) -> bool {
    matches!(c, '\n' | '\t')
}
