//! An HTTP/1 server for a small number of small requests: GET and HEAD without a body, with limits
//! on connections ([`super::connections`]), sizes and times.
//!
//! The `Host` header must contain a permitted name. Otherwise, a malicious web page whose host name
//! resolves to this address could read the responses (DNS rebinding). The IP address to which the
//! client has connected is always permitted. The health endpoints respond to every client, but
//! include their reasons only for a permitted name. Start reading at [`serve`].

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
};

use super::{
    connections::{AdmittedConnection, Connections},
    listener::{AcceptedStream, Listener},
};
use crate::foreign_text::ForeignText;

/// The time within which a client must send its headers.
const HEADERS_LIMIT: Duration = Duration::from_secs(5);
/// The maximum duration of a connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// The maximum size of the head of a request, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// The pause after `accept` has failed, for example because no file descriptor is free.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The response for a path.
#[derive(Debug)]
pub(super) struct PageResponse {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl PageResponse {
    /// 200, as plain text. Hidden characters are escaped, because clients such as curl show the
    /// body on a terminal.
    pub(super) fn text(body: &str) -> Self {
        let body = ForeignText::new(body).escaped_lines().into_owned();
        Self { status: StatusCode::OK, content_type: "text/plain; charset=utf-8", body }
    }

    /// 200, as HTML.
    pub(super) fn page(body: String) -> Self {
        Self { status: StatusCode::OK, content_type: "text/html; charset=utf-8", body }
    }

    /// Prometheus' text format 0.0.4.
    pub(super) fn metrics(body: String) -> Self {
        let content_type = "text/plain; version=0.0.4; charset=utf-8";
        Self { status: StatusCode::OK, content_type, body }
    }

    /// 503, with one reason per line.
    pub(super) fn unavailable(reasons: &[String]) -> Self {
        let body = reasons.iter().fold(String::new(), |body, reason| body + reason + "\n");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, ..Self::text(&body) }
    }

    /// 404, with a hint that lists the paths.
    pub(super) fn not_found() -> Self {
        let hint = "use `/`, `/metrics`, `/healthz` or `/readyz`";
        Self::rejected(StatusCode::NOT_FOUND, "not found", hint)
    }

    /// The same response of a health endpoint without its reasons and conditions.
    fn without_reasons(self) -> Self {
        let body = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => "not ready\n".to_owned(),
            _ => self.body.split_inclusive('\n').take(1).collect(),
        };
        Self { body, ..self }
    }

    /// A message, and a line with its hint.
    fn rejected(status: StatusCode, message: &str, hint: &str) -> Self {
        Self { status, ..Self::text(&format!("{message}\n  hint: {hint}\n")) }
    }
}

/// Serves connections. `respond` is called with the path and the query of each permitted request;
/// for a path that is not a health endpoint, one call at a time. Never returns.
pub(super) async fn serve<F, A>(listener: Listener, hosts: Arc<[String]>, respond: F)
where
    F: Fn(String, String) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = PageResponse> + Send + 'static,
{
    let connections = Arc::new(Connections::default());
    let pages = Arc::new(Semaphore::new(1));
    loop {
        let accepted = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the status page");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };

        if let Some(admitted) = connections.admit(accepted.client()) {
            let (hosts, pages) = (Arc::clone(&hosts), Arc::clone(&pages));
            tokio::spawn(serve_accepted(accepted, admitted, hosts, pages, respond.clone()));
        }
        // The new connection is served before the next one can replace it.
        tokio::task::yield_now().await;
    }
}

/// Serves a connection until it ends, takes too long, or is replaced by a newer one.
async fn serve_accepted<F, A>(
    accepted: AcceptedStream,
    admitted: AdmittedConnection,
    hosts: Arc<[String]>,
    pages: Arc<Semaphore>,
    respond: F,
) where
    F: Fn(String, String) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = PageResponse> + Send + 'static,
{
    let admitted = Arc::new(admitted);
    let answer = {
        let admitted = Arc::clone(&admitted);
        move |path: String, query| {
            let (admitted, pages) = (Arc::clone(&admitted), Arc::clone(&pages));
            let respond = respond.clone();
            async move {
                if is_health(&path) {
                    return respond(path, query).await;
                }
                // An error would mean that the semaphore is closed, which never happens.
                let _page = pages.acquire().await;
                let _pending = admitted.pending_response();
                respond(path, query).await
            }
        }
    };

    let served = async {
        match accepted {
            AcceptedStream::Tcp(stream, _) => {
                let local_address = stream.local_addr().ok().map(|address| address.ip());
                serve_connection(stream, local_address, hosts, answer).await;
            }
            AcceptedStream::Unix(stream) => serve_connection(stream, None, hosts, answer).await,
        }
    };
    tokio::select! {
        () = admitted.closed() => {}
        _ = tokio::time::timeout(CONNECTION_LIMIT, served) => {}
    }
}

