//! A producer and what it reports.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientContext, Message,
    client::{Client, OAuthToken},
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{DeliveryResult, ProducerContext, ThreadedProducer},
};
use tokio::{sync::Notify, time::timeout};

use super::account::Account;
use crate::sink::{Failure, chain};

pub(super) type Producer = ThreadedProducer<Reports>;

/// What stands for a record that is not of the batch.
pub(super) const PROGRESS: usize = usize::MAX;

/// The delivery reports of one batch at a time, and what librdkafka has to say.
pub(super) struct Reports {
    account: Account,
    tally: Mutex<Tally>,
    changed: Notify,
    /// The last error that no record stands for.
    trouble: Mutex<Option<(Option<Code>, String)>>,
}

#[derive(Default)]
struct Tally {
    open: usize,
    failed: Vec<(usize, KafkaError)>,
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.account.token()
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters arrives as an error, too.
        tracing::debug!(severity = ?level, facility, said = message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        let code = error.rdkafka_error_code();
        let mut trouble = lock(&self.trouble);
        // What wants a person is said once; that nobody answers then is said again and again.
        let is_telling = |code: Option<Code>| {
            matches!(code, Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL))
        };
        let known = trouble.as_ref().is_some_and(|(code, _)| is_telling(*code));
        let follows = code == Some(Code::AllBrokersDown) && trouble.is_some();
        if is_telling(code) || !(known || follows) {
            *trouble = Some((code, reason.to_owned()));
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut tally = lock(&self.tally);
        tally.open = tally.open.saturating_sub(1);
        if let Err((error, message)) = result {
            tracing::trace!(topic = message.topic(), %error, "a record was not delivered");
            tally.failed.push((index, error.clone()));
        }
        if tally.open == 0 {
            self.changed.notify_one();
        }
    }
}

impl Reports {
    pub(super) fn new(account: Account) -> Self {
        let (tally, changed, trouble) = Default::default();
        Self { account, tally, changed, trouble }
    }

    /// A new batch begins.
    pub(super) fn begin(&self) {
        *lock(&self.tally) = Tally::default();
    }

    /// One more report is to come.
    pub(super) fn expect_one(&self) {
        lock(&self.tally).open += 1;
    }

    /// The last record was not handed over after all.
    pub(super) fn expect_one_less(&self) {
        let mut tally = lock(&self.tally);
        tally.open = tally.open.saturating_sub(1);
    }

    /// Waits for every report; `false` if they do not come.
    pub(super) async fn all(&self, patience: Duration) -> bool {
        let all = async {
            while lock(&self.tally).open > 0 {
                self.changed.notified().await;
            }
        };
        timeout(patience, all).await.is_ok()
    }

    /// The records that failed, by index, and why.
    pub(super) fn take_failed(&self) -> Vec<(usize, KafkaError)> {
        std::mem::take(&mut lock(&self.tally).failed)
    }

    /// What is the matter with the cluster, if an operation came to nothing.
    pub(super) fn trouble(&self, said: &str) -> Failure {
        match lock(&self.trouble).take() {
            Some((
                Some(
                    Code::Authentication
                    | Code::SaslAuthenticationFailed
                    | Code::UnsupportedSASLMechanism,
                ),
                reason,
            )) => Failure::misconfigured(format!("the cluster refuses the credential: {reason}")),
            Some((Some(Code::SSL), reason)) => {
                Failure::misconfigured(format!("TLS with the cluster failed: {reason}"))
            }
            Some((_, reason)) => Failure::retry(format!("{said}: {reason}")),
            None => Failure::retry(said.to_owned()),
        }
    }
}

/// What an error of a record, or of a call that no transaction is bound to, means.
pub(super) fn failure<C: ClientContext>(client: &Client<C>, error: &KafkaError) -> Failure {
    let said = chain(error);
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            Failure::misconfigured(format!("a topic does not exist: create it ({said})"))
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::InvalidTopic,
        ) => Failure::misconfigured(format!("the cluster refuses: {said}")),
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => Failure::misconfigured(said),
        _ if client.fatal_error().is_some() => Failure::Broken { reason: said },
        _ => Failure::retry(said),
    }
}

/// Errors that some record would meet for ever.
pub(super) fn is_poison(error: &KafkaError) -> bool {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
