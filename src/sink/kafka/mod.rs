//! The sink for Apache Kafka.
//!
//! With `exactly_once`, the acknowledgement is the commit of a transaction that contains the
//! records and, in a compacted topic, the resulting progress. Without it, the acknowledgement is a
//! delivery report for every record, which an idempotent producer with `acks=all` receives when all
//! in-sync replicas have stored the record.
//!
//! A new producer fences the previous user of its transactional ID before it reads the committed
//! progress. After an error that leaves the outcome of a transaction unknown, the producer is
//! replaced, because only a new producer can determine the outcome. Start reading in `service`.

mod cluster;
mod config;
mod fencing;
mod oauth;
mod plain_text;
mod producer;
mod progress;
mod properties;
mod refused_properties;
mod sasl;
mod service;

pub(super) use config::{EXAMPLES, KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[
    Guarantee {
        variant: "",
        acknowledgement: "the commit of a transaction that contains the records and the progress",
        may_be_lost: "nothing",
        may_be_repeated: "nothing for `read_committed` consumers, except replays",
    },
    Guarantee {
        variant: "`exactly_once = false`",
        acknowledgement: "a delivery report for each record, from an idempotent producer with `acks=all`",
        may_be_lost: "nothing",
        may_be_repeated: "one batch",
    },
];
