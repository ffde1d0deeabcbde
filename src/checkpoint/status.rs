//! The state of all tenants and sinks, as `status`, the metrics and the status page show it, and
//! the result of the last reload. Reading the state must never write to the database, because the
//! command `status` reads it while a daemon writes. Start reading at [`Checkpoint::status`].

use std::collections::HashMap;

use rusqlite::{Connection, Rows};

use super::{
    Checkpoint, CheckpointError, DeadLetterFilter, DeadLetterGroup, ENTRY_DAY, IS_SENT_TO_SINK,
    Position, QueuedDeadLetter, ReplayStatus, SinkFailure,
    columns::{InOrder, day, unsigned},
    cursor_file::outdated_cursor_file,
    daemon_report::{DaemonReport, alive_at, daemon_report, document, set_document},
    dead_letter_groups::dead_letter_groups,
    dead_letters::newest_dead_letters,
    host_clock::difference,
    replay,
    row_ids::SinkRow,
    tenant_id,
};
use crate::{
    error::Explanation,
    model::{
        ClockDifference, Day, ObservationKind, OpenObservation, PollErrorClass, Polled,
        RejectedConfiguration, TenantId, UnixMillis,
    },
};

/// The state of the whole checkpoint.
#[derive(Debug, Default)]
pub struct Status {
    /// The ID that the checkpoint received when it was created.
    pub checkpoint_id: String,
    /// The size of the database and its write-ahead log in bytes.
    pub size: u64,
    /// All tenants with stored data, in the order in which they were added.
    pub tenants: Vec<TenantStatus>,
    /// All sinks that are not removed, in the order in which they were added.
    pub sinks: Vec<SinkStatus>,
    /// Replays that are not finished.
    pub replays: Vec<ReplayStatus>,
    /// The newest dead letters, newest first, with [`StatusDetail::Items`].
    pub dead_letters: Vec<QueuedDeadLetter>,
    /// All dead letters by sink, tenant and message, with [`StatusDetail::Groups`]; the group with
    /// the newest one is first.
    pub dead_letter_groups: Vec<DeadLetterGroup>,
    /// Domains that could not be resolved to a tenant yet.
    pub unresolved: Vec<UnresolvedDomain>,
    /// The last reload, if its configuration was rejected.
    pub rejected_configuration: Option<RejectedConfiguration>,
    /// How far the clock of this host is wrong; `None` if polls have found no difference.
    pub clock: Option<ClockDifference>,
    /// Why the second cursor file is outdated; `None` if it could be written last.
    pub outdated_cursor_file: Option<Explanation>,
    /// What the daemon that polled last has reported; `None` if `once` polled last.
    pub daemon: Option<DaemonReport>,
    /// When a daemon could write to the checkpoint last; `None` if it has not stored the time.
    pub daemon_alive_at: Option<UnixMillis>,
}

/// A configured domain that could not be resolved to a tenant yet.
#[derive(Clone, Debug)]
pub struct UnresolvedDomain {
    /// The domain in the configuration.
    pub domain: String,
    /// The last failed attempt.
    pub last_attempt: UnixMillis,
    /// The first failed attempt.
    pub failing_since: UnixMillis,
    /// Why the last attempt failed.
    pub error: Explanation,
    /// The class of the error; `None` if a later release has stored one that this one does not
    /// know.
    pub class: Option<PollErrorClass>,
    /// No attempt before this time, unless the daemon is restarted; `None` if an earlier release
    /// has stored the failure.
    pub not_before: Option<UnixMillis>,
}

/// The row of `meta` with the last rejected reload, as JSON.
const REJECTED_CONFIGURATION: &str = "rejected_reload";

/// How many dead letters [`Status`] lists.
const MAX_DEAD_LETTERS: u32 = 50;

/// The state of one tenant.
#[derive(Debug, Default)]
pub struct TenantStatus {
    /// `None` if nothing is stored about the tenant, as before its domain has been resolved.
    pub id: Option<TenantId>,
    /// The previous polls, and the newest stored day.
    pub polled: Polled,
    /// The number of stored days.
    pub days: u64,
    /// The number of missing days that are still requested.
    pub missing: u64,
    /// Why the last poll failed or was incomplete; `None` if it was complete.
    pub last_error: Option<Explanation>,
    /// The class of the last error; `None` if there is none, or if another release has stored an
    /// error without a class that this one knows.
    pub error_class: Option<PollErrorClass>,
    /// The first failed poll since the last successful one.
    pub failing_since: Option<UnixMillis>,
    /// No request before this time: from the server's `Retry-After`, or
    /// [`UnresolvedDomain::not_before`].
    pub not_before: Option<UnixMillis>,
    /// Observations that have begun and have not ended, without gaps that Microsoft no longer
    /// keeps.
    pub observations: Vec<OpenObservation>,
}

