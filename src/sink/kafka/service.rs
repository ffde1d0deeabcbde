//! The producer.

use std::time::Duration;

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer, future_producer::DeliveryFuture},
};

use super::config::KafkaPlan;
use crate::{
    format::Formatter,
    model::{Record, SCHEMA},
    sink::{Batch, BoxFuture, Context, Failure, Item, Proof, Refusal, Sink, chain, formatter},
};

/// How long librdkafka tries by itself before the batch is ours to try again.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a goodbye may take. Every batch was awaited, so there is nothing left to flush unless
/// a delivery was cut short.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// librdkafka's own log lines, as ours.
#[derive(Clone)]
struct Log;

impl ClientContext for Log {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters arrives as an error of a delivery, too.
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

struct Kafka {
    producer: FutureProducer<Log>,
    topic: String,
    formatter: Formatter,
}

pub(super) fn open(plan: &KafkaPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    let producer = ClientConfig::new()
        .set("bootstrap.servers", &plan.brokers)
        .set("client.id", format!("secure-score-forwarder-{}", context.name))
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "zstd")
        .set("linger.ms", "5")
        .set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string())
        // The Java clients' partitioner, so that a key lands where theirs would.
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.kbytes", "65536")
        .set("topic.metadata.propagation.max.ms", "5000")
        .set("socket.keepalive.enable", "true")
        .set_log_level(RDKafkaLogLevel::Warning)
        .create_with_context(Log)
        .map_err(|error| Failure::misconfigured(chain(&error)))?;
    Ok(Box::new(Kafka {
        producer,
        topic: plan.topic.clone(),
        formatter: formatter(plan.format, context),
    }))
}

impl Sink for Kafka {
    /// Key: `tenant/kind/control`. The payload stands behind it, and the kind and the tenant are
    /// read back from it for the headers.
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        batch.push(record, |out| {
            let key =
                format!("{}/{}/{}", record.tenant.id, record.kind().as_str(), record.control_id());
            out.extend_from_slice(key.as_bytes());
            let split = out.len();
            self.formatter.write(record, out);
            Ok(split)
        })
    }

    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Proof, Failure>> {
        Box::pin(async move {
            let mut reports = Vec::with_capacity(batch.len());
            let mut refused = Vec::new();
            for (index, item) in batch.items().iter().enumerate() {
                match self.send(batch, item).await {
                    Ok(report) => reports.push((index, report)),
                    // Larger than the producer itself will take: this record and no other.
                    Err(error) if is_poison(&error) => refused.push((index, chain(&error))),
                    Err(error) => return Err(self.failure(&error)),
                }
            }
            let (mut arrived, mut worst, mut unwanted) = (Vec::new(), None, None);
            for (index, report) in reports {
                match report.await {
                    Ok(Ok(_)) => arrived.push(index),
                    Ok(Err((error, _))) if is_poison(&error) => unwanted = Some(chain(&error)),
                    Ok(Err((error, _))) => worst = Some(self.failure(&error)),
                    Err(_) => worst = Some(Failure::retry("the producer gave no delivery report")),
                }
            }
            match (worst, unwanted) {
                (Some(failure), _) => Err(failure),
                (None, None) if refused.is_empty() => Ok(Proof::given()),
                (None, None) => Err(Failure::Poison { refused, rest_delivered: true }),
                // The broker judges what librdkafka packed together as one: find out which it was.
                (None, Some(reason)) => Err(Failure::TooLarge { reason, arrived }),
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // A producer that is dropped throws its queue away.
            if let Err(error) = tokio::task::block_in_place(|| self.producer.flush(FLUSH_TIMEOUT)) {
                tracing::warn!(%error, "the producer's last records were not confirmed; they will be sent again");
            }
        })
    }
}

impl Kafka {
    /// Hands one record to librdkafka, waiting while its queue is full.
    async fn send(&self, batch: &Batch, item: &Item) -> Result<DeliveryFuture, KafkaError> {
        let key = batch.key(item);
        let event_id = item.event_id.hex();
        let mut parts = key.splitn(3, |b| *b == b'/');
        let (tenant, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: "event_id", value: Some(&event_id[..]) })
            .insert(Header { key: "kind", value: Some(kind) })
            .insert(Header { key: "tenant", value: Some(tenant) })
            .insert(Header { key: "schema", value: Some(SCHEMA.as_bytes()) });
        let mut record =
            FutureRecord::to(&self.topic).key(key).payload(batch.payload(item)).headers(headers);
        loop {
            match self.producer.send_result(record) {
                Ok(report) => return Ok(report),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    record = back;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn failure(&self, error: &KafkaError) -> Failure {
        let said = chain(error);
        match error.rdkafka_error_code() {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Failure::misconfigured(
                format!("topic `{}` does not exist: create it ({said})", self.topic),
            ),
            Some(
                Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::InvalidTopic,
            ) => Failure::misconfigured(format!(
                "the cluster refuses topic `{}`: {said}",
                self.topic
            )),
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
                Failure::misconfigured(said)
            }
            _ if self.producer.client().fatal_error().is_some() => Failure::Broken { reason: said },
            _ => Failure::retry(said),
        }
    }
}

/// Errors that some record would meet for ever.
fn is_poison(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageSizeTooLarge
                | Code::InvalidMessage
                | Code::InvalidMessageSize
                | Code::InvalidRecord
        )
    )
}
