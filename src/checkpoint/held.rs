//! Held days: accepted, but not released into the log, because the response or its catalog was
//! partial. A later copy of a held day replaces the earlier one; the release of the day deletes it.
//! The ledger decides which days are held: this module only reads them, and `commit_poll` writes
//! them. See decision 0006.

use std::ops::ControlFlow;

use super::{
    Checkpoint, CheckpointError,
    backend::{Statements, values},
    body::MAX_BODY_BYTES,
    fields::day,
    row_ids::TenantRow,
};
use crate::model::{Day, TenantId, UnixMillis};

/// A day that is accepted but not released.
#[derive(Clone, Debug)]
pub struct HeldDay {
    pub day: Day,
    /// When the day was first held.
    pub since: UnixMillis,
    /// When the stored copy was read.
    pub observed_at: UnixMillis,
    /// The JSON as Microsoft sent it.
    pub body: String,
}

impl Checkpoint {
    /// The held days of a tenant, oldest first.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::Damaged`] if a stored day or body cannot be decoded.
    pub fn held_days(&self, tenant: TenantId) -> Result<Vec<HeldDay>, CheckpointError> {
        let guid = tenant.to_string();
        let sql =
            "SELECT h.day, h.since, h.observed, h.body FROM held h JOIN tenant t ON t.id = h.tenant
             WHERE t.guid = ?1 ORDER BY h.day";
        self.reading(|store| {
            store.query_all(sql, values![guid], |row| {
                Ok(HeldDay {
                    day: day(row, "day")?.ok_or_else(damaged)?,
                    since: row.get("since")?,
                    observed_at: row.get("observed")?,
                    body: decompress(&row.get::<Vec<u8>>("body")?)?,
                })
            })
        })
    }
}

/// The held days whose body is damaged: the row of the tenant, its GUID, and the day. Fails only
/// if the database cannot be read.
pub(super) fn damaged_days(
    store: &dyn Statements,
) -> Result<Vec<(TenantRow, String, Day)>, CheckpointError> {
    let sql = "SELECT h.tenant, t.guid, h.day, h.body FROM held h JOIN tenant t ON t.id = h.tenant";
    let mut days = Vec::new();
    store.query(sql, values![], &mut |row| {
        if decompress(&row.get::<Vec<u8>>("body")?).is_err()
            && let Some(day) = day(row, "day")?
        {
            days.push((row.get("tenant")?, row.get("guid")?, day));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(days)
}

fn damaged() -> CheckpointError {
    CheckpointError::Damaged("a held day cannot be read".to_owned())
}

fn decompress(bytes: &[u8]) -> Result<String, CheckpointError> {
    let body = zstd::bulk::decompress(bytes, MAX_BODY_BYTES).map_err(|_| damaged())?;
    String::from_utf8(body).map_err(|_| damaged())
}
