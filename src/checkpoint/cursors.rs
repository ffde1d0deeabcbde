//! The cursors of sinks: the position of each sink in the log of each tenant, and its mark.
//!
//! A cursor only moves by compare-and-set, together with everything that belongs to the move, in
//! one transaction. Start reading at [`Checkpoint::register_sink`] and [`Checkpoint::advance`].

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Checkpoint, CheckpointError, CursorFile, ENTRY_DAY, IS_SENT_TO_SINK, LogGrowth, SavedCursor,
    SinkFailure,
    columns::{day, unsigned},
    cursor_checks,
    dead_letter_records::{DeadLetter, clear_dead_letter, record_dead_letter},
    row_ids::{DeadLetterId, ReplayId},
    start_days, tenant_id, tenant_row,
};
use crate::model::{Day, TenantId, UnixMillis};

/// The epoch of all cursors. It is always 0, because only one host writes to the checkpoint.
const EPOCH: i64 = 0;

/// A position in a tenant's log: the next record that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The entry, by its number in the tenant's log, starting at 1.
    pub seq: u64,
    /// The index of the record within the entry, starting at 0.
    pub record_index: u32,
}

/// A source of records for one sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// New entries, starting at the sink's cursor.
    Live,
    /// Stored days that are sent again, by the replay job with this ID.
    Replay(ReplayId),
    /// Dead letters that are retried; this lane has no cursor.
    DeadLetters,
}

/// The part of a tenant's log that a lane of a sink has not delivered yet.
#[derive(Clone, Debug)]
pub struct Pending {
    pub tenant: TenantId,
    /// The next record to send.
    pub at: Position,
    /// The first day to send.
    pub first_day: Day,
    /// The last day to send; `None` means no limit.
    pub last_day: Option<Day>,
    /// The last entry to send.
    pub last_seq: u64,
    /// The number of entries that are not completely acknowledged.
    pub entries: u64,
    /// Whether the next of them was read by a backfill.
    pub backfilled: bool,
}

/// The move of a lane's cursor for one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorMove {
    pub tenant: TenantId,
    /// The position that the cursor must have; otherwise the advance fails.
    pub from: Position,
    /// The position after the last acknowledged record.
    pub to: Position,
}

/// An advance of a lane's cursors, with everything that is stored together with it.
#[derive(Debug)]
pub struct Advance<'a> {
    pub sink: &'a str,
    pub lane: Lane,
    /// At most one move for each tenant; empty in the lane of dead letters.
    pub moves: &'a [CursorMove],
    /// The sink's new mark; `None` keeps the stored one.
    pub mark: Option<&'a [u8]>,
    /// The number of acknowledged records.
    pub sent: u64,
    /// How many of them were truncated to fit the receiver's limit.
    pub truncated: u64,
    /// Records that the receiver rejected.
    pub dead_letters: &'a [DeadLetter],
    /// The IDs of retried dead letters that were acknowledged.
    pub delivered_dead_letters: &'a [DeadLetterId],
    /// The time of the acknowledgement.
    pub now: UnixMillis,
}

/// What [`Checkpoint::register_sink`] does with the cursors of tenants that are not passed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherTenants {
    /// Their cursors do not change.
    Keep,
    /// The sink no longer receives these tenants.
    Deactivate,
}

impl Checkpoint {
    /// Creates a sink and its cursors for these tenants if they do not exist, and activates these
    /// cursors.
    ///
    /// A new cursor starts at the beginning of the log and sends no day before `start_from`. A
    /// cursor that was deleted by damage continues at its position in the second cursor file. If
    /// the database was lost, it also skips the days that the sink had received according to the
    /// second cursor file. Its first day is provisional; see [`Checkpoint::confirm_start_day`].
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn register_sink(
        &self,
        sink: &str,
        tenants: &[TenantId],
        others: OtherTenants,
        start_from: Day,
    ) -> Result<(), CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction
            .execute("INSERT INTO sink (name) VALUES (?1) ON CONFLICT DO NOTHING", [sink])?;

