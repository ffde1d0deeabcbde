//! One sink's loop: read on from its cursors, derive, encode, deliver, and move the cursors when
//! the sink has its acknowledgement.
//!
//! [`fill`] makes loads of records, of one tenant or of many; [`window`] sees them through. A load
//! may wait for its proof while the next is made: cursors move in the order of the loads.

mod catalogs;
mod delivery;
mod fill;
mod outgoing_batch;
mod pace;
mod reconcile;
mod refusals;
mod turns;
mod window;

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

pub(super) use self::catalogs::{Catalogs, compared_to};
use self::{
    outgoing_batch::OutgoingBatch, pace::Pace, reconcile::Elsewhere, refusals::Refusals,
    window::InFlight,
};
use super::{Engine, SinkMeter, SinkState, sink_context};
use crate::{
    checkpoint::{CheckpointError, Lane, Position},
    config::SinkPlan,
    error::{Explanation, Hint, chain},
    model::TenantId,
    sink::{Batch, Context, Failure, Limits, Sink},
};

/// Waits between attempts that failed by themselves: doubling between these.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// How often a sink that wants a person is tried all the same: tokens get fixed, topics made.
const PARKED_WAIT: Duration = Duration::from_mins(5);

/// A sink that had nothing to do for so long is closed until it has.
const IDLE: Duration = Duration::from_secs(10);

/// Why a deliverer stopped before everything was delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("{0}")]
    Sink(Failure),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("entry {seq} of the log cannot be read: {reason}")]
    Entry { seq: u64, reason: String },
    #[error("told to stop")]
    Cancelled,
}

impl Hint for DeliveryError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Sink(failure) => failure.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::Entry { .. } | Self::Cancelled => None,
        }
    }
}

impl DeliveryError {
    /// The other tenants' logs can be read all the same.
    fn is_of_one_tenant(&self) -> bool {
        matches!(self, Self::Entry { .. } | Self::Checkpoint(CheckpointError::Damaged(_)))
    }

    fn is_misconfigured(&self) -> bool {
        matches!(self, Self::Sink(Failure::Misconfigured { .. }))
    }
}

/// How deliverers are told to end, and how long they may wait for the proofs that are on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct End {
    told: CancellationToken,
    seconds: Arc<AtomicU64>,
}

pub struct Deliverer {
    engine: Arc<Engine>,
    plan: SinkPlan,
    context: Context,
    limits: Limits,
    sink: Option<Box<dyn Sink>>,
    /// Being filled.
    outgoing: OutgoingBatch,
    /// Handed to the receiver, and not proven yet; oldest first.
    in_flight: VecDeque<InFlight>,
    /// How far the logs are read, where that is further than the cursors.
    ahead: HashMap<(Lane, TenantId), Position>,
    elsewhere: Elsewhere,
    /// Buffers for loads to come.
    spare: Vec<Batch>,
    pace: Pace,
    catalogs: Catalogs,
    refusals: Refusals,
    meter: Arc<SinkMeter>,
    /// The tenant served last; the next in turn comes after it.
    last: Option<TenantId>,
    /// Records delivered by this deliverer.
    pub delivered: u64,
}

impl End {
    pub(super) fn tell(&self, patience: Duration) {
        self.seconds.store(patience.as_secs(), Relaxed);
        self.told.cancel();
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Relaxed))
    }

    /// Comes back when it was told and the patience is over.
    async fn overdue(&self) {
        self.told.cancelled().await;
        tokio::time::sleep(self.patience()).await;
    }
}

