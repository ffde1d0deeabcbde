//! The code that the HTTP sinks share: the client, the compression of request bodies, and the
//! default meaning of a response's status. Each sink interprets the other statuses.
//!
//! The size of a response body is limited. A URL never appears in an error message, because it can
//! contain a secret.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{borrow::Cow, io::Write};

use flate2::{Compression, write::GzEncoder};
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use secrecy::ExposeSecret;

use super::{
    Failure,
    address::{is_without_user, user_rejection},
    chain,
    secret_url::warn_of_secret,
    shared_keys::{CA_FILE, GZIP, TlsFiles},
};
use crate::{
    error::{Explanation, Hint},
    foreign_text::ForeignText,
    net::{self, BodyError, ClientCertificate, TlsFault},
    settings::{Key, Named, SecretRef, Section, TextOrSecret, TextOrSecretValue},
};

/// The maximum size of a response body from which only a message for the operator is used.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// The maximum number of characters of a response body, and of an error of the HTTP client, in a
/// message. An error of HTTP/2 quotes the server.
const MAX_MESSAGE_CHARS: usize = 300;

/// The hint for a server that does not support the method of a request.
const UNSUPPORTED: &str = "check the URL, because its server does not support this request";

/// The minimum length of a part of a secret URL that is removed from messages.
const MIN_SECRET_CHARS: usize = 8;

/// How an HTTP server is reached.
#[derive(Clone, Debug)]
pub(super) struct HttpReceiverOptions {
    pub tls: TlsFiles,
    /// Whether request bodies are compressed.
    pub gzip: bool,
}

/// The URL of a receiver, which some receivers treat as a secret: every person who knows the URL of
/// such a webhook can post to it.
#[derive(Clone, Debug)]
pub(super) enum ReceiverUrl {
    /// From the configuration.
    Plain(url::Url),
    /// Read for each request, so that a replaced secret is used at once.
    Secret(SecretRef),
}

/// A response.
#[derive(Debug)]
pub(super) struct HttpResponse {
    /// The HTTP status.
    pub status: u16,
    pub headers: HeaderMap,
    /// The body, or why it cannot be read: it was incomplete, too slow or larger than the limit.
    pub body: Result<Vec<u8>, BodyError>,
}

impl HttpReceiverOptions {
    /// Reads the keys for TLS and for compression; a fault is added to the section.
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self { tls: TlsFiles::read(section), gzip: section.get(&GZIP) }
    }

    /// Reads the keys of a sink without client certificates.
    pub(super) fn without_client_certificate(section: &Section<'_>) -> Self {
        let tls = TlsFiles { ca_file: section.get(&CA_FILE), client: None };
        Self { tls, gzip: section.get(&GZIP) }
    }

    /// Builds a client and reads the certificates. An idle sink is closed, so renewed certificates
    /// are used when it is opened again. Fails with `Misconfigured` if a file cannot be read or
    /// used.
    pub(super) fn client(&self) -> Result<reqwest::Client, Failure> {
        let TlsFiles { ca_file, client } = &self.tls;
        let certificate =
            client.as_ref().map(|(certificate, key)| ClientCertificate { certificate, key });
        net::client_with_certificate(ca_file.as_deref(), certificate)
            .map_err(|error| Failure::misconfigured_by(&error))
    }

    /// Sends a request unchanged. The caller uses only the beginning of the response body. Fails
    /// with `Retry` if no response arrives; every status is a response.
    pub(super) async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<HttpResponse, Failure> {
        exchange(request, MAX_MESSAGE_BYTES).await
    }

    /// Sends a request with a body, which is compressed if `gzip` is enabled. `max_response` limits
    /// the response body, in bytes. Fails with `Retry` if no response arrives; every status is a
    /// response.
    pub(super) async fn post(
        &self,
        request: reqwest::RequestBuilder,
        body: Vec<u8>,
        max_response: usize,
    ) -> Result<HttpResponse, Failure> {
        let request = if self.gzip {
            request.header("Content-Encoding", "gzip").body(compress(&body))
        } else {
            request.body(body)
        };

        exchange(request, max_response).await
    }
}

