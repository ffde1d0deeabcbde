//! Apache Kafka. Acknowledgement: the commit of a transaction that holds the records and, in a compacted
//! topic, how far they reach; or, without `exactly_once`, the delivery report of every record,
//! which an idempotent producer with `acks=all` gives when all in-sync replicas have it.
//!
//! A new producer first fences whoever used its transactional id before, and only then reads what
//! was committed. After any error that leaves a transaction's end in doubt the producer is thrown
//! away: a new one finds out.

mod account;
mod config;
mod producer;
mod progress;
mod service;

pub(super) use config::{KEYS, read};
