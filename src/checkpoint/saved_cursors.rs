//! The cursors of the database in the form of the second cursor file, and the writing of that file.
//!
//! The cursors of an earlier database, which was lost, and those that damage has deleted are kept
//! in the file until their sinks and tenants have a cursor in this one. A cursor outside its log
//! must never be written. Start reading at [`Checkpoint::write_cursor_file`]. See decision 0015.

use std::{collections::HashSet, sync::PoisonError};

use super::{
    Checkpoint, CheckpointError, CursorFile, SavedCursor,
    backend::{Statements, StoredRow, values},
    cursor_checks,
    fields::day,
    meta,
    sql::snapshot,
};
use crate::{error::Explanation, model::SinkName};

/// The row of `meta` with the reason why the file is outdated, as JSON.
const OUTDATED: &str = "cursor_file_outdated";

/// SQL: all cursors, and the days from which their first unsent day follows. A missing day may
/// still be listed, so it counts as unsent.
const CURSORS: &str = concat!(
    "SELECT s.name, t.guid, s.removed, c.seq, c.record_index, c.floor,
        (SELECT max(e.day) FROM entry e WHERE e.tenant = c.tenant AND e.kind = ",
    snapshot!(),
    " AND e.seq < c.seq) AS newest_sent,
        (SELECT min(e.day) FROM entry e WHERE e.tenant = c.tenant AND e.kind = ",
    snapshot!(),
    " AND e.seq >= c.seq AND e.day >= c.floor) AS oldest_unsent,
        (SELECT min(m.day) FROM missing m WHERE m.tenant = c.tenant AND NOT m.absent AND m.day >= c.floor)
            AS oldest_missing
     FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant
     ORDER BY s.name, t.guid"
);

/// SQL: whether the sink `?1` and the tenant `?2` exist.
const ARE_KNOWN: &str = "SELECT EXISTS (SELECT 1 FROM sink WHERE name = ?1)
        AND EXISTS (SELECT 1 FROM tenant WHERE guid = ?2) AS known";

impl Checkpoint {
    /// The current cursors in the form of the second cursor file, which keeps those that were
    /// deleted by damage.
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if a cursor has
    /// no first day or is outside its log.
    pub fn cursors(&self) -> Result<CursorFile, CheckpointError> {
        self.reading(|store| {
            cursor_checks::require_valid(store)?;
            let mut cursors = store.query_all(CURSORS, values![], read_cursor)?;
            let (carried, deleted) = self.without_cursor(&cursors);
            for cursor in deleted {
                if is_known(store, &cursor)? {
                    cursors.push(cursor);
                }
            }
            Ok(CursorFile { checkpoint_id: self.id.clone(), cursors, carried })
        })
    }

    /// The cursors of the second cursor file, of earlier databases and of this one, whose sinks and
    /// tenants have none of the stored `cursors`.
    fn without_cursor(&self, cursors: &[SavedCursor]) -> (Vec<SavedCursor>, Vec<SavedCursor>) {
        let stored: HashSet<(&SinkName, &str)> =
            cursors.iter().map(|c| (&c.sink, c.tenant.as_str())).collect();
        let has_no_cursor =
            |old: &&SavedCursor| !stored.contains(&(&old.sink, old.tenant.as_str()));

        let saved = self.saved_cursors();
        let carried = saved.lost_cursors(&self.id).into_iter().filter(has_no_cursor);
        let deleted = saved.current_cursors(&self.id).filter(has_no_cursor);
        (carried.cloned().collect(), deleted.cloned().collect())
    }

    /// Writes the second cursor file, and stores whether it is outdated, so that `status` can show
    /// it.
    ///
    /// # Errors
    ///
    /// Fails if the cursors cannot be read or the file cannot be replaced; the previous file is
    /// then kept. Also fails if the result cannot be stored.
    pub fn write_cursor_file(&self) -> Result<(), CheckpointError> {
        let _guard = self.cursor_file_writer.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.cursors()?.write(&self.state).map_err(CheckpointError::from);
        let stored = self.store_cursor_file_result(&written);
        written.and(stored)
    }

    /// Stores why the file could not be written. Writes nothing if that is stored already. The
    /// caller is the only writer of the file.
    fn store_cursor_file_result(
        &self,
        written: &Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let reason = written.as_ref().err().map(Explanation::of);
        if self.reading(outdated_cursor_file)? == reason {
            return Ok(());
        }
        self.administrative(|store| meta::set_document(store, OUTDATED, reason.as_ref()))
    }

    /// Runs a change of sinks, and then applies it, with its result, to the cursors of the second
    /// cursor file. That file never contains the state between the two.
    pub(super) fn change_sinks<T>(
        &self,
        work: impl FnOnce(&dyn Statements) -> Result<T, CheckpointError>,
        apply: impl FnOnce(&mut CursorFile, &T),
    ) -> Result<T, CheckpointError> {
        let mut saved = None;
        let value = self.administrative(|store| {
            // Locked after the transaction has begun, as by every other user of both.
            saved = Some(self.saved_cursors());
            work(store)
        })?;

        if let Some(mut saved) = saved {
            apply(&mut saved, &value);
        }
        Ok(value)
    }
}

/// Why the second cursor file could not be written since the cursors moved; `None` if it could.
pub(super) fn outdated_cursor_file(
    store: &dyn Statements,
) -> Result<Option<Explanation>, CheckpointError> {
    meta::document(store, OUTDATED)
}

/// Whether the sink and the tenant of a cursor exist: otherwise they were deleted, and the cursor
/// with them.
fn is_known(store: &dyn Statements, cursor: &SavedCursor) -> Result<bool, CheckpointError> {
    store.query_one(ARE_KNOWN, values![cursor.sink, cursor.tenant], |row| row.get("known"))
}

fn read_cursor(row: &dyn StoredRow) -> Result<SavedCursor, CheckpointError> {
    let (sink, tenant, removed_at) = (row.get("name")?, row.get("guid")?, row.get("removed")?);
    let (seq, record_index) = (row.get("seq")?, row.get("record_index")?);

    let floor = day(row, "floor")?;
    let after_newest_sent = day(row, "newest_sent")?.map(|day| day.plus(1));
    let (unsent, missing) = (day(row, "oldest_unsent")?, day(row, "oldest_missing")?);
    let sent_before =
        [after_newest_sent.max(floor), unsent, missing]
            .into_iter()
            .flatten()
            .min()
            .ok_or_else(|| CheckpointError::Damaged("a cursor has no first day".into()))?;

    let sent_before = sent_before.to_string();
    Ok(SavedCursor { sink, tenant, seq, record_index, sent_before, removed_at })
}
