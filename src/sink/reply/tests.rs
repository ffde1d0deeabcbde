//! Tests of the reader of replies, with replies in all their forms.

use std::io::Write;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::error::Hint;

/// The result of a request whose whole reply is these bytes.
async fn read(reply: Vec<u8>) -> Result<HttpResponse, Failure> {
    read_with_secret(reply, 1_000, SentSecrets::default()).await
}

/// Like [`read`], for a request with these secrets. The body has at most `max` bytes.
async fn read_with_secret(
    reply: Vec<u8>,
    max: usize,
    secrets: SentSecrets,
) -> Result<HttpResponse, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4_096]).await;
        stream.write_all(&reply).await.unwrap();
        stream.shutdown().await.unwrap();
        // Unread data would reset the connection.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });

    let response = net::client(None).unwrap().get(url).send().await.unwrap();
    HttpResponse::read(response, "the receiver", max, secrets).await
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn reply(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat()
}

#[tokio::test]
async fn complete_bodies_are_read() {
    let packed = gzip(b"{\"code\":0}");
    let length = packed.len();
    for (head, body, expected) in [
        ("200 OK\r\ncontent-length: 2".to_owned(), b"{}".to_vec(), "{}"),
        ("200 OK\r\nconnection: close".to_owned(), b"ok".to_vec(), "ok"),
        ("200 OK\r\ntransfer-encoding: chunked".to_owned(), b"2\r\n{}\r\n0\r\n\r\n".to_vec(), "{}"),
        ("503 Busy\r\ncontent-length: 0".to_owned(), Vec::new(), ""),
        ("204 No Content\r\ncontent-encoding: gzip".to_owned(), Vec::new(), ""),
        (
            format!("200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {length}"),
            packed,
            "{\"code\":0}",
        ),
    ] {
        let response = read(reply(&head, &body)).await.unwrap();
        assert_eq!(String::from_utf8(response.body).unwrap(), expected, "{head}");
    }
}

/// Regression: a body that could not be read was treated like an empty one, so the sink parked or
/// counted the records as delivered.
#[tokio::test]
async fn an_incomplete_body_is_retried_for_every_status() {
    let packed = gzip(b"{\"code\":0}");
    let large = vec![b'x'; 1_001];
    let bomb = gzip(&[b' '; 2_000]);
    let chunked = "transfer-encoding: chunked";
    let json = "content-type: application/json\r\nconnection: close";
    let length = packed.len() / 2;

    for status in ["200 OK", "202 OK", "400 Bad", "401 No", "404 No", "413 Large", "503 Busy"] {
        for (headers, body, reason) in [
            ("content-length: 100", &b"{\"code\":0}"[..], "before the end of the body"),
            ("content-length: 100", b"", "before the end of the body"),
            (chunked, b"a\r\n{\"code\"", "before the end of the body"),
            (chunked, b"a\r\n{\"code\":0}\r\n", "before the end of the body"),
            ("content-length: 9000000000000000000", b"{}", "larger than 1,000 bytes"),
            ("connection: close", &large, "larger than 1,000 bytes"),
            ("content-encoding: gzip", &bomb, "larger than 1,000 bytes"),
            ("content-encoding: gzip", &packed[..length], "cannot be decompressed"),
            ("content-encoding: gzip", b"{\"code\":0}", "cannot be decompressed"),
            ("content-encoding: br", b"{\"code\":0}", "unsupported encoding"),
            (json, b"{\"code\":0", "the JSON ends early"),
            ("content-type: application/json\r\ncontent-length: 5", b"{\"code\":0}", "ends early"),
        ] {
            let head = format!("{status}\r\n{headers}");
            let failure = read(reply(&head, body)).await.unwrap_err();
            let message = failure.to_string();
            assert!(matches!(failure, Failure::Retry { .. }), "{head}: {message}");
            assert!(message.starts_with("cannot read the response of the receiver: "), "{message}");
            assert!(message.contains(reason), "{head}: {message}");
            assert!(message.ends_with(&format!("(HTTP {})", &status[..3])), "{message}");
        }
    }
}

