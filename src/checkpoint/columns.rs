//! Reads columns of SQLite by name, for code that uses the connection instead of a transaction of
//! the backend. SQLite stores numbers, days and times as signed integers. The module `fields` has
//! the same functions for rows of a backend.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use rusqlite::{Row, ToSql, types::ToSqlOutput};

use crate::model::{Day, UnixMillis};

impl ToSql for UnixMillis {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_i64().into())
    }
}

/// A number that is never negative. Fails if the column does not exist, is not an integer, or is
/// negative, which only damage can cause.
pub(super) fn unsigned(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    // SQLite's numbers of columns begin at 0, and the caller does not need one.
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, number))
}

/// A day; `None` if the column is NULL or is not the number of a day. Fails if the column does not
/// exist or is not a 32-bit integer.
pub(super) fn day(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Day>> {
    Ok(row.get::<_, Option<i32>>(column)?.and_then(Day::from_number))
}
