//! Calls that fail, and calls about something that does not exist: none of them changes anything.

use super::{values::DayCopy, *};
use crate::model::{ClockOffset, RejectedConfiguration};

/// A call on a checkpoint.
type CheckpointCall = fn(&Checkpoint) -> Result<(), CheckpointError>;

/// A call that fails, and whether an error is the expected one.
type FailingCall = (CheckpointCall, fn(&CheckpointError) -> bool);

const NOW: UnixMillis = UnixMillis::new(1_795_341_600_000);

/// Calls that fail in [`two_sinks`].
const FAILING_CALLS: &[FailingCall] = &[
    (|checkpoint| advance(checkpoint, "a", Lane::Live, &[(tenant(), at(1, 7))]), is_moved_cursor),
    (|checkpoint| advance(checkpoint, "a", Lane::Live, &[(tenant(), at(2, 0))]), is_moved_cursor),
    // The move of the other tenant is possible.
    (
        |checkpoint| {
            let moves = [(other_tenant(), at(1, 0)), (tenant(), at(1, 7))];
            advance(checkpoint, "a", Lane::Live, &moves)
        },
        is_moved_cursor,
    ),
    (|checkpoint| advance(checkpoint, "c", Lane::Live, &[(tenant(), at(1, 0))]), is_moved_cursor),
    (
        |checkpoint| advance(checkpoint, "a", Lane::Live, &[(TenantId::TEST, at(1, 0))]),
        is_moved_cursor,
    ),
    (
        |checkpoint| advance(checkpoint, "a", Lane::Replay(unknown_row()), &[(tenant(), at(1, 0))]),
        is_moved_cursor,
    ),
    (|checkpoint| checkpoint.rename_sink(&"a".into(), &"b".into(), NOW).map(drop), is_taken_name),
    (commit_stored_revision, |error| {
        error.storage_fault() == Some(StorageFault::Unexpected) && !error.is_transient()
    }),
    (commit_large_catalog, |error| {
        matches!(error, CheckpointError::TooLarge(_)) && !error.is_transient()
    }),
    (|checkpoint| checkpoint.catalog(unknown_row()).map(drop), is_damaged),
    (|checkpoint| checkpoint.profile(unknown_row()).map(drop), is_damaged),
];

