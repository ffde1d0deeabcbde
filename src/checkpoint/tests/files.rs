//! The file: who may open it, what is done with one that is damaged, older or newer.

use super::*;

#[test]
fn two_holders_never_share_it() {
    let directory = tempfile::tempdir().unwrap();
    let first = Checkpoint::open(directory.path()).unwrap();
    first.announce(Path::new("/run/x.sock")).unwrap();
    let Err(CheckpointError::Locked(Some(holder))) = Checkpoint::open(directory.path()) else {
        panic!("locked")
    };
    assert_eq!(holder, Holder { pid: std::process::id(), socket: Some("/run/x.sock".into()) });
    drop(first);
    assert!(Checkpoint::holder(directory.path()).is_none());
    Checkpoint::open(directory.path()).unwrap();
}

#[test]
fn files_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let checkpoint = Checkpoint::open(&state).unwrap();
    take_day(&checkpoint, "2026-11-21", 1, 1);
    checkpoint.write_cursor_file().unwrap();
    let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for entry in fs_err::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        for number in 0..20 {
            take_day(&checkpoint, &day("2026-10-01").plus(number).to_string(), 5, 1);
        }
    }
    let path = directory.path().join(DATABASE);
    let whole = fs_err::read(&path).unwrap();
    let mut damaged = Vec::new();
    damaged.push(b"not a database at all, but long enough to be one".repeat(40));
    damaged.push(whole[..whole.len() / 2].to_vec());
    let mut overwritten = whole.clone();
    overwritten[4096..12_288].fill(0xAA);
    damaged.push(overwritten);
    for bytes in damaged {
        fs_err::write(&path, &bytes).unwrap();
        let error = Checkpoint::open(directory.path()).unwrap_err();
        assert!(error.is_unusable(), "{error}");
        assert_eq!(fs_err::read(&path).unwrap(), bytes);
    }
}

/// A process killed in its first moments left a journal to roll back, and the file was called
/// damaged.
#[test]
fn what_a_killed_process_left_is_rolled_back() {
    let directory = tempfile::tempdir().unwrap();
    drop(Checkpoint::open(directory.path()).unwrap());
    let connection = Connection::open(directory.path().join(DATABASE)).unwrap();
    // As while the file is made, before it is in WAL mode; and written out before it is committed.
    connection
        .execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE;",
        )
        .unwrap();
    for key in 0..500 {
        connection
            .execute(
                "INSERT INTO meta VALUES (?1, ?2)",
                params![key.to_string(), "x".repeat(2_000)],
            )
            .unwrap();
    }
    let killed = tempfile::tempdir().unwrap();
    for file in [DATABASE.to_owned(), format!("{DATABASE}-journal")] {
        fs_err::copy(directory.path().join(&file), killed.path().join(&file)).unwrap();
    }
    let checkpoint = Checkpoint::open(killed.path()).unwrap();
    let rows: i64 = checkpoint
        .connection()
        .query_row("SELECT count(*) FROM meta", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1, "only what was committed");
}

/// The tables of a database, as they were made; columns by name, so that one added later does not
/// show by its place.
fn tables(connection: &rusqlite::Connection) -> Vec<String> {
    let sql = "SELECT m.type || ' ' || m.name || ' ' || coalesce((SELECT group_concat(c.name) FROM pragma_table_info(m.name) c), '')
               FROM sqlite_master m WHERE m.name NOT LIKE 'sqlite%' ORDER BY 1";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_file_of_version_1_is_brought_over_with_all_that_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let letter = EventId::from_bytes([7; 20]);
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        take_day(&checkpoint, "2026-11-20", 1, 1);
        take_day(&checkpoint, "2026-11-21", 1, 1);
        checkpoint.register_sink("s", &[tenant()], true, day("2026-11-01")).unwrap();
        let (from, to) =
            (Position { seq: 1, record_index: 0 }, Position { seq: 2, record_index: 7 });
        let refused =
            DeadLetter { tenant: tenant(), at: from, event_id: letter, reason: "no".into() };
        let advance = Advance {
            sink: "s",
            lane: Lane::Live,
            moves: &[CursorMove { tenant: tenant(), from, to }],
            mark: Some(b"m"),
            sent: 10,
            truncated: 0,
            dead_letters: &[refused],
            delivered_dead_letters: &[],
            now_ms: 0,
        };
        checkpoint.advance(&advance).unwrap();
        // Back to what version 1 had.
        let connection = checkpoint.connection();
        connection
            .execute_batch(
                "DROP TABLE replay_cursor; DROP TABLE replay; DROP INDEX dead_letter_sink;
                 ALTER TABLE dead_letter DROP COLUMN again; ALTER TABLE cursor DROP COLUMN active;
                 ALTER TABLE sink DROP COLUMN truncated; ALTER TABLE sink DROP COLUMN quality;
                 DROP TABLE baseline; DROP INDEX entry_text; DROP INDEX entry_body; DROP INDEX entry_catalog;
                 PRAGMA user_version = 1;",
            )
            .unwrap();
        let first = rusqlite::Connection::open_in_memory().unwrap();
        first.execute_batch(SCHEMAS[0]).unwrap();
        assert_eq!(tables(&connection), tables(&first));
    }
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let pending = checkpoint.pending("s").unwrap();
    assert_eq!((pending[0].at, pending[0].entries), (Position { seq: 2, record_index: 7 }, 1));
    assert_eq!(checkpoint.mark("s").unwrap().as_deref(), Some(&b"m"[..]));
    let status = checkpoint.status().unwrap();
    assert_eq!((status.sinks[0].sent, status.sinks[0].rejected), (10, 1));
    assert_eq!(checkpoint.dead_letters(9).unwrap()[0].event_id, letter);
    assert_eq!(checkpoint.retry_dead_letters("s").unwrap(), 1);
    assert_eq!(checkpoint.read(&wanted(1, "2026-11-20")).unwrap().len(), 2);
}

#[test]
fn a_newer_file_is_refused_politely() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    checkpoint.connection().pragma_update(None, "user_version", 99).unwrap();
    drop(checkpoint);
    assert!(matches!(Checkpoint::open(directory.path()), Err(CheckpointError::Newer(99))));
}
