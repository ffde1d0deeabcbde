//! What a lane of a sink sends next: positions in the logs of tenants, and the entries that a sink
//! has not received.
//!
//! The query starts at the cursors of the sink and excludes tenants without new entries by the ends
//! of their logs, so their entries are not searched. Reading must never move a cursor. Start
//! reading at [`Checkpoint::pending`].

use super::{
    Checkpoint, CheckpointError,
    backend::{SqlValue, Statements, values},
    fields::{day, unsigned},
    row_ids::{ReplayId, tenant_id},
    sql::{backfilled_flag, entry_day, is_sent_to_sink},
};
use crate::model::{Day, Seq, SinkName, TenantId};

/// A position in a tenant's log: the next record that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The entry.
    pub seq: Seq,
    /// The index of the record within the entry, starting at 0.
    pub record_index: u32,
}

/// A source of records for one sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// New entries, starting at the sink's cursor.
    Live,
    /// Stored days that are sent again, by the replay job with this ID.
    Replay(ReplayId),
    /// Dead letters that are retried; this lane has no cursor.
    DeadLetters,
}

/// The part of a tenant's log that a lane of a sink has not delivered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub tenant: TenantId,
    /// The next record to send.
    pub at: Position,
    /// The first day to send.
    pub first_day: Day,
    /// The last day to send; `None` means no limit.
    pub last_day: Option<Day>,
    /// The last entry to send.
    pub last_seq: Seq,
    /// The number of entries that are not completely acknowledged.
    pub entries: u64,
    /// Whether the next of them was read by a backfill.
    pub backfilled: bool,
}

/// SQL: [`Checkpoint::pending`] of the sink `?1`. The end of the log excludes tenants without new
/// entries, so their entries are not searched. The groups are in the order of the cursors, so that
/// nothing is sorted; each has one cursor, whose values are also the smallest.
pub(super) const PENDING: &str = concat!(
    "SELECT min(t.guid) AS guid, min(c.seq) AS seq, min(c.record_index) AS record_index,
        min(c.floor) AS first_day, CAST(NULL AS BIGINT) AS last_day, max(e.seq) AS last_seq,
        count(*) AS entries, min(e.seq * 2 + CASE WHEN e.flags & ",
    backfilled_flag!(),
    " <> 0 THEN 1 ELSE 0 END) & 1 = 1 AS backfilled
     FROM sink s JOIN cursor c ON c.sink = s.id AND c.active
     JOIN tenant t ON t.id = c.tenant AND t.next_seq > c.seq
     JOIN entry e ON e.tenant = c.tenant AND e.seq >= c.seq AND ",
    entry_day!(),
    " >= c.floor AND ",
    is_sent_to_sink!(),
    " WHERE s.name = ?1 GROUP BY c.tenant ORDER BY c.tenant"
);

impl Checkpoint {
    /// The tenants with entries that this sink has not received, in the live lane.
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the GUID of a
    /// tenant is invalid.
    pub fn pending(&self, sink: &SinkName) -> Result<Vec<Pending>, CheckpointError> {
        self.reading(|store| pending_of(store, PENDING, values![sink]))
    }
}

/// Runs a query whose columns are named after the fields of [`Pending`] and [`Position`], with
/// `guid` for the tenant. Fails in the same cases as [`Checkpoint::pending`].
pub(super) fn pending_of(
    store: &dyn Statements,
    sql: &'static str,
    values: &[SqlValue<'_>],
) -> Result<Vec<Pending>, CheckpointError> {
    store.query_all(sql, values, |row| {
        Ok(Pending {
            tenant: tenant_id(&row.get::<String>("guid")?)?,
            at: Position { seq: row.get("seq")?, record_index: row.get("record_index")? },
            first_day: day(row, "first_day")?.unwrap_or(Day::of(jiff::Timestamp::UNIX_EPOCH)),
            last_day: day(row, "last_day")?,
            last_seq: row.get("last_seq")?,
            entries: unsigned(row, "entries")?,
            backfilled: row.get("backfilled")?,
        })
    })
}
