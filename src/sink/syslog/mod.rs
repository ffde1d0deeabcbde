//! Syslog with the headers of RFC 5424 or RFC 3164: over TCP and TLS with octet counting (RFC 6587,
//! RFC 5425) or newlines, over RELP, over UDP (RFC 5426), and to the local syslog daemon.
//!
//! Acknowledgement: a RELP receiver replies to every message. Syslog over TCP and TLS has no
//! replies: a batch counts as delivered when the peer's kernel has acknowledged every byte and the
//! connection remains open. The replay window covers part of the data that the receiving process
//! then loses. UDP has no acknowledgement and requires `lossy = true`.
//!
//! Start with `service.rs`, which encodes messages and dispatches to the transports.

mod config;
mod connection;
mod datagram;
mod message;
mod outq;
mod relp;
mod replay_window;
mod service;
mod stream;
mod tls_detection;

pub(super) use config::{EXAMPLES, KEYS};
use config::{SyslogPlan, SyslogTarget};

use super::{BoxFuture, Context, Failure, Guarantee, Limits, Plan, Sink};
use crate::{format::FormatName, settings::Section};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[
    Guarantee {
        variant: "relp, relps",
        acknowledgement: "the receiver replied 200 to the message",
        may_be_lost: "messages that the receiving daemon later drops from its in-memory queue",
        may_be_repeated: "the unacknowledged messages, at most `window` (128 by default); two batches if this process is killed",
    },
    Guarantee {
        variant: "tcp, tls",
        acknowledgement: "the peer's kernel acknowledged every byte, and the connection remained open",
        may_be_lost: "data that the peer's kernel acknowledged but its process never read, beyond the replay window",
        may_be_repeated: "three batches and the replay window",
    },
    Guarantee {
        variant: "udp",
        acknowledgement: "none",
        may_be_lost: "any message",
        may_be_repeated: "one batch",
    },
    Guarantee {
        variant: "unix",
        acknowledgement: "the local daemon's socket accepted the message",
        may_be_lost: "messages that the daemon drops, or had not read when it stopped",
        may_be_repeated: "one batch",
    },
];

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(config::read(section)?))
}

impl Plan for SyslogPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        match self.target {
            SyslogTarget::Relp { .. } => "the receiver replied 200 to the message",
            SyslogTarget::Stream { .. } => {
                "the peer's kernel acknowledged every byte, and the connection remained open"
            }
            SyslogTarget::Udp { .. } => "none: the local kernel sent the message",
            SyslogTarget::Unix { .. } => "the local daemon's socket accepted the message",
        }
    }

    fn limits(&self) -> Limits {
        match self.target {
            SyslogTarget::Stream { .. } => Limits { records: 2_000, bytes: 1 << 20, in_flight: 3 },
            SyslogTarget::Relp { .. } => Limits { records: 500, bytes: 1 << 20, in_flight: 2 },
            // These transports acknowledge immediately, so no batch is ever pending. A batch is
            // small, because all of it can be sent again after a fault.
            SyslogTarget::Udp { .. } | SyslogTarget::Unix { .. } => {
                Limits { records: 500, bytes: 1 << 20, in_flight: 1 }
            }
        }
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(service::probe(self))
    }

    fn open_for_test<'a>(
        &'a self,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(service::open_for_test(self, context))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(Ok(service::open(self, context))))
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use relp::fuzz_replies as fuzz_relp_replies;
