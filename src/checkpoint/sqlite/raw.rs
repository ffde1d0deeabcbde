//! Direct access to a database, as a shell of SQLite has it: for tests that damage a database, or
//! examine what the checkpoint does not show.
//!
//! It follows no rule of the checkpoint, and runs statements that are built at run time. A test
//! that does not need this runs its statements in a transaction of the checkpoint instead. Start
//! reading at [`RawDatabase::open`] and [`Checkpoint::raw`].

use std::{ops::Deref, path::Path, sync::MutexGuard};

use rusqlite::Connection;

use super::{
    directory::DATABASE,
    migration::{SCHEMAS, VERSION, migrate_to},
    schema,
};
use crate::checkpoint::Checkpoint;

/// A connection to a database.
pub(in crate::checkpoint) struct RawDatabase<C = Box<Connection>>(C);

impl RawDatabase {
    /// The schema version of this release.
    pub(in crate::checkpoint) const CURRENT_VERSION: i32 = VERSION;

    /// Creates the database of a directory as a release with this schema version did.
    pub(in crate::checkpoint) fn create(directory: &Path, version: i32) {
        let mut connection = Connection::open(directory.join(DATABASE)).unwrap();
        migrate_to(&mut connection, version).unwrap();
    }

    /// Another connection to the database of a directory, which is created if it does not exist.
    pub(in crate::checkpoint) fn open(directory: &Path) -> Self {
        Self(Box::new(Connection::open(directory.join(DATABASE)).unwrap()))
    }

    /// An empty database in memory with the schema of this version.
    pub(in crate::checkpoint) fn of_version(version: usize) -> Self {
        let connection = Connection::open_in_memory().unwrap();
        for script in SCHEMAS.iter().take(version) {
            connection.execute_batch(script).unwrap();
        }
        Self(Box::new(connection))
    }
}

impl<C: Deref<Target = Connection>> RawDatabase<C> {
    /// Runs statements.
    pub(in crate::checkpoint) fn run(&self, sql: &str) {
        self.0.execute_batch(sql).unwrap();
    }

    /// Runs a statement with `number` as its parameter.
    pub(in crate::checkpoint) fn run_with(&self, sql: &str, number: Option<i64>) {
        self.0.execute(sql, [number]).unwrap();
    }

    /// The column `number` of the only row of a query.
    pub(in crate::checkpoint) fn number(&self, sql: &str) -> Option<i64> {
        self.0.query_row(sql, [], |row| row.get("number")).unwrap()
    }

    /// The schema version.
    pub(in crate::checkpoint) fn version(&self) -> i32 {
        self.0.query_row("PRAGMA user_version", [], |row| row.get("user_version")).unwrap()
    }

    /// Panics unless the tables are those that the scripts of this version create.
    pub(in crate::checkpoint) fn require_current_schema(&self) {
        schema::require_current(&self.0).unwrap();
    }

    /// A column of all rows of a query, whose parameters are NULL.
    pub(in crate::checkpoint) fn texts(&self, sql: &str, column: &str) -> Vec<String> {
        let mut statement = self.0.prepare(sql).unwrap();
        let mut rows = statement.raw_query();
        let mut texts = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            texts.push(row.get(column).unwrap());
        }
        texts
    }
}

impl Checkpoint {
    /// The database of this checkpoint. No other thread can use the checkpoint until the result is
    /// dropped.
    pub(in crate::checkpoint) fn raw(&self) -> RawDatabase<MutexGuard<'_, Connection>> {
        RawDatabase(self.connection())
    }
}
