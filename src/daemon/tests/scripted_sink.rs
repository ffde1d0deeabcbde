//! A sink whose receiver follows a script, and which records what has arrived. It sends nothing
//! over a network, so the clock can be paused. It can store its length as a mark, as a file does,
//! or the progress of the tenants at its receiver, as Kafka does. Start reading at [`Step`].

use std::{
    collections::{BTreeSet, VecDeque},
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

use super::arrivals::{Arrival, Repeats, check_order, check_repeats};
use crate::{
    format::FormatName,
    model::{EventId, Kind, Record, TenantId},
    sink::{
        Acknowledgement, Batch, BoxFuture, Context, Destination, EncodeError, Failure,
        FailurePlace, Limits, Plan, Progress, Receipt, Refusal, RefusedTarget, Sink,
    },
};

/// What the receiver does with a batch.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// All records arrive, and are acknowledged.
    Acknowledge,
    /// All records arrive, and the delivery fails before the acknowledgement.
    Lose(Failure),
    /// No record arrives.
    Fail(Failure),
    /// This number of records arrives, and the receiver is busy for the others.
    Part(usize),
    /// The first half of the records arrives, and requires that the others are sent in smaller
    /// batches.
    PartTooLarge,
    /// The first record is rejected, and no other one arrives.
    RejectFirst,
    /// The first record and every one that is this number after another are rejected, and all
    /// others arrive.
    RejectEvery(usize),
    /// Each record is rejected for a reason of its own.
    RejectAll,
    /// The target of the first record is refused.
    RefuseTarget(RestOfBatch),
    /// As the step, but the outcome is known only after the deliverer has waited for this time.
    Later(Duration, Box<Self>),
    /// The receiver never replies.
    Hang,
    /// The code of the sink has a fault.
    Panic,
}

/// What happens to the records of a batch that are not rejected, or that are for other targets than
/// the refused one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestOfBatch {
    /// None of them arrives.
    NotSent,
    /// All of them arrive.
    Arrives,
    /// The first half of them arrives, and the receiver is busy for the others.
    HalfArrives,
}

/// What is stored about the delivery, in addition to the cursors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredWith {
    /// Nothing.
    Nothing,
    /// The number of arrived records is the mark of the sink. Opening the sink removes all records
    /// after it, as for a file.
    Mark,
    /// The receiver stores the progress of the tenants together with the records.
    Progress,
}

/// A sink and its plan. All clones have the same receiver.
#[derive(Clone, Debug)]
pub(super) struct ScriptedSink {
    limits: Limits,
    stored: StoredWith,
    /// Determines the targets; `None` if the sink has only one.
    routes: Option<Arc<dyn Plan>>,
    receiver: Arc<Mutex<ScriptedReceiver>>,
    /// Whether the last step of the script has begun.
    has_ended: Arc<watch::Sender<bool>>,
    /// The mark of the open sink.
    mark: Option<Vec<u8>>,
    /// The progress that the receiver had stored when the sink was opened.
    progress: Vec<Progress>,
}

#[derive(Debug)]
struct ScriptedReceiver {
    /// The steps of the next batches.
    script: VecDeque<Step>,
    /// The step of all batches after the script.
    default: Step,
    /// In the order of arrival.
    arrivals: Vec<Arrival>,
    /// The progress of each tenant, if it is stored.
    progress: Vec<Progress>,
    /// The ID of a control whose records cannot be encoded.
    unknown_control: Option<&'static str>,
    /// The tenants for each batch with whose records the receiver fails, instead of following the
    /// script, and how it fails.
    hostile: Option<(BTreeSet<TenantId>, Failure)>,
    /// The number of batches that were sent.
    requests: usize,
    /// How often the sink was opened.
    sessions: usize,
}

/// The result of a step: the arrivals that it acknowledges, and the reply.
struct Outcome {
    acknowledged: Range<usize>,
    reply: Result<Receipt, Failure>,
}

/// The longest time that a test waits, of a clock that is paused.
pub(super) const LIMIT: Duration = Duration::from_hours(2);

impl Step {
    /// As the step, but the outcome is known only after the deliverer has waited for this time.
    pub(super) fn later(self, wait: Duration) -> Self {
        Self::Later(wait, Box::new(self))
    }
}

