//! Tests of a receiver, or a firewall before it, that fails for each request with a record of one
//! tenant, instead of rejecting it.

use std::future::ready;

use super::{
    dead_letters::{id, queue, queued},
    *,
};
use crate::{
    clock,
    model::{Day, EventId},
};

/// What the harmless tenant has to be sent, while new days of the hostile one fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    BackfilledDays,
    Replay,
    DeadLetter,
}

/// A sink whose receiver fails for each batch with a record of a hostile tenant.
#[derive(Clone, Debug)]
struct FailingSink {
    /// The tenants for whose records it fails.
    hostile: &'static [&'static str],
    /// The maximum number of records in a batch.
    records: usize,
    /// The number of requests, including those that fail.
    requests: Arc<AtomicU64>,
    /// How it fails; `None` when it does not anymore.
    failure: Arc<Mutex<Option<Failure>>>,
    /// How often it was opened.
    opened: Arc<AtomicU64>,
    /// The name of the tenant and the ID of each record that has arrived.
    arrived: Arc<Mutex<Vec<(String, EventId)>>>,
}

impl FailingSink {
    fn new(failure: Failure) -> Self {
        let failure = Arc::new(Mutex::new(Some(failure)));
        Self {
            hostile: &[HOSTILE],
            records: 100_000,
            requests: Arc::default(),
            failure,
            opened: Arc::default(),
            arrived: Arc::default(),
        }
    }

    /// The names of the tenants whose records have arrived. Panics if a record has arrived twice.
    fn tenants(&self) -> BTreeSet<String> {
        let arrived = self.arrived.lock().unwrap();
        let ids: BTreeSet<EventId> = arrived.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids.len(), arrived.len(), "a record has arrived twice");
        arrived.iter().map(|(name, _)| name.clone()).collect()
    }

    fn reply(&self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        self.requests.fetch_add(1, Relaxed);
        let records = batch.items().iter().map(|item| {
            let name = String::from_utf8_lossy(batch.payload(item)).into_owned();
            (name, item.event_id)
        });
        let records: Vec<(String, EventId)> = records.collect();
        let is_hostile = records.iter().any(|(name, _)| self.hostile.contains(&name.as_str()));
        if let Some(failure) = self.failure.lock().unwrap().clone().filter(|_| is_hostile) {
            return Err(failure);
        }

        self.arrived.lock().unwrap().extend(records);
        Ok(Acknowledgement::received())
    }
}

impl Plan for FailingSink {
    fn format(&self) -> FormatName {
        FormatName::Json
    }

    fn limits(&self) -> Limits {
        Limits { records: self.records, bytes: 64 << 20, in_flight: 1 }
    }

    fn acknowledgement(&self) -> &'static str {
        "the record is in the list"
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(ready(Ok("the list exists".to_owned())))
    }

    fn open<'a>(
        &'a self,
        _: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        self.opened.fetch_add(1, Relaxed);
        let sink: Box<dyn Sink> = Box::new(self.clone());
        Box::pin(ready(Ok(sink)))
    }
}

impl Sink for FailingSink {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
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
        Box::pin(ready(self.reply(batch)))
    }
}

impl Waiting {
    /// Adds it to the backlog of the harmless tenant.
    async fn add(self, engine: &Arc<Engine>) {
        let (tenant, today) = (id(engine, HARMLESS), Day::of(clock::now()));
        let names = [HARMLESS.to_owned()];
        let checkpoint = engine.store().checkpoint();
        match self {
            Self::BackfilledDays => {
                backfill(engine, Some(today.plus(-9)), &names, |_, _| {}).await;
                let pending = checkpoint.pending(&"local".into()).unwrap();
                let pending = pending.iter().find(|pending| pending.tenant == tenant).unwrap();
                assert!(pending.backfilled);
            }
            Self::Replay => {
                backfill(engine, None, &names, |_, _| {}).await;
                let seq = checkpoint.next_seq(tenant).unwrap();
                let next = Position { seq, record_index: 0 };
                assert!(checkpoint.skip_to(&"local".into(), tenant, next).unwrap());
                let (first, last, now) = (today.plus(-9), today.plus(1), clock::now().into());
                let entries =
                    checkpoint.add_replay(&"local".into(), &[tenant], first, last, now).unwrap();
                assert!(entries > 0);
            }
            Self::DeadLetter => queue(engine, HARMLESS, 1),
        }
    }

    /// Whether nothing is left of it.
    fn is_delivered(engine: &Engine) -> bool {
        let (tenant, checkpoint) = (id(engine, HARMLESS), engine.store().checkpoint());
        let pending = checkpoint.pending(&"local".into()).unwrap();
        pending.iter().all(|pending| pending.tenant != tenant)
            && checkpoint.pending_replay(&"local".into(), &|_| true).unwrap().is_none()
            && queued(engine, HARMLESS) == 0
    }
}

