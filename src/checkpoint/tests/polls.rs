//! The results of polls: which ones end a running poll, and what a server cannot fill.

use super::*;
use crate::{error::Explanation, model::PollErrorClass};

fn observation(what: ObservationKind, number: u32) -> Observation {
    Observation {
        what,
        subject: format!("unreadable, {number} bytes"),
        first_day: day("2026-11-20"),
        phase: Phase::Begin,
        details: "cannot decode a snapshot".to_owned(),
        hint: None,
    }
}

/// Regression: a server could add conditions and entries of the log with every response.
#[test]
fn rejected_snapshots_cannot_fill_the_log() {
    let (_directory, checkpoint) = new_checkpoint();
    for (what, expected) in [(ObservationKind::Implausible, 128), (ObservationKind::Gap, 1_000)] {
        let observations = (0..1_000).map(|number| observation(what, number)).collect();
        commit(&checkpoint, &PollCommit { observations, ..empty_commit() });
        for table in ["open_observation", "entry"] {
            let name = what.as_str();
            let sql = format!("SELECT count(*) FROM {table} WHERE what = '{name}'");
            assert_eq!(query_number(&checkpoint, &sql), expected, "{table} {name}");
        }
    }
}

#[test]
fn a_result_ends_a_running_poll() {
    let (_directory, checkpoint) = new_checkpoint();
    let began = UnixMillis::new(1_795_341_600_000);
    let begin_both = || {
        checkpoint.begin_poll(tenant(), began).unwrap();
        checkpoint.begin_poll(other_tenant(), began).unwrap();
    };
    let running = || checkpoint.running_polls().unwrap();

    begin_both();
    commit(&checkpoint, &PollCommit { end: PollEnd::NoPoll, ..empty_commit() });
    assert_eq!(running().len(), 2, "an import is not the result of a poll");
    commit(&checkpoint, &empty_commit());
    assert_eq!(running(), [other_tenant()]);

    begin_both();
    let failure = PollFailure {
        at: began,
        reason: &Explanation::new("no response"),
        class: PollErrorClass::Unavailable,
        observation: &observation(ObservationKind::PollFailed, 1),
        not_before: None,
    };
    let _ = checkpoint.record_poll_failure(tenant(), &failure).unwrap();
    assert_eq!(running(), [other_tenant()]);
}

/// A backup that was made during a poll must not delay polls after it was restored.
#[test]
fn copies_contain_no_running_polls() {
    let (directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    checkpoint.begin_poll(tenant(), UnixMillis::new(1)).unwrap();
    let backup = directory.path().join("backup.db");
    checkpoint.backup(&backup).unwrap();

    let restored = tempfile::tempdir().unwrap();
    Checkpoint::restore(restored.path(), &backup, "stamp").unwrap();
    let checkpoint = Checkpoint::open(restored.path()).unwrap();
    assert!(checkpoint.running_polls().unwrap().is_empty());
}
