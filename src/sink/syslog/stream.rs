//! Syslog over TCP and TLS. The protocol has no replies, so a receiver can report a problem only by
//! closing the connection. Therefore, the connection is checked before and after every batch, and a
//! batch counts as delivered only when its last byte has left the send queue.
//!
//! A sender cannot detect that the peer's kernel acknowledged data that its process never read, so
//! the last confirmed records are sent again after a lost connection. A receiver that
//! closes an idle connection in good order has read everything, so nothing is sent again. See
//! decisions 0024 and 0071.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use super::{
    config::Tls,
    connection::{Connected, USER_TIMEOUT, connect, lost, read_within},
    outq::SendQueue,
    replay_window::ReplayWindow,
    tls_detection::{PlainProtocol, TlsDetection},
};
use crate::{
    net::{self, ByteStream, TlsFault},
    sink::{Acknowledgement, Batch, Failure, Receipt},
};

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A TLS 1.3 server rejects a client certificate only after the client's handshake has succeeded,
/// and a server that expects TLS rejects plain text only after it has received some, so an alert or
/// the end of the connection arrives one round trip later. The first batch waits this long for it.
const ALERT_WAIT: Duration = Duration::from_millis(150);
/// How long a connection must remain open after the last confirmation to count as idle. A receiver
/// that closes it sooner may have failed while it read the data.
const IDLE_AFTER: Duration = Duration::from_millis(250);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum number of bytes that a receiver may send on a connection. A syslog receiver sends
/// nothing, and what it sends hides that it closes the connection.
const MAX_UNEXPECTED_BYTES: usize = 64 << 10;
/// The send queue is checked at intervals that double from the minimum to the maximum.
const MIN_CHECK_INTERVAL: Duration = Duration::from_micros(100);
const MAX_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Why a connection is lost that the receiver has ended.
const CLOSED: &str = "the receiver closed the connection";

/// Delivers frames over one connection after another.
pub(super) struct StreamLink {
    address: String,
    tls: Option<Tls>,
    connection: Option<Arc<StreamConnection>>,
    window: Arc<Mutex<ReplayWindow>>,
    detection: Arc<TlsDetection>,
}

/// One connection. A pending acknowledgement can hold it longer than the sink does.
struct StreamConnection {
    address: String,
    stream: Mutex<Box<dyn ByteStream>>,
    queue: SendQueue,
    written: Arc<AtomicU64>,
    /// Whether the receiver has accepted the client certificate or plain text: the first batch was
    /// acknowledged, and neither an alert nor the end of the connection followed.
    accepted: AtomicBool,
    lost: AtomicBool,
    /// The bytes that had been written when the connection was last idle: it was still open
    /// [`IDLE_AFTER`] after all of them were confirmed.
    idle_at: AtomicU64,
    /// The bytes that the receiver has sent.
    received: AtomicUsize,
}

/// The state of a connection before a batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IdleState {
    /// It can be used.
    Open,
    /// The receiver has read everything and has closed it in good order.
    Ended,
}

impl StreamLink {
    /// `replay` is the number of records in the replay window.
    pub(super) fn new(address: &str, tls: Option<&Tls>, replay: usize) -> Self {
        Self {
            address: address.to_owned(),
            tls: tls.cloned(),
            connection: None,
            window: Arc::new(Mutex::new(ReplayWindow::new(replay))),
            detection: Arc::new(TlsDetection::new(address, PlainProtocol::Messages, tls)),
        }
    }

    /// Writes a batch, and returns an acknowledgement that waits until the send queue is empty.
    /// Fails if the connection cannot be opened or is lost; the batch and the replay window are
    /// then sent again.
    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        let connection = self.open_connection().await?;
        if let Err(error) = connection.write(batch.bytes()).await {
            self.window.lock().await.set_due();
            self.connection = None;
            return Err(explained(&self.detection, &self.address, &error).await);
        }

        // The acknowledgement must not borrow the batch, so the part for the window is copied.
        let target = connection.written.load(Ordering::Relaxed);
        let window = Arc::clone(&self.window);
        let tail = window.lock().await.tail(batch);
        let detection = Arc::clone(&self.detection);

