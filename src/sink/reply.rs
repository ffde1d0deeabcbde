//! The reader of replies that all HTTP sinks share. It returns a reply only if its head and its
//! whole body have arrived, because an incomplete reply leaves the outcome of a request unknown,
//! regardless of its status.
//!
//! What acknowledges a batch is known to each sink, which must check the status and the shape of
//! the reply before it believes anything. A success that a sink does not recognize, such as the
//! page of a proxy, is an outage: it neither acknowledges a batch nor parks the sink. Start reading
//! at [`HttpResponse::read`]. See decisions 0068, 0070 and 0086.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{borrow::Cow, error::Error};

use reqwest::{
    StatusCode, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING},
};
use serde::{Deserialize, de::IgnoredAny};

use super::{Failure, chain, reply_json::ReplyObject};
use crate::{
    error::Hint,
    foreign_text::{ForeignText, MAX_ERROR_BODY_BYTES, SentSecrets},
    net::{self, TlsFault},
};

/// The maximum size of a body from which only a message for the operator is used.
pub(super) const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// The maximum number of characters of a body, and of an error of the HTTP client, in a message. An
/// error of HTTP/2 quotes the server.
const MAX_MESSAGE_CHARS: usize = 300;
/// The maximum number of characters of a content type in a message.
const MAX_TYPE_CHARS: usize = 60;

/// The statuses with which a server, or a firewall that inspects requests, usually rejects a
/// request because of a text in its body. The configuration can also be the cause.
const CONTENT_STATUSES: &[u16] = &[400, 403, 406, 422, 451];

/// The hint for a server that does not support the method of a request.
const UNSUPPORTED: &str = "check the URL, because its server does not support this request";
/// The hint for a success that is not an acknowledgement of the receiver.
const NOT_RECEIVER: &str =
    "check that the URL belongs to the receiver, and that no proxy responds instead";
/// The hint for a success of which only the head has arrived.
const NO_END: &str = "let the receiver mark the end of an empty body with `Content-Length: 0`, and check that no proxy responds instead";

/// The beginnings of a page without a label, in lower case.
const PAGE_STARTS: &[&[u8]] =
    &[b"<!doctype html", b"<html", b"<head", b"<body", b"<!--", b"<meta", b"<script", b"<title"];
/// Byte order marks of UTF-8 and UTF-16. That of UTF-32 contains one of them, next to zeros.
const BYTE_ORDER_MARKS: &[&[u8]] = &[b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];
/// The number of bytes of a body in which the beginning of a page is found.
const MAX_START_BYTES: usize = 1_024;

/// A reply, whose body is complete.
#[derive(Debug)]
pub(super) struct HttpResponse {
    /// The name of the server in messages, such as `the cluster`.
    pub server: &'static str,
    /// The HTTP status.
    pub status: u16,
    pub headers: HeaderMap,
    /// The body, decompressed: that of a success as it was received, and the first
    /// [`MAX_ERROR_BODY_BYTES`] of any other without the secrets of the request. Its texts must
    /// never be shown unless [`Self::quote`] has returned them.
    pub body: Vec<u8>,
    /// How the server marked the end of the body.
    pub body_end: BodyEnd,
    /// The secrets of the request, which the server may have repeated.
    secrets: SentSecrets,
}

/// How a server marks the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// With its length, its last chunk, or the end of a stream of HTTP/2: the body is complete.
    Explicit,
    /// By closing the connection, as a server does that fails. Only the content shows whether the
    /// body is complete, so an empty one states nothing.
    Closed,
}

/// What a reply states about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Json,
    Protobuf,
    /// Plain text, or no statement. Some receivers label their JSON like this.
    Text,
    /// Anything else, such as HTML.
    Other,
}

