//! Reads entries of a tenant's log, starting at a cursor, and the earlier entries that records are
//! derived from: the base of a snapshot, the earlier revisions of its day, and the scores of two
//! weeks. Reading never changes anything; a cursor moves only in `cursors`. Start reading at
//! [`Checkpoint::read`].

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Checkpoint, CheckpointError, ControlNames, ENTRY_DAY, EntryFlags,
    body::BodyReader,
    columns::{EntryKind, entry_day, unsigned},
    commit_poll::read_facts,
    entry_flags,
    row_ids::{CatalogVersion, TenantRow},
};
use crate::model::{
    Day, DayFacts, Observation, ObservationKind, Phase, SnapshotRef, TenantId, UnixMillis,
};

/// Which entries of a tenant's log to read, and what to read with them.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    pub tenant: TenantId,
    /// The first entry, inclusive.
    pub first_seq: u64,
    /// The last entry, inclusive.
    pub last_seq: u64,
    /// The first day, inclusive.
    pub first_day: Day,
    /// The last day, inclusive; `None` means no limit.
    pub last_day: Option<Day>,
    /// Reading stops after the entry with which the bodies reach this size in bytes. At least one
    /// entry is read.
    pub max_bytes: usize,
    /// Whether to fill [`StoredSnapshot::context`].
    pub with_bases: bool,
    /// Whether to read observations too.
    pub with_observations: bool,
}

/// An entry of the log.
#[derive(Debug)]
pub enum LogEntry {
    /// A snapshot whose body is stored.
    Snapshot(Box<StoredSnapshot>),
    /// A begin or an end of an observation.
    Observation(StoredObservation),
}

/// A snapshot of the log, with the data that records are derived from.
#[derive(Debug)]
pub struct StoredSnapshot {
    pub snapshot: SnapshotRef,
    /// When the poll read it.
    pub observed_at: UnixMillis,
    /// The JSON as Microsoft sent it.
    pub body: String,
    /// The catalog version, for [`Checkpoint::catalog`]. `None` if no catalog had been read.
    pub catalog: Option<CatalogVersion>,
    /// The facts of the day's earlier revisions, oldest first.
    pub history: Vec<DayFacts>,
    /// Empty unless it was requested with `with_bases`.
    pub context: EntryContext,
}

/// How a snapshot relates to the earlier entries of its log.
#[derive(Debug, Default)]
pub struct EntryContext {
    /// The entry that changes are measured from, if there is one.
    pub base: Option<StoredBase>,
    /// Whether it is the first complete snapshot of this tenant.
    pub first_contact: bool,
    /// Whether it is a revision of a day that was appended after later days.
    pub revises_past_day: bool,
}

/// The entry that the changes of a snapshot are measured from.
#[derive(Debug)]
pub struct StoredBase {
    /// The `seq` of the base in the tenant's log.
    pub seq: u64,
    /// The facts of the base.
    pub facts: Arc<DayFacts>,
    /// The catalog version, for [`Checkpoint::catalog`].
    pub catalog: Option<CatalogVersion>,
    /// Whether a backfill read the base.
    pub backfilled: bool,
    /// The chain of bases before this one, over [`LOOKBACK_DAYS`]; oldest first.
    pub earlier: Vec<Arc<DayFacts>>,
}

/// An observation of the log.
#[derive(Debug)]
pub struct StoredObservation {
    pub observation: Observation,
    /// When it was noticed.
    pub observed_at: UnixMillis,
    /// The first day of the observation and its `seq`; the other fields have no meaning.
    pub snapshot: SnapshotRef,
    /// How many equal observations (same kind, first day, subject and phase) precede it in the log.
    pub repeats: u32,
}

/// The number of days before a snapshot in which a score that changes repeatedly is recognized.
pub(super) const LOOKBACK_DAYS: i32 = 14;

impl LogEntry {
    /// The number of the entry in the tenant's log.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Snapshot(entry) => entry.snapshot.seq,
            Self::Observation(observed) => observed.snapshot.seq,
        }
    }
}

