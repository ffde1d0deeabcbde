//! Tests of syslog over TCP, with receivers that fail or close their connections.

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;
use crate::model::EventId;

/// What a receiver does with a connection when a test requests it.
enum Close {
    /// Ends the stream after everything was read.
    InOrder,
    /// Resets the connection.
    Reset,
}

/// A receiver that closes its connections on request, and reports what each one received.
struct Receiver {
    address: String,
    /// How to close the current connection, and after how many bytes.
    requests: mpsc::UnboundedSender<(Close, usize)>,
    received: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (requests, mut requested) = mpsc::unbounded_channel();
        let (reports, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let bytes = serve(stream, &mut requested).await;
                let _ = reports.send(bytes);
            }
        });
        Self { address, requests, received }
    }

    /// Closes the current connection after these bytes.
    async fn close_after(&mut self, close: Close, expected: &[u8]) {
        self.requests.send((close, expected.len())).unwrap();
        assert_eq!(self.received.recv().await.unwrap(), expected);
    }
}

/// Receives until as many bytes have arrived as a request states.
async fn serve(
    mut stream: TcpStream,
    requested: &mut mpsc::UnboundedReceiver<(Close, usize)>,
) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 1_024]);
    let mut request: Option<(Close, usize)> = None;
    while request.as_ref().is_none_or(|(_, expected)| bytes.len() < *expected) {
        tokio::select! {
            read = stream.read(&mut buffer) => match read.unwrap_or(0) {
                0 => return bytes,
                length => bytes.extend_from_slice(&buffer[..length]),
            },
            found = requested.recv(), if request.is_none() => request = found,
        }
    }

    if let Some((Close::Reset, _)) = request {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    bytes
}

/// Delivers a batch, and waits for its acknowledgement.
async fn delivered(link: &mut StreamLink, batch: &Batch) -> Result<Receipt, Failure> {
    link.deliver(batch).await?.wait().await
}

/// Waits until the current connection of a link counts as idle.
async fn wait_until_idle(link: &StreamLink) {
    let connection = link.connection.as_ref().unwrap();
    let idle = async {
        while connection.idle_at.load(Ordering::Relaxed)
            != connection.written.load(Ordering::Relaxed)
        {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), idle).await.unwrap();
}

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
            tokio::spawn(async move { while stream.write_all(&[b'x'; 4_096]).await.is_ok() {} });
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

/// Regression: the last confirmed records were sent again, with a warning, whenever a receiver
/// closed an idle connection.
#[tokio::test]
async fn an_orderly_idle_close_repeats_nothing() {
    let mut receiver = Receiver::start().await;
    let mut link = StreamLink::new(&receiver.address, None, 1_000);
    for records in [3, 2, 1] {
        delivered(&mut link, &batch(records)).await.unwrap();
        wait_until_idle(&link).await;
        receiver.close_after(Close::InOrder, batch(records).bytes()).await;

        let connection = Arc::clone(link.connection.as_ref().unwrap());
        let ended = async {
            while connection.check_idle().await.unwrap() == IdleState::Open {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), ended).await.unwrap();
    }
}

/// Without a time in which the connection was idle, the receiver may have failed, and after a reset
/// it has not read everything.
#[tokio::test]
async fn every_other_end_repeats_the_confirmed_records() {
    for close in [Close::InOrder, Close::Reset] {
        let mut receiver = Receiver::start().await;
        let mut link = StreamLink::new(&receiver.address, None, 1_000);
        delivered(&mut link, &batch(3)).await.unwrap();
        if matches!(close, Close::Reset) {
            wait_until_idle(&link).await;
        }
        receiver.close_after(close, batch(3).bytes()).await;

        // The first delivery fails, unless the end has already been noticed.
        if let Err(failure) = delivered(&mut link, &batch(1)).await {
            assert!(matches!(failure, Failure::Retry { .. }), "{failure}");
            delivered(&mut link, &batch(1)).await.unwrap();
        }
        let repeated = [batch(3).bytes(), batch(1).bytes()].concat();
        receiver.close_after(Close::InOrder, &repeated).await;
    }
}

#[test]
fn only_an_end_without_an_error_is_orderly() {
    let reset = io::Error::from_raw_os_error(104);
    let aborted = io::Error::from_raw_os_error(103);
    for (error, expected) in [
        (io::Error::new(io::ErrorKind::ConnectionAborted, CLOSED), true),
        (io::Error::from(io::ErrorKind::UnexpectedEof), true),
        (io::Error::other("the receiver sent more than 64 KiB"), false),
        (io::Error::from(io::ErrorKind::TimedOut), false),
        (reset, false),
        (aborted, false),
    ] {
        assert_eq!(is_end(&error), expected, "{error}");
    }
}
