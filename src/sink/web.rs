//! The code with which the HTTP sinks send requests: the client, the compression of bodies, and the
//! URLs and headers that can be secrets. `reply` reads the responses.
//!
//! A URL never appears in an error message, because it can contain a secret. Start reading at
//! [`HttpReceiverOptions`].

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{borrow::Cow, io::Write};

use flate2::{Compression, write::GzEncoder};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use super::{
    Failure, Tokens,
    address::{is_without_user, user_rejection},
    outgoing_request::{OutgoingRequest, RequestCredential, RequestUrl},
    reply::{HttpResponse, MAX_MESSAGE_BYTES, describe},
    secret_url::warn_of_secret,
    shared_keys::{CA_FILE, GZIP, TlsFiles},
};
use crate::{
    error::Explanation,
    foreign_text::{PeerSecrets, SentSecrets},
    net::{self, ClientCertificate, TlsFault},
    settings::{Key, Named, SecretRef, Section, TextOrSecret, TextOrSecretValue},
};

/// How an HTTP server is reached.
#[derive(Clone, Debug)]
pub(super) struct HttpReceiverOptions {
    pub tls: TlsFiles,
    /// Whether request bodies are compressed.
    pub gzip: bool,
    /// The secrets that were sent to the receiver.
    pub sent: PeerSecrets,
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

impl HttpReceiverOptions {
    /// Reads the keys for TLS and for compression; a fault is added to the section.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let tls = TlsFiles::read(section);
        Self { gzip: section.get(&GZIP), ..Self::uncompressed(tls) }
    }

    /// Reads the keys of a sink without client certificates.
    pub(super) fn without_client_certificate(section: &Section<'_>) -> Self {
        let tls = TlsFiles { ca_file: section.get(&CA_FILE), client: None };
        Self { gzip: section.get(&GZIP), ..Self::uncompressed(tls) }
    }

    /// For a receiver to which nothing has been sent, without compression.
    pub(super) fn uncompressed(tls: TlsFiles) -> Self {
        Self { tls, gzip: false, sent: PeerSecrets::default() }
    }