impl HttpResponse {
    /// Reads at most `max` bytes of the body, before and after decompression. Fails with `Retry`,
    /// for every status, if the body is larger, is too slow, cannot be decompressed, ends before
    /// its announced length, or is JSON that ends early. `secrets` are those of the request.
    pub(super) async fn read(
        response: reqwest::Response,
        server: &'static str,
        max: usize,
        secrets: SentSecrets,
    ) -> Result<Self, Failure> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body_end = BodyEnd::of(response.version(), status, &headers);
        let body = match net::read_body(response, max).await {
            // The reply to a HEAD request states the encoding of a body that it does not have.
            Ok(body) if body.is_empty() => Ok(body),
            Ok(body) => net::inflate(&headers, body, max, &mut ()),
            Err(error) => Err(error),
        };

        let mut reply = Self { server, status, headers, body: Vec::new(), body_end, secrets };
        reply.body = match body {
            Ok(body) => body,
            Err(error) => return Err(reply.unreadable(&describe(&error, &reply.secrets))),
        };
        if reply.is_cut() {
            return Err(reply.unreadable("the JSON ends early"));
        }

        // A success is data, of which only single texts are quoted.
        if !(200..=299).contains(&status) {
            reply.body = net::redact_beginning(&reply.secrets, &reply.body, MAX_ERROR_BODY_BYTES);
        }
        Ok(reply)
    }

    /// A reply without headers, whose body has an explicit end.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn of(server: &'static str, status: u16, body: &[u8]) -> Self {
        let (headers, body, secrets) = (HeaderMap::new(), body.to_vec(), SentSecrets::default());
        Self { server, status, headers, body, body_end: BodyEnd::Explicit, secrets }
    }

    /// The same reply, to a request with this secret.
    #[cfg(test)]
    pub(super) fn with_secret(mut self, secret: &str) -> Self {
        self.secrets.add(secret);
        self
    }

    /// The same reply with this content type.
    #[cfg(test)]
    pub(super) fn labeled(mut self, content_type: &'static str) -> Self {
        let value = HeaderValue::from_static(content_type);
        self.headers.insert(CONTENT_TYPE, value);
        self
    }

    /// The body, if it is a JSON object of this shape with nothing after it, and the content type
    /// does not contradict that.
    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        if !matches!(self.media_type(), MediaType::Json | MediaType::Text) {
            return None;
        }
        let object: Result<ReplyObject<T>, _> = serde_json::from_slice(&self.body);
        object.ok().map(|ReplyObject(value)| value)
    }

    /// What the header `Content-Type` states.
    pub(super) fn media_type(&self) -> MediaType {
        match media_type_name(&self.headers).as_str() {
            "" | "text/plain" => MediaType::Text,
            "application/json" | "text/json" => MediaType::Json,
            "application/x-protobuf" | "application/protobuf" => MediaType::Protobuf,
            other if other.starts_with("application/") && other.ends_with("+json") => {
                MediaType::Json
            }
            _ => MediaType::Other,
        }
    }

    /// Whether the reply acknowledges a request to a receiver that defines no form of reply: it is
    /// a success whose body is complete, and neither a page for a browser, such as that of a proxy
    /// that asks for a login, nor a fragment of one.
    pub(super) fn is_any_success(&self) -> bool {
        (200..=299).contains(&self.status)
            && !self.ends_after_head()
            && !is_markup(&self.headers, &self.body)
    }

    /// Whether nothing shows that the body is complete: it is empty, and ends with the connection.
    fn ends_after_head(&self) -> bool {
        self.body_end == BodyEnd::Closed && self.body.trim_ascii().is_empty()
    }

    /// The beginning of the body, as [`Self::quote`] returns it.
    pub(super) fn message(&self) -> String {
        self.quote(self.body.trim_ascii_start(), MAX_MESSAGE_CHARS)
    }

    /// The beginning of a text of the reply, on one line of at most `max` characters, without the
    /// secrets of the request. A text that was cut must have [`CUT_MARGIN_BYTES`] more than these
    /// characters, so that a secret at their end is recognized.
    ///
    /// [`CUT_MARGIN_BYTES`]: crate::foreign_text::CUT_MARGIN_BYTES
    pub(super) fn quote(&self, text: &[u8], max: usize) -> String {
        // A character has at most four bytes.
        let redacted = net::redact_beginning(&self.secrets, text, max.saturating_mul(4));
        ForeignText::new(&String::from_utf8_lossy(&redacted)).for_message(max)
    }

    /// What the server returned: the status, with the beginning of the body or, if that is empty,
    /// with the name of the status.
    pub(super) fn outcome(&self) -> String {
        let (server, status) = (self.server, self.status);
        let message = self.message();
        if !message.is_empty() {
            return format!("{server} returned HTTP {status}: {message}");
        }

        let known = StatusCode::from_u16(status).ok();
        match known.and_then(|known| known.canonical_reason()) {
            Some(name) => format!("{server} returned HTTP {status} ({name})"),
            None => format!("{server} returned HTTP {status} without a message"),
        }
    }

    /// The default failure for a reply that acknowledges nothing. The usual cause of a status that
    /// is not listed here is the configuration, but a firewall can respond with any status to a
    /// text in a request.
    pub(super) fn failure(&self) -> Failure {
        let reason = self.outcome();

        match self.status {
            200..=299 => self.unexpected(),
            408 | 425 | 429 | 500..=599 => Failure::Retry {
                reason,
                after: net::retry_after(&self.headers),
                hint: (self.status == 501).then(|| UNSUPPORTED.into()),
            },
            405 => Failure::Denied { reason, hint: Some(UNSUPPORTED.into()) },
            413 => Failure::TooLarge { reason, arrived: Vec::new() },
            status => match TlsFault::in_response(&self.message()) {
                // An endpoint can also repeat the text of a tenant.
                Some(fault) => Failure::Denied { reason, hint: fault.hint() },
                None if CONTENT_STATUSES.contains(&status) => {
                    Failure::RejectsAll { reason, hint: None }
                }
                None => Failure::Denied { reason, hint: None },
            },
        }
    }

    /// The failure for a success that is not an acknowledgement of the receiver. The outcome is
    /// unknown, so it is retried. The message states what was received.
    pub(super) fn unexpected(&self) -> Failure {
        let message = self.message();
        let content_type = self.quote(self.content_type().as_bytes(), MAX_TYPE_CHARS);
        let found: Cow<'_, str> = match (message.is_empty(), content_type.is_empty()) {
            (true, _) if self.ends_after_head() => "the connection ends after the head".into(),
            (true, _) => "the body is empty".into(),
            (false, true) => message.into(),
            (false, false) => format!("`{content_type}`, {message}").into(),
        };

        let (server, status) = (self.server, self.status);
        Failure::Retry {
            reason: format!("{server} returned HTTP {status} without an acknowledgement: {found}"),
            after: net::retry_after(&self.headers),
            hint: Some(if self.ends_after_head() { NO_END } else { NOT_RECEIVER }.into()),
        }
    }

    /// The failure for a reply that could not be read to its end.
    fn unreadable(&self, why: &str) -> Failure {
        let (server, status) = (self.server, self.status);
        Failure::Retry {
            reason: format!("cannot read the response of {server}: {why} (HTTP {status})"),
            after: net::retry_after(&self.headers),
            hint: None,
        }
    }

    /// The value of the header `Content-Type`; empty if there is none.
    fn content_type(&self) -> &str {
        content_type(&self.headers)
    }

    /// Whether the body is labeled as JSON and ends before the JSON does: a server without
    /// `Content-Length` that fails, or one that announces too small a length.
    fn is_cut(&self) -> bool {
        if self.media_type() != MediaType::Json || self.body.trim_ascii().is_empty() {
            return false;
        }
        let check = || serde_json::from_slice::<IgnoredAny>(&self.body);
        net::off_worker(self.body.len(), check).is_err_and(|error| error.is_eof())
    }
}

