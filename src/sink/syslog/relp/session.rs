//! One RELP session, from `open` to `close`.
//!
//! A message counts as acknowledged only when the replies to it and to all messages before it
//! are 200. The receiver may send one reply to each message of the window, and anything else ends
//! the session, so that what is kept of a receiver never exceeds one incomplete reply. Start
//! reading at [`RelpSession::send`]. See decision 0068.

use std::{collections::VecDeque, io, task::Poll, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::frame::{self, FrameError, RelpReply};
use crate::{
    net::{ByteStream, TlsFault},
    sink::{
        Batch, Failure,
        syslog::connection::{lost, read_within},
    },
};

/// How long the receiver may take for a whole reply, and to accept a chunk of frames.
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
/// Bytes of replies that are read with one call.
const READ_BYTES: usize = 8 << 10;
/// Why a session with unacknowledged messages cannot be used anymore.
const ENDED_EARLY: &str = "the session ended before every message was acknowledged";

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
    /// The bytes of the last read, and the incomplete reply before them.
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
            incoming: Vec::with_capacity(READ_BYTES),
            alive: true,
        };

        session.write_command(1, "open", OFFERS.as_bytes()).await?;

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

    /// Whether the receiver has closed the session, which is not a failure if every message is
    /// acknowledged. Processes the replies that have arrived, without waiting. Fails if the
    /// session ended sooner, if the connection is lost, or if the receiver has sent anything else.
    pub(super) async fn has_ended(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0; 1_024];
        while !self.process_until_close()? {
            match read_within(&mut self.stream, &mut buffer, Duration::ZERO).await {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(length @ 1..)) => {
                    self.incoming.extend_from_slice(&buffer[..length]);
                }
                Poll::Ready(Ok(_)) => break,
                // Over TLS, some receivers end the connection without an alert.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Poll::Ready(Err(error)) => return Err(self.lost(&error)),
            }
        }

        if !self.open.is_empty() {
            return Err(self.fail(ENDED_EARLY));
        }
        self.alive = false;
        Ok(true)
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
        let fields = batch.len().saturating_mul(32);
        let bytes = batch.bytes().len().saturating_add(fields);
        let mut chunk = Vec::with_capacity(CHUNK.min(bytes));

        for item in batch.items() {
            if self.open.len() >= self.window || chunk.len() >= CHUNK {
                self.write(&chunk).await?;
                chunk.clear();
                // The window is drained to half, so that one system call sends many messages.
                while self.open.len() > self.window / 2 {
                    self.wait_for_reply().await?;
                }
            }

            self.number = frame::next(self.number);
            frame::write(self.number, "syslog", batch.payload(item), &mut chunk);
            self.open.push_back((self.number, false));
            self.sent = self.sent.saturating_add(1);
        }

        self.write(&chunk).await
    }

    /// Waits until the first `messages` messages of this session are acknowledged. Fails in the
    /// same cases as [`Self::send`].
    pub(super) async fn wait_for(&mut self, messages: u64) -> Result<(), Failure> {
        while self.acknowledged < messages {
            if !self.alive {
                return Err(self.fail(ENDED_EARLY));
            }
            self.wait_for_reply().await?;
        }
        Ok(())
    }

    /// Waits for one reply to a message, and updates the window.
    async fn wait_for_reply(&mut self) -> Result<(), Failure> {
        let reply = self.next_reply().await?;
        self.process(&reply)
    }

    /// Updates the window with the replies that have been received completely.
    fn process_received(&mut self) -> Result<(), Failure> {
        while let Some(reply) = self.take_reply()? {
            self.process(&reply)?;
        }
        Ok(())
    }

    /// Like [`Self::process_received`], but returns whether the receiver then closed the session.
    fn process_until_close(&mut self) -> Result<bool, Failure> {
        while let Some(reply) = self.take_reply()? {
            if matches!(reply, RelpReply::ServerClose) {
                return Ok(true);
            }
            self.process(&reply)?;
        }
        Ok(false)
    }

    fn process(&mut self, reply: &RelpReply) -> Result<(), Failure> {
        match reply {
            RelpReply::Response { number, code: 200, .. } => self.acknowledge(*number),
            RelpReply::Response { code, text, .. } => {
                Err(self.fail(&format!("the receiver rejected a message: {code} {text}")))
            }
            RelpReply::ServerClose => Err(self.fail("the receiver closed the session")),
        }
    }

    /// Marks a message of the window as acknowledged. Fails if the message is not in the window, or
    /// if the receiver has replied to it before.
    fn acknowledge(&mut self, number: u32) -> Result<(), Failure> {
        let first = self.open.front().map_or(number, |(first, _)| *first);
        let index = usize::try_from(frame::distance(first, number)).unwrap_or(usize::MAX);
        let Some((_, is_acknowledged)) = self.open.get_mut(index) else {
            return Err(self.fail("the receiver replied to an unknown transaction"));
        };
        if std::mem::replace(is_acknowledged, true) {
            return Err(self.fail("the receiver replied twice to a transaction"));
        }

        while self.open.front().is_some_and(|(_, is_acknowledged)| *is_acknowledged) {
            self.open.pop_front();
            self.acknowledged = self.acknowledged.saturating_add(1);
        }
        Ok(())
    }

    async fn next_reply(&mut self) -> Result<RelpReply, Failure> {
        let began = Instant::now();
        loop {
            if let Some(reply) = self.take_reply()? {
                return Ok(reply);
            }

            let read = self.stream.read_buf(&mut self.incoming);
            match timeout(time_left(began), read).await {
                Ok(Ok(0)) => return Err(self.fail("the receiver closed the connection")),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(self.lost(&error)),
                Err(_) => return Err(self.fail("the receiver does not reply")),
            }
        }
    }

    /// Removes the first reply from the received bytes. Returns `None` if it is incomplete.
    fn take_reply(&mut self) -> Result<Option<RelpReply>, Failure> {
        // A TLS alert is shorter than the shortest reply, so it would count as incomplete.
        if let Some(fault) = TlsFault::in_plain_text(&self.incoming) {
            self.alive = false;
            let what = format!("RELP with `{}` failed", self.address);
            return Err(Failure::tls(&what, &fault));
        }

        match frame::read(&self.incoming) {
            Ok(Some((reply, length))) => {
                self.incoming.drain(..length);
                Ok(Some(reply))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.not_relp(&error)),
        }
    }

    /// Writes a command other than a message, without reading. It fits into the send buffer, unless
    /// the receiver reads nothing.
    async fn write_command(
        &mut self,
        number: u32,
        command: &str,
        data: &[u8],
    ) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        frame::write(number, command, data, &mut bytes);

        let written = timeout(REPLY_TIMEOUT, async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => Err(self.fail("the receiver accepts no more data")),
        }
    }

    /// Writes the frames of messages, and processes replies at the same time. Otherwise, if the
    /// receive buffers were full, both sides would wait for each other.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let began = Instant::now();
        let mut left = bytes;
        while !left.is_empty() {
            match timeout(time_left(began), self.transfer(left)).await {
                Ok(Ok(written)) => left = &left[written..],
                Ok(Err(error)) => return Err(self.lost_while_writing(&error).await),
                Err(_) => return Err(self.fail("the receiver accepts no more data")),
            }
            self.process_received()?;
        }

        match timeout(time_left(began), self.stream.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost_while_writing(&error).await),
            Err(_) => Err(self.fail("the receiver accepts no more data")),
        }
    }

    /// Writes some of the bytes or, if the receiver has sent something, reads it. Returns the
    /// number of bytes that were written.
    async fn transfer(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        tokio::select! {
            biased;
            read = reader.read_buf(&mut self.incoming) => match read? {
                0 => Err(io::Error::other("the receiver closed the connection")),
                _ => Ok(0),
            },
            written = writer.write(bytes) => written,
        }
    }

    /// The failure for a connection that can no longer be written to. Processes the replies that
    /// the receiver sent before it closed the connection, because they acknowledge messages.
    async fn lost_while_writing(&mut self, error: &io::Error) -> Failure {
        let rest = async { while self.wait_for_reply().await.is_ok() {} };
        let _ = timeout(LAST_REPLIES_TIMEOUT, rest).await;
        self.lost(error)
    }

    /// Closes the session with the `close` command. A failure has no consequences, because every
    /// message is acknowledged or counts as not delivered.
    pub(super) async fn close(&mut self) {
        if self.alive {
            let close_number = frame::next(self.number);
            let closed = async {
                self.write_command(close_number, "close", b"").await?;
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

/// What is left of the time limit of an operation.
fn time_left(began: Instant) -> Duration {
    REPLY_TIMEOUT.saturating_sub(began.elapsed())
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;
    use crate::model::EventId;

    const OPENED: &str = "1 rsp 6 200 OK\n";

    /// A session, and the receiver's end of its connection, which has sent this text.
    async fn session(text: &str) -> (RelpSession, DuplexStream) {
        let (client, mut receiver) = tokio::io::duplex(64 << 10);
        receiver.write_all(format!("{OPENED}{text}").as_bytes()).await.unwrap();
        let session = RelpSession::open("siem:2514", Box::new(client), 128).await.unwrap();
        (session, receiver)
    }

    fn batch(records: u8) -> Batch {
        let mut batch = Batch::default();
        for number in 0..records {
            batch.push_encoded(EventId::from_bytes([number; 20]), &[b'x'; 1_000]);
        }
        batch
    }

    #[tokio::test]
    async fn replies_are_accepted_in_any_order() {
        let replies = "4 rsp 6 200 OK\n2 rsp 6 200 OK\n3 rsp 6 200 OK\n";
        let (mut session, mut receiver) = session("").await;
        session.send(&batch(3)).await.unwrap();
        receiver.write_all(replies.as_bytes()).await.unwrap();
        session.wait_for(3).await.unwrap();
        assert_eq!(session.acknowledged_of(0, 3), 3);
    }

    /// Regression: a second reply to a message was ignored, so a receiver that repeated one reply
    /// could occupy the sink without an end.
    #[tokio::test]
    async fn only_one_reply_per_message_is_accepted() {
        for (replies, reason) in [
            ("3 rsp 6 200 OK\n3 rsp 6 200 OK\n", "replied twice to a transaction"),
            ("2 rsp 6 200 OK\n2 rsp 6 200 OK\n", "replied to an unknown transaction"),
            ("9 rsp 6 200 OK\n", "replied to an unknown transaction"),
            ("0 rsp 6 200 OK\n", "replied to an unknown transaction"),
            ("2 rsp 8 500 Full\n", "rejected a message: 500 Full"),
            ("0 serverclose 0\n", "closed the session"),
        ] {
            let (mut session, mut receiver) = session("").await;
            session.send(&batch(3)).await.unwrap();
            receiver.write_all(replies.as_bytes()).await.unwrap();
            let failure = session.wait_for(3).await.unwrap_err();
            assert!(matches!(failure, Failure::Retry { .. }), "{failure}");
            assert!(failure.to_string().ends_with(reason), "{replies}: {failure}");
            assert!(!session.is_alive());
        }
    }

    /// Regression: everything that the receiver sent while messages were written was stored.
    #[tokio::test]
    async fn a_flood_ends_the_session() {
        for start in ["", "2 rsp 16000 ", "900 rsp 6 200 OK\n"] {
            let (mut session, mut receiver) = session(start).await;
            // The receiver reads nothing, so the session cannot write everything.
            let flood =
                tokio::spawn(
                    async move { while receiver.write_all(&[b'x'; 4_096]).await.is_ok() {} },
                );

            let failure = loop {
                if let Err(failure) = session.send(&batch(100)).await {
                    break failure;
                }
            };
            assert!(!session.is_alive(), "{failure}");
            assert!(session.incoming.capacity() <= 64 << 10, "{}", session.incoming.capacity());
            assert_eq!(session.acknowledged_of(0, 100), 0);
            drop(session);
            flood.await.unwrap();
        }
    }

    /// Regression: the replies that had arrived before the end of a session were not read, so the
    /// next batch was sent to the closed session, and its delivery failed.
    #[tokio::test]
    async fn replies_before_the_end_are_read() {
        let all = "3 rsp 6 200 OK\n2 rsp 6 200 OK\n";
        for (last, acknowledged, expected) in [
            (all, 2, Some(true)),
            ("3 rsp 6 200 OK\n2 rsp 6 200 OK\n0 serverclose 0\n", 2, Some(true)),
            ("2 rsp 6 200 OK\n0 serverclose 0\n", 1, None),
            ("", 0, None),
        ] {
            let (mut session, mut receiver) = session("").await;
            session.send(&batch(2)).await.unwrap();
            receiver.write_all(last.as_bytes()).await.unwrap();
            drop(receiver);

            assert_eq!(session.has_ended().await.ok(), expected, "{last}");
            assert_eq!(session.acknowledged_of(0, 2), acknowledged, "{last}");
            assert_eq!(session.wait_for(2).await.is_ok(), acknowledged == 2, "{last}");
            assert!(!session.is_alive());
        }

        let (mut session, mut receiver) = session("").await;
        session.send(&batch(2)).await.unwrap();
        receiver.write_all(all.as_bytes()).await.unwrap();
        assert_eq!((session.has_ended().await, session.acknowledged), (Ok(false), 2));
    }

    /// Regression: a receiver that closed an idle session caused a failed delivery.
    #[tokio::test]
    async fn an_idle_session_may_end() {
        for (last, expected) in [("", true), ("0 serverclose 0\n", true), ("0 serverc", true)] {
            let (mut session, mut receiver) = session("").await;
            assert_eq!(session.has_ended().await, Ok(false));
            session.send(&batch(1)).await.unwrap();
            assert_eq!(session.has_ended().await, Ok(false), "a message is not acknowledged");
            receiver.write_all(b"2 rsp 6 200 OK\n").await.unwrap();
            session.wait_for(1).await.unwrap();
            assert_eq!(session.has_ended().await, Ok(false));

            receiver.write_all(last.as_bytes()).await.unwrap();
            drop(receiver);
            assert_eq!(session.has_ended().await, Ok(expected), "{last}");
            assert!(!session.is_alive());
        }

        let (mut session, mut receiver) = session("").await;
        receiver.write_all(b"7 rsp 6 200 OK\n").await.unwrap();
        let failure = session.has_ended().await.unwrap_err();
        assert!(failure.to_string().contains("unknown transaction"), "{failure}");
    }
}
