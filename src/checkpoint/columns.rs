//! Reads columns by name, and converts the types of the model and of the schema. SQLite stores
//! numbers, days and times as signed integers. A list is passed to a statement as a JSON array.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::cell::Cell;

use rusqlite::{
    Row, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use super::CheckpointError;
use crate::model::{Day, TenantId, UnixMillis};

/// The kind of an entry, as stored in the column `entry.kind`. Conditions in SQL contain the number
/// itself, because SQLite uses a partial index only for a condition on a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Snapshot,
    Observation,
}

impl ToSql for EntryKind {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let number: i64 = match self {
            Self::Snapshot => 1,
            Self::Observation => 2,
        };
        Ok(number.into())
    }
}

impl FromSql for EntryKind {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match i64::column_result(value)? {
            1 => Ok(Self::Snapshot),
            2 => Ok(Self::Observation),
            number => Err(FromSqlError::OutOfRange(number)),
        }
    }
}

impl ToSql for UnixMillis {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_i64().into())
    }
}

impl FromSql for UnixMillis {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self::new)
    }
}

/// Reads the columns of a row by name, in the order of the statement. SQLite compares a name with
/// every column before it, which took a quarter of the time of a status of a thousand tenants; this
/// reader compares each name only with the column that follows the last one.
pub(super) struct InOrder<'a, 'statement> {
    row: &'a Row<'statement>,
    next: Cell<usize>,
}

impl<'a, 'statement> InOrder<'a, 'statement> {
    pub(super) fn new(row: &'a Row<'statement>) -> Self {
        Self { row, next: Cell::new(0) }
    }

    /// The value of a column. Fails if it does not exist or has another type; a column that is read
    /// out of order is only slower.
    pub(super) fn get<T: FromSql>(&self, column: &str) -> rusqlite::Result<T> {
        let statement = self.row.as_ref();
        let next = self.next.get();
        let is_next = statement.column_name(next).is_ok_and(|name| name == column);
        let index = if is_next { next } else { statement.column_index(column)? };

        self.next.set(index.saturating_add(1));
        self.row.get(index)
    }

    /// As the function [`unsigned`].
    pub(super) fn unsigned(&self, column: &str) -> rusqlite::Result<u64> {
        not_negative(self.get(column)?)
    }

    /// As the function [`day`].
    pub(super) fn day(&self, column: &str) -> rusqlite::Result<Option<Day>> {
        Ok(self.get::<Option<i32>>(column)?.and_then(Day::from_number))
    }
}

/// A number that is never negative. Fails if the column does not exist, is not an integer, or is
/// negative, which only damage can cause.
pub(super) fn unsigned(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    not_negative(row.get(column)?)
}

fn not_negative(number: i64) -> rusqlite::Result<u64> {
    // SQLite's numbers of columns begin at 0, and the caller does not need one.
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, number))
}

/// A day; `None` if the column is NULL or is not the number of a day. Fails if the column does not
/// exist or is not a 32-bit integer.
pub(super) fn day(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Day>> {
    Ok(row.get::<_, Option<i32>>(column)?.and_then(Day::from_number))
}

/// The column `day` of an entry. Fails with [`CheckpointError::Damaged`] if it is not a valid day.
pub(super) fn entry_day(row: &Row<'_>) -> Result<Day, CheckpointError> {
    day(row, "day")?.ok_or_else(|| CheckpointError::Damaged("an entry has no valid day".to_owned()))
}

/// The GUIDs of tenants as a JSON array, for the SQL function `json_each`.
pub(super) fn guids_as_json(tenants: &[TenantId]) -> String {
    tenants.iter().map(ToString::to_string).collect::<serde_json::Value>().to_string()
}
