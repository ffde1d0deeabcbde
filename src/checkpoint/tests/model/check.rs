//! Compares what the queries of a checkpoint return with the model.

use super::{
    run::{Run, Storage},
    values::without_ids,
    *,
};
use crate::model::{KeptDay, SnapshotRef};

/// SQL: the bodies that nothing refers to.
const UNUSED_BODIES: &str =
    "SELECT count(*) FROM body WHERE id NOT IN (SELECT body FROM entry WHERE body IS NOT NULL)
        AND id NOT IN (SELECT key_frame FROM body WHERE key_frame IS NOT NULL)";

/// Compares fields of two values.
macro_rules! assert_fields {
    ($found:expr, $expected:expr, $($field:ident)+) => {
        $(assert_eq!($found.$field, $expected.$field, "{}", stringify!($field));)+
    };
}

impl Run {
    /// Compares what every call can change.
    pub(super) fn check(&mut self) {
        for name in NAMES.map(SinkName::new) {
            let expected = self.model.pending(&name);
            assert_eq!(self.checkpoint.pending(&name).unwrap(), expected, "{name}");
        }
        self.check_status();
        assert_eq!(self.checkpoint.cursors().unwrap(), self.model.cursor_file());

        for tenant in tenants() {
            let missing = self.checkpoint.missing_days(tenant).unwrap();
            assert_eq!(missing, self.model.missing_days(tenant), "{tenant}");
            self.check_new_entries(tenant);
        }
    }

    /// Compares everything else, and all logs.
    pub(super) fn check_everything(&mut self) {
        self.compared.clear();
        for tenant in tenants() {
            self.check_new_entries(tenant);
            self.check_days(tenant);
        }

        let (checkpoint, model) = (&self.checkpoint, &self.model);
        let running: Vec<TenantId> = model.running.iter().copied().collect();
        assert_eq!(checkpoint.running_polls().unwrap(), running);
        assert_eq!(checkpoint.failures().unwrap(), model.failures());
        let (polled, expected) = (checkpoint.poll_states().unwrap(), model.poll_states());
        assert_eq!(polled.count(), expected.len());
        for (tenant, state) in expected {
            assert_eq!(polled.of(tenant), FoundPollState::Readable(state), "{tenant}");
        }

        let status = checkpoint.status(StatusDetail::Groups).unwrap();
        assert_eq!(status.dead_letter_groups, model.letter_groups());
        self.check_sinks();

        assert_eq!(query_number(checkpoint, UNUSED_BODIES), 0, "bodies that are not used");
        if self.storage == Storage::Files {
            let findings = checkpoint.verify().unwrap().findings;
            assert!(findings.is_empty(), "{findings:?}");
        }
    }

    fn check_status(&self) {
        let found = self.checkpoint.status(StatusDetail::Items).unwrap();
        let (tenants, sinks) = (self.model.tenant_status(), self.model.sink_status());
        assert_eq!((found.tenants.len(), found.sinks.len()), (tenants.len(), sinks.len()));
        for (found, expected) in found.tenants.iter().zip(&tenants) {
            assert_fields!(found, expected, id polled days missing last_error error_class);
            assert_fields!(found, expected, failing_since not_before observations);
            assert_fields!(found, expected, queued_commands backfill_requested);
        }
        for (found, expected) in found.sinks.iter().zip(&sinks) {
            assert_fields!(found, expected, name sent rejected truncated dead_letters backlog);
            assert_fields!(found, expected, oldest_day last_acknowledgement last_error failure);
            assert_fields!(found, expected, failing_since cursors);
        }

        let replays = found.replays.iter();
        let replays: Vec<_> = replays
            .map(|replay| {
                (replay.sink.as_str(), replay.first_day, replay.last_day, replay.remaining)
            })
            .collect();
        assert_eq!(replays, self.model.unfinished_replays());
        let mut newest = self.model.configured_letters();
        newest.truncate(50);
        assert_eq!(without_ids(&found.dead_letters), newest);
    }

    /// Compares the entries that were not compared before.
    fn check_new_entries(&mut self, tenant: TenantId) {
        let compared = self.compared.get(&tenant).copied().unwrap_or(Seq::ZERO);
        self.check_read(&ReadRequest {
            tenant,
            first_seq: compared.next(),
            last_seq: Seq::MAX,
            first_day: first_day(),
            last_day: None,
            max_bytes: usize::MAX,
            with_bases: true,
            with_observations: true,
        });
        self.compared.insert(tenant, self.model.last_seq(tenant));
    }

