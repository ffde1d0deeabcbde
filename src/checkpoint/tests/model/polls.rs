//! The polls of the model, and what operators do with the data of a tenant.

use super::*;
use crate::{
    ledger::{Completeness, OpenCondition, OpenConditions, RequestedDays, after_poll},
    model::day_hash,
};

impl Model {
    pub(super) fn commit(
        &mut self,
        id: TenantId,
        commit: &PollCommit<'_>,
    ) -> Result<LogGrowth, Refusal> {
        let stored = self.tenant(id).into_iter().flat_map(ModelTenant::snapshots);
        let mut revisions: BTreeSet<(Day, u32)> =
            stored.map(|(_, snapshot)| (snapshot.facts.day, snapshot.revision)).collect();
        if !commit.entries.iter().all(|new| revisions.insert((new.facts.day, new.revision))) {
            return Err(Refusal::DuplicateRevision);
        }

        let tenant = self.tenant_mut(id);
        let catalog = tenant.store_catalog(&commit.catalog);
        for enriched in &commit.enriched {
            tenant.enrich(enriched);
        }
        for entry in &commit.entries {
            tenant.append(entry, catalog);
        }
        for (day, body) in &commit.held {
            tenant.hold(*day, body, commit.observed_at);
        }

        let observed = tenant.observe(&commit.observations, commit.observed_at);
        tenant.set_credential_expiry(commit.credential_expiry);
        tenant.update_missing(commit);
        tenant.end_poll(commit);
        self.finish_commands(id, commit);
        if commit.end != PollEnd::NoPoll {
            self.running.remove(&id);
        }
        Ok(if commit.entries.is_empty() { observed } else { LogGrowth::Grown })
    }

    pub(super) fn fail_poll(&mut self, id: TenantId, failure: &PollFailure<'_>) -> LogGrowth {
        let PollFailure { at, reason, class, observation, not_before } = *failure;
        let tenant = self.tenant_mut(id);
        tenant.last_error = Some((reason.clone(), class));
        tenant.failing_since = tenant.failing_since.or(Some(at));
        if !class.is_local() {
            tenant.count_failure(at, not_before);
        }

        let growth = tenant.observe(std::slice::from_ref(observation), at);
        self.running.remove(&id);
        growth
    }

    /// Returns the `seq` of the first entry with the baseline.
    pub(super) fn set_baseline(&mut self, id: TenantId, baseline: &Baseline) -> Seq {
        let tenant = self.tenant_mut(id);
        let since = tenant.next_seq();
        tenant.baselines.retain(|earlier| earlier.since != since);
        tenant.baselines.push(Baseline { since, ..baseline.clone() });
        since
    }

    /// Returns the number of pruned bodies.
    pub(super) fn prune(&mut self, before: Day, max_size: Option<u64>, today: Day) -> u64 {
        let first_kept = today.plus(-KEPT_DAYS);
        // A database is never so small, and never exceeds any other limit of a call.
        let end = if max_size == Some(0) { first_kept } else { before.min(first_kept) };

        let mut pruned = Vec::new();
        for tenant in &self.tenants {
            for (seq, snapshot) in tenant.snapshots() {
                let day = snapshot.facts.day;
                if snapshot.body.is_some() && day < end && !self.needs_body(tenant.id, seq, day) {
                    pruned.push((tenant.id, seq));
                }
            }
        }

        for (id, seq) in &pruned {
            let mut snapshots = self.tenant_mut(*id).snapshots_mut();
            let (_, snapshot) = snapshots.find(|(other, _)| other == seq).unwrap();
            snapshot.body = None;
        }
        pruned.len() as u64
    }

    /// Whether a sink, a replay or a dead letter still needs the body of an entry.
    fn needs_body(&self, tenant: TenantId, seq: Seq, day: Day) -> bool {
        let mut cursors = self.sinks.iter().filter_map(|sink| sink.cursors.get(&tenant));
        let mut replays = self.replays.iter().filter_map(|replay| replay.cursors.get(&tenant));
        cursors.any(|cursor| cursor.is_active && cursor.at.seq <= seq && cursor.floor <= day)
            || replays.any(|replay| (replay.at.seq..=replay.last_seq).contains(&seq))
            || self.letters.iter().any(|letter| letter.tenant == tenant && letter.at.seq == seq)
    }

