//! Splunk's HTTP Event Collector. Proof: status 200 and code 0, which says that the collector has
//! taken the events, not yet that they are indexed.

mod config;
mod response;
mod service;

pub(super) use config::{KEYS, read};