/// Calls about sinks, tenants and dead letters, each with its name. In an empty checkpoint, they
/// find nothing.
const FRUITLESS_CALLS: &[(&str, CheckpointCall)] = &[
    ("set_mark", |checkpoint| checkpoint.set_mark(&"a".into(), b"mark")),
    ("set_entry_filter", |checkpoint| checkpoint.set_entry_filter(&"a".into(), EntryFilter::All)),
    ("set_sink_type", |checkpoint| checkpoint.set_sink_type(&"a".into(), "file")),
    ("record_sink_failure", |checkpoint| {
        let reason = Explanation::new("no response");
        checkpoint.record_sink_failure(&"a".into(), SinkFailure::Parked, &reason, NOW)
    }),
    ("clear_sink_failure", |checkpoint| checkpoint.clear_sink_failure(&"a".into())),
    ("remove_sink", |checkpoint| checkpoint.remove_sink(&"a".into(), NOW)),
    ("drop_sink", |checkpoint| checkpoint.drop_sink(&"a".into(), NOW)),
    ("correct_removal_times", |checkpoint| checkpoint.correct_removal_times(NOW)),
    ("abandon_poll", |checkpoint| checkpoint.abandon_poll(tenant())),
    ("restore_sink", |checkpoint| nothing(&checkpoint.restore_sink(&"a".into(), NOW)?)),
    ("rename_sink", |checkpoint| {
        nothing(&checkpoint.rename_sink(&"a".into(), &"b".into(), NOW)?)
    }),
    ("delete_removed_sinks", |checkpoint| nothing(&checkpoint.delete_removed_sinks(NOW)?)),
    ("confirm_start_day", |checkpoint| {
        nothing(&checkpoint.confirm_start_day(&"a".into(), first_day(), first_day())?)
    }),
    ("skip_to", |checkpoint| nothing(&checkpoint.skip_to(&"a".into(), tenant(), at(2, 0))?)),
    ("pending", |checkpoint| nothing(&checkpoint.pending(&"a".into())?)),
    ("unsent_entries", |checkpoint| nothing(&checkpoint.unsent_entries(&"a".into())?)),
    ("mark", |checkpoint| nothing(&checkpoint.mark(&"a".into())?)),
    ("add_replay", |checkpoint| {
        nothing(&checkpoint.add_replay(&"a".into(), &tenants(), first_day(), first_day(), NOW)?)
    }),
    ("replay_scope", |checkpoint| {
        nothing(&checkpoint.replay_scope(&"a".into(), &tenants(), first_day(), first_day())?)
    }),
    ("pending_replay", |checkpoint| nothing(&checkpoint.pending_replay(&"a".into(), &|_| true)?)),
    ("pending_dead_letters", |checkpoint| {
        nothing(&checkpoint.pending_dead_letters(&"a".into(), &tenants(), 9)?)
    }),
    ("retry_dead_letters", |checkpoint| nothing(&checkpoint.retry_dead_letters(&[unknown_key()])?)),
    ("discard_dead_letters", |checkpoint| {
        let (discarded, growth) = checkpoint.discard_dead_letters(&[unknown_key()], NOW)?;
        assert_eq!(growth, LogGrowth::Unchanged);
        nothing(&discarded)
    }),
    ("prune", |checkpoint| nothing(&checkpoint.prune(NOW.day(), Some(0), NOW.day())?.days)),
    ("forget", |checkpoint| nothing(&checkpoint.forget(tenant(), NOW)?)),
    ("poll_state", |checkpoint| nothing(&checkpoint.poll_state(tenant())?)),
    ("missing_days", |checkpoint| nothing(&checkpoint.missing_days(tenant())?)),
    ("due_missing_days", |checkpoint| nothing(&checkpoint.due_missing_days(tenant(), NOW)?)),
    ("drop_command", |checkpoint| checkpoint.drop_command(unknown_row())),
    ("queued_snapshots", |checkpoint| {
        let unknown = QueuedImport { id: unknown_row(), tenant: tenant() };
        nothing(&checkpoint.queued_snapshots(unknown)?)
    }),
    ("days_before", |checkpoint| nothing(&checkpoint.days_before(tenant(), Seq::MAX)?)),
    ("stored_day_range", |checkpoint| nothing(&checkpoint.stored_day_range(tenant())?)),
    ("tenant_of_domain", |checkpoint| nothing(&checkpoint.tenant_of_domain("a.example")?)),
    ("log_ends", |checkpoint| nothing(&checkpoint.log_ends()?)),
];

