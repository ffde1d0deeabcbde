//! Conditions of the process: its loops, its disk and its configuration.
//!
//! They affect all tenants and sinks, so their subject is the daemon, and the headline names them.
//! This module must not report anything about a single tenant or sink. Start reading at
//! [`conditions`].

use super::{Condition, ConditionFacts, ConditionKind, ConditionSeverity, ConditionSubject};
use crate::text::size;

/// With less free space than this, a warning is shown. The checkpoint of a tenant grows by a few
/// megabytes per year, and a backfill needs more.
const LOW_DISK_BYTES: u64 = 256 << 20;

/// The conditions of the process.
pub(super) fn conditions(facts: &ConditionFacts) -> Vec<Condition> {
    let stalled = facts.stalled.iter().map(|what| Condition {
        severity: ConditionSeverity::Error,
        kind: ConditionKind::LoopStalled,
        subject: ConditionSubject::Daemon,
        sentence: what.clone(),
        hint: Some("restart the daemon".to_owned()),
        since: None,
    });

    let rejected = facts.rejected_configuration.as_ref().map(|rejected| Condition {
        severity: ConditionSeverity::Error,
        kind: ConditionKind::ConfigurationRejected,
        subject: ConditionSubject::Daemon,
        sentence: format!(
            "the configuration could not be reloaded, so the previous one remains in force: {}",
            rejected.reason.message
        ),
        hint: Some("run `check`, correct the faults, and run `reload`".to_owned()),
        since: Some(rejected.at),
    });

    stalled.chain(disk(facts)).chain(rejected).collect()
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
    Some(Condition {
        severity,
        kind,
        subject: ConditionSubject::Daemon,
        sentence,
        hint: Some("free space on the disk of the state directory".to_owned()),
        since: None,
    })
}
