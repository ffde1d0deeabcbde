//! The loop of one sink: read entries from its cursors, derive and encode records, submit batches,
//! and move the cursors when the receiver has acknowledged them.
//!
//! [`fill`] builds batches, each with records of one or more tenants, from one of the [`lanes`];
//! [`window`] submits and settles them. The next batch may be built while earlier ones wait for
//! their acknowledgement; cursors move in the order of the batches. Start reading at [`supervise`]
//! and [`Deliverer::run`].

mod catalogs;
mod decoded;
mod delivery;
mod denials;
mod digest;
mod encoding;
mod failing_tenants;
mod failure_report;
mod fill;
mod lanes;
mod outgoing_batch;
mod parking;
mod rate_limit;
mod reading;
mod reconcile;
mod rejection_limits;
mod rejections;
mod retry;
mod rotation;
mod supervision;
mod targets;
mod tenant_trials;
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

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(super) use self::{
    catalogs::{Catalogs, compared_to},
    lanes::{DeadLetterContext, derive_dead_letter},
    supervision::supervise,
};
use self::{
    denials::Denials,
    failing_tenants::FailingTenants,
    outgoing_batch::OutgoingBatch,
    rate_limit::RateLimit,
    reconcile::ForeignProgress,
    rejections::RejectionCounter,
    retry::{MAX_BACKOFF, RetryBudget, RetryCause, RetryLimit},
    supervision::Suspects,
    targets::ParkedTargets,
    tenant_trials::TenantTrials,
    window::InFlight,
};
use super::{CaughtPanic, Engine, SinkMeter, outage::OutageSubject};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, Lane, Position},
    clock,
    config::SinkPlan,
    error::{Hint, chain},
    model::{Seq, SinkName, TenantId, short_duration},
    sink::{Batch, Context, Failure, Limits, Sink},
};

/// A sink without a backlog is closed after this time.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Why a deliverer stopped before everything was delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The sink could not deliver.
    #[error("{0}")]
    Sink(Failure),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An entry cannot be decoded, so nothing after it can be sent for this tenant.
    #[error("cannot decode entry {seq} of the log: {reason}")]
    Entry { seq: Seq, reason: String },
    /// A shutdown was requested.
    #[error("stopped by request")]
    Canceled,
    /// A fault in this program interrupted the delivery.
    #[error(transparent)]
    Panicked(#[from] CaughtPanic),
}

impl Hint for DeliveryError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Sink(failure) => failure.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::Panicked(panic) => panic.hint(),
            Self::Entry { .. } | Self::Canceled => None,
        }
    }
}

impl DeliveryError {
    /// Whether the logs of other tenants can still be read.
    fn affects_one_tenant(&self) -> bool {
        matches!(self, Self::Entry { .. } | Self::Checkpoint(CheckpointError::Damaged(_)))
    }

    /// Whether the configuration of the sink needs an operator.
    fn is_misconfigured(&self) -> bool {
        matches!(self, Self::Sink(Failure::Misconfigured { .. }))
    }

    /// Whether everything was delivered except the records for parked targets and withheld tenants.
    fn is_about_targets(&self) -> bool {
        matches!(self, Self::Sink(Failure::Refused(_)))
    }
}

/// A request to all deliverers of a generation to end, with the time for which they may wait for
/// outstanding acknowledgements.
#[derive(Clone, Debug, Default)]
pub(super) struct Shutdown {
    requested: CancellationToken,
    wait_s: Arc<AtomicU64>,
}

/// The deliverer of one sink. It is the only writer of the sink's cursors, and all its state can be
/// lost: after a restart it continues at the cursors.
pub struct Deliverer {
    engine: Arc<Engine>,
    plan: SinkPlan,
    context: Context,
    limits: Limits,
    /// The open sink; `None` while it is closed.
    sink: Option<Box<dyn Sink>>,
    /// The batch that is being filled.
    outgoing: OutgoingBatch,
    /// Submitted batches that are not settled yet, oldest first.
    in_flight: VecDeque<InFlight>,
    /// The position up to which each log has been read, if it is ahead of the cursor.
    read_positions: HashMap<(Lane, TenantId), Position>,
    foreign_progress: ForeignProgress,
    /// Buffers of settled batches, for reuse.
    spare_buffers: Vec<Batch>,
    rate_limit: RateLimit,
    catalogs: Catalogs,
    rejections: RejectionCounter,
    /// The tenants whose requests fail without a reason; see [`failing_tenants`].
    failing: FailingTenants,
    /// The requests that are denied or rejected while nothing of others arrives; see [`denials`].
    denials: Denials,
    /// The rejected requests of the current attempt; see [`tenant_trials`].
    trials: TenantTrials,
    retries: RetryBudget,
    /// The tenants that are read last; see [`supervision`].
    suspects: Suspects,
    /// The targets that the receiver refuses, and the withheld tenants; see [`targets`].
    targets: ParkedTargets,
    meter: Arc<SinkMeter>,
    /// The tenant that was served last.
    last: Option<TenantId>,
    /// The number of records that this deliverer has delivered.
    pub delivered: u64,
    /// The number of records that the receiver has rejected, and that became dead letters.
    pub rejected: u64,
}

