//! The error of a failed request to Microsoft, and its class.
//!
//! No message contains a URL or a token, because messages are logged; what a server has repeated of
//! a request is removed. Start reading at [`SourceError`]. See decision 0086.

use std::{borrow::Cow, error::Error, time::Duration};

use super::{
    CredentialError, PartialBody,
    auth::{aadsts_hint, is_transient_code},
};
use crate::{
    error::{Hint, chain},
    foreign_text::{
        DocumentSecrets, ForeignText, MAX_ERROR_BODY_BYTES, RedactedDocument, SentSecrets,
    },
    model::{CLOCK_HINT, ClockOffset, PollErrorClass},
    net::{self, BodyError, ProxyFault, TlsFault, UnreachableCause},
    wire::{EntraError, GraphError, WireError},
};

/// The maximum number of characters of the cause of an error that quotes a server.
const MAX_REASON_CHARS: usize = 300;

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
    /// No connection. `reason` is the message of the system.
    #[error("no response from {what}: {}: {reason}", .cause.sentence())]
    Unreachable { what: &'static str, cause: UnreachableCause, reason: String },
    /// No complete response. The cause quoted a secret of the request, which is removed from
    /// `reason`.
    #[error("no response from {what}: {reason}")]
    Quoting { what: &'static str, reason: String },
    /// No response, because of a fault that has a remedy.
    #[error("no response from {what}")]
    Tls { what: &'static str, source: TlsFault },
    /// No response, because the proxy does not connect this host with the server.
    #[error("no response from {what}")]
    Proxy { what: &'static str, source: ProxyFault },
    /// A response with an unsuccessful status. `reason` is the text of its body; empty if it has
    /// none.
    #[error("{what} returned HTTP {status}{}", describe_reason(.reason))]
    Status { what: &'static str, status: u16, reason: String },
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
    Partial { warning: String, body: PartialBody },
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
    /// Graph refuses every method of paging; `method` is the last one, and the error is Graph's.
    #[error("cannot read all pages: Graph refused {method} with HTTP {status}: {}{}", describe_graph(.error), describe_request(.request_id))]
    PagingRefused { method: String, status: u16, error: GraphError, request_id: String },
    /// The clock of this host differs from Graph's by more than a day, so the days that a poll must
    /// read are unknown.
    #[error("cannot decide which days to read: the clock of this host is {0}")]
    Clock(ClockOffset),
    /// The domain of a tenant cannot be resolved to an ID.
    #[error("no tenant of this cloud has the domain `{0}`")]
    UnknownDomain(String),
}

impl SourceError {
    /// The error of an incomplete response whose body is not used.
    pub fn partial(warning: String) -> Self {
        Self::Partial { warning, body: PartialBody::default() }
    }

    /// How far the clock of this host is ahead, if that is the cause.
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        match self {
            Self::Clock(offset) => Some(*offset),
            _ => None,
        }
    }

    /// The error of a request to `what` that has no complete response, without the secrets of this
    /// request and of earlier ones.
    pub(super) fn no_response(
        what: &'static str,
        error: reqwest::Error,
        secrets: &SentSecrets,
    ) -> Self {
        let source = error.without_url();
        let (tls, proxy) = (TlsFault::of(&source), ProxyFault::of(&source));
        match (tls, proxy) {
            (Some(source), _) => Self::Tls { what, source: source.redacted(secrets) },
            (None, Some(source)) => Self::Proxy { what, source },
            (None, None) => Self::quoting(what, &chain(&source), secrets)
                .or_else(|| Self::unreachable(what, &source))
                .unwrap_or(Self::Transport { what, source }),
        }
    }

    /// The error of a request without a connection; `None` if that is not the cause.
    fn unreachable(what: &'static str, error: &reqwest::Error) -> Option<Self> {
        let cause = UnreachableCause::of(error)?;
        let mut innermost: &dyn Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Some(Self::Unreachable { what, cause, reason: innermost.to_string() })
    }

    /// The error of a response whose body cannot be read, without the secrets of the request.
    pub(super) fn unreadable(what: &'static str, source: BodyError, secrets: &SentSecrets) -> Self {
        // The request is repeated at once, so its secrets are not searched for.
        if matches!(source, BodyError::Postponed) {
            return Self::Body { what, source };
        }
        Self::quoting(what, &chain(&source), secrets).unwrap_or(Self::Body { what, source })
    }

    /// The error with a message that contains a secret of the request; `None` if it has none.
    fn quoting(what: &'static str, message: &str, secrets: &SentSecrets) -> Option<Self> {
        let redacted = net::redact(secrets, message);
        let is_quoted = matches!(redacted, Cow::Owned(_));
        let reason = ForeignText::new(&redacted).for_message(MAX_REASON_CHARS);
        is_quoted.then_some(Self::Quoting { what, reason })
    }

    /// Whether the same request may succeed when it is retried.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. }
            | Self::Unreachable { .. }
            | Self::Quoting { .. }
            | Self::Proxy { .. }
            | Self::Throttled { .. }
            | Self::Partial { .. } => true,
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
            Self::Clock(_) => PollErrorClass::Clock,
            Self::Transport { .. }
            | Self::Unreachable { .. }
            | Self::Quoting { .. }
            | Self::Proxy { .. }
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
            | Self::PagingRefused { .. } => PollErrorClass::Response,
        }
    }
}

impl Hint for SourceError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Client(error) => error.hint(),
            Self::Credential(error) => error.hint(),
            Self::Tls { source, .. } => source.hint(),
            Self::Proxy { source, .. } => source.hint(),
            Self::Unreachable { cause, .. } => Some(unreachable_hint(*cause).into()),
            Self::TokenRejected(error) => entra_hint(error),
            Self::Graph { status, error, .. } => graph_hint(*status, error).map(Cow::Borrowed),
            Self::NotJson { .. } | Self::Wire { source: WireError::NotAToken(_), .. } => {
                Some("check whether a proxy or a sign-in page intercepts the connection".into())
            }
            Self::Clock(_) => Some(CLOCK_HINT.into()),
            Self::UnknownDomain(_) => Some("check the tenant's `id`, and `cloud`".into()),
            _ => None,
        }
    }
}

