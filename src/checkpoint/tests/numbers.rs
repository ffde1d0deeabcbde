//! Damaged numbers: for every number in a column, reading the checkpoint returns a value or the
//! error that it is damaged, and never panics.

use super::*;

/// Every column with a sequence number, a count, a day or a time that is used in calculations.
const COLUMNS: &[(&str, &str)] = &[
    ("cursor", "seq"),
    ("cursor", "record_index"),
    ("cursor", "floor"),
    ("entry", "seq"),
    ("entry", "day"),
    ("entry", "observed"),
    ("entry", "revision"),
    ("entry", "flags"),
    ("entry", "base_day"),
    ("entry", "base_revision"),
    ("missing", "day"),
    ("missing", "requests"),
    ("missing", "last_requested"),
    ("replay", "first_day"),
    ("replay", "last_day"),
    ("queued_command", "first_day"),
    ("shard", "epoch"),
    ("shard", "writes"),
    ("sink_host", "failing_since"),
    ("sink_shard", "sent"),
    ("sink_shard", "rejected"),
    ("sink_shard", "truncated"),
    ("sink_shard", "last_acknowledgement"),
    ("tenant", "next_seq"),
    ("tenant", "failures"),
    ("tenant", "last_attempt"),
    ("tenant", "not_before"),
    ("tenant", "polled_back_to"),
];

/// Zero, and the numbers at the limits of signed and unsigned integers with 32 and 64 bits.
const NUMBERS: &[i64] = &[
    0,
    -1,
    2_147_483_647,
    2_147_483_648,
    -2_147_483_649,
    4_294_967_295,
    4_294_967_296,
    i64::MAX,
    i64::MIN,
];

/// The results of everything that is read while the daemon runs, without the values.
fn read_all(checkpoint: &Checkpoint) -> Vec<(&'static str, Result<(), CheckpointError>)> {
    let now = UnixMillis::new(1_795_341_600_000);
    let first = day("2026-11-01");
    vec![
        ("pending", checkpoint.pending(&"local".into()).map(drop)),
        ("read", checkpoint.read(&read_request(0, "2026-11-01")).map(drop)),
        ("status", checkpoint.status(StatusDetail::Items).map(drop)),
        ("cursors", checkpoint.cursors().map(drop)),
        ("poll_state", checkpoint.poll_state(tenant()).map(drop)),
        ("poll_states", checkpoint.poll_states().map(drop)),
        ("resume_days", checkpoint.resume_days(tenant()).map(drop)),
        ("due_missing_days", checkpoint.due_missing_days(tenant(), now).map(drop)),
        ("stored_days", checkpoint.stored_days(tenant(), first).map(drop)),
        ("past_entries", checkpoint.past_entries(tenant(), first, Seq::ZERO).map(drop)),
        ("snapshot_range", checkpoint.snapshot_range(tenant(), Seq::ZERO, first).map(drop)),
        ("days_before", checkpoint.days_before(tenant(), Seq::MAX).map(drop)),
        ("next_seq", checkpoint.next_seq(tenant()).map(drop)),
        ("log_ends", checkpoint.log_ends().map(drop)),
        ("failures", checkpoint.failures().map(drop)),
        ("restarted", checkpoint.restarted().map(drop)),
    ]
}

#[test]
fn damaged_numbers_are_errors_or_values() {
    let (_directory, checkpoint) = new_checkpoint();
    register(&checkpoint, "local");
    commit_day(&checkpoint, "2026-11-21", 1, 1);
    commit(&checkpoint, &PollCommit { missing: vec![day("2026-11-20")], ..empty_commit() });
    let (first, last) = (day("2026-11-20"), day("2026-11-22"));
    checkpoint
        .add_replay(&"local".into(), &[tenant()], first, last, UnixMillis::default())
        .unwrap();
    checkpoint.queue_backfills(&[tenant()], first, UnixMillis::default()).unwrap();

    for (table, column) in COLUMNS {
        // The first tenant represents the host.
        let row = if *table == "tenant" { "rowid = 2" } else { "true" };
        let select = format!("SELECT {column} AS number FROM {table} WHERE {row}");
        let original = checkpoint.raw().number(&select);
        let update = format!("UPDATE {table} SET {column} = ?1 WHERE {row}");

        for number in NUMBERS {
            checkpoint.raw().run_with(&update, Some(*number));
            for (function, result) in read_all(&checkpoint) {
                let is_expected = matches!(result, Ok(()) | Err(CheckpointError::Damaged(_)));
                assert!(is_expected, "{function}: {table}.{column} = {number}: {result:?}");
            }
            checkpoint.raw().run_with(&update, original);
        }
    }

    for (function, result) in read_all(&checkpoint) {
        assert!(result.is_ok(), "{function}: {result:?}");
    }
}

/// Regression: a negative cursor was read as a position after the end of the log, so the sink
/// received nothing and reported no error.
#[test]
fn a_negative_cursor_is_damaged() {
    let (_directory, checkpoint) = new_checkpoint();
    register(&checkpoint, "local");
    commit_day(&checkpoint, "2026-11-21", 1, 1);
    change(&checkpoint, "UPDATE cursor SET seq = -1");

    let error = checkpoint.pending(&"local".into()).unwrap_err();
    assert!(error.to_string().contains("the number `-1` is out of range"), "{error}");
    assert!(error.is_unusable());
}
