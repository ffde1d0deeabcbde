//! The progress topic: compacted, with one record per tenant, which is written in the same
//! transaction as the records that it covers.
//!
//! The topic takes precedence over the checkpoint, because it is committed together with the
//! records and survives the loss of the checkpoint. What is kept of its records is limited, because
//! other clients of the cluster may be able to write to it. Start reading at [`read`].
//! See decisions 0027 and 0068.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::{collections::HashMap, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{oauth::TokenContext, producer::setup_failure};
use crate::{
    model::{CheckpointId, Day, Seq, TenantId, hex, parse_hex},
    sink::{Failure, Progress, SentDays, chain},
    text::count,
};

/// The time limit for one request to the cluster.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit for reading the topic to its end. An open transaction of another producer hides
/// the records after it until the broker aborts it, by default after one minute.
const READ_TIMEOUT: Duration = Duration::from_secs(70);

/// The maximum number of partitions of the topic, which has one if this program creates it.
const MAX_PARTITIONS: usize = 1_000;
/// The maximum number of tenants whose progress is read.
const MAX_TENANTS: usize = 50_000;
/// The maximum size of the value of a progress record in bytes; that of 200 single days has 3 KiB.
const MAX_VALUE_BYTES: usize = 16 << 10;
/// The maximum length of the ID of a checkpoint, which is a UUID of 36 characters.
const MAX_CHECKPOINT_BYTES: usize = 64;
/// The size of the queue of a consumer in KiB, and thereby of the records that it requests at once.
const QUEUE_KIBIBYTES: &str = "1024";

/// The value of a progress record, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct ProgressValue {
    version: u32,
    checkpoint: CheckpointId,
    seq: Seq,
    days: String,
    newest: Option<Newest>,
}

/// The newest day that was sent: the date, and the hash of its facts in hex.
#[derive(Debug, Serialize, Deserialize)]
struct Newest {
    day: String,
    digest: String,
}

/// The key of a tenant's progress record. It contains the transactional ID, because several sinks
/// may share the topic.
pub(super) fn key(transactional_id: &str, tenant: TenantId) -> String {
    format!("{transactional_id}/{tenant}")
}

/// The value of a tenant's progress record, as JSON of version 1.
pub(super) fn value(progress: &Progress) -> Vec<u8> {
    let newest = progress
        .sent
        .newest()
        .map(|(day, hash)| Newest { day: day.to_string(), digest: hex(&hash) });
    let value = ProgressValue {
        version: 1,
        checkpoint: progress.checkpoint.clone(),
        seq: progress.seq,
        days: progress.sent.ranges(),
        newest,
    };
    // Serializing a struct of strings and numbers cannot fail.
    serde_json::to_vec(&value).unwrap_or_default()
}

/// Creates the topic if it does not exist. Fails with `Misconfigured` if it does not exist and
/// cannot be created, and with `Retry` if the cluster does not respond.
pub(super) async fn ensure_topic(config: &ClientConfig, topic: &str) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> =
        config.create().map_err(|error| setup_failure(&error))?;
    let new_topic =
        NewTopic::new(topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
    let options = AdminOptions::new()
        .operation_timeout(Some(REQUEST_TIMEOUT))
        .request_timeout(Some(REQUEST_TIMEOUT));
    let created = admin.create_topics([&new_topic], &options).await;

    match created.map(|results| results.into_iter().next()) {
        Ok(Some(Ok(_) | Err((_, Code::TopicAlreadyExists)))) => Ok(()),
        // A principal that may not create topics receives a different error for an existing topic.
        Ok(Some(Err((_, code)))) if exists(config, topic) => {
            tracing::debug!(?code, topic, "the progress topic already exists");
            Ok(())
        }
        Ok(Some(Err((_, code)))) => Err(Failure::Misconfigured {
            reason: format!(
                "the progress topic `{topic}` does not exist and cannot be created: {code}"
            ),
            hint: Some("create the topic with cleanup.policy=compact".into()),
        }),
        Ok(None) => Err(Failure::retry(format!(
            "the cluster did not report whether it created the progress topic `{topic}`"
        ))),
        Err(error) => {
            Err(Failure::retry(format!("the cluster does not respond: {}", chain(&error))))
        }
    }
}

