//! A tenant's past, from facts alone: what reports are made of.

use std::{collections::HashMap, sync::Arc};

use rusqlite::params;

use super::{
    Checkpoint, CheckpointError,
    body::Bodies,
    commit_poll::{EntryFlags, read_facts},
    read::{EntryContext, FORTNIGHT, Found, Reading},
};
use crate::model::{Day, DayFacts, SnapshotRef, TenantId};

/// A snapshot of the log, without its body.
#[derive(Debug)]
pub struct PastEntry {
    /// Without its id, which nobody reads in a report.
    pub snapshot: SnapshotRef,
    /// When the poll read it, in milliseconds since 1970-01-01.
    pub observed_ms: i64,
    pub facts: Arc<DayFacts>,
    pub catalog: Option<i64>,
    pub context: EntryContext,
}

/// A day that was expected and has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingDay {
    pub day: Day,
    /// It was asked for as long as Microsoft keeps it.
    pub absent: bool,
}

/// Entries read at a time: their memory, against reading a fortnight of bases anew.
const AT_A_TIME: u32 = 120;

impl Checkpoint {
    /// A tenant's snapshots of a day or later, in the order of the log: some of those that come
    /// after `seq`.
    pub fn past_entries(
        &self,
        tenant: TenantId,
        from: Day,
        seq: u64,
    ) -> Result<Vec<PastEntry>, CheckpointError> {
        let connection = self.connection();
        let names = self.names();
        let mut reading = Reading { connection: &connection, names: &names, facts: HashMap::new() };
        let mut statement = connection.prepare_cached(
            "SELECT e.seq, e.day, e.facts, e.revision, e.flags, e.observed, e.catalog, e.base_day, e.base_revision, e.tenant
             FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.day >= ?2 AND e.seq > ?3 ORDER BY e.seq LIMIT ?4",
        )?;
        let mut rows = statement.query(params![
            tenant.to_string(),
            from.number(),
            seq.cast_signed(),
            AT_A_TIME
        ])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            entries.push(reading.past(row)?);
        }
        Ok(entries)
    }

    /// The bodies of a tenant's days as Microsoft sent them, each day as it was told last, oldest
    /// first, for as long as `each` wants more.
    pub fn for_each_body(
        &self,
        tenant: TenantId,
        from: Option<Day>,
        to: Option<Day>,
        mut each: impl FnMut(&str) -> bool,
    ) -> Result<(), CheckpointError> {
        let connection = self.connection();
        let mut bodies = Bodies::default();
        let mut statement = connection.prepare(
            "SELECT e.body, max(e.revision) FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.body IS NOT NULL AND e.day BETWEEN ?2 AND ?3
             GROUP BY e.day ORDER BY e.day",
        )?;
        let mut rows = statement.query(params![
            tenant.to_string(),
            from.map_or(i32::MIN, Day::number),
            to.map_or(i32::MAX, Day::number)
        ])?;
        while let Some(row) = rows.next()? {
            if !each(&bodies.read(&connection, row.get(0)?)?) {
                break;
            }
        }
        Ok(())
    }

    /// The days that a tenant still owes, or never had.
    pub fn missing_days(&self, tenant: TenantId) -> Result<Vec<MissingDay>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT o.day, o.absent FROM missing o JOIN tenant t ON t.id = o.tenant WHERE t.guid = ?1 ORDER BY o.day",
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
}

impl Reading<'_> {
    fn past(&mut self, row: &rusqlite::Row<'_>) -> Result<PastEntry, CheckpointError> {
        let facts = Arc::new(read_facts(row, 1, 2, self.names)?);
        let flags = EntryFlags::of(row.get(4)?);
        let snapshot = flags.of_snapshot(String::new(), facts.day, row.get(3)?, row.get(0)?);
        let measured_from = row.get::<_, Option<i32>>(7)?.zip(row.get(8)?);
        let context = self.context(row.get(9)?, &snapshot, measured_from)?;
        let catalog = row.get(6)?;
        self.remember(&snapshot, catalog, measured_from, &facts);
        Ok(PastEntry { snapshot, observed_ms: row.get(5)?, facts, catalog, context })
    }

    /// The next day will be measured from this one; nobody will from what is older than a fortnight.
    fn remember(
        &mut self,
        of: &SnapshotRef,
        catalog: Option<i64>,
        base: Option<(i32, u32)>,
        facts: &Arc<DayFacts>,
    ) {
        let day = of.day.number();
        let (seq, backfilled) = (of.seq, of.backfilled);
        let found = Found { seq, facts: Arc::clone(facts), catalog, backfilled, base };
        self.facts.insert((day, of.revision), found);
        self.facts.retain(|(kept, _), _| *kept > day - FORTNIGHT - 1);
    }
}
