//! What is let go: bodies past their time, and tenants that are to be forgotten.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Checkpoint, CheckpointError, catalog::GONE};
use crate::model::{Day, TenantId};

/// What pruning let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Days whose bodies went; their facts stay for ever.
    pub days: u64,
    /// Bytes of the database in use after it.
    pub used_bytes: u64,
}

/// What was known of a tenant, and is no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureReceipt {
    pub tenant: String,
    pub checkpoint_id: String,
    /// When, in milliseconds since 1970-01-01.
    pub at_ms: i64,
    pub snapshots: u64,
    pub observations: u64,
    pub catalogs: u64,
    /// Profiles that nobody else has.
    pub profiles: u64,
    pub dead_letters: u64,
    pub first_day: Option<String>,
    pub last_day: Option<String>,
}

/// Polls look at the newest days again, and a backfill reaches back over these: their bodies stay.
const READ_AGAIN: i32 = 90;
/// Bodies that go in one transaction, so that nobody waits for long.
const AT_A_TIME: u32 = 500;

/// Entries whose body may go: everyone who is to have it has it. A sink that does not get the tenant
/// any more waits for nothing; dead letters and replays do.
const SPENT: &str = "e.kind = 1 AND e.body IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM cursor c WHERE c.tenant = e.tenant AND c.active AND c.seq <= e.seq AND e.day >= c.floor)
    AND NOT EXISTS (SELECT 1 FROM replay_cursor r WHERE r.tenant = e.tenant AND e.seq BETWEEN r.seq AND r.last)
    AND NOT EXISTS (SELECT 1 FROM dead_letter d WHERE d.tenant = e.tenant AND d.seq = e.seq)";

impl Checkpoint {
    /// Lets go of the bodies of days before `before` that every sink has had; then, while the database
    /// uses more than `max_size`, of the oldest others. The newest 90 days stay in any case, and so does
    /// a body that others lean on.
    pub fn prune(
        &self,
        before: Day,
        max_size: Option<u64>,
        today: Day,
    ) -> Result<Pruned, CheckpointError> {
        let limit = today.plus(-READ_AGAIN);
        let mut pruned = Pruned::default();
        loop {
            let gone = self.let_go(before.min(limit))?;
            pruned.days += gone;
            if gone < u64::from(AT_A_TIME) {
                break;
            }
        }
        while max_size.is_some_and(|most| self.used_bytes().is_ok_and(|used| used > most)) {
            let gone = self.let_go(limit)?;
            pruned.days += gone;
            if gone == 0 {
                break;
            }
        }
        pruned.used_bytes = self.used_bytes()?;
        Ok(pruned)
    }

    /// The last day on which [`Self::prune`] was through, kept by [`Self::set_last_prune_day`].
    pub fn last_prune_day(&self) -> Result<Option<Day>, CheckpointError> {
        let day: Option<String> = self
            .connection()
            .query_row("SELECT value FROM meta WHERE key = 'pruned'", [], |row| row.get(0))
            .optional()?;
        Ok(day.and_then(|day| Day::parse(&day)))
    }

    pub fn set_last_prune_day(&self, today: Day) -> Result<(), CheckpointError> {
        self.connection()
            .execute("INSERT OR REPLACE INTO meta VALUES ('pruned', ?1)", [today.to_string()])?;
        Ok(())
    }

