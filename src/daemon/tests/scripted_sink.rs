//! A sink whose receiver follows a script, and which records what has arrived. It sends nothing
//! over a network, so the clock can be paused. Start reading at [`Step`].

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    future::{pending, ready},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::yield_now,
    time::{sleep, timeout},
};

use crate::{
    format::FormatName,
    model::{EventId, Kind, Record, Seq, TenantId},
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, Destination, EncodeError, Failure, Limits,
        Plan, Receipt, Refusal, RefusedTarget, Sink,
    },
};

/// What the receiver does with a batch.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// All records arrive, and are acknowledged at once.
    Acknowledge,
    /// All records arrive, and are acknowledged after the deliverer has waited for this time.
    AcknowledgeAfter(Duration),
    /// All records arrive, and the connection is lost before the acknowledgement.
    Lose,
    /// As [`Step::Lose`], after the deliverer has waited for this time.
    LoseAfter(Duration),
    /// No record arrives.
    Fail(Failure),
    /// This number of records arrives, and the receiver is busy for the others.
    Part(usize),
    /// The first record is rejected, and no other one arrives.
    RejectFirst,
    /// The first record and every one that is this number after another are rejected, and all
    /// others arrive.
    RejectEvery(usize),
    /// Each record is rejected for a reason of its own.
    RejectAll,
    /// The target of the first record is refused, and no record arrives.
    RefuseTarget,
    /// The receiver never replies.
    Hang,
    /// The code of the sink has a fault.
    Panic,
}

/// A record that has arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub id: EventId,
    pub tenant: TenantId,
    pub seq: Seq,
    pub kind: Kind,
    /// Whether the deliverer has received the acknowledgement.
    pub is_acknowledged: bool,
}

/// How many records may arrive again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeats {
    /// None.
    Nothing,
    /// Some, but none that was acknowledged, and at most one window.
    Unacknowledged,
    /// At most one window, because a cursor could not be stored.
    OneWindow,
}

/// A sink and its plan. All clones have the same receiver.
#[derive(Clone, Debug)]
pub(super) struct ScriptedSink {
    limits: Limits,
    /// Determines the targets; `None` if the sink has only one.
    routes: Option<Arc<dyn Plan>>,
    receiver: Arc<Mutex<ScriptedReceiver>>,
    /// Whether the last step of the script has begun.
    has_ended: Arc<watch::Sender<bool>>,
}

#[derive(Debug)]
struct ScriptedReceiver {
    /// The steps of the next batches.
    script: VecDeque<Step>,
    /// The step of all batches after the script.
    default: Step,
    /// In the order of arrival.
    arrivals: Vec<Arrival>,
    /// The ID of a control whose records cannot be encoded.
    unknown_control: Option<&'static str>,
    /// The tenants for each batch with whose records the receiver fails, instead of following the
    /// script, and how it fails.
    hostile: Option<(BTreeSet<TenantId>, Failure)>,
    /// The number of batches that were sent.
    requests: usize,
}

/// The longest time that a test waits, of a clock that is paused.
pub(super) const LIMIT: Duration = Duration::from_hours(2);

impl ScriptedSink {
    /// A sink with one target, whose receiver acknowledges all batches at once.
    pub(super) fn new(limits: Limits) -> Self {
        let receiver = ScriptedReceiver {
            script: VecDeque::new(),
            default: Step::Acknowledge,
            arrivals: Vec::new(),
            unknown_control: None,
            hostile: None,
            requests: 0,
        };
        let (receiver, has_ended) = (Arc::new(Mutex::new(receiver)), Arc::default());
        Self { limits, routes: None, receiver, has_ended }
    }

    /// The same sink with the targets of a plan.
    pub(super) fn routed_by(&self, routes: Arc<dyn Plan>) -> Self {
        Self { routes: Some(routes), ..self.clone() }
    }

    /// Begins a script, and forgets what has arrived. All batches after the script have the default
    /// step.
    pub(super) fn begin<const N: usize>(&self, script: [Step; N], default: Step) {
        let mut receiver = self.receiver();
        receiver.script = script.into();
        receiver.default = default;
        receiver.arrivals.clear();
        self.has_ended.send_replace(false);
    }

