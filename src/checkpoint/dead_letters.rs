//! Dead letters: records that a receiver rejected permanently. `dead_letter_records` records them
//! when a cursor advances. This module finds them, queues them for a retry, and discards them on
//! the request of an operator. Nothing here moves the live cursor of a sink. Start reading at
//! [`DeadLetterFilter`]. See decision 0022.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, named_params, params};
use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, CheckpointError, LogGrowth, Position,
    columns::{day, guids_as_json, unsigned},
    commit_poll::append_observation,
    row_ids::{DeadLetterId, TenantRow},
    tenant_id,
};
use crate::{
    model::{Day, EventId, Observation, ObservationKind, Phase, TenantId, UnixMillis},
    text::count,
};

/// A stored dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedDeadLetter {
    /// The ID of the row, for `Advance::delivered_dead_letters`.
    pub id: DeadLetterId,
    pub sink: String,
    pub tenant: TenantId,
    /// The position of the record in the tenant's log.
    pub at: Position,
    /// The day of its entry. `None` if the entry does not exist.
    pub day: Option<Day>,
    pub event_id: EventId,
    /// The message of the receiver.
    pub reason: String,
    /// When it was rejected.
    pub rejected_at: UnixMillis,
    /// Whether it is queued for a retry.
    pub retry: bool,
}

/// Identifies a dead letter to another process. The ID of its row is not suitable, because the
/// database may assign it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterKey {
    /// The name of the sink.
    pub sink: String,
    /// The event ID as 40 hex digits.
    pub event_id: String,
}

/// Selects dead letters. The default selects all of them.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// The name of the sink; `None` for all sinks.
    pub sink: Option<String>,
    /// `None` for all tenants.
    pub tenants: Option<Vec<TenantId>>,
    /// The first digits of the event ID in lower case; empty for all.
    pub event_id_prefix: String,
}

/// SQL: whether a [`DeadLetterFilter`] selects the dead letter `d` of the sink `s` and the tenant
/// `t`. It selects none of a sink that is not configured.
pub(super) const IS_SELECTED: &str = "s.removed IS NULL AND (:sink IS NULL OR s.name = :sink)
    AND (:tenants IS NULL OR t.guid IN (SELECT value FROM json_each(:tenants)))
    AND substr(d.event_id, 1, length(:prefix)) = :prefix";

impl QueuedDeadLetter {
    /// Identifies this dead letter.
    pub fn key(&self) -> DeadLetterKey {
        DeadLetterKey { sink: self.sink.clone(), event_id: self.event_id.to_string() }
    }
}

impl DeadLetterFilter {
    /// All dead letters of a sink.
    pub fn of_sink(sink: &str) -> Self {
        Self { sink: Some(sink.to_owned()), ..Self::default() }
    }

    /// The GUIDs of the tenants, for the parameter `:tenants`.
    pub(super) fn tenants_as_json(&self) -> Option<String> {
        self.tenants.as_deref().map(guids_as_json)
    }
}

impl Checkpoint {
    /// The selected dead letters, newest first; at most `limit`.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Checkpoint::pending_dead_letters`].
    pub fn find_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: u32,
    ) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
        let tenants = filter.tenants_as_json();
        let params = named_params! {
            ":sink": filter.sink,
            ":tenants": tenants,
            ":prefix": filter.event_id_prefix,
            ":limit": limit,
        };
        dead_letters_where(&self.connection(), IS_SELECTED, "d.id DESC", params)
    }

    /// The number of selected dead letters.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn count_dead_letters(&self, filter: &DeadLetterFilter) -> Result<u64, CheckpointError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT count(*) AS count FROM dead_letter d JOIN sink s ON s.id = d.sink JOIN tenant t ON t.id = d.tenant
             WHERE {IS_SELECTED}"
        ))?;

        let tenants = filter.tenants_as_json();
        let params = named_params! {
            ":sink": filter.sink,
            ":tenants": tenants,
            ":prefix": filter.event_id_prefix,
        };
        Ok(statement.query_row(params, |row| unsigned(row, "count"))?)
    }

    /// The dead letters of a sink and of these tenants that are queued for a retry, in the order of
    /// the logs; at most `limit`. Those of other tenants do not count, so that a tenant that waits
    /// delays no other.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or with [`CheckpointError::Damaged`] if a stored GUID
    /// or event ID is invalid.
    pub fn pending_dead_letters(
        &self,
        sink: &str,
        tenants: &[TenantId],
        limit: u32,
    ) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
        let is_queued = "s.name = :sink AND d.retry
            AND t.guid IN (SELECT value FROM json_each(:tenants)) AND EXISTS
            (SELECT 1 FROM cursor c WHERE c.sink = d.sink AND c.tenant = d.tenant AND c.active)";
        let order = "t.guid, d.seq, d.record_index";
        let tenants = guids_as_json(tenants);
        let params = named_params! { ":sink": sink, ":tenants": tenants, ":limit": limit };
        dead_letters_where(&self.connection(), is_queued, order, params)
    }

    /// Queues dead letters for a retry, and returns how many of them exist.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn retry_dead_letters(&self, keys: &[DeadLetterKey]) -> Result<u64, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        let mut queued = 0;
        for key in keys {
            let marked = transaction
                .prepare_cached(
                    "UPDATE dead_letter SET retry = 1 WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND event_id = ?2",
                )?
                .execute(params![key.sink, key.event_id])?;
            queued += marked as u64;
        }

        transaction.commit()?;
        Ok(queued)
    }

    /// Deletes dead letters, and appends the observations that report it to the other sinks.
    /// Returns how many were deleted, and whether the log has grown.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn discard_dead_letters(
        &self,
        keys: &[DeadLetterKey],
        now: UnixMillis,
    ) -> Result<(u64, LogGrowth), CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        let mut discarded: BTreeMap<(TenantRow, &str), u64> = BTreeMap::new();
        for key in keys {
            for tenant in delete(&transaction, key)? {
                *discarded.entry((tenant, key.sink.as_str())).or_default() += 1;
            }
        }
        let mut growth = LogGrowth::Unchanged;
        for ((tenant, sink), records) in &discarded {
            growth = growth.and(observe_discard(&transaction, *tenant, sink, *records, now)?);
        }

        transaction.commit()?;
        Ok((discarded.values().sum(), growth))
    }
}