        // The cursors of `tenants` become active again below. Entries of the other tenants do not
        // count as backlog of the sink.
        if others == OtherTenants::Deactivate {
            transaction.execute(
                "UPDATE cursor SET active = 0 WHERE sink = (SELECT id FROM sink WHERE name = ?1)",
                [sink],
            )?;
        }

        let start_from = start_days::first_day(&transaction, sink, start_from)?;
        let cursors_before = start_days::count_cursors(&transaction, sink)?;
        for tenant in tenants {
            let guid = tenant.to_string();
            let row = tenant_row(&transaction, &guid)?;
            let activated = transaction.execute(
                "UPDATE cursor SET active = 1
                 WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = ?2 AND epoch = ?3",
                params![sink, row, EPOCH],
            )?;
            if activated > 0 {
                continue;
            }

            let saved = self.saved_cursors();
            let unsent_from = saved.first_unsent_day(&self.id, sink, *tenant);
            let floor = unsent_from.map_or(start_from, |day| day.max(start_from));
            let (seq, record_index) = saved.position(&self.id, sink, &guid).unwrap_or((1, 0));
            drop(saved);

            transaction.execute(
                "INSERT INTO cursor
                 SELECT s.id, t.id, ?3, max(1, min(?5, t.next_seq)), iif(?5 > t.next_seq, 0, ?6), ?4, 1
                 FROM sink s, tenant t WHERE s.name = ?1 AND t.id = ?2",
                params![sink, row, EPOCH, floor.number(), seq, record_index],
            )?;
        }
        if start_days::count_cursors(&transaction, sink)? > cursors_before {
            start_days::set_provisional(&transaction, sink, start_from)?;
        }

