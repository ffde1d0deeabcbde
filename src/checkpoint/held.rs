//! Days taken and not released: something is missing in them.

use rusqlite::Connection;

use super::{Checkpoint, CheckpointError, body::MAX_BODY};
use crate::model::{Day, TenantId};

/// A day taken and not released.
#[derive(Clone, Debug)]
pub struct HeldDay {
    pub day: Day,
    /// When the day was held first, and when this copy was read; milliseconds since 1970-01-01.
    pub since_ms: i64,
    pub observed_ms: i64,
    /// As sent.
    pub body: String,
}

impl Checkpoint {
    /// The days that are held back, oldest first.
    pub fn held_days(&self, tenant: TenantId) -> Result<Vec<HeldDay>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT h.day, h.since, h.observed, h.body FROM held h JOIN tenant t ON t.id = h.tenant
             WHERE t.guid = ?1 ORDER BY h.day",
        )?;
        let mut rows = statement.query([tenant.to_string()])?;
        let mut held = Vec::new();
        while let Some(row) = rows.next()? {
            held.push(HeldDay {
                day: Day::from_number(row.get(0)?).ok_or_else(damaged)?,
                since_ms: row.get(1)?,
                observed_ms: row.get(2)?,
                body: body(&row.get::<_, Vec<u8>>(3)?)?,
            });
        }
        Ok(held)
    }
}

/// Held days that cannot be read: tenant, its GUID, day.
pub(super) fn unreadable(
    connection: &Connection,
) -> Result<Vec<(i64, String, Day)>, CheckpointError> {
    let mut unreadable = Vec::new();
    let mut statement = connection.prepare(
        "SELECT h.tenant, t.guid, h.day, h.body FROM held h JOIN tenant t ON t.id = h.tenant",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if body(&row.get::<_, Vec<u8>>(3)?).is_err()
            && let Some(day) = Day::from_number(row.get(2)?)
        {
            unreadable.push((row.get(0)?, row.get(1)?, day));
        }
    }
    Ok(unreadable)
}

fn damaged() -> CheckpointError {
    CheckpointError::Damaged("a held day cannot be read".to_owned())
}

/// A held day, as sent.
fn body(bytes: &[u8]) -> Result<String, CheckpointError> {
    let body = zstd::bulk::decompress(bytes, MAX_BODY).map_err(|_| damaged())?;
    String::from_utf8(body).map_err(|_| damaged())
}