    /// The same options for a receiver whose tokens a token endpoint issues. The two can be the
    /// same party, so they share the secrets that were sent.
    pub(super) fn with_tokens(&self, tokens: &dyn Tokens) -> Self {
        Self { sent: tokens.sent().clone(), ..self.clone() }
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

    /// Sends a request with a body, which is compressed if `gzip` is enabled. `server` is the name
    /// of the server in messages, and `max_response` limits the response body, in bytes. Fails with
    /// `Retry` if no complete response arrives; every status is a response.
    pub(super) async fn post(
        &self,
        request: impl Into<OutgoingRequest>,
        body: Vec<u8>,
        server: &'static str,
        max_response: usize,
    ) -> Result<HttpResponse, Failure> {
        let request = request.into().map(|request| {
            if self.gzip {
                request.header("Content-Encoding", "gzip").body(compress(&body))
            } else {
                request.body(body)
            }
        });

        self.exchange(request, server, max_response).await
    }

    /// Sends a request unchanged, of whose response only a status and a message are used. Fails
    /// like [`Self::exchange`].
    pub(super) async fn send(
        &self,
        request: impl Into<OutgoingRequest>,
        server: &'static str,
    ) -> Result<HttpResponse, Failure> {
        self.exchange(request, server, MAX_MESSAGE_BYTES).await
    }

    /// Sends a request unchanged, and reads the whole response, whose body has at most
    /// `max_response` bytes. Fails like [`send_request`], and with `Retry` if the response is
    /// incomplete, regardless of its status; see [`HttpResponse::read`].
    pub(super) async fn exchange(
        &self,
        request: impl Into<OutgoingRequest>,
        server: &'static str,
        max_response: usize,
    ) -> Result<HttpResponse, Failure> {
        let (response, secrets) = send_request(request.into(), &self.sent).await?;
        HttpResponse::read(response, server, max_response, secrets).await
    }
}

/// Sends a request. Fails if no response arrives: with `Misconfigured` if a fault of TLS needs an
/// operator, otherwise with `Retry`. If the server closes a connection in plain text, it is probed
/// once with the beginning of a TLS handshake. Returns the response with the secrets of this
/// request and of earlier ones in `sent`, which the server may repeat in it.
async fn send_request(
    OutgoingRequest { builder, mut secrets, credential }: OutgoingRequest,
    sent: &PeerSecrets,
) -> Result<(reqwest::Response, SentSecrets), Failure> {
    let (client, request) = builder.build_split();
    let request = request.map_err(|error| {
        let cause = describe(&error.without_url(), &secrets);
        Failure::retry(format!("cannot build the request: {cause}"))
    })?;
    let of_request = net::request_secrets(&request);
    secrets.extend(&match credential {
        RequestCredential::Configured => of_request,
        RequestCredential::Issued => of_request.into_temporary(),
    });
    let secrets = sent.remember(&secrets);
    let url = request.url().clone();

    match client.execute(request).await {
        Ok(response) => Ok((response, secrets)),
        Err(error) => {
            let error = error.without_url();
            let what = "cannot connect to the receiver";
            let failure = if let Some(fault) = TlsFault::of(&error) {
                Failure::tls(what, &fault.redacted(&secrets))
            } else {
                let cause = describe(&error, &secrets);
                Failure::unreachable(format!("no response from the receiver: {cause}"), &error)
            };
            let address = net::address_to_probe(&url, &error);
            Err(failure.unless_tls_expected(what, address.as_deref()).await)
        }
    }
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
    pub(super) fn get(&self) -> Result<RequestUrl, Failure> {
        match self {
            Self::Plain(url) => Ok(RequestUrl::plain(url.clone())),
            Self::Secret(reference) => {
                let secret = reference.read().map_err(|error| Failure::misconfigured_by(&error))?;
                let url = parse_url(secret.expose_secret());
                url.map(RequestUrl::secret).map_err(|Explanation { message, hint }| {
                    Failure::Misconfigured {
                        reason: format!("the URL in the secret `{reference}` {message}"),
                        hint: hint.map(Cow::Owned),
                    }
                })
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
    let url = net::parse_url(text)?;
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
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        error::Hint,
        settings::{required, text_or_secret, with_section},
    };

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
        assert_eq!(url.unwrap().get().ok().unwrap().as_str(), "https://hooks.example.com/a");
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
            ("canary", "is not a URL: it does not begin with `https://`"),
            ("http://canary.example.com/canary", "must use https"),
            ("https://canary:canary@hooks.example.com/", "must not contain a user name"),
            ("http://169.254.169.254/canary", "must use https"),
            ("https://169.254.169.254/canary", "must not be a link-local address"),
        ] {
            fs_err::write(&path, text).unwrap();
            let url = ReceiverUrl::Secret(SecretRef::File(path.clone()));
            let failure = url.get().err().unwrap();
            let message = failure.to_string();
            assert!(message.contains(reason) && !message.contains("canary"), "{message}");
        }
    }

    /// Regression: a server that closed the connection without a TLS alert was reported as
    /// `connection closed before message completed`, without a hint.
    #[tokio::test]
    async fn closed_requests_in_plain_text_are_explained() {
        let client = net::client(None).unwrap();
        let send = async |address: &str| {
            let request = client.post(format!("http://{address}/")).body("x");
            send_request(request.into(), &PeerSecrets::default()).await.unwrap_err()
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

    /// Regression: a receiver could disclose a secret that only an earlier request had sent.
    #[tokio::test]
    async fn secrets_of_earlier_requests_are_removed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let body = "no: yesterday-canary";
            let head = "HTTP/1.1 403 x\r\nConnection: close\r\nContent-Length: 20\r\n\r\n";
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1_024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });

        // A plan is cloned whenever its sink is opened.
        let plan = HttpReceiverOptions::uncompressed(TlsFiles::default());
        for token in ["yesterday-canary", "today"] {
            let web = plan.clone();
            let client = web.client().unwrap();
            let request = client.post(format!("http://{address}/")).bearer_auth(token);
            let response = web.send(request, "the receiver").await.unwrap();
            assert_eq!(response.message(), "no: [redacted]", "{token}");
        }
    }

    /// Regression: a URL was found only if a response repeated it unchanged.
    #[test]
    fn secret_urls_are_found_in_every_form() {
        let url = "https://hooks.example.com/slash/T000/canary-B000?sig=canary%2Fsig";
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hook");
        fs_err::write(&path, url).unwrap();

        let client = net::client(None).unwrap();
        let secret = ReceiverUrl::Secret(SecretRef::File(path)).get().ok().unwrap();
        let secrets = secret.post(&client).secrets;
        for (text, expected) in [
            ("no route for /slash/T000/canary-B000", "no route for [redacted]"),
            (url, "[redacted]"),
            (r"no \/slash\/T000\/canary-B000", "no [redacted]"),
            ("no hook canary-B000", "no hook [redacted]"),
            ("signature canary/sig", "signature [redacted]"),
            ("hooks.example.com is down", "hooks.example.com is down"),
        ] {
            assert_eq!(secrets.redact(text), expected);
        }

        let plain = ReceiverUrl::Plain(url.parse().unwrap()).get().ok().unwrap();
        assert_eq!(plain.head(&client).secrets.redact(url), url);
    }
}