        Ok(transaction.commit()?)
    }

    /// The mark that the sink stored with its last advance. `None` if it has not stored one.
    /// Fails if the database cannot be read.
    pub fn mark(&self, sink: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        let sql = "SELECT mark FROM sink WHERE name = ?1";
        let mark = self.connection().query_row(sql, [sink], |row| row.get("mark"));
        Ok(mark.optional()?.flatten())
    }

    /// Replaces the mark of a sink without an advance.
    /// Fails if the database cannot be written; an unknown sink is not an error.
    pub fn set_mark(&self, sink: &str, mark: &[u8]) -> Result<(), CheckpointError> {
        self.connection()
            .execute("UPDATE sink SET mark = ?2 WHERE name = ?1", params![sink, mark])?;
        Ok(())
    }

    /// Commits a small change, so that the caller knows that the outcome of what it sends next can
    /// be stored. The commit also overwrites what a failed one may have left in the write-ahead
    /// log: otherwise, a crash could restore an advance that was reported as failed.
    ///
    /// Fails if the database cannot be written.
    pub fn confirm_writable(&self) -> Result<(), CheckpointError> {
        // The value changes every time, because SQLite does not write a row that is the same.
        self.connection().execute(
            "INSERT INTO meta VALUES ('write_checks', '1')
             ON CONFLICT (key) DO UPDATE SET value = CAST(value + 1 AS TEXT)",
            [],
        )?;
        Ok(())
    }

    /// The tenants with entries that this sink has not received, in the live lane.
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the GUID of a
    /// tenant is invalid.
    pub fn pending(&self, sink: &str) -> Result<Vec<Pending>, CheckpointError> {
        self.pending_of(
            &format!(
                "SELECT t.guid, c.seq, c.record_index, c.floor AS first_day, NULL AS last_day,
                    max(e.seq) AS last_seq, count(*) AS entries,
                    min(e.seq * 2 + ((coalesce(e.flags, 0) & 2) <> 0)) & 1 AS backfilled
                 FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant
                 JOIN entry e ON e.tenant = c.tenant AND e.seq >= c.seq AND {ENTRY_DAY} >= c.floor AND {IS_SENT_TO_SINK}
                 WHERE s.name = ?1 AND c.epoch = ?2 AND c.active GROUP BY c.tenant ORDER BY c.tenant"
            ),
            params![sink, EPOCH],
        )
    }

    /// Runs a query whose columns are named after the fields of [`Pending`] and [`Position`], with
    /// `guid` for the tenant. Fails in the same cases as [`Checkpoint::pending`].
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
                tenant: tenant_id(&row.get::<_, String>("guid")?)?,
                at: Position { seq: unsigned(row, "seq")?, record_index: row.get("record_index")? },
                first_day: day(row, "first_day")?.unwrap_or(Day::of(jiff::Timestamp::UNIX_EPOCH)),
                last_day: day(row, "last_day")?,
                last_seq: unsigned(row, "last_seq")?,
                entries: unsigned(row, "entries")?,
                backfilled: row.get("backfilled")?,
            });
        }
        Ok(pending)
    }

    /// Moves cursors and stores everything that belongs to the move in one transaction. Returns
    /// whether the log has grown by an observation about dead letters.
    ///
    /// Fails with [`CheckpointError::CursorMoved`], and changes nothing, if a cursor is not at the
    /// position that its move starts from.
    pub fn advance(&self, advance: &Advance<'_>) -> Result<LogGrowth, CheckpointError> {
        self.check_in_place()?;
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        for cursor_move in advance.moves {
            move_cursor(&transaction, advance, cursor_move)?;
        }
        transaction
            .prepare_cached(
                "UPDATE sink SET sent = sent + ?2, rejected = rejected + ?3, truncated = truncated + ?6, mark = coalesce(?4, mark),
                    last_acknowledgement = ?5, last_error = CASE WHEN failure IN (?7, ?8) THEN last_error END,
                    last_hint = CASE WHEN failure IN (?7, ?8) THEN last_hint END, failure = CASE WHEN failure IN (?7, ?8) THEN failure END,
                    failing_since = CASE WHEN failure IN (?7, ?8) THEN failing_since END WHERE name = ?1",
            )?
            .execute(params![
                advance.sink,
                advance.sent.cast_signed(),
                (advance.dead_letters.len() as u64).cast_signed(),
                advance.mark,
                advance.now,
                advance.truncated.cast_signed(),
                SinkFailure::TargetsParked.as_str(),
                SinkFailure::TenantsWithheld.as_str()
            ])?;

        let mut growth = LogGrowth::Unchanged;
        for dead_letter in advance.dead_letters {
            growth = growth.and(record_dead_letter(&transaction, advance, dead_letter)?);
        }
        for id in advance.delivered_dead_letters {
            growth = growth.and(clear_dead_letter(&transaction, advance, *id)?);
        }

        transaction.commit()?;
        Ok(growth)
    }

    /// Moves a live cursor forward to the beginning of the entry `to.seq`; the receiver must have
    /// everything before that entry. Returns whether the cursor was behind it.
    /// Fails if the database cannot be written.
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

    /// The `seq` of a tenant's next entry. It is 1 if the tenant has no log yet.
    /// Fails if the database cannot be read.
    pub fn next_seq(&self, tenant: TenantId) -> Result<u64, CheckpointError> {
        let next = self
            .connection()
            .query_row("SELECT next_seq FROM tenant WHERE guid = ?1", [tenant.to_string()], |row| {
                unsigned(row, "next_seq")
            })
            .optional()?;
        Ok(next.unwrap_or(1))
    }

    /// The days of a tenant's snapshots before `seq`, newest first and at most 200, and the facts
    /// hash of the newest one at its latest revision.
    /// Fails if the database cannot be read.
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
            newest = newest.or(Some(row.get("digest")?));
            days.extend(day(row, "day")?);
        }
        Ok((days, newest))
    }

    /// The current cursors in the form of the second cursor file, which keeps those that were
    /// deleted by damage.
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if a cursor has
    /// no first day or is outside its log.
    pub fn cursors(&self) -> Result<CursorFile, CheckpointError> {
        let connection = self.connection();
        cursor_checks::require_valid(&connection)?;
        // A missing day may still be listed, so it counts as unsent.
        let mut statement = connection.prepare_cached(
            "SELECT s.name, t.guid, s.removed, c.seq, c.record_index, c.floor,
                (SELECT max(e.day) FROM entry e WHERE e.tenant = c.tenant AND e.kind = 1 AND e.seq < c.seq) AS newest_sent,
                (SELECT min(e.day) FROM entry e WHERE e.tenant = c.tenant AND e.kind = 1 AND e.seq >= c.seq AND e.day >= c.floor)
                    AS oldest_unsent,
                (SELECT min(m.day) FROM missing m WHERE m.tenant = c.tenant AND m.absent = 0 AND m.day >= c.floor)
                    AS oldest_missing
             FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant WHERE c.epoch = ?1 ORDER BY 1, 2",
        )?;

        let mut rows = statement.query([EPOCH])?;
        let mut cursors: Vec<SavedCursor> = Vec::new();
        while let Some(row) = rows.next()? {
            let after_newest_sent = day(row, "newest_sent")?.map(|day| day.plus(1));
            let first_future_day = after_newest_sent.max(day(row, "floor")?);
            let (unsent, missing) = (day(row, "oldest_unsent")?, day(row, "oldest_missing")?);
            let sent_before = [first_future_day, unsent, missing]
                .into_iter()
                .flatten()
                .min()
                .ok_or_else(|| CheckpointError::Damaged("a cursor has no first day".into()))?;
            cursors.push(SavedCursor {
                sink: row.get("name")?,
                tenant: row.get("guid")?,
                seq: unsigned(row, "seq")?,
                record_index: row.get("record_index")?,
                sent_before: sent_before.to_string(),
                removed_at: row.get("removed")?,
            });
        }

        let (carried, deleted) = {
            let stored: HashSet<(&str, &str)> =
                cursors.iter().map(|c| (c.sink.as_str(), c.tenant.as_str())).collect();
            let has_no_cursor =
                |old: &&SavedCursor| !stored.contains(&(old.sink.as_str(), old.tenant.as_str()));
            let saved = self.saved_cursors();
            let carried: Vec<SavedCursor> =
                saved.lost_cursors(&self.id).into_iter().filter(has_no_cursor).cloned().collect();
            let deleted: Vec<SavedCursor> =
                saved.current_cursors(&self.id).filter(has_no_cursor).cloned().collect();
            (carried, deleted)
        };
        for cursor in deleted {
            if is_known(&connection, &cursor)? {
                cursors.push(cursor);
            }
        }
        Ok(CursorFile { checkpoint_id: self.id.clone(), cursors, carried })
    }
}

