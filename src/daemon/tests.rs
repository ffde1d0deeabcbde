//! Tests of the engine with two tenants of a simulated API: a panic in the work for one tenant or
//! one sink neither affects the others nor prevents the next attempt, a sink is opened again after
//! its cursors could not be updated, withheld records are read again, dead letters are retried, a
//! receiver that fails for the records of one tenant delays no other, a damaged state of polls
//! stops only its tenant, queued commands are continued, and waiting commands leave connections for
//! others. Start reading at [`configuration`]. The tests in `collector`, `ends`, `faults`,
//! `hostile` and `storage` need no API and use a paused clock; see `harness`.

mod arrivals;
mod collector;
mod dead_letters;
mod ends;
mod failing;
mod faults;
mod faulty_polls;
mod faulty_starts;
mod fixtures;
mod harness;
mod hostile;
mod other_ends;
mod poll_states;
mod queued_commands;
mod scripted_sink;
mod storage;
mod waiting_commands;
mod withheld;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{
    deliverer::{Shutdown, supervise},
    *,
};
use crate::{
    checkpoint::{Position, SinkFailure, StatusDetail},
    format::FormatName,
    model::{PollErrorClass, Record},
    sink::{Acknowledgement, Batch, EncodeError, Limits, Plan, Sink},
    source::{
        Credential, SourceError, TokenRequestContext,
        simulated::{self, Simulation},
    },
    wire::Token,
};

/// The tenant that causes panics.
const HOSTILE: &str = "tenant-1";
const HARMLESS: &str = "tenant-0";

/// A configuration with two tenants and one sink, whose type the test replaces.
async fn configuration(directory: &Path) -> Configuration {
    configuration_with(directory, "type = \"stdout\"").await
}

/// A configuration with two tenants and one sink with these keys.
async fn configuration_with(directory: &Path, sink: &str) -> Configuration {
    let simulation = Simulation::contoso().with_tenants(1);
    let secret = directory.join("secret");
    fs_err::write(&secret, &simulation.client_secret).unwrap();
    let mut text = format!(
        "[state]\ndirectory = \"{}\"\n\
         [credentials.app]\nkind = \"client_secret\"\nclient_id = \"{}\"\n\
         client_secret = {{ file = \"{}\" }}\n\
         [[sinks]]\nname = \"local\"\n{sink}\n",
        directory.join("state").display(),
        simulation.client_id,
        secret.display()
    );

    let tenants = simulation.tenants.clone();
    let (address, server) = simulated::start(simulation, 0).await.unwrap();
    tokio::spawn(server);
    for (number, id) in tenants.iter().enumerate() {
        write!(
            text,
            "[[tenants]]\nname = \"tenant-{number}\"\nid = \"{id}\"\ncredential = \"app\"\n\
             initial_backfill_days = 3\n\
             cloud = {{ login_url = \"http://{address}\", graph_url = \"http://{address}\" }}\n"
        )
        .unwrap();
    }
    Configuration::parse("c.toml", &text).unwrap()
}

/// A credential whose code has a fault.
#[derive(Debug)]
struct FaultyCredential;

impl Credential for FaultyCredential {
    fn token<'a>(
        &'a self,
        _: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(no_token())
    }
}

async fn no_token() -> Result<Token, SourceError> {
    tokio::task::yield_now().await;
    panic!("no token");
}

/// A sink whose code has faults. Its records contain only the name of the tenant.
#[derive(Clone, Debug, Default)]
struct FaultySink {
    /// The tenant whose records it cannot encode.
    hostile: Option<&'static str>,
    /// The tenant whose records its receiver rejects, together with those in the same batch.
    rejected: Option<&'static str>,
    /// Whether it cannot be opened the next time.
    cannot_open: Arc<AtomicBool>,
    /// The checkpoint in which the cursors move while the next batch is sent, so that their own
    /// update fails.
    moves_cursors: Arc<Mutex<Option<StoreExecutor>>>,
    /// How often it was opened.
    opened: Arc<AtomicU64>,
    /// The tenants whose records have arrived.
    arrived: Arc<Mutex<BTreeSet<String>>>,
    has_arrived: Arc<Notify>,
}

