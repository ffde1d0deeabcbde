//! HTTP for few and small requests: GET and HEAD without a body, headers of 16 KiB within five
//! seconds, 64 callers at a time, half a minute each.
//!
//! Who may be asked for by name is a list, so that no page of somebody else's, whose name suddenly
//! points here, can read what is shown (DNS rebinding). The address that was called is no name, and
//! always allowed. Health is told to anybody, in one word: the reasons only to who may see the rest.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

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
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

const CALLERS: usize = 64;
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
const WHOLE_CALL: Duration = Duration::from_secs(30);
const MAX_HEADERS: usize = 16 << 10;

/// What a path answers.
#[derive(Debug)]
pub(super) struct PageResponse {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl PageResponse {
    pub(super) fn text(body: String) -> Self {
        Self { status: StatusCode::OK, kind: "text/plain; charset=utf-8", body }
    }

    pub(super) fn page(body: String) -> Self {
        Self { status: StatusCode::OK, kind: "text/html; charset=utf-8", body }
    }

    pub(super) fn metrics(body: String) -> Self {
        Self { status: StatusCode::OK, kind: "text/plain; version=0.0.4; charset=utf-8", body }
    }

    /// 503, with a reason on each line.
    pub(super) fn unwell(reasons: &[String]) -> Self {
        let body = reasons.iter().fold(String::new(), |body, reason| body + reason + "\n");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, ..Self::text(body) }
    }

    pub(super) fn absent() -> Self {
        let body = "there is /, /metrics, /healthz and /readyz\n".to_owned();
        Self { status: StatusCode::NOT_FOUND, ..Self::text(body) }
    }

    /// Without the reasons.
    fn in_a_word(self) -> Self {
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Self { body: "not ready\n".to_owned(), ..self },
            _ => self,
        }
    }

    fn refused(status: StatusCode, why: &str) -> Self {
        Self { status, ..Self::text(format!("{why}\n")) }
    }
}

/// Answers for ever; `answer` is given path and query.
pub(super) async fn serve<F, A>(listener: TcpListener, hosts: Arc<[String]>, answer: F)
where
    F: Fn(String, String) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = PageResponse> + Send,
{
    let callers = Arc::new(Semaphore::new(CALLERS));
    loop {
        // Closed never.
        let Ok(turn) = Arc::clone(&callers).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a caller of the status page could not be heard");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (hosts, answer) = (Arc::clone(&hosts), answer.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(WHOLE_CALL, call(stream, hosts, answer)).await;
            drop(turn);
        });
    }
}

async fn call<F, A>(stream: TcpStream, hosts: Arc<[String]>, answer: F)
where
    F: Fn(String, String) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = PageResponse> + Send,
{
    let called = stream.local_addr().ok().map(|address| address.ip());
    let service = service_fn(move |request: Request<Incoming>| {
        let (hosts, answer) = (Arc::clone(&hosts), answer.clone());
        async move {
            let allowed = is_allowed(request.headers(), &hosts, called);
            let made = if let Some(refused) = refusal(&request, allowed) {
                refused
            } else {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let made = answer(request.uri().path().to_owned(), query).await;
                if allowed { made } else { made.in_a_word() }
            };
            Ok::<_, Infallible>(response(made, request.method() == Method::HEAD))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a caller of the status page went away");
    }
}

fn refusal(request: &Request<Incoming>, allowed: bool) -> Option<PageResponse> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let why = "nothing is changed from here: GET and HEAD only";
        return Some(PageResponse::refused(StatusCode::METHOD_NOT_ALLOWED, why));
    }
    let is_health = matches!(request.uri().path(), "/healthz" | "/readyz");
    if !is_health && !allowed {
        let why = "not under this name: `admin.hosts` lists those that are allowed beside loopback";
        return Some(PageResponse::refused(StatusCode::MISDIRECTED_REQUEST, why));
    }
    None
}

fn is_allowed(headers: &HeaderMap, hosts: &[String], called: Option<IpAddr>) -> bool {
    let mut all = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (all.next(), all.next()) else { return false };
    host.to_str().is_ok_and(|host| is_known(host, hosts, called))
}

/// Whether a Host header, with or without a port, names loopback, the address that was called, or one
/// of `hosts`.
fn is_known(host: &str, hosts: &[String], called: Option<IpAddr>) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback() || called == Some(address))
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn response(answer: PageResponse, head: bool) -> Response<Full<Bytes>> {
    let length = answer.body.len();
    let body = if head { Bytes::new() } else { Bytes::from(answer.body) };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, answer.kind),
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
    if answer.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_loopback_and_those_listed_are_known() {
        let hosts = ["Collector-7.example.com".to_owned()];
        let called = Some(IpAddr::from([10, 1, 2, 3]));
        for known in [
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
        ] {
            assert!(is_known(known, &hosts, called), "{known}");
        }
        for unknown in [
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
            assert!(!is_known(unknown, &hosts, called), "{unknown}");
        }
    }
}
