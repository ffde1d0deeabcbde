//! Configures, renames and removes sinks. Renaming and removing end the open observations about the
//! sink, because their subject is its name. The daemon calls them only when the configuration
//! requests it: a sink that is merely removed from the configuration keeps its backlog.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Checkpoint, CheckpointError,
    commit_poll::append_observation,
    row_ids::{SinkRow, TenantRow},
};
use crate::model::{Day, Observation, ObservationKind, Phase, UnixMillis};

/// Which entries a sink receives. The others do not count as backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFilter {
    /// Snapshots and observations.
    All,
    /// Snapshots only.
    Snapshots,
}

impl Checkpoint {
    /// Stores which entries a sink receives; a new sink receives snapshots only.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written; an unknown sink is not an error.
    pub fn set_entry_filter(&self, sink: &str, filter: EntryFilter) -> Result<(), CheckpointError> {
        let quality = filter == EntryFilter::All;
        self.connection()
            .execute("UPDATE sink SET quality = ?2 WHERE name = ?1", params![sink, quality])?;
        Ok(())
    }

    /// Renames a sink, which keeps its cursors, mark and dead letters. Returns `false` if no sink has
    /// the old name; fails with [`CheckpointError::SinkExists`] if one has the new name.
    pub fn rename_sink(
        &self,
        old: &str,
        new: &str,
        now: UnixMillis,
    ) -> Result<bool, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        let exists = |name: &str| -> Result<bool, CheckpointError> {
            let found = transaction
                .query_row("SELECT 1 FROM sink WHERE name = ?1", [name], |_| Ok(()))
                .optional()?;
            Ok(found.is_some())
        };
        if !exists(old)? {
            return Ok(false);
        }
        if exists(new)? {
            return Err(CheckpointError::SinkExists(old.to_owned(), new.to_owned()));
        }

        end_observations(&transaction, old, now, &format!("the sink was renamed to `{new}`"))?;
        transaction.execute("UPDATE sink SET name = ?2 WHERE name = ?1", [old, new])?;
        transaction.commit()?;
        Ok(true)
    }

    /// Deletes a sink with its cursors, replays and dead letters. Does nothing if it does not
    /// exist.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn drop_sink(&self, sink: &str, now: UnixMillis) -> Result<(), CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;

        let id: Option<SinkRow> = transaction
            .query_row("SELECT id FROM sink WHERE name = ?1", [sink], |row| row.get("id"))
            .optional()?;
        if let Some(id) = id {
            end_observations(&transaction, sink, now, "the sink was removed")?;
            for table in ["cursor", "dead_letter", "replay"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE sink = ?1"), [id])?;
            }
            transaction.execute("DELETE FROM sink WHERE id = ?1", [id])?;
        }

        Ok(transaction.commit()?)
    }
}

/// Ends the open observations about a sink, whose subject is its name. If the cause persists under
/// a new name, they begin again with that name.
fn end_observations(
    connection: &Connection,
    sink: &str,
    now: UnixMillis,
    details: &str,
) -> Result<(), CheckpointError> {
    let mut statement = connection.prepare(
        "SELECT tenant, first_day FROM open_observation WHERE what = ?1 AND subject = ?2",
    )?;
    let open: Vec<(TenantRow, i32)> = statement
        .query_map([ObservationKind::DeadLetter.as_str(), sink], |row| {
            Ok((row.get("tenant")?, row.get("first_day")?))
        })?
        .collect::<Result<_, _>>()?;

    for (tenant, first_day) in open {
        let Some(first_day) = Day::from_number(first_day) else { continue };
        let end = Observation {
            what: ObservationKind::DeadLetter,
            subject: sink.to_owned(),
            first_day,
            phase: Phase::End,
            details: details.to_owned(),
            hint: None,
        };
        append_observation(connection, tenant, &end, now)?;
    }
    Ok(())
}
