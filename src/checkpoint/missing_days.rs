//! The missing days of a tenant: those that Microsoft was expected to list and did not.
//!
//! The ledger decides which of them a poll requests and how a poll changes them
//! ([`due_days`], [`after_poll`]); this module only reads and writes their rows. Start reading at
//! [`update`]. See decision 0007.

use std::collections::BTreeMap;

use super::{
    Checkpoint, CheckpointError,
    backend::{SqlValue, Statements, StoredRow, values},
    fields::day,
    row_ids::TenantRow,
};
use crate::{
    ledger::{DayPresence, MissingDay, RequestedDays, after_poll, due_days},
    model::{Day, TenantId, UnixMillis},
};

/// SQL: the columns of a [`MissingDay`].
macro_rules! select_missing {
    () => {
        "SELECT m.day, m.requests, m.last_requested, m.absent FROM missing m"
    };
}

const OF_GUID: &str = concat!(
    select_missing!(),
    " JOIN tenant t ON t.id = m.tenant WHERE t.guid = ?1 ORDER BY m.day"
);
const OF_ROW: &str = concat!(select_missing!(), " WHERE m.tenant = ?1 ORDER BY m.day");

impl Checkpoint {
    /// The missing days that the next poll requests, oldest first: those that fewer than seven
    /// polls have requested, and those that were last requested at least a week ago, or in the
    /// future, which means that it is unknown when.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn due_missing_days(
        &self,
        tenant: TenantId,
        now: UnixMillis,
    ) -> Result<Vec<Day>, CheckpointError> {
        Ok(due_days(&self.missing_days(tenant)?, now))
    }

    /// All missing days of a tenant, including those that are no longer requested; oldest first.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn missing_days(&self, tenant: TenantId) -> Result<Vec<MissingDay>, CheckpointError> {
        let guid = tenant.to_string();
        self.reading(|store| read_days(store, OF_GUID, values![guid]))
    }
}

/// Changes the missing days of a tenant as a poll requires. Fails if the database cannot be read or
/// written.
pub(super) fn update(
    store: &dyn Statements,
    tenant: TenantRow,
    poll: &RequestedDays<'_>,
) -> Result<(), CheckpointError> {
    let before = read_days(store, OF_ROW, values![tenant])?;
    let after = after_poll(&before, poll);

    let mut removed: BTreeMap<Day, MissingDay> =
        before.into_iter().map(|missing| (missing.day, missing)).collect();
    for missing in after {
        if removed.remove(&missing.day) != Some(missing) {
            store_day(store, tenant, missing)?;
        }
    }
    for day in removed.into_keys() {
        let sql = "DELETE FROM missing WHERE tenant = ?1 AND day = ?2";
        store.execute(sql, values![tenant, day.number()])?;
    }
    Ok(())
}

/// The missing days that a statement selects; a row whose day is damaged is skipped.
fn read_days(
    store: &dyn Statements,
    sql: &'static str,
    values: &[SqlValue<'_>],
) -> Result<Vec<MissingDay>, CheckpointError> {
    let days = store.query_all(sql, values, read_day)?;
    Ok(days.into_iter().flatten().collect())
}

/// The missing day of a row; `None` if its day is not valid.
fn read_day(row: &dyn StoredRow) -> Result<Option<MissingDay>, CheckpointError> {
    let day = day(row, "day")?;
    // A damaged number must not prevent the polls of the tenant: the requests are counted again.
    let requests = u32::try_from(row.get::<i64>("requests")?).unwrap_or(0);
    let last_requested = row.get("last_requested")?;
    let is_absent: bool = row.get("absent")?;
    let presence = if is_absent { DayPresence::Absent } else { DayPresence::Expected };
    Ok(day.map(|day| MissingDay { day, requests, last_requested, presence }))
}

/// Inserts a missing day, or replaces what is stored about it.
fn store_day(
    store: &dyn Statements,
    tenant: TenantRow,
    missing: MissingDay,
) -> Result<(), CheckpointError> {
    let MissingDay { day, requests, last_requested, presence } = missing;
    let sql = "INSERT INTO missing (tenant, day, requests, last_requested, absent) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (tenant, day) DO UPDATE SET requests = ?3, last_requested = ?4, absent = ?5";
    let is_absent = presence == DayPresence::Absent;
    store.execute(sql, values![tenant, day.number(), requests, last_requested, is_absent])?;
    Ok(())
}
