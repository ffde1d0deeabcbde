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
mod engine;
mod estimate;
mod facts;
mod fetch;
mod generation_tasks;
mod host_clock;
mod lifecycle;
mod live_facts;
mod log_signal;
mod meters;
mod once;
mod operations;
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

use std::sync::Arc;

use secrecy::SecretString;

pub use apply::{SinkConfiguration, check_sinks};
pub use changes::{Changes, NamedChanges, ReloadReport, Renamed, TenantRemovals};
pub use collector::{Collector, PollError, PollReport};
pub use containment::{CaughtPanic, ContainedTask, contain, contained, end_on_panic, report_panic};
pub use control::{Event, ImportEvent, ImportPart, Request, send_import, send_request};
pub use cursor_file_writer::CursorFileWriter;
pub use dead_letters::{DeadLetterRecord, dead_letter_record};
pub use deliverer::{Deliverer, DeliveryError};
pub use engine::{BuildError, Engine};
pub use estimate::{Estimate, estimate};
pub use facts::{ConfiguredTenant, CurrentStatus, DaemonState};
pub use fetch::{FetchedTenant, fetch_tenant};
pub use lifecycle::{LoadConfiguration, RunError, run};
pub use live_facts::{LiveFacts, LiveFactsState, NoLiveFacts};
pub use log_signal::LogSignal;
pub use meters::{Meters, PollCounts, SinkMeter};
pub use once::{OnceReport, SinkReport, backfill, once};
pub use operations::Operations;
pub use poll::PollOutcome;
pub use poller::Poller;
pub use possible_renames::{PossibleRename, possible_renames};
pub use replay::{ReplayError, ReplayExtent, ReplayRequest, deliver_queued, estimate_replay};
pub use report::Reporter;
pub use request_failure::{RequestFailure, RequestFailureKind};
pub use store_executor::StoreExecutor;
pub(crate) use store_executor::blocking;
pub use tenants::{TenantState, Tenants};

use crate::{
    checkpoint::{Checkpoint, CheckpointError, Pruned},
    clock,
    config::{Configuration, SignIn, SinkPlan, TenantName, TenantPlan},
    error::{Hint, chain},
    files::HostFault,
    foreign_text::PeerSecrets,
    model::{Day, DayFacts, Tenant, TenantId},
    sink::{BoxFuture, Context, Failure, Tokens},
    source::{Clients, ResourceTokens},
    wire,
};

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

/// The first day that is sent to a sink that the checkpoint does not contain yet. A sink that
/// begins with the day on which it was added may have been read from the configuration with a wrong
/// clock.
fn first_day(sink: &SinkPlan, today: Day) -> Day {
    sink.start_from.map_or_else(|| today.oldest_possible_at_source(), |day| day.min(today))
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

    fn sent(&self) -> &PeerSecrets {
        self.0.sent()
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
