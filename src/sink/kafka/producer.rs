//! The producer, the delivery reports of its records, and the meaning of librdkafka's errors. A
//! record counts as delivered only after a successful report, because librdkafka queues records
//! before it sends them. Start reading at [`Reports`].

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

use super::oauth::{TokenContext, log_statistics};
use crate::{
    foreign_text::ForeignText,
    net::{TlsFault, UnreachableCause},
    sink::{Failure, chain},
};

/// A producer whose callbacks run on a separate thread.
pub(super) type Producer = ThreadedProducer<Reports>;

/// The index under which a progress record is sent. No record of a batch has this index.
pub(super) const PROGRESS_INDEX: usize = usize::MAX;

/// The maximum number of characters of a description of librdkafka, which may quote a broker.
const MAX_DESCRIPTION_CHARS: usize = 600;

/// The delivery reports of one batch at a time, and the last error of the client itself.
pub(super) struct Reports {
    tokens: TokenContext,
    pending: Mutex<PendingReports>,
    changed: Notify,
    /// The last error that does not belong to a record, with librdkafka's description.
    client_error: Mutex<Option<(Option<Code>, String)>>,
}

#[derive(Default)]
struct PendingReports {
    /// The number of records that have no report yet.
    open: usize,
    /// Records that failed, by their index in the batch.
    failed: Vec<(usize, KafkaError)>,
}

impl Reports {
    /// Empty reports. `tokens` answers librdkafka's requests for tokens.
    pub(super) fn new(tokens: TokenContext) -> Self {
        let (pending, changed, client_error) = Default::default();
        Self { tokens, pending, changed, client_error }
    }

    /// Discards the reports of the previous batch.
    pub(super) fn begin(&self) {
        *lock(&self.pending) = PendingReports::default();
    }

    /// Counts a record that is about to be sent.
    pub(super) fn expect_one(&self) {
        lock(&self.pending).open += 1;
    }

    /// Undoes [`Self::expect_one`] for a record that librdkafka did not accept.
    pub(super) fn expect_one_less(&self) {
        let mut pending = lock(&self.pending);
        pending.open = pending.open.saturating_sub(1);
    }

    /// Waits for all expected reports. Returns `false` if some are missing after `limit`.
    pub(super) async fn wait_for_all(&self, limit: Duration) -> bool {
        let all = async {
            while lock(&self.pending).open > 0 {
                self.changed.notified().await;
            }
        };
        timeout(limit, all).await.is_ok()
    }

    /// The records that failed, by their index in the batch, with their errors.
    pub(super) fn take_failed(&self) -> Vec<(usize, KafkaError)> {
        std::mem::take(&mut lock(&self.pending).failed)
    }

    /// The failure of an operation that `message` describes, with the last error of the client as
    /// its cause, because the operation itself often reports only a timeout.
    pub(super) fn failure_of(&self, message: &str) -> Failure {
        // The error is kept, because librdkafka reports a repeated cause only once.
        match lock(&self.client_error).clone() {
            Some((
                Some(
                    Code::Authentication
                    | Code::SaslAuthenticationFailed
                    | Code::UnsupportedSASLMechanism,
                ),
                reason,
            )) => Failure::misconfigured(format!("the cluster rejects the credential: {reason}")),
            Some((Some(Code::SSL), reason)) => match tls_fault(&reason) {
                Some(fault) => Failure::tls("TLS with the cluster failed", &fault),
                None => Failure::misconfigured(format!("TLS with the cluster failed: {reason}")),
            },
            Some((_, reason)) if reason.contains("connecting to a SSL listener") => {
                Failure::tls(message, &TlsFault::TlsExpected)
            }
            Some((_, reason)) => Failure::Retry {
                reason: format!("{message}: {reason}"),
                after: None,
                hint: UnreachableCause::in_message(&reason).map(|cause| cause.remedy().into()),
            },
            None => Failure::retry(message.to_owned()),
        }
    }
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.tokens.token()
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Important log messages are also reported as errors.
        tracing::debug!(severity = ?level, facility, detail = message, "librdkafka");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        log_statistics(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = ForeignText::new(reason).for_message(MAX_DESCRIPTION_CHARS);
        tracing::debug!(%error, reason, "librdkafka");

        // librdkafka reports the cause once, and then repeatedly that no broker can be reached. The
        // cause must not be replaced by these consequences.
        let is_cause = |code: Option<Code>| {
            matches!(code, Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL))
        };
        let code = error.rdkafka_error_code();
        let mut last = lock(&self.client_error);
        let has_cause = last.as_ref().is_some_and(|(code, _)| is_cause(*code));
        let is_consequence = code == Some(Code::AllBrokersDown) && last.is_some();
        if is_cause(code) || !(has_cause || is_consequence) {
            *last = Some((code, reason));
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut pending = lock(&self.pending);
        pending.open = pending.open.saturating_sub(1);

        if let Err((error, message)) = result {
            tracing::trace!(topic = message.topic(), %error, "a record was not delivered");
            pending.failed.push((index, error.clone()));
        }
        if pending.open == 0 {
            self.changed.notify_one();
        }
    }
}

