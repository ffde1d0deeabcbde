//! How far each sink has got with each tenant, and what it could not deliver.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Checkpoint, CheckpointError, CursorFile, FOR_SINK, ON_DAY, SavedCursor, commit_poll::observe,
    tenant_id, tenant_row,
};
use crate::error::Explanation;
use crate::model::{Day, EventId, Observation, Phase, TenantId, What};

/// One host writes with epoch 0.
const EPOCH: i64 = 0;

/// A place in a tenant's log: the next record that is not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub seq: u64,
    /// The record's place within the entry.
    pub record_index: u32,
}

/// Which of a sink's places in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// What is new.
    Live,
    /// Days once more: the job of this number.
    Replay(i64),
    /// Dead letters once more; they have no cursor.
    DeadLetters,
}

/// A tenant of whose log a sink has not had everything.
#[derive(Clone, Debug)]
pub struct Pending {
    pub tenant: TenantId,
    pub at: Position,
    /// The first day that is wanted, and the last if there is one.
    pub first_day: Day,
    pub last_day: Option<Day>,
    /// The last entry that is wanted.
    pub last_seq: u64,
    /// Entries not yet confirmed to the end.
    pub entries: u64,
    /// The next of them was read back from history.
    pub backfilled: bool,
}

/// How far one tenant's cursor moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorMove {
    pub tenant: TenantId,
    pub from: Position,
    pub to: Position,
}

/// A move of cursors. Each names where it starts: if one is anywhere else, none moves.
#[derive(Debug)]
pub struct Advance<'a> {
    pub sink: &'a str,
    pub lane: Lane,
    pub moves: &'a [CursorMove],
    /// What the sink wants kept, if it said anything.
    pub mark: Option<&'a [u8]>,
    pub sent: u64,
    /// Of the records sent, how many were cut.
    pub truncated: u64,
    pub dead_letters: &'a [DeadLetter],
    /// Dead letters that have arrived now.
    pub delivered_dead_letters: &'a [i64],
    pub now_ms: i64,
}

/// A record that the receiver will not  commit_poll, with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub tenant: TenantId,
    pub at: Position,
    pub event_id: EventId,
    pub reason: String,
}

