//! The outcome of a tenant's polls, and the tenants that configured domains resolved to. The
//! collector reads this state to schedule the next poll, so the schedule survives a restart. This
//! module must never record a poll that has read something: [`Checkpoint::commit_poll`] does so, in
//! the transaction that stores the data.

use std::{collections::HashMap, ops::ControlFlow};

use super::{
    Checkpoint, CheckpointError, LogGrowth,
    backend::{Statements, StoredRow, values},
    fields::day,
    observations::append_observation,
    row_ids::TenantRow,
    running_polls,
    sql::snapshot,
    tenant_id, tenant_row,
};
use crate::{
    error::Explanation,
    model::{Day, Observation, PollErrorClass, Polled, TenantId, UnixMillis},
};

/// The state of a tenant's polls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollState {
    /// The previous polls, from which the schedule decides when the next one is due.
    pub polled: Polled,
    /// The earliest day that a complete poll has requested.
    pub polled_back_to: Option<Day>,
    /// The first day of the queued backfills; `None` if none is queued.
    pub queued_backfill: Option<Day>,
    /// From the server's `Retry-After`: no request before this time.
    pub not_before: Option<UnixMillis>,
    /// Whether the last poll failed because of this host, such as on a full disk. Such a poll does
    /// not count as an attempt.
    pub failed_locally: bool,
}

/// The states of the polls of all tenants. A damaged row is the damage of its tenant alone.
#[derive(Debug, Default)]
pub struct PollStates {
    /// `None` for a tenant whose row is damaged.
    by_tenant: HashMap<TenantId, Option<PollState>>,
    /// The damage of a row whose tenant cannot be determined.
    unidentified: Option<String>,
}

/// What [`PollStates`] contains about a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundPollState {
    /// The state; the default if the tenant was never polled.
    Readable(PollState),
    /// The row of the tenant is damaged, so that [`Checkpoint::poll_state`] fails.
    Damaged,
    /// The tenant has no row, but may be the one whose GUID is damaged.
    Unidentified,
}

/// An attempt to resolve a configured domain that failed.
#[derive(Clone, Copy, Debug)]
pub struct ResolutionFailure<'a> {
    /// When it failed.
    pub at: UnixMillis,
    /// Why it failed.
    pub reason: &'a Explanation,
    /// The class of the error, which decides whether an operator has to resolve it.
    pub class: PollErrorClass,
    /// The end of the backoff: no attempt before this time.
    pub not_before: Option<UnixMillis>,
}

/// A poll that failed and read nothing.
#[derive(Clone, Copy, Debug)]
pub struct PollFailure<'a> {
    /// When it failed.
    pub at: UnixMillis,
    /// Why it failed.
    pub reason: &'a Explanation,
    /// The class of the error, which decides whether an operator has to resolve it.
    pub class: PollErrorClass,
    /// The beginning of the observation that polls fail.
    pub observation: &'a Observation,
    /// From the server's `Retry-After`: no request before this time.
    pub not_before: Option<UnixMillis>,
}

