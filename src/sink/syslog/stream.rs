//! TCP and TLS, to a receiver that never says a word: everything it would tell us, it tells by
//! hanging up. So the reading side is looked at before and after every batch, and a batch counts
//! only when the send queue has given up the last byte of it.
//!
//! What the peer's kernel has and its process never reads, no sender can see. So after a
//! connection was lost, the last records that were confirmed go out once more: the replay window.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
    connection::{Connected, Stream, USER_TIMEOUT, connect, lost},
    outq::SendQueue,
};
use crate::sink::{Acknowledgement, Batch, Failure, Receipt};

const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A TLS 1.3 server refuses a client's certificate after the client's handshake has succeeded:
/// the refusal is a round trip away. So the first batch waits this long for it.
const GRACE: Duration = Duration::from_millis(150);
const GOODBYE: Duration = Duration::from_secs(2);
/// The send queue is looked at again after this, and then after twice as long, up to the last.
const FIRST_LOOK: Duration = Duration::from_micros(100);
const LAST_LOOK: Duration = Duration::from_millis(20);

/// Frames over one connection after another.
pub(super) struct StreamLink {
    address: String,
    tls: Option<Tls>,
    link: Option<Arc<Link>>,
    window: Arc<Mutex<ReplayWindow>>,
}

/// One connection. A proof may outlive the sink's interest in it.
struct Link {
    address: String,
    stream: Mutex<Box<dyn Stream>>,
    queue: SendQueue,
    written: Arc<AtomicU64>,
    /// The first batch is through, and nobody hung up.
    proven: AtomicBool,
    lost: AtomicBool,
}

/// The last confirmed frames.
struct ReplayWindow {
    /// How many records it holds at most.
    records: usize,
    held: usize,
    batches: VecDeque<(usize, Vec<u8>)>,
    /// The connection that they went over is gone.
    due: bool,
}

impl StreamLink {
    pub(super) fn new(address: &str, tls: Option<&Tls>, replay: usize) -> Self {
        let window =
            ReplayWindow { records: replay, held: 0, batches: VecDeque::new(), due: false };
        Self {
            address: address.to_owned(),
            tls: tls.cloned(),
            link: None,
            window: Arc::new(Mutex::new(window)),
        }
    }

    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        let link = self.open_link().await?;
        if let Err(error) = link.write(batch.bytes()).await {
            self.window.lock().await.due = true;
            self.link = None;
            return Err(lost(&self.address, &error));
        }
        let target = link.written.load(Ordering::Relaxed);
        let window = Arc::clone(&self.window);
        let tail = window.lock().await.tail(batch);
        Ok(Acknowledgement::Pending(Box::pin(async move {
            let drained = link.drained(target).await;
            let mut window = window.lock().await;
            match drained {
                Ok(()) => {
                    window.keep(tail);
                    Ok(Receipt::default())
                }
                Err(error) => {
                    window.due = true;
                    link.lost.store(true, Ordering::Relaxed);
                    Err(lost(&link.address, &error))
                }
            }
        })))
    }

    /// Connects, and waits whether the receiver refuses our certificate.
    pub(super) async fn reach(&mut self) -> Result<(), Failure> {
        let link = self.open_link().await?;
        link.drained(0).await.map_err(|error| lost(&self.address, &error))
    }

    /// The connection in use, or a new one on which the replay window goes first.
    async fn open_link(&mut self) -> Result<Arc<Link>, Failure> {
        if let Some(link) = self.link.as_ref().filter(|link| !link.lost.load(Ordering::Relaxed)) {
            return Ok(Arc::clone(link));
        }
        self.link = None;
        let connected = connect(&self.address, self.tls.as_ref()).await?;
        let link = Arc::new(Link::new(&self.address, connected));
        let mut window = self.window.lock().await;
        if window.due {
            tracing::warn!(
                address = self.address,
                records = window.held,
                "the connection was lost: the last records go out once more"
            );
            for (_, bytes) in &window.batches {
                link.write(bytes).await.map_err(|error| lost(&self.address, &error))?;
            }
            window.due = false;
        }
        self.link = Some(Arc::clone(&link));
        Ok(link)
    }

    pub(super) async fn close(self) {
        if let Some(link) = self.link {
            let _ = timeout(GOODBYE, link.goodbye()).await;
        }
    }
}

impl Link {
    fn new(address: &str, connected: Connected) -> Self {
        Self {
            address: address.to_owned(),
            stream: Mutex::new(connected.stream),
            queue: connected.queue,
            written: connected.written,
            proven: AtomicBool::new(!connected.is_tls),
            lost: AtomicBool::new(false),
        }
    }

