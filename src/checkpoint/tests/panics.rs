//! Panics while the checkpoint is in use: nothing of an interrupted transaction remains.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[test]
fn a_panic_rolls_back_its_transaction() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-21", 1, 1);
    commit_day(&checkpoint, "2026-11-22", 1, 1);
    change(&checkpoint, "UPDATE body SET bytes = x'00' WHERE id = 2");
    change(&checkpoint, "UPDATE entry SET digest = x'00' WHERE seq = 1");

    // The damaged body of the second day is removed before the facts of the first one are derived.
    let now = empty_commit().observed_at;
    let repair = || checkpoint.repair(now, |_| panic!("interrupted"));
    assert!(catch_unwind(AssertUnwindSafe(repair)).is_err());
    let removed = "SELECT count(*) FROM entry WHERE body IS NULL";
    assert_eq!(query_number(&checkpoint, removed), 0);

    let repaired = checkpoint.repair(now, |body| Some(facts(body))).unwrap();
    assert_eq!(repaired.days.len(), 1);
    assert_eq!(query_number(&checkpoint, removed), 1);
}

/// The names that a transaction has inserted are in the cache although the rows are rolled back.
#[test]
fn names_are_read_again_after_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        let interrupted = || {
            checkpoint.control_names.lock().unwrap().add(999, "c0");
            let _names = checkpoint.control_names.lock().unwrap();
            panic!("interrupted");
        };
        assert!(catch_unwind(AssertUnwindSafe(interrupted)).is_err());
        commit_day(&checkpoint, "2026-11-21", 1, 1);
    }

    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let days = checkpoint.stored_days(tenant(), day("2026-11-01")).unwrap();
    assert_eq!(days[&day("2026-11-21")].facts, facts(&body("2026-11-21", 1)));
}
