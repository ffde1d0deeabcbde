//! The sink for Splunk's HTTP Event Collector (HEC).
//!
//! With indexer acknowledgement, a request is acknowledged when the collector reports `true` for
//! its ackId on the channel that it was sent on: the events are indexed. Without it, the
//! acknowledgement is HTTP 200 with code 0: the collector has accepted the events.
//!
//! Start reading in `service`; `acks` waits for acknowledgements, `response` interprets responses.

mod acks;
mod config;
mod envelope;
mod post;
mod response;
mod service;

pub(super) use config::{KEYS, read};
