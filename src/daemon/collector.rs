//! One poll of one tenant: read, judge, take.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::block_in_place;

use super::{Engine, TenantState, has_room};
use crate::{
    checkpoint::{CatalogueMember, CheckpointError, Enriched, NewEntry, Taking},
    clock,
    config::TenantName,
    error::chain,
    ledger::{self, Refused, Seen},
    model::{Day, Observation, Phase, Tenant, What},
    source::{Collection, Next, SourceError},
    wire,
};

/// What a poll brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollReport {
    /// Days taken for the first time.
    pub days: usize,
    pub revisions: usize,
    /// Snapshots that were not believed.
    pub refused: usize,
    pub newest: Option<Day>,
}

#[derive(Debug, thiserror::Error)]
pub enum PollError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("cannot keep what was read")]
    Checkpoint(#[from] CheckpointError),
    #[error("the disk is nearly full: polling waits, delivery goes on")]
    NoRoom,
    #[error("`{0}` is tenant {1}, which the configuration names a second time")]
    SameTenant(String, String),
}

/// Everything read in a poll, before it is judged against the log.
pub(super) struct Answer {
    pub seen: Vec<Seen>,
    refused: Vec<Refused>,
    pub catalogue: Vec<wire::ProfileParts>,
    /// The collection was read to its end, or past the oldest day asked for.
    complete: bool,
}

impl Engine {
    /// Polls a tenant: the newest days, the days owed, and back to `back_to` if that is asked.
    pub(super) async fn poll(
        &self,
        state: &TenantState,
        back_to: Option<Day>,
    ) -> Result<PollReport, PollError> {
        let _alone = state.polling.lock().await;
        let result = self.poll_alone(state, back_to).await;
        if let Err(PollError::Source(error)) = &result
            && let Some(wait) = error.retry_after()
        {
            state.leave_alone(clock::now(), wait);
        }
        match (&result, state.known()) {
            (Err(error), Some(tenant)) => self.note_failure(&tenant, error),
            (Err(error), None) => {
                state.back_off(clock::now());
                let error = chain(error);
                tracing::warn!(
                    tenant = state.plan.name,
                    error,
                    "the tenant could not be found out"
                );
            }
            (Ok(_), _) => {}
        }
        result
    }

    async fn poll_alone(
        &self,
        state: &TenantState,
        back_to: Option<Day>,
    ) -> Result<PollReport, PollError> {
        if !has_room(self.checkpoint.directory()) {
            return Err(PollError::NoRoom);
        }
        let tenant = self.tenant(state).await?;
        let started = clock::now();
        let today = Day::of(started);
        let (oldest, reaches_back) =
            block_in_place(|| self.oldest_wanted(state, &tenant, back_to, started))?;
        let answer = read(state, &tenant, oldest, today).await?;
        let report =
            block_in_place(|| self.take(&tenant, &answer, oldest, reaches_back, clock::now()))?;
        self.ring();
        Ok(report)
    }

