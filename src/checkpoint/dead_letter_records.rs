//! Dead letters in an advance: records that the receiver rejected are recorded, and those that were
//! retried and acknowledged are deleted.
//!
//! Both belong to the transaction that moves the cursors, so that no rejected record is lost. Start
//! reading at [`record_dead_letter`]. See decision 0022.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Advance, CheckpointError, LogGrowth, Position,
    commit_poll::append_observation,
    dead_letters::count_of_tenant,
    row_ids::{DeadLetterId, TenantRow},
    tenant_row,
};
use crate::model::{EventId, Observation, Phase, TenantId};

/// A record that the receiver rejected permanently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub tenant: TenantId,
    /// The position of the rejected record.
    pub at: Position,
    pub event_id: EventId,
    /// The message of the receiver.
    pub reason: String,
}

/// Records a dead letter, and begins the observation about the sink's dead letters of this tenant.
pub(super) fn record_dead_letter(
    connection: &Connection,
    advance: &Advance<'_>,
    dead_letter: &DeadLetter,
) -> Result<LogGrowth, CheckpointError> {
    let tenant = tenant_row(connection, &dead_letter.tenant.to_string())?;

    // A dead letter that was retried and rejected again replaces the earlier one.
    connection
        .prepare_cached(
            "DELETE FROM dead_letter WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND tenant = ?2 AND seq = ?3 AND record_index = ?4",
        )?
        .execute(params![
            advance.sink,
            tenant,
            dead_letter.at.seq.cast_signed(),
            dead_letter.at.record_index
        ])?;
    connection
        .prepare_cached(
            "INSERT INTO dead_letter (sink, tenant, seq, record_index, event_id, reason, rejected)
             SELECT id, ?2, ?3, ?4, ?5, ?6, ?7 FROM sink WHERE name = ?1",
        )?
        .execute(params![
            advance.sink,
            tenant,
            dead_letter.at.seq.cast_signed(),
            dead_letter.at.record_index,
            dead_letter.event_id.to_string(),
            dead_letter.reason,
            advance.now
        ])?;

    let begin = dead_letter_observation(advance, Phase::Begin, &dead_letter.reason);
    append_observation(connection, tenant, &begin, advance.now)
}

/// Deletes a dead letter that was delivered. The observation ends with the sink's last dead letter
/// of the tenant.
pub(super) fn clear_dead_letter(
    connection: &Connection,
    advance: &Advance<'_>,
    id: DeadLetterId,
) -> Result<LogGrowth, CheckpointError> {
    let tenant: Option<TenantRow> = connection
        .prepare_cached("DELETE FROM dead_letter WHERE id = ?1 RETURNING tenant")?
        .query_row([id], |row| row.get("tenant"))
        .optional()?;
    let Some(tenant) = tenant else { return Ok(LogGrowth::Unchanged) };

    if count_of_tenant(connection, advance.sink, tenant)? > 0 {
        return Ok(LogGrowth::Unchanged);
    }

    let end = dead_letter_observation(advance, Phase::End, "all dead letters were delivered");
    append_observation(connection, tenant, &end, advance.now)
}

fn dead_letter_observation(advance: &Advance<'_>, phase: Phase, details: &str) -> Observation {
    Observation::of_dead_letters(advance.sink, advance.now.day(), phase, details.to_owned())
}
