//! Reading the log on from a cursor.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Checkpoint, CheckpointError, Names, ON_DAY,
    body::Bodies,
    commit_poll::{EntryFlags, read_facts},
};
use crate::model::{Day, DayFacts, Observation, Phase, SnapshotRef, TenantId, What};

/// What is to be read of a tenant's log.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    pub tenant: TenantId,
    /// From this entry on, up to and with that one.
    pub first_seq: u64,
    pub last_seq: u64,
    pub first_day: Day,
    pub last_day: Option<Day>,
    pub max_bytes: usize,
    pub with_bases: bool,
    pub with_observations: bool,
}

/// An entry of the log.
#[derive(Debug)]
pub enum LogEntry {
    Snapshot(Box<StoredSnapshot>),
    Observation(StoredObservation),
}

/// What an entry is measured against.
#[derive(Debug)]
pub struct StoredBase {
    pub seq: u64,
    pub facts: Arc<DayFacts>,
    pub catalog: Option<i64>,
    pub backfilled: bool,
    /// Its own base, and that one's, over a fortnight; oldest first.
    pub earlier: Vec<Arc<DayFacts>>,
}

/// A snapshot of the log as a sink needs it.
#[derive(Debug)]
pub struct StoredSnapshot {
    pub snapshot: SnapshotRef,
    pub observed_ms: i64,
    /// As sent.
    pub body: String,
    pub catalog: Option<i64>,
    /// The facts of the day's earlier revisions, oldest first.
    pub history: Vec<DayFacts>,
    /// Nothing of it where it was not asked for.
    pub context: EntryContext,
}

/// How a snapshot stands to others of its log.
#[derive(Debug, Default)]
pub struct EntryContext {
    /// What changes are measured from, if there is anything.
    pub base: Option<StoredBase>,
    /// No whole day of this tenant came before it.
    pub first_contact: bool,
    /// A revision of a day after which others have come.
    pub revises_past_day: bool,
}

/// An observation of the log.
#[derive(Debug)]
pub struct StoredObservation {
    pub observation: Observation,
    pub observed_ms: i64,
    /// Its first day and its place in the log; nothing else of a snapshot is true of it.
    pub snapshot: SnapshotRef,
    /// The same thing began, or ended, so often on this first day before.
    pub repeats: u32,
}

/// How far back it is looked for a score that keeps changing, in days.
pub(super) const FORTNIGHT: i32 = 14;

impl LogEntry {
    pub fn seq(&self) -> u64 {
        match self {
            Self::Snapshot(entry) => entry.snapshot.seq,
            Self::Observation(observed) => observed.snapshot.seq,
        }
    }
}

impl Checkpoint {
    /// The next entries of a tenant's log.
    pub fn read(&self, wanted: &ReadRequest) -> Result<Vec<LogEntry>, CheckpointError> {
        let connection = self.connection();
        let names = self.names();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT e.seq, e.day, e.observed, e.revision, e.snapshot_id, e.flags, e.catalog, e.body, e.base_day, e.base_revision,
                e.kind, e.what, e.subject, e.phase, e.details, e.tenant, e.hint
             FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.seq BETWEEN ?2 AND ?5 AND {ON_DAY} >= ?3 AND (?4 IS NULL OR {ON_DAY} <= ?4)
               AND (e.kind = 1 AND e.body IS NOT NULL OR e.kind = 2 AND ?6) ORDER BY e.seq"
        ))?;
        let mut rows = statement.query(params![
            wanted.tenant.to_string(),
            wanted.first_seq.cast_signed(),
            wanted.first_day.number(),
            wanted.last_day.map(Day::number),
            i64::try_from(wanted.last_seq).unwrap_or(i64::MAX),
            wanted.with_observations
        ])?;
        let mut reading = Reading { connection: &connection, names: &names, facts: HashMap::new() };
        let mut bodies = Bodies::default();
        let (mut entries, mut read) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(10)? == 2 {
                entries.extend(reading.observation(row)?.map(LogEntry::Observation));
                continue;
            }
            let body = match bodies.read(&connection, row.get(7)?) {
                // What comes before it can go out all the same.
                Err(CheckpointError::Damaged(_)) if !entries.is_empty() => break,
                other => other?,
            };
            read += body.len();
            entries.push(LogEntry::Snapshot(Box::new(reading.snapshot(
                row,
                body,
                wanted.with_bases,
            )?)));
            if read >= wanted.max_bytes {
                break;
            }
        }
        Ok(entries)
    }
}

pub(super) struct Reading<'a> {
    pub(super) connection: &'a Connection,
    pub(super) names: &'a Names,
    /// Those read already: every base is the base of the next day's.
    pub(super) facts: HashMap<(i32, u32), Found>,
}

/// An entry that others are measured from.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) seq: u64,
    pub(super) facts: Arc<DayFacts>,
    pub(super) catalog: Option<i64>,
    pub(super) backfilled: bool,
    pub(super) base: Option<(i32, u32)>,
}