/// Calls that always write, each with its name.
const WRITING_CALLS: &[(&str, CheckpointCall)] = &[
    ("commit_poll", |checkpoint| checkpoint.commit_poll(tenant(), &empty_commit()).map(drop)),
    ("begin_poll", |checkpoint| checkpoint.begin_poll(tenant(), NOW)),
    ("advance", |checkpoint| advance(checkpoint, "a", Lane::Live, &[(tenant(), at(1, 0))])),
    ("confirm_writable", Checkpoint::confirm_writable),
    ("register_sink", |checkpoint| {
        checkpoint.register_sink(&"c".into(), &tenants(), OtherTenants::Keep, first_day())
    }),
    ("remove_sink", |checkpoint| checkpoint.remove_sink(&"a".into(), NOW)),
    ("rename_sink", |checkpoint| checkpoint.rename_sink(&"a".into(), &"c".into(), NOW).map(drop)),
    ("drop_sink", |checkpoint| checkpoint.drop_sink(&"a".into(), NOW)),
    ("retry_dead_letters", |checkpoint| checkpoint.retry_dead_letters(&[unknown_key()]).map(drop)),
    ("queue_backfills", |checkpoint| checkpoint.queue_backfills(&tenants(), first_day(), NOW)),
    ("queue_import", |checkpoint| checkpoint.queue_import(tenant(), &["{}"], NOW).map(drop)),
    ("drop_command", |checkpoint| checkpoint.drop_command(unknown_row())),
    ("store_resolved_domain", |checkpoint| checkpoint.store_resolved_domain("a.example", tenant())),
    ("record_resolution_failure", |checkpoint| {
        let (reason, class) = (&Explanation::new("unknown"), PollErrorClass::Configuration);
        let failure = ResolutionFailure { at: NOW, reason, class, not_before: None };
        checkpoint.record_resolution_failure("b.example", &failure)
    }),
    ("set_sink_type", |checkpoint| checkpoint.set_sink_type(&"b".into(), "file")),
    ("set_mark", |checkpoint| checkpoint.set_mark(&"b".into(), b"mark")),
    ("record_clock", |checkpoint| {
        let ahead = NOW.saturating_add(Duration::from_hours(1));
        checkpoint.record_clock(ClockOffset::between(ahead.into(), NOW.into()), NOW)
    }),
    ("set_last_prune_day", |checkpoint| checkpoint.set_last_prune_day(first_day())),
    ("set_daemon_report", |checkpoint| {
        checkpoint.set_daemon_report(Some(&DaemonReport::default()))
    }),
    ("set_rejected_configuration", |checkpoint| {
        let rejected = RejectedConfiguration { at: NOW, reason: Explanation::new("unknown key") };
        checkpoint.set_rejected_configuration(Some(&rejected))
    }),
    ("forget", |checkpoint| checkpoint.forget(tenant(), NOW).map(drop)),
    ("record_alive", |checkpoint| checkpoint.record_alive(NOW)),
];

fn is_moved_cursor(error: &CheckpointError) -> bool {
    matches!(error, CheckpointError::CursorMoved(_)) && !error.is_transient()
}

fn is_taken_name(error: &CheckpointError) -> bool {
    let CheckpointError::SinkExists(old, new) = error else { return false };
    (old.as_str(), new.as_str()) == ("a", "b")
}

fn is_damaged(error: &CheckpointError) -> bool {
    matches!(error, CheckpointError::Damaged(_))
}

/// Requires a result that means that nothing was found.
#[expect(clippy::unnecessary_wraps, reason = "the result of the calls in the tables")]
fn nothing<T: Default + PartialEq + std::fmt::Debug>(found: &T) -> Result<(), CheckpointError> {
    assert_eq!(*found, T::default());
    Ok(())
}

fn unknown_key() -> DeadLetterKey {
    DeadLetterKey { sink: "a".into(), event_id: EventId::from_bytes([0xff; 20]) }
}

/// Advances from the given positions to the end of the log, with a mark and a rejected record.
fn advance(
    checkpoint: &Checkpoint,
    sink: &str,
    lane: Lane,
    from: &[(TenantId, Position)],
) -> Result<(), CheckpointError> {
    let cursor_move = |(tenant, from): &(TenantId, Position)| {
        let (tenant, from) = (*tenant, *from);
        CursorMove { tenant, from, to: at(2, 0) }
    };
    let moves: Vec<CursorMove> = from.iter().map(cursor_move).collect();
    let sink = SinkName::new(sink);
    let dead_letters = [values::dead_letter(tenant(), at(1, 0), 0)];
    let advance = Advance {
        lane,
        mark: Some(b"mark"),
        sent: 1,
        dead_letters: &dead_letters,
        ..live_advance(&sink, &moves)
    };
    checkpoint.advance(&advance).map(drop)
}

