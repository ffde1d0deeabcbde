//! Objects in S3, Azure Blob Storage or Google Cloud Storage. Acknowledgement: the store has the object, new or
//! since an earlier attempt.
//!
//! An object holds what one entry of a tenant's log gave, and is named after the ids of its events. So
//! whatever is tried again ends in the same object, and is found there. With `security_lake` it is
//! a file of Parquet where Amazon Security Lake looks for its custom sources.
//!
//! Source: docs.aws.amazon.com/security-lake, "Adding custom sources".

mod config;
mod object;
mod parquet;
mod service;
mod store;

pub(super) use config::{KEYS, read};
