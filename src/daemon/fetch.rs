//! Reading a tenant without keeping anything.

use std::sync::Arc;

use jiff::Timestamp;

use super::{PollError, TenantState, collector};
use crate::{
    clock,
    config::{TenantName, TenantPlan},
    ledger::Seen,
    model::{Catalogue, Day, Tenant},
    net,
    source::{Graph, SourceError},
    wire,
};

/// A tenant's days as read, newest first.
#[derive(Debug)]
pub struct Fetched {
    pub tenant: Arc<Tenant>,
    pub today: Day,
    pub observed: Timestamp,
    pub days: Vec<Seen>,
    pub catalogue: Catalogue,
}

/// Reads a tenant back to a day.
pub async fn fetch_tenant(plan: &TenantPlan, oldest: Day) -> Result<Fetched, PollError> {
    let http = net::client(None).map_err(SourceError::Client)?;
    let graph = Graph::new(http, plan.access.clone());
    let id = match &plan.id {
        TenantName::Guid(id) => *id,
        TenantName::Domain(_) => graph.resolve().await?,
    };
    let state = TenantState::new(plan.clone(), Some(id), graph);
    let tenant = state.learn(id);
    // To the millisecond, as the checkpoint keeps it.
    let now = clock::now();
    let observed = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    let today = Day::of(observed);
    let answer = collector::read(&state, &tenant, oldest, today).await?;
    let profiles = answer
        .catalogue
        .iter()
        .filter_map(|p| Some((wire::profile(&p.shared).ok()?, wire::state_updates(&p.decisions))));
    let catalogue = Catalogue::new(1, profiles.collect());
    let mut days: Vec<Seen> =
        answer.seen.into_iter().filter(|seen| seen.facts.day >= oldest).collect();
    days.sort_by_key(|seen| std::cmp::Reverse(seen.facts.day));
    Ok(Fetched { tenant, today, observed, days, catalogue })
}
