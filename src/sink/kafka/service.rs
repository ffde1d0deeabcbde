//! Batches as transactions, or as records of an idempotent producer.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::{
    task::{block_in_place, spawn_blocking, yield_now},
    time::Instant,
};

use super::{
    account::Account,
    config::{Delivery, KafkaPlan},
    producer::{PROGRESS, Producer, Reports, failure, is_poison},
    progress,
};
use crate::{
    format::Formatter,
    model::{Record, SCHEMA},
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Item, Progress, Sink,
        chain, formatter, template::Template,
    },
};

/// How long librdkafka tries by itself before the batch is ours to try again.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// One call of the transaction protocol, and how often a call is repeated that may be.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const CALLS: u32 = 3;
/// How long a goodbye may take. Every batch was awaited, so there is nothing left to flush unless
/// a delivery was cut short.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
const REPORT_POLL_INTERVAL: Duration = Duration::from_millis(10);
const METADATA_TRIES: u32 = 5;

const COMPACT: &str = "create it with cleanup.policy=compact";

struct Kafka {
    producer: Arc<Producer>,
    topic: Template,
    delivery: Delivery,
    progress: Vec<Progress>,
    formatter: Formatter,
}

pub(super) async fn open(plan: &KafkaPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    let common = plan.client_config(&context.name)?;
    let account = Account::new(context).await?;
    let mut max_message = None;
    if let Some(topic) = plan.topic.fixed() {
        block_in_place(|| look_for(&common, &account, Some(topic), "create it"))?;
        if !account.has_tokens() {
            max_message = progress::max_message(&common, topic).await;
        }
    }
    let producer = Arc::new(make_producer(plan, &common, &account, max_message)?);
    let mut found = Vec::new();
    if let Delivery::ExactlyOnce { transactional_id, progress_topic, .. } = &plan.delivery {
        if account.has_tokens() {
            block_in_place(|| look_for(&common, &account, Some(progress_topic), COMPACT))?;
        } else {
            progress::ensure_topic(&common, progress_topic).await?;
        }
        // First whoever was here before is shut out, then it is read what they committed: the
        // other way round their last commit could be missed.
        let fenced = call(&producer, |p| p.init_transactions(CALL_TIMEOUT)).await;
        fenced.map_err(|error| refused_start(&producer, &error))?;
        let (topic, id) = (progress_topic.clone(), transactional_id.clone());
        let read = spawn_blocking(move || progress::read(&common, &account, &topic, &id));
        found = read.await.map_err(|error| Failure::retry(error.to_string()))??;
    }
    Ok(Box::new(Kafka {
        producer,
        topic: plan.topic.clone(),
        delivery: plan.delivery.clone(),
        progress: found,
        formatter: formatter(plan.format, context),
    }))
}

pub(super) async fn probe(plan: &KafkaPlan, context: &Context) -> Result<String, Failure> {
    let mut common = plan.client_config(&context.name)?;
    // A broker that makes topics when they are asked for is to make none of this one's question.
    common.set("allow.auto.create.topics", "false");
    let account = Account::new(context).await?;
    let topic = plan.topic.fixed();
    block_in_place(|| look_for(&common, &account, topic, "create it, if the brokers do not"))?;
    Ok(match topic {
        Some(topic) => format!("the cluster lets us in, and has topic `{topic}`"),
        None => "the cluster lets us in".to_owned(),
    })
}

