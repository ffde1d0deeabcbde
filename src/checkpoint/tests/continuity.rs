//! Databases that are not the one that the second cursor file remembers.

use super::*;
use crate::files::FromStart;

/// A way to lose a database in this directory.
type Loss = fn(&Path);

/// A closed checkpoint whose sink has received both of its days, and its directory.
fn delivered() -> tempfile::TempDir {
    let (directory, checkpoint) = new_checkpoint();
    for text in ["2026-11-20", "2026-11-21"] {
        commit_day(&checkpoint, text, 1, 1);
    }
    register(&checkpoint, "s");
    let moves = [cursor_move(at(1, 0), at(3, 0))];
    let _ = checkpoint.advance(&live_advance(&"s".into(), &moves)).unwrap();
    checkpoint.write_cursor_file().unwrap();
    drop(checkpoint);
    directory
}

/// Writes a backup to a new file, like `state backup`.
pub(super) fn back_up(checkpoint: &Checkpoint, to: &Path) {
    let copy = checkpoint.backup_without_name().unwrap();
    let mut file = fs_err::File::create_new(to).unwrap();
    std::io::copy(&mut FromStart::of(&copy), &mut file).unwrap();
}

/// The number of days that the sink receives again when both days are read again.
fn repeated_days(directory: &Path) -> u64 {
    let checkpoint = Checkpoint::open(directory).unwrap();
    register(&checkpoint, "s");
    let stored = checkpoint.stored_days(tenant(), day("2026-11-01")).unwrap();
    for text in ["2026-11-20", "2026-11-21"] {
        if !stored.contains_key(&day(text)) {
            commit_day(&checkpoint, text, 1, 1);
        }
    }
    checkpoint.pending(&"s".into()).unwrap().iter().map(|pending| pending.entries).sum()
}

fn remove(directory: &Path) {
    fs_err::remove_file(directory.join(DATABASE)).unwrap();
}

fn empty(directory: &Path) {
    fs_err::write(directory.join(DATABASE), "").unwrap();
}

/// Replaces the database with a copy of another one.
fn replace_with(directory: &Path, other: &Path) {
    remove(directory);
    fs_err::copy(other.join(DATABASE), directory.join(DATABASE)).unwrap();
}

/// Makes the database an earlier copy of itself, with only the first day and nothing delivered.
fn roll_back(directory: &Path) {
    RawDatabase::open(directory).run(
        "UPDATE cursor SET seq = 1; DELETE FROM entry WHERE seq = 2; UPDATE tenant SET next_seq = 2 WHERE next_seq > 2;",
    );
}

/// A loss, and what causes it in a directory.
type Case = (DatabaseLoss, fn(&Path));

const CASES: &[Case] = &[
    (DatabaseLoss::Absent(CursorCopy::Usable), remove),
    (DatabaseLoss::Empty(CursorCopy::Usable), empty),
    (DatabaseLoss::Empty(CursorCopy::Usable), |directory| {
        // The file has a header, but no tables.
        remove(directory);
        RawDatabase::open(directory).run("PRAGMA journal_mode = WAL; VACUUM");
    }),
    (DatabaseLoss::Replaced, |directory| replace_with(directory, delivered().path())),
    (DatabaseLoss::Outdated, roll_back),
];

/// Regression: a database that had been removed or emptied became a new start.
#[test]
fn every_lost_database_is_reported_and_replaced() {
    for (loss, lose) in CASES {
        let directory = delivered();
        lose(directory.path());
        let before = fs_err::read(directory.path().join(DATABASE)).ok();

        let error = Checkpoint::open(directory.path()).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::DatabaseLost(_, found) if found == loss),
            "{loss:?}: {error:?}"
        );
        assert!(error.is_unusable() && !error.is_transient(), "{loss:?}");
        assert_eq!(fs_err::read(directory.path().join(DATABASE)).ok(), before, "{loss:?}");

        Checkpoint::adopt(directory.path()).unwrap();
        assert_eq!(repeated_days(directory.path()), 0, "{loss:?}: `cursors.json` has the cursors");
        Checkpoint::open(directory.path()).unwrap().write_cursor_file().unwrap();
        Checkpoint::open(directory.path()).unwrap();
    }
}

