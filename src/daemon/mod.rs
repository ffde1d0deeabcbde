//! The two loops that meet in the checkpoint: the collector appends entries, each sink's deliverer
//! reads on from its own cursors. Neither knows of the other; a bell tells deliverers that there
//! is something to read.

mod collector;
mod control;
mod deliverer;
mod estimate;
mod fetch;
mod lifecycle;
mod meters;
mod once;
mod replay;
mod report;
mod systemd;
mod tenants;

use std::{
    borrow::Cow,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use secrecy::SecretString;
use tokio::sync::{Semaphore, watch};

pub use collector::{PollError, PollReport};
pub use control::{Event, Request, send_request};
pub use deliverer::{Deliverer, DeliveryError};
pub use estimate::{Estimate, estimate};
pub use fetch::{FetchedTenant, fetch_tenant};
pub use lifecycle::{LoadConfiguration, Poller, RunError, run};
pub use meters::{Meters, PollCounts, SinkMeter, SinkState};
pub use once::{OnceReport, backfill, once};
pub use replay::{ReplayError, ReplaySelection, deliver_queued};
pub use report::Reporter;
pub use tenants::{ResolutionFailure, TenantState};

use crate::{
    checkpoint::{Checkpoint, CheckpointError, Pruned},
    clock,
    config::{Configuration, SignIn, SinkPlan, TenantName, TenantPlan},
    error::{Hint, chain},
    model::{Day, DayFacts, Tenant, TenantId},
    sink::{BoxFuture, Context, Failure, Tokens},
    source::{Clients, Graph, ResourceTokens, SourceError},
    wire,
};

/// Everything that a run needs, built and not yet moving.
#[derive(Debug)]
pub struct Engine {
    pub configuration: Configuration,
    pub checkpoint: Arc<Checkpoint>,
    pub meters: Arc<Meters>,
    pub tenants: Vec<TenantState>,
    /// Held while it is found out who a tenant is.
    meeting: tokio::sync::Mutex<()>,
    clients: Arc<Clients>,
    /// What bounds the memory of polls.
    turns: Semaphore,
    /// Rung when the log has grown.
    log_grown: watch::Sender<u64>,
    /// Cursors have moved since the second cursor file was written.
    cursors_moved: AtomicBool,
}

/// An hour and a fifth: see `net::retry_after` and the throttle.
const LONGEST_PROMISE_MS: i64 = 72 * 60 * 1_000;

/// A poll of the newest days takes one turn of these, one that reads back takes more: its days wait
/// in memory until the oldest is there.
const TURNS: usize = 8;
const TURNS_OF_A_BACKFILL: u32 = 4;

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("tenants `{0}` and `{1}` are one and the same: {2}")]
    SameTenant(String, String, String),
    #[error("sink `{0}` is not configured any more, and {1} days are still unsent")]
    Dropped(String, u64),
    #[error("`{0}` cannot be changed while the daemon is running")]
    Fixed(&'static str),
}

impl Hint for BuildError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Checkpoint(error) => error.hint(),
            Self::Source(error) => error.hint(),
            Self::SameTenant(..) => None,
            Self::Dropped(..) => Some(
                "restore its section, name it in `renamed_from` of its successor, or start once with `discard_backlog = true` in its section".into(),
            ),
            Self::Fixed(_) => Some("restart the daemon".into()),
        }
    }
}

impl Engine {
    /// Opens the checkpoint and makes ready. Nothing is asked of anybody yet.
    pub fn build(configuration: Configuration) -> Result<Arc<Self>, BuildError> {
        let checkpoint = Arc::new(Checkpoint::open(&configuration.state_directory)?);
        let meters = Arc::new(Meters::new(clock::now()));
        let engine = Self::prepare(configuration, checkpoint, meters)?;
        engine.adopt()?;
        // A checkpoint that was restored has none, or another's.
        engine.mark_cursors_moved();
        Ok(engine)
    }

    /// What this engine would be under another configuration. Nothing is written yet: see
    /// [`Self::adopt`].
    pub fn reconfigured(&self, configuration: Configuration) -> Result<Arc<Self>, BuildError> {
        if configuration.state_directory != self.configuration.state_directory {
            return Err(BuildError::Fixed("state.directory"));
        }
        if configuration.admin.as_ref().map(|admin| (admin.listen, &admin.hosts))
            != self.configuration.admin.as_ref().map(|admin| (admin.listen, &admin.hosts))
        {
            return Err(BuildError::Fixed("admin.listen` and `admin.hosts"));
        }
        Self::prepare(configuration, Arc::clone(&self.checkpoint), Arc::clone(&self.meters))
    }

