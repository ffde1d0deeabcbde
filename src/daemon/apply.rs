//! The configured sinks, and their sinks and cursors in the checkpoint. `sink_steps` decides what a
//! configuration changes; this module reads the checkpoint before, carries the steps out, and logs
//! them. A configuration must be applied only while no deliverer is running, because this module
//! renames and deletes the cursors that deliverers move. Start reading at
//! [`SinkConfiguration::apply`]. See decision 0051.

use std::sync::Arc;

use super::{
    BuildError, CursorFileWriter, PossibleRename, StoreExecutor, Tenants, first_day,
    possible_renames, sink_context,
    sink_steps::{ConfiguredSink, NameConflict, SinkStep, steps},
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, EntryFilter, OtherTenants, StoredSink},
    clock,
    config::{Configuration, SinkPlan, TenantPlan},
    error::Explanation,
    model::{Day, SinkName, TenantId, UnixMillis},
    sink::Context,
    source::Clients,
};

/// The sinks of one configuration, which it registers in the checkpoint. It never delivers, and
/// moves a cursor only when it is created, or when its first day is corrected.
#[derive(Debug)]
pub struct SinkConfiguration {
    configuration: Arc<Configuration>,
    store: StoreExecutor,
    tenants: Arc<Tenants>,
    cursor_file: Arc<CursorFileWriter>,
    clients: Arc<Clients>,
    /// See [`Self::possible_renames`].
    possible_renames: Vec<PossibleRename>,
}

/// The sinks whose first day is compared with a confirmed clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartDayCheck {
    /// All of them.
    All,
    /// Those whose first day was determined before the clock was confirmed.
    Provisional,
}

/// Whether the first day of a sink was corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartDays {
    Corrected,
    Unchanged,
}

impl SinkConfiguration {
    /// The sinks of a configuration that is not applied yet. Reads the checkpoint, and writes
    /// nothing.
    pub(super) fn new(
        configuration: Arc<Configuration>,
        store: StoreExecutor,
        tenants: Arc<Tenants>,
        cursor_file: Arc<CursorFileWriter>,
        clients: Arc<Clients>,
    ) -> Self {
        let possible_renames = find_possible_renames(&configuration, store.checkpoint(), &clients);
        Self { configuration, store, tenants, cursor_file, clients, possible_renames }
    }

    /// The sinks that records are sent to, in the order of the configuration.
    pub fn active(&self) -> impl Iterator<Item = &SinkPlan> {
        self.configuration.sinks.iter().filter(|sink| !sink.discarded)
    }

    /// The sink with this name; `None` also if its delivery is stopped.
    pub fn named(&self, name: &SinkName) -> Option<&SinkPlan> {
        self.configuration.sink_named(name).filter(|sink| !sink.discarded)
    }

    /// New sinks for which `renamed_from` may be missing, as they were found before the
    /// configuration was applied.
    pub fn possible_renames(&self) -> &[PossibleRename] {
        &self.possible_renames
    }

    /// What a sink needs to open.
    pub(super) fn context_of(&self, plan: &SinkPlan) -> Context {
        sink_context(plan, &self.clients)
    }

    /// The HTTP clients whose tokens the sinks use.
    pub(super) fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    /// Updates the sinks and cursors of the checkpoint to match the configuration.
    ///
    /// Fails if the checkpoint cannot be read or written, or if a sink cannot be renamed.
    pub(super) fn apply(&self) -> Result<(), CheckpointError> {
        self.update_sinks()?;
        // With `state.removed_sinks = "0d"`, no time must pass before removed sinks are deleted.
        // For all others, a poll must have confirmed the clock; see `Operations::prune_daily`.
        if self.configuration.removed_sinks.is_zero() {
            self.delete_expired()?;
        }
        self.register_all()
    }