impl Checkpoint {
    /// Reads entries of a tenant's log in the order of `seq`. Skips snapshots whose body was
    /// pruned, and observations of a kind that this release does not support.
    ///
    /// If a body is damaged, returns the entries before it; fails if it belongs to the first entry.
    pub fn read(&self, request: &ReadRequest) -> Result<Vec<LogEntry>, CheckpointError> {
        let connection = self.connection();
        let names = self.control_names(&connection)?;
        let mut statement = connection.prepare_cached(&format!(
            "SELECT e.seq, e.day, e.observed, e.revision, e.snapshot_id, e.flags, e.catalog, e.body, e.base_day, e.base_revision,
                e.kind, e.what, e.subject, e.phase, e.details, e.tenant, e.hint
             FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.seq BETWEEN ?2 AND ?5 AND {ENTRY_DAY} >= ?3 AND (?4 IS NULL OR {ENTRY_DAY} <= ?4)
               AND (e.kind = 1 AND e.body IS NOT NULL OR e.kind = 2 AND ?6) ORDER BY e.seq"
        ))?;
        let mut rows = statement.query(params![
            request.tenant.to_string(),
            request.first_seq.cast_signed(),
            request.first_day.number(),
            request.last_day.map(Day::number),
            i64::try_from(request.last_seq).unwrap_or(i64::MAX),
            request.with_observations
        ])?;

        let mut reader =
            EntryReader { connection: &connection, names: &names, facts: HashMap::new() };
        let mut bodies = BodyReader::default();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            if row.get::<_, EntryKind>("kind")? == EntryKind::Observation {
                entries.extend(reader.observation(row)?.map(LogEntry::Observation));
                continue;
            }

            let body = match bodies.read(&connection, row.get("body")?) {
                // The entries before the damaged one can still be sent.
                Err(CheckpointError::Damaged(_)) if !entries.is_empty() => break,
                other => other?,
            };
            bytes += body.len();

            let mut snapshot = reader.snapshot(row, body)?;
            if request.with_bases {
                snapshot.context = reader.context_of_row(row, &snapshot.snapshot)?;
            }
            entries.push(LogEntry::Snapshot(Box::new(snapshot)));
            if bytes >= request.max_bytes {
                break;
            }
        }
        Ok(entries)
    }
}

/// Builds entries from rows, and looks up the earlier entries that belong to them.
pub(super) struct EntryReader<'a> {
    pub(super) connection: &'a Connection,
    pub(super) names: &'a ControlNames,
    /// A cache of entries by day and revision: each day is the base of the next one.
    pub(super) facts: HashMap<(i32, u32), BaseEntry>,
}

/// A snapshot of the log that other snapshots are measured from.
#[derive(Clone, Debug)]
pub(super) struct BaseEntry {
    pub(super) seq: u64,
    pub(super) facts: Arc<DayFacts>,
    pub(super) catalog: Option<CatalogVersion>,
    pub(super) backfilled: bool,
    /// The day and revision of its base.
    pub(super) base: Option<(i32, u32)>,
}

