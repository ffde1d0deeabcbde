//! OpenTelemetry logs over HTTP, in OTLP's JSON form. Acknowledgement: HTTP 200 without a partial success,
//! which says that the receiver has taken all records of the request.
//!
//! Source: the OTLP specification 1.x, and the protocol's JSON mapping: names in lowerCamelCase,
//! 64-bit numbers as texts.

mod config;
mod service;

pub(super) use config::{KEYS, read};
