//! Erases everything about a tenant at the request of an operator.
//!
//! The rows are deleted in one transaction, which also stores the receipt. Then the freed space is
//! overwritten, and only then is the receipt removed, so an interrupted erasure can be completed.
//! Start reading at [`Checkpoint::forget`]. See decision 0017.

use std::{collections::HashSet, ops::ControlFlow};

use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, CheckpointError,
    backend::{Statements, values},
    body::delete_unreferenced_bodies,
    catalog::{RESERVED_HASH, unpack},
    fields::day,
    meta,
    row_ids::{CatalogVersion, ProfileId, TenantRow},
    running_polls,
    sql::{observation, snapshot},
};
use crate::model::{CheckpointId, Day, TenantId, UnixMillis};

/// What was erased of a tenant; `state forget` prints it as a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureReceipt {
    /// The tenant that was erased.
    pub tenant: TenantId,
    /// The ID of the checkpoint from which it was erased.
    pub checkpoint_id: CheckpointId,
    /// The time of the erasure.
    #[serde(rename = "at_ms")]
    pub erased_at: UnixMillis,
    /// The number of erased snapshots.
    pub snapshots: u64,
    /// The number of erased observations.
    pub observations: u64,
    /// The number of erased catalog versions.
    pub catalogs: u64,
    /// The number of erased profiles; profiles that other tenants use are kept, and rows that only
    /// reserve the ID of an erased profile do not count.
    pub profiles: u64,
    /// The number of erased dead letters.
    pub dead_letters: u64,
    /// The first day of the erased snapshots; `None` if there were none.
    pub first_day: Option<Day>,
    /// The last day of the erased snapshots; `None` if there were none.
    pub last_day: Option<Day>,
}

/// The prefix of a key in `meta`, followed by the GUID of a tenant: an erasure that has begun, with
/// its receipt.
const KEY_PREFIX: &str = "forgetting/";

/// SQL: the first and the last day of the snapshots of the tenant `?1`.
const DAYS: &str = concat!(
    "SELECT min(day) AS first_day, max(day) AS last_day FROM entry WHERE tenant = ?1 AND kind = ",
    snapshot!()
);
const DELETE_OBSERVATIONS: &str =
    concat!("DELETE FROM entry WHERE tenant = ?1 AND kind = ", observation!());

impl ErasureReceipt {
    /// The receipt of a tenant of which nothing was stored, without the ID of the checkpoint and
    /// the time.
    pub(super) fn empty(tenant: TenantId) -> Self {
        Self {
            tenant,
            checkpoint_id: CheckpointId::default(),
            erased_at: UnixMillis::default(),
            snapshots: 0,
            observations: 0,
            catalogs: 0,
            profiles: 0,
            dead_letters: 0,
            first_day: None,
            last_day: None,
        }
    }
}

impl Checkpoint {
    /// Erases everything about a tenant: its log, catalogs, baselines, cursors and dead letters,
    /// and what is stored about it before its first poll. Overwrites the freed space.
    ///
    /// Returns `None` if the checkpoint contains nothing about the tenant. After
    /// [`CheckpointError::ErasureIncomplete`] a second call completes the erasure and returns the
    /// same receipt.
    pub fn forget(
        &self,
        tenant: TenantId,
        now: UnixMillis,
    ) -> Result<Option<ErasureReceipt>, CheckpointError> {
        self.scrubbed(|| self.erase_and_scrub(tenant, now))
    }

    fn erase_and_scrub(
        &self,
        tenant: TenantId,
        now: UnixMillis,
    ) -> Result<Option<ErasureReceipt>, CheckpointError> {
        let key = format!("{KEY_PREFIX}{tenant}");
        let erased = self.administrative(|store| self.erase(store, tenant, &key, now))?;
        let Some(receipt) = erased else { return Ok(None) };

        self.saved_cursors().forget(&tenant.to_string());
        let scrubbed = self.write_cursor_file().and_then(|()| self.compact());
        scrubbed.map_err(|error| CheckpointError::ErasureIncomplete(Box::new(error)))?;

        self.administrative(|store| meta::remove(store, &key))?;
        // If this fails, the write-ahead log contains nothing about the tenant except the deletion
        // of this key.
        let _ = self.truncate_log();
        Ok(Some(receipt))
    }

    /// Deletes the rows of a tenant and stores the receipt under `key`. The receipt stays until the
    /// file is scrubbed, so that an interrupted erasure can be completed.
    fn erase(
        &self,
        store: &dyn Statements,
        tenant: TenantId,
        key: &str,
        now: UnixMillis,
    ) -> Result<Option<ErasureReceipt>, CheckpointError> {
        let guid = tenant.to_string();
        let earlier_receipt = meta::value(store, key)?;
        let sql = "SELECT id FROM tenant WHERE guid = ?1";
        let row: Option<TenantRow> =
            store.query_optional(sql, values![guid], |row| row.get("id"))?;

        let erased = row.map(|row| delete_tenant(store, row, tenant)).transpose()?;
        // A tenant without a row can still be named elsewhere.
        let was_named = delete_named(store, tenant)? || self.saved_cursors().contains(&guid);

        let receipt = match (erased, earlier_receipt) {
            (None, None) if !was_named => return Ok(None),
            (None, Some(json)) => {
                serde_json::from_str(&json).unwrap_or_else(|_| ErasureReceipt::empty(tenant))
            }
            (erased, _) => ErasureReceipt {
                checkpoint_id: self.id.clone(),
                erased_at: now,
                ..erased.unwrap_or_else(|| ErasureReceipt::empty(tenant))
            },
        };

        meta::set_document(store, key, Some(&receipt))?;
        Ok(Some(receipt))
    }
}

