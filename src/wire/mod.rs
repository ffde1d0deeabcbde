//! Microsoft's JSON, and nothing else in the house knows it.
//!
//! Pure: bytes in, [`crate::model`] out. Lenient where Microsoft is: the declared types are open,
//! so an unknown field is kept as sent, numbers and switches may come as text, and anything may
//! be absent. Strict where a mistake would be believed: a body that is not JSON, a field that
//! stands twice, or a page without `value` is refused whole.
//!
//! Source of the shapes: Microsoft Graph v1.0 metadata of 2026-08 (`microsoft.graph.secureScore`,
//! `secureScoreControlProfile`) and live answers of 2023 and 2026.

mod error;
mod lenient;
mod page;
mod profile;
mod snapshot;
mod token;

pub use error::{EntraError, GraphError};
pub use page::{Page, bare_list, page, saved_items};
pub use profile::{ProfileParts, profile, split_profile, state_updates};
pub use snapshot::snapshot;
pub use token::{Token, TokenGrants, granted, issuer_tenant, token};

/// Why a body was refused.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the answer is not UTF-8 text")]
    NotText,
    #[error("the answer is not the JSON that was asked for")]
    NotJson(#[source] serde_json::Error),
    #[error("a snapshot has {0} controls, more than {MAX_CONTROLS}")]
    TooManyControls(usize),
    #[error("the answer holds no token")]
    NoToken,
    #[error("a control profile has no id")]
    NoProfileId,
}

/// Ten times what the largest tenant known has.
pub const MAX_CONTROLS: usize = 5_000;
