//! Reads entries of a tenant's log, starting at a cursor, and the earlier entries that records are
//! derived from: the base of a snapshot, the earlier revisions of its day, and the scores of two
//! weeks. Reading never changes anything; a cursor moves only in [`Checkpoint::advance`]. Start
//! reading at [`Checkpoint::read`].

use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

use super::{
    Checkpoint, CheckpointError,
    backend::values,
    body::BodyReader,
    entry_reader::EntryReader,
    fields::EntryKind,
    row_ids::CatalogVersion,
    sql::{entry_day, observation, snapshot},
};
use crate::model::{Day, DayFacts, Observation, Seq, SnapshotRef, TenantId, UnixMillis};

/// Which entries of a tenant's log to read, and what to read with them.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    pub tenant: TenantId,
    /// The first entry, inclusive.
    pub first_seq: Seq,
    /// The last entry, inclusive.
    pub last_seq: Seq,
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
    /// The base in the tenant's log.
    pub seq: Seq,
    /// The facts of the base.
    pub facts: Arc<DayFacts>,
    /// The catalog version, for [`Checkpoint::catalog`].
    pub catalog: Option<CatalogVersion>,
    /// Whether a backfill read the base.
    pub backfilled: bool,
    /// The chain of bases before this one, over
    /// [`LOOKBACK_DAYS`](super::entry_reader::LOOKBACK_DAYS); oldest first.
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

/// SQL: entries of a tenant's log. The largest number as the last day means no limit.
const READ: &str = concat!(
    "SELECT e.seq, e.day, e.observed, e.revision, e.snapshot_id, e.flags, e.catalog, e.body, e.base_day, e.base_revision,
        e.kind, e.what, e.subject, e.phase, e.details, e.tenant, e.hint
     FROM entry e JOIN tenant t ON t.id = e.tenant
     WHERE t.guid = ?1 AND e.seq BETWEEN ?2 AND ?5 AND ",
    entry_day!(),
    " >= ?3 AND ",
    entry_day!(),
    " <= ?4 AND (e.kind = ",
    snapshot!(),
    " AND e.body IS NOT NULL OR e.kind = ",
    observation!(),
    " AND ?6) ORDER BY e.seq"
);

impl LogEntry {
    /// The number of the entry in the tenant's log.
    pub fn seq(&self) -> Seq {
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
        let guid = request.tenant.to_string();
        let (first, last) = (request.first_seq, request.last_seq);
        let from = request.first_day.number();
        let to = request.last_day.map_or(i64::MAX, |day| day.number().into());
        let all_kinds = request.with_observations;

        self.reading(|store| {
            let names = self.control_names(store)?;
            let mut reader = EntryReader { store, names: &names, facts: HashMap::new() };
            let mut bodies = BodyReader::default();
            let (mut entries, mut bytes) = (Vec::new(), 0);

            store.query(READ, values![guid, first, from, to, last, all_kinds], &mut |row| {
                if row.get::<EntryKind>("kind")? == EntryKind::Observation {
                    entries.extend(reader.observation(row)?.map(LogEntry::Observation));
                    return Ok(ControlFlow::Continue(()));
                }

                let body = match bodies.read(store, row.get("body")?) {
                    // The entries before the damaged one can still be sent.
                    Err(CheckpointError::Damaged(_)) if !entries.is_empty() => {
                        return Ok(ControlFlow::Break(()));
                    }
                    other => other?,
                };
                bytes += body.len();

                let mut snapshot = reader.snapshot(row, body)?;
                if request.with_bases {
                    snapshot.context = reader.context_of_row(row, &snapshot.snapshot)?;
                }
                entries.push(LogEntry::Snapshot(Box::new(snapshot)));
                let is_full = bytes >= request.max_bytes;
                Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok(entries)
        })
    }
}
