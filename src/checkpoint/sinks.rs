//! Sinks that come, go and change their names.

use rusqlite::{OptionalExtension, params};

use super::{Checkpoint, CheckpointError};
use crate::model::{Day, TenantId};

impl Checkpoint {
    /// A sink goes on under another name, with its cursors, its mark and its dead letters. `false`
    /// if nothing is known of the old name; an error if both names are in use.
    pub fn rename_sink(&self, old: &str, new: &str) -> Result<bool, CheckpointError> {
        let connection = self.connection();
        let known = |name: &str| -> Result<bool, CheckpointError> {
            let found = connection
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
        connection.execute("UPDATE sink SET name = ?2 WHERE name = ?1", [old, new])?;
        Ok(true)
    }

    /// Forgets a sink: its cursors, its jobs, its dead letters.
    pub fn drop_sink(&self, sink: &str) -> Result<(), CheckpointError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let id: Option<i64> = transaction
            .query_row("SELECT id FROM sink WHERE name = ?1", [sink], |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            for table in ["cursor", "dead_letter", "replay"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE sink = ?1"), [id])?;
            }
            transaction.execute("DELETE FROM sink WHERE id = ?1", [id])?;
        }
        Ok(transaction.commit()?)
    }

    /// How many snapshots of a tenant's log stand from an entry and a day on.
    pub fn extent(&self, tenant: TenantId, seq: u64, from: Day) -> Result<u64, CheckpointError> {
        let count: i64 = self.connection().query_row(
            "SELECT count(*) FROM entry e JOIN tenant t ON t.id = e.tenant
             WHERE t.guid = ?1 AND e.kind = 1 AND e.seq >= ?2 AND e.day >= ?3 AND e.body IS NOT NULL",
            params![tenant.to_string(), seq.cast_signed(), from.number()],
            |row| row.get(0),
        )?;
        Ok(count.cast_unsigned())
    }
}
