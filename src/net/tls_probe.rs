//! Whether a server expects TLS although this program used plain text: many servers then close the
//! connection without a TLS alert.
//!
//! The probe sends only the first message of a handshake, never a record or a credential. Use it
//! only after an exchange in plain text has failed, and only with a server that does not store what
//! it receives; the syslog sink examines the server first. Start reading at [`tls_support`].

use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{TlsFault, failures::may_expect_tls, install_crypto_provider, open_tcp};

/// The limit for a probe, from connecting to the first bytes of the reply.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a server responds to the beginning of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsSupport {
    /// With a TLS record: a message of the handshake, or an alert.
    Offered,
    /// In any other way.
    Absent,
    /// The server cannot be reached, or does not respond in time.
    Unknown,
}

/// Sends the first message of a TLS handshake to `host:port`, once, and reads the beginning of the
/// reply. Takes at most two seconds.
pub async fn tls_support(address: &str) -> TlsSupport {
    let probe = async {
        let Ok(stream) = open_tcp(address).await else { return TlsSupport::Unknown };
        match start_of_reply(stream).await {
            Ok(start) if TlsFault::in_plain_text(&start).is_some() => TlsSupport::Offered,
            _ => TlsSupport::Absent,
        }
    };
    timeout(PROBE_TIMEOUT, probe).await.unwrap_or(TlsSupport::Unknown)
}

/// The `host:port` to probe after an exchange with the server of a URL has failed with this error;
/// `None` if the error does not indicate that the server expects TLS, or if the scheme of the URL
/// is not `http`.
pub fn address_to_probe(url: &url::Url, error: &(dyn Error + 'static)) -> Option<String> {
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    (url.scheme() == "http" && may_expect_tls(error)).then(|| format!("{host}:{port}"))
}

/// The first two bytes of the reply to a handshake: a TLS record begins with its type and the major
/// version.
async fn start_of_reply(mut stream: TcpStream) -> io::Result<[u8; 2]> {
    stream.write_all(&client_hello()?).await?;
    let mut start = [0; 2];
    stream.read_exact(&mut start).await?;
    Ok(start)
}

/// The first message of a client. The handshake never continues, so no certificate authorities are
/// needed.
fn client_hello() -> io::Result<Vec<u8>> {
    install_crypto_provider();
    let builder = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
    let config = builder.with_no_client_auth();
    // An address is not sent as the name of the server.
    let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;

    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that replies to a TLS handshake, and closes every other connection without a reply.
    /// Returns its address.
    pub(crate) async fn silent_tls_server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut header = [0; 5];
                    let is_complete = stream.read_exact(&mut header).await.is_ok();
                    if is_complete && header[0] == 22 {
                        let _ = stream.write_all(&[22, 3, 3, 0, 1]).await;
                        let _ = stream.read_to_end(&mut Vec::new()).await;
                    }
                });
            }
        });
        address
    }

    /// A server that replies to everything with this text.
    async fn plain_server(reply: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(reply).await;
            }
        });
        address
    }

    /// Regression: a server that closes a connection in plain text without an alert was not
    /// recognized as a server that expects TLS.
    #[tokio::test]
    async fn servers_that_expect_tls_are_recognized() {
        assert_eq!(tls_support(&silent_tls_server().await).await, TlsSupport::Offered);
        for reply in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", b"220 mail\r\n"] {
            assert_eq!(tls_support(&plain_server(reply).await).await, TlsSupport::Absent);
        }

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        assert_eq!(tls_support(&address).await, TlsSupport::Unknown);
    }

    #[test]
    fn only_urls_without_tls_are_probed() {
        for (url, kind, expected) in [
            ("http://h:8080/x", io::ErrorKind::ConnectionReset, Some("h:8080")),
            ("http://h/x", io::ErrorKind::UnexpectedEof, Some("h:80")),
            ("http://h/x", io::ErrorKind::ConnectionRefused, None),
            ("https://h/x", io::ErrorKind::ConnectionReset, None),
            ("ftp://h/x", io::ErrorKind::ConnectionReset, None),
        ] {
            let found = address_to_probe(&url.parse().unwrap(), &io::Error::from(kind));
            assert_eq!(found.as_deref(), expected, "{url} {kind:?}");
        }
    }

    #[test]
    fn a_probe_begins_a_handshake_without_a_name() {
        let hello = client_hello().unwrap();
        assert_eq!((hello[0], hello[1]), (22, 3));
        assert_eq!(usize::from(u16::from_be_bytes([hello[3], hello[4]])), hello.len() - 5);
        assert!(!hello.windows(9).any(|window| window == b"127.0.0.1"));
    }
}
