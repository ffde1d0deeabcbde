//! What sinks over HTTP have in common: a client, a body, an answer. What the answer means is for
//! each to say.

use std::{io::Write, path::PathBuf};

use flate2::{Compression, write::GzEncoder};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use super::{Failure, chain};
use crate::{
    net,
    settings::{Key, SecretRef, Section, Shape, optional},
};

/// Keys of every sink over HTTP.
pub(super) const CA_FILE: Key = optional(
    "ca_file",
    Shape::Text,
    "PEM file of the certificate authorities to trust instead of the system's.",
);
pub(super) const CLIENT_CERTIFICATE: Key = optional(
    "client_certificate",
    Shape::Text,
    "PEM file of our certificate chain, for mutual TLS.",
);
pub(super) const CLIENT_KEY: Key =
    optional("client_key", Shape::Text, "PEM file of its private key.");
pub(super) const GZIP: Key = optional("gzip", Shape::Bool, "Compress the requests; default true.");

/// MemoryBudget for an answer whose first words are wanted.
const MAX_WORDS: usize = 64 << 10;

/// How to reach a server.
#[derive(Clone, Debug)]
pub(super) struct HttpOptions {
    pub ca_file: Option<PathBuf>,
    pub client: Option<(PathBuf, PathBuf)>,
    pub gzip: bool,
}

/// What a server said.
#[derive(Debug)]
pub(super) struct HttpResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl HttpOptions {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let client = read_client_certificate(section);
        let gzip = section.bool("gzip").unwrap_or(true);
        Self { ca_file: section.path("ca_file"), client, gzip }
    }

    /// The certificates are read now: a sink is opened anew at the latest after a day.
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

    /// Sends a request as it is; of the answer only the first words are of use.
    pub(super) async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<HttpResponse, Failure> {
        exchange(request, MAX_WORDS).await
    }

    /// Posts a body, compressed if that is wanted, and reads the answer up to a limit.
    pub(super) async fn post(
        &self,
        request: reqwest::RequestBuilder,
        body: Vec<u8>,
        max_answer: usize,
    ) -> Result<HttpResponse, Failure> {
        let request = if self.gzip {
            request.header("Content-Encoding", "gzip").body(compress(&body))
        } else {
            request.body(body)
        };
        exchange(request, max_answer).await
    }
}

async fn exchange(
    request: reqwest::RequestBuilder,
    max_answer: usize,
) -> Result<HttpResponse, Failure> {
    let response =
        request.send().await.map_err(|error| Failure::retry(chain(&error.without_url())))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    // An answer that broke off is one that says nothing.
    let body = net::read_body(response, max_answer).await.unwrap_or_default();
    Ok(HttpResponse { status, headers, body })
}

impl HttpResponse {
    /// The first words of the answer, on one line.
    pub(super) fn message(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300);
        clean.collect::<String>().trim().to_owned()
    }

    /// What a status other than success means where nothing else is known: `who` said it.
    pub(super) fn failure(&self, who: &str) -> Failure {
        let reason = format!("{who} answered HTTP {}: {}", self.status, self.message());
        match self.status {
            408 | 425 | 429 | 500..=599 => {
                Failure::Retry { reason, after: net::retry_after(&self.headers) }
            }
            413 => Failure::TooLarge { reason, arrived: Vec::new() },
            _ => Failure::Misconfigured { reason, hint: None },
        }
    }
}

/// Certificate and key for mutual TLS: both or neither.
pub(super) fn read_client_certificate(section: &Section<'_>) -> Option<(PathBuf, PathBuf)> {
    match (section.path("client_certificate"), section.path("client_key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            let message = "`client_certificate` and `client_key` go together";
            section.fault("client_certificate", message);
            None
        }
    }
}

/// The operator's own headers, their secrets read now.
pub(super) fn secret_headers(headers: &[(HeaderName, SecretRef)]) -> Result<HeaderMap, Failure> {
    let header = |(name, secret): &(HeaderName, _)| Ok((name.clone(), secret_header("", secret)?));
    headers.iter().map(header).collect()
}

/// A header that holds a secret, which is read now.
pub(super) fn secret_header(prefix: &str, secret: &SecretRef) -> Result<HeaderValue, Failure> {
    let secret = secret.read().map_err(|error| Failure::misconfigured(chain(&error)))?;
    let mut value = HeaderValue::from_str(&format!("{prefix}{}", secret.expose_secret()))
        .map_err(|_| Failure::misconfigured("a secret is not text for a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A URL that a credential may be sent to. `None` with the fault noted, if it is none.
pub(super) fn read_url(section: &Section<'_>, key: &str, text: &str) -> Option<url::Url> {
    let url = match url::Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            section.fault(key, format!("`{key}` is not a URL: {error}"));
            return None;
        }
    };
    if !net::is_safe_url(&url) {
        section.fault(key, format!("`{key}` must be https, or http to a loopback address"));
        return None;
    }
    let inward = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_link_local(),
        Some(url::Host::Ipv6(ip)) => ip.is_unicast_link_local(),
        _ => false,
    };
    if inward {
        section.fault(
            key,
            format!(
                "`{key}` must not be a link-local address: machines keep their own secrets there"
            ),
        );
        return None;
    }
    Some(url)
}

/// Level 1: ten times faster than the default and nearly as small on records alike.
pub(super) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 6), Compression::fast());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}
