//! Distinguishes a second instance from a cluster that has restarted. Both end a transaction with
//! the same error: after a restart, the coordinator aborts the transaction that was open, with a
//! newer epoch. A producer that was fenced is therefore replaced first, and only a sink that is
//! fenced again and again needs an operator. Start reading at [`Fencing::failure`].

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::time::Instant;

use crate::sink::{Failure, chain};

/// The number of times that a producer is replaced within [`WINDOW`]. Two instances fence each
/// other once per attempt, so they reach it within seconds.
const MAX_REPLACED: usize = 3;
const WINDOW: Duration = Duration::from_mins(2);

/// When the producers of a sink were fenced, up to [`MAX_REPLACED`] times. It outlives them.
#[derive(Debug, Default)]
pub(super) struct Fencing(Mutex<VecDeque<Instant>>);

impl Fencing {
    /// What an error means for the sink after which the producer must be replaced.
    pub(super) fn failure(&self, error: &KafkaError) -> Failure {
        if is_fenced(error) {
            return self.fenced(error);
        }
        Failure::Broken { reason: format!("the producer failed: {}", chain(error)) }
    }

    /// What it means that the producer was fenced.
    fn fenced(&self, error: &KafkaError) -> Failure {
        if self.is_replaced(Instant::now()) {
            return Failure::Broken {
                reason: format!(
                    "the cluster has ended the transaction, because it restarted or because another instance uses the same `transactional_id`: {}",
                    chain(error)
                ),
            };
        }

        Failure::Misconfigured {
            reason: format!("another instance uses the same `transactional_id`: {}", chain(error)),
            hint: Some("stop one instance, or set a different `transactional_id` for each".into()),
        }
    }

    /// Whether the producer is replaced that was fenced now.
    fn is_replaced(&self, now: Instant) -> bool {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.retain(|time| now.saturating_duration_since(*time) < WINDOW);
        if times.len() >= MAX_REPLACED {
            return false;
        }
        times.push_back(now);
        true
    }
}

/// Whether another producer, or the coordinator, has a newer epoch.
pub(super) fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: after a restart of the cluster, the sink reported another instance and was
    /// parked.
    #[test]
    fn only_repeated_fencing_parks_the_sink() {
        let fencing = Fencing::default();
        let start = Instant::now();
        let at = |seconds| fencing.is_replaced(start + Duration::from_secs(seconds));
        assert!(at(0) && at(1) && at(30));
        assert!(!at(31) && !at(119));
        // The first two are forgotten.
        assert!(at(121) && at(122) && !at(123));
        assert!(at(600));
    }

    #[test]
    fn errors_have_the_matching_failure() {
        let fencing = Fencing::default();
        let fenced = KafkaError::Flush(Code::Fenced);
        for _ in 0..MAX_REPLACED {
            assert!(matches!(fencing.failure(&fenced), Failure::Broken { .. }));
        }
        assert!(matches!(fencing.failure(&fenced), Failure::Misconfigured { hint: Some(_), .. }));

        let other = KafkaError::Flush(Code::BrokerNotAvailable);
        assert!(matches!(fencing.failure(&other), Failure::Broken { .. }));
    }
}