/// The state of one sink.
#[derive(Debug, Default)]
pub struct SinkStatus {
    /// The name in the configuration.
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
    /// One per tenant, including those that the sink no longer receives, with
    /// [`StatusDetail::Items`].
    pub cursors: Vec<CursorStatus>,
}

/// What [`Checkpoint::status`] reads in addition to the state of each tenant and sink. The lists of
/// everything else are empty, because a large checkpoint takes long to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusDetail {
    /// Nothing.
    Summary,
    /// The groups of dead letters.
    Groups,
    /// The newest dead letters, and the cursors, of which there is one per sink and tenant.
    Items,
}

/// The live cursor of a sink for one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorStatus {
    /// The tenant in whose log the cursor is.
    pub tenant: TenantId,
    /// The next record to send.
    pub at: Position,
}

/// What has failed and not recovered, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredFailures {
    /// Tenants whose last poll failed. A poll with an incomplete response is not a failure.
    pub tenants: HashMap<TenantId, UnixMillis>,
    /// Domains that could not be resolved.
    pub domains: HashMap<String, UnixMillis>,
    /// Sinks that have acknowledged nothing since, by name.
    pub sinks: HashMap<String, UnixMillis>,
}

impl Checkpoint {
    /// The state of the whole checkpoint at one moment. Reading it scans the logs of all tenants.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if a stored value
    /// is invalid.
    pub fn status(&self, detail: StatusDetail) -> Result<Status, CheckpointError> {
        let connection = self.connection();
        // Without a transaction, a cursor could be ahead of the log that was read before it.
        let transaction = connection.unchecked_transaction()?;

        let mut tenants = tenant_status(&transaction)?;
        add_observations(&transaction, &mut tenants)?;
        let dead_letter_groups = match detail {
            StatusDetail::Groups => dead_letter_groups(&transaction, &DeadLetterFilter::default())?,
            StatusDetail::Summary | StatusDetail::Items => Vec::new(),
        };
        let dead_letters = match detail {
            StatusDetail::Items => newest_dead_letters(&transaction, MAX_DEAD_LETTERS)?,
            StatusDetail::Summary | StatusDetail::Groups => Vec::new(),
        };

        Ok(Status {
            checkpoint_id: self.id.clone(),
            size: ["", "-wal"].iter().map(|suffix| self.file_size(suffix)).sum(),
            tenants,
            sinks: sink_status(&transaction, detail)?,
            replays: replay::unfinished(&transaction)?,
            dead_letters,
            dead_letter_groups,
            unresolved: unresolved(&transaction)?,
            rejected_configuration: document(&transaction, REJECTED_CONFIGURATION)?,
            clock: difference(&transaction)?,
            outdated_cursor_file: outdated_cursor_file(&transaction)?,
            daemon: daemon_report(&transaction)?,
            daemon_alive_at: alive_at(&transaction)?,
        })
    }

    /// Stores that a reload was rejected; `None` after a configuration was applied.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn set_rejected_configuration(
        &self,
        rejected: Option<&RejectedConfiguration>,
    ) -> Result<(), CheckpointError> {
        set_document(&self.connection(), REJECTED_CONFIGURATION, rejected)
    }

    /// What is failing, without the rest of the state.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the GUID of a
    /// tenant is invalid.
    pub fn failures(&self) -> Result<StoredFailures, CheckpointError> {
        const DOMAINS: &str = "SELECT domain AS name, failing_since FROM unresolved_domain";
        const SINKS: &str = "SELECT name, failing_since FROM sink WHERE failing_since IS NOT NULL AND removed IS NULL";
        const TENANTS: &str = "SELECT guid AS name, failing_since FROM tenant WHERE failing_since IS NOT NULL AND error_class IS NOT ?1 AND guid <> '-'";

        let connection = self.connection();
        let incomplete = PollErrorClass::Incomplete.as_str();
        let tenants = failing_since(&connection, TENANTS, [incomplete])?;
        let by_id = tenants.into_iter().map(|(guid, since)| Ok((tenant_id(&guid)?, since)));
        Ok(StoredFailures {
            tenants: by_id.collect::<Result<_, CheckpointError>>()?,
            domains: failing_since(&connection, DOMAINS, [])?,
            sinks: failing_since(&connection, SINKS, [])?,
        })
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

    fn file_size(&self, suffix: &str) -> u64 {
        fs_err::metadata(self.directory.join(format!("{}{suffix}", super::DATABASE)))
            .map_or(0, |file| file.len())
    }
}