    pub(super) fn forget(&mut self, id: TenantId, now: UnixMillis) -> Option<ErasureReceipt> {
        let Some(index) = self.tenants.iter().position(|tenant| tenant.id == id) else {
            return self.forget_named(id, now);
        };
        let erased = self.tenants.remove(index);

        let letters = self.letters.len();
        self.letters.retain(|letter| letter.tenant != id);
        for sink in &mut self.sinks {
            sink.cursors.remove(&id);
        }
        for replay in &mut self.replays {
            replay.cursors.remove(&id);
        }
        self.replays.retain(|replay| !replay.cursors.is_empty());
        self.imports.retain(|import| import.tenant != id);
        self.running.remove(&id);
        self.domains.retain(|_, tenant| *tenant != id);
        self.forget_cursors(id);

        let days: Vec<Day> = erased.snapshots().map(|(_, snapshot)| snapshot.facts.day).collect();
        Some(ErasureReceipt {
            tenant: id,
            checkpoint_id: self.id.clone(),
            erased_at: now,
            snapshots: days.len() as u64,
            observations: (erased.log.len() - days.len()) as u64,
            catalogs: erased.catalogs.len() as u64,
            profiles: self.profiles_only_of(&erased),
            dead_letters: (letters - self.letters.len()) as u64,
            first_day: days.iter().min().copied(),
            last_day: days.iter().max().copied(),
        })
    }

    /// Forgets a tenant without data, which a running poll, a domain or a lost cursor can name.
    fn forget_named(&mut self, id: TenantId, now: UnixMillis) -> Option<ErasureReceipt> {
        let tenant = id.to_string();
        let (is_running, domains) = (self.running.remove(&id), self.domains.len());
        self.domains.retain(|_, tenant| *tenant != id);
        if !is_running && self.domains.len() == domains && !self.saved.contains(&tenant) {
            return None;
        }

        self.forget_cursors(id);
        let checkpoint_id = self.id.clone();
        Some(ErasureReceipt { checkpoint_id, erased_at: now, ..ErasureReceipt::empty(id) })
    }

    /// Removes the cursors of a tenant from the second cursor file, which an erasure writes.
    fn forget_cursors(&mut self, id: TenantId) {
        self.saved.forget(&id.to_string());
        self.file = self.cursor_file();
        self.outdated = None;
    }

    /// The number of profiles of an erased tenant that no other tenant uses.
    fn profiles_only_of(&self, erased: &ModelTenant) -> u64 {
        let profiles = |tenant: &ModelTenant| -> BTreeSet<String> {
            tenant.catalogs.iter().flat_map(BTreeMap::keys).cloned().collect()
        };
        let kept: BTreeSet<String> = self.tenants.iter().flat_map(profiles).collect();
        profiles(erased).difference(&kept).count() as u64
    }
}

impl ModelTenant {
    /// Appends the observations that begin or end something.
    pub(super) fn observe(&mut self, observed: &[Observation], at: UnixMillis) -> LogGrowth {
        let before = self.log.len();
        let mut conditions = OpenConditions::new(self.open.iter().map(open_condition).collect());
        for change in observed.iter().flat_map(|observation| conditions.observe(observation)) {
            match change.phase {
                Phase::Begin => {
                    let begin = change.clone();
                    self.open.push(ModelCondition { begin, since: at, expires: None });
                }
                Phase::End => self.open.retain(|open| {
                    (open.begin.what, &open.begin.subject) != (change.what, &change.subject)
                }),
            }
            self.log.push(ModelEntry::Observation(change, at));
        }
        if self.log.len() > before { LogGrowth::Grown } else { LogGrowth::Unchanged }
    }

    /// The open observation about the dead letters of a sink.
    pub(super) fn dead_letter_condition(&mut self, sink: &SinkName) -> Option<&mut ModelCondition> {
        self.open.iter_mut().find(|open| open.begin.subject.is_sink(sink))
    }

