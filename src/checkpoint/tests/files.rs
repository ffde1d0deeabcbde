//! Opening a checkpoint: the lock, file modes, and databases that are damaged, older or newer.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::state_directory::StateDirectoryError;

#[test]
fn only_one_process_can_hold_a_checkpoint() {
    let (directory, first) = new_checkpoint();
    first.state_directory().announce(Path::new("/run/x.sock")).unwrap();
    let error = Checkpoint::open(directory.path()).unwrap_err();
    let CheckpointError::StateDirectory(StateDirectoryError::Locked(Some(holder))) = error else {
        panic!("the checkpoint is not locked")
    };
    assert_eq!((holder.pid, holder.socket), (std::process::id(), Some("/run/x.sock".into())));
    assert_eq!(holder.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert!(holder.since.is_some());

    drop(first);
    assert_eq!(StateDirectory::holder(directory.path()), None);
    Checkpoint::open(directory.path()).unwrap();
}

#[test]
fn files_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let checkpoint = Checkpoint::open(&state).unwrap();
    commit_day(&checkpoint, "2026-11-21", 1, 1);
    checkpoint.write_cursor_file().unwrap();

    let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for entry in fs_err::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

/// Regression: nothing showed that the second cursor file could not be written.
#[test]
fn an_outdated_cursor_file_is_stored() {
    let (directory, checkpoint) = new_checkpoint();
    let outdated = || checkpoint.status(StatusDetail::Summary).unwrap().outdated_cursor_file;
    checkpoint.write_cursor_file().unwrap();
    assert_eq!(outdated(), None);

    let obstacle = directory.path().join("cursors.json.new");
    fs_err::create_dir(&obstacle).unwrap();
    for _ in 0..2 {
        let error = checkpoint.write_cursor_file().unwrap_err();
        assert_eq!(outdated(), Some(Explanation::of(&error)));
    }

    fs_err::remove_dir(&obstacle).unwrap();
    checkpoint.write_cursor_file().unwrap();
    assert_eq!(outdated(), None);
}

/// SQLite writes nothing if no value changes, and the check must be a real commit.
#[test]
fn every_write_check_is_a_commit() {
    let (directory, checkpoint) = new_checkpoint();
    let log = || fs_err::read(directory.path().join(format!("{DATABASE}-wal"))).unwrap();
    for check in 1..=3 {
        let before = log();
        checkpoint.confirm_writable().unwrap();
        assert!(log() != before, "check {check}");
    }
}

#[test]
fn rejects_a_damaged_database_without_changing_it() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        for number in 0..20 {
            commit_day(&checkpoint, &day("2026-10-01").plus(number).to_string(), 5, 1);
        }
    }

    let path = directory.path().join(DATABASE);
    let intact = fs_err::read(&path).unwrap();
    let not_a_database = b"not a database at all, but long enough to be one".repeat(40);
    let truncated = intact[..intact.len() / 2].to_vec();
    let mut overwritten = intact.clone();
    overwritten[4096..12_288].fill(0xAA);

    for bytes in [not_a_database, truncated, overwritten] {
        fs_err::write(&path, &bytes).unwrap();
        let error = Checkpoint::open(directory.path()).unwrap_err();
        assert!(error.is_unusable(), "{error}");
        assert_eq!(fs_err::read(&path).unwrap(), bytes);
    }
}

/// Regression: a process that was killed while it created the database left a journal to roll back,
/// and the file was reported as damaged.
#[test]
fn rolls_back_the_journal_of_a_killed_process() {
    let directory = tempfile::tempdir().unwrap();
    drop(Checkpoint::open(directory.path()).unwrap());

    // The database is created before it is in WAL mode. The small cache spills uncommitted pages
    // into the file.
    let database = RawDatabase::open(directory.path());
    database.run(
        "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE;",
    );
    for key in 0..500 {
        database.run(&format!("INSERT INTO meta VALUES ('{key}', '{}')", "x".repeat(2_000)));
    }

    let killed = tempfile::tempdir().unwrap();
    for file in [DATABASE.to_owned(), format!("{DATABASE}-journal")] {
        fs_err::copy(directory.path().join(&file), killed.path().join(&file)).unwrap();
    }

    let checkpoint = Checkpoint::open(killed.path()).unwrap();
    let rows = query_number(&checkpoint, "SELECT count(*) FROM meta");
    assert_eq!(rows, 1, "the uncommitted rows are gone");
}

