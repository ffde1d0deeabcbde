//! One poll of one tenant: request, decode, compare with the log, commit.
//!
//! A poll that is aborted changes nothing: everything is committed in one transaction at its end.
//! Start reading at `Collector::poll`, then `response` and `ingest`.

mod decode;
mod distinct_profiles;
mod ingest;
pub(super) mod interrupted_polls;
mod local_failure;
mod poll_permits;
mod queued_commands;
mod response;
mod time_limit;

use std::{borrow::Cow, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::{
    interrupted_polls::RunningPoll,
    poll_permits::PollSize,
    time_limit::{EndedPoll, MAX_POLL_TIME, PollLimits, SLOW_POLLS, UnfinishedPoll},
};
pub(super) use self::{
    response::{CatalogRead, PollResponse, read},
    time_limit::PollPace,
};
use super::{
    CaughtPanic, ContainedTask, LogSignal, Meters, SinkConfiguration, StoreExecutor, TenantState,
    Tenants, blocking, contain, contained,
    host_clock::HostClockWatch,
    outage::{OutageSubject, Recovery},
    report_panic,
};
use crate::{
    checkpoint::{CheckpointError, PollFailure, ResolutionFailure},
    clock,
    config::{Configuration, TenantName},
    error::{Explanation, Hint, chain},
    ledger,
    model::{ClockOffset, Day, Observation, PollErrorClass, Tenant, UnixMillis, short_duration},
    source::SourceError,
};

/// Polls tenants and imports snapshots, and appends the result to the logs. It is the only part
/// that appends snapshots, and it never reads or moves a cursor.
#[derive(Debug)]
pub struct Collector {
    configuration: Arc<Configuration>,
    store: StoreExecutor,
    meters: Arc<Meters>,
    tenants: Arc<Tenants>,
    /// Registers the tenants whose domain was resolved.
    sinks: Arc<SinkConfiguration>,
    log: Arc<LogSignal>,
    host_clock: Arc<HostClockWatch>,
    /// Limits the memory of concurrent polls; see [`POLL_PERMITS`].
    limits: PollLimits,
}

/// The result of a successful poll. The daemon also sends it over the control socket as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollReport {
    /// Days that were released for the first time.
    pub days: usize,
    /// New revisions of stored days.
    pub revisions: usize,
    /// Snapshots that the ledger rejected as foreign or implausible.
    pub rejected: usize,
    /// Days that are held because their response or their catalog is partial.
    pub held: usize,
    /// The newest day in the log; `None` if it contains no day.
    pub newest: Option<Day>,
    /// Why the response is incomplete; `None` if it is complete.
    pub incomplete: Option<Explanation>,
    /// By how much the clock of this host differs from Microsoft's; `None` if it is accurate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Explanation>,
}

/// Whether a poll is a backfill. The checkpoint stores how far back a complete backfill has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollKind {
    /// Requests the newest days, and earlier days that are missing, held or not polled yet.
    Regular,
    /// Also requests the days of the initial backfill, or of one that an operator requested.
    Backfill,
}

/// The permits that all polls share. A poll of the newest days takes one. A poll that reads further
/// back takes more, because its days stay in memory until the oldest one has arrived.
const POLL_PERMITS: usize = 8;
const PERMITS_PER_BACKFILL: usize = 4;
/// A poll that reads further back than this many days takes the permits of a backfill.
const DAYS_PER_PERMIT: i32 = 14;

/// The time between two polls while the clock of this host is wrong by more than a day. They resume
/// as soon as a comparison finds that it is right.
const CLOCK_RETRY: Duration = Duration::from_mins(5);

/// Why a poll failed. A failed poll has stored nothing except the failure itself.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// A request failed, or its response is unusable.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The checkpoint could not be read or written.
    #[error("cannot store the response")]
    Checkpoint(#[from] CheckpointError),
    /// Less than 16 MiB of the disk are free. They are reserved for cursors, so that delivery can
    /// continue.
    #[error("the disk is nearly full: polling is paused; delivery continues")]
    DiskFull,
    /// The configured domain and the tenant ID that it resolved to.
    #[error("`{0}` resolves to `{1}`, the ID of another configured tenant")]
    SameTenant(String, String),
    /// Everything that was read is read again by the next attempt.
    #[error("the poll took longer than {}", short_duration(MAX_POLL_TIME))]
    TookTooLong,
    /// Like `TookTooLong`, but earlier, because other tenants are polled slowly too.
    #[error(
        "the poll was postponed: Microsoft responds slowly, and {SLOW_POLLS} other slow polls are running"
    )]
    Postponed,
    /// The poll was interrupted by a fault in this program.
    #[error(transparent)]
    Panicked(#[from] CaughtPanic),
}