/// Deletes the rows of a tenant from all tables. The receipt has no `checkpoint_id` and no time.
fn delete_tenant(
    store: &dyn Statements,
    row: TenantRow,
    tenant: TenantId,
) -> Result<ErasureReceipt, CheckpointError> {
    let (first_day, last_day) = store.query_one(DAYS, values![row], |days| {
        Ok((day(days, "first_day")?, day(days, "last_day")?))
    })?;
    let highest_ids = HighestIds::read(store)?;

    let delete = |sql| store.execute(sql, values![row]);
    delete("UPDATE tenant SET catalog = NULL WHERE id = ?1")?;
    let observations = delete(DELETE_OBSERVATIONS)?;
    let snapshots = delete("DELETE FROM entry WHERE tenant = ?1")?;
    let catalogs = delete("DELETE FROM catalog WHERE tenant = ?1")?;
    let dead_letters = delete("DELETE FROM dead_letter WHERE tenant = ?1")?;
    delete("DELETE FROM replay_cursor WHERE tenant = ?1")?;
    delete("DELETE FROM cursor WHERE tenant = ?1")?;
    delete("DELETE FROM missing WHERE tenant = ?1")?;
    delete("DELETE FROM held WHERE tenant = ?1")?;
    delete("DELETE FROM open_observation WHERE tenant = ?1")?;
    delete("DELETE FROM baseline WHERE tenant = ?1")?;
    delete("DELETE FROM queued_command WHERE tenant = ?1")?;
    delete("DELETE FROM tenant WHERE id = ?1")?;

    delete_empty_replays(store)?;
    delete_unreferenced_bodies(store)?;
    let profiles = delete_unreferenced_profiles(store)?;
    highest_ids.reserve(store)?;

    Ok(ErasureReceipt {
        snapshots,
        observations,
        catalogs,
        profiles,
        dead_letters,
        first_day,
        last_day,
        ..ErasureReceipt::empty(tenant)
    })
}

/// Deletes the rows that name a tenant by its GUID: they can exist before its row does. Returns
/// whether there were any.
fn delete_named(store: &dyn Statements, tenant: TenantId) -> Result<bool, CheckpointError> {
    let guid = tenant.to_string();
    let domains = store.execute("DELETE FROM domain WHERE guid = ?1", values![guid])?;
    let was_polling = running_polls::finish(store, tenant)?;
    Ok(was_polling || domains > 0)
}

/// The highest IDs of profiles and catalogs. The database could assign them again after their rows
/// are deleted, but a running daemon caches profiles and catalogs by ID.
struct HighestIds {
    profile: Option<ProfileId>,
    catalog: Option<CatalogVersion>,
}

impl HighestIds {
    fn read(store: &dyn Statements) -> Result<Self, CheckpointError> {
        let sql = "SELECT (SELECT max(id) FROM profile) AS profile,
                          (SELECT max(id) FROM catalog) AS catalog";
        store.query_one(sql, values![], |row| {
            Ok(Self { profile: row.get("profile")?, catalog: row.get("catalog")? })
        })
    }

    /// Inserts empty rows with these IDs if their rows were deleted.
    fn reserve(&self, store: &dyn Statements) -> Result<(), CheckpointError> {
        let nothing = zstd::bulk::compress(&[], 1)?;
        if let Some(profile) = self.profile {
            let sql = "INSERT INTO profile (id, digest, bytes) VALUES (?1, ?2, ?3)
                ON CONFLICT (id) DO NOTHING";
            store.execute(sql, values![profile, RESERVED_HASH, nothing])?;
        }
        if let Some(catalog) = self.catalog {
            let sql = "INSERT INTO catalog (id, tenant, digest, observed, members)
                SELECT ?1, t.id, ?2, 0, ?3 FROM tenant t WHERE t.guid = '-'
                ON CONFLICT (id) DO NOTHING";
            store.execute(sql, values![catalog, RESERVED_HASH, nothing])?;
        }
        Ok(())
    }
}

/// Deletes the replays that send nothing of any tenant.
fn delete_empty_replays(store: &dyn Statements) -> Result<(), CheckpointError> {
    let sql = "DELETE FROM replay
        WHERE NOT EXISTS (SELECT 1 FROM replay_cursor r WHERE r.replay = replay.id)";
    store.execute(sql, values![])?;
    Ok(())
}

/// Deletes the profiles that no catalog refers to, and returns the number of those with content.
fn delete_unreferenced_profiles(store: &dyn Statements) -> Result<u64, CheckpointError> {
    let mut used: HashSet<ProfileId> = HashSet::new();
    store.query("SELECT members FROM catalog", values![], &mut |row| {
        let packed: Vec<u8> = row.get("members")?;
        used.extend(unpack(&packed)?.iter().map(|member| member.profile));
        Ok(ControlFlow::Continue(()))
    })?;

    let all: Vec<(ProfileId, Vec<u8>)> =
        store.query_all("SELECT id, digest FROM profile", values![], |row| {
            Ok((row.get("id")?, row.get("digest")?))
        })?;
    let mut deleted = 0;
    for (id, hash) in all.into_iter().filter(|(id, _)| !used.contains(id)) {
        store.execute("DELETE FROM profile WHERE id = ?1", values![id])?;
        deleted += u64::from(hash != RESERVED_HASH);
    }
    Ok(deleted)
}
