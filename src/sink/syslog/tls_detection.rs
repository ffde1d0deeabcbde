//! Whether a receiver that is reached in plain text expects TLS: many receivers close such a
//! connection without a TLS alert.
//!
//! A syslog receiver stores what it receives, so it is examined in steps: with an idle connection,
//! then with empty lines, which it discards, and only if it closes the connection because of them,
//! with the beginning of a TLS handshake. It must never send a record, and an open sink examines
//! its receiver at most once. Start reading at [`TlsDetection::explain`].

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
    time::timeout,
};

use super::config::Tls;
use crate::{
    net::{TlsFault, TlsSupport, open_tcp, tls_support},
    sink::Failure,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle connection is observed. A receiver that closes it closes every connection, so
/// the reason is not TLS.
const IDLE_WAIT: Duration = Duration::from_millis(150);
/// How long a receiver may take to react to the empty lines.
const REACTION_WAIT: Duration = Duration::from_secs(1);

/// Empty messages with newline framing (RFC 6587, 3.4.2). They are longer than the header of a TLS
/// record, so that a TLS server can reject them.
const EMPTY_LINES: &[u8] = &[b'\n'; 16];

/// Explains connections in plain text that a receiver closes before it has accepted anything.
#[derive(Debug)]
pub(super) struct TlsDetection {
    address: String,
    protocol: PlainProtocol,
    /// Whether the receiver expects TLS; `None` while nothing is known about it.
    support: Mutex<Option<TlsSupport>>,
}

/// The protocol in plain text, on which it depends what may be sent to the receiver.
#[derive(Clone, Copy, Debug)]
pub(super) enum PlainProtocol {
    /// Messages without replies.
    Messages,
    /// RELP, whose receivers reject everything that is not a frame.
    Relp,
}

/// What a receiver does while a connection is observed.
enum Behavior {
    Waits,
    Closes,
    Sends(Vec<u8>),
}

impl TlsDetection {
    /// A detection that explains nothing if the receiver is reached over TLS.
    pub(super) fn new(address: &str, protocol: PlainProtocol, tls: Option<&Tls>) -> Self {
        let support = Mutex::new(tls.map(|_| TlsSupport::Absent));
        Self { address: address.to_owned(), protocol, support }
    }

    /// Records that the receiver has accepted data in plain text.
    pub(super) async fn exclude(&self) {
        *self.support.lock().await = Some(TlsSupport::Absent);
    }

    /// The failure for a connection that the receiver closed: `failure` itself, or the fault that
    /// the receiver expects TLS.
    pub(super) async fn explain(&self, failure: Failure) -> Failure {
        let is_transient = matches!(failure, Failure::Retry { .. });
        if is_transient && let Err(explained) = self.check().await { explained } else { failure }
    }

    /// Fails if the receiver expects TLS. If nothing can be determined, that is not a failure.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        // The lock is held during the examination, so that it happens once.
        let mut support = self.support.lock().await;
        if support.is_none() {
            *support = Some(self.examine().await);
        }

        match *support {
            Some(TlsSupport::Offered) => {
                let what = format!("cannot send to `{}`", self.address);
                Err(Failure::tls(&what, &TlsFault::TlsExpected))
            }
            _ => Ok(()),
        }
    }

    async fn examine(&self) -> TlsSupport {
        match self.protocol {
            PlainProtocol::Messages => examine_with_empty_lines(&self.address).await,
            PlainProtocol::Relp => tls_support(&self.address).await,
        }
    }
}

async fn examine_with_empty_lines(address: &str) -> TlsSupport {
    let connected = timeout(CONNECT_TIMEOUT, open_tcp(address)).await;
    let Ok(Ok(mut stream)) = connected else { return TlsSupport::Unknown };
    if !matches!(observe(&mut stream, IDLE_WAIT).await, Behavior::Waits)
        || stream.write_all(EMPTY_LINES).await.is_err()
    {
        return TlsSupport::Unknown;
    }

    match observe(&mut stream, REACTION_WAIT).await {
        Behavior::Sends(bytes) if TlsFault::in_plain_text(&bytes).is_some() => TlsSupport::Offered,
        Behavior::Waits | Behavior::Sends(_) => TlsSupport::Absent,
        // It accepts neither empty lines nor, therefore, anything else that is not TLS or a frame.
        Behavior::Closes => tls_support(address).await,
    }
}

async fn observe(stream: &mut TcpStream, wait: Duration) -> Behavior {
    let mut buffer = [0; 64];
    match timeout(wait, stream.read(&mut buffer)).await {
        Err(_) => Behavior::Waits,
        Ok(Ok(0) | Err(_)) => Behavior::Closes,
        Ok(Ok(length)) => Behavior::Sends(buffer[..length].to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex as StdMutex};

    use tokio::net::TcpListener;

    use super::*;
    use crate::{error::Hint, net};

    /// A receiver in plain text that stores what it receives, and never closes a connection.
    async fn receiver() -> (String, Arc<StdMutex<Vec<u8>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stored = Arc::<StdMutex<Vec<u8>>>::default();
        let received = Arc::clone(&stored);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let received = Arc::clone(&received);
                tokio::spawn(async move {
                    let mut buffer = [0; 256];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        received.lock().unwrap().extend_from_slice(&buffer[..length]);
                    }
                });
            }
        });
        (address, stored)
    }

    /// Regression: `check --online` reported that a receiver over TLS accepts the connection in
    /// plain text.
    #[tokio::test]
    async fn receivers_that_expect_tls_are_recognized() {
        let address = net::silent_tls_server().await;
        for protocol in [PlainProtocol::Messages, PlainProtocol::Relp] {
            let detection = TlsDetection::new(&address, protocol, None);
            let failure = detection.explain(Failure::retry("the receiver closed it")).await;
            assert!(matches!(failure, Failure::Misconfigured { .. }), "{failure}");
            assert!(failure.to_string().contains("expects TLS"), "{failure}");
            assert!(failure.hint().unwrap().contains("tls://"));
        }
    }

    #[tokio::test]
    async fn receivers_in_plain_text_get_only_empty_lines() {
        let (address, stored) = receiver().await;
        let detection = TlsDetection::new(&address, PlainProtocol::Messages, None);
        for _ in 0..2 {
            let failure = detection.explain(Failure::retry("lost")).await;
            assert_eq!(failure, Failure::retry("lost"));
        }
        assert_eq!(*stored.lock().unwrap(), EMPTY_LINES, "it is examined once");
    }

    #[tokio::test]
    async fn accepted_data_excludes_tls() {
        let detection = TlsDetection::new("127.0.0.1:1", PlainProtocol::Messages, None);
        assert_eq!(detection.check().await, Ok(()), "nothing is known about it");

        let address = net::silent_tls_server().await;
        let detection = TlsDetection::new(&address, PlainProtocol::Messages, None);
        detection.exclude().await;
        assert_eq!(detection.check().await, Ok(()));

        let parked = Failure::misconfigured("no access");
        let detection = TlsDetection::new(&address, PlainProtocol::Messages, None);
        assert_eq!(detection.explain(parked.clone()).await, parked);
    }
}