impl BodyEnd {
    /// The end of a body of this version of HTTP. A response with status 204 never has one. Source:
    /// RFC 9112, section 6.3.
    fn of(version: Version, status: u16, headers: &HeaderMap) -> Self {
        let is_chunked = |value: &HeaderValue| {
            let last = value.as_bytes().rsplit(|byte| *byte == b',').next();
            last.is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"))
        };
        let is_explicit = version >= Version::HTTP_2
            || status == 204
            || match headers.get_all(TRANSFER_ENCODING).iter().next_back() {
                Some(value) => is_chunked(value),
                None => headers.contains_key(CONTENT_LENGTH),
            };
        if is_explicit { Self::Explicit } else { Self::Closed }
    }
}

/// Whether a body is a page for a browser, in any encoding. If it is labeled as HTML, any markup is
/// a page; otherwise its beginning decides. Many endpoints label other text as HTML, so the label
/// alone does not identify a page.
pub(super) fn is_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let text = beginning(body);
    if is_labeled_as_page(headers) {
        return text.starts_with(b"<");
    }

    // A page in XHTML begins with an XML declaration, as other XML does.
    let text = match text.strip_prefix(b"<?") {
        Some(rest) => rest.splitn(2, |byte| *byte == b'>').nth(1).unwrap_or_default(),
        None => &text[..],
    };
    let text = text.trim_ascii_start();
    let starts_with =
        |start: &&[u8]| text.get(..start.len()).is_some_and(|b| b.eq_ignore_ascii_case(start));
    PAGE_STARTS.iter().any(starts_with)
}

