//! Counts the requests to the simulation as Microsoft's limits count them: per tenant, concurrently
//! and per minute. The server of the simulation returns the counts as JSON.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

/// The counters of all tenants, by tenant ID.
#[derive(Default)]
pub(super) struct SimulatedLoad(Mutex<HashMap<String, TenantLoad>>);

#[derive(Default)]
struct TenantLoad {
    requests: usize,
    concurrent: usize,
    max_concurrent: usize,
    /// When the requests of the last minute started.
    last_minute: VecDeque<Instant>,
    max_per_minute: usize,
}

/// A request in progress; dropping it ends the request.
pub(super) struct RequestGuard<'a> {
    load: &'a SimulatedLoad,
    tenant: String,
}

impl SimulatedLoad {
    /// Counts the begin of a request to a tenant. The request ends when the guard is dropped.
    pub(super) fn begin(&self, tenant: &str) -> RequestGuard<'_> {
        let mut tenants = self.lock();
        let load = tenants.entry(tenant.to_owned()).or_default();
        let now = Instant::now();

        load.requests += 1;
        load.concurrent += 1;
        load.max_concurrent = load.max_concurrent.max(load.concurrent);

        load.last_minute.push_back(now);
        let is_past = |start: &Instant| now.duration_since(*start) > Duration::from_mins(1);
        while load.last_minute.front().is_some_and(is_past) {
            load.last_minute.pop_front();
        }
        load.max_per_minute = load.max_per_minute.max(load.last_minute.len());

        RequestGuard { load: self, tenant: tenant.to_owned() }
    }

    /// The sum of the requests, and the highest values of any tenant.
    pub(super) fn to_json(&self) -> Value {
        let tenants = self.lock();
        let max = |count: fn(&TenantLoad) -> usize| tenants.values().map(count).max().unwrap_or(0);
        json!({
            "tenants": tenants.len(),
            "requests": tenants.values().map(|load| load.requests).sum::<usize>(),
            "max_concurrent": max(|load| load.max_concurrent),
            "max_per_minute": max(|load| load.max_per_minute),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, TenantLoad>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        if let Some(load) = self.load.lock().get_mut(&self.tenant) {
            load.concurrent -= 1;
        }
    }
}
