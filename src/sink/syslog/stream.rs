//! Syslog over TCP and TLS. The protocol has no replies, so a receiver can report a problem only by
//! closing the connection. Therefore, the connection is checked before and after every batch, and a
//! batch counts as delivered only when its last byte has left the send queue.
//!
//! A sender cannot detect that the peer's kernel acknowledged data that its process never read.
//! Therefore, the last confirmed records are sent again after a lost connection: the replay window.
//! See decision 0024.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
    task::yield_now,
    time::{Instant, timeout},
};

use super::{
    config::Tls,
    connection::{Connected, USER_TIMEOUT, connect, lost},
    outq::SendQueue,
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
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum number of bytes that a receiver may send on a connection. A syslog receiver sends
/// nothing, and what it sends hides that it closes the connection.
const MAX_UNEXPECTED_BYTES: usize = 64 << 10;
/// The send queue is checked at intervals that double from the minimum to the maximum.
const MIN_CHECK_INTERVAL: Duration = Duration::from_micros(100);
const MAX_CHECK_INTERVAL: Duration = Duration::from_millis(20);

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
    /// The bytes that the receiver has sent.
    received: AtomicUsize,
}

/// The frames of the last confirmed records.
struct ReplayWindow {
    /// The number of records to keep.
    records: usize,
    /// The number of records in `batches`.
    held: usize,
    /// The number of records and the frames, per batch and oldest first.
    batches: VecDeque<(usize, Vec<u8>)>,
    /// Whether the connection of these records was lost, so that they must be sent again.
    due: bool,
}

impl StreamLink {
    /// `replay` is the number of records in the replay window.
    pub(super) fn new(address: &str, tls: Option<&Tls>, replay: usize) -> Self {
        let window =
            ReplayWindow { records: replay, held: 0, batches: VecDeque::new(), due: false };
        Self {
            address: address.to_owned(),
            tls: tls.cloned(),
            connection: None,
            window: Arc::new(Mutex::new(window)),
            detection: Arc::new(TlsDetection::new(address, PlainProtocol::Messages, tls)),
        }
    }