/// The error of decoding a document of a server, which may repeat a secret. Its message may quote
/// the document, so it is that of the document without the secrets. A message about a large
/// document that quotes nothing is kept without a search, and one that quotes a document that
/// cannot be searched within the limit is hidden. `decode` returns the error of a document; `None`
/// if it has none.
pub fn without_secrets(
    error: WireError,
    document: &[u8],
    secrets: &DocumentSecrets<'_>,
    decode: impl Fn(&[u8]) -> Option<WireError>,
) -> WireError {
    if document.len() > MAX_ERROR_BODY_BYTES && !error.quotes_document() {
        return error;
    }
    match net::redact_document(secrets, document) {
        RedactedDocument::Changed(redacted) => decode(&redacted).unwrap_or(WireError::Hidden),
        RedactedDocument::NotSearched if error.quotes_document() => WireError::NotSearched,
        RedactedDocument::Unchanged | RedactedDocument::NotSearched => error,
    }
}

/// A text of a server without the secrets that it may repeat.
pub fn text_without_secrets<'a>(text: &'a str, secrets: &SentSecrets) -> Cow<'a, str> {
    net::redact(secrets, text)
}

/// What an operator can do if a server of Microsoft cannot be reached.
const fn unreachable_hint(cause: UnreachableCause) -> &'static str {
    match cause {
        UnreachableCause::Refused => {
            "check `source.proxy`, and the firewalls between this host and Microsoft"
        }
        UnreachableCause::NoRoute => {
            "check the network, `source.proxy`, and the firewalls between this host and Microsoft"
        }
        UnreachableCause::UnknownName => {
            "check the DNS servers of this host, and whether it requires `source.proxy`"
        }
    }
}

/// Entra's description, or its error code if there is none.
pub(super) fn describe_entra(error: &EntraError) -> String {
    let message = if error.description.is_empty() { &error.error } else { &error.description };
    message.clone()
}

fn describe_reason(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

/// Graph's code and message; empty if there are none.
pub(super) fn code_and_message(error: &GraphError) -> String {
    match (error.code.is_empty(), error.message.is_empty()) {
        (_, true) => error.code.clone(),
        (true, false) => error.message.clone(),
        (false, false) => format!("{}: {}", error.code, error.message),
    }
}

fn describe_graph(error: &GraphError) -> String {
    let text = code_and_message(error);
    if text.is_empty() { "no reason given".to_owned() } else { text }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    /// Regression: Graph's message was dropped if its code was empty.
    #[test]
    fn every_text_of_graph_is_kept() {
        for (code, message, expected) in [
            ("BadRequest", "The limit is 50.", "BadRequest: The limit is 50."),
            ("", "The limit is 50.", "The limit is 50."),
            ("BadRequest", "", "BadRequest"),
            ("", "", "no reason given"),
        ] {
            let error = GraphError { code: code.to_owned(), message: message.to_owned() };
            assert_eq!(describe_graph(&error), expected);

            let (method, request_id) = ("`$top=30`".to_owned(), "r1".to_owned());
            let refused = SourceError::PagingRefused { method, status: 400, error, request_id };
            let text = refused.to_string();
            let start = "cannot read all pages: Graph refused `$top=30` with HTTP 400: ";
            assert_eq!(text, format!("{start}{expected} (request-id `r1`)"));
        }
    }

    /// Regression: a large response that was not valid JSON was searched for secrets for minutes,
    /// although no text of it was shown.
    #[test]
    fn large_documents_are_searched_if_quoted() {
        let mut secrets = SentSecrets::default();
        secrets.add("canary-token");
        let padding = " ".repeat(MAX_ERROR_BODY_BYTES);
        for (body, expected, is_searched) in [
            (format!("{padding}{{"), "EOF while parsing an object", false),
            (format!("{padding}\"canary-token\""), "[redacted]", true),
        ] {
            let error_of = |body: &[u8]| wire::page(body).unwrap_err();
            let documents = DocumentSecrets::new(&secrets);
            let body = body.as_bytes();
            let error =
                without_secrets(error_of(body), body, &documents, |body| Some(error_of(body)));
            assert!(chain(&error).contains(expected), "{}", chain(&error));

            let exceeded = DocumentSecrets::with_limit(&secrets, 0);
            let error = without_secrets(error_of(body), body, &exceeded, |_| None);
            assert_eq!(matches!(error, WireError::NotSearched), is_searched, "{error}");
        }
    }
}
