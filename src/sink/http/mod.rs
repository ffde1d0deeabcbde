//! The sink for webhooks: batches of records are posted to an HTTP endpoint.
//!
//! The acknowledgement is a response with a status from 200 to 299. Start reading in `service`.

mod config;
mod service;
mod signature;

pub(super) use config::{KEYS, read};
