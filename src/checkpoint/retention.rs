//! Removes data: bodies that are past their retention, and tenants that an operator erases.
//!
//! Facts are never pruned, and a body that a sink has not received is never pruned. Start reading
//! at [`Checkpoint::prune`] and [`Checkpoint::forget`]. See decisions 0016 and 0017.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, CheckpointError,
    catalog::RESERVED_HASH,
    columns,
    row_ids::{BodyId, CatalogVersion, ProfileId, TenantRow},
    running_polls,
};
use crate::model::{Day, TenantId, UnixMillis};

/// The result of pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// The number of days whose bodies were pruned.
    pub days: u64,
    /// The bytes of the database that are in use after pruning.
    pub used_bytes: u64,
}

/// What was erased of a tenant; `state forget` prints it as a receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureReceipt {
    /// The GUID of the tenant.
    pub tenant: String,
    /// The ID of the checkpoint from which it was erased.
    pub checkpoint_id: String,
    /// The time of the erasure.
    #[serde(rename = "at_ms")]
    pub erased_at: UnixMillis,
    /// The number of erased snapshots.
    pub snapshots: u64,
    /// The number of erased observations.
    pub observations: u64,
    /// The number of erased catalog versions.
    pub catalogs: u64,
    /// The number of erased profiles; profiles that other tenants use are kept.
    pub profiles: u64,
    /// The number of erased dead letters.
    pub dead_letters: u64,
    /// The first day of the erased snapshots; `None` if there were none.
    pub first_day: Option<Day>,
    /// The last day of the erased snapshots; `None` if there were none.
    pub last_day: Option<Day>,
}

/// Bodies of the newest days are never pruned: polls read these days again, and a backfill reads
/// all 90 days that Microsoft keeps.
const NEVER_PRUNED_DAYS: i32 = 90;
/// The number of bodies that one transaction prunes, so that other users of the checkpoint do not
/// wait for long.
const PRUNE_BATCH: u32 = 500;
/// The prefix of a key in `meta`, followed by the GUID of a tenant: an erasure that has begun, with
/// its receipt.
const ERASURE_KEY_PREFIX: &str = "forgetting/";

/// SQL: whether the body of an entry `e` may be pruned: every sink that receives the tenant has
/// received it, no replay will send it, and no dead letter refers to it.
const IS_PRUNABLE: &str = "e.kind = 1 AND e.body IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM cursor c WHERE c.tenant = e.tenant AND c.active AND c.seq <= e.seq AND e.day >= c.floor)
    AND NOT EXISTS (SELECT 1 FROM replay_cursor r WHERE r.tenant = e.tenant AND e.seq BETWEEN r.seq AND r.last)
    AND NOT EXISTS (SELECT 1 FROM dead_letter d WHERE d.tenant = e.tenant AND d.seq = e.seq)";

impl Checkpoint {
    /// Prunes the bodies of days before `before` that every sink has received. Then, while the
    /// database uses more than `max_size` bytes, prunes the oldest of the other bodies that every
    /// sink has received. Never removes the bodies of the newest 90 days, or a key frame that other
    /// bodies depend on.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read or written. The bodies that were pruned before the
    /// error stay pruned, because each batch of 500 is a separate transaction.
    pub fn prune(
        &self,
        before: Day,
        max_size: Option<u64>,
        today: Day,
    ) -> Result<Pruned, CheckpointError> {
        let first_protected = today.plus(-NEVER_PRUNED_DAYS);
        let mut pruned = Pruned::default();

        loop {
            let days = self.prune_batch(before.min(first_protected))?;
            pruned.days += days;
            if days < u64::from(PRUNE_BATCH) {
                break;
            }
        }

        while max_size.is_some_and(|limit| self.used_bytes().is_ok_and(|used| used > limit)) {
            let days = self.prune_batch(first_protected)?;
            pruned.days += days;
            if days == 0 {
                break;
            }
        }

        pruned.used_bytes = self.used_bytes()?;
        Ok(pruned)
    }