/// The newest dead letters of all sinks, newest first; at most `limit`. Fails in the same cases as
/// [`Checkpoint::pending_dead_letters`].
pub(super) fn newest_dead_letters(
    connection: &Connection,
    limit: u32,
) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
    let is_configured = "s.removed IS NULL";
    dead_letters_where(connection, is_configured, "d.id DESC", named_params! { ":limit": limit })
}

/// The dead letters that match a condition. The parameter `:limit` is their greatest number; all
/// other parameters belong to the condition.
fn dead_letters_where(
    connection: &Connection,
    condition: &str,
    order: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT d.id, s.name AS sink, t.guid, d.seq, d.record_index, e.day, d.event_id, d.reason, d.rejected, d.retry
         FROM dead_letter d JOIN sink s ON s.id = d.sink JOIN tenant t ON t.id = d.tenant
         LEFT JOIN entry e ON e.tenant = d.tenant AND e.seq = d.seq
         WHERE {condition} ORDER BY {order} LIMIT :limit"
    ))?;

    let mut rows = statement.query(params)?;
    let mut dead_letters = Vec::new();
    while let Some(row) = rows.next()? {
        dead_letters.push(QueuedDeadLetter {
            id: row.get("id")?,
            sink: row.get("sink")?,
            tenant: tenant_id(&row.get::<_, String>("guid")?)?,
            at: Position { seq: unsigned(row, "seq")?, record_index: row.get("record_index")? },
            day: day(row, "day")?,
            event_id: event_id(row)?,
            reason: row.get("reason")?,
            rejected_at: row.get("rejected")?,
            retry: row.get("retry")?,
        });
    }
    Ok(dead_letters)
}

/// The column `event_id`. Fails with [`CheckpointError::Damaged`] if it is not a valid event ID.
pub(super) fn event_id(row: &Row<'_>) -> Result<EventId, CheckpointError> {
    EventId::parse(&row.get::<_, String>("event_id")?)
        .ok_or_else(|| CheckpointError::Damaged("a dead letter has no valid event ID".to_owned()))
}

/// Deletes the dead letters with a key, and returns the tenant of each of them.
fn delete(connection: &Connection, key: &DeadLetterKey) -> Result<Vec<TenantRow>, CheckpointError> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM dead_letter WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND event_id = ?2 RETURNING tenant",
    )?;
    let tenants = statement.query_map(params![key.sink, key.event_id], |row| row.get("tenant"))?;
    Ok(tenants.collect::<Result<_, _>>()?)
}

/// Reports that an operator has discarded records of a tenant: the observation about the dead
/// letters of the sink ends, and begins again if others remain.
fn observe_discard(
    connection: &Connection,
    tenant: TenantRow,
    sink: &str,
    records: u64,
    now: UnixMillis,
) -> Result<LogGrowth, CheckpointError> {
    let observe = |phase, details: String| {
        let observation = Observation::of_dead_letters(sink, now.day(), phase, details);
        append_observation(connection, tenant, &observation, now)
    };
    let remaining = count_of_tenant(connection, sink, tenant)?;

    // The observation of a renamed sink has ended, although its dead letters were kept. It begins
    // here, so that every discard is reported.
    let begun = observe(Phase::Begin, "the receiver rejected records".to_owned())?;
    let rejected = |number: u64| count(number, "rejected record");
    let ended = observe(Phase::End, format!("an operator discarded {}", rejected(records)))?;
    let growth = begun.and(ended);
    if remaining == 0 {
        return Ok(growth);
    }

    let begun_again = observe(Phase::Begin, format!("{} remain", rejected(remaining)))?;
    // The condition has lasted since the oldest of the remaining records was rejected.
    connection.execute(
        "UPDATE open_observation SET since = (SELECT min(d.rejected) FROM dead_letter d JOIN sink s ON s.id = d.sink
            WHERE s.name = ?1 AND d.tenant = ?2)
         WHERE tenant = ?2 AND what = ?3 AND subject = ?1",
        params![sink, tenant, ObservationKind::DeadLetter.as_str()],
    )?;
    Ok(growth.and(begun_again))
}

/// The number of dead letters of a sink and a tenant.
pub(super) fn count_of_tenant(
    connection: &Connection,
    sink: &str,
    tenant: TenantRow,
) -> Result<u64, CheckpointError> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) AS number FROM dead_letter WHERE tenant = ?2 AND sink = (SELECT id FROM sink WHERE name = ?1)",
    )?;
    Ok(statement.query_row(params![sink, tenant], |row| unsigned(row, "number"))?)
}
