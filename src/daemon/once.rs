//! One round without a daemon: poll every tenant, then deliver everything. The commands `once` and
//! `backfill` use it, and the control socket uses [`backfill`] inside the daemon. Start reading at
//! [`once`].

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Deliverer, DeliveryError, Engine, PollError, PollReport};
use crate::model::Day;

/// The result of a round, by the name of the tenant or sink, in the order of the configuration.
#[derive(Debug, Default)]
pub struct OnceReport {
    /// The name of the tenant and the result of its poll.
    pub polls: Vec<(String, Result<PollReport, PollError>)>,
    /// The name, the number of acknowledged records, and the error that stopped the delivery.
    pub sinks: Vec<(String, u64, Option<DeliveryError>)>,
}

impl OnceReport {
    /// Whether every poll was complete and every sink has received everything.
    pub fn is_complete(&self) -> bool {
        self.polls.iter().all(|(_, poll)| is_complete(poll))
            && self.sinks.iter().all(|(.., error)| error.is_none())
    }
}

/// Whether a poll succeeded and nothing is missing in its response.
pub(super) fn is_complete(poll: &Result<PollReport, PollError>) -> bool {
    poll.as_ref().is_ok_and(|report| report.incomplete.is_none())
}

/// Polls every tenant once, delivers everything that is queued, and prunes bodies.
pub async fn once(engine: &Arc<Engine>) -> OnceReport {
    let polls = backfill(engine, None, None, |_, _| {}).await;
    let sinks = deliver_all(engine).await;
    engine.write_cursor_file();
    engine.prune_daily();
    OnceReport { polls, sinks }
}

/// Polls every tenant, or the one with this name, back to a day. Calls `on_finished` with each
/// result as it arrives, and returns all results in the order of the configuration. Without
/// `back_to`, reads as far back as a scheduled poll would. A failed poll is part of the results.
pub async fn backfill(
    engine: &Arc<Engine>,
    back_to: Option<Day>,
    tenant: Option<&str>,
    mut on_finished: impl FnMut(&str, &Result<PollReport, PollError>),
) -> Vec<(String, Result<PollReport, PollError>)> {
    let is_selected =
        |index: &usize| tenant.is_none_or(|name| engine.tenants[*index].plan.name == name);
    let mut running = JoinSet::new();
    for index in (0..engine.tenants.len()).filter(is_selected) {
        let engine = engine.clone();
        running.spawn(async move { (index, engine.poll(&engine.tenants[index], back_to).await) });
    }

    let mut results = Vec::new();
    // A panic in a task ends the process, so no result is lost here.
    while let Some(Ok((index, result))) = running.join_next().await {
        on_finished(&engine.tenants[index].plan.name, &result);
        results.push((index, result));
    }

    results.sort_by_key(|(index, _)| *index);
    results
        .into_iter()
        .map(|(index, result)| (engine.tenants[index].plan.name.clone(), result))
        .collect()
}

/// Delivers to all sinks at the same time.
async fn deliver_all(engine: &Arc<Engine>) -> Vec<(String, u64, Option<DeliveryError>)> {
    let mut running = JoinSet::new();
    for (index, plan) in engine.sinks().enumerate() {
        let mut deliverer = Deliverer::new(engine.clone(), plan.clone());
        running.spawn(async move {
            let result = deliverer.run_once(&CancellationToken::new()).await;
            (index, deliverer, result.err())
        });
    }
    let mut finished = running.join_all().await;
    finished.sort_by_key(|(index, ..)| *index);

    let mut results = Vec::new();
    for (_, mut deliverer, mut error) in finished {
        // A rejection by one receiver has appended an observation, which the other sinks deliver.
        if error.is_none() {
            error = deliverer.run_once(&CancellationToken::new()).await.err();
        }
        deliverer.close().await;
        results.push((deliverer.name().to_owned(), deliverer.delivered, error));
    }
    results
}
