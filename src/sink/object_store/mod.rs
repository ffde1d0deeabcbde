//! The sink for object stores: Amazon S3, Azure Blob Storage and Google Cloud Storage.
//!
//! The acknowledgement is that the store has the object, new or from an earlier attempt. An object
//! contains the records of one entry of a tenant's log and is named after the IDs of its events, so
//! a repeated attempt finds the existing object and never writes a second one. With
//! `security_lake`, an object is a Parquet file for Amazon Security Lake. Start reading in
//! `service`. See decisions 0028 and 0070.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod client;
mod codes;
mod config;
mod environment;
mod error_document;
mod existence;
mod object;
mod parquet;
mod service;
mod store;

pub(super) use config::{EXAMPLES, KEYS};
use config::{ObjectPlan, Store};

use super::{BoxFuture, Context, Failure, Guarantee, Limits, Plan, Sink};
use crate::{format::FormatName, settings::Section};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "the store has the object, new or from an earlier attempt",
    may_be_lost: "nothing",
    may_be_repeated: "nothing: an object is named after its event IDs",
}];

/// The resource that tokens for Azure Blob Storage are requested for.
const AZURE_STORAGE: &str = "https://storage.azure.com";

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(config::read(section)?))
}

impl Plan for ObjectPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the store has the object"
    }

    fn limits(&self) -> Limits {
        Limits { records: 10_000, bytes: 16 << 20, in_flight: 1 }
    }

    fn whole_entries(&self) -> bool {
        true
    }

    fn exclusive_resource(&self) -> Option<String> {
        let bucket = match &self.store {
            Store::S3 { bucket, .. } => format!("`s3://{bucket}`"),
            Store::Azure { account, container, .. } => {
                format!("`az://{container}` of account `{account}`")
            }
            Store::Google { bucket, .. } => format!("`gs://{bucket}`"),
        };
        let endpoint = self.endpoint.as_ref().map(|url| format!(" at `{url}`")).unwrap_or_default();
        Some(format!("`{}` in {bucket}{endpoint}", self.prefix))
    }

    fn token_resource(&self) -> Option<&str> {
        matches!(self.store, Store::Azure { key: None, .. }).then_some(AZURE_STORAGE)
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