/// Whether the sink and the tenant of a cursor exist: otherwise they were deleted, and the cursor
/// with them.
fn is_known(connection: &Connection, cursor: &SavedCursor) -> Result<bool, CheckpointError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sink WHERE name = ?1)
        AND EXISTS (SELECT 1 FROM tenant WHERE guid = ?2) AS known";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([&cursor.sink, &cursor.tenant], |row| row.get("known"))?)
}

fn move_cursor(
    connection: &Connection,
    advance: &Advance<'_>,
    cursor_move: &CursorMove,
) -> Result<(), CheckpointError> {
    let (tenant, from, to) = (cursor_move.tenant.to_string(), cursor_move.from, cursor_move.to);

    let moved = match advance.lane {
        Lane::Live => connection
            .prepare_cached(
                "UPDATE cursor SET seq = ?5, record_index = ?6
                 WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = (SELECT id FROM tenant WHERE guid = ?2)
                   AND epoch = ?7 AND seq = ?3 AND record_index = ?4",
            )?
            .execute(params![
                advance.sink,
                tenant,
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
                tenant,
                from.seq.cast_signed(),
                from.record_index,
                to.seq.cast_signed(),
                to.record_index
            ])?,
        Lane::DeadLetters => 1,
    };

    if moved == 1 { Ok(()) } else { Err(CheckpointError::CursorMoved(advance.sink.to_owned())) }
}
