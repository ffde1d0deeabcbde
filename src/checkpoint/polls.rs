//! The outcome of a tenant's polls, and the tenants that configured domains resolved to. The
//! collector reads this state to schedule the next poll, so the schedule survives a restart. A poll
//! that has read something is recorded by [`Checkpoint::commit_poll`] instead.

use rusqlite::{OptionalExtension, params};

use super::{
    Checkpoint, CheckpointError, columns, commit_poll::append_observation, tenant_id, tenant_row,
};
use crate::error::Explanation;
use crate::model::{Day, Observation, TenantId, UnixMillis};

/// The state of a tenant's polls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollState {
    /// The time of the last poll, successful or not; `None` if there was none.
    pub last_attempt: Option<UnixMillis>,
    /// The last poll that read everything; `None` if there was none.
    pub last_success: Option<UnixMillis>,
    /// Why the last poll failed or was incomplete; `None` if it was complete.
    pub last_error: Option<String>,
    /// The number of failed polls since the last successful one.
    pub failures: u32,
    /// The earliest day that a complete poll has requested.
    pub polled_back_to: Option<Day>,
    /// The newest stored day; `None` if no day is stored.
    pub newest_day: Option<Day>,
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
            .prepare_cached("SELECT last_attempt, last_success, last_error, failures, polled_back_to, not_before FROM tenant WHERE guid = ?1")?
            .query_row([tenant.to_string()], |row| {
                Ok(PollState {
                    last_attempt: row.get("last_attempt")?,
                    last_success: row.get("last_success")?,
                    last_error: row.get("last_error")?,
                    failures: row.get("failures")?,
                    polled_back_to: columns::day(row, "polled_back_to")?,
                    newest_day,
                    not_before: row.get("not_before")?,
                })
            })
            .optional()?;
        Ok(state.unwrap_or_default())
    }

    /// Records a poll that failed and read nothing, and appends the observation about it.
    /// `not_before` is from the server's `Retry-After`.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn record_poll_failure(
        &self,
        tenant: TenantId,
        now: UnixMillis,
        reason: &Explanation,
        observation: &Observation,
        not_before: Option<UnixMillis>,
    ) -> Result<(), CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        let row = tenant_row(&transaction, &tenant.to_string())?;
        transaction.execute(
            "UPDATE tenant SET last_attempt = ?2, last_error = ?3, last_hint = ?4, failures = failures + 1, not_before = ?5 WHERE id = ?1",
            params![row, now, reason.message, reason.hint, not_before],
        )?;
        append_observation(&transaction, row, observation, now)?;

        Ok(transaction.commit()?)
    }

    /// The tenant that a configured domain was resolved to; `None` if it has not been resolved yet.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if the stored
    /// GUID is invalid.
    pub fn tenant_of_domain(&self, domain: &str) -> Result<Option<TenantId>, CheckpointError> {
        let guid: Option<String> = self
            .connection()
            .query_row("SELECT guid FROM domain WHERE domain = ?1", [domain], |row| row.get("guid"))
            .optional()?;
        guid.as_deref().map(tenant_id).transpose()
    }

    /// Stores the tenant that a configured domain was resolved to.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written.
    pub fn store_resolved_domain(
        &self,
        domain: &str,
        tenant: TenantId,
    ) -> Result<(), CheckpointError> {
        self.connection().execute(
            "INSERT INTO domain VALUES (?1, ?2) ON CONFLICT DO UPDATE SET guid = ?2",
            params![domain, tenant.to_string()],
        )?;
        Ok(())
    }
}
