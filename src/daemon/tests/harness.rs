//! The engine on a database in memory, with a sink that follows a script.
//!
//! No request is sent: a test passes the response of a poll to the collector, and the receiver is
//! the script of the sink. A test can therefore pause the clock, kill the engine at any time, and
//! make any call of the database fail. Start reading at [`Harness`].

use std::{collections::BTreeSet, fmt::Write as _, path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::scripted_sink::{LIMIT, Repeats, ScriptedSink};
use crate::{
    checkpoint::{
        Checkpoint, DeadLetterFilter, DeadLetterKey, FaultPlan, LogEntry, QueuedDeadLetter,
        ReadRequest, SinkFailure, StatusDetail,
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
    model::{DataFaults, Day, EventId, ObservationSubject, Phase, Seq, SinkName, Tenant, TenantId},
    sink::Limits,
    wire,
};

/// The sink that acknowledges everything, and thereby shows what the other one must receive.
const REFERENCE: &str = "reference";
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
    /// The number of tenants, at most 95. Their IDs are in the order of their numbers.
    pub tenants: usize,
    pub targets: Targets,
    /// The number of controls of each day.
    pub controls: u32,
    /// The largest number of records of a batch.
    pub records: usize,
    /// How many batches may be unacknowledged.
    pub in_flight: usize,
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
        let (tenants, targets, faults) = (2, Targets::One, FaultPlan::default());
        Self { tenants, targets, controls: 12, records: 24, in_flight: 1, faults }
    }
}

impl Harness {
    pub(super) fn new(setup: Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs_err::write(directory.path().join("secret"), "secret").unwrap();
        let text = configuration_text(directory.path(), &setup);

        let limits = Limits { records: setup.records, bytes: 1 << 20, in_flight: setup.in_flight };
        let (sink, reference) = (ScriptedSink::new(limits), ScriptedSink::new(limits));
        let checkpoint =
            Checkpoint::in_memory_with_faults(directory.path(), setup.faults.clone()).unwrap();
        let configuration = configuration(&text, setup.targets, &reference, &sink);
        let engine = engine_over(configuration, checkpoint);

        let (running, today) = (None, Day::of(clock::now()));
        Self { setup, _directory: directory, text, sink, reference, engine, running, today }
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
        let (id, day) = (self.id(tenant), self.day(offset));
        let body = body(id, day, score, self.setup.controls);
        let snapshot = wire::snapshot(&body).unwrap();
        let (origin, now) = (SnapshotOrigin::Poll, clock::now().into());
        ledger::accept(&snapshot, &body, id, self.today, origin, now).unwrap()
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
            && checkpoint.pending_replay(sink, &|_| true).unwrap().is_none()
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

    /// Kills the engine, and starts another one on the same database.
    pub(super) async fn restart(&mut self) {
        if let Some(RunningDeliverer { task, .. }) = self.running.take() {
            task.abort();
            // Either the task was aborted, or it had ended.
            let _ = task.await;
        }

        let faults = self.setup.faults.clone();
        self.engine = faults.without_faults(|| {
            let checkpoint = self.checkpoint().restarted().unwrap();
            engine_over(self.configuration(), checkpoint)
        });
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
        assert!(arrived.is_disjoint(&rejected), "dead letters have arrived, {faults:?}");
        self.sink.check_repeats(repeats);
    }
}

fn configuration_text(directory: &Path, setup: &Setup) -> String {
    let directory = directory.display();
    let index = match setup.targets {
        Targets::One => "posture",
        Targets::PerTenant => "posture-{tenant.name}",
    };
    let mut text = format!(
        "[state]\ndirectory = \"{directory}\"\n\
         [credentials.app]\nkind = \"client_secret\"\n\
         client_id = \"11111111-2222-4333-8444-555555555555\"\n\
         client_secret = {{ file = \"{directory}/secret\" }}\n\
         [[sinks]]\nname = \"{REFERENCE}\"\ntype = \"stdout\"\n\
         [[sinks]]\nname = \"{SINK}\"\ntype = \"elasticsearch\"\n\
         url = \"http://127.0.0.1:9\"\nindex = \"{index}\"\n"
    );

    for number in 0..setup.tenants {
        let id = format!("{:02x}000000-0000-4000-8000-000000000000", 0xa0 + number);
        write!(
            text,
            "[[tenants]]\nname = \"t{number}\"\nid = \"{id}\"\ncredential = \"app\"\n\
             initial_backfill_days = 3\n"
        )
        .unwrap();
    }
    text
}

/// The configuration of a text, with these sinks in the place of those that it describes.
fn configuration(
    text: &str,
    targets: Targets,
    reference: &ScriptedSink,
    sink: &ScriptedSink,
) -> Configuration {
    let mut configuration = Configuration::parse("c.toml", text).unwrap();
    configuration.sinks[0].plan = Arc::new(reference.clone());
    let described = Arc::clone(&configuration.sinks[1].plan);
    let sink = match targets {
        Targets::One => sink.clone(),
        Targets::PerTenant => sink.routed_by(described),
    };
    configuration.sinks[1].plan = Arc::new(sink);
    configuration
}

/// An engine that starts on an open checkpoint, as [`Engine::build`] does.
fn engine_over(configuration: Configuration, checkpoint: Checkpoint) -> Arc<Engine> {
    Engine::build_on(configuration, checkpoint).unwrap()
}

/// The JSON of a day, all of whose controls have the same score.
fn body(tenant: TenantId, day: Day, score: u32, controls: u32) -> String {
    let control = |number: u32| format!(r#"{{"controlName":"c{number:02}","score":{score}}}"#);
    let list: Vec<String> = (0..controls).map(control).collect();
    let (list, total) = (list.join(","), score * controls);
    format!(
        r#"{{"id":"{tenant}_{day}","azureTenantId":"{tenant}","createdDateTime":"{day}T00:00:00Z","currentScore":{total},"maxScore":1000,"controlScores":[{list}]}}"#
    )
}