impl Checkpoint {
    /// Makes a sink known, with a cursor for each of these tenants, which are `all` that it gets
    /// or some more. A new cursor starts at the
    /// beginning of the log and sends no day before `start_from`; if the database was lost, no
    /// day that the second cursor file says was sent.
    pub fn register_sink(
        &self,
        sink: &str,
        tenants: &[TenantId],
        all: bool,
        start_from: Day,
    ) -> Result<(), CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction
            .execute("INSERT INTO sink (name) VALUES (?1) ON CONFLICT DO NOTHING", [sink])?;
        // Only of those that the configuration still gives it is anything waiting.
        transaction.execute(
            "UPDATE cursor SET active = 0 WHERE ?2 AND sink = (SELECT id FROM sink WHERE name = ?1)",
            params![sink, all],
        )?;
        for tenant in tenants {
            let row = tenant_row(&transaction, &tenant.to_string())?;
            let sent = self.remembered().sent_before_loss(&self.id, sink, *tenant);
            let floor = sent.map_or(start_from, |day| day.max(start_from));
            transaction.execute(
                "INSERT INTO cursor SELECT id, ?2, ?3, 1, 0, ?4, 1 FROM sink WHERE name = ?1
                 ON CONFLICT DO UPDATE SET active = 1",
                params![sink, row, EPOCH, floor.number()],
            )?;
        }
        Ok(transaction.commit()?)
    }

    /// Says whether a sink is sent observations, too; without, they are no backlog of it.
    pub fn set_receives_observations(
        &self,
        sink: &str,
        wanted: bool,
    ) -> Result<(), CheckpointError> {
        self.connection()
            .execute("UPDATE sink SET quality = ?2 WHERE name = ?1", params![sink, wanted])?;
        Ok(())
    }

    /// What the sink left with its last receipt.
    pub fn mark(&self, sink: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        let mark =
            self.connection()
                .query_row("SELECT mark FROM sink WHERE name = ?1", [sink], |row| row.get(0));
        Ok(mark.optional()?.flatten())
    }

    pub fn set_mark(&self, sink: &str, mark: &[u8]) -> Result<(), CheckpointError> {
        self.connection()
            .execute("UPDATE sink SET mark = ?2 WHERE name = ?1", params![sink, mark])?;
        Ok(())
    }

    /// Why the sink does not get on, for `status`; `None` when it does again.
    pub fn set_sink_error(
        &self,
        sink: &str,
        error: Option<&Explanation>,
    ) -> Result<(), CheckpointError> {
        let (message, hint) = error.map_or((None, None), |e| (Some(&e.message), e.hint.as_deref()));
        self.connection().execute(
            "UPDATE sink SET last_error = ?2, last_hint = ?3 WHERE name = ?1 AND last_error IS NOT ?2",
            params![sink, message, hint],
        )?;
        Ok(())
    }

    /// The tenants that this sink has something to get of.
    pub fn pending(&self, sink: &str) -> Result<Vec<Pending>, CheckpointError> {
        self.pending_of(
            &format!(
                "SELECT t.guid, c.seq, c.record_index, c.floor, NULL, max(e.seq), count(*),
                    min(e.seq * 2 + ((coalesce(e.flags, 0) & 2) <> 0)) & 1
                 FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant
                 JOIN entry e ON e.tenant = c.tenant AND e.seq >= c.seq AND {ON_DAY} >= c.floor AND {FOR_SINK}
                 WHERE s.name = ?1 AND c.epoch = ?2 AND c.active GROUP BY c.tenant ORDER BY c.tenant"
            ),
            params![sink, EPOCH],
        )
    }

    /// Runs a query that gives the columns of a [`Pending`].
    pub(super) fn pending_of(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> Result<Vec<Pending>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut pending = Vec::new();
        while let Some(row) = rows.next()? {
            pending.push(Pending {
                tenant: tenant_id(&row.get::<_, String>(0)?)?,
                at: Position {
                    seq: row.get::<_, i64>(1)?.cast_unsigned(),
                    record_index: row.get(2)?,
                },
                first_day: Day::from_number(row.get(3)?)
                    .unwrap_or(Day::of(jiff::Timestamp::UNIX_EPOCH)),
                last_day: row.get::<_, Option<i32>>(4)?.and_then(Day::from_number),
                last_seq: row.get::<_, i64>(5)?.cast_unsigned(),
                entries: row.get::<_, i64>(6)?.cast_unsigned(),
                backfilled: row.get::<_, i64>(7)? == 1,
            });
        }
        Ok(pending)
    }

    /// Moves cursors, with all that belongs to the move, in one transaction.
    pub fn advance(&self, advance: &Advance<'_>) -> Result<(), CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        for step in advance.moves {
            move_cursor(&transaction, advance, step)?;
        }
        transaction
            .prepare_cached(
                "UPDATE sink SET sent = sent + ?2, rejected = rejected + ?3, truncated = truncated + ?6, mark = coalesce(?4, mark),
                    last_acknowledgement = ?5, last_error = NULL, last_hint = NULL WHERE name = ?1",
            )?
            .execute(params![
                advance.sink,
                advance.sent.cast_signed(),
                (advance.dead_letters.len() as u64).cast_signed(),
                advance.mark,
                advance.now_ms,
                advance.truncated.cast_signed()
            ])?;
        for letter in advance.dead_letters {
            record_dead_letter(&transaction, advance, letter)?;
        }
        for letter in advance.delivered_dead_letters {
            clear_dead_letter(&transaction, advance, *letter)?;
        }
        Ok(transaction.commit()?)
    }

    /// Moves a cursor forward to a place that the receiver is known to have got to. Says whether it
    /// was behind it.
    pub fn skip_to(
        &self,
        sink: &str,
        tenant: TenantId,
        to: Position,
    ) -> Result<bool, CheckpointError> {
        let moved = self.connection().execute(
            "UPDATE cursor SET seq = ?3, record_index = 0
             WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = (SELECT id FROM tenant WHERE guid = ?2)
               AND epoch = ?4 AND seq < ?3",
            params![sink, tenant.to_string(), to.seq.cast_signed(), EPOCH],
        )?;
        Ok(moved > 0)
    }

    /// The number that a tenant's next entry will have.
    pub fn next_seq(&self, tenant: TenantId) -> Result<u64, CheckpointError> {
        let next: Option<i64> = self
            .connection()
            .query_row("SELECT next_seq FROM tenant WHERE guid = ?1", [tenant.to_string()], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(next.unwrap_or(1).cast_unsigned())
    }

    /// The days of a tenant's entries before `seq`, newest first, and the digest of the newest as
    /// it was last.
    pub fn days_before(
        &self,
        tenant: TenantId,
        seq: u64,
    ) -> Result<(Vec<Day>, Option<[u8; 32]>), CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT e.day, e.digest, max(e.revision) FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.seq < ?2 GROUP BY e.day ORDER BY e.day DESC LIMIT 200",
        )?;
        let mut rows = statement.query(params![tenant.to_string(), seq.cast_signed()])?;
        let (mut days, mut newest) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            newest = newest.or(Some(row.get(1)?));
            days.extend(Day::from_number(row.get(0)?));
        }
        Ok((days, newest))
    }

    /// The cursors as they stand, for the second file.
    pub fn cursors(&self) -> Result<CursorFile, CheckpointError> {
        let connection = self.connection();
        // The newest day sent, and the oldest that is still to be sent or to come.
        let mut statement = connection.prepare_cached(
            "SELECT s.name, t.guid, c.seq, c.record_index,
                (SELECT max(e.day) FROM entry e WHERE e.tenant = c.tenant AND e.kind = 1 AND e.seq < c.seq),
                (SELECT min(e.day) FROM entry e WHERE e.tenant = c.tenant AND e.kind = 1 AND e.seq >= c.seq AND e.day >= c.floor),
                (SELECT min(o.day) FROM missing o WHERE o.tenant = c.tenant AND o.absent = 0 AND o.day >= c.floor), c.floor
             FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant WHERE c.epoch = ?1 ORDER BY 1, 2",
        )?;
        let mut rows = statement.query([EPOCH])?;
        let mut cursors: Vec<SavedCursor> = Vec::new();
        while let Some(row) = rows.next()? {
            let day = |column: usize| -> Result<Option<Day>, rusqlite::Error> {
                Ok(row.get::<_, Option<i32>>(column)?.and_then(Day::from_number))
            };
            let after_newest_sent = day(4)?.map(|day| day.plus(1));
            let needed_before = after_newest_sent.max(day(7)?);
            let sent_before = [needed_before, day(5)?, day(6)?].into_iter().flatten().min();
            let sent_before = sent_before
                .ok_or_else(|| CheckpointError::Damaged("a cursor has no floor".into()))?;
            cursors.push(SavedCursor {
                sink: row.get(0)?,
                tenant: row.get(1)?,
                seq: row.get::<_, i64>(2)?.cast_unsigned(),
                record_index: row.get(3)?,
                sent_before: sent_before.to_string(),
            });
        }
        let is_met = |old: &&SavedCursor| {
            !cursors.iter().any(|c| c.sink == old.sink && c.tenant == old.tenant)
        };
        let remembered = self.remembered();
        let carried = remembered.of_lost(&self.id).into_iter().filter(is_met).cloned().collect();
        Ok(CursorFile { checkpoint_id: self.id.clone(), cursors, carried })
    }

    /// Writes the second cursor file.
    pub fn write_cursor_file(&self) -> Result<(), CheckpointError> {
        let _alone = self.cursor_file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let file = self.cursors()?;
        Ok(file.write(&self.directory)?)
    }
}