impl Hint for PollError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        if let Some(fault) = self.host_fault() {
            return Some(fault.remedy().into());
        }
        match self {
            Self::Source(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::DiskFull => Some("free space on the disk of the state directory".into()),
            Self::SameTenant(..) => Some("remove one of the two from the configuration".into()),
            Self::TookTooLong | Self::Postponed => {
                Some("check the network between this host and Microsoft Graph".into())
            }
            Self::Panicked(panic) => panic.hint(),
        }
    }
}

impl From<UnfinishedPoll> for PollError {
    fn from(unfinished: UnfinishedPoll) -> Self {
        match unfinished {
            UnfinishedPoll::Postponed => Self::Postponed,
            UnfinishedPoll::TookTooLong => Self::TookTooLong,
        }
    }
}

impl PollError {
    /// The class of the error, for metrics and conditions.
    pub fn class(&self) -> PollErrorClass {
        match self {
            Self::Source(_) if self.host_fault().is_some() => PollErrorClass::Host,
            Self::Source(error) => error.class(),
            Self::Checkpoint(_) => PollErrorClass::Checkpoint,
            Self::DiskFull => PollErrorClass::Disk,
            Self::SameTenant(..) => PollErrorClass::Configuration,
            Self::TookTooLong | Self::Postponed => PollErrorClass::Unavailable,
            Self::Panicked(_) => PollErrorClass::Internal,
        }
    }

    /// How far the clock of this host is ahead, if that is the cause.
    fn clock_offset(&self) -> Option<ClockOffset> {
        match self {
            Self::Source(error) => error.clock_offset(),
            _ => None,
        }
    }
}

impl Collector {
    /// A collector without running polls.
    pub(super) fn new(
        configuration: Arc<Configuration>,
        store: StoreExecutor,
        meters: Arc<Meters>,
        tenants: Arc<Tenants>,
        sinks: Arc<SinkConfiguration>,
        log: Arc<LogSignal>,
        host_clock: Arc<HostClockWatch>,
    ) -> Self {
        let limits = PollLimits::new(POLL_PERMITS, PERMITS_PER_BACKFILL);
        Self { configuration, store, meters, tenants, sinks, log, host_clock, limits }
    }

    /// Whether no poll holds a permit.
    #[cfg(test)]
    pub(super) fn has_all_permits(&self) -> bool {
        self.limits.available_permits() == POLL_PERMITS
    }

    /// Polls a tenant: the newest days, the missing days, and all days back to `back_to`. Logs the
    /// result, and records a failure in the checkpoint. Fails if a request fails, if the response
    /// cannot be stored, or if a fault in this program interrupts the poll.
    #[tracing::instrument(level = "error", skip_all, fields(tenant = state.plan.name))]
    pub(super) async fn poll(
        &self,
        state: &TenantState,
        back_to: Option<Day>,
    ) -> Result<PollReport, PollError> {
        let _polling = state.polling.lock().await;
        let name = &state.plan.name;
        let report = |panic: &CaughtPanic| {
            report_panic(&self.meters, ContainedTask::Poll, name, panic);
        };

        let polled = contain(self.poll_unlocked(state, back_to)).await.inspect_err(report);
        let result = polled.unwrap_or_else(|panic| Err(panic.into()));
        let recorded = contained(|| self.record_result(state, &result)).inspect_err(report);
        if recorded.is_err() {
            // The checkpoint may have no time of this attempt.
            state.back_off(clock::now());
        }
        result
    }

    /// Counts and logs the result of a poll, and records a failure in the checkpoint.
    pub(super) fn record_result(
        &self,
        state: &TenantState,
        result: &Result<PollReport, PollError>,
    ) {
        self.meters.poll(&state.plan.name, result.as_ref().err().map(PollError::class));
        let is_local = result.as_ref().is_err_and(PollError::is_local);
        if !is_local {
            state.end_local_retry();
        }
        state.end_clock_retry();

        match (result, state.resolved()) {
            (Err(error), tenant) if is_local => {
                self.record_local_failure(state, tenant.as_deref(), error);
            }
            (Err(error), Some(tenant)) => self.record_failure(state, &tenant, error),
            (Err(error), None) => self.record_resolution_failure(state, error),
            (Ok(report), _) => log_report(&state.plan.name, report),
        }
        self.track_outage(&state.plan.name, result);
    }

