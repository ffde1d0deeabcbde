//! The sink for webhooks: batches of records are posted to an HTTP endpoint.
//!
//! The acknowledgement is a complete response with a status from 200 to 299 that is not a page for
//! a browser. Start reading in `service`. See decision 0070.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod config;
mod service;
mod signature;

use config::HttpPlan;
pub(super) use config::{EXAMPLES, KEYS};

use super::{BoxFuture, Context, Failure, Guarantee, Limits, Plan, Sink};
use crate::{format::FormatName, settings::Section};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "a complete HTTP 2xx response, unless it is an HTML page",
    may_be_lost: "records that the endpoint drops afterward",
    may_be_repeated: "one batch, with the same `webhook-id` if its records are the same",
}];

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(config::read(section)?))
}

impl Plan for HttpPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the endpoint returned a success status"
    }

    fn limits(&self) -> Limits {
        self.limits
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
