//! The state of all tenants and sinks, as `status`, the metrics and the status page show it.
//! Everything here only reads. Use [`Checkpoint::status_summary`] where [`Checkpoint::status`]
//! takes too long.

use std::{collections::HashMap, sync::TryLockError};

use rusqlite::{Row, params};

use super::{
    Checkpoint, CheckpointError, ENTRY_DAY, IS_SENT_TO_SINK, QueuedDeadLetter, ReplayStatus,
    columns::{day, unsigned},
    row_ids::SinkRow,
    tenant_id,
};
use crate::error::Explanation;
use crate::model::{Day, TenantId, UnixMillis};

/// The state of the whole checkpoint.
#[derive(Debug)]
pub struct Status {
    pub checkpoint_id: String,
    /// The size of the database and its write-ahead log in bytes.
    pub size: u64,
    pub tenants: Vec<TenantStatus>,
    pub sinks: Vec<SinkStatus>,
    pub replays: Vec<ReplayStatus>,
    /// The newest dead letters, newest first.
    pub dead_letters: Vec<QueuedDeadLetter>,
}

/// The state that fits in one sentence, for the status line of systemd.
#[derive(Debug)]
pub struct StatusSummary {
    /// The newest stored day of all tenants.
    pub newest_day: Option<Day>,
    /// The tenants whose last poll failed.
    pub failing: Vec<TenantId>,
}

/// What a reader does while another thread uses the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenBusy {
    /// Waits for the other thread, as all other operations do.
    Wait,
    /// Returns without a result.
    Skip,
}

/// How many dead letters [`Status`] lists.
const MAX_DEAD_LETTERS: u32 = 50;

/// The state of one tenant.
#[derive(Debug, Default)]
pub struct TenantStatus {
    /// The GUID of the tenant.
    pub guid: String,
    /// The newest stored day; `None` if no day is stored.
    pub newest_day: Option<Day>,
    /// The number of stored days.
    pub days: u64,
    /// The number of missing days that are still requested.
    pub missing: u64,
    /// The last poll that read everything; `None` if there was none.
    pub last_success: Option<UnixMillis>,
    /// The time of the last poll, successful or not; `None` if there was none.
    pub last_attempt: Option<UnixMillis>,
    /// Why the last poll failed or was incomplete; `None` if it was complete.
    pub last_error: Option<Explanation>,
    /// The number of failed polls since the last successful one.
    pub failures: u32,
    /// From the server's `Retry-After`: no request before this time.
    pub not_before: Option<UnixMillis>,
}

/// The state of one sink.
#[derive(Debug)]
pub struct SinkStatus {
    pub name: String,
    /// The number of acknowledged records since the sink was created.
    pub sent: u64,
    /// The number of rejected records since the sink was created.
    pub rejected: u64,
    /// How many of the sent records were truncated.
    pub truncated: u64,
    /// The number of stored dead letters.
    pub dead_letters: u64,
    /// The number of entries, over all tenants, that are not completely acknowledged.
    pub backlog: u64,
    /// The oldest day in the backlog.
    pub oldest_day: Option<Day>,
    /// The time of the last advance; `None` if there was none.
    pub last_acknowledgement: Option<UnixMillis>,
    /// Why the sink makes no progress; `None` if it makes progress.
    pub last_error: Option<Explanation>,
    /// For each tenant: its GUID, `seq` and record index.
    pub cursors: Vec<(String, u64, u32)>,
}

impl Checkpoint {
    /// The state of the whole checkpoint. Reading it scans the logs of all tenants.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if a stored value
    /// is invalid.
    pub fn status(&self) -> Result<Status, CheckpointError> {
        Ok(Status {
            checkpoint_id: self.id.clone(),
            size: ["", "-wal"].iter().map(|suffix| self.file_size(suffix)).sum(),
            tenants: self.tenant_status()?,
            sinks: self.sink_status()?,
            replays: self.replays()?,
            dead_letters: self.dead_letters(MAX_DEAD_LETTERS)?,
        })
    }

    /// A summary that is cheap to read even with thousands of tenants; `None` if another thread is
    /// using the checkpoint and `when_busy` is [`WhenBusy::Skip`].
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn status_summary(
        &self,
        when_busy: WhenBusy,
    ) -> Result<Option<StatusSummary>, CheckpointError> {
        let connection = match (self.connection.try_lock(), when_busy) {
            (Ok(connection), _) => connection,
            (Err(TryLockError::Poisoned(error)), _) => error.into_inner(),
            (Err(TryLockError::WouldBlock), WhenBusy::Wait) => self.connection(),
            (Err(TryLockError::WouldBlock), WhenBusy::Skip) => return Ok(None),
        };

        let mut newest = connection.prepare_cached(
            "SELECT max((SELECT max(day) FROM entry WHERE tenant = t.id AND kind = 1)) AS newest_day
             FROM tenant t WHERE t.guid <> '-'",
        )?;
        let newest_day = newest.query_row([], |row| day(row, "newest_day"))?;

        let mut failing =
            connection.prepare_cached("SELECT guid FROM tenant WHERE last_error IS NOT NULL")?;
        let failing = failing.query_map([], |row| row.get::<_, String>("guid"))?;
        let failing = failing.collect::<Result<Vec<_>, _>>()?;

        Ok(Some(StatusSummary {
            newest_day,
            failing: failing.iter().filter_map(|guid| tenant_id(guid).ok()).collect(),
        }))
    }

