//! The daemon's life: built, ready, running, drained, gone.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::JoinSet,
};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use super::{Deliverer, Engine, TenantState, control};
use crate::{
    checkpoint::{CheckpointError, PollState},
    clock,
    schedule::Polled,
};

/// From the signal to the end. What is under way then is not confirmed, and sent again.
const GRACE: Duration = Duration::from_secs(4);
/// How often it is asked what is due.
const TICK: Duration = Duration::from_mins(1);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot open the control socket `{0}`")]
    Control(String, #[source] std::io::Error),
    #[error("cannot start the minute ticker")]
    Ticker(#[from] JobSchedulerError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Runs until it is told to stop.
pub async fn run(engine: Arc<Engine>) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let socket = control::socket_path(engine.checkpoint.directory());
    let listener = control::bind(&socket)
        .map_err(|error| RunError::Control(socket.display().to_string(), error))?;
    engine.checkpoint.announce(&socket)?;
    let tick = Arc::new(Notify::new());
    let mut ticker = ticker(tick.clone()).await?;

    let cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for plan in engine.sinks() {
        tasks.spawn(Deliverer::new(engine.clone(), plan.clone()).run(cancel.clone()));
    }
    let polls = tokio::spawn(poll_loop(engine.clone(), tick, cancel.clone()));
    let serving = tokio::spawn(control::serve(engine.clone(), listener));
    let (tenants, sinks) = (engine.tenants.len(), engine.sinks().count());
    tracing::info!(tenants, sinks, version = env!("CARGO_PKG_VERSION"), "running");
    notify(&[
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status(&format!("reading {tenants} tenants for {sinks} sinks")),
    ]);

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    notify(&[sd_notify::NotifyState::Stopping]);
    cancel.cancel();
    // A poll keeps nothing until it commits, and a commit cannot be cut in two.
    polls.abort();
    serving.abort();
    let drained =
        tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("a sink did not answer in time; what it did not confirm will be sent again");
    }
    let _ = ticker.shutdown().await;
    engine.keep_cursors();
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// tokio-cron-scheduler is a metronome here and nothing else: it rings every minute, in UTC, and
/// what is due is decided anew each time by `schedule`.
async fn ticker(tick: Arc<Notify>) -> Result<JobScheduler, RunError> {
    let scheduler = JobScheduler::new().await?;
    let job = Job::new("0 * * * * *", move |_, _| tick.notify_one())?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

/// Polls what is due, each minute and at once on start.
async fn poll_loop(engine: Arc<Engine>, tick: Arc<Notify>, cancel: CancellationToken) {
    let mut poller = Poller::new(engine.clone());
    loop {
        poller.start_due();
        engine.keep_cursors();
        tokio::select! {
            () = tick.notified() => {}
            // The ticker goes by the clock on the wall, and is silent when that is set back.
            () = tokio::time::sleep(TICK) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// Starts polls that are due, and none of a tenant that has one under way or in line.
#[derive(Debug)]
pub struct Poller {
    engine: Arc<Engine>,
    running: JoinSet<()>,
}

impl Poller {
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, running: JoinSet::new() }
    }

    /// Starts what is due now.
    pub fn start_due(&mut self) {
        while self.running.try_join_next().is_some() {}
        for index in 0..self.engine.tenants.len() {
            let state = &self.engine.tenants[index];
            if is_due(&self.engine, state) && !state.queued.swap(true, Ordering::Relaxed) {
                let engine = self.engine.clone();
                self.running.spawn(async move {
                    let state = &engine.tenants[index];
                    // The reason is in the log and in the checkpoint.
                    let _ = engine.poll(state, None).await;
                    state.queued.store(false, Ordering::Relaxed);
                });
            }
        }
    }

    /// Waits until nothing is under way.
    pub async fn idle(&mut self) {
        while self.running.join_next().await.is_some() {}
    }
}

fn is_due(engine: &Engine, state: &TenantState) -> bool {
    if state.is_left_alone(clock::now()) {
        return false;
    }
    // A tenant whose domain is not resolved yet has never been polled.
    let Some(tenant) = state.known() else { return true };
    match tokio::task::block_in_place(|| engine.checkpoint.poll_state(tenant.id)) {
        Ok(poll_state) => engine
            .configuration
            .schedule
            .due(tenant.id, &polled(&poll_state), clock::now())
            .is_some(),
        Err(error) => {
            tracing::error!(
                tenant = tenant.name,
                error = crate::error::chain(&error),
                "the checkpoint cannot be read"
            );
            false
        }
    }
}

fn polled(state: &PollState) -> Polled {
    let time = |ms: Option<i64>| ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    Polled {
        last_attempt: time(state.last_attempt_ms),
        last_success: time(state.last_success_ms),
        failures: state.failures,
        newest_day: state.newest_day,
    }
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(states);
}
