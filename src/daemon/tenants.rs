//! A tenant at run time.

use std::{
    sync::{Arc, OnceLock, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::tenant_of;
use crate::{
    config::TenantPlan,
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
    /// The server's own word: no request before this.
    not_before: std::sync::Mutex<Option<Timestamp>>,
}

impl TenantState {
    pub(super) fn new(plan: TenantPlan, id: Option<TenantId>, graph: Graph) -> Self {
        let state = Self {
            plan,
            graph,
            tenant: OnceLock::new(),
            polling: Mutex::new(()),
            not_before: std::sync::Mutex::default(),
        };
        if let Some(id) = id {
            state.learn(id);
        }
        state
    }

    /// Keeps a server's wish to be left alone for so long.
    pub(super) fn leave_alone(&self, now: Timestamp, wait: Duration) {
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) =
            now.checked_add(wait).ok();
    }

    /// Whether a server still wants to be left alone.
    pub(super) fn is_left_alone(&self, now: Timestamp) -> bool {
        let not_before = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        not_before.is_some_and(|time| now < time)
    }

    /// The tenant, if its id is known yet.
    pub fn known(&self) -> Option<Arc<Tenant>> {
        self.tenant.get().cloned()
    }

    pub(super) fn learn(&self, id: TenantId) -> Arc<Tenant> {
        self.tenant.get_or_init(|| Arc::new(tenant_of(&self.plan, id))).clone()
    }
}