/// Regression: HTTP 5xx, or a closed connection, for each request with the text of one tenant
/// stopped the delivery to all tenants.
#[tokio::test(flavor = "multi_thread")]
async fn failed_requests_delay_no_other_tenant() {
    for (failure, opened) in [
        (Failure::retry("HTTP 502"), 1),
        // The sink is opened again after two failed batches, the third one, and the failed part.
        (Failure::Broken { reason: "HTTP 502".to_owned() }, 5),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut configuration = configuration(directory.path()).await;
        let sink = FailingSink::new(failure);
        configuration.sinks[0].plan = Arc::new(sink.clone());
        let engine = Engine::build(configuration).unwrap();
        backfill(&engine, None, &[], |_, _| {}).await;

        let report = deliver_queued(&engine, &"local".into()).await;
        let stopped = report.stopped.unwrap().to_string();
        let expected = format!("tenant `{HOSTILE}`: each request with its records fails: HTTP 502");
        assert_eq!((stopped, report.rejected), (expected, 0));
        assert_eq!(sink.tenants(), BTreeSet::from([HARMLESS.to_owned()]));
        assert_eq!(sink.opened.load(Relaxed), opened);

        let hostile = engine.tenants().named(HOSTILE).unwrap().resolved().unwrap();
        let pending = engine.store().checkpoint().pending(&"local".into()).unwrap();
        assert!(pending.iter().map(|pending| pending.tenant).eq([hostile.id]));
        let status = engine.store().checkpoint().status(StatusDetail::Summary).unwrap();
        assert_eq!(status.sinks[0].failure, Some(SinkFailure::TenantsWithheld));

        *sink.failure.lock().unwrap() = None;
        let report = deliver_queued(&engine, &"local".into()).await;
        assert!(report.stopped.is_none(), "{report:?}");
        assert_eq!(sink.tenants(), BTreeSet::from([HARMLESS, HOSTILE].map(str::to_owned)));
    }
}

/// Regression: while requests with new days of one tenant failed, neither backfilled days nor
/// replays nor dead letters of the others were sent.
#[tokio::test(flavor = "multi_thread")]
async fn failing_new_days_delay_nothing_of_others() {
    for waiting in [Waiting::BackfilledDays, Waiting::Replay, Waiting::DeadLetter] {
        let directory = tempfile::tempdir().unwrap();
        let mut configuration = configuration(directory.path()).await;
        // The first batches contain records of the hostile tenant alone.
        let sink = FailingSink { records: 100, ..FailingSink::new(Failure::retry("HTTP 502")) };
        configuration.sinks[0].plan = Arc::new(sink.clone());
        let engine = Engine::build(configuration).unwrap();
        backfill(&engine, None, &[HOSTILE.to_owned()], |_, _| {}).await;
        waiting.add(&engine).await;

        let (shutdown, plan) = (Shutdown::default(), engine.configuration().sinks[0].clone());
        let supervised = tokio::spawn(supervise(engine.clone(), plan, shutdown.clone()));
        let delivered = async {
            while !Waiting::is_delivered(&engine) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let delivered = timeout(Duration::from_mins(1), delivered).await;
        shutdown.begin(Duration::ZERO);
        supervised.await.unwrap();

        assert!(delivered.is_ok(), "{waiting:?}");
        assert_eq!(sink.tenants(), BTreeSet::from([HARMLESS.to_owned()]), "{waiting:?}");
        let pending = engine.store().checkpoint().pending(&"local".into()).unwrap();
        assert!(pending.iter().any(|pending| pending.tenant == id(&engine, HOSTILE)));
    }
}

/// In an outage, each attempt ends with its first request, and no tenant is withheld. Only each
/// second failure counts, because it leaves no tenant that has failed less often.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_withholds_no_tenant() {
    let directory = tempfile::tempdir().unwrap();
    let mut configuration = configuration(directory.path()).await;
    let sink = FailingSink {
        hostile: &[HARMLESS, HOSTILE],
        records: 100,
        ..FailingSink::new(Failure::retry("HTTP 502"))
    };
    configuration.sinks[0].plan = Arc::new(sink.clone());
    let engine = Engine::build(configuration).unwrap();
    backfill(&engine, None, &[], |_, _| {}).await;

    let report = deliver_queued(&engine, &"local".into()).await;
    assert_eq!(report.stopped.unwrap().to_string(), "HTTP 502");
    assert_eq!(sink.requests.load(Relaxed), 8, "one for each tenant and counted failure");
    let status = engine.store().checkpoint().status(StatusDetail::Summary).unwrap();
    assert_eq!(status.sinks[0].failure, Some(SinkFailure::Retrying));
    assert_eq!(engine.store().checkpoint().pending(&"local".into()).unwrap().len(), 2);
}
