//! What the daemon stores in the checkpoint about itself, so that `status` in another process shows
//! the same as the status page: the fingerprint of the running configuration, and stalled loops.
//!
//! The report is not essential: a failure to store it is logged, and nothing else. Start reading at
//! [`Engine::store_report`].

use super::Engine;
use crate::{checkpoint::DaemonReport, error::Explanation};

/// Whether a report was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReportOutcome {
    Stored,
    Failed,
}

impl Engine {
    /// Stores that this process runs the daemon with this configuration, and which of its loops are
    /// stalled. Called when the daemon starts, after a reload, and when the report changes.
    pub(super) fn store_report(&self, report: &DaemonReport) -> ReportOutcome {
        self.set_report(Some(report))
    }

    /// The report of this process.
    pub(super) fn report(&self, stalled: Vec<String>) -> DaemonReport {
        let outline = &self.configuration.outline;
        DaemonReport {
            pid: std::process::id(),
            configuration: outline.fingerprint(),
            variables: outline.variables.clone(),
            stalled,
        }
    }

    /// Removes the report of an earlier daemon: from now on, `once` polls, and no daemon is
    /// expected.
    pub(super) fn remove_report(&self) {
        let _ = self.set_report(None);
    }

    fn set_report(&self, report: Option<&DaemonReport>) -> ReportOutcome {
        if let Err(error) = self.store.run(|checkpoint| checkpoint.set_daemon_report(report)) {
            self.note_storage_error(&error);
            let error = Explanation::of(&error);
            tracing::warn!(
                error = error.message,
                hint = error.hint,
                "cannot store the state of the daemon in the checkpoint"
            );
            return ReportOutcome::Failed;
        }
        ReportOutcome::Stored
    }
}