/// SQL: the tables and indexes of a database, each with the names of its columns. Their SQL is not
/// part of the result, because it differs between a created table and a migrated one.
const TABLES: &str = "SELECT m.type || ' ' || m.name || ' ' || coalesce((SELECT group_concat(c.name) FROM pragma_table_info(m.name) c), '')
                 AS columns
               FROM sqlite_master m WHERE m.name NOT LIKE 'sqlite%' ORDER BY 1";

#[test]
fn migrates_a_version_1_database_completely() {
    let directory = tempfile::tempdir().unwrap();
    let event_id = EventId::from_bytes([7; 20]);
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        commit_day(&checkpoint, "2026-11-20", 1, 1);
        commit_day(&checkpoint, "2026-11-21", 1, 1);
        register(&checkpoint, "s");
        let expiring = Observation {
            what: ObservationKind::CredentialExpiring,
            subject: ObservationSubject::Credential,
            first_day: day("2026-11-20"),
            phase: Phase::Begin,
            details: "the credential is valid until `2026-12-20T00:00:00Z`".to_owned(),
            hint: None,
        };
        commit(&checkpoint, &PollCommit { observations: vec![expiring], ..empty_commit() });

        let (from, to) = (at(1, 0), at(2, 7));
        let (sink, moves) = (SinkName::new("s"), [cursor_move(from, to)]);
        let dead_letter = DeadLetter { tenant: tenant(), at: from, event_id, reason: "no".into() };
        let advance = Advance {
            mark: Some(b"m"),
            sent: 10,
            dead_letters: &[dead_letter],
            ..live_advance(&sink, &moves)
        };
        let _ = checkpoint.advance(&advance).unwrap();

        // No release writes version 1 anymore, so the database is converted back to it.
        let database = checkpoint.raw();
        database.run(include_str!("downgrade-to-1.sql"));
        let first = RawDatabase::of_version(1);
        assert_eq!(database.texts(TABLES, "columns"), first.texts(TABLES, "columns"));
    }

    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let pending = checkpoint.pending(&"s".into()).unwrap();
    assert_eq!((pending[0].at, pending[0].entries), (at(2, 7), 1));
    assert_eq!(checkpoint.mark(&"s".into()).unwrap().as_deref(), Some(&b"m"[..]));
    let status = checkpoint.status(StatusDetail::Summary).unwrap();
    assert_eq!((status.sinks[0].sent, status.sinks[0].rejected), (10, 1));
    let expires = UnixMillis::from("2026-12-20T00:00:00Z".parse::<jiff::Timestamp>().unwrap());
    let mut observations = status.tenants[0].observations.iter();
    let expiring = observations.find(|open| open.what == ObservationKind::CredentialExpiring);
    assert_eq!(expiring.unwrap().expires, Some(expires));
    let dead_letters =
        checkpoint.find_dead_letters(&DeadLetterFilter::of_sink(&"s".into()), 9).unwrap();
    assert_eq!(dead_letters[0].event_id, event_id);
    assert_eq!(checkpoint.retry_dead_letters(&[dead_letters[0].key()]).unwrap(), 1);
    assert_eq!(checkpoint.read(&read_request(1, "2026-11-20")).unwrap().len(), 3);
}

#[test]
fn rejects_a_database_of_a_newer_version() {
    let (directory, checkpoint) = new_checkpoint();
    checkpoint.raw().run("PRAGMA user_version = 99");
    drop(checkpoint);
    assert!(matches!(Checkpoint::open(directory.path()), Err(CheckpointError::Newer(99))));
}
