//! Starts the polls that the schedule, a failure or the start of the daemon makes due.
//!
//! Every round reads the stored states of all tenants in one query. A tenant whose state cannot be
//! read sends no request, because only that state shows when its last poll was: if its own row is
//! damaged, its poll fails and is reported like that of any other tenant. Start reading at
//! [`Poller::start_due`].

use std::sync::{Arc, atomic::Ordering};

use tokio::{task::JoinSet, time::Instant};

use super::{Engine, TenantState};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, FoundPollState, PollStates},
    clock,
    error::Explanation,
};

/// Starts the polls that are due, at most one per tenant at a time.
#[derive(Debug)]
pub struct Poller {
    engine: Arc<Engine>,
    running: JoinSet<()>,
    /// The round that the next call of [`Self::start_due`] starts.
    round: Round,
}

/// One evaluation of the schedule for all tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// The first one under this configuration.
    First,
    /// Any other one.
    Later,
}

/// When a tenant is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PollTime {
    /// A poll is due.
    Now,
    /// No poll is due.
    Later,
    /// Its stored state is damaged: a poll fails before it sends a request, and reports that.
    Damaged,
    /// That depends on the stored states, which could not be read.
    Unknown,
}

impl Poller {
    /// A poller without running polls.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, running: JoinSet::new(), round: Round::First }
    }

    /// Starts all polls that are due now, and returns without waiting for them.
    pub fn start_due(&mut self) {
        while self.running.try_join_next().is_some() {}

        // A poll that ends after the states were read must not be repeated because of its old one.
        let engine = Arc::clone(&self.engine);
        let is_idle = |state: &&Arc<TenantState>| !state.queued.load(Ordering::Relaxed);
        let idle: Vec<&Arc<TenantState>> = engine.tenants().iter().filter(is_idle).collect();
        let stored = engine.store().run(Checkpoint::poll_states);
        // The checkpoint may have been busy for longer than the limit.
        engine.meters().scheduler_progress();

        let mut unreadable = 0_usize;
        let round = std::mem::replace(&mut self.round, Round::Later);
        for state in idle {
            match poll_time(&engine, state, stored.as_ref().ok(), round) {
                PollTime::Now => self.start(Arc::clone(state)),
                PollTime::Later => {}
                PollTime::Damaged => {
                    // Otherwise, the poll would be repeated in every round.
                    state.back_off(clock::now());
                    self.start(Arc::clone(state));
                }
                PollTime::Unknown => unreadable += 1,
            }
        }

        let error = stored.map_or_else(Some, |states| states.unidentified());
        if let Some(error) = error.filter(|_| unreadable > 0) {
            log_unreadable(&engine, unreadable, &error);
        }
    }

    /// Waits until all started polls have ended.
    pub async fn idle(&mut self) {
        while self.running.join_next().await.is_some() {}
    }

    /// Aborts all running polls, and waits until they have ended.
    pub(super) async fn abort(&mut self) {
        self.running.shutdown().await;
    }

    /// Starts a poll of a tenant.
    fn start(&mut self, state: Arc<TenantState>) {
        state.queued.store(true, Ordering::Relaxed);
        let engine = self.engine.clone();
        self.running.spawn(async move {
            let _queued = Queued(&state);
            // `poll` logs an error and records it in the checkpoint, also after a panic.
            let _ = engine.collector().poll(&state, None).await;
        });
    }
}

/// Clears `queued` of a tenant when its poll ends, even if its task is aborted.
struct Queued<'a>(&'a TenantState);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.queued.store(false, Ordering::Relaxed);
    }
}

/// When this tenant is polled. `stored` is `None` if the states could not be read. In the first
/// round, every failed poll is due immediately, because an operator may have fixed the cause, and
/// so is every queued backfill, because the restart may have interrupted it; only `Retry-After` and
/// backoff delay them.
fn poll_time(
    engine: &Engine,
    state: &TenantState,
    stored: Option<&PollStates>,
    round: Round,
) -> PollTime {
    let now_if = |is_due: bool| if is_due { PollTime::Now } else { PollTime::Later };
    if state.is_backing_off() {
        return PollTime::Later;
    }
    // The schedule does not know when the cause on this host is gone.
    if let Some(time) = state.retry() {
        return now_if(Instant::now() >= time);
    }
    // A tenant whose domain is not resolved has never been polled.
    let Some(tenant) = state.resolved() else { return PollTime::Now };

    let stored = match stored.map(|states| states.of(tenant.id)) {
        Some(FoundPollState::Readable(stored)) => stored,
        Some(FoundPollState::Damaged) => return PollTime::Damaged,
        Some(FoundPollState::Unidentified) | None => return PollTime::Unknown,
    };
    let (polled, schedule) = (stored.polled, &engine.configuration().schedule);
    let has_failed = polled.failures > 0 || stored.failed_locally;
    let is_unfinished = has_failed || stored.queued_backfill.is_some();
    let is_scheduled = || schedule.due(tenant.id, &polled, clock::now()).is_some();
    now_if(round == Round::First && is_unfinished || is_scheduled())
}

/// Logs that this number of tenants cannot be polled, because their states cannot be read.
fn log_unreadable(engine: &Engine, tenants: usize, error: &CheckpointError) {
    engine.meters().storage.note_error(error);
    let error = Explanation::of(error);
    tracing::error!(
        tenants,
        error = error.message,
        hint = error.hint,
        "cannot read the state of polls from the checkpoint"
    );
}