impl EntryReader<'_> {
    /// The snapshot of a row, with an empty context.
    fn snapshot(&self, row: &Row<'_>, body: String) -> Result<StoredSnapshot, CheckpointError> {
        let flags = EntryFlags::from_bits(row.get("flags")?);
        let (id, revision) = (row.get("snapshot_id")?, row.get("revision")?);
        let snapshot = flags.snapshot_ref(id, entry_day(row)?, revision, unsigned(row, "seq")?);

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
    fn context_of_row(
        &mut self,
        row: &Row<'_>,
        snapshot: &SnapshotRef,
    ) -> Result<EntryContext, CheckpointError> {
        let base_key = row.get::<_, Option<i32>>("base_day")?.zip(row.get("base_revision")?);
        self.context(row.get("tenant")?, snapshot, base_key)
    }

    /// The context of a snapshot; `base_key` is the day and revision of its base. Fails with
    /// [`CheckpointError::Damaged`] if the facts of a base cannot be decoded.
    pub(super) fn context(
        &mut self,
        tenant: TenantRow,
        snapshot: &SnapshotRef,
        base_key: Option<(i32, u32)>,
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

        let mut statement = self.connection.prepare_cached(
            "SELECT day, facts FROM entry WHERE tenant = ?1 AND kind = 1 AND day = ?2 AND revision < ?3 ORDER BY revision",
        )?;
        let mut rows =
            statement.query(params![tenant, snapshot.day.number(), snapshot.revision])?;
        let mut revisions = Vec::new();
        while let Some(row) = rows.next()? {
            revisions.push(read_facts(row, self.names)?);
        }
        Ok(revisions)
    }

    /// The base of a snapshot of `day`, with the chain of bases before it.
    fn base(
        &mut self,
        tenant: TenantRow,
        key: (i32, u32),
        day: Day,
    ) -> Result<Option<StoredBase>, CheckpointError> {
        let Some(found) = self.find(tenant, key)? else { return Ok(None) };

        let mut earlier = Vec::new();
        let mut next = found.base;
        while let Some(key) = next.filter(|(base_day, _)| *base_day > day.number() - LOOKBACK_DAYS)
        {
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
        key: (i32, u32),
    ) -> Result<Option<BaseEntry>, CheckpointError> {
        if let Some(found) = self.facts.get(&key) {
            return Ok(Some(found.clone()));
        }

        let mut statement = self.connection.prepare_cached(
            "SELECT seq, day, facts, catalog, flags, base_day, base_revision FROM entry
             WHERE tenant = ?1 AND kind = 1 AND day = ?2 AND revision = ?3",
        )?;
        let mut rows = statement.query(params![tenant, key.0, key.1])?;
        let Some(row) = rows.next()? else { return Ok(None) };

        let base_day: Option<i32> = row.get("base_day")?;
        let found = BaseEntry {
            seq: unsigned(row, "seq")?,
            facts: Arc::new(read_facts(row, self.names)?),
            catalog: row.get("catalog")?,
            backfilled: EntryFlags::from_bits(row.get("flags")?).backfilled,
            base: base_day.zip(row.get("base_revision")?),
        };
        self.facts.insert(key, found.clone());
        Ok(Some(found))
    }

    /// Whether the log has no complete snapshot before this entry.
    fn is_first_complete(&self, tenant: TenantRow, seq: u64) -> Result<bool, CheckpointError> {
        let earlier = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM entry WHERE tenant = ?1 AND kind = 1 AND seq < ?2 AND flags & ?3 = 0 LIMIT 1",
            )?
            .query_row(params![tenant, seq.cast_signed(), entry_flags::PARTIAL], |_| Ok(()))
            .optional()?;
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

        let later_day = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM entry WHERE tenant = ?1 AND kind = 1 AND day > ?2 AND seq < ?3 LIMIT 1",
            )?
            .query_row(
                params![tenant, snapshot.day.number(), snapshot.seq.cast_signed()],
                |_| Ok(()),
            )
            .optional()?;
        Ok(later_day.is_some())
    }

    /// Builds an observation; `None` if a later release wrote it and this one does not support it.
    fn observation(&self, row: &Row<'_>) -> Result<Option<StoredObservation>, CheckpointError> {
        let (what, phase): (String, String) = (row.get("what")?, row.get("phase")?);
        let (Some(what), Some(phase)) = (ObservationKind::parse(&what), Phase::parse(&phase))
        else {
            return Ok(None);
        };
        let (seq, subject): (i64, String) = (row.get("seq")?, row.get("subject")?);
        let first_day = entry_day(row)?;

        // The same observation can begin again on the same day. The number of earlier ones makes
        // the event IDs of its records unique.
        let repeats = self
            .connection
            .prepare_cached(
                "SELECT count(*) AS repeats FROM entry WHERE tenant = ?1 AND kind = 2 AND seq < ?2 AND day = ?3
                   AND what = ?4 AND subject = ?5 AND phase = ?6",
            )?
            .query_row(
                params![
                    row.get::<_, TenantRow>("tenant")?,
                    seq,
                    first_day.number(),
                    what.as_str(),
                    subject,
                    phase.as_str()
                ],
                |row| row.get("repeats"),
            )?;

        Ok(Some(StoredObservation {
            snapshot: SnapshotRef::of_observation(first_day, unsigned(row, "seq")?),
            observation: Observation {
                what,
                subject,
                first_day,
                phase,
                details: row.get("details")?,
                hint: row.get("hint")?,
            },
            observed_at: row.get("observed")?,
            repeats,
        }))
    }
}
