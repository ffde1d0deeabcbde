//! Splunk's HTTP Event Collector. Acknowledgement: with indexer acknowledgement `true` for the request's
//! ackId on the channel that it was sent on, which says that it is indexed; without, HTTP 200 with
//! code 0, which says that the collector has it.

mod acks;
mod config;
mod envelope;
mod post;
mod response;
mod service;

pub(super) use config::{KEYS, read};
