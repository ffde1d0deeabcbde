//! Finds cursors that only damage can cause, before anything is sent from them or copied into the
//! second cursor file: a cursor after the end of its log would silently skip all following days.
//!
//! A damaged cursor is never moved to the end of the log unless nothing else is known about it.
//! Start reading at [`require_valid`] and [`repair`]. See decision 0074.

use super::{
    CheckpointError, CursorFile, Position,
    backend::{Statements, values},
    row_ids::{SinkRow, TenantRow},
    sql::max_record_index,
};
use crate::model::{CheckpointId, SinkName};

/// SQL: all cursors that are outside of their log, or have an epoch that no claim of their shard
/// has had. Epochs begin at 0, and only increase.
const INVALID: &str = concat!(
    "SELECT c.sink, c.tenant, c.epoch, s.name, t.guid,
        c.epoch NOT BETWEEN 0 AND coalesce(h.epoch, 0) AS has_unknown_epoch
     FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant
     LEFT JOIN shard h ON h.id = t.shard
     WHERE c.epoch NOT BETWEEN 0 AND coalesce(h.epoch, 0) OR c.seq NOT BETWEEN 1 AND t.next_seq
        OR c.record_index NOT BETWEEN 0 AND ",
    max_record_index!(),
    " ORDER BY c.sink, c.tenant"
);

/// SQL: gives the cursors with an unknown epoch the first one. No epoch is a condition of a move,
/// so this does not change what is sent.
const REPAIR_EPOCHS: &str = "UPDATE cursor SET epoch = 0 WHERE epoch NOT BETWEEN 0 AND coalesce(
        (SELECT h.epoch FROM tenant t JOIN shard h ON h.id = t.shard WHERE t.id = cursor.tenant), 0)";

/// SQL: moves the cursor of the sink `?1` for the tenant `?2` to the entry `?3` and its record
/// `?4`, if that entry can be in the log.
const MOVE_WITHIN_LOG: &str = "UPDATE cursor SET seq = ?3, record_index = ?4
     WHERE sink = ?1 AND tenant = ?2
       AND (SELECT next_seq FROM tenant WHERE id = ?2) >= ?3 AND ?3 >= 1";

/// SQL: moves the cursor of the sink `?1` for the tenant `?2` to the first entry that was read
/// after the last acknowledgement of the sink in the shard of the tenant, or else to the end of the
/// log.
const MOVE_TO_UNACKNOWLEDGED: &str = "UPDATE cursor SET record_index = 0, seq = coalesce(
        (SELECT min(e.seq) FROM entry e JOIN tenant t ON t.id = e.tenant
         LEFT JOIN sink_shard h ON h.sink = ?1 AND h.shard = t.shard
         WHERE e.tenant = ?2 AND (h.last_acknowledgement IS NULL OR e.observed > h.last_acknowledgement)),
        (SELECT next_seq FROM tenant WHERE id = ?2))
     WHERE sink = ?1 AND tenant = ?2";

/// A cursor that cannot be used.
pub(super) struct InvalidCursor {
    sink_row: SinkRow,
    tenant_row: TenantRow,
    /// The epoch, if no claim has had it.
    unknown_epoch: Option<i64>,
    /// The name of the sink.
    pub sink: SinkName,
    /// The GUID of the tenant.
    pub tenant: String,
}

impl InvalidCursor {
    /// What is wrong, as a message for the operator.
    pub(super) fn message(&self) -> String {
        let sink = &self.sink;
        match self.unknown_epoch {
            None => format!("the cursor of sink `{sink}` is outside the log"),
            Some(epoch) => format!("the cursor of sink `{sink}` has the unknown epoch {epoch}"),
        }
    }
}

/// Fails with [`CheckpointError::Damaged`] if a cursor cannot be used, and if the database cannot
/// be read.
pub(super) fn require_valid(store: &dyn Statements) -> Result<(), CheckpointError> {
    match invalid_cursors(store)?.first() {
        None => Ok(()),
        Some(cursor) => Err(CheckpointError::Damaged(format!(
            "tenant `{}`: {}",
            cursor.tenant,
            cursor.message()
        ))),
    }
}

/// All cursors that cannot be used. Fails if the database cannot be read.
pub(super) fn invalid_cursors(
    store: &dyn Statements,
) -> Result<Vec<InvalidCursor>, CheckpointError> {
    store.query_all(INVALID, values![], |row| {
        let (sink_row, tenant_row) = (row.get("sink")?, row.get("tenant")?);
        let (epoch, is_unknown): (i64, bool) = (row.get("epoch")?, row.get("has_unknown_epoch")?);
        Ok(InvalidCursor {
            sink_row,
            tenant_row,
            unknown_epoch: is_unknown.then_some(epoch),
            sink: row.get("name")?,
            tenant: row.get("guid")?,
        })
    })
}

/// Repairs all cursors that cannot be used. Returns the GUID of the tenant and the name of the sink
/// of each of them. `saved` is the second cursor file, and `checkpoint_id` the ID of the database.
/// Fails if the database cannot be read or written.
pub(super) fn repair(
    store: &dyn Statements,
    saved: &CursorFile,
    checkpoint_id: &CheckpointId,
) -> Result<Vec<(String, SinkName)>, CheckpointError> {
    let invalid = invalid_cursors(store)?;
    store.execute(REPAIR_EPOCHS, values![])?;
    for cursor in invalid_cursors(store)? {
        repair_position(store, saved, checkpoint_id, &cursor)?;
    }
    Ok(invalid.into_iter().map(|cursor| (cursor.tenant, cursor.sink)).collect())
}

/// Gives a cursor the newest position that is known.
fn repair_position(
    store: &dyn Statements,
    saved: &CursorFile,
    checkpoint_id: &CheckpointId,
    cursor: &InvalidCursor,
) -> Result<(), CheckpointError> {
    let InvalidCursor { sink_row, tenant_row, sink, tenant, .. } = cursor;
    if let Some(Position { seq, record_index }) = saved.position(checkpoint_id, sink, tenant) {
        let moved =
            store.execute(MOVE_WITHIN_LOG, values![sink_row, tenant_row, seq, record_index])?;
        if moved > 0 {
            return Ok(());
        }
    }

    // The registration of the sink creates the cursor again from the days in the file.
    let mut lost = saved.lost_cursors(checkpoint_id).into_iter();
    if lost.any(|lost| lost.sink == *sink && lost.tenant == *tenant) {
        let delete = "DELETE FROM cursor WHERE sink = ?1 AND tenant = ?2";
        store.execute(delete, values![sink_row, tenant_row])?;
        return Ok(());
    }

    // Nothing that was read after the last acknowledgement can have been sent.
    store.execute(MOVE_TO_UNACKNOWLEDGED, values![sink_row, tenant_row])?;
    Ok(())
}
