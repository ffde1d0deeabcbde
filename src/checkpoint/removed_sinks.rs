//! Sinks that were removed from the configuration. Their cursors, marks, counters, replays and dead
//! letters are kept for a time, so that a sink whose name returns continues where it stopped.
//!
//! A kept sink receives nothing, and its section is not required anymore. Its cursors protect
//! unsent bodies from retention, but only until it is deleted. See decision 0051.

use super::{
    Checkpoint, CheckpointError,
    backend::{Statements, values},
    observations::append_observation,
    row_ids::{SinkRow, TenantRow},
    sinks::{delete_sink, end_observations},
};
use crate::model::{CLOCK_TOLERANCE, Observation, Phase, SinkName, UnixMillis};

/// A sink that the checkpoint contains, with or without a section in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSink {
    pub name: SinkName,
    /// The value of `type` in its section; `None` if only an older release has registered it.
    pub kind: Option<String>,
    /// When it was removed from the configuration; `None` while it is configured.
    pub removed_at: Option<UnixMillis>,
}

/// SQL: marks the sink `?1` as removed at `?2`.
const REMOVE: &str = "UPDATE sink SET removed = ?2 WHERE name = ?1 AND removed IS NULL";

/// SQL: clears the failures of the sink `?1` on all hosts.
const CLEAR_FAILURES: &str =
    "UPDATE sink_host SET last_error = NULL, last_hint = NULL, failure = NULL, failing_since = NULL
     WHERE sink = (SELECT id FROM sink WHERE name = ?1)";

/// SQL: moves the cursors of the sink `?2` forward to those of the sink `?1`.
const MERGE_CURSORS: &str =
    "INSERT INTO cursor (sink, tenant, epoch, seq, record_index, floor, active)
     SELECT ?2, o.tenant, o.epoch, o.seq, o.record_index, o.floor, o.active FROM cursor o WHERE o.sink = ?1
     ON CONFLICT (sink, tenant) DO UPDATE
     SET seq = excluded.seq, record_index = excluded.record_index, floor = excluded.floor, epoch = excluded.epoch
     WHERE (excluded.seq, excluded.record_index) > (cursor.seq, cursor.record_index)";

/// SQL: adds the counts of the sink `?1` to those of the sink `?2`.
const MERGE_COUNTS: &str =
    "INSERT INTO sink_shard (sink, shard, sent, rejected, truncated, last_acknowledgement)
     SELECT ?2, o.shard, o.sent, o.rejected, o.truncated, o.last_acknowledgement FROM sink_shard o WHERE o.sink = ?1
     ON CONFLICT (sink, shard) DO UPDATE
     SET sent = sink_shard.sent + excluded.sent, rejected = sink_shard.rejected + excluded.rejected,
        truncated = sink_shard.truncated + excluded.truncated,
        last_acknowledgement = coalesce(sink_shard.last_acknowledgement, excluded.last_acknowledgement)";

/// SQL: gives the sink `?2` the marks of the sink `?1`, but keeps those that it has, because they
/// belong to the connections that this sink has opened.
const MERGE_MARKS: &str = "INSERT INTO sink_host (sink, host, mark)
     SELECT ?2, o.host, o.mark FROM sink_host o WHERE o.sink = ?1
     ON CONFLICT (sink, host) DO UPDATE SET mark = coalesce(sink_host.mark, excluded.mark)";

/// SQL: deletes the dead letters of the sink `?1` that the sink `?2` has too. A record that both
/// receivers rejected is one dead letter.
const DELETE_COMMON_DEAD_LETTERS: &str = "DELETE FROM dead_letter WHERE sink = ?1 AND EXISTS
        (SELECT 1 FROM dead_letter o WHERE o.sink = ?2 AND o.tenant = dead_letter.tenant
           AND o.seq = dead_letter.seq AND o.record_index = dead_letter.record_index)";

/// SQL: the newest dead letter of the sink `?1` for each tenant.
const NEWEST_OF_TENANTS: &str =
    "SELECT d.tenant, d.reason FROM dead_letter d JOIN sink s ON s.id = d.sink
     WHERE s.name = ?1 AND NOT EXISTS
        (SELECT 1 FROM dead_letter n WHERE n.sink = d.sink AND n.tenant = d.tenant AND n.id > d.id)
     ORDER BY d.tenant";

