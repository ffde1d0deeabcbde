//! The run-time state of the configured tenants: their connections to Graph, their IDs if these are
//! known, and the backoff while a domain cannot be resolved. Everything here is lost at a restart;
//! the state of polls that must survive is in the checkpoint. Waits use the monotonic clock, so a
//! change of the wall clock neither ends nor extends them. Start reading at [`Tenants`]. See
//! decision 0079.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{BuildError, PollError, collector::PollPace, tenant_of};
use crate::{
    checkpoint::{Checkpoint, FoundPollState, PollStates},
    clock,
    config::{TenantName, TenantPlan},
    model::{Tenant, TenantId, UnixMillis},
    source::{Clients, Graph},
};

/// The tenants of one configuration. Two of them never have the same ID.
#[derive(Debug)]
pub struct Tenants {
    /// In the order of the configuration.
    states: Vec<Arc<TenantState>>,
    /// Held while a resolved ID is compared with those of the other tenants and stored.
    resolution_lock: tokio::sync::Mutex<()>,
}

/// The ID of a tenant whose domain was just resolved, which no other tenant can take in the
/// meantime.
#[derive(Debug)]
pub(super) struct IdReservation<'a> {
    state: &'a TenantState,
    id: TenantId,
    _lock: tokio::sync::MutexGuard<'a, ()>,
}

/// A configured tenant while the daemon is running. Polls of the same tenant exclude each other by
/// `polling`.
#[derive(Debug)]
pub struct TenantState {
    /// The configuration of the tenant.
    pub plan: TenantPlan,
    /// The connection to Microsoft Graph, with the throttle of the tenant.
    pub graph: Graph,
    /// Set at the start if the configuration or the checkpoint contains the ID, otherwise when the
    /// domain is resolved.
    tenant: OnceLock<Arc<Tenant>>,
    /// Held during a poll, so that a tenant never has two polls at the same time.
    pub(super) polling: tokio::sync::Mutex<()>,
    /// The earliest time of the next poll. Set only by failures that the checkpoint cannot record,
    /// and by a poll during which the previous process was killed.
    not_before: Mutex<Option<Instant>>,
    /// The number of failures that the checkpoint cannot record.
    failed_attempts: AtomicU32,
    /// When the last poll is repeated, if it failed because of this host.
    local_retry: Mutex<Option<Instant>>,
    /// When the last poll is repeated, if the clock of this host has prevented it.
    clock_retry: Mutex<Option<Instant>>,
    /// How long the last poll took. It remains slow until a poll succeeds in the usual time.
    pace: Mutex<PollPace>,
    /// Whether a poll is running or waits for a permit.
    pub(super) queued: AtomicBool,
}

/// The longest remaining `Retry-After` that is restored at startup: the limit of one hour that the
/// source applies, plus the random fifth that the throttle adds.
pub(super) const MAX_RESTORED_RETRY_AFTER: Duration = Duration::from_mins(72);
/// The longest wait after a failed attempt.
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_mins(5 << MAX_DOUBLINGS);
/// The wait after a poll that failed because of this host. It does not grow, because an attempt
/// that fails on this host costs Microsoft little or nothing.
const LOCAL_RETRY: Duration = Duration::from_secs(30);
/// The wait after the first failed attempt; it doubles with every failure, up to 32 times this.
const FIRST_BACKOFF: Duration = Duration::from_mins(5);
/// How often the wait doubles at most.
const MAX_DOUBLINGS: u32 = 5;

/// The wait after a failed attempt that follows this number of failures.
fn backoff(earlier_failures: u32) -> Duration {
    FIRST_BACKOFF * (1 << earlier_failures.min(MAX_DOUBLINGS))
}