    pub(super) fn check_read(&mut self, request: &ReadRequest) {
        let found = self.checkpoint.read(request).unwrap();
        let seqs: Vec<Seq> = found.iter().map(LogEntry::seq).collect();
        assert_eq!(seqs, self.model.read(request), "{request:?}");
        for entry in &found {
            match entry {
                LogEntry::Snapshot(snapshot) => self.check_snapshot(request.tenant, snapshot),
                LogEntry::Observation(observed) => {
                    self.check_observation(request.tenant, observed);
                }
            }
        }
    }

    fn check_snapshot(&mut self, tenant: TenantId, found: &StoredSnapshot) {
        let catalog = self.members(found.catalog);
        self.check_base(tenant, found);

        let tenant = self.model.tenant(tenant).unwrap();
        let seq = found.snapshot.seq;
        let expected = self.model.entry(tenant.id, seq).unwrap().snapshot().unwrap();
        let SnapshotRef { id, day, revision, late, backfilled, partial, imported, .. } =
            &found.snapshot;
        let flags = &expected.flags;
        assert_eq!((id, *day), (&expected.snapshot_id, expected.facts.day), "{seq}");
        assert_eq!((*revision, found.observed_at), (expected.revision, expected.observed_at));
        assert_eq!([*late, *backfilled], [flags.late, flags.backfilled], "{seq}");
        assert_eq!([*partial, *imported], [flags.partial, flags.imported], "{seq}");
        assert_eq!(Some(&found.body), expected.body.as_ref(), "{seq}");
        let version = expected.catalog.map(|index| tenant.catalogs[index].clone());
        assert_eq!(catalog, version, "{seq}");

        let of_day = tenant.snapshots().filter(|(_, other)| other.facts.day == *day);
        let earlier = of_day.filter(|(_, other)| other.revision < *revision);
        let history: Vec<DayFacts> = earlier.map(|(_, other)| other.facts.clone()).collect();
        assert_eq!(found.history, history, "{seq}");

        let mut before = tenant.snapshots().take_while(|(other, _)| *other < seq);
        let is_later = before.any(|(_, other)| other.facts.day > *day);
        assert_eq!(found.context.revises_past_day, *revision > 1 && is_later, "{seq}");
        let mut before = tenant.snapshots().take_while(|(other, _)| *other < seq);
        let is_first = before.all(|(_, other)| other.flags.partial);
        let may_be_first = expected.base.is_none() && !*late && !*partial;
        assert_eq!(found.context.first_contact, may_be_first && is_first, "{seq}");
    }

    /// Compares the base of a snapshot, and the chain of bases before it.
    fn check_base(&mut self, tenant: TenantId, found: &StoredSnapshot) {
        let catalog = found.context.base.as_ref().map(|base| self.members(base.catalog));
        let tenant = self.model.tenant(tenant).unwrap();
        let with_key = |(day, revision): (Day, u32)| {
            let mut snapshots = tenant.snapshots();
            snapshots.find(|(_, other)| (other.facts.day, other.revision) == (day, revision))
        };
        let (seq, expected) = with_key((found.snapshot.day, found.snapshot.revision)).unwrap();

        let expected = expected.base.and_then(with_key);
        let base = found.context.base.as_ref();
        assert_eq!(base.map(|base| base.seq), expected.map(|(seq, _)| seq), "{seq}");
        let (Some(base), Some((_, expected))) = (base, expected) else { return };
        assert_eq!(*base.facts, expected.facts, "{seq}");
        assert_eq!(base.backfilled, expected.flags.backfilled, "{seq}");
        let version = expected.catalog.map(|index| tenant.catalogs[index].clone());
        assert_eq!(catalog, Some(version), "{seq}");

        let mut chain = Vec::new();
        let mut next = expected.base.and_then(with_key);
        while let Some((_, earlier)) = next {
            chain.push(&earlier.facts);
            next = earlier.base.and_then(with_key);
        }
        chain.reverse();
        let found: Vec<&DayFacts> = base.earlier.iter().map(|facts| &**facts).collect();
        assert_eq!(found, chain, "{seq}");
    }

