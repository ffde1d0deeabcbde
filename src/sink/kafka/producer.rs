//! The producer, the delivery reports of its records, and the meaning of librdkafka's errors. A
//! record counts as delivered only after a successful report, because librdkafka queues records
//! before it sends them. Start reading at [`Reports`].

use std::{
    error::Error,
    future::pending,
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
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{oauth::TokenContext, transaction_support::TransactionSupport};
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

/// Part of every error of OpenSSL in a description of librdkafka.
const OPENSSL: &str = "SSL routines";
/// Precedes the length of a response that librdkafka rejects.
const RESPONSE_SIZE: &str = "Invalid response size ";

/// The delivery reports of one batch at a time, and the last error of the client itself.
pub(super) struct Reports {
    tokens: TokenContext,
    pending: Mutex<PendingReports>,
    changed: Notify,
    /// The last error that does not belong to a record, with librdkafka's description.
    client_error: Mutex<Option<(Option<Code>, String)>>,
    transactions: watch::Sender<TransactionSupport>,
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
        let (pending, changed, client_error, transactions) = Default::default();
        Self { tokens, pending, changed, client_error, transactions }
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

    /// Waits until it is known whether the brokers support transactions, and returns that.
    pub(super) async fn transaction_support(&self) -> TransactionSupport {
        let mut transactions = self.transactions.subscribe();
        loop {
            let support = transactions.borrow_and_update().clone();
            // The sender lives as long as this context.
            if support != TransactionSupport::Unknown || transactions.changed().await.is_err() {
                return support;
            }
        }
    }

    /// Waits until it is known that the brokers do not support transactions, which is never known
    /// of brokers that do. Returns the reason.
    pub(super) async fn transactions_absent(&self) -> String {
        match self.transaction_support().await {
            TransactionSupport::Absent(reason) => reason,
            TransactionSupport::Unknown | TransactionSupport::Confirmed => pending().await,
        }
    }

    /// The failure of an operation that `message` describes, with the last error of the client as
    /// its cause, because the operation itself often reports only a timeout.
    pub(super) fn failure_of(&self, message: &str) -> Failure {
        // The error is kept, because librdkafka reports a repeated cause only once.
        let Some((code, reason)) = lock(&self.client_error).clone() else {
            return Failure::retry(message.to_owned());
        };
        if let Some(fault) = tls_fault(code, &reason) {
            return Failure::tls("TLS with the cluster failed", &fault);
        }

        match code {
            Some(
                Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::UnsupportedSASLMechanism,
            ) => Failure::misconfigured(format!("the cluster rejects the credential: {reason}")),
            Some(Code::SSL) => {
                Failure::misconfigured(format!("TLS with the cluster failed: {reason}"))
            }
            _ if reason.contains("connecting to a SSL listener") => {
                Failure::tls(message, &TlsFault::TlsExpected)
            }
            _ if is_other_protocol(&reason) => Failure::Retry {
                reason: "the response on a port in `brokers` is not one of Kafka".to_owned(),
                after: None,
                hint: Some("set `brokers` to the ports on which the brokers expect clients".into()),
            },
            _ => Failure::Retry {
                reason: format!("{message}: {reason}"),
                after: None,
                hint: UnreachableCause::in_message(&reason).map(|cause| cause.remedy().into()),
            },
        }
    }
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.tokens.token()
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let message = self.tokens.without_secrets(message);
        if let Some(support) = TransactionSupport::of_log(facility, &message) {
            self.transactions.send_replace(support);
        }
        // Important log messages are also reported as errors.
        tracing::debug!(severity = ?level, facility, detail = %message, "librdkafka");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.tokens.log_statistics(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = self.tokens.without_secrets(reason);
        let reason = ForeignText::new(&reason).for_message(MAX_DESCRIPTION_CHARS);
        tracing::debug!(%error, reason, "librdkafka");

        // librdkafka reports the cause once, and then repeatedly that no broker can be reached. The
        // cause must not be replaced by these consequences.
        let is_cause = |code: Option<Code>, reason: &str| {
            let is_named = matches!(
                code,
                Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL)
            );
            is_named || tls_fault(code, reason).is_some()
        };
        let code = error.rdkafka_error_code();
        let mut last = lock(&self.client_error);
        let has_cause = last.as_ref().is_some_and(|(code, reason)| is_cause(*code, reason));
        let is_consequence = code == Some(Code::AllBrokersDown) && last.is_some();
        if is_cause(code, &reason) || !(has_cause || is_consequence) {
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

/// The fault in librdkafka's description of an error, which OpenSSL reports only as text; `None` if
/// the text is not known. With TLS 1.3, a server rejects the client certificate only after the
/// handshake, so the code of the error is that of a lost connection.
fn tls_fault(code: Option<Code>, reason: &str) -> Option<TlsFault> {
    if code != Some(Code::SSL) && !reason.contains(OPENSSL) {
        return None;
    }

    let rejected = |reason| TlsFault::ClientCertificateRejected { reason };
    let known = [
        ("PLAINTEXT", TlsFault::PlainText),
        ("wrong version number", TlsFault::PlainText),
        ("certificate has expired", TlsFault::Expired { end: None }),
        ("certificate is not yet valid", TlsFault::NotYetValid { start: None }),
        ("alert certificate required", TlsFault::ClientCertificateRequired),
        ("alert unknown ca", rejected("the server does not trust its issuer")),
        ("alert certificate expired", rejected("it is expired or not valid yet")),
        ("alert certificate revoked", rejected("it is revoked")),
        ("alert unsupported certificate", rejected("its type or its purpose is not supported")),
        ("alert bad certificate", rejected("the server does not accept it")),
        ("alert certificate unknown", rejected("the server does not accept it")),
        ("alert access denied", rejected("the server does not accept it")),
        ("alert decrypt error", rejected("the server does not accept it")),
        ("alert handshake failure", TlsFault::HandshakeRejected),
        ("unrecognized name", TlsFault::UnknownName),
        ("alert protocol version", TlsFault::Outdated),
        ("alert insufficient security", TlsFault::Outdated),
        ("legacy sigalg disallowed", TlsFault::Outdated),
        ("unsupported protocol", TlsFault::Outdated),
        ("wrong ssl version", TlsFault::Outdated),
        ("certificate verify failed", TlsFault::Untrusted),
    ];
    known.into_iter().find(|(text, _)| reason.contains(text)).map(|(_, fault)| fault)
}

/// Whether a response is not one of Kafka: its first four bytes, which librdkafka reads as a
/// length, are text, such as `HTTP` or `220 `.
fn is_other_protocol(reason: &str) -> bool {
    let Some((_, rest)) = reason.split_once(RESPONSE_SIZE) else { return false };
    let size = rest.split(' ').next().and_then(|size| size.parse::<u32>().ok());
    size.is_some_and(|size| size.to_be_bytes().iter().all(|byte| matches!(byte, b' '..=b'~')))
}

/// What the error of a record, or of a call outside a transaction, means for the sink.
pub(super) fn failure<C: ClientContext>(client: &Client<C>, error: &KafkaError) -> Failure {
    let cause = chain(error);
    let reason = format!("the cluster did not acknowledge the records: {cause}");
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            Failure::Misconfigured {
                reason: format!("a topic does not exist: {cause}"),
                hint: Some("create the topic".into()),
            }
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::InvalidTopic,
        ) => Failure::misconfigured(format!("the cluster rejects the request: {cause}")),
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
            Failure::misconfigured(format!("the cluster rejects the credential: {cause}"))
        }
        _ if client.fatal_error().is_some() => Failure::Broken { reason },
        _ => Failure::retry(reason),
    }
}

