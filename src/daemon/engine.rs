//! Composes everything that runs under one configuration.
//!
//! The engine creates its parts and returns references to them. Each duty belongs to one part,
//! whose fields no other part can see; the engine itself must never poll, deliver, or write to the
//! checkpoint. Start reading at [`Engine::build`]. See decision 0030.

use std::{borrow::Cow, sync::Arc};

use super::{
    Changes, Collector, CursorFileWriter, LogSignal, Meters, Operations, SinkConfiguration,
    StoreExecutor, TenantRemovals, Tenants, changes, check_sinks, host_clock::HostClockWatch,
    self_report::SelfReport,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    clock,
    config::Configuration,
    error::Hint,
    model::SinkName,
    source::{Clients, SourceError},
    text::{plural, with_separators},
};

/// Everything that runs under one configuration. Building it starts no work.
#[derive(Debug)]
pub struct Engine {
    /// A reload builds another engine.
    configuration: Arc<Configuration>,
    /// The open checkpoint, which the next engine continues to use after a reload.
    store: StoreExecutor,
    /// They survive a reload.
    meters: Arc<Meters>,
    tenants: Arc<Tenants>,
    log: Arc<LogSignal>,
    cursor_file: Arc<CursorFileWriter>,
    sinks: Arc<SinkConfiguration>,
    host_clock: Arc<HostClockWatch>,
    collector: Collector,
    operations: Operations,
    self_report: SelfReport,
}

/// Why an engine cannot be built from a configuration.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The names of two configured tenants, and the ID that both have.
    #[error("tenants `{0}` and `{1}` have the same ID `{2}`")]
    SameTenant(String, String, String),
    /// The name of a sink with a backlog that the configuration no longer contains.
    #[error(
        "sink `{}` is no longer configured, but has {}",
        .0, plural(*.1, "unsent log entry", "unsent log entries")
    )]
    DroppedSink(SinkName, u64),
    /// The names of the tenants that a reload would remove, and the number of tenants before it.
    #[error(
        "the new configuration removes {} of {} tenants, more than {}%: {}",
        with_separators(.removed.len()), with_separators(*.tenants),
        changes::MAX_REMOVED_PERCENT, changes::listed_names(.removed)
    )]
    TooManyRemovals { removed: Vec<String>, tenants: usize },
    /// The key that requires a restart.
    #[error("`{0}` cannot be changed while the daemon is running")]
    NotReloadable(&'static str),
}

impl Hint for BuildError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Checkpoint(error) => error.hint(),
            Self::Source(error) => error.hint(),
            Self::SameTenant(..) => Some("remove one of the two from the configuration".into()),
            Self::DroppedSink(..) => Some(
                "restore its section, name it in `renamed_from` of its successor, or start once with `discard_backlog = true` in its section".into(),
            ),
            Self::TooManyRemovals { .. } => {
                Some("check the list of tenants, or run `reload --allow-removals`".into())
            }
            Self::NotReloadable(_) => Some("restart the daemon".into()),
        }
    }
}

impl Engine {
    /// Opens the checkpoint, takes its lock and applies the configuration to it. Sends no request.
    ///
    /// Fails if the checkpoint cannot be opened, if two tenants have the same ID, or if a sink with
    /// a backlog is no longer configured.
    pub fn build(configuration: Configuration) -> Result<Arc<Self>, BuildError> {
        let checkpoint = Checkpoint::open(&configuration.state_directory)?;
        Self::build_on(configuration, checkpoint)
    }

    /// As [`Self::build`], on an open checkpoint.
    pub(super) fn build_on(
        configuration: Configuration,
        checkpoint: Checkpoint,
    ) -> Result<Arc<Self>, BuildError> {
        let store = StoreExecutor::new(Arc::new(checkpoint));
        let meters = Arc::new(Meters::new(clock::now()));
        let engine = Self::prepare(configuration, store, meters)?;
        engine.apply_configuration()?;

        let failures = engine.store.checkpoint().failures()?;
        engine.meters.outages.restore_all(&failures, &engine.tenants, engine.sinks.active());
        // A restored checkpoint has no second cursor file, or the file of another checkpoint.
        engine.cursor_file.mark_moved();
        Ok(engine)
    }

