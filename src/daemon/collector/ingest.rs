//! Compares snapshots with the log, and commits the result in one transaction.
//!
//! The sources of snapshots are polls, imports, and days that were held earlier. The ledger decides
//! what happens to each of them; this module collects the ledger's inputs and translates its plan
//! into a commit. Start reading at `Collector::ingest`.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;

use super::{
    CatalogRead, Collector, PollError, PollKind, PollReport, PollResponse, decode::SnapshotContext,
    not_before,
};
use crate::{
    checkpoint::{
        CatalogMember, CheckpointError, CommandId, EnrichedDay, EntryFlags, HeldDay, NewEntry,
        PollCommit, PollEnd,
    },
    clock,
    compressed::CompressedText,
    conditions::is_near_expiry,
    daemon::{TenantState, blocking},
    error::Explanation,
    foreign_text::{DocumentSecrets, SentSecrets},
    ledger::{
        self, AcceptedSnapshot, Holding, PollPlan, Rejected, Rejections, Release, SnapshotOrigin,
    },
    model::{
        DAYS_AT_SOURCE, Day, Observation, ObservationKind, ObservationSubject, Phase, Tenant,
        UnixMillis,
    },
    source::expires_soon,
    wire,
};

/// Snapshots to ingest, and what is known about the poll that read them. The default has no
/// snapshots and no poll.
#[derive(Default)]
struct Ingest<'a> {
    snapshots: Vec<AcceptedSnapshot>,
    /// Empty for an import, which only logs them.
    rejected: Rejections,
    catalog: &'a [wire::ProfileParts],
    is_catalog_complete: bool,
    /// The first day that was requested; `None` without a poll.
    requested_from: Option<Day>,
    /// The oldest day of a backfill that has been read completely.
    polled_back_to: Option<Day>,
    observations: Vec<Observation>,
    /// When the credential expires, if that is soon.
    credential_expiry: Option<UnixMillis>,
    /// The outcome of the poll, with the reason if it was incomplete; `None` without a poll.
    end: Option<Result<(), Explanation>>,
    /// From the server's `Retry-After`: no request before this time.
    not_before: Option<UnixMillis>,
    /// The queued import that is completed.
    finished: Option<CommandId>,
}

impl Collector {
    /// Ingests the response of a poll that requested all days back to `oldest`. Fails, and stores
    /// nothing, if the checkpoint cannot be read or written.
    pub(in crate::daemon) fn ingest_response(
        &self,
        state: &TenantState,
        tenant: &Tenant,
        mut response: PollResponse,
        oldest: Day,
        kind: PollKind,
    ) -> Result<PollReport, CheckpointError> {
        let now = clock::now();
        let about_catalog = response.check_catalog(Day::of(now), &state.graph.sent_secrets());
        let PollResponse {
            mut snapshots, mut rejected, catalog, complete, warning, failure, ..
        } = response;

        let catalog_error = match &catalog {
            CatalogRead::Failed(error) => {
                Some(Explanation::of(error).within("cannot read the catalog"))
            }
            _ => None,
        };
        let partial = warning.map(|warning| {
            Explanation::new(format!("Microsoft returned a partial response: {warning}"))
        });
        let refused = failure.as_ref().map(Explanation::of);
        let end = refused.clone().or(partial).or(catalog_error.clone()).map_or(Ok(()), Err);
        // Nothing is known about the days before those that were read.
        let oldest_read = snapshots.first().map(|snapshot| snapshot.facts.day);
        let requested_from = oldest_read.filter(|_| failure.is_some()).unwrap_or(oldest);
        self.reject_emptied(tenant, &mut snapshots, &mut rejected, Day::of(now))?;

        // A response that is empty, or has a rejected snapshot without a day, does not complete a
        // backfill.
        let all_named = !rejected.has_unnamed();
        let is_backfilled =
            kind == PollKind::Backfill && complete && !snapshots.is_empty() && all_named;

        let expires = expires_soon(state.graph.access().credential.as_ref(), now);
        let (what, about) = (ObservationKind::CatalogStale, ObservationSubject::Catalog);
        let mut observations = vec![
            condition(what, about, catalog_error.as_ref(), now),
            credential_condition(expires, tenant, now),
        ];
        observations.extend(about_catalog);
        observations.extend(rejected.observations(Day::of(now)));
        if let (Some(error), Some(reason)) = (&failure, &refused) {
            observations.push(Observation::of_failed_poll(error.class(), Day::of(now), reason));
        }
        if end.is_ok() {
            observations.extend(
                ObservationSubject::OF_FAILED_POLLS
                    .map(|subject| condition(ObservationKind::PollFailed, subject, None, now)),
            );
        }

        let parts = match &catalog {
            CatalogRead::Complete(parts) => parts.as_slice(),
            _ => &[],
        };
        let ingest = Ingest {
            snapshots,
            rejected,
            catalog: parts,
            is_catalog_complete: catalog_error.is_none(),
            requested_from: Some(requested_from),
            polled_back_to: is_backfilled.then_some(oldest),
            observations,
            credential_expiry: expires.map(Into::into),
            end: Some(end),
            not_before: not_before(state, now),
            finished: None,
        };
        self.ingest(tenant, ingest, now)
    }

