//! Opens the producer of a sink, and checks its cluster without opening the sink.
//!
//! `test-sink` and `check --online` use a separate transactional ID, so that they check that
//! the brokers support transactions without fencing a running daemon. Start reading at [`open`] and
//! [`probe`]. See decision 0082.

use std::sync::Arc;

use rdkafka::ClientConfig;
use tokio::task::{block_in_place, spawn_blocking};

use super::{
    cluster::check_cluster,
    config::{DeliveryMode, KafkaPlan},
    oauth::TokenContext,
    producer::{Producer, Reports, setup_failure},
    producer_config::producer_config,
    progress,
    properties::LINGER,
    service::Kafka,
    topics,
    transactions::{self, CHECK_LINGER_MS, IdPermission},
};
use crate::sink::{Context, Failure, Sink};

const CREATE_TOPIC: &str = "create the topic";
const CREATE_COMPACTED_TOPIC: &str = "create the topic with cleanup.policy=compact";

const PERMIT_ID: &str = "allow the principal of this sink to use the transactional ID";
const PERMIT_TEST_ID: &str = "allow the principal of this sink to use the transactional ID that ends in `.test`, which a test uses so that it does not fence a running daemon";

/// Opens the producer and, for `exactly_once`, fences its predecessor and reads the progress. Fails
/// if the cluster cannot be reached, or if a topic does not exist.
pub(super) async fn open(plan: &KafkaPlan, context: &Context) -> Result<Box<dyn Sink>, Failure> {
    let common = plan.client_config(&context.name)?;
    let tokens = TokenContext::new(context, &common).await?;
    let producer = open_producer(plan, &common, &tokens).await?;

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
        permitted(transactions::initialize(&producer).await?, PERMIT_ID)?;
        let (topic, id) = (progress_topic.clone(), transactional_id.clone());
        let read = spawn_blocking(move || progress::read(&common, &tokens, &topic, &id));
        let read = read.await;
        found = read.map_err(|error| {
            Failure::retry(format!("reading the progress ended unexpectedly: {error}"))
        })??;
    }
    Ok(Box::new(Kafka::new(plan, context, producer, found)))
}

/// Like [`open`], but without the progress. `plan` is that of [`KafkaPlan::for_test`].
pub(super) async fn open_for_test(
    plan: &KafkaPlan,
    context: &Context,
) -> Result<Box<dyn Sink>, Failure> {
    let common = plan.client_config(&context.name)?;
    let tokens = TokenContext::new(context, &common).await?;
    let producer = open_producer(plan, &common, &tokens).await?;
    if matches!(plan.delivery, DeliveryMode::ExactlyOnce { .. }) {
        permitted(transactions::initialize(&producer).await?, PERMIT_TEST_ID)?;
    }
    Ok(Box::new(Kafka::new(plan, context, producer, Vec::new())))
}

/// Requests metadata and, for `exactly_once`, begins a transaction that is aborted before a record
/// is sent. Fails if the cluster, the topic or transactions are not available.
pub(super) async fn probe(plan: &KafkaPlan, context: &Context) -> Result<String, Failure> {
    let mut common = plan.client_config(&context.name)?;
    // A broker may create a topic when its metadata is requested. A probe must not cause that.
    common.set("allow.auto.create.topics", "false");

    let tokens = TokenContext::new(context, &common).await?;
    let topic = plan.topic.fixed();
    let hint = "create the topic, unless the brokers create topics automatically";
    check_cluster(plan, &common, &tokens, topic, hint).await?;
    let mut found = match topic {
        Some(topic) => format!("connected to the cluster; topic `{topic}` exists"),
        None => "connected to the cluster".to_owned(),
    };

    if let DeliveryMode::ExactlyOnce { progress_topic, .. } = &plan.delivery {
        found += probe_transactions(plan, &common, &tokens, progress_topic).await?;
    }
    Ok(found)
}

/// What is known about transactions, as the end of a sentence. Fails if the brokers do not support
/// them.
async fn probe_transactions(
    plan: &KafkaPlan,
    common: &ClientConfig,
    tokens: &TokenContext,
    progress_topic: &str,
) -> Result<&'static str, Failure> {
    let mut config = producer_config(&plan.for_test(), common, None);
    config.set(LINGER, CHECK_LINGER_MS);
    let producer = Arc::new(create_producer(&config, tokens)?);
    if let IdPermission::Denied(_) = transactions::initialize(&producer).await? {
        return Ok(
            "; transactions were not checked, because the cluster does not permit the transactional ID that ends in `.test`",
        );
    }

    // Only an existing topic can be added to a transaction.
    let topic = match plan.topic.fixed() {
        Some(topic) => topic,
        None if block_in_place(|| topics::exists(&producer, progress_topic))? => progress_topic,
        None => return Ok("; the brokers have a coordinator for transactions"),
    };
    transactions::check(&producer, topic).await?;
    Ok("; the brokers support transactions")
}

/// Checks the cluster and the topic, and creates the producer.
async fn open_producer(
    plan: &KafkaPlan,
    common: &ClientConfig,
    tokens: &TokenContext,
) -> Result<Arc<Producer>, Failure> {
    let mut max_message_bytes = None;
    let topic = plan.topic.fixed();
    check_cluster(plan, common, tokens, topic, CREATE_TOPIC).await?;
    if let Some(topic) = topic.filter(|_| !tokens.has_tokens()) {
        max_message_bytes = progress::max_message_bytes(common, topic).await;
    }

    let config = producer_config(plan, common, max_message_bytes);
    Ok(Arc::new(create_producer(&config, tokens)?))
}

fn create_producer(config: &ClientConfig, tokens: &TokenContext) -> Result<Producer, Failure> {
    let created = config.create_with_context(Reports::new(tokens.clone()));
    created.map_err(|error| setup_failure(&error))
}

/// Fails if the principal may not use the transactional ID.
fn permitted(permission: IdPermission, hint: &'static str) -> Result<(), Failure> {
    match permission {
        IdPermission::Granted => Ok(()),
        IdPermission::Denied(reason) => Err(Failure::Misconfigured {
            reason: format!("the cluster rejects the transactional ID: {reason}"),
            hint: Some(hint.into()),
        }),
    }
}
