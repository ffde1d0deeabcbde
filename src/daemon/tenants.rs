//! A tenant at run time.

use std::{
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::tenant_of;
use crate::{
    config::TenantPlan,
    error::Explanation,
    model::{Tenant, TenantId},
    source::Graph,
};

#[derive(Debug)]
pub struct TenantState {
    pub plan: TenantPlan,
    pub graph: Graph,
    /// Known from the start, or since a domain was resolved.
    tenant: OnceLock<Arc<Tenant>>,
    /// Held through a poll: a tenant is never polled twice at once.
    pub(super) polling: Mutex<()>,
    /// Nobody knows yet who the tenant is: not asked again before this.
    not_before: std::sync::Mutex<Option<Timestamp>>,
    /// How often it could not be found out who the tenant is.
    unresolved: AtomicU32,
    /// Why not, and when it was asked last.
    trouble: std::sync::Mutex<Option<ResolutionFailure>>,
    /// A poll waits for its turn.
    pub(super) queued: AtomicBool,
}

/// Nobody knows yet who a tenant is, and this is why.
#[derive(Clone, Debug)]
pub struct ResolutionFailure {
    pub error: Explanation,
    pub at: Timestamp,
}

/// The first wait after a tenant could not be found out; it doubles up to 32 times.
const UNRESOLVED_WAIT: Duration = Duration::from_mins(5);

impl TenantState {
    pub(super) fn new(plan: TenantPlan, id: Option<TenantId>, graph: Graph) -> Self {
        let state = Self {
            plan,
            graph,
            tenant: OnceLock::new(),
            polling: Mutex::new(()),
            not_before: std::sync::Mutex::default(),
            unresolved: AtomicU32::new(0),
            trouble: std::sync::Mutex::default(),
            queued: AtomicBool::new(false),
        };
        if let Some(id) = id {
            state.learn(id);
        }
        state
    }

    fn leave_alone(&self, now: Timestamp, wait: Duration) {
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) =
            now.checked_add(wait).ok();
    }

    /// Waits before the tenant is asked for again, longer each time.
    pub(super) fn back_off(&self, now: Timestamp, error: Explanation) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(ResolutionFailure { error, at: now });
        let times = self.unresolved.fetch_add(1, Ordering::Relaxed).min(5);
        self.leave_alone(now, UNRESOLVED_WAIT * (1 << times));
    }

    /// Whether a poll would come too early: by our own patience, or by the server's word.
    pub(super) fn is_left_alone(&self, now: Timestamp) -> bool {
        let not_before = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        not_before.is_some_and(|time| now < time) || !self.graph.closed_for().is_zero()
    }

    /// Why nobody knows yet who the tenant is, if it has been asked.
    pub fn resolution_failure(&self) -> Option<ResolutionFailure> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trouble.filter(|_| self.tenant.get().is_none())
    }

    /// The tenant, if its id is known yet.
    pub fn resolved(&self) -> Option<Arc<Tenant>> {
        self.tenant.get().cloned()
    }

    pub(super) fn learn(&self, id: TenantId) -> Arc<Tenant> {
        self.tenant.get_or_init(|| Arc::new(tenant_of(&self.plan, id))).clone()
    }
}
