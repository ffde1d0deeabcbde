//! Finds cursors that only damage can cause, before anything is sent from them or copied into the
//! second cursor file: a cursor after the end of its log would silently skip all following days.
//!
//! A damaged cursor is never moved to the end of the log unless nothing else is known about it.
//! Start reading at [`require_valid`] and [`repair`]. See decision 0074.

use rusqlite::{Connection, params};

use super::{
    CheckpointError, CursorFile,
    row_ids::{SinkRow, TenantRow},
};

/// A cursor that cannot be used.
pub(super) struct InvalidCursor {
    sink_row: SinkRow,
    tenant_row: TenantRow,
    epoch: i64,
    /// The name of the sink.
    pub sink: String,
    /// The GUID of the tenant.
    pub tenant: String,
}

impl InvalidCursor {
    /// What is wrong, as a message for the operator.
    pub(super) fn message(&self) -> String {
        let sink = &self.sink;
        match self.epoch {
            0 => format!("the cursor of sink `{sink}` is outside the log"),
            epoch => format!("the cursor of sink `{sink}` has the unknown epoch {epoch}"),
        }
    }
}

/// Fails with [`CheckpointError::Damaged`] if a cursor cannot be used, and if the database cannot
/// be read.
pub(super) fn require_valid(connection: &Connection) -> Result<(), CheckpointError> {
    match invalid_cursors(connection)?.first() {
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
    connection: &Connection,
) -> Result<Vec<InvalidCursor>, CheckpointError> {
    let mut statement = connection.prepare_cached(
        "SELECT c.sink, c.tenant, c.epoch, s.name, t.guid
         FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant
         WHERE c.epoch <> 0 OR c.seq NOT BETWEEN 1 AND t.next_seq
            OR c.record_index NOT BETWEEN 0 AND 4294967295
         ORDER BY c.sink, c.tenant",
    )?;
    let found = statement.query_map([], |row| {
        Ok(InvalidCursor {
            sink_row: row.get("sink")?,
            tenant_row: row.get("tenant")?,
            epoch: row.get("epoch")?,
            sink: row.get("name")?,
            tenant: row.get("guid")?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Repairs all cursors that cannot be used. Returns the GUID of the tenant and the name of the sink
/// of each of them. `saved` is the second cursor file, and `checkpoint_id` the ID of the database.
/// Fails if the database cannot be read or written.
pub(super) fn repair(
    connection: &Connection,
    saved: &CursorFile,
    checkpoint_id: &str,
) -> Result<Vec<(String, String)>, CheckpointError> {
    let invalid = invalid_cursors(connection)?;
    // A cursor that also exists with the right epoch has replaced the other one.
    connection.execute_batch(
        "UPDATE OR IGNORE cursor SET epoch = 0 WHERE epoch <> 0; DELETE FROM cursor WHERE epoch <> 0;",
    )?;
    for cursor in invalid_cursors(connection)? {
        repair_position(connection, saved, checkpoint_id, &cursor)?;
    }
    Ok(invalid.into_iter().map(|cursor| (cursor.tenant, cursor.sink)).collect())
}

/// Gives a cursor the newest position that is known.
fn repair_position(
    connection: &Connection,
    saved: &CursorFile,
    checkpoint_id: &str,
    cursor: &InvalidCursor,
) -> Result<(), CheckpointError> {
    let InvalidCursor { sink_row, tenant_row, sink, tenant, .. } = cursor;
    if let Some((seq, record_index)) = saved.position(checkpoint_id, sink, tenant) {
        let moved = connection.execute(
            "UPDATE cursor SET seq = ?3, record_index = ?4 WHERE sink = ?1 AND tenant = ?2
               AND ?3 BETWEEN 1 AND (SELECT next_seq FROM tenant WHERE id = ?2)",
            params![sink_row, tenant_row, seq, record_index],
        )?;
        if moved > 0 {
            return Ok(());
        }
    }

    // The registration of the sink creates the cursor again from the days in the file.
    let mut lost = saved.lost_cursors(checkpoint_id).into_iter();
    if lost.any(|lost| lost.sink == *sink && lost.tenant == *tenant) {
        connection.execute(
            "DELETE FROM cursor WHERE sink = ?1 AND tenant = ?2",
            params![sink_row, tenant_row],
        )?;
        return Ok(());
    }

    // Nothing that was read after the last acknowledgement can have been sent.
    connection.execute(
        "UPDATE cursor SET record_index = 0, seq = coalesce(
            (SELECT min(e.seq) FROM entry e JOIN sink s ON s.id = ?1
             WHERE e.tenant = ?2 AND (s.last_acknowledgement IS NULL OR e.observed > s.last_acknowledgement)),
            (SELECT next_seq FROM tenant WHERE id = ?2))
         WHERE sink = ?1 AND tenant = ?2",
        params![sink_row, tenant_row],
    )?;
    Ok(())
}
