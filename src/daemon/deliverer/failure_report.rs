//! Reports how a sink fails: in the log, in the metrics, and in the checkpoint, from which `status`
//! reads it. This module decides nothing about the next attempt. Start reading at
//! [`Deliverer::record_failure`].

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::{Deliverer, DeliveryError};
use crate::{
    checkpoint::{CheckpointError, SinkFailure},
    clock,
    error::Explanation,
};

impl Deliverer {
    /// Logs a failure, counts it, and records it in the checkpoint.
    pub(super) fn record_failure(&self, error: &DeliveryError) {
        self.meter.retries.fetch_add(1, Relaxed);
        self.engine.meters().outages.begin(self.outage_subject(), Instant::now());
        let reason = Explanation::of(error);
        let failure = self.sink_failure(error);
        match failure {
            SinkFailure::Parked => tracing::error!(
                sink = self.plan.name.as_str(),
                error = reason.message,
                hint = reason.hint,
                "sink parked; its backlog is kept"
            ),
            SinkFailure::Retrying => tracing::warn!(
                sink = self.plan.name.as_str(),
                error = reason.message,
                hint = reason.hint,
                "delivery failed; retrying"
            ),
            // Each target was logged when it was parked, and each tenant when it was withheld.
            SinkFailure::TargetsParked | SinkFailure::TenantsWithheld => {}
        }

        let now = clock::now().into();
        let recorded = self.engine.store().run(|checkpoint| {
            checkpoint.record_sink_failure(&self.plan.name, failure, &reason, now)
        });
        self.log_unrecorded(recorded);
    }

    /// Clears the stored failure of the sink, because nothing is left to deliver.
    pub(super) fn clear_failure(&self) {
        let store = self.engine.store();
        let cleared = store.run(|checkpoint| checkpoint.clear_sink_failure(&self.plan.name));
        self.log_unrecorded(cleared);
    }

    /// How the sink fails, as the checkpoint stores it.
    fn sink_failure(&self, error: &DeliveryError) -> SinkFailure {
        if error.is_misconfigured() {
            SinkFailure::Parked
        } else if !error.is_about_targets() {
            SinkFailure::Retrying
        } else if self.targets.has_parked_targets() {
            SinkFailure::TargetsParked
        } else {
            SinkFailure::TenantsWithheld
        }
    }

    fn log_unrecorded(&self, recorded: Result<(), CheckpointError>) {
        if let Err(error) = recorded {
            let error = Explanation::of(&error);
            tracing::warn!(
                sink = self.plan.name.as_str(),
                error = error.message,
                hint = error.hint,
                "cannot record the failure in the checkpoint"
            );
        }
    }
}