/// Regression: the message stated that `cursors.json` contained the cursors although it was empty
/// or damaged, and the repair did not state whether days are sent again.
#[test]
fn a_loss_states_whether_the_cursors_are_lost() {
    let losses: [(Loss, DatabaseLoss); 2] = [
        (remove, DatabaseLoss::Absent(CursorCopy::Unusable)),
        (empty, DatabaseLoss::Empty(CursorCopy::Unusable)),
    ];
    let contents: [&[u8]; 3] = [b"", b"garbage\n\xff", b"{}\n0123\n"];
    for content in contents {
        for (lose, expected) in losses {
            let directory = delivered();
            lose(directory.path());
            fs_err::write(directory.path().join("cursors.json"), content).unwrap();

            let error = Checkpoint::open(directory.path()).unwrap_err();
            let CheckpointError::DatabaseLost(_, found) = error else { panic!("{error:?}") };
            assert_eq!(found, expected, "{content:?}");
            assert!(!error.to_string().contains("contains its cursors"), "{error}");

            let moved = Checkpoint::set_aside(directory.path(), "now").unwrap();
            assert_eq!(moved.cursors, None, "{content:?}");
            Checkpoint::open(directory.path()).unwrap();
        }
    }

    let directory = delivered();
    remove(directory.path());
    let moved = Checkpoint::set_aside(directory.path(), "now").unwrap();
    assert_eq!(moved.cursors, Some(1));
}

#[test]
fn a_first_start_is_not_a_loss() {
    let directory = tempfile::tempdir().unwrap();
    // The first process was killed after it had created the file.
    fs_err::write(directory.path().join(DATABASE), "").unwrap();
    drop(Checkpoint::open(directory.path()).unwrap());
    Checkpoint::open(directory.path()).unwrap();
}

#[test]
fn successors_of_a_checkpoint_are_accepted() {
    let directory = delivered();
    let moved = Checkpoint::set_aside(directory.path(), "now").unwrap().database.unwrap();
    assert!(moved.ends_with("checkpoint.db.damaged-now"));
    assert_eq!(repeated_days(directory.path()), 0);

    let (restored, backup) = (delivered(), directory.path().join("backup.db"));
    back_up(&Checkpoint::open(restored.path()).unwrap(), &backup);
    Checkpoint::restore(restored.path(), &backup, "now").unwrap();
    assert_eq!(repeated_days(restored.path()), 0);
}

/// Regression: a daemon whose files were removed continued to write into them until it ended.
#[test]
fn a_loss_while_open_is_noticed() {
    let losses: &[(&str, Loss)] = &[
        ("removed", remove),
        ("emptied", empty),
        ("replaced", |directory| replace_with(directory, delivered().path())),
        ("without a write-ahead log", |directory| {
            fs_err::remove_file(directory.join("checkpoint.db-wal")).unwrap();
        }),
        ("without a directory", |directory| fs_err::remove_dir_all(directory).unwrap()),
    ];
    for (what, lose) in losses {
        let directory = delivered();
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        checkpoint.release_memory().unwrap();
        checkpoint.check_in_place().unwrap();
        checkpoint.compact().unwrap();
        checkpoint.check_in_place().unwrap();

        lose(directory.path());
        let gone = checkpoint.check_in_place().unwrap_err();
        assert!(
            matches!(gone, CheckpointError::DatabaseLost(_, DatabaseLoss::Gone)),
            "{what}: {gone:?}"
        );
        let committed = checkpoint.commit_poll(tenant(), &empty_commit());
        assert!(matches!(committed, Err(CheckpointError::DatabaseLost(..))), "{what}");
    }
}

/// Regression: after the lock file was removed, another process could write to the same database.
#[test]
fn a_removed_lock_is_noticed() {
    let losses: [(&str, Loss); 2] = [
        ("removed", |directory| fs_err::remove_file(directory.join("lock")).unwrap()),
        ("replaced", |directory| {
            fs_err::write(directory.join("other"), "").unwrap();
            fs_err::rename(directory.join("other"), directory.join("lock")).unwrap();
        }),
    ];
    for (what, lose) in losses {
        let directory = delivered();
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        checkpoint.check_in_place().unwrap();
        lose(directory.path());
        let error = checkpoint.check_in_place().unwrap_err();
        assert!(
            matches!(error, CheckpointError::DatabaseLost(_, DatabaseLoss::Unlocked)),
            "{what}: {error:?}"
        );
    }
}

/// Regression: a reader reported the state of a database of another checkpoint without an error.
#[test]
fn readers_reject_a_replaced_database() {
    let directory = delivered();
    Checkpoint::open_read_only(directory.path()).unwrap();
    replace_with(directory.path(), delivered().path());
    let error = Checkpoint::open_read_only(directory.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::DatabaseLost(_, DatabaseLoss::Replaced)), "{error:?}");

    // Until its file is written, a successor is known by its predecessor.
    Checkpoint::adopt(directory.path()).unwrap();
    Checkpoint::open_read_only(directory.path()).unwrap();
}

/// The state directory is created again with the second cursor file alone, so that the next start
/// is not a first one.
#[test]
fn cursors_survive_a_removed_directory() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let checkpoint = Checkpoint::open(&state).unwrap();
    fs_err::remove_dir_all(&state).unwrap();
    checkpoint.write_cursor_file().unwrap();
    drop(checkpoint);

    let error = Checkpoint::open(&state).unwrap_err();
    assert!(
        matches!(error, CheckpointError::DatabaseLost(_, DatabaseLoss::Absent(CursorCopy::Usable))),
        "{error:?}"
    );
}
