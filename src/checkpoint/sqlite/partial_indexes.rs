//! Finds entries of partial indexes that have no row, which the integrity check of SQLite does not.
//!
//! Such an index is consistent in itself, so reads succeed, but a later write fails because of it.
//! A power loss on a disk that has reported false synchronizations can cause it. The index is built
//! again like every other damaged index. Start reading at [`findings`]. See decision 0074.

use rusqlite::Connection;

use crate::checkpoint::{CheckpointError, sql::snapshot};

/// An index that contains only some of the rows of its table.
struct PartialIndex {
    name: &'static str,
    table: &'static str,
    /// The condition of its rows, as in the statement that creates the index.
    condition: &'static str,
}

/// Every partial index of the schema.
const PARTIAL_INDEXES: &[PartialIndex] = &[
    partial("entry_day", "entry", concat!("kind = ", snapshot!())),
    partial("entry_body", "entry", "body IS NOT NULL"),
    partial("entry_body_day", "entry", concat!("kind = ", snapshot!(), " AND body IS NOT NULL")),
    partial("entry_catalog", "entry", "catalog IS NOT NULL"),
    partial("body_key_frame", "body", "key_frame IS NOT NULL"),
];

const fn partial(name: &'static str, table: &'static str, condition: &'static str) -> PartialIndex {
    PartialIndex { name, table, condition }
}

/// A message for each index that has another number of entries than its table has matching rows.
///
/// # Errors
///
/// Fails with [`CheckpointError::Damaged`] if the structure of the database is damaged, and if the
/// database cannot be read.
pub(super) fn findings(connection: &Connection) -> Result<Vec<String>, CheckpointError> {
    let mut findings = Vec::new();
    for PartialIndex { name, table, condition } in PARTIAL_INDEXES {
        // SQLite counts the entries without reading their rows, because the index implies the
        // condition.
        let sql = format!(
            "SELECT (SELECT count(*) FROM {table} INDEXED BY {name} WHERE {condition}) AS indexed,
                (SELECT count(*) FROM {table} NOT INDEXED WHERE {condition}) AS stored"
        );
        let (indexed, stored): (i64, i64) =
            connection.query_row(&sql, [], |row| Ok((row.get("indexed")?, row.get("stored")?)))?;
        if indexed != stored {
            findings.push(format!(
                "index `{name}` differs from table `{table}`: {indexed} and {stored} rows"
            ));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use rusqlite::ToSql;

    use super::*;
    use crate::checkpoint::{Checkpoint, StructureRepair, sqlite::directory::DATABASE};

    const ROWS: &str = "
        PRAGMA foreign_keys = OFF;
        INSERT INTO body VALUES (1, 1, 1, x'00');
        INSERT INTO entry (tenant, seq, kind, day, observed, revision, catalog, body)
            VALUES (1, 1, 1, 20000, 1, 1, 1, 1);";

    fn database() -> (tempfile::TempDir, Connection) {
        let directory = tempfile::tempdir().unwrap();
        drop(Checkpoint::open(directory.path()).unwrap());
        let connection = connect(directory.path());
        (directory, connection)
    }

    fn connect(directory: &Path) -> Connection {
        Connection::open(directory.join(DATABASE)).unwrap()
    }

    fn change_schema(directory: &Path, sql: &str, parameters: &[&dyn ToSql]) {
        let connection = connect(directory);
        connection.execute_batch("PRAGMA writable_schema = ON").unwrap();
        assert_eq!(connection.execute(sql, parameters).unwrap(), 1);
    }

    /// Leaves an entry of a row that does not exist: the row is deleted while the index is not a
    /// part of the schema.
    fn damage(index: &PartialIndex) -> tempfile::TempDir {
        let (directory, connection) = database();
        connection.execute_batch(ROWS).unwrap();
        let sql = "SELECT rootpage, sql FROM sqlite_schema WHERE name = ?1";
        let (root, statement): (i64, String) = connection
            .query_row(sql, [index.name], |row| Ok((row.get("rootpage")?, row.get("sql")?)))
            .unwrap();
        drop(connection);

        let path = directory.path();
        change_schema(path, "DELETE FROM sqlite_schema WHERE name = ?1", &[&index.name]);
        connect(path)
            .execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM entry; DELETE FROM body")
            .unwrap();
        change_schema(
            path,
            "INSERT INTO sqlite_schema VALUES ('index', ?1, ?2, ?3, ?4)",
            &[&index.name, &index.table, &root, &statement],
        );
        directory
    }

    #[test]
    fn every_partial_index_is_listed() {
        let (_directory, connection) = database();
        let mut statement = connection
            .prepare(
                "SELECT name, tbl_name, sql FROM sqlite_schema
                 WHERE type = 'index' AND sql LIKE '% WHERE %'",
            )
            .unwrap();
        let rows = statement
            .query_map([], |row| {
                let sql: String = row.get("sql")?;
                let (_, condition) = sql.split_once(" WHERE ").unwrap();
                Ok((row.get("name")?, row.get("tbl_name")?, condition.to_owned()))
            })
            .unwrap();

        let found: BTreeSet<(String, String, String)> = rows.map(Result::unwrap).collect();
        let listed: BTreeSet<(String, String, String)> = PARTIAL_INDEXES
            .iter()
            .map(|index| (index.name.into(), index.table.into(), index.condition.into()))
            .collect();
        assert_eq!(found, listed);
    }

    /// Regression: an index that a power loss had left with an entry of a lost row was not found,
    /// and later writes failed.
    #[test]
    fn entries_without_rows_are_found_and_repaired() {
        for index in PARTIAL_INDEXES {
            let PartialIndex { name, table, .. } = index;
            let directory = damage(index);
            let messages = || -> Vec<String> {
                let report = Checkpoint::open_read_only(directory.path()).unwrap().verify();
                report.unwrap().findings.into_iter().map(|finding| finding.message).collect()
            };

            let expected = format!("index `{name}` differs from table `{table}`: 1 and 0 rows");
            assert_eq!(messages(), [expected]);
            let repaired = Checkpoint::repair_structure(directory.path(), "now").unwrap();
            assert!(matches!(repaired, StructureRepair::Rebuilt(_)), "{name}: {repaired:?}");
            assert!(messages().is_empty(), "{name}");
        }
    }
}
