//! The lifecycle of the daemon: start, ready, running, reloaded, stopped.
//!
//! A reload validates the whole new configuration, ends all work under the old one, and starts
//! again on the same open checkpoint. Nothing is lost, because the cursors are stored in the
//! checkpoint, whose lock is never released in between. Start reading at [`run`] and
//! [`Generation`]. See decision 0030.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use super::{
    Changes, Engine, Poller, ReloadReport, TenantRemovals, blocking,
    control::{self, ReloadRequest},
    deliverer::{Shutdown, supervise},
    generation_tasks::{GenerationTask, GenerationTasks},
    storage_watch::watch_storage,
    systemd,
};
use crate::{
    checkpoint::CheckpointError, clock, config::Configuration, error::Explanation,
    model::RejectedConfiguration, telemetry::UNCOLLAPSED,
};

/// The time from a signal to the end of the process. Records that are not acknowledged by then are
/// sent again after the next start.
const STOP_LIMIT: Duration = Duration::from_secs(4);
/// How long deliverers wait for outstanding acknowledgements when the daemon stops, and when it
/// reloads.
const ACKNOWLEDGEMENT_WAIT_AT_STOP: Duration = Duration::from_secs(3);
const ACKNOWLEDGEMENT_WAIT_AT_RELOAD: Duration = Duration::from_secs(30);
/// How long tasks may take after that, for example to close their connections.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// The delay of the first pruning, because the daemon is busy with polls after the start.
const PRUNE_DELAY: Duration = Duration::from_mins(10);
/// The interval at which the schedule is evaluated.
const TICK: Duration = Duration::from_mins(1);

/// Loads the configuration again for a reload; fails with all faults of the file.
pub type LoadConfiguration = dyn Fn() -> Result<Configuration, Vec<Explanation>> + Send + Sync;

