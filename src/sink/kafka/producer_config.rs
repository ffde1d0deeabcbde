//! The properties of the producer: those that all clients have in common, and those on which the
//! guarantees of the sink depend. Start reading at [`producer_config`].

use std::time::Duration;

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use super::{
    config::{DeliveryMode, KafkaPlan},
    properties::LINGER,
};

/// How long librdkafka retries a record before the batch fails and is retried by the deliverer.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest value of `message.max.bytes` that librdkafka accepts.
const MAX_MESSAGE_BYTES: u32 = 1_000_000_000;

/// Properties that the sink sets, and that the operator may replace.
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    (LINGER, "5"),
    ("topic.metadata.propagation.max.ms", "5000"),
    ("socket.keepalive.enable", "true"),
];

/// The property for the log messages of librdkafka, and the context of those from which
/// `transaction_support` recognizes brokers without transactions.
const DEBUG: &str = "debug";
const TRANSACTION_CONTEXT: &str = "eos";

/// The properties of the producer of a sink. `max_message_bytes` is the limit of the topic, if it
/// is known.
pub(super) fn producer_config(
    plan: &KafkaPlan,
    common: &ClientConfig,
    max_message_bytes: Option<u32>,
) -> ClientConfig {
    let mut config = common.clone();
    for (name, value) in DEFAULTS {
        config.set(*name, *value);
    }
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", plan.compression.choice().name)
        .set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string())
        // The partitioner of the Java clients, so that both choose the same partition for a key.
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.kbytes", "65536");

    if let Some(max) = max_message_bytes {
        // librdkafka then rejects an oversized record immediately, not at the end of a transaction.
        config.set("message.max.bytes", max.clamp(1_000, MAX_MESSAGE_BYTES).to_string());
    }
    if let DeliveryMode::ExactlyOnce { transactional_id, timeout, .. } = &plan.delivery {
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .set("message.timeout.ms", MESSAGE_TIMEOUT.min(*timeout).as_millis().to_string());
    }

    plan.properties.apply(&mut config);
    config.set_log_level(plan.properties.log_level());
    if matches!(plan.delivery, DeliveryMode::ExactlyOnce { .. }) {
        let requested = config.get(DEBUG).map(|contexts| format!("{contexts},"));
        let contexts = requested.unwrap_or_default() + TRANSACTION_CONTEXT;
        config.set(DEBUG, contexts).set_log_level(RDKafkaLogLevel::Debug);
    }
    config
}
