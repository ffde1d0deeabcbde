//! Dead letters: records that a receiver rejected permanently. `dead_letter_records` records them
//! when a cursor advances. This module finds them, queues them for a retry, and discards them on
//! the request of an operator. Nothing here moves the live cursor of a sink. Start reading at
//! [`DeadLetterFilter`]. See decision 0022.

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
};

use serde::{Deserialize, Serialize};

use super::{
    Checkpoint, CheckpointError, LogGrowth, Position,
    backend::{Statements, StoredRow, values},
    dead_letter_records::count_of_tenant,
    fields::{day, unsigned},
    observations::append_observation,
    row_ids::{DeadLetterId, TenantRow, tenant_id},
};
use crate::{
    model::{Day, EventId, Observation, ObservationKind, Phase, SinkName, TenantId, UnixMillis},
    text::count,
};

/// A stored dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedDeadLetter {
    /// The ID of the row, for `Advance::delivered_dead_letters`.
    pub id: DeadLetterId,
    pub sink: SinkName,
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
    pub sink: SinkName,
    pub event_id: EventId,
}

/// Selects dead letters. The default selects all of them.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// The name of the sink; `None` for all sinks.
    pub sink: Option<SinkName>,
    /// `None` for all tenants.
    pub tenants: Option<Vec<TenantId>>,
    /// The first digits of the event ID in lower case; empty for all.
    pub event_id_prefix: String,
}

/// SQL: whether a [`DeadLetterFilter`] with the sink `?1` and the prefix `?2` selects the dead
/// letter `d` of the sink `s`. It selects none of a sink that is not configured. The caller selects
/// the tenants, see [`DeadLetterFilter::selects_tenant`].
macro_rules! is_selected {
    () => {
        "s.removed IS NULL AND (CAST(?1 AS TEXT) IS NULL OR s.name = ?1)
         AND substr(d.event_id, 1, length(?2)) = ?2"
    };
}
pub(super) use is_selected;

/// SQL: the dead letters `d` with their sink `s` and their tenant `t`.
macro_rules! select_dead_letters {
    () => {
        "SELECT d.id, s.name AS sink, t.guid, d.seq, d.record_index, e.day, d.event_id, d.reason,
            d.rejected, d.retry
         FROM dead_letter d JOIN sink s ON s.id = d.sink JOIN tenant t ON t.id = d.tenant
         LEFT JOIN entry e ON e.tenant = d.tenant AND e.seq = d.seq WHERE "
    };
}

/// SQL: the selected dead letters of all tenants, newest first.
const FIND: &str = concat!(select_dead_letters!(), is_selected!(), " ORDER BY d.id DESC");

/// SQL: the dead letters of the sink `?1` that are queued for a retry. The sink must receive their
/// tenant.
const QUEUED: &str = concat!(
    select_dead_letters!(),
    "s.name = ?1 AND d.retry AND EXISTS
        (SELECT 1 FROM cursor c WHERE c.sink = d.sink AND c.tenant = d.tenant AND c.active)
     ORDER BY t.guid, d.seq, d.record_index"
);

/// SQL: the number of selected dead letters of each tenant.
const COUNT: &str = concat!(
    "SELECT t.guid, count(*) AS letters
     FROM dead_letter d JOIN sink s ON s.id = d.sink JOIN tenant t ON t.id = d.tenant WHERE ",
    is_selected!(),
    " GROUP BY t.guid ORDER BY t.guid"
);

/// SQL: makes the observation of the kind `?3` about the dead letters of the sink `?1` and the
/// tenant `?2` begin with the oldest of them.
const BEGIN_WITH_OLDEST: &str = "UPDATE open_observation SET since =
        (SELECT min(d.rejected) FROM dead_letter d JOIN sink s ON s.id = d.sink
         WHERE s.name = ?1 AND d.tenant = ?2)
     WHERE tenant = ?2 AND what = ?3 AND subject = ?1";

impl QueuedDeadLetter {
    /// Identifies this dead letter.
    pub fn key(&self) -> DeadLetterKey {
        DeadLetterKey { sink: self.sink.clone(), event_id: self.event_id }
    }
}

impl DeadLetterFilter {
    /// All dead letters of a sink.
    pub fn of_sink(sink: &SinkName) -> Self {
        Self { sink: Some(sink.clone()), ..Self::default() }
    }

    /// A function that returns whether the filter selects the tenant with a GUID.
    pub(super) fn selects_tenant(&self) -> impl Fn(&str) -> bool {
        let selected: Option<HashSet<String>> =
            self.tenants.as_ref().map(|tenants| tenants.iter().map(ToString::to_string).collect());
        move |guid| selected.as_ref().is_none_or(|selected| selected.contains(guid))
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
        self.reading(|store| find(store, filter, limit))
    }

