//! The engine on a database in memory, with a sink that follows a script.
//!
//! No request is sent: a test passes the response of a poll to the collector, and the receiver is
//! the script of the sink. A test can therefore pause the clock, kill the engine at any time, and
//! make any call of the database fail. Start reading at [`Harness`].

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    arrivals::Repeats,
    fixtures::{body, configuration, configuration_text, started},
    scripted_sink::{LIMIT, ScriptedSink, StoredWith},
};
use crate::{
    checkpoint::{
        Checkpoint, CheckpointError, DeadLetterFilter, DeadLetterKey, FaultPlan, LogEntry,
        QueuedDeadLetter, ReadRequest, SinkFailure, StatusDetail,
    },
    clock,
    config::Configuration,
    daemon::{
        Engine, PollError, PollReport, ReplayRequest, SinkReport, TenantRemovals, TenantState,
        collector::{CatalogRead, PollResponse, interrupted_polls::RunningPoll},
        deliver_queued,
        deliverer::{Shutdown, supervise},
    },
    ledger::{self, AcceptedSnapshot, Rejections, SnapshotOrigin},
    model::{
        DataFaults, Day, EventId, ObservationSubject, Phase, Seq, SinkName, Tenant, TenantId,
        UnixMillis,
    },
    sink::Limits,
    source::simulated::Richness,
    wire,
};

/// The sink that acknowledges everything, and thereby shows what the other one must receive.
pub(super) const REFERENCE: &str = "reference";
/// The first name of the sink that follows a script.
pub(super) const SINK: &str = "receiver";

/// The interval at which a test checks whether everything is delivered: shorter than the time after
/// which an idle deliverer closes its sink.
const INTERVAL: Duration = Duration::from_secs(7);
/// How long the deliverer waits for acknowledgements when a test ends, and when it reloads.
const ACKNOWLEDGEMENT_WAIT: Duration = Duration::from_secs(30);

/// The targets of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Targets {
    One,
    PerTenant,
}

/// What a test needs.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The number of tenants, at most 1,000. Their IDs are in the order of their numbers.
    pub tenants: usize,
    pub targets: Targets,
    /// The number of controls of each day.
    pub controls: u32,
    /// The largest number of records of a batch.
    pub records: usize,
    /// How many batches may be unacknowledged.
    pub in_flight: usize,
    /// What is stored about the delivery, in addition to the cursors.
    pub stored: StoredWith,
    /// The number of days until the credential of all tenants expires; `None` if it does not.
    pub credential_days: Option<i32>,
    /// The faults of the database.
    pub faults: FaultPlan,
}

/// Some tenants, a sink that follows a script, and another one that shows what it must receive.
pub(super) struct Harness {
    setup: Setup,
    /// Deleted at the end of the test.
    _directory: TempDir,
    /// The text of the configuration.
    text: String,
    pub sink: ScriptedSink,
    reference: ScriptedSink,
    /// The database, from which each process opens its own checkpoint.
    database: Checkpoint,
    engine: Arc<Engine>,
    running: Option<RunningDeliverer>,
    /// The UTC day at the beginning of the test.
    today: Day,
}

struct RunningDeliverer {
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            tenants: 2,
            targets: Targets::One,
            controls: 12,
            records: 24,
            in_flight: 1,
            stored: StoredWith::Nothing,
            credential_days: None,
            faults: FaultPlan::default(),
        }
    }
}

impl Harness {
    /// A harness whose engine has started. If the planned fault prevents the start, the next one
    /// must succeed.
    pub(super) fn new(setup: Setup) -> Self {
        let (directory, today) = (tempfile::tempdir().unwrap(), Day::of(clock::now()));
        fs_err::write(directory.path().join("secret"), "secret").unwrap();
        let text = configuration_text(directory.path(), &setup, today);

        let limits = Limits { records: setup.records, bytes: 1 << 20, in_flight: setup.in_flight };
        let sink = ScriptedSink::new(limits, setup.stored);
        let reference = ScriptedSink::new(limits, StoredWith::Nothing);
        let faults = &setup.faults;
        let database = faults.without_faults(|| {
            Checkpoint::in_memory_with_faults(directory.path(), faults.clone()).unwrap()
        });
        let configured = || configuration(&text, setup.targets, &reference, &sink);
        let engine = started(&database, faults, configured);

        Self {
            setup,
            _directory: directory,
            text,
            sink,
            reference,
            database,
            engine,
            running: None,
            today,
        }
    }

    /// The day that is this number of days after the first day of the test.
    pub(super) fn day(&self, offset: i32) -> Day {
        self.today.plus(offset)
    }

