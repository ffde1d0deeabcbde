//! Which days of a tenant are stored. Polls base their decisions on them. This module never writes:
//! [`Checkpoint::commit_poll`] stores what a poll has found. See decision 0007.

use std::{
    collections::BTreeMap,
    ops::{ControlFlow, RangeInclusive},
};

use super::{
    Checkpoint, CheckpointError, EntryFlags,
    backend::values,
    entry_flags,
    entry_reader::read_facts,
    fields::{day, unsigned},
    sql::snapshot,
};
use crate::model::{Day, KeptDay, Seq, TenantId};

/// A range of snapshots in the log of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRange {
    /// The number of snapshots.
    pub snapshots: u64,
    /// The number of different days; a day can have several revisions.
    pub days: u64,
    /// The first snapshot.
    pub first_seq: Seq,
    /// The last snapshot.
    pub last_seq: Seq,
}

const STORED_DAYS: &str = concat!(
    "SELECT e.day, e.revision, e.facts, e.flags, e.body IS NULL AS without_body FROM entry e JOIN tenant t ON t.id = e.tenant
     WHERE t.guid = ?1 AND e.kind = ",
    snapshot!(),
    " AND e.day >= ?2 ORDER BY e.day, e.revision"
);
/// SQLite finds a single `min` or `max` in the index, but scans the index for both in one query.
const STORED_DAY_RANGE: &str = concat!(
    "SELECT (SELECT min(day) FROM entry WHERE tenant = t.id AND kind = ",
    snapshot!(),
    ") AS earliest, (SELECT max(day) FROM entry WHERE tenant = t.id AND kind = ",
    snapshot!(),
    ") AS newest FROM tenant t WHERE t.guid = ?1"
);
const RESUME_DAYS: &str = concat!(
    "SELECT (SELECT day FROM entry WHERE tenant = t.id AND kind = ",
    snapshot!(),
    " AND flags & ?2 = 0 ORDER BY day DESC LIMIT 1) AS newest_polled,
            (SELECT min(day) FROM held WHERE tenant = t.id) AS oldest_held
     FROM tenant t WHERE t.guid = ?1"
);
const NEWEST_COMPLETE_DAY: &str = concat!(
    "SELECT e.day, e.revision FROM entry e JOIN tenant t ON t.id = e.tenant
     WHERE t.guid = ?1 AND e.kind = ",
    snapshot!(),
    " AND e.flags & ?2 = 0 ORDER BY e.day DESC, e.revision DESC LIMIT 1"
);
const SNAPSHOT_RANGE: &str = concat!(
    "SELECT count(*) AS snapshots, count(DISTINCT e.day) AS days,
        coalesce(min(e.seq), 0) AS first_seq, coalesce(max(e.seq), 0) AS last_seq
     FROM entry e JOIN tenant t ON t.id = e.tenant
     WHERE t.guid = ?1 AND e.kind = ",
    snapshot!(),
    " AND e.seq >= ?2 AND e.day >= ?3 AND e.body IS NOT NULL"
);

impl Checkpoint {
    /// The stored days of a tenant, starting at `from`, each at its latest revision.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::Damaged`] if the facts of a day cannot be decoded.
    pub fn stored_days(
        &self,
        tenant: TenantId,
        from: Day,
    ) -> Result<BTreeMap<Day, KeptDay>, CheckpointError> {
        let guid = tenant.to_string();
        self.reading(|store| {
            let names = self.control_names(store)?;
            let mut days = BTreeMap::new();
            store.query(STORED_DAYS, values![guid, from.number()], &mut |row| {
                let facts = read_facts(row, &names)?;
                let kept = KeptDay {
                    revision: row.get("revision")?,
                    partial: EntryFlags::from_bits(row.get("flags")?).partial,
                    without_body: row.get("without_body")?,
                    facts,
                };
                // A later revision of the same day replaces the earlier one in the map.
                days.insert(kept.facts.day, kept);
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(days)
        })
    }

    /// The newest stored day of a tenant; `None` if no day is stored.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn newest_day(&self, tenant: TenantId) -> Result<Option<Day>, CheckpointError> {
        Ok(self.stored_day_range(tenant)?.map(|days| *days.end()))
    }

    /// The earliest and the newest stored day of a tenant; `None` if no day is stored.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn stored_day_range(
        &self,
        tenant: TenantId,
    ) -> Result<Option<RangeInclusive<Day>>, CheckpointError> {
        let guid = tenant.to_string();
        let days = self.reading(|store| {
            store.query_optional(STORED_DAY_RANGE, values![guid], |row| {
                Ok((day(row, "earliest")?, day(row, "newest")?))
            })
        })?;

        let (earliest, newest) = days.unwrap_or_default();
        Ok(earliest.zip(newest).map(|(earliest, newest)| earliest..=newest))
    }

    /// The two days that determine how far back the next poll reads: the newest stored day that a
    /// poll has read, and the oldest held day. Imported days do not count, because an import does
    /// not mean that the days before it are complete. Each is `None` if there is no such day.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn resume_days(
        &self,
        tenant: TenantId,
    ) -> Result<(Option<Day>, Option<Day>), CheckpointError> {
        let guid = tenant.to_string();
        let days = self.reading(|store| {
            store.query_optional(RESUME_DAYS, values![guid, entry_flags::IMPORTED], |row| {
                Ok((day(row, "newest_polled")?, day(row, "oldest_held")?))
            })
        })?;
        Ok(days.unwrap_or_default())
    }

    /// The newest stored day that is not partial, with its revision. `None` if there is none.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn newest_complete_day(
        &self,
        tenant: TenantId,
    ) -> Result<Option<(Day, u32)>, CheckpointError> {
        let guid = tenant.to_string();
        let complete = self.reading(|store| {
            store.query_optional(NEWEST_COMPLETE_DAY, values![guid, entry_flags::PARTIAL], |row| {
                let revision: Option<u32> = row.get("revision")?;
                Ok(day(row, "day")?.zip(revision))
            })
        })?;
        Ok(complete.flatten())
    }

    /// The stored snapshots that have a body, starting at this entry and this day; `None` if there
    /// are none.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn snapshot_range(
        &self,
        tenant: TenantId,
        first_seq: Seq,
        first_day: Day,
    ) -> Result<Option<SnapshotRange>, CheckpointError> {
        let guid = tenant.to_string();
        let range = self.reading(|store| {
            store.query_one(SNAPSHOT_RANGE, values![guid, first_seq, first_day.number()], |row| {
                Ok(SnapshotRange {
                    snapshots: unsigned(row, "snapshots")?,
                    days: unsigned(row, "days")?,
                    first_seq: row.get("first_seq")?,
                    last_seq: row.get("last_seq")?,
                })
            })
        })?;
        Ok((range.snapshots > 0).then_some(range))
    }
}
