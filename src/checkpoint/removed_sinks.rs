//! Sinks that were removed from the configuration. Their cursors, marks, counters, replays and dead
//! letters are kept for a time, so that a sink whose name returns continues where it stopped.
//!
//! A kept sink receives nothing, and its section is not required anymore. Its cursors protect
//! unsent bodies from retention, but only until it is deleted. See decision 0051.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Checkpoint, CheckpointError,
    commit_poll::append_observation,
    row_ids::{SinkRow, TenantRow},
    sinks::{delete_sink, end_observations},
};
use crate::model::{CLOCK_TOLERANCE, Observation, Phase, UnixMillis};

/// A sink that the checkpoint contains, with or without a section in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSink {
    pub name: String,
    /// The value of `type` in its section; `None` if only an older release has registered it.
    pub kind: Option<String>,
    /// When it was removed from the configuration; `None` while it is configured.
    pub removed_at: Option<UnixMillis>,
}

impl Checkpoint {
    /// All sinks, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn stored_sinks(&self) -> Result<Vec<StoredSink>, CheckpointError> {
        let connection = self.connection();
        let mut statement =
            connection.prepare_cached("SELECT name, type, removed FROM sink ORDER BY id")?;
        let sinks = statement.query_map([], |row| {
            Ok(StoredSink {
                name: row.get("name")?,
                kind: row.get("type")?,
                removed_at: row.get("removed")?,
            })
        })?;
        Ok(sinks.collect::<Result<_, _>>()?)
    }

    /// The number of log entries that a sink has not received completely. For a removed sink, they
    /// include those that were appended after its removal.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Checkpoint::pending`].
    pub fn unsent_entries(&self, sink: &str) -> Result<u64, CheckpointError> {
        Ok(self.pending(sink)?.iter().map(|pending| pending.entries).sum())
    }

    /// Marks a sink as removed from the configuration, and ends the observations about it. Deletes
    /// nothing. A sink that is marked already keeps the time of its removal.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written; an unknown sink is not an
    /// error.
    pub fn remove_sink(&self, sink: &str, now: UnixMillis) -> Result<(), CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        end_observations(&transaction, sink, now, "the sink was removed")?;
        // When the sink returns, its last failure is out of date.
        transaction.execute(
            "UPDATE sink SET removed = ?2, last_error = NULL, last_hint = NULL, failure = NULL, failing_since = NULL
             WHERE name = ?1 AND removed IS NULL",
            params![sink, now],
        )?;

        Ok(transaction.commit()?)
    }

    /// Takes a removed sink up again: it continues from its cursors, and the observations about its
    /// dead letters begin again. Returns whether the sink was marked as removed.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn restore_sink(&self, sink: &str, now: UnixMillis) -> Result<bool, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        let restored = transaction.execute(
            "UPDATE sink SET removed = NULL WHERE name = ?1 AND removed IS NOT NULL",
            [sink],
        )? > 0;
        if restored {
            begin_observations(&transaction, sink, now)?;
        }

        transaction.commit()?;
        Ok(restored)
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
        self.connection().execute(sql, [now, latest])?;
        Ok(())
    }

    /// Deletes the sinks that were removed at this time or earlier, with everything that belongs to
    /// them. Returns their names.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn delete_removed_sinks(&self, until: UnixMillis) -> Result<Vec<String>, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        let expired: Vec<(SinkRow, String)> = transaction
            .prepare_cached("SELECT id, name FROM sink WHERE removed <= ?1 ORDER BY id")?
            .query_map([until], |row| Ok((row.get("id")?, row.get("name")?)))?
            .collect::<Result<_, _>>()?;
        for (row, _) in &expired {
            delete_sink(&transaction, *row)?;
        }

        transaction.commit()?;
        let mut saved = self.saved_cursors();
        saved.forget_removed(until);
        for (_, name) in &expired {
            saved.forget_sink(name);
        }
        Ok(expired.into_iter().map(|(_, name)| name).collect())
    }
}

/// Merges a removed sink into another one, which then continues after everything that either of
/// them has sent. Deletes the removed sink. Fails if the database cannot be written.
pub(super) fn merge_sink(
    connection: &Connection,
    from: SinkRow,
    into: SinkRow,
    now: UnixMillis,
) -> Result<(), CheckpointError> {
    connection.execute(
        "INSERT INTO cursor (sink, tenant, epoch, seq, record_index, floor, active)
         SELECT ?2, o.tenant, o.epoch, o.seq, o.record_index, o.floor, o.active FROM cursor o WHERE o.sink = ?1
         ON CONFLICT DO UPDATE SET seq = excluded.seq, record_index = excluded.record_index, floor = excluded.floor
         WHERE (excluded.seq, excluded.record_index) > (cursor.seq, cursor.record_index)",
        params![from, into],
    )?;
    // The mark of the other sink belongs to the connection that it has opened.
    connection.execute(
        "UPDATE sink SET sent = sink.sent + o.sent, rejected = sink.rejected + o.rejected,
            truncated = sink.truncated + o.truncated, mark = coalesce(sink.mark, o.mark),
            last_acknowledgement = coalesce(sink.last_acknowledgement, o.last_acknowledgement)
         FROM (SELECT * FROM sink WHERE id = ?1) AS o WHERE sink.id = ?2",
        params![from, into],
    )?;

    // A record that both receivers rejected is one dead letter.
    connection.execute(
        "DELETE FROM dead_letter WHERE sink = ?1 AND EXISTS
            (SELECT 1 FROM dead_letter o WHERE o.sink = ?2 AND o.tenant = dead_letter.tenant AND o.seq = dead_letter.seq
               AND o.record_index = dead_letter.record_index)",
        params![from, into],
    )?;
    for table in ["dead_letter", "replay"] {
        let sql = format!("UPDATE {table} SET sink = ?2 WHERE sink = ?1");
        connection.execute(&sql, params![from, into])?;
    }
    delete_sink(connection, from)?;

    // The observations about a sink that is itself removed begin again when it returns.
    let configured: Option<String> = connection
        .query_row("SELECT name FROM sink WHERE id = ?1 AND removed IS NULL", [into], |row| {
            row.get("name")
        })
        .optional()?;
    match configured {
        Some(name) => begin_observations(connection, &name, now),
        None => Ok(()),
    }
}

/// Begins the observation about the dead letters of a sink for each of their tenants, unless it is
/// open.
fn begin_observations(
    connection: &Connection,
    sink: &str,
    now: UnixMillis,
) -> Result<(), CheckpointError> {
    // SQLite takes `reason` from the row with the highest ID.
    let mut statement = connection.prepare_cached(
        "SELECT d.tenant, d.reason, max(d.id) AS newest FROM dead_letter d JOIN sink s ON s.id = d.sink
         WHERE s.name = ?1 GROUP BY d.tenant",
    )?;
    let rejected: Vec<(TenantRow, String)> = statement
        .query_map([sink], |row| Ok((row.get("tenant")?, row.get("reason")?)))?
        .collect::<Result<_, _>>()?;

    for (tenant, details) in rejected {
        let begin = Observation::of_dead_letters(sink, now.day(), Phase::Begin, details);
        // No deliverer is running; each of them reads the log when it starts.
        let _ = append_observation(connection, tenant, &begin, now)?;
    }
    Ok(())
}
