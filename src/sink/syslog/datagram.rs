//! UDP (RFC 5426), and the Unix socket of the local syslog daemon: one message per datagram.
//!
//! Acknowledgement: the kernel accepted the datagram. If the Unix socket is a stream socket,
//! messages end with a newline instead.

use std::{io, path::PathBuf, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::UdpSocket,
    time::{Instant, timeout},
};

use super::connection::{LocalSocket, connect_local, connect_udp};
use crate::sink::{Acknowledgement, Batch, Failure};

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a resolved address is used. After this time, the name is resolved again, because it can
/// refer to another host.
const RESOLVE_INTERVAL: Duration = Duration::from_mins(5);

/// Sends datagrams to `host:port`.
pub(super) struct UdpLink {
    address: String,
    /// The socket, and when its address was resolved.
    socket: Option<(UdpSocket, Instant)>,
}

/// Sends messages to the Unix socket of the local syslog daemon.
pub(super) struct LocalLink {
    path: PathBuf,
    socket: Option<LocalSocket>,
}

impl UdpLink {
    /// A link without a socket.
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), socket: None }
    }

    /// Resolves the address, but sends nothing. Fails with `Retry` if that is not possible.
    pub(super) async fn reach(&mut self) -> Result<(), Failure> {
        self.open().await.map(drop)
    }

    async fn open(&mut self) -> Result<(UdpSocket, Instant), Failure> {
        let current = self.socket.take().filter(|(_, since)| since.elapsed() < RESOLVE_INTERVAL);
        match current {
            Some(current) => Ok(current),
            None => Ok((connect_udp(&self.address).await?, Instant::now())),
        }
    }

    /// Sends one datagram per record. Fails with `Poison` for records that are longer than a
    /// datagram, and with `Retry` for any other error.
    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        let (socket, since) = self.open().await?;

        let mut rejected = Vec::new();
        for (index, item) in batch.items().iter().enumerate() {
            let sent = timeout(WRITE_TIMEOUT, socket.send(batch.payload(item))).await;
            match flatten(sent) {
                Ok(_) => {}
                Err(error) if is_too_long(&error) => rejected.push((index, error.to_string())),
                Err(error) => {
                    let reason = format!("cannot send to `{}`: {error}", self.address);
                    return Err(Failure::unreachable(reason, &error));
                }
            }
        }

        self.socket = Some((socket, since));
        acknowledgement(rejected)
    }
}

impl LocalLink {
    /// A link without a socket.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, socket: None }
    }

    /// Connects to the socket, but sends nothing. Fails with `Retry` if that is not possible.
    pub(super) async fn reach(&mut self) -> Result<(), Failure> {
        self.open().await.map(drop)
    }

    async fn open(&mut self) -> Result<LocalSocket, Failure> {
        match self.socket.take() {
            Some(socket) => Ok(socket),
            None => connect_local(&self.path).await,
        }
    }

    /// Sends all messages of a batch. Fails with `Poison` for records that are longer than a
    /// datagram, and with `Retry` for the messages after any other error.
    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        let mut socket = self.open().await?;
        let lost = |error: &io::Error| {
            Failure::retry(format!("the local syslog daemon did not accept a message: {error}"))
        };

        let mut rejected = Vec::new();
        match &mut socket {
            LocalSocket::Datagram(socket) => {
                for (index, item) in batch.items().iter().enumerate() {
                    let sent = timeout(WRITE_TIMEOUT, socket.send(batch.payload(item))).await;
                    match flatten(sent) {
                        Ok(_) => {}
                        Err(error) if is_too_long(&error) => {
                            rejected.push((index, error.to_string()));
                        }
                        // Only a prefix without rejected messages can be reported as arrived.
                        Err(error) => {
                            let arrived = rejected.first().map_or(index, |(first, _)| *first);
                            return Err(Failure::partial(arrived, lost(&error)));
                        }
                    }
                }
            }
            LocalSocket::Stream(socket) => {
                let mut lines = Vec::with_capacity(batch.bytes().len() + batch.len());
                for item in batch.items() {
                    lines.extend_from_slice(batch.payload(item));
                    lines.push(b'\n');
                }
                let written = timeout(WRITE_TIMEOUT, socket.write_all(&lines)).await;
                flatten(written).map_err(|error| lost(&error))?;
            }
        }

        self.socket = Some(socket);
        acknowledgement(rejected)
    }
}

fn acknowledgement(rejected: Vec<(usize, String)>) -> Result<Acknowledgement, Failure> {
    if rejected.is_empty() {
        Ok(Acknowledgement::received())
    } else {
        Err(Failure::Poison { rejected, rest_delivered: true })
    }
}

/// Turns an elapsed timeout into an I/O error.
fn flatten<T>(result: Result<io::Result<T>, tokio::time::error::Elapsed>) -> io::Result<T> {
    result.map_err(|_| io::Error::other("the receiver accepts no more data"))?
}

/// `EMSGSIZE`: the message is longer than a datagram can be.
fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}
