//! Applies a configuration to the sinks and cursors of the checkpoint. `sink_steps` decides what
//! changes; this module reads the checkpoint before, carries the steps out, and logs them. It must
//! run only while no deliverer is running. Start reading at [`Engine::apply_configuration`].
//! See decision 0051.

use std::time::Duration;

use super::{
    BuildError, Engine, PossibleRename, first_day, possible_renames,
    sink_steps::{ConfiguredSink, NameConflict, SinkStep, steps},
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, EntryFilter, OtherTenants, StoredSink},
    clock,
    config::{Configuration, TenantPlan},
    error::Explanation,
    model::{Day, TenantId, UnixMillis},
};

/// The longest remaining `Retry-After` that is restored at startup: the limit of one hour that the
/// source applies, plus the random fifth that the throttle adds.
pub(super) const MAX_RESTORED_RETRY_AFTER: Duration = Duration::from_mins(72);

impl Engine {
    /// Updates the sinks and cursors of the checkpoint to match the configuration.
    ///
    /// Fails if the checkpoint cannot be read or written, or if a sink cannot be renamed.
    pub fn apply_configuration(&self) -> Result<(), CheckpointError> {
        self.update_sinks()?;
        // With `state.removed_sinks = "0d"`, no time must pass before removed sinks are deleted.
        // For all others, a poll must have confirmed the clock; see `prune_daily`.
        if self.configuration.removed_sinks.is_zero() {
            self.delete_expired_sinks()?;
        }
        self.register_all()?;
        self.restore_retry_after()?;
        self.log_possible_renames();

        let is_tenant = |name: &str| self.tenant_named(name).is_some();
        self.meters.retain(is_tenant, |name| self.sinks().any(|sink| sink.name == name));
        Ok(())
    }

    /// Renames, restores, discards and removes sinks in the checkpoint.
    fn update_sinks(&self) -> Result<(), CheckpointError> {
        let now = UnixMillis::from(clock::now());

        for step in planned_steps(&self.configuration, &self.checkpoint)? {
            match step {
                SinkStep::Rename { from, to } => {
                    self.checkpoint.rename_sink(&from, &to, now)?;
                    tracing::info!(sink = to, old = from, "sink renamed");
                }
                SinkStep::Restore(name) => {
                    self.checkpoint.restore_sink(&name, now)?;
                    let entries = self.checkpoint.unsent_entries(&name)?;
                    tracing::info!(
                        sink = name,
                        entries,
                        "the sink is configured again and continues from its cursors"
                    );
                }
                SinkStep::Discard(name) => self.discard_sink(&name, now)?,
                SinkStep::Remove(name) => self.remove_sink(&name, now)?,
            }
        }
        Ok(())
    }

    fn discard_sink(&self, name: &str, now: UnixMillis) -> Result<(), CheckpointError> {
        let entries = self.checkpoint.unsent_entries(name)?;
        self.checkpoint.drop_sink(name, now)?;
        if entries > 0 {
            tracing::warn!(sink = name, entries, "sink removed, and its backlog discarded");
        } else {
            tracing::info!(sink = name, "sink removed");
        }
        Ok(())
    }

    fn remove_sink(&self, name: &str, now: UnixMillis) -> Result<(), CheckpointError> {
        self.checkpoint.remove_sink(name, now)?;
        let kept_until = now.saturating_add(self.configuration.removed_sinks);
        let kept_until = tracing::field::display(jiff::Timestamp::from(kept_until));

        // A sink without a backlog can still receive entries in a reload, between the check and the
        // end of the old generation.
        let entries = self.checkpoint.unsent_entries(name)?;
        if entries > 0 {
            tracing::warn!(
                sink = name,
                entries,
                kept_until,
                hint = "restore its section to send them",
                "sink removed; log entries that were appended during the reload are unsent"
            );
        } else {
            tracing::info!(sink = name, kept_until, "sink removed; its cursors are kept");
        }
        Ok(())
    }

    /// Deletes the cursors and dead letters of sinks that were removed long enough ago, and logs
    /// their names. The clock must be right.
    pub(super) fn delete_expired_sinks(&self) -> Result<(), CheckpointError> {
        let now = UnixMillis::from(clock::now());
        self.checkpoint.correct_removal_times(now)?;
        let until = now.saturating_sub(self.configuration.removed_sinks);
        let expired = self.checkpoint.delete_removed_sinks(until)?;
        if !expired.is_empty() {
            self.cursor_file.mark_moved();
        }
        for sink in expired {
            tracing::info!(sink, "the cursors and dead letters of a removed sink were deleted");
        }
        Ok(())
    }

