//! One round without a daemon: poll every tenant, then deliver everything. The commands `once` and
//! `backfill` use it, and the control socket uses [`poll_tenants`] inside the daemon. Start reading
//! at [`once`].

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Deliverer, DeliveryError, Engine, PollError, PollReport, TenantState};
use crate::{
    checkpoint::DeadLetterFilter,
    error::{Explanation, chain},
    model::{Day, SinkName},
};

/// The result of a round, by the name of the tenant or sink, in the order of the configuration.
#[derive(Debug, Default)]
pub struct OnceReport {
    /// The name of the tenant and the result of its poll.
    pub polls: Vec<(String, Result<PollReport, PollError>)>,
    /// The delivery to each sink; empty if nothing was to be delivered.
    pub sinks: Vec<SinkReport>,
    /// Why the second cursor file could not be written; `None` if it could. Everything that was
    /// delivered is recorded in the database nevertheless, so the round can be complete.
    pub outdated_cursor_file: Option<Explanation>,
}

/// The result of delivering everything that is queued for one sink.
#[derive(Debug, Default)]
pub struct SinkReport {
    /// The name of the sink.
    pub name: SinkName,
    /// The number of acknowledged records.
    pub delivered: u64,
    /// The number of records that the receiver rejected, and that became dead letters.
    pub rejected: u64,
    /// The number of dead letters of the sink after the delivery, including earlier ones.
    pub dead_letters: u64,
    /// The error that stopped the delivery; `None` if everything was sent.
    pub stopped: Option<DeliveryError>,
}

impl OnceReport {
    /// Whether every poll was complete and every sink has received everything.
    pub fn is_complete(&self) -> bool {
        self.polls.iter().all(|(_, poll)| is_complete(poll))
            && self.sinks.iter().all(SinkReport::is_complete)
    }
}

impl SinkReport {
    /// Whether everything that this delivery sent was acknowledged. The sink may have earlier dead
    /// letters.
    pub fn has_sent_all(&self) -> bool {
        self.stopped.is_none() && self.rejected == 0
    }

    /// Whether the sink has received everything: no error stopped it, nothing was rejected, and it
    /// has no dead letters.
    pub fn is_complete(&self) -> bool {
        self.has_sent_all() && self.dead_letters == 0
    }
}

/// Whether a poll succeeded and nothing is missing in its response.
pub(super) fn is_complete(poll: &Result<PollReport, PollError>) -> bool {
    poll.as_ref().is_ok_and(|report| report.incomplete.is_none())
}

/// Completes interrupted imports, polls every tenant once, delivers everything that is queued, and
/// prunes bodies.
pub async fn once(engine: &Arc<Engine>) -> OnceReport {
    engine.self_report().remove();
    engine.collector().resume_imports().await;
    let polls = backfill(engine, None, &[], |_, _| {}).await;
    let sinks = deliver_all(engine).await;
    // Pruning deletes the cursors of removed sinks, which must not remain in the file: a sink that
    // returns would continue there.
    engine.operations().prune_daily();
    let written = engine.cursor_file().update();
    let outdated_cursor_file = written.as_ref().err().map(Explanation::of);
    OnceReport { polls, sinks, outdated_cursor_file }
}

/// Polls the tenants with these names back to a day; all tenants if there are no names. Calls
/// `on_finished` with each result as it arrives, and returns all results in the order of the
/// configuration. Without `back_to`, reads as far back as a scheduled poll would. A failed poll is
/// part of the results.
pub async fn backfill(
    engine: &Arc<Engine>,
    back_to: Option<Day>,
    names: &[String],
    on_finished: impl FnMut(&str, &Result<PollReport, PollError>),
) -> Vec<(String, Result<PollReport, PollError>)> {
    let is_selected =
        |state: &&Arc<TenantState>| names.is_empty() || names.contains(&state.plan.name);
    let tenants = engine.tenants().iter().filter(is_selected).cloned().collect();
    poll_tenants(engine, tenants, back_to, on_finished).await
}

/// Polls these tenants, as [`backfill`] does. A restart continues the backfills that it interrupts.
/// Returns all results in the order of the tenants.
pub(super) async fn poll_tenants(
    engine: &Arc<Engine>,
    tenants: Vec<Arc<TenantState>>,
    back_to: Option<Day>,
    mut on_finished: impl FnMut(&str, &Result<PollReport, PollError>),
) -> Vec<(String, Result<PollReport, PollError>)> {
    if let Some(first_day) = back_to {
        engine.collector().queue_backfills(&tenants, first_day);
    }
    let mut running = JoinSet::new();
    for (index, state) in tenants.into_iter().enumerate() {
        let engine = engine.clone();
        running.spawn(async move {
            let result = engine.collector().poll(&state, back_to).await;
            (index, state, result)
        });
    }

    let mut results = Vec::new();
    // A poll returns its panic as an error, so no result is lost here.
    while let Some(Ok((index, state, result))) = running.join_next().await {
        on_finished(&state.plan.name, &result);
        results.push((index, state, result));
    }

    results.sort_by_key(|(index, ..)| *index);
    results.into_iter().map(|(_, state, result)| (state.plan.name.clone(), result)).collect()
}

/// Delivers to all sinks at the same time.
async fn deliver_all(engine: &Arc<Engine>) -> Vec<SinkReport> {
    let mut running = JoinSet::new();
    for (index, plan) in engine.sinks().active().enumerate() {
        let mut deliverer = Deliverer::new(engine.clone(), plan.clone());
        running.spawn(async move {
            let result = deliverer.run_once_if_due(&CancellationToken::new()).await;
            (index, deliverer, result.err())
        });
    }
    let mut finished = running.join_all().await;
    finished.sort_by_key(|(index, ..)| *index);

    let mut results = Vec::new();
    for (_, mut deliverer, mut stopped) in finished {
        // A rejection by one receiver has appended an observation, which the other sinks deliver.
        if stopped.is_none() {
            stopped = deliverer.run_once_if_due(&CancellationToken::new()).await.err();
        }
        results.push(finish(engine, deliverer, stopped).await);
    }
    results
}

/// Closes a deliverer, and reports what it has done.
pub(super) async fn finish(
    engine: &Engine,
    mut deliverer: Deliverer,
    stopped: Option<DeliveryError>,
) -> SinkReport {
    deliverer.close().await;
    let rejected = deliverer.rejected;
    let name = deliverer.name().clone();

    let filter = DeadLetterFilter::of_sink(&name);
    let counted = engine.store().run(|checkpoint| checkpoint.count_dead_letters(&filter));
    let dead_letters = counted.unwrap_or_else(|error| {
        tracing::warn!(
            sink = name.as_str(),
            error = chain(&error),
            "cannot count the dead letters"
        );
        rejected
    });
    SinkReport { name, delivered: deliverer.delivered, rejected, dead_letters, stopped }
}
