//! The sink for Elasticsearch and OpenSearch, using the bulk API.
//!
//! Each record is acknowledged separately, and never by HTTP 200 alone: with status 201, or with
//! 409 and the error that its document exists. The document ID is the `event_id`, so a record that
//! is sent again changes nothing, except after a rollover: an ID is unique only within one backing
//! index of a data stream.
//!
//! Source: the references of the bulk API of Elasticsearch and OpenSearch. Start reading in
//! `response`. See decision 0028.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod config;
mod response;
mod service;

use config::ElasticPlan;
pub(super) use config::{EXAMPLES, KEYS};

use super::{BoxFuture, Context, Destination, Failure, Guarantee, Limits, Plan, Sink};
use crate::{format::FormatName, settings::Section};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "status 201 for the document, or 409 because it exists",
    may_be_lost: "nothing",
    may_be_repeated: "nothing within one backing index; one batch after a rollover",
}];

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(config::read(section)?))
}

impl Plan for ElasticPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the cluster stored the document"
    }

    fn limits(&self) -> Limits {
        Limits { records: 2_000, bytes: self.batch_bytes, in_flight: 1 }
    }

    fn destination(&self) -> Option<&Destination> {
        Some(&self.index)
    }

    fn probe<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(service::probe(self, context))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(service::open(self, context)))
    }
}