    /// Lets go of some bodies of days before this one, the oldest first.
    fn let_go(&self, before: Day) -> Result<u64, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let spent = spent(&transaction, before)?;
        for (tenant, seq, _) in &spent {
            transaction
                .prepare_cached("UPDATE entry SET body = NULL WHERE tenant = ?1 AND seq = ?2")?
                .execute([tenant, seq])?;
        }
        sweep_these(&transaction, spent.iter().map(|(.., body)| *body).collect())?;
        transaction.commit()?;
        Ok(spent.len() as u64)
    }

    /// Bytes in use: what is free inside the file is used again before it grows.
    pub fn used_bytes(&self) -> Result<u64, CheckpointError> {
        let connection = self.connection();
        let pragma = |name: &str| -> Result<i64, rusqlite::Error> {
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
        };
        let pages = pragma("page_count")? - pragma("freelist_count")?;
        Ok((pages * pragma("page_size")?).cast_unsigned())
    }

    /// Gives what is free inside the file back to the disk. Writes all of it once more.
    pub fn compact(&self) -> Result<(), CheckpointError> {
        let connection = self.connection();
        connection.execute_batch("VACUUM")?;
        fold(&connection)
    }

    /// Erases a tenant: what it sent, what was noticed, who decided what, how far sinks have got. What
    /// is freed is overwritten; if that fails half way, the same again goes on with it. `None` if
    /// nothing is known of it.
    pub fn forget(
        &self,
        tenant: TenantId,
        now_ms: i64,
    ) -> Result<Option<ErasureReceipt>, CheckpointError> {
        let guid = tenant.to_string();
        self.connection().execute_batch("PRAGMA secure_delete = ON")?;
        let forgotten = self.forget_securely(&guid, now_ms);
        self.connection().execute_batch("PRAGMA secure_delete = OFF")?;
        forgotten
    }

    fn forget_securely(
        &self,
        guid: &str,
        now_ms: i64,
    ) -> Result<Option<ErasureReceipt>, CheckpointError> {
        let key = format!("{FORGETTING}{guid}");
        let Some(forgotten) = self.erase(guid, &key, now_ms)? else { return Ok(None) };
        self.remembered().forget(guid);
        let scrubbed = self.write_cursor_file().and_then(|()| self.compact());
        scrubbed.map_err(|error| CheckpointError::ErasureIncomplete(Box::new(error)))?;
        let connection = self.connection();
        connection.execute("DELETE FROM meta WHERE key = ?1", [&key])?;
        // All that is left in the log is that the tenant is gone.
        let _ = fold(&connection);
        Ok(Some(forgotten))
    }

    /// In one transaction with the receipt, which stays until nothing else does.
    fn erase(
        &self,
        guid: &str,
        key: &str,
        now_ms: i64,
    ) -> Result<Option<ErasureReceipt>, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let begun: Option<String> = transaction
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
            .optional()?;
        let row: Option<i64> = transaction
            .query_row("SELECT id FROM tenant WHERE guid = ?1", [guid], |row| row.get(0))
            .optional()?;
        let forgotten = match (row, begun) {
            (None, None) => return Ok(None),
            (None, Some(receipt)) => serde_json::from_str(&receipt).unwrap_or_default(),
            (Some(row), _) => ErasureReceipt {
                checkpoint_id: self.id.clone(),
                at_ms: now_ms,
                ..erase(&transaction, row, guid)?
            },
        };
        let receipt = serde_json::to_string(&forgotten).map_err(std::io::Error::from)?;
        transaction.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [key, &receipt])?;
        transaction.commit()?;
        Ok(Some(forgotten))
    }
}

/// In `meta`, with the tenant's GUID: an erasure under way, and its receipt.
const FORGETTING: &str = "forgetting/";

/// Folds the write-ahead log into the database and empties it. SQLite waits for readers, five seconds
/// at a time.
fn fold(connection: &Connection) -> Result<(), CheckpointError> {
    for _ in 0..3 {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        if connection.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
            return Ok(());
        }
    }
    Err(CheckpointError::Busy)
}

