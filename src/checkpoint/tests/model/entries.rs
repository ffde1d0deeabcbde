//! Compares the entries of logs, and how they relate to the entries before them.

use super::{run::Run, *};
use crate::model::SnapshotRef;

impl Run {
    pub(super) fn check_read(&mut self, request: &ReadRequest) {
        let found = self.checkpoint.read(request).unwrap();
        let seqs: Vec<Seq> = found.iter().map(LogEntry::seq).collect();
        assert_eq!(seqs, self.model.read(request), "{request:?}");

        for entry in &found {
            match entry {
                LogEntry::Snapshot(snapshot) => self.check_snapshot(request, snapshot),
                LogEntry::Observation(observed) => {
                    self.check_observation(request.tenant, observed);
                }
            }
        }
    }

    /// Compares what reports read. The logs are shorter than the limit of one call.
    pub(super) fn check_past_entries(&mut self, id: TenantId, from: Day, after: Seq) {
        let found = self.checkpoint.past_entries(id, from, after).unwrap();
        let seqs: Vec<Seq> = found.iter().map(|entry| entry.snapshot.seq).collect();
        let mut expected: Vec<(Seq, &ModelSnapshot)> = self.model.snapshots(id).collect();
        expected.retain(|(seq, snapshot)| *seq > after && snapshot.facts.day >= from);
        assert_eq!(seqs, expected.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), "{id} {from}");

        for PastEntry { snapshot, observed_at, facts, catalog, context } in &found {
            let (seq, catalog) = (snapshot.seq, self.members(*catalog));
            self.check_context(id, snapshot, context);
            let tenant = self.model.tenant(id).unwrap();
            let expected = self.model.entry(id, seq).unwrap().snapshot().unwrap();
            check_reference(snapshot, expected);
            assert_eq!((snapshot.id.as_str(), *observed_at), ("", expected.observed_at), "{seq}");
            assert_eq!(**facts, expected.facts, "{seq}");
            assert_eq!(catalog, tenant.members(expected), "{seq}");
        }
    }

    fn check_snapshot(&mut self, request: &ReadRequest, found: &StoredSnapshot) {
        let (id, seq) = (request.tenant, found.snapshot.seq);
        let catalog = self.members(found.catalog);
        if request.with_bases {
            self.check_context(id, &found.snapshot, &found.context);
        } else {
            let EntryContext { base, first_contact, revises_past_day } = &found.context;
            assert!(base.is_none() && !*first_contact && !*revises_past_day, "{seq}");
        }

        let tenant = self.model.tenant(id).unwrap();
        let expected = self.model.entry(id, seq).unwrap().snapshot().unwrap();
        check_reference(&found.snapshot, expected);
        assert_eq!(found.snapshot.id, expected.snapshot_id, "{seq}");
        assert_eq!(found.observed_at, expected.observed_at, "{seq}");
        assert_eq!(Some(&found.body), expected.body.as_ref(), "{seq}");
        assert_eq!(catalog, tenant.members(expected), "{seq}");

        let of_day = tenant.snapshots().filter(|(_, other)| other.facts.day == expected.facts.day);
        let earlier = of_day.filter(|(_, other)| other.revision < expected.revision);
        let history: Vec<DayFacts> = earlier.map(|(_, other)| other.facts.clone()).collect();
        assert_eq!(found.history, history, "{seq}");
    }

    /// Compares how a snapshot relates to the entries before it.
    fn check_context(&mut self, id: TenantId, snapshot: &SnapshotRef, context: &EntryContext) {
        self.check_base(id, snapshot, context.base.as_ref());

        let seq = snapshot.seq;
        let expected = self.model.entry(id, seq).unwrap().snapshot().unwrap();
        let before = self.model.snapshots(id).take_while(|(other, _)| *other < seq);
        let before: Vec<&ModelSnapshot> = before.map(|(_, other)| other).collect();
        let is_later = before.iter().any(|other| other.facts.day > snapshot.day);
        assert_eq!(context.revises_past_day, snapshot.revision > 1 && is_later, "{seq}");
        let is_first = before.iter().all(|other| other.flags.partial);
        let may_be_first = expected.base.is_none() && !snapshot.late && !snapshot.partial;
        assert_eq!(context.first_contact, may_be_first && is_first, "{seq}");
    }

    /// Compares the base of a snapshot, and the chain of bases before it.
    fn check_base(&mut self, id: TenantId, snapshot: &SnapshotRef, base: Option<&StoredBase>) {
        let catalog = base.map(|base| self.members(base.catalog));
        let tenant = self.model.tenant(id).unwrap();
        let with_key = |(day, revision): (Day, u32)| {
            let mut snapshots = tenant.snapshots();
            snapshots.find(|(_, other)| (other.facts.day, other.revision) == (day, revision))
        };
        let (seq, expected) = with_key((snapshot.day, snapshot.revision)).unwrap();

        let expected = expected.base.and_then(with_key);
        assert_eq!(base.map(|base| base.seq), expected.map(|(seq, _)| seq), "{seq}");
        let (Some(base), Some((_, expected))) = (base, expected) else { return };
        assert_eq!(*base.facts, expected.facts, "{seq}");
        assert_eq!(base.backfilled, expected.flags.backfilled, "{seq}");
        assert_eq!(catalog, Some(tenant.members(expected)), "{seq}");

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
}

/// Compares the day of a snapshot, and how it was accepted.
fn check_reference(found: &SnapshotRef, expected: &ModelSnapshot) {
    let SnapshotRef { day, revision, seq, late, backfilled, partial, imported, .. } = found;
    let flags = &expected.flags;
    assert_eq!((*day, *revision), (expected.facts.day, expected.revision), "{seq}");
    assert_eq!([*late, *backfilled], [flags.late, flags.backfilled], "{seq}");
    assert_eq!([*partial, *imported], [flags.partial, flags.imported], "{seq}");
}