async fn serve_connection<S, F, A>(
    stream: S,
    local_address: Option<IpAddr>,
    hosts: Arc<[String]>,
    respond: F,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(String, String) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = PageResponse> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (hosts, respond) = (Arc::clone(&hosts), respond.clone());
        async move {
            let host = HostCheck::of(request.headers(), &hosts, local_address);
            let page = if let Some(rejected) = rejection(&request, host) {
                rejected
            } else {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let page = respond(request.uri().path().to_owned(), query).await;
                match host {
                    HostCheck::Permitted => page,
                    HostCheck::Unknown => page.without_reasons(),
                }
            };
            Ok::<_, Infallible>(http_response(page, request.method()))
        }
    });

    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_LIMIT)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client of the status page disconnected");
    }
}

/// The response to a request that is rejected; `None` if the request is accepted.
fn rejection(request: &Request<Incoming>, host: HostCheck) -> Option<PageResponse> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Some(PageResponse::rejected(status, "method not allowed", "use GET or HEAD"));
    }
    if !is_health(request.uri().path()) && host == HostCheck::Unknown {
        let status = StatusCode::MISDIRECTED_REQUEST;
        let hint = "add the name to `admin.hosts`";
        return Some(PageResponse::rejected(status, "unknown host name", hint));
    }
    None
}

/// Whether the path is that of a health endpoint.
fn is_health(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// The result of checking the `Host` header of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HostCheck {
    /// There is exactly one header, and its name is permitted.
    Permitted,
    /// There is no header, more than one, or its name is not permitted.
    Unknown,
}

impl HostCheck {
    fn of(headers: &HeaderMap, hosts: &[String], local_address: Option<IpAddr>) -> Self {
        let mut all = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (all.next(), all.next()) else { return Self::Unknown };
        let is_permitted =
            host.to_str().is_ok_and(|host| is_name_permitted(host, hosts, local_address));
        if is_permitted { Self::Permitted } else { Self::Unknown }
    }
}

/// Whether a `Host` header, with or without a port, contains a loopback name or address, the local
/// address of the connection, or one of `hosts`.
fn is_name_permitted(host: &str, hosts: &[String], local_address: Option<IpAddr>) -> bool {
    let Some(name) = host_name(host) else { return false };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback() || local_address == Some(address))
        || hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

/// The name or the address in a `Host` header, without the brackets around an IPv6 address. `None`
/// if the header has another form than a host with an optional port (RFC 9110, section 7.2, and RFC
/// 3986, section 3.2).
fn host_name(host: &str) -> Option<&str> {
    let (name, after) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(name, _)| name.parse::<Ipv6Addr>().is_ok())?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = if after.is_empty() { after } else { after.strip_prefix(':')? };
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

fn http_response(page: PageResponse, method: &Method) -> Response<Full<Bytes>> {
    let length = page.body.len();
    let body = if method == Method::HEAD { Bytes::new() } else { Bytes::from(page.body) };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = page.status;

    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, page.content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
        ),
        (header::CONNECTION, "close"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if page.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    // A response to HEAD states the length of the body that GET would return (RFC 9110, 8.6).
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_has_a_message_and_a_hint() {
        assert_eq!(
            PageResponse::not_found().body,
            "not found\n  hint: use `/`, `/metrics`, `/healthz` or `/readyz`\n"
        );
    }

    #[test]
    fn permits_only_loopback_and_listed_names() {
        let hosts = ["Collector-7.example.com".to_owned()];
        let local_address = Some(IpAddr::from([10, 1, 2, 3]));
        for permitted in [
            "localhost",
            "localhost:9633",
            "LOCALHOST",
            "127.0.0.1:9633",
            "127.8.8.8",
            "[::1]:9633",
            "[::1]",
            "10.1.2.3:9633",
            "collector-7.example.com",
            "collector-7.EXAMPLE.com:80",
            "localhost:",
        ] {
            assert!(is_name_permitted(permitted, &hosts, local_address), "{permitted}");
        }

        for rejected in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9633",
            "10.0.0.1",
            "[::2]",
            "[",
            "collector-7.example.com.evil.example",
            "0.0.0.0",
        ] {
            assert!(!is_name_permitted(rejected, &hosts, local_address), "{rejected}");
        }
    }

    /// Regression: everything after the bracket of an IPv6 address, and everything after the last
    /// colon, was ignored.
    #[test]
    fn only_a_port_follows_a_name() {
        let hosts = ["collector-7.example.com".to_owned()];

        for rejected in [
            "[::1]@evil",
            "[::1]evil.example",
            "[::1]:80@evil",
            "[::1]:x",
            "[::1",
            "[localhost]",
            "[127.0.0.1]",
            "[collector-7.example.com]",
            "::1",
            "localhost:x@evil",
            "localhost:80@evil",
            "localhost:80:80",
            "localhost:+80",
            "localhost@evil",
            "user@localhost",
            "localhost/",
            "localhost ",
            "127.0.0.1:80.evil.example",
            "collector-7.example.com:evil.example",
            ":80",
        ] {
            assert!(!is_name_permitted(rejected, &hosts, None), "{rejected}");
        }
    }
}
