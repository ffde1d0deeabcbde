//! Dead letters in an advance: records that the receiver rejected are recorded, and those that were
//! retried and acknowledged are deleted. Both belong to the transaction that moves the cursors, so
//! that no rejected record is lost. The observation about the dead letters of a sink begins with
//! its first one of a tenant and ends with its last one. Start reading at [`record_dead_letter`].
//! See decision 0022.

use super::{
    Advance, CheckpointError, LogGrowth, Position,
    backend::{Statements, values},
    fields::unsigned,
    observations::append_observation,
    row_ids::{DeadLetterId, TenantRow, tenant_row},
};
use crate::model::{EventId, Observation, Phase, SinkName, TenantId};

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

/// SQL: deletes the dead letter of the sink `?1` and the tenant `?2` at a position.
const DELETE_AT: &str = "DELETE FROM dead_letter WHERE sink = (SELECT id FROM sink WHERE name = ?1)
       AND tenant = ?2 AND seq = ?3 AND record_index = ?4";

/// SQL: stores a dead letter of the sink `?1` and the tenant `?2` at a position.
const INSERT: &str =
    "INSERT INTO dead_letter (sink, tenant, seq, record_index, event_id, reason, rejected)
     SELECT s.id, ?2, ?3, ?4, ?5, ?6, ?7 FROM sink s WHERE s.name = ?1";

/// Records a dead letter, and begins the observation about the sink's dead letters of this tenant.
pub(super) fn record_dead_letter(
    store: &dyn Statements,
    advance: &Advance<'_>,
    dead_letter: &DeadLetter,
) -> Result<LogGrowth, CheckpointError> {
    let DeadLetter { at, event_id, reason, .. } = dead_letter;
    let tenant = tenant_row(store, dead_letter.tenant)?;
    let (seq, event_id) = (at.seq, event_id.to_string());

    // A dead letter that was retried and rejected again replaces the earlier one.
    store.execute(DELETE_AT, values![advance.sink, tenant, seq, at.record_index])?;
    store.execute(
        INSERT,
        values![advance.sink, tenant, seq, at.record_index, event_id, reason, advance.now],
    )?;

    let begin = observation(advance, Phase::Begin, reason);
    append_observation(store, tenant, &begin, advance.now)
}

/// Deletes a dead letter that was delivered. The observation ends with the sink's last dead letter
/// of the tenant.
pub(super) fn clear_dead_letter(
    store: &dyn Statements,
    advance: &Advance<'_>,
    id: DeadLetterId,
) -> Result<LogGrowth, CheckpointError> {
    let sql = "DELETE FROM dead_letter WHERE id = ?1 RETURNING tenant";
    let tenant: Option<TenantRow> =
        store.query_optional(sql, values![id], |row| row.get("tenant"))?;
    let Some(tenant) = tenant else { return Ok(LogGrowth::Unchanged) };
    if count_of_tenant(store, advance.sink, tenant)? > 0 {
        return Ok(LogGrowth::Unchanged);
    }

    let end = observation(advance, Phase::End, "all dead letters were delivered");
    append_observation(store, tenant, &end, advance.now)
}

/// The number of dead letters of a sink and a tenant. Fails if the database cannot be read.
pub(super) fn count_of_tenant(
    store: &dyn Statements,
    sink: &SinkName,
    tenant: TenantRow,
) -> Result<u64, CheckpointError> {
    let sql = "SELECT count(*) AS letters FROM dead_letter
        WHERE tenant = ?2 AND sink = (SELECT id FROM sink WHERE name = ?1)";
    store.query_one(sql, values![sink, tenant], |row| unsigned(row, "letters"))
}

fn observation(advance: &Advance<'_>, phase: Phase, details: &str) -> Observation {
    Observation::of_dead_letters(advance.sink, advance.now.day(), phase, details.to_owned())
}