    /// Gives whole frames to the kernel, if the receiver is still there.
    async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream.lock().await;
        still_open(&mut stream, Duration::ZERO).await?;
        let written = timeout(WRITE_TIMEOUT, async {
            stream.write_all(bytes).await?;
            stream.flush().await
        });
        written.await.map_err(|_| io::Error::other("the receiver takes nothing more"))?
    }

    /// Waits until the peer's kernel has acknowledged so many bytes, and nobody has hung up.
    async fn drained(&self, target: u64) -> io::Result<()> {
        let mut stream = self.stream.lock().await;
        let (began, mut look) = (Instant::now(), FIRST_LOOK);
        loop {
            let queued = self.queue.bytes()?;
            if self.written.load(Ordering::Relaxed).saturating_sub(queued) >= target {
                let proven = self.proven.load(Ordering::Relaxed);
                still_open(&mut stream, if proven { Duration::ZERO } else { GRACE }).await?;
                self.proven.store(true, Ordering::Relaxed);
                return Ok(());
            }
            if began.elapsed() > USER_TIMEOUT {
                return Err(io::Error::other("the receiver does not acknowledge what was sent"));
            }
            still_open(&mut stream, look).await?;
            look = (look * 2).min(LAST_LOOK);
        }
    }

    /// Ends the stream in good order and waits for the receiver to have read to the end.
    async fn goodbye(&self) -> io::Result<()> {
        let mut stream = self.stream.lock().await;
        stream.shutdown().await?;
        stream.read(&mut [0; 64]).await.map(drop)
    }
}

/// An error if the receiver hangs up meanwhile. Anything that it says is beside the point.
async fn still_open(stream: &mut Box<dyn Stream>, wait: Duration) -> io::Result<()> {
    let mut said = [0; 256];
    let read = if wait.is_zero() {
        // The runtime hears of what has come when a task yields. A timer would cost a millisecond.
        yield_now().await;
        let mut read = pin!(stream.read(&mut said));
        poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await
    } else {
        timeout(wait, stream.read(&mut said)).await.map_or(Poll::Pending, Poll::Ready)
    };
    match read {
        Poll::Ready(Ok(0)) => Err(io::Error::other("the receiver closed the connection")),
        Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        Poll::Ready(Err(error)) => Err(error),
    }
}

impl ReplayWindow {
    /// As much of a batch as the window could hold: its last records.
    fn tail(&self, batch: &Batch) -> (usize, Vec<u8>) {
        let kept = batch.len().min(self.records);
        let bytes = match batch.items().get(batch.len() - kept) {
            Some(first) => batch.bytes_from(first),
            None => &[],
        };
        (kept, bytes.to_vec())
    }

    fn keep(&mut self, tail: (usize, Vec<u8>)) {
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
    use super::*;
    use crate::model::EventId;

    fn batch(records: u8) -> Batch {
        let mut batch = Batch::default();
        for n in 0..records {
            batch.push_encoded(EventId::from_bytes([n; 20]), &[n]);
        }
        batch
    }

    /// What its kernel still takes counts; then it is given up, and nobody waits for ever.
    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_never_reads_again_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut link = StreamLink::new(&address, None, 0);
        let mut large = Batch::default();
        large.push_encoded(EventId::from_bytes([1; 20]), &vec![b'x'; 1 << 20]);
        let began = Instant::now();
        let failure = loop {
            match link.deliver(&large).await {
                Ok(acknowledgement) => match acknowledgement.wait().await {
                    Ok(_) => assert!(began.elapsed() < WRITE_TIMEOUT * 2, "who reads this?"),
                    Err(failure) => break failure,
                },
                Err(failure) => break failure,
            }
        };
        let said = failure.to_string();
        assert!(
            said.contains("takes nothing more") || said.contains("does not acknowledge"),
            "{said}"
        );
        assert!(matches!(failure, Failure::Retry { .. } | Failure::Broken { .. }));
        assert!(began.elapsed() >= WRITE_TIMEOUT.min(USER_TIMEOUT));
    }

    #[test]
    fn the_window_holds_the_last_records_and_not_many_more() {
        let mut window = ReplayWindow { records: 5, held: 0, batches: VecDeque::new(), due: false };
        assert_eq!(window.tail(&batch(9)), (5, vec![4, 5, 6, 7, 8]));
        for _ in 0..4 {
            let tail = window.tail(&batch(3));
            window.keep(tail);
            assert!(window.held <= 8, "{}", window.held);
        }
        assert!(window.held >= 5);
        let mut none = ReplayWindow { records: 0, held: 0, batches: VecDeque::new(), due: false };
        none.keep(none.tail(&batch(3)));
        assert!(none.batches.is_empty());
    }
}
