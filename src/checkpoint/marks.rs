//! The marks of sinks, the ends of logs, and other small facts by which a deliverer decides where
//! to continue.
//!
//! A mark is a few bytes that a sink stores together with its cursors; only the sink knows their
//! meaning. Nothing here acknowledges a record. Start reading at [`Checkpoint::mark`] and
//! [`Checkpoint::skip_to`].

use std::ops::ControlFlow;

use super::{
    Checkpoint, CheckpointError, Position,
    backend::values,
    fields::{day, unsigned},
    registration::EPOCH,
    sql::snapshot,
};
use crate::model::{Day, TenantId};

/// The number of days that [`Checkpoint::days_before`] lists.
const MAX_LISTED_DAYS: u32 = 200;

/// SQL: increases a number in the table `meta`. It changes every time, because SQLite does not
/// write a row that is the same.
const COUNT_WRITE_CHECK: &str = "INSERT INTO meta (key, value) VALUES ('write_checks', '1')
     ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT)";

/// SQL: moves the cursor of the sink `?1` for the tenant `?2` with the epoch `?4` forward to the
/// beginning of the entry `?3`.
const SKIP_TO: &str = "UPDATE cursor SET seq = ?3, record_index = 0
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = (SELECT id FROM tenant WHERE guid = ?2)
       AND epoch = ?4 AND seq < ?3";

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
    pub fn mark(&self, sink: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        let sql = "SELECT mark FROM sink WHERE name = ?1";
        let mark = self.reading(|store| {
            store.query_optional(sql, values![sink], |row| row.get::<Option<Vec<u8>>>("mark"))
        })?;
        Ok(mark.flatten())
    }

    /// Replaces the mark of a sink without an advance.
    /// Fails if the database cannot be written; an unknown sink is not an error.
    pub fn set_mark(&self, sink: &str, mark: &[u8]) -> Result<(), CheckpointError> {
        let sql = "UPDATE sink SET mark = ?2 WHERE name = ?1";
        self.claimed(|store| store.execute(sql, values![sink, mark]))?;
        Ok(())
    }

    /// Commits a small change, so that the caller knows that the outcome of what it sends next can
    /// be stored. The commit also overwrites what a failed one may have left in the write-ahead
    /// log: otherwise, a crash could restore an advance that was reported as failed.
    ///
    /// Fails if the database cannot be written.
    pub fn confirm_writable(&self) -> Result<(), CheckpointError> {
        self.claimed(|store| store.execute(COUNT_WRITE_CHECK, values![]))?;
        Ok(())
    }

    /// Moves a live cursor forward to the beginning of the entry `to.seq`; the receiver must have
    /// everything before that entry. Returns whether the cursor was behind it.
    /// Fails if the database cannot be written.
    pub fn skip_to(
        &self,
        sink: &str,
        tenant: TenantId,
        to: Position,
    ) -> Result<bool, CheckpointError> {
        let (guid, seq) = (tenant.to_string(), to.seq.cast_signed());
        let moved =
            self.claimed(|store| store.execute(SKIP_TO, values![sink, guid, seq, EPOCH]))?;
        Ok(moved > 0)
    }

    /// The `seq` of a tenant's next entry. It is 1 if the tenant has no log yet.
    /// Fails if the database cannot be read.
    pub fn next_seq(&self, tenant: TenantId) -> Result<u64, CheckpointError> {
        let guid = tenant.to_string();
        let sql = "SELECT next_seq FROM tenant WHERE guid = ?1";
        let next = self.reading(|store| {
            store.query_optional(sql, values![guid], |row| unsigned(row, "next_seq"))
        })?;
        Ok(next.unwrap_or(1))
    }

    /// The days of a tenant's snapshots before `seq`, newest first and at most 200, and the facts
    /// hash of the newest one at its latest revision.
    /// Fails if the database cannot be read.
    pub fn days_before(
        &self,
        tenant: TenantId,
        seq: u64,
    ) -> Result<(Vec<Day>, Option<[u8; 32]>), CheckpointError> {
        let (guid, seq) = (tenant.to_string(), seq.cast_signed());
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