#[test]
fn only_objects_with_a_matching_type_are_json() {
    #[derive(Deserialize)]
    struct Reply {
        code: u32,
    }

    let code = |content_type: &'static str, body: &str| {
        let response = HttpResponse::of("the receiver", 200, body.as_bytes());
        let response =
            if content_type.is_empty() { response } else { response.labeled(content_type) };
        response.json().map(|Reply { code }| code)
    };
    for content_type in [
        "",
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/vnd.elasticsearch+json;compatible-with=8",
        "text/plain; charset=utf-8",
    ] {
        assert_eq!(code(content_type, " {\"code\":7}\n"), Some(7), "{content_type}");
    }
    for content_type in ["text/html", "application/xml", "image/png", "application/x-protobuf"] {
        assert_eq!(code(content_type, "{\"code\":7}"), None, "{content_type}");
    }
    for body in ["", "{", "{}", "[7]", "7", "null", "{\"code\":7}x", "{\"code\":7}{}", "<html>"] {
        assert_eq!(code("application/json", body), None, "{body}");
    }
}

#[test]
fn pages_are_recognized_by_their_beginning() {
    for (body, expected) in [
        ("<!DOCTYPE html><title>Login</title>", true),
        ("\u{feff}\r\n <HTML>", true),
        ("<head>", true),
        ("<!-- error -->", true),
        ("", false),
        ("ok", false),
        ("<Error><Code>x</Code></Error>", false),
        ("{\"page\":\"<html>\"}", false),
    ] {
        assert_eq!(is_page(&HeaderMap::new(), body.as_bytes()), expected, "{body}");
    }
}

/// Regression: a page that began with another element, with an XML declaration, or in UTF-16 was an
/// acknowledgement of a webhook.
#[test]
fn pages_are_recognized_in_every_form() {
    let is_page = |content_type: &'static str, body: &[u8]| {
        let response = HttpResponse::of("the endpoint", 200, body).labeled(content_type);
        is_page(&response.headers, &response.body)
    };
    let (html, xhtml, text) = ("Text/HTML; charset=utf-8", "application/xhtml+xml", "text/plain");
    let declared = "<?xml version=\"1.0\"?>\n<!DOCTYPE html><html>";
    let cases = [
        (html, "<script>location = '/login'</script>", true),
        (html, "<meta http-equiv=\"refresh\">", true),
        (html, "<title>Sign in</title>", true),
        (html, "\r\n <h1>Sign in</h1>", true),
        (html, declared, true),
        (html, "", false),
        (html, "ok", false),
        (html, "{\"ok\":\"<html>\"}", false),
        (xhtml, declared, true),
        (xhtml, "<root/>", true),
        ("application/xml", declared, true),
        ("application/xml", "<?xml version=\"1.0\"?><ok/>", false),
        ("application/xml", "<?xml", false),
        (text, "<script>location = '/login'</script>", true),
        (text, "<h1", false),
    ];

    for (content_type, body, expected) in cases {
        let little: Vec<u8> = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = body.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let wide: Vec<u8> = body.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        for encoded in [
            body.as_bytes().to_vec(),
            [&b"\xef\xbb\xbf"[..], body.as_bytes()].concat(),
            [&b"\xff\xfe"[..], &little].concat(),
            [&b"\xfe\xff"[..], &big].concat(),
            [&b"\xff\xfe\0\0"[..], &wide].concat(),
            little,
            big,
        ] {
            assert_eq!(is_page(content_type, &encoded), expected, "{content_type}: {encoded:?}");
        }
    }
}

/// Regression: a body that ends with the connection may have been cut off, even if it is empty.
#[tokio::test]
async fn ends_of_bodies_are_explicit_or_unknown() {
    for (reply, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", BodyEnd::Explicit),
        ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", BodyEnd::Explicit),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", BodyEnd::Explicit),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", BodyEnd::Closed),
        ("HTTP/1.1 200 OK\r\n\r\n", BodyEnd::Closed),
        ("HTTP/1.0 200 OK\r\n\r\n", BodyEnd::Closed),
        ("HTTP/1.1 204 No Content\r\n\r\n", BodyEnd::Explicit),
    ] {
        assert_eq!(read(reply.into()).await.unwrap().body_end, expected, "{reply}");
    }

    let headers = HeaderMap::new();
    assert_eq!(BodyEnd::of(Version::HTTP_2, 200, &headers), BodyEnd::Explicit);
    assert_eq!(BodyEnd::of(Version::HTTP_11, 200, &headers), BodyEnd::Closed);
}

