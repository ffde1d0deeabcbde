//! Migration of databases that older releases have written. The database of version 8 was written
//! by the last release before version 9.

use super::*;

const VERSION_8: &[u8] = include_bytes!("version-8.sqlite.zst");
/// The time of everything in the database of version 8.
const WRITTEN: UnixMillis = UnixMillis::new(1_795_341_600_000);
const REMOVED: UnixMillis = UnixMillis::new(1_795_341_650_000);

/// A state directory with the database of version 8.
fn version_8() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let database = zstd::stream::decode_all(VERSION_8).unwrap();
    fs_err::write(directory.path().join(DATABASE), database).unwrap();
    directory
}

fn user_version(directory: &Path) -> i32 {
    RawDatabase::open(directory).version()
}

/// The name, the counts and the last acknowledgement of each sink.
fn sinks(status: &Status) -> Vec<(&str, [u64; 4], Option<UnixMillis>)> {
    let mut rows = Vec::new();
    for sink in &status.sinks {
        let counts = [sink.sent, sink.rejected, sink.truncated, sink.backlog];
        rows.push((sink.name.as_str(), counts, sink.last_acknowledgement));
    }
    rows
}

#[test]
fn sinks_of_version_8_keep_their_state() {
    let directory = version_8();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert_eq!(user_version(directory.path()), RawDatabase::CURRENT_VERSION);
    assert_eq!(checkpoint.id().as_str(), "10997699-3e78-408f-bc74-99be707bb04d");

    let status = checkpoint.status(StatusDetail::Items).unwrap();
    let expected = [
        ("file", [58, 1, 2, 3], Some(WRITTEN)),
        ("kafka", [0, 0, 0, 4], None),
        ("parked", [0, 0, 0, 5], None),
    ];
    assert_eq!(sinks(&status), expected);
    let oldest: Vec<Option<Day>> = status.sinks.iter().map(|sink| sink.oldest_day).collect();
    assert_eq!(oldest, ["2026-11-19", "2026-11-18", "2026-11-18"].map(|text| Some(day(text))));

    let parked = &status.sinks[2];
    let reason = Explanation::new("no index `x`").with_hint("create it");
    let failure = (parked.failure, &parked.last_error, parked.failing_since);
    assert_eq!(failure, (Some(SinkFailure::Parked), &Some(reason), Some(WRITTEN)));
    assert_eq!((status.sinks[0].failure, status.sinks[0].failing_since), (None, None));
    let failures = checkpoint.failures().unwrap().sinks;
    assert_eq!(failures.into_iter().collect::<Vec<_>>(), [(SinkName::new("parked"), WRITTEN)]);

    let marks =
        ["file", "kafka", "removed", "parked"].map(|sink| checkpoint.mark(&sink.into()).unwrap());
    assert_eq!(marks, [Some(b"mark".to_vec()), None, Some(b"length".to_vec()), None]);
    let stored = checkpoint.stored_sinks().unwrap();
    let removed: Vec<Option<UnixMillis>> = stored.iter().map(|sink| sink.removed_at).collect();
    assert_eq!(removed, [None, None, Some(REMOVED), None]);
}

#[test]
fn cursors_of_version_8_keep_their_positions() {
    let directory = version_8();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let pending = checkpoint.pending(&"file".into()).unwrap();
    let rows = pending.iter().map(|p| (p.tenant, p.at, p.first_day, p.last_seq.get(), p.entries));
    let first = day("2026-11-01");
    let expected = [(tenant(), at(3, 7), first, 4, 2), (other_tenant(), at(1, 0), first, 1, 1)];
    assert_eq!(rows.collect::<Vec<_>>(), expected);

    let cursors = checkpoint.cursors().unwrap().cursors;
    let rows: Vec<(&str, &str, u64, u32, &str)> = cursors
        .iter()
        .map(|c| (c.sink.as_str(), &c.tenant[..8], c.seq.get(), c.record_index, &*c.sent_before))
        .collect();
    let expected = [
        ("file", "3f5c1d2e", 3, 7, "2026-11-19"),
        ("file", "aaaaaaaa", 1, 0, "2026-11-01"),
        ("kafka", "3f5c1d2e", 1, 0, "2026-11-01"),
        ("kafka", "aaaaaaaa", 1, 0, "2026-11-01"),
        ("parked", "3f5c1d2e", 1, 0, "2026-11-01"),
        ("parked", "aaaaaaaa", 1, 0, "2026-11-01"),
        ("removed", "3f5c1d2e", 3, 7, "2026-11-19"),
        ("removed", "aaaaaaaa", 1, 0, "2026-11-01"),
    ];
    assert_eq!(rows, expected);

    // A cursor that the configuration deactivated is not active.
    let of_kafka: Vec<TenantId> =
        checkpoint.pending(&"kafka".into()).unwrap().iter().map(|pending| pending.tenant).collect();
    assert_eq!(of_kafka, [tenant()]);
    // The cursor moves, and everything else of the sink with it.
    let (sink, moves) = (SinkName::new("file"), [cursor_move(at(3, 7), at(5, 0))]);
    let advance = Advance { sent: 9, now: REMOVED, ..live_advance(&sink, &moves) };
    let _ = checkpoint.advance(&advance).unwrap();
    let status = checkpoint.status(StatusDetail::Summary).unwrap();
    assert_eq!(sinks(&status)[0], ("file", [67, 1, 2, 1], Some(REMOVED)));
}

