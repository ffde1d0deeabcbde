//! The sink for Elasticsearch and OpenSearch, by the bulk API.
//!
//! Every record is acknowledged on its own: by 201, or by 409 if its document already exists. The
//! document ID is the `event_id`, so a record that is sent again changes nothing. An ID is unique
//! only within one backing index of a data stream: a record that is sent again after a rollover is
//! stored twice.
//!
//! Source: the references of the bulk API of Elasticsearch and OpenSearch. HTTP 200 acknowledges
//! nothing, because each item has a status of its own; see `response`.

mod config;
mod response;
mod service;

pub(super) use config::{KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "201 for the document, or 409: it exists",
    may_be_lost: "nothing",
    may_be_repeated: "nothing within one backing index; one batch after a rollover",
}];
