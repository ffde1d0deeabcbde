//! The sink for OpenTelemetry logs over HTTP, in the JSON encoding of OTLP.
//!
//! The acknowledgement is HTTP 200 with an `ExportLogsServiceResponse` without a partial success:
//! the receiver accepted all records of the request. Start reading in `service`; `response`
//! interprets the replies.
//!
//! Source: the OTLP specification 1.x and the JSON mapping of its protocol: names in
//! lowerCamelCase, 64-bit integers as strings.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod config;
mod protobuf;
mod response;
mod service;

use config::OtlpPlan;
pub(super) use config::{EXAMPLES, KEYS};

use super::{BoxFuture, Context, Failure, Guarantee, Limits, Plan, Sink};
use crate::{format::FormatName, settings::Section};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "HTTP 200 with an export response without a partial success",
    may_be_lost: "records that the receiver drops afterward",
    may_be_repeated: "one batch",
}];

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(config::read(section)?))
}

impl Plan for OtlpPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the receiver accepted every record"
    }

    fn limits(&self) -> Limits {
        Limits { records: 1_000, bytes: 1 << 20, in_flight: 1 }
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(service::probe(self))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(service::open(self, context)))
    }
}