/// Regression: a head whose connection ended was an acknowledgement of a webhook, which a server
/// that fails also returns.
#[tokio::test]
async fn a_head_alone_acknowledges_nothing() {
    for (reply, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\n\r\n", false),
        ("HTTP/1.1 202 Accepted\r\nconnection: close\r\n\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", false),
    ] {
        assert_eq!(read(reply.into()).await.unwrap().is_any_success(), expected, "{reply}");
    }

    let failure = read("HTTP/1.1 200 OK\r\n\r\n".into()).await.unwrap().unexpected();
    assert!(failure.to_string().ends_with(": the connection ends after the head"), "{failure}");
    assert!(failure.hint().unwrap().contains("`Content-Length: 0`"), "{failure}");
}

/// Regression: a part of a page without `<html>` was an acknowledgement of a webhook.
#[test]
fn markup_is_believed_only_as_xml() {
    for (content_type, body, expected) in [
        ("text/plain", "<p>blocked by policy</p>", false),
        ("text/plain", "\u{feff}\r\n<h1>Sign in", false),
        ("text/plain", "</div>", false),
        ("application/json", "<div>no</div>", false),
        ("application/unknown", "<?xml version=\"1.0\"?><ok/>", false),
        ("application/xml", "<?xml version=\"1.0\"?><ok/>", true),
        ("text/xml; charset=utf-8", "<ok/>", true),
        ("application/soap+xml", "<Envelope/>", true),
        ("application/xml", "<html>", false),
        ("application/xhtml+xml", "<p>no</p>", false),
        ("text/plain", "<134>1 2026-11-22T00:00:00Z host", true),
        ("text/plain", "< 5", true),
        ("text/plain", "ok <p>", true),
        ("text/plain", "<", true),
        ("text/plain", "", true),
    ] {
        let response = HttpResponse::of("the endpoint", 200, body.as_bytes());
        assert_eq!(response.labeled(content_type).is_any_success(), expected, "{body}");
    }
    assert!(!HttpResponse::of("the endpoint", 200, b"<p>no</p>").is_any_success());
}

/// The message states what was received, as an operator needs it to find the proxy.
#[test]
fn an_unexpected_success_is_an_outage() {
    let page = "<html>\u{1b}[2J\n<title>Sign in</title>";
    for (content_type, body, expected) in [
        ("text/html", page, "`text/html`, <html>\u{fffd}[2J <title>Sign in</title>"),
        ("", "accepted", "accepted"),
        ("application/json", "", "the body is empty"),
    ] {
        let response = HttpResponse::of("the receiver", 200, body.as_bytes());
        let response =
            if content_type.is_empty() { response } else { response.labeled(content_type) };
        for failure in [response.unexpected(), response.failure()] {
            let message =
                format!("the receiver returned HTTP 200 without an acknowledgement: {expected}");
            assert_eq!(failure.to_string(), message);
            assert!(matches!(failure, Failure::Retry { .. }), "{failure}");
            assert!(failure.hint().unwrap().contains("no proxy"), "{failure}");
        }
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
        let failure = HttpResponse::of("Teams", status, body.as_bytes()).failure();
        assert_eq!(failure.to_string(), expected);
        assert_eq!(failure.hint().is_some(), status == 501, "{failure}");
    }
}

