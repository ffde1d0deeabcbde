//! Conditions of a sink: failures, dead letters, and a backlog that makes no progress.
//!
//! A sink has at most one condition about its delivery, and one about its dead letters. Whether a
//! backlog makes progress is decided from the last acknowledgement, never from the number of
//! entries. Start reading at [`conditions`].

use std::time::Duration;

use super::{Condition, ConditionKind, ConditionSeverity, ConditionSubject, DaemonFacts};
use crate::{
    error::Explanation,
    model::{Day, Observation, SinkName, UnixMillis},
    text::{count, plural},
};

/// What the conditions of a sink depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkFacts {
    /// The name in the configuration.
    pub name: SinkName,
    /// Why the sink makes no progress; `None` if it makes progress.
    pub failure: Option<Explanation>,
    /// What is parked: the failure needs an operator.
    pub parked: Parked,
    /// The first failed attempt since the last acknowledgement.
    pub failing_since: Option<UnixMillis>,
    /// The number of log entries that are not completely acknowledged.
    pub backlog: u64,
    /// The oldest day in the backlog.
    pub oldest_day: Option<Day>,
    /// The last acknowledgement; `None` if there was none.
    pub last_acknowledgement: Option<UnixMillis>,
    /// Whether the sink sends digests: its backlog waits for the time of the next one.
    pub sends_digests: bool,
    /// The number of stored dead letters.
    pub dead_letters: u64,
}

/// What is parked because of a failure that needs an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parked {
    #[default]
    Nothing,
    /// Some targets of the sink, such as one of many indices. The records for all others are
    /// delivered.
    Targets,
    /// The records of some tenants, which are withheld. Those of all others are delivered.
    Tenants,
    /// The whole sink.
    Sink,
}

/// A sink that retries needs an operator when it has had no acknowledgement for this time.
const MAX_RETRY: Duration = Duration::from_mins(15);
/// A backlog without a failure is unusual after this time without an acknowledgement.
const MAX_SILENCE: Duration = Duration::from_hours(1);

/// The conditions of a sink.
pub(super) fn conditions(sink: &SinkFacts, daemon: DaemonFacts, now: UnixMillis) -> Vec<Condition> {
    let silence = silence(sink, daemon.started(), now);
    let delivery = match &sink.failure {
        Some(failure) => Some(failing(sink, failure, daemon, silence)),
        None if sink.backlog > 0 && !sink.sends_digests => Some(delivering(sink, daemon, silence)),
        None => None,
    };
    delivery.into_iter().chain(rejected_records(sink)).collect()
}

/// What a sink with a backlog waits for; `None` while a daemon is running.
fn awaited(daemon: DaemonFacts) -> Option<&'static str> {
    match daemon {
        DaemonFacts::Running(_) => None,
        DaemonFacts::Stopped => Some("waiting for the daemon"),
        DaemonFacts::NotUsed => Some("waiting for the next `once` or `run`"),
    }
}

/// How long a running daemon has received no acknowledgement; zero if that is unknown.
fn silence(sink: &SinkFacts, started: Option<UnixMillis>, now: UnixMillis) -> Duration {
    // The last digest may have been acknowledged a week ago.
    let last = if sink.sends_digests { None } else { sink.last_acknowledgement.max(started) };
    match (started, last.or(sink.failing_since)) {
        (Some(_), Some(last)) => now.saturating_duration_since(last),
        _ => Duration::ZERO,
    }
}

/// The condition of a sink that makes no progress.
fn failing(
    sink: &SinkFacts,
    failure: &Explanation,
    daemon: DaemonFacts,
    silence: Duration,
) -> Condition {
    let (severity, kind, what) = if sink.parked == Parked::Sink {
        (ConditionSeverity::Error, ConditionKind::SinkParked, "parked")
    } else if sink.parked == Parked::Targets {
        (ConditionSeverity::Error, ConditionKind::TargetParked, "a target is parked")
    } else if sink.parked == Parked::Tenants {
        let what = "records of a tenant are withheld";
        (ConditionSeverity::Error, ConditionKind::TargetParked, what)
    } else if let Some(what) = awaited(daemon) {
        (ConditionSeverity::Warning, ConditionKind::SinkWaiting, what)
    } else if silence > MAX_RETRY {
        let what = "failing for more than 15 minutes";
        (ConditionSeverity::Error, ConditionKind::SinkRetrying, what)
    } else {
        (ConditionSeverity::Warning, ConditionKind::SinkRetrying, "retrying")
    };

    let Explanation { message, hint } = failure;
    let sentence = format!("{what}, {}: {message}", waiting(sink));
    Condition {
        hint: hint.clone(),
        since: sink.failing_since,
        ..condition(sink, severity, kind, sentence)
    }
}

/// The condition of a sink with a backlog and without a failure.
fn delivering(sink: &SinkFacts, daemon: DaemonFacts, silence: Duration) -> Condition {
    let (severity, kind, what) = if let Some(what) = awaited(daemon) {
        (ConditionSeverity::Info, ConditionKind::SinkWaiting, what)
    } else if silence > MAX_SILENCE {
        let what = "no acknowledgement for more than an hour";
        (ConditionSeverity::Warning, ConditionKind::SinkSilent, what)
    } else {
        (ConditionSeverity::Info, ConditionKind::SinkDelivering, "delivering")
    };

    let sentence = format!("{what}, {}", waiting(sink));
    Condition { since: sink.last_acknowledgement, ..condition(sink, severity, kind, sentence) }
}

/// The condition of a sink with dead letters.
fn rejected_records(sink: &SinkFacts) -> Option<Condition> {
    let sentence = format!("the receiver rejected {}", count(sink.dead_letters, "record"));
    let rejected = Condition {
        hint: Some(Observation::dead_letters_hint(&sink.name)),
        ..condition(sink, ConditionSeverity::Error, ConditionKind::DeadLetters, sentence)
    };
    (sink.dead_letters > 0).then_some(rejected)
}

/// A condition of a sink without a hint, whose beginning is unknown.
fn condition(
    sink: &SinkFacts,
    severity: ConditionSeverity,
    kind: ConditionKind,
    sentence: String,
) -> Condition {
    Condition {
        severity,
        kind,
        subject: ConditionSubject::Sink(sink.name.clone()),
        sentence,
        hint: None,
        since: None,
    }
}

/// The size of the backlog.
fn waiting(sink: &SinkFacts) -> String {
    let entries = plural(sink.backlog, "log entry", "log entries");
    let oldest = sink.oldest_day.map_or_else(String::new, |day| format!(" since `{day}`"));
    format!("{entries}{oldest} unsent")
}
