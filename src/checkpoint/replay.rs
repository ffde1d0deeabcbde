//! Records that are sent to a sink again: replays of stored days, each with its own position in the
//! log, and retries of dead letters. Neither moves the live cursor of the sink. Start reading at
//! [`Checkpoint::add_replay`] and [`Checkpoint::retry_dead_letters`].

use rusqlite::params;

use super::{
    Checkpoint, CheckpointError, ENTRY_DAY, IS_SENT_TO_SINK, Lane, Pending, Position,
    columns::{day, unsigned},
    row_ids::{DeadLetterId, ReplayId, last_inserted},
    tenant_id,
};
use crate::model::{Day, EventId, TenantId, UnixMillis};

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

/// A stored dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedDeadLetter {
    /// The ID of the row, for `Advance::delivered_dead_letters`.
    pub id: DeadLetterId,
    pub sink: String,
    pub tenant: TenantId,
    /// The position of the record in the tenant's log.
    pub at: Position,
    /// The day of its entry. `None` if the entry does not exist.
    pub day: Option<Day>,
    pub event_id: EventId,
    /// The message of the receiver.
    pub reason: String,
    /// When it was rejected.
    pub rejected_at: UnixMillis,
    /// Whether it is queued for a retry.
    pub retry: bool,
}

/// SQL: the `FROM` clause that joins each replay `r` with its unsent entries `e`. The caller adds the
/// columns and the conditions. The clause excludes tenants that the sink no longer receives.
fn from_unsent_entries() -> String {
    format!(
        "FROM replay r JOIN replay_cursor c ON c.replay = r.id JOIN tenant t ON t.id = c.tenant JOIN sink s ON s.id = r.sink
         JOIN cursor live ON live.sink = r.sink AND live.tenant = c.tenant AND live.epoch = 0 AND live.active
         JOIN entry e ON e.tenant = c.tenant AND e.seq BETWEEN c.seq AND c.last
            AND {ENTRY_DAY} BETWEEN r.first_day AND r.last_day AND {IS_SENT_TO_SINK}"
    )
}

impl Checkpoint {
    /// Creates a replay of these days (inclusive) for all tenants that the sink receives, up to the
    /// current end of their logs. Returns the number of entries; creates no replay if it is zero.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn add_replay(
        &self,
        sink: &str,
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
             FROM cursor c JOIN sink s ON s.id = c.sink WHERE s.name = ?2 AND c.active",
            params![replay, sink],
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

    /// The sink's oldest unfinished replay, and the tenants for which it has entries to send; `None`
    /// if there is no such replay. Deletes finished replays.
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

    /// Queues all dead letters of a sink for a retry, and returns their number.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn retry_dead_letters(&self, sink: &str) -> Result<u64, CheckpointError> {
        let marked = self.connection().execute(
            "UPDATE dead_letter SET retry = 1 WHERE sink = (SELECT id FROM sink WHERE name = ?1)",
            [sink],
        )?;
        Ok(marked as u64)
    }

    /// A sink's dead letters that are queued for a retry, in the order of the logs; at most
    /// `limit`.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if a stored GUID
    /// or event ID is invalid.
    pub fn pending_dead_letters(
        &self,
        sink: &str,
        limit: u32,
    ) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
        let is_queued = "s.name = ?1 AND d.retry AND EXISTS
            (SELECT 1 FROM cursor c WHERE c.sink = d.sink AND c.tenant = d.tenant AND c.active)";
        let order = "t.guid, d.seq, d.record_index";
        self.dead_letters_where(is_queued, order, params![sink, limit])
    }

    /// The newest dead letters of all sinks, newest first; at most `limit`.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Checkpoint::pending_dead_letters`].
    pub fn dead_letters(&self, limit: u32) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
        self.dead_letters_where("?1 = ''", "d.id DESC", params!["", limit])
    }

    /// The dead letters that match a condition. Parameter 1 belongs to the condition, parameter 2
    /// is the limit.
    fn dead_letters_where(
        &self,
        condition: &str,
        order: &str,
        params: impl rusqlite::Params,
    ) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT d.id, s.name AS sink, t.guid, d.seq, d.record_index, e.day, d.event_id, d.reason, d.rejected, d.retry
             FROM dead_letter d JOIN sink s ON s.id = d.sink JOIN tenant t ON t.id = d.tenant
             LEFT JOIN entry e ON e.tenant = d.tenant AND e.seq = d.seq
             WHERE {condition} ORDER BY {order} LIMIT ?2"
        ))?;

        let mut rows = statement.query(params)?;
        let mut dead_letters = Vec::new();
        while let Some(row) = rows.next()? {
            dead_letters.push(QueuedDeadLetter {
                id: row.get("id")?,
                sink: row.get("sink")?,
                tenant: tenant_id(&row.get::<_, String>("guid")?)?,
                at: Position { seq: unsigned(row, "seq")?, record_index: row.get("record_index")? },
                day: day(row, "day")?,
                event_id: EventId::parse(&row.get::<_, String>("event_id")?).ok_or_else(|| {
                    CheckpointError::Damaged("a dead letter has no valid event ID".to_owned())
                })?,
                reason: row.get("reason")?,
                rejected_at: row.get("rejected")?,
                retry: row.get("retry")?,
            });
        }
        Ok(dead_letters)
    }

    /// The replays that are not finished, oldest first. Fails with [`CheckpointError::Damaged`] if
    /// the days of a replay are invalid.
    pub(super) fn replays(&self) -> Result<Vec<ReplayStatus>, CheckpointError> {
        let connection = self.connection();
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
}