    /// The day on which pruning was last completed, as stored by [`Self::set_last_prune_day`].
    /// `None` if pruning has never been completed.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn last_prune_day(&self) -> Result<Option<Day>, CheckpointError> {
        let day: Option<String> = self
            .connection()
            .query_row("SELECT value FROM meta WHERE key = 'pruned'", [], |row| row.get("value"))
            .optional()?;
        Ok(day.and_then(|day| Day::parse(&day)))
    }

    /// Stores that pruning was completed today.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn set_last_prune_day(&self, today: Day) -> Result<(), CheckpointError> {
        self.connection()
            .execute("INSERT OR REPLACE INTO meta VALUES ('pruned', ?1)", [today.to_string()])?;
        Ok(())
    }

    /// Prunes up to [`PRUNE_BATCH`] bodies of days before `before`, the oldest first, and returns
    /// their number.
    fn prune_batch(&self, before: Day) -> Result<u64, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        let prunable = prunable_entries(&transaction, before)?;
        for (tenant, seq, _) in &prunable {
            transaction
                .prepare_cached("UPDATE entry SET body = NULL WHERE tenant = ?1 AND seq = ?2")?
                .execute(params![tenant, seq])?;
        }
        delete_if_unreferenced(&transaction, prunable.iter().map(|(.., body)| *body).collect())?;

        transaction.commit()?;
        Ok(prunable.len() as u64)
    }

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
        let connection = self.connection();
        connection.execute_batch("VACUUM")?;
        truncate_wal(&connection)
    }

    /// Erases everything about a tenant: its log, catalogs, baselines, cursors and dead letters.
    /// Overwrites the freed space.
    ///
    /// Returns `None` if the checkpoint contains nothing about the tenant. After
    /// [`CheckpointError::ErasureIncomplete`] a second call completes the erasure and returns the
    /// same receipt.
    pub fn forget(
        &self,
        tenant: TenantId,
        now: UnixMillis,
    ) -> Result<Option<ErasureReceipt>, CheckpointError> {
        let guid = tenant.to_string();
        self.connection().execute_batch("PRAGMA secure_delete = ON")?;
        let receipt = self.erase_and_scrub(&guid, now);
        self.connection().execute_batch("PRAGMA secure_delete = OFF")?;
        receipt
    }

    fn erase_and_scrub(
        &self,
        guid: &str,
        now: UnixMillis,
    ) -> Result<Option<ErasureReceipt>, CheckpointError> {
        let key = format!("{ERASURE_KEY_PREFIX}{guid}");
        let Some(receipt) = self.erase(guid, &key, now)? else { return Ok(None) };

        self.saved_cursors().forget(guid);
        let scrubbed = self.write_cursor_file().and_then(|()| self.compact());
        scrubbed.map_err(|error| CheckpointError::ErasureIncomplete(Box::new(error)))?;

        let connection = self.connection();
        connection.execute("DELETE FROM meta WHERE key = ?1", [&key])?;
        // If this fails, the write-ahead log contains nothing about the tenant except the deletion
        // of this key.
        let _ = truncate_wal(&connection);
        Ok(Some(receipt))
    }

    /// Deletes the rows of a tenant and stores the receipt under `key`, in one transaction. The
    /// receipt stays until the file is scrubbed, so that an interrupted erasure can be completed.
    fn erase(
        &self,
        guid: &str,
        key: &str,
        now: UnixMillis,
    ) -> Result<Option<ErasureReceipt>, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let earlier_receipt: Option<String> = transaction
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get("value"))
            .optional()?;
        let row: Option<TenantRow> = transaction
            .query_row("SELECT id FROM tenant WHERE guid = ?1", [guid], |row| row.get("id"))
            .optional()?;

        let receipt = match (row, earlier_receipt) {
            (None, None) => return Ok(None),
            (None, Some(json)) => serde_json::from_str(&json).unwrap_or_default(),
            (Some(row), _) => ErasureReceipt {
                checkpoint_id: self.id.clone(),
                erased_at: now,
                ..delete_tenant(&transaction, row, guid)?
            },
        };

        let json = serde_json::to_string(&receipt).map_err(std::io::Error::from)?;
        transaction.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [key, &json])?;
        transaction.commit()?;
        Ok(Some(receipt))
    }
}

/// Moves the write-ahead log into the database and truncates it. Each of three attempts waits up to
/// five seconds for readers; if all of them fail, returns [`CheckpointError::Busy`].
fn truncate_wal(connection: &Connection) -> Result<(), CheckpointError> {
    for _ in 0..3 {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        if connection.query_row(sql, [], |row| row.get::<_, i64>("busy"))? == 0 {
            return Ok(());
        }
    }
    Err(CheckpointError::Busy)
}

/// Deletes the rows of a tenant from all tables. The receipt has no `checkpoint_id` and no time.
fn delete_tenant(
    transaction: &Transaction<'_>,
    row: TenantRow,
    guid: &str,
) -> Result<ErasureReceipt, CheckpointError> {
    let day = |sql: &str| transaction.query_row(sql, [row], |row| columns::day(row, "day"));
    let first_day = day("SELECT min(day) AS day FROM entry WHERE tenant = ?1 AND kind = 1")?;
    let last_day = day("SELECT max(day) AS day FROM entry WHERE tenant = ?1 AND kind = 1")?;
    let highest_ids = HighestIds::read(transaction)?;

    let delete =
        |sql: &str| -> Result<u64, CheckpointError> { Ok(transaction.execute(sql, [row])? as u64) };
    delete("UPDATE tenant SET catalog = NULL WHERE id = ?1")?;
    let observations = delete("DELETE FROM entry WHERE tenant = ?1 AND kind = 2")?;
    let snapshots = delete("DELETE FROM entry WHERE tenant = ?1")?;
    let catalogs = delete("DELETE FROM catalog WHERE tenant = ?1")?;
    let dead_letters = delete("DELETE FROM dead_letter WHERE tenant = ?1")?;
    for table in ["replay_cursor", "cursor", "missing", "held", "open_observation", "baseline"] {
        delete(&format!("DELETE FROM {table} WHERE tenant = ?1"))?;
    }
    transaction.execute("DELETE FROM domain WHERE guid = ?1", [guid])?;
    running_polls::finish_guid(transaction, guid)?;
    delete("DELETE FROM tenant WHERE id = ?1")?;
    transaction.execute(
        "DELETE FROM replay WHERE NOT EXISTS (SELECT 1 FROM replay_cursor r WHERE r.replay = replay.id)",
        [],
    )?;

    delete_unreferenced_bodies(transaction)?;
    let profiles = delete_unreferenced_profiles(transaction)?;
    highest_ids.reserve(transaction)?;

    Ok(ErasureReceipt {
        tenant: guid.to_owned(),
        snapshots,
        observations,
        catalogs,
        profiles,
        dead_letters,
        first_day,
        last_day,
        ..ErasureReceipt::default()
    })
}

