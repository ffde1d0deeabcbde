//! The polls that are running. One that is still stored when a process starts was interrupted: the
//! previous process was killed during it, for example because its memory was exhausted.
//!
//! This must survive the end of the process but not a power failure, so storing it does not wait
//! for the disk; the transaction that records the result of the poll removes it. A running poll is
//! a row of the table `meta`. Start reading at [`Checkpoint::begin_poll`]. See decision 0063.

use super::{Checkpoint, CheckpointError, backend::Statements, meta, tenant_id};
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
        let (key, began) = (key(tenant), began.as_i64().to_string());
        self.unsynced(|store| meta::set(store, &key, &began))
    }

    /// Stores that a poll of this tenant has ended without a result.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn abandon_poll(&self, tenant: TenantId) -> Result<(), CheckpointError> {
        self.unsynced(|store| finish(store, tenant).map(drop))
    }

    /// The tenants whose polls have begun and have not ended.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if a key is not
    /// valid.
    pub fn running_polls(&self) -> Result<Vec<TenantId>, CheckpointError> {
        let keys = self.reading(|store| meta::keys(store, KEY_PREFIX))?;
        keys.iter().map(|key| tenant_id(key.trim_start_matches(KEY_PREFIX))).collect()
    }
}

/// Removes the running poll of a tenant, in the transaction that stores its result. Returns whether
/// one was stored.
pub(super) fn finish(store: &dyn Statements, tenant: TenantId) -> Result<bool, CheckpointError> {
    let key = key(tenant);
    let is_running = meta::value(store, &key)?.is_some();
    if is_running {
        meta::remove(store, &key)?;
    }
    Ok(is_running)
}

/// Removes all running polls from a copy of the database.
pub(super) fn forget_all(store: &dyn Statements) -> Result<(), CheckpointError> {
    meta::remove_all(store, KEY_PREFIX)
}

fn key(tenant: TenantId) -> String {
    format!("{KEY_PREFIX}{tenant}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::backend::values;

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
        checkpoint.administrative(forget_all).unwrap();
        assert!(checkpoint.running_polls().unwrap().is_empty());
    }

    /// A commit of a poll must still wait for the disk.
    #[test]
    fn other_commits_wait_for_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        let level = || {
            let level = checkpoint.reading(|store| {
                let sql = "PRAGMA synchronous";
                store.query_one(sql, values![], |row| row.get::<i64>("synchronous"))
            });
            level.unwrap()
        };

        let before = level();
        checkpoint.begin_poll(TenantId::parse(TENANT).unwrap(), UnixMillis::new(1)).unwrap();
        assert_eq!((before, level()), (2, 2), "2 is FULL");
    }
}
