//! Opens the TCP, TLS, UDP and Unix sockets of the syslog sink. Certificates are read for each
//! connection, so that renewed ones are used.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UdpSocket, UnixDatagram, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{config::Tls, outq::SendQueue};
use crate::{
    net,
    sink::{Failure, chain},
};

/// How long data may stay unacknowledged before the kernel aborts the connection
/// (`TCP_USER_TIMEOUT`).
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A byte stream, in clear text or over TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// An open TCP connection, with or without TLS.
pub(super) struct Connected {
    /// The bytes to and from the receiver, before encryption.
    pub stream: Box<dyn Stream>,
    /// The bytes of the socket that are not acknowledged yet.
    pub queue: SendQueue,
    /// Bytes written to the socket so far, including TLS records.
    pub written: Arc<AtomicU64>,
    /// Whether an alert that rejects the client certificate can still arrive.
    pub is_tls: bool,
}

/// Counts the bytes that are written to the socket.
struct Counted {
    stream: TcpStream,
    written: Arc<AtomicU64>,
}

/// The socket of the local syslog daemon, of either kind.
pub(super) enum LocalSocket {
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

/// Connects to `host:port`, and completes the TLS handshake if `tls` is given. Fails with `Retry`
/// if the receiver cannot be reached within ten seconds, and with `Misconfigured` if a certificate
/// cannot be used.
pub(super) async fn connect(address: &str, tls: Option<&Tls>) -> Result<Connected, Failure> {
    let stream = connect_tcp(address).await?;
    let queue = SendQueue::of(&stream).map_err(|error| Failure::retry(error.to_string()))?;
    let written = Arc::new(AtomicU64::new(0));
    let counted = Counted { stream, written: Arc::clone(&written) };

    let stream: Box<dyn Stream> = match tls {
        None => Box::new(counted),
        Some(tls) => Box::new(handshake(address, tls, counted).await?),
    };

    Ok(Connected { stream, queue, written, is_tls: tls.is_some() })
}

async fn handshake(
    address: &str,
    tls: &Tls,
    stream: Counted,
) -> Result<tokio_rustls::client::TlsStream<Counted>, Failure> {
    let connector = TlsConnector::from(Arc::new(tls_config(tls)?));
    let name = ServerName::try_from(tls.server_name.clone()).map_err(|_| {
        Failure::misconfigured(format!("`{}` is not a valid server name", tls.server_name))
    })?;

    match timeout(net::CONNECT_TIMEOUT, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(tls_failure(address, &error)),
        Err(_) => Err(Failure::retry(format!("TLS handshake with `{address}` timed out"))),
    }
}

async fn connect_tcp(address: &str) -> Result<TcpStream, Failure> {
    let stream = match timeout(net::CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Err(Failure::retry(format!("cannot connect to `{address}`: {error}")));
        }
        Err(_) => return Err(Failure::retry(format!("cannot connect to `{address}`: timed out"))),
    };

    let socket = socket2::SockRef::from(&stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_mins(1))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    let set = socket.set_tcp_keepalive(&keepalive);
    let set = set.and_then(|()| socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
    set.and_then(|()| socket.set_tcp_nodelay(true))
        .map_err(|error| Failure::retry(error.to_string()))?;
    Ok(stream)
}

/// Opens a connected UDP socket, on which the kernel reports an unreachable port as an error. Fails
/// with `Retry` if the name cannot be resolved.
pub(super) async fn connect_udp(address: &str) -> Result<UdpSocket, Failure> {
    let open = async {
        let peer = tokio::net::lookup_host(address).await?.next().ok_or(io::ErrorKind::NotFound)?;
        let local = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).await?;
        socket.connect(peer).await?;
        Ok::<_, io::Error>(socket)
    };

    open.await.map_err(|error| Failure::retry(format!("cannot reach `{address}`: {error}")))
}

/// Connects to the local syslog daemon: to a datagram socket, or to a stream socket if the kernel
/// reports that the socket is not a datagram socket. Fails with `Retry` if the socket does not
/// exist or rejects the connection.
pub(super) async fn connect_local(path: &Path) -> Result<LocalSocket, Failure> {
    let datagram = UnixDatagram::unbound().and_then(|socket| socket.connect(path).map(|()| socket));
    let wrong_kind = rustix::io::Errno::PROTOTYPE.raw_os_error();
    let opened = match datagram {
        Ok(socket) => Ok(LocalSocket::Datagram(socket)),
        Err(error) if error.raw_os_error() == Some(wrong_kind) => {
            UnixStream::connect(path).await.map(LocalSocket::Stream)
        }
        Err(error) => Err(error),
    };

    opened.map_err(|error| Failure::retry(format!("cannot reach `{}`: {error}", path.display())))
}

/// Builds the TLS configuration: it trusts the certificates in `ca_file`, or those of the system.
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
        // The shortcut above cannot be combined with a client certificate.
        None => {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier = rustls_platform_verifier::Verifier::new(provider)
                .map_err(|error| misconfigured(&error))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };

    let Some((certificate, key)) = &tls.client else { return Ok(builder.with_no_client_auth()) };
    let certificates =
        net::read_certificates(certificate).map_err(|error| misconfigured(&error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        Failure::misconfigured(format!(
            "cannot read the private key in `{}`: {error}",
            key.display()
        ))
    })?;
    builder.with_client_auth_cert(certificates, key).map_err(|error| misconfigured(&error))
}

/// Classifies a failed handshake: a rejected certificate needs an operator, and any other error is
/// retried.
fn tls_failure(address: &str, error: &io::Error) -> Failure {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let reason = format!("TLS with `{address}` failed: {}", chain(error));
    match cause {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => {
            Failure::Misconfigured { reason, hint: None }
        }
        _ => Failure::retry(reason),
    }
}

/// Classifies the loss of a connection: a TLS alert means that the receiver rejected the client
/// certificate, which needs an operator, and any other error is retried.
pub(super) fn lost(address: &str, error: &io::Error) -> Failure {
    let reason = format!("the connection to `{address}` was lost: {error}");
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match alert {
        Some(rustls::Error::AlertReceived(_)) => Failure::Misconfigured { reason, hint: None },
        _ => Failure::retry(reason),
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if let Poll::Ready(Ok(count)) = &written {
            self.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
