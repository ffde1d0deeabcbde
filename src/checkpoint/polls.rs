//! The outcome of a tenant's polls, and the tenants that configured domains resolved to. The
//! collector reads this state to schedule the next poll, so the schedule survives a restart. This
//! module must never record a poll that has read something: [`Checkpoint::commit_poll`] does so, in
//! the transaction that stores the data.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Checkpoint, CheckpointError, LogGrowth, columns, commit_poll::append_observation,
    row_ids::TenantRow, running_polls, tenant_id, tenant_row,
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
    /// From the server's `Retry-After`: no request before this time.
    pub not_before: Option<UnixMillis>,
    /// Whether the last poll failed because of this host, such as on a full disk. Such a poll does
    /// not count as an attempt.
    pub failed_locally: bool,
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

impl Checkpoint {
    /// The state of a tenant's polls; the default if it was never polled.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn poll_state(&self, tenant: TenantId) -> Result<PollState, CheckpointError> {
        let newest_day = self.newest_day(tenant)?;
        let connection = self.connection();
        let state = connection
            .prepare_cached(
                "SELECT last_attempt, last_success, failures, polled_back_to, not_before, error_class FROM tenant WHERE guid = ?1",
            )?
            .query_row([tenant.to_string()], |row| {
                let class: Option<String> = row.get("error_class")?;
                let class = class.as_deref().and_then(PollErrorClass::parse);
                Ok(PollState {
                    failed_locally: class.is_some_and(PollErrorClass::is_local),
                    polled: Polled {
                        last_attempt: row.get("last_attempt")?,
                        last_success: row.get("last_success")?,
                        failures: row.get("failures")?,
                        newest_day,
                    },
                    polled_back_to: columns::day(row, "polled_back_to")?,
                    not_before: row.get("not_before")?,
                })
            })
            .optional()?;

        Ok(state.unwrap_or_default())
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
        self.append_failure(tenant, failure, |connection, row| {
            connection.execute(
                "UPDATE tenant SET last_attempt = ?2, last_error = ?3, last_hint = ?4, error_class = ?5, failures = failures + 1,
                    failing_since = coalesce(failing_since, ?2), not_before = ?6 WHERE id = ?1",
                params![row, at, reason.message, reason.hint, class.as_str(), not_before],
            )
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
        self.append_failure(tenant, failure, |connection, row| {
            connection.execute(
                "UPDATE tenant SET last_error = ?3, last_hint = ?4, error_class = ?5, failing_since = coalesce(failing_since, ?2)
                 WHERE id = ?1",
                params![row, at, reason.message, reason.hint, class.as_str()],
            )
        })
    }

    /// The tenant that a configured domain was resolved to; `None` if it has not been resolved yet.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the stored
    /// GUID is invalid.
    pub fn tenant_of_domain(&self, domain: &str) -> Result<Option<TenantId>, CheckpointError> {
        let connection = self.connection();
        // A status asks for every tenant that is configured by its domain.
        let guid: Option<String> = connection
            .prepare_cached("SELECT guid FROM domain WHERE domain = ?1")?
            .query_row([domain], |row| row.get("guid"))
            .optional()?;
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
        self.connection().execute(
            "INSERT INTO unresolved_domain (domain, last_attempt, failing_since, last_error, last_hint, error_class, not_before)
             VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (domain) DO UPDATE SET last_attempt = ?2, last_error = ?3, last_hint = ?4, error_class = ?5, not_before = ?6",
            params![domain, at, reason.message, reason.hint, class.as_str(), not_before],
        )?;
        Ok(())
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
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        transaction.execute(
            "INSERT INTO domain VALUES (?1, ?2) ON CONFLICT (domain) DO UPDATE SET guid = ?2",
            params![domain, tenant.to_string()],
        )?;
        transaction.execute("DELETE FROM unresolved_domain WHERE domain = ?1", [domain])?;
        Ok(transaction.commit()?)
    }

    /// Updates the row of the tenant, and appends the observation that its poll has failed.
    fn append_failure(
        &self,
        tenant: TenantId,
        failure: &PollFailure<'_>,
        update: impl FnOnce(&Connection, TenantRow) -> rusqlite::Result<usize>,
    ) -> Result<LogGrowth, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        let row = tenant_row(&transaction, &tenant.to_string())?;
        update(&transaction, row)?;
        let growth = append_observation(&transaction, row, failure.observation, failure.at)?;
        running_polls::finish(&transaction, tenant)?;

        transaction.commit()?;
        Ok(growth)
    }
}
