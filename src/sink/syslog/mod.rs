//! Syslog after RFC 5424: over TCP and TLS with octet counting (RFC 6587, RFC 5425) or newlines,
//! over UDP (RFC 5426), and to the local daemon.
//!
//! Proof: TCP and TLS have none of their own. A batch counts as delivered when the peer's kernel
//! was given all of it and the connection still stood after that; what its process then loses is
//! out of our hands. UDP has no proof at all and wants `lossy = true`.

mod config;
mod connection;
mod service;

pub(super) use config::{KEYS, read};
