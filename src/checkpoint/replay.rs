//! Replays: stored days that are sent to a sink again. Each replay has its own position in the log
//! of each of its tenants, and never moves the live cursor of the sink. Start reading at
//! [`Checkpoint::add_replay`].

use rusqlite::{Connection, params};

use super::{
    Checkpoint, CheckpointError, ENTRY_DAY, IS_SENT_TO_SINK, Lane, Pending,
    columns::{day, guids_as_json, unsigned},
    row_ids::{ReplayId, last_inserted},
    tenant_id,
};
use crate::model::{Day, TenantId, UnixMillis};

/// A replay that is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayStatus {
    /// The ID of the job, as in [`Lane::Replay`].
    pub id: ReplayId,
    pub sink: String,
    /// The first day to send, inclusive.
    pub first_day: Day,
    /// The last day to send, inclusive.
    pub last_day: Day,
    /// The number of entries that are still to be sent.
    pub remaining: u64,
}

/// The stored entries that a replay sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayScope {
    /// The number of different days, over all tenants.
    pub days: u64,
    /// The tenants that have entries to send.
    pub tenants: Vec<ReplayTenant>,
}

/// The stored entries that a replay sends for one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayTenant {
    pub tenant: TenantId,
    /// The number of different days.
    pub days: u64,
    /// The number of snapshots: at least one for each day.
    pub snapshots: u64,
    /// The number of observations.
    pub observations: u64,
    /// The `seq` of the first snapshot; 0 if there is none.
    pub first_seq: u64,
    /// The `seq` of the last snapshot; 0 if there is none.
    pub last_seq: u64,
}

/// SQL: the `FROM` clause of the entries `e` that a sink `s` can be sent again, with their tenant
/// `t`. The sink is parameter 1, the tenants are parameter 2, and the first and last day are
/// parameters 3 and 4. The clause excludes tenants that the sink does not receive.
fn from_entries_to_replay() -> String {
    format!(
        "FROM sink s JOIN cursor c ON c.sink = s.id AND c.epoch = 0 AND c.active JOIN tenant t ON t.id = c.tenant
         JOIN entry e ON e.tenant = c.tenant AND {ENTRY_DAY} BETWEEN ?3 AND ?4 AND {IS_SENT_TO_SINK}
         WHERE s.name = ?1 AND t.guid IN (SELECT value FROM json_each(?2))"
    )
}

/// SQL: the `FROM` clause that joins each replay `r` with its unsent entries `e`. The caller adds
/// the columns and the conditions. The clause excludes sinks that are not configured, and tenants
/// that the sink no longer receives.
fn from_unsent_entries() -> String {
    format!(
        "FROM replay r JOIN replay_cursor c ON c.replay = r.id JOIN tenant t ON t.id = c.tenant
         JOIN sink s ON s.id = r.sink AND s.removed IS NULL
         JOIN cursor live ON live.sink = r.sink AND live.tenant = c.tenant AND live.epoch = 0 AND live.active
         JOIN entry e ON e.tenant = c.tenant AND e.seq BETWEEN c.seq AND c.last
            AND {ENTRY_DAY} BETWEEN r.first_day AND r.last_day AND {IS_SENT_TO_SINK}"
    )
}

impl Checkpoint {
    /// The entries that [`Self::add_replay`] selects with the same arguments.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the GUID of a
    /// tenant is invalid.
    pub fn replay_scope(
        &self,
        sink: &str,
        tenants: &[TenantId],
        first: Day,
        last: Day,
    ) -> Result<ReplayScope, CheckpointError> {
        let connection = self.connection();
        let guids = guids_as_json(tenants);
        let params = params![sink, guids, first.number(), last.number()];
        let from = from_entries_to_replay();

        let days = connection
            .prepare_cached(&format!(
                "SELECT count(DISTINCT iif(e.kind = 1, e.day, NULL)) AS days {from}"
            ))?
            .query_row(params, |row| unsigned(row, "days"))?;

        let mut statement = connection.prepare_cached(&format!(
            "SELECT t.guid, count(DISTINCT iif(e.kind = 1, e.day, NULL)) AS days, sum(e.kind = 1) AS snapshots,
                sum(e.kind = 2) AS observations, coalesce(min(iif(e.kind = 1, e.seq, NULL)), 0) AS first_seq,
                coalesce(max(iif(e.kind = 1, e.seq, NULL)), 0) AS last_seq
             {from} GROUP BY t.id ORDER BY t.id"
        ))?;
        let mut rows = statement.query(params)?;
        let mut tenants = Vec::new();
        while let Some(row) = rows.next()? {
            tenants.push(ReplayTenant {
                tenant: tenant_id(&row.get::<_, String>("guid")?)?,
                days: unsigned(row, "days")?,
                snapshots: unsigned(row, "snapshots")?,
                observations: unsigned(row, "observations")?,
                first_seq: unsigned(row, "first_seq")?,
                last_seq: unsigned(row, "last_seq")?,
            });
        }
        Ok(ReplayScope { days, tenants })
    }

