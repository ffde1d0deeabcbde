//! The calls of the transaction protocol, and the check that the brokers support them.
//!
//! The check adds a partition to a transaction and aborts it before any record is sent. It uses a
//! separate transactional ID, because the configured one would fence a running daemon. Start
//! reading at [`initialize`] and [`check`]. See decision 0082.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    producer::{BaseRecord, Producer as _},
};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    producer::{PROGRESS_INDEX, Producer, failure},
    transaction_support::TransactionSupport,
};
use crate::sink::{Failure, chain};

/// The time limit for one call of the transaction protocol.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The maximum number of attempts of such a call, if librdkafka permits retries.
const CALL_ATTEMPTS: u32 = 3;
/// The time limit for adding a partition to a transaction.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the record of a check waits before librdkafka sends it, in milliseconds. The check
/// discards it before.
pub(super) const CHECK_LINGER_MS: &str = "3000";

const UNSUPPORTED_HINT: &str =
    "set `exactly_once = false`, unless the brokers can be replaced by ones with transactions";
const NO_RESPONSE_HINT: &str =
    "set `exactly_once = false` if the brokers do not support transactions";

/// Whether the principal may use the transactional ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IdPermission {
    Granted,
    /// The error of the broker.
    Denied(String),
}

/// Fences the previous user of the transactional ID. Fails with `Misconfigured` as soon as it is
/// known that the brokers do not support transactions.
pub(super) async fn initialize(producer: &Arc<Producer>) -> Result<IdPermission, Failure> {
    let initialized = tokio::select! {
        initialized = call(producer, |p| p.init_transactions(CALL_TIMEOUT)) => initialized,
        reason = producer.context().transactions_absent() => return Err(unsupported(&reason)),
    };

    match initialized {
        Ok(()) => Ok(IdPermission::Granted),
        Err(error) => match error.rdkafka_error_code() {
            Some(Code::TransactionalIdAuthorizationFailed) => {
                Ok(IdPermission::Denied(chain(&error)))
            }
            Some(Code::UnsupportedFeature | Code::UnsupportedVersion) => {
                Err(unsupported(&chain(&error)))
            }
            _ => Err(initialization_failure(producer, &error)),
        },
    }
}

/// Checks that the brokers add a partition of the topic to a transaction, which is then aborted.
/// Fails with `Misconfigured` if they do not support transactions. The producer must wait for
/// [`CHECK_LINGER_MS`] before it sends a record.
pub(super) async fn check(producer: &Arc<Producer>, topic: &str) -> Result<(), Failure> {
    let failed = |error: &KafkaError| failure(producer.client(), error);
    producer.begin_transaction().map_err(|error| failed(&error))?;
    let record = BaseRecord::with_opaque_to(topic, PROGRESS_INDEX).key(&b""[..]).payload(&b""[..]);
    producer.send(record).map_err(|(error, _)| failed(&error))?;

    let support = timeout(REGISTRATION_TIMEOUT, producer.context().transaction_support()).await;
    if let Ok(TransactionSupport::Absent(reason)) = &support {
        return Err(unsupported(reason));
    }
    // The queued record is discarded. Only a marker of the aborted transaction is written.
    let aborted = call(producer, |p| p.abort_transaction(CALL_TIMEOUT)).await;
    aborted.map_err(|error| failed(&error))?;
    match support {
        Ok(_) => Ok(()),
        Err(_) => Err(no_response("the brokers did not add a partition to a transaction")),
    }
}

/// Makes a call of the transaction protocol outside the threads of the runtime, and repeats it if
/// librdkafka permits that.
pub(super) async fn call(
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

/// The failure for brokers without transactions.
pub(super) fn unsupported(reason: &str) -> Failure {
    Failure::Misconfigured {
        reason: format!("the brokers do not support transactions: {reason}"),
        hint: Some(UNSUPPORTED_HINT.into()),
    }
}

/// The failure for an error of `init_transactions`.
fn initialization_failure(producer: &Producer, error: &KafkaError) -> Failure {
    let failure = failure(producer.client(), error);
    if matches!(failure, Failure::Misconfigured { .. }) {
        return failure;
    }
    let message = format!("cannot initialize transactions: {}", chain(error));
    match producer.context().failure_of(&message) {
        Failure::Retry { reason, hint: None, .. } => no_response(&reason),
        failure => failure,
    }
}

fn no_response(reason: &str) -> Failure {
    let hint = Some(NO_RESPONSE_HINT.into());
    Failure::Retry { reason: reason.to_owned(), after: None, hint }
}
