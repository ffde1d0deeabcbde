//! Appends observations to the log of a tenant, if they begin or end something, and stores which
//! ones are open. The ledger decides what begins and ends ([`OpenConditions::observe`]); this
//! module must never append an observation that it did not return. Start reading at
//! [`append_observations`]. See decision 0038.

use std::slice;

use super::{
    CheckpointError, LogGrowth,
    backend::{Statements, values},
    fields::day,
    log,
    row_ids::TenantRow,
};
use crate::{
    ledger::{OpenCondition, OpenConditions},
    model::{Observation, ObservationKind, ObservationSubject, Phase, UnixMillis},
};

/// Appends one observation; see [`append_observations`].
pub(super) fn append_observation(
    store: &dyn Statements,
    tenant: TenantRow,
    observation: &Observation,
    observed_at: UnixMillis,
) -> Result<LogGrowth, CheckpointError> {
    append_observations(store, tenant, slice::from_ref(observation), observed_at)
}

/// Appends observations to the log of a tenant in their order: a begin if the observation is not
/// open, an end if it is. An end is stored with the first day of its begin. Returns whether an
/// entry was appended. Fails if the database cannot be read or written.
pub(super) fn append_observations(
    store: &dyn Statements,
    tenant: TenantRow,
    observations: &[Observation],
    observed_at: UnixMillis,
) -> Result<LogGrowth, CheckpointError> {
    let mut growth = LogGrowth::Unchanged;
    if observations.is_empty() {
        return Ok(growth);
    }

    let mut open = OpenConditions::new(open_conditions(store, tenant)?);
    for observation in observations {
        for change in open.observe(observation) {
            store_phase(store, tenant, &change, observed_at)?;
            growth = growth.and(log::append_observed(store, tenant, &change, observed_at)?);
        }
    }
    Ok(growth)
}

/// The open observations of a tenant.
fn open_conditions(
    store: &dyn Statements,
    tenant: TenantRow,
) -> Result<Vec<OpenCondition>, CheckpointError> {
    let sql =
        "SELECT what, subject, first_day, details, since FROM open_observation WHERE tenant = ?1";
    store.query_all(sql, values![tenant], |row| {
        let what: String = row.get("what")?;
        let subject = match ObservationKind::parse(&what) {
            Some(known) => ObservationSubject::parse(known, row.get("subject")?),
            None => ObservationSubject::Other(row.get("subject")?),
        };
        let (first_day, details) = (day(row, "first_day")?, row.get("details")?);

        // A damaged day must not prevent the polls of the tenant.
        let noticed = row.get::<UnixMillis>("since")?.day();
        Ok(OpenCondition { what, subject, first_day: first_day.unwrap_or(noticed), details })
    })
}

/// Stores that an observation has begun or ended.
fn store_phase(
    store: &dyn Statements,
    tenant: TenantRow,
    observation: &Observation,
    observed_at: UnixMillis,
) -> Result<(), CheckpointError> {
    let Observation { what, subject, first_day, phase, details, hint } = observation;
    let (what, day, subject) = (what.as_str(), first_day.number(), subject.text());

    match phase {
        Phase::Begin => {
            let sql = "INSERT INTO open_observation (tenant, what, subject, first_day, details, hint, since)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            store
                .execute(sql, values![tenant, what, &*subject, day, details, hint, observed_at])?;
        }
        Phase::End => {
            let sql =
                "DELETE FROM open_observation WHERE tenant = ?1 AND what = ?2 AND subject = ?3";
            store.execute(sql, values![tenant, what, &*subject])?;
        }
    }
    Ok(())
}