        Ok(Acknowledgement::Pending(Box::pin(async move {
            let acknowledged = connection.wait_until_acknowledged(target).await;
            match acknowledged {
                Ok(()) => {
                    detection.exclude().await;
                    window.lock().await.push(tail);
                    let observed = Arc::downgrade(&connection);
                    tokio::spawn(observe_idle(observed, window, target));
                    Ok(Receipt::default())
                }
                Err(error) => {
                    window.lock().await.set_due();
                    connection.lost.store(true, Ordering::Relaxed);
                    Err(explained(&detection, &connection.address, &error).await)
                }
            }
        })))
    }

    /// Connects, waits for an alert that rejects the client certificate, and examines a receiver in
    /// plain text. Fails if the receiver cannot be reached, closes the connection, or expects TLS.
    pub(super) async fn reach(&mut self) -> Result<(), Failure> {
        let connection = self.open_connection().await?;
        if let Err(error) = connection.wait_until_acknowledged(0).await {
            return Err(explained(&self.detection, &self.address, &error).await);
        }
        self.detection.check().await
    }

    /// Returns the current connection, or opens one and first sends the replay window if it is due.
    /// Fails if the current connection was lost while it was idle.
    async fn open_connection(&mut self) -> Result<Arc<StreamConnection>, Failure> {
        let is_usable = |current: &Arc<StreamConnection>| !current.lost.load(Ordering::Relaxed);
        if let Some(connection) = self.connection.clone().filter(is_usable) {
            match connection.check_idle().await {
                Ok(IdleState::Open) => return Ok(connection),
                Ok(IdleState::Ended) => {
                    tracing::debug!(address = self.address, "{CLOSED} while it was idle");
                    self.window.lock().await.clear();
                }
                Err(error) => {
                    self.window.lock().await.set_due();
                    self.connection = None;
                    return Err(explained(&self.detection, &self.address, &error).await);
                }
            }
        }

        self.connection = None;
        let connected = connect(&self.address, self.tls.as_ref()).await?;
        let connection = Arc::new(StreamConnection::new(&self.address, connected));

        let mut window = self.window.lock().await;
        if window.is_due() {
            tracing::warn!(
                address = self.address,
                records = window.records(),
                "the connection was lost; the last confirmed records are sent again"
            );
            for frames in window.frames() {
                connection.write(frames).await.map_err(|error| lost(&self.address, &error))?;
            }
            window.set_sent();
        }

        self.connection = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Shuts the connection down, if there is one, within two seconds.
    pub(super) async fn close(self) {
        if let Some(connection) = self.connection {
            let _ = timeout(CLOSE_TIMEOUT, connection.shut_down()).await;
        }
    }
}

impl StreamConnection {
    fn new(address: &str, connected: Connected) -> Self {
        Self {
            address: address.to_owned(),
            stream: Mutex::new(connected.stream),
            queue: connected.queue,
            written: connected.written,
            accepted: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            idle_at: AtomicU64::new(u64::MAX),
            received: AtomicUsize::new(0),
        }
    }

    /// Writes whole frames, if the receiver has not closed the connection.
    async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream.lock().await;
        self.check_open(&mut stream, Duration::ZERO).await?;

        let written = timeout(WRITE_TIMEOUT, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        written.await.map_err(|_| io::Error::other("the receiver accepts no more data"))?
    }

    /// Whether the connection was idle, and the receiver has closed it since. Fails if it was idle
    /// and is lost. A connection that was not idle counts as open; the next write checks it.
    async fn check_idle(&self) -> io::Result<IdleState> {
        let written = self.written.load(Ordering::Relaxed);
        if self.idle_at.load(Ordering::Relaxed) != written {
            return Ok(IdleState::Open);
        }

        let mut stream = self.stream.lock().await;
        match self.check_open(&mut stream, Duration::ZERO).await {
            Ok(()) => Ok(IdleState::Open),
            Err(error) if is_end(&error) => Ok(IdleState::Ended),
            Err(error) => Err(error),
        }
    }