    /// The current engine.
    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The current checkpoint.
    pub(super) fn checkpoint(&self) -> &Checkpoint {
        self.engine.store().checkpoint()
    }

    pub(super) fn tenant(&self, tenant: usize) -> &TenantState {
        self.engine.tenants().iter().nth(tenant).unwrap()
    }

    /// The number of tenants.
    pub(super) fn tenants(&self) -> usize {
        self.setup.tenants
    }

    pub(super) fn id(&self, tenant: usize) -> TenantId {
        self.resolved(tenant).id
    }

    fn resolved(&self, tenant: usize) -> Arc<Tenant> {
        self.tenant(tenant).resolved().unwrap()
    }

    /// The current name of the sink that follows a script.
    fn sink_name(&self) -> &SinkName {
        &self.engine.configuration().sinks[1].name
    }

    /// A complete response with these days, oldest first, each of which is an offset for
    /// [`Self::day`] and the score of all controls.
    pub(super) fn response(&self, tenant: usize, days: &[(i32, u32)]) -> PollResponse {
        let snapshots = days.iter().map(|(offset, score)| self.snapshot(tenant, *offset, *score));
        PollResponse {
            snapshots: snapshots.collect(),
            rejected: Rejections::default(),
            catalog: CatalogRead::NotNeeded,
            catalog_faults: DataFaults::default(),
            complete: true,
            warning: None,
            failure: None,
        }
    }

    fn snapshot(&self, tenant: usize, offset: i32, score: u32) -> AcceptedSnapshot {
        self.accepted(tenant, &self.body(tenant, offset, score, Richness::Poor))
    }

    /// As a snapshot of [`Self::response`], with texts.
    pub(super) fn rich_snapshot(&self, tenant: usize, offset: i32, score: u32) -> AcceptedSnapshot {
        self.accepted(tenant, &self.body(tenant, offset, score, Richness::Rich))
    }

    fn accepted(&self, tenant: usize, body: &str) -> AcceptedSnapshot {
        let snapshot = wire::snapshot(body).unwrap();
        let (origin, now) = (SnapshotOrigin::Poll, clock::now().into());
        ledger::accept(&snapshot, body, self.id(tenant), self.today, origin, now).unwrap()
    }

    fn body(&self, tenant: usize, offset: i32, score: u32, richness: Richness) -> String {
        body(self.id(tenant), self.day(offset), score, self.setup.controls, richness)
    }

    /// Polls a tenant as the schedule does. `respond` returns the response to a request of all days
    /// back to the one that is passed to it.
    pub(super) fn poll(
        &self,
        tenant: usize,
        respond: impl FnOnce(Day) -> Result<PollResponse, PollError>,
    ) -> Result<PollReport, PollError> {
        let state = self.tenant(tenant);
        let result = self.poll_unrecorded(state, &self.resolved(tenant), respond);
        self.engine.collector().record_result(state, &result);
        result
    }

    fn poll_unrecorded(
        &self,
        state: &TenantState,
        tenant: &Tenant,
        respond: impl FnOnce(Day) -> Result<PollResponse, PollError>,
    ) -> Result<PollReport, PollError> {
        let collector = self.engine.collector();
        self.engine.meters().storage.require(self.engine.store())?;
        let (oldest, kind) = collector.oldest_requested(state, tenant, None, clock::now())?;
        let running = RunningPoll::begin(self.engine.store(), tenant.id);

        let response = respond(oldest)?;
        let report = collector.ingest_response(state, tenant, response, oldest, kind)?;
        running.committed();
        Ok(report)
    }

    /// Polls a tenant whose response has these days; see [`Self::response`].
    pub(super) fn poll_days(
        &self,
        tenant: usize,
        days: &[(i32, u32)],
    ) -> Result<PollReport, PollError> {
        self.poll(tenant, |_| Ok(self.response(tenant, days)))
    }

    /// Appends the newest days to the logs of all tenants.
    pub(super) fn append_days(&self, number: i32) {
        for tenant in 0..self.setup.tenants {
            self.append_days_of(tenant, number);
        }
    }

    /// Appends the newest days to the log of a tenant.
    pub(super) fn append_days_of(&self, tenant: usize, number: i32) {
        let days: Vec<(i32, u32)> = (1 - number..=0).map(|offset| (offset, 5)).collect();
        self.poll_days(tenant, &days).unwrap();
    }

    /// Queues a backfill of a tenant, as a command does before the poll.
    pub(super) fn queue_backfill(&self, tenant: usize, offset: i32) {
        let states: Vec<Arc<TenantState>> =
            self.engine.tenants().iter().skip(tenant).take(1).cloned().collect();
        self.engine.collector().queue_backfills(&states, self.day(offset));
    }

