//! Parses Microsoft's JSON: snapshots, profiles, tokens and errors.
//!
//! The module is pure: it turns bytes into [`crate::model`] and performs no I/O. It is lenient
//! where Microsoft's responses vary: an unknown field is kept as sent, numbers and switches may be
//! text, and any field may be absent. It is strict where an error could be mistaken for data: a
//! body that is not JSON, a duplicate field, or a page without `value` is rejected as a whole.
//! Start reading at [`snapshot`], [`profile`] and [`page`].
//!
//! The shapes are those of the metadata of Microsoft Graph v1.0 of 2026-08
//! (`microsoft.graph.secureScore`, `secureScoreControlProfile`) and of live responses of 2023 and
//! 2026.

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

use crate::text::{count, with_separators};

/// The maximum number of controls in a snapshot: ten times that of the largest known tenant.
pub const MAX_CONTROLS: usize = 5_000;

/// Why a body was rejected.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("not valid UTF-8")]
    NotText,
    #[error("not the expected JSON")]
    NotJson(#[source] serde_json::Error),
    #[error(
        "a snapshot has {}, more than {}",
        count(*.0, "control"), with_separators(MAX_CONTROLS)
    )]
    TooManyControls(usize),
    #[error("the response contains no token")]
    NoToken,
    #[error("a control profile has no ID")]
    NoProfileId,
}
