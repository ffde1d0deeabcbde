//! One message a datagram: UDP (RFC 5426), and the local daemon's socket. Acknowledgement: the kernel took
//! it. A local socket may be a stream instead; then messages end in a newline.

use std::{io, path::PathBuf, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::UdpSocket,
    time::{Instant, timeout},
};

use super::connection::{Local, local, udp};
use crate::sink::{Acknowledgement, Batch, Failure};

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A name may come to mean another host: it is looked up again after so long.
const LOOK_UP_AGAIN: Duration = Duration::from_mins(5);

pub(super) struct UdpLink {
    address: String,
    socket: Option<(UdpSocket, Instant)>,
}

pub(super) struct LocalLink {
    path: PathBuf,
    socket: Option<Local>,
}

impl UdpLink {
    pub(super) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), socket: None }
    }

    pub(super) async fn reach(&mut self) -> Result<(), Failure> {
        self.open().await.map(drop)
    }

    async fn open(&mut self) -> Result<(UdpSocket, Instant), Failure> {
        let fresh = self.socket.take().filter(|(_, since)| since.elapsed() < LOOK_UP_AGAIN);
        match fresh {
            Some(open) => Ok(open),
            None => Ok((udp(&self.address).await?, Instant::now())),
        }
    }

    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        let (socket, since) = self.open().await?;
        let mut refused = Vec::new();
        for (index, item) in batch.items().iter().enumerate() {
            let sent = timeout(WRITE_TIMEOUT, socket.send(batch.payload(item))).await;
            match within(sent) {
                Ok(_) => {}
                Err(error) if is_too_long(&error) => refused.push((index, error.to_string())),
                Err(error) => {
                    let address = &self.address;
                    return Err(Failure::retry(format!("cannot send to {address}: {error}")));
                }
            }
        }
        self.socket = Some((socket, since));
        settled(refused)
    }
}

impl LocalLink {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, socket: None }
    }

    pub(super) async fn reach(&mut self) -> Result<(), Failure> {
        self.open().await.map(drop)
    }

    async fn open(&mut self) -> Result<Local, Failure> {
        match self.socket.take() {
            Some(socket) => Ok(socket),
            None => local(&self.path).await,
        }
    }

    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        let mut socket = self.open().await?;
        let lost = |error: &io::Error| {
            Failure::retry(format!("the local syslog daemon did not take a message: {error}"))
        };
        let mut refused = Vec::new();
        match &mut socket {
            Local::Datagram(socket) => {
                for (index, item) in batch.items().iter().enumerate() {
                    let sent = timeout(WRITE_TIMEOUT, socket.send(batch.payload(item))).await;
                    match within(sent) {
                        Ok(_) => {}
                        Err(error) if is_too_long(&error) => {
                            refused.push((index, error.to_string()));
                        }
                        // What came before it has arrived, up to what may be refused by itself.
                        Err(error) => {
                            let arrived = refused.first().map_or(index, |(refused, _)| *refused);
                            return Err(Failure::partial(arrived, lost(&error)));
                        }
                    }
                }
            }
            Local::Stream(socket) => {
                let mut lines = Vec::with_capacity(batch.bytes().len() + batch.len());
                for item in batch.items() {
                    lines.extend_from_slice(batch.payload(item));
                    lines.push(b'\n');
                }
                let written = timeout(WRITE_TIMEOUT, socket.write_all(&lines)).await;
                within(written).map_err(|error| lost(&error))?;
            }
        }
        self.socket = Some(socket);
        settled(refused)
    }
}

fn settled(refused: Vec<(usize, String)>) -> Result<Acknowledgement, Failure> {
    if refused.is_empty() {
        Ok(Acknowledgement::received())
    } else {
        Err(Failure::Poison { rejected: refused, rest_delivered: true })
    }
}

fn within<T>(result: Result<io::Result<T>, tokio::time::error::Elapsed>) -> io::Result<T> {
    result.map_err(|_| io::Error::other("the receiver takes nothing more"))?
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}