    /// Builds the engine for another configuration on the same checkpoint. Writes nothing: call
    /// [`Self::apply_configuration`] after the work of this engine has ended.
    ///
    /// Fails as [`Self::build`] does, if a key was changed that requires a restart, and if
    /// `removals` does not permit the removal of so many tenants.
    pub fn reconfigured(
        &self,
        configuration: Configuration,
        removals: TenantRemovals,
    ) -> Result<Arc<Self>, BuildError> {
        if configuration.state_directory != self.configuration.state_directory {
            return Err(BuildError::NotReloadable("state.directory"));
        }
        if configuration.admin.as_ref().map(|admin| (&admin.listen, &admin.hosts))
            != self.configuration.admin.as_ref().map(|admin| (&admin.listen, &admin.hosts))
        {
            return Err(BuildError::NotReloadable("admin.listen` and `admin.hosts"));
        }

        let removed = Changes::between(&self.configuration, &configuration).tenants.removed;
        let tenants = self.configuration.tenants.len();
        if !removals.permit(removed.len(), tenants) {
            return Err(BuildError::TooManyRemovals { removed, tenants });
        }

        Self::prepare(configuration, self.store.clone(), Arc::clone(&self.meters))
    }

    /// Performs all steps of a start that can fail because of the configuration. Writes nothing.
    fn prepare(
        configuration: Configuration,
        store: StoreExecutor,
        meters: Arc<Meters>,
    ) -> Result<Arc<Self>, BuildError> {
        let clients = Arc::new(Clients::new(&configuration.http)?);
        let tenants = Tenants::new(&configuration.tenants, store.checkpoint(), &clients)?;
        check_sinks(&configuration, store.checkpoint())?;

        Ok(Arc::new(Self::compose(configuration, store, meters, tenants, clients)))
    }

    /// Creates the parts in the order in which they use each other.
    fn compose(
        configuration: Configuration,
        store: StoreExecutor,
        meters: Arc<Meters>,
        tenants: Tenants,
        clients: Arc<Clients>,
    ) -> Self {
        let (configuration, tenants) = (Arc::new(configuration), Arc::new(tenants));
        let log = Arc::new(LogSignal::default());
        let cursor_file = Arc::new(CursorFileWriter::new(store.clone(), meters.clone()));
        let sinks = Arc::new(SinkConfiguration::new(
            configuration.clone(),
            store.clone(),
            tenants.clone(),
            cursor_file.clone(),
            clients,
        ));
        let host_clock = Arc::new(HostClockWatch::new(
            store.clone(),
            meters.clone(),
            tenants.clone(),
            sinks.clone(),
            log.clone(),
        ));

        let collector = Collector::new(
            configuration.clone(),
            store.clone(),
            meters.clone(),
            tenants.clone(),
            sinks.clone(),
            log.clone(),
            host_clock.clone(),
        );
        let operations = Operations::new(
            configuration.clone(),
            store.clone(),
            meters.clone(),
            tenants.clone(),
            sinks.clone(),
            log.clone(),
        );
        let self_report = SelfReport::new(configuration.clone(), store.clone(), meters.clone());

        Self {
            configuration,
            store,
            meters,
            tenants,
            log,
            cursor_file,
            sinks,
            host_clock,
            collector,
            operations,
            self_report,
        }
    }

    /// Updates the checkpoint to match the configuration, and restores the pauses that servers
    /// requested with `Retry-After` before a restart.
    ///
    /// Fails if the checkpoint cannot be read or written, or if a sink cannot be renamed.
    pub fn apply_configuration(&self) -> Result<(), CheckpointError> {
        self.sinks.apply()?;
        self.tenants.restore_pauses(&self.store.checkpoint().poll_states()?);
        self.sinks.log_possible_renames();

        let is_tenant = |name: &str| self.tenants.named(name).is_some();
        self.meters.retain(is_tenant, |name| self.sinks.named(name).is_some());
        Ok(())
    }

    /// The validated configuration.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Runs calls of the open checkpoint.
    pub fn store(&self) -> &StoreExecutor {
        &self.store
    }

    /// The counters of the process.
    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// The configured tenants.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// The configured sinks, and what the checkpoint stores about them.
    pub fn sinks(&self) -> &SinkConfiguration {
        &self.sinks
    }

    /// Notifies the readers of the log when it has grown or something was queued.
    pub fn log(&self) -> &LogSignal {
        &self.log
    }

    /// Writes the second cursor file when cursors have moved.
    pub fn cursor_file(&self) -> &CursorFileWriter {
        &self.cursor_file
    }

    /// Polls tenants, and appends to their logs.
    pub fn collector(&self) -> &Collector {
        &self.collector
    }

    /// Carries out the commands that change the checkpoint.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Compares the clock of this host with Microsoft's.
    pub(super) fn host_clock(&self) -> &Arc<HostClockWatch> {
        &self.host_clock
    }

    /// Stores what the daemon reports about itself.
    pub(super) fn self_report(&self) -> &SelfReport {
        &self.self_report
    }
}