/// The topic's `max.message.bytes`, if the cluster reports it.
pub(super) async fn max_message_bytes(config: &ClientConfig, topic: &str) -> Option<u32> {
    let admin: AdminClient<DefaultClientContext> = config.create().ok()?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
    let resource = described.ok()?.into_iter().next()?.ok()?;
    resource.get("max.message.bytes")?.value.as_ref()?.parse().ok()
}

/// Reads the progress of every tenant that was committed under this transactional ID. Blocks.
///
/// An open transaction of another producer can hide committed records. The end of the topic is
/// therefore determined without isolation, and the committed records are read up to that end. If
/// it is not reached in time, the read fails and is retried. Fails with `Misconfigured` if the
/// topic has too many partitions, or records of too many tenants.
pub(super) fn read(
    config: &ClientConfig,
    tokens: &TokenContext,
    topic: &str,
    transactional_id: &str,
) -> Result<Vec<Progress>, Failure> {
    let failure = |error: KafkaError| unreadable(topic, &chain(&error));
    let consumer = |isolation| consumer(config, tokens, transactional_id, isolation);
    let all = consumer("read_uncommitted").map_err(failure)?;
    let committed = consumer("read_committed").map_err(failure)?;
    let began = Instant::now();
    let mut ends = ends(&all, topic, began)?;

    let mut assignment = TopicPartitionList::new();
    for (partition, _) in &ends {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).map_err(failure)?;
    }
    committed.assign(&assignment).map_err(failure)?;

    let mut found = HashMap::new();
    while !ends.is_empty() {
        if began.elapsed() > READ_TIMEOUT {
            return Err(unreadable(topic, "a transaction of another producer is open"));
        }

        match committed.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => {
                let payload = message.payload().unwrap_or_default();
                let key = message.key().unwrap_or_default();
                if let Some(progress) = parse(key, payload, transactional_id) {
                    found.insert(progress.tenant, progress);
                }
                if found.len() > MAX_TENANTS {
                    return Err(too_large(topic, &count(MAX_TENANTS, "tenant")));
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => return Err(failure(error)),
        }

        let position = committed.position().map_err(failure)?;
        ends.retain(|(partition, end)| {
            let reached = position.find_partition(topic, *partition).map(|p| p.offset());
            !matches!(reached, Some(Offset::Offset(at)) if at >= *end)
        });
    }
    Ok(found.into_values().collect())
}

fn consumer(
    config: &ClientConfig,
    tokens: &TokenContext,
    transactional_id: &str,
    isolation: &str,
) -> KafkaResult<BaseConsumer<TokenContext>> {
    let mut config = consumer_config(config);
    // The group is never joined: partitions are assigned, and no offset is committed.
    config
        .set("group.id", transactional_id)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation);
    let consumer: BaseConsumer<TokenContext> = config.create_with_context(tokens.clone())?;
    // librdkafka requests a token only while the consumer is polled, here without a partition.
    consumer.poll(Duration::ZERO);
    Ok(consumer)
}

/// The configuration of a consumer with a small queue, because librdkafka requires that a response
/// may be as large as the queue.
fn consumer_config(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    config.set("queued.max.messages.kbytes", QUEUE_KIBIBYTES);
    config
}

/// The partitions of the topic that have records, each with the offset of its end.
fn ends(
    consumer: &BaseConsumer<TokenContext>,
    topic: &str,
    began: Instant,
) -> Result<Vec<(i32, i64)>, Failure> {
    let failure = |error: KafkaError| unreadable(topic, &chain(&error));
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT).map_err(failure)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    if partitions > MAX_PARTITIONS {
        return Err(too_large(topic, &count(MAX_PARTITIONS, "partition")));
    }

    let mut ends = Vec::new();
    for partition in (0..).take(partitions) {
        if began.elapsed() > READ_TIMEOUT {
            return Err(unreadable(topic, "the cluster responds too slowly"));
        }
        let (first, end) =
            consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT).map_err(failure)?;
        if end > first {
            ends.push((partition, end));
        }
    }
    Ok(ends)
}

fn unreadable(topic: &str, why: &str) -> Failure {
    Failure::retry(format!("cannot read the progress topic `{topic}`: {why}"))
}