    /// Queues an import of a day, as a command does before it is carried out.
    pub(super) fn queue_import(&self, tenant: usize, offset: i32) -> Result<(), CheckpointError> {
        let item = self.body(tenant, offset, 5, Richness::Poor);
        let (tenant, now) = (self.id(tenant), UnixMillis::default());
        self.checkpoint().queue_import(tenant, &[&item], now).map(drop)
    }

    /// Completes the queued imports, as a daemon does when it starts.
    pub(super) async fn resume_imports(&self) {
        self.engine.collector().resume_imports().await;
    }

    /// Begins a poll that the following restart interrupts.
    pub(super) fn begin_poll(&self, tenant: usize) {
        std::mem::forget(RunningPoll::begin(self.engine.store(), self.id(tenant)));
    }

    /// Records the polls that a restart has interrupted, as a daemon does when it starts.
    pub(super) fn record_interrupted_polls(&self) {
        self.engine.collector().record_interrupted_polls();
    }

    fn log(&self, tenant: usize) -> Vec<LogEntry> {
        let request = ReadRequest {
            tenant: self.id(tenant),
            first_seq: Seq::FIRST,
            last_seq: Seq::MAX,
            first_day: Day::of(jiff::Timestamp::UNIX_EPOCH),
            last_day: None,
            max_bytes: usize::MAX,
            with_bases: false,
            with_observations: true,
        };
        self.checkpoint().read(&request).unwrap()
    }

    /// The snapshots in the log of a tenant: the offset of the day for [`Self::day`], and the
    /// revision.
    pub(super) fn snapshots(&self, tenant: usize) -> Vec<(i32, u32)> {
        let log = self.log(tenant);
        let snapshots = log.iter().filter_map(|entry| match entry {
            LogEntry::Snapshot(stored) => Some(&stored.snapshot),
            LogEntry::Observation(_) => None,
        });
        let offset = |day: Day| day.number() - self.today.number();
        snapshots.map(|snapshot| (offset(snapshot.day), snapshot.revision)).collect()
    }

    /// The observations in the log of a tenant, without those about dead letters: the name of the
    /// kind, and the phase.
    pub(super) fn observations(&self, tenant: usize) -> Vec<(&'static str, Phase)> {
        let log = self.log(tenant);
        let observations = log.iter().filter_map(|entry| match entry {
            LogEntry::Snapshot(_) => None,
            LogEntry::Observation(stored) => Some(&stored.observation),
        });
        let others = observations
            .filter(|observation| !matches!(observation.subject, ObservationSubject::Sink(_)));
        others.map(|observation| (observation.what.as_str(), observation.phase)).collect()
    }

    /// Queues all days of both tenants for the sink.
    pub(super) fn replay(&self) {
        let request = ReplayRequest {
            sink: self.sink_name().clone(),
            first_day: self.day(-90),
            last_day: self.day(1),
            tenants: Vec::new(),
        };
        let extent = self.engine.operations().replay(&request).unwrap();
        assert!(extent.records > 0, "{extent:?}");
    }

    /// The dead letters of the sink.
    fn dead_letters(&self) -> Vec<QueuedDeadLetter> {
        let filter = DeadLetterFilter::of_sink(self.sink_name());
        self.checkpoint().find_dead_letters(&filter, 1_000).unwrap()
    }

    /// The records of the dead letters of the sink.
    pub(super) fn rejected(&self) -> BTreeSet<EventId> {
        self.dead_letters().iter().map(|letter| letter.event_id).collect()
    }

    /// Queues all dead letters of the sink for a retry.
    pub(super) fn retry_dead_letters(&self) {
        let keys: Vec<DeadLetterKey> =
            self.dead_letters().iter().map(QueuedDeadLetter::key).collect();
        assert_eq!(self.engine.operations().retry_dead_letters(&keys).unwrap(), keys.len() as u64);
    }

    /// Starts the deliverer of the sink.
    pub(super) fn start(&mut self) {
        let (shutdown, plan) = (Shutdown::default(), self.engine.configuration().sinks[1].clone());
        let task = tokio::spawn(supervise(Arc::clone(&self.engine), plan, shutdown.clone()));
        self.running = Some(RunningDeliverer { shutdown, task });
    }

    /// Waits until nothing is left to deliver.
    pub(super) async fn until_delivered(&self) {
        let end = Instant::now() + LIMIT;
        while !self.setup.faults.without_faults(|| self.is_delivered()) {
            assert!(Instant::now() < end, "records are left: {:?}, {:?}", self.sink, self.setup);
            sleep(INTERVAL).await;
        }
    }

