//! Reading a tenant without keeping anything.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    PollError,
    collector::{self, CatalogRead},
    tenant_of,
};
use crate::{
    clock,
    config::{TenantName, TenantPlan},
    ledger::Seen,
    model::{Catalog, Day, ProfileSlot, Tenant},
    source::{Clients, Graph},
    wire,
};

/// A tenant's days as read, newest first.
#[derive(Debug)]
pub struct FetchedTenant {
    pub tenant: Arc<Tenant>,
    pub today: Day,
    pub observed: Timestamp,
    pub days: Vec<Seen>,
    pub catalog: Catalog,
    /// What Microsoft said is missing in it.
    pub warning: Option<String>,
}

/// Reads a tenant back to a day.
pub async fn fetch_tenant(
    clients: &Arc<Clients>,
    plan: &TenantPlan,
    oldest: Day,
) -> Result<FetchedTenant, PollError> {
    let graph = Graph::new(clients.clone(), plan.access.clone());
    let id = match &plan.id {
        TenantName::Guid(id) => *id,
        TenantName::Domain(_) => graph.resolve().await?,
    };
    let tenant = Arc::new(tenant_of(plan, id));
    // To the millisecond, as the checkpoint keeps it.
    let now = clock::now();
    let observed = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    let answer = collector::read(&graph, &tenant, oldest, observed).await?;
    let parts = match answer.catalog {
        CatalogRead::Whole(parts) => parts,
        CatalogRead::NotNeeded => Vec::new(),
        CatalogRead::Failed(error) => return Err(error.into()),
    };
    let slots = parts.iter().filter_map(|p| {
        let profile = Arc::new(wire::profile(&p.shared).ok()?);
        // One formatter writes the records of all tenants: a key stands for a content.
        let mut hasher = DefaultHasher::new();
        p.shared.hash(&mut hasher);
        Some(ProfileSlot {
            key: hasher.finish(),
            profile,
            decisions: wire::state_updates(&p.decisions),
        })
    });
    let catalog = Catalog::new(slots.collect());
    let mut days = answer.seen;
    days.sort_by_key(|seen| std::cmp::Reverse(seen.facts.day));
    Ok(FetchedTenant {
        tenant,
        today: Day::of(observed),
        observed,
        days,
        catalog,
        warning: answer.warning,
    })
}
