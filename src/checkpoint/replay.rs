//! Replays: stored days that are sent to a sink again. Each replay has its own position in the log
//! of each of its tenants, and never moves the live cursor of the sink. Start reading at
//! [`Checkpoint::add_replay`].

use std::collections::{BTreeSet, HashSet};

use super::{
    Checkpoint, CheckpointError, Lane, Pending,
    backend::{Statements, StoredRow, values},
    fields::{day, unsigned},
    pending::pending_of,
    row_ids::{ReplayId, TenantRow},
    sql::{entry_day, is_sent_to_sink, observation, snapshot},
};
use crate::model::{Day, Seq, SinkName, TenantId, UnixMillis};

/// A replay that is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayStatus {
    /// The ID of the job, as in [`Lane::Replay`].
    pub id: ReplayId,
    pub sink: SinkName,
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
    /// The first snapshot; [`Seq::ZERO`] if there is none.
    pub first_seq: Seq,
    /// The last snapshot; [`Seq::ZERO`] if there is none.
    pub last_seq: Seq,
}

/// SQL: the cursor `c` of a configured sink `s` in the log of a tenant `t` that it receives.
macro_rules! from_active_cursors {
    () => {
        "FROM sink s JOIN cursor c ON c.sink = s.id AND c.active AND s.removed IS NULL
         JOIN tenant t ON t.id = c.tenant"
    };
}

/// SQL: joins each replay `r` with its unsent entries `e`. The caller adds the columns and the
/// conditions. The clause excludes sinks that are not configured, and tenants that the sink no
/// longer receives.
macro_rules! from_unsent_entries {
    () => {
        concat!(
            "FROM replay r JOIN replay_cursor c ON c.replay = r.id JOIN tenant t ON t.id = c.tenant
             JOIN sink s ON s.id = r.sink AND s.removed IS NULL
             JOIN cursor live ON live.sink = r.sink AND live.tenant = c.tenant AND live.active
             JOIN entry e ON e.tenant = c.tenant AND e.seq BETWEEN c.seq AND c.last AND ",
            entry_day!(),
            " BETWEEN r.first_day AND r.last_day AND ",
            is_sent_to_sink!()
        )
    };
}

/// SQL: the entries from the day `?3` to the day `?4` that the sink `?1` can be sent again for the
/// tenant `?2`; no row if there are none.
const SCOPE: &str = concat!(
    "SELECT t.id, count(DISTINCT e.day) FILTER (WHERE e.kind = ",
    snapshot!(),
    ") AS days, count(*) FILTER (WHERE e.kind = ",
    snapshot!(),
    ") AS snapshots, count(*) FILTER (WHERE e.kind = ",
    observation!(),
    ") AS observations, coalesce(min(e.seq) FILTER (WHERE e.kind = ",
    snapshot!(),
    "), 0) AS first_seq, coalesce(max(e.seq) FILTER (WHERE e.kind = ",
    snapshot!(),
    "), 0) AS last_seq ",
    from_active_cursors!(),
    " JOIN entry e ON e.tenant = c.tenant AND ",
    entry_day!(),
    " BETWEEN ?3 AND ?4 AND ",
    is_sent_to_sink!(),
    " WHERE s.name = ?1 AND t.guid = ?2 GROUP BY t.id"
);

/// SQL: the days of the snapshots of [`SCOPE`].
const SCOPE_DAYS: &str = concat!(
    "SELECT DISTINCT e.day ",
    from_active_cursors!(),
    " JOIN entry e ON e.tenant = c.tenant AND e.kind = ",
    snapshot!(),
    " AND e.body IS NOT NULL AND e.day BETWEEN ?3 AND ?4 WHERE s.name = ?1 AND t.guid = ?2"
);

/// SQL: a replay to the sink `?1`; no row if the sink does not exist.
const INSERT: &str = "INSERT INTO replay (sink, first_day, last_day, requested)
     SELECT s.id, ?2, ?3, ?4 FROM sink s WHERE s.name = ?1 RETURNING id";

/// SQL: the position of the replay `?1` to the sink `?2` in the log of the tenant `?3`, if the sink
/// receives the tenant.
const INSERT_CURSOR: &str = "INSERT INTO replay_cursor (replay, tenant, seq, record_index, last)
     SELECT ?1, c.tenant, 1, 0, t.next_seq - 1
     FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant
     WHERE s.name = ?2 AND c.active AND t.guid = ?3";

const COUNT: &str =
    concat!("SELECT count(*) AS entries ", from_unsent_entries!(), " WHERE r.id = ?1");

/// SQL: the rows of [`pending_of`] for the replay `?1`.
const PENDING: &str = concat!(
    "SELECT t.guid, c.seq, c.record_index, r.first_day, r.last_day, max(e.seq) AS last_seq,
        count(*) AS entries, TRUE AS backfilled ",
    from_unsent_entries!(),
    " WHERE r.id = ?1 GROUP BY c.replay, c.tenant, t.id, r.id
     ORDER BY c.replay, c.tenant, t.id, r.id"
);

