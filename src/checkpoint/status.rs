//! The state of all tenants and sinks, as `status`, the metrics and the status page show it, and
//! the result of the last reload. Start reading at [`Checkpoint::status`].

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, CheckpointError, ENTRY_DAY, IS_SENT_TO_SINK, QueuedDeadLetter, ReplayStatus,
    SinkFailure,
    columns::{InOrder, day, unsigned},
    replay,
    row_ids::SinkRow,
    tenant_id,
};
use crate::{
    error::Explanation,
    model::{Day, ObservationKind, TenantId, UnixMillis},
};

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
    /// Domains that could not be resolved to a tenant yet.
    pub unresolved: Vec<UnresolvedDomain>,
    /// The last reload, if its configuration was rejected.
    pub rejected_reload: Option<RejectedReload>,
}

/// A configured domain that could not be resolved to a tenant yet.
#[derive(Clone, Debug)]
pub struct UnresolvedDomain {
    pub domain: String,
    pub last_attempt: UnixMillis,
    /// The first failed attempt.
    pub failing_since: UnixMillis,
    pub error: Explanation,
    /// The class of the error, such as `network`.
    pub class: String,
}

/// A reload whose configuration was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedReload {
    pub at: UnixMillis,
    /// The first fault of the configuration.
    pub reason: Explanation,
}

/// An observation that has begun and has not ended.
#[derive(Clone, Debug)]
pub struct StoredOpenObservation {
    pub what: ObservationKind,
    pub first_day: Day,
    /// When it was noticed.
    pub since: UnixMillis,
    pub reason: Explanation,
}

/// The row of `meta` with the last rejected reload, as JSON.
const REJECTED_RELOAD: &str = "rejected_reload";

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
    /// The class of the last error, such as `credential`; `None` if there is none, or if an earlier
    /// version has stored it.
    pub error_class: Option<String>,
    /// The first failed poll since the last successful one.
    pub failing_since: Option<UnixMillis>,
    /// The number of failed polls since the last successful one.
    pub failures: u32,
    /// From the server's `Retry-After`: no request before this time.
    pub not_before: Option<UnixMillis>,
    /// Observations that have begun and have not ended, without gaps that Microsoft no longer keeps.
    pub observations: Vec<StoredOpenObservation>,
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
    /// How the sink fails; `None` if it makes progress.
    pub failure: Option<SinkFailure>,
    /// The first failed attempt since the last acknowledgement.
    pub failing_since: Option<UnixMillis>,
    /// For each tenant: its GUID, `seq` and record index.
    pub cursors: Vec<(String, u64, u32)>,
}

impl Checkpoint {
    /// The state of the whole checkpoint at one moment. Reading it scans the logs of all tenants.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if a stored value
    /// is invalid.
    pub fn status(&self) -> Result<Status, CheckpointError> {
        let connection = self.connection();
        // Without a transaction, a cursor could be ahead of the log that was read before it.
        let transaction = connection.unchecked_transaction()?;

        let mut tenants = tenant_status(&transaction)?;
        add_observations(&transaction, &mut tenants)?;
        Ok(Status {
            checkpoint_id: self.id.clone(),
            size: ["", "-wal"].iter().map(|suffix| self.file_size(suffix)).sum(),
            tenants,
            sinks: sink_status(&transaction)?,
            replays: replay::unfinished(&transaction)?,
            dead_letters: replay::newest_dead_letters(&transaction, MAX_DEAD_LETTERS)?,
            unresolved: unresolved(&transaction)?,
            rejected_reload: rejected_reload(&transaction)?,
        })
    }

    /// Stores that a reload was rejected; `None` after a configuration was applied.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn set_rejected_reload(
        &self,
        rejected: Option<&RejectedReload>,
    ) -> Result<(), CheckpointError> {
        let connection = self.connection();
        match rejected {
            // Serializing a struct of strings and numbers cannot fail.
            Some(rejected) => connection.execute(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                params![REJECTED_RELOAD, serde_json::to_string(rejected).unwrap_or_default()],
            )?,
            None => connection.execute("DELETE FROM meta WHERE key = ?1", [REJECTED_RELOAD])?,
        };
        Ok(())
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
        Ok(sink_status(&self.connection())?
            .into_iter()
            .map(|sink| (sink.name, sink.backlog))
            .collect())
    }

    fn file_size(&self, suffix: &str) -> u64 {
        fs_err::metadata(self.directory.join(format!("{}{suffix}", super::DATABASE)))
            .map_or(0, |file| file.len())
    }
}