    /// Releases days that have been held for `partial_hold`, although no new response has arrived.
    /// Fails if the checkpoint cannot be read or written.
    pub(super) fn release_held(&self, tenant: &Tenant) -> Result<(), CheckpointError> {
        let now = clock::now();
        let limit = self.configuration.partial_hold;
        // The clock was ahead when a day in the future was held, so its time is over.
        let is_overdue = |held: &HeldDay| {
            let since = held.since.known_past(now.into());
            since.is_none_or(|since| since.saturating_add(limit) <= UnixMillis::from(now))
        };
        if self.store.checkpoint().held_days(tenant.id)?.iter().any(is_overdue) {
            self.ingest(tenant, Ingest::default(), now)?;
        }
        Ok(())
    }

    /// Ingests the snapshots of a queued import, one JSON document each, and completes it. Days
    /// that are already stored do not change.
    ///
    /// Fails, and stores nothing, if the checkpoint cannot be read or written. A document that
    /// cannot be decoded or accepted is counted in [`PollReport::rejected`] instead.
    pub(super) fn import_items(
        &self,
        tenant: &Tenant,
        items: &[&str],
        import: CommandId,
    ) -> Result<PollReport, PollError> {
        let now = clock::now();
        let today = Day::of(now);

        let (mut snapshots, mut rejected) = (Vec::new(), Rejections::default());
        // A file of the operator repeats no request.
        let (secrets, origin) = (SentSecrets::default(), SnapshotOrigin::Import);
        let secrets = &DocumentSecrets::new(&secrets);
        let (id, observed_at) = (tenant.id, now.into());
        let context = SnapshotContext { tenant: id, today, origin, observed_at, secrets };
        for item in items {
            match context.accept(item) {
                Ok(snapshot) => snapshots.push(snapshot),
                // A fault in a saved file is not an observation about the tenant: it is only
                // logged.
                Err(error) => {
                    if let Some(error) = rejected.push(error) {
                        let details = &error.observation.details;
                        tracing::warn!(tenant = tenant.name, details, "snapshot rejected");
                    }
                }
            }
        }

        let finished = Some(import);
        let report = blocking(|| {
            self.reject_emptied(tenant, &mut snapshots, &mut rejected, today)?;
            let ingest =
                Ingest { snapshots, is_catalog_complete: true, finished, ..Ingest::default() };
            self.ingest(tenant, ingest, now)
        })?;
        Ok(PollReport { rejected: rejected.count(), ..report })
    }

    /// Rejects and logs the days whose list of controls is empty although an earlier day has
    /// controls. Fails if the checkpoint cannot be read.
    fn reject_emptied(
        &self,
        tenant: &Tenant,
        snapshots: &mut Vec<AcceptedSnapshot>,
        rejected: &mut Rejections,
        today: Day,
    ) -> Result<(), CheckpointError> {
        let empty = snapshots.iter().filter(|snapshot| snapshot.facts.controls.is_empty());
        let Some(first) = empty.map(|snapshot| snapshot.facts.day).min() else { return Ok(()) };

        let newest = self.store.checkpoint().newest_day(tenant.id)?;
        let from = newest.map_or(first, |newest| newest.min(first)).plus(-DAYS_AT_SOURCE);
        let kept = self.store.checkpoint().stored_days(tenant.id, from)?;
        for emptied in ledger::reject_emptied(snapshots, &kept, today) {
            if let Some(Rejected { observation, .. }) = rejected.push(emptied) {
                let details = &observation.details;
                tracing::warn!(tenant = tenant.name, details, "snapshot rejected");
            }
        }
        Ok(())
    }