    /// The new sinks for which `renamed_from` may be missing. A checkpoint that cannot be read is
    /// logged, because the list is not essential.
    pub(super) fn find_possible_renames(&self) -> Vec<PossibleRename> {
        let found = possible_renames(&self.configuration, &self.checkpoint, &self.clients);
        found.unwrap_or_else(|error| {
            let error = Explanation::of(&error);
            tracing::warn!(
                error = error.message,
                hint = error.hint,
                "cannot estimate what new sinks will receive"
            );
            Vec::new()
        })
    }

    fn log_possible_renames(&self) {
        for rename in self.possible_renames() {
            let Explanation { message, hint } = rename.explanation();
            tracing::warn!(sink = rename.added, records = rename.records, hint, "{message}");
        }
    }

    /// Registers every sink with a cursor for each tenant that it selects, and deactivates its
    /// cursors for all other tenants.
    fn register_all(&self) -> Result<(), CheckpointError> {
        let today = Day::of(clock::now());
        for sink in self.sinks() {
            let selected = self.tenants.iter().filter(|state| sink.tenants.matches(&state.plan));
            let resolved: Vec<TenantId> =
                selected.filter_map(|state| Some(state.resolved()?.id)).collect();
            let others = OtherTenants::Deactivate;
            self.checkpoint.register_sink(&sink.name, &resolved, others, first_day(sink, today))?;

            let filter =
                if sink.selection.quality { EntryFilter::All } else { EntryFilter::Snapshots };
            self.checkpoint.set_entry_filter(&sink.name, filter)?;
            self.checkpoint.set_sink_type(&sink.name, sink.kind)?;
        }
        Ok(())
    }

    /// Adds a cursor for this tenant to every sink that selects it.
    pub(super) fn register(&self, plan: &TenantPlan, id: TenantId) -> Result<(), CheckpointError> {
        let today = Day::of(clock::now());
        for sink in self.sinks().filter(|sink| sink.tenants.matches(plan)) {
            let others = OtherTenants::Keep;
            self.checkpoint.register_sink(&sink.name, &[id], others, first_day(sink, today))?;
        }
        Ok(())
    }

    /// Restores the pauses that servers requested with `Retry-After` before a restart.
    fn restore_retry_after(&self) -> Result<(), CheckpointError> {
        let now = UnixMillis::from(clock::now());
        let stored = self.checkpoint.poll_states()?;
        for state in &self.tenants {
            let Some(tenant) = state.resolved() else { continue };
            let Some(end) = stored.get(&tenant.id).and_then(|polls| polls.not_before) else {
                continue;
            };
            let rest = end.known_rest(now, MAX_RESTORED_RETRY_AFTER);
            if !rest.is_zero() {
                state.graph.restore_pause(rest);
            }
        }
        Ok(())
    }
}

/// Checks that a configuration loses no backlog of a sink, and renames no sink to a name that is in
/// use. Writes nothing.
///
/// # Errors
///
/// Fails with [`BuildError::DroppedSink`] or [`CheckpointError::SinkExists`] if it does, or if the
/// checkpoint cannot be read.
pub fn check_sinks(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
) -> Result<(), BuildError> {
    for step in planned_steps(configuration, checkpoint)? {
        let SinkStep::Remove(name) = step else { continue };
        let backlog = checkpoint.unsent_entries(&name)?;
        if backlog > 0 {
            return Err(BuildError::DroppedSink(name, backlog));
        }
    }
    Ok(())
}

fn planned_steps(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
) -> Result<Vec<SinkStep>, CheckpointError> {
    let stored = kept_sinks(configuration, checkpoint)?;
    let configured: Vec<ConfiguredSink<'_>> =
        configuration.sinks.iter().map(ConfiguredSink::from).collect();
    steps(&stored, &configured)
        .map_err(|NameConflict { old, new }| CheckpointError::SinkExists(old, new))
}

/// The sinks of the checkpoint, without removed ones that are not kept at all. A removed sink whose
/// time has passed counts until it is deleted, because the clock may be wrong. Fails if the
/// checkpoint cannot be read.
pub(super) fn kept_sinks(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
) -> Result<Vec<StoredSink>, CheckpointError> {
    let are_kept = !configuration.removed_sinks.is_zero();
    let mut sinks = checkpoint.stored_sinks()?;
    sinks.retain(|sink| are_kept || sink.removed_at.is_none());
    Ok(sinks)
}
