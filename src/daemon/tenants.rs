//! A tenant at run time.

use std::sync::{Arc, OnceLock};

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
}

impl TenantState {
    pub(super) fn new(plan: TenantPlan, id: Option<TenantId>, graph: Graph) -> Self {
        let state = Self { plan, graph, tenant: OnceLock::new(), polling: Mutex::new(()) };
        if let Some(id) = id {
            state.learn(id);
        }
        state
    }

    /// The tenant, if its id is known yet.
    pub fn known(&self) -> Option<Arc<Tenant>> {
        self.tenant.get().cloned()
    }

    pub(super) fn learn(&self, id: TenantId) -> Arc<Tenant> {
        self.tenant.get_or_init(|| Arc::new(tenant_of(&self.plan, id))).clone()
    }
}
