//! One poll of one tenant: read, judge, take.

mod answer;
mod ingest;

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use tokio::task::block_in_place;

pub(super) use self::answer::{CatalogRead, PollAnswer, read};
use super::{Engine, TURNS_OF_A_BACKFILL, TenantState, has_free_space};
use crate::{
    checkpoint::CheckpointError,
    clock,
    config::TenantName,
    error::{Explanation, Hint},
    ledger,
    model::{Day, Observation, Phase, Tenant, What},
    source::SourceError,
};

/// What a poll brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollReport {
    /// Days taken for the first time.
    pub days: usize,
    pub revisions: usize,
    /// Snapshots that were not believed.
    pub rejected: usize,
    /// Days held back, because something is missing in them.
    pub held: usize,
    pub newest: Option<Day>,
    /// What is missing, if anything is.
    pub incomplete: Option<Explanation>,
}

/// So many days are held in memory without a thought.
const READS_BACK: i32 = 14;

#[derive(Debug, thiserror::Error)]
pub enum PollError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("cannot keep what was read")]
    Checkpoint(#[from] CheckpointError),
    #[error("the disk is nearly full: polling waits, delivery goes on")]
    DiskFull,
    #[error("`{0}` is tenant {1}, which the configuration names a second time")]
    SameTenant(String, String),
}

impl Hint for PollError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Source(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::DiskFull => Some("free space on the disk of the state directory".into()),
            Self::SameTenant(..) => Some("remove one of the two from the configuration".into()),
        }
    }
}

impl PollError {
    /// One word for metrics.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Source(error) => error.class(),
            Self::Checkpoint(_) => "checkpoint",
            Self::DiskFull => "disk",
            Self::SameTenant(..) => "configuration",
        }
    }
}

impl Engine {
    /// Polls a tenant: the newest days, the days missing, and back to `back_to` if that is asked.
    #[tracing::instrument(level = "error", skip_all, fields(tenant = state.plan.name))]
    pub(super) async fn poll(
        &self,
        state: &TenantState,
        back_to: Option<Day>,
    ) -> Result<PollReport, PollError> {
        let _alone = state.polling.lock().await;
        let result = self.poll_alone(state, back_to).await;
        self.meters.poll(&state.plan.name, result.as_ref().err().map(PollError::class));
        match (&result, state.resolved()) {
            (Err(error), Some(tenant)) => self.note_failure(state, &tenant, error),
            (Err(error), None) => {
                let error = Explanation::of(error);
                tracing::warn!(
                    tenant = state.plan.name,
                    error = error.message,
                    hint = error.hint,
                    "the domain of the tenant could not be resolved; it is tried again"
                );
                state.back_off(clock::now(), error);
            }
            (Ok(report), _) => note(&state.plan.name, report),
        }
        result
    }

    async fn poll_alone(
        &self,
        state: &TenantState,
        back_to: Option<Day>,
    ) -> Result<PollReport, PollError> {
        if !has_free_space(self.checkpoint.directory()) {
            return Err(PollError::DiskFull);
        }
        let tenant = self.tenant(state).await?;
        let started = clock::now();
        let (oldest, reaches_back) =
            block_in_place(|| self.oldest_wanted(state, &tenant, back_to, started))?;
        let reads_back = oldest < Day::of(started).plus(-READS_BACK);
        let turns = if reads_back { TURNS_OF_A_BACKFILL } else { 1 };
        // Closed only when the engine goes, and then nobody waits.
        let _turns = self.turns.acquire_many(turns).await.ok();
        let began = clock::now();
        // In a box of its own: a thousand tenants wait in line, and eight read.
        let answer = Box::pin(read(&state.graph, &tenant, oldest, began)).await?;
        let report =
            block_in_place(|| self.ingest_answer(state, &tenant, answer, oldest, reaches_back))?;
        self.notify_log_grown();
        Ok(report)
    }

