//! The backend: scopes, values of all types, and rows by the names of their columns.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use super::{directory::DATABASE, *};
use crate::checkpoint::{
    StorageFault,
    backend::{Epoch, ShardId, values},
    meta,
};

/// A database in memory with an empty table that has a column for each type.
fn backend() -> SqliteBackend {
    let backend = SqliteBackend::in_memory().unwrap();
    let table =
        "CREATE TABLE sample (id INTEGER PRIMARY KEY, number INTEGER, text TEXT, bytes BLOB)";
    backend.connection().execute_batch(table).unwrap();
    backend
}

fn claim() -> Claim {
    Claim::new(ShardId::ONLY, Epoch::FIRST, 0)
}

/// The result of `work` in a transaction that is committed.
fn change<T>(
    backend: &SqliteBackend,
    work: impl FnOnce(&dyn Statements) -> Result<T, CheckpointError>,
) -> Result<T, CheckpointError> {
    let transaction = backend.begin(Scope::Administrative)?;
    let value = work(&*transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn insert(store: &dyn Statements, id: i64) -> Result<u64, CheckpointError> {
    store.execute("INSERT INTO sample (id, number) VALUES (?1, ?1 * 10)", values![id])
}

const SELECT_IDS: &str = "SELECT id FROM sample ORDER BY id";

fn ids(store: &dyn Statements) -> Result<Vec<i64>, CheckpointError> {
    store.query_all(SELECT_IDS, values![], |row| row.get("id"))
}

/// The IDs that another transaction reads.
fn stored_ids(backend: &SqliteBackend) -> Vec<i64> {
    let transaction = backend.begin(Scope::Read).unwrap();
    ids(&*transaction).unwrap()
}

#[test]
fn every_scope_commits_or_rolls_back() {
    let (backend, claim) = (backend(), claim());
    let scopes = [Scope::Claimed(&claim), Scope::Administrative, Scope::Unsynced];
    let mut expected = Vec::new();
    for (id, scope) in (1..).zip(scopes) {
        let transaction = backend.begin(scope).unwrap();
        assert_eq!(insert(&*transaction, -id).unwrap(), 1);
        drop(transaction);
        assert_eq!(stored_ids(&backend), expected, "{scope:?}");

        let transaction = backend.begin(scope).unwrap();
        insert(&*transaction, id).unwrap();
        transaction.commit().unwrap();
        expected.push(id);
        assert_eq!(stored_ids(&backend), expected, "{scope:?}");

        let sql = "PRAGMA synchronous";
        let level: i64 =
            backend.connection().query_row(sql, [], |row| row.get("synchronous")).unwrap();
        assert_eq!(level, 2, "{scope:?}: 2 is FULL");
    }
    assert_eq!(backend.resolve(&claim).unwrap(), CommitOutcome::Applied);
    assert_eq!(claim.writes(), 1, "only a committed write counts");
    assert_eq!(backend.resolve(&claim).unwrap(), CommitOutcome::NotApplied);
}

#[test]
fn a_read_sees_one_state() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let other = Connection::open(directory.path().join(DATABASE)).unwrap();
    let write = |key: &str| {
        other.execute("INSERT INTO meta (key, value) VALUES (?1, '')", [key]).unwrap();
    };

    let transaction = checkpoint.sqlite.begin(Scope::Read).unwrap();
    assert!(meta::value(&*transaction, "a").unwrap().is_none());
    write("a");
    assert!(meta::value(&*transaction, "a").unwrap().is_none());
    drop(transaction);

    let transaction = checkpoint.sqlite.begin(Scope::Read).unwrap();
    assert!(meta::value(&*transaction, "a").unwrap().is_some());
}

/// A writer that has read does not fail because another connection has written since.
#[test]
fn a_writer_excludes_other_writers() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let other = Connection::open(directory.path().join(DATABASE)).unwrap();
    other.busy_timeout(Duration::ZERO).unwrap();

    for scope in [Scope::Administrative, Scope::Unsynced, Scope::Claimed(&claim())] {
        let transaction = checkpoint.sqlite.begin(scope).unwrap();
        let written = other.execute("DELETE FROM meta WHERE key = 'a'", []);
        let error = CheckpointError::from(written.unwrap_err());
        assert_eq!(error.storage_fault(), Some(StorageFault::Busy), "{scope:?}");
        meta::set(&*transaction, "a", "1").unwrap();
        transaction.commit().unwrap();
    }
}

