//! The HTTP client of the stores: that of all sinks, which follows no redirects, with a limit for
//! the size of a response.
//!
//! The library of the stores reads a response to its end and allocates as much memory as the server
//! announces, so it must never use a client of its own. Of a response, this sink uses the status, a
//! few headers and, if the request failed, a message; a metadata service returns a token. Plain
//! text is sent only to this host and to services of its platform, and the secrets of a request are
//! removed from its response. Start reading at [`LimitedConnector`]. See decisions 0048, 0066, 0068
//! and 0086.

use std::{borrow::Cow, path::Path, time::Duration};

use async_trait::async_trait;
use futures_util::StreamExt;
use object_store::{
    ClientConfigKey, ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpResponseBody, HttpService,
    },
};
use reqwest::{Method, header::HeaderMap};

use super::error_document::summary_of;
use crate::{
    error::chain,
    foreign_text::{CUT_MARGIN_BYTES, MAX_ERROR_BODY_BYTES, PeerSecrets, SentSecrets},
    net::{self, BodyError, ClientError, TlsFault},
    sink::reply::{is_labeled_as_page, is_page},
};

/// The maximum size of a successful response in bytes.
const MAX_RESPONSE_BYTES: usize = 64 << 10;
/// How much of another response is read, in bytes: a message, and what shows whether a secret is at
/// its end.
const MAX_ERROR_BYTES: usize = MAX_ERROR_BODY_BYTES + CUT_MARGIN_BYTES;
/// The headers with which the library requests that an object be written only if it does not exist:
/// for Amazon S3 and Azure, and for Google.
const CREATION_HEADERS: &[&str] = &["if-none-match", "x-goog-if-generation-match"];
/// The limit for establishing a connection in plain text, which is possible only to this host and
/// to metadata services. They are not present on every host.
const PLAIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a request is not sent: the library, or the content of a secret, has named its address.
#[derive(Debug, thiserror::Error)]
#[error("a credential would be sent in plain text to `{0}`")]
struct PlainTextError(String);

/// Why a success is not that of a store: a proxy has returned a page for a browser.
#[derive(Debug, thiserror::Error)]
#[error("the response is an HTML page, which a store never returns")]
struct PageError;

/// Why the success of a request that creates an object does not confirm it: a store confirms it
/// with an empty body. Contains the beginning of the body.
#[derive(Debug, thiserror::Error)]
#[error("the response has a message instead of an empty body: {0}")]
struct MessageError(String);

/// An error that quoted a secret of the request. The text does not contain it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct QuotingError(String);

/// Provides the library with clients.
#[derive(Debug)]
pub(super) struct LimitedConnector {
    /// Connects only over TLS.
    encrypted: HttpClient,
    /// Also connects in plain text.
    plain: HttpClient,
}

#[derive(Debug)]
struct LimitedClient {
    client: HttpClient,
    /// The secrets that were sent to the store.
    sent: PeerSecrets,
}

impl LimitedConnector {
    /// The certificate authorities in `ca_file` replace those of the system, and `sent` keeps the
    /// secrets that are sent. Fails as [`net::tls_config`] does.
    pub(super) fn new(ca_file: Option<&Path>, sent: &PeerSecrets) -> Result<Self, ClientError> {
        let encrypted = net::builder(ca_file)?.https_only(true);
        let plain = net::builder(ca_file)?.connect_timeout(PLAIN_CONNECT_TIMEOUT);
        let client = |builder: reqwest::ClientBuilder| -> Result<HttpClient, ClientError> {
            let client = HttpClient::new(builder.build().map_err(ClientError::Build)?);
            Ok(HttpClient::new(LimitedClient { client, sent: sent.clone() }))
        };
        Ok(Self { encrypted: client(encrypted)?, plain: client(plain)? })
    }
}

impl HttpConnector for LimitedConnector {
    /// The client for an endpoint or a metadata service. Of the options, only the one that permits
    /// plain text has an effect.
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let is_plain_allowed = options.get_config_value(&ClientConfigKey::AllowHttp);
        Ok(match is_plain_allowed.as_deref() {
            Some("true") => self.plain.clone(),
            _ => self.encrypted.clone(),
        })
    }
}

#[async_trait]
impl HttpService for LimitedClient {
    /// Reads the whole response. Fails before anything is sent if the address is not one to which a
    /// credential may be sent. Fails if the response to a successful request is too large, a page,
    /// or a message about an object that was to be created; that to another one is a message, which
    /// is cut. A response without a body is a page if it is labeled as one.
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let url = url::Url::parse(&request.uri().to_string());
        if !url.is_ok_and(|url| net::is_safe_platform_url(&url)) {
            let host = request.uri().host().unwrap_or_default().to_owned();
            return Err(HttpError::new(HttpErrorKind::Unknown, PlainTextError(host)));
        }

        let creates_object = creates_object(request.headers());
        let has_no_body = request.method() == Method::HEAD;
        let sent = request.body().as_bytes().cloned();
        // The library sends tokens and signatures, but no secret from the configuration.
        let secrets = net::parts_secrets(request.headers(), request.uri().query(), sent.as_deref());
        let secrets = self.sent.remember(&secrets.into_temporary());
        let response = self.client.execute(request).await;
        let (parts, body) = response.map_err(|error| redacted(error, &secrets))?.into_parts();

