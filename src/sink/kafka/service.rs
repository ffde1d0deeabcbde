//! Sends batches as transactions, or as the records of an idempotent producer.
//!
//! A batch counts as delivered only when its transaction is committed, or when every record has a
//! delivery report. Start reading at [`open`] and [`Kafka::deliver_in_transaction`].

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _},
};
use tokio::{
    task::{block_in_place, spawn_blocking, yield_now},
    time::Instant,
};

use super::{
    cluster::check_cluster,
    config::{DeliveryMode, KafkaPlan},
    fencing::{Fencing, is_fenced},
    oauth::TokenContext,
    producer::{PROGRESS_INDEX, Producer, Reports, failure, is_poison},
    progress,
    properties::{MESSAGE_TIMEOUT, producer_config},
};
use crate::{
    format::Formatter,
    model::{Record, SCHEMA},
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, Destination, EncodeError, Failure, Item,
        Progress, Sink, chain, formatter,
    },
};

/// The time limit for one call of the transaction protocol.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The maximum number of attempts of such a call, if librdkafka permits retries.
const CALL_ATTEMPTS: u32 = 3;
/// The time limit for closing the producer, which only a canceled delivery can make use of.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long librdkafka may count a record as in flight after it has delivered the report.
const IN_FLIGHT_WAIT: Duration = Duration::from_millis(10);

const CREATE_TOPIC: &str = "create the topic";
const CREATE_COMPACTED_TOPIC: &str = "create the topic with cleanup.policy=compact";

struct Kafka {
    producer: Arc<Producer>,
    topic: Destination,
    delivery: DeliveryMode,
    progress: Vec<Progress>,
    fencing: Arc<Fencing>,
    formatter: Formatter,
}

/// What to do about a transaction that was not committed.
enum CommitFailure {
    /// Abort it; the producer remains usable.
    Abort(Failure),
    /// Replace the producer.
    Replace(Failure),
}

/// Opens the producer and, for `exactly_once`, fences its predecessor and reads the progress. Fails
/// if the cluster cannot be reached, or if a topic does not exist.
pub(super) async fn open(plan: &KafkaPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    let common = plan.client_config(&context.name)?;
    let tokens = TokenContext::new(context).await?;

    let mut max_message_bytes = None;
    let topic = plan.topic.fixed();
    check_cluster(plan, &common, &tokens, topic, CREATE_TOPIC).await?;
    if let Some(topic) = topic.filter(|_| !tokens.has_tokens()) {
        max_message_bytes = progress::max_message_bytes(&common, topic).await;
    }

    let producer = Arc::new(make_producer(plan, &common, &tokens, max_message_bytes)?);
    let mut found = Vec::new();
    if let DeliveryMode::ExactlyOnce { transactional_id, progress_topic, .. } = &plan.delivery {
        if tokens.has_tokens() {
            let topic = Some(progress_topic.as_str());
            check_cluster(plan, &common, &tokens, topic, CREATE_COMPACTED_TOPIC).await?;
        } else {
            progress::ensure_topic(&common, progress_topic).await?;
        }

        // The previous producer is fenced before its progress is read. In the opposite order, its
        // last commit could be missed.
        let fenced = call(&producer, |p| p.init_transactions(CALL_TIMEOUT)).await;
        fenced.map_err(|error| initialization_failure(&producer, &error))?;
        let (topic, id) = (progress_topic.clone(), transactional_id.clone());
        let read = spawn_blocking(move || progress::read(&common, &tokens, &topic, &id));
        found = read.await.map_err(|error| Failure::retry(error.to_string()))??;
    }

    Ok(Box::new(Kafka {
        producer,
        topic: plan.topic.clone(),
        delivery: plan.delivery.clone(),
        progress: found,
        fencing: Arc::clone(&plan.fencing),
        formatter: formatter(plan.format, context),
    }))
}

