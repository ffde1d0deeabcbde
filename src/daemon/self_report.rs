//! What the daemon stores in the checkpoint about itself, so that `status` in another process shows
//! the same as the status page: the fingerprint of the running configuration, and stalled loops.
//!
//! The report is not essential: a failure to store it is logged, and nothing else. Start reading at
//! [`SelfReport`].

use std::sync::Arc;

use super::{Meters, StoreExecutor};
use crate::{checkpoint::DaemonReport, config::Configuration, error::Explanation};

/// Stores what the process reports about itself under one configuration. It never decides whether a
/// loop is stalled: the meters do.
#[derive(Debug)]
pub(super) struct SelfReport {
    configuration: Arc<Configuration>,
    store: StoreExecutor,
    meters: Arc<Meters>,
}

/// Whether a report was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReportOutcome {
    Stored,
    Failed,
}

impl SelfReport {
    pub(super) fn new(
        configuration: Arc<Configuration>,
        store: StoreExecutor,
        meters: Arc<Meters>,
    ) -> Self {
        Self { configuration, store, meters }
    }

    /// Stores that this process runs the daemon with this configuration, and which of its loops are
    /// stalled. Called when the daemon starts, after a reload, and when the report changes.
    pub(super) fn store(&self, report: &DaemonReport) -> ReportOutcome {
        self.set(Some(report))
    }

    /// The current report of this process.
    pub(super) fn current(&self) -> DaemonReport {
        let outline = &self.configuration.outline;
        DaemonReport {
            pid: std::process::id(),
            configuration: outline.fingerprint(),
            variables: outline.variables.clone(),
            stalled: self.meters.stalled(),
        }
    }

    /// Removes the report of an earlier daemon: from now on, `once` polls, and no daemon is
    /// expected.
    pub(super) fn remove(&self) {
        let _ = self.set(None);
    }

    fn set(&self, report: Option<&DaemonReport>) -> ReportOutcome {
        if let Err(error) = self.store.run(|checkpoint| checkpoint.set_daemon_report(report)) {
            self.meters.storage.note_error(&error);
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
