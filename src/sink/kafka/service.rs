//! Sends batches as transactions, or as the records of an idempotent producer.
//!
//! A batch counts as delivered only when its transaction is committed, or when every record has a
//! delivery report. Start reading at [`Kafka::deliver_in_transaction`].

use std::{collections::HashSet, sync::Arc, time::Duration};

use rdkafka::{
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _},
};
use tokio::{
    task::{block_in_place, yield_now},
    time::Instant,
};

use super::{
    config::{DeliveryMode, KafkaPlan},
    fencing::{Fencing, is_fenced},
    producer::{PROGRESS_INDEX, Producer, failure, is_poison},
    producer_config::MESSAGE_TIMEOUT,
    progress,
    topics::{self, KnownTopics},
    transactions::{self, CALL_TIMEOUT, call},
};
use crate::{
    format::Formatter,
    model::{Record, SCHEMA},
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, Destination, EncodeError, Failure, Item,
        Progress, Refusal, Sink, TargetName, chain, formatter, refusal::RefusedRecord,
    },
};

/// The time limit for closing the producer, which only a canceled delivery can make use of.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long librdkafka may count a record as in flight after it has delivered the report.
const IN_FLIGHT_WAIT: Duration = Duration::from_millis(10);

/// The open sink.
pub(super) struct Kafka {
    producer: Arc<Producer>,
    topic: Destination,
    delivery: DeliveryMode,
    progress: Vec<Progress>,
    fencing: Arc<Fencing>,
    formatter: Formatter,
    topics: KnownTopics,
}

/// A record that was not delivered: its index in the batch, and the error.
type FailedRecord = (usize, KafkaError);

/// What to do about a transaction that was not committed.
enum CommitFailure {
    /// Abort it; the producer remains usable.
    Abort(Failure),
    /// Replace the producer.
    Replace(Failure),
}

impl Sink for Kafka {
    /// The key of an item is that of the record, `tenant/kind/control`.
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        let topic = match self.topic.fixed() {
            Some(_) => None,
            None => Some(self.topic.of_record(record)?),
        };

