//! Queued backfills and imports: what completes them, and what is kept after a restart.

use super::*;

fn now() -> UnixMillis {
    empty_commit().observed_at
}

fn today() -> Day {
    now().day()
}

fn in_memory() -> (tempfile::TempDir, Checkpoint) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
    (directory, checkpoint)
}

/// Queues a backfill of [`tenant`] that begins this many days ago.
fn queue(checkpoint: &Checkpoint, days_ago: i32) {
    checkpoint.queue_backfills(&[tenant()], today().plus(-days_ago), now()).unwrap();
}

/// How many days ago the queued backfill of [`tenant`] begins.
fn queued(checkpoint: &Checkpoint) -> Option<i32> {
    let state = checkpoint.poll_state(tenant()).unwrap();
    let first_day = state.queued_backfill;
    let found = checkpoint.poll_states().unwrap().of(tenant());
    assert_eq!(found, FoundPollState::Readable(state));
    first_day.map(|day| today().number() - day.number())
}

fn commands(checkpoint: &Checkpoint) -> i64 {
    query_number(checkpoint, "SELECT count(*) FROM queued_command")
}

/// Commits a poll that has read all days from this many days ago on; `None` if it was incomplete.
fn poll(checkpoint: &Checkpoint, back_to: Option<i32>) {
    let polled_back_to = back_to.map(|days_ago| today().plus(-days_ago));
    commit(checkpoint, &PollCommit { polled_back_to, ..empty_commit() });
}

#[test]
fn a_backfill_is_queued_until_it_is_read() {
    let (_directory, checkpoint) = in_memory();
    queue(&checkpoint, 20);
    queue(&checkpoint, 10);
    assert_eq!((queued(&checkpoint), commands(&checkpoint)), (Some(20), 1));
    queue(&checkpoint, 30);
    assert_eq!((queued(&checkpoint), commands(&checkpoint)), (Some(30), 2));

    poll(&checkpoint, None);
    assert_eq!(queued(&checkpoint), Some(30), "a partial response completes nothing");
    poll(&checkpoint, Some(25));
    assert_eq!((queued(&checkpoint), commands(&checkpoint)), (Some(30), 1));
    let checkpoint = checkpoint.restarted().unwrap();
    assert_eq!(queued(&checkpoint), Some(30));
    poll(&checkpoint, Some(30));
    assert_eq!((queued(&checkpoint), commands(&checkpoint)), (None, 0));
}

/// No poll can request a day that Microsoft no longer keeps, so it must not stay queued.
#[test]
fn the_oldest_poll_completes_every_backfill() {
    let (_directory, checkpoint) = in_memory();
    for days_ago in [90, 400] {
        queue(&checkpoint, days_ago);
        poll(&checkpoint, Some(88));
        assert_eq!(queued(&checkpoint), Some(days_ago));
        poll(&checkpoint, Some(89));
        assert_eq!(queued(&checkpoint), None);
    }
}

#[test]
fn every_tenant_has_its_own_backfill() {
    let (_directory, checkpoint) = in_memory();
    checkpoint.queue_backfills(&[tenant(), other_tenant()], today().plus(-9), now()).unwrap();
    poll(&checkpoint, Some(9));
    assert_eq!((queued(&checkpoint), commands(&checkpoint)), (None, 1));
    let other = checkpoint.poll_state(other_tenant()).unwrap();
    assert_eq!(other.queued_backfill, Some(today().plus(-9)));
}

