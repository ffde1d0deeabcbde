//! Why a poll brought nothing.

use std::{borrow::Cow, time::Duration};

use super::{CredentialError, auth::is_passing, remedy};
use crate::{
    error::Hint,
    net::BodyError,
    wire::{EntraError, GraphError, WireError},
};

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot set up the HTTP client")]
    Client(#[from] crate::net::ClientError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("no token: {}", describe_entra(.0))]
    Refused(EntraError),
    #[error("{what} did not answer")]
    Transport { what: &'static str, source: reqwest::Error },
    #[error("{what} answered HTTP {status}")]
    Status { what: &'static str, status: u16 },
    #[error("{}", describe_throttled(.what, *.status, *.after))]
    Throttled { what: &'static str, status: u16, after: Option<Duration> },
    #[error("Graph answered HTTP {status}: {}{}", describe_graph(.error), describe_request(.request_id))]
    Graph { status: u16, error: GraphError, request_id: String, claims: Option<String> },
    #[error("part of the answer is missing at Microsoft: {warning}")]
    Partial { warning: String, body: Vec<u8> },
    #[error("{what}: the body cannot be used")]
    Body { what: &'static str, source: BodyError },
    #[error("{what}: the answer is not what was asked for")]
    Wire { what: &'static str, source: WireError },
    #[error(
        "{what} sent `{content_type}` instead of JSON: a proxy or a sign-in page is in the way"
    )]
    NotJson { what: &'static str, content_type: String },
    #[error("the next page is refused: {0}")]
    NextLink(&'static str),
    #[error("Graph does not follow its own link to the next page: {}", describe_graph(.0))]
    BrokenLink(GraphError),
    #[error("domain `{0}` belongs to no tenant of this cloud")]
    UnknownDomain(String),
}

impl SourceError {
    /// Whether the same request may well succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Throttled { .. } | Self::Partial { .. } => true,
            Self::Status { status, .. } | Self::Graph { status, .. } => {
                matches!(status, 408 | 429 | 500..=599)
            }
            Self::Body { source, .. } => matches!(source, BodyError::Broken(_)),
            Self::Refused(error) => {
                error.error == "temporarily_unavailable"
                    || error.codes.iter().any(|code| is_passing(*code))
            }
            _ => false,
        }
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { after, .. } => *after,
            _ => None,
        }
    }

    /// One word for metrics and observations.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Client(_) => "configuration",
            Self::Credential(_) | Self::Refused(_) | Self::UnknownDomain(_) => "credential",
            Self::Graph { status: 401 | 403, .. } => "permission",
            Self::Transport { .. } | Self::Status { .. } | Self::Graph { .. } => "unavailable",
            Self::Throttled { .. } => "throttled",
            Self::Partial { .. } => "partial",
            Self::Body { .. }
            | Self::Wire { .. }
            | Self::NotJson { .. }
            | Self::NextLink(_)
            | Self::BrokenLink(_) => "answer",
        }
    }
}

impl Hint for SourceError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Credential(error) => error.hint(),
            Self::Refused(error) => entra_hint(error),
            Self::Graph { status, error, .. } => graph_hint(*status, error).map(Cow::Borrowed),
            _ => None,
        }
    }
}

pub(super) fn describe_entra(error: &EntraError) -> String {
    let said = if error.description.is_empty() { &error.error } else { &error.description };
    said.clone()
}

fn describe_graph(error: &GraphError) -> String {
    match (error.code.is_empty(), error.message.is_empty()) {
        (true, _) => "no reason given".to_owned(),
        (false, true) => error.code.clone(),
        (false, false) => format!("{}: {}", error.code, error.message),
    }
}

/// The id by which Microsoft's support finds the request.
fn describe_request(id: &str) -> String {
    if id.is_empty() { String::new() } else { format!(" (request-id {id})") }
}

fn describe_throttled(what: &str, status: u16, after: Option<Duration>) -> String {
    let busy = if matches!(status, 429 | 509) {
        format!("{what} is throttling this app")
    } else {
        format!("{what} answered HTTP {status}")
    };
    match after {
        Some(after) => format!("{busy}, and wants to be left alone for {} s", after.as_secs()),
        None => busy,
    }
}

/// The remedy for the first of the codes that has one.
pub(super) fn entra_hint(error: &EntraError) -> Option<Cow<'static, str>> {
    error.codes.iter().find_map(|code| remedy(*code)).map(Cow::Borrowed)
}

fn graph_hint(status: u16, error: &GraphError) -> Option<&'static str> {
    match status {
        _ if error.code == "Authorization_IdentityNotFound" => Some(
            "run `consent-url` and let an administrator of the tenant open the link: the app is not known in this tenant",
        ),
        401 | 403 => Some(
            "grant the app the application permission SecurityEvents.Read.All, and let an administrator of the tenant consent (`consent-url` prints the link)",
        ),
        404 => Some("check `cloud`, and that the tenant has a Secure Score"),
        _ => None,
    }
}
