//! The sink for OpenTelemetry logs over HTTP, in the JSON encoding of OTLP.
//!
//! The acknowledgement is HTTP 200 without a partial success: the receiver accepted all records of
//! the request.
//!
//! Source: the OTLP specification 1.x and the JSON mapping of its protocol: names in
//! lowerCamelCase, 64-bit integers as strings.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod config;
mod service;

pub(super) use config::{EXAMPLES, KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "HTTP 200 without a partial success",
    may_be_lost: "records that the receiver drops afterward",
    may_be_repeated: "one batch",
}];
