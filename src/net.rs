//! What every HTTP client here must have: time limits, size limits, no redirects, and https
//! unless the peer is this host.

use std::{io::Read, path::Path, time::Duration};

use reqwest::header::HeaderMap;
use rustls::pki_types::{CertificateDer, pem::PemObject};

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const TOTAL_TIMEOUT: Duration = Duration::from_mins(2);
/// No server's word makes us wait longer than this.
const MAX_WAIT: Duration = Duration::from_hours(1);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot read the certificates in `{0}`")]
    Certificates(String, #[source] rustls::pki_types::pem::Error),
    #[error("`{0}` holds no certificate")]
    NoCertificate(String),
    #[error("cannot set up the HTTP client")]
    Build(#[source] reqwest::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the answer comes too slowly: less than {SLOWEST} bytes a second")]
    TooSlow,
    #[error("the answer unpacks to more than {MAX_RATIO} times its size")]
    Bomb,
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
    #[error("the answer cannot be unpacked")]
    Packed(#[source] std::io::Error),
    #[error("the answer is encoded as `{0}`, which was not asked for")]
    Encoding(String),
}

/// A client that sends a credential nowhere but where it is told to.
pub fn client(ca_file: Option<&Path>) -> Result<reqwest::Client, ClientError> {
    builder(ca_file)?.build().map_err(ClientError::Build)
}

/// What every client here starts from. `ca_file` replaces the system's authorities.
pub(crate) fn builder(ca_file: Option<&Path>) -> Result<reqwest::ClientBuilder, ClientError> {
    install_crypto_provider();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("secure-score-forwarder/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_idle_timeout(Duration::from_secs(30))
        .tls_version_min(reqwest::tls::Version::TLS_1_2);
    if let Some(path) = ca_file {
        let certificates = read_certificates(path)?;
        let certificates =
            certificates.iter().filter_map(|der| reqwest::Certificate::from_der(der).ok());
        builder = builder.tls_certs_only(certificates);
    }
    Ok(builder)
}

/// rustls wants to be told once which cryptography it uses.
pub fn install_crypto_provider() {
    // Fails only if somebody was first, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let name = path.display().to_string();
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| ClientError::Certificates(name.clone(), error))?;
    if certificates.is_empty() { Err(ClientError::NoCertificate(name)) } else { Ok(certificates) }
}

/// Whether a credential may be sent there: https, or http that never leaves this host.
pub fn is_safe_url(url: &url::Url) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    let named = url.username().is_empty() && url.password().is_none();
    named && (url.scheme() == "https" || (url.scheme() == "http" && loopback))
}

/// Reads a body up to a limit, whatever its `Content-Length` claims.
pub async fn read_body(response: reqwest::Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    read_growing(response, limit, &mut ()).await
}

/// Where a growing answer finds its budget.
pub(crate) trait Grow: Send {
    /// Makes room for so many bytes in all, and may take its time.
    fn grow(&mut self, bytes: usize) -> impl Future<Output = ()> + Send;
}

/// Space without end, up to a limit.
impl Grow for () {
    async fn grow(&mut self, _: usize) {}
}

/// As [`read_body`]; `room` is made before each chunk is kept.
pub(crate) async fn read_growing(
    mut response: reqwest::Response,
    limit: usize,
    budget: &mut impl Grow,
) -> Result<Vec<u8>, BodyError> {
    let claimed = response.content_length().and_then(|length| usize::try_from(length).ok());
    if claimed.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge(limit));
    }
    let mut body = Vec::with_capacity(claimed.unwrap_or(16 << 10));
    let mut speed = Speed::default();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| BodyError::Broken(error.without_url()))?
    {
        speed.count(chunk.len())?;
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        budget.grow(body.len() + chunk.len()).await;
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Watches that an answer gets on.
struct Speed {
    since: tokio::time::Instant,
    bytes: usize,
}

/// Bytes a second, over a span of [`SPEED_SPAN`].
const SLOWEST: usize = 1 << 10;
const SPEED_SPAN: Duration = Duration::from_secs(30);

impl Default for Speed {
    fn default() -> Self {
        Self { since: tokio::time::Instant::now(), bytes: 0 }
    }
}

impl Speed {
    fn count(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.bytes += bytes;
        if self.since.elapsed() < SPEED_SPAN {
            return Ok(());
        }
        let wanted = SLOWEST * usize::try_from(SPEED_SPAN.as_secs()).unwrap_or(0);
        if self.bytes < wanted {
            return Err(BodyError::TooSlow);
        }
        *self = Self::default();
        Ok(())
    }
}

/// No honest answer packs better; a text of one letter may, below [`SMALL`].
const MAX_RATIO: usize = 100;
const SMALL: usize = 1 << 20;

/// Unpacks a body sent with `Content-Encoding: gzip`, up to a limit; `room` as in
/// [`read_growing`].
pub(crate) async fn inflate(
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
    let mut plain = Vec::with_capacity((body.len() * 6).min(limit));
    let mut reader = flate2::read::MultiGzDecoder::new(body.as_slice());
    loop {
        let part = u64::try_from(SMALL).unwrap_or(u64::MAX);
        let read = reader.by_ref().take(part).read_to_end(&mut plain).map_err(BodyError::Packed)?;
        if plain.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        if plain.len() > body.len() * MAX_RATIO + SMALL {
            return Err(BodyError::Bomb);
        }
        if read == 0 {
            return Ok(plain);
        }
        budget.grow(body.len() + plain.len()).await;
    }
}

/// `Retry-After` as seconds, or as an HTTP date measured against the answer's own `Date`.
/// At most an hour; a date past is no wait.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("Retry-After")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(MAX_WAIT));
    }
    let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let now = headers.get("Date").and_then(|date| date.to_str().ok());
    let now = jiff::fmt::rfc2822::parse(now?).ok()?.timestamp();
    let seconds = until.duration_since(now).as_secs();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_on_https_or_on_this_host() {
        for (url, safe) in [
            ("https://graph.microsoft.com", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost:1", true),
            ("http://graph.microsoft.com", false),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
            ("https://user@graph.microsoft.com", false),
            ("ftp://127.0.0.1", false),
        ] {
            assert_eq!(is_safe_url(&url.parse().unwrap()), safe, "{url}");
        }
    }

    #[tokio::test]
    async fn a_bomb_is_not_unpacked() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b' '; 4 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("Content-Encoding", "gzip".parse().unwrap());
        let bomb = inflate(&headers, packed.clone(), 64 << 20, &mut ()).await;
        assert!(matches!(bomb, Err(BodyError::Bomb)));
        let large = inflate(&headers, packed, 1_000, &mut ()).await;
        assert!(matches!(large, Err(BodyError::TooLarge(1_000))));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"an honest answer").unwrap();
        let packed = encoder.finish().unwrap();
        let plain = inflate(&headers, packed, 1_000, &mut ()).await.unwrap();
        assert_eq!(plain, b"an honest answer");
        headers.insert("Content-Encoding", "br".parse().unwrap());
        let other = inflate(&headers, vec![], 1_000, &mut ()).await;
        assert!(matches!(other, Err(BodyError::Encoding(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_trickles_is_given_up() {
        let mut speed = Speed::default();
        for _ in 0..29 {
            tokio::time::advance(Duration::from_secs(1)).await;
            speed.count(100).unwrap();
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(matches!(speed.count(100), Err(BodyError::TooSlow)));
        let mut speed = Speed::default();
        for _ in 0..100 {
            tokio::time::advance(Duration::from_secs(1)).await;
            speed.count(1_024).unwrap();
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let check = |value: &str, want: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert("Retry-After", value.parse().unwrap());
            headers.insert("Date", "Sun, 22 Nov 2026 10:00:00 GMT".parse().unwrap());
            assert_eq!(retry_after(&headers), want.map(Duration::from_secs), "{value}");
        };
        check("17", Some(17));
        check("0", Some(0));
        check("1000000000", Some(3_600));
        check("Sun, 22 Nov 2026 10:00:41 GMT", Some(41));
        check("Sun, 22 Nov 2026 09:00:00 GMT", Some(0));
        check("soon", None);
        check("-5", None);
    }
}