    /// Makes the sink unable to encode the records of a control.
    pub(super) fn forget_control(&self, id: &'static str) {
        self.receiver().unknown_control = Some(id);
    }

    /// Makes the receiver fail for each batch with a record of these tenants.
    pub(super) fn fail_for(&self, tenants: impl Iterator<Item = TenantId>, failure: Failure) {
        self.receiver().hostile = Some((tenants.collect(), failure));
    }

    /// The number of batches that were sent.
    pub(super) fn requests(&self) -> usize {
        self.receiver().requests
    }

    /// Waits until the last step of the script has begun. Nothing else happens between the reply to
    /// it and the return of this function, except what the deliverer does without waiting.
    pub(super) async fn script_ended(&self) {
        let mut has_ended = self.has_ended.subscribe();
        let ended = timeout(LIMIT, has_ended.wait_for(|has_ended| *has_ended)).await;
        assert!(ended.is_ok(), "the script has not ended: {:?}", self.receiver());
    }

    /// The records that have arrived, in their order, without observations: those about the sink
    /// itself are never sent to it.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        let receiver = self.receiver();
        let arrivals = receiver.arrivals.iter().filter(|arrival| arrival.kind != Kind::Quality);
        arrivals.copied().collect()
    }

    /// The records that have arrived at least once.
    pub(super) fn arrived(&self) -> BTreeSet<EventId> {
        self.arrivals().iter().map(|arrival| arrival.id).collect()
    }

    /// Panics if more records have arrived again than are permitted.
    pub(super) fn check_repeats(&self, permitted: Repeats) {
        let (arrivals, arrived) = (self.arrivals(), self.arrived());
        let repeated = arrivals.len() - arrived.len();
        let window = self.limits.records * self.limits.in_flight;
        match permitted {
            Repeats::Nothing => assert_eq!(repeated, 0),
            Repeats::OneWindow => {}
            Repeats::Unacknowledged => {
                assert!(repeated > 0, "no acknowledgement was lost");
                let mut acknowledged = HashSet::new();
                for arrival in &arrivals {
                    assert!(!acknowledged.contains(&arrival.id), "{arrival:?}");
                    acknowledged.extend(arrival.is_acknowledged.then_some(arrival.id));
                }
            }
        }
        assert!(repeated <= window, "{repeated} records were repeated, more than {window}");
    }

    /// Panics if the entries of a tenant have not arrived in the order of its log.
    pub(super) fn check_order(&self) {
        let (mut seen, mut last) = (HashSet::new(), HashMap::new());
        for arrival in self.arrivals().into_iter().filter(|arrival| seen.insert(arrival.id)) {
            let previous = last.insert(arrival.tenant, arrival.seq);
            assert!(previous <= Some(arrival.seq), "{arrival:?} after {previous:?}");
        }
    }

    async fn receive(&self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        // The process can be killed, and the configuration be reloaded, before a batch is sent.
        yield_now().await;
        self.receiver().requests += 1;
        if let Some(failure) = self.hostile_failure(batch) {
            return Err(failure);
        }

        let step = self.next_step();
        if matches!(step, Step::Hang) {
            pending::<()>().await;
        }
        self.reply(&step, batch)
    }

    fn hostile_failure(&self, batch: &Batch) -> Option<Failure> {
        let receiver = self.receiver();
        let (tenants, failure) = receiver.hostile.as_ref()?;
        let is_hostile = batch.items().iter().any(|item| tenants.contains(&item.tenant));
        is_hostile.then(|| failure.clone())
    }

    fn next_step(&self) -> Step {
        let mut receiver = self.receiver();
        let step = receiver.script.pop_front();
        if step.is_some() && receiver.script.is_empty() {
            self.has_ended.send_replace(true);
        }
        step.unwrap_or_else(|| receiver.default.clone())
    }

    fn reply(&self, step: &Step, batch: &Batch) -> Result<Acknowledgement, Failure> {
        match step {
            Step::Acknowledge => {
                self.acknowledge(self.arrive(batch, batch.len()));
                Ok(Acknowledgement::received())
            }
            Step::AcknowledgeAfter(wait) => {
                let arrived = self.arrive(batch, batch.len());
                let acknowledged = self.clone().acknowledge_after(*wait, arrived);
                Ok(Acknowledgement::Pending(Box::pin(acknowledged)))
            }
            Step::Lose => {
                self.arrive(batch, batch.len());
                Err(Failure::retry("the connection was lost"))
            }
            Step::LoseAfter(wait) => {
                self.arrive(batch, batch.len());
                Ok(Acknowledgement::Pending(Box::pin(lose_after(*wait))))
            }
            Step::Fail(failure) => Err(failure.clone()),
            Step::Part(records) => {
                let records = batch.len().min(*records);
                self.acknowledge(self.arrive(batch, records));
                Err(Failure::partial(records, Failure::retry("busy")))
            }
            Step::RejectFirst => {
                Err(Failure::Poison { rejected: reasons(0..1), rest_delivered: false })
            }
            Step::RejectEvery(number) => {
                let rejected = reasons((0..batch.len()).step_by(*number));
                let is_accepted = |index: usize| !index.is_multiple_of(*number);
                self.acknowledge(self.arrive_if(batch, is_accepted));
                Err(Failure::Poison { rejected, rest_delivered: true })
            }
            Step::RejectAll => {
                Err(Failure::Poison { rejected: reasons(0..batch.len()), rest_delivered: false })
            }
            Step::RefuseTarget => Err(refused(batch)),
            Step::Hang | Step::Panic => panic!("a fault of the sink"),
        }
    }

    /// Adds the first records of a batch to those that have arrived, and returns their indexes.
    fn arrive(&self, batch: &Batch, records: usize) -> Range<usize> {
        self.arrive_if(batch, |index| index < records)
    }

    fn arrive_if(&self, batch: &Batch, has_arrived: impl Fn(usize) -> bool) -> Range<usize> {
        let mut receiver = self.receiver();
        let first = receiver.arrivals.len();
        let records = batch.items().iter().enumerate().filter(|(index, _)| has_arrived(*index));
        receiver.arrivals.extend(records.map(|(_, item)| Arrival {
            id: item.event_id,
            tenant: item.tenant,
            seq: item.seq,
            kind: item.kind,
            is_acknowledged: false,
        }));
        first..receiver.arrivals.len()
    }

    fn acknowledge(&self, arrived: Range<usize>) {
        // A script that has begun in the meantime has forgotten the arrivals.
        for arrival in self.receiver().arrivals.get_mut(arrived).into_iter().flatten() {
            arrival.is_acknowledged = true;
        }
    }

    async fn acknowledge_after(
        self,
        wait: Duration,
        arrived: Range<usize>,
    ) -> Result<Receipt, Failure> {
        sleep(wait).await;
        self.acknowledge(arrived);
        Ok(Receipt::default())
    }

    fn receiver(&self) -> MutexGuard<'_, ScriptedReceiver> {
        self.receiver.lock().unwrap()
    }
}