fn move_cursor(
    connection: &Connection,
    advance: &Advance<'_>,
    step: &CursorMove,
) -> Result<(), CheckpointError> {
    let (from, to) = (step.from, step.to);
    let moved = match advance.lane {
        Lane::Live => connection
            .prepare_cached(
                "UPDATE cursor SET seq = ?5, record_index = ?6
                 WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = (SELECT id FROM tenant WHERE guid = ?2)
                   AND epoch = ?7 AND seq = ?3 AND record_index = ?4",
            )?
            .execute(params![
                advance.sink,
                step.tenant.to_string(),
                from.seq.cast_signed(),
                from.record_index,
                to.seq.cast_signed(),
                to.record_index,
                EPOCH
            ])?,
        Lane::Replay(job) => connection
            .prepare_cached(
                "UPDATE replay_cursor SET seq = ?5, record_index = ?6
                 WHERE replay = ?1 AND tenant = (SELECT id FROM tenant WHERE guid = ?2) AND seq = ?3 AND record_index = ?4",
            )?
            .execute(params![
                job,
                step.tenant.to_string(),
                from.seq.cast_signed(),
                from.record_index,
                to.seq.cast_signed(),
                to.record_index
            ])?,
        Lane::DeadLetters => 1,
    };
    if moved == 1 { Ok(()) } else { Err(CheckpointError::CursorMoved(advance.sink.to_owned())) }
}

