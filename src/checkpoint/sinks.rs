//! Sinks that come, go and change their names.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Checkpoint, CheckpointError, commit_poll::observe};
use crate::model::{Day, Observation, Phase, TenantId, What};

impl Checkpoint {
    /// A sink goes on under another name, with its cursors, its mark and its dead letters. `false`
    /// if nothing is known of the old name; an error if both names are in use.
    pub fn rename_sink(&self, old: &str, new: &str, now_ms: i64) -> Result<bool, CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let known = |name: &str| -> Result<bool, CheckpointError> {
            let found = transaction
                .query_row("SELECT 1 FROM sink WHERE name = ?1", [name], |_| Ok(()))
                .optional()?;
            Ok(found.is_some())
        };
        if !known(old)? {
            return Ok(false);
        }
        if known(new)? {
            return Err(CheckpointError::SinkExists(old.to_owned(), new.to_owned()));
        }
        end_observations(&transaction, old, now_ms, &format!("the sink is called `{new}` now"))?;
        transaction.execute("UPDATE sink SET name = ?2 WHERE name = ?1", [old, new])?;
        transaction.commit()?;
        Ok(true)
    }

    /// Forgets a sink: its cursors, its jobs, its dead letters.
    pub fn drop_sink(&self, sink: &str, now_ms: i64) -> Result<(), CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let id: Option<i64> = transaction
            .query_row("SELECT id FROM sink WHERE name = ?1", [sink], |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            end_observations(&transaction, sink, now_ms, "the sink is gone")?;
            for table in ["cursor", "dead_letter", "replay"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE sink = ?1"), [id])?;
            }
            transaction.execute("DELETE FROM sink WHERE id = ?1", [id])?;
        }
        Ok(transaction.commit()?)
    }

    /// How many snapshots of a tenant's log stand from an entry and a day on.
    pub fn count_snapshots(
        &self,
        tenant: TenantId,
        seq: u64,
        from: Day,
    ) -> Result<u64, CheckpointError> {
        let count: i64 = self.connection().query_row(
            "SELECT count(*) FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.seq >= ?2 AND e.day >= ?3 AND e.body IS NOT NULL",
            params![tenant.to_string(), seq.cast_signed(), from.number()],
            |row| row.get(0),
        )?;
        Ok(count.cast_unsigned())
    }
}

/// What has begun about a sink ends with its name: under the next, it begins anew.
fn end_observations(
    connection: &Connection,
    sink: &str,
    now_ms: i64,
    details: &str,
) -> Result<(), CheckpointError> {
    let mut statement = connection.prepare(
        "SELECT tenant, first_day FROM open_observation WHERE what = ?1 AND subject = ?2",
    )?;
    let open: Vec<(i64, i32)> = statement
        .query_map([What::DeadLetter.as_str(), sink], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (tenant, first_day) in open {
        let Some(first_day) = Day::from_number(first_day) else { continue };
        let end = Observation {
            what: What::DeadLetter,
            subject: sink.to_owned(),
            first_day,
            phase: Phase::End,
            details: details.to_owned(),
            hint: None,
        };
        observe(connection, tenant, &end, now_ms)?;
    }
    Ok(())
}