#[test]
fn an_import_is_queued_until_it_is_committed() {
    let (_directory, checkpoint) = in_memory();
    let items = ["{\"a\":\"ä\\n\"}", "", "not JSON"];
    let first = checkpoint.queue_import(tenant(), &items, now()).unwrap();
    let second = checkpoint.queue_import(other_tenant(), &[], now()).unwrap();

    let checkpoint = checkpoint.restarted().unwrap();
    let of_tenant = QueuedImport { id: first, tenant: tenant() };
    let of_other = QueuedImport { id: second, tenant: other_tenant() };
    assert_eq!(checkpoint.queued_imports().unwrap(), [of_tenant, of_other]);
    let snapshots = checkpoint.queued_snapshots(of_tenant).unwrap().unwrap();
    assert_eq!(snapshots, items);
    // The ID of a completed import can be that of another one later.
    let of_another = QueuedImport { id: second, tenant: tenant() };
    assert_eq!(checkpoint.queued_snapshots(of_another).unwrap(), None);

    // A commit that fails completes nothing, and neither does a poll.
    let (facts, body) = (facts(&body("2026-11-20", 1)), body("2026-11-20", 1));
    let body = CompressedText::compress(&body).unwrap();
    let entry = || NewEntry {
        snapshot_id: "x",
        revision: 1,
        facts: &facts,
        body: &body,
        observed_at: now(),
        base: None,
        flags: EntryFlags::default(),
    };
    let import = |entries| PollCommit {
        entries,
        end: PollEnd::NoPoll,
        requested_from: None,
        finished: Some(first),
        ..empty_commit()
    };
    checkpoint.commit_poll(tenant(), &import(vec![entry(), entry()])).unwrap_err();
    poll(&checkpoint, Some(89));
    assert_eq!(commands(&checkpoint), 2);

    commit(&checkpoint, &import(vec![entry()]));
    assert_eq!(checkpoint.queued_imports().unwrap(), [of_other]);
    assert_eq!(checkpoint.queued_snapshots(of_tenant).unwrap(), None);
    assert_eq!(checkpoint.next_seq(tenant()).unwrap(), Seq::new(2));
    checkpoint.drop_command(second).unwrap();
    assert_eq!(commands(&checkpoint), 0);
}

/// Regression: `status` showed no queued command.
#[test]
fn the_status_counts_queued_commands() {
    let (_directory, checkpoint) = in_memory();
    let counts = || {
        let status = checkpoint.status(StatusDetail::Summary).unwrap();
        let count =
            |tenant: &TenantStatus| (tenant.queued_commands, tenant.backfill_requested.is_some());
        status.tenants.iter().map(count).collect::<Vec<_>>()
    };
    queue(&checkpoint, 9);
    assert_eq!(counts(), [(1, true)]);
    queue(&checkpoint, 20);
    for _ in 0..2 {
        checkpoint.queue_import(other_tenant(), &["{}"], now()).unwrap();
    }
    assert_eq!(counts(), [(2, true), (2, false)]);
    poll(&checkpoint, Some(20));
    assert_eq!(counts(), [(0, false), (2, false)]);
}

#[test]
fn an_erasure_includes_queued_commands() {
    let (_directory, checkpoint) = new_checkpoint();
    queue(&checkpoint, 9);
    checkpoint.queue_import(tenant(), &["{}"], now()).unwrap();
    let kept = checkpoint.queue_import(other_tenant(), &["{}"], now()).unwrap();
    checkpoint.forget(tenant(), now()).unwrap().unwrap();

    let kept = QueuedImport { id: kept, tenant: other_tenant() };
    assert_eq!((checkpoint.queued_imports().unwrap(), commands(&checkpoint)), (vec![kept], 1));
}

#[test]
fn a_damaged_import_is_found_and_removed() {
    let (_directory, checkpoint) = new_checkpoint();
    queue(&checkpoint, 9);
    let id = checkpoint.queue_import(tenant(), &["{}"], now()).unwrap();
    let intact = QueuedImport { id, tenant: tenant() };
    for damage in [
        "UPDATE queued_command SET snapshots = x'00' WHERE id = 3",
        "UPDATE queued_command SET snapshots = substr(snapshots, 1, length(snapshots) - 1) WHERE id = 3",
    ] {
        let id = checkpoint.queue_import(tenant(), &["[]"], now()).unwrap();
        let damaged = QueuedImport { id, tenant: tenant() };
        change(&checkpoint, damage);
        let error = checkpoint.queued_snapshots(damaged).unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged(_)), "{damage}: {error:?}");
        let findings = checkpoint.verify().unwrap().findings;
        assert_eq!(findings.len(), 1, "{damage}: {findings:?}");

        let repaired = checkpoint.repair(now(), |_| None).unwrap();
        assert_eq!(repaired.imports, [tenant().to_string()], "{damage}");
        assert_eq!(checkpoint.verify().unwrap().findings, [], "{damage}");
        assert_eq!(commands(&checkpoint), 2, "{damage}");
        assert!(checkpoint.queued_snapshots(intact).unwrap().is_some(), "{damage}");
    }
}
