//! Conditions of the process: its loops, its disk and its configuration.
//!
//! They affect all tenants and sinks, so their subject is the daemon, and the headline names them.
//! This module must not report anything about a single tenant or sink. Start reading at
//! [`conditions`].

use super::{
    Condition, ConditionFacts, ConditionKind, ConditionSeverity, ConditionSubject,
    ConfigurationFacts, DaemonFacts,
};
use crate::{error::Explanation, text::size};

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
    stalled.chain(disk(facts)).chain(of_configuration).chain(stopped(facts)).collect()
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
