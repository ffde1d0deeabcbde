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

    /// Stores that the daemon could write at this time. This is also its test of the storage.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn record_alive(&self, now: UnixMillis) -> Result<(), CheckpointError> {
        self.administrative(|store| meta::set_document(store, ALIVE_AT, Some(&now)))
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
    use crate::checkpoint::StatusDetail;

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
}