    /// The `seq` after the last entry of each tenant's log.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the GUID of a
    /// tenant is invalid.
    pub fn log_ends(&self) -> Result<HashMap<TenantId, u64>, CheckpointError> {
        let connection = self.connection();
        let mut statement =
            connection.prepare_cached("SELECT guid, next_seq FROM tenant WHERE guid <> '-'")?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>("guid")?, unsigned(row, "next_seq")?)))?;
        rows.map(|row| {
            row.map_err(CheckpointError::from).and_then(|(guid, end)| Ok((tenant_id(&guid)?, end)))
        })
        .collect()
    }

    /// The name of each sink, and the number of entries in its backlog.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn backlogs(&self) -> Result<Vec<(String, u64)>, CheckpointError> {
        Ok(self.sink_status()?.into_iter().map(|sink| (sink.name, sink.backlog)).collect())
    }

    fn file_size(&self, suffix: &str) -> u64 {
        fs_err::metadata(self.directory.join(format!("{}{suffix}", super::DATABASE)))
            .map_or(0, |file| file.len())
    }

    fn tenant_status(&self) -> Result<Vec<TenantStatus>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT t.guid, (SELECT max(day) FROM entry WHERE tenant = t.id AND kind = 1) AS newest_day,
                (SELECT count(DISTINCT day) FROM entry WHERE tenant = t.id AND kind = 1) AS days,
                (SELECT count(*) FROM missing WHERE tenant = t.id AND absent = 0) AS missing,
                t.last_success, t.last_attempt, t.last_error, t.failures, t.not_before, t.last_hint
             FROM tenant t WHERE t.guid <> '-' ORDER BY t.id",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(TenantStatus {
                guid: row.get("guid")?,
                newest_day: day(row, "newest_day")?,
                days: unsigned(row, "days")?,
                missing: unsigned(row, "missing")?,
                last_success: row.get("last_success")?,
                last_attempt: row.get("last_attempt")?,
                last_error: last_error(row)?,
                failures: row.get("failures")?,
                not_before: row.get("not_before")?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn sink_status(&self) -> Result<Vec<SinkStatus>, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            &format!("SELECT s.id, s.name, s.sent, s.rejected, s.truncated, s.last_acknowledgement, s.last_error, s.last_hint,
                count(e.seq) AS backlog, min({ENTRY_DAY}) AS oldest_day,
                (SELECT count(*) FROM dead_letter d WHERE d.sink = s.id) AS dead_letters
             FROM sink s LEFT JOIN cursor c ON c.sink = s.id AND c.active
             LEFT JOIN entry e ON e.tenant = c.tenant AND e.seq >= c.seq AND {ENTRY_DAY} >= c.floor AND {IS_SENT_TO_SINK}
             GROUP BY s.id ORDER BY s.id"),
        )?;
        let mut cursors_of_sink = connection.prepare_cached(
            "SELECT t.guid, c.seq, c.record_index FROM cursor c JOIN tenant t ON t.id = c.tenant WHERE c.sink = ?1 ORDER BY t.id",
        )?;

        let mut rows = statement.query([])?;
        let mut sinks = Vec::new();
        while let Some(row) = rows.next()? {
            let cursors = cursors_of_sink
                .query_map(params![row.get::<_, SinkRow>("id")?], |row| {
                    Ok((row.get("guid")?, unsigned(row, "seq")?, row.get("record_index")?))
                })?;
            sinks.push(SinkStatus {
                name: row.get("name")?,
                sent: unsigned(row, "sent")?,
                rejected: unsigned(row, "rejected")?,
                truncated: unsigned(row, "truncated")?,
                dead_letters: unsigned(row, "dead_letters")?,
                last_acknowledgement: row.get("last_acknowledgement")?,
                last_error: last_error(row)?,
                backlog: unsigned(row, "backlog")?,
                oldest_day: day(row, "oldest_day")?,
                cursors: cursors.collect::<Result<_, _>>()?,
            });
        }
        Ok(sinks)
    }
}

/// The error in the columns `last_error` and `last_hint`.
fn last_error(row: &Row<'_>) -> rusqlite::Result<Option<Explanation>> {
    let message: Option<String> = row.get("last_error")?;
    let hint = row.get("last_hint")?;
    Ok(message.map(|message| Explanation { message, hint }))
}
