//! Backfills and imports, which are queued in the checkpoint before their work begins.
//!
//! A poll continues a queued backfill of its tenant, whichever process has queued it. An import
//! that was interrupted is completed by the next process that polls: the daemon, or `once`. A
//! failure of one import never prevents another one. Start reading at [`Collector::queue_import`]
//! and [`Collector::queue_backfills`]. See decision 0094.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Collector, PollError, PollReport};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, QueuedImport},
    clock,
    daemon::{ContainedTask, TenantState, contain, report_panic},
    error::Explanation,
    model::{Day, Tenant, TenantId},
};

impl Collector {
    /// Queues a backfill of these tenants, in one transaction. A tenant whose domain is not
    /// resolved is queued by its first poll.
    pub(in crate::daemon) fn queue_backfills(&self, tenants: &[Arc<TenantState>], first_day: Day) {
        let resolved: Vec<TenantId> =
            tenants.iter().filter_map(|state| Some(state.resolved()?.id)).collect();
        let now = clock::now().into();
        // After an error, each poll queues its own tenant, and reports the error.
        let _ = self.store.run(|checkpoint| checkpoint.queue_backfills(&resolved, first_day, now));
    }

    /// Queues a backfill of a tenant, unless it is queued already.
    pub(super) fn queue_backfill(
        &self,
        tenant: TenantId,
        first_day: Day,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        self.store.run(|checkpoint| checkpoint.queue_backfills(&[tenant], first_day, now.into()))
    }

    /// Queues saved snapshots, one JSON document each, for [`Self::complete_import`]. If the
    /// process ends in the meantime, the next one completes the import.
    ///
    /// # Errors
    ///
    /// Fails, and queues nothing, if the checkpoint cannot be written.
    pub fn queue_import(
        &self,
        tenant: &Tenant,
        items: &[&str],
    ) -> Result<QueuedImport, CheckpointError> {
        let now = clock::now().into();
        let id = self.store.run(|checkpoint| checkpoint.queue_import(tenant.id, items, now))?;
        Ok(QueuedImport { id, tenant: tenant.id })
    }

    /// Imports queued snapshots. Days that are already stored do not change. Returns `None` if the
    /// import was completed before.
    ///
    /// # Errors
    ///
    /// Fails if the checkpoint cannot be read or written; the import then stays queued. A document
    /// that cannot be decoded or accepted is counted in [`PollReport::rejected`] instead.
    pub fn complete_import(
        &self,
        tenant: &Tenant,
        import: QueuedImport,
    ) -> Result<Option<PollReport>, PollError> {
        let items = self.store.run(|checkpoint| checkpoint.queued_snapshots(import))?;
        let Some(items) = items else { return Ok(None) };
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        self.import_items(tenant, &items, import.id).map(Some)
    }

    /// As [`Self::complete_import`], in the daemon: a running poll compares days with the same log,
    /// so the import waits for its end. Returns `None` also if the tenant is not configured.
    pub(in crate::daemon) async fn complete_import_after_poll(
        &self,
        import: QueuedImport,
    ) -> Result<Option<PollReport>, PollError> {
        let found = self.tenants.with_id(import.tenant);
        let Some((state, tenant)) = found.and_then(|state| Some((state, state.resolved()?))) else {
            return Ok(None);
        };
        let _polling = state.polling.lock().await;
        self.complete_import(&tenant, import)
    }

    /// Completes the imports that were interrupted, one after the other, and logs the results.
    pub(in crate::daemon) async fn resume_imports(&self) {
        let queued = match self.store.run(Checkpoint::queued_imports) {
            Ok(queued) => queued,
            Err(error) => return self.log_unfinished_import(&error.into()),
        };

        for import in queued {
            match contain(self.resume_import(import)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.log_unfinished_import(&error),
                Err(panic) => {
                    report_panic(&self.meters, ContainedTask::Request, "import", &panic);
                }
            }
        }
    }

    async fn resume_import(&self, import: QueuedImport) -> Result<(), PollError> {
        let QueuedImport { id, tenant } = import;
        let Some(state) = self.tenants.with_id(tenant) else {
            self.store.run(|checkpoint| checkpoint.drop_command(id))?;
            let hint = "add the tenant to the configuration, and run `import` again";
            tracing::warn!(
                %tenant,
                hint,
                "an interrupted import was discarded: its tenant is not configured"
            );
            return Ok(());
        };

        // The request that has queued the import may have completed it in the meantime.
        let Some(report) = self.complete_import_after_poll(import).await? else { return Ok(()) };
        let (days, rejected, tenant) = (report.days, report.rejected, &state.plan.name);
        tracing::info!(tenant, days, rejected, "an interrupted import was completed");
        Ok(())
    }

    /// Logs why an interrupted import was not completed. The next start tries again.
    fn log_unfinished_import(&self, error: &PollError) {
        if let PollError::Checkpoint(error) = error {
            self.meters.storage.note_error(error);
        }
        let error = Explanation::of(error);
        tracing::warn!(
            error = error.message,
            hint = error.hint,
            "an interrupted import cannot be completed"
        );
    }
}