fn tenant_status(connection: &Connection) -> Result<Vec<TenantStatus>, CheckpointError> {
    let mut statement = connection.prepare_cached(
            "SELECT t.guid, (SELECT max(day) FROM entry WHERE tenant = t.id AND kind = 1) AS newest_day,
                (SELECT count(DISTINCT day) FROM entry WHERE tenant = t.id AND kind = 1) AS days,
                (SELECT count(*) FROM missing WHERE tenant = t.id AND absent = 0) AS missing,
                t.last_success, t.last_attempt, t.last_error, t.last_hint, t.error_class, t.failures, t.failing_since, t.not_before
             FROM tenant t WHERE t.guid <> '-' ORDER BY t.id",
        )?;

    let rows = statement.query_map([], |row| {
        let row = InOrder::new(row);
        Ok(TenantStatus {
            guid: row.get("guid")?,
            newest_day: row.day("newest_day")?,
            days: row.unsigned("days")?,
            missing: row.unsigned("missing")?,
            last_success: row.get("last_success")?,
            last_attempt: row.get("last_attempt")?,
            last_error: last_error(row.get("last_error")?, row.get("last_hint")?),
            error_class: row.get("error_class")?,
            failures: row.get("failures")?,
            failing_since: row.get("failing_since")?,
            not_before: row.get("not_before")?,
            observations: Vec::new(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn sink_status(connection: &Connection) -> Result<Vec<SinkStatus>, CheckpointError> {
    let mut statement = connection.prepare_cached(
            &format!("SELECT s.id, s.name, s.sent, s.rejected, s.truncated, s.last_acknowledgement, s.last_error, s.last_hint, s.failure, s.failing_since,
                count(e.seq) AS backlog, min({ENTRY_DAY}) AS oldest_day,
                (SELECT count(*) FROM dead_letter d WHERE d.sink = s.id) AS dead_letters
             FROM sink s LEFT JOIN cursor c ON c.sink = s.id AND c.active
             LEFT JOIN entry e ON e.tenant = c.tenant AND e.seq >= c.seq AND {ENTRY_DAY} >= c.floor AND {IS_SENT_TO_SINK}
             WHERE s.removed IS NULL GROUP BY s.id ORDER BY s.id"),
        )?;
    let mut cursors_of_sink = connection.prepare_cached(
            "SELECT t.guid, c.seq, c.record_index FROM cursor c JOIN tenant t ON t.id = c.tenant WHERE c.sink = ?1 ORDER BY t.id",
        )?;

    let mut rows = statement.query([])?;
    let mut sinks = Vec::new();
    while let Some(row) = rows.next()? {
        let cursors = cursors_of_sink.query_map(params![row.get::<_, SinkRow>("id")?], |row| {
            Ok((row.get("guid")?, unsigned(row, "seq")?, row.get("record_index")?))
        })?;
        sinks.push(SinkStatus {
            name: row.get("name")?,
            sent: unsigned(row, "sent")?,
            rejected: unsigned(row, "rejected")?,
            truncated: unsigned(row, "truncated")?,
            dead_letters: unsigned(row, "dead_letters")?,
            last_acknowledgement: row.get("last_acknowledgement")?,
            last_error: last_error(row.get("last_error")?, row.get("last_hint")?),
            failure: row
                .get::<_, Option<String>>("failure")?
                .as_deref()
                .and_then(SinkFailure::parse),
            failing_since: row.get("failing_since")?,
            backlog: unsigned(row, "backlog")?,
            oldest_day: day(row, "oldest_day")?,
            cursors: cursors.collect::<Result<_, _>>()?,
        });
    }
    Ok(sinks)
}

/// Adds the open observations to their tenants.
fn add_observations(
    connection: &Connection,
    tenants: &mut [TenantStatus],
) -> Result<(), CheckpointError> {
    let mut by_guid: HashMap<String, &mut TenantStatus> =
        tenants.iter_mut().map(|tenant| (tenant.guid.clone(), tenant)).collect();
    // A gap that Microsoft no longer keeps is never filled, so it is not shown.
    let mut statement = connection.prepare_cached(
        "SELECT t.guid, o.what, o.first_day, o.since, o.details, o.hint
         FROM open_observation o JOIN tenant t ON t.id = o.tenant
         LEFT JOIN missing m ON m.tenant = o.tenant AND m.day = o.first_day AND o.what = 'gap'
         WHERE coalesce(m.absent, 0) = 0 ORDER BY o.tenant, o.first_day, o.what, o.subject",
    )?;

    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(tenant) = by_guid.get_mut(&row.get::<_, String>("guid")?) else { continue };
        // A kind of a later version has no text that this version could show.
        let Some(what) = ObservationKind::parse(&row.get::<_, String>("what")?) else { continue };
        let Some(first_day) = day(row, "first_day")? else { continue };
        tenant.observations.push(StoredOpenObservation {
            what,
            first_day,
            since: row.get("since")?,
            reason: Explanation { message: row.get("details")?, hint: row.get("hint")? },
        });
    }
    Ok(())
}

fn unresolved(connection: &Connection) -> Result<Vec<UnresolvedDomain>, CheckpointError> {
    let mut statement = connection.prepare_cached(
        "SELECT domain, last_attempt, failing_since, last_error, last_hint, error_class FROM unresolved_domain ORDER BY domain",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(UnresolvedDomain {
            domain: row.get("domain")?,
            last_attempt: row.get("last_attempt")?,
            failing_since: row.get("failing_since")?,
            error: Explanation { message: row.get("last_error")?, hint: row.get("last_hint")? },
            class: row.get("error_class")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The rejected reload; `None` also if its text is from another version.
fn rejected_reload(connection: &Connection) -> Result<Option<RejectedReload>, CheckpointError> {
    let text: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [REJECTED_RELOAD], |row| {
            row.get("value")
        })
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// The error in the columns `last_error` and `last_hint`.
fn last_error(message: Option<String>, hint: Option<String>) -> Option<Explanation> {
    message.map(|message| Explanation { message, hint })
}
