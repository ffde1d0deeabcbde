//! What a sink is sent once more: days of the log, as a job with its own place in it, and dead
//! letters, until they have arrived.

use rusqlite::params;

use super::{Checkpoint, CheckpointError, FOR_SINK, Lane, ON_DAY, Pending, Position, tenant_id};
use crate::model::{Day, EventId, TenantId};

/// A job that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayStatus {
    pub id: i64,
    pub sink: String,
    pub first_day: Day,
    pub last_day: Day,
    /// Snapshots that are still to be sent.
    pub remaining: u64,
}

/// A dead letter on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedDeadLetter {
    pub id: i64,
    pub sink: String,
    pub tenant: TenantId,
    pub at: Position,
    pub day: Option<Day>,
    pub event_id: EventId,
    pub reason: String,
    /// Milliseconds since 1970-01-01.
    pub rejected_ms: i64,
    /// It is to be sent again.
    pub retry: bool,
}

/// Entries of a replay, with the columns of a [`Pending`] before and the restriction after. What the
/// sink does not get any more it does not get once more either.
fn waiting() -> String {
    format!(
        "FROM replay r JOIN replay_cursor c ON c.replay = r.id JOIN tenant t ON t.id = c.tenant JOIN sink s ON s.id = r.sink
         JOIN cursor live ON live.sink = r.sink AND live.tenant = c.tenant AND live.epoch = 0 AND live.active
         JOIN entry e ON e.tenant = c.tenant AND e.seq BETWEEN c.seq AND c.last
            AND {ON_DAY} BETWEEN r.first_day AND r.last_day AND {FOR_SINK}"
    )
}

impl Checkpoint {
    /// Makes a job: these days once more, of all tenants that the sink gets, as far as the log
    /// goes now. Gives the number of snapshots.
    pub fn add_replay(
        &self,
        sink: &str,
        first: Day,
        last: Day,
        now_ms: i64,
    ) -> Result<u64, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction.execute(
            "INSERT INTO replay (sink, first_day, last_day, requested) SELECT id, ?2, ?3, ?4 FROM sink WHERE name = ?1",
            params![sink, first.number(), last.number(), now_ms],
        )?;
        let job = transaction.last_insert_rowid();
        transaction.execute(
            "INSERT INTO replay_cursor SELECT ?1, c.tenant, 1, 0, (SELECT coalesce(max(seq), 0) FROM entry WHERE tenant = c.tenant)
             FROM cursor c JOIN sink s ON s.id = c.sink WHERE s.name = ?2 AND c.active",
            params![job, sink],
        )?;
        let entries: i64 = transaction.query_row(
            &format!("SELECT count(*) {} WHERE r.id = ?1", waiting()),
            [job],
            |row| row.get(0),
        )?;
        if entries == 0 {
            transaction.rollback()?;
        } else {
            transaction.commit()?;
        }
        Ok(entries.cast_unsigned())
    }

    /// The sink's oldest job, and the tenants of which it has something to send. A job with
    /// nothing left is struck off.
    pub fn pending_replay(
        &self,
        sink: &str,
    ) -> Result<Option<(Lane, Vec<Pending>)>, CheckpointError> {
        loop {
            let job: Option<i64> = self.connection().query_row(
                "SELECT min(r.id) FROM replay r JOIN sink s ON s.id = r.sink WHERE s.name = ?1",
                [sink],
                |row| row.get(0),
            )?;
            let Some(job) = job else { return Ok(None) };
            let pending = self.pending_of(
                &format!(
                    "SELECT t.guid, c.seq, c.record_index, r.first_day, r.last_day, max(e.seq), count(*), 1 {}
                     WHERE r.id = ?1 GROUP BY c.tenant ORDER BY c.tenant",
                    waiting()
                ),
                [job],
            )?;
            if !pending.is_empty() {
                return Ok(Some((Lane::Replay(job), pending)));
            }
            self.connection().execute("DELETE FROM replay WHERE id = ?1", [job])?;
        }
    }

    /// Marks a sink's dead letters to be sent again. Gives their number.
    pub fn retry_dead_letters(&self, sink: &str) -> Result<u64, CheckpointError> {
        let marked = self.connection().execute(
            "UPDATE dead_letter SET retry = 1 WHERE sink = (SELECT id FROM sink WHERE name = ?1)",
            [sink],
        )?;
        Ok(marked as u64)
    }

    /// A sink's dead letters that are to be sent again, in the order of the logs.
    pub fn pending_dead_letters(
        &self,
        sink: &str,
        limit: u32,
    ) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
        let wanted = "s.name = ?1 AND d.retry AND EXISTS
            (SELECT 1 FROM cursor c WHERE c.sink = d.sink AND c.tenant = d.tenant AND c.active)";
        self.dead_letters_where(wanted, params![sink, limit])
    }

    /// The newest dead letters of all sinks, up to a number.
    pub fn dead_letters(&self, limit: u32) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
        self.dead_letters_where("?1 = ''", params!["", limit])
    }

    fn dead_letters_where(
        &self,
        which: &str,
        params: impl rusqlite::Params,
    ) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
        let connection = self.connection();
        let order =
            if which.contains("retry") { "t.guid, d.seq, d.record_index" } else { "d.id DESC" };
        let mut statement = connection.prepare_cached(&format!(
            "SELECT d.id, s.name, t.guid, d.seq, d.record_index, e.day, d.event_id, d.reason, d.rejected, d.retry
             FROM dead_letter d JOIN sink s ON s.id = d.sink JOIN tenant t ON t.id = d.tenant
             LEFT JOIN entry e ON e.tenant = d.tenant AND e.seq = d.seq
             WHERE {which} ORDER BY {order} LIMIT ?2"
        ))?;
        let mut rows = statement.query(params)?;
        let mut letters = Vec::new();
        while let Some(row) = rows.next()? {
            letters.push(QueuedDeadLetter {
                id: row.get(0)?,
                sink: row.get(1)?,
                tenant: tenant_id(&row.get::<_, String>(2)?)?,
                at: Position {
                    seq: row.get::<_, i64>(3)?.cast_unsigned(),
                    record_index: row.get(4)?,
                },
                day: row.get::<_, Option<i32>>(5)?.and_then(Day::from_number),
                event_id: EventId::parse(&row.get::<_, String>(6)?).ok_or_else(|| {
                    CheckpointError::Damaged("a dead letter has no id".to_owned())
                })?,
                reason: row.get(7)?,
                rejected_ms: row.get(8)?,
                retry: row.get(9)?,
            });
        }
        Ok(letters)
    }

    /// The jobs that are under way.
    pub(super) fn replays(&self) -> Result<Vec<ReplayStatus>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT r.id, s.name, r.first_day, r.last_day, count(*) {}
             GROUP BY r.id ORDER BY r.id",
            waiting()
        ))?;
        let mut rows = statement.query([])?;
        let mut replays = Vec::new();
        while let Some(row) = rows.next()? {
            let day = |column: usize| -> Result<Day, CheckpointError> {
                Day::from_number(row.get(column)?)
                    .ok_or_else(|| CheckpointError::Damaged("a replay has no days".to_owned()))
            };
            replays.push(ReplayStatus {
                id: row.get(0)?,
                sink: row.get(1)?,
                first_day: day(2)?,
                last_day: day(3)?,
                remaining: row.get::<_, i64>(4)?.cast_unsigned(),
            });
        }
        Ok(replays)
    }
}