/// Moves the cursors of the sink `local` after the first entry that it has not received.
fn move_cursors(checkpoint: &Checkpoint) {
    for pending in checkpoint.pending(&"local".into()).unwrap() {
        let next = Position { seq: pending.at.seq.next(), record_index: 0 };
        assert!(checkpoint.skip_to(&"local".into(), pending.tenant, next).unwrap());
    }
}

impl Plan for FaultySink {
    fn format(&self) -> FormatName {
        FormatName::Json
    }

    fn limits(&self) -> Limits {
        Limits { records: 100, bytes: 1 << 16, in_flight: 1 }
    }

    fn acknowledgement(&self) -> &'static str {
        "the record is in the list"
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(std::future::ready(Ok("the list exists".to_owned())))
    }

    fn open<'a>(
        &'a self,
        _: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        assert!(!self.cannot_open.swap(false, Relaxed));
        self.opened.fetch_add(1, Relaxed);
        let sink: Box<dyn Sink> = Box::new(self.clone());
        Box::pin(std::future::ready(Ok(sink)))
    }
}

impl Sink for FaultySink {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        assert_ne!(Some(record.tenant.name.as_str()), self.hostile);
        batch.push(record, |out| {
            let start = out.len();
            out.extend_from_slice(record.tenant.name.as_bytes());
            Ok(start)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        if let Some(store) = self.moves_cursors.lock().unwrap().take() {
            move_cursors(store.checkpoint());
        }
        let names = batch.items().iter().map(|item| batch.payload(item));
        let names: BTreeSet<String> =
            names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        if self.rejected.is_some_and(|rejected| names.contains(rejected)) {
            let failure = Failure::RejectsAll { reason: "filtered".to_owned(), hint: None };
            return Box::pin(std::future::ready(Err(failure)));
        }
        self.arrived.lock().unwrap().extend(names);
        self.has_arrived.notify_one();
        Box::pin(std::future::ready(Ok(Acknowledgement::received())))
    }
}

/// Regression: a panic in the poll of one tenant ended the process, and thereby the polls of all
/// tenants.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_poll_affects_one_tenant() {
    let directory = tempfile::tempdir().unwrap();
    let mut configuration = configuration(directory.path()).await;
    configuration.tenants[1].access.credential = Arc::new(FaultyCredential);
    let engine = Engine::build(configuration).unwrap();

    // The second round shows that nothing is left of the interrupted poll, such as a lock.
    for round in 1..=2 {
        let polls = backfill(&engine, None, &[], |_, _| {}).await;
        assert!(polls[0].1.is_ok(), "{polls:?}");
        assert!(matches!(&polls[1].1, Err(PollError::Panicked(_))), "{polls:?}");
        assert_eq!(engine.meters().panics(ContainedTask::Poll), round);
        assert!(engine.collector().has_all_permits());
    }

    let counts = engine.meters().polls_of(HOSTILE);
    assert_eq!((counts.polls, counts.failures[&PollErrorClass::Internal]), (2, 2));
    let hostile = engine.tenants().named(HOSTILE).unwrap().resolved().unwrap();
    let status = engine.store().checkpoint().status(StatusDetail::Summary).unwrap();
    let stored = status.tenants.iter().find(|tenant| tenant.id == Some(hostile.id)).unwrap();
    assert_eq!(stored.error_class, Some(PollErrorClass::Internal));
    assert_eq!(stored.polled.failures, 2, "the next scheduled poll waits");
    let error = stored.last_error.clone().unwrap();
    assert_eq!(error.message, "internal error: no token");
    assert!(error.hint.is_some());
}