fn make_producer(
    plan: &KafkaPlan,
    common: &ClientConfig,
    account: &Account,
    max_message: Option<u32>,
) -> Result<Producer, Failure> {
    let mut config = common.clone();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", &plan.compression)
        .set("linger.ms", "5")
        .set("message.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string())
        // The Java clients' partitioner, so that a key lands where theirs would.
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.kbytes", "65536")
        .set("topic.metadata.propagation.max.ms", "5000")
        .set("socket.keepalive.enable", "true");
    if let Some(max) = max_message {
        // Then it is here that a record is found too large, and not in a transaction's end.
        config.set("message.max.bytes", max.max(1_000).to_string());
    }
    if let Delivery::ExactlyOnce { transactional_id, timeout, .. } = &plan.delivery {
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .set("message.timeout.ms", MESSAGE_TIMEOUT.min(*timeout).as_millis().to_string());
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
        .create_with_context(Reports::new(account.clone()))
        .map_err(|error| Failure::misconfigured(chain(&error)))
}

/// Looks whether the cluster answers, and has the topic, if it is one and the same for all records.
/// Blocks.
fn look_for(
    common: &ClientConfig,
    account: &Account,
    topic: Option<&str>,
    remedy: &str,
) -> Result<(), Failure> {
    let mut config = common.clone();
    config.set_log_level(RDKafkaLogLevel::Warning);
    let client: BaseProducer<Reports> = config
        .create_with_context(Reports::new(account.clone()))
        .map_err(|error| Failure::misconfigured(chain(&error)))?;
    // Whoever polls is asked for a token.
    client.poll(Duration::ZERO);
    let mut tries = 0;
    let metadata = loop {
        match client.client().fetch_metadata(topic, METADATA_TIMEOUT) {
            Ok(metadata) => break metadata,
            Err(error) => {
                tries += 1;
                // Its words are told to whoever polls, and may be a moment behind.
                client.poll(Duration::from_millis(500));
                let said = format!("the cluster does not answer: {}", chain(&error));
                let trouble = client.context().trouble(&said);
                if tries == METADATA_TRIES || matches!(trouble, Failure::Misconfigured { .. }) {
                    return Err(trouble);
                }
            }
        }
    };
    let Some(topic) = topic else { return Ok(()) };
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found.and_then(rdkafka::metadata::MetadataTopic::error).map(Code::from) {
        None => Ok(()),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            Err(Failure::misconfigured(format!("topic `{topic}` does not exist: {remedy}")))
        }
        Some(Code::LeaderNotAvailable) => {
            Err(Failure::retry(format!("topic `{topic}` has no leader yet")))
        }
        Some(code) => {
            Err(Failure::misconfigured(format!("the cluster refuses topic `{topic}`: {code}")))
        }
    }
}

impl Sink for Kafka {
    /// Before the payload stands the topic, if it depends on the record, a NUL, and the key:
    /// `tenant/kind/control`. The kind and the tenant are read back from it for the headers.
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        let topic = match self.topic.fixed() {
            Some(_) => String::new(),
            None => self.topic.fill(record, is_topic_char).map_err(EncodeError)?,
        };
        batch.push(record, |out| {
            let key = format!(
                "{topic}\0{}/{}/{}",
                record.tenant.id,
                record.kind().as_str(),
                record.control_id()
            );
            out.extend_from_slice(key.as_bytes());
            let split = out.len();
            self.formatter.write(record, out);
            Ok(split)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            match self.delivery.clone() {
                Delivery::AtLeastOnce => self.deliver_plainly(batch).await,
                Delivery::ExactlyOnce { transactional_id, progress_topic, .. } => {
                    self.deliver_in_transaction(batch, &transactional_id, &progress_topic).await
                }
            }
        })
    }

    fn progress(&self) -> &[Progress] {
        &self.progress
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // A producer that is dropped throws its queue away.
            let flushed = block_in_place(|| self.producer.flush(FLUSH_TIMEOUT));
            if let Err(error) = flushed {
                tracing::warn!(%error, "the producer's last records were not confirmed; they will be sent again");
            }
        })
    }
}

impl Kafka {
    async fn deliver_plainly(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        self.producer.context().begin();
        let refused = block_in_place(|| self.send_all(batch))?;
        if !self.producer.context().all(MESSAGE_TIMEOUT * 2).await {
            return Err(Failure::Broken { reason: "delivery reports are missing".to_owned() });
        }
        let failed = self.producer.context().take_failed();
        if failed.is_empty() && refused.is_empty() {
            return Ok(Acknowledgement::received());
        }
        if let Some((_, worst)) = failed.iter().find(|(_, error)| !is_poison(error)) {
            return Err(self.failure(worst));
        }
        match failed.first() {
            None => Err(Failure::Poison { rejected: refused, rest_delivered: true }),
            // The broker judges what librdkafka packed together as one: find out which it was.
            Some((_, error)) => {
                let lost = |index: usize| {
                    failed.iter().any(|(f, _)| *f == index)
                        || refused.iter().any(|(r, _)| *r == index)
                };
                let arrived = (0..batch.len()).filter(|index| !lost(*index)).collect();
                Err(Failure::TooLarge { reason: chain(error), arrived })
            }
        }
    }

    async fn deliver_in_transaction(
        &mut self,
        batch: &Batch,
        transactional_id: &str,
        progress_topic: &str,
    ) -> Result<Acknowledgement, Failure> {
        self.producer.context().begin();
        self.producer.begin_transaction().map_err(|error| broken(&error))?;
        let sent = block_in_place(|| {
            let refused = self.send_all(batch)?;
            for progress in batch.progress() {
                self.send_progress(progress, transactional_id, progress_topic)?;
            }
            Ok::<_, Failure>(refused)
        });
        let failure = match sent {
            Ok(refused) if refused.is_empty() => {
                self.settled().await;
                match call(&self.producer, |p| p.commit_transaction(CALL_TIMEOUT)).await {
                    Ok(()) => return Ok(Acknowledgement::received()),
                    Err(error) => match self.ended_badly(&error) {
                        Ending::Abort(failure) => failure,
                        Ending::Renew(failure) => return Err(failure),
                    },
                }
            }
            // Without these the rest goes into a transaction of its own.
            Ok(refused) => Failure::Poison { rejected: refused, rest_delivered: false },
            Err(failure) => failure,
        };
        // Nobody sees what was sent so far.
        let aborted = call(&self.producer, |p| p.abort_transaction(CALL_TIMEOUT)).await;
        aborted.map_err(|error| broken(&error))?;
        Err(failure)
    }

