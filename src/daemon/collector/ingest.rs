//! What was read, judged against the log and committed.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{CatalogRead, PollAnswer, PollError, PollReport, not_before};
use crate::{
    checkpoint::{
        CatalogMember, CheckpointError, Enriched, EntryFlags, HeldDay, NewEntry, PollCommit,
        PollEnd,
    },
    clock,
    daemon::{Engine, TenantState},
    error::{Explanation, chain},
    ledger::{self, Holding, Origin, Plan, Refused, Release, Seen},
    model::{Day, Observation, Phase, Tenant, What},
    source::expires_soon,
    wire,
};

/// What is to be judged: days from wherever, and what is known of how they were come by.
#[derive(Default)]
struct Case<'a> {
    seen: Vec<Seen>,
    refused: &'a [Refused],
    catalog: &'a [wire::ProfileParts],
    catalog_whole: bool,
    /// The poll listed every day from this one on.
    asked_from: Option<Day>,
    polled_back_to: Option<Day>,
    observations: Vec<Observation>,
    /// Why a poll was not complete; `None` if nobody was asked.
    end: Option<Result<(), Explanation>>,
    not_before_ms: Option<i64>,
}

impl Engine {
    /// Takes the answer of a poll.
    pub(super) fn ingest_answer(
        &self,
        state: &TenantState,
        tenant: &Tenant,
        answer: PollAnswer,
        oldest: Day,
        reaches_back: bool,
    ) -> Result<PollReport, CheckpointError> {
        let PollAnswer { seen, refused, catalog, complete, warning } = answer;
        let now = clock::now();
        let failed = match &catalog {
            CatalogRead::Failed(error) => Some(Explanation::of(error).within("the catalog")),
            _ => None,
        };
        let missing = warning
            .map(|w| Explanation::new(format!("part of the answer is missing at Microsoft: {w}")));
        // An answer with nothing in it, or with days nobody can name, does not end a backfill.
        let all_named = refused.iter().all(|refused| refused.day.is_some());
        let reached = reaches_back && complete && !seen.is_empty() && all_named;
        let mut observations = vec![
            noticed(What::CatalogStale, failed.as_ref(), now),
            credential_notice(state, tenant, now),
        ];
        let end = missing.or(failed.clone()).map_or(Ok(()), Err);
        if end.is_ok() {
            observations.push(noticed(What::PollFailed, None, now));
        }
        let catalog_whole = failed.is_none();
        let parts = match &catalog {
            CatalogRead::Whole(parts) => parts.as_slice(),
            _ => &[],
        };
        let case = Case {
            seen,
            refused: &refused,
            catalog: parts,
            catalog_whole,
            asked_from: Some(oldest),
            polled_back_to: reached.then_some(oldest),
            observations,
            end: Some(end),
            not_before_ms: not_before(state, now),
        };
        self.ingest(tenant, case, now)
    }

    /// Releases days that have been held for long enough, when no answer can be had.
    pub(super) fn release_held(&self, tenant: &Tenant) -> Result<(), CheckpointError> {
        let now = clock::now();
        let limit = i64::try_from(self.configuration.partial_hold.as_millis()).unwrap_or(i64::MAX);
        let overdue = |held: &HeldDay| now.as_millisecond() - held.since_ms >= limit;
        if self.checkpoint.held(tenant.id)?.iter().any(overdue) {
            self.ingest(tenant, Case::default(), now)?;
            self.notify_log_grown();
        }
        Ok(())
    }

