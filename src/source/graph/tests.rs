//! Tests of requests whose responses are large: pages that need more memory than is available at
//! the same time, and errors.

use std::sync::atomic::AtomicUsize;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};

use super::*;
use crate::{
    settings::SecretRef,
    source::{ClientSecret, GraphHttpOptions, PageOutcome, ReadEvent, auth::BoxFuture},
    wire::Token,
};

/// A credential that is always accepted.
#[derive(Debug)]
struct Accepted;

impl Credential for Accepted {
    fn token<'a>(
        &'a self,
        _: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        let expires_in = serde_json::from_str("3600").unwrap();
        let access_token = "accepted".to_owned().into();
        Box::pin(async move { Ok(Token { access_token, expires_in, refresh_token: None }) })
    }
}

/// The settings for this server.
fn access(url: &Url) -> Access {
    Access {
        cloud: Cloud { login_url: url.clone(), graph_url: url.clone() },
        tenant: "tenant".to_owned(),
        credential: Arc::new(Accepted),
        api: Api::default(),
    }
}

/// A server whose responses all have this status and this body; see [`server_with_header`].
async fn server(status: u16, body: String) -> (Url, Arc<AtomicUsize>, Arc<Notify>) {
    server_with_header(status, "x-header: none", body).await
}

/// A server whose responses all have this status, this header and this body. It counts the
/// requests, and notifies when it can write no more of a response.
async fn server_with_header(
    status: u16,
    header: &'static str,
    body: String,
) -> (Url, Arc<AtomicUsize>, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1.0/security/secureScores", listener.local_addr().unwrap());
    let (requests, written) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());

    let (count, notify) = (Arc::clone(&requests), Arc::clone(&written));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            count.fetch_add(1, Ordering::Relaxed);
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 {header}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // The client closes the connection when it cannot store the body.
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            notify.notify_one();
        }
    });
    (url.parse().unwrap(), requests, written)
}

/// A server that issues a token, and responds to every other request with HTTP 403 and this
/// message. Returns the URL of its Graph.
async fn refusing_server(message: &str) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1.0/security/secureScores", listener.local_addr().unwrap());
    let refusal = format!(r#"{{"error":{{"code":"Forbidden","message":"{message}"}}}}"#);

    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut form = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut form).await.unwrap();

            let token = r#"{"access_token":"issued","expires_in":3600}"#;
            let (status, body) =
                if head.starts_with("post ") { (200, token) } else { (403, refusal.as_str()) };
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    url.parse().unwrap()
}

/// Regression: Graph could disclose a secret that was sent to the token endpoint.
#[tokio::test(flavor = "multi_thread")]
async fn errors_contain_no_secret_of_the_token_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    fs_err::write(&path, "client-canary").unwrap();
    let url = refusing_server("it was client-canary").await;
    let secret = SecretRef::File(path);
    let credential = ClientSecret { client_id: "app".to_owned(), secret, expires: None };
    let access = Access { credential: Arc::new(credential), ..access(&url) };

    let clients = Arc::new(Clients::new(&GraphHttpOptions::default()).unwrap());
    let error = Graph::new(clients, access).fetch(&url).await.err().unwrap();
    let expected = "Graph returned HTTP 403: Forbidden: it was [redacted]";
    assert_eq!(error.to_string(), expected);
}

/// Regression: an error with HTTP 200 was reported as a missing field `value`.
#[test]
fn errors_with_http_200_are_recognized() {
    for (body, is_error) in [
        (r#"{"error":{"message":"boo"}}"#, true),
        (r#"{"error":{"code":"BadRequest","message":"boo"},"status":400}"#, true),
        (r#"{"value":[],"error":{"message":"boo"}}"#, false),
        (r#"{"error":{}}"#, false),
        (r#"{"value":[]}"#, false),
        ("[]", false),
        ("<html>", false),
    ] {
        assert_eq!(is_reported_error(body.as_bytes()), is_error, "{body}");
    }
}

/// Regression: an error with HTTP 200 contained the token that its headers repeated.
#[tokio::test]
async fn errors_with_http_200_contain_no_token() {
    let body = r#"{"error":{"code":"Forbidden","message":"no access with accepted"}}"#;
    let (url, ..) = server_with_header(200, "request-id: accepted", body.to_owned()).await;
    let clients = Arc::new(Clients::new(&GraphHttpOptions::default()).unwrap());
    let graph = Graph::new(clients, access(&url));

    let error = graph.fetch(&url).await.map(|_| ()).unwrap_err();
    let expected = "Graph returned HTTP 200: Forbidden: no access with [redacted] \
                    (request-id `[redacted]`)";
    assert_eq!(error.to_string(), expected);
}

/// The messages about a page are redacted by the code that parses it.
#[tokio::test]
async fn pages_have_the_secrets_of_their_requests() {
    let (url, ..) = server(200, r#"{"value":[]}"#.to_owned()).await;
    let clients = Arc::new(Clients::new(&GraphHttpOptions::default()).unwrap());
    let graph = Graph::new(clients, access(&url));

    let mut redacted = Vec::new();
    let read = graph.read(Collection::Profiles, |event| {
        if let ReadEvent::Page { secrets, .. } = event {
            redacted.push(secrets.redact("it was accepted").into_owned());
        }
        Ok(PageOutcome::default())
    });
    read.await.unwrap();
    assert_eq!(redacted, ["it was [redacted]"]);
}

/// Regression: a response waited for memory while the limits of its connection were running, so it
/// failed because of the slow response of another tenant, again and again.
#[tokio::test]
async fn a_postponed_response_is_requested_again() {
    let body = format!("{{\"value\":[\"{}\"]}}", "x".repeat(12 << 20));
    let (url, requests, written) = server(200, body.clone()).await;
    let clients = Arc::new(Clients::new(&GraphHttpOptions::default()).unwrap());
    let graph = Graph::new(Arc::clone(&clients), access(&url));

    let mut slow = clients.memory.share().await;
    slow.reserve_large().await;
    let fetched = tokio::join!(graph.fetch(&url), async {
        written.notified().await;
        assert_eq!(requests.load(Ordering::Relaxed), 1);
        drop(slow);
    });
    assert!(fetched.0.is_ok_and(|response| response.body == body.as_bytes()));
    assert_eq!(requests.load(Ordering::Relaxed), 2);
}

/// Regression: an error of several megabytes was searched for the token completely.
#[tokio::test]
async fn only_the_beginning_of_errors_is_read() {
    let message = "no access with accepted";
    let padding = " ".repeat(2 << 20);
    for (start, end, expected) in [
        ("", "", "Forbidden: no access with [redacted]"),
        ("", padding.as_str(), "Forbidden: no access with [redacted]"),
        (padding.as_str(), "", "no reason given"),
    ] {
        let body = format!(
            "{start}{{\"error\":{{\"code\":\"Forbidden\",\"message\":\"{message}\"}}}}{end}"
        );
        let (url, ..) = server(403, body).await;
        let clients = Arc::new(Clients::new(&GraphHttpOptions::default()).unwrap());
        let graph = Graph::new(clients, access(&url));

        let error = graph.fetch(&url).await.map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), format!("Graph returned HTTP 403: {expected}"));
    }
}