    /// Waits until the peer's kernel has acknowledged the first `target` bytes of this connection
    /// and the receiver has not closed it.
    async fn wait_until_acknowledged(&self, target: u64) -> io::Result<()> {
        let mut stream = self.stream.lock().await;
        let (start, mut interval) = (Instant::now(), MIN_CHECK_INTERVAL);

        loop {
            let queued = self.queue.bytes()?;
            if self.written.load(Ordering::Relaxed).saturating_sub(queued) >= target {
                let accepted = self.accepted.load(Ordering::Relaxed);
                let wait = if accepted { Duration::ZERO } else { ALERT_WAIT };
                self.check_open(&mut stream, wait).await?;
                self.accepted.store(true, Ordering::Relaxed);
                return Ok(());
            }

            if start.elapsed() > USER_TIMEOUT {
                return Err(io::Error::other("the receiver does not acknowledge the data"));
            }
            self.check_open(&mut stream, interval).await?;
            interval = (interval * 2).min(MAX_CHECK_INTERVAL);
        }
    }

    /// Fails if the receiver closes the connection within `wait`, or has sent more than
    /// [`MAX_UNEXPECTED_BYTES`]. Other data from the receiver is ignored, except a TLS record in
    /// plain text, with which a receiver reports that it expects TLS.
    async fn check_open(&self, stream: &mut Box<dyn ByteStream>, wait: Duration) -> io::Result<()> {
        let (mut buffer, mut wait) = ([0; 1_024], wait);
        while let Poll::Ready(read) = read_within(stream, &mut buffer, wait).await {
            let length = read?;
            if length == 0 {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, CLOSED));
            }
            if let Some(fault) = TlsFault::in_plain_text(&buffer[..length]) {
                return Err(io::Error::other(fault));
            }

            let received = self.received.fetch_add(length, Ordering::Relaxed) + length;
            if received > MAX_UNEXPECTED_BYTES {
                let limit = MAX_UNEXPECTED_BYTES >> 10;
                let reason = format!("the receiver sent more than {limit} KiB instead of nothing");
                return Err(io::Error::other(reason));
            }
            // The end of the connection may follow the data immediately.
            wait = Duration::ZERO;
        }
        Ok(())
    }

    /// Ends the stream and waits until the receiver has read all of it and closes its side.
    async fn shut_down(&self) -> io::Result<()> {
        let mut stream = self.stream.lock().await;
        stream.shutdown().await?;
        stream.read(&mut [0; 64]).await.map(drop)
    }
}

/// Observes a connection after its first `target` bytes were confirmed. If it is still open after
/// [`IDLE_AFTER`] and nothing was written in the meantime, it was idle; if it is closed, it counts
/// as lost.
async fn observe_idle(
    connection: Weak<StreamConnection>,
    window: Arc<Mutex<ReplayWindow>>,
    target: u64,
) {
    sleep(IDLE_AFTER).await;
    let Some(connection) = connection.upgrade() else { return };
    // The stream is locked while it is in use.
    let Ok(mut stream) = connection.stream.try_lock() else { return };
    let is_current = connection.written.load(Ordering::Relaxed) == target;
    if !is_current || connection.lost.load(Ordering::Relaxed) {
        return;
    }

    if connection.check_open(&mut stream, Duration::ZERO).await.is_ok() {
        connection.idle_at.store(target, Ordering::Relaxed);
    } else {
        connection.lost.store(true, Ordering::Relaxed);
        window.lock().await.set_due();
    }
}

/// Whether the receiver has ended the stream in good order, with or without an alert of TLS. The
/// kernel resets a connection instead if its process has not read everything.
fn is_end(error: &io::Error) -> bool {
    let is_reported_by_kernel = error.raw_os_error().is_some();
    let is_end =
        matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof);
    is_end && !is_reported_by_kernel
}

/// The failure for a lost connection. A receiver in plain text that closed the first connection is
/// examined, because it may expect TLS.
async fn explained(detection: &TlsDetection, address: &str, error: &io::Error) -> Failure {
    let failure = lost(address, error);
    if net::may_expect_tls(error) { detection.explain(failure).await } else { failure }
}

#[cfg(test)]
mod tests;
