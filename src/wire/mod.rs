//! Parses Microsoft's JSON: snapshots, profiles, tokens and errors.
//!
//! The module is pure: it turns bytes into [`crate::model`] and performs no I/O. It is lenient
//! where Microsoft's responses vary: an unknown field is kept as sent, numbers and switches may be
//! text, and any field may be absent. It is strict where an error could be mistaken for data: a
//! body that is not JSON, a duplicate field, a page without `value`, or a document that exceeds a
//! [`DecodeLimit`] is rejected as a whole. Start reading at [`snapshot`], [`profile`] and [`page`].
//!
//! The shapes are those of the metadata of Microsoft Graph v1.0 of 2026-08
//! (`microsoft.graph.secureScore`, `secureScoreControlProfile`) and of live responses of 2023 and
//! 2026.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod budget;
mod error;
mod lenient;
mod page;
mod profile;
mod seconds;
mod snapshot;
#[cfg(test)]
mod tests;
mod token;
mod value;

pub use budget::DecodeLimit;
pub use error::{EntraError, GraphError};
pub use page::{Page, bare_list, page, saved_items};
pub use profile::{ProfileParts, profile, split_profile, state_updates};
pub use seconds::{StatedSeconds, TokenLifetime};
pub use snapshot::snapshot;
pub use token::{Token, TokenGrants, granted, is_object, issuer_tenant, token};

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
    #[error("the response contains no token")]
    NoToken,
    #[error("a control profile has no ID")]
    NoProfileId,
}
