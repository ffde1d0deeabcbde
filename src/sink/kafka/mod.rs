//! Apache Kafka. Proof: the delivery report of every record, which an idempotent producer with
//! `acks=all` gives when all in-sync replicas have it. At least once across restarts.

mod config;
mod service;

pub(super) use config::{KEYS, read};
