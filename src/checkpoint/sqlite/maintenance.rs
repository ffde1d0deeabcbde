//! Maintenance of the database file: its size, the space that deleted rows have used, and the
//! memory of its connection.
//!
//! None of it changes a row, so it runs outside of transactions. Start reading at
//! [`Checkpoint::compact`].

use super::directory::DATABASE;
use crate::checkpoint::{Checkpoint, CheckpointError};

impl Checkpoint {
    /// The bytes of the database in use. Free pages inside the file do not count, because SQLite
    /// reuses them before the file grows.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn used_bytes(&self) -> Result<u64, CheckpointError> {
        let connection = self.connection();
        let pragma = |name: &str| -> Result<i64, rusqlite::Error> {
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(name))
        };
        let pages = pragma("page_count")? - pragma("freelist_count")?;
        Ok((pages * pragma("page_size")?).cast_unsigned())
    }

    /// Rewrites the whole database without free pages, so that the file shrinks.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::Busy`] if another process reads the checkpoint for more than
    /// 15 seconds, and with [`CheckpointError::Storage`] if the disk has no space for the copy.
    pub fn compact(&self) -> Result<(), CheckpointError> {
        self.connection().execute_batch("VACUUM")?;
        self.truncate_log()
    }

    /// Frees SQLite's caches and moves the write-ahead log into the database. Called before a long
    /// idle time between two polls.
    ///
    /// # Errors
    ///
    /// Fails if the write-ahead log cannot be written to the database.
    pub fn release_memory(&self) -> Result<(), CheckpointError> {
        let connection = self.connection();
        connection.flush_prepared_statement_cache();
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory;")?;
        Ok(())
    }

    /// The size in bytes of the file of the database whose name ends with `suffix`; 0 if there is
    /// none.
    pub(in crate::checkpoint) fn file_size(&self, suffix: &str) -> u64 {
        fs_err::metadata(self.state.path().join(format!("{DATABASE}{suffix}")))
            .map_or(0, |file| file.len())
    }

    /// Moves the write-ahead log into the database and truncates it. Each of three attempts waits
    /// up to five seconds for readers; if all of them fail, returns [`CheckpointError::Busy`].
    pub(in crate::checkpoint) fn truncate_log(&self) -> Result<(), CheckpointError> {
        let connection = self.connection();
        for _ in 0..3 {
            let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
            if connection.query_row(sql, [], |row| row.get::<_, i64>("busy"))? == 0 {
                return Ok(());
            }
        }
        Err(CheckpointError::Busy)
    }

    /// Runs `work`, during which SQLite overwrites what is deleted. Fails, in addition to the
    /// errors of `work`, if the setting cannot be changed.
    pub(in crate::checkpoint) fn scrubbed<T>(
        &self,
        work: impl FnOnce() -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        self.connection().execute_batch("PRAGMA secure_delete = ON")?;
        let result = work();
        self.connection().execute_batch("PRAGMA secure_delete = OFF")?;
        result
    }
}
