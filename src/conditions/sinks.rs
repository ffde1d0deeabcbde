//! Conditions of a sink: failures, dead letters, and a backlog that makes no progress.
//!
//! A sink has at most one condition about its delivery, and one about its dead letters. Whether a
//! backlog makes progress is decided from the last acknowledgement, never from the number of
//! entries. Start reading at [`conditions`].

use std::time::Duration;

use super::{Condition, ConditionKind, ConditionSeverity, ConditionSubject};
use crate::{
    error::Explanation,
    model::{Day, UnixMillis},
    text::{count, plural},
};

/// What the conditions of a sink depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkFacts {
    /// The name in the configuration.
    pub name: String,
    /// Why the sink makes no progress; `None` if it makes progress.
    pub failure: Option<Explanation>,
    /// Whether the sink is parked: the failure needs an operator.
    pub parked: bool,
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

/// A sink that retries needs an operator when it has had no acknowledgement for this time.
const MAX_RETRY: Duration = Duration::from_mins(15);
/// A backlog without a failure is unusual after this time without an acknowledgement.
const MAX_SILENCE: Duration = Duration::from_hours(1);

/// The conditions of a sink. `started` is the start of the daemon; `None` if none is running.
pub(super) fn conditions(
    sink: &SinkFacts,
    started: Option<UnixMillis>,
    now: UnixMillis,
) -> Vec<Condition> {
    let is_silent_for = |limit| {
        // The last digest may have been acknowledged a week ago.
        let last = if sink.sends_digests { None } else { sink.last_acknowledgement.max(started) };
        let last = last.or(sink.failing_since);
        started.is_some() && last.is_some_and(|last| now.saturating_duration_since(last) > limit)
    };
    let condition = |severity, kind, sentence: String, hint: Option<String>, since| Condition {
        severity,
        kind,
        subject: ConditionSubject::Sink(sink.name.clone()),
        sentence,
        hint,
        since,
    };
    let mut conditions = Vec::new();

    if let Some(Explanation { message, hint }) = &sink.failure {
        let (severity, kind, what) = if sink.parked {
            (ConditionSeverity::Error, ConditionKind::SinkParked, "parked")
        } else if is_silent_for(MAX_RETRY) {
            (
                ConditionSeverity::Error,
                ConditionKind::SinkRetrying,
                "failing for more than 15 minutes",
            )
        } else {
            (ConditionSeverity::Warning, ConditionKind::SinkRetrying, "retrying")
        };
        let sentence = format!("{what}, {}: {message}", waiting(sink));
        conditions.push(condition(severity, kind, sentence, hint.clone(), sink.failing_since));
    } else if sink.backlog > 0 && !sink.sends_digests {
        let (severity, kind, what) = if is_silent_for(MAX_SILENCE) {
            let what = "no acknowledgement for more than an hour";
            (ConditionSeverity::Warning, ConditionKind::SinkSilent, what)
        } else if started.is_some() {
            (ConditionSeverity::Info, ConditionKind::SinkDelivering, "delivering")
        } else {
            (ConditionSeverity::Info, ConditionKind::SinkDelivering, "waiting for a daemon")
        };
        let sentence = format!("{what}, {}", waiting(sink));
        conditions.push(condition(severity, kind, sentence, None, sink.last_acknowledgement));
    }

    if sink.dead_letters > 0 {
        let sentence = format!("the receiver rejected {}", count(sink.dead_letters, "record"));
        let hint = format!("run `dead-letters list --sink {}`", sink.name);
        conditions.push(condition(
            ConditionSeverity::Error,
            ConditionKind::DeadLetters,
            sentence,
            Some(hint),
            None,
        ));
    }
    conditions
}

/// The size of the backlog.
fn waiting(sink: &SinkFacts) -> String {
    let entries = plural(sink.backlog, "log entry", "log entries");
    let oldest = sink.oldest_day.map_or_else(String::new, |day| format!(" since `{day}`"));
    format!("{entries}{oldest} unsent")
}