    /// Renames, restores, discards and removes sinks in the checkpoint.
    fn update_sinks(&self) -> Result<(), CheckpointError> {
        let now = UnixMillis::from(clock::now());
        let checkpoint = self.store.checkpoint();

        for step in planned_steps(&self.configuration, checkpoint)? {
            match step {
                SinkStep::Rename { from, to } => {
                    checkpoint.rename_sink(&from, &to, now)?;
                    self.cursor_file.mark_moved();
                    tracing::info!(sink = to.as_str(), old = from.as_str(), "sink renamed");
                }
                SinkStep::Restore(name) => {
                    checkpoint.restore_sink(&name, now)?;
                    let entries = checkpoint.unsent_entries(&name)?;
                    tracing::info!(
                        sink = name.as_str(),
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

    fn discard_sink(&self, name: &SinkName, now: UnixMillis) -> Result<(), CheckpointError> {
        let checkpoint = self.store.checkpoint();
        let entries = checkpoint.unsent_entries(name)?;
        checkpoint.drop_sink(name, now)?;
        self.cursor_file.mark_moved();
        if entries > 0 {
            tracing::warn!(
                sink = name.as_str(),
                entries,
                "sink removed, and its backlog discarded"
            );
        } else {
            tracing::info!(sink = name.as_str(), "sink removed");
        }
        Ok(())
    }

    fn remove_sink(&self, name: &SinkName, now: UnixMillis) -> Result<(), CheckpointError> {
        let checkpoint = self.store.checkpoint();
        checkpoint.remove_sink(name, now)?;
        let kept_until = now.saturating_add(self.configuration.removed_sinks);
        let kept_until = tracing::field::display(jiff::Timestamp::from(kept_until));

        // A sink without a backlog can still receive entries in a reload, between the check and the
        // end of the old generation.
        let entries = checkpoint.unsent_entries(name)?;
        if entries > 0 {
            tracing::warn!(
                sink = name.as_str(),
                entries,
                kept_until,
                hint = "restore its section to send them",
                "sink removed; log entries that were appended during the reload are unsent"
            );
        } else {
            tracing::info!(sink = name.as_str(), kept_until, "sink removed; its cursors are kept");
        }
        Ok(())
    }

    /// Deletes the cursors and dead letters of sinks that were removed long enough ago, and logs
    /// their names. The clock must be right.
    pub(super) fn delete_expired(&self) -> Result<(), CheckpointError> {
        let now = UnixMillis::from(clock::now());
        let checkpoint = self.store.checkpoint();
        checkpoint.correct_removal_times(now)?;
        let until = now.saturating_sub(self.configuration.removed_sinks);
        let expired = checkpoint.delete_removed_sinks(until)?;
        if !expired.is_empty() {
            self.cursor_file.mark_moved();
        }
        for sink in expired {
            tracing::info!(
                sink = sink.as_str(),
                "the cursors and dead letters of a removed sink were deleted"
            );
        }
        Ok(())
    }

    /// Registers every sink with a cursor for each tenant that it selects, and deactivates its
    /// cursors for all other tenants.
    fn register_all(&self) -> Result<(), CheckpointError> {
        let today = Day::of(clock::now());
        let checkpoint = self.store.checkpoint();
        for sink in self.active() {
            let selected = self.tenants.iter().filter(|state| sink.tenants.matches(&state.plan));
            let resolved: Vec<TenantId> =
                selected.filter_map(|state| Some(state.resolved()?.id)).collect();
            let others = OtherTenants::Deactivate;
            checkpoint.register_sink(&sink.name, &resolved, others, first_day(sink, today))?;

            let filter =
                if sink.selection.quality { EntryFilter::All } else { EntryFilter::Snapshots };
            checkpoint.set_entry_filter(&sink.name, filter)?;
            checkpoint.set_sink_type(&sink.name, sink.kind)?;
        }
        Ok(())
    }

    /// Adds a cursor for this tenant to every sink that selects it.
    pub(super) fn register(&self, plan: &TenantPlan, id: TenantId) -> Result<(), CheckpointError> {
        let today = Day::of(clock::now());
        for sink in self.active().filter(|sink| sink.tenants.matches(plan)) {
            let (others, start_from) = (OtherTenants::Keep, first_day(sink, today));
            self.store.checkpoint().register_sink(&sink.name, &[id], others, start_from)?;
        }
        Ok(())
    }

    /// Corrects the first days of cursors that were created with a wrong clock. The clock must be
    /// right. Returns whether a first day was corrected.
    ///
    /// Fails if the checkpoint cannot be read or written.
    pub(super) fn confirm_start_days(
        &self,
        check: StartDayCheck,
        today: Day,
    ) -> Result<StartDays, CheckpointError> {
        let checkpoint = self.store.checkpoint();
        let provisional = checkpoint.provisional_sinks()?;
        let is_checked =
            |name: &SinkName| check == StartDayCheck::All || provisional.contains(name);

        let mut days = StartDays::Unchanged;
        for sink in self.active().filter(|sink| is_checked(&sink.name)) {
            let start_from = first_day(sink, today);
            if checkpoint.confirm_start_day(&sink.name, start_from, today)? {
                days = StartDays::Corrected;
                tracing::warn!(
                    sink = sink.name.as_str(),
                    start_from = tracing::field::display(start_from),
                    "the sink was added with a wrong clock; its first day was corrected"
                );
            }
        }

        if days == StartDays::Corrected {
            self.cursor_file.mark_moved();
        }
        Ok(days)
    }

    /// Logs the new sinks for which `renamed_from` may be missing.
    pub(super) fn log_possible_renames(&self) {
        for rename in &self.possible_renames {
            let Explanation { message, hint } = rename.explanation();
            tracing::warn!(
                sink = rename.added.as_str(),
                records = rename.records,
                hint,
                "{message}"
            );
        }
    }
}

/// The new sinks for which `renamed_from` may be missing. A checkpoint that cannot be read is
/// logged, because the list is not essential.
fn find_possible_renames(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
    clients: &Arc<Clients>,
) -> Vec<PossibleRename> {
    possible_renames(configuration, checkpoint, clients).unwrap_or_else(|error| {
        let error = Explanation::of(&error);
        tracing::warn!(
            error = error.message,
            hint = error.hint,
            "cannot estimate what new sinks will receive"
        );
        Vec::new()
    })
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
    let configured: Vec<ConfiguredSink> =
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