impl Checkpoint {
    /// All sinks, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn stored_sinks(&self) -> Result<Vec<StoredSink>, CheckpointError> {
        let sql = "SELECT name, type, removed FROM sink ORDER BY id";
        self.reading(|store| {
            store.query_all(sql, values![], |row| {
                Ok(StoredSink {
                    name: row.get("name")?,
                    kind: row.get("type")?,
                    removed_at: row.get("removed")?,
                })
            })
        })
    }

    /// The number of log entries that a sink has not received completely. For a removed sink, they
    /// include those that were appended after its removal.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Checkpoint::pending`].
    pub fn unsent_entries(&self, sink: &SinkName) -> Result<u64, CheckpointError> {
        Ok(self.pending(sink)?.iter().map(|pending| pending.entries).sum())
    }

    /// Marks a sink as removed from the configuration, and ends the observations about it. Deletes
    /// nothing. A sink that is marked already keeps the time of its removal.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written; an unknown sink is not an
    /// error.
    pub fn remove_sink(&self, sink: &SinkName, now: UnixMillis) -> Result<(), CheckpointError> {
        self.administrative(|store| {
            end_observations(store, sink, now, "the sink was removed")?;
            if store.execute(REMOVE, values![sink, now])? > 0 {
                // When the sink returns, its last failure is out of date.
                store.execute(CLEAR_FAILURES, values![sink])?;
            }
            Ok(())
        })
    }

    /// Takes a removed sink up again: it continues from its cursors, and the observations about its
    /// dead letters begin again. Returns whether the sink was marked as removed.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn restore_sink(&self, sink: &SinkName, now: UnixMillis) -> Result<bool, CheckpointError> {
        let sql = "UPDATE sink SET removed = NULL WHERE name = ?1 AND removed IS NOT NULL";
        self.administrative(|store| {
            let is_restored = store.execute(sql, values![sink])? > 0;
            if is_restored {
                begin_observations(store, sink, now)?;
            }
            Ok(is_restored)
        })
    }

    /// Corrects the time of sinks that were removed while the clock was ahead: they count as
    /// removed at `now`.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn correct_removal_times(&self, now: UnixMillis) -> Result<(), CheckpointError> {
        let latest = now.saturating_add(CLOCK_TOLERANCE);
        let sql = "UPDATE sink SET removed = ?1 WHERE removed > ?2";
        self.claimed(|store| store.execute(sql, values![now, latest]))?;
        Ok(())
    }

    /// Deletes the sinks that were removed at this time or earlier, with everything that belongs to
    /// them. Returns their names.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn delete_removed_sinks(
        &self,
        until: UnixMillis,
    ) -> Result<Vec<SinkName>, CheckpointError> {
        let sql = "SELECT id, name FROM sink WHERE removed <= ?1 ORDER BY id";
        self.change_sinks(
            |store| {
                let expired: Vec<(SinkRow, SinkName)> =
                    store.query_all(sql, values![until], |row| {
                        Ok((row.get("id")?, row.get("name")?))
                    })?;
                for (row, _) in &expired {
                    delete_sink(store, *row)?;
                }
                Ok(expired.into_iter().map(|(_, name)| name).collect())
            },
            |saved, expired: &Vec<SinkName>| {
                saved.forget_removed(until);
                for name in expired {
                    saved.forget_sink(name);
                }
            },
        )
    }
}

/// Merges a removed sink into another one, which then continues after everything that either of
/// them has sent. Deletes the removed sink; the two are never the same. Fails if the database
/// cannot be written.
pub(super) fn merge_sink(
    store: &dyn Statements,
    from: SinkRow,
    into: SinkRow,
    now: UnixMillis,
) -> Result<(), CheckpointError> {
    for sql in [
        MERGE_CURSORS,
        MERGE_COUNTS,
        MERGE_MARKS,
        DELETE_COMMON_DEAD_LETTERS,
        "UPDATE dead_letter SET sink = ?2 WHERE sink = ?1",
        "UPDATE replay SET sink = ?2 WHERE sink = ?1",
    ] {
        store.execute(sql, values![from, into])?;
    }
    delete_sink(store, from)?;

    // The observations about a sink that is itself removed begin again when it returns.
    let sql = "SELECT name FROM sink WHERE id = ?1 AND removed IS NULL";
    let configured: Option<SinkName> =
        store.query_optional(sql, values![into], |row| row.get("name"))?;
    match configured {
        Some(name) => begin_observations(store, &name, now),
        None => Ok(()),
    }
}

/// Begins the observation about the dead letters of a sink for each of their tenants, unless it is
/// open.
fn begin_observations(
    store: &dyn Statements,
    sink: &SinkName,
    now: UnixMillis,
) -> Result<(), CheckpointError> {
    let rejected: Vec<(TenantRow, String)> =
        store.query_all(NEWEST_OF_TENANTS, values![sink], |row| {
            Ok((row.get("tenant")?, row.get("reason")?))
        })?;

    for (tenant, details) in rejected {
        let begin = Observation::of_dead_letters(sink, now.day(), Phase::Begin, details);
        // No deliverer is running; each of them reads the log when it starts.
        let _ = append_observation(store, tenant, &begin, now)?;
    }
    Ok(())
}
