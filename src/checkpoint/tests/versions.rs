//! Databases that older releases have written: after the migration, the checkpoint returns what the
//! tables of the old version contain, and every delivery continues where it stopped. `comparisons`
//! has the statements about the old tables. Start reading at [`DATABASES`].

mod comparisons;

use self::comparisons::{COMPARISONS, Comparison, statement};
use super::*;

/// A database of each version that a release has written, compressed with zstd. Each contains two
/// tenants with snapshots, observations and catalogs, two sinks with cursors and a backlog, a dead
/// letter, and a replay if the version has replays.
const DATABASES: &[(i32, &[u8])] = &[
    (1, include_bytes!("version-1.sqlite.zst")),
    (2, include_bytes!("version-2.sqlite.zst")),
    (3, include_bytes!("version-3.sqlite.zst")),
    (4, include_bytes!("version-4.sqlite.zst")),
    (5, include_bytes!("version-5.sqlite.zst")),
    (7, include_bytes!("version-7.sqlite.zst")),
    (8, include_bytes!("version-8.sqlite.zst")),
];

/// A state directory with a database of an older version.
fn with_database(compressed: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let database = zstd::stream::decode_all(compressed).unwrap();
    fs_err::write(directory.path().join(DATABASE), database).unwrap();
    directory
}

#[test]
fn migrated_checkpoints_equal_their_old_tables() {
    for (version, compressed) in DATABASES {
        let directory = with_database(compressed);
        let old = RawDatabase::open(directory.path());
        assert_eq!(old.version(), *version);
        let comparisons = COMPARISONS.iter().filter(|comparison| comparison.since <= *version);
        let read = |comparison: &'static Comparison| {
            (comparison, old.texts(&statement(comparison.sql, *version), "line"))
        };
        let expected: Vec<(&Comparison, Vec<String>)> = comparisons.map(read).collect();
        drop(old);

        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        checkpoint.raw().require_current_schema();
        assert_eq!(checkpoint.verify().unwrap().findings, [], "version {version}");
        for (Comparison { lines, sql, found, .. }, expected) in expected {
            assert!(expected.len() >= *lines, "version {version} has no rows: {sql}");
            assert_eq!(found(&checkpoint), expected, "version {version}: {sql}");
        }
    }
}

/// The cursors move from the positions that the old database has.
#[test]
fn deliveries_continue_after_every_migration() {
    for (version, compressed) in DATABASES {
        let directory = with_database(compressed);
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        let before = checkpoint.status(StatusDetail::Summary).unwrap();
        for sink in &before.sinks {
            let sent = deliver_everything(&checkpoint, &sink.name);
            let after = checkpoint.status(StatusDetail::Summary).unwrap();
            let found = after.sinks.iter().find(|after| after.name == sink.name).unwrap();
            assert_eq!(found.sent, sink.sent + sent, "version {version}: {}", sink.name);
            assert!(checkpoint.pending(&sink.name).unwrap().is_empty(), "version {version}");
        }
        assert!(checkpoint.status(StatusDetail::Items).unwrap().dead_letters.is_empty());

        // The next day is sent to each sink that receives the tenant.
        let unsent = || checkpoint.unsent_entries(&before.sinks[0].name).unwrap();
        let unsent_before = unsent();
        commit_day_of(ids(&checkpoint)[0], &checkpoint, "2040-01-01", 1, 1);
        assert_eq!(unsent(), unsent_before + 1, "version {version}");
        assert_eq!(checkpoint.verify().unwrap().findings, [], "version {version}");
    }
}

#[test]
fn every_database_in_the_folder_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/checkpoint/tests");
    let names = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let version = |name: std::ffi::OsString| -> Option<i32> {
        name.to_str()?.strip_prefix("version-")?.strip_suffix(".sqlite.zst")?.parse().ok()
    };
    let mut versions: Vec<i32> = names.filter_map(version).collect();
    versions.sort_unstable();
    let listed: Vec<i32> = DATABASES.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, listed);
}

/// Delivers the backlog of a sink, its replays, and its dead letters. Returns the number of records
/// that count as sent.
fn deliver_everything(checkpoint: &Checkpoint, sink: &SinkName) -> u64 {
    const RECORDS: u64 = 7;
    let mut lanes = vec![(Lane::Live, checkpoint.pending(sink).unwrap())];
    let mut sent = 0;
    while let Some((lane, pending)) = lanes.pop() {
        let moves: Vec<CursorMove> = pending.iter().map(to_the_end).collect();
        let advance = Advance { lane, sent: RECORDS, ..live_advance(sink, &moves) };
        let _ = checkpoint.advance(&advance).unwrap();
        sent += RECORDS;
        lanes.extend(checkpoint.pending_replay(sink, &|_| true).unwrap());
    }

    let letters = checkpoint.find_dead_letters(&DeadLetterFilter::of_sink(sink), u32::MAX).unwrap();
    let keys: Vec<DeadLetterKey> = letters.iter().map(QueuedDeadLetter::key).collect();
    assert_eq!(checkpoint.retry_dead_letters(&keys).unwrap(), keys.len() as u64);
    let queued = checkpoint.pending_dead_letters(sink, &ids(checkpoint), usize::MAX).unwrap();
    let delivered: Vec<DeadLetterId> = queued.iter().map(|letter| letter.id).collect();
    let advance = Advance {
        lane: Lane::DeadLetters,
        sent: delivered.len() as u64,
        delivered_dead_letters: &delivered,
        ..live_advance(sink, &[])
    };
    let _ = checkpoint.advance(&advance).unwrap();
    sent + delivered.len() as u64
}

fn to_the_end(pending: &Pending) -> CursorMove {
    let to = Position { seq: pending.last_seq.next(), record_index: 0 };
    CursorMove { tenant: pending.tenant, from: pending.at, to }
}

/// The tenants, in the order in which they were added.
fn ids(checkpoint: &Checkpoint) -> Vec<TenantId> {
    let status = checkpoint.status(StatusDetail::Summary).unwrap();
    status.tenants.iter().filter_map(|tenant| tenant.id).collect()
}
