//! A webhook: batches of records, posted. Acknowledgement: an answer of success, 200 to 299.

mod config;
mod service;
mod signature;

pub(super) use config::{KEYS, read};