/// The fault in librdkafka's description of a failed handshake, which OpenSSL reports only as text;
/// `None` if the text is not known.
fn tls_fault(reason: &str) -> Option<TlsFault> {
    let rejected = |reason| TlsFault::ClientCertificateRejected { reason };
    let known = [
        ("PLAINTEXT", TlsFault::PlainText),
        ("wrong version number", TlsFault::PlainText),
        ("certificate has expired", TlsFault::Expired { end: None }),
        ("certificate is not yet valid", TlsFault::NotYetValid { start: None }),
        ("alert certificate required", TlsFault::ClientCertificateRequired),
        ("alert unknown ca", rejected("the server does not trust its issuer")),
        ("alert certificate expired", rejected("it is expired or not valid yet")),
        ("alert bad certificate", rejected("the server does not accept it")),
        ("alert certificate unknown", rejected("the server does not accept it")),
        ("alert handshake failure", TlsFault::HandshakeRejected),
        ("alert protocol version", TlsFault::Outdated),
        ("certificate verify failed", TlsFault::Untrusted),
    ];
    known.into_iter().find(|(text, _)| reason.contains(text)).map(|(_, fault)| fault)
}

/// What the error of a record, or of a call outside a transaction, means for the sink.
pub(super) fn failure<C: ClientContext>(client: &Client<C>, error: &KafkaError) -> Failure {
    let reason = chain(error);
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            Failure::Misconfigured {
                reason: format!("a topic does not exist: {reason}"),
                hint: Some("create the topic".into()),
            }
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::InvalidTopic,
        ) => Failure::misconfigured(format!("the cluster rejects the request: {reason}")),
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
            Failure::misconfigured(reason)
        }
        _ if client.fatal_error().is_some() => Failure::Broken { reason },
        _ => Failure::retry(reason),
    }
}

/// Whether the error is about the record itself, so that sending the record again cannot succeed.
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
    // Nothing that can panic runs while a lock is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts are those of librdkafka 2 with OpenSSL 3.
    #[test]
    fn tls_errors_of_openssl_are_recognized() {
        for (reason, fault) in [
            (
                "ssl://b:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified, verify that ssl.ca.location is correctly configured (after 5ms in state SSL_HANDSHAKE)",
                Some(TlsFault::Untrusted),
            ),
            (
                "ssl://b:9092/bootstrap: SSL handshake failed: error:0A00010B:SSL routines::wrong version number: client SSL authentication might be required (see ssl.key.location and ssl.certificate.location and consult the broker logs for more information)",
                Some(TlsFault::PlainText),
            ),
            (
                "ssl://b:9092/bootstrap: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener? (after 3ms in state SSL_HANDSHAKE)",
                Some(TlsFault::PlainText),
            ),
            (
                "ssl://b:9093/1: SSL error: tlsv13 alert certificate required: SSL alert number 116",
                Some(TlsFault::ClientCertificateRequired),
            ),
            ("ssl://b:9093/1: no further details", None),
        ] {
            assert_eq!(tls_fault(reason), fault, "{reason}");
        }
    }
}
