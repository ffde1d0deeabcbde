//! The polls that are running. One that is still stored when a process starts was interrupted: the
//! previous process was killed during it, for example because its memory was exhausted.
//!
//! This must survive the end of the process but not a power failure, so storing it does not wait
//! for the disk; the transaction that records the result of the poll removes it. A running poll is
//! a row of the table `meta`. Start reading at [`Checkpoint::begin_poll`]. See decision 0063.

use rusqlite::Connection;

use super::{Checkpoint, CheckpointError, tenant_id};
use crate::model::{TenantId, UnixMillis};

/// The prefix of a key in `meta`, followed by the GUID of a tenant. The value is the time at which
/// the poll began, in milliseconds since 1970-01-01.
const KEY_PREFIX: &str = "polling ";

impl Checkpoint {
    /// Stores that a poll of this tenant has begun.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn begin_poll(&self, tenant: TenantId, began: UnixMillis) -> Result<(), CheckpointError> {
        without_sync(&self.connection(), |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?
                .execute([key(&tenant.to_string()), began.as_i64().to_string()])?;
            Ok(())
        })
    }

    /// Stores that a poll of this tenant has ended without a result.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn abandon_poll(&self, tenant: TenantId) -> Result<(), CheckpointError> {
        without_sync(&self.connection(), |connection| finish(connection, tenant))
    }

    /// The tenants whose polls have begun and have not ended.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if a key is not
    /// valid.
    pub fn running_polls(&self) -> Result<Vec<TenantId>, CheckpointError> {
        let connection = self.connection();
        let mut statement =
            connection.prepare("SELECT key FROM meta WHERE key GLOB ?1 || '*' ORDER BY key")?;
        let keys = statement.query_map([KEY_PREFIX], |row| row.get::<_, String>("key"))?;
        keys.map(|key| tenant_id(key?.trim_start_matches(KEY_PREFIX))).collect()
    }
}

/// Removes the running poll of a tenant, in the transaction that stores its result.
pub(super) fn finish(connection: &Connection, tenant: TenantId) -> Result<(), CheckpointError> {
    finish_guid(connection, &tenant.to_string())
}

/// As [`finish`], for a GUID from the database.
pub(super) fn finish_guid(connection: &Connection, guid: &str) -> Result<(), CheckpointError> {
    connection.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key(guid)])?;
    Ok(())
}

/// Removes all running polls from a copy of the database.
pub(super) fn forget_all(connection: &Connection) -> Result<(), CheckpointError> {
    connection.execute("DELETE FROM meta WHERE key GLOB ?1 || '*'", [KEY_PREFIX])?;
    Ok(())
}

fn key(guid: &str) -> String {
    format!("{KEY_PREFIX}{guid}")
}

/// Commits without a wait for the disk. The next commit of another kind includes these changes.
fn without_sync(
    connection: &Connection,
    write: impl FnOnce(&Connection) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    // In WAL mode, this level syncs only when the log is moved into the database.
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    let written = write(connection);
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
    const OTHER: &str = "aaaaaaaa-0000-4000-8000-00000000c0de";

    #[test]
    fn running_polls_survive_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let [tenant, other] = [TENANT, OTHER].map(|guid| TenantId::parse(guid).unwrap());
        let began = UnixMillis::new(1_795_341_600_000);
        let open = || Checkpoint::open(directory.path()).unwrap();

        let checkpoint = open();
        for id in [tenant, other, other] {
            checkpoint.begin_poll(id, began).unwrap();
        }
        drop(checkpoint);
        let checkpoint = open();
        assert_eq!(checkpoint.running_polls().unwrap(), [tenant, other]);

        checkpoint.abandon_poll(other).unwrap();
        assert_eq!(checkpoint.running_polls().unwrap(), [tenant]);
        forget_all(&checkpoint.connection()).unwrap();
        assert!(checkpoint.running_polls().unwrap().is_empty());
    }

    /// A commit of a poll must still wait for the disk.
    #[test]
    fn other_commits_wait_for_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        let level = || {
            let connection = checkpoint.connection();
            let sql = "PRAGMA synchronous";
            connection.query_row(sql, [], |row| row.get::<_, i64>("synchronous")).unwrap()
        };

        let before = level();
        checkpoint.begin_poll(TenantId::parse(TENANT).unwrap(), UnixMillis::new(1)).unwrap();
        assert_eq!((before, level()), (2, 2), "2 is FULL");
    }
}
