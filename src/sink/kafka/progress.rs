//! The progress topic: compacted, one record a tenant, written in the transaction of the records
//! that it counts.

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

use super::account::Account;
use crate::{
    model::{Day, EventId, TenantId},
    sink::{Failure, Progress, SentDays, chain},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Somebody else's open transaction may hide ours behind it; the broker ends it after a minute.
const OTHERS: Duration = Duration::from_secs(70);

/// The value of a progress record.
#[derive(Debug, Serialize, Deserialize)]
struct Value {
    version: u32,
    checkpoint: String,
    seq: u64,
    days: String,
    newest: Option<Newest>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Newest {
    day: String,
    digest: String,
}

/// The key of a tenant's progress: several sinks may share the topic.
pub(super) fn key(transactional_id: &str, tenant: TenantId) -> String {
    format!("{transactional_id}/{tenant}")
}

pub(super) fn value(progress: &Progress) -> Vec<u8> {
    let newest = progress
        .sent
        .newest()
        .map(|(day, digest)| Newest { day: day.to_string(), digest: hex(&digest) });
    let value = Value {
        version: 1,
        checkpoint: progress.checkpoint.clone(),
        seq: progress.seq,
        days: progress.sent.ranges(),
        newest,
    };
    // A struct of texts and numbers can always be written.
    serde_json::to_vec(&value).unwrap_or_default()
}

/// `None` for what is no progress of ours.
fn parse(key: &[u8], value: &[u8], transactional_id: &str) -> Option<Progress> {
    let key = std::str::from_utf8(key).ok()?;
    let tenant = key.strip_prefix(transactional_id)?.strip_prefix('/')?;
    let value: Value = serde_json::from_slice(value).ok()?;
    let newest = match &value.newest {
        Some(newest) => Some((Day::parse(&newest.day)?, parse_digest(&newest.digest)?)),
        None => None,
    };
    Some(Progress {
        tenant: TenantId::parse(tenant).ok()?,
        checkpoint: value.checkpoint,
        seq: value.seq,
        sent: SentDays::new(SentDays::parse_ranges(&value.days)?, newest),
    })
}

fn hex(digest: &[u8]) -> String {
    let mut text = String::with_capacity(2 * digest.len());
    for byte in digest {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn parse_digest(hex: &str) -> Option<[u8; 32]> {
    // An event id is 20 bytes in hex, and so is each part of this.
    let (front, back) = (hex.get(..40)?, hex.get(24..64).filter(|_| hex.len() == 64)?);
    let (front, back) = (EventId::parse(front)?, EventId::parse(back)?);
    let mut digest = [0; 32];
    digest[..20].copy_from_slice(front.as_bytes());
    digest[12..].copy_from_slice(back.as_bytes());
    Some(digest)
}

/// Makes the topic if there is none.
pub(super) async fn ensure_topic(config: &ClientConfig, topic: &str) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> =
        config.create().map_err(|error| Failure::misconfigured(chain(&error)))?;
    let wanted =
        NewTopic::new(topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
    let options =
        AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let made = admin.create_topics([&wanted], &options).await;
    let refused = |why: &str| {
        Failure::misconfigured(format!(
            "there is no progress topic `{topic}`, and it cannot be made: create it with cleanup.policy=compact ({why})"
        ))
    };
    match made.map(|results| results.into_iter().next()) {
        Ok(Some(Ok(_) | Err((_, Code::TopicAlreadyExists)))) => Ok(()),
        Ok(Some(Err((_, code)))) if exists(config, topic) => {
            tracing::debug!(?code, topic, "the progress topic is there already");
            Ok(())
        }
        Ok(Some(Err((_, code)))) => Err(refused(&code.to_string())),
        Ok(None) => Err(Failure::retry("the cluster did not say whether it made the topic")),
        Err(error) => {
            Err(Failure::retry(format!("the cluster does not answer: {}", chain(&error))))
        }
    }
}

/// The largest message that the topic takes, if the cluster tells.
pub(super) async fn max_message(config: &ClientConfig, topic: &str) -> Option<u32> {
    let admin: AdminClient<DefaultClientContext> = config.create().ok()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
    let resource = described.ok()?.into_iter().next()?.ok()?;
    resource.get("max.message.bytes")?.value.as_ref()?.parse().ok()
}

fn exists(config: &ClientConfig, topic: &str) -> bool {
    let consumer: Result<BaseConsumer, _> = config.create();
    let metadata = consumer.and_then(|c| c.fetch_metadata(Some(topic), PATIENCE));
    metadata
        .is_ok_and(|m| m.topics().iter().any(|t| t.error().is_none() && !t.partitions().is_empty()))
}

/// Everything that was committed under this transactional id. Blocks.
pub(super) fn read(
    config: &ClientConfig,
    account: &Account,
    topic: &str,
    transactional_id: &str,
) -> Result<Vec<Progress>, Failure> {
    let trouble = |error: KafkaError| {
        Failure::retry(format!("the progress in `{topic}` cannot be read: {}", chain(&error)))
    };
    let consumer = |isolation: &str| -> Result<BaseConsumer<Account>, Failure> {
        let mut config = config.clone();
        // The group is never joined: partitions are assigned, and no offset is kept.
        config
            .set("group.id", transactional_id)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation);
        let consumer: BaseConsumer<Account> =
            config.create_with_context(account.clone()).map_err(trouble)?;
        // Nothing is assigned yet; but whoever polls is asked for a token.
        consumer.poll(Duration::ZERO);
        Ok(consumer)
    };
    let (all, committed) = (consumer("read_uncommitted")?, consumer("read_committed")?);
    let metadata = all.fetch_metadata(Some(topic), PATIENCE).map_err(trouble)?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let mut assignment = TopicPartitionList::new();
    let mut ends = Vec::new();
    for partition in (0..).take(partitions) {
        let (first, end) = all.fetch_watermarks(topic, partition, PATIENCE).map_err(trouble)?;
        if end > first {
            assignment
                .add_partition_offset(topic, partition, Offset::Beginning)
                .map_err(trouble)?;
            ends.push((partition, end));
        }
    }
    committed.assign(&assignment).map_err(trouble)?;
    let mut found: Vec<Progress> = Vec::new();
    let deadline = Instant::now() + OTHERS;
    while !ends.is_empty() {
        if Instant::now() > deadline {
            return Err(Failure::retry(format!(
                "somebody's transaction in `{topic}` is open, and may hide ours"
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
            Some(Err(error)) => return Err(trouble(error)),
        }
        let position = committed.position().map_err(trouble)?;
        ends.retain(|(partition, end)| {
            let reached = position.find_partition(topic, *partition).map(|p| p.offset());
            !matches!(reached, Some(Offset::Offset(at)) if at >= *end)
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_back() {
        let tenant = TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap();
        let day = Day::parse("2026-11-22").unwrap();
        let mut digest = [0; 32];
        digest.iter_mut().zip(1..).for_each(|(byte, n)| *byte = n);
        let progress = Progress {
            tenant,
            checkpoint: "c".into(),
            seq: 412,
            sent: SentDays::new([day], Some((day, digest))),
        };
        let (key, value) = (key("id", tenant), value(&progress));
        assert_eq!(parse(key.as_bytes(), &value, "id"), Some(progress));
        assert_eq!(parse(key.as_bytes(), &value, "other"), None);
        assert_eq!(parse(key.as_bytes(), b"{}", "id"), None);
    }
}