    /// Builds everything that can fail by the configuration, and changes nothing.
    fn prepare(
        configuration: Configuration,
        checkpoint: Arc<Checkpoint>,
        meters: Arc<Meters>,
    ) -> Result<Arc<Self>, BuildError> {
        let clients = Arc::new(Clients::new(&configuration.reach)?);
        let mut tenants: Vec<TenantState> = Vec::new();
        for plan in &configuration.tenants {
            let id = match &plan.id {
                TenantName::Guid(id) => Some(*id),
                TenantName::Domain(domain) => checkpoint.resolved(domain)?,
            };
            if let Some(id) = id
                && let Some(other) =
                    tenants.iter().find(|t| t.resolved().is_some_and(|known| known.id == id))
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
        let engine = Self {
            configuration,
            checkpoint,
            meters,
            tenants,
            meeting: tokio::sync::Mutex::default(),
            clients,
            turns: Semaphore::new(TURNS),
            log_grown: watch::Sender::new(0),
            cursors_moved: AtomicBool::new(false),
        };
        engine.refuse_to_drop()?;
        Ok(Arc::new(engine))
    }

    /// Brings the checkpoint in line with the configuration.
    pub fn adopt(&self) -> Result<(), CheckpointError> {
        self.rename_and_drop()?;
        self.register_all()?;
        self.keep_promises()?;
        let is_tenant = |name: &str| self.tenant_named(name).is_some();
        self.meters.retain(is_tenant, |name| self.sinks().any(|sink| sink.name == name));
        Ok(())
    }

    /// A sink for which something waits is not forgotten by accident.
    fn refuse_to_drop(&self) -> Result<(), BuildError> {
        let sinks = &self.configuration.sinks;
        let known = self.checkpoint.backlogs()?;
        for (name, backlog) in &known {
            let is_kept = sinks.iter().any(|sink| {
                let carries = sink.renamed_from.as_ref() == Some(name);
                sink.name == *name || carries && known.iter().all(|(name, _)| *name != sink.name)
            });
            if !is_kept && *backlog > 0 {
                return Err(BuildError::Dropped(name.clone(), *backlog));
            }
        }
        let is_known = |wanted: &str| known.iter().any(|(name, _)| name == wanted);
        for sink in sinks {
            if let Some(old) = sink.renamed_from.as_ref().filter(|old| is_known(old))
                && is_known(&sink.name)
            {
                let (old, new) = (old.clone(), sink.name.clone());
                return Err(CheckpointError::SinkExists(old, new).into());
            }
        }
        Ok(())
    }

    /// Brings the sinks that the checkpoint knows in line with those that are configured.
    fn rename_and_drop(&self) -> Result<(), CheckpointError> {
        let sinks = &self.configuration.sinks;
        let now = clock::now().as_millisecond();
        for sink in sinks {
            if let Some(old) = &sink.renamed_from
                && self.checkpoint.rename_sink(old, &sink.name, now)?
            {
                tracing::info!(sink = sink.name, old, "the sink goes on under its new name");
            }
        }
        for (name, days) in self.checkpoint.backlogs()? {
            let asked = sinks.iter().any(|sink| sink.name == name && sink.discarded);
            let is_gone = sinks.iter().all(|sink| sink.name != name);
            if is_gone && days > 0 {
                tracing::error!(
                    sink = name,
                    days,
                    "the sink is gone from the configuration, and days came for it meanwhile: they stay, and the next start asks what is to become of them"
                );
            } else if asked || is_gone {
                self.checkpoint.drop_sink(&name, now)?;
                if days > 0 {
                    tracing::warn!(sink = name, days, "the sink is forgotten, with its backlog");
                } else {
                    tracing::info!(sink = name, "the sink is forgotten");
                }
            }
        }
        Ok(())
    }

    /// The sinks that are sent anything.
    pub fn sinks(&self) -> impl Iterator<Item = &SinkPlan> {
        self.configuration.sinks.iter().filter(|sink| !sink.discarded)
    }

    /// Gives every sink a cursor for each of the tenants that it gets, and takes none of the others'
    /// into account.
    fn register_all(&self) -> Result<(), CheckpointError> {
        for sink in self.sinks() {
            let wanted = self.tenants.iter().filter(|state| sink.tenants.matches(&state.plan));
            let known: Vec<TenantId> =
                wanted.filter_map(|state| Some(state.resolved()?.id)).collect();
            self.checkpoint.register_sink(&sink.name, &known, true, first_day(sink))?;
            self.checkpoint.want_observations(&sink.name, sink.selection.quality)?;
        }
        Ok(())
    }

    /// Gives a cursor for this tenant to every sink that gets it.
    fn register(&self, plan: &TenantPlan, id: TenantId) -> Result<(), CheckpointError> {
        for sink in self.sinks().filter(|sink| sink.tenants.matches(plan)) {
            self.checkpoint.register_sink(&sink.name, &[id], false, first_day(sink))?;
        }
        Ok(())
    }

    /// What servers demanded before this process began holds on.
    fn keep_promises(&self) -> Result<(), CheckpointError> {
        let now = clock::now().as_millisecond();
        for state in &self.tenants {
            let Some(tenant) = state.resolved() else { continue };
            let left = self.checkpoint.poll_state(tenant.id)?.not_before_ms.map(|ms| ms - now);
            // More than this no server is granted; the clock has been set back since.
            let left = left.filter(|left| *left <= LONGEST_PROMISE_MS);
            if let Some(left) = left.and_then(|ms| u64::try_from(ms).ok()) {
                state.graph.leave_alone_for(std::time::Duration::from_millis(left));
            }
        }
        Ok(())
    }

    /// Changes whenever the log has grown.
    pub fn log_grown(&self) -> watch::Receiver<u64> {
        self.log_grown.subscribe()
    }

    fn notify_log_grown(&self) {
        self.log_grown.send_modify(|rings| *rings += 1);
    }

    /// The tenant of a name in the configuration.
    pub fn tenant_named(&self, name: &str) -> Option<&TenantState> {
        self.tenants.iter().find(|state| state.plan.name == name)
    }

    /// There is something new to write into the second cursor file.
    fn mark_cursors_moved(&self) {
        self.cursors_moved.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes the second cursor file, if there is anything new to write.
    pub fn write_cursor_file(&self) {
        use std::sync::atomic::Ordering;
        if self.cursors_moved.swap(false, Ordering::Relaxed)
            && let Err(error) = tokio::task::block_in_place(|| self.checkpoint.write_cursor_file())
        {
            self.cursors_moved.store(true, Ordering::Relaxed);
            tracing::warn!(
                error = crate::error::chain(&error),
                "the second cursor file could not be written"
            );
        }
    }

    /// Lets go of what is past its time, once a day, and says what went.
    fn prune_daily(&self) {
        let today = Day::of(clock::now());
        let pruned = tokio::task::block_in_place(|| {
            if self.checkpoint.pruned_on()? == Some(today) {
                return Ok(Pruned::default());
            }
            let pruned = prune(&self.configuration, &self.checkpoint)?;
            self.checkpoint.set_pruned(today)?;
            Ok::<_, CheckpointError>(pruned)
        });
        match pruned {
            Ok(Pruned { days: 0, .. }) => {}
            Ok(Pruned { days, used }) => {
                tracing::info!(days, used, "texts past their time are gone");
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "old texts could not be let go");
            }
        }
    }
}

/// The facts that a kept text tells, if it can be read.
pub fn facts_of(body: &str) -> Option<DayFacts> {
    DayFacts::of(&wire::snapshot(body).ok()?)
}

/// Lets go of what is past its time, by the configuration.
pub fn prune(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
) -> Result<Pruned, CheckpointError> {
    let today = Day::of(clock::now());
    let before = today.plus(-configuration.retention_days);
    let pruned = checkpoint.prune(before, configuration.max_size, today)?;
    if let Some(most) = configuration.max_size.filter(|most| pruned.used > *most) {
        tracing::error!(
            used = pruned.used,
            max_size = most,
            "the checkpoint is larger than `state.max_size`: what is left is wanted still, by a sink or for the newest 90 days"
        );
    }
    Ok(pruned)
}

/// Bytes that must be free for polling to go on. Cursors need room too, and come first: a poll
/// can be made up for 90 days, a cursor that cannot be written is a record sent twice.
const RESERVE: u64 = 16 << 20;

/// Whether there is room for another poll.
fn has_free_space(directory: &Path) -> bool {
    match rustix::fs::statvfs(directory) {
        Ok(fs) => fs.f_bavail.saturating_mul(fs.f_frsize) >= RESERVE,
        // Whatever is wrong with it will show in the write.
        Err(_) => true,
    }
}

/// The first day that a new sink is sent.
fn first_day(sink: &SinkPlan) -> Day {
    sink.start_from.unwrap_or_else(|| Day::of(clock::now()).plus(-90))
}

/// What a sink is told of its surroundings.
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

/// Tokens as sinks want them.
#[derive(Debug)]
struct SinkTokens(ResourceTokens);

impl Tokens for SinkTokens {
    fn token(&self) -> BoxFuture<'_, Result<SecretString, Failure>> {
        Box::pin(async move {
            self.0.get().await.map_err(|error| {
                let reason = format!("no token from Entra: {}", crate::error::chain(&error));
                if error.is_transient() {
                    Failure::Retry { reason, after: error.retry_after() }
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

/// The name of this host, as receivers should see it.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// A configured tenant as records name it, if the checkpoint knows who it is.
pub fn resolved_tenant(plan: &TenantPlan, checkpoint: &Checkpoint) -> Option<Tenant> {
    let id = match &plan.id {
        TenantName::Guid(id) => Some(*id),
        TenantName::Domain(domain) => checkpoint.resolved(domain).ok().flatten(),
    };
    id.map(|id| tenant_of(plan, id))
}

/// A tenant, once its id is known, as records name it.
fn tenant_of(plan: &TenantPlan, id: TenantId) -> Tenant {
    Tenant { id, name: plan.name.clone(), labels: plan.labels.clone() }
}
