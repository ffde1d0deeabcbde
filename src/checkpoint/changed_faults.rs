//! Reports the faults of accepted data again when they change. The observation about the catalog,
//! and the one about the scores, stays open while there are any faults, and describes those that
//! were found when it began; new ones must not remain silent. Start reading at [`end_if_changed`].
//! See decision 0077.

use rusqlite::{Connection, OptionalExtension, params};

use super::{CheckpointError, LogGrowth, commit_poll::append_observation, row_ids::TenantRow};
use crate::model::{AcceptedData, Observation, ObservationKind, Phase, UnixMillis};

/// Ends the open observation about accepted data if the faults in this one are others, so that this
/// one begins again. Fails if the database cannot be read or written.
pub(super) fn end_if_changed(
    connection: &Connection,
    tenant: TenantRow,
    observation: &Observation,
    observed_at: UnixMillis,
) -> Result<LogGrowth, CheckpointError> {
    let Observation { what, subject, phase, details, .. } = observation;
    let other_faults = match AcceptedData::parse(subject) {
        Some(AcceptedData::Scores) => "a snapshot has other faults",
        Some(AcceptedData::Catalog) => "the catalog has other faults",
        None => return Ok(LogGrowth::Unchanged),
    };
    if *what != ObservationKind::Implausible || *phase == Phase::End {
        return Ok(LogGrowth::Unchanged);
    }

    let known: Option<Option<String>> = connection
        .prepare_cached(
            "SELECT details FROM open_observation WHERE tenant = ?1 AND what = ?2 AND subject = ?3",
        )?
        .query_row(params![tenant, what.as_str(), subject], |row| row.get("details"))
        .optional()?;
    if known.is_none_or(|known| known.as_deref() == Some(details.as_str())) {
        return Ok(LogGrowth::Unchanged);
    }

    let end = Observation {
        phase: Phase::End,
        details: other_faults.to_owned(),
        hint: None,
        ..observation.clone()
    };
    append_observation(connection, tenant, &end, observed_at)
}
