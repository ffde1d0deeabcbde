//! Tests of a receiver, or a firewall before it, that fails for each request with a record of one
//! tenant, instead of rejecting it.

use std::future::ready;

use super::*;
use crate::model::EventId;

/// A sink whose receiver fails for each batch with a record of the hostile tenant.
#[derive(Clone, Debug)]
struct FailingSink {
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
        Self { failure, opened: Arc::default(), arrived: Arc::default() }
    }

    /// The names of the tenants whose records have arrived. Panics if a record has arrived twice.
    fn tenants(&self) -> BTreeSet<String> {
        let arrived = self.arrived.lock().unwrap();
        let ids: BTreeSet<EventId> = arrived.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids.len(), arrived.len(), "a record has arrived twice");
        arrived.iter().map(|(name, _)| name.clone()).collect()
    }

    fn reply(&self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        let records = batch.items().iter().map(|item| {
            let name = String::from_utf8_lossy(batch.payload(item)).into_owned();
            (name, item.event_id)
        });
        let records: Vec<(String, EventId)> = records.collect();
        let is_hostile = records.iter().any(|(name, _)| name == HOSTILE);
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
        Limits { records: 100_000, bytes: 64 << 20, in_flight: 1 }
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

        let report = deliver_queued(&engine, "local").await;
        let stopped = report.stopped.unwrap().to_string();
        let expected = format!("tenant `{HOSTILE}`: each request with its records fails: HTTP 502");
        assert_eq!((stopped, report.rejected), (expected, 0));
        assert_eq!(sink.tenants(), BTreeSet::from([HARMLESS.to_owned()]));
        assert_eq!(sink.opened.load(Relaxed), opened);

        let hostile = engine.tenants().named(HOSTILE).unwrap().resolved().unwrap();
        let pending = engine.store().checkpoint().pending("local").unwrap();
        assert!(pending.iter().map(|pending| pending.tenant).eq([hostile.id]));
        let status = engine.store().checkpoint().status(StatusDetail::Summary).unwrap();
        assert_eq!(status.sinks[0].failure, Some(SinkFailure::TenantsWithheld));

        *sink.failure.lock().unwrap() = None;
        let report = deliver_queued(&engine, "local").await;
        assert!(report.stopped.is_none(), "{report:?}");
        assert_eq!(sink.tenants(), BTreeSet::from([HARMLESS, HOSTILE].map(str::to_owned)));
    }
}
