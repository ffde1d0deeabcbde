//! Checks that the cluster responds, before records are sent, and explains why it does not. Only
//! metadata is requested. Start reading at [`check_cluster`].

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    error::RDKafkaErrorCode as Code,
    metadata::MetadataTopic,
    producer::{BaseProducer, Producer as _},
};
use tokio::task::block_in_place;

use super::{
    config::KafkaPlan,
    oauth::TokenContext,
    plain_text::check_brokers,
    producer::{Reports, setup_failure},
};
use crate::sink::{Failure, chain};

const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
const METADATA_ATTEMPTS: u32 = 5;

/// Checks that the cluster responds, that a credential may be sent to all its brokers and, if the
/// topic does not depend on the record, that the topic exists. `hint` is shown if it does not.
pub(super) async fn check_cluster(
    plan: &KafkaPlan,
    common: &ClientConfig,
    tokens: &TokenContext,
    topic: Option<&str>,
    hint: &'static str,
) -> Result<(), Failure> {
    let mut config = common.clone();
    config.set_log_level(plan.properties.log_level());
    let error = match block_in_place(|| error_of_topic(plan, &config, tokens, topic)) {
        Ok(error) => error,
        Err(failure) => return Err(explained(plan, failure).await),
    };

    let Some(topic) = topic else { return Ok(()) };
    match error {
        None => Ok(()),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Err(Failure::Misconfigured {
            reason: format!("topic `{topic}` does not exist"),
            hint: Some(hint.into()),
        }),
        Some(Code::LeaderNotAvailable) => {
            Err(Failure::retry(format!("topic `{topic}` has no leader yet")))
        }
        Some(code) => {
            Err(Failure::misconfigured(format!("the cluster rejects topic `{topic}`: {code}")))
        }
    }
}

/// The fault that the brokers expect TLS, if the first one does; otherwise `failure`. The cluster
/// has not responded in plain text. A broker without TLS rejects the beginning of a TLS handshake
/// as an invalid request.
async fn explained(plan: &KafkaPlan, failure: Failure) -> Failure {
    let is_transient = matches!(failure, Failure::Retry { .. });
    let broker = plan.first_plain_broker().filter(|_| is_transient);
    failure.unless_tls_expected("cannot connect to the cluster", broker).await
}

/// The error of a topic in the metadata of the cluster; `None` if the topic exists or none is
/// given. Fails if the cluster does not respond, or if it names a broker to which no credential may
/// be sent. Blocks.
fn error_of_topic(
    plan: &KafkaPlan,
    config: &ClientConfig,
    tokens: &TokenContext,
    topic: Option<&str>,
) -> Result<Option<Code>, Failure> {
    let client: BaseProducer<Reports> = config
        .create_with_context(Reports::new(tokens.clone()))
        .map_err(|error| setup_failure(&error))?;
    // librdkafka requests a token only while the client is polled.
    client.poll(Duration::ZERO);

    let mut attempts = 0;
    let metadata = loop {
        match client.client().fetch_metadata(topic, METADATA_TIMEOUT) {
            Ok(metadata) => break metadata,
            Err(error) => {
                attempts += 1;
                // The cause is reported to the context only while the client is polled, and may
                // arrive a little later than this error.
                client.poll(Duration::from_millis(500));
                let message = format!("the cluster does not respond: {}", chain(&error));
                let failure = client.context().failure_of(&message);
                let is_final = matches!(failure, Failure::Misconfigured { .. });
                if attempts == METADATA_ATTEMPTS || is_final {
                    return Err(failure);
                }
            }
        }
    };

    if plan.has_plain_credential() {
        check_brokers(&metadata)?;
    }

    let Some(topic) = topic else { return Ok(None) };
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    Ok(found.and_then(MetadataTopic::error).map(Code::from))
}