#[test]
fn logs_of_version_8_are_unchanged() {
    let directory = version_8();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert_eq!(checkpoint.verify().unwrap().findings, []);

    let entries = checkpoint.read(&read_request(1, "2026-11-01")).unwrap();
    let bodies = [("2026-11-18", 0), ("2026-11-19", 1), ("2026-11-20", 2), ("2026-11-19", 9)];
    assert_eq!(entries.len(), bodies.len() + 2, "and two observations");
    for (entry, (text, score)) in entries.iter().zip(bodies) {
        assert_eq!(snapshot(entry).body, body(text, score), "{text}");
    }

    let status = checkpoint.status(StatusDetail::Items).unwrap();
    let days: Vec<[u64; 2]> = status.tenants.iter().map(|t| [t.days, t.missing]).collect();
    assert_eq!(days, [[3, 1], [1, 0]]);
    let open: Vec<usize> = status.tenants.iter().map(|t| t.observations.len()).collect();
    assert_eq!(open, [2, 1]);
    let [replay] = status.replays.as_slice() else { panic!("{:?}", status.replays) };
    assert_eq!((replay.sink.as_str(), replay.remaining), ("kafka", 3));
    let [letter] = status.dead_letters.as_slice() else { panic!("{:?}", status.dead_letters) };
    assert_eq!((letter.sink.as_str(), letter.at, letter.retry), ("file", at(2, 1), true));

    assert_eq!(checkpoint.held_days(tenant()).unwrap()[0].day, day("2026-11-22"));
    assert_eq!(checkpoint.running_polls().unwrap(), [other_tenant()]);
    assert_eq!(checkpoint.tenant_of_domain("contoso.com").unwrap(), Some(tenant()));
    let state = checkpoint.poll_state(tenant()).unwrap();
    let back_to = (state.polled_back_to, state.queued_backfill);
    assert_eq!(back_to, (Some(day("2026-11-18")), None));
}

#[test]
fn a_migrated_database_is_not_migrated_again() {
    let directory = version_8();
    let dump = || {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        let status = checkpoint.status(StatusDetail::Items).unwrap();
        let status = Status { size: 0, ..status };
        format!("{status:?} {:?} {:?}", checkpoint.cursors().unwrap(), checkpoint.claim)
    };
    assert_eq!(dump(), dump());
}

/// A database of each version with nothing but what its scripts create.
#[test]
fn every_older_version_is_migrated() {
    for version in 1..RawDatabase::CURRENT_VERSION {
        let directory = tempfile::tempdir().unwrap();
        RawDatabase::create(directory.path(), version);
        assert_eq!(user_version(directory.path()), version);

        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        register(&checkpoint, "s");
        commit_day(&checkpoint, "2026-11-20", 1, 1);
        assert_eq!(checkpoint.pending(&"s".into()).unwrap()[0].entries, 1, "version {version}");
        assert_eq!(checkpoint.verify().unwrap().findings, [], "version {version}");
        checkpoint.raw().require_current_schema();
    }
}

/// Only damage can cause such cursors, which older releases refused to use.
#[test]
fn other_epochs_of_version_8_are_found() {
    let directory = version_8();
    RawDatabase::open(directory.path()).run(
        "PRAGMA foreign_keys = OFF;
         UPDATE cursor SET epoch = 4 WHERE sink = 1 AND tenant = 2;
         INSERT INTO cursor VALUES (1, 2, 6, 1, 0, 1, 1), (1, 3, -7, 2, 0, 1, 1);
         INSERT INTO cursor VALUES (9, 2, 0, 1, 0, 1, 1), (1, 9, 0, 1, 0, 1, 1);",
    );
    let error = Checkpoint::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("sink `file` has the unknown epoch 4"), "{error}");

    let repaired =
        Checkpoint::repair_all(directory.path(), WRITTEN, "now", |_| None, drop).unwrap();
    assert!(matches!(repaired, RepairResult::Intact), "{repaired:?}");
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let pending = checkpoint.pending(&"file".into()).unwrap();
    let positions: Vec<Position> = pending.iter().map(|pending| pending.at).collect();
    assert_eq!(positions, [at(3, 7), at(1, 0)]);
}

/// Regression: a damaged index of an older version could only be repaired by the release that had
/// written it.
#[test]
fn damaged_indexes_of_version_8_are_built_again() {
    let directory = version_8();
    let path = directory.path().join(DATABASE);
    let sql = "SELECT (rootpage - 1) * (SELECT page_size FROM pragma_page_size) AS number
               FROM sqlite_schema WHERE name = 'entry_day'";
    let start = RawDatabase::open(directory.path()).number(sql).unwrap();
    let mut bytes = fs_err::read(&path).unwrap();
    let start = usize::try_from(start).unwrap();
    bytes[start..start + 100].fill(0xAA);
    fs_err::write(&path, bytes).unwrap();
    let damaged = Checkpoint::open(directory.path()).unwrap_err();
    assert!(matches!(damaged, CheckpointError::Damaged(_)), "{damaged:?}");

    let repaired = Checkpoint::repair_structure(directory.path(), "now").unwrap();
    assert!(matches!(repaired, StructureRepair::Rebuilt(_)), "{repaired:?}");
    assert_eq!(user_version(directory.path()), RawDatabase::CURRENT_VERSION);
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert_eq!(checkpoint.verify().unwrap().findings, []);
    assert_eq!(checkpoint.mark(&"removed".into()).unwrap().as_deref(), Some(&b"length"[..]));
    assert_eq!(checkpoint.pending(&"file".into()).unwrap()[0].at, at(3, 7));
}
