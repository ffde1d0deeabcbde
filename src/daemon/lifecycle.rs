//! The daemon's life: built, ready, running, reloaded, drained, gone.
//!
//! A reload validates the new configuration whole, ends all work under the old one, and begins anew on
//! the same checkpoint: cursors are there, so nothing is lost, and no lock changes hands.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use super::{
    Deliverer, Engine, TenantState, control, control::AskedToReload, deliverer::End, systemd,
};
use crate::{
    checkpoint::{CheckpointError, PollState},
    clock,
    config::Configuration,
    error::{Explanation, chain},
    schedule::Polled,
    telemetry::UNCOLLAPSED,
};

/// From the signal to the end. What is under way then is not confirmed, and sent again.
const GRACE: Duration = Duration::from_secs(4);
/// How long proofs are waited for when the daemon is told to stop, and when it goes on with another
/// configuration.
const LAST_PROOFS: Duration = Duration::from_secs(3);
const PROOFS_BEFORE_RELOAD: Duration = Duration::from_secs(30);
/// Sinks say goodbye to their receivers for so long at most.
const GOODBYES: Duration = Duration::from_secs(10);
/// After the start, this long.
const SETTLED: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);
/// How often it is asked what is due.
const TICK: Duration = Duration::from_mins(1);

/// Reads the configuration anew; the text says all that is wrong with it.
pub type LoadConfiguration = dyn Fn() -> Result<Configuration, Vec<Explanation>> + Send + Sync;

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

/// What a signal asks for.
enum Told {
    Stop,
    /// Somebody may wait for the verdict.
    Reload(Option<AskedToReload>),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    asked: mpsc::Receiver<AskedToReload>,
    /// A reload was asked for while another was under way.
    again: bool,
}

/// All that works under one configuration.
struct Generation {
    engine: Arc<Engine>,
    end: End,
    no_more_work: CancellationToken,
    tasks: JoinSet<()>,
}

