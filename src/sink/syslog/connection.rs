//! Opens the TCP, TLS, UDP and Unix sockets of the syslog sink. Certificates are read for each
//! connection, so that renewed ones are used.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    path::Path,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpStream, UdpSocket, UnixDatagram, UnixStream},
    task::yield_now,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{config::Tls, outq::SendQueue};
use crate::{
    files::HostFault,
    net::{self, ByteStream, ClientCertificate, TlsFault, TlsSettings},
    sink::Failure,
};

/// How long data may stay unacknowledged before the kernel aborts the connection
/// (`TCP_USER_TIMEOUT`).
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The limit for resolving the name of a receiver over UDP.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An open TCP connection, with or without TLS.
pub(super) struct Connected {
    /// The bytes to and from the receiver, before encryption.
    pub stream: Box<dyn ByteStream>,
    /// The bytes of the socket that are not acknowledged yet.
    pub queue: SendQueue,
    /// Bytes written to the socket so far, including TLS records.
    pub written: Arc<AtomicU64>,
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
    let queue = SendQueue::of(&stream).map_err(|error| {
        Failure::retry(format!("cannot examine the connection to `{address}`: {error}"))
    })?;
    let written = Arc::new(AtomicU64::new(0));
    let counted = Counted { stream, written: Arc::clone(&written) };

    let stream: Box<dyn ByteStream> = match tls {
        None => Box::new(counted),
        Some(tls) => Box::new(handshake(address, tls, counted).await?),
    };

    Ok(Connected { stream, queue, written })
}

async fn handshake(
    address: &str,
    tls: &Tls,
    stream: Counted,
) -> Result<TlsStream<Counted>, Failure> {
    let client = tls.files.client.as_ref();
    let settings = TlsSettings {
        server_name: &tls.server_name,
        ca_file: tls.files.ca_file.as_deref(),
        client: client.map(|(certificate, key)| ClientCertificate { certificate, key }),
    };
    Ok(net::connect_tls(address, settings, stream).await?)
}

/// Connects, and sets the options with which the kernel recognizes a lost connection.
async fn connect_tcp(address: &str) -> Result<TcpStream, Failure> {
    let stream = net::connect_tcp(address).await?;
    let socket = socket2::SockRef::from(&stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_mins(1))
        .with_interval(Duration::from_secs(10))
        .with_retries(6);
    let set = socket.set_tcp_keepalive(&keepalive);
    let set = set.and_then(|()| socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
    set.and_then(|()| socket.set_tcp_nodelay(true)).map_err(|error| {
        Failure::retry(format!("cannot set the options of the connection to `{address}`: {error}"))
    })?;
    Ok(stream)
}

/// Opens a connected UDP socket, on which the kernel reports an unreachable port as an error. Fails
/// with `Retry` if the name cannot be resolved in time, or if there is no route to its addresses.
pub(super) async fn connect_udp(address: &str) -> Result<UdpSocket, Failure> {
    let resolved = timeout(RESOLVE_TIMEOUT, net::resolve(address)).await;
    let resolved = resolved.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));

    resolved
        .and_then(|peers| open_udp(&peers))
        .map_err(|error| Failure::unreachable(format!("cannot reach `{address}`: {error}"), &error))
}

/// A socket that is connected to the first address to which there is a route.
fn open_udp(peers: &[SocketAddr]) -> io::Result<UdpSocket> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for &peer in peers {
        // The socket is not bound to a port, which the service unit does not permit; the kernel
        // selects one when the socket is connected.
        let kind = socket2::Type::DGRAM.nonblocking();
        let connected = socket2::Socket::new(socket2::Domain::for_address(peer), kind, None)
            .and_then(|socket| socket.connect(&peer.into()).map(|()| socket));
        match connected {
            Ok(socket) => return UdpSocket::from_std(socket.into()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
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

    let hint = "check that the local syslog daemon is running, and that `address` is its socket";
    opened.map_err(|error| {
        let reason = format!("cannot reach `{}`: {error}", path.display());
        match HostFault::of(&error) {
            Some(fault) => Failure::Host { reason, fault },
            None => Failure::Retry { reason, after: None, hint: Some(hint.into()) },
        }
    })
}

/// Classifies the loss of a connection: a fault of TLS, such as a rejected client certificate,
/// needs an operator, and any other error is retried.
pub(super) fn lost(address: &str, error: &io::Error) -> Failure {
    let what = format!("the connection to `{address}` was lost");
    match TlsFault::of(error) {
        Some(fault) => Failure::tls(&what, &fault),
        // The message of the library for an end without a TLS alert contains a URL.
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Failure::retry(format!("{what}: the receiver closed it"))
        }
        None => Failure::retry(format!("{what}: {error}")),
    }
}

/// Reads what the receiver sends within `wait`; pending if it sends nothing.
pub(super) async fn read_within(
    stream: &mut Box<dyn ByteStream>,
    buffer: &mut [u8],
    wait: Duration,
) -> Poll<io::Result<usize>> {
    if !wait.is_zero() {
        return timeout(wait, stream.read(buffer)).await.map_or(Poll::Pending, Poll::Ready);
    }

    // The runtime updates the readiness of the socket only when a task yields. A timer would take
    // at least a millisecond.
    yield_now().await;
    let mut read = pin!(stream.read(buffer));
    poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await
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