impl Tenants {
    /// Tenants without failures, with their IDs from the configuration or from the checkpoint.
    ///
    /// Fails if two of them have the same ID, or if the checkpoint cannot be read.
    pub(super) fn new(
        plans: &[TenantPlan],
        checkpoint: &Checkpoint,
        clients: &Arc<Clients>,
    ) -> Result<Self, BuildError> {
        let (mut states, mut names) = (Vec::with_capacity(plans.len()), HashMap::new());
        for plan in plans {
            let id = match &plan.id {
                TenantName::Guid(id) => Some(*id),
                TenantName::Domain(domain) => checkpoint.tenant_of_domain(domain)?,
            };
            if let Some(id) = id
                && let Some(other) = names.insert(id, &plan.name)
            {
                let (other, name) = (other.clone(), plan.name.clone());
                return Err(BuildError::SameTenant(other, name, id.to_string()));
            }
            let graph = Graph::new(clients.clone(), plan.access.clone());
            states.push(Arc::new(TenantState::new(plan.clone(), id, graph)));
        }
        Ok(Self { states, resolution_lock: tokio::sync::Mutex::default() })
    }

    /// All tenants, in the order of the configuration.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<TenantState>> {
        self.states.iter()
    }

    /// The number of tenants.
    pub fn count(&self) -> usize {
        self.states.len()
    }

    /// The tenant with this name in the configuration.
    pub fn named(&self, name: &str) -> Option<&TenantState> {
        self.states.iter().map(Arc::as_ref).find(|state| state.plan.name == name)
    }

    /// The tenants whose ID is known, in the order of the configuration.
    pub fn resolved(&self) -> impl Iterator<Item = Arc<Tenant>> {
        self.states.iter().filter_map(|state| state.resolved())
    }

    /// The tenant with this ID.
    pub(super) fn with_id(&self, id: TenantId) -> Option<&TenantState> {
        let has_id = |state: &&TenantState| state.resolved().is_some_and(|known| known.id == id);
        self.states.iter().map(Arc::as_ref).find(has_id)
    }

    /// Reserves the ID to which the domain of a tenant was resolved. Fails if another tenant has
    /// it.
    pub(super) async fn reserve<'a>(
        &'a self,
        state: &'a TenantState,
        id: TenantId,
    ) -> Result<IdReservation<'a>, PollError> {
        let lock = self.resolution_lock.lock().await;
        if self.with_id(id).is_some() {
            return Err(PollError::SameTenant(state.plan.name.clone(), id.to_string()));
        }
        Ok(IdReservation { state, id, _lock: lock })
    }

    /// Restores the pauses that servers requested with `Retry-After` before a restart. Those of a
    /// tenant whose state cannot be read are lost: its poll fails before it sends a request.
    pub(super) fn restore_pauses(&self, stored: &PollStates) {
        let now = UnixMillis::from(clock::now());
        for state in &self.states {
            let Some(tenant) = state.resolved() else { continue };
            let FoundPollState::Readable(polls) = stored.of(tenant.id) else { continue };
            let Some(end) = polls.not_before else { continue };
            let rest = end.known_rest(now, MAX_RESTORED_RETRY_AFTER);
            if !rest.is_zero() {
                state.graph.restore_pause(rest);
            }
        }
    }
}

impl<'a> IntoIterator for &'a Tenants {
    type Item = &'a Arc<TenantState>;
    type IntoIter = std::slice::Iter<'a, Arc<TenantState>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IdReservation<'_> {
    /// Sets the ID of the tenant, which other tasks can find from now on.
    pub(super) fn confirm(self) -> Arc<Tenant> {
        self.state.set_id(self.id)
    }
}

impl TenantState {
    /// A tenant without failures. `id` is `None` if its domain has not been resolved yet.
    fn new(plan: TenantPlan, id: Option<TenantId>, graph: Graph) -> Self {
        let state = Self {
            plan,
            graph,
            tenant: OnceLock::new(),
            polling: tokio::sync::Mutex::new(()),
            not_before: Mutex::default(),
            failed_attempts: AtomicU32::new(0),
            local_retry: Mutex::default(),
            clock_retry: Mutex::default(),
            pace: Mutex::default(),
            queued: AtomicBool::new(false),
        };
        if let Some(id) = id {
            state.set_id(id);
        }
        state
    }