#[test]
fn a_panic_rolls_back_and_releases() {
    let (backend, claim) = (backend(), claim());
    let interrupted = || {
        let transaction = backend.begin(Scope::Claimed(&claim)).unwrap();
        insert(&*transaction, 1).unwrap();
        panic!("interrupted");
    };
    assert!(catch_unwind(AssertUnwindSafe(interrupted)).is_err());

    assert!(stored_ids(&backend).is_empty());
    change(&backend, |store| insert(store, 2)).unwrap();
    assert_eq!((stored_ids(&backend), claim.writes()), (vec![2], 0));
}

#[test]
fn values_of_every_type_are_stored() {
    let backend = backend();
    let id: i64 = change(&backend, |store| {
        let sql = "INSERT INTO sample (number, text, bytes) VALUES (?1, ?2, ?3) RETURNING id";
        store.query_one(sql, values![i64::MIN, "ä\0\u{1F600}", [0_u8, 255]], |row| row.get("id"))
    })
    .unwrap();
    change(&backend, |store| {
        let sql = "INSERT INTO sample (number, text, bytes) VALUES (?1, ?2, ?3)";
        store.execute(sql, values![true, None::<String>, None::<Vec<u8>>])
    })
    .unwrap();

    let transaction = backend.begin(Scope::Read).unwrap();
    let store: &dyn Statements = &*transaction;
    let sql = "SELECT number, text, bytes FROM sample WHERE id = ?1";
    let stored = store.query_one(sql, values![id], |row| {
        assert_eq!(row.value("text")?, SqlValue::Text("ä\0\u{1F600}"));
        Ok((row.get::<i64>("number")?, row.get::<Vec<u8>>("bytes")?))
    });
    assert_eq!(stored.unwrap(), (i64::MIN, vec![0, 255]));
    let stored = store.query_one(sql, values![id + 1], |row| {
        assert_eq!(row.value("number")?, SqlValue::Int(1));
        assert_eq!((row.value("text")?, row.value("bytes")?), (SqlValue::Null, SqlValue::Null));
        row.get::<bool>("number")
    });
    assert!(stored.unwrap());
}

#[test]
fn a_missing_row_is_none_or_damage() {
    let backend = backend();
    let transaction = backend.begin(Scope::Read).unwrap();
    let store: &dyn Statements = &*transaction;

    let sql = "SELECT id FROM sample WHERE id = ?1";
    let optional = store.query_optional(sql, values![1_i64], |row| row.get::<i64>("id"));
    assert_eq!(optional.unwrap(), None);
    let one = store.query_one(sql, values![1_i64], |row| row.get::<i64>("id"));
    assert!(matches!(one, Err(CheckpointError::Damaged(_))), "{one:?}");
    assert!(store.query_all(sql, values![1_i64], |row| row.get::<i64>("id")).unwrap().is_empty());
}

