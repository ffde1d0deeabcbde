//! The state of all tenants and sinks, as `status`, the metrics and the status page show it, and
//! the result of the last reload. Reading the state must never write to the database, because the
//! command `status` reads it while a daemon writes. Start reading at [`Checkpoint::status`].

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use super::{
    Checkpoint, CheckpointError, DeadLetterFilter, DeadLetterGroup, QueuedDeadLetter, ReplayStatus,
    SinkStatus, TenantStatus, UnresolvedDomain,
    backend::{FromValue, SqlValue, Statements, values},
    daemon_report::{DaemonReport, alive_at, daemon_report},
    dead_letter_groups::dead_letter_groups,
    dead_letters::newest_dead_letters,
    host_clock::difference,
    meta, replay,
    row_ids::tenant_id,
    saved_cursors::outdated_cursor_file,
    sink_status::sink_status,
    tenant_status::{resolved_domains, tenant_status, unresolved},
};
use crate::{
    error::Explanation,
    model::{
        CheckpointId, ClockDifference, PollErrorClass, RejectedConfiguration, Seq, SinkName,
        TenantId, UnixMillis,
    },
};

/// The state of the whole checkpoint.
#[derive(Debug, Default)]
pub struct Status {
    /// The ID that the checkpoint received when it was created.
    pub checkpoint_id: CheckpointId,
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
    /// The tenants of the domains that were resolved.
    pub resolved: BTreeMap<String, TenantId>,
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

/// The row of `meta` with the last rejected reload, as JSON.
const REJECTED_CONFIGURATION: &str = "rejected_reload";

/// How many dead letters [`Status`] lists.
const MAX_DEAD_LETTERS: u32 = 50;

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

/// What has failed and not recovered, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredFailures {
    /// Tenants whose last poll failed. A poll with an incomplete response is not a failure.
    pub tenants: HashMap<TenantId, UnixMillis>,
    /// Domains that could not be resolved.
    pub domains: HashMap<String, UnixMillis>,
    /// Sinks that have acknowledged nothing since, by name.
    pub sinks: HashMap<SinkName, UnixMillis>,
}

/// SQL: the names of what is failing, and since when. A poll with an incomplete response, whose
/// class is `?1`, is not a failure.
const FAILING_TENANTS: &str = "SELECT guid AS name, failing_since FROM tenant
     WHERE failing_since IS NOT NULL AND error_class IS DISTINCT FROM ?1 AND guid <> '-'";
const FAILING_DOMAINS: &str = "SELECT domain AS name, failing_since FROM unresolved_domain";
const FAILING_SINKS: &str = "SELECT s.name, min(h.failing_since) AS failing_since
     FROM sink s JOIN sink_host h ON h.sink = s.id
     WHERE h.failing_since IS NOT NULL AND s.removed IS NULL GROUP BY s.id";

impl Checkpoint {
    /// The state of the whole checkpoint at one moment. Reading it scans the logs of all tenants.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if a stored value
    /// is invalid.
    pub fn status(&self, detail: StatusDetail) -> Result<Status, CheckpointError> {
        // In several transactions, a cursor could be ahead of the log that was read before it.
        self.reading(|store| self.read_status(store, detail))
    }

    fn read_status(
        &self,
        store: &dyn Statements,
        detail: StatusDetail,
    ) -> Result<Status, CheckpointError> {
        let dead_letter_groups = match detail {
            StatusDetail::Groups => dead_letter_groups(store, &DeadLetterFilter::default())?,
            StatusDetail::Summary | StatusDetail::Items => Vec::new(),
        };
        let dead_letters = match detail {
            StatusDetail::Items => newest_dead_letters(store, MAX_DEAD_LETTERS)?,
            StatusDetail::Summary | StatusDetail::Groups => Vec::new(),
        };

        Ok(Status {
            checkpoint_id: self.id.clone(),
            size: ["", "-wal"].iter().map(|suffix| self.file_size(suffix)).sum(),
            tenants: tenant_status(store)?,
            sinks: sink_status(store, detail)?,
            replays: replay::unfinished(store)?,
            dead_letters,
            dead_letter_groups,
            unresolved: unresolved(store)?,
            resolved: resolved_domains(store)?,
            rejected_configuration: meta::document(store, REJECTED_CONFIGURATION)?,
            clock: difference(store)?,
            outdated_cursor_file: outdated_cursor_file(store)?,
            daemon: daemon_report(store)?,
            daemon_alive_at: alive_at(store)?,
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
        self.administrative(|store| meta::set_document(store, REJECTED_CONFIGURATION, rejected))
    }

    /// What is failing, without the rest of the state.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the GUID of a
    /// tenant is invalid.
    pub fn failures(&self) -> Result<StoredFailures, CheckpointError> {
        let incomplete = PollErrorClass::Incomplete.as_str();
        self.reading(|store| {
            let tenants = failing_since::<String>(store, FAILING_TENANTS, values![incomplete])?;
            let by_id = tenants.into_iter().map(|(guid, since)| Ok((tenant_id(&guid)?, since)));
            Ok(StoredFailures {
                tenants: by_id.collect::<Result<_, CheckpointError>>()?,
                domains: failing_since(store, FAILING_DOMAINS, values![])?,
                sinks: failing_since(store, FAILING_SINKS, values![])?,
            })
        })
    }

    /// The next entry of each tenant's log.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the GUID of a
    /// tenant is invalid.
    pub fn log_ends(&self) -> Result<HashMap<TenantId, Seq>, CheckpointError> {
        let sql = "SELECT guid, next_seq FROM tenant WHERE guid <> '-'";
        let ends = self.reading(|store| {
            store.query_all(sql, values![], |row| {
                Ok((tenant_id(&row.get::<String>("guid")?)?, row.get::<Seq>("next_seq")?))
            })
        })?;
        Ok(ends.into_iter().collect())
    }
}

/// The columns `name` and `failing_since` of a query.
fn failing_since<N: FromValue + Eq + Hash>(
    store: &dyn Statements,
    sql: &'static str,
    values: &[SqlValue<'_>],
) -> Result<HashMap<N, UnixMillis>, CheckpointError> {
    let rows = store.query_all(sql, values, |row| {
        Ok((row.get::<N>("name")?, row.get::<UnixMillis>("failing_since")?))
    })?;
    Ok(rows.into_iter().collect())
}
