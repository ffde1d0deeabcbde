//! What the daemon reports about itself to other processes, such as `status`: its configuration,
//! and the loops that make no progress. It is stored as one JSON document in the table `meta`, next
//! to the last time at which the daemon could write. Start reading at [`DaemonReport`].

use serde::{Deserialize, Serialize};

use super::{Checkpoint, CheckpointError, backend::Statements, meta};
use crate::model::UnixMillis;

/// What the daemon that polled last has reported. `once` removes it, because a checkpoint that
/// `once` polls for needs no daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonReport {
    /// The process ID. The report of a process that has ended does not apply to the next one.
    pub pid: u32,
    /// The fingerprint of the running configuration.
    pub configuration: String,
    /// The names of the environment variables that set keys, sorted. Another process can compare
    /// its own fingerprint only if it has the same variables.
    pub variables: Vec<String>,
    /// A description of each loop that makes no progress.
    pub stalled: Vec<String>,
}

/// The row of `meta` with the report, as JSON.
const DAEMON_REPORT: &str = "daemon_report";
/// The row of `meta` with the time at which the daemon has shown that it can write.
const ALIVE_AT: &str = "daemon_alive_at";

impl Checkpoint {
    /// Stores the report of the daemon; `None` removes it.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn set_daemon_report(&self, report: Option<&DaemonReport>) -> Result<(), CheckpointError> {
        self.administrative(|store| meta::set_document(store, DAEMON_REPORT, report))
    }

    /// Stores that the daemon could write at this time. This is also its test of the storage and of
    /// its claim, so it counts as a write of the claim.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written, and with [`CheckpointError::ClaimLost`] if another
    /// process has written to it.
    pub fn record_alive(&self, now: UnixMillis) -> Result<(), CheckpointError> {
        self.claimed(|store| meta::set_document(store, ALIVE_AT, Some(&now)))
    }
}

/// When a daemon could write last; `None` if none has stored it.
pub(super) fn alive_at(store: &dyn Statements) -> Result<Option<UnixMillis>, CheckpointError> {
    meta::document(store, ALIVE_AT)
}

/// The stored report; `None` also if it is from another version.
pub(super) fn daemon_report(
    store: &dyn Statements,
) -> Result<Option<DaemonReport>, CheckpointError> {
    meta::document(store, DAEMON_REPORT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::{StatusDetail, backend::values},
        error::Hint,
    };

    #[test]
    fn a_report_is_stored_until_removed() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        let stored = || checkpoint.status(StatusDetail::Summary).unwrap().daemon;
        assert_eq!(stored(), None);

        let mut report = DaemonReport { pid: 7, ..DaemonReport::default() };
        for stalled in [vec!["the scheduler has not run for 5 minutes".to_owned()], Vec::new()] {
            report.stalled = stalled;
            checkpoint.set_daemon_report(Some(&report)).unwrap();
            assert_eq!(stored().as_ref(), Some(&report));
        }

        checkpoint.set_daemon_report(None).unwrap();
        assert_eq!(stored(), None);
    }

    /// Regression: the test of the storage did not notice that another process had written, so a
    /// daemon that could not store anything looked healthy.
    #[test]
    fn the_test_of_the_storage_checks_the_claim() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
        let alive_at = || checkpoint.status(StatusDetail::Summary).unwrap().daemon_alive_at;
        let time = UnixMillis::new;
        checkpoint.record_alive(time(1)).unwrap();
        assert_eq!(alive_at(), Some(time(1)));

        let other = "UPDATE shard SET writes = writes + 1";
        checkpoint.administrative(|store| store.execute(other, values![])).unwrap();
        let error = checkpoint.record_alive(time(2)).unwrap_err();
        assert!(matches!(error, CheckpointError::ClaimLost(_)), "{error:?}");
        assert!(error.ends_process() && error.is_unusable() && error.hint().is_some());
        assert_eq!(alive_at(), Some(time(1)));
    }
}