    /// Returns the index of the newest version.
    fn store_catalog(&mut self, members: &[CatalogMember<'_>]) -> Option<usize> {
        let members: Members = members
            .iter()
            .map(|member| (member.shared.to_owned(), member.decisions.to_owned()))
            .collect();
        if !members.is_empty() && self.catalogs.last() != Some(&members) {
            self.catalogs.push(members);
        }
        self.catalogs.len().checked_sub(1)
    }

    /// Replaces a snapshot, unless it is not stored or its facts have another hash.
    fn enrich(&mut self, enriched: &EnrichedDay<'_>) {
        let key = (enriched.facts.day, enriched.revision);
        let mut snapshots = self.snapshots_mut();
        let stored = snapshots.find(|(_, old)| (old.facts.day, old.revision) == key);
        let Some((_, stored)) = stored else { return };
        if day_hash(&stored.facts) != day_hash(enriched.facts) {
            return;
        }
        stored.facts = enriched.facts.clone();
        stored.body = Some(enriched.body.decompress().unwrap());
    }

    fn append(&mut self, entry: &NewEntry<'_>, catalog: Option<usize>) {
        self.held.remove(&entry.facts.day);
        self.log.push(ModelEntry::Snapshot(Box::new(ModelSnapshot {
            snapshot_id: entry.snapshot_id.to_owned(),
            revision: entry.revision,
            facts: entry.facts.clone(),
            body: Some(entry.body.decompress().unwrap()),
            observed_at: entry.observed_at,
            base: entry.base,
            flags: entry.flags,
            catalog,
        })));
    }

    fn hold(&mut self, day: Day, body: &CompressedText, observed_at: UnixMillis) {
        let since = self.held.get(&day).map_or(observed_at, |held| held.since.min(observed_at));
        let body = body.decompress().unwrap();
        self.held.insert(day, HeldDay { day, since, observed_at, body });
    }

    fn set_credential_expiry(&mut self, expiry: Option<UnixMillis>) {
        for open in &mut self.open {
            if open.begin.what == ObservationKind::CredentialExpiring {
                open.expires = expiry.or(open.expires);
            }
        }
    }

    fn update_missing(&mut self, commit: &PollCommit<'_>) {
        let released: Vec<(Day, Completeness)> = commit
            .entries
            .iter()
            .map(|entry| {
                let partial = Completeness::Partial;
                (
                    entry.facts.day,
                    if entry.flags.partial { partial } else { Completeness::Complete },
                )
            })
            .collect();
        let requested = RequestedDays {
            released: &released,
            found: &commit.no_longer_missing,
            missing: &commit.missing,
            requested_from: commit.requested_from,
            at: commit.observed_at,
        };
        self.missing = after_poll(&self.missing, &requested);
    }

    fn end_poll(&mut self, commit: &PollCommit<'_>) {
        let at = commit.observed_at;
        match &commit.end {
            PollEnd::Complete => {
                self.polls.polled.last_attempt = Some(at);
                self.polls.polled.last_success = Some(at);
                self.polls.polled.failures = 0;
                self.polls.not_before = None;
                (self.last_error, self.failing_since) = (None, None);
            }
            PollEnd::Incomplete { reason, not_before } => {
                self.last_error = Some((reason.clone(), PollErrorClass::Incomplete));
                self.failing_since = self.failing_since.or(Some(at));
                self.count_failure(at, *not_before);
            }
            PollEnd::NoPoll => {}
        }

        let earlier = self.polls.polled_back_to.into_iter().chain(commit.polled_back_to).min();
        self.polls.polled_back_to = earlier;
    }

    fn count_failure(&mut self, at: UnixMillis, not_before: Option<UnixMillis>) {
        self.polls.polled.last_attempt = Some(at);
        self.polls.polled.failures += 1;
        self.polls.not_before = not_before;
    }
}

fn open_condition(open: &ModelCondition) -> OpenCondition {
    let Observation { what, subject, first_day, details, .. } = &open.begin;
    let (what, subject) = (what.as_str().to_owned(), subject.clone());
    OpenCondition { what, subject, first_day: *first_day, details: details.clone() }
}
