//! The progress topic: compacted, with one record per tenant, which is written in the same
//! transaction as the records that it covers.
//!
//! The topic takes precedence over the checkpoint, because it is committed together with the
//! records and survives the loss of the checkpoint. See decision 0027.

use std::{fmt::Write as _, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::oauth::TokenContext;
use crate::{
    model::{Day, EventId, TenantId},
    sink::{Failure, Progress, SentDays, chain},
};

/// The time limit for one request to the cluster.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit for reading the topic to its end. An open transaction of another producer hides
/// the records after it until the broker aborts it, by default after one minute.
const READ_TIMEOUT: Duration = Duration::from_secs(70);

/// The value of a progress record, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct ProgressValue {
    version: u32,
    checkpoint: String,
    seq: u64,
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
        config.create().map_err(|error| Failure::misconfigured(chain(&error)))?;
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
/// it is not reached in time, the read fails and is retried.
pub(super) fn read(
    config: &ClientConfig,
    tokens: &TokenContext,
    topic: &str,
    transactional_id: &str,
) -> Result<Vec<Progress>, Failure> {
    let failure = |error: KafkaError| {
        Failure::retry(format!("cannot read the progress topic `{topic}`: {}", chain(&error)))
    };
    let consumer = |isolation: &str| -> Result<BaseConsumer<TokenContext>, Failure> {
        let mut config = config.clone();
        // The group is never joined: partitions are assigned, and no offset is committed.
        config
            .set("group.id", transactional_id)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation);
        let consumer: BaseConsumer<TokenContext> =
            config.create_with_context(tokens.clone()).map_err(failure)?;
        // librdkafka requests a token only while the consumer is polled, here without a partition.
        consumer.poll(Duration::ZERO);
        Ok(consumer)
    };

    let (all, committed) = (consumer("read_uncommitted")?, consumer("read_committed")?);
    let metadata = all.fetch_metadata(Some(topic), REQUEST_TIMEOUT).map_err(failure)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());

    let mut assignment = TopicPartitionList::new();
    let mut ends = Vec::new();
    for partition in (0..).take(partitions) {
        let (first, end) =
            all.fetch_watermarks(topic, partition, REQUEST_TIMEOUT).map_err(failure)?;
        if end > first {
            assignment
                .add_partition_offset(topic, partition, Offset::Beginning)
                .map_err(failure)?;
            ends.push((partition, end));
        }
    }
    committed.assign(&assignment).map_err(failure)?;

    let mut found: Vec<Progress> = Vec::new();
    let deadline = Instant::now() + READ_TIMEOUT;
    while !ends.is_empty() {
        if Instant::now() > deadline {
            return Err(Failure::retry(format!(
                "cannot read the progress topic `{topic}`: a transaction of another producer is open"
            )));
        }

        match committed.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => {
                let payload = message.payload().unwrap_or_default();
                let key = message.key().unwrap_or_default();
                if let Some(progress) = parse(key, payload, transactional_id) {
                    found.retain(|kept| kept.tenant != progress.tenant);
                    found.push(progress);
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
    Ok(found)
}

/// Returns `None` for a record of another sink, and for one that this version cannot read.
fn parse(key: &[u8], value: &[u8], transactional_id: &str) -> Option<Progress> {
    let key = std::str::from_utf8(key).ok()?;
    let tenant = key.strip_prefix(transactional_id)?.strip_prefix('/')?;
    let value: ProgressValue = serde_json::from_slice(value).ok()?;

    let newest = match &value.newest {
        Some(newest) => Some((Day::parse(&newest.day)?, parse_hash(&newest.digest)?)),
        None => None,
    };
    Some(Progress {
        tenant: TenantId::parse(tenant).ok()?,
        checkpoint: value.checkpoint,
        seq: value.seq,
        sent: SentDays::new(SentDays::parse_ranges(&value.days)?, newest),
    })
}

fn hex(hash: &[u8]) -> String {
    let mut text = String::with_capacity(2 * hash.len());
    for byte in hash {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn parse_hash(hex: &str) -> Option<[u8; 32]> {
    // `EventId` parses 20 bytes of hex, so the 32 bytes are parsed as two overlapping parts.
    let (front, back) = (hex.get(..40)?, hex.get(24..64).filter(|_| hex.len() == 64)?);
    let (front, back) = (EventId::parse(front)?, EventId::parse(back)?);

    let mut hash = [0; 32];
    hash[..20].copy_from_slice(front.as_bytes());
    hash[12..].copy_from_slice(back.as_bytes());
    Some(hash)
}

fn exists(config: &ClientConfig, topic: &str) -> bool {
    let consumer: Result<BaseConsumer, _> = config.create();
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
            checkpoint: "c".into(),
            seq: 412,
            sent: SentDays::new([day], Some((day, hash))),
        };

        let (key, value) = (key("id", tenant), value(&progress));

        assert_eq!(parse(key.as_bytes(), &value, "id"), Some(progress));
        assert_eq!(parse(key.as_bytes(), &value, "other"), None);
        assert_eq!(parse(key.as_bytes(), b"{}", "id"), None);
    }
}
