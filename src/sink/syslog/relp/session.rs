//! One RELP session, from `open` to `close`.
//!
//! A message counts as acknowledged only when the replies to it and to all messages before it
//! are 200.

use std::{collections::VecDeque, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::frame::{self, FrameError, RelpReply};
use crate::{
    net::{ByteStream, TlsFault},
    sink::{Batch, Failure, syslog::connection::lost},
};

/// How long the receiver may take to reply, and to accept a chunk of frames.
const REPLY_TIMEOUT: Duration = Duration::from_secs(90);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long replies are read from a connection that can no longer be written to.
const LAST_REPLIES_TIMEOUT: Duration = Duration::from_secs(1);
/// The offers of the `open` command.
const OFFERS: &str = concat!(
    "relp_version=0\nrelp_software=secure-score-forwarder,",
    env!("CARGO_PKG_VERSION"),
    ",-\ncommands=syslog"
);
/// Bytes of frames that are written with one call.
const CHUNK: usize = 256 << 10;

/// An open session. After a failure it is not alive and must be replaced.
pub(super) struct RelpSession {
    address: String,
    stream: Box<dyn ByteStream>,
    window: usize,
    /// The last transaction number that was used.
    number: u32,
    /// The window: transaction numbers of messages, and whether the reply has arrived. The first
    /// one in the window has no reply yet; later ones can be acknowledged out of order.
    open: VecDeque<(u32, bool)>,
    /// Messages sent in this session.
    sent: u64,
    /// How many of these, counted from the first one, are acknowledged without a gap.
    acknowledged: u64,
    /// Received bytes that have not been parsed yet.
    incoming: Vec<u8>,
    alive: bool,
}

impl RelpSession {
    /// Opens a session on a new connection. Fails with `Misconfigured` if the receiver rejects the
    /// offers, and with `Retry` if the connection is lost.
    pub(super) async fn open(
        address: &str,
        stream: Box<dyn ByteStream>,
        window: usize,
    ) -> Result<Self, Failure> {
        let mut session = Self {
            address: address.to_owned(),
            stream,
            window,
            number: 1,
            open: VecDeque::new(),
            sent: 0,
            acknowledged: 0,
            incoming: Vec::new(),
            alive: true,
        };

        let mut offer = Vec::new();
        frame::write(1, "open", OFFERS.as_bytes(), &mut offer);
        session.write(&offer).await?;

        match session.next_reply().await? {
            RelpReply::Response { number: 1, code: 200, .. } => Ok(session),
            RelpReply::Response { code, text, .. } => Err(Failure::misconfigured(format!(
                "`{address}` rejected the session: {code} {text}"
            ))),
            RelpReply::ServerClose => Err(session.fail("the receiver closed the session")),
        }
    }

    /// Whether messages can still be sent.
    pub(super) fn is_alive(&self) -> bool {
        self.alive
    }

    /// The number of messages sent in this session.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of `records` messages, counted from the message `first`, are acknowledged without a
    /// gap.
    pub(super) fn acknowledged_of(&self, first: u64, records: usize) -> usize {
        usize::try_from(self.acknowledged.saturating_sub(first)).map_or(records, |n| n.min(records))
    }

    /// Sends every message of a batch, and keeps at most `window` messages unacknowledged. Fails if
    /// the connection is lost, or if the receiver rejects a message or does not reply within 90
    /// seconds.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut chunk = Vec::with_capacity(CHUNK.min(batch.bytes().len() + 32 * batch.len()));

        for item in batch.items() {
            if self.open.len() >= self.window || chunk.len() >= CHUNK {
                self.write(&chunk).await?;
                chunk.clear();
                // The window is drained to half, so that one system call sends many messages.
                while self.open.len() > self.window / 2 {
                    self.process_reply().await?;
                }
            }

            self.number = frame::next(self.number);
            frame::write(self.number, "syslog", batch.payload(item), &mut chunk);
            self.open.push_back((self.number, false));
            self.sent += 1;
        }

        self.write(&chunk).await
    }

    /// Waits until the first `messages` messages of this session are acknowledged. Fails in the
    /// same cases as [`Self::send`].
    pub(super) async fn wait_for(&mut self, messages: u64) -> Result<(), Failure> {
        while self.acknowledged < messages {
            if !self.alive {
                return Err(self.fail("the session ended before every message was acknowledged"));
            }
            self.process_reply().await?;
        }
        Ok(())
    }

    /// Reads one reply and updates the window.
    async fn process_reply(&mut self) -> Result<(), Failure> {
        match self.next_reply().await? {
            RelpReply::Response { number, code: 200, .. } => {
                match self.open.iter_mut().find(|(open, _)| *open == number) {
                    Some((_, is_acknowledged)) => *is_acknowledged = true,
                    None => return Err(self.fail("the receiver replied to an unknown transaction")),
                }
                while self.open.front().is_some_and(|(_, is_acknowledged)| *is_acknowledged) {
                    self.open.pop_front();
                    self.acknowledged += 1;
                }
                Ok(())
            }
            RelpReply::Response { code, text, .. } => {
                Err(self.fail(&format!("the receiver rejected a message: {code} {text}")))
            }
            RelpReply::ServerClose => Err(self.fail("the receiver closed the session")),
        }
    }

    async fn next_reply(&mut self) -> Result<RelpReply, Failure> {
        loop {
            // A TLS alert is shorter than the shortest reply, so it would count as incomplete.
            if let Some(fault) = TlsFault::in_plain_text(&self.incoming) {
                self.alive = false;
                let what = format!("RELP with `{}` failed", self.address);
                return Err(Failure::tls(&what, &fault));
            }
            match frame::read(&self.incoming) {
                Ok(Some((reply, length))) => {
                    self.incoming.drain(..length);
                    return Ok(reply);
                }
                Ok(None) => {}
                Err(error) => return Err(self.not_relp(&error)),
            }

            let read = timeout(REPLY_TIMEOUT, self.stream.read_buf(&mut self.incoming)).await;
            match read {
                Ok(Ok(0)) => return Err(self.fail("the receiver closed the connection")),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(self.lost(&error)),
                Err(_) => return Err(self.fail("the receiver does not reply")),
            }
        }
    }

    /// Writes all bytes, and reads replies at the same time. Otherwise, if the receive buffers were
    /// full, both sides would wait for each other.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let result = timeout(REPLY_TIMEOUT, async {
            let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
            let mut left = bytes;
            while !left.is_empty() {
                tokio::select! {
                    biased;
                    read = reader.read_buf(&mut self.incoming) => {
                        if read? == 0 {
                            return Err(io::Error::other("the receiver closed the connection"));
                        }
                    }
                    written = writer.write(left) => left = &left[written?..],
                }
            }
            writer.flush().await
        });

        match result.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.process_last_replies().await;
                Err(self.lost(&error))
            }
            Err(_) => Err(self.fail("the receiver accepts no more data")),
        }
    }

    /// Processes the replies that the receiver sent before it closed the connection, because they
    /// acknowledge messages.
    async fn process_last_replies(&mut self) {
        let rest = async { while self.process_reply().await.is_ok() {} };
        let _ = timeout(LAST_REPLIES_TIMEOUT, rest).await;
    }

    /// Closes the session with the `close` command. A failure has no consequences, because every
    /// message is acknowledged or counts as not delivered.
    pub(super) async fn close(&mut self) {
        if self.alive {
            let (mut close, close_number) = (Vec::new(), frame::next(self.number));
            frame::write(close_number, "close", b"", &mut close);

            let closed = async {
                self.write(&close).await?;
                loop {
                    match self.next_reply().await? {
                        RelpReply::Response { number, .. } if number != close_number => {}
                        _ => return Ok::<_, Failure>(()),
                    }
                }
            };
            let _ = timeout(CLOSE_TIMEOUT, closed).await;
            let _ = timeout(CLOSE_TIMEOUT, self.stream.shutdown()).await;
        }
    }

    /// Ends the session with a failure that is retried on a new connection.
    fn fail(&mut self, why: &str) -> Failure {
        self.alive = false;
        Failure::retry(format!("`{}`: {why}", self.address))
    }

    fn lost(&mut self, error: &io::Error) -> Failure {
        self.alive = false;
        lost(&self.address, error)
    }

    fn not_relp(&mut self, error: &FrameError) -> Failure {
        self.alive = false;
        Failure::misconfigured(format!("`{}`: {error}", self.address))
    }
}