/// SQL: the GUID and the columns of a [`PollState`] of tenants. SQLite finds the newest day in an
/// index.
macro_rules! select_states {
    () => {
        concat!(
            "SELECT t.guid, t.last_attempt, t.last_success, t.failures, t.polled_back_to, t.not_before, t.error_class,
                (SELECT max(day) FROM entry WHERE tenant = t.id AND kind = ",
            snapshot!(),
            ") AS newest_day,
                (SELECT min(q.first_day) FROM queued_command q WHERE q.tenant = t.id) AS queued_backfill
             FROM tenant t"
        )
    };
}

const POLL_STATE: &str = concat!(select_states!(), " WHERE t.guid = ?1");
/// Without the tenant `-`, which represents this host.
pub(super) const POLL_STATES: &str = concat!(select_states!(), " WHERE t.guid <> '-'");

impl Checkpoint {
    /// The state of a tenant's polls; the default if it was never polled.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn poll_state(&self, tenant: TenantId) -> Result<PollState, CheckpointError> {
        let guid = tenant.to_string();
        let state =
            self.reading(|store| store.query_optional(POLL_STATE, values![guid], read_state))?;
        Ok(state.unwrap_or_default())
    }

    /// The states of the polls of all tenants, in one query.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read. A damaged row is not an error.
    pub fn poll_states(&self) -> Result<PollStates, CheckpointError> {
        let mut states = PollStates::default();
        self.reading(|store| {
            store.query(POLL_STATES, values![], &mut |row| {
                states.add(row)?;
                Ok(ControlFlow::Continue(()))
            })
        })?;
        Ok(states)
    }

    /// Records a poll that failed and read nothing, and appends the observation about it. Returns
    /// whether the log has grown.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn record_poll_failure(
        &self,
        tenant: TenantId,
        failure: &PollFailure<'_>,
    ) -> Result<LogGrowth, CheckpointError> {
        let PollFailure { at, reason, class, not_before, .. } = *failure;
        let sql = "UPDATE tenant SET last_attempt = ?2, last_error = ?3, last_hint = ?4, error_class = ?5, failures = failures + 1,
                       failing_since = coalesce(failing_since, ?2), not_before = ?6 WHERE id = ?1";
        let (message, hint, class) = (&reason.message, &reason.hint, class.as_str());
        self.append_failure(tenant, failure, |store, row| {
            store.execute(sql, values![row, at, message, hint, class, not_before])
        })
    }

    /// Records a poll that failed because of this host, as [`Self::record_poll_failure`] does, but
    /// without counting it as an attempt: the wait after failures of Microsoft does not change.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn record_local_poll_failure(
        &self,
        tenant: TenantId,
        failure: &PollFailure<'_>,
    ) -> Result<LogGrowth, CheckpointError> {
        let PollFailure { at, reason, class, .. } = *failure;
        let sql = "UPDATE tenant SET last_error = ?3, last_hint = ?4, error_class = ?5, failing_since = coalesce(failing_since, ?2)
                   WHERE id = ?1";
        let (message, hint, class) = (&reason.message, &reason.hint, class.as_str());
        self.append_failure(tenant, failure, |store, row| {
            store.execute(sql, values![row, at, message, hint, class])
        })
    }

    /// The tenant that a configured domain was resolved to; `None` if it has not been resolved yet.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the stored
    /// GUID is invalid.
    pub fn tenant_of_domain(&self, domain: &str) -> Result<Option<TenantId>, CheckpointError> {
        let sql = "SELECT guid FROM domain WHERE domain = ?1";
        let guid = self.reading(|store| {
            store.query_optional(sql, values![domain], |row| row.get::<String>("guid"))
        })?;
        guid.as_deref().map(tenant_id).transpose()
    }

    /// Stores why a configured domain could not be resolved.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn record_resolution_failure(
        &self,
        domain: &str,
        failure: &ResolutionFailure<'_>,
    ) -> Result<(), CheckpointError> {
        let ResolutionFailure { at, reason, class, not_before } = *failure;
        let sql = "INSERT INTO unresolved_domain (domain, last_attempt, failing_since, last_error, last_hint, error_class, not_before)
                   VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6)
                   ON CONFLICT (domain) DO UPDATE SET last_attempt = ?2, last_error = ?3, last_hint = ?4, error_class = ?5, not_before = ?6";
        let (message, hint, class) = (&reason.message, &reason.hint, class.as_str());
        self.claimed(|store| {
            store.execute(sql, values![domain, at, message, hint, class, not_before])?;
            Ok(())
        })
    }

    /// Stores the tenant that a configured domain was resolved to.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn store_resolved_domain(
        &self,
        domain: &str,
        tenant: TenantId,
    ) -> Result<(), CheckpointError> {
        let guid = tenant.to_string();
        self.claimed(|store| {
            let sql = "INSERT INTO domain (domain, guid) VALUES (?1, ?2)
                       ON CONFLICT (domain) DO UPDATE SET guid = ?2";
            store.execute(sql, values![domain, guid])?;
            let sql = "DELETE FROM unresolved_domain WHERE domain = ?1";
            store.execute(sql, values![domain])?;
            Ok(())
        })
    }

    /// Updates the row of the tenant, and appends the observation that its poll has failed.
    fn append_failure(
        &self,
        tenant: TenantId,
        failure: &PollFailure<'_>,
        update: impl FnOnce(&dyn Statements, TenantRow) -> Result<u64, CheckpointError>,
    ) -> Result<LogGrowth, CheckpointError> {
        self.claimed(|store| {
            let row = tenant_row(store, tenant)?;
            update(store, row)?;
            let growth = append_observation(store, row, failure.observation, failure.at)?;
            running_polls::finish(store, tenant)?;
            Ok(growth)
        })
    }
}

impl PollStates {
    /// The state of a tenant's polls.
    pub fn of(&self, tenant: TenantId) -> FoundPollState {
        match (self.by_tenant.get(&tenant), &self.unidentified) {
            (Some(Some(state)), _) => FoundPollState::Readable(state.clone()),
            (Some(None), _) => FoundPollState::Damaged,
            (None, Some(_)) => FoundPollState::Unidentified,
            (None, None) => FoundPollState::Readable(PollState::default()),
        }
    }

    /// The number of tenants that have a row.
    pub fn count(&self) -> usize {
        self.by_tenant.len()
    }

    /// The damage of a row whose tenant cannot be determined; `None` if there is no such row.
    pub fn unidentified(&self) -> Option<CheckpointError> {
        self.unidentified.clone().map(CheckpointError::Damaged)
    }

    /// Adds the tenant of a row.
    fn add(&mut self, row: &dyn StoredRow) -> Result<(), CheckpointError> {
        let guid = row.get::<String>("guid").and_then(|guid| tenant_id(&guid));
        match value_or_damage(guid)? {
            Ok(tenant) => {
                let state = value_or_damage(read_state(row))?;
                self.by_tenant.insert(tenant, state.ok());
            }
            Err(damage) => self.unidentified = Some(damage),
        }
        Ok(())
    }
}

/// What was read, or the damage because of which it could not be read. Fails with every other
/// error.
fn value_or_damage<T>(
    read: Result<T, CheckpointError>,
) -> Result<Result<T, String>, CheckpointError> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(error) => error.into_damage().map(Err),
    }
}

/// Reads the columns of a [`PollState`].
fn read_state(row: &dyn StoredRow) -> Result<PollState, CheckpointError> {
    let (last_attempt, last_success) = (row.get("last_attempt")?, row.get("last_success")?);
    let failures = row.get("failures")?;
    let (polled_back_to, not_before) = (day(row, "polled_back_to")?, row.get("not_before")?);
    let class: Option<String> = row.get("error_class")?;
    let (newest_day, queued_backfill) = (day(row, "newest_day")?, day(row, "queued_backfill")?);

    let class = class.as_deref().and_then(PollErrorClass::parse);
    Ok(PollState {
        polled: Polled { last_attempt, last_success, failures, newest_day },
        polled_back_to,
        queued_backfill,
        not_before,
        failed_locally: class.is_some_and(PollErrorClass::is_local),
    })
}