impl Default for ScriptedReceiver {
    /// A receiver that acknowledges all batches at once.
    fn default() -> Self {
        Self {
            script: VecDeque::new(),
            default: Step::Acknowledge,
            arrivals: Vec::new(),
            progress: Vec::new(),
            unknown_control: None,
            hostile: None,
            requests: 0,
            sessions: 0,
        }
    }
}

impl ScriptedSink {
    /// A sink with one target, whose receiver acknowledges all batches at once.
    pub(super) fn new(limits: Limits, stored: StoredWith) -> Self {
        Self {
            limits,
            stored,
            routes: None,
            receiver: Arc::default(),
            has_ended: Arc::default(),
            mark: None,
            progress: Vec::new(),
        }
    }

    /// The same sink with the targets of a plan.
    pub(super) fn routed_by(&self, routes: Arc<dyn Plan>) -> Self {
        Self { routes: Some(routes), ..self.clone() }
    }

    /// Begins a script, and forgets what has arrived. All batches after the script have the default
    /// step.
    pub(super) fn begin<const N: usize>(&self, script: [Step; N], default: Step) {
        self.follow(script.into(), default);
    }

    /// As [`Self::begin`], for a script of any length.
    pub(super) fn follow(&self, script: Vec<Step>, default: Step) {
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
        check_repeats(&self.arrivals(), permitted, self.limits);
    }

    /// Panics if the entries of a tenant have not arrived in the order of its log.
    pub(super) fn check_order(&self) {
        check_order(&self.arrivals());
    }

    async fn receive(&self, batch: &Batch) -> Result<Acknowledgement, Failure> {
        // The process can be killed, and the configuration be reloaded, before a batch is sent.
        yield_now().await;
        self.receiver().requests += 1;
        if let Some(failure) = self.hostile_failure(batch) {
            return Err(failure);
        }

        match self.next_step() {
            Step::Hang => pending().await,
            Step::Later(wait, step) => {
                let outcome = self.process(&step, batch);
                let reported = self.clone().report_after(wait, outcome);
                Ok(Acknowledgement::Pending(Box::pin(reported)))
            }
            step => self.report(self.process(&step, batch)).map(Acknowledgement::Received),
        }
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

    /// Makes records of a batch arrive as a step requires.
    fn process(&self, step: &Step, batch: &Batch) -> Outcome {
        match step {
            Step::Acknowledge => {
                let acknowledged = self.arrive(batch, |_| true);
                Outcome { acknowledged, reply: Ok(self.receipt()) }
            }
            Step::Lose(failure) => {
                self.arrive(batch, |_| true);
                Outcome::failed(failure.clone())
            }
            Step::Fail(failure) => Outcome::failed(failure.clone()),
            Step::Part(records) => {
                let records = batch.len().min(*records);
                let acknowledged = self.arrive(batch, |index| index < records);
                let reply = Err(Failure::partial(records, Failure::retry("busy")));
                Outcome { acknowledged, reply }
            }
            Step::PartTooLarge => {
                let half = batch.len() / 2;
                self.arrive(batch, |index| index < half);
                let (reason, arrived) = ("too large".to_owned(), (0..half).collect());
                Outcome::failed(Failure::TooLarge { reason, arrived })
            }

            Step::RejectFirst => Outcome::failed(rejection(0..1, RestOfBatch::NotSent)),
            Step::RejectEvery(number) => {
                let acknowledged = self.arrive(batch, |index| !index.is_multiple_of(*number));
                let rejected = (0..batch.len()).step_by(*number);
                Outcome { acknowledged, reply: Err(rejection(rejected, RestOfBatch::Arrives)) }
            }
            Step::RejectAll => Outcome::failed(rejection(0..batch.len(), RestOfBatch::NotSent)),
            Step::RefuseTarget(rest) => self.refuse(batch, *rest),
            Step::Later(..) | Step::Hang | Step::Panic => panic!("a fault of the sink"),
        }
    }

    /// Refuses the target of the first record.
    fn refuse(&self, batch: &Batch, rest: RestOfBatch) -> Outcome {
        let name = batch.items()[0].target.clone().unwrap();
        let others = batch.items().iter().enumerate();
        let others = others.filter(|(_, item)| item.target.as_ref() != Some(&name));
        let mut arrived: Vec<usize> = others.map(|(index, _)| index).collect();
        match rest {
            RestOfBatch::NotSent => arrived.clear(),
            RestOfBatch::Arrives => {}
            RestOfBatch::HalfArrives => arrived.truncate(arrived.len() / 2),
        }

        let acknowledged = self.arrive(batch, |index| arrived.contains(&index));
        let busy = (rest == RestOfBatch::HalfArrives).then(|| Box::new(Failure::retry("busy")));
        let target = RefusedTarget { name, reason: "no such index".to_owned(), hint: None };
        let refusal = Refusal { targets: vec![target], arrived, rest: busy };
        Outcome { acknowledged, reply: Err(Failure::Refused(refusal)) }
    }

    /// Adds records of a batch to those that have arrived, and returns their indexes there. The
    /// progress of the batch is stored together with them.
    fn arrive(&self, batch: &Batch, has_arrived: impl Fn(usize) -> bool) -> Range<usize> {
        let mut receiver = self.receiver();
        if self.stored == StoredWith::Progress {
            for progress in batch.progress() {
                receiver.progress.retain(|earlier| earlier.tenant != progress.tenant);
                receiver.progress.push(progress.clone());
            }
        }

        let (first, request, session) =
            (receiver.arrivals.len(), receiver.requests, receiver.sessions);
        let records = batch.items().iter().enumerate().filter(|(index, _)| has_arrived(*index));
        receiver.arrivals.extend(records.map(|(_, item)| Arrival {
            id: item.event_id,
            tenant: item.tenant,
            seq: item.seq,
            kind: item.kind,
            request,
            session,
            is_acknowledged: false,
        }));
        first..receiver.arrivals.len()
    }

    /// The receipt for everything that has arrived.
    fn receipt(&self) -> Receipt {
        let length = self.receiver().arrivals.len();
        Receipt { mark: (self.stored == StoredWith::Mark).then(|| mark_of(length)) }
    }

    /// Reports an outcome to the deliverer.
    fn report(&self, outcome: Outcome) -> Result<Receipt, Failure> {
        let Outcome { acknowledged, reply } = outcome;
        // A script that has begun in the meantime has forgotten the arrivals.
        for arrival in self.receiver().arrivals.get_mut(acknowledged).into_iter().flatten() {
            arrival.is_acknowledged = true;
        }
        reply
    }

    async fn report_after(self, wait: Duration, outcome: Outcome) -> Result<Receipt, Failure> {
        sleep(wait).await;
        self.report(outcome)
    }

    /// The sink after it was opened with the stored mark.
    fn opened(&self, stored: Option<&[u8]>) -> Self {
        let mut receiver = self.receiver();
        receiver.sessions += 1;
        if self.stored == StoredWith::Mark
            && let Some(mark) = stored
        {
            receiver.arrivals.truncate(length_of(mark));
        }
        let length = receiver.arrivals.len();
        let mark = (self.stored == StoredWith::Mark).then(|| mark_of(length));
        Self { mark, progress: receiver.progress.clone(), ..self.clone() }
    }

    fn receiver(&self) -> MutexGuard<'_, ScriptedReceiver> {
        self.receiver.lock().unwrap()
    }
}