    fn check_observation(&self, tenant: TenantId, found: &StoredObservation) {
        let seq = found.snapshot.seq;
        let tenant = self.model.tenant(tenant).unwrap();
        let observations = tenant.entries().filter_map(|(seq, entry)| match entry {
            ModelEntry::Snapshot(_) => None,
            ModelEntry::Observation(observation, at) => Some((seq, observation, *at)),
        });
        let (mut before, mut others): (Vec<_>, Vec<_>) =
            observations.partition(|(other, ..)| *other < seq);
        let (_, expected, noticed_at) = others.remove(0);
        assert_eq!((&found.observation, found.observed_at), (expected, noticed_at), "{seq}");
        assert_eq!(found.snapshot.day, expected.first_day, "{seq}");

        before.retain(|(_, other, _)| {
            (other.what, &other.subject) == (expected.what, &expected.subject)
                && (other.first_day, other.phase) == (expected.first_day, expected.phase)
        });
        assert_eq!(usize::try_from(found.repeats).unwrap(), before.len(), "{seq}");
    }

    /// The content of a catalog version. A daemon caches it by its ID, so an ID must never have
    /// another content.
    fn members(&mut self, version: Option<CatalogVersion>) -> Option<Members> {
        let (version, checkpoint) = (version?, &self.checkpoint);
        let members = self.catalogs.entry(version).or_insert_with(|| {
            let stored = checkpoint.catalog(version).unwrap().into_iter();
            stored
                .map(|member| (checkpoint.profile(member.profile).unwrap(), member.decisions))
                .collect()
        });
        Some(members.clone())
    }

    /// Compares which days are stored, held and due.
    fn check_days(&self, id: TenantId) {
        let checkpoint = &self.checkpoint;
        let empty = ModelTenant::new(id);
        let tenant = self.model.tenant(id).unwrap_or(&empty);
        assert_eq!(checkpoint.next_seq(id).unwrap(), tenant.next_seq());
        assert_eq!(checkpoint.baselines(id).unwrap(), tenant.baselines);

        let held = checkpoint.held_days(id).unwrap();
        let held_day = |held: &HeldDay| (held.day, held.since, held.observed_at, held.body.clone());
        let found: Vec<_> = held.iter().map(held_day).collect();
        assert_eq!(found, tenant.held.values().map(held_day).collect::<Vec<_>>());

        let kept_days = checkpoint.stored_days(id, first_day()).unwrap();
        let kept_day =
            |kept: &KeptDay| (kept.revision, kept.partial, kept.without_body, kept.facts.clone());
        let found: BTreeMap<Day, _> =
            kept_days.iter().map(|(day, kept)| (*day, kept_day(kept))).collect();
        let expected = tenant.snapshots().map(|(_, snapshot)| {
            let (partial, without_body) = (snapshot.flags.partial, snapshot.body.is_none());
            let facts = snapshot.facts.clone();
            (snapshot.facts.day, (snapshot.revision, partial, without_body, facts))
        });
        assert_eq!(found, expected.collect::<BTreeMap<_, _>>());

        let complete = tenant.snapshots().filter(|(_, snapshot)| !snapshot.flags.partial);
        let complete = complete.map(|(_, snapshot)| (snapshot.facts.day, snapshot.revision)).max();
        assert_eq!(checkpoint.newest_complete_day(id).unwrap(), complete);
        let polled = tenant.snapshots().filter(|(_, snapshot)| !snapshot.flags.imported);
        let polled = polled.map(|(_, snapshot)| snapshot.facts.day).max();
        let resume_days = (polled, tenant.held.keys().next().copied());
        assert_eq!(checkpoint.resume_days(id).unwrap(), resume_days);
    }

    fn check_sinks(&self) {
        let (checkpoint, model) = (&self.checkpoint, &self.model);
        let stored = model.sinks.iter().map(|sink| {
            let (name, removed_at) = (sink.name.clone(), sink.removed_at);
            StoredSink { name, kind: None, removed_at }
        });
        assert_eq!(checkpoint.stored_sinks().unwrap(), stored.collect::<Vec<_>>());

        let provisional = model.sinks.iter().filter(|sink| sink.provisional.is_some());
        let mut provisional: Vec<&str> = provisional.map(|sink| sink.name.as_str()).collect();
        provisional.sort_unstable();
        assert_eq!(checkpoint.provisional_sinks().unwrap(), provisional);

        for sink in &model.sinks {
            assert_eq!(checkpoint.mark(&sink.name).unwrap(), sink.mark, "{}", sink.name);
            let unsent: u64 = model.pending(&sink.name).iter().map(|p| p.entries).sum();
            assert_eq!(checkpoint.unsent_entries(&sink.name).unwrap(), unsent, "{}", sink.name);
        }
    }
}
