//! Why a proxy does not connect this program with a server, as a sentence with a remedy. The error
//! of the HTTP client is `tunnel error: unsuccessful`, and its type is private, so it is recognized
//! by its text. The text lacks the status of the proxy's response, so the proxy is asked again, as
//! `tls_probe` does for TLS. Start reading at [`ProxyFault::of`] and [`ProxyAccess::fault`].

use std::{borrow::Cow, error::Error, io, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use url::Url;

use super::connect::{ByteStream, TlsSettings, connect_tls, open_tcp};
use crate::error::{Hint, causes};

/// The time that a proxy has to state why it does not connect.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
/// The maximum size of the first line of a response.
const MAX_LINE_BYTES: u64 = 1 << 10;

/// A fault of the connection through a proxy. All of them can clear without an operator, for
/// example while the proxy restarts, except a missing password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// The proxy did not connect, and its reason is not known.
    #[error("the proxy did not open a connection to the server")]
    NotConnected,
    /// The proxy does not permit the connection (HTTP 403).
    #[error("the proxy refused the connection to the server")]
    Refused,
    /// The proxy has failed to connect with the server (HTTP 502, 503 and 504).
    #[error("the proxy cannot reach the server (HTTP {status})")]
    ServerUnreachable { status: u16 },
    /// The proxy responded with another status.
    #[error("the proxy returned HTTP {status} instead of a connection to the server")]
    Unexpected { status: u16 },
    #[error("the proxy requires a user name and a password")]
    LoginRequired,
    /// The response of the proxy is absent, incomplete or too long.
    #[error("the proxy did not respond as a proxy does")]
    NotAProxy,
    /// The proxy itself cannot be reached.
    #[error("the proxy cannot be reached")]
    Unreachable,
}

/// The beginning of each error of the HTTP client.
const TUNNEL_ERROR: &str = "tunnel error: ";

impl ProxyFault {
    /// The fault that caused an error, if one of its causes is a fault of the proxy.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        causes(error).find_map(|cause| Self::in_message(&cause.to_string()))
    }

    fn in_message(message: &str) -> Option<Self> {
        let (_, reason) = message.split_once(TUNNEL_ERROR)?;
        Some(match reason {
            _ if reason.starts_with("proxy authorization required") => Self::LoginRequired,
            _ if reason.starts_with("unexpected end of file")
                || reason.starts_with("proxy response headers too long")
                || reason.starts_with("io error") =>
            {
                Self::NotAProxy
            }
            _ if reason.starts_with("failed to create underlying connection") => Self::Unreachable,
            _ => Self::NotConnected,
        })
    }

    /// The fault that the first line of the proxy's response shows.
    fn in_status_line(line: &[u8]) -> Self {
        let text = String::from_utf8_lossy(line);
        let status = text
            .strip_prefix("HTTP/")
            .and_then(|rest| rest.split_ascii_whitespace().nth(1))
            .and_then(|status| status.parse::<u16>().ok());
        match status {
            None => Self::NotAProxy,
            // The proxy has recovered in the meantime.
            Some(200) => Self::NotConnected,
            Some(403) => Self::Refused,
            Some(407) => Self::LoginRequired,
            Some(status @ 502..=504) => Self::ServerUnreachable { status },
            Some(status) => Self::Unexpected { status },
        }
    }
}

/// What a request to the proxy requires.
#[derive(Debug)]
pub struct ProxyAccess {
    /// The address of the proxy.
    pub url: Url,
    /// The user name and the password; `None` if the proxy requires none.
    pub login: Option<(String, SecretString)>,
    /// The certificate authorities (PEM) that replace those of the system, for a proxy over TLS.
    pub ca_file: Option<PathBuf>,
}

impl ProxyAccess {
    /// Requests a connection to `server` again, and returns the fault that the response shows;
    /// [`ProxyFault::NotConnected`] if that cannot be determined.
    pub async fn fault(&self, server: &Url) -> ProxyFault {
        match timeout(REPLY_LIMIT, self.status_line(server)).await {
            Ok(Ok(Some(line))) => ProxyFault::in_status_line(&line),
            Ok(Ok(None) | Err(_)) | Err(_) => ProxyFault::NotConnected,
        }
    }