/// Sends a request. Fails if no response arrives: with `Misconfigured` if a fault of TLS needs an
/// operator, otherwise with `Retry`. If the server closes a connection in plain text, it is probed
/// once with the beginning of a TLS handshake.
async fn send_request(request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
    let (client, request) = request.build_split();
    let request = request.map_err(|error| Failure::retry(describe(&error.without_url())))?;
    let url = request.url().clone();

    match client.execute(request).await {
        Ok(response) => Ok(response),
        Err(error) => {
            let error = error.without_url();
            let what = "cannot connect to the receiver";
            let failure = match TlsFault::of(&error) {
                Some(fault) => Failure::tls(what, &fault),
                None => Failure::unreachable(describe(&error), &error),
            };
            let address = net::address_to_probe(&url, &error);
            Err(failure.unless_tls_expected(what, address.as_deref()).await)
        }
    }
}

/// Sends a request unchanged, and reads at most `max_response` bytes of the response body. Fails
/// like [`send_request`]; the status is known even if the body cannot be read.
pub(super) async fn exchange(
    request: reqwest::RequestBuilder,
    max_response: usize,
) -> Result<HttpResponse, Failure> {
    let response = send_request(request).await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = net::read_body(response, max_response).await;
    Ok(HttpResponse { status, headers, body })
}

/// An error of the HTTP client with its causes, on one line of limited length.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    ForeignText::new(&chain(error)).for_message(MAX_MESSAGE_CHARS)
}

impl ReceiverUrl {
    /// Reads the value of a key. If a URL in the configuration is not valid, adds a fault to the
    /// section and returns `None`.
    pub(super) fn read(section: &Section<'_>, key: &Key<TextOrSecret>) -> Option<Self> {
        match section.get(key)? {
            TextOrSecretValue::Secret(secret) => Some(Self::Secret(secret)),
            TextOrSecretValue::Text(text) => read_url(section, key, text).map(Self::Plain),
        }
    }

    /// The URL. Fails with `Misconfigured` if the secret cannot be read, or if it is not a URL that
    /// a credential may be sent to. The message does not contain the secret.
    pub(super) fn get(&self) -> Result<url::Url, Failure> {
        match self {
            Self::Plain(url) => Ok(url.clone()),
            Self::Secret(reference) => {
                let secret = reference.read().map_err(|error| Failure::misconfigured_by(&error))?;
                parse_url(secret.expose_secret()).map_err(|Explanation { message, hint }| {
                    Failure::Misconfigured {
                        reason: format!("the URL in the secret `{reference}` {message}"),
                        hint: hint.map(Cow::Owned),
                    }
                })
            }
        }
    }

    /// Removes a secret URL from the body of a response, because a server may repeat it in a
    /// message.
    pub(super) fn redact(&self, url: &url::Url, response: &mut HttpResponse) {
        let (Self::Secret(_), Ok(body)) = (self, &mut response.body) else { return };

        let mut text = String::from_utf8_lossy(body).into_owned();
        let parts = [Some(url.as_str()), Some(url.path()), url.query()];
        // Shorter parts, such as `/`, are not secret.
        for part in parts.into_iter().flatten().filter(|part| part.len() >= MIN_SECRET_CHARS) {
            text = text.replace(part, "[redacted]");
        }
        *body = text.into_bytes();
    }
}

impl HttpResponse {
    /// The body, if it decides whether the records have arrived. Fails with `Retry` if the status
    /// is 200 and the body cannot be read, because the outcome is unknown; with another status,
    /// such a body is empty. `server` is the name of the server in the message.
    pub(super) fn content(&self, server: &str) -> Result<&[u8], Failure> {
        match &self.body {
            Ok(body) => Ok(body),
            Err(error) if self.status == 200 => {
                let error = describe(error);
                Err(Failure::retry(format!("cannot read the response of {server}: {error}")))
            }
            Err(_) => Ok(&[]),
        }
    }

    /// The beginning of the response body, on one line; empty if the body cannot be read.
    pub(super) fn message(&self) -> String {
        let body = self.body.as_deref().unwrap_or_default();
        ForeignText::new(&String::from_utf8_lossy(body)).for_message(MAX_MESSAGE_CHARS)
    }