/// Requests only the metadata of the topic. Fails if the cluster or the topic is not available.
pub(super) async fn probe(plan: &KafkaPlan, context: &Context) -> Result<String, Failure> {
    let mut common = plan.client_config(&context.name)?;
    // A broker may create a topic when its metadata is requested. A probe must not cause that.
    common.set("allow.auto.create.topics", "false");

    let tokens = TokenContext::new(context).await?;
    let topic = plan.topic.fixed();
    let hint = "create the topic, unless the brokers create topics automatically";
    check_cluster(plan, &common, &tokens, topic, hint).await?;
    Ok(match topic {
        Some(topic) => format!("connected to the cluster; topic `{topic}` exists"),
        None => "connected to the cluster".to_owned(),
    })
}

fn make_producer(
    plan: &KafkaPlan,
    common: &ClientConfig,
    tokens: &TokenContext,
    max_message_bytes: Option<u32>,
) -> Result<Producer, Failure> {
    producer_config(plan, common, max_message_bytes)
        .create_with_context(Reports::new(tokens.clone()))
        .map_err(|error| Failure::misconfigured(chain(&error)))
}

impl Sink for Kafka {
    /// The private part of an item is the topic, if it depends on the record, a NUL byte, and the
    /// key `tenant/kind/control`. [`Self::send`] derives the headers from it.
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        let topic = match self.topic.fixed() {
            Some(_) => String::new(),
            None => self.topic.of_record(record)?,
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
                DeliveryMode::AtLeastOnce => self.deliver_idempotently(batch).await,
                DeliveryMode::ExactlyOnce { transactional_id, progress_topic, .. } => {
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
            // A producer that is dropped discards its queue.
            let flushed = block_in_place(|| self.producer.flush(FLUSH_TIMEOUT));
            if let Err(error) = flushed {
                tracing::warn!(%error, "the last records were not acknowledged and will be sent again");
            }
        })
    }
}