    /// The tenant; a domain is resolved on the first poll, and kept.
    async fn tenant(&self, state: &TenantState) -> Result<Arc<Tenant>, PollError> {
        if let Some(tenant) = state.resolved() {
            return Ok(tenant);
        }
        let id = Box::pin(state.graph.resolve()).await?;
        // One after the other, so that two names of one tenant are found out.
        let _meeting = self.meeting.lock().await;
        let known = self.tenants.iter().filter_map(TenantState::resolved);
        if known.into_iter().any(|other| other.id == id) {
            return Err(PollError::SameTenant(state.plan.name.clone(), id.to_string()));
        }
        block_in_place(|| {
            if let TenantName::Domain(domain) = &state.plan.id {
                self.checkpoint.keep_resolved(domain, id)?;
            }
            self.register(&state.plan, id)
        })?;
        // Known to the others only when its cursors are on the disk.
        Ok(state.learn(id))
    }

    /// The oldest day that this poll wants, and whether it reaches back beyond what polls have
    /// asked for so far.
    fn oldest_wanted(
        &self,
        state: &TenantState,
        tenant: &Tenant,
        back_to: Option<Day>,
        now: Timestamp,
    ) -> Result<(Day, bool), CheckpointError> {
        let today = Day::of(now);
        let window = today.plus(1 - ledger::WINDOW);
        let missing = self.checkpoint.missing(tenant.id, now.as_millisecond())?;
        let poll_state = self.checkpoint.poll_state(tenant.id)?;
        let initial = today.plus(1 - state.plan.initial_backfill_days);
        let initial = poll_state.polled_back_to.is_none().then_some(initial);
        // A daemon that was down reads on from the last day it has.
        let (newest_polled, oldest_held) = self.checkpoint.reading_on(tenant.id)?;
        let after_newest = newest_polled.map(|day| day.min(window));
        let back = [initial, back_to].into_iter().flatten().min();
        let wanted = [Some(window), back, after_newest, oldest_held, missing.first().copied()]
            .into_iter()
            .flatten();
        let oldest = wanted.min().unwrap_or(window).max(today.plus(-89));
        Ok((oldest, back.is_some()))
    }

    fn note_failure(&self, state: &TenantState, tenant: &Tenant, error: &PollError) {
        let reason = Explanation::of(error);
        // A secret, a certificate, a consent: nothing of that passes by itself.
        if matches!(error.class(), "credential" | "permission") {
            tracing::error!(
                tenant = tenant.name,
                error = reason.message,
                hint = reason.hint,
                "the poll failed"
            );
        } else {
            tracing::warn!(
                tenant = tenant.name,
                error = reason.message,
                hint = reason.hint,
                "the poll failed"
            );
        }
        let now = clock::now();
        let observation = Observation {
            what: What::PollFailed,
            subject: "poll".to_owned(),
            first_day: Day::of(now),
            phase: Phase::Begin,
            details: reason.message.clone(),
            hint: reason.hint.clone(),
        };
        // The server's word outlives this process.
        let not_before = not_before(state, now);
        let noted = block_in_place(|| {
            let now = now.as_millisecond();
            self.checkpoint.poll_failed(tenant.id, now, &reason, &observation, not_before)?;
            self.release_held(tenant)
        });
        if let Err(error) = noted {
            let error = Explanation::of(&error);
            tracing::warn!(
                tenant = tenant.name,
                error = error.message,
                "the failure could not be kept"
            );
            // Nor when it was: it is not asked again every minute all the same.
            state.back_off(now, error);
        }
    }
}

/// Until when the server wants to be left alone, in milliseconds since 1970-01-01.
fn not_before(state: &TenantState, now: Timestamp) -> Option<i64> {
    let closed = i64::try_from(state.graph.closed_for().as_millis()).unwrap_or(0);
    (closed > 0).then(|| now.as_millisecond() + closed)
}

fn note(tenant: &str, report: &PollReport) {
    let PollReport { days, revisions, rejected, held, newest, incomplete } = report;
    let newest = newest.map(tracing::field::display);
    match incomplete {
        None => tracing::info!(tenant, days, revisions, rejected, newest, "polled"),
        Some(reason) => {
            tracing::warn!(
                tenant,
                days,
                revisions,
                rejected,
                held,
                newest,
                reason = reason.message,
                hint = reason.hint,
                "polled in part"
            );
        }
    }
}