async fn lose_after(wait: Duration) -> Result<Receipt, Failure> {
    sleep(wait).await;
    Err(Failure::retry("the connection was lost"))
}

/// A message for each of these records.
fn reasons(records: impl Iterator<Item = usize>) -> Vec<(usize, String)> {
    records.map(|index| (index, "not valid".to_owned())).collect()
}

/// The failure of a batch, the target of whose first record is refused.
fn refused(batch: &Batch) -> Failure {
    let name = batch.items()[0].target.clone().unwrap();
    let target = RefusedTarget { name, reason: "no such index".to_owned(), hint: None };
    Failure::Refused(Refusal { targets: vec![target], ..Refusal::default() })
}

impl Plan for ScriptedSink {
    fn format(&self) -> FormatName {
        FormatName::Json
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn acknowledgement(&self) -> &'static str {
        "the record is in the list"
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(ready(Ok("the list exists".to_owned())))
    }

    fn destination(&self) -> Option<&Destination> {
        self.routes.as_ref()?.destination()
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

impl Sink for ScriptedSink {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        if self.receiver().unknown_control.is_some_and(|id| id == record.control_id()) {
            return Err(EncodeError("unknown control".to_owned()));
        }
        let targets = self.destination().map(|of| of.of_tenant(record.tenant).unwrap().names);
        let target = targets.and_then(|names| names.into_iter().next());
        batch.push_to(record, target.as_deref(), |out| {
            out.push(b'x');
            Ok(out.len() - 1)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(self.receive(batch))
    }
}