    /// The first line of the response to `CONNECT`; `None` if no request is possible.
    async fn status_line(&self, server: &Url) -> io::Result<Option<Vec<u8>>> {
        let (Some(proxy), Some(target)) = (host_and_port(&self.url), host_and_port(server)) else {
            return Ok(None);
        };

        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some((user, password)) = &self.login {
            let login = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&login);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");

        let stream = open_tcp(&proxy).await?;
        let mut stream: Box<dyn ByteStream> = match self.url.scheme() {
            "http" => Box::new(stream),
            "https" => {
                let server_name = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
                let ca_file = self.ca_file.as_deref();
                let settings = TlsSettings { server_name, ca_file, client: None };
                let stream = connect_tls(&proxy, settings, stream).await;
                Box::new(stream.map_err(io::Error::other)?)
            }
            _ => return Ok(None),
        };
        stream.write_all(request.as_bytes()).await?;
        let mut line = Vec::new();
        let mut response = stream.take(MAX_LINE_BYTES);
        while !line.contains(&b'\n') && response.read_buf(&mut line).await? > 0 {}
        Ok(Some(line))
    }
}

/// `host:port` of a URL, for the line of a request and for a connection.
fn host_and_port(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

impl Hint for ProxyFault {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::Refused => "allow the connection to this server in the proxy, and read its log",
            Self::ServerUnreachable { .. } | Self::NotConnected => {
                "read the log of the proxy, and check whether it can resolve and reach the server"
            }
            Self::Unexpected { .. } => {
                "check that `source.proxy` is the address of an HTTP proxy, and read its log"
            }
            Self::LoginRequired => "set `source.proxy_user` and `source.proxy_password`",
            Self::NotAProxy | Self::Unreachable => {
                "check the address and the port of the proxy in `source.proxy`"
            }
        };
        Some(hint.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;
    use crate::net;

    /// Regression: a proxy that refused a connection was reported as `tunnel error: unsuccessful`.
    #[tokio::test]
    async fn faults_of_proxies_are_explained() {
        for (reply, expected) in [
            (&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..], ProxyFault::NotConnected),
            (&b"garbage\r\n\r\n"[..], ProxyFault::NotConnected),
            (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], ProxyFault::LoginRequired),
            (&b""[..], ProxyFault::NotAProxy),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let proxy = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(reply).await;
            });

            let builder = net::builder(None).unwrap();
            let client = builder.proxy(reqwest::Proxy::all(proxy).unwrap()).build().unwrap();
            let request = client.get("https://graph.example.com/").send();
            let sent = timeout(Duration::from_secs(10), request).await.unwrap();
            let error = sent.unwrap_err();
            let fault = ProxyFault::of(&error).unwrap_or_else(|| panic!("{error:?}"));
            assert_eq!(fault, expected);
            assert!(fault.hint().is_some());
        }

        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(ProxyFault::of(&refused), None);
    }

    /// Regression: every response of a proxy other than HTTP 407 was reported as a refusal.
    #[tokio::test]
    async fn statuses_of_proxies_are_named() {
        const REPLIES: [(&[u8], ProxyFault); 8] = [
            (b"HTTP/1.1 403 Forbidden\r\n\r\n", ProxyFault::Refused),
            (b"HTTP/1.0 407 Login\r\n\r\n", ProxyFault::LoginRequired),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", ProxyFault::ServerUnreachable { status: 502 }),
            (b"HTTP/1.1 504\r\n\r\n", ProxyFault::ServerUnreachable { status: 504 }),
            (b"HTTP/1.1 301 Moved\r\n\r\n", ProxyFault::Unexpected { status: 301 }),
            (b"HTTP/1.1 200 OK\r\n\r\n", ProxyFault::NotConnected),
            (b"garbage\r\n\r\n", ProxyFault::NotAProxy),
            (b"", ProxyFault::NotAProxy),
        ];

        for (reply, expected) in REPLIES {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
            let answered = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4_096];
                let length = stream.read(&mut request).await.unwrap();
                request.truncate(length);
                stream.write_all(reply).await.unwrap();
                String::from_utf8(request).unwrap()
            });

            let login = Some(("user".to_owned(), SecretString::from("password")));
            let server = "https://graph.example.com/v1.0".parse().unwrap();
            let fault = ProxyAccess { url, login, ca_file: None }.fault(&server).await;
            assert_eq!(fault, expected);
            let request = answered.await.unwrap();
            assert!(request.starts_with("CONNECT graph.example.com:443 HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("\r\nProxy-Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n"));
        }
    }
}
