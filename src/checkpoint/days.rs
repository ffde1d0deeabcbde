//! Which days of a tenant are stored, held or missing. Polls base their decisions on them. This
//! module never writes: [`Checkpoint::commit_poll`] stores what a poll has found.
//! See decision 0007.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use rusqlite::{OptionalExtension, params};

use super::{
    Checkpoint, CheckpointError, EntryFlags,
    columns::{day, unsigned},
    commit_poll::read_facts,
    entry_flags,
};
use crate::model::{CLOCK_TOLERANCE, Day, KeptDay, TenantId, UnixMillis};

/// A day that Microsoft was expected to list and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingDay {
    pub day: Day,
    /// Microsoft no longer keeps the day, so it is not requested again.
    pub absent: bool,
}

/// A range of snapshots in the log of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRange {
    /// The number of snapshots.
    pub snapshots: u64,
    /// The number of different days; a day can have several revisions.
    pub days: u64,
    /// The `seq` of the first snapshot.
    pub first_seq: u64,
    /// The `seq` of the last snapshot.
    pub last_seq: u64,
}

/// A missing day is requested by this many polls, and weekly after that.
const DAILY_REQUESTS: u32 = 7;
const WEEK: Duration = Duration::from_hours(7 * 24);

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
        let connection = self.connection();
        let names = self.control_names(&connection)?;
        let mut statement = connection.prepare_cached(
            "SELECT e.day, e.revision, e.facts, e.flags, e.body IS NULL AS without_body FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.day >= ?2 ORDER BY e.day, e.revision",
        )?;

        let mut rows = statement.query(params![tenant.to_string(), from.number()])?;
        let mut days = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let facts = read_facts(row, &names)?;
            let kept = KeptDay {
                revision: row.get("revision")?,
                partial: EntryFlags::from_bits(row.get("flags")?).partial,
                without_body: row.get("without_body")?,
                facts,
            };
            // A later revision of the same day replaces the earlier one in the map.
            days.insert(kept.facts.day, kept);
        }
        Ok(days)
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
        // SQLite finds a single `min` or `max` in the index, but scans the index for both in one
        // query.
        let days = self
            .connection()
            .prepare_cached(
                "SELECT (SELECT min(day) FROM entry WHERE tenant = t.id AND kind = 1) AS earliest,
                        (SELECT max(day) FROM entry WHERE tenant = t.id AND kind = 1) AS newest
                 FROM tenant t WHERE t.guid = ?1",
            )?
            .query_row([tenant.to_string()], |row| Ok((day(row, "earliest")?, day(row, "newest")?)))
            .optional()?;

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
        let days = self
            .connection()
            .prepare_cached(
                "SELECT (SELECT day FROM entry WHERE tenant = t.id AND kind = 1 AND flags & ?2 = 0 ORDER BY day DESC LIMIT 1)
                            AS newest_polled,
                        (SELECT min(day) FROM held WHERE tenant = t.id) AS oldest_held
                 FROM tenant t WHERE t.guid = ?1",
            )?
            .query_row(params![tenant.to_string(), entry_flags::IMPORTED], |row| {
                Ok((day(row, "newest_polled")?, day(row, "oldest_held")?))
            })
            .optional()?;
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
        let complete = self
            .connection()
            .prepare_cached(
                "SELECT e.day, e.revision FROM entry e JOIN tenant t ON t.id = e.tenant
                 WHERE t.guid = ?1 AND e.kind = 1 AND e.flags & ?2 = 0 ORDER BY e.day DESC, e.revision DESC LIMIT 1",
            )?
            .query_row(params![tenant.to_string(), entry_flags::PARTIAL], |row| {
                Ok(day(row, "day")?.zip(row.get("revision")?))
            })
            .optional()?;
        Ok(complete.flatten())
    }

    /// The missing days that the next poll requests, oldest first: those that fewer than seven
    /// polls have requested, and those that were last requested at least a week ago, or in the
    /// future, which means that it is unknown when.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn due_missing_days(
        &self,
        tenant: TenantId,
        now: UnixMillis,
    ) -> Result<Vec<Day>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT m.day FROM missing m JOIN tenant t ON t.id = m.tenant
             WHERE t.guid = ?1 AND m.absent = 0 AND (m.requests < ?2 OR m.last_requested <= ?3 OR m.last_requested > ?4)
             ORDER BY m.day",
        )?;

        let (week_ago, latest) = (now.saturating_sub(WEEK), now.saturating_add(CLOCK_TOLERANCE));
        let rows = statement
            .query_map(params![tenant.to_string(), DAILY_REQUESTS, week_ago, latest], |row| {
                day(row, "day")
            })?;
        let days = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(days.into_iter().flatten().collect())
    }

    /// All missing days of a tenant, including those that are no longer requested; oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn missing_days(&self, tenant: TenantId) -> Result<Vec<MissingDay>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT m.day, m.absent FROM missing m JOIN tenant t ON t.id = m.tenant WHERE t.guid = ?1 ORDER BY m.day",
        )?;

        let mut rows = statement.query([tenant.to_string()])?;
        let mut days = Vec::new();
        while let Some(row) = rows.next()? {
            if let Some(day) = day(row, "day")? {
                days.push(MissingDay { day, absent: row.get("absent")? });
            }
        }
        Ok(days)
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
        first_seq: u64,
        first_day: Day,
    ) -> Result<Option<SnapshotRange>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT count(*) AS snapshots, count(DISTINCT e.day) AS days,
                coalesce(min(e.seq), 0) AS first_seq, coalesce(max(e.seq), 0) AS last_seq
             FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.seq >= ?2 AND e.day >= ?3 AND e.body IS NOT NULL",
        )?;

        let params = params![tenant.to_string(), first_seq.cast_signed(), first_day.number()];
        let range = statement.query_row(params, |row| {
            Ok(SnapshotRange {
                snapshots: unsigned(row, "snapshots")?,
                days: unsigned(row, "days")?,
                first_seq: unsigned(row, "first_seq")?,
                last_seq: unsigned(row, "last_seq")?,
            })
        })?;
        Ok((range.snapshots > 0).then_some(range))
    }
}
