//! One round and an end: poll all tenants, deliver everything.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Deliverer, DeliveryError, Engine, PollError, PollReport};
use crate::model::Day;

/// What a round came to, by the name of the tenant or sink, in the order of the configuration.
#[derive(Debug, Default)]
pub struct OnceReport {
    pub polls: Vec<(String, Result<PollReport, PollError>)>,
    /// Records delivered, and what stopped it, if anything did.
    pub sinks: Vec<(String, u64, Option<DeliveryError>)>,
}

impl OnceReport {
    /// Nothing is owed to anybody.
    pub fn is_complete(&self) -> bool {
        self.polls.iter().all(|(_, poll)| is_complete(poll))
            && self.sinks.iter().all(|(.., stopped)| stopped.is_none())
    }
}

/// Nothing is missing in what a poll brought.
pub(super) fn is_complete(poll: &Result<PollReport, PollError>) -> bool {
    poll.as_ref().is_ok_and(|report| report.incomplete.is_none())
}

/// Polls every tenant once and delivers all there is.
pub async fn once(engine: &Arc<Engine>) -> OnceReport {
    let polls = backfill(engine, None, None, |_, _| {}).await;
    let sinks = deliver(engine).await;
    engine.write_cursor_file();
    engine.prune_daily();
    OnceReport { polls, sinks }
}

/// Polls every tenant, or the one named, back to a day. `done` is told of each as it ends.
pub async fn backfill(
    engine: &Arc<Engine>,
    back_to: Option<Day>,
    tenant: Option<&str>,
    mut done: impl FnMut(&str, &Result<PollReport, PollError>),
) -> Vec<(String, Result<PollReport, PollError>)> {
    let wanted = |index: &usize| tenant.is_none_or(|name| engine.tenants[*index].plan.name == name);
    let mut running = JoinSet::new();
    for index in (0..engine.tenants.len()).filter(wanted) {
        let engine = engine.clone();
        running.spawn(async move { (index, engine.poll(&engine.tenants[index], back_to).await) });
    }
    let mut results = Vec::new();
    // A task that panicked has ended the process.
    while let Some(Ok((index, result))) = running.join_next().await {
        done(&engine.tenants[index].plan.name, &result);
        results.push((index, result));
    }
    results.sort_by_key(|(index, _)| *index);
    results
        .into_iter()
        .map(|(index, result)| (engine.tenants[index].plan.name.clone(), result))
        .collect()
}

async fn deliver(engine: &Arc<Engine>) -> Vec<(String, u64, Option<DeliveryError>)> {
    let mut running = JoinSet::new();
    for (index, plan) in engine.sinks().enumerate() {
        let mut deliverer = Deliverer::new(engine.clone(), plan.clone());
        running.spawn(async move {
            let result = deliverer.run_once(&CancellationToken::new()).await;
            (index, deliverer, result.err())
        });
    }
    let mut ended = running.join_all().await;
    ended.sort_by_key(|(index, ..)| *index);
    let mut results = Vec::new();
    for (_, mut deliverer, mut stopped) in ended {
        // What one sink's receiver refused is told to the others.
        if stopped.is_none() {
            stopped = deliverer.run_once(&CancellationToken::new()).await.err();
        }
        deliverer.close().await;
        results.push((deliverer.name().to_owned(), deliverer.delivered, stopped));
    }
    results
}
