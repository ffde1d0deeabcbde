//! Decides whether a failed delivery is attempted again, and after which wait.
//!
//! Failures are counted since the last acknowledged batch, not since the backlog was last empty. A
//! receiver that is busy from time to time therefore neither exhausts the attempts of `once` nor
//! lengthens the waits of the daemon, and neither do failures of some tenants while others have not
//! been tried since. Nothing here waits or sends. Start reading at [`RetryBudget::wait_after`]. See
//! decisions 0072 and 0093.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use super::DeliveryError;
use crate::{
    model::EventId,
    sink::{Failure, FailurePlace},
};

/// The wait after the first transient failure, and the limit up to which it doubles.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
pub(super) const MAX_BACKOFF: Duration = Duration::from_mins(5);
/// The longest wait if the cause is on this host. An attempt costs no other system anything, and
/// delivery resumes soon after the cause has been removed.
const MAX_HOST_BACKOFF: Duration = Duration::from_secs(30);
/// The interval at which a parked sink or target is tried again.
pub(super) const PARKED_WAIT: Duration = Duration::from_mins(5);

/// The failures without an acknowledgement between them that are not counted, because other tenants
/// have not been tried since. In an outage, a receiver gets this number of further requests, each
/// after a wait. With more tenants whose requests fail, those that are served after them wait
/// longer.
const MAX_SPARED_FAILURES: u32 = 64;
/// The time after the first of them in which they are not counted, without the waits. It limits a
/// delivery to a receiver that does not respond.
const MAX_SPARED_TIME: Duration = Duration::from_mins(10);
/// The counted failures without an acknowledgement between them that end a limited delivery, and
/// the longest wait between its attempts.
const MAX_FAILURES: u32 = 4;
const MAX_LIMITED_BACKOFF: Duration = Duration::from_secs(30);

/// What caused a failure, as far as another attempt depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryCause {
    /// The receiver or the connection to it. `after` is the delay that the receiver requested.
    Receiver { after: Option<Duration> },
    /// As [`Self::Receiver`], or the texts of some tenants: others with records have failed less
    /// often, and are served first by the next attempt.
    SomeTenants { after: Option<Duration> },
    /// This host, such as a full disk, or a database that another process uses.
    Host,
    /// The configuration of a receiver, which needs an operator.
    Configuration,
    /// The configuration of this host, such as the mode of a directory, which needs an operator.
    HostConfiguration,
    /// A cause that another attempt rarely removes, such as damaged data or a fault of this
    /// program.
    Lasting,
}

/// For how long a failed delivery is attempted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryLimit {
    /// Until the deliverer ends: the daemon.
    Unlimited,
    /// Until [`MAX_FAILURES`] failures are counted without an acknowledgement between them, and
    /// only if the cause can pass: `once` and other commands.
    Limited,
}

/// The failures of a delivery since the last acknowledged batch.
#[derive(Clone, Debug)]
pub(super) struct RetryBudget {
    limit: RetryLimit,
    /// The failures, without those that are spared.
    failures: u32,
    /// The failures that are not counted, at most [`MAX_SPARED_FAILURES`].
    spared: u32,
    /// The time of the first of them, later by the waits since then.
    spared_since: Option<Instant>,
    /// The records that have arrived after one that no cursor can pass. They may be sent again,
    /// which is not progress.
    arrived: HashSet<EventId>,
}

impl RetryBudget {
    /// A budget without failures.
    pub(super) fn new(limit: RetryLimit) -> Self {
        Self { limit, failures: 0, spared: 0, spared_since: None, arrived: HashSet::new() }
    }

    /// Forgets all failures, because a batch was acknowledged or nothing is left to deliver.
    pub(super) fn reset(&mut self) {
        self.forget_failures();
        self.arrived.clear();
    }

    /// Forgets all failures if one of these records, which no cursor can pass, has arrived for the
    /// first time since the last acknowledged batch.
    pub(super) fn note_arrived(&mut self, records: impl Iterator<Item = EventId>) {
        for record in records {
            if self.arrived.insert(record) {
                self.forget_failures();
            }
        }
    }