    /// Takes answers that somebody saved. Days already kept are not changed by them.
    pub fn import(&self, tenant: &Tenant, items: &[&str]) -> Result<PollReport, PollError> {
        let now = clock::now();
        let today = Day::of(now);
        let (mut seen, mut refused) = (Vec::new(), Vec::new());
        for item in items {
            let read = wire::snapshot(item)
                .map_err(|error| ledger::unreadable(item, &chain(&error), today));
            let accepted = read.and_then(|snapshot| {
                let origin = Origin::Import;
                ledger::accept(&snapshot, item, tenant.id, today, origin, now.as_millisecond())
            });
            match accepted {
                Ok(day) => seen.push(day),
                Err(no) => refused.push(no),
            }
        }
        // What is not believed in a saved file is no news about the tenant: it is said, not noted.
        for no in &refused {
            tracing::warn!(
                tenant = tenant.name,
                details = no.observation.details,
                "a snapshot is refused"
            );
        }
        let case = Case { seen, catalog_whole: true, ..Case::default() };
        let report = tokio::task::block_in_place(|| self.ingest(tenant, case, now))?;
        self.notify_log_grown();
        Ok(PollReport { rejected: refused.len(), ..report })
    }

    fn ingest(
        &self,
        tenant: &Tenant,
        mut case: Case<'_>,
        now: Timestamp,
    ) -> Result<PollReport, CheckpointError> {
        let held = self.checkpoint.held(tenant.id)?;
        let holding = Holding {
            catalog_whole: case.catalog_whole,
            since: held.iter().map(|held| (held.day, held.since_ms)).collect(),
            now_ms: now.as_millisecond(),
            limit_ms: i64::try_from(self.configuration.partial_hold.as_millis())
                .unwrap_or(i64::MAX),
        };
        case.seen.extend(held_copies(tenant, &held, &case.seen, Day::of(now)));
        let plan = self.plan(tenant, &case, &holding, Day::of(now))?;
        let newest_kept = self.checkpoint.newest_day(tenant.id)?;
        let newest = case.seen.iter().map(|s| s.facts.day).chain(newest_kept).max();
        let mut observations = ledger::observations(&case.seen, &plan, newest, Day::of(now));
        observations.append(&mut case.observations);
        observations.extend(case.refused.iter().map(|refused| refused.observation.clone()));
        let commit = PollCommit {
            observed_ms: now.as_millisecond(),
            entries: plan.releases.iter().map(|r| entry(r, &case.seen[r.index])).collect(),
            enriched: plan.enriched.iter().map(|(i, r)| enriched(*r, &case.seen[*i])).collect(),
            held: newly_held(&plan, &case.seen),
            catalog: case
                .catalog
                .iter()
                .map(|p| CatalogMember { shared: &p.shared, decisions: &p.decisions })
                .collect(),
            observations,
            asked_from: case.asked_from,
            missing: missing(&plan, &case),
            settled: plan.settled.clone(),
            polled_back_to: case.polled_back_to,
            end: match &case.end {
                None => PollEnd::NoPoll,
                Some(Ok(())) => PollEnd::Complete,
                Some(Err(reason)) => PollEnd::Incomplete {
                    reason: reason.clone(),
                    not_before_ms: case.not_before_ms,
                },
            },
        };
        self.checkpoint.commit_poll(tenant.id, &commit)?;
        let days = plan.releases.iter().filter(|r| r.revision == 1).count();
        Ok(PollReport {
            days,
            revisions: plan.releases.len() - days,
            rejected: case.refused.len(),
            held: plan.held.len(),
            newest: plan
                .releases
                .iter()
                .map(|r| case.seen[r.index].facts.day)
                .chain(newest_kept)
                .max(),
            incomplete: case.end.and_then(Result::err),
        })
    }

    fn plan(
        &self,
        tenant: &Tenant,
        case: &Case<'_>,
        holding: &Holding,
        today: Day,
    ) -> Result<Plan, CheckpointError> {
        let kept_days = self.checkpoint.kept_days(tenant.id)?;
        let newest_kept = kept_days.as_ref().map(|kept| *kept.end());
        let newest_whole = self.checkpoint.newest_whole(tenant.id)?;
        // The newest day kept is the base of the next, however old it is.
        let first_seen = case.seen.iter().map(|s| s.facts.day).min();
        let from = [case.asked_from, first_seen, newest_kept].into_iter().flatten().min();
        let kept = self.checkpoint.ledger(tenant.id, from.unwrap_or(today))?;
        let earliest_kept = kept_days.as_ref().map(|kept| *kept.start());
        let from = case.asked_from;
        let asked = ledger::Asked { from, earliest_kept, newest_kept, newest_whole, today };
        Ok(ledger::plan(&case.seen, &kept, asked, holding))
    }
}