    fn is_delivered(&self) -> bool {
        let (checkpoint, sink) = (self.checkpoint(), self.sink_name());
        let tenants: Vec<TenantId> = (0..self.setup.tenants).map(|n| self.id(n)).collect();
        checkpoint.pending(sink).unwrap().is_empty()
            // It deletes replays that have ended, so it fails after the claim was lost.
            && checkpoint.pending_replay(sink, &|_| true).is_ok_and(|replay| replay.is_none())
            && checkpoint.pending_dead_letters(sink, &tenants, 1).unwrap().is_empty()
    }

    /// Delivers everything to the sink, and stops its deliverer.
    pub(super) async fn deliver(&mut self) {
        if self.running.is_none() {
            self.start();
        }
        self.until_delivered().await;
        self.stop().await;
    }

    /// Delivers to the sink as `once` does.
    pub(super) async fn deliver_once(&self) -> SinkReport {
        Box::pin(deliver_queued(&self.engine, self.sink_name())).await
    }

    /// How the sink fails, as the checkpoint stores it.
    pub(super) fn failure(&self) -> Option<SinkFailure> {
        let status = self.checkpoint().status(StatusDetail::Summary).unwrap();
        let sink = status.sinks.iter().find(|sink| sink.name == *self.sink_name());
        sink.and_then(|sink| sink.failure)
    }

    /// Stops the deliverer of the sink.
    pub(super) async fn stop(&mut self) {
        let Some(RunningDeliverer { shutdown, task }) = self.running.take() else { return };
        shutdown.begin(ACKNOWLEDGEMENT_WAIT);
        timeout(LIMIT, task).await.unwrap().unwrap();
    }

    /// Kills the engine, and starts another one on the same database. No call of the database fails
    /// during the start.
    pub(super) async fn restart(&mut self) {
        let faults = self.setup.faults.clone();
        self.kill().await;
        self.engine = faults.without_faults(|| self.started());
    }

    /// Kills the engine, and starts another one with a changed configuration. If the planned fault
    /// prevents the start, the next one must succeed.
    pub(super) async fn restart_with(&mut self, change: impl FnOnce(&str) -> String) {
        self.kill().await;
        self.text = change(&self.text);
        self.engine = self.started();
    }

    async fn kill(&mut self) {
        if let Some(RunningDeliverer { task, .. }) = self.running.take() {
            task.abort();
            // Either the task was aborted, or it had ended.
            let _ = task.await;
        }
    }

    fn started(&self) -> Arc<Engine> {
        started(&self.database, &self.setup.faults, || self.configuration())
    }

    /// Stops the deliverer as a reload does, and applies the configuration after a change.
    pub(super) async fn reload(&mut self, change: impl FnOnce(&str) -> String) {
        self.text = change(&self.text);
        let next = self.engine.reconfigured(self.configuration(), TenantRemovals::Limited);
        self.stop().await;

        self.engine = next.unwrap();
        self.engine.apply_configuration().unwrap();
        self.engine.cursor_file().mark_moved();
        self.engine.cursor_file().update_or_log();
    }

    fn configuration(&self) -> Configuration {
        configuration(&self.text, self.setup.targets, &self.reference, &self.sink)
    }

    /// The records of all entries in the logs, as another sink receives them. The database does not
    /// fail anymore.
    pub(super) async fn records(&self) -> BTreeSet<EventId> {
        self.setup.faults.end();
        let report = Box::pin(deliver_queued(&self.engine, &REFERENCE.into())).await;
        assert!(report.is_complete(), "{report:?}");
        self.reference.arrived()
    }

    /// Panics if a record is missing, if others have arrived, or if more were repeated than is
    /// permitted. A record is not missing if it is a dead letter.
    pub(super) fn check(&self, expected: &BTreeSet<EventId>, repeats: Repeats) {
        let (arrived, rejected) = (self.sink.arrived(), self.rejected());
        let faults = &self.setup.faults;
        let missing =
            expected.iter().filter(|id| !arrived.contains(*id) && !rejected.contains(*id));
        assert_eq!(missing.count(), 0, "records are missing, {faults:?}");
        assert!(arrived.is_subset(expected), "other records have arrived, {faults:?}");
        // After a lost claim, the receiver can reject a record of a batch that has arrived before.
        let both = arrived.intersection(&rejected).count();
        assert!(both <= usize::from(faults.is_taken_over()), "dead letters arrived, {faults:?}");
        self.sink.check_repeats(repeats);
    }
}
