//! The two kinds of loop in the daemon, which share only the checkpoint: the collector polls and
//! appends entries, and each sink's deliverer reads entries from the sink's cursors.
//!
//! The loops never call each other. [`LogSignal`] notifies deliverers when the log has grown.
//! Start reading at [`Engine`], then `lifecycle`, `collector` and `deliverer`. See decision 0002.

mod apply;
mod changes;
mod collector;
mod containment;
mod control;
mod cursor_file_writer;
mod dead_letters;
mod deliverer;
mod estimate;
mod facts;
mod fetch;
mod host_clock;
mod interrupted_polls;
mod lifecycle;
mod log_signal;
mod meters;
mod once;
mod outage;
mod poll;
mod poller;
mod possible_renames;
mod replay;
mod report;
mod request_failure;
mod sampler;
mod self_report;
mod sink_steps;
mod socket_user;
mod storage_watch;
mod store_executor;
mod systemd;
mod tenants;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, path::Path, sync::Arc};

use secrecy::SecretString;

pub use apply::check_sinks;
pub use changes::{Changes, NamedChanges, ReloadReport, Renamed, TenantRemovals};
use collector::PollLimits;
pub use collector::{PollError, PollReport};
pub use containment::{CaughtPanic, ContainedTask, contain, contained, end_on_panic, report_panic};
pub use control::{Event, Request, send_request};
pub use cursor_file_writer::CursorFileWriter;
pub use dead_letters::{DeadLetterRecord, dead_letter_record};
pub use deliverer::{Deliverer, DeliveryError};
pub use estimate::{Estimate, estimate};
pub use facts::{ConfiguredTenant, CurrentStatus, DaemonState};
pub use fetch::{FetchedTenant, fetch_tenant};
pub use lifecycle::{LoadConfiguration, RunError, run};
pub use log_signal::LogSignal;
pub use meters::{Meters, PollCounts, SinkMeter};
pub use once::{OnceReport, SinkReport, backfill, once};
pub use poll::PollOutcome;
pub use poller::Poller;
pub use possible_renames::{PossibleRename, possible_renames};
pub use replay::{ReplayError, ReplayExtent, ReplayRequest, deliver_queued, estimate_replay};
pub use report::Reporter;
pub use request_failure::{RequestFailure, RequestFailureKind};
use store_executor::StoreExecutor;
pub(crate) use store_executor::blocking;
pub use tenants::TenantState;

use crate::{
    checkpoint::{Checkpoint, CheckpointError, Pruned},
    clock,
    config::{Configuration, SignIn, SinkPlan, TenantName, TenantPlan},
    error::{Explanation, Hint, chain},
    files::HostFault,
    model::{Day, DayFacts, Tenant, TenantId},
    sink::{BoxFuture, Context, Failure, Tokens},
    source::{Clients, Graph, ResourceTokens, SourceError},
    text::{plural, with_separators},
    wire,
};

/// Everything that runs under one configuration. Building it starts no work.
#[derive(Debug)]
pub struct Engine {
    /// The validated configuration; a reload builds another engine.
    pub configuration: Configuration,
    /// The open checkpoint, which the next engine continues to use after a reload.
    pub checkpoint: Arc<Checkpoint>,
    /// Runs calls of `checkpoint` in asynchronous code.
    store: StoreExecutor,
    /// The counters of the process, which survive a reload.
    pub meters: Arc<Meters>,
    /// In the order of the configuration.
    pub tenants: Vec<TenantState>,
    /// Held while a resolved tenant ID is compared with those of the other tenants and registered.
    resolution_lock: tokio::sync::Mutex<()>,
    clients: Arc<Clients>,
    /// Limits the memory of concurrent polls; see [`POLL_PERMITS`].
    poll_limits: PollLimits,
    /// Notifies the readers of the log of this engine.
    log: LogSignal,
    /// Writes the second cursor file when cursors have moved.
    cursor_file: CursorFileWriter,
    /// See [`Self::possible_renames`].
    possible_renames: Vec<PossibleRename>,
}

/// The permits that all polls share. A poll of the newest days takes one. A poll that reads further
/// back takes more, because its days stay in memory until the oldest one has arrived.
const POLL_PERMITS: usize = 8;
const PERMITS_PER_BACKFILL: usize = 4;