    /// The number of selected dead letters.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn count_dead_letters(&self, filter: &DeadLetterFilter) -> Result<u64, CheckpointError> {
        let selects_tenant = filter.selects_tenant();
        self.reading(|store| {
            let mut total: u64 = 0;
            store.query(COUNT, values![filter.sink, filter.event_id_prefix], &mut |row| {
                if selects_tenant(&row.get::<String>("guid")?) {
                    total = total.saturating_add(unsigned(row, "letters")?);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(total)
        })
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
        sink: &SinkName,
        tenants: &[TenantId],
        limit: usize,
    ) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
        self.reading(|store| {
            let mut queued = Vec::new();
            store.query(QUEUED, values![sink], &mut |row| {
                let letter = read_dead_letter(row)?;
                if tenants.contains(&letter.tenant) {
                    queued.push(letter);
                }
                Ok(if queued.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
            Ok(queued)
        })
    }

    /// Queues dead letters for a retry, and returns how many of them exist.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn retry_dead_letters(&self, keys: &[DeadLetterKey]) -> Result<u64, CheckpointError> {
        let sql = "UPDATE dead_letter SET retry = TRUE
            WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND event_id = ?2";
        self.claimed(|store| {
            let mut queued = 0;
            for key in keys {
                queued += store.execute(sql, values![key.sink, key.event_id.to_string()])?;
            }
            Ok(queued)
        })
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
        self.claimed(|store| {
            let mut discarded: BTreeMap<(TenantRow, &SinkName), u64> = BTreeMap::new();
            for key in keys {
                for tenant in delete(store, key)? {
                    *discarded.entry((tenant, &key.sink)).or_default() += 1;
                }
            }

            let mut growth = LogGrowth::Unchanged;
            for ((tenant, sink), records) in &discarded {
                growth = growth.and(observe_discard(store, *tenant, sink, *records, now)?);
            }
            Ok((discarded.values().sum(), growth))
        })
    }
}

/// The newest dead letters of all sinks, newest first; at most `limit`. Fails in the same cases as
/// [`Checkpoint::pending_dead_letters`].
pub(super) fn newest_dead_letters(
    store: &dyn Statements,
    limit: u32,
) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
    find(store, &DeadLetterFilter::default(), limit)
}

/// See [`Checkpoint::find_dead_letters`].
fn find(
    store: &dyn Statements,
    filter: &DeadLetterFilter,
    limit: u32,
) -> Result<Vec<QueuedDeadLetter>, CheckpointError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let selects_tenant = filter.selects_tenant();

    let mut found = Vec::new();
    store.query(FIND, values![filter.sink, filter.event_id_prefix], &mut |row| {
        if found.len() >= limit {
            return Ok(ControlFlow::Break(()));
        }
        if selects_tenant(&row.get::<String>("guid")?) {
            found.push(read_dead_letter(row)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

fn read_dead_letter(row: &dyn StoredRow) -> Result<QueuedDeadLetter, CheckpointError> {
    Ok(QueuedDeadLetter {
        id: row.get("id")?,
        sink: row.get("sink")?,
        tenant: tenant_id(&row.get::<String>("guid")?)?,
        at: Position { seq: row.get("seq")?, record_index: row.get("record_index")? },
        day: day(row, "day")?,
        event_id: event_id(row)?,
        reason: row.get("reason")?,
        rejected_at: row.get("rejected")?,
        retry: row.get("retry")?,
    })
}

/// The column `event_id`. Fails with [`CheckpointError::Damaged`] if it is not a valid event ID.
pub(super) fn event_id(row: &dyn StoredRow) -> Result<EventId, CheckpointError> {
    EventId::parse(&row.get::<String>("event_id")?)
        .ok_or_else(|| CheckpointError::Damaged("a dead letter has no valid event ID".to_owned()))
}

/// Deletes the dead letters with a key, and returns the tenant of each of them.
fn delete(store: &dyn Statements, key: &DeadLetterKey) -> Result<Vec<TenantRow>, CheckpointError> {
    let sql = "DELETE FROM dead_letter
        WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND event_id = ?2 RETURNING tenant";
    store.query_all(sql, values![key.sink, key.event_id.to_string()], |row| row.get("tenant"))
}

/// Reports that an operator has discarded records of a tenant: the observation about the dead
/// letters of the sink ends, and begins again if others remain.
fn observe_discard(
    store: &dyn Statements,
    tenant: TenantRow,
    sink: &SinkName,
    records: u64,
    now: UnixMillis,
) -> Result<LogGrowth, CheckpointError> {
    let observe = |phase, details: String| {
        let observation = Observation::of_dead_letters(sink, now.day(), phase, details);
        append_observation(store, tenant, &observation, now)
    };
    let remaining = count_of_tenant(store, sink, tenant)?;

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
    let what = ObservationKind::DeadLetter.as_str();
    store.execute(BEGIN_WITH_OLDEST, values![sink, tenant, what])?;
    Ok(growth.and(begun_again))
}
