//! Parses Microsoft's JSON: snapshots, profiles, tokens and errors.
//!
//! The module is pure: it turns bytes into [`crate::model`] and performs no I/O. It is lenient
//! where Microsoft's responses vary: an unknown field is kept as sent, numbers and switches may be
//! text, any field may be absent, and an element that cannot be used is removed and reported. It is
//! strict where an error could be mistaken for data: a body that is not JSON, a page without
//! `value` or a document that exceeds a [`DecodeLimit`] for the memory of the process is rejected
//! as a whole. Start reading at [`snapshot`], [`profile`] and [`page`].
//!
//! The shapes are those of the metadata of Microsoft Graph v1.0 of 2026-08
//! (`microsoft.graph.secureScore`, `secureScoreControlProfile`) and of live responses of 2023 and
//! 2026.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod budget;
mod decision;
mod error;
mod keys;
mod lenient;
mod page;
mod profile;
mod salvage;
mod seconds;
mod snapshot;
mod surrogates;
#[cfg(test)]
mod tests;
mod token;
mod value;

pub use budget::DecodeLimit;
pub use decision::state_updates;
pub use error::{EntraError, GraphError};
pub use page::{Page, bare_list, page, saved_items};
pub use profile::{ProfileParts, profile, split_profile};
pub use seconds::{StatedSeconds, TokenLifetime};
pub use snapshot::{listed_day, snapshot};
pub use token::{Token, TokenGrants, granted, is_object, issuer_tenant, token};

use crate::foreign_text::ForeignText;

/// The largest number of characters of a message of the JSON parser.
const MAX_PARSER_MESSAGE_CHARS: usize = 300;

/// Why a body was rejected.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("not valid UTF-8")]
    NotText,
    #[error("not the expected JSON")]
    NotJson(#[source] serde_json::Error),
    /// The first limit that the document exceeds.
    #[error("{0}")]
    Exceeds(DecodeLimit),
    /// What was found in place of an object.
    #[error("{0} instead of an object")]
    NotAnObject(&'static str),
    #[error("`{what}` is {found} instead of {expected}")]
    UnexpectedShape { what: &'static str, found: &'static str, expected: &'static str },
    #[error("the response contains no token")]
    NoToken,
    /// What was found in place of a token. It contains no text of the response, except the title of
    /// an HTML page, because any other text can be a part of a token.
    #[error("{0} instead of a token")]
    NotAToken(String),
    /// Why a profile has no ID, such as that it is a number.
    #[error("{0}")]
    NoProfileId(String),
    /// The beginning of the ID of a profile, and the limit that the ID exceeds.
    #[error("`{id}`: {limit}")]
    LongProfileId { id: String, limit: DecodeLimit },
    /// Another error, whose message would quote a secret.
    #[error("it repeats a secret that was sent to the server, and its text is not shown")]
    Hidden,
    /// Another error, whose message would quote a document that was not searched for secrets.
    #[error("its text is not shown, because searching it for secrets takes too long")]
    NotSearched,
}

impl WireError {
    /// Whether the message can contain a text of the document.
    pub fn quotes_document(&self) -> bool {
        match self {
            // A message about the syntax contains only a position.
            Self::NotJson(error) => error.is_data(),
            Self::NotAToken(_) | Self::NoProfileId(_) | Self::LongProfileId { .. } => true,
            Self::NotText
            | Self::Exceeds(_)
            | Self::NotAnObject(_)
            | Self::UnexpectedShape { .. }
            | Self::NoToken
            | Self::Hidden
            | Self::NotSearched => false,
        }
    }

    /// The error of a document that is not the expected JSON. The parser may quote a text of the
    /// document, which can have any length, so the message is cut.
    pub fn not_json(error: serde_json::Error) -> Self {
        let message = error.to_string();
        if message.len() <= MAX_PARSER_MESSAGE_CHARS {
            return Self::NotJson(error);
        }
        let message = ForeignText::new(&message).for_message(MAX_PARSER_MESSAGE_CHARS);
        Self::NotJson(serde::de::Error::custom(message))
    }
}