/// The failure of a client that librdkafka does not create.
pub(super) fn setup_failure(error: &KafkaError) -> Failure {
    Failure::misconfigured(format!("cannot set up the Kafka client: {}", chain(error)))
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
    use rdkafka::ClientConfig;

    use super::*;
    use crate::{error::Hint, format::Texts, sink::Context};

    /// The texts are those of librdkafka 2 with OpenSSL 3.
    #[test]
    fn tls_errors_of_openssl_are_recognized() {
        let cases = [
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
            (
                "ssl://b:9093/bootstrap: SSL handshake failed: error:0A00014D:SSL routines::legacy sigalg disallowed or unsupported (after 1ms in state SSL_HANDSHAKE)",
                Some(TlsFault::Outdated),
            ),
            ("ssl://b:9093/1: no further details", None),
        ];

        for (reason, fault) in cases {
            assert_eq!(tls_fault(Some(Code::SSL), reason), fault, "{reason}");
        }
    }

    /// Regression: an alert after the handshake was a cluster that does not respond, without a
    /// hint, and the remedy for an HTTP server was another size limit.
    #[tokio::test]
    async fn errors_of_a_connection_name_the_cause() {
        let context = Context {
            name: "lake".into(),
            host: "h".into(),
            texts: Texts::None,
            fields: vec![],
            tokens: None,
        };
        let tokens = TokenContext::new(&context, &ClientConfig::new()).await.unwrap();
        let reports = Reports::new(tokens);
        let lost = Some(Code::BrokerTransportFailure);

        let cases = [
            (
                "ssl://b:9093/bootstrap: Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL alert number 116 (after 1ms in state APIVERSION_QUERY)",
                "the server requires a client certificate",
                true,
            ),
            (
                "ssl://b:9093/1: Receive failed: error:0A000126:SSL routines::unexpected eof while reading",
                "the cluster does not respond: ssl://b:9093/1",
                false,
            ),
            (
                "b:80/bootstrap: Receive failed: Invalid response size 1213486160 (0..16777216): increase receive.message.max.bytes",
                "the response on a port in `brokers` is not one of Kafka",
                true,
            ),
            (
                "b:9092/1: Receive failed: Invalid response size 20000000 (0..16777216): increase receive.message.max.bytes",
                "increase receive.message.max.bytes",
                false,
            ),
        ];

        for (reason, expected, has_hint) in cases {
            *lock(&reports.client_error) = Some((lost, reason.to_owned()));
            let failure = reports.failure_of("the cluster does not respond");
            assert!(failure.to_string().contains(expected), "{failure}");
            assert_eq!(failure.hint().is_some(), has_hint, "{reason}");
        }
    }
}
