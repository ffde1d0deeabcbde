//! What all HTTP clients of this crate share: time limits, size limits, no redirects, and no
//! credential over plain HTTP to another host. Every HTTP client must start from `builder`, and
//! every body must be read with `read_body` or `read_growing`: `clippy.toml` forbids the methods of
//! reqwest that have no limits. See decision 0048. `tls_config` builds the TLS configuration of
//! every client from files that `pem` reads, `resolver` resolves host names, `connect` opens
//! connections without HTTP to addresses that `address` parses, `urls` parses URLs, `tls` explains
//! why TLS failed, `proxy_fault` explains faults of a proxy, and `failures` why a server cannot be
//! reached. `credentials` decides to which addresses a credential may be sent, `request_secrets`
//! collects those of a request, and `redaction` removes them from a response.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod address;
mod connect;
mod credentials;
mod failures;
mod pem;
mod proxy_fault;
mod redaction;
mod request_secrets;
mod resolver;
mod tls;
mod tls_config;
mod tls_probe;
mod urls;

use std::{borrow::Cow, io::Read, path::Path, time::Duration};

pub use address::{AddressFault, HostPort};
pub(crate) use connect::open_tcp;
pub use connect::{ByteStream, ConnectError, TlsSettings, connect_tcp, connect_tls};
pub use credentials::{CredentialChannel, is_platform_url, is_safe_platform_url, is_safe_url};
pub use failures::{UnreachableCause, may_expect_tls};
pub use pem::{PemFault, PemFile, in_order};
pub use proxy_fault::{ProxyAccess, ProxyFault};
#[cfg(any(feature = "email", feature = "object_store"))]
pub(crate) use redaction::redact_body;
pub(crate) use redaction::{off_worker_to_redact, redact, redact_beginning, redact_document};
#[cfg(feature = "object_store")]
pub(crate) use request_secrets::parts_secrets;
pub(crate) use request_secrets::request_secrets;
use reqwest::header::HeaderMap;
pub(crate) use resolver::resolve;
pub use tls::TlsFault;
pub use tls_config::{
    ClientCertificate, check_authorities, check_client_certificate, install_crypto_provider,
    tls_config,
};
#[cfg(test)]
pub(crate) use tls_probe::tests::silent_tls_server;
pub use tls_probe::{TlsSupport, address_to_probe, tls_support};
pub use urls::{has_path_or_query, parse_base_url, parse_url};

use crate::{error::Hint, files::FileError, text::with_separators};

/// The limit for establishing a connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest accepted pause between two reads of a response.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for a whole request, from connecting to the last byte of the response.
pub(crate) const TOTAL_TIMEOUT: Duration = Duration::from_mins(2);
/// The longest `Retry-After` that is honored; a longer one is reduced to this time.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// The slowest accepted body, in bytes per second, averaged over [`RATE_WINDOW`].
const MIN_BYTES_PER_SECOND: usize = 1 << 10;
const RATE_WINDOW: Duration = Duration::from_secs(RATE_WINDOW_SECONDS as u64);
const RATE_WINDOW_SECONDS: usize = 30;

/// The highest accepted ratio of uncompressed to compressed size. Genuine responses stay far
/// below it; see [`RATIO_ALLOWANCE_BYTES`].
const MAX_RATIO: usize = 100;
/// The uncompressed size that is accepted at any ratio, because a short repetitive body may
/// compress better than [`MAX_RATIO`].
const RATIO_ALLOWANCE_BYTES: usize = 1 << 20;

/// The size from which the work on a body takes longer than to replace the worker thread.
const LARGE_BODY_BYTES: usize = 16 << 10;