    /// Plans and commits. Held days are considered again by every call.
    fn ingest(
        &self,
        tenant: &Tenant,
        mut ingest: Ingest<'_>,
        now: Timestamp,
    ) -> Result<PollReport, CheckpointError> {
        let today = Day::of(now);
        let held = self.store.checkpoint().held_days(tenant.id)?;
        let holding = Holding {
            catalog_complete: ingest.is_catalog_complete,
            since: held.iter().map(|held| (held.day, held.since)).collect(),
            now: now.into(),
            limit: self.configuration.partial_hold,
        };
        ingest.snapshots.extend(self.held_copies(tenant, &held, &ingest.snapshots, today));
        let plan = self.plan(tenant, &ingest, &holding, today)?;

        let newest_kept = self.store.checkpoint().newest_day(tenant.id)?;
        let newest = ingest.snapshots.iter().map(|s| s.facts.day).chain(newest_kept).max();
        let mut observations =
            ledger::observations(&ingest.snapshots, &plan, &ingest.rejected, newest, today);
        observations.append(&mut ingest.observations);

        let commit = PollCommit {
            observed_at: now.into(),
            entries: plan.releases.iter().map(|r| entry(r, &ingest.snapshots[r.index])).collect(),
            enriched: plan
                .enriched
                .iter()
                .map(|(i, r)| enriched(*r, &ingest.snapshots[*i]))
                .collect(),
            held: newly_held(&plan, &ingest.snapshots),
            catalog: ingest
                .catalog
                .iter()
                .map(|p| CatalogMember { shared: &p.shared, decisions: &p.decisions })
                .collect(),
            observations,
            credential_expiry: ingest.credential_expiry,
            requested_from: ingest.requested_from,
            missing: missing(&plan, &ingest),
            no_longer_missing: plan.settled.clone(),
            polled_back_to: ingest.polled_back_to,
            finished: ingest.finished,
            end: match &ingest.end {
                None => PollEnd::NoPoll,
                Some(Ok(())) => PollEnd::Complete,
                Some(Err(reason)) => {
                    PollEnd::Incomplete { reason: reason.clone(), not_before: ingest.not_before }
                }
            },
        };

        self.log.notify(self.store.checkpoint().commit_poll(tenant.id, &commit)?);
        log_faults(tenant, &plan, &ingest.snapshots);

        let days = plan.releases.iter().filter(|r| r.revision == 1).count();
        let released = plan.releases.iter().map(|r| ingest.snapshots[r.index].facts.day);
        Ok(PollReport {
            days,
            revisions: plan.releases.len() - days,
            rejected: ingest.rejected.count(),
            held: plan.held.len(),
            newest: released.chain(newest_kept).max(),
            incomplete: ingest.end.and_then(Result::err),
            clock: None,
        })
    }

    /// The days that earlier polls held, except those with a new copy in `snapshots`.
    fn held_copies(
        &self,
        tenant: &Tenant,
        held: &[HeldDay],
        snapshots: &[AcceptedSnapshot],
        today: Day,
    ) -> Vec<AcceptedSnapshot> {
        if held.is_empty() {
            return Vec::new();
        }
        let secrets = self.sent_secrets(tenant);
        let secrets = &DocumentSecrets::new(&secrets);
        let read_again: HashSet<Day> =
            snapshots.iter().map(|snapshot| snapshot.facts.day).collect();

        held.iter()
            .filter(|held| !read_again.contains(&held.day))
            .filter_map(|held| {
                let (tenant, observed_at) = (tenant.id, held.observed_at);
                let origin = SnapshotOrigin::Held;
                let context = SnapshotContext { tenant, today, origin, observed_at, secrets };
                // Cannot fail: the snapshot was accepted before it was held.
                context.accept(&held.body).ok()
            })
            .collect()
    }

    /// The secrets that were sent for a tenant since the start of the process.
    fn sent_secrets(&self, tenant: &Tenant) -> SentSecrets {
        let is_tenant =
            |state: &&Arc<TenantState>| state.resolved().is_some_and(|t| t.id == tenant.id);
        let state = self.tenants.iter().find(is_tenant);
        state.map(|state| state.graph.sent_secrets()).unwrap_or_default()
    }

    /// Collects the stored days that the ledger needs, and calls it.
    fn plan(
        &self,
        tenant: &Tenant,
        ingest: &Ingest<'_>,
        holding: &Holding,
        today: Day,
    ) -> Result<PollPlan, CheckpointError> {
        let kept_days = self.store.checkpoint().stored_day_range(tenant.id)?;
        let earliest_kept = kept_days.as_ref().map(|kept| *kept.start());
        let newest_kept = kept_days.as_ref().map(|kept| *kept.end());
        let newest_complete = self.store.checkpoint().newest_complete_day(tenant.id)?;

        // The newest stored day is included because it is the next base, however old it is.
        let from = ingest.requested_from;
        let first_read = ingest.snapshots.iter().map(|s| s.facts.day).min();
        let first = [from, first_read, newest_kept].into_iter().flatten().min();
        let kept = self.store.checkpoint().stored_days(tenant.id, first.unwrap_or(today))?;

        let scope = ledger::PollScope { from, earliest_kept, newest_kept, newest_complete, today };
        Ok(ledger::plan(&ingest.snapshots, &kept, scope, holding))
    }
}