/// Why the daemon cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The operating system rejected the handler of a signal.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The path of the control socket, and why it cannot be opened.
    #[error("cannot open the control socket `{0}`")]
    Control(String, #[source] std::io::Error),
    /// The task that notifies the poll loop every minute cannot be started.
    #[error("cannot start the scheduler")]
    Ticker(#[from] JobSchedulerError),
    /// The path of the control socket cannot be announced in the checkpoint's directory.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A request to the main loop, from a signal or from the control socket.
enum LifecycleRequest {
    Stop,
    Reload(ReloadRequest),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    reloads: mpsc::Receiver<ReloadRequest>,
    /// The last reload that was requested while another one was running.
    pending: Option<ReloadRequest>,
    losses: mpsc::Receiver<CheckpointError>,
    /// The loss of the database or of the claim, which stops the daemon.
    lost: Option<CheckpointError>,
}

/// All tasks that work under one configuration.
struct Generation {
    engine: Arc<Engine>,
    /// Ends the deliverers.
    shutdown: Shutdown,
    /// Ends polls and the control socket.
    cancel: CancellationToken,
    tasks: GenerationTasks,
}

/// Whether the next configuration is in force.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Applied {
    Yes,
    No,
}

/// Runs the daemon until a signal stops it. `current` always contains the engine of the running
/// generation, for readers such as the status page.
///
/// Fails if signals, the control socket or the scheduler cannot be set up, if the database is
/// removed or replaced, and if another process writes to it.
pub async fn run(
    current: watch::Sender<Arc<Engine>>,
    load: &LoadConfiguration,
) -> Result<(), RunError> {
    let (reload_sender, reloads) = mpsc::channel(1);
    let (loss_sender, losses) = mpsc::channel(1);
    let mut signals = Signals::listen(reloads, losses).map_err(RunError::Signals)?;

    let engine = current.borrow().clone();
    let state = engine.store().checkpoint().state_directory();
    let socket = state.socket_path();
    let listener = control::bind(&socket, state.path())
        .map_err(|error| RunError::Control(socket.display().to_string(), error))?;
    let listener = Arc::new(listener);
    state.announce(&socket).map_err(CheckpointError::from)?;

    let tick = Arc::new(Notify::new());
    let mut ticker = ticker(tick.clone()).await?;
    record_rejection(&engine, None);
    engine.self_report().store(&engine.self_report().current());
    let mut background = JoinSet::new();
    background.spawn(systemd::notify_watchdog(current.subscribe()));
    background.spawn(systemd::update_status_line(current.subscribe()));
    background.spawn(watch_storage(current.subscribe(), tick.clone(), loss_sender));
    let start = |engine| Generation::start(engine, &listener, &reload_sender, &tick);
    let mut generation = start(engine);
    generation.log("running");
    systemd::ready(&generation.engine);

    while let LifecycleRequest::Reload(request) = signals.next_or_pending().await {
        systemd::reloading();
        let next = reconfigured(&generation.engine, load, request.removals);
        if let Some(reply) = request.reply {
            // An error means that the command has exited.
            let _ = reply.send(next.as_ref().map(|(_, report)| report.clone()).map_err(Vec::clone));
        }
        let (next, report) = match next {
            Ok(next) => next,
            Err(faults) => {
                log_rejected(&faults);
                record_rejection(&generation.engine, faults.first());
                systemd::ready(&generation.engine);
                continue;
            }
        };

        // A stop does not wait for the reload.
        tokio::select! {
            () = generation.end(ACKNOWLEDGEMENT_WAIT_AT_RELOAD) => {}
            () = signals.stop() => break,
        }
        let (next, applied) = generation.succeeded_by(next);
        current.send_replace(Arc::clone(&next));
        generation = start(next);
        if applied == Applied::Yes {
            generation.log("running with the new configuration");
            log_changes(&report.changes);
        }
        systemd::ready(&generation.engine);
    }

    tracing::info!("stopping");
    systemd::stopping();
    background.abort_all();
    let lost = signals.lost.take();
    generation.end_last(lost.as_ref()).await;
    let _ = ticker.shutdown().await;
    let _ = fs_err::remove_file(&socket);
    lost.map_or(Ok(()), |error| Err(error.into()))
}

/// Loads the configuration, builds its engine, and reports what it changes; fails with all faults.
fn reconfigured(
    engine: &Engine,
    load: &LoadConfiguration,
    removals: TenantRemovals,
) -> Result<(Arc<Engine>, ReloadReport), Vec<Explanation>> {
    blocking(|| {
        let next = engine
            .reconfigured(load()?, removals)
            .map_err(|error| vec![Explanation::of(&error)])?;
        let report = ReloadReport {
            changes: Changes::between(engine.configuration(), next.configuration()),
            possible_renames: next.sinks().possible_renames().to_vec(),
        };
        Ok((next, report))
    })
}

fn log_changes(changes: &Changes) {
    if !changes.is_empty() {
        let changes = changes.lines().join("; ");
        tracing::info!(changes, "the configuration has changed");
    }
}

/// Records the first fault of a rejected configuration, or that the configuration was applied.
fn record_rejection(engine: &Engine, fault: Option<&Explanation>) {
    let rejected = fault
        .map(|reason| RejectedConfiguration { at: clock::now().into(), reason: reason.clone() });
    let recorded =
        engine.store().run(|checkpoint| checkpoint.set_rejected_configuration(rejected.as_ref()));
    if let Err(error) = recorded {
        let error = Explanation::of(&error);
        tracing::warn!(
            error = error.message,
            hint = error.hint,
            "cannot record the result of the reload in the checkpoint"
        );
    }
}

fn log_rejected(faults: &[Explanation]) {
    let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    let error = messages.join("; ");
    let hint = faults.first().and_then(|fault| fault.hint.as_deref());
    tracing::error!(
        target: UNCOLLAPSED,
        error,
        hint,
        "the new configuration was rejected; the old one remains in force"
    );
}

impl Generation {
    fn start(
        engine: Arc<Engine>,
        listener: &Arc<UnixListener>,
        reloads: &mpsc::Sender<ReloadRequest>,
        tick: &Arc<Notify>,
    ) -> Self {
        let (shutdown, cancel) = (Shutdown::default(), CancellationToken::new());
        let mut tasks = GenerationTasks::default();

        for plan in engine.sinks().active() {
            let task = GenerationTask::Sink(plan.name.to_string());
            tasks.spawn(task, supervise(engine.clone(), plan.clone(), shutdown.clone()));
        }
        let polls = poll_loop(engine.clone(), tick.clone(), cancel.clone());
        tasks.spawn(GenerationTask::Polls, polls);
        let (listener, reloads) = (listener.clone(), reloads.clone());
        let served = control::serve(engine.clone(), listener, reloads, cancel.clone());
        tasks.spawn(GenerationTask::Control, served);

        Self { engine, shutdown, cancel, tasks }
    }

    fn log(&self, message: &str) {
        let tenants = self.engine.tenants().count();
        let sinks = self.engine.sinks().active().count();
        tracing::info!(tenants, sinks, version = env!("CARGO_PKG_VERSION"), "{message}");
    }

    /// Ends all work. Polls and requests end immediately: a poll changes nothing until it commits,
    /// and a commit cannot be interrupted. Deliverers end when all outstanding acknowledgements
    /// have arrived, or after `acknowledgement_wait`.
    async fn end(&mut self, acknowledgement_wait: Duration) {
        self.shutdown.begin(acknowledgement_wait);
        self.cancel.cancel();

        let limit = acknowledgement_wait + CLOSE_LIMIT;
        if tokio::time::timeout(limit, self.tasks.join()).await.is_err() {
            self.log_unfinished();
            self.tasks.abort().await;
        }
        // Acknowledgements may have moved cursors.
        self.engine.cursor_file().update_or_log();
    }

    /// Ends all work because the daemon stops, possibly because of the loss of the database or of
    /// the claim.
    async fn end_last(&mut self, lost: Option<&CheckpointError>) {
        let end = self.end(ACKNOWLEDGEMENT_WAIT_AT_STOP);
        if tokio::time::timeout(STOP_LIMIT, end).await.is_err() {
            self.log_unfinished();
        }
        if matches!(lost, Some(CheckpointError::DatabaseLost(..))) {
            // The next start notices the loss only by the second cursor file.
            self.engine.cursor_file().mark_moved();
        }
        self.engine.cursor_file().update_or_log();
    }

    fn log_unfinished(&self) {
        for sentence in self.tasks.unfinished() {
            tracing::warn!("{sentence}");
        }
    }

    /// Applies the next configuration after the end of this generation. Returns the engine to
    /// continue with: `next`, or this generation's if the checkpoint could not be updated.
    fn succeeded_by(&self, next: Arc<Engine>) -> (Arc<Engine>, Applied) {
        let applied = blocking(|| next.apply_configuration());
        // The configuration may have renamed a sink, so the cursor file may be outdated.
        next.cursor_file().mark_moved();
        next.cursor_file().update_or_log();

        match applied {
            Ok(()) => {
                record_rejection(&next, None);
                next.self_report().store(&next.self_report().current());
                (next, Applied::Yes)
            }
            Err(error) => {
                let error = Explanation::of(&error);
                record_rejection(&self.engine, Some(&error));
                tracing::error!(
                    error = error.message,
                    hint = error.hint,
                    "cannot apply the new configuration; the old one remains in force"
                );
                (Arc::clone(&self.engine), Applied::No)
            }
        }
    }
}

impl Signals {
    fn listen(
        reloads: mpsc::Receiver<ReloadRequest>,
        losses: mpsc::Receiver<CheckpointError>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            reloads,
            losses,
            lost: None,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            pending: None,
        })
    }

    async fn next(&mut self) -> LifecycleRequest {
        tokio::select! {
            _ = self.terminate.recv() => LifecycleRequest::Stop,
            _ = self.interrupt.recv() => LifecycleRequest::Stop,
            _ = self.hangup.recv() => LifecycleRequest::Reload(ReloadRequest {
                removals: TenantRemovals::Limited,
                reply: None,
            }),
            Some(error) = self.losses.recv() => {
                self.lost = Some(error);
                LifecycleRequest::Stop
            }
            // `run` holds a sender, so the channel never closes.
            Some(request) = self.reloads.recv() => LifecycleRequest::Reload(request),
        }
    }

    /// Waits for a request to stop. A request to reload that arrives in the meantime becomes
    /// pending.
    async fn stop(&mut self) {
        while let LifecycleRequest::Reload(request) = self.next().await {
            self.pending = Some(request);
        }
    }

    async fn next_or_pending(&mut self) -> LifecycleRequest {
        match self.pending.take() {
            Some(request) => LifecycleRequest::Reload(request),
            None => self.next().await,
        }
    }
}