/// The maximum number of headers of a response. Over HTTP/1.1, hyper limits their size to 400 KiB.
const MAX_HEADERS: usize = 100;
/// The maximum size of the headers of a response over HTTP/2, as RFC 9113, 6.5.2, defines it.
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// The maximum size of a frame of HTTP/2, the smallest that RFC 9113, 6.5.2, permits.
const MAX_FRAME_BYTES: u32 = 16 << 10;
/// The bytes of one body that a server may send over HTTP/2 before they are read, and of all bodies
/// of a connection.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 5 << 20;

/// Why a client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    File(#[from] FileError),
    /// The path of a file with certificates or a private key.
    #[error("cannot use `{0}`")]
    Pem(String, #[source] PemFault),
    #[error("cannot use the certificate authorities in `{0}`")]
    Authorities(String, #[source] rustls::Error),
    #[error("cannot verify certificates with the authorities in `{0}`")]
    Verifier(String, #[source] rustls::client::VerifierBuilderError),
    #[error("cannot use the certificate authorities of the system")]
    SystemAuthorities(#[source] rustls::Error),
    #[error("cannot use the client certificate in `{0}` with its private key")]
    ClientCertificate(String, #[source] rustls::Error),
    #[error("cannot set up the HTTP client")]
    Build(#[source] reqwest::Error),
}

impl Hint for ClientError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::File(error) => error.hint(),
            Self::Pem(_, fault) => fault.hint(),
            Self::Authorities(..) | Self::Verifier(..) => {
                Some("set a file that contains only certificates of authorities".into())
            }
            Self::SystemAuthorities(_) => {
                Some("install the package `ca-certificates`, or set `ca_file`".into())
            }
            Self::ClientCertificate(..) | Self::Build(_) => None,
        }
    }
}

/// Why the body of a response cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The limit in bytes.
    #[error("the body is larger than {} bytes", with_separators(*.0))]
    TooLarge(usize),
    /// The slowest accepted rate in bytes per second.
    #[error("the body arrives at less than {} bytes per second", with_separators(*.0))]
    TooSlow(usize),
    /// The memory budget has no space for the body. The caller waits for space and repeats the
    /// request, so that no connection waits.
    #[error("the body is too large to be read at the same time as others")]
    Postponed,
    #[error("the body expands to more than {MAX_RATIO} times its compressed size")]
    DecompressionBomb,
    #[error("the connection failed before the end of the body")]
    Interrupted(#[source] reqwest::Error),
    #[error("the body cannot be decompressed")]
    Decompress(#[source] std::io::Error),
    /// The value of `Content-Encoding`.
    #[error("the body has the unsupported encoding `{0}`")]
    Encoding(String),
}

/// A client that never follows a redirect and never uses a proxy, so that a credential is sent only
/// to the configured host.
///
/// # Errors
///
/// Fails as [`tls_config`] does.
pub fn client(ca_file: Option<&Path>) -> Result<reqwest::Client, ClientError> {
    builder(ca_file)?.build().map_err(ClientError::Build)
}

/// Like [`client`], with the certificate that the client presents if the server requests one. Fails
/// in the same cases.
pub(crate) fn client_with_certificate(
    ca_file: Option<&Path>,
    certificate: Option<ClientCertificate<'_>>,
) -> Result<reqwest::Client, ClientError> {
    limited(tls_config(ca_file, certificate)?).build().map_err(ClientError::Build)
}

/// The settings that every client starts from. The certificate authorities in `ca_file` (PEM)
/// replace those of the system.
///
/// # Errors
///
/// Fails as [`tls_config`] does.
pub(crate) fn builder(ca_file: Option<&Path>) -> Result<reqwest::ClientBuilder, ClientError> {
    Ok(limited(tls_config(ca_file, None)?))
}

/// A builder with the limits that all clients share.
fn limited(mut tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    reqwest::Client::builder()
        .user_agent(concat!("secure-score-forwarder/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_idle_timeout(Duration::from_secs(30))
        .http1_max_headers(MAX_HEADERS)
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
        .http2_max_frame_size(MAX_FRAME_BYTES)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .dns_resolver(resolver::system_resolver())
        .tls_backend_preconfigured(tls)
}

/// Reads a body of at most `limit` bytes, regardless of its `Content-Length`.
///
/// # Errors
///
/// Fails if the body is larger or too slow, or if the connection fails.
pub async fn read_body(response: reqwest::Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    read_growing(response, limit, &mut ()).await
}

/// A memory budget from which a growing body reserves its bytes.
pub(crate) trait Grow: Send {
    /// Reserves memory for a body of `bytes` bytes in total. Never waits, because the time limits
    /// of the request are running.
    ///
    /// # Errors
    ///
    /// Fails with [`BodyError::Postponed`] if the memory is not available.
    fn grow(&mut self, bytes: usize) -> Result<(), BodyError>;

    /// The slowest rate in bytes per second at which a body may arrive that has this memory.
    fn min_bytes_per_second(&self) -> usize {
        MIN_BYTES_PER_SECOND
    }
}

/// No budget; the size limit of the body is the only limit.
impl Grow for () {
    fn grow(&mut self, _: usize) -> Result<(), BodyError> {
        Ok(())
    }
}

/// Like [`read_body`], but reserves memory from `budget` before each chunk is stored. Fails in the
/// same cases as [`read_body`].
pub(crate) async fn read_growing(
    mut response: reqwest::Response,
    limit: usize,
    budget: &mut impl Grow,
) -> Result<Vec<u8>, BodyError> {
    let declared = response.content_length().and_then(|length| usize::try_from(length).ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge(limit));
    }

    let mut body = Vec::with_capacity(declared.unwrap_or(16 << 10));
    let mut rate = ReadRate::default();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| BodyError::Interrupted(error.without_url()))?
    {
        rate.count(chunk.len(), budget.min_bytes_per_second())?;
        let length = body.len().saturating_add(chunk.len());
        if length > limit {
            return Err(BodyError::TooLarge(limit));
        }
        budget.grow(length)?;
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Measures the rate at which a body arrives, so that a server that sends it very slowly cannot
/// occupy a connection and memory.
struct ReadRate {
    window_start: tokio::time::Instant,
    bytes: usize,
}

impl Default for ReadRate {
    fn default() -> Self {
        Self { window_start: tokio::time::Instant::now(), bytes: 0 }
    }
}

impl ReadRate {
    fn count(&mut self, bytes: usize, min_per_second: usize) -> Result<(), BodyError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.window_start.elapsed() < RATE_WINDOW {
            return Ok(());
        }

        if self.bytes < min_per_second.saturating_mul(RATE_WINDOW_SECONDS) {
            return Err(BodyError::TooSlow(min_per_second));
        }
        *self = Self::default();
        Ok(())
    }
}

/// Runs work on a body of this size. The other tasks of the worker thread, such as the health
/// endpoint, do not wait for the work on a large body.
pub(crate) fn off_worker<T>(body_bytes: usize, work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};

    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    let can_be_replaced = matches!(flavor, Ok(RuntimeFlavor::MultiThread));
    if body_bytes >= LARGE_BODY_BYTES && can_be_replaced {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// Decompresses a body that was sent with `Content-Encoding: gzip` to at most `limit` bytes, and
/// returns any other body unchanged. Reserves memory from `budget` as [`read_growing`] does.
///
/// # Errors
///
/// Fails for another encoding, for invalid gzip data, and if the result is too large, absolutely
/// or in relation to the compressed size.
pub(crate) fn inflate(
    headers: &HeaderMap,
    body: Vec<u8>,
    limit: usize,
    budget: &mut impl Grow,
) -> Result<Vec<u8>, BodyError> {
    let encoding = headers
        .get("Content-Encoding")
        .map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    match encoding.as_deref() {
        None | Some("" | "identity") => return Ok(body),
        Some("gzip") => {}
        Some(other) => return Err(BodyError::Encoding(other.to_owned())),
    }

    // The body is decompressed in parts, so that the limits are checked before more memory is used.
    let mut plain = Vec::with_capacity(body.len().saturating_mul(6).min(limit));
    let mut reader = flate2::read::MultiGzDecoder::new(body.as_slice());
    let part = u64::try_from(RATIO_ALLOWANCE_BYTES).unwrap_or(u64::MAX);
    loop {
        let read = off_worker(body.len(), || reader.by_ref().take(part).read_to_end(&mut plain));
        let read = read.map_err(BodyError::Decompress)?;
        if plain.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        let allowed = body.len().saturating_mul(MAX_RATIO).saturating_add(RATIO_ALLOWANCE_BYTES);
        if plain.len() > allowed {
            return Err(BodyError::DecompressionBomb);
        }
        if read == 0 {
            return Ok(plain);
        }
        budget.grow(body.len().saturating_add(plain.len()))?;
    }
}

/// The `Retry-After` header: seconds, or an HTTP date that is compared with the `Date` header of
/// the response (RFC 9110, section 10.2.3). At most one hour; zero for a date in the past.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("Retry-After")?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }

    let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let now = headers.get("Date").and_then(|date| date.to_str().ok());
    let now = jiff::fmt::rfc2822::parse(now?).ok()?.timestamp();
    let seconds = until.duration_since(now).as_secs();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rejects_decompression_bombs() {
        use std::io::Write;

        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b' '; 4 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("Content-Encoding", "gzip".parse().unwrap());
        let bomb = inflate(&headers, packed.clone(), 64 << 20, &mut ());
        assert!(matches!(bomb, Err(BodyError::DecompressionBomb)));
        let large = inflate(&headers, packed, 1_000, &mut ());
        assert!(matches!(large, Err(BodyError::TooLarge(1_000))));

        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"a genuine response").unwrap();
        let packed = encoder.finish().unwrap();
        let plain = inflate(&headers, packed, 1_000, &mut ()).unwrap();
        assert_eq!(plain, b"a genuine response");

        headers.insert("Content-Encoding", "br".parse().unwrap());
        let other = inflate(&headers, vec![], 1_000, &mut ());
        assert!(matches!(other, Err(BodyError::Encoding(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn rejects_bodies_that_arrive_too_slowly() {
        let mut rate = ReadRate::default();
        for _ in 0..29 {
            tokio::time::advance(Duration::from_secs(1)).await;
            rate.count(100, MIN_BYTES_PER_SECOND).unwrap();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(rate.count(100, MIN_BYTES_PER_SECOND), Err(BodyError::TooSlow(_))));

        let mut rate = ReadRate::default();
        for _ in 0..100 {
            tokio::time::advance(Duration::from_secs(1)).await;
            rate.count(1_024, MIN_BYTES_PER_SECOND).unwrap();
        }
        tokio::time::advance(RATE_WINDOW).await;
        assert!(matches!(rate.count(1_024, 32 << 10), Err(BodyError::TooSlow(_))));
    }

    #[test]
    fn parses_both_forms_of_retry_after() {
        let check = |value: &str, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert("Retry-After", value.parse().unwrap());
            headers.insert("Date", "Sun, 22 Nov 2026 10:00:00 GMT".parse().unwrap());
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{value}");
        };
        check("17", Some(17));
        check("0", Some(0));
        check("1000000000", Some(3_600));
        for longest in ["2147483648", "9223372036854775807", "18446744073709551616"] {
            check(longest, Some(3_600));
        }
        check("Thu, 30 Dec 9999 10:00:00 GMT", Some(3_600));
        check("Sun, 22 Nov 2026 10:00:41 GMT", Some(41));
        check("Sun, 22 Nov 2026 09:00:00 GMT", Some(0));
        for invalid in ["soon", "", "-5", "-0.5", "+7", "1e308", "NaN", "7.5"] {
            check(invalid, None);
        }
    }
}
