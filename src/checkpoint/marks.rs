//! The marks of sinks, the ends of logs, and other small facts by which a deliverer decides where
//! to continue.
//!
//! A mark is a few bytes that a sink stores together with its cursors; only the sink knows their
//! meaning. Nothing here acknowledges a record. Start reading at [`Checkpoint::mark`] and
//! [`Checkpoint::skip_to`].

use std::ops::ControlFlow;

use super::{
    Checkpoint, CheckpointError, Position,
    backend::{Statements, values},
    claims::HOST,
    fields::day,
    sql::snapshot,
};
use crate::model::{Day, Seq, SinkName, TenantId};

/// The number of days that [`Checkpoint::days_before`] lists.
const MAX_LISTED_DAYS: u32 = 200;

/// SQL: the mark of the sink `?1` on the host `?2`.
const SELECT: &str = "SELECT h.mark FROM sink_host h JOIN sink s ON s.id = h.sink
     WHERE s.name = ?1 AND h.host = ?2";

/// SQL: replaces the mark of the sink `?1` on the host `?2`.
const UPDATE: &str = "UPDATE sink_host SET mark = ?3
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND host = ?2";

/// SQL: moves the cursor of the sink `?1` for the tenant `?2` forward to the beginning of the entry
/// `?3`, with the epoch `?4`.
const SKIP_TO: &str = "UPDATE cursor SET seq = ?3, record_index = 0, epoch = ?4
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = (SELECT id FROM tenant WHERE guid = ?2)
       AND seq < ?3";

/// SQL: the days of the snapshots of the tenant `?1` before the entry `?2`, newest first and at
/// most `?3`, each with the facts hash of its latest revision.
const DAYS_BEFORE: &str = concat!(
    "SELECT e.day, e.digest FROM entry e JOIN tenant t ON t.id = e.tenant WHERE t.guid = ?1 AND e.kind = ",
    snapshot!(),
    " AND e.seq < ?2 AND NOT EXISTS (SELECT 1 FROM entry l WHERE l.tenant = e.tenant AND l.kind = ",
    snapshot!(),
    " AND l.day = e.day AND l.revision > e.revision AND l.seq < ?2) ORDER BY e.day DESC LIMIT ?3"
);

impl Checkpoint {
    /// The mark that the sink stored with its last advance. `None` if it has not stored one.
    /// Fails if the database cannot be read.
    pub fn mark(&self, sink: &SinkName) -> Result<Option<Vec<u8>>, CheckpointError> {
        let mark = self.reading(|store| {
            store.query_optional(SELECT, values![sink, HOST], |row| {
                row.get::<Option<Vec<u8>>>("mark")
            })
        })?;
        Ok(mark.flatten())
    }

    /// Replaces the mark of a sink without an advance.
    /// Fails if the database cannot be written; an unknown sink is not an error.
    pub fn set_mark(&self, sink: &SinkName, mark: &[u8]) -> Result<(), CheckpointError> {
        self.claimed(|store| self::store(store, sink, mark))
    }

    /// Commits a write that changes only the count of the claim, so that the caller knows that the
    /// outcome of what it sends next can be stored. The commit also overwrites what a failed one
    /// may have left in the write-ahead log: otherwise, a crash could restore an advance that was
    /// reported as failed.
    ///
    /// Fails if the database cannot be written.
    pub fn confirm_writable(&self) -> Result<(), CheckpointError> {
        self.claimed(|_| Ok(()))
    }

    /// Moves a live cursor forward to the beginning of the entry `to.seq`; the receiver must have
    /// everything before that entry. Returns whether the cursor was behind it.
    /// Fails if the database cannot be written.
    pub fn skip_to(
        &self,
        sink: &SinkName,
        tenant: TenantId,
        to: Position,
    ) -> Result<bool, CheckpointError> {
        let (guid, seq, epoch) = (tenant.to_string(), to.seq, self.claim.epoch);
        let moved =
            self.claimed(|store| store.execute(SKIP_TO, values![sink, guid, seq, epoch]))?;
        Ok(moved > 0)
    }

    /// A tenant's next entry. It is [`Seq::FIRST`] if the tenant has no log yet.
    /// Fails if the database cannot be read.
    pub fn next_seq(&self, tenant: TenantId) -> Result<Seq, CheckpointError> {
        let guid = tenant.to_string();
        let sql = "SELECT next_seq FROM tenant WHERE guid = ?1";
        let next = self.reading(|store| {
            store.query_optional(sql, values![guid], |row| row.get::<Seq>("next_seq"))
        })?;
        Ok(next.unwrap_or(Seq::FIRST))
    }

    /// The days of a tenant's snapshots before `seq`, newest first and at most 200, and the facts
    /// hash of the newest one at its latest revision.
    /// Fails if the database cannot be read.
    pub fn days_before(
        &self,
        tenant: TenantId,
        seq: Seq,
    ) -> Result<(Vec<Day>, Option<[u8; 32]>), CheckpointError> {
        let guid = tenant.to_string();
        self.reading(|store| {
            let mut days = Vec::new();
            let mut newest: Option<[u8; 32]> = None;
            store.query(DAYS_BEFORE, values![guid, seq, MAX_LISTED_DAYS], &mut |row| {
                newest = newest.or(Some(row.get("digest")?));
                days.extend(day(row, "day")?);
                Ok(ControlFlow::Continue(()))
            })?;
            Ok((days, newest))
        })
    }
}

/// Replaces the mark of a sink. Fails if the database cannot be written; an unknown sink is not an
/// error.
pub(super) fn store(
    store: &dyn Statements,
    sink: &SinkName,
    mark: &[u8],
) -> Result<(), CheckpointError> {
    store.execute(UPDATE, values![sink, HOST, mark])?;
    Ok(())
}