/// Puts a record on the dead-letter list; the first of a sink is an observation about it.
fn record_dead_letter(
    connection: &Connection,
    advance: &Advance<'_>,
    letter: &DeadLetter,
) -> Result<(), CheckpointError> {
    let tenant = tenant_row(connection, &letter.tenant.to_string())?;
    // One that was sent again and refused again is still one.
    connection
        .prepare_cached(
            "DELETE FROM dead_letter WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = ?2 AND seq = ?3 AND record_index = ?4",
        )?
        .execute(params![advance.sink, tenant, letter.at.seq.cast_signed(), letter.at.record_index])?;
    connection
        .prepare_cached(
            "INSERT INTO dead_letter (sink, tenant, seq, record_index, event_id, reason, rejected)
             SELECT id, ?2, ?3, ?4, ?5, ?6, ?7 FROM sink WHERE name = ?1",
        )?
        .execute(params![
            advance.sink,
            tenant,
            letter.at.seq.cast_signed(),
            letter.at.record_index,
            letter.event_id.to_string(),
            letter.reason,
            advance.now_ms
        ])?;
    let observation = dead_letter(advance, Phase::Begin, &letter.reason);
    observe(connection, tenant, &observation, advance.now_ms)
}

/// Strikes a record off the list; with the last of a sink's for a tenant the matter is over.
fn clear_dead_letter(
    connection: &Connection,
    advance: &Advance<'_>,
    id: i64,
) -> Result<(), CheckpointError> {
    let tenant: Option<i64> = connection
        .prepare_cached("DELETE FROM dead_letter WHERE id = ?1 RETURNING tenant")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(tenant) = tenant else { return Ok(()) };
    let left: i64 = connection
        .prepare_cached(
            "SELECT count(*) FROM dead_letter WHERE tenant = ?2 AND sink = (SELECT id FROM sink WHERE name = ?1)",
        )?
        .query_row(params![advance.sink, tenant], |row| row.get(0))?;
    if left > 0 {
        return Ok(());
    }
    let end = dead_letter(advance, Phase::End, "its dead letters have arrived");
    observe(connection, tenant, &end, advance.now_ms)
}

fn dead_letter(advance: &Advance<'_>, phase: Phase, details: &str) -> Observation {
    let today = Day::from_number(i32::try_from(advance.now_ms.div_euclid(86_400_000)).unwrap_or(0));
    Observation {
        what: What::DeadLetter,
        subject: advance.sink.to_owned(),
        first_day: today.unwrap_or(Day::of(jiff::Timestamp::UNIX_EPOCH)),
        phase,
        details: details.to_owned(),
        hint: None,
    }
}
