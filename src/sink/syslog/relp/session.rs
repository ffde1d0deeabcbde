//! One RELP connection, from `open` to `close`.

use std::{collections::VecDeque, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::frame::{self, FrameError, RelpReply};
use crate::sink::{
    Batch, Failure,
    syslog::connection::{Stream, lost},
};

/// How long the receiver may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
const GOODBYE: Duration = Duration::from_secs(2);
const LAST_ANSWERS: Duration = Duration::from_secs(1);
const OFFERS: &str = concat!(
    "relp_version=0\nrelp_software=secure-score-forwarder,",
    env!("CARGO_PKG_VERSION"),
    ",-\ncommands=syslog"
);
/// Bytes of frames that go to the kernel in one call.
const CHUNK: usize = 256 << 10;

pub(super) struct Session {
    address: String,
    stream: Box<dyn Stream>,
    window: usize,
    /// The last number used.
    number: u32,
    /// Messages written, and not answered: their numbers and whether an answer has come out of
    /// its turn. The front one has none.
    open: VecDeque<(u32, bool)>,
    /// Messages written on this connection, and how many of the first of them are answered.
    sent: u64,
    answered: u64,
    incoming: Vec<u8>,
    alive: bool,
}

impl Session {
    pub(super) async fn open(
        address: &str,
        stream: Box<dyn Stream>,
        window: usize,
    ) -> Result<Self, Failure> {
        let mut session = Self {
            address: address.to_owned(),
            stream,
            window,
            number: 1,
            open: VecDeque::new(),
            sent: 0,
            answered: 0,
            incoming: Vec::new(),
            alive: true,
        };
        let mut offer = Vec::new();
        frame::write(1, "open", OFFERS.as_bytes(), &mut offer);
        session.write(&offer).await?;
        match session.next_answer().await? {
            RelpReply::Response { number: 1, code: 200, .. } => Ok(session),
            RelpReply::Response { code, text, .. } => {
                Err(Failure::misconfigured(format!("{address} refuses the session: {code} {text}")))
            }
            RelpReply::ServerClose => Err(session.gone("the receiver closed the session")),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Of `records` messages from the `first` on, how many of the first are answered.
    pub(super) fn answered_of(&self, first: u64, records: usize) -> usize {
        usize::try_from(self.answered.saturating_sub(first)).map_or(records, |n| n.min(records))
    }

    /// Writes every message, never more of them unanswered than the window holds.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut chunk = Vec::with_capacity(CHUNK.min(batch.bytes().len() + 32 * batch.len()));
        for item in batch.items() {
            if self.open.len() >= self.window || chunk.len() >= CHUNK {
                self.write(&chunk).await?;
                chunk.clear();
                // Down to half, so that one system call goes on carrying many messages.
                while self.open.len() > self.window / 2 {
                    self.ingest_answer().await?;
                }
            }
            self.number = frame::next(self.number);
            frame::write(self.number, "syslog", batch.payload(item), &mut chunk);
            self.open.push_back((self.number, false));
            self.sent += 1;
        }
        self.write(&chunk).await
    }

    /// Waits until so many messages of this connection are answered.
    pub(super) async fn wait_for(&mut self, messages: u64) -> Result<(), Failure> {
        while self.answered < messages {
            if !self.alive {
                return Err(self.gone("the session ended before every message was answered"));
            }
            self.ingest_answer().await?;
        }
        Ok(())
    }

    async fn ingest_answer(&mut self) -> Result<(), Failure> {
        match self.next_answer().await? {
            RelpReply::Response { number, code: 200, .. } => {
                match self.open.iter_mut().find(|(open, _)| *open == number) {
                    Some((_, answered)) => *answered = true,
                    None => return Err(self.gone("the receiver answered what was not asked")),
                }
                while self.open.front().is_some_and(|(_, answered)| *answered) {
                    self.open.pop_front();
                    self.answered += 1;
                }
                Ok(())
            }
            RelpReply::Response { code, text, .. } => {
                Err(self.gone(&format!("the receiver did not take a message: {code} {text}")))
            }
            RelpReply::ServerClose => Err(self.gone("the receiver closed the session")),
        }
    }

    async fn next_answer(&mut self) -> Result<RelpReply, Failure> {
        loop {
            match frame::read(&self.incoming) {
                Ok(Some((answer, took))) => {
                    self.incoming.drain(..took);
                    return Ok(answer);
                }
                Ok(None) => {}
                Err(error) => return Err(self.not_relp(&error)),
            }
            let read = timeout(ANSWER_TIMEOUT, self.stream.read_buf(&mut self.incoming)).await;
            match read {
                Ok(Ok(0)) => return Err(self.gone("the receiver closed the connection")),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(self.lost(&error)),
                Err(_) => return Err(self.gone("the receiver does not answer")),
            }
        }
    }

    /// Writes all of it. Answers that come meanwhile are kept, or both sides would wait for ever.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let result = timeout(ANSWER_TIMEOUT, async {
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
                self.take_last_answers().await;
                Err(self.lost(&error))
            }
            Err(_) => Err(self.gone("the receiver takes nothing more")),
        }
    }

    /// What the receiver answered before it hung up still counts.
    async fn take_last_answers(&mut self) {
        let rest = async { while self.ingest_answer().await.is_ok() {} };
        let _ = timeout(LAST_ANSWERS, rest).await;
    }

    /// Ends the session in good order. Whatever comes of it, nothing is decided by it.
    pub(super) async fn close(&mut self) {
        if self.alive {
            let (mut close, ours) = (Vec::new(), frame::next(self.number));
            frame::write(ours, "close", b"", &mut close);
            let goodbye = async {
                self.write(&close).await?;
                loop {
                    match self.next_answer().await? {
                        RelpReply::Response { number, .. } if number != ours => {}
                        _ => return Ok::<_, Failure>(()),
                    }
                }
            };
            let _ = timeout(GOODBYE, goodbye).await;
            let _ = timeout(GOODBYE, self.stream.shutdown()).await;
        }
    }

    fn gone(&mut self, why: &str) -> Failure {
        self.alive = false;
        Failure::retry(format!("{}: {why}", self.address))
    }

    fn lost(&mut self, error: &io::Error) -> Failure {
        self.alive = false;
        lost(&self.address, error)
    }

    fn not_relp(&mut self, error: &FrameError) -> Failure {
        self.alive = false;
        Failure::misconfigured(format!("{}: {error}", self.address))
    }
}