    /// What a server returned: the status, with the beginning of the response body or, if that is
    /// empty, with the name of the status. `server` is the name of the server in the message, such
    /// as `the cluster`.
    pub(super) fn outcome(&self, server: &str) -> String {
        let status = self.status;
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

    /// The default failure for a status other than success. `server` is the name of the server in
    /// the message.
    pub(super) fn failure(&self, server: &str) -> Failure {
        let reason = self.outcome(server);

        match self.status {
            408 | 425 | 429 | 500..=599 => Failure::Retry {
                reason,
                after: net::retry_after(&self.headers),
                hint: (self.status == 501).then(|| UNSUPPORTED.into()),
            },
            405 => Failure::Misconfigured { reason, hint: Some(UNSUPPORTED.into()) },
            413 => Failure::TooLarge { reason, arrived: Vec::new() },
            _ => {
                let fault = TlsFault::in_response(&self.message());
                Failure::Misconfigured { reason, hint: fault.and_then(|fault| fault.hint()) }
            }
        }
    }
}

/// The headers that the operator configured. This call reads their secrets. Fails with
/// `Misconfigured` if one cannot be read.
pub(super) fn secret_headers(headers: &[(HeaderName, SecretRef)]) -> Result<HeaderMap, Failure> {
    let header = |(name, secret): &(HeaderName, _)| Ok((name.clone(), secret_header("", secret)?));
    headers.iter().map(header).collect()
}

/// A header value that consists of a prefix and a secret. This call reads the secret and marks the
/// value as sensitive. Fails with `Misconfigured` if the secret cannot be read, or is not valid in
/// a header.
pub(super) fn secret_header(prefix: &str, secret: &SecretRef) -> Result<HeaderValue, Failure> {
    let secret = secret.read().map_err(|error| Failure::misconfigured_by(&error))?;
    let mut value =
        HeaderValue::from_str(&format!("{prefix}{}", secret.expose_secret())).map_err(|_| {
            Failure::misconfigured("a secret has characters that an HTTP header cannot contain")
        })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Parses a URL that a credential may be sent to: `https`, or `http` to a loopback address.
/// If the URL is not valid, adds a fault to the section and returns `None`. If it contains what is
/// probably a secret, adds a warning.
pub(super) fn read_url(section: &Section<'_>, key: &impl Named, text: &str) -> Option<url::Url> {
    match parse_url(text) {
        Ok(url) => {
            warn_of_secret(section, key, &url);
            Some(url)
        }
        Err(Explanation { message, hint }) => {
            section.fault_with(key, format!("`{}` {message}", key.definition().name), hint);
            None
        }
    }
}

/// Checks that the text of a secret is a URL that a credential may be sent to. Fails with the
/// reason, as a predicate that does not contain the secret.
pub(super) fn check_secret_url(text: &str) -> Result<(), Explanation> {
    parse_url(text).map(drop)
}

/// Like [`read_url`], but fails with the reason, which never contains the text: a sentence without
/// its subject.
fn parse_url(text: &str) -> Result<url::Url, Explanation> {
    let url = url::Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !is_without_user(&url) {
        return Err(user_rejection());
    }
    if !net::is_safe_url(&url) {
        return Err("must use https, or http to a loopback address".into());
    }

    // Cloud instances serve their own credentials at a link-local address.
    if net::is_platform_url(&url) {
        return Err("must not be a link-local address: cloud metadata services use these".into());
    }
    Ok(url)
}

/// Compresses with gzip at level 1, which is ten times faster than the default level. The result is
/// nearly as small, because records resemble each other.
pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 6), Compression::fast());
    // Writing to a `Vec` cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{required, text_or_secret, with_section};

    const URL: Key<TextOrSecret> = required("url", text_or_secret(check_secret_url), "The URL.");

    /// The URL in a section with this value of `url`, and the messages of its faults.
    fn read(value: &str) -> (Option<ReceiverUrl>, Vec<String>) {
        with_section(&format!("url = {value}"), &[URL.define()], |section| {
            ReceiverUrl::read(section, &URL)
        })
    }

    #[test]
    fn reads_plain_and_secret_urls() {
        let (url, faults) = read("\"https://hooks.example.com/a\"");
        assert_eq!(url.unwrap().get().unwrap().as_str(), "https://hooks.example.com/a");
        assert!(faults.is_empty());

        let (url, faults) = read("\"http://hooks.example.com\"");
        assert!(url.is_none());
        assert_eq!(faults, ["`url` must use https, or http to a loopback address"]);

        let (url, faults) = read("{ file = \"/nowhere\" }");
        assert!(matches!(url, Some(ReceiverUrl::Secret(_))) && faults.is_empty());
    }

    #[test]
    fn failures_of_a_secret_url_never_contain_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hook");
        for (text, reason) in [
            ("canary", "is not a URL: relative URL without a base"),
            ("http://canary.example.com/canary", "must use https"),
            ("https://canary:canary@hooks.example.com/", "must not contain a user name"),
            ("http://169.254.169.254/canary", "must use https"),
            ("https://169.254.169.254/canary", "must not be a link-local address"),
        ] {
            fs_err::write(&path, text).unwrap();
            let failure = ReceiverUrl::Secret(SecretRef::File(path.clone())).get().unwrap_err();
            let message = failure.to_string();
            assert!(message.contains(reason) && !message.contains("canary"), "{message}");
        }
    }

    /// Regression: a response with an empty body ended the message: `returned HTTP 501: `.
    #[test]
    fn responses_without_a_body_name_the_status() {
        for (status, body, expected) in [
            (501, "", "Teams returned HTTP 501 (Not Implemented)"),
            (503, " \r\n", "Teams returned HTTP 503 (Service Unavailable)"),
            (599, "", "Teams returned HTTP 599 without a message"),
            (500, "busy", "Teams returned HTTP 500: busy"),
        ] {
            let body = Ok(body.as_bytes().to_vec());
            let response = HttpResponse { status, headers: HeaderMap::new(), body };
            let failure = response.failure("Teams");
            assert_eq!(failure.to_string(), expected);
            assert_eq!(failure.hint().is_some(), status == 501, "{failure}");
        }
    }

    /// Regression: a body that could not be read was treated like an empty one, so the sink parked
    /// or counted the records as delivered.
    #[test]
    fn unreadable_bodies_leave_the_outcome_unknown() {
        let response = |status: u16| {
            let body = Err(BodyError::TooLarge(65_536));
            HttpResponse { status, headers: HeaderMap::new(), body }
        };
        let failure = response(200).content("the cluster").unwrap_err();
        let message =
            "cannot read the response of the cluster: the body is larger than 65,536 bytes";
        assert_eq!(failure, Failure::retry(message));

        // Another status decides what happens, without the body.
        assert_eq!(response(503).content("the cluster"), Ok(b"".as_slice()));
        assert_eq!(response(503).message(), "");
    }

    /// Regression: the message of an error of HTTP/2 contained 16 KiB that the server had sent.
    #[test]
    fn errors_of_the_client_are_short() {
        let error = std::io::Error::other("x\n".repeat(100_000));
        let message = describe(&error);
        assert_eq!(message.chars().count(), MAX_MESSAGE_CHARS);
        assert!(message.starts_with("x x x") && message.ends_with('…'), "{message}");
    }

    /// Regression: a server that closed the connection without a TLS alert was reported as
    /// `connection closed before message completed`, without a hint.
    #[tokio::test]
    async fn closed_requests_in_plain_text_are_explained() {
        let client = net::client(None).unwrap();
        let send = async |address: &str| {
            send_request(client.post(format!("http://{address}/")).body("x")).await.unwrap_err()
        };

        let failure = send(&net::silent_tls_server().await).await;
        assert!(matches!(failure, Failure::Misconfigured { .. }), "{failure}");
        assert!(failure.to_string().ends_with("the server expects TLS on this port"), "{failure}");
        assert!(failure.hint().unwrap().contains("https://"));

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let failure = send(&address).await;
        assert!(matches!(failure, Failure::Retry { .. }), "{failure}");
        assert!(failure.hint().unwrap().contains("the receiver is running"));
    }

    #[test]
    fn responses_do_not_repeat_a_secret_url() {
        let url: url::Url = "https://hooks.example.com/T000/canary?sig=canary".parse().unwrap();
        let body =
            b"no route for /T000/canary, nor for https://hooks.example.com/T000/canary?sig=canary";
        let response =
            || HttpResponse { status: 404, headers: HeaderMap::new(), body: Ok(body.to_vec()) };

        let mut redacted = response();
        ReceiverUrl::Secret(SecretRef::Env("HOOK".into())).redact(&url, &mut redacted);
        assert_eq!(redacted.message(), "no route for [redacted], nor for [redacted]");

        let mut unchanged = response();
        ReceiverUrl::Plain(url.clone()).redact(&url, &mut unchanged);
        assert_eq!(unchanged.body.unwrap(), body);
    }
}