/// Commits a poll of a third tenant, whose second entry has the revision of its first one.
fn commit_stored_revision(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let (stored, missing) = (day("2026-11-20"), day("2026-11-19"));
    let DayCopy { facts, body } = DayCopy::new(stored, 1.0, "");
    let entry = || NewEntry {
        snapshot_id: "x",
        revision: 1,
        facts: &facts,
        body: &body,
        observed_at: NOW,
        base: None,
        flags: EntryFlags::default(),
    };

    let poll = PollCommit {
        entries: vec![entry(), entry()],
        held: vec![(missing, &body)],
        catalog: values::catalog_members(1),
        observations: vec![values::observation(&(0, 0, Phase::Begin))],
        missing: vec![missing],
        ..empty_commit()
    };
    checkpoint.commit_poll(TenantId::TEST, &poll).map(drop)
}

/// Commits a poll of a third tenant, whose catalog could not be read again.
fn commit_large_catalog(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let decisions = "x".repeat(64 << 20);
    let catalog = vec![CatalogMember { shared: "{}", decisions: &decisions }];
    let poll = PollCommit { catalog, missing: vec![first_day()], ..empty_commit() };
    checkpoint.commit_poll(TenantId::TEST, &poll).map(drop)
}

/// Adds two sinks, which have received nothing of the day that is stored for two tenants.
fn two_sinks(checkpoint: &Checkpoint) {
    for tenant in tenants() {
        commit_day_of(tenant, checkpoint, "2026-11-20", 1, 1);
    }
    for sink in ["a", "b"] {
        let others = OtherTenants::Keep;
        checkpoint.register_sink(&sink.into(), &tenants(), others, first_day()).unwrap();
    }
}

/// What a checkpoint in memory contains, as text.
fn content(checkpoint: &Checkpoint) -> String {
    let status = checkpoint.status(StatusDetail::Items).unwrap();
    let pending = ["a", "b", "c"].map(|sink| checkpoint.pending(&sink.into()).unwrap());
    let logs = tenants().map(|tenant| checkpoint.next_seq(tenant).unwrap());
    let cursors = checkpoint.cursors().unwrap();
    let marks = ["a", "b"].map(|sink| checkpoint.mark(&sink.into()).unwrap());
    format!("{status:?} {pending:?} {logs:?} {cursors:?} {marks:?}")
}

#[test]
fn failed_calls_change_nothing() {
    for (number, (call, is_expected)) in FAILING_CALLS.iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
        two_sinks(&checkpoint);
        let before = content(&checkpoint);

        let error = call(&checkpoint).unwrap_err();
        assert!(is_expected(&error), "{number}: {error:?}");
        assert_eq!(content(&checkpoint), before, "{number}");
        // The same cursors can still move.
        let from = tenants().map(|tenant| (tenant, at(1, 0)));
        advance(&checkpoint, "a", Lane::Live, &from).unwrap();
    }
}

#[test]
fn calls_about_nothing_store_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
    let before = content(&checkpoint);
    for (name, call) in FRUITLESS_CALLS {
        let result = call(&checkpoint);
        assert!(result.is_ok(), "{name}: {result:?}");
        assert_eq!(content(&checkpoint), before, "{name}");
        assert!(checkpoint.stored_sinks().unwrap().is_empty(), "{name}");
    }
}

#[test]
fn a_checkpoint_for_reading_never_changes() {
    let (directory, checkpoint) = new_checkpoint();
    two_sinks(&checkpoint);
    let reader = Checkpoint::open_read_only(directory.path()).unwrap();
    for (name, call) in WRITING_CALLS {
        let error = call(&reader).unwrap_err();
        assert_eq!(error.storage_fault(), Some(StorageFault::ReadOnly), "{name}: {error:?}");
    }
    drop(reader);

    // The same calls succeed in the checkpoint that is open for writing.
    for (name, call) in WRITING_CALLS {
        call(&checkpoint).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
}
