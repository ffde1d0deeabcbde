//! Receivers that reject every record. If a receiver rejects a whole batch for the same reason, and
//! has accepted nothing yet, the cause is the configuration, such as an unknown stream or a mapping
//! of an index, or the data of one tenant, and no record should become a dead letter.
//!
//! Some receivers do not name the invalid records, such as a webhook with HTTP 400, or only one of
//! them, such as a collector of Splunk: up to three records of the first rejected batch are sent
//! alone ([`deliver_batch`]). Others have a result for each record ([`judge_results`]). This module
//! never judges a single record or a tenant; the deliverer does that. See decisions 0070 and 0087.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::collections::HashSet;

use super::{Batch, BatchOrigin, BoxFuture, Failure};

/// The maximum number of records that are sent alone.
const MAX_SAMPLES: usize = 3;

/// The default hint for a receiver that rejects every record.
const REJECTS_ALL: &str =
    "check the URL, the headers and the format, because the receiver rejects every record";

/// Sends a batch once.
pub(super) trait BatchSender: Sync {
    /// Sends these records, and interprets the reply.
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), BatchFailure>>;

    /// What an operator should do if the receiver rejects every record.
    fn remedy(&self) -> &'static str {
        REJECTS_ALL
    }
}

/// Why a batch was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BatchFailure {
    /// The receiver rejects at least one of the records, with this message. The size of the batch
    /// is not the reason.
    Rejected(String),
    /// Any other failure, which this module returns unchanged.
    Other(Failure),
}

/// What causes the rejections of a receiver, since the sink was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RejectionCause {
    /// The configuration or single records: no record has been accepted yet.
    #[default]
    Unknown,
    /// Single records: the receiver accepts others, or rejects them for different reasons.
    Records,
}

impl BatchFailure {
    /// The result of a reply with this status. `TooLarge` means that the receiver rejects the
    /// records, unless the status is 413.
    pub(super) fn of(status: u16, result: Result<(), Failure>) -> Result<(), Self> {
        result.map_err(|failure| match failure {
            Failure::TooLarge { reason, .. } if status != 413 => Self::Rejected(reason),
            other => Self::Other(other),
        })
    }
}

