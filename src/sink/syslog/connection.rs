//! A connection to a receiver that never says a word: everything it would tell us, it tells by
//! hanging up. So the reading side is looked at before and after every batch.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket, UnixDatagram},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::config::{Target, Tls};
use crate::{
    net,
    sink::{Failure, chain},
};

/// How long data may stay unacknowledged before the kernel gives the connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A TLS 1.3 server refuses a client's certificate after the client's handshake has succeeded:
/// the refusal is a round trip away. So the first batch waits this long for it.
const GRACE: Duration = Duration::from_millis(150);
const GOODBYE: Duration = Duration::from_secs(2);

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

pub(super) enum Connection {
    Stream { stream: Box<dyn Stream>, proven: bool },
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

pub(super) async fn connect(target: &Target) -> Result<Connection, Failure> {
    match target {
        Target::Tcp { address } => {
            let stream = Box::new(tcp(address).await?);
            Ok(Connection::Stream { stream, proven: false })
        }
        Target::Tls { address, tls } => {
            let connector = TlsConnector::from(Arc::new(tls_config(tls)?));
            let name = ServerName::try_from(tls.server_name.clone()).map_err(|_| {
                Failure::misconfigured(format!("`{}` is no server name", tls.server_name))
            })?;
            let handshake = connector.connect(name, tcp(address).await?);
            let stream = match timeout(net::CONNECT_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return Err(refused_tls(address, &error)),
                Err(_) => {
                    return Err(Failure::retry(format!(
                        "{address} did not finish the TLS handshake"
                    )));
                }
            };
            Ok(Connection::Stream { stream: Box::new(stream), proven: false })
        }
        Target::Udp { address } => {
            let socket = udp(address)
                .await
                .map_err(|error| Failure::retry(format!("cannot reach {address}: {error}")))?;
            Ok(Connection::Udp(socket))
        }
        Target::Unix { path } => {
            let socket =
                UnixDatagram::unbound().and_then(|socket| socket.connect(path).map(|()| socket));
            socket.map(Connection::Unix).map_err(|error| {
                Failure::retry(format!("cannot reach {}: {error}", path.display()))
            })
        }
    }
}

impl Connection {
    /// Sends whole frames, and looks whether the connection outlived them.
    pub(super) async fn send_stream(&mut self, octets: &[u8]) -> io::Result<()> {
        let Self::Stream { stream, proven } = self else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        still_open(stream, Duration::ZERO).await?;
        let written = timeout(WRITE_TIMEOUT, async {
            stream.write_all(octets).await?;
            stream.flush().await
        });
        written.await.map_err(|_| io::Error::other("the receiver takes nothing more"))??;
        still_open(stream, if *proven { Duration::ZERO } else { GRACE }).await?;
        *proven = true;
        Ok(())
    }

    pub(super) async fn send_datagram(&self, datagram: &[u8]) -> io::Result<()> {
        let sent = match self {
            Self::Udp(socket) => timeout(WRITE_TIMEOUT, socket.send(datagram)).await,
            Self::Unix(socket) => timeout(WRITE_TIMEOUT, socket.send(datagram)).await,
            Self::Stream { .. } => return Err(io::ErrorKind::Unsupported.into()),
        };
        sent.map_err(|_| io::Error::other("the receiver takes nothing more"))?.map(drop)
    }

    /// Ends the stream in good order and waits for the receiver to have read to the end.
    pub(super) async fn close(self) {
        if let Self::Stream { mut stream, .. } = self {
            let goodbye = async {
                stream.shutdown().await?;
                stream.read(&mut [0; 64]).await
            };
            // Whatever comes of it, nothing is decided by it.
            let _ = timeout(GOODBYE, goodbye).await;
        }
    }
}

/// An error if the receiver has hung up. Anything that it says is beside the point.
async fn still_open(stream: &mut Box<dyn Stream>, wait: Duration) -> io::Result<()> {
    match timeout(wait, stream.read(&mut [0; 256])).await {
        Ok(Ok(0)) => Err(io::Error::other("the receiver closed the connection")),
        Err(_) | Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error),
    }
}

async fn tcp(address: &str) -> Result<TcpStream, Failure> {
    let stream = match timeout(net::CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Err(Failure::retry(format!("cannot connect to {address}: {error}")));
        }
        Err(_) => return Err(Failure::retry(format!("{address} does not answer"))),
    };
    let socket = socket2::SockRef::from(&stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_mins(1))
        .with_interval(Duration::from_secs(10));
    let set = socket.set_tcp_keepalive(&keepalive);
    let set = set.and_then(|()| socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
    set.and_then(|()| socket.set_tcp_nodelay(true))
        .map_err(|error| Failure::retry(error.to_string()))?;
    Ok(stream)
}

/// A connected socket, so that "port unreachable" comes back as an error.
async fn udp(address: &str) -> io::Result<UdpSocket> {
    let peer = tokio::net::lookup_host(address).await?.next().ok_or(io::ErrorKind::NotFound)?;
    let local = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(peer).await?;
    Ok(socket)
}

/// The certificates are read at each connection, so that renewed ones are picked up.
fn tls_config(tls: &Tls) -> Result<ClientConfig, Failure> {
    net::install_crypto_provider();
    let misconfigured = |error: &dyn std::error::Error| Failure::misconfigured(chain(error));
    let builder = ClientConfig::builder();
    let builder = match &tls.ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in
                net::read_certificates(path).map_err(|error| misconfigured(&error))?
            {
                roots.add(certificate).map_err(|error| misconfigured(&error))?;
            }
            builder.with_root_certificates(roots)
        }
        None if tls.client.is_none() => {
            return ClientConfig::with_platform_verifier().map_err(|error| misconfigured(&error));
        }
        None => {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier = rustls_platform_verifier::Verifier::new(provider)
                .map_err(|error| misconfigured(&error))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let Some((certificate, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let chain_of_ours =
        net::read_certificates(certificate).map_err(|error| misconfigured(&error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        Failure::misconfigured(format!(
            "cannot read the private key in `{}`: {error}",
            key.display()
        ))
    })?;
    builder.with_client_auth_cert(chain_of_ours, key).map_err(|error| misconfigured(&error))
}

/// A certificate that does not fit wants a person; anything else may pass.
fn refused_tls(address: &str, error: &io::Error) -> Failure {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let reason = format!("TLS with {address} failed: {}", chain(error));
    match cause {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => {
            Failure::Misconfigured { reason }
        }
        _ => Failure::retry(reason),
    }
}