const UNFINISHED: &str = concat!(
    "SELECT r.id, s.name AS sink, r.first_day, r.last_day, count(*) AS remaining ",
    from_unsent_entries!(),
    " GROUP BY r.id, s.id ORDER BY r.id, s.id"
);

impl Checkpoint {
    /// The entries that [`Self::add_replay`] selects with the same arguments. The tenants are in
    /// the order in which they were added.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn replay_scope(
        &self,
        sink: &SinkName,
        tenants: &[TenantId],
        first: Day,
        last: Day,
    ) -> Result<ReplayScope, CheckpointError> {
        let (first, last) = (first.number(), last.number());
        let mut found = Vec::new();
        let mut days: HashSet<i64> = HashSet::new();
        self.reading(|store| {
            for tenant in unique(tenants) {
                let guid = tenant.to_string();
                let values = values![sink, guid, first, last];
                let scope = store.query_optional(SCOPE, values, |row| read_scope(row, tenant))?;
                found.extend(scope);
                days.extend(store.query_all(SCOPE_DAYS, values, |row| row.get::<i64>("day"))?);
            }
            Ok(())
        })?;

        found.sort_unstable_by_key(|(row, _)| *row);
        let tenants = found.into_iter().map(|(_, tenant)| tenant).collect();
        Ok(ReplayScope { days: days.len() as u64, tenants })
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
        sink: &SinkName,
        tenants: &[TenantId],
        first: Day,
        last: Day,
        now: UnixMillis,
    ) -> Result<u64, CheckpointError> {
        let (first, last) = (first.number(), last.number());
        self.claimed(|store| {
            let inserted =
                store.query_optional(INSERT, values![sink, first, last, now], |row| {
                    row.get::<ReplayId>("id")
                })?;
            let Some(replay) = inserted else { return Ok(0) };

            for tenant in unique(tenants) {
                let guid = tenant.to_string();
                store.execute(INSERT_CURSOR, values![replay, sink, guid])?;
            }
            let entries =
                store.query_one(COUNT, values![replay], |row| unsigned(row, "entries"))?;
            if entries == 0 {
                delete(store, replay)?;
            }
            Ok(entries)
        })
    }

    /// The sink's oldest replay with entries to send for a tenant that `is_served`, and all tenants
    /// for which it has entries; `None` if there is no such replay. Deletes finished replays. A
    /// tenant that waits thereby delays no later replay.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or if a finished replay cannot be deleted.
    pub fn pending_replay(
        &self,
        sink: &SinkName,
        is_served: &dyn Fn(TenantId) -> bool,
    ) -> Result<Option<(Lane, Vec<Pending>)>, CheckpointError> {
        for replay in self.reading(|store| replays_of(store, sink))? {
            let pending = self.reading(|store| pending_of(store, PENDING, values![replay]))?;
            if pending.is_empty() {
                self.claimed(|store| delete(store, replay))?;
            } else if pending.iter().any(|pending| is_served(pending.tenant)) {
                return Ok(Some((Lane::Replay(replay), pending)));
            }
        }
        Ok(None)
    }
}

/// The replays that are not finished, oldest first. Fails with [`CheckpointError::Damaged`] if
/// the days of a replay are invalid.
pub(super) fn unfinished(store: &dyn Statements) -> Result<Vec<ReplayStatus>, CheckpointError> {
    let damaged = || CheckpointError::Damaged("a replay has no valid days".to_owned());
    store.query_all(UNFINISHED, values![], |row| {
        Ok(ReplayStatus {
            id: row.get("id")?,
            sink: row.get("sink")?,
            first_day: day(row, "first_day")?.ok_or_else(damaged)?,
            last_day: day(row, "last_day")?.ok_or_else(damaged)?,
            remaining: unsigned(row, "remaining")?,
        })
    })
}

/// Each of the tenants once.
fn unique(tenants: &[TenantId]) -> BTreeSet<TenantId> {
    tenants.iter().copied().collect()
}

fn read_scope(
    row: &dyn StoredRow,
    tenant: TenantId,
) -> Result<(TenantRow, ReplayTenant), CheckpointError> {
    let scope = ReplayTenant {
        tenant,
        days: unsigned(row, "days")?,
        snapshots: unsigned(row, "snapshots")?,
        observations: unsigned(row, "observations")?,
        first_seq: row.get("first_seq")?,
        last_seq: row.get("last_seq")?,
    };
    Ok((row.get("id")?, scope))
}

/// The replays to a sink, oldest first.
fn replays_of(store: &dyn Statements, sink: &SinkName) -> Result<Vec<ReplayId>, CheckpointError> {
    let sql = "SELECT r.id AS id FROM replay r JOIN sink s ON s.id = r.sink
        WHERE s.name = ?1 ORDER BY r.id";
    store.query_all(sql, values![sink], |row| row.get("id"))
}

/// Deletes a replay with its positions.
fn delete(store: &dyn Statements, replay: ReplayId) -> Result<(), CheckpointError> {
    store.execute("DELETE FROM replay WHERE id = ?1", values![replay])?;
    Ok(())
}