/// Free disk space in bytes below which polling pauses (decision 0019). The reserve is for cursors:
/// a poll can be repeated for 90 days, but records are sent again if their cursor cannot be
/// written.
const RESERVED_BYTES: u64 = 16 << 20;

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
    DroppedSink(String, u64),
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
        let checkpoint = Arc::new(Checkpoint::open(&configuration.state_directory)?);
        let meters = Arc::new(Meters::new(clock::now()));
        let engine = Self::prepare(configuration, checkpoint, meters)?;
        engine.apply_configuration()?;
        engine.restore_outages()?;
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

        Self::prepare(configuration, Arc::clone(&self.checkpoint), Arc::clone(&self.meters))
    }

    /// Performs all steps of a start that can fail because of the configuration. Writes nothing.
    fn prepare(
        configuration: Configuration,
        checkpoint: Arc<Checkpoint>,
        meters: Arc<Meters>,
    ) -> Result<Arc<Self>, BuildError> {
        let clients = Arc::new(Clients::new(&configuration.http)?);

        let mut tenants: Vec<TenantState> = Vec::new();
        for plan in &configuration.tenants {
            let id = match &plan.id {
                TenantName::Guid(id) => Some(*id),
                TenantName::Domain(domain) => checkpoint.tenant_of_domain(domain)?,
            };
            if let Some(id) = id
                && let Some(other) =
                    tenants.iter().find(|t| t.resolved().is_some_and(|tenant| tenant.id == id))
            {
                return Err(BuildError::SameTenant(
                    other.plan.name.clone(),
                    plan.name.clone(),
                    id.to_string(),
                ));
            }
            tenants.push(TenantState::new(
                plan.clone(),
                id,
                Graph::new(clients.clone(), plan.access.clone()),
            ));
        }

        let store = StoreExecutor::new(Arc::clone(&checkpoint));
        let cursor_file = CursorFileWriter::new(store.clone(), Arc::clone(&meters));
        let mut engine = Self {
            configuration,
            checkpoint,
            store,
            meters,
            tenants,
            resolution_lock: tokio::sync::Mutex::default(),
            clients,
            poll_limits: PollLimits::new(POLL_PERMITS, PERMITS_PER_BACKFILL),
            log: LogSignal::default(),
            cursor_file,
            possible_renames: Vec::new(),
        };
        check_sinks(&engine.configuration, &engine.checkpoint)?;
        engine.possible_renames = engine.find_possible_renames();
        Ok(Arc::new(engine))
    }

    /// New sinks for which `renamed_from` may be missing, as they were found when this engine was
    /// built.
    pub fn possible_renames(&self) -> &[PossibleRename] {
        &self.possible_renames
    }

    /// The sinks that records are sent to.
    pub fn sinks(&self) -> impl Iterator<Item = &SinkPlan> {
        self.configuration.sinks.iter().filter(|sink| !sink.discarded)
    }

    /// Notifies the readers of the log when it has grown or something was queued.
    pub fn log(&self) -> &LogSignal {
        &self.log
    }

    /// Writes the second cursor file when cursors have moved.
    pub fn cursor_file(&self) -> &CursorFileWriter {
        &self.cursor_file
    }

    /// The tenant with this name in the configuration.
    pub fn tenant_named(&self, name: &str) -> Option<&TenantState> {
        self.tenants.iter().find(|state| state.plan.name == name)
    }

    /// The sink with this name; `None` also if its delivery is stopped.
    pub fn sink_named(&self, name: &str) -> Option<&SinkPlan> {
        self.configuration.sink_named(name).filter(|sink| !sink.discarded)
    }

    /// Prunes bodies as [`prune`] does, at most once per day, and logs the result. Does nothing
    /// until a poll has confirmed the clock.
    fn prune_daily(&self) {
        if !self.meters.clock.is_confirmed() {
            return;
        }
        let today = Day::of(clock::now());
        let pruned = self.store.run(|checkpoint| {
            // The cursors of removed sinks protect unsent bodies until they are deleted.
            self.delete_expired_sinks()?;
            if checkpoint.last_prune_day()? == Some(today) {
                return Ok(Pruned::default());
            }
            let pruned = prune(&self.configuration, checkpoint)?;
            checkpoint.set_last_prune_day(today)?;
            Ok::<_, CheckpointError>(pruned)
        });

        match pruned {
            Ok(Pruned { days: 0, .. }) => {}
            Ok(Pruned { days, used_bytes: used }) => {
                tracing::info!(days, used_bytes = used, "pruned the bodies of old days");
            }
            Err(error) => {
                let error = Explanation::of(&error);
                tracing::error!(
                    error = error.message,
                    hint = error.hint,
                    "cannot prune the bodies of old days"
                );
            }
        }
    }
}