    /// Writes a batch, and returns an acknowledgement that waits until the send queue is empty.
    /// Fails if the connection cannot be opened or is lost; the batch and the replay window are
    /// then sent again.
    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        let connection = self.open_connection().await?;
        if let Err(error) = connection.write(batch.bytes()).await {
            self.window.lock().await.due = true;
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
                    Ok(Receipt::default())
                }
                Err(error) => {
                    window.lock().await.due = true;
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
    async fn open_connection(&mut self) -> Result<Arc<StreamConnection>, Failure> {
        let is_usable = |current: &&Arc<StreamConnection>| !current.lost.load(Ordering::Relaxed);
        if let Some(connection) = self.connection.as_ref().filter(is_usable) {
            return Ok(Arc::clone(connection));
        }

        self.connection = None;
        let connected = connect(&self.address, self.tls.as_ref()).await?;
        let connection = Arc::new(StreamConnection::new(&self.address, connected));

        let mut window = self.window.lock().await;
        if window.due {
            tracing::warn!(
                address = self.address,
                records = window.held,
                "the connection was lost; the last confirmed records are sent again"
            );
            for (_, bytes) in &window.batches {
                connection.write(bytes).await.map_err(|error| lost(&self.address, &error))?;
            }
            window.due = false;
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
                let reason = "the receiver closed the connection";
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason));
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

/// Reads what the receiver sends within `wait`; pending if it sends nothing.
async fn read_within(
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

/// The failure for a lost connection. A receiver in plain text that closed the first connection is
/// examined, because it may expect TLS.
async fn explained(detection: &TlsDetection, address: &str, error: &io::Error) -> Failure {
    let failure = lost(address, error);
    if net::may_expect_tls(error) { detection.explain(failure).await } else { failure }
}

impl ReplayWindow {
    /// The last records of a batch, as many as the window can hold: their number and frames.
    fn tail(&self, batch: &Batch) -> (usize, Vec<u8>) {
        let count = batch.len().min(self.records);
        let bytes = match batch.items().get(batch.len() - count) {
            Some(first) => batch.bytes_from(first),
            None => &[],
        };
        (count, bytes.to_vec())
    }

    /// Adds confirmed records, and drops the oldest batches that the window no longer needs.
    fn push(&mut self, tail: (usize, Vec<u8>)) {
        if self.records == 0 {
            return;
        }

        self.held += tail.0;
        self.batches.push_back(tail);
        while let Some((oldest, _)) = self.batches.front()
            && self.held - oldest >= self.records
        {
            self.held -= oldest;
            self.batches.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::EventId;

    fn batch(records: u8) -> Batch {
        let mut batch = Batch::default();
        for n in 0..records {
            batch.push_encoded(EventId::from_bytes([n; 20]), &[n]);
        }
        batch
    }

    /// Data that the receiver's kernel accepts counts as delivered. When it accepts no more,
    /// delivery fails within a bounded time.
    #[tokio::test(start_paused = true)]
    async fn fails_if_the_receiver_stops_reading() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut link = StreamLink::new(&address, None, 0);
        let mut large = Batch::default();
        large.push_encoded(EventId::from_bytes([1; 20]), &vec![b'x'; 1 << 20]);

        let start = Instant::now();
        let failure = loop {
            match link.deliver(&large).await {
                Ok(acknowledgement) => match acknowledgement.wait().await {
                    Ok(_) => assert!(start.elapsed() < WRITE_TIMEOUT * 2, "accepted for too long"),
                    Err(failure) => break failure,
                },
                Err(failure) => break failure,
            }
        };

        let message = failure.to_string();
        assert!(
            message.contains("accepts no more data") || message.contains("does not acknowledge"),
            "{message}"
        );
        assert!(matches!(failure, Failure::Retry { .. } | Failure::Broken { .. }));
        assert!(start.elapsed() >= WRITE_TIMEOUT.min(USER_TIMEOUT));
    }

    /// Regression: the first batch counted as delivered, although the receiver expected TLS and
    /// closed the connection.
    #[tokio::test]
    async fn nothing_is_delivered_if_the_receiver_expects_tls() {
        let address = net::silent_tls_server().await;
        let mut link = StreamLink::new(&address, None, 0);
        let failure = match link.deliver(&batch(20)).await {
            Ok(acknowledgement) => acknowledgement.wait().await.unwrap_err(),
            Err(failure) => failure,
        };
        assert!(matches!(failure, Failure::Misconfigured { .. }), "{failure}");
        assert!(failure.to_string().contains("expects TLS"), "{failure}");

        let failure = StreamLink::new(&address, None, 0).reach().await.unwrap_err();
        assert!(failure.to_string().contains("expects TLS"), "{failure}");
    }

    /// Regression: data from the receiver was ignored without a limit, and hid that the receiver
    /// had closed the connection.
    #[tokio::test]
    async fn a_receiver_that_floods_is_disconnected() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(
                    async move { while stream.write_all(&[b'x'; 4_096]).await.is_ok() {} },
                );
            }
        });

        let mut link = StreamLink::new(&address, None, 0);
        let failure = match link.deliver(&batch(20)).await {
            Ok(acknowledgement) => acknowledgement.wait().await.unwrap_err(),
            Err(failure) => failure,
        };
        assert!(matches!(failure, Failure::Retry { .. }), "{failure}");
        assert!(failure.to_string().contains("sent more than 64 KiB"), "{failure}");
    }

    /// A greeting of a relay, for example, does no harm.
    #[tokio::test]
    async fn a_little_data_of_the_receiver_is_ignored() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let receiving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&[b'x'; 2_000]).await.unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await.unwrap();
            received.len()
        });

        let mut link = StreamLink::new(&address, None, 0);
        link.deliver(&batch(20)).await.unwrap().wait().await.unwrap();
        link.close().await;
        assert_eq!(receiving.await.unwrap(), 20);
    }

    #[test]
    fn replay_window_holds_the_last_records() {
        let mut window = ReplayWindow { records: 5, held: 0, batches: VecDeque::new(), due: false };
        assert_eq!(window.tail(&batch(9)), (5, vec![4, 5, 6, 7, 8]));

        for _ in 0..4 {
            let tail = window.tail(&batch(3));
            window.push(tail);
            assert!(window.held <= 8, "{}", window.held);
        }
        assert!(window.held >= 5);

        let mut disabled =
            ReplayWindow { records: 0, held: 0, batches: VecDeque::new(), due: false };
        disabled.push(disabled.tail(&batch(3)));
        assert!(disabled.batches.is_empty());
    }
}
