//! The sink for Microsoft Sentinel and Log Analytics, using the Logs Ingestion API.
//!
//! The acknowledgement is HTTP 204. The service does not deduplicate: a record that is sent again
//! is stored twice, under the same `event_id`.
//!
//! Source: Microsoft's documentation of the Logs Ingestion API, version 2023-01-01. The body of a
//! request is an array of objects of at most 1 MB, before and after compression. The request's
//! token is issued for `https://monitor.azure.com` to an application with the role Monitoring
//! Metrics Publisher on the data collection rule.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod config;
mod service;

pub(super) use config::{EXAMPLES, KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "HTTP 204",
    may_be_lost: "records that the service drops afterward",
    may_be_repeated: "one batch",
}];
