//! Microsoft Sentinel and Log Analytics, by the Logs Ingestion API. Acknowledgement: HTTP 204. There is no
//! deduplication on that side: what is sent again is there twice, under the same `event_id`.
//!
//! Source: Microsoft's documentation of the Logs Ingestion API, version 2023-01-01: an array of
//! objects, at most 1 MB before and after compression; a token for `https://monitor.azure.com`, of
//! one who has the role Monitoring Metrics Publisher on the data collection rule.

mod config;
mod service;

pub(super) use config::{KEYS, read};