        batch.push_to(record, topic.as_deref(), |out| {
            let (tenant, kind) = (record.tenant.id, record.kind().as_str());
            let key = format!("{tenant}/{kind}/{}", record.control_id());
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
            self.topics.check(&self.producer, batch).await?;
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
    /// A sink with this producer, which is initialized. `progress` is that of the cluster.
    pub(super) fn new(
        plan: &KafkaPlan,
        context: &Context,
        producer: Arc<Producer>,
        progress: Vec<Progress>,
    ) -> Self {
        Self {
            producer,
            progress,
            topic: plan.topic.clone(),
            delivery: plan.delivery.clone(),
            fencing: Arc::clone(&plan.fencing),
            formatter: formatter(plan.format, context),
            topics: KnownTopics::default(),
        }
    }

    async fn deliver_idempotently(&mut self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        self.producer.context().begin();
        let not_sent = block_in_place(|| self.send_all(batch))?;
        if !self.producer.context().wait_for_all(MESSAGE_TIMEOUT * 2).await {
            return Err(Failure::Broken { reason: "delivery reports are missing".to_owned() });
        }

        let failed = self.producer.context().take_failed();
        if failed.is_empty() && not_sent.is_empty() {
            return Ok(Acknowledgement::received());
        }
        let lost: HashSet<usize> =
            not_sent.iter().chain(&failed).map(|(index, _)| *index).collect();
        let arrived: Vec<usize> = (0..batch.len()).filter(|index| !lost.contains(index)).collect();

        let other = failed.iter().find(|(_, error)| !is_poison(error) && !is_refusal(error));
        let rest = other.map(|(_, worst)| self.failure(worst));
        let refused = self.refused(not_sent.iter().chain(&failed));
        if !refused.is_empty() {
            return Err(self.refusal(batch, refused, arrived, rest));
        }
        if let Some(failure) = rest {
            return Err(failure);
        }

        match failed.first() {
            None => Err(Failure::Poison { rejected: reasons(&not_sent), rest_delivered: true }),
            // The broker accepts or rejects the records of one message set together. Only smaller
            // batches show which of them it rejects.
            Some((_, error)) => Err(Failure::TooLarge { reason: rejection(error), arrived }),
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
            let not_sent = self.send_all(batch)?;
            for progress in batch.progress() {
                self.send_progress(progress, transactional_id, progress_topic)?;
            }
            Ok::<_, Failure>(not_sent)
        });

        let failure = match sent {
            Ok(not_sent) if not_sent.is_empty() => {
                self.wait_for_reports().await?;
                match call(&self.producer, |p| p.commit_transaction(CALL_TIMEOUT)).await {
                    Ok(()) => return Ok(Acknowledgement::received()),
                    Err(error) => match self.commit_failure(batch, &error) {
                        CommitFailure::Abort(failure) => failure,
                        CommitFailure::Replace(failure) => return Err(failure),
                    },
                }
            }
            Ok(not_sent) => self.failure_before_commit(batch, &not_sent),
            Err(failure) => failure,
        };

        // A `read_committed` consumer never receives the records of an aborted transaction.
        let aborted = call(&self.producer, |p| p.abort_transaction(CALL_TIMEOUT)).await;
        aborted.map_err(|error| self.fencing.failure(&error))?;
        Err(failure)
    }

    /// Waits for the delivery reports of a transaction. Its commit waits for them too, but checks
    /// only ten times per second. Fails if the brokers do not support transactions: nothing has
    /// been sent, and librdkafka would wait until the time limit of the records.
    async fn wait_for_reports(&self) -> Result<(), Failure> {
        let reports = self.producer.context();
        tokio::select! {
            _ = reports.wait_for_all(MESSAGE_TIMEOUT) => {}
            reason = reports.transactions_absent() => {
                return Err(transactions::unsupported(&reason));
            }
        }

        // librdkafka counts a record as in flight until shortly after it has delivered the report.
        let until = Instant::now() + IN_FLIGHT_WAIT;
        while self.producer.in_flight_count() > 0 && Instant::now() < until {
            yield_now().await;
        }
        Ok(())
    }

    /// The failure of a transaction with records that librdkafka has not accepted. The other
    /// records are sent again in a transaction without these ones.
    fn failure_before_commit(&mut self, batch: &Batch, not_sent: &[FailedRecord]) -> Failure {
        let refused = self.refused(not_sent);
        if refused.is_empty() {
            return Failure::Poison { rejected: reasons(not_sent), rest_delivered: false };
        }
        self.refusal(batch, refused, Vec::new(), None)
    }

    /// What to do about a transaction whose commit failed.
    fn commit_failure(&mut self, batch: &Batch, error: &KafkaError) -> CommitFailure {
        let failed = self.producer.context().take_failed();
        let first = failed.first().map(|(_, error)| error);
        let refused = self.refused(&failed);

        match error {
            KafkaError::Transaction(cause) if cause.txn_requires_abort() && !is_fenced(error) => {
                CommitFailure::Abort(match first {
                    _ if !refused.is_empty() => self.refusal(batch, refused, Vec::new(), None),
                    Some(error) if is_poison(error) => {
                        Failure::TooLarge { reason: rejection(error), arrived: Vec::new() }
                    }
                    Some(error) => self.failure(error),
                    None => Failure::retry(format!(
                        "the cluster did not commit the transaction: {}",
                        chain(error)
                    )),
                })
            }
            // The transaction may have been committed; only a new producer can determine this.
            _ => CommitFailure::Replace(self.fencing.failure(error)),
        }
    }

    /// Passes every record to librdkafka. Returns the records that librdkafka rejects because of
    /// their content or their topic.
    fn send_all(&self, batch: &Batch) -> Result<Vec<FailedRecord>, Failure> {
        let mut not_sent = Vec::new();
        for (index, item) in batch.items().iter().enumerate() {
            match self.send(batch, item, index) {
                Ok(()) => {}
                Err(error) if is_poison(&error) || is_refusal(&error) => {
                    not_sent.push((index, error));
                }
                Err(error) => return Err(self.failure(&error)),
            }
        }
        Ok(not_sent)
    }

    fn send(&self, batch: &Batch, item: &Item, index: usize) -> KafkaResult<()> {
        let own = item.target.as_ref().map(TargetName::as_str);
        let topic = own.or_else(|| self.topic.fixed()).unwrap_or_default();

        let (event_id, tenant) = (item.event_id.hex(), item.tenant.to_string());
        let headers = OwnedHeaders::new_with_capacity(4)
            .insert(Header { key: "event_id", value: Some(&event_id[..]) })
            .insert(Header { key: "kind", value: Some(item.kind.as_str().as_bytes()) })
            .insert(Header { key: "tenant", value: Some(tenant.as_bytes()) })
            .insert(Header { key: "schema", value: Some(SCHEMA.as_bytes()) });

        let record = BaseRecord::with_opaque_to(topic, index)
            .key(batch.key(item))
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

    /// The records whose topic the cluster refuses.
    fn refused<'e>(
        &self,
        failed: impl IntoIterator<Item = &'e FailedRecord>,
    ) -> Vec<RefusedRecord> {
        let record = |(index, error): &FailedRecord| {
            let reason = match self.topic.fixed() {
                Some(topic) => format!("the cluster refused the topic `{topic}`: {}", chain(error)),
                None => format!("the cluster refused the topic: {}", chain(error)),
            };
            let hint = topics::hint(error.rdkafka_error_code());
            RefusedRecord { index: *index, reason, hint }
        };
        failed.into_iter().filter(|(_, error)| is_refusal(error)).map(record).collect()
    }

    /// The failure of a batch with records whose topic the cluster refuses.
    fn refusal(
        &mut self,
        batch: &Batch,
        refused: Vec<RefusedRecord>,
        arrived: Vec<usize>,
        rest: Option<Failure>,
    ) -> Failure {
        let failure = Refusal::of_records("topic", batch.items(), refused, arrived, rest);
        if let Failure::Refused(refusal) = &failure {
            self.topics.forget(&refusal.targets);
        }
        failure
    }

    fn failure(&self, error: &KafkaError) -> Failure {
        failure(self.producer.client(), error)
    }
}

/// Whether the error of a record is about its topic.
fn is_refusal(error: &KafkaError) -> bool {
    topics::refuses_topic(error.rdkafka_error_code())
}

/// The records that are rejected because of their content, with the reasons.
fn reasons(rejected: &[FailedRecord]) -> Vec<(usize, String)> {
    rejected.iter().map(|(index, error)| (*index, rejection(error))).collect()
}

/// The message about a record that the cluster rejects.
fn rejection(error: &KafkaError) -> String {
    format!("the cluster rejected the record: {}", chain(error))
}