    /// Waits for the reports of a transaction. Its commit would too, but looks for them only ten
    /// times a second.
    async fn settled(&self) {
        self.producer.context().all(MESSAGE_TIMEOUT).await;
        // A report counts as on its way until a moment after it was given.
        let until = Instant::now() + REPORT_POLL_INTERVAL;
        while self.producer.in_flight_count() > 0 && Instant::now() < until {
            yield_now().await;
        }
    }

    /// What becomes of a transaction whose commit failed.
    fn ended_badly(&self, error: &KafkaError) -> Ending {
        let failed = self.producer.context().take_failed();
        let first = failed.first().map(|(_, error)| error);
        if is_fenced(error) {
            return Ending::Renew(fenced(error));
        }
        match error {
            KafkaError::Transaction(cause) if cause.txn_requires_abort() => {
                Ending::Abort(match first {
                    Some(error) if is_poison(error) => {
                        Failure::TooLarge { reason: chain(error), arrived: Vec::new() }
                    }
                    Some(error) => self.failure(error),
                    None => Failure::retry(chain(error)),
                })
            }
            // Whether it was committed, only a new producer can find out.
            _ => Ending::Renew(broken(error)),
        }
    }

    /// Hands every record to librdkafka. Gives those that it will not take.
    fn send_all(&self, batch: &Batch) -> Result<Vec<(usize, String)>, Failure> {
        let mut refused = Vec::new();
        for (index, item) in batch.items().iter().enumerate() {
            match self.send(batch, item, index) {
                Ok(()) => {}
                Err(error) if is_poison(&error) => refused.push((index, chain(&error))),
                Err(error) => return Err(self.failure(&error)),
            }
        }
        Ok(refused)
    }

    fn send(&self, batch: &Batch, item: &Item, index: usize) -> KafkaResult<()> {
        let private = batch.key(item);
        let end = private.iter().position(|b| *b == 0).unwrap_or(0);
        let (topic, key) =
            (std::str::from_utf8(&private[..end]).unwrap_or_default(), &private[end + 1..]);
        let topic = self.topic.fixed().unwrap_or(topic);
        let event_id = item.event_id.hex();
        let mut parts = key.splitn(3, |b| *b == b'/');
        let (tenant, kind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: "event_id", value: Some(&event_id[..]) })
            .insert(Header { key: "kind", value: Some(kind) })
            .insert(Header { key: "tenant", value: Some(tenant) })
            .insert(Header { key: "schema", value: Some(SCHEMA.as_bytes()) });
        let record = BaseRecord::with_opaque_to(topic, index)
            .key(key)
            .payload(batch.payload(item))
            .headers(headers);
        self.hand_over(record)
    }

    fn send_progress(
        &self,
        progress: &Progress,
        transactional_id: &str,
        topic: &str,
    ) -> Result<(), Failure> {
        let key = progress::key(transactional_id, progress.tenant);
        let value = progress::value(progress);
        let record =
            BaseRecord::with_opaque_to(topic, PROGRESS).key(key.as_bytes()).payload(&value[..]);
        self.hand_over(record).map_err(|error| self.failure(&error))
    }

    /// Hands one record to librdkafka, waiting while its queue is full.
    fn hand_over(&self, mut record: BaseRecord<'_, [u8], [u8], usize>) -> KafkaResult<()> {
        let reports = self.producer.context();
        reports.expect_one();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(5));
                }
                Err((error, _)) => {
                    reports.expect_one_less();
                    return Err(error);
                }
            }
        }
    }

    fn failure(&self, error: &KafkaError) -> Failure {
        failure(self.producer.client(), error)
    }
}

/// How a transaction ends that was not committed.
enum Ending {
    Abort(Failure),
    Renew(Failure),
}

/// Makes a call of the transaction protocol, off the runtime's threads; again, if librdkafka says
/// that it may be.
async fn call(
    producer: &Arc<Producer>,
    call: impl Fn(&Producer) -> KafkaResult<()> + Send + Copy + 'static,
) -> KafkaResult<()> {
    let mut tries = 0;
    loop {
        let producer = Arc::clone(producer);
        let result = spawn_blocking(move || call(&producer)).await;
        tries += 1;
        match result {
            Ok(Err(KafkaError::Transaction(error))) if error.is_retriable() && tries < CALLS => {}
            Ok(result) => return result,
            // The runtime is on its way out.
            Err(_) => return Err(KafkaError::Canceled),
        }
    }
}

fn broken(error: &KafkaError) -> Failure {
    if is_fenced(error) { fenced(error) } else { Failure::Broken { reason: chain(error) } }
}

fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced)
    )
}

fn fenced(error: &KafkaError) -> Failure {
    Failure::misconfigured(format!(
        "another instance uses the same `transactional_id`: stop one of them, or give each its own ({})",
        chain(error)
    ))
}

fn refused_start(producer: &Producer, error: &KafkaError) -> Failure {
    match failure(producer.client(), error) {
        failure @ Failure::Misconfigured { .. } => failure,
        _ => producer.context().trouble(&format!("transactions cannot be begun: {}", chain(error))),
    }
}

pub(super) fn is_topic_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}