impl Kafka {
    async fn deliver_idempotently(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        self.producer.context().begin();
        let rejected = block_in_place(|| self.send_all(batch))?;
        if !self.producer.context().wait_for_all(MESSAGE_TIMEOUT * 2).await {
            return Err(Failure::Broken { reason: "delivery reports are missing".to_owned() });
        }

        let failed = self.producer.context().take_failed();
        if failed.is_empty() && rejected.is_empty() {
            return Ok(Acknowledgement::received());
        }
        if let Some((_, worst)) = failed.iter().find(|(_, error)| !is_poison(error)) {
            return Err(self.failure(worst));
        }

        match failed.first() {
            None => Err(Failure::Poison { rejected, rest_delivered: true }),
            // The broker accepts or rejects the records of one message set together. Only smaller
            // batches show which of them it rejects.
            Some((_, error)) => {
                let lost = |index: usize| {
                    failed.iter().any(|(f, _)| *f == index)
                        || rejected.iter().any(|(r, _)| *r == index)
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
        self.producer.begin_transaction().map_err(|error| self.fencing.failure(&error))?;
        let sent = block_in_place(|| {
            let rejected = self.send_all(batch)?;
            for progress in batch.progress() {
                self.send_progress(progress, transactional_id, progress_topic)?;
            }
            Ok::<_, Failure>(rejected)
        });

        let failure = match sent {
            Ok(rejected) if rejected.is_empty() => {
                self.wait_for_reports().await;
                match call(&self.producer, |p| p.commit_transaction(CALL_TIMEOUT)).await {
                    Ok(()) => return Ok(Acknowledgement::received()),
                    Err(error) => match self.commit_failure(&error) {
                        CommitFailure::Abort(failure) => failure,
                        CommitFailure::Replace(failure) => return Err(failure),
                    },
                }
            }
            // The other records are sent again in a transaction without the rejected ones.
            Ok(rejected) => Failure::Poison { rejected, rest_delivered: false },
            Err(failure) => failure,
        };

        // A `read_committed` consumer never receives the records of an aborted transaction.
        let aborted = call(&self.producer, |p| p.abort_transaction(CALL_TIMEOUT)).await;
        aborted.map_err(|error| self.fencing.failure(&error))?;
        Err(failure)
    }

    /// Waits for the delivery reports of a transaction. Its commit waits for them too, but checks
    /// only ten times per second.
    async fn wait_for_reports(&self) {
        self.producer.context().wait_for_all(MESSAGE_TIMEOUT).await;

        // librdkafka counts a record as in flight until shortly after it has delivered the report.
        let until = Instant::now() + IN_FLIGHT_WAIT;
        while self.producer.in_flight_count() > 0 && Instant::now() < until {
            yield_now().await;
        }
    }

    /// What to do about a transaction whose commit failed.
    fn commit_failure(&self, error: &KafkaError) -> CommitFailure {
        let failed = self.producer.context().take_failed();
        let first = failed.first().map(|(_, error)| error);

        match error {
            KafkaError::Transaction(cause) if cause.txn_requires_abort() && !is_fenced(error) => {
                CommitFailure::Abort(match first {
                    Some(error) if is_poison(error) => {
                        Failure::TooLarge { reason: chain(error), arrived: Vec::new() }
                    }
                    Some(error) => self.failure(error),
                    None => Failure::retry(chain(error)),
                })
            }
            // The transaction may have been committed; only a new producer can determine this.
            _ => CommitFailure::Replace(self.fencing.failure(error)),
        }
    }

    /// Passes every record to librdkafka. Returns the index of each record that librdkafka rejects,
    /// with the reason.
    fn send_all(&self, batch: &Batch) -> Result<Vec<(usize, String)>, Failure> {
        let mut rejected = Vec::new();
        for (index, item) in batch.items().iter().enumerate() {
            match self.send(batch, item, index) {
                Ok(()) => {}
                Err(error) if is_poison(&error) => rejected.push((index, chain(&error))),
                Err(error) => return Err(self.failure(&error)),
            }
        }
        Ok(rejected)
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
        self.enqueue(record)
    }

    fn send_progress(
        &self,
        progress: &Progress,
        transactional_id: &str,
        topic: &str,
    ) -> Result<(), Failure> {
        let key = progress::key(transactional_id, progress.tenant);
        let value = progress::value(progress);
        let record = BaseRecord::with_opaque_to(topic, PROGRESS_INDEX)
            .key(key.as_bytes())
            .payload(&value[..]);
        self.enqueue(record).map_err(|error| self.failure(&error))
    }

    /// Puts one record into librdkafka's queue, and waits while the queue is full.
    fn enqueue(&self, mut record: BaseRecord<'_, [u8], [u8], usize>) -> KafkaResult<()> {
        let reports = self.producer.context();
        reports.expect_one();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), returned)) => {
                    record = returned;
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

/// Makes a call of the transaction protocol outside the threads of the runtime, and repeats it if
/// librdkafka permits that.
async fn call(
    producer: &Arc<Producer>,
    call: impl Fn(&Producer) -> KafkaResult<()> + Send + Copy + 'static,
) -> KafkaResult<()> {
    let mut attempts = 0;
    loop {
        let producer = Arc::clone(producer);
        let result = spawn_blocking(move || call(&producer)).await;
        attempts += 1;

        match result {
            Ok(Err(KafkaError::Transaction(error)))
                if error.is_retriable() && attempts < CALL_ATTEMPTS => {}
            Ok(result) => return result,
            // The runtime is shutting down.
            Err(_) => return Err(KafkaError::Canceled),
        }
    }
}

/// The failure for an error of `init_transactions`.
fn initialization_failure(producer: &Producer, error: &KafkaError) -> Failure {
    let failure = failure(producer.client(), error);
    if matches!(failure, Failure::Misconfigured { .. }) {
        return failure;
    }
    let message = format!("cannot initialize transactions: {}", chain(error));
    producer.context().failure_of(&message)
}
