//! Text that another party determines, such as a tenant, Microsoft or a receiver, and how each
//! medium shows it.
//!
//! Such text can contain characters that control a terminal, hide or reorder other text, or are
//! markup, a mention or a formula. Code that shows it must not escape it itself: it wraps the text
//! in a [`ForeignText`], and calls the method of its medium. A medium for operators shows hidden
//! characters as escapes such as `\u{1b}`, and a document shows U+FFFD in their place; records in
//! JSON keep the value of every text. Before anything else, [`SentSecrets`] removes secrets from
//! the replies of a peer, and [`PeerSecrets`] those of its earlier requests too; the search can
//! take long, so `net` must run it. See decisions 0065, 0086 and 0092.

mod character_names;
mod characters;
mod csv;
mod document_secrets;
mod echo;
mod echo_escapes;
mod echo_patterns;
mod escape;
mod markup;
mod peer_secrets;
mod search_budget;
mod sent_secrets;

use std::borrow::Cow;

pub use self::{
    characters::{is_hidden, is_joiner, replacement},
    document_secrets::{DocumentSecrets, RedactedDocument},
    escape::push_json_escape,
    peer_secrets::PeerSecrets,
    sent_secrets::{CUT_MARGIN_BYTES, MAX_ERROR_BODY_BYTES, SentSecrets},
};
use crate::text::cut;

/// A text that another party determines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignText<'a>(&'a str);

impl<'a> ForeignText<'a> {
    /// Marks a text as foreign. A message that quotes foreign text is foreign too.
    pub const fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The beginning of the text, to be quoted in a message: on one line, with U+FFFD in place of
    /// hidden characters, and at most `max` characters, because messages are stored. Code that
    /// shows the message still calls the method of its medium.
    pub fn for_message(self, max: usize) -> String {
        let kept = cut(self.0.trim(), max);
        kept.chars().map(characters::visible).collect()
    }

    /// For a terminal, a log or the journal: one line, in which hidden characters and line breaks
    /// are escapes.
    pub fn escaped(self) -> Cow<'a, str> {
        escape::line(self.0)
    }

    /// For a terminal: as [`Self::escaped`], but line feeds and tabs are kept. Only for a complete
    /// output, because foreign text in it could begin a line.
    pub fn escaped_lines(self) -> Cow<'a, str> {
        escape::lines(self.0)
    }

    /// For the value of a field in a log: as [`Self::escaped`], in quotation marks.
    pub fn escaped_in_quotes(self) -> String {
        escape::in_quotes(self.0)
    }

    /// For a field of the journal, which frames line feeds: as [`Self::escaped`], with line feeds.
    pub fn escaped_field(self) -> Cow<'a, str> {
        escape::field(self.0)
    }

    /// For a JSON document: `self` is the document, and hidden characters in its strings become
    /// escapes of JSON, so that no value changes.
    pub fn escaped_json(self) -> Cow<'a, str> {
        escape::json(self.0)
    }

    /// For a document whose markup is already escaped, such as an HTML page: U+FFFD in place of
    /// hidden characters. Line feeds and tabs are kept.
    pub fn visible(self) -> Cow<'a, str> {
        characters::visible_lines(self.0)
    }

    /// For Markdown: at most `max` characters of the text on one line, followed by `…` if it is
    /// longer, and escaped so that nothing in it is a link, a mention, HTML or other markup, also
    /// at the beginning of a line and in a table.
    pub fn markdown(self, max: usize) -> String {
        markup::markdown(self.0, max)
    }

    /// For a chat or a mailbox: at most `max` characters on one line, without links, mentions and
    /// markup. The text stays readable.
    pub fn chat(self, max: usize) -> String {
        markup::chat(self.0, max)
    }

    /// Appends the text as one cell of a CSV file: trimmed, quoted if necessary, with U+FFFD in
    /// place of hidden characters, and with an apostrophe before everything that a spreadsheet
    /// could evaluate as a formula.
    pub fn write_csv_cell(self, out: &mut Vec<u8>) {
        csv::write_cell(self.0, out);
    }
}

#[cfg(test)]
mod tests;