fn tenant_status(connection: &Connection) -> Result<Vec<TenantStatus>, CheckpointError> {
    let mut statement = connection.prepare_cached(
        "SELECT t.guid, t.last_attempt, t.last_success, t.failures,
                (SELECT max(day) FROM entry WHERE tenant = t.id AND kind = 1) AS newest_day,
                (SELECT count(DISTINCT day) FROM entry WHERE tenant = t.id AND kind = 1) AS days,
                (SELECT count(*) FROM missing WHERE tenant = t.id AND absent = 0) AS missing,
                t.last_error, t.last_hint, t.error_class, t.failing_since, t.not_before
             FROM tenant t WHERE t.guid <> '-' ORDER BY t.id",
    )?;

    let mut rows = statement.query([])?;
    let mut tenants = Vec::new();
    while let Some(row) = rows.next()? {
        let row = InOrder::new(row);
        tenants.push(TenantStatus {
            id: Some(tenant_id(&row.get::<String>("guid")?)?),
            polled: Polled {
                last_attempt: row.get("last_attempt")?,
                last_success: row.get("last_success")?,
                failures: row.get("failures")?,
                newest_day: row.day("newest_day")?,
            },
            days: row.unsigned("days")?,
            missing: row.unsigned("missing")?,
            last_error: last_error(row.get("last_error")?, row.get("last_hint")?),
            error_class: error_class(row.get("error_class")?),
            failing_since: row.get("failing_since")?,
            not_before: row.get("not_before")?,
            observations: Vec::new(),
        });
    }
    Ok(tenants)
}

fn sink_status(
    connection: &Connection,
    detail: StatusDetail,
) -> Result<Vec<SinkStatus>, CheckpointError> {
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
        let cursors = match detail {
            StatusDetail::Summary | StatusDetail::Groups => Vec::new(),
            StatusDetail::Items => {
                read_cursors(cursors_of_sink.query([row.get::<_, SinkRow>("id")?])?)?
            }
        };
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
            cursors,
        });
    }
    Ok(sinks)
}

fn read_cursors(mut rows: Rows<'_>) -> Result<Vec<CursorStatus>, CheckpointError> {
    let mut cursors = Vec::new();
    while let Some(row) = rows.next()? {
        let row = InOrder::new(row);
        cursors.push(CursorStatus {
            tenant: tenant_id(&row.get::<String>("guid")?)?,
            at: Position { seq: row.unsigned("seq")?, record_index: row.get("record_index")? },
        });
    }
    Ok(cursors)
}

/// Adds the open observations to their tenants.
fn add_observations(
    connection: &Connection,
    tenants: &mut [TenantStatus],
) -> Result<(), CheckpointError> {
    let mut by_id: HashMap<TenantId, &mut TenantStatus> =
        tenants.iter_mut().filter_map(|tenant| Some((tenant.id?, tenant))).collect();
    // A gap that Microsoft no longer keeps is never filled, so it is not shown.
    let mut statement = connection.prepare_cached(
        "SELECT t.guid, o.what, o.first_day, o.since, o.details, o.hint, o.expires
         FROM open_observation o JOIN tenant t ON t.id = o.tenant
         LEFT JOIN missing m ON m.tenant = o.tenant AND m.day = o.first_day AND o.what = 'gap'
         WHERE coalesce(m.absent, 0) = 0 ORDER BY o.tenant, o.first_day, o.what, o.subject",
    )?;

    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        // Observations about the host belong to the tenant `-`, which has no status.
        let Ok(id) = TenantId::parse(&row.get::<_, String>("guid")?) else { continue };
        let Some(tenant) = by_id.get_mut(&id) else { continue };
        // A kind of a later version has no text that this version could show.
        let Some(what) = ObservationKind::parse(&row.get::<_, String>("what")?) else { continue };
        let Some(first_day) = day(row, "first_day")? else { continue };

        tenant.observations.push(OpenObservation {
            what,
            first_day,
            since: row.get("since")?,
            reason: Explanation { message: row.get("details")?, hint: row.get("hint")? },
            expires: row.get("expires")?,
        });
    }
    Ok(())
}

/// The columns `name` and `failing_since` of a query.
fn failing_since(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<HashMap<String, UnixMillis>, CheckpointError> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map(params, |row| {
        Ok((row.get::<_, String>("name")?, row.get::<_, UnixMillis>("failing_since")?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn unresolved(connection: &Connection) -> Result<Vec<UnresolvedDomain>, CheckpointError> {
    let mut statement = connection.prepare_cached(
        "SELECT domain, last_attempt, failing_since, last_error, last_hint, error_class, not_before FROM unresolved_domain ORDER BY domain",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(UnresolvedDomain {
            domain: row.get("domain")?,
            last_attempt: row.get("last_attempt")?,
            failing_since: row.get("failing_since")?,
            error: Explanation { message: row.get("last_error")?, hint: row.get("last_hint")? },
            class: error_class(row.get("error_class")?),
            not_before: row.get("not_before")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The class in the column `error_class`.
fn error_class(name: Option<String>) -> Option<PollErrorClass> {
    name.and_then(|name| PollErrorClass::parse(&name))
}

/// The error in the columns `last_error` and `last_hint`.
fn last_error(message: Option<String>, hint: Option<String>) -> Option<Explanation> {
    message.map(|message| Explanation { message, hint })
}