/// Notifies `tick` at the start of every minute. The cron scheduler has no other task: `schedule`
/// decides at every tick which polls are due.
async fn ticker(tick: Arc<Notify>) -> Result<JobScheduler, RunError> {
    let scheduler = JobScheduler::new().await?;
    let job = Job::new("0 * * * * *", move |_, _| tick.notify_one())?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

/// Starts due polls, immediately and then every minute. Also completes interrupted imports, writes
/// the cursor file, prunes bodies, and compares a clock that was wrong.
async fn poll_loop(engine: Arc<Engine>, tick: Arc<Notify>, cancel: CancellationToken) {
    engine.collector().record_interrupted_polls();
    let mut imports = JoinSet::new();
    let importer = engine.clone();
    imports.spawn(async move { importer.collector().resume_imports().await });
    let mut poller = Poller::new(engine.clone());
    let (mut pruning, mut clock_comparison) = (JoinSet::new(), JoinSet::new());
    let started = Instant::now();

    loop {
        engine.meters().scheduler_progress();
        poller.start_due();
        engine.cursor_file().update_or_log();

        // Pruning may take minutes, so it runs in a separate task.
        let is_settled = started.elapsed() > PRUNE_DELAY;
        while pruning.try_join_next().is_some() {}
        if is_settled && pruning.is_empty() {
            let engine = engine.clone();
            pruning.spawn(async move {
                engine.operations().prune_daily();
                engine.cursor_file().update_or_log();
            });
        }
        engine.host_clock().start_comparison(&mut clock_comparison);

        tokio::select! {
            () = tick.notified() => {}
            // The ticker follows the wall clock and pauses when the clock is set back.
            () = tokio::time::sleep(TICK) => {}
            () = cancel.cancelled() => {
                imports.shutdown().await;
                return poller.abort().await;
            }
        }
    }
}