    /// Creates a replay of these days (inclusive) for those of the tenants that the sink receives,
    /// up to the current end of their logs. Returns the number of entries; creates no replay if it
    /// is zero.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn add_replay(
        &self,
        sink: &str,
        tenants: &[TenantId],
        first: Day,
        last: Day,
        now: UnixMillis,
    ) -> Result<u64, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        transaction.execute(
            "INSERT INTO replay (sink, first_day, last_day, requested) SELECT id, ?2, ?3, ?4 FROM sink WHERE name = ?1",
            params![sink, first.number(), last.number(), now],
        )?;
        let replay: ReplayId = last_inserted(&transaction);
        transaction.execute(
            "INSERT INTO replay_cursor SELECT ?1, c.tenant, 1, 0, (SELECT coalesce(max(seq), 0) FROM entry WHERE tenant = c.tenant)
             FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant
             WHERE s.name = ?2 AND c.active AND t.guid IN (SELECT value FROM json_each(?3))",
            params![replay, sink, guids_as_json(tenants)],
        )?;

        let entries: i64 = transaction.query_row(
            &format!("SELECT count(*) AS entries {} WHERE r.id = ?1", from_unsent_entries()),
            [replay],
            |row| row.get("entries"),
        )?;
        if entries == 0 {
            transaction.rollback()?;
        } else {
            transaction.commit()?;
        }
        Ok(entries.cast_unsigned())
    }

    /// The sink's oldest unfinished replay, and the tenants for which it has entries to send;
    /// `None` if there is no such replay. Deletes finished replays.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or if a finished replay cannot be deleted.
    pub fn pending_replay(
        &self,
        sink: &str,
    ) -> Result<Option<(Lane, Vec<Pending>)>, CheckpointError> {
        loop {
            let replay: Option<ReplayId> = self.connection().query_row(
                "SELECT min(r.id) AS id FROM replay r JOIN sink s ON s.id = r.sink
                 WHERE s.name = ?1",
                [sink],
                |row| row.get("id"),
            )?;
            let Some(replay) = replay else { return Ok(None) };

            let pending = self.pending_of(
                &format!(
                    "SELECT t.guid, c.seq, c.record_index, r.first_day, r.last_day, max(e.seq) AS last_seq,
                        count(*) AS entries, 1 AS backfilled {}
                     WHERE r.id = ?1 GROUP BY c.tenant ORDER BY c.tenant",
                    from_unsent_entries()
                ),
                [replay],
            )?;
            if !pending.is_empty() {
                return Ok(Some((Lane::Replay(replay), pending)));
            }

            self.connection().execute("DELETE FROM replay WHERE id = ?1", [replay])?;
        }
    }
}

/// The replays that are not finished, oldest first. Fails with [`CheckpointError::Damaged`] if
/// the days of a replay are invalid.
pub(super) fn unfinished(connection: &Connection) -> Result<Vec<ReplayStatus>, CheckpointError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT r.id, s.name AS sink, r.first_day, r.last_day, count(*) AS remaining {}
         GROUP BY r.id ORDER BY r.id",
        from_unsent_entries()
    ))?;

    let mut rows = statement.query([])?;
    let mut replays = Vec::new();
    while let Some(row) = rows.next()? {
        let damaged = || CheckpointError::Damaged("a replay has no valid days".to_owned());
        replays.push(ReplayStatus {
            id: row.get("id")?,
            sink: row.get("sink")?,
            first_day: day(row, "first_day")?.ok_or_else(damaged)?,
            last_day: day(row, "last_day")?.ok_or_else(damaged)?,
            remaining: unsigned(row, "remaining")?,
        });
    }
    Ok(replays)
}
