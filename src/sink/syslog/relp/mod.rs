//! RELP: syslog with a reply to every message.
//!
//! Acknowledgement: `200` for the transaction of a message, which means that the receiving daemon
//! has accepted the message (for rsyslog, that it is in the queue). At most `window` messages are
//! unacknowledged at a time. Transaction numbers begin at 1 on each connection, and messages
//! without a reply are sent again with new numbers.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod frame;
mod session;

use std::sync::Arc;

use tokio::sync::Mutex;

use self::session::RelpSession;
use super::{
    config::Tls,
    connection::connect,
    tls_detection::{PlainProtocol, TlsDetection},
};
use crate::sink::{Acknowledgement, Batch, Failure, Receipt};

/// Delivers messages over one session after another.
pub(super) struct RelpLink {
    address: String,
    tls: Option<Tls>,
    window: usize,
    session: Option<Arc<Mutex<RelpSession>>>,
    detection: TlsDetection,
}

impl RelpLink {
    /// A link without a session. `window` is the largest number of unacknowledged messages.
    pub(super) fn new(address: &str, tls: Option<&Tls>, window: usize) -> Self {
        Self {
            address: address.to_owned(),
            tls: tls.cloned(),
            window,
            session: None,
            detection: TlsDetection::new(address, PlainProtocol::Relp, tls),
        }
    }

    /// Sends all messages of a batch, and returns an acknowledgement that waits for their replies.
    /// Fails with `Partial` if the session ends after some messages were acknowledged.
    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        let session = self.open_session().await?;
        let first = {
            let mut session = session.lock().await;
            let first = session.sent();
            if let Err(failure) = session.send(batch).await {
                self.session = None;
                return Err(Failure::partial(session.acknowledged_of(first, batch.len()), failure));
            }
            first
        };

        let records = batch.len();
        Ok(Acknowledgement::Pending(Box::pin(async move {
            let mut session = session.lock().await;
            match session.wait_for(first.saturating_add(records as u64)).await {
                Ok(()) => Ok(Receipt::default()),
                Err(failure) => {
                    Err(Failure::partial(session.acknowledged_of(first, records), failure))
                }
            }
        })))
    }

    /// Connects and opens a session. Fails if the receiver cannot be reached, rejects the session,
    /// or expects TLS.
    pub(super) async fn reach(&mut self) -> Result<(), Failure> {
        self.open_session().await.map(drop)
    }

    async fn open_session(&mut self) -> Result<Arc<Mutex<RelpSession>>, Failure> {
        if let Some(session) = &self.session {
            let mut current = session.lock().await;
            if current.is_alive() && !current.has_ended().await? {
                return Ok(Arc::clone(session));
            }
        }

        let connected = connect(&self.address, self.tls.as_ref()).await?;
        let opened = RelpSession::open(&self.address, connected.stream, self.window).await;
        let session = match opened {
            Ok(session) => Arc::new(Mutex::new(session)),
            Err(failure) => return Err(self.detection.explain(failure).await),
        };
        self.detection.exclude().await;
        self.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Closes the session, if there is one.
    pub(super) async fn close(self) {
        if let Some(session) = self.session {
            session.lock().await.close().await;
        }
    }
}

/// Decodes every reply frame of a byte stream.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::sink) fn fuzz_replies(mut bytes: &[u8]) {
    while let Ok(Some((_, length))) = frame::read(bytes) {
        bytes = &bytes[length..];
    }
}
