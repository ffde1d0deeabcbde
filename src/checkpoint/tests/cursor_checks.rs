//! Cursors that were damaged or deleted although the structure of the database is intact.

use super::*;
use crate::state_directory::CURSOR_FILE;

const DAYS: [&str; 4] = ["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"];

/// Whether the second cursor file exists when the cursor is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CursorFileState {
    Written,
    Absent,
}

/// A closed checkpoint with four days, of which the sink has received the first two.
fn half_delivered(file: CursorFileState) -> tempfile::TempDir {
    let (directory, checkpoint) = new_checkpoint();
    register(&checkpoint, "s");
    for text in &DAYS[..2] {
        commit_day(&checkpoint, text, 1, 1);
    }
    let moves = [cursor_move(at(1, 0), at(3, 0))];
    let _ = checkpoint.advance(&live_advance(&"s".into(), &moves)).unwrap();
    for text in &DAYS[2..] {
        commit_day(&checkpoint, text, 1, 1);
    }
    // The other days are read after the acknowledgement.
    change(&checkpoint, "UPDATE entry SET observed = observed + 1000 WHERE seq > 2");
    if file == CursorFileState::Written {
        checkpoint.write_cursor_file().unwrap();
    }
    drop(checkpoint);
    directory
}

fn damage(directory: &Path, sql: &str) {
    RawDatabase::open(directory).run(sql);
}

fn repair(directory: &Path) {
    let now = empty_commit().observed_at;
    let repaired = Checkpoint::repair_all(directory, now, "now", |_| None, drop).unwrap();
    assert!(matches!(repaired, RepairResult::Intact), "{repaired:?}");
}

/// The position of the sink after its registration.
fn position(directory: &Path) -> Option<(Position, u64)> {
    let checkpoint = Checkpoint::open(directory).unwrap();
    register(&checkpoint, "s");
    checkpoint.pending(&"s".into()).unwrap().first().map(|pending| (pending.at, pending.entries))
}

/// Regression: one changed bit in a cursor skipped all following days without a message, and the
/// damaged cursor was copied into the second cursor file.
#[test]
fn invalid_cursors_are_found_and_repaired() {
    for file in [CursorFileState::Written, CursorFileState::Absent] {
        for sql in [
            "UPDATE cursor SET seq = seq + 64",
            "UPDATE cursor SET seq = 0",
            "UPDATE cursor SET seq = 67, record_index = -1",
            "UPDATE cursor SET epoch = 1",
        ] {
            let directory = half_delivered(file);
            let path = directory.path().join(CURSOR_FILE);
            let before = fs_err::read(&path).ok();
            damage(directory.path(), sql);

            let error = Checkpoint::open(directory.path()).unwrap_err();
            // A cursor that is behind the second cursor file looks like an old copy.
            assert!(error.is_unusable(), "{file:?} {sql}: {error:?}");
            let checkpoint = Checkpoint::open_read_only(directory.path()).unwrap();
            assert_ne!(checkpoint.verify().unwrap().findings, [], "{file:?} {sql}");
            let error = checkpoint.cursors().unwrap_err();
            assert!(matches!(error, CheckpointError::Damaged(_)), "{file:?} {sql}: {error:?}");
            drop(checkpoint);
            assert_eq!(fs_err::read(&path).ok(), before, "{file:?} {sql}");

            repair(directory.path());
            let entries = position(directory.path()).map(|(_, entries)| entries);
            assert_eq!(entries, Some(2), "{file:?} {sql}");
        }
    }
}

/// Every epoch that a claim of the shard has had is valid, and no other one.
#[test]
fn epochs_of_earlier_claims_are_valid() {
    for (epoch, epoch_of_shard, is_valid) in
        [(-1, 0, false), (0, 0, true), (1, 0, false), (1, 2, true), (2, 2, true), (3, 2, false)]
    {
        let directory = half_delivered(CursorFileState::Absent);
        let sql =
            format!("UPDATE shard SET epoch = {epoch_of_shard}; UPDATE cursor SET epoch = {epoch}");
        damage(directory.path(), &sql);
        let opened = Checkpoint::open(directory.path()).map(drop);
        assert_eq!(opened.is_ok(), is_valid, "{epoch} of {epoch_of_shard}: {opened:?}");

        // The position does not change.
        repair(directory.path());
        assert_eq!(position(directory.path()), Some((at(3, 0), 2)));
    }
}

/// Regression: a cursor whose row was lost began again, although the second cursor file contained
/// it.
#[test]
fn deleted_cursors_continue_from_the_second_cursor_file() {
    let directory = half_delivered(CursorFileState::Written);
    damage(directory.path(), "DELETE FROM cursor");
    // A command that does not register sinks keeps the cursor in the file.
    Checkpoint::open(directory.path()).unwrap().write_cursor_file().unwrap();
    assert_eq!(position(directory.path()), Some((at(3, 0), 2)));
}

/// A sink that was dropped on request begins again.
#[test]
fn dropped_sinks_do_not_continue() {
    let directory = half_delivered(CursorFileState::Written);
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    checkpoint.drop_sink(&"s".into(), UnixMillis::default()).unwrap();
    register(&checkpoint, "s");
    assert_eq!(checkpoint.pending(&"s".into()).unwrap()[0].at, at(1, 0));
}

/// Regression: a failure of the row of this host, which only damage can cause, prevented the start
/// of the program, and no verification found it.
#[test]
fn failures_of_this_host_permit_the_start() {
    let directory = half_delivered(CursorFileState::Written);
    damage(directory.path(), "UPDATE tenant SET failing_since = 1 WHERE guid = '-'");
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert!(checkpoint.failures().unwrap().tenants.is_empty());
    assert_eq!(checkpoint.verify().unwrap().findings, []);
}
