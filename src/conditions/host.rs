//! Conditions of the process: its loops, its disk, its clock and its configuration.
//!
//! They affect all tenants and sinks, so their subject is the daemon, and the headline names them.
//! This module must not report anything about a single tenant or sink. Start reading at
//! [`conditions`].

use serde::{Deserialize, Serialize};

use super::{
    Condition, ConditionFacts, ConditionKind, ConditionSeverity, ConditionSubject,
    ConfigurationFacts, DaemonFacts,
};
use crate::{
    error::Explanation,
    model::{CLOCK_HINT, ClockAccuracy, ClockDifference, UnixMillis},
    text::size,
};

/// A fault that prevents the checkpoint from being read or written. The control socket carries it
/// as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageFacts {
    /// What failed and why, with the hint.
    pub reason: Explanation,
    /// The first failure since the last success.
    pub since: UnixMillis,
}

/// With less free space than this, a warning is shown. The checkpoint of a tenant grows by a few
/// megabytes per year, and a backfill needs more.
const LOW_DISK_BYTES: u64 = 256 << 20;

/// The conditions of the process.
pub(super) fn conditions(facts: &ConditionFacts) -> Vec<Condition> {
    let stalled = facts.stalled.iter().map(|what| {
        let (severity, kind) = (ConditionSeverity::Error, ConditionKind::LoopStalled);
        condition(severity, kind, what.clone(), "restart the daemon")
    });
    let of_configuration = rejected(facts).into_iter().chain(files(facts));
    let of_disk = disk(facts).into_iter().chain(storage(facts)).chain(cursor_file(facts));
    let of_host = of_disk.chain(clock(facts));
    let of_daemon = stopped(facts).into_iter().chain(silent(facts));
    stalled.chain(of_host).chain(of_configuration).chain(of_daemon).collect()
}

/// The condition of the last reload, with the remedy of its fault.
fn rejected(facts: &ConditionFacts) -> Option<Condition> {
    let rejected = facts.rejected_configuration.as_ref()?;
    let Explanation { message, hint } = &rejected.reason;
    let hint = hint.as_deref().unwrap_or("run `check`, correct the faults, and run `reload`");
    let sentence = format!(
        "the configuration could not be reloaded, so the previous one remains in force: {message}"
    );
    let (severity, kind) = (ConditionSeverity::Error, ConditionKind::ConfigurationRejected);
    Some(Condition { since: Some(rejected.at), ..condition(severity, kind, sentence, hint) })
}

/// The condition of the files of the configuration, unless a rejected reload reports the same.
fn files(facts: &ConditionFacts) -> Option<Condition> {
    let rejected = facts.rejected_configuration.as_ref();
    match &facts.configuration {
        ConfigurationFacts::Invalid(reason)
            if rejected.is_none_or(|rejected| rejected.reason != *reason) =>
        {
            let sentence = format!("the configuration is invalid: {}", reason.message);
            let hint = reason.hint.as_deref().unwrap_or("run `check`, and correct the faults");
            let (severity, kind) = (ConditionSeverity::Error, ConditionKind::ConfigurationInvalid);
            Some(condition(severity, kind, sentence, hint))
        }
        ConfigurationFacts::Changed if rejected.is_none() => {
            let sentence = "the daemon has not loaded the current configuration".to_owned();
            let (severity, kind) =
                (ConditionSeverity::Warning, ConditionKind::ConfigurationChanged);
            Some(condition(severity, kind, sentence, "run `reload`"))
        }
        _ => None,
    }
}

fn stopped(facts: &ConditionFacts) -> Option<Condition> {
    let sentence = "no daemon is running, so nothing is polled or delivered".to_owned();
    let (severity, kind) = (ConditionSeverity::Warning, ConditionKind::DaemonStopped);
    let stopped = condition(severity, kind, sentence, "start the service");
    (facts.daemon == DaemonFacts::Stopped).then_some(stopped)
}