fn erase(
    transaction: &Transaction<'_>,
    row: i64,
    guid: &str,
) -> Result<ErasureReceipt, CheckpointError> {
    let day = |sql: &str| -> Result<Option<String>, CheckpointError> {
        let number: Option<i32> = transaction.query_row(sql, [row], |row| row.get(0))?;
        Ok(number.and_then(Day::from_number).map(|day| day.to_string()))
    };
    let first_day = day("SELECT min(day) FROM entry WHERE tenant = ?1 AND kind = 1")?;
    let last_day = day("SELECT max(day) FROM entry WHERE tenant = ?1 AND kind = 1")?;
    let newest = Numbers::of(transaction)?;
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
    delete("DELETE FROM tenant WHERE id = ?1")?;
    transaction.execute(
        "DELETE FROM replay WHERE NOT EXISTS (SELECT 1 FROM replay_cursor r WHERE r.replay = replay.id)",
        [],
    )?;
    sweep(transaction)?;
    let profiles = sweep_profiles(transaction)?;
    newest.hold(transaction)?;
    let tenant = guid.to_owned();
    Ok(ErasureReceipt {
        tenant,
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

/// The highest numbers of profiles and catalogs. They are never given again: a daemon at work knows
/// what it has read by its number.
struct Numbers {
    profile: Option<i64>,
    catalog: Option<i64>,
}

impl Numbers {
    fn of(connection: &Connection) -> Result<Self, CheckpointError> {
        let highest = |table: &str| {
            connection.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get(0))
        };
        Ok(Self { profile: highest("profile")?, catalog: highest("catalog")? })
    }

    /// Puts something empty in the place of what had them, if it is gone.
    fn hold(&self, connection: &Connection) -> Result<(), CheckpointError> {
        let nothing = zstd::bulk::compress(&[], 1)?;
        connection.execute(
            "INSERT INTO profile (id, digest, bytes) SELECT ?1, ?3, ?2 WHERE ?1 IS NOT NULL
             ON CONFLICT DO NOTHING",
            params![self.profile, nothing, GONE],
        )?;
        connection.execute(
            "INSERT INTO catalog (id, tenant, digest, observed, members)
             SELECT ?1, t.id, ?3, 0, ?2 FROM tenant t WHERE t.guid = '-' AND ?1 IS NOT NULL
             ON CONFLICT DO NOTHING",
            params![self.catalog, nothing, GONE],
        )?;
        Ok(())
    }
}

/// Some entries of days before this one whose body may go, the oldest first: tenant, seq, body.
fn spent(connection: &Connection, before: Day) -> Result<Vec<(i64, i64, i64)>, CheckpointError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT e.tenant, e.seq, e.body FROM entry e WHERE e.day < ?1 AND {SPENT} ORDER BY e.day LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![before.number(), AT_A_TIME], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deletes those of these bodies that no entry has and no other leans on, and then what they leaned
/// on, by the same rule.
pub(super) fn sweep_these(
    connection: &Connection,
    mut bodies: Vec<i64>,
) -> Result<(), CheckpointError> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM body WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.body = body.id)
           AND NOT EXISTS (SELECT 1 FROM body b WHERE b.key_frame = body.id) RETURNING key_frame",
    )?;
    while let Some(body) = bodies.pop() {
        let leaned_on: Option<Option<i64>> =
            statement.query_row([body], |row| row.get(0)).optional()?;
        bodies.extend(leaned_on.flatten());
    }
    Ok(())
}

/// Deletes all bodies that no entry has and no other leans on.
fn sweep(connection: &Connection) -> Result<(), CheckpointError> {
    // Those that lean first, then what they leaned on.
    for _ in 0..2 {
        connection.execute(
            "DELETE FROM body WHERE NOT EXISTS (SELECT 1 FROM entry e WHERE e.body = body.id)
               AND NOT EXISTS (SELECT 1 FROM body b WHERE b.key_frame = body.id)",
            [],
        )?;
    }
    Ok(())
}

/// Deletes the profiles that no catalog has any more; gives their number.
fn sweep_profiles(connection: &Connection) -> Result<u64, CheckpointError> {
    let mut used = std::collections::HashSet::new();
    let mut statement = connection.prepare("SELECT members FROM catalog")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let packed: Vec<u8> = row.get(0)?;
        used.extend(super::catalog::unpack(&packed)?.iter().map(|member| member.profile));
    }
    let mut statement = connection.prepare("SELECT id FROM profile")?;
    let all: Vec<i64> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut gone = 0;
    for id in all.into_iter().filter(|id| !used.contains(id)) {
        gone += connection.execute("DELETE FROM profile WHERE id = ?1", [id])? as u64;
    }
    Ok(gone)
}