/// Runs until it is told to stop. `current` is the engine at work, for those who look on.
pub async fn run(
    current: watch::Sender<Arc<Engine>>,
    reread: &LoadConfiguration,
) -> Result<(), RunError> {
    let (reloads, asked) = mpsc::channel(1);
    let mut signals = Signals::listen(asked).map_err(RunError::Signals)?;
    let engine = current.borrow().clone();
    let socket = control::socket_path(engine.checkpoint.directory());
    let listener = control::bind(&socket)
        .map_err(|error| RunError::Control(socket.display().to_string(), error))?;
    let listener = Arc::new(listener);
    engine.checkpoint.announce(&socket)?;
    let tick = Arc::new(Notify::new());
    let mut ticker = ticker(tick.clone()).await?;
    let notify_systemd = tokio::spawn(systemd::notify_systemd(current.subscribe()));
    let start = |engine| Generation::start(engine, &listener, &reloads, &tick);
    let mut generation = start(engine);
    generation.tell("running");
    systemd::ready(&generation.engine);
    while let Told::Reload(asked) = signals.next_or_again().await {
        systemd::reloading();
        let next = reconfigured(&generation.engine, reread);
        if let Some(asked) = asked {
            // Who asked may have gone.
            let _ = asked.send(next.as_ref().map(drop).map_err(Vec::clone));
        }
        let next = match next {
            Ok(next) => next,
            Err(faults) => {
                let messages: Vec<&str> = faults.iter().map(|f| f.message.as_str()).collect();
                let error = messages.join("; ");
                let hint = faults.first().and_then(|fault| fault.hint.as_deref());
                tracing::error!(target: UNCOLLAPSED, error, hint, "the new configuration is refused; the old one stays");
                systemd::refused(&generation.engine);
                continue;
            }
        };
        tokio::select! {
            () = generation.end(PROOFS_BEFORE_RELOAD) => {}
            () = signals.stop() => break,
        }
        let (next, adopted) = generation.succeeded_by(next);
        current.send_replace(Arc::clone(&next));
        generation = start(next);
        if adopted {
            generation.tell("running with the new configuration");
            systemd::ready(&generation.engine);
        } else {
            systemd::refused(&generation.engine);
        }
    }
    tracing::info!("stopping");
    systemd::stopping();
    notify_systemd.abort();
    if tokio::time::timeout(GRACE, generation.end(LAST_PROOFS)).await.is_err() {
        tracing::warn!("a sink did not answer in time; what it did not confirm will be sent again");
    }
    let _ = ticker.shutdown().await;
    generation.engine.write_cursor_file();
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// The next engine, if the configuration as it is now is sound.
fn reconfigured(
    engine: &Engine,
    reread: &LoadConfiguration,
) -> Result<Arc<Engine>, Vec<Explanation>> {
    tokio::task::block_in_place(|| {
        let configuration = reread()?;
        engine.reconfigured(configuration).map_err(|error| vec![Explanation::of(&error)])
    })
}

impl Generation {
    fn start(
        engine: Arc<Engine>,
        listener: &Arc<UnixListener>,
        reloads: &mpsc::Sender<AskedToReload>,
        tick: &Arc<Notify>,
    ) -> Self {
        let (end, no_more_work) = (End::default(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        for plan in engine.sinks() {
            tasks.spawn(Deliverer::new(engine.clone(), plan.clone()).run(end.clone()));
        }
        tasks.spawn(poll_loop(engine.clone(), tick.clone(), no_more_work.clone()));
        let (listener, reloads) = (listener.clone(), reloads.clone());
        tasks.spawn(control::serve(engine.clone(), listener, reloads, no_more_work.clone()));
        Self { engine, end, no_more_work, tasks }
    }

    fn tell(&self, what: &str) {
        let (tenants, sinks) = (self.engine.tenants.len(), self.engine.sinks().count());
        tracing::info!(tenants, sinks, version = env!("CARGO_PKG_VERSION"), "{what}");
    }

    /// Ends all work: polls and callers at once, for a poll keeps nothing until it commits, and a commit cannot
    /// be cut in two; deliverers when the proofs on their way are there, or `patience` is over.
    async fn end(&mut self, patience: Duration) {
        self.end.tell(patience);
        self.no_more_work.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience + GOODBYES, all).await.is_err() {
            tracing::warn!("a task did not end in time, and is cut off");
            self.tasks.shutdown().await;
        }
        // What was proven on the way, whichever engine comes next.
        self.engine.write_cursor_file();
    }

    /// The engine that goes on after this one has ended: the next, or this one once more if the
    /// checkpoint does not follow.
    fn succeeded_by(&self, next: Arc<Engine>) -> (Arc<Engine>, bool) {
        let adopted = tokio::task::block_in_place(|| next.adopt());
        // A sink may have another name there now.
        next.mark_cursors_moved();
        next.write_cursor_file();
        match adopted {
            Ok(()) => (next, true),
            Err(error) => {
                let error = chain(&error);
                tracing::error!(
                    error,
                    "the new configuration could not be put in force; the old one stays"
                );
                (Arc::clone(&self.engine), false)
            }
        }
    }
}

impl Signals {
    fn listen(asked: mpsc::Receiver<AskedToReload>) -> std::io::Result<Self> {
        Ok(Self {
            asked,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            again: false,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload(None),
            // We hold a sender ourselves: it never ends.
            Some(asked) = self.asked.recv() => Told::Reload(Some(asked)),
        }
    }

    /// Waits for the word to stop. A reload that is asked for meanwhile is not forgotten.
    async fn stop(&mut self) {
        while let Told::Reload(_) = self.next().await {
            self.again = true;
        }
    }

    async fn next_or_again(&mut self) -> Told {
        if std::mem::take(&mut self.again) {
            return Told::Reload(None);
        }
        self.next().await
    }
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
    let mut pruning = JoinSet::new();
    let began = clock::now();
    loop {
        engine.meters.scheduled();
        poller.start_due();
        engine.write_cursor_file();
        // Not while the start has its hands full, and beside all else: it may take a while.
        let settled = clock::now().duration_since(began) > SETTLED;
        while pruning.try_join_next().is_some() {}
        if settled && pruning.is_empty() {
            let engine = engine.clone();
            pruning.spawn(async move { engine.prune_daily() });
        }
        tokio::select! {
            () = tick.notified() => {}
            // The ticker goes by the clock on the wall, and is silent when that is set back.
            () = tokio::time::sleep(TICK) => {}
            () = cancel.cancelled() => return poller.running.shutdown().await,
        }
    }
}

/// Starts polls that are due, and none of a tenant that has one under way or in line.
#[derive(Debug)]
pub struct Poller {
    engine: Arc<Engine>,
    running: JoinSet<()>,
    /// Nothing has been looked at yet under this configuration.
    begins: bool,
}

impl Poller {
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine, running: JoinSet::new(), begins: true }
    }

    /// Starts what is due now.
    pub fn start_due(&mut self) {
        while self.running.try_join_next().is_some() {}
        let mut unreadable = (0, None);
        let begins = std::mem::take(&mut self.begins);
        for index in 0..self.engine.tenants.len() {
            let state = &self.engine.tenants[index];
            // Each look may have to wait for the checkpoint.
            self.engine.meters.scheduled();
            let due = is_due(&self.engine, state, begins).unwrap_or_else(|error| {
                unreadable = (unreadable.0 + 1, Some(error));
                false
            });
            if due && !state.queued.swap(true, Ordering::Relaxed) {
                let engine = self.engine.clone();
                self.running.spawn(async move {
                    let state = &engine.tenants[index];
                    let _in_line = InLine(state);
                    // The reason is in the log and in the checkpoint.
                    let _ = engine.poll(state, None).await;
                });
            }
        }
        if let (tenants, Some(error)) = unreadable {
            tracing::error!(tenants, error = chain(&error), "the checkpoint cannot be read");
        }
    }

    /// Waits until nothing is under way.
    pub async fn idle(&mut self) {
        while self.running.join_next().await.is_some() {}
    }
}

/// A tenant that is in line for a poll, or has one; also one that is cut off leaves the line.
struct InLine<'a>(&'a TenantState);

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.queued.store(false, Ordering::Relaxed);
    }
}

/// Whether a poll is due. What failed before work `begins` may be what was mended since, and is tried
/// again at once, but for the time that a server has asked for.
fn is_due(engine: &Engine, state: &TenantState, begins: bool) -> Result<bool, CheckpointError> {
    if state.is_left_alone(clock::now()) {
        return Ok(false);
    }
    // A tenant whose domain is not resolved yet has never been polled.
    let Some(tenant) = state.resolved() else { return Ok(true) };
    let known = tokio::task::block_in_place(|| engine.checkpoint.poll_state(tenant.id))?;
    let schedule = &engine.configuration.schedule;
    Ok(begins && known.failures > 0
        || schedule.due(tenant.id, &polled(&known), clock::now()).is_some())
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
