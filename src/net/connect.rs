//! Opens connections for the protocols that do not use HTTP: over TCP, and over TLS on any byte
//! stream. Host names are resolved by `resolver`, the certificate files are read for each
//! connection, so that renewed ones are used, and nothing but the handshake is sent. Start reading
//! at [`connect_tcp`] and [`connect_tls`].

use std::{io, path::Path, sync::Arc};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{CONNECT_TIMEOUT, ClientCertificate, ClientError, TlsFault, resolve, tls_config};
use crate::foreign_text::SentSecrets;

/// A byte stream, in clear text or over TLS.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> ByteStream for T {}

/// The certificates of a connection over TLS.
#[derive(Clone, Copy, Debug)]
pub struct TlsSettings<'a> {
    /// The name that the certificate of the server must contain.
    pub server_name: &'a str,
    /// The certificate authorities (PEM) that replace those of the system.
    pub ca_file: Option<&'a Path>,
    /// What the client presents if the server requests a certificate.
    pub client: Option<ClientCertificate<'a>>,
}

/// Why a connection cannot be opened. An address is `host:port`.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to `{0}`")]
    Unreachable(String, #[source] io::Error),
    /// A certificate file cannot be used.
    #[error(transparent)]
    Certificate(#[from] ClientError),
    #[error("`{0}` is not a valid server name")]
    ServerName(String),
    /// The handshake failed because of a fault of TLS.
    #[error("TLS with `{0}` failed: {1}")]
    Tls(String, TlsFault),
    /// The connection failed during the handshake for another reason.
    #[error("TLS with `{0}` failed")]
    Interrupted(String, #[source] io::Error),
}

impl ConnectError {
    /// The error without secrets in the names of the server's certificate.
    #[must_use]
    pub fn redacted(self, secrets: &SentSecrets) -> Self {
        match self {
            Self::Tls(address, fault) => Self::Tls(address, fault.redacted(secrets)),
            other => other,
        }
    }
}

/// Connects to `host:port` within ten seconds.
///
/// # Errors
///
/// Fails with [`ConnectError::Unreachable`].
pub async fn connect_tcp(address: &str) -> Result<TcpStream, ConnectError> {
    let connected = timeout(CONNECT_TIMEOUT, open_tcp(address)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.map_err(|error| ConnectError::Unreachable(address.to_owned(), error))
}

/// Connects to the first address of `host:port` that accepts the connection. The caller limits the
/// time. Fails with the error of the lookup or of the last address.
#[expect(clippy::disallowed_methods, reason = "the only permitted call, with resolved addresses")]
pub(crate) async fn open_tcp(address: &str) -> io::Result<TcpStream> {
    let addresses = resolve(address).await?;
    TcpStream::connect(addresses.as_slice()).await
}

/// Completes a TLS handshake on a connection to `host:port` within ten seconds.
///
/// # Errors
///
/// Fails if a certificate file or the server name cannot be used, or if the handshake fails.
pub async fn connect_tls<S: ByteStream>(
    address: &str,
    settings: TlsSettings<'_>,
    stream: S,
) -> Result<TlsStream<S>, ConnectError> {
    let TlsSettings { server_name, ca_file, client } = settings;
    let config = tls_config(ca_file, client)?;
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| ConnectError::ServerName(server_name.to_owned()))?;

    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match TlsFault::of_handshake(&error) {
            Some(fault) => ConnectError::Tls(address.to_owned(), fault),
            None => ConnectError::Interrupted(address.to_owned(), error),
        }),
        Err(_) => Err(ConnectError::Tls(address.to_owned(), TlsFault::Unanswered)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_port_without_a_server_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = connect_tcp(&address).await.unwrap_err();
        assert!(matches!(&error, ConnectError::Unreachable(found, _) if *found == address));
    }

    #[tokio::test]
    async fn each_failed_handshake_has_a_reason() {
        let absent = Path::new("/absent/ca.pem");
        for (server_name, ca_file, expected) in [
            ("h", Some(absent), "cannot open `/absent/ca.pem`"),
            ("h h", None, "`h h` is not a valid server name"),
            ("h", None, "TLS with `h:25` failed: the server does not use TLS on this port"),
        ] {
            let (client, mut server) = tokio::io::duplex(1 << 16);
            server.write_all(b"220 in plain text\r\n").await.unwrap();
            let settings = TlsSettings { server_name, ca_file, client: None };
            let error = connect_tls("h:25", settings, client).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