impl Shutdown {
    /// Requests that all deliverers end. They wait this long for acknowledgements, in whole
    /// seconds.
    pub(super) fn begin(&self, acknowledgement_wait: Duration) {
        self.wait_s.store(acknowledgement_wait.as_secs(), Relaxed);
        self.requested.cancel();
    }

    fn acknowledgement_wait(&self) -> Duration {
        Duration::from_secs(self.wait_s.load(Relaxed))
    }

    /// Returns when a shutdown has been requested and the waiting time has passed.
    async fn expired(&self) {
        self.requested.cancelled().await;
        tokio::time::sleep(self.acknowledgement_wait()).await;
    }
}

impl Deliverer {
    /// Creates a deliverer. Its sink is opened when there is something to deliver.
    pub fn new(engine: Arc<Engine>, plan: SinkPlan) -> Self {
        let context = engine.sinks().context_of(&plan);
        let meter = engine.meters().sink(&plan.name, plan.plan.timeout());
        let mut limits = plan.plan.limits();
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
            read_positions: HashMap::new(),
            foreign_progress: ForeignProgress::new(),
            spare_buffers: Vec::new(),
            rate_limit: RateLimit::new(plan.max_rate),
            catalogs: Catalogs::default(),
            rejections: RejectionCounter::default(),
            failing: FailingTenants::default(),
            denials: Denials::default(),
            trials: TenantTrials::default(),
            retries: RetryBudget::new(RetryLimit::Limited),
            suspects: Suspects::default(),
            targets: ParkedTargets::default(),
            meter,
            last: None,
            delivered: 0,
            rejected: 0,
            plan,
        }
    }

    /// The name of the sink in the configuration.
    pub fn name(&self) -> &SinkName {
        &self.plan.name
    }

    /// Delivers until a shutdown is requested: the backlog, and then new entries as they arrive.
    /// Retries after every failure.
    async fn run(mut self, shutdown: Shutdown) {
        let cancel = shutdown.requested.clone();
        let mut log_grown = self.engine.log().subscribe();
        self.retries = RetryBudget::new(RetryLimit::Unlimited);

        loop {
            let started = tokio::select! {
                started = self.wait_until_due() => started,
                () = cancel.cancelled() => break,
            };
            log_grown.mark_unchanged();
            let delivered_before = self.delivered;
            self.engine.meters().progress(&self.meter);
            let drained = tokio::select! {
                drained = self.drain(&cancel) => Some(drained),
                // Bounds every wait inside `drain`, such as the wait for a receiver that hangs.
                () = shutdown.expired() => None,
            };
            self.log_delivered(self.delivered - delivered_before);

            let Some(drained) = drained else {
                self.abandon_unacknowledged();
                break;
            };

            let is_about_targets = drained.as_ref().is_err_and(DeliveryError::is_about_targets);
            let wait = match drained {
                Ok(()) => {
                    self.retries.reset();
                    self.meter.idle();
                    self.clear_failure();
                    self.complete_digest(started);
                    self.engine.cursor_file().update_or_log();
                    tokio::select! {
                        _ = log_grown.changed() => continue,
                        () = tokio::time::sleep(IDLE_LIMIT), if self.sink.is_some() => {
                            self.release_resources().await;
                            continue;
                        }
                        () = cancel.cancelled() => break,
                    }
                }

                Err(DeliveryError::Canceled) => {
                    let wait = shutdown.acknowledgement_wait();
                    match tokio::time::timeout(wait, self.settle_all()).await {
                        Ok(Ok(())) => self.discard_unsettled(),
                        Ok(Err(_)) | Err(_) => self.abandon_unacknowledged(),
                    }
                    break;
                }
                Err(error) => self.end_failed_attempt(&error).await,
            };

            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The records for all other targets are delivered as they arrive.
                _ = log_grown.changed(), if is_about_targets => {}
                () = cancel.cancelled() => break,
            }
        }

        self.meter.idle();
        self.close().await;
    }

    /// Records the failure of an attempt. Returns the wait before the next one.
    async fn end_failed_attempt(&mut self, error: &DeliveryError) -> Duration {
        self.record_failure(error);
        self.meter.idle();
        if error.is_about_targets() {
            // Everything else is delivered, so the receiver works.
            self.retries.reset();
            self.engine.cursor_file().update_or_log();
            self.release_resources().await;
        }
        self.wait_after(error).unwrap_or(MAX_BACKOFF)
    }

    fn log_delivered(&self, records: u64) {
        if records > 0 {
            tracing::info!(sink = self.plan.name.as_str(), records, "delivered");
        }
    }

    /// The work of [`Self::run_once`], without the handling of panics. Ends with the error after
    /// which the budget permits no other attempt.
    async fn attempt_delivery(&mut self, cancel: &CancellationToken) -> Result<(), DeliveryError> {
        let started = clock::now();
        self.retries = RetryBudget::new(RetryLimit::Limited);
        while let Err(error) = self.drain(cancel).await {
            self.record_failure(&error);
            let Some(wait) = self.wait_after(&error) else { return Err(error) };
            tokio::time::sleep(wait).await;
        }

        self.clear_failure();
        self.complete_digest(started);
        Ok(())
    }

    /// Counts a failure. Returns the wait before the next attempt, or `None` if the budget permits
    /// none.
    fn wait_after(&mut self, error: &DeliveryError) -> Option<Duration> {
        let cause = self.retry_cause(error);
        self.retries.wait_after(cause, fastrand::f64())
    }

    fn retry_cause(&self, error: &DeliveryError) -> RetryCause {
        match error.retry_cause(self.plan.plan.failure_place()) {
            RetryCause::Receiver { after } if self.has_untried_tenants() => {
                RetryCause::SomeTenants { after }
            }
            cause => cause,
        }
    }

    /// Closes the sink and frees all buffers and caches. The next entries usually arrive a day
    /// later.
    async fn release_resources(&mut self) {
        self.close().await;
        self.outgoing = OutgoingBatch::new(Lane::Live, Batch::default());
        self.spare_buffers = Vec::new();
        self.catalogs = Catalogs::default();
        if let Err(error) = self.engine.store().run(Checkpoint::release_memory) {
            tracing::debug!(error = chain(&error), "cannot release the memory of the checkpoint");
        }
    }

    /// Closes the sink if it is open.
    #[tracing::instrument(level = "error", skip_all, fields(sink = self.plan.name.as_str()))]
    pub async fn close(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.close().await;
        }
    }

    /// Delivers until nothing is left. After an error, unsettled batches are discarded, and the
    /// next call reads their entries from the cursors again. After a cancellation they are kept,
    /// so that the caller can wait for their acknowledgements.
    #[tracing::instrument(level = "error", skip_all, fields(sink = self.plan.name.as_str()))]
    async fn drain(&mut self, cancel: &CancellationToken) -> Result<(), DeliveryError> {
        let drained = self.fill(cancel).await;
        self.log_withheld();
        if !matches!(drained, Err(DeliveryError::Canceled)) {
            self.discard_unsettled();
        }
        if drained.as_ref().is_err_and(DeliveryError::is_misconfigured) {
            // The receiver, or a file with a secret, may have been changed before the next attempt.
            self.close().await;
        }
        if drained.is_ok() {
            self.log_recovery();
        }
        drained
    }

    /// Logs the end of an outage if there was one. Called when nothing is left to deliver, so that
    /// a recovery that is interrupted by further failures is logged once.
    fn log_recovery(&self) {
        let ended = self.engine.meters().outages.end(&self.outage_subject(), Instant::now());
        if let Some(recovery) = ended {
            tracing::info!(
                sink = self.plan.name.as_str(),
                outage = short_duration(recovery.outage),
                records = recovery.progress,
                "sink recovered"
            );
        }
    }

    fn outage_subject(&self) -> OutageSubject {
        OutageSubject::Sink(self.plan.name.clone())
    }

    /// Discards unsettled batches at the end of the deliverer, and logs a warning.
    fn abandon_unacknowledged(&mut self) {
        tracing::warn!(
            sink = self.plan.name.as_str(),
            "stopped before all acknowledgements had arrived; unacknowledged records will be sent again"
        );
        self.discard_unsettled();
    }

    fn discard_unsettled(&mut self) {
        self.in_flight.clear();
        self.read_positions.clear();
        self.targets.cursors_are_read();
        let batch = std::mem::take(&mut self.outgoing.batch);
        self.outgoing = OutgoingBatch::new(Lane::Live, batch);
    }

    /// Opens the sink if it is closed. This may move cursors; see `reconcile`. Fails if the
    /// checkpoint cannot be written, because nothing is sent whose outcome cannot be stored.
    async fn ensure_open(&mut self) -> Result<(), DeliveryError> {
        if self.sink.is_some() {
            return Ok(());
        }

        let stored = self.engine.store().run(|checkpoint| {
            checkpoint.confirm_writable()?;
            checkpoint.mark(&self.plan.name)
        })?;
        let sink = self.plan.plan.open(&self.context, stored.as_deref()).await;
        let sink = sink.map_err(DeliveryError::Sink)?;

        // With a mark or a progress that is not stored, the sink would repeat records.
        if let Err(error) = self.adopt(sink.as_ref(), stored.as_deref()) {
            sink.close().await;
            return Err(error);
        }
        self.sink = Some(sink);
        Ok(())
    }

    /// Stores the mark of an open sink, and moves the cursors to its progress. `stored` is the mark
    /// in the checkpoint.
    fn adopt(&mut self, sink: &dyn Sink, stored: Option<&[u8]>) -> Result<(), DeliveryError> {
        if let Some(mark) = sink.mark()
            && stored != Some(mark.as_slice())
        {
            self.engine.store().run(|checkpoint| checkpoint.set_mark(&self.plan.name, &mark))?;
        }
        self.reconcile(sink.progress())
    }
}
