//! The sink for Elasticsearch and OpenSearch, using the bulk API.
//!
//! Each record is acknowledged separately, and never by HTTP 200 alone: with status 201, or with
//! 409 if its document exists. The document ID is the `event_id`, so a record that is sent again
//! changes nothing, except after a rollover: an ID is unique only within one backing index of a
//! data stream.
//!
//! Source: the references of the bulk API of Elasticsearch and OpenSearch. Start reading in
//! `response`. See decision 0028.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod config;
mod response;
mod service;

pub(super) use config::{EXAMPLES, KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "status 201 for the document, or 409 because it exists",
    may_be_lost: "nothing",
    may_be_repeated: "nothing within one backing index; one batch after a rollover",
}];
