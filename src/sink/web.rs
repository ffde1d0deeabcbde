//! The code that the HTTP sinks share: the client, the compression of request bodies, and the
//! default meaning of a response's status. Each sink interprets the other statuses.
//!
//! The size of a response body is limited. A URL never appears in an error message, because it can
//! contain a secret.

use std::{io::Write, path::PathBuf};

use flate2::{Compression, write::GzEncoder};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use super::{Failure, chain};
use crate::{
    net,
    settings::{Key, SecretRef, Section, Shape, optional},
};

// The following keys are shared by several sinks.
/// The key `ca_file`.
pub(super) const CA_FILE: Key = optional(
    "ca_file",
    Shape::Text,
    "PEM file of the certificate authorities to trust instead of those of the system.",
);
/// The key `client_certificate`; a sink that has it also has [`CLIENT_KEY`].
pub(super) const CLIENT_CERTIFICATE: Key = optional(
    "client_certificate",
    Shape::Text,
    "PEM file of the client certificate chain, for mutual TLS.",
);
/// The key `client_key`; a sink that has it also has [`CLIENT_CERTIFICATE`].
pub(super) const CLIENT_KEY: Key =
    optional("client_key", Shape::Text, "PEM file of the client certificate's private key.");
/// The key `gzip`.
pub(super) const GZIP: Key = optional("gzip", Shape::Bool, "Compresses requests; default: true.");

/// The maximum size of a response body from which only a message for the operator is used.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// The maximum number of characters of a response body in a message.
const MAX_MESSAGE_CHARS: usize = 300;

/// How an HTTP server is reached, from the keys of this module.
#[derive(Clone, Debug)]
pub(super) struct HttpReceiverOptions {
    /// The PEM file of the certificate authorities; `None` means those of the system.
    pub ca_file: Option<PathBuf>,
    /// The paths of the client certificate and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether request bodies are compressed.
    pub gzip: bool,
}

/// A response. Its body is empty if it was incomplete or larger than the limit.
#[derive(Debug)]
pub(super) struct HttpResponse {
    /// The HTTP status.
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl HttpReceiverOptions {
    /// Reads the keys of this module; a fault is added to the section.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let client = read_client_certificate(section);
        let gzip = section.bool("gzip").unwrap_or(true);
        Self { ca_file: section.path("ca_file"), client, gzip }
    }

    /// Builds a client and reads the certificates. An idle sink is closed, so renewed certificates
    /// are used when it is opened again. Fails with `Misconfigured` if a file cannot be read or
    /// used.
    pub(super) fn client(&self) -> Result<reqwest::Client, Failure> {
        let misconfigured = |error: &dyn std::error::Error| Failure::misconfigured(chain(error));
        let mut builder =
            net::builder(self.ca_file.as_deref()).map_err(|error| misconfigured(&error))?;

        if let Some((certificate, key)) = &self.client {
            let mut pem = fs_err::read(certificate).map_err(|error| misconfigured(&error))?;
            pem.push(b'\n');
            pem.extend(fs_err::read(key).map_err(|error| misconfigured(&error))?);
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|error| misconfigured(&error.without_url()))?;
            builder = builder.identity(identity);
        }

        builder.build().map_err(|error| misconfigured(&error))
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

async fn exchange(
    request: reqwest::RequestBuilder,
    max_response: usize,
) -> Result<HttpResponse, Failure> {
    let response =
        request.send().await.map_err(|error| Failure::retry(chain(&error.without_url())))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());

    // The status is known even if the body is incomplete or too large; the body is then empty.
    let body = net::read_body(response, max_response).await.unwrap_or_default();
    Ok(HttpResponse { status, headers, body })
}

impl HttpResponse {
    /// The beginning of the response body, on one line.
    pub(super) fn message(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        printable.take(MAX_MESSAGE_CHARS).collect::<String>().trim().to_owned()
    }

    /// The default failure for a status other than success. `server` is the name of the server in
    /// the message, such as `the cluster`.
    pub(super) fn failure(&self, server: &str) -> Failure {
        let reason = format!("{server} returned HTTP {}: {}", self.status, self.message());

        match self.status {
            408 | 425 | 429 | 500..=599 => {
                Failure::Retry { reason, after: net::retry_after(&self.headers) }
            }
            413 => Failure::TooLarge { reason, arrived: Vec::new() },
            _ => Failure::Misconfigured { reason, hint: None },
        }
    }
}

/// Reads the paths of the client certificate and its private key for mutual TLS. One without the
/// other is a fault of the section.
pub(super) fn read_client_certificate(section: &Section<'_>) -> Option<(PathBuf, PathBuf)> {
    match (section.path("client_certificate"), section.path("client_key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            let message = "`client_certificate` and `client_key` must be set together";
            section.fault("client_certificate", message);
            None
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
    let secret = secret.read().map_err(|error| Failure::misconfigured(chain(&error)))?;
    let mut value =
        HeaderValue::from_str(&format!("{prefix}{}", secret.expose_secret())).map_err(|_| {
            Failure::misconfigured("a secret has characters that an HTTP header cannot contain")
        })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Parses a URL that a credential may be sent to: `https`, or `http` to a loopback address.
/// If the URL is not valid, adds a fault to the section and returns `None`.
pub(super) fn read_url(section: &Section<'_>, key: &str, text: &str) -> Option<url::Url> {
    let url = match url::Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            section.fault(key, format!("`{key}` is not a URL: {error}"));
            return None;
        }
    };
    if !net::is_safe_url(&url) {
        section.fault(key, format!("`{key}` must use https, or http to a loopback address"));
        return None;
    }

    // Cloud instances serve their own credentials at a link-local address.
    let is_link_local = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_link_local(),
        Some(url::Host::Ipv6(ip)) => ip.is_unicast_link_local(),
        _ => false,
    };
    if is_link_local {
        section.fault(
            key,
            format!("`{key}` must not be a link-local address: cloud metadata services use these"),
        );
        return None;
    }

    Some(url)
}

/// Compresses with gzip at level 1, which is ten times faster than the default level. The result is
/// nearly as small, because records resemble each other.
pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 6), Compression::fast());
    // Writing to a `Vec` cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}
