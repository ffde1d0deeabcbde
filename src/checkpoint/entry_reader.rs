//! Builds entries of the log from rows, and looks up the earlier entries that they are compared
//! with: the base of a snapshot, the chain of bases before it, and the earlier revisions of its
//! day. It is used within one transaction and never writes. Start reading at
//! [`EntryReader::context`].

use std::{collections::HashMap, sync::Arc};

use super::{
    CheckpointError, ControlNames, EntryContext, EntryFlags, StoredBase, StoredObservation,
    StoredSnapshot,
    backend::{Statements, StoredRow, values},
    entry_flags,
    fields::{day, entry_day},
    pack,
    row_ids::{CatalogVersion, TenantRow},
    sql::{observation, snapshot},
};
use crate::model::{
    Day, DayFacts, Observation, ObservationKind, ObservationSubject, Phase, Seq, SnapshotRef,
};

/// Builds entries from rows, and looks up the earlier entries that belong to them.
pub(super) struct EntryReader<'a> {
    pub(super) store: &'a dyn Statements,
    pub(super) names: &'a ControlNames,
    /// A cache of entries: each day is the base of the next one.
    pub(super) facts: HashMap<RevisionKey, BaseEntry>,
}

/// A snapshot of the log that other snapshots are measured from.
#[derive(Clone, Debug)]
pub(super) struct BaseEntry {
    pub(super) seq: Seq,
    pub(super) facts: Arc<DayFacts>,
    pub(super) catalog: Option<CatalogVersion>,
    pub(super) backfilled: bool,
    /// The base that its own changes are measured from.
    pub(super) base: Option<RevisionKey>,
}

/// Identifies a snapshot in the log of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RevisionKey {
    pub(super) day: Day,
    pub(super) revision: u32,
}

/// The number of days before a snapshot in which a score that changes repeatedly is recognized.
pub(super) const LOOKBACK_DAYS: i32 = 14;

impl RevisionKey {
    /// The base of the snapshot in a row; `None` if it has none.
    pub(super) fn of_base(row: &dyn StoredRow) -> Result<Option<Self>, CheckpointError> {
        let base_day = day(row, "base_day")?;
        let revision: Option<u32> = row.get("base_revision")?;
        Ok(base_day.zip(revision).map(|(day, revision)| Self { day, revision }))
    }
}

