//! Reads a tenant without a checkpoint: the `fetch` command. Nothing is stored, so the ledger is
//! not involved: every day counts as new. Start reading at [`fetch_tenant`].

use std::{
    cmp::Reverse,
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
    ledger::{AcceptedSnapshot, Rejections},
    model::{Catalog, DataFaults, Day, ProfileSlot, Tenant},
    source::{Clients, Graph, SourceError},
    wire,
};

/// The days and the catalog of a tenant as Microsoft returned them.
#[derive(Debug)]
pub struct FetchedTenant {
    /// The tenant, with its resolved ID.
    pub tenant: Arc<Tenant>,
    /// The UTC day of the request.
    pub today: Day,
    /// The time of the request, in whole milliseconds.
    pub observed: Timestamp,
    /// Newest first.
    pub days: Vec<AcceptedSnapshot>,
    /// The snapshots that cannot be used.
    pub rejected: Rejections,
    /// The catalog; empty if the original API was used, which has none.
    pub catalog: Catalog,
    /// What is wrong with the profiles of the catalog.
    pub catalog_faults: DataFaults,
    /// Microsoft's warning about a missing part of the response (HTTP 206).
    pub warning: Option<String>,
    /// Why the days before the oldest one could not be read, although these could.
    pub failure: Option<SourceError>,
}

/// Reads the days of a tenant back to `oldest`, and its catalog.
///
/// Fails if no day can be read, or if the catalog is incomplete. If Graph refuses the older days
/// after all methods of paging have been tried, the newer ones are returned, as a poll would store
/// them.
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

    // Truncated to milliseconds, the precision of the checkpoint.
    let now = clock::now();
    let observed = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    let response = collector::read(&graph, &tenant, oldest, observed).await?;
    let parts = match response.catalog {
        CatalogRead::Complete(parts) => parts,
        CatalogRead::NotNeeded => Vec::new(),
        CatalogRead::Failed(error) => return Err(error.into()),
    };
    let slots = parts.iter().filter_map(|p| {
        let profile = Arc::new(wire::profile(&p.shared).ok()?);
        // One formatter writes the records of all tenants and caches profiles by key, so the key
        // must identify the content of the profile.
        let mut hasher = DefaultHasher::new();
        p.shared.hash(&mut hasher);
        Some(ProfileSlot {
            key: hasher.finish(),
            profile,
            decisions: wire::state_updates(&p.decisions),
        })
    });
    let catalog = Catalog::new(slots.collect());

    let mut days = response.snapshots;
    days.sort_by_key(|snapshot| Reverse(snapshot.facts.day));
    Ok(FetchedTenant {
        tenant,
        today: Day::of(observed),
        observed,
        days,
        rejected: response.rejected,
        catalog,
        catalog_faults: response.catalog_faults,
        warning: response.warning,
        failure: response.failure,
    })
}
