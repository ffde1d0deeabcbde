//! Which days of a tenant are stored, held or missing: what a poll decides by.

use std::{collections::BTreeMap, ops::RangeInclusive};

use rusqlite::{OptionalExtension, params};

use super::{Checkpoint, CheckpointError, EntryFlags, commit_poll::read_facts};
use crate::model::{Day, KeptDay, TenantId};

/// A day that Microsoft was expected to list and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingDay {
    pub day: Day,
    /// Microsoft no longer keeps the day, so it is not requested again.
    pub absent: bool,
}

/// A missing day is requested by this many polls, and weekly after that.
const DAILY_REQUESTS: u32 = 7;
const WEEK_MS: i64 = 7 * 86_400_000;

impl Checkpoint {
    /// The stored days of a tenant from `from` on, each at its latest revision.
    pub fn stored_days(
        &self,
        tenant: TenantId,
        from: Day,
    ) -> Result<BTreeMap<Day, KeptDay>, CheckpointError> {
        let connection = self.connection();
        let names = self.control_names();
        let mut statement = connection.prepare_cached(
            "SELECT e.day, e.revision, e.facts, e.flags, e.body IS NULL FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.day >= ?2 ORDER BY e.day, e.revision",
        )?;

        let mut rows = statement.query(params![tenant.to_string(), from.number()])?;
        let mut days = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let facts = read_facts(row, 0, 2, &names)?;
            let partial = EntryFlags::from_bits(row.get(3)?).partial;
            // A later revision of the same day replaces the earlier one in the map.
            days.insert(
                facts.day,
                KeptDay { revision: row.get(1)?, partial, without_body: row.get(4)?, facts },
            );
        }
        Ok(days)
    }

    /// The newest stored day of a tenant; `None` if no day is stored.
    pub fn newest_day(&self, tenant: TenantId) -> Result<Option<Day>, CheckpointError> {
        Ok(self.stored_day_range(tenant)?.map(|days| *days.end()))
    }

    /// The earliest and the newest stored day of a tenant; `None` if no day is stored.
    pub fn stored_day_range(
        &self,
        tenant: TenantId,
    ) -> Result<Option<RangeInclusive<Day>>, CheckpointError> {
        // SQLite answers `min` or `max` alone from the index, but scans it for both in one query.
        let days: (Option<i32>, Option<i32>) = self
            .connection()
            .prepare_cached(
                "SELECT (SELECT min(day) FROM entry WHERE tenant = t.id AND kind = 1),
                        (SELECT max(day) FROM entry WHERE tenant = t.id AND kind = 1)
                 FROM tenant t WHERE t.guid = ?1",
            )?
            .query_row([tenant.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?
            .unwrap_or_default();

        let earliest = days.0.and_then(Day::from_number);
        let newest = days.1.and_then(Day::from_number);
        Ok(earliest.zip(newest).map(|(earliest, newest)| earliest..=newest))
    }

    /// The two days that decide how far back the next poll reads: the newest stored day that a poll
    /// has read, and the oldest held day. Imported days are left out, because an import does not
    /// mean that the days before it are complete.
    pub fn resume_days(
        &self,
        tenant: TenantId,
    ) -> Result<(Option<Day>, Option<Day>), CheckpointError> {
        let days: Option<(Option<i32>, Option<i32>)> = self
            .connection()
            .prepare_cached(
                "SELECT (SELECT day FROM entry WHERE tenant = t.id AND kind = 1 AND flags & 8 = 0 ORDER BY day DESC LIMIT 1),
                        (SELECT min(day) FROM held WHERE tenant = t.id)
                 FROM tenant t WHERE t.guid = ?1",
            )?
            .query_row([tenant.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;

        let (newest, held) = days.unwrap_or_default();
        Ok((newest.and_then(Day::from_number), held.and_then(Day::from_number)))
    }

    /// The newest stored day that is not partial, with its revision.
    pub fn newest_complete_day(
        &self,
        tenant: TenantId,
    ) -> Result<Option<(Day, u32)>, CheckpointError> {
        let complete: Option<(i32, u32)> = self
            .connection()
            .prepare_cached(
                "SELECT e.day, e.revision FROM entry e JOIN tenant t ON t.id = e.tenant
                 WHERE t.guid = ?1 AND e.kind = 1 AND e.flags & 4 = 0 ORDER BY e.day DESC, e.revision DESC LIMIT 1",
            )?
            .query_row([tenant.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(complete.and_then(|(day, revision)| Some((Day::from_number(day)?, revision))))
    }

    /// The missing days that the next poll requests, oldest first: those that fewer than seven
    /// polls have requested, and those that were last requested a week ago. `now_ms` is in
    /// milliseconds since 1970-01-01.
    pub fn due_missing_days(
        &self,
        tenant: TenantId,
        now_ms: i64,
    ) -> Result<Vec<Day>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT m.day FROM missing m JOIN tenant t ON t.id = m.tenant
             WHERE t.guid = ?1 AND m.absent = 0 AND (m.requests < ?2 OR m.last_requested <= ?3) ORDER BY m.day",
        )?;

        let rows = statement
            .query_map(params![tenant.to_string(), DAILY_REQUESTS, now_ms - WEEK_MS], |row| {
                row.get::<_, i32>(0)
            })?;
        let days = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(days.into_iter().filter_map(Day::from_number).collect())
    }

    /// All missing days of a tenant, also those that are not requested any more; oldest first.
    pub fn missing_days(&self, tenant: TenantId) -> Result<Vec<MissingDay>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT m.day, m.absent FROM missing m JOIN tenant t ON t.id = m.tenant WHERE t.guid = ?1 ORDER BY m.day",
        )?;

        let mut rows = statement.query([tenant.to_string()])?;
        let mut days = Vec::new();
        while let Some(row) = rows.next()? {
            if let Some(day) = Day::from_number(row.get(0)?) {
                days.push(MissingDay { day, absent: row.get(1)? });
            }
        }
        Ok(days)
    }

    /// The number of stored snapshots from an entry and a day on that still have their body.
    pub fn count_snapshots(
        &self,
        tenant: TenantId,
        first_seq: u64,
        from: Day,
    ) -> Result<u64, CheckpointError> {
        let count: i64 = self.connection().query_row(
            "SELECT count(*) FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.seq >= ?2 AND e.day >= ?3 AND e.body IS NOT NULL",
            params![tenant.to_string(), first_seq.cast_signed(), from.number()],
            |row| row.get(0),
        )?;
        Ok(count.cast_unsigned())
    }
}