    /// Tracks how long polls of a tenant have failed, and logs the end. An incomplete poll is
    /// neither a failure nor the end of an outage.
    fn track_outage(&self, tenant: &str, result: &Result<PollReport, PollError>) {
        let (outages, now) = (&self.meters.outages, Instant::now());
        let subject = OutageSubject::Tenant(tenant.to_owned());
        let Ok(report) = result else { return outages.begin(subject, now) };

        outages.advance(&subject, report.days as u64, now);
        if report.incomplete.is_none()
            && let Some(Recovery { outage, progress: days }) = outages.end(&subject, now)
        {
            let outage = short_duration(outage);
            tracing::info!(tenant, outage, days, "polls succeed again");
        }
    }

    /// The work of a poll. The caller holds `state.polling`.
    async fn poll_unlocked(
        &self,
        state: &TenantState,
        back_to: Option<Day>,
    ) -> Result<PollReport, PollError> {
        if !self.store.checkpoint().state_directory().has_free_space() {
            return Err(PollError::DiskFull);
        }
        self.meters.storage.require(&self.store)?;

        let tenant = self.resolve(state).await?;
        let started = clock::now();
        if let Some(first_day) = back_to {
            self.queue_backfill(tenant.id, first_day, started)?;
        }
        let (oldest, kind) = blocking(|| self.oldest_requested(state, &tenant, back_to, started))?;

        let reads_back = oldest < Day::of(started).plus(-DAYS_PER_PERMIT);
        let size = if reads_back { PollSize::Large } else { PollSize::Small };

        // The time of reading is determined after the wait for permits. The future is boxed to keep
        // the future of a waiting poll small: a thousand tenants may wait while eight are polled.
        let target = &tenant;
        let start = || {
            let (running, observed) = (RunningPoll::begin(&self.store, tenant.id), clock::now());
            Box::pin(async move { (running, read(&state.graph, target, oldest, observed).await) })
        };
        let ran = self.limits.run(size, state.pace(), start).await;
        let clock = self.host_clock.compare(state);
        let ended = ran.inspect_err(|_| state.set_pace(PollPace::Slow))?;
        let EndedPoll { result: (running, response), pace, memory: _memory } = ended;
        // A server that fails quickly may be slow when it succeeds.
        if pace == PollPace::Slow || response.is_ok() {
            state.set_pace(pace);
        }
        let response = response?;
        let report = blocking(|| self.ingest_response(state, &tenant, response, oldest, kind))?;
        running.committed();
        Ok(PollReport { clock, ..report })
    }

    /// The tenant of a poll. The first poll resolves its domain and stores the ID.
    async fn resolve(&self, state: &TenantState) -> Result<Arc<Tenant>, PollError> {
        if let Some(tenant) = state.resolved() {
            return Ok(tenant);
        }
        let id = Box::pin(state.graph.resolve()).await?;

        // Held so that two domains of one tenant cannot be registered at the same time.
        let reserved = self.tenants.reserve(state, id).await?;

        // The cursors must be stored before other tasks can find the tenant.
        self.store.run(|checkpoint| {
            if let TenantName::Domain(domain) = &state.plan.id {
                checkpoint.store_resolved_domain(domain, id)?;
            }
            self.sinks.register(&state.plan, id)
        })?;
        Ok(reserved.confirm())
    }

    /// The oldest day that this poll requests, and its kind.
    pub(super) fn oldest_requested(
        &self,
        state: &TenantState,
        tenant: &Tenant,
        back_to: Option<Day>,
        now: Timestamp,
    ) -> Result<(Day, PollKind), CheckpointError> {
        let today = Day::of(now);
        let window = today.plus(1 - ledger::REREAD_DAYS);
        let checkpoint = self.store.checkpoint();
        let missing = checkpoint.due_missing_days(tenant.id, now.into())?;

        // The initial backfill stays due until one poll has read all of it.
        let poll_state = checkpoint.poll_state(tenant.id)?;
        let initial = today.plus(1 - state.plan.initial_backfill_days);
        let initial = poll_state.polled_back_to.is_none().then_some(initial);
        // A backfill that was interrupted or incomplete continues.
        let queued = poll_state.queued_backfill;
        let backfill = [initial, back_to, queued].into_iter().flatten().min();

        // After a downtime, continue at the newest day that a poll has stored.
        let (newest_polled, oldest_held) = checkpoint.resume_days(tenant.id)?;
        let after_newest = newest_polled.map(|day| day.min(window));

        let oldest = [Some(window), backfill, after_newest, oldest_held, missing.first().copied()]
            .into_iter()
            .flatten()
            .min();
        let oldest = oldest.unwrap_or(window).max(today.oldest_at_source());
        let kind = if backfill.is_some() { PollKind::Backfill } else { PollKind::Regular };
        Ok((oldest, kind))
    }