fn entry<'a>(release: &Release, snapshot: &'a AcceptedSnapshot) -> NewEntry<'a> {
    let Release { revision, base, late, backfilled, partial, .. } = *release;
    let imported = snapshot.origin == SnapshotOrigin::Import;
    NewEntry {
        snapshot_id: &snapshot.snapshot_id,
        revision,
        facts: &snapshot.facts,
        body: &snapshot.body,
        observed_at: snapshot.observed_at,
        base,
        flags: EntryFlags { late, backfilled, partial, imported },
    }
}

fn enriched(revision: u32, snapshot: &AcceptedSnapshot) -> EnrichedDay<'_> {
    EnrichedDay { revision, facts: &snapshot.facts, body: &snapshot.body }
}

/// The copies that the plan holds and that are not stored as held yet.
fn newly_held<'a>(
    plan: &PollPlan,
    snapshots: &'a [AcceptedSnapshot],
) -> Vec<(Day, &'a CompressedText)> {
    let held = plan.held.iter().map(|index| &snapshots[*index]);
    held.filter(|s| s.origin != SnapshotOrigin::Held).map(|s| (s.facts.day, &s.body)).collect()
}

/// The requested days that must be requested again: not listed, rejected, or partial.
fn missing(plan: &PollPlan, ingest: &Ingest<'_>) -> Vec<Day> {
    let Some(from) = ingest.requested_from else { return Vec::new() };

    let rejected = ingest.rejected.days();
    let candidates = plan.missing.iter().chain(&plan.unfinished).copied().chain(rejected);

    let complete = plan.releases.iter().filter(|release| !release.partial);
    let complete = complete.map(|release| ingest.snapshots[release.index].facts.day);
    let received: HashSet<Day> = complete.chain(plan.settled.iter().copied()).collect();

    candidates.filter(|day| *day >= from && !received.contains(day)).collect()
}

/// Logs what is wrong with the days that were released.
fn log_faults(tenant: &Tenant, plan: &PollPlan, snapshots: &[AcceptedSnapshot]) {
    let released = plan.releases.iter().map(|release| &snapshots[release.index]);
    for snapshot in released.filter(|snapshot| !snapshot.faults.is_empty()) {
        let details = snapshot.faults.to_string();
        tracing::warn!(
            tenant = tenant.name,
            day = %snapshot.facts.day,
            details,
            "the scores of a day contain faults"
        );
    }
}

/// The observation of a condition of the tenant. It begins if there is an error, and ends if there
/// is none.
fn condition(
    what: ObservationKind,
    subject: ObservationSubject,
    error: Option<&Explanation>,
    now: Timestamp,
) -> Observation {
    let phase = if error.is_some() { Phase::Begin } else { Phase::End };
    let recovered = || Explanation::new("recovered");
    let Explanation { message, hint } = error.map_or_else(recovered, Explanation::without_paths);
    Observation { what, subject, first_day: Day::of(now), phase, details: message, hint }
}

/// The observation about a credential that expires soon, which is also logged with every poll.
/// `expires` is `None` for any other credential.
fn credential_condition(
    expires: Option<Timestamp>,
    tenant: &Tenant,
    now: Timestamp,
) -> Observation {
    let details = expires.map(|expires| {
        Explanation::new(format!("the credential is valid until `{expires}`"))
            .with_hint("add a new secret or certificate to the app registration, and configure it")
    });

    if let Some(Explanation { message: details, hint }) = &details {
        let is_near = expires.is_some_and(|end| is_near_expiry(Day::of(end), Day::of(now)));
        if is_near {
            tracing::error!(
                tenant = tenant.name,
                details,
                hint,
                "the credential expires within 7 days"
            );
        } else {
            tracing::warn!(
                tenant = tenant.name,
                details,
                hint,
                "the credential expires within 30 days"
            );
        }
    }
    let (what, subject) = (ObservationKind::CredentialExpiring, ObservationSubject::Credential);
    condition(what, subject, details.as_ref(), now)
}
