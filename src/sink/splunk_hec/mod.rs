//! The sink for Splunk's HTTP Event Collector (HEC).
//!
//! With indexer acknowledgement, a request is acknowledged when the collector reports `true` for
//! its ackId on the channel that it was sent on: the events are indexed. Without it, the
//! acknowledgement is HTTP 200 with code 0: the collector has accepted the events.
//!
//! Start reading in `service`; `acks` waits for acknowledgements on a `channel`, `response`
//! interprets responses, and `cookies` keeps what a load balancer requires.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod acks;
mod channel;
mod config;
mod cookies;
mod envelope;
mod post;
mod requests;
mod response;
mod service;

use std::time::Duration;

use config::{AcknowledgementMode, HecPlan};
pub(super) use config::{EXAMPLES, KEYS};

use super::{BoxFuture, Context, Destination, Failure, Guarantee, Limits, Plan, Sink};
use crate::{format::FormatName, settings::Section};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[
    Guarantee {
        variant: "with indexer acknowledgement",
        acknowledgement: "the indexer confirmed the request on its channel",
        may_be_lost: "nothing",
        may_be_repeated: "the unacknowledged batches, at most 16",
    },
    Guarantee {
        variant: "without indexer acknowledgement",
        acknowledgement: "HTTP 200, code 0",
        may_be_lost: "events that Splunk accepted but had not indexed before a crash",
        may_be_repeated: "one batch",
    },
];

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(config::read(section)?))
}

impl Plan for HecPlan {
    fn timeout(&self) -> Duration {
        self.acknowledgement_timeout.saturating_add(Duration::from_mins(15))
    }

    fn format(&self) -> FormatName {
        FormatName::Json
    }

    fn acknowledgement(&self) -> &'static str {
        match self.acknowledgement {
            AcknowledgementMode::Required => "the indexer acknowledged the record",
            AcknowledgementMode::Auto => {
                "the indexer acknowledged the record or, if the token has no indexer acknowledgement, the collector accepted it"
            }
            AcknowledgementMode::Off => "the collector accepted the record",
        }
    }

    fn limits(&self) -> Limits {
        // Splunk Cloud documents 1 MB before compression as the limit of a request.
        Limits {
            records: 1_000,
            bytes: 512 << 10,
            // Without indexer acknowledgement the response is the acknowledgement, so no batch
            // remains in flight.
            in_flight: if self.acknowledgement == AcknowledgementMode::Off { 1 } else { 16 },
        }
    }

    fn destination(&self) -> Option<&Destination> {
        self.index.as_ref()
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(service::probe(self))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(service::open(self, context))
    }
}

/// Decodes the bytes as a response to events, and as a response to a poll for acknowledgements.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz_reply(status: u16, body: &[u8]) {
    let response = super::reply::HttpResponse::of("the collector", status, body);
    let _ = response::read(&response, 5);
    let _ = response::read_acks(&response, 5);
}
