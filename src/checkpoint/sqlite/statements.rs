//! Runs statements on a connection of SQLite, and reads rows by the names of their columns.
//!
//! A column is looked up once per statement: later rows compare only the address of its name.
//! Nothing here begins or ends a transaction. Start reading at [`SqliteStatements`].

use std::{
    cell::{Cell, RefCell},
    ops::ControlFlow,
};

use rusqlite::{
    CachedStatement, Connection, ToSql,
    types::{ToSqlOutput, ValueRef},
};

use crate::checkpoint::{
    CheckpointError,
    backend::{RowVisitor, SqlValue, Statements, StoredRow},
};

/// The statements of a connection, in or outside of a transaction.
pub(super) struct SqliteStatements<'c>(pub(super) &'c Connection);

/// A row, and the columns that were looked up in the rows before it.
struct SqliteRow<'r, 'statement> {
    row: &'r rusqlite::Row<'statement>,
    columns: &'r ColumnCache,
}

/// The indexes of the columns, in the order in which the first row was read.
#[derive(Default)]
struct ColumnCache {
    known: RefCell<Vec<(&'static str, usize)>>,
    /// The position in `known` of the column that is probably read next.
    next: Cell<usize>,
}

impl ColumnCache {
    fn index(&self, column: &'static str, row: &rusqlite::Row<'_>) -> rusqlite::Result<usize> {
        let mut known = self.known.borrow_mut();
        // Equal addresses mean equal names; the same name at another address is only looked up
        // again.
        let is_same = |(name, _): &(&'static str, usize)| std::ptr::eq(*name, column);

        let next = self.next.get();
        if let Some(found) = known.get(next).filter(|found| is_same(found)) {
            self.next.set(next.saturating_add(1));
            return Ok(found.1);
        }
        if let Some(position) = known.iter().position(is_same) {
            self.next.set(position.saturating_add(1));
            return Ok(known[position].1);
        }

        // SQLite compares the name with every column before it, unless it is the next one.
        let statement: &rusqlite::Statement<'_> = row.as_ref();
        let expected = known.len();
        let is_expected = statement.column_name(expected).is_ok_and(|name| name == column);
        let index = if is_expected { expected } else { statement.column_index(column)? };
        known.push((column, index));
        self.next.set(known.len());
        Ok(index)
    }
}

impl StoredRow for SqliteRow<'_, '_> {
    fn value(&self, column: &'static str) -> Result<SqlValue<'_>, CheckpointError> {
        let index = self.columns.index(column, self.row)?;
        match self.row.get_ref(index)? {
            ValueRef::Null => Ok(SqlValue::Null),
            ValueRef::Integer(number) => Ok(SqlValue::Int(number)),
            ValueRef::Text(bytes) => std::str::from_utf8(bytes).map(SqlValue::Text).map_err(|_| {
                CheckpointError::Damaged("a stored text is not valid UTF-8".to_owned())
            }),
            ValueRef::Blob(bytes) => Ok(SqlValue::Blob(bytes)),
            // No column contains fractions.
            ValueRef::Real(_) => {
                let reason = format!("a value of the column `{column}` has a wrong type");
                Err(CheckpointError::Damaged(reason))
            }
        }
    }
}

impl Statements for SqliteStatements<'_> {
    fn query(
        &self,
        sql: &'static str,
        values: &[SqlValue<'_>],
        each: &mut RowVisitor<'_>,
    ) -> Result<(), CheckpointError> {
        let mut statement = self.0.prepare_cached(sql)?;
        bind(&mut statement, values)?;

        let columns = ColumnCache::default();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            columns.next.set(0);
            if let ControlFlow::Break(()) = each(&SqliteRow { row, columns: &columns })? {
                break;
            }
        }
        Ok(())
    }

    fn execute(&self, sql: &'static str, values: &[SqlValue<'_>]) -> Result<u64, CheckpointError> {
        let mut statement = self.0.prepare_cached(sql)?;
        bind(&mut statement, values)?;
        Ok(statement.raw_execute()? as u64)
    }
}

/// For code that does not run in a transaction of a backend, such as the maintenance.
impl Statements for Connection {
    fn query(
        &self,
        sql: &'static str,
        values: &[SqlValue<'_>],
        each: &mut RowVisitor<'_>,
    ) -> Result<(), CheckpointError> {
        SqliteStatements(self).query(sql, values, each)
    }

    fn execute(&self, sql: &'static str, values: &[SqlValue<'_>]) -> Result<u64, CheckpointError> {
        SqliteStatements(self).execute(sql, values)
    }
}

impl ToSql for SqlValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            SqlValue::Null => ValueRef::Null,
            SqlValue::Bool(value) => ValueRef::Integer(value.into()),
            SqlValue::Int(value) => ValueRef::Integer(value),
            SqlValue::Text(value) => ValueRef::Text(value.as_bytes()),
            SqlValue::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

/// Binds all parameters of a statement. Fails if it has another number of them.
fn bind(statement: &mut CachedStatement<'_>, values: &[SqlValue<'_>]) -> rusqlite::Result<()> {
    let expected = statement.parameter_count();
    if values.len() != expected {
        return Err(rusqlite::Error::InvalidParameterCount(values.len(), expected));
    }
    for (index, value) in (1_usize..).zip(values) {
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(())
}
