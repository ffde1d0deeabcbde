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
mod service;
mod stream;
mod tls_detection;

pub(super) use config::{EXAMPLES, KEYS, read};

use super::Guarantee;

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

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use relp::fuzz_replies as fuzz_relp_replies;
