//! The state of each tenant, and the domains that could not be resolved to a tenant. Reading must
//! never write to the database. Start reading at [`TenantStatus`].

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
};

use super::{
    CheckpointError,
    backend::{Statements, StoredRow, values},
    fields::{day, unsigned},
    row_ids::tenant_id,
    sql::{gap, snapshot},
};
use crate::{
    error::Explanation,
    model::{ObservationKind, OpenObservation, PollErrorClass, Polled, TenantId, UnixMillis},
};

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
    /// The number of queued backfills and of queued parts of imports.
    pub queued_commands: u64,
    /// When the newest queued backfill was requested; `None` if none is queued.
    pub backfill_requested: Option<UnixMillis>,
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

/// SQL: the state of each tenant, without the tenant `-`, which represents this host.
const TENANTS: &str = concat!(
    "SELECT t.guid, t.last_attempt, t.last_success, t.failures,
        (SELECT max(day) FROM entry WHERE tenant = t.id AND kind = ",
    snapshot!(),
    ") AS newest_day,
        (SELECT count(DISTINCT day) FROM entry WHERE tenant = t.id AND kind = ",
    snapshot!(),
    ") AS days,
        (SELECT count(*) FROM missing WHERE tenant = t.id AND NOT absent) AS missing,
        (SELECT count(*) FROM queued_command WHERE tenant = t.id) AS queued_commands,
        (SELECT max(requested) FROM queued_command WHERE tenant = t.id AND first_day IS NOT NULL)
            AS backfill_requested,
        t.last_error, t.last_hint, t.error_class, t.failing_since, t.not_before
     FROM tenant t WHERE t.guid <> '-' ORDER BY t.id"
);

/// SQL: the open observations of all tenants. A gap that Microsoft no longer keeps is never filled,
/// so it is not shown.
const OBSERVATIONS: &str = concat!(
    "SELECT t.guid, o.what, o.first_day, o.since, o.details, o.hint, o.expires
     FROM open_observation o JOIN tenant t ON t.id = o.tenant
     LEFT JOIN missing m ON m.tenant = o.tenant AND m.day = o.first_day AND o.what = ",
    gap!(),
    " WHERE m.absent IS NOT TRUE ORDER BY o.tenant, o.first_day, o.what, o.subject"
);

const UNRESOLVED: &str =
    "SELECT domain, last_attempt, failing_since, last_error, last_hint, error_class, not_before
     FROM unresolved_domain ORDER BY domain";

/// The state of all tenants with stored data, in the order in which they were added. Fails with
/// [`CheckpointError::Damaged`] if a stored value is invalid.
pub(super) fn tenant_status(store: &dyn Statements) -> Result<Vec<TenantStatus>, CheckpointError> {
    let mut tenants = store.query_all(TENANTS, values![], read_tenant)?;
    add_observations(store, &mut tenants)?;
    Ok(tenants)
}

/// The domains that could not be resolved, in alphabetical order. Fails if the database cannot be
/// read.
pub(super) fn unresolved(store: &dyn Statements) -> Result<Vec<UnresolvedDomain>, CheckpointError> {
    store.query_all(UNRESOLVED, values![], |row| {
        Ok(UnresolvedDomain {
            domain: row.get("domain")?,
            last_attempt: row.get("last_attempt")?,
            failing_since: row.get("failing_since")?,
            error: Explanation { message: row.get("last_error")?, hint: row.get("last_hint")? },
            class: error_class(row)?,
            not_before: row.get("not_before")?,
        })
    })
}

/// The tenants of the configured domains that were resolved. A domain whose GUID is damaged counts
/// as not resolved. Fails if the database cannot be read.
pub(super) fn resolved_domains(
    store: &dyn Statements,
) -> Result<BTreeMap<String, TenantId>, CheckpointError> {
    let rows = store.query_all("SELECT domain, guid FROM domain", values![], |row| {
        let id = TenantId::parse(&row.get::<String>("guid")?).ok();
        Ok((row.get::<String>("domain")?, id))
    })?;
    Ok(rows.into_iter().filter_map(|(domain, id)| Some((domain, id?))).collect())
}

/// The error in the columns `last_error` and `last_hint`; `None` if there is none.
pub(super) fn last_error(row: &dyn StoredRow) -> Result<Option<Explanation>, CheckpointError> {
    let (message, hint): (Option<String>, _) = (row.get("last_error")?, row.get("last_hint")?);
    Ok(message.map(|message| Explanation { message, hint }))
}

/// Without the observations.
fn read_tenant(row: &dyn StoredRow) -> Result<TenantStatus, CheckpointError> {
    Ok(TenantStatus {
        id: Some(tenant_id(&row.get::<String>("guid")?)?),
        polled: Polled {
            last_attempt: row.get("last_attempt")?,
            last_success: row.get("last_success")?,
            failures: row.get("failures")?,
            newest_day: day(row, "newest_day")?,
        },
        days: unsigned(row, "days")?,
        missing: unsigned(row, "missing")?,
        last_error: last_error(row)?,
        error_class: error_class(row)?,
        failing_since: row.get("failing_since")?,
        not_before: row.get("not_before")?,
        observations: Vec::new(),
        queued_commands: unsigned(row, "queued_commands")?,
        backfill_requested: row.get("backfill_requested")?,
    })
}

/// Adds the open observations to their tenants.
fn add_observations(
    store: &dyn Statements,
    tenants: &mut [TenantStatus],
) -> Result<(), CheckpointError> {
    let mut by_id: HashMap<TenantId, &mut TenantStatus> =
        tenants.iter_mut().filter_map(|tenant| Some((tenant.id?, tenant))).collect();

    store.query(OBSERVATIONS, values![], &mut |row| {
        // Observations about the host belong to the tenant `-`, which has no status.
        let id = TenantId::parse(&row.get::<String>("guid")?).ok();
        if let Some(tenant) = id.and_then(|id| by_id.get_mut(&id)) {
            tenant.observations.extend(read_observation(row)?);
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// `None` for a kind of a later version, which has no text that this version could show, and for a
/// day that is not valid.
fn read_observation(row: &dyn StoredRow) -> Result<Option<OpenObservation>, CheckpointError> {
    let Some(what) = ObservationKind::parse(&row.get::<String>("what")?) else { return Ok(None) };
    let Some(first_day) = day(row, "first_day")? else { return Ok(None) };
    Ok(Some(OpenObservation {
        what,
        first_day,
        since: row.get("since")?,
        reason: Explanation { message: row.get("details")?, hint: row.get("hint")? },
        expires: row.get("expires")?,
    }))
}

/// The class in the column `error_class`; `None` if this release does not know it.
fn error_class(row: &dyn StoredRow) -> Result<Option<PollErrorClass>, CheckpointError> {
    let name: Option<String> = row.get("error_class")?;
    Ok(name.and_then(|name| PollErrorClass::parse(&name)))
}