impl EntryReader<'_> {
    /// The snapshot of a row, with an empty context.
    pub(super) fn snapshot(
        &self,
        row: &dyn StoredRow,
        body: String,
    ) -> Result<StoredSnapshot, CheckpointError> {
        let flags = EntryFlags::from_bits(row.get("flags")?);
        let (id, revision) = (row.get("snapshot_id")?, row.get("revision")?);
        let snapshot = flags.snapshot_ref(id, entry_day(row)?, revision, row.get("seq")?);

        Ok(StoredSnapshot {
            observed_at: row.get("observed")?,
            body,
            catalog: row.get("catalog")?,
            history: self.earlier_revisions(row.get("tenant")?, &snapshot)?,
            context: EntryContext::default(),
            snapshot,
        })
    }

    /// The context of the snapshot of a row. Fails in the same cases as [`Self::context`].
    pub(super) fn context_of_row(
        &mut self,
        row: &dyn StoredRow,
        snapshot: &SnapshotRef,
    ) -> Result<EntryContext, CheckpointError> {
        self.context(row.get("tenant")?, snapshot, RevisionKey::of_base(row)?)
    }

    /// The context of a snapshot with this base. Fails with [`CheckpointError::Damaged`] if the
    /// facts of a base cannot be decoded.
    pub(super) fn context(
        &mut self,
        tenant: TenantRow,
        snapshot: &SnapshotRef,
        base_key: Option<RevisionKey>,
    ) -> Result<EntryContext, CheckpointError> {
        let base = match base_key {
            Some(key) => self.base(tenant, key, snapshot.day)?,
            None => None,
        };
        let may_be_first = base_key.is_none() && !snapshot.late && !snapshot.partial;
        Ok(EntryContext {
            base,
            first_contact: may_be_first && self.is_first_complete(tenant, snapshot.seq)?,
            revises_past_day: self.revises_past_day(tenant, snapshot)?,
        })
    }

    fn earlier_revisions(
        &self,
        tenant: TenantRow,
        snapshot: &SnapshotRef,
    ) -> Result<Vec<DayFacts>, CheckpointError> {
        if snapshot.revision == 1 {
            return Ok(Vec::new());
        }

        let sql = concat!(
            "SELECT day, facts FROM entry WHERE tenant = ?1 AND kind = ",
            snapshot!(),
            " AND day = ?2 AND revision < ?3 ORDER BY revision"
        );
        let (day, revision) = (snapshot.day.number(), snapshot.revision);
        self.store.query_all(sql, values![tenant, day, revision], |row| read_facts(row, self.names))
    }

    /// The base of a snapshot of `day`, with the chain of bases before it.
    fn base(
        &mut self,
        tenant: TenantRow,
        key: RevisionKey,
        day: Day,
    ) -> Result<Option<StoredBase>, CheckpointError> {
        let Some(found) = self.find(tenant, key)? else { return Ok(None) };

        let mut earlier = Vec::new();
        let mut next = found.base;
        while let Some(key) = next.filter(|base| base.day.number() > day.number() - LOOKBACK_DAYS) {
            let Some(before) = self.find(tenant, key)? else { break };
            earlier.push(before.facts);
            next = before.base;
        }
        earlier.reverse();

        let BaseEntry { seq, facts, catalog, backfilled, .. } = found;
        Ok(Some(StoredBase { seq, facts, catalog, backfilled, earlier }))
    }

    fn find(
        &mut self,
        tenant: TenantRow,
        key: RevisionKey,
    ) -> Result<Option<BaseEntry>, CheckpointError> {
        if let Some(found) = self.facts.get(&key) {
            return Ok(Some(found.clone()));
        }

        let sql = concat!(
            "SELECT seq, day, facts, catalog, flags, base_day, base_revision FROM entry WHERE tenant = ?1 AND kind = ",
            snapshot!(),
            " AND day = ?2 AND revision = ?3"
        );
        let (day, revision) = (key.day.number(), key.revision);
        let found = self.store.query_optional(sql, values![tenant, day, revision], |row| {
            Ok(BaseEntry {
                seq: row.get("seq")?,
                facts: Arc::new(read_facts(row, self.names)?),
                catalog: row.get("catalog")?,
                backfilled: EntryFlags::from_bits(row.get("flags")?).backfilled,
                base: RevisionKey::of_base(row)?,
            })
        })?;

        if let Some(found) = &found {
            self.facts.insert(key, found.clone());
        }
        Ok(found)
    }

    /// Whether the log has no complete snapshot before this entry.
    fn is_first_complete(&self, tenant: TenantRow, seq: Seq) -> Result<bool, CheckpointError> {
        let sql = concat!(
            "SELECT 1 FROM entry WHERE tenant = ?1 AND kind = ",
            snapshot!(),
            " AND seq < ?2 AND flags & ?3 = 0 LIMIT 1"
        );
        let partial = entry_flags::PARTIAL;
        let earlier = self.store.query_optional(sql, values![tenant, seq, partial], |_| Ok(()))?;
        Ok(earlier.is_none())
    }

    /// Whether a snapshot is a revision that was appended after later days.
    fn revises_past_day(
        &self,
        tenant: TenantRow,
        snapshot: &SnapshotRef,
    ) -> Result<bool, CheckpointError> {
        if snapshot.revision == 1 {
            return Ok(false);
        }

        let sql = concat!(
            "SELECT 1 FROM entry WHERE tenant = ?1 AND kind = ",
            snapshot!(),
            " AND day > ?2 AND seq < ?3 LIMIT 1"
        );
        let (day, seq) = (snapshot.day.number(), snapshot.seq);
        let later_day = self.store.query_optional(sql, values![tenant, day, seq], |_| Ok(()))?;
        Ok(later_day.is_some())
    }

    /// Builds an observation; `None` if a later release wrote it and this one does not support it.
    pub(super) fn observation(
        &self,
        row: &dyn StoredRow,
    ) -> Result<Option<StoredObservation>, CheckpointError> {
        let (what, phase): (String, String) = (row.get("what")?, row.get("phase")?);
        let (Some(what), Some(phase)) = (ObservationKind::parse(&what), Phase::parse(&phase))
        else {
            return Ok(None);
        };
        let first_day = entry_day(row)?;
        let subject = ObservationSubject::parse(what, row.get("subject")?);
        let observation = Observation {
            what,
            subject,
            first_day,
            phase,
            details: row.get("details")?,
            hint: row.get("hint")?,
        };

        Ok(Some(StoredObservation {
            repeats: self.repeats(row, &observation)?,
            observed_at: row.get("observed")?,
            snapshot: SnapshotRef::of_observation(first_day, row.get("seq")?),
            observation,
        }))
    }

    /// How often the observation of a row precedes it in the log. It can begin again on the same
    /// day, and the number makes the event IDs of its records unique.
    fn repeats(
        &self,
        row: &dyn StoredRow,
        observation: &Observation,
    ) -> Result<u32, CheckpointError> {
        let Observation { what, subject, first_day, phase, .. } = observation;
        let (tenant, seq): (TenantRow, Seq) = (row.get("tenant")?, row.get("seq")?);
        let (day, what, phase) = (first_day.number(), what.as_str(), phase.as_str());
        let subject = subject.text();

        let sql = concat!(
            "SELECT count(*) AS repeats FROM entry WHERE tenant = ?1 AND kind = ",
            observation!(),
            " AND seq < ?2 AND day = ?3 AND what = ?4 AND subject = ?5 AND phase = ?6"
        );
        self.store.query_one(sql, values![tenant, seq, day, what, &*subject, phase], |row| {
            row.get("repeats")
        })
    }
}

/// The facts of an entry, from the columns `day` and `facts`. Fails with
/// [`CheckpointError::Damaged`] if they cannot be decoded.
pub(super) fn read_facts(
    row: &dyn StoredRow,
    names: &ControlNames,
) -> Result<DayFacts, CheckpointError> {
    let day = entry_day(row)?;
    let bytes: Vec<u8> = row.get("facts")?;
    pack::unpack(&bytes, day, |id| names.get(id))
}