/// Whether a body is labeled as a page for a browser.
pub(super) fn is_labeled_as_page(headers: &HeaderMap) -> bool {
    matches!(media_type_name(headers).as_str(), "text/html" | "application/xhtml+xml")
}

/// Whether a body is a page for a browser, or a fragment of one: markup that is not labeled as XML,
/// which some receivers return. A line of syslog, which an endpoint can repeat, also begins with
/// `<`, but no markup begins with a digit.
fn is_markup(headers: &HeaderMap, body: &[u8]) -> bool {
    let label = media_type_name(headers);
    let is_xml =
        matches!(label.as_str(), "application/xml" | "text/xml") || label.ends_with("+xml");
    let begins_markup = |text: &[u8]| match text {
        [b'<', next, ..] => next.is_ascii_alphabetic() || b"!/?".contains(next),
        _ => false,
    };
    is_page(headers, body) || !is_xml && begins_markup(&beginning(body))
}

/// The beginning of a text in an unknown encoding, without a byte order mark, the white space
/// before the text, and the zeros of ASCII characters in UTF-16 and UTF-32.
fn beginning(body: &[u8]) -> Vec<u8> {
    let mut rest = body;
    loop {
        let mark = BYTE_ORDER_MARKS.iter().find_map(|mark| rest.strip_prefix(*mark));
        rest = match (mark, rest) {
            (Some(after_mark), _) => after_mark,
            (None, [byte, after @ ..]) if *byte == 0 || byte.is_ascii_whitespace() => after,
            (None, _) => break,
        };
    }
    rest.iter().copied().take(MAX_START_BYTES).filter(|byte| *byte != 0).collect()
}

/// The media type without parameters, in lower case; empty if there is none.
fn media_type_name(headers: &HeaderMap) -> String {
    let name = content_type(headers).split(';').next().unwrap_or_default();
    name.trim().to_ascii_lowercase()
}

/// The value of the header `Content-Type`; empty if there is none.
fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// An error of the HTTP client with its causes, on one line of limited length, without the secrets
/// of the request.
pub(super) fn describe(error: &(dyn Error + 'static), secrets: &SentSecrets) -> String {
    ForeignText::new(&net::redact(secrets, &chain(error))).for_message(MAX_MESSAGE_CHARS)
}

#[cfg(test)]
mod tests;
