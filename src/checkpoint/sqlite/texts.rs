//! Finds and repairs texts of the database that are not valid UTF-8, which no statement could read.
//!
//! SQLite stores the bytes of a text without checking them, so a damaged disk can make a text
//! unreadable although the structure of the database is intact. The table of columns states what is
//! lost with each text: never a snapshot. Start reading at [`COLUMNS`]. See decision 0074.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::continuity::assign_new_id;
use crate::checkpoint::{
    CheckpointError, CursorFile,
    backend::{Statements, values},
    sinks::delete_sink,
};

/// A column that contains texts, and how a text is repaired.
struct TextColumn {
    table: &'static str,
    column: &'static str,
    remedy: TextRemedy,
}

/// How a text that is not valid UTF-8 is repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextRemedy {
    /// It is removed, because the next result replaces it.
    Clear,
    /// Its invalid bytes are replaced with U+FFFD.
    Replace,
    /// Its row is deleted, because it is created again or has no meaning without the text.
    DeleteRow,
    /// The sink is deleted with everything that refers to it. It is created again from the second
    /// cursor file.
    DeleteSink,
    /// It cannot be repaired.
    Keep,
}
use TextRemedy::{Clear, DeleteRow, DeleteSink, Keep, Replace};

/// Every column of the schema that contains texts.
const COLUMNS: &[TextColumn] = &[
    text("meta", "key", DeleteRow),
    text("meta", "value", DeleteRow),
    text("tenant", "guid", Keep),
    text("tenant", "last_error", Clear),
    text("tenant", "last_hint", Clear),
    text("tenant", "error_class", Clear),
    text("domain", "domain", DeleteRow),
    text("domain", "guid", DeleteRow),
    text("entry", "snapshot_id", Replace),
    text("entry", "what", Replace),
    text("entry", "subject", Replace),
    text("entry", "phase", Replace),
    text("entry", "details", Replace),
    text("entry", "hint", Clear),
    // The facts are then derived again from the bodies, with the name that Microsoft sent.
    text("control", "name", Replace),
    text("open_observation", "what", DeleteRow),
    text("open_observation", "subject", DeleteRow),
    text("open_observation", "details", Replace),
    text("open_observation", "hint", Clear),
    text("sink", "name", DeleteSink),
    text("sink", "type", Clear),
    // The registration of the sink creates the row again, without the mark.
    text("sink_host", "host", DeleteRow),
    text("sink_host", "last_error", Clear),
    text("sink_host", "last_hint", Clear),
    text("sink_host", "failure", Clear),
    text("shard", "owner", Clear),
    text("dead_letter", "event_id", DeleteRow),
    text("dead_letter", "reason", Replace),
    // The other columns show which command it is.
    text("queued_command", "command", Replace),
    text("baseline", "name", Replace),
    text("baseline", "targets", DeleteRow),
    text("unresolved_domain", "domain", DeleteRow),
    text("unresolved_domain", "last_error", Replace),
    text("unresolved_domain", "last_hint", Clear),
    text("unresolved_domain", "error_class", Replace),
];

const fn text(table: &'static str, column: &'static str, remedy: TextRemedy) -> TextColumn {
    TextColumn { table, column, remedy }
}

/// One message for each column that contains texts that are not valid UTF-8. Fails only if the
/// database cannot be read.
pub(super) fn findings(connection: &Connection) -> Result<Vec<String>, CheckpointError> {
    let mut findings = Vec::new();
    for column in COLUMNS {
        let count: usize = column.invalid_texts(connection)?.values().sum();
        if count > 0 {
            let TextColumn { table, column, .. } = column;
            let texts = if count == 1 { "text" } else { "texts" };
            findings.push(format!("{count} {texts} in `{table}.{column}` cannot be read as UTF-8"));
        }
    }
    Ok(findings)
}

/// Repairs all texts that can be repaired, and returns their number. `saved` is the second cursor
/// file. Fails only if the database cannot be read or written.
pub(super) fn repair(
    connection: &Connection,
    saved: Option<&CursorFile>,
) -> Result<usize, CheckpointError> {
    let (mut repaired, mut has_lost_sink) = (0, false);
    for column in COLUMNS.iter().filter(|column| column.remedy != Keep) {
        for (bytes, count) in column.invalid_texts(connection)? {
            column.repair(connection, &bytes)?;
            repaired += count;
            has_lost_sink |= column.remedy == DeleteSink;
        }
    }

    let sql = "SELECT count(*) AS ids FROM meta WHERE key = 'checkpoint_id'";
    let ids: i64 = connection.query_row(sql, [], |row| row.get("ids"))?;
    // The cursors of the second cursor file apply only to a checkpoint with a new ID.
    if ids == 0 || has_lost_sink {
        assign_new_id(connection, saved)?;
    }
    Ok(repaired)
}