/// Regression: a firewall that responded to the text of one tenant with HTTP 302, 401, 404 or 405
/// parked the sink for all tenants.
#[test]
fn no_status_alone_parks_the_sink() {
    let tls = "The plain HTTP request was sent to HTTPS port";
    for (status, body, expected, has_hint) in [
        (301, "", "denied", false),
        (302, "<html>", "denied", false),
        (401, "", "denied", false),
        (402, "", "denied", false),
        (404, "", "denied", false),
        (405, "", "denied", true),
        (407, "", "denied", false),
        (410, "", "denied", false),
        (415, "", "denied", false),
        (418, "", "denied", false),
        (400, tls, "denied", true),
        (400, "", "rejects all", false),
        (403, "", "rejects all", false),
        (406, "", "rejects all", false),
        (422, "", "rejects all", false),
        (451, "", "rejects all", false),
        (413, "", "too large", false),
        (408, "", "retry", false),
        (425, "", "retry", false),
        (429, "", "retry", false),
        (500, "", "retry", false),
        (501, "", "retry", true),
    ] {
        let failure = HttpResponse::of("the receiver", status, body.as_bytes()).failure();

        let found = match &failure {
            Failure::Denied { .. } => "denied",
            Failure::RejectsAll { .. } => "rejects all",
            Failure::TooLarge { .. } => "too large",
            Failure::Retry { .. } => "retry",
            _ => "other",
        };
        assert_eq!((found, failure.hint().is_some()), (expected, has_hint), "{status} {body}");
        let is_of_operator = matches!(expected, "denied" | "rejects all");
        assert_eq!(failure.needs_operator(), is_of_operator, "{status}");
        assert!(!matches!(failure.without_records(), Failure::Denied { .. }), "{status}");
    }
}

/// Regression: a body of 8 MiB was searched for secrets completely, regardless of its
/// status.
#[tokio::test]
async fn only_errors_are_cut_and_redacted() {
    const LARGE: usize = 1 << 20;

    let mut secrets = SentSecrets::default();
    secrets.add("canary-token");
    let echo = b"canary-token ".repeat(LARGE / 13);
    for (status, expected) in [
        ("200 OK", echo.len()),
        ("207 Multi-Status", echo.len()),
        ("302 Found", MAX_ERROR_BODY_BYTES),
        ("400 Bad", MAX_ERROR_BODY_BYTES),
        ("503 Busy", MAX_ERROR_BODY_BYTES),
    ] {
        let head = format!("{status}\r\ncontent-length: {}", echo.len());
        let reply = reply(&head, &echo);
        let response = read_with_secret(reply, LARGE, secrets.clone()).await.unwrap();
        assert!(response.body.len() <= expected, "{status}");
        let is_unchanged = response.body == echo;
        assert_eq!(is_unchanged, status.starts_with('2'), "{status}");
        for failure in [response.failure(), response.unexpected()] {
            let message = failure.to_string();
            assert!(message.contains("[redacted] [redacted]"), "{message}");
            assert!(!message.contains("canary"), "{message}");
        }
    }
}

#[test]
fn quoted_texts_contain_no_secret() {
    let response = HttpResponse::of("the receiver", 200, b"").with_secret("canary-token");
    let labeled = HttpResponse::of("the receiver", 200, b"x").with_secret("canary-token");
    let labeled = labeled.labeled("text/canary-token");
    assert!(labeled.unexpected().to_string().contains("`text/[redacted]`, x"));

    let wide: Vec<u8> = "no canary-token".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (text, max, expected) in [
        (&b"no canary-token\r\n"[..], 50, "no [redacted]"),
        (b"no canary-token", 5, "no […"),
        (b"no canary", 50, "no canary"),
        (b"c\xc2\xadanary&dash;token", 50, "[redacted]"),
        (b"", 50, ""),
    ] {
        assert_eq!(response.quote(text, max), expected);
    }
    assert!(response.quote(&wide, 50).contains("[redacted]"));
}

/// Regression: the message of an error of HTTP/2 contained 16 KiB that the server had sent.
#[test]
fn errors_of_the_client_are_short() {
    let error = std::io::Error::other("x\n".repeat(100_000));
    let message = describe(&error, &SentSecrets::default());
    assert_eq!(message.chars().count(), MAX_MESSAGE_CHARS);
    assert!(message.starts_with("x x x") && message.ends_with('…'), "{message}");
}
