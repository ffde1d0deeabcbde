//! The sink for Apache Kafka.
//!
//! With `exactly_once`, the acknowledgement is the commit of a transaction that holds the records
//! and, in a compacted topic, the progress that they bring. Without it, the acknowledgement is the
//! delivery report of every record, which an idempotent producer with `acks=all` gives when all
//! in-sync replicas have stored the record.
//!
//! A new producer first fences the previous user of its transactional ID, and only then reads the
//! committed progress. After an error that leaves the outcome of a transaction unknown, the
//! producer is replaced, because only a new producer can find out. Start reading in `service`.

mod config;
mod oauth;
mod producer;
mod progress;
mod service;

pub(super) use config::{KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[
    Guarantee {
        variant: "",
        acknowledgement: "the commit of a transaction that holds records and progress",
        may_be_lost: "nothing",
        may_be_repeated: "nothing for `read_committed` readers, except replays",
    },
    Guarantee {
        variant: ", `exactly_once = false`",
        acknowledgement: "delivery reports with `acks=all`, idempotent producer",
        may_be_lost: "nothing",
        may_be_repeated: "one batch",
    },
];