/// The facts of a stored body; `None` if the body cannot be decoded.
pub fn facts_of(body: &str) -> Option<DayFacts> {
    DayFacts::of(&wire::snapshot(body).ok()?)
}

/// Prunes bodies by `state.retention_days` and `state.max_size`. Logs an error if the checkpoint
/// still exceeds `state.max_size` afterward.
///
/// # Errors
///
/// Fails if the checkpoint cannot be read or written.
pub fn prune(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
) -> Result<Pruned, CheckpointError> {
    let today = Day::of(clock::now());
    let before = today.plus(-configuration.retention_days);
    let pruned = checkpoint.prune(before, configuration.max_size, today)?;

    if let Some(limit) = configuration.max_size.filter(|limit| pruned.used_bytes > *limit) {
        tracing::error!(
            used_bytes = pruned.used_bytes,
            max_bytes = limit,
            hint = "increase `state.max_size`, or restore delivery to the sinks with a backlog",
            "the checkpoint is larger than `state.max_size`: all remaining bodies are unsent or belong to the newest 90 days"
        );
    }
    Ok(pruned)
}

/// Free bytes on the disk of a directory; `None` if they cannot be determined.
fn free_bytes(directory: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether the disk has more free space than the reserve for cursors.
fn has_free_space(directory: &Path) -> bool {
    // A fault of the file system is reported by the write that follows.
    free_bytes(directory).is_none_or(|free| free >= RESERVED_BYTES)
}

/// The first day that is sent to a sink that the checkpoint does not contain yet. A sink that
/// begins with the day on which it was added may have been read from the configuration with a wrong
/// clock.
fn first_day(sink: &SinkPlan, today: Day) -> Day {
    sink.start_from.map_or_else(|| today.plus(-90), |day| day.min(today))
}

/// The parts of the configuration and the properties of the host that a sink needs to open.
pub fn sink_context(plan: &SinkPlan, clients: &Arc<Clients>) -> Context {
    let tokens = plan.sign_in.as_ref().map(|sign_in| -> Arc<dyn Tokens> {
        let SignIn { credential, tenant, login_url, resource } = sign_in.clone();
        Arc::new(SinkTokens(ResourceTokens::new(
            Arc::clone(clients),
            credential,
            tenant,
            login_url,
            resource,
        )))
    });

    Context {
        tokens,
        name: plan.name.clone(),
        host: host_name(),
        texts: plan.texts,
        fields: plan.fields.clone(),
    }
}

/// Provides sinks with tokens from the token cache of the source.
#[derive(Debug)]
struct SinkTokens(ResourceTokens);

impl Tokens for SinkTokens {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        Box::pin(async move {
            self.0.get().await.map_err(|error| {
                let reason = format!("cannot get a token from Entra: {}", chain(&error));
                if let Some(fault) = HostFault::of(&error) {
                    Failure::Host { reason, fault }
                } else if error.is_transient() {
                    Failure::Retry { reason, after: error.retry_after(), hint: error.hint() }
                } else {
                    Failure::Misconfigured { reason, hint: error.hint() }
                }
            })
        })
    }

    fn reject<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, ()> {
        Box::pin(self.0.reject(token))
    }
}

/// The name of this host, as it appears in records and syslog headers.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// A configured tenant with its ID; `None` if its domain has not been resolved yet.
pub fn resolved_tenant(plan: &TenantPlan, checkpoint: &Checkpoint) -> Option<Tenant> {
    resolved_id(plan, Some(checkpoint)).map(|id| tenant_of(plan, id))
}

/// The ID of a tenant from its configuration, or from the checkpoint if its domain was resolved.
/// `checkpoint` is `None` if there is none.
pub fn resolved_id(plan: &TenantPlan, checkpoint: Option<&Checkpoint>) -> Option<TenantId> {
    match &plan.id {
        TenantName::Guid(id) => Some(*id),
        TenantName::Domain(domain) => checkpoint?.tenant_of_domain(domain).ok().flatten(),
    }
}

/// The tenant of a plan, as it appears in records.
fn tenant_of(plan: &TenantPlan, id: TenantId) -> Tenant {
    Tenant { id, name: plan.name.clone(), labels: plan.labels.clone() }
}
