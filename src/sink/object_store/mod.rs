//! The sink for object stores: Amazon S3, Azure Blob Storage and Google Cloud Storage.
//!
//! The acknowledgement is that the store has the object, new or from an earlier attempt. An object
//! contains the records of one entry of a tenant's log and is named after the IDs of its events, so
//! a repeated attempt finds the existing object and never writes a second one. With
//! `security_lake`, an object is a Parquet file for Amazon Security Lake. Start reading in
//! `service`. See decision 0028.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod client;
mod config;
mod environment;
mod object;
mod parquet;
mod service;
mod store;

pub(super) use config::{EXAMPLES, KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "the store has the object, new or from an earlier attempt",
    may_be_lost: "nothing",
    may_be_repeated: "nothing: an object is named after its event IDs",
}];