impl TextColumn {
    /// The different texts that are not valid UTF-8, each with the number of its rows.
    fn invalid_texts(
        &self,
        connection: &Connection,
    ) -> Result<BTreeMap<Vec<u8>, usize>, CheckpointError> {
        let Self { table, column, .. } = self;
        let sql = format!(
            "SELECT CAST({column} AS BLOB) AS bytes FROM {table} NOT INDEXED WHERE {column} IS NOT NULL"
        );
        let mut statement = connection.prepare(&sql)?;

        let mut invalid = BTreeMap::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let bytes: Vec<u8> = row.get("bytes")?;
            if std::str::from_utf8(&bytes).is_err() {
                *invalid.entry(bytes).or_default() += 1;
            }
        }
        Ok(invalid)
    }

    /// Repairs every row that has this text in the column.
    fn repair(&self, connection: &Connection, bytes: &[u8]) -> Result<(), CheckpointError> {
        let Self { table, column, remedy } = self;
        // An index may have another order than its texts, so it must not be used.
        let condition = format!("CAST({column} AS BLOB) = ?1");

        match remedy {
            Clear => {
                let sql = format!("UPDATE {table} SET {column} = NULL WHERE {condition}");
                connection.execute(&sql, [bytes])?;
            }
            Replace => {
                let sql = format!("UPDATE {table} SET {column} = ?2 WHERE {condition}");
                connection.execute(&sql, params![bytes, String::from_utf8_lossy(bytes)])?;
            }
            DeleteRow => {
                connection.execute(&format!("DELETE FROM {table} WHERE {condition}"), [bytes])?;
            }
            DeleteSink => {
                let store: &dyn Statements = connection;
                // Only the name of a sink has this remedy.
                let sql = "SELECT id FROM sink WHERE CAST(name AS BLOB) = ?1";
                let id = store.query_one(sql, values![bytes], |row| row.get("id"))?;
                delete_sink(store, id)?;
            }
            Keep => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::checkpoint::{Checkpoint, sqlite::directory::DATABASE};

    /// An empty database of this version.
    fn database() -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().unwrap();
        drop(Checkpoint::open(directory.path()).unwrap());
        let connection = Connection::open(directory.path().join(DATABASE)).unwrap();
        (directory, connection)
    }

    #[test]
    fn every_text_column_has_a_remedy() {
        let (_directory, connection) = database();
        let mut statement = connection
            .prepare(
                "SELECT m.name || '.' || c.name AS name FROM sqlite_schema m, pragma_table_info(m.name) c
                 WHERE m.type = 'table' AND c.type = 'TEXT'",
            )
            .unwrap();
        let found: BTreeSet<String> =
            statement.query_map([], |row| row.get("name")).unwrap().map(Result::unwrap).collect();
        let listed: BTreeSet<String> =
            COLUMNS.iter().map(|column| format!("{}.{}", column.table, column.column)).collect();
        assert_eq!(found, listed);
        assert_eq!(COLUMNS.len(), listed.len());
    }

    /// Regression: a text that was not valid UTF-8 could be removed neither by `state repair` nor
    /// by `state repair --set-aside`.
    #[test]
    fn every_invalid_text_is_found_and_repaired() {
        const ROWS: &str = "
            INSERT INTO tenant (guid) VALUES ('t'); INSERT INTO sink (name) VALUES ('s');
            INSERT INTO domain VALUES ('d', 'g'); INSERT INTO control VALUES (1, 'c');
            INSERT INTO entry (tenant, seq, kind, day, observed) VALUES (2, 1, 2, 1, 1);
            INSERT INTO open_observation (tenant, what, subject, first_day) VALUES (2, 'w', 's', 1);
            INSERT INTO sink_host (sink, host) VALUES (1, '-');
            INSERT INTO cursor VALUES (1, 2, 0, 1, 0, 1, 1);
            INSERT INTO queued_command VALUES (1, 2, 'backfill', 1, NULL, 1);
            INSERT INTO dead_letter (sink, tenant, seq, record_index, event_id, reason, rejected)
                VALUES (1, 2, 1, 0, 'e', 'r', 1);
            INSERT INTO baseline VALUES (2, 1, 'b', NULL, 1, 't');
            INSERT INTO unresolved_domain VALUES ('d', 1, 1, 'e', NULL, 'c', NULL);";

        for column in COLUMNS {
            let (_directory, connection) = database();
            connection.execute_batch(ROWS).unwrap();
            connection.execute_batch("PRAGMA foreign_keys = ON").unwrap();
            let TextColumn { table, column: name, remedy } = column;
            let sql = format!(
                "UPDATE {table} SET {name} = CAST(x'61ff62' AS TEXT) WHERE rowid = (SELECT max(rowid) FROM {table})"
            );
            let of_key = format!("UPDATE {table} SET {name} = CAST(x'61ff62' AS TEXT)");
            // A table without row IDs has only one row here.
            let updated = connection.execute(&sql, []).or_else(|_| connection.execute(&of_key, []));
            assert_eq!(updated.unwrap(), 1, "{table}.{name}");

            let found = findings(&connection).unwrap();
            assert_eq!(found, [format!("1 text in `{table}.{name}` cannot be read as UTF-8")]);
            let repaired = repair(&connection, None).unwrap();
            assert_eq!(repaired, usize::from(*remedy != Keep), "{table}.{name}");
            let remaining = findings(&connection).unwrap();
            assert_eq!(remaining.is_empty(), *remedy != Keep, "{table}.{name}");
        }
    }
}
