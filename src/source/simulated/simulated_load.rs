//! What is asked of the simulation, counted as Microsoft's limits count it: by tenant, at a time
//! and in a minute.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct SimulatedLoad(Mutex<HashMap<String, OfTenant>>);

#[derive(Default)]
struct OfTenant {
    requests: usize,
    at_once: usize,
    most_at_once: usize,
    last_minute: VecDeque<Instant>,
    most_in_a_minute: usize,
}

/// A request under way.
pub(super) struct Request<'a> {
    load: &'a SimulatedLoad,
    tenant: String,
}

impl SimulatedLoad {
    pub(super) fn begin(&self, tenant: &str) -> Request<'_> {
        let mut load = self.lock();
        let of = load.entry(tenant.to_owned()).or_default();
        let now = Instant::now();
        of.requests += 1;
        of.at_once += 1;
        of.most_at_once = of.most_at_once.max(of.at_once);
        of.last_minute.push_back(now);
        let past = |then: &Instant| now.duration_since(*then) > Duration::from_mins(1);
        while of.last_minute.front().is_some_and(past) {
            of.last_minute.pop_front();
        }
        of.most_in_a_minute = of.most_in_a_minute.max(of.last_minute.len());
        Request { load: self, tenant: tenant.to_owned() }
    }

    pub(super) fn shown(&self) -> Value {
        let load = self.lock();
        let most = |of: fn(&OfTenant) -> usize| load.values().map(of).max().unwrap_or(0);
        json!({
            "tenants": load.len(),
            "requests": load.values().map(|of| of.requests).sum::<usize>(),
            "most_at_once": most(|of| of.most_at_once),
            "most_in_a_minute": most(|of| of.most_in_a_minute),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, OfTenant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if let Some(of) = self.load.lock().get_mut(&self.tenant) {
            of.at_once -= 1;
        }
    }
}
