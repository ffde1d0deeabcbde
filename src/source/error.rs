//! The error of a failed request to Microsoft, and its class.
//!
//! No message contains a URL or a token, because messages are logged. Start reading at
//! [`SourceError`].

use std::{borrow::Cow, time::Duration};

use super::{
    CredentialError,
    auth::{aadsts_hint, is_transient_code},
};
use crate::{
    error::Hint,
    model::PollErrorClass,
    net::{BodyError, TlsFault},
    wire::{EntraError, GraphError, WireError},
};

/// The error of a token request or of a request to Graph. `what` names the server or the
/// collection, such as `the token endpoint`.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The TLS settings or the proxy cannot be used.
    #[error("cannot set up the HTTP client")]
    Client(#[from] crate::net::ClientError),
    /// The credential cannot be read or used, before any request to Graph.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The token endpoint rejected the request.
    #[error("cannot get a token: {}", describe_entra(.0))]
    TokenRejected(EntraError),
    /// No complete response: name resolution, the connection or TLS failed, or a timeout elapsed.
    #[error("no response from {what}")]
    Transport { what: &'static str, source: reqwest::Error },
    /// No response, because of a fault that has a remedy.
    #[error("no response from {what}")]
    Tls { what: &'static str, source: TlsFault },
    /// A response with an unsuccessful status and without a body that explains it.
    #[error("{what} returned HTTP {status}")]
    Status { what: &'static str, status: u16 },
    /// A response that refers to another address, which could receive the token.
    #[error("{what} returned HTTP {status}: redirects are not followed")]
    Redirect { what: &'static str, status: u16 },
    /// The server throttles requests, or the pause that an earlier response demanded is not over.
    #[error("{}", describe_throttled(.what, *.status, *.after))]
    Throttled { what: &'static str, status: u16, after: Option<Duration> },
    /// An error response of Graph. `claims` is the decoded claims challenge, if there is one.
    #[error("Graph returned HTTP {status}: {}{}", describe_graph(.error), describe_request(.request_id))]
    Graph { status: u16, error: GraphError, request_id: String, claims: Option<String> },
    /// HTTP 206: a provider behind Graph did not respond, and a part of the body is missing.
    #[error("Microsoft returned an incomplete response: {warning}")]
    Partial { warning: String, body: Vec<u8> },
    /// The body is too large, too slow, or was interrupted.
    #[error("cannot read the response from {what}")]
    Body { what: &'static str, source: BodyError },
    /// The body is JSON that cannot be decoded.
    #[error("unexpected response from {what}")]
    Wire { what: &'static str, source: WireError },
    /// The body has another type, such as the page of a proxy.
    #[error("{what} returned `{content_type}` instead of JSON")]
    NotJson { what: &'static str, content_type: String },
    /// Why the link to the next page is not followed.
    #[error("cannot follow the link to the next page: {0}")]
    NextLink(&'static str),
    /// Graph does not accept its own link, which may have expired.
    #[error("Graph rejected the link that it returned for the next page: {}", describe_graph(.0))]
    BrokenLink(GraphError),
    /// The domain of a tenant cannot be resolved to an ID.
    #[error("no tenant of this cloud has the domain `{0}`")]
    UnknownDomain(String),
}

impl SourceError {
    /// The error of a request to `what` that has no complete response.
    pub(super) fn no_response(what: &'static str, error: reqwest::Error) -> Self {
        let source = error.without_url();
        match TlsFault::of(&source) {
            Some(source) => Self::Tls { what, source },
            None => Self::Transport { what, source },
        }
    }

    /// Whether the same request may succeed when it is retried.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Throttled { .. } | Self::Partial { .. } => true,
            Self::Status { status, .. } | Self::Graph { status, .. } => {
                matches!(status, 408 | 429 | 500..=599)
            }
            Self::Body { source, .. } => matches!(source, BodyError::Interrupted(_)),
            Self::Tls { source, .. } => source.is_transient(),
            Self::TokenRejected(error) => {
                error.error == "temporarily_unavailable"
                    || error.codes.iter().any(|code| is_transient_code(*code))
            }
            _ => false,
        }
    }

    /// The pause that the server demands, if it demands one.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { after, .. } => *after,
            _ => None,
        }
    }

    /// The class of the cause, for metrics and conditions.
    pub fn class(&self) -> PollErrorClass {
        match self {
            Self::Client(_) => PollErrorClass::Configuration,
            Self::Credential(_) | Self::TokenRejected(_) | Self::UnknownDomain(_) => {
                PollErrorClass::Credential
            }
            Self::Graph { status: 401 | 403, .. } => PollErrorClass::Permission,
            Self::Transport { .. }
            | Self::Tls { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::Graph { .. } => PollErrorClass::Unavailable,
            Self::Throttled { .. } => PollErrorClass::Throttled,
            Self::Partial { .. } => PollErrorClass::Partial,
            Self::Body { .. }
            | Self::Wire { .. }
            | Self::NotJson { .. }
            | Self::NextLink(_)
            | Self::BrokenLink(_) => PollErrorClass::Response,
        }
    }
}

impl Hint for SourceError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Client(error) => error.hint(),
            Self::Credential(error) => error.hint(),
            Self::Tls { source, .. } => source.hint(),
            Self::TokenRejected(error) => entra_hint(error),
            Self::Graph { status, error, .. } => graph_hint(*status, error).map(Cow::Borrowed),
            Self::NotJson { .. } => {
                Some("check whether a proxy or a sign-in page intercepts the connection".into())
            }
            Self::UnknownDomain(_) => Some("check the tenant's `id`, and `cloud`".into()),
            _ => None,
        }
    }
}

/// Entra's description, or its error code if there is none.
pub(super) fn describe_entra(error: &EntraError) -> String {
    let message = if error.description.is_empty() { &error.error } else { &error.description };
    message.clone()
}

fn describe_graph(error: &GraphError) -> String {
    match (error.code.is_empty(), error.message.is_empty()) {
        (true, _) => "no reason given".to_owned(),
        (false, true) => error.code.clone(),
        (false, false) => format!("{}: {}", error.code, error.message),
    }
}

/// The ID by which Microsoft's support finds the request.
fn describe_request(id: &str) -> String {
    if id.is_empty() { String::new() } else { format!(" (request-id `{id}`)") }
}

fn describe_throttled(what: &str, status: u16, after: Option<Duration>) -> String {
    let cause = if matches!(status, 429 | 509) {
        format!("{what} is throttling this app")
    } else {
        format!("{what} returned HTTP {status}")
    };
    match after {
        Some(after) => format!("{cause}: no requests for {} s", after.as_secs()),
        None => cause,
    }
}

/// The hint of the first code that has one.
pub(super) fn entra_hint(error: &EntraError) -> Option<Cow<'static, str>> {
    error.codes.iter().find_map(|code| aadsts_hint(*code)).map(Cow::Borrowed)
}

fn graph_hint(status: u16, error: &GraphError) -> Option<&'static str> {
    match status {
        // The app has no service principal in the tenant.
        _ if error.code == "Authorization_IdentityNotFound" => Some(
            "run `consent-url`, and ask an administrator of the tenant to open the link and consent",
        ),
        401 | 403 => Some(
            "grant the app the application permission SecurityEvents.Read.All, and ask an administrator of the tenant to open the link that `consent-url` prints and consent",
        ),
        404 => Some("check `cloud`, and whether the tenant has a Secure Score"),
        _ => None,
    }
}
