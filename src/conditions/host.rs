//! Conditions of the process: its loops, its disk and its configuration.

use super::{Condition, ConditionKind, Facts, Severity, Subject};

/// With less free space than this, a warning is shown. The checkpoint of a tenant grows by a few
/// megabytes per year, and a backfill needs more.
const LOW_DISK_BYTES: u64 = 256 << 20;

pub(super) fn conditions(facts: &Facts) -> Vec<Condition> {
    let stalled = facts.stalled.iter().map(|what| Condition {
        severity: Severity::Error,
        kind: ConditionKind::LoopStalled,
        subject: Subject::Daemon,
        sentence: what.clone(),
        hint: Some("restart the daemon".to_owned()),
        since: None,
    });

    let rejected = facts.rejected_configuration.as_ref().map(|rejected| Condition {
        severity: Severity::Error,
        kind: ConditionKind::ConfigurationRejected,
        subject: Subject::Daemon,
        sentence: format!(
            "the configuration could not be reloaded, so the previous one remains in force: {}",
            rejected.reason.message
        ),
        hint: Some("run `check`, correct the faults, and run `reload`".to_owned()),
        since: Some(rejected.at),
    });

    stalled.chain(disk(facts)).chain(rejected).collect()
}

fn disk(facts: &Facts) -> Option<Condition> {
    let free = facts.free_bytes.filter(|free| *free < LOW_DISK_BYTES)?;
    let megabytes = free / 1_000_000;

    let (severity, kind, sentence) = if free < facts.reserved_bytes {
        let sentence = format!(
            "the disk of the checkpoint is full ({megabytes} MB free): polling is paused, and delivery continues"
        );
        (Severity::Error, ConditionKind::DiskFull, sentence)
    } else {
        let sentence = format!("the disk of the checkpoint is nearly full: {megabytes} MB free");
        (Severity::Warning, ConditionKind::DiskLow, sentence)
    };
    Some(Condition {
        severity,
        kind,
        subject: Subject::Daemon,
        sentence,
        hint: Some("free space on the disk of the state directory".to_owned()),
        since: None,
    })
}