    /// Counts a failure. Returns the wait before the next attempt, or `None` if there is none.
    /// `jitter` is a random number from 0 up to, but not including, 1.
    pub(super) fn wait_after(&mut self, cause: RetryCause, jitter: f64) -> Option<Duration> {
        self.count(cause);
        // A failure that is spared is also followed by a wait.
        let wait = wait(cause, self.failures.max(1), jitter);
        let wait = match self.limit {
            RetryLimit::Unlimited => wait,
            RetryLimit::Limited => wait.min(MAX_LIMITED_BACKOFF),
        };

        if let Some(since) = &mut self.spared_since {
            *since = since.checked_add(wait).unwrap_or(*since);
        }
        let is_left = self.limit == RetryLimit::Unlimited
            || (cause.can_pass() && self.failures < MAX_FAILURES);
        is_left.then_some(wait)
    }

    fn count(&mut self, cause: RetryCause) {
        if matches!(cause, RetryCause::SomeTenants { .. }) && self.can_spare() {
            self.spared = self.spared.saturating_add(1);
        } else {
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// Whether a failure of some tenants is not counted.
    fn can_spare(&mut self) -> bool {
        let since = *self.spared_since.get_or_insert_with(Instant::now);
        self.spared < MAX_SPARED_FAILURES && since.elapsed() <= MAX_SPARED_TIME
    }

    fn forget_failures(&mut self) {
        (self.failures, self.spared, self.spared_since) = (0, 0, None);
    }
}

impl RetryCause {
    /// Whether the cause can be gone at the next attempt without an operator.
    fn can_pass(self) -> bool {
        matches!(self, Self::Receiver { .. } | Self::SomeTenants { .. } | Self::Host)
    }
}

impl DeliveryError {
    /// The cause of this error. `place` is where the failures of the sink have their causes.
    pub(super) fn retry_cause(&self, place: FailurePlace) -> RetryCause {
        match (self, place) {
            (Self::Sink(Failure::Misconfigured { .. }), FailurePlace::Host) => {
                RetryCause::HostConfiguration
            }
            (Self::Sink(Failure::Misconfigured { .. }), FailurePlace::Receiver)
            | (Self::Sink(Failure::Refused(_)), _) => RetryCause::Configuration,
            (Self::Sink(Failure::Host { .. }), _)
            | (Self::Sink(Failure::Retry { .. } | Failure::Broken { .. }), FailurePlace::Host) => {
                RetryCause::Host
            }
            (Self::Sink(Failure::Retry { after, .. }), FailurePlace::Receiver) => {
                RetryCause::Receiver { after: *after }
            }
            (Self::Sink(Failure::Broken { .. }), FailurePlace::Receiver) => {
                RetryCause::Receiver { after: None }
            }
            (Self::Checkpoint(error), _) if error.is_transient() => RetryCause::Host,
            _ => RetryCause::Lasting,
        }
    }
}

/// The wait after this number of failures without an acknowledgement between them. A delay that the
/// receiver requests never shortens it.
fn wait(cause: RetryCause, failures: u32, jitter: f64) -> Duration {
    match cause {
        RetryCause::Receiver { after } | RetryCause::SomeTenants { after } => {
            backoff(failures, MAX_BACKOFF, jitter).max(after.unwrap_or_default())
        }
        RetryCause::Host | RetryCause::HostConfiguration => {
            backoff(failures, MAX_HOST_BACKOFF, jitter)
        }
        RetryCause::Configuration => PARKED_WAIT,
        RetryCause::Lasting => backoff(failures, MAX_BACKOFF, jitter),
    }
}

/// A wait that doubles with each failure. Half of it is random, so that many forwarders do not
/// retry at the same time.
fn backoff(failures: u32, limit: Duration, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    let doubled = FIRST_BACKOFF.saturating_mul(1 << doublings).min(limit);
    doubled / 2 + doubled.mul_f64(jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::HostFault;

    const RECEIVER: RetryCause = RetryCause::Receiver { after: None };
    const SOME_TENANTS: RetryCause = RetryCause::SomeTenants { after: None };

    /// What happens to a delivery: `f` a failure, `s` one of some tenants, while others have not
    /// been tried since, and `a` an acknowledged batch.
    fn is_left(events: &str, cause: RetryCause, limit: RetryLimit) -> bool {
        let mut budget = RetryBudget::new(limit);
        let mut is_left = true;
        for event in events.chars() {
            match event {
                'a' => budget.reset(),
                's' => is_left = budget.wait_after(SOME_TENANTS, 0.0).is_some(),
                _ => is_left = budget.wait_after(cause, 0.0).is_some(),
            }
        }
        is_left
    }

    /// Regression: failures were counted since the backlog was last empty, so a receiver that was
    /// busy at every third request ended `once` after 4,400 of 10,020 records.
    #[test]
    fn only_failures_without_progress_exhaust_the_budget() {
        let host = RetryCause::Host;
        let busy = "aaf".repeat(1_000);
        for (events, cause, is_left_for_once) in [
            ("f", RECEIVER, true),
            ("fff", RECEIVER, true),
            ("ffff", RECEIVER, false),
            ("ffff", host, false),
            ("fffaf", RECEIVER, true),
            ("fffafff", host, true),
            ("fffaffff", host, false),
            (busy.as_str(), RECEIVER, true),
            ("f", RetryCause::Configuration, false),
            ("f", RetryCause::HostConfiguration, false),
            ("f", RetryCause::Lasting, false),
        ] {
            let once = is_left(events, cause, RetryLimit::Limited);
            assert_eq!(once, is_left_for_once, "{events} {cause:?}");
            assert!(is_left(events, cause, RetryLimit::Unlimited), "the daemon always continues");
        }
    }

    /// Regression: four tenants whose requests failed exhausted the attempts of `once` before a
    /// record of another one was sent.
    #[test]
    fn failures_of_some_tenants_are_spared() {
        let spared = "s".repeat(MAX_SPARED_FAILURES as usize);
        for (events, is_left_for_once) in [
            ("ssss".to_owned(), true),
            ("sfsfsf".to_owned(), true),
            ("sfsfsfsf".to_owned(), false),
            (format!("{spared}fff"), true),
            (format!("{spared}ffff"), false),
            // In an outage, they are limited.
            (format!("{spared}sss"), true),
            (format!("{spared}ssss"), false),
            (format!("{spared}fffa{spared}fff"), true),
        ] {
            let once = is_left(&events, RECEIVER, RetryLimit::Limited);
            assert_eq!(once, is_left_for_once, "{events}");
            assert!(is_left(&events, RECEIVER, RetryLimit::Unlimited), "{events}");
        }
    }

    /// A receiver that does not respond occupies each attempt for a long time.
    #[tokio::test(start_paused = true)]
    async fn failures_are_spared_for_minutes_only() {
        for (after_each, is_left_for_once) in
            [(Duration::from_mins(1), true), (Duration::from_mins(2), false)]
        {
            let mut budget = RetryBudget::new(RetryLimit::Limited);
            let mut is_left = true;
            for _ in 0..10 {
                is_left &= budget.wait_after(SOME_TENANTS, 0.0).is_some();
                tokio::time::advance(after_each).await;
            }
            assert_eq!(is_left, is_left_for_once, "{after_each:?}");

            budget.reset();
            assert!(budget.wait_after(SOME_TENANTS, 0.0).is_some());
            assert_eq!(budget.failures, 0, "the time begins again");
        }
    }

    /// Regression: each tenant whose requests failed doubled the wait of the daemon.
    #[test]
    fn failures_of_some_tenants_lengthen_no_wait() {
        let mut budget = RetryBudget::new(RetryLimit::Unlimited);
        let mut wait = |cause| budget.wait_after(cause, 0.0).unwrap().as_millis();
        for _ in 0..20 {
            assert_eq!(wait(SOME_TENANTS), 500, "each attempt is followed by a wait");
        }
        assert_eq!([RECEIVER, RECEIVER, RECEIVER].map(&mut wait), [500, 1_000, 2_000]);
        assert_eq!([SOME_TENANTS, SOME_TENANTS, RECEIVER].map(&mut wait), [2_000, 2_000, 4_000]);

        let delay = RetryCause::SomeTenants { after: Some(Duration::from_hours(1)) };
        assert_eq!(wait(delay), 3_600_000, "a requested delay is respected");
    }

    /// The shortest and the longest wait after each number of failures, in milliseconds.
    #[test]
    fn waits_double_up_to_their_limit() {
        let hour = RetryCause::Receiver { after: Some(Duration::from_hours(1)) };
        for (cause, failures, shortest, longest) in [
            (RECEIVER, 1, 500, 1_000),
            (RECEIVER, 2, 1_000, 2_000),
            (RECEIVER, 9, 128_000, 256_000),
            (RECEIVER, 10, 150_000, 300_000),
            (RECEIVER, u32::MAX, 150_000, 300_000),
            (hour, 1, 3_600_000, 3_600_000),
            (RetryCause::Host, 1, 500, 1_000),
            (RetryCause::Host, 6, 15_000, 30_000),
            (RetryCause::Host, 1_000, 15_000, 30_000),
            (RetryCause::HostConfiguration, 1_000, 15_000, 30_000),
            (RetryCause::Configuration, 1, 300_000, 300_000),
            (RetryCause::Lasting, 1_000, 150_000, 300_000),
        ] {
            let waits = [0.0, 1.0].map(|jitter| wait(cause, failures, jitter).as_millis());
            assert_eq!(waits, [shortest, longest], "{cause:?} {failures}");
        }
    }

    /// Regression: a receiver was tried again only after five minutes if too many files were open.
    #[test]
    fn limits_of_this_host_have_a_short_wait() {
        let reason = "cannot read the secret".to_owned();
        let failure = Failure::Host { reason, fault: HostFault::TooManyFiles };
        let error = DeliveryError::Sink(failure);
        for place in [FailurePlace::Receiver, FailurePlace::Host] {
            assert_eq!(error.retry_cause(place), RetryCause::Host);
        }
    }

    /// Regression: a receiver that stored records after a busy one ended `once`, although further
    /// records arrived with every attempt.
    #[test]
    fn only_first_arrivals_are_progress() {
        let record = |n: u8| std::iter::once(EventId::from_bytes([n; 20]));
        let mut budget = RetryBudget::new(RetryLimit::Limited);
        for n in 0..20 {
            budget.note_arrived(record(n));
            assert!(budget.wait_after(RECEIVER, 0.0).is_some());
        }

        let mut is_left = [true; 3];
        for is_left in &mut is_left {
            budget.note_arrived(record(0));
            *is_left = budget.wait_after(RECEIVER, 0.0).is_some();
        }
        assert_eq!(is_left, [true, true, false], "the record was sent again");
    }

    /// Regression: the wait of the daemon grew with failures that were followed by progress.
    #[test]
    fn the_wait_is_short_after_progress() {
        let mut budget = RetryBudget::new(RetryLimit::Unlimited);
        for _ in 0..20 {
            budget.wait_after(RECEIVER, 0.0);
        }
        budget.reset();
        assert_eq!(budget.wait_after(RECEIVER, 0.0), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_command_waits_at_most_half_a_minute() {
        let mut budget = RetryBudget::new(RetryLimit::Limited);
        let cause = RetryCause::Receiver { after: Some(Duration::from_hours(1)) };
        assert_eq!(budget.wait_after(cause, 0.0), Some(MAX_LIMITED_BACKOFF));
    }
}