/// The condition of a daemon that does not respond. What it has stored is shown nevertheless.
fn silent(facts: &ConditionFacts) -> Option<Condition> {
    let Explanation { message, hint } = facts.unreported.as_ref()?;
    let sentence = format!(
        "the running daemon has not reported its own state, so what it could not store is not shown: {message}"
    );
    let default_hint = "search the log of the daemon; if it makes no progress, restart it";
    let hint = hint.as_deref().unwrap_or(default_hint);
    Some(condition(ConditionSeverity::Warning, ConditionKind::DaemonSilent, sentence, hint))
}

fn disk(facts: &ConditionFacts) -> Option<Condition> {
    let free = facts.free_bytes.filter(|free| *free < LOW_DISK_BYTES)?;
    let available = size(free);

    let (severity, kind, sentence) = if free < facts.reserved_bytes {
        let sentence = format!(
            "the disk of the checkpoint is full ({available} free): polling is paused, and delivery continues"
        );
        (ConditionSeverity::Error, ConditionKind::DiskFull, sentence)
    } else {
        let sentence = format!("the disk of the checkpoint is nearly full: {available} free");
        (ConditionSeverity::Warning, ConditionKind::DiskLow, sentence)
    };
    Some(condition(severity, kind, sentence, "free space on the disk of the state directory"))
}

/// The condition of the storage. Polls and deliveries are repeated until it can be used.
fn storage(facts: &ConditionFacts) -> Option<Condition> {
    let StorageFacts { reason: Explanation { message, hint }, since } = facts.storage.as_ref()?;
    let sentence = format!("the checkpoint cannot be used: {message}");
    let default_hint = "search the log of the daemon, and that of the kernel (`dmesg`)";
    let hint = hint.as_deref().unwrap_or(default_hint);
    let (severity, kind) = (ConditionSeverity::Error, ConditionKind::StorageFailing);
    Some(Condition { since: Some(*since), ..condition(severity, kind, sentence, hint) })
}

/// The condition of the second cursor file, unless the whole storage is failing.
fn cursor_file(facts: &ConditionFacts) -> Option<Condition> {
    let reason = facts.outdated_cursor_file.as_ref().filter(|_| facts.storage.is_none())?;
    let Explanation { message, hint } = outdated_cursor_file(reason);
    let (severity, kind) = (ConditionSeverity::Warning, ConditionKind::CursorFileOutdated);
    Some(condition(severity, kind, message, &hint.unwrap_or_default()))
}

/// What it means that the second cursor file could not be written for this reason. Commands print
/// it too.
pub fn outdated_cursor_file(reason: &Explanation) -> Explanation {
    let Explanation { message, hint } = reason;
    let message = format!(
        "`cursors.json`, the copy of the cursors, is outdated, so records would be sent again if the database were lost: {message}"
    );
    let default_hint = "let the user of the service write to the files in the state directory";
    let hint = hint.as_deref().unwrap_or(default_hint);
    Explanation::new(message).with_hint(hint)
}

/// The condition of the clock, which the last poll has compared with Microsoft's.
fn clock(facts: &ConditionFacts) -> Option<Condition> {
    let ClockDifference { offset, since } = facts.clock?;
    let sentence = format!("the clock of this host is {offset}");

    let (severity, sentence) = match offset.accuracy() {
        ClockAccuracy::Accurate => return None,
        ClockAccuracy::Inaccurate => (ConditionSeverity::Warning, sentence),
        ClockAccuracy::Unusable => {
            let sentence = format!("{sentence}: polling is paused, and delivery continues");
            (ConditionSeverity::Error, sentence)
        }
    };
    // A time in the future is that of Microsoft's clock, which is right.
    let since = since.known_past(facts.now);
    let kind = ConditionKind::ClockWrong;
    Some(Condition { since, ..condition(severity, kind, sentence, CLOCK_HINT) })
}

/// A condition of the daemon whose beginning is unknown.
fn condition(
    severity: ConditionSeverity,
    kind: ConditionKind,
    sentence: String,
    hint: &str,
) -> Condition {
    Condition {
        severity,
        kind,
        subject: ConditionSubject::Daemon,
        sentence,
        hint: Some(hint.to_owned()),
        since: None,
    }
}