impl Outcome {
    /// A failure after which nothing is acknowledged.
    fn failed(failure: Failure) -> Self {
        Self { acknowledged: 0..0, reply: Err(failure) }
    }
}

/// The failure of a batch, these records of which are rejected.
fn rejection(records: impl Iterator<Item = usize>, rest: RestOfBatch) -> Failure {
    let rejected = records.map(|index| (index, "not valid".to_owned())).collect();
    Failure::Poison { rejected, rest_delivered: rest == RestOfBatch::Arrives }
}

/// The mark for this number of records.
fn mark_of(length: usize) -> Vec<u8> {
    length.to_le_bytes().to_vec()
}

/// The number of records in a mark.
fn length_of(mark: &[u8]) -> usize {
    usize::from_le_bytes(mark.try_into().unwrap())
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

    fn failure_place(&self) -> FailurePlace {
        if self.stored == StoredWith::Mark { FailurePlace::Host } else { FailurePlace::Receiver }
    }

    fn stores_progress(&self) -> bool {
        self.stored == StoredWith::Progress
    }

    fn open<'a>(
        &'a self,
        _: &'a Context,
        mark: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        let sink: Box<dyn Sink> = Box::new(self.opened(mark));
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

    fn progress(&self) -> &[Progress] {
        &self.progress
    }

    fn mark(&self) -> Option<Vec<u8>> {
        self.mark.clone()
    }
}
