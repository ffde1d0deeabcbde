//! What the queries about the stored days of a tenant return, derived from the model.

use super::*;
use crate::model::{KeptDay, day_hash};

impl Model {
    /// The snapshots of a tenant; none if it does not exist.
    pub(super) fn snapshots(&self, id: TenantId) -> impl Iterator<Item = (Seq, &ModelSnapshot)> {
        self.tenant(id).into_iter().flat_map(ModelTenant::snapshots)
    }

    /// The newest stored body of each day, within optional limits.
    pub(super) fn bodies(&self, id: TenantId, from: Option<Day>, to: Option<Day>) -> Vec<&str> {
        let mut newest: BTreeMap<Day, &str> = BTreeMap::new();
        for (_, snapshot) in self.snapshots(id) {
            let day = snapshot.facts.day;
            let is_within = from.is_none_or(|from| from <= day) && to.is_none_or(|to| day <= to);
            newest.extend(snapshot.body.as_deref().filter(|_| is_within).map(|body| (day, body)));
        }
        newest.into_values().collect()
    }

    /// The snapshots that have a body, from an entry and a day on.
    pub(super) fn snapshot_range(
        &self,
        id: TenantId,
        first_seq: Seq,
        first_day: Day,
    ) -> Option<SnapshotRange> {
        let mut found: Vec<(Seq, &ModelSnapshot)> = self.snapshots(id).collect();
        found.retain(|(seq, snapshot)| {
            snapshot.body.is_some() && *seq >= first_seq && snapshot.facts.day >= first_day
        });
        let days: BTreeSet<Day> = found.iter().map(|(_, snapshot)| snapshot.facts.day).collect();
        Some(SnapshotRange {
            snapshots: found.len() as u64,
            days: days.len() as u64,
            first_seq: found.first()?.0,
            last_seq: found.last()?.0,
        })
    }

    /// The days before an entry, newest first, and the hash of the newest one.
    pub(super) fn days_before(&self, id: TenantId, seq: Seq) -> (Vec<Day>, Option<[u8; 32]>) {
        let before = self.snapshots(id).take_while(|(other, _)| *other < seq);
        // A later revision replaces the earlier one.
        let latest: BTreeMap<Day, &DayFacts> =
            before.map(|(_, snapshot)| (snapshot.facts.day, &snapshot.facts)).collect();
        let newest = latest.last_key_value().map(|(_, facts)| day_hash(facts));
        (latest.into_keys().rev().collect(), newest)
    }

    /// The stored days from a day on, each at its latest revision.
    pub(super) fn stored_days(&self, id: TenantId, from: Day) -> BTreeMap<Day, KeptDay> {
        let snapshots = self.snapshots(id).filter(|(_, snapshot)| snapshot.facts.day >= from);
        let kept_day = |snapshot: &ModelSnapshot| KeptDay {
            revision: snapshot.revision,
            partial: snapshot.flags.partial,
            without_body: snapshot.body.is_none(),
            facts: snapshot.facts.clone(),
        };
        snapshots.map(|(_, snapshot)| (snapshot.facts.day, kept_day(snapshot))).collect()
    }
}

impl ModelTenant {
    /// The content of the catalog version of a snapshot.
    pub(super) fn members(&self, snapshot: &ModelSnapshot) -> Option<Members> {
        snapshot.catalog.map(|index| self.catalogs[index].clone())
    }
}