    /// Logs that the domain of a tenant cannot be resolved, records it in the checkpoint, and
    /// delays the next attempt.
    fn record_resolution_failure(&self, state: &TenantState, error: &PollError) {
        let reason = Explanation::of(error);
        tracing::warn!(
            tenant = state.plan.name,
            error = reason.message,
            hint = reason.hint,
            "cannot resolve the tenant's domain; retrying later"
        );

        let now = clock::now();
        let not_before = state.back_off(now).map(UnixMillis::from);
        if let TenantName::Domain(domain) = &state.plan.id {
            let failure = ResolutionFailure {
                at: now.into(),
                reason: &reason,
                class: error.class(),
                not_before,
            };
            let recorded =
                self.store.run(|checkpoint| checkpoint.record_resolution_failure(domain, &failure));
            if let Err(error) = recorded {
                let error = chain(&error);
                tracing::warn!(
                    tenant = state.plan.name,
                    error,
                    "cannot record the failure in the checkpoint"
                );
            }
        }
    }

    /// Logs a failed poll, and records it in the checkpoint together with an observation.
    fn record_failure(&self, state: &TenantState, tenant: &Tenant, error: &PollError) {
        let reason = Explanation::of(error);
        if error.class().needs_operator() {
            tracing::error!(
                tenant = tenant.name,
                error = reason.message,
                hint = reason.hint,
                "poll failed"
            );
        } else {
            tracing::warn!(
                tenant = tenant.name,
                error = reason.message,
                hint = reason.hint,
                "poll failed"
            );
        }

        // If the clock of this host is wrong, the stored times are those of Microsoft's clock.
        let clock_offset = error.clock_offset();
        let now = clock_offset.map_or_else(clock::now, |offset| offset.correct(clock::now()));
        if clock_offset.is_some() {
            state.wait_for_clock(CLOCK_RETRY);
        }

        let observation = Observation::of_failed_poll(error.class(), Day::of(now), &reason);
        // Stored so that a restart does not shorten the pause.
        let not_before = not_before(state, now);
        let failure = PollFailure {
            at: now.into(),
            reason: &reason,
            class: error.class(),
            observation: &observation,
            not_before,
        };
        let recorded = self.store.run(|checkpoint| {
            self.log.notify(checkpoint.record_poll_failure(tenant.id, &failure)?);
            // A wrong clock does not decide how long a day has been held.
            if clock_offset.is_some() { Ok(()) } else { self.release_held(tenant) }
        });

        if let Err(error) = recorded {
            self.meters.storage.note_error(&error);
            let error = Explanation::of(&error);
            tracing::warn!(
                tenant = tenant.name,
                error = error.message,
                hint = error.hint,
                "cannot record the failure in the checkpoint"
            );
            // The checkpoint has no time of this attempt, so the schedule would retry every minute.
            state.back_off(now);
        }
    }
}

/// The end of the pause that the server requested with `Retry-After`; `None` if there is none.
fn not_before(state: &TenantState, now: Timestamp) -> Option<UnixMillis> {
    let pause = state.graph.paused_for();
    (!pause.is_zero()).then(|| UnixMillis::from(now).saturating_add(pause))
}

fn log_report(tenant: &str, report: &PollReport) {
    let PollReport { days, revisions, rejected, held, newest, incomplete, clock: _ } = report;
    let newest = newest.map(tracing::field::display);
    match incomplete {
        None => tracing::info!(tenant, days, revisions, rejected, newest, "poll completed"),
        Some(reason) => {
            tracing::warn!(
                tenant,
                days,
                revisions,
                rejected,
                held,
                newest,
                error = reason.message,
                hint = reason.hint,
                "poll incomplete"
            );
        }
    }
}