/// The highest IDs of profiles and catalogs. SQLite would assign them again after their rows are
/// deleted, but a running daemon caches profiles and catalogs by ID.
struct HighestIds {
    profile: Option<ProfileId>,
    catalog: Option<CatalogVersion>,
}

impl HighestIds {
    fn read(connection: &Connection) -> Result<Self, CheckpointError> {
        let sql = "SELECT (SELECT max(id) FROM profile) AS profile,
                          (SELECT max(id) FROM catalog) AS catalog";
        let highest = connection.query_row(sql, [], |row| {
            Ok(Self { profile: row.get("profile")?, catalog: row.get("catalog")? })
        })?;
        Ok(highest)
    }

    /// Inserts empty rows with these IDs if their rows were deleted.
    fn reserve(&self, connection: &Connection) -> Result<(), CheckpointError> {
        let nothing = zstd::bulk::compress(&[], 1)?;
        connection.execute(
            "INSERT INTO profile (id, digest, bytes) SELECT ?1, ?3, ?2 WHERE ?1 IS NOT NULL
             ON CONFLICT DO NOTHING",
            params![self.profile, nothing, RESERVED_HASH],
        )?;
        connection.execute(
            "INSERT INTO catalog (id, tenant, digest, observed, members)
             SELECT ?1, t.id, ?3, 0, ?2 FROM tenant t WHERE t.guid = '-' AND ?1 IS NOT NULL
             ON CONFLICT DO NOTHING",
            params![self.catalog, nothing, RESERVED_HASH],
        )?;
        Ok(())
    }
}

/// The next entries of days before `before` whose body may be pruned, the oldest first: tenant,
/// `seq`, body.
fn prunable_entries(
    connection: &Connection,
    before: Day,
) -> Result<Vec<(TenantRow, i64, BodyId)>, CheckpointError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT e.tenant, e.seq, e.body FROM entry e WHERE e.day < ?1 AND {IS_PRUNABLE} ORDER BY e.day LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![before.number(), PRUNE_BATCH], |row| {
        Ok((row.get("tenant")?, row.get("seq")?, row.get("body")?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deletes each of these bodies unless an entry refers to it or another body depends on it; then
/// their key frames, by the same rule. Fails if the database cannot be written.
pub(super) fn delete_if_unreferenced(
    connection: &Connection,
    mut bodies: Vec<BodyId>,
) -> Result<(), CheckpointError> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM body WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.body = body.id)
           AND NOT EXISTS (SELECT 1 FROM body b WHERE b.key_frame = body.id) RETURNING key_frame",
    )?;
    while let Some(body) = bodies.pop() {
        let key_frame: Option<Option<BodyId>> =
            statement.query_row([body], |row| row.get("key_frame")).optional()?;
        bodies.extend(key_frame.flatten());
    }
    Ok(())
}

/// Deletes all bodies that no entry refers to and no other body depends on.
fn delete_unreferenced_bodies(connection: &Connection) -> Result<(), CheckpointError> {
    // The first pass deletes bodies that depend on a key frame, and the second one the key frames
    // that then have no dependents.
    for _ in 0..2 {
        connection.execute(
            "DELETE FROM body WHERE NOT EXISTS (SELECT 1 FROM entry e WHERE e.body = body.id)
               AND NOT EXISTS (SELECT 1 FROM body b WHERE b.key_frame = body.id)",
            [],
        )?;
    }
    Ok(())
}

/// Deletes the profiles that no catalog refers to, and returns their number.
fn delete_unreferenced_profiles(connection: &Connection) -> Result<u64, CheckpointError> {
    let mut used = std::collections::HashSet::new();
    let mut statement = connection.prepare("SELECT members FROM catalog")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let packed: Vec<u8> = row.get("members")?;
        used.extend(super::catalog::unpack(&packed)?.iter().map(|member| member.profile));
    }

    let mut statement = connection.prepare("SELECT id FROM profile")?;
    let all: Vec<ProfileId> =
        statement.query_map([], |row| row.get("id"))?.collect::<Result<_, _>>()?;
    let mut deleted = 0;
    for id in all.into_iter().filter(|id| !used.contains(id)) {
        deleted += connection.execute("DELETE FROM profile WHERE id = ?1", [id])? as u64;
    }
    Ok(deleted)
}
