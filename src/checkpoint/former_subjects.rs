//! Ends observations about rejected snapshots that an earlier release has begun with a subject that
//! no observation of this release has, such as `unreadable, 812 bytes`. Their cause is that of the
//! snapshots without a usable day, so they end together with the observation about these. An
//! observation with a subject of this release must never end here. Start reading at [`end_former`].
//! See decision 0077.

use rusqlite::{Connection, params};

use super::{CheckpointError, LogGrowth, commit_poll::append_observation, row_ids::TenantRow};
use crate::model::{Observation, ObservationKind, Phase, RejectedSnapshots, UnixMillis};

/// Ends the open observations of the same kind with a former subject, if this one is the end of the
/// observation about the snapshots without a usable day. Fails if the database cannot be read or
/// written.
pub(super) fn end_former(
    connection: &Connection,
    tenant: TenantRow,
    observation: &Observation,
    observed_at: UnixMillis,
) -> Result<LogGrowth, CheckpointError> {
    let Observation { what, subject, first_day: today, phase, .. } = observation;
    let is_undated = subject == RejectedSnapshots::Undated.as_str();
    if !is_undated || *phase == Phase::Begin {
        return Ok(LogGrowth::Unchanged);
    }

    let mut growth = LogGrowth::Unchanged;
    for subject in open_subjects(connection, tenant, *what)? {
        if RejectedSnapshots::is_former_subject(&subject, *today) {
            let end = Observation { subject, ..observation.clone() };
            growth = growth.and(append_observation(connection, tenant, &end, observed_at)?);
        }
    }
    Ok(growth)
}

/// The subjects of the open observations of a kind.
fn open_subjects(
    connection: &Connection,
    tenant: TenantRow,
    what: ObservationKind,
) -> Result<Vec<String>, CheckpointError> {
    let mut statement = connection.prepare_cached(
        "SELECT subject FROM open_observation WHERE tenant = ?1 AND what = ?2 ORDER BY subject",
    )?;
    let rows = statement
        .query_map(params![tenant, what.as_str()], |row| row.get::<_, String>("subject"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