impl From<Failure> for BatchFailure {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

/// Delivers a batch. Fails with `RejectsAll` if no record was accepted before, and if up to three
/// records that are sent alone are rejected with the same message as the batch. Any other rejected
/// batch fails with `TooLarge`, so that it is halved until each invalid record is alone. Returns
/// what is known about the receiver afterward.
///
/// Dead letters that are sent again never park a sink, because they were rejected before.
pub(super) async fn deliver_batch(
    sender: &impl BatchSender,
    batch: &Batch,
    cause: RejectionCause,
) -> (Result<(), Failure>, RejectionCause) {
    let reason = match sender.send(batch).await {
        Ok(()) => return (Ok(()), RejectionCause::Records),
        Err(BatchFailure::Other(failure)) => return (Err(failure), cause),
        Err(BatchFailure::Rejected(reason)) => reason,
    };

    let is_new = batch.origin() == BatchOrigin::Log;
    if cause == RejectionCause::Records || batch.len() < 2 || !is_new {
        return (Err(Failure::TooLarge { reason, arrived: Vec::new() }), cause);
    }

    for index in samples(batch) {
        let sample = batch.part(index..index.saturating_add(1));
        let arrived = match sender.send(&sample).await {
            Ok(()) => vec![index],
            Err(BatchFailure::Rejected(other)) if message_in(&other) == message_in(&reason) => {
                continue;
            }
            Err(BatchFailure::Rejected(_)) => Vec::new(),
            Err(BatchFailure::Other(failure)) => return (Err(failure), cause),
        };
        return (Err(Failure::TooLarge { reason, arrived }), RejectionCause::Records);
    }

    (Err(Failure::RejectsAll { reason, hint: Some(sender.remedy().into()) }), cause)
}

/// Applies the rule of [`deliver_batch`] to the result of a batch, each record of which has its own
/// result. Fails with `RejectsAll` if no record was accepted before, all records of the batch are
/// rejected, and `has_one_reason` returns true; any other result is returned unchanged. Returns
/// what is known about the receiver afterward.
pub(super) fn judge_results(
    batch: &Batch,
    result: Result<(), Failure>,
    cause: RejectionCause,
    has_one_reason: impl FnOnce() -> bool,
    remedy: &'static str,
) -> (Result<(), Failure>, RejectionCause) {
    let (rejected, rest_delivered) = match &result {
        Ok(()) | Err(Failure::Partial { .. }) => return (result, RejectionCause::Records),
        Err(Failure::Refused(refusal)) if !refusal.arrived.is_empty() => {
            return (result, RejectionCause::Records);
        }
        Err(Failure::Poison { rejected, rest_delivered }) => (rejected, *rest_delivered),
        Err(_) => return (result, cause),
    };

    if rejected.len() < batch.len() {
        let cause = if rest_delivered { RejectionCause::Records } else { cause };
        return (result, cause);
    }
    let is_new = batch.origin() == BatchOrigin::Log;
    if cause == RejectionCause::Records || batch.len() < 2 || !is_new {
        return (result, cause);
    }

    let Some((_, reason)) = rejected.first() else { return (result, cause) };
    if !has_one_reason() {
        return (result, RejectionCause::Records);
    }
    let reason = reason.clone();
    (Err(Failure::RejectsAll { reason, hint: Some(remedy.into()) }), cause)
}

/// The indexes of the records that are sent alone, at most [`MAX_SAMPLES`]: of different tenants as
/// far as possible, and then the last record and one between it and the first one.
pub(super) fn samples(batch: &Batch) -> Vec<usize> {
    let mut tenants = HashSet::new();
    let firsts = (0..).zip(batch.items()).filter(|(_, item)| tenants.insert(item.tenant));
    let mut samples: Vec<usize> = firsts.map(|(index, _)| index).take(MAX_SAMPLES).collect();

    for index in [batch.len().saturating_sub(1), batch.len() / 2] {
        if samples.len() < MAX_SAMPLES && !samples.contains(&index) {
            samples.push(index);
        }
    }
    samples
}

/// The receiver's message in a reason, without what precedes it; empty if there is none.
fn message_in(reason: &str) -> &str {
    reason.split_once(": ").map_or("", |(_, message)| message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventId, TenantId};

    /// A receiver that rejects a batch with the message of its first invalid record. Contains one
    /// message per record of the whole batch, which is empty for a valid one. The reason
    /// for `silent` is only the count.
    struct FakeReceiver<'m>(&'m [&'static str]);

    impl BatchSender for FakeReceiver<'_> {
        fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), BatchFailure>> {
            let mut messages = batch.items().iter().map(|item| self.0[item.index]);
            let result = match messages.find(|message| !message.is_empty()) {
                None => Ok(()),
                Some("busy") => Err(Failure::retry("busy").into()),
                Some("silent") => Err(BatchFailure::Rejected(format!("{} rejected", batch.len()))),
                Some(message) => {
                    let reason = format!("{} rejected: {message}", batch.len());
                    Err(BatchFailure::Rejected(reason))
                }
            };
            Box::pin(std::future::ready(result))
        }
    }

