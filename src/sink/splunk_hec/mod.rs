//! The sink for Splunk's HTTP Event Collector (HEC).
//!
//! With indexer acknowledgement, a request is acknowledged when the collector reports `true` for
//! its ackId on the channel that it was sent on: the events are indexed. Without it, the
//! acknowledgement is HTTP 200 with code 0: the collector has accepted the events.
//!
//! Start reading in `service`; `acks` waits for acknowledgements, `response` interprets responses,
//! and `cookies` keeps what a load balancer requires.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod acks;
mod config;
mod cookies;
mod envelope;
mod post;
mod response;
mod service;

pub(super) use config::{EXAMPLES, KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[
    Guarantee {
        variant: "with indexer acknowledgement",
        acknowledgement: "the indexer confirmed the request on its channel",
        may_be_lost: "nothing",
        may_be_repeated: "the unacknowledged batches, at most 16",
    },
    Guarantee {
        variant: "without indexer acknowledgement",
        acknowledgement: "HTTP 200, code 0",
        may_be_lost: "events that Splunk accepted but had not indexed before a crash",
        may_be_repeated: "one batch",
    },
];

/// Decodes the bytes as a response to events, and as a response to a poll for acknowledgements.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz_reply(status: u16, body: &[u8]) {
    let _ = response::read(status, body, None, 5);
    let _ = response::read_acks(status, body, None, 5);
}
