//! Tests of withheld records: they are read again after everything else was settled, and never in
//! an endless loop, also if the receiver accepts their target in the meantime.

use std::future::ready;

use super::*;
use crate::sink::{Destination, Receipt, Refusal, RefusedTarget, TargetName};

/// The keys of a sink with one target for each tenant. Nothing is sent to the address.
const INDEX_PER_TENANT: &str =
    "type = \"elasticsearch\"\nurl = \"http://127.0.0.1:9\"\nindex = \"posture-{tenant.name}\"";

/// What the receiver does with the records for all other targets than the refused one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OtherTargets {
    Accepted,
    Busy,
}

/// A sink that refuses the target of its first batch once, when the second batch, which it accepts,
/// has been sent.
#[derive(Clone, Debug)]
struct RoutedSink {
    /// Determines the targets.
    routes: Arc<dyn Plan>,
    others: OtherTargets,
    /// The target of the first batch.
    refused: Arc<Mutex<Option<TargetName>>>,
}

impl RoutedSink {
    fn new(routes: Arc<dyn Plan>, others: OtherTargets) -> Self {
        Self { routes, others, refused: Arc::default() }
    }

    /// The name of the tenant whose target was refused; `None` before the first batch.
    fn refused_tenant(&self) -> Option<String> {
        let refused = self.refused.lock().unwrap();
        refused.as_ref().map(|name| name.as_str().replace("posture-", ""))
    }

    /// The reply to a batch for a target.
    fn reply(&self, target: TargetName) -> Result<Acknowledgement, Failure> {
        let mut first = self.refused.lock().unwrap();
        let receipt = match &*first {
            None => {
                *first = Some(target.clone());
                let (name, reason) = (target, "no such index".to_owned());
                let targets = vec![RefusedTarget { name, reason, hint: None }];
                Err(Failure::Refused(Refusal { targets, ..Refusal::default() }))
            }
            Some(first) if *first != target && self.others == OtherTargets::Busy => {
                return Err(Failure::retry("busy"));
            }
            Some(_) => Ok(Receipt::default()),
        };
        Ok(Acknowledgement::Pending(Box::pin(ready(receipt))))
    }
}

impl Plan for RoutedSink {
    fn format(&self) -> FormatName {
        FormatName::Json
    }

    fn limits(&self) -> Limits {
        Limits { records: 20, bytes: 1 << 16, in_flight: 2 }
    }

    fn acknowledgement(&self) -> &'static str {
        "the record is accepted"
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(ready(Ok("it exists".to_owned())))
    }

    fn destination(&self) -> Option<&Destination> {
        self.routes.destination()
    }

    fn open<'a>(
        &'a self,
        _: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        let sink: Box<dyn Sink> = Box::new(self.clone());
        Box::pin(ready(Ok(sink)))
    }
}

impl Sink for RoutedSink {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        let targets = self.routes.destination().unwrap().of_tenant(record.tenant).unwrap();
        batch.push_to(record, targets.names.first().map(String::as_str), |out| {
            out.push(b'x');
            Ok(out.len() - 1)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        let target = batch.items()[0].target.clone().unwrap();
        Box::pin(ready(self.reply(target)))
    }
}

/// Delivers everything to the sink, while it is supervised, until the condition holds. Panics after
/// a minute.
async fn deliver_until(
    directory: &Path,
    others: OtherTargets,
    is_delivered: impl Fn(&Engine, &RoutedSink) -> bool,
) {
    let mut configuration = configuration_with(directory, INDEX_PER_TENANT).await;
    let sink = RoutedSink::new(Arc::clone(&configuration.sinks[0].plan), others);
    configuration.sinks[0].plan = Arc::new(sink.clone());
    let engine = Engine::build(configuration).unwrap();
    backfill(&engine, None, &[], |_, _| {}).await;

    let (shutdown, plan) = (Shutdown::default(), engine.configuration().sinks[0].clone());
    let supervised = tokio::spawn(supervise(engine.clone(), plan, shutdown.clone()));
    let delivered = async {
        while !is_delivered(&engine, &sink) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let delivered = timeout(Duration::from_mins(1), delivered).await;

    // This also ends a deliverer that reads in an endless loop.
    shutdown.begin(Duration::ZERO);
    supervised.await.unwrap();
    assert!(delivered.is_ok(), "the records are not delivered");
}

/// Regression: after a target had been refused and then accepted within an attempt, the deliverer
/// tried to read the withheld records of its tenant in an endless loop.
#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_target_causes_no_endless_loop() {
    let directory = tempfile::tempdir().unwrap();
    deliver_until(directory.path(), OtherTargets::Accepted, |engine, sink| {
        let is_started = sink.refused_tenant().is_some();
        is_started && engine.store().checkpoint().pending(&"local".into()).unwrap().is_empty()
    })
    .await;
}

/// Regression: after a target had been refused and then accepted, its tenant was not read again
/// while each attempt failed because of another target.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_target_delays_no_accepted_one() {
    let directory = tempfile::tempdir().unwrap();
    deliver_until(directory.path(), OtherTargets::Busy, |engine, sink| {
        let Some(name) = sink.refused_tenant() else { return false };
        let tenant = engine.tenants().named(&name).unwrap().resolved().unwrap();
        let pending = engine.store().checkpoint().pending(&"local".into()).unwrap();
        pending.len() == 1 && pending[0].tenant != tenant.id
    })
    .await;
}