impl Reading<'_> {
    fn snapshot(
        &mut self,
        row: &Row<'_>,
        body: String,
        bases: bool,
    ) -> Result<StoredSnapshot, CheckpointError> {
        let flags = EntryFlags::of(row.get(5)?);
        let snapshot = flags.of_snapshot(row.get(4)?, day(row)?, row.get(3)?, row.get(0)?);
        let tenant: i64 = row.get(15)?;
        let measured_from = row.get::<_, Option<i32>>(8)?.zip(row.get(9)?);
        let context = if bases {
            self.context(tenant, &snapshot, measured_from)?
        } else {
            EntryContext::default()
        };
        Ok(StoredSnapshot {
            observed_ms: row.get(2)?,
            body,
            catalog: row.get(6)?,
            history: self.history(tenant, &snapshot)?,
            context,
            snapshot,
        })
    }

    /// `measured_from` is the day and revision of the base.
    pub(super) fn context(
        &mut self,
        tenant: i64,
        of: &SnapshotRef,
        measured_from: Option<(i32, u32)>,
    ) -> Result<EntryContext, CheckpointError> {
        let base = match measured_from {
            Some(key) => self.base(tenant, key, of.day)?,
            None => None,
        };
        let may_be_first = measured_from.is_none() && !of.late && !of.partial;
        Ok(EntryContext {
            base,
            first_contact: may_be_first && self.is_first(tenant, of.seq)?,
            revises_past_day: self.is_behind(tenant, of)?,
        })
    }

    fn history(&self, tenant: i64, of: &SnapshotRef) -> Result<Vec<DayFacts>, CheckpointError> {
        if of.revision == 1 {
            return Ok(Vec::new());
        }
        let mut earlier = self.connection.prepare_cached(
            "SELECT day, facts FROM entry WHERE tenant = ?1 AND kind = 1 AND day = ?2 AND revision < ?3 ORDER BY revision",
        )?;
        let mut rows = earlier.query(params![tenant, of.day.number(), of.revision])?;
        let mut history = Vec::new();
        while let Some(row) = rows.next()? {
            history.push(read_facts(row, 0, 1, self.names)?);
        }
        Ok(history)
    }

    /// The base of an entry, with what comes before it within a fortnight.
    fn base(
        &mut self,
        tenant: i64,
        key: (i32, u32),
        of: Day,
    ) -> Result<Option<StoredBase>, CheckpointError> {
        let Some(found) = self.find(tenant, key)? else { return Ok(None) };
        let mut earlier = Vec::new();
        let mut next = found.base;
        while let Some(key) = next.filter(|(day, _)| *day > of.number() - FORTNIGHT) {
            let Some(before) = self.find(tenant, key)? else { break };
            earlier.push(before.facts);
            next = before.base;
        }
        earlier.reverse();
        let Found { seq, facts, catalog, backfilled, .. } = found;
        Ok(Some(StoredBase { seq, facts, catalog, backfilled, earlier }))
    }

    fn find(&mut self, tenant: i64, key: (i32, u32)) -> Result<Option<Found>, CheckpointError> {
        if let Some(found) = self.facts.get(&key) {
            return Ok(Some(found.clone()));
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, day, facts, catalog, flags, base_day, base_revision FROM entry
             WHERE tenant = ?1 AND kind = 1 AND day = ?2 AND revision = ?3",
        )?;
        let mut rows = statement.query(params![tenant, key.0, key.1])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let base: Option<i32> = row.get(5)?;
        let found = Found {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            facts: Arc::new(read_facts(row, 1, 2, self.names)?),
            catalog: row.get(3)?,
            backfilled: EntryFlags::of(row.get(4)?).backfilled,
            base: base.zip(row.get(6)?),
        };
        self.facts.insert(key, found.clone());
        Ok(Some(found))
    }

    /// Whether no whole day came before an entry.
    fn is_first(&self, tenant: i64, seq: u64) -> Result<bool, CheckpointError> {
        let earlier = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM entry WHERE tenant = ?1 AND kind = 1 AND seq < ?2 AND flags & 4 = 0 LIMIT 1",
            )?
            .query_row(params![tenant, seq.cast_signed()], |_| Ok(()))
            .optional()?;
        Ok(earlier.is_none())
    }

    /// Whether an entry is a revision of a day after which others had come.
    fn is_behind(&self, tenant: i64, of: &SnapshotRef) -> Result<bool, CheckpointError> {
        if of.revision == 1 {
            return Ok(false);
        }
        let later = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM entry WHERE tenant = ?1 AND kind = 1 AND day > ?2 AND seq < ?3 LIMIT 1",
            )?
            .query_row(params![tenant, of.day.number(), of.seq.cast_signed()], |_| Ok(()))
            .optional()?;
        Ok(later.is_some())
    }

    /// `None` for one that a later release knows, and this one does not.
    fn observation(&self, row: &Row<'_>) -> Result<Option<StoredObservation>, CheckpointError> {
        let (what, phase): (String, String) = (row.get(11)?, row.get(13)?);
        let (Some(what), Some(phase)) = (What::parse(&what), Phase::parse(&phase)) else {
            return Ok(None);
        };
        let (seq, subject): (i64, String) = (row.get(0)?, row.get(12)?);
        let first_day = day(row)?;
        let repeats = self
            .connection
            .prepare_cached(
                "SELECT count(*) FROM entry WHERE tenant = ?1 AND kind = 2 AND seq < ?2 AND day = ?3 AND what = ?4
                   AND subject = ?5 AND phase = ?6",
            )?
            .query_row(
                params![
                    row.get::<_, i64>(15)?,
                    seq,
                    first_day.number(),
                    what.as_str(),
                    subject,
                    phase.as_str()
                ],
                |row| row.get(0),
            )?;
        Ok(Some(StoredObservation {
            snapshot: SnapshotRef::of_observation(first_day, seq.cast_unsigned()),
            observation: Observation {
                what,
                subject,
                first_day,
                phase,
                details: row.get(14)?,
                hint: row.get(16)?,
            },
            observed_ms: row.get(2)?,
            repeats,
        }))
    }
}

fn day(row: &Row<'_>) -> Result<Day, CheckpointError> {
    Day::from_number(row.get(1)?)
        .ok_or_else(|| CheckpointError::Damaged("an entry has no day".to_owned()))
}