    fn batch(records: usize, origin: BatchOrigin) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..records {
            batch.push_encoded(EventId::from_bytes([0; 20]), b"x");
        }
        batch.set_origin(origin);
        batch
    }

    /// What happens to a batch, and the cause that is known afterward.
    async fn outcome(
        messages: &[&'static str],
        cause: RejectionCause,
        origin: BatchOrigin,
    ) -> (String, RejectionCause) {
        let batch = batch(messages.len(), origin);
        let (result, cause) = deliver_batch(&FakeReceiver(messages), &batch, cause).await;
        let outcome = match result {
            Ok(()) => "delivered".to_owned(),
            Err(Failure::RejectsAll { reason, .. }) => format!("all: {reason}"),
            Err(Failure::TooLarge { arrived, .. }) => format!("halved {arrived:?}"),
            Err(other) => other.to_string(),
        };
        (outcome, cause)
    }

    /// Regression: with a stream that did not exist, every record of a small batch became a dead
    /// letter.
    #[tokio::test]
    async fn one_reason_for_all_records_is_found() {
        use RejectionCause::{Records, Unknown};

        for (messages, expected, cause) in [
            (&["", ""][..], "delivered", Records),
            (&["no", "no"], "all: 2 rejected: no", Unknown),
            (&["no"; 9], "all: 9 rejected: no", Unknown),
            (&["silent", "silent"], "all: 2 rejected", Unknown),
            (&["silent", "no"], "halved []", Records),
            (&["no"], "halved []", Unknown),
            (&["", "no", "no"], "halved [0]", Records),
            (&["no", "no", "no", ""], "halved [3]", Records),
            (&["no", "not this", "no"], "halved []", Records),
            (&["busy", "no"], "busy", Unknown),
            (&["no", "busy", "no"], "busy", Unknown),
        ] {
            let found = outcome(messages, Unknown, BatchOrigin::Log).await;
            assert_eq!(found, (expected.to_owned(), cause), "{messages:?}");
        }
    }

    /// Regression: a tenant all of whose records were rejected parked the sink, although others
    /// were in the same batch. A batch is the numbers of the tenants of its records.
    #[test]
    fn samples_are_of_different_tenants() {
        for (tenants, expected) in [
            (&[1, 1][..], &[0, 1][..]),
            (&[1, 1, 1, 1, 1], &[0, 4, 2]),
            (&[1, 1, 1, 2, 1, 1], &[0, 3, 5]),
            (&[1, 1, 2, 3, 4], &[0, 2, 3]),
        ] {
            let mut batch = Batch::default();
            for n in tenants {
                let id = format!("{n:02}000000-0000-4000-8000-000000000000");
                batch.push_encoded_to(TenantId::parse(&id).unwrap(), "x", b"x");
            }
            assert_eq!(samples(&batch), expected, "{tenants:?}");
        }
    }

    #[tokio::test]
    async fn known_receivers_and_dead_letters_never_park() {
        for (cause, origin) in [
            (RejectionCause::Records, BatchOrigin::Log),
            (RejectionCause::Unknown, BatchOrigin::DeadLetters),
        ] {
            let found = outcome(&["no", "no", "no"], cause, origin).await;
            assert_eq!(found, ("halved []".to_owned(), cause));
        }
    }

    /// Regression: with a mapping that no document matched, record after record became a dead
    /// letter. `a` is an accepted record, `r` a rejected one, and `b` one that is sent again.
    #[test]
    fn results_of_all_records_are_judged_together() {
        use RejectionCause::{Records, Unknown};

        let outcome = |records: &str, reasons: usize, cause, origin| {
            let rejected = (0..).zip(records.chars()).filter(|(_, record)| *record == 'r');
            let rejected: Vec<(usize, String)> =
                rejected.map(|(index, _)| (index, "no".to_owned())).collect();
            let rest_delivered = !records.contains('b');
            let result = match (rejected.is_empty(), rest_delivered) {
                (true, true) => Ok(()),
                (true, false) => Err(Failure::retry("busy")),
                (false, _) => Err(Failure::Poison { rejected, rest_delivered }),
            };

            let batch = batch(records.len(), origin);
            let (result, cause) = judge_results(&batch, result, cause, || reasons == 1, "fix it");
            (matches!(result, Err(Failure::RejectsAll { .. })), cause)
        };

        for (records, reasons, expected) in [
            ("aa", 0, (false, Records)),
            ("rr", 1, (true, Unknown)),
            ("rrrrrrrrr", 1, (true, Unknown)),
            ("rr", 2, (false, Records)),
            ("r", 1, (false, Unknown)),
            ("ra", 1, (false, Records)),
            ("rb", 1, (false, Unknown)),
            ("bb", 0, (false, Unknown)),
        ] {
            let found = outcome(records, reasons, Unknown, BatchOrigin::Log);
            assert_eq!(found, expected, "{records}");
        }
        assert_eq!(outcome("rr", 1, Records, BatchOrigin::Log), (false, Records));
        assert_eq!(outcome("rr", 1, Unknown, BatchOrigin::DeadLetters), (false, Unknown));
    }

    #[test]
    fn a_size_is_not_a_rejection() {
        let too_large = || Failure::TooLarge { reason: "no".into(), arrived: Vec::new() };
        for (status, is_rejected) in [(400, true), (422, true), (200, true), (413, false)] {
            let failure = BatchFailure::of(status, Err(too_large())).unwrap_err();
            assert_eq!(matches!(failure, BatchFailure::Rejected(_)), is_rejected, "{status}");
        }
        assert_eq!(BatchFailure::of(200, Ok(())), Ok(()));
    }
}