/// The failure for a topic with more than `limit`, such as `1,000 partitions`.
fn too_large(topic: &str, limit: &str) -> Failure {
    Failure::Misconfigured {
        reason: format!("the progress topic `{topic}` has more than {limit}"),
        hint: Some("set `progress_topic` to a topic to which only this sink writes".into()),
    }
}

/// Returns `None` for a record of another sink, and for one that this version cannot read or could
/// not have written.
fn parse(key: &[u8], value: &[u8], transactional_id: &str) -> Option<Progress> {
    let key = std::str::from_utf8(key).ok()?;
    let tenant = key.strip_prefix(transactional_id)?.strip_prefix('/')?;
    if value.len() > MAX_VALUE_BYTES {
        return None;
    }
    let value: ProgressValue = serde_json::from_slice(value).ok()?;
    if value.checkpoint.as_str().len() > MAX_CHECKPOINT_BYTES {
        return None;
    }

    let newest = match &value.newest {
        Some(newest) => Some((Day::parse(&newest.day)?, parse_hex(&newest.digest)?)),
        None => None,
    };
    Some(Progress {
        tenant: TenantId::parse(tenant).ok()?,
        checkpoint: value.checkpoint,
        seq: value.seq,
        sent: SentDays::new(SentDays::parse_ranges(&value.days)?, newest),
    })
}

fn exists(config: &ClientConfig, topic: &str) -> bool {
    let consumer: Result<BaseConsumer, _> = consumer_config(config).create();
    let metadata = consumer.and_then(|c| c.fetch_metadata(Some(topic), REQUEST_TIMEOUT));
    metadata
        .is_ok_and(|m| m.topics().iter().any(|t| t.error().is_none() && !t.partitions().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_survives_a_round_trip() {
        let tenant = TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap();
        let day = Day::parse("2026-11-22").unwrap();
        let mut hash = [0; 32];
        hash.iter_mut().zip(1..).for_each(|(byte, n)| *byte = n);
        let progress = Progress {
            tenant,
            checkpoint: CheckpointId::new("c"),
            seq: Seq::new(412),
            sent: SentDays::new([day], Some((day, hash))),
        };

        let (key, value) = (key("id", tenant), value(&progress));

        assert_eq!(parse(key.as_bytes(), &value, "id"), Some(progress));
        assert_eq!(parse(key.as_bytes(), &value, "other"), None);
        assert_eq!(parse(key.as_bytes(), b"{}", "id"), None);
    }

    /// A position after the end of the log is valid here; `reconcile` compares it with the log.
    #[test]
    fn positions_out_of_range_are_ignored() {
        let key = key("id", TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap());
        let seq = |seq: &str| {
            let members = "\"version\":1,\"checkpoint\":\"c\",\"days\":\"\",\"newest\":null";
            let value = format!("{{{members},\"seq\":{seq}}}");
            parse(key.as_bytes(), value.as_bytes(), "id").map(|progress| progress.seq)
        };

        for invalid in ["-1", "-0.5", "1e308", "18446744073709551616", "\"NaN\"", "\"7\"", "null"] {
            assert_eq!(seq(invalid), None, "{invalid}");
        }
        for valid in [0, 1 << 31, u64::MAX] {
            assert_eq!(seq(&valid.to_string()), Some(Seq::new(valid)));
        }
    }

    /// Regression: every other client that may write to the topic could fill the memory.
    #[test]
    fn records_that_are_too_large_are_ignored() {
        let tenant = TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap();
        let key = key("id", tenant);
        let record = |checkpoint: &str, days: &str| {
            let value = serde_json::json!({
                "version": 1, "checkpoint": checkpoint, "seq": 1, "days": days, "newest": null,
            });
            parse(key.as_bytes(), value.to_string().as_bytes(), "id")
        };

        assert!(record("c", "2026-11-22").is_some());
        assert!(record(&"c".repeat(64), "").is_some());
        assert_eq!(record(&"c".repeat(65), ""), None);
        assert_eq!(record("c", &"2026-11-22,".repeat(2_000)), None);
        assert_eq!(record("c", &"2025-01-01/2026-11-22,".repeat(2)), None);
    }
}
