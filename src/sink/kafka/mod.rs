//! The sink for Apache Kafka.
//!
//! With `exactly_once`, the acknowledgement is the commit of a transaction that contains the
//! records and, in a compacted topic, the resulting progress. Without it, the acknowledgement is a
//! delivery report for every record, which an idempotent producer with `acks=all` receives when all
//! in-sync replicas have stored the record.
//!
//! A new producer fences the previous user of its transactional ID before it reads the committed
//! progress. After an error that leaves the outcome of a transaction unknown, the producer is
//! replaced, because only a new producer can determine the outcome. Start reading in `service`;
//! `transactions` checks that the brokers support transactions, and `topics` that topics exist.

mod cluster;
mod config;
mod fencing;
mod oauth;
mod opening;
mod plain_text;
mod producer;
mod producer_config;
mod progress;
mod properties;
mod refused_properties;
mod sasl;
mod service;
mod topics;
mod transaction_support;
mod transactions;

use std::time::Duration;

use config::{DeliveryMode, KafkaPlan};
pub(super) use config::{EXAMPLES, KEYS};
use sasl::Sasl;

use super::{BoxFuture, Context, Destination, Failure, Guarantee, Limits, Plan, Sink};
use crate::{format::FormatName, settings::Section};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[
    Guarantee {
        variant: "",
        acknowledgement: "the commit of a transaction that contains the records and the progress",
        may_be_lost: "nothing",
        may_be_repeated: "nothing for `read_committed` consumers, except replays, and one batch of which the cluster or the encoder has rejected a record",
    },
    Guarantee {
        variant: "`exactly_once = false`",
        acknowledgement: "a delivery report for each record, from an idempotent producer with `acks=all`",
        may_be_lost: "nothing",
        may_be_repeated: "one batch",
    },
];

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(KafkaPlan::read(section)?))
}

impl Plan for KafkaPlan {
    fn timeout(&self) -> Duration {
        let transaction = match &self.delivery {
            DeliveryMode::ExactlyOnce { timeout, .. } => *timeout,
            DeliveryMode::AtLeastOnce => Duration::ZERO,
        };
        transaction + Duration::from_mins(15)
    }

    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        match self.delivery {
            DeliveryMode::ExactlyOnce { .. } => "the cluster committed the transaction",
            DeliveryMode::AtLeastOnce => "all in-sync replicas stored the record",
        }
    }

    fn limits(&self) -> Limits {
        match self.delivery {
            // A transaction requires several round trips, regardless of its number of records.
            DeliveryMode::ExactlyOnce { .. } => {
                Limits { records: 10_000, bytes: 12 << 20, in_flight: 1 }
            }
            DeliveryMode::AtLeastOnce => Limits { records: 5_000, bytes: 4 << 20, in_flight: 1 },
        }
    }

    fn stores_progress(&self) -> bool {
        matches!(self.delivery, DeliveryMode::ExactlyOnce { .. })
    }

    fn exclusive_resource(&self) -> Option<String> {
        match &self.delivery {
            DeliveryMode::ExactlyOnce { transactional_id, .. } => {
                Some(format!("the transactional ID `{transactional_id}`"))
            }
            DeliveryMode::AtLeastOnce => None,
        }
    }

    fn token_resource(&self) -> Option<&str> {
        match &self.sasl {
            Some(Sasl::Entra(resource)) => Some(resource),
            _ => None,
        }
    }

    fn destination(&self) -> Option<&Destination> {
        Some(&self.topic)
    }

    fn probe<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(opening::probe(self, context))
    }

    /// Opens the sink with a separate transactional ID, and reads no progress.
    fn open_for_test<'a>(
        &'a self,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(async move { opening::open_for_test(&self.for_test(), context).await })
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(opening::open(self, context))
    }
}