    /// The tenant; a domain is resolved on the first poll, and kept.
    async fn tenant(&self, state: &TenantState) -> Result<Arc<Tenant>, PollError> {
        if let Some(tenant) = state.known() {
            return Ok(tenant);
        }
        let id = state.graph.resolve().await?;
        let known = self.tenants.iter().filter_map(TenantState::known);
        if known.into_iter().any(|other| other.id == id) {
            return Err(PollError::SameTenant(state.plan.name.clone(), id.to_string()));
        }
        block_in_place(|| {
            if let TenantName::Domain(domain) = &state.plan.id {
                self.checkpoint.keep_resolved(domain, id)?;
            }
            self.register(id)
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
        let owed = self.checkpoint.owed(tenant.id, now.as_millisecond())?;
        let poll_state = self.checkpoint.poll_state(tenant.id)?;
        let initial = today.plus(1 - state.plan.initial_backfill_days);
        let initial = poll_state.asked_back_to.is_none().then_some(initial);
        // A daemon that was down reads on from the last day it has.
        let after_newest = poll_state.newest_day.map(|day| day.min(window));
        let back = [initial, back_to].into_iter().flatten().min();
        let wanted =
            [Some(window), back, after_newest].into_iter().flatten().chain(owed.first().copied());
        let oldest = wanted.min().unwrap_or(window).max(today.plus(-89));
        Ok((oldest, back.is_some()))
    }

    fn take(
        &self,
        tenant: &Tenant,
        answer: &Answer,
        oldest: Day,
        reaches_back: bool,
        observed: Timestamp,
    ) -> Result<PollReport, CheckpointError> {
        let today = Day::of(observed);
        let Answer { seen, refused, catalogue, .. } = answer;
        let plan = self.plan(tenant, seen, oldest, today)?;
        let newest = seen.iter().map(|s| s.facts.day).chain(self.checkpoint.newest_day(tenant.id)?);
        let newest = newest.max();
        let mut observations = ledger::observations(seen, &plan, newest, today);
        observations.extend(refused.iter().map(|refused| refused.observation.clone()));
        let mut missing = plan.missing.clone();
        missing.extend(refused.iter().filter_map(|r| r.day).filter(|day| *day >= oldest));
        // An answer with nothing in it, or with days nobody can name, does not end a backfill.
        let all_named = refused.iter().all(|refused| refused.day.is_some());
        let reached = reaches_back && answer.complete && !seen.is_empty() && all_named;
        let entry = |release: &ledger::Release| {
            let seen = &seen[release.index];
            let ledger::Release { revision, base, late, backfilled, .. } = *release;
            NewEntry {
                snapshot_id: &seen.snapshot_id,
                revision,
                facts: &seen.facts,
                body: &seen.body,
                base,
                late,
                backfilled,
            }
        };
        let enriched = plan.enriched.iter().map(|(index, revision)| Enriched {
            revision: *revision,
            facts: &seen[*index].facts,
            body: &seen[*index].body,
        });
        let taking = Taking {
            observed_ms: observed.as_millisecond(),
            entries: plan.releases.iter().map(entry).collect(),
            enriched: enriched.collect(),
            catalogue: catalogue
                .iter()
                .map(|p| CatalogueMember { shared: &p.shared, decisions: &p.decisions })
                .collect(),
            observations,
            asked_from: oldest,
            missing,
            asked_back_to: reached.then_some(oldest),
        };
        self.checkpoint.take(tenant.id, &taking)?;
        let days = plan.releases.iter().filter(|r| r.revision == 1).count();
        let report = PollReport {
            days,
            revisions: plan.releases.len() - days,
            refused: refused.len(),
            newest,
        };
        let PollReport { revisions, refused, .. } = report;
        tracing::info!(
            tenant = tenant.name,
            days,
            revisions,
            refused,
            newest = report.newest.map(tracing::field::display),
            "polled"
        );
        Ok(report)
    }

    fn plan(
        &self,
        tenant: &Tenant,
        seen: &[Seen],
        oldest: Day,
        today: Day,
    ) -> Result<ledger::Plan, CheckpointError> {
        let kept_days = self.checkpoint.kept_days(tenant.id)?;
        let newest_kept = kept_days.as_ref().map(|kept| *kept.end());
        // The newest day kept is the base of the next, however old it is.
        let from = newest_kept.map_or(oldest, |newest| newest.min(oldest));
        let kept = self.checkpoint.ledger(tenant.id, from)?;
        let earliest_kept = kept_days.as_ref().map(|kept| *kept.start());
        let asked = ledger::Asked { from: oldest, earliest_kept, newest_kept, today };
        Ok(ledger::plan(seen, &kept, asked))
    }

    fn note_failure(&self, tenant: &Tenant, error: &PollError) {
        let reason = chain(error).replace("\n  hint: ", "; ");
        tracing::warn!(tenant = tenant.name, error = reason, "the poll failed");
        let now = clock::now();
        let observation = Observation {
            what: What::PollFailed,
            subject: "poll".to_owned(),
            first_day: Day::of(now),
            phase: Phase::Begin,
            details: reason.clone(),
        };
        let noted = block_in_place(|| {
            self.checkpoint.poll_failed(tenant.id, now.as_millisecond(), &reason, &observation)
        });
        if let Err(error) = noted {
            tracing::warn!(error = chain(&error), "the failure could not be kept");
        }
    }
}

/// Reads both collections of a tenant.
pub(super) async fn read(
    state: &TenantState,
    tenant: &Tenant,
    oldest: Day,
    today: Day,
) -> Result<Answer, SourceError> {
    let mut answer =
        Answer { seen: Vec::new(), refused: Vec::new(), catalogue: Vec::new(), complete: false };
    // A page for the window; ten days a page when reading back, so that no body gets large.
    let top = if oldest < today.plus(1 - ledger::WINDOW) { 10 } else { 3 };
    state
        .graph
        .read(Collection::Scores { top }, |body| answer.scores_page(body, tenant, oldest, today))
        .await?;
    state.graph.read(Collection::Profiles, |body| answer.profiles_page(body)).await?;
    Ok(answer)
}

impl Answer {
    fn scores_page(
        &mut self,
        body: &[u8],
        tenant: &Tenant,
        oldest: Day,
        today: Day,
    ) -> Result<Next, SourceError> {
        let wire_error = |source| SourceError::Wire { what: "secureScores", source };
        let page = wire::page(body).map_err(wire_error)?;
        let mut reached = None;
        for item in &page.items {
            let read = wire::snapshot(item)
                .map_err(|error| ledger::unreadable(item, &chain(&error), today));
            match read.and_then(|snapshot| ledger::accept(&snapshot, item, tenant.id, today)) {
                Ok(seen) => {
                    reached = Some(seen.facts.day);
                    // A page may reach back further than was asked.
                    if seen.facts.day >= oldest {
                        self.seen.push(seen);
                    }
                }
                Err(refused) => {
                    tracing::warn!(
                        tenant = tenant.name,
                        what = refused.observation.what.as_str(),
                        details = refused.observation.details,
                        "a snapshot is refused"
                    );
                    self.refused.push(refused);
                }
            }
        }
        self.complete = reached.is_some_and(|day| day <= oldest) || page.next_link.is_none();
        match page.next_link {
            Some(link) if !self.complete => Ok(Next::Page(link.into_owned())),
            _ => Ok(Next::Enough),
        }
    }

    fn profiles_page(&mut self, body: &[u8]) -> Result<Next, SourceError> {
        let wire_error = |source| SourceError::Wire { what: "secureScoreControlProfiles", source };
        let page = wire::page(body).map_err(wire_error)?;
        for item in &page.items {
            self.catalogue.push(wire::split_profile(item).map_err(wire_error)?);
        }
        Ok(page.next_link.map_or(Next::Enough, |link| Next::Page(link.into_owned())))
    }
}
