//! Syslog with the headers of RFC 5424 or RFC 3164: over TCP and TLS with octet counting (RFC 6587,
//! RFC 5425) or newlines, over RELP, over UDP (RFC 5426), and to the local syslog daemon.
//!
//! Acknowledgement: a RELP receiver replies to every message. TCP and TLS have no acknowledgement of
//! their own: a batch counts as delivered when the peer's kernel has acknowledged every byte and the
//! connection still exists afterwards. The replay window covers part of what the receiving process
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

pub(super) use config::{KEYS, read};