impl Deliverer {
    pub fn new(engine: Arc<Engine>, plan: SinkPlan) -> Self {
        let context = sink_context(&plan, &engine.clients);
        let mut limits = plan.plan.limits();
        let meter = engine.meters.sink(&plan.name, plan.plan.patience());
        if let Some(rate) = plan.max_rate {
            limits.records = limits.records.min(rate as usize);
        }
        Self {
            engine,
            context,
            limits,
            sink: None,
            outgoing: OutgoingBatch::new(Lane::Live, Batch::default()),
            in_flight: VecDeque::new(),
            ahead: HashMap::new(),
            elsewhere: Elsewhere::new(),
            spare: Vec::new(),
            pace: Pace::new(plan.max_rate),
            catalogs: Catalogs::default(),
            refusals: Refusals::default(),
            meter,
            last: None,
            delivered: 0,
            plan,
        }
    }

    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Delivers for ever: whatever there is, then whatever comes, with patience when it fails.
    pub(super) async fn run(mut self, end: End) {
        let cancel = end.told.clone();
        let mut log_grown = self.engine.log_grown.subscribe();
        let mut failures = 0;
        loop {
            log_grown.mark_unchanged();
            let before = self.delivered;
            self.enter(SinkState::Working);
            let drained = tokio::select! {
                drained = self.drain(&cancel) => Some(drained),
                // Whatever it waits for there: what is not proven by now is sent again.
                () = end.overdue() => None,
            };
            self.tell_since(before);
            let Some(drained) = drained else {
                self.leave_unacknowledged();
                break;
            };
            let wait = match drained {
                Ok(()) => {
                    failures = 0;
                    self.enter(SinkState::Idle);
                    self.engine.write_cursor_file();
                    tokio::select! {
                        _ = log_grown.changed() => continue,
                        () = tokio::time::sleep(IDLE), if self.sink.is_some() => {
                            self.rest().await;
                            continue;
                        }
                        () = cancel.cancelled() => break,
                    }
                }
                Err(DeliveryError::Cancelled) => {
                    match tokio::time::timeout(end.patience(), self.settle_all()).await {
                        Ok(Ok(())) => self.forget_unacknowledged(),
                        Ok(Err(_)) | Err(_) => self.leave_unacknowledged(),
                    }
                    break;
                }
                Err(stopped) => {
                    failures += 1;
                    self.note(&stopped);
                    self.enter(if stopped.is_misconfigured() {
                        SinkState::Parked
                    } else {
                        SinkState::Retrying
                    });
                    wait_after(&stopped, failures)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = cancel.cancelled() => break,
            }
        }
        self.enter(SinkState::Idle);
        self.close().await;
    }

    fn tell_since(&self, before: u64) {
        let records = self.delivered - before;
        if records > 0 {
            tracing::info!(sink = self.plan.name, records, "delivered");
        }
    }

    fn enter(&self, state: SinkState) {
        self.engine.meters.enter(&self.meter, state);
    }

    /// Delivers until nothing is left, trying a few times what may pass by itself.
    pub async fn run_once(&mut self, cancel: &CancellationToken) -> Result<(), DeliveryError> {
        for attempt in 1.. {
            match self.drain(cancel).await {
                Ok(()) => break,
                Err(stopped) => {
                    self.note(&stopped);
                    let passes = matches!(
                        &stopped,
                        DeliveryError::Sink(Failure::Retry { .. } | Failure::Broken { .. })
                    );
                    if !passes || attempt == 4 {
                        return Err(stopped);
                    }
                    tokio::time::sleep(wait_after(&stopped, attempt).min(Duration::from_secs(30)))
                        .await;
                }
            }
        }
        Ok(())
    }

    /// Until tomorrow nothing is needed: neither the connection nor what was rendered.
    async fn rest(&mut self) {
        self.close().await;
        self.outgoing = OutgoingBatch::new(Lane::Live, Batch::default());
        self.spare = Vec::new();
        self.catalogs = Catalogs::default();
        if let Err(error) = block_in_place(|| self.engine.checkpoint.rest()) {
            tracing::debug!(error = chain(&error), "the checkpoint could not be put to rest");
        }
    }

    /// Says goodbye to the receiver.
    #[tracing::instrument(level = "error", skip_all, fields(sink = self.plan.name))]
    pub async fn close(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.close().await;
        }
    }

    /// Delivers until nothing is left. What is not proven when something stops it is read again
    /// from the cursors next time.
    #[tracing::instrument(level = "error", skip_all, fields(sink = self.plan.name))]
    async fn drain(&mut self, cancel: &CancellationToken) -> Result<(), DeliveryError> {
        let drained = self.fill(cancel).await;
        if !matches!(drained, Err(DeliveryError::Cancelled)) {
            self.forget_unacknowledged();
        }
        drained
    }

    /// The end came before all acknowledgements.
    fn leave_unacknowledged(&mut self) {
        tracing::warn!(
            sink = self.plan.name,
            "stopped; what the receiver had not confirmed by now is sent again"
        );
        self.forget_unacknowledged();
    }

    fn forget_unacknowledged(&mut self) {
        self.in_flight.clear();
        self.ahead.clear();
        let batch = std::mem::take(&mut self.outgoing.batch);
        self.outgoing = OutgoingBatch::new(Lane::Live, batch);
    }

    /// Opens the sink if it is not; cursors may have moved then.
    async fn ensure_open(&mut self) -> Result<(), DeliveryError> {
        if self.sink.is_some() {
            return Ok(());
        }
        let kept = block_in_place(|| self.engine.checkpoint.mark(&self.plan.name))?;
        let sink = self
            .plan
            .plan
            .open(&self.context, kept.as_deref())
            .await
            .map_err(DeliveryError::Sink)?;
        if let Some(mark) = sink.mark()
            && kept.as_ref() != Some(&mark)
        {
            block_in_place(|| self.engine.checkpoint.set_mark(&self.plan.name, &mark))?;
        }
        let progress = sink.progress().to_vec();
        self.sink = Some(sink);
        self.reconcile(&progress)
    }

    fn note(&self, stopped: &DeliveryError) {
        self.meter.retries.fetch_add(1, Relaxed);
        let reason = Explanation::of(stopped);
        if stopped.is_misconfigured() {
            tracing::error!(
                sink = self.plan.name,
                error = reason.message,
                hint = reason.hint,
                "the sink is parked; its backlog stays"
            );
        } else {
            tracing::warn!(
                sink = self.plan.name,
                error = reason.message,
                hint = reason.hint,
                "delivery failed and will be tried again"
            );
        }
        let noted = block_in_place(|| {
            self.engine.checkpoint.set_sink_error(&self.plan.name, Some(&reason))
        });
        if let Err(error) = noted {
            tracing::warn!(
                sink = self.plan.name,
                error = chain(&error),
                "the failure could not be kept"
            );
        }
    }
}

/// How long to wait after the `failures`-th failure in a row.
fn wait_after(stopped: &DeliveryError, failures: u32) -> Duration {
    match stopped {
        DeliveryError::Sink(Failure::Misconfigured { .. }) => PARKED_WAIT,
        DeliveryError::Sink(Failure::Retry { after: Some(after), .. }) => (*after).max(FIRST_WAIT),
        _ => {
            let doubled = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_WAIT);
            // Half of it by chance, so that many forwarders do not come back all at once.
            doubled / 2 + doubled.mul_f64(fastrand::f64() / 2.0)
        }
    }
}