/// The columns of later rows are found by the addresses of their names, in any order.
#[test]
fn columns_are_read_in_any_order() {
    // The same name as another constant, at another address.
    let copy: &'static str = "number".to_owned().leak();
    let orders: [&[&'static str]; 5] = [
        &["id", "number"],
        &["number", "id"],
        &["number", "number", "id"],
        &[copy, "number", "id", copy],
        &["text", "id"],
    ];

    let backend = backend();
    change(&backend, |store| (1..=3).try_for_each(|id| insert(store, id).map(drop))).unwrap();
    let transaction = backend.begin(Scope::Read).unwrap();
    for first in orders {
        for later in orders {
            let mut rows = 0;
            let sql = "SELECT id, number, text FROM sample ORDER BY id";
            let read = transaction.query(sql, values![], &mut |row| {
                rows += 1;
                for &column in if rows == 1 { first } else { later } {
                    let expected = match column {
                        "id" => SqlValue::Int(rows),
                        "number" => SqlValue::Int(rows * 10),
                        _ => SqlValue::Null,
                    };
                    assert_eq!(row.value(column)?, expected, "{first:?}, {later:?}: {column}");
                }
                Ok(ControlFlow::Continue(()))
            });
            read.unwrap();
            assert_eq!(rows, 3);
        }
    }
}

#[test]
fn statements_can_be_nested() {
    let backend = backend();
    let found = change(&backend, |store| {
        (1..=3).try_for_each(|id| insert(store, id).map(drop))?;
        let mut found = Vec::new();
        store.query(SELECT_IDS, values![], &mut |row| {
            // The outer statement is run again before it has ended.
            let all = ids(store)?;
            let id: i64 = row.get("id")?;
            meta::set(store, &id.to_string(), "read")?;
            found.push((id, all.len(), row.get::<i64>("id")?));
            Ok(ControlFlow::Continue(()))
        })?;
        found.push((0, meta::keys(store, "")?.len(), 0));
        Ok(found)
    });
    // The new database has one key.
    assert_eq!(found.unwrap(), [(1, 3, 1), (2, 3, 2), (3, 3, 3), (0, 4, 0)]);
}

#[test]
fn a_break_or_an_error_ends_the_query() {
    let backend = backend();
    change(&backend, |store| (1..=3).try_for_each(|id| insert(store, id).map(drop))).unwrap();
    let transaction = backend.begin(Scope::Administrative).unwrap();

    let mut seen = Vec::new();
    let ended = transaction.query(SELECT_IDS, values![], &mut |row| {
        seen.push(row.get::<i64>("id")?);
        Ok(if seen.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    });
    ended.unwrap();
    assert_eq!(seen, [1, 2]);

    let failed = transaction.query(SELECT_IDS, values![], &mut |_| Err(CheckpointError::Busy));
    assert!(matches!(failed, Err(CheckpointError::Busy)), "{failed:?}");
    // No statement is active anymore, so the transaction can be committed.
    insert(&*transaction, 4).unwrap();
    transaction.commit().unwrap();
    assert_eq!(stored_ids(&backend), [1, 2, 3, 4]);
}

#[test]
fn wrong_types_and_texts_are_damage() {
    let backend = backend();
    for (value, column, reason) in [
        ("1.5", "number", "a value of the column `number` has a wrong type"),
        ("'one'", "number", "a value of the column `number` has a wrong type"),
        ("NULL", "number", "a value of the column `number` has a wrong type"),
        ("CAST(x'61ff62' AS TEXT)", "text", "a stored text is not valid UTF-8"),
    ] {
        let insert = format!("DELETE FROM sample; INSERT INTO sample ({column}) VALUES ({value})");
        backend.connection().execute_batch(&insert).unwrap();
        let transaction = backend.begin(Scope::Read).unwrap();
        let store: &dyn Statements = &*transaction;

        let read = store.query_one("SELECT number, text FROM sample", values![], |row| {
            if column == "text" {
                row.get::<String>("text").map(drop)
            } else {
                row.get::<i64>("number").map(drop)
            }
        });
        let message = read.unwrap_err().to_string();
        assert_eq!(message, format!("the checkpoint is damaged: {reason}"), "{value}");
    }
}

/// A mistake in a statement is an error, and never reads or writes something else.
#[test]
fn wrong_statements_are_errors() {
    let backend = backend();
    change(&backend, |store| insert(store, 1)).unwrap();
    let transaction = backend.begin(Scope::Administrative).unwrap();
    let store: &dyn Statements = &*transaction;

    let sql = "SELECT id FROM sample WHERE id = ?1";
    let (too_few, too_many) = (
        store.query_one(sql, values![], |row| row.get::<i64>("id")),
        store.query_one(sql, values![1_i64, 2_i64], |row| row.get::<i64>("id")),
    );
    let unknown = store.query_one(sql, values![1_i64], |row| row.get::<i64>("unknown"));
    for (what, result) in [
        ("too few values", too_few.map(drop)),
        ("too many values", too_many.map(drop)),
        ("a column that does not exist", unknown.map(drop)),
        ("rows that are not read", store.execute(sql, values![1_i64]).map(drop)),
        ("a table that does not exist", store.execute("DELETE FROM unknown", values![]).map(drop)),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.storage_fault(), Some(StorageFault::Unexpected), "{what}: {error}");
    }
}