/// Regression: a panic while a record of one tenant was encoded ended the process, and thereby the
/// delivery for all tenants.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_sink_affects_one_tenant() {
    let directory = tempfile::tempdir().unwrap();
    let mut configuration = configuration(directory.path()).await;
    let sink = FaultySink { hostile: Some(HOSTILE), ..FaultySink::default() };
    configuration.sinks[0].plan = Arc::new(sink.clone());
    let engine = Engine::build(configuration).unwrap();

    let report = once(&engine).await;
    assert!(report.polls.iter().all(|(_, poll)| poll.is_ok()), "{report:?}");
    assert!(matches!(report.sinks[0].stopped, Some(DeliveryError::Panicked(_))), "{report:?}");
    assert!(report.sinks[0].delivered > 0, "{report:?}");
    assert_eq!(*sink.arrived.lock().unwrap(), BTreeSet::from([HARMLESS.to_owned()]));
    assert_eq!(engine.meters().panics(ContainedTask::Sink), 2, "the suspect was read again");

    let status = engine.store().checkpoint().status(StatusDetail::Summary).unwrap();
    let stored = &status.sinks[0];
    assert_eq!(stored.failure, Some(SinkFailure::Retrying));
    assert!(stored.last_error.as_ref().unwrap().message.starts_with("internal error"));
    assert!(stored.backlog > 0, "the records of the suspect are kept");
}

/// Regression: a panic while a sink was opened ended the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_continues_after_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let mut configuration = configuration(directory.path()).await;
    let sink = FaultySink { cannot_open: Arc::new(true.into()), ..FaultySink::default() };
    configuration.sinks[0].plan = Arc::new(sink.clone());
    let engine = Engine::build(configuration).unwrap();
    backfill(&engine, None, &[], |_, _| {}).await;

    let (shutdown, plan) = (Shutdown::default(), engine.configuration().sinks[0].clone());
    let supervised = tokio::spawn(supervise(engine.clone(), plan, shutdown.clone()));
    timeout(Duration::from_mins(1), sink.has_arrived.notified()).await.unwrap();
    shutdown.begin(Duration::ZERO);
    supervised.await.unwrap();

    assert_eq!(engine.meters().panics(ContainedTask::Sink), 1);
    assert!(!sink.arrived.lock().unwrap().is_empty());
}

/// Regression: the sink stayed open after a cursor update had failed. It was then ahead of its
/// cursors, and sent records again that its file or its topic already contained.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_cursor_update_closes_the_sink() {
    let directory = tempfile::tempdir().unwrap();
    let mut configuration = configuration(directory.path()).await;
    let sink = FaultySink::default();
    configuration.sinks[0].plan = Arc::new(sink.clone());
    let engine = Engine::build(configuration).unwrap();
    backfill(&engine, None, &[], |_, _| {}).await;
    *sink.moves_cursors.lock().unwrap() = Some(engine.store().clone());

    let report = deliver_queued(&engine, &"local".into()).await;
    let stopped = report.stopped.unwrap();
    assert!(
        matches!(stopped, DeliveryError::Checkpoint(CheckpointError::CursorMoved(_))),
        "{stopped}"
    );
    assert_eq!((report.delivered, sink.opened.load(Relaxed)), (0, 1));

    // The daemon opens the sink again before it sends the next batch.
    *sink.moves_cursors.lock().unwrap() = Some(engine.store().clone());
    let (shutdown, plan) = (Shutdown::default(), engine.configuration().sinks[0].clone());
    let supervised = tokio::spawn(supervise(engine.clone(), plan, shutdown.clone()));
    let is_delivered = async {
        while !engine.store().checkpoint().pending(&"local".into()).unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_mins(1), is_delivered).await.unwrap();
    shutdown.begin(Duration::ZERO);
    supervised.await.unwrap();
    assert_eq!(sink.opened.load(Relaxed), 3, "one failed update, and the delivery of the rest");
}
