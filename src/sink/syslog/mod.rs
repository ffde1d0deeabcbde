//! Syslog after RFC 5424 or RFC 3164: over TCP and TLS with octet counting (RFC 6587, RFC 5425) or
//! newlines, over RELP, over UDP (RFC 5426), and to the local daemon.
//!
//! Acknowledgement: RELP answers every message. TCP and TLS have no proof of their own: a batch counts as
//! delivered when the peer's kernel has acknowledged all of it and the connection still stood
//! after that; what its process then loses is out of our hands, but for the replay window. UDP has
//! no proof at all and wants `lossy = true`.

mod config;
mod connection;
mod datagram;
mod message;
mod outq;
mod relp;
mod service;
mod stream;

pub(super) use config::{KEYS, read};
