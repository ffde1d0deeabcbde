//! The sink for webhooks: batches of records are posted to an HTTP endpoint.
//!
//! The acknowledgement is a response with a status from 200 to 299. Start reading in `service`.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod config;
mod service;
mod signature;

pub(super) use config::{EXAMPLES, KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "HTTP 2xx",
    may_be_lost: "records that the endpoint drops afterward",
    may_be_repeated: "one batch, with the same `webhook-id` if its records are the same",
}];
