//! The topics of the records of a batch, if they depend on the record: those that do not exist or
//! may not be used are found before anything is sent. Otherwise, the records for all other topics
//! would be sent again with every attempt. Start reading at [`KnownTopics::check`]. See decision
//! 0081.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    metadata::MetadataTopic,
    producer::Producer as _,
};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use super::producer::Producer;
use crate::sink::{Batch, Failure, Refusal, RefusedTarget, TargetName, chain};

/// The time limit for one request to the cluster.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// How long brokers that create topics automatically may take.
const CREATION_TIME: Duration = Duration::from_secs(5);
/// The interval at which a missing topic is requested again during that time.
const CREATION_INTERVAL: Duration = Duration::from_millis(500);

/// The topics that are known to exist while a producer is open.
#[derive(Debug, Default)]
pub(super) struct KnownTopics(HashSet<TargetName>);

impl KnownTopics {
    /// Checks the topics of a batch that are not known yet. Fails with `Refused` for those that
    /// cannot be used, and with another failure if the cluster does not respond.
    pub(super) async fn check(
        &mut self,
        producer: &Producer,
        batch: &Batch,
    ) -> Result<(), Failure> {
        let targets = batch.items().iter().filter_map(|item| item.target.as_ref());
        let mut unknown: BTreeSet<TargetName> =
            targets.filter(|name| !self.0.contains(*name)).cloned().collect();
        let until = Instant::now() + CREATION_TIME;

        let mut refusal = Refusal::default();
        while !unknown.is_empty() {
            let mut missing = BTreeSet::new();
            for name in unknown {
                match block_in_place(|| error_of(producer, &name))? {
                    None => {
                        self.0.insert(name);
                    }
                    Some(code) if may_appear(code) && Instant::now() < until => {
                        missing.insert(name);
                    }
                    Some(code) => refusal.add(refused(name, code)),
                }
            }

            unknown = missing;
            if !unknown.is_empty() {
                sleep(CREATION_INTERVAL).await;
            }
        }
        if refusal.targets.is_empty() { Ok(()) } else { Err(Failure::Refused(refusal)) }
    }

    /// Forgets a topic that the cluster has refused in the meantime.
    pub(super) fn forget(&mut self, refused: &[RefusedTarget]) {
        self.0.retain(|name| !refused.iter().any(|target| target.name == *name));
    }
}

/// Whether a topic exists, and may be used. Blocks. Fails if the cluster does not respond.
pub(super) fn exists(producer: &Producer, topic: &str) -> Result<bool, Failure> {
    error_of(producer, &TargetName::new(topic)).map(|error| error.is_none())
}

/// Whether an error of a record or of a topic concerns the topic alone.
pub(super) fn refuses_topic(code: Option<Code>) -> bool {
    matches!(
        code,
        Some(
            Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::TopicAuthorizationFailed
                | Code::InvalidTopic
        )
    )
}

/// What an operator can do about a refused topic.
pub(super) fn hint(code: Option<Code>) -> Option<Cow<'static, str>> {
    match code {
        Some(Code::TopicAuthorizationFailed) => {
            Some("allow the principal of this sink to write to the topic".into())
        }
        Some(Code::InvalidTopic) => None,
        _ => Some("create the topic".into()),
    }
}

fn refused(name: TargetName, code: Code) -> RefusedTarget {
    let problem = match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic => "does not exist".to_owned(),
        Code::LeaderNotAvailable => "has no leader".to_owned(),
        code => format!("cannot be used: {code}"),
    };
    let hint = if code == Code::LeaderNotAvailable { None } else { hint(Some(code)) };
    RefusedTarget { reason: format!("topic `{name}` {problem}"), name, hint }
}

/// Whether a topic with this error may have been created a moment ago.
fn may_appear(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::LeaderNotAvailable)
}

/// The error of a topic in the metadata of the cluster; `None` if the topic exists. Blocks.
fn error_of(producer: &Producer, topic: &TargetName) -> Result<Option<Code>, Failure> {
    let failed = |error: KafkaError| {
        let message = format!("the cluster does not respond: {}", chain(&error));
        producer.context().failure_of(&message)
    };
    let name = topic.as_str();
    let metadata = producer.client().fetch_metadata(Some(name), METADATA_TIMEOUT);
    let metadata = metadata.map_err(failed)?;
    let found = metadata.topics().iter().find(|found| found.name() == name);
    let code = found.and_then(MetadataTopic::error).map(Code::from);

    match code {
        Some(code) if !refuses_topic(Some(code)) && !may_appear(code) => {
            Err(Failure::retry(format!("topic `{name}` cannot be used: {code}")))
        }
        code => Ok(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_topic() {
        for (code, message, has_hint) in [
            (Code::UnknownTopicOrPartition, "topic `a` does not exist", true),
            (Code::LeaderNotAvailable, "topic `a` has no leader", false),
            (Code::TopicAuthorizationFailed, "topic `a` cannot be used: ", true),
        ] {
            let refused = refused(TargetName::new("a"), code);
            assert!(refused.reason.starts_with(message), "{}", refused.reason);
            assert_eq!(refused.hint.is_some(), has_hint, "{code:?}");
        }
    }

    #[test]
    fn only_errors_of_a_topic_refuse_it() {
        for (code, expected) in [
            (Code::UnknownTopic, true),
            (Code::TopicAuthorizationFailed, true),
            (Code::ClusterAuthorizationFailed, false),
            (Code::MessageTimedOut, false),
            (Code::LeaderNotAvailable, false),
        ] {
            assert_eq!(refuses_topic(Some(code)), expected, "{code:?}");
        }
        assert!(!refuses_topic(None));
    }
}