/// Days held from earlier polls, unless a fresh copy has come.
fn held_copies(tenant: &Tenant, held: &[HeldDay], seen: &[Seen], today: Day) -> Vec<Seen> {
    let fresh: HashSet<Day> = seen.iter().map(|seen| seen.facts.day).collect();
    let held = held.iter().filter(|held| !fresh.contains(&held.day));
    held.filter_map(|held| {
        let snapshot = wire::snapshot(&held.body).ok()?;
        let (body, at) = (&held.body, held.observed_ms);
        // It was accepted when it was taken.
        ledger::accept(&snapshot, body, tenant.id, today, Origin::Held, at).ok()
    })
    .collect()
}

fn entry<'a>(release: &Release, seen: &'a Seen) -> NewEntry<'a> {
    let Release { revision, base, late, backfilled, partial, .. } = *release;
    let imported = seen.origin == Origin::Import;
    NewEntry {
        snapshot_id: &seen.snapshot_id,
        revision,
        facts: &seen.facts,
        body: &seen.body,
        observed_ms: seen.observed_ms,
        base,
        flags: EntryFlags { late, backfilled, partial, imported },
    }
}

fn enriched(revision: u32, seen: &Seen) -> Enriched<'_> {
    Enriched { revision, facts: &seen.facts, body: &seen.body }
}

/// Copies to be held that are not held already.
fn newly_held<'a>(plan: &Plan, seen: &'a [Seen]) -> Vec<(Day, &'a crate::packed::Packed)> {
    let held = plan.held.iter().map(|index| &seen[*index]);
    held.filter(|s| s.origin != Origin::Held).map(|s| (s.facts.day, &s.body)).collect()
}

/// Days that are asked for again: not listed, not believed, or not whole.
fn missing(plan: &Plan, case: &Case<'_>) -> Vec<Day> {
    let Some(from) = case.asked_from else { return Vec::new() };
    let refused = case.refused.iter().filter_map(|refused| refused.day);
    let days = plan.missing.iter().chain(&plan.unfinished).copied().chain(refused);
    let whole = plan.releases.iter().filter(|r| !r.partial).map(|r| case.seen[r.index].facts.day);
    let had: HashSet<Day> = whole.chain(plan.settled.iter().copied()).collect();
    days.filter(|day| *day >= from && !had.contains(day)).collect()
}

fn noticed(what: What, begun: Option<&Explanation>, now: Timestamp) -> Observation {
    Observation {
        what,
        subject: match what {
            What::CatalogStale => "catalog",
            What::CredentialExpiring => "credential",
            _ => "poll",
        }
        .to_owned(),
        first_day: Day::of(now),
        phase: if begun.is_some() { Phase::Begin } else { Phase::End },
        details: begun.map_or("recovered", |begun| &begun.message).to_owned(),
        hint: begun.and_then(|begun| begun.hint.clone()),
    }
}

/// A certificate that ends so soon wants a person.
const ERROR_BEFORE_END: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

fn credential_notice(state: &TenantState, tenant: &Tenant, now: Timestamp) -> Observation {
    let end = expires_soon(state.graph.access().credential.as_ref(), now);
    let details = end.map(|end| Explanation::new(format!("the certificate is valid until {end}")));
    if let Some(Explanation { message: details, .. }) = &details {
        let near = end.is_some_and(|end| end.duration_since(now) < ERROR_BEFORE_END);
        if near {
            tracing::error!(tenant = tenant.name, details, "a new certificate is wanted now");
        } else {
            tracing::warn!(tenant = tenant.name, details, "a new certificate is wanted soon");
        }
    }
    noticed(What::CredentialExpiring, details.as_ref(), now)
}