        let is_success = parts.status.is_success();
        let limit = if is_success { MAX_RESPONSE_BYTES } else { MAX_ERROR_BYTES };
        let mut chunks = body.bytes_stream();
        let mut received = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| redacted(error, &secrets))?;
            let left = limit.saturating_sub(received.len());
            received.extend_from_slice(&chunk[..chunk.len().min(left)]);
            if chunk.len() <= left {
                continue;
            }
            if is_success {
                let error = BodyError::TooLarge(limit);
                return Err(HttpError::new(HttpErrorKind::Decode, error));
            }
            break;
        }

        let is_page =
            is_page(&parts.headers, &received) || has_no_body && is_labeled_as_page(&parts.headers);
        if is_success && is_page {
            return Err(HttpError::new(HttpErrorKind::Decode, PageError));
        }
        if is_success && creates_object && !received.trim_ascii().is_empty() {
            let message = net::off_worker(received.len(), || {
                let message = net::redact_beginning(&secrets, &received, MAX_ERROR_BODY_BYTES);
                summary_of(&String::from_utf8_lossy(&message))
            });
            return Err(HttpError::new(HttpErrorKind::Decode, MessageError(message)));
        }

        let body: HttpResponseBody = net::off_worker(received.len(), || {
            if is_success {
                return net::redact_body(&secrets, received).into();
            }
            let message = net::redact_beginning(&secrets, &received, MAX_ERROR_BODY_BYTES);
            // The library rejects a message that is not valid UTF-8, such as one that was cut.
            String::from_utf8_lossy(&message).into_owned().into()
        });
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// Whether these headers are those of a request that creates an object unless it exists. The body
/// of its response is empty for each API (Amazon S3, "`PutObject`"; Azure, "Put Blob"; Google Cloud
/// Storage, "PUT Object"). The services that return tokens have no such headers.
fn creates_object(headers: &HeaderMap) -> bool {
    CREATION_HEADERS.iter().any(|name| headers.contains_key(*name))
}

/// An error without the secrets of this request and of earlier ones, which the server may have
/// repeated, also in its certificate.
fn redacted(error: HttpError, secrets: &SentSecrets) -> HttpError {
    if let Some(fault) = TlsFault::of(&error) {
        return HttpError::new(error.kind(), fault.redacted(secrets));
    }
    match net::redact(secrets, &chain(&error)) {
        Cow::Borrowed(_) => error,
        Cow::Owned(text) => HttpError::new(error.kind(), QuotingError(text)),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// The result of a request with this header, whose response is HTTP 200 with an `ETag` and this
    /// body.
    async fn respond(header: &'static str, body: &str) -> Result<HttpResponse, HttpError> {
        let mut request = HttpRequest::new(Vec::<u8>::new().into());
        request.headers_mut().insert(header, HeaderValue::from_static("*"));
        exchange(request, &format!("content-length: {}", body.len()), body).await
    }

    /// The result of a request whose response is HTTP 200 with an `ETag`, this header and this
    /// body.
    async fn exchange(
        mut request: HttpRequest,
        header: &str,
        body: &str,
    ) -> Result<HttpResponse, HttpError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        *request.uri_mut() =
            format!("http://{}/b", listener.local_addr().unwrap()).parse().unwrap();
        let response = format!("HTTP/1.1 200 OK\r\netag: \"1\"\r\n{header}\r\n\r\n{body}");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4_096]).await;
            stream.write_all(response.as_bytes()).await.unwrap();
            // Unread data would reset the connection.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });

        let connector = LimitedConnector::new(None, &PeerSecrets::default()).unwrap();
        let client = connector.connect(&ClientOptions::new().with_allow_http(true)).unwrap();
        client.execute(request).await
    }

    /// Regression: an error document with HTTP 200 and an `ETag` was an acknowledgement.
    #[tokio::test]
    async fn only_an_empty_body_confirms_an_object() {
        let document = "<Error><Code>SlowDown</Code><Message>wait</Message></Error>";
        for header in CREATION_HEADERS {
            for (body, expected) in
                [(document, "SlowDown: wait"), ("{\"status\":\"ok\"}", "{\"status\":\"ok\"}")]
            {
                let error = respond(header, body).await.unwrap_err();
                let message = format!("a message instead of an empty body: {expected}");
                assert!(chain(&error).contains(&message), "{}", chain(&error));
            }
            assert!(respond(header, "").await.is_ok());
        }
        assert!(respond("x-aws-ec2-metadata-token-ttl-seconds", "token").await.is_ok());
    }

    /// Regression: the page of a proxy confirmed an object, because its body is not a part of the
    /// response to such a request.
    #[tokio::test]
    async fn pages_describe_no_object() {
        for (content_type, is_page) in [
            ("text/html; charset=utf-8", true),
            ("Application/XHTML+XML", true),
            ("application/json", false),
            ("text/plain", false),
        ] {
            let mut request = HttpRequest::new(Vec::<u8>::new().into());
            *request.method_mut() = Method::HEAD;
            let headers = format!("content-length: 9\r\ncontent-type: {content_type}");
            let described = exchange(request, &headers, "").await;
            assert_eq!(described.is_err(), is_page, "{content_type}");
        }
    }

    /// Regression: with an address from the environment, the token of a container was sent in plain
    /// text to any host.
    #[tokio::test]
    async fn plain_text_never_leaves_this_host() {
        let connector = LimitedConnector::new(None, &PeerSecrets::default()).unwrap();
        let client = connector.connect(&ClientOptions::new().with_allow_http(true)).unwrap();
        for host in ["192.0.2.1", "credentials.example.com"] {
            let mut request = HttpRequest::new(Vec::<u8>::new().into());
            *request.uri_mut() = format!("http://{host}/token").parse().unwrap();
            let error = client.execute(request).await.unwrap_err();
            let message = format!("would be sent in plain text to `{host}`");
            assert!(chain(&error).contains(&message), "{}", chain(&error));
        }
    }
}