    /// Records a failure that the checkpoint cannot record, and delays the next poll; the delay
    /// doubles with every failure. Returns the earliest time of the next poll.
    pub(super) fn back_off(&self, now: Timestamp) -> Option<Timestamp> {
        let wait = backoff(self.failed_attempts.fetch_add(1, Ordering::Relaxed));
        self.delay_poll(wait);
        now.checked_add(wait).ok()
    }

    /// Delays the next scheduled poll by this time.
    pub(super) fn delay_poll(&self, wait: Duration) {
        let end = Instant::now().checked_add(wait);
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// Makes the schedule repeat a poll that failed because of this host.
    pub(super) fn retry_locally(&self) {
        self.set_local_retry(Instant::now().checked_add(LOCAL_RETRY));
    }

    /// The last poll did not fail because of this host.
    pub(super) fn end_local_retry(&self) {
        self.set_local_retry(None);
    }

    /// The cause on this host is gone: the poll that failed because of it is due.
    pub(super) fn end_local_wait(&self) {
        if self.local_retry().is_some() {
            self.set_local_retry(Some(Instant::now()));
        }
    }

    /// Makes the schedule repeat a poll that the clock of this host has prevented: after this time,
    /// or as soon as the clock can be used.
    pub(super) fn wait_for_clock(&self, wait: Duration) {
        self.set_clock_retry(Instant::now().checked_add(wait));
    }

    /// The clock of this host has not prevented the last poll.
    pub(super) fn end_clock_retry(&self) {
        self.set_clock_retry(None);
    }

    /// The clock of this host can be used: the poll that it has prevented is due.
    pub(super) fn end_clock_wait(&self) {
        let mut retry = self.clock_retry.lock().unwrap_or_else(PoisonError::into_inner);
        if retry.is_some() {
            *retry = Some(Instant::now());
        }
    }

    /// Whether a poll that failed because of this host or its clock is to be repeated now.
    pub(super) fn is_retry_due(&self) -> bool {
        self.retry().is_some_and(|time| Instant::now() >= time)
    }

    /// When the last poll is repeated, if this host or its clock was the cause; `None` if neither
    /// was.
    pub(super) fn retry(&self) -> Option<Instant> {
        let clock_retry = *self.clock_retry.lock().unwrap_or_else(PoisonError::into_inner);
        [self.local_retry(), clock_retry].into_iter().flatten().min()
    }

    /// When the last poll is repeated; `None` if it did not fail because of this host.
    pub(super) fn local_retry(&self) -> Option<Instant> {
        *self.local_retry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_local_retry(&self, time: Option<Instant>) {
        *self.local_retry.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    fn set_clock_retry(&self, time: Option<Instant>) {
        *self.clock_retry.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    /// How long the last poll took.
    pub(super) fn pace(&self) -> PollPace {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records how long a poll took.
    pub(super) fn set_pace(&self, pace: PollPace) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace;
    }

    /// Whether a poll must wait: because of this tenant's backoff, or because of `Retry-After`.
    pub(super) fn is_backing_off(&self) -> bool {
        let not_before = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        not_before.is_some_and(|end| Instant::now() < end) || !self.graph.paused_for().is_zero()
    }

    /// The tenant; `None` while its domain is not resolved.
    pub fn resolved(&self) -> Option<Arc<Tenant>> {
        self.tenant.get().cloned()
    }

    /// Sets the ID of the tenant. Only the first call has an effect.
    fn set_id(&self, id: TenantId) -> Arc<Tenant> {
        self.tenant.get_or_init(|| Arc::new(tenant_of(&self.plan, id))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_limit() {
        for (earlier_failures, minutes) in
            [(0, 5), (1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 160), (u32::MAX, 160)]
        {
            assert_eq!(backoff(earlier_failures), Duration::from_mins(minutes));
        }
        assert_eq!(backoff(u32::MAX), LONGEST_BACKOFF);
    }
}
