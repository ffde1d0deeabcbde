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

use config::SentinelPlan;
pub(super) use config::{EXAMPLES, KEYS};

use super::{BoxFuture, Context, Failure, Guarantee, Limits, Plan, Sink};
use crate::{format::FormatName, settings::Section};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "HTTP 204",
    may_be_lost: "records that the service drops afterward",
    may_be_repeated: "one batch",
}];

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(config::read(section)?))
}

impl Plan for SentinelPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the ingestion API accepted the records"
    }

    fn limits(&self) -> Limits {
        // The API limits a request to 1 MB. A batch may exceed `bytes` by its last record.
        Limits { records: 1_000, bytes: 800_000, in_flight: 1 }
    }

    fn token_resource(&self) -> Option<&str> {
        Some(self.resource)
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
