//! Sinks that were removed from the configuration: what is kept, taken up again, merged and
//! deleted.

use super::*;

const REMOVED: UnixMillis = UnixMillis::new(1_000);
const RESTORED: UnixMillis = UnixMillis::new(2_000);

/// Moves the live cursor of a sink from the beginning of the log to a position.
fn deliver_to(checkpoint: &Checkpoint, sink: &str, to: Position) {
    let (name, moves) = (SinkName::new(sink), [cursor_move(at(1, 0), to)]);
    let mark = Some(sink.as_bytes());
    let advance = Advance { mark, sent: 10, ..live_advance(&name, &moves) };
    let _ = checkpoint.advance(&advance).unwrap();
}

/// Rejects the first record of the log of [`tenant`].
fn reject_first(checkpoint: &Checkpoint, sink: &str) {
    let dead_letter = DeadLetter {
        tenant: tenant(),
        at: at(1, 0),
        event_id: EventId::from_bytes([7; 20]),
        reason: "no such field".into(),
    };
    let (name, moves) = (SinkName::new(sink), [cursor_move(at(1, 0), at(1, 1))]);
    let advance = Advance { dead_letters: &[dead_letter], ..live_advance(&name, &moves) };
    let _ = checkpoint.advance(&advance).unwrap();
}

fn names(checkpoint: &Checkpoint) -> Vec<SinkName> {
    checkpoint.stored_sinks().unwrap().into_iter().map(|sink| sink.name).collect()
}

fn open_observations(checkpoint: &Checkpoint) -> i64 {
    query_number(checkpoint, "SELECT count(*) FROM open_observation WHERE what = 'dead_letter'")
}

/// Regression: a sink that was left out of the configuration for a day received 90 days again.
#[test]
fn a_returning_sink_continues_where_it_stopped() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    commit_day(&checkpoint, "2026-11-21", 1, 1);
    register(&checkpoint, "s");
    checkpoint.set_sink_type(&"s".into(), "file").unwrap();
    deliver_to(&checkpoint, "s", at(3, 0));

    checkpoint.remove_sink(&"s".into(), REMOVED).unwrap();
    checkpoint.remove_sink(&"s".into(), RESTORED).unwrap();
    commit_day(&checkpoint, "2026-11-22", 1, 1);
    let (name, kind) = (SinkName::new("s"), Some("file".to_owned()));
    let kept = StoredSink { name, kind, removed_at: Some(REMOVED) };
    assert_eq!(checkpoint.stored_sinks().unwrap(), [kept]);
    assert!(checkpoint.status(StatusDetail::Summary).unwrap().sinks.is_empty());
    assert_eq!(checkpoint.unsent_entries(&"s".into()).unwrap(), 1);

    assert!(checkpoint.restore_sink(&"s".into(), RESTORED).unwrap());
    assert!(!checkpoint.restore_sink(&"s".into(), RESTORED).unwrap());
    register(&checkpoint, "s");
    let pending = &checkpoint.pending(&"s".into()).unwrap()[0];
    assert_eq!((pending.at, pending.entries), (at(3, 0), 1));
    assert_eq!(checkpoint.mark(&"s".into()).unwrap().as_deref(), Some(&b"s"[..]));
    assert_eq!(checkpoint.status(StatusDetail::Summary).unwrap().sinks[0].sent, 10);
}

#[test]
fn a_removed_sink_is_deleted_after_its_time() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    for sink in ["removed", "configured"] {
        register(&checkpoint, sink);
        deliver_to(&checkpoint, sink, at(2, 0));
    }
    checkpoint.remove_sink(&"removed".into(), REMOVED).unwrap();

    let earlier = UnixMillis::new(REMOVED.as_i64() - 1);
    assert!(checkpoint.delete_removed_sinks(earlier).unwrap().is_empty());
    assert_eq!(checkpoint.delete_removed_sinks(REMOVED).unwrap(), ["removed"]);
    assert!(checkpoint.delete_removed_sinks(UnixMillis::new(i64::MAX)).unwrap().is_empty());
    assert_eq!(names(&checkpoint), ["configured"]);

    register(&checkpoint, "removed");
    assert_eq!(checkpoint.unsent_entries(&"removed".into()).unwrap(), 1, "it is a new sink");
}

#[test]
fn dead_letters_are_reported_again_on_return() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    register(&checkpoint, "s");
    reject_first(&checkpoint, "s");
    assert_eq!(open_observations(&checkpoint), 1);

    checkpoint.remove_sink(&"s".into(), REMOVED).unwrap();
    assert_eq!(open_observations(&checkpoint), 0);
    checkpoint.restore_sink(&"s".into(), RESTORED).unwrap();
    assert_eq!(open_observations(&checkpoint), 1);
    let details = "SELECT count(*) FROM open_observation WHERE details = 'no such field'";
    assert_eq!(query_number(&checkpoint, details), 1);
}

#[test]
fn a_removed_sink_protects_bodies_until_deleted() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-01-10", 1, 1);
    let others = OtherTenants::Deactivate;
    checkpoint.register_sink(&"s".into(), &[tenant()], others, day("2026-01-01")).unwrap();
    checkpoint.remove_sink(&"s".into(), REMOVED).unwrap();

    let prune = || checkpoint.prune(day("2026-06-01"), None, day("2026-11-22")).unwrap().days;
    assert_eq!(prune(), 0);
    checkpoint.delete_removed_sinks(REMOVED).unwrap();
    assert_eq!(prune(), 1);
}

/// The result of a rename for each state of the two names.
#[test]
fn renames_by_the_state_of_both_names() {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum State {
        Absent,
        Configured,
        Removed,
    }
    use State::{Absent, Configured, Removed};

    /// Whether the rename had an effect, and the state of the new name; `None` if it is rejected.
    type Expected = Option<(bool, State)>;
    let cases: [(State, State, Expected); 8] = [
        (Absent, Absent, Some((false, Absent))),
        (Absent, Configured, Some((false, Configured))),
        (Configured, Absent, Some((true, Configured))),
        (Configured, Configured, None),
        (Configured, Removed, Some((true, Configured))),
        (Removed, Absent, Some((true, Removed))),
        (Removed, Configured, Some((true, Configured))),
        (Removed, Removed, Some((true, Removed))),
    ];
    for (old, new, expected) in cases {
        let (_directory, checkpoint) = new_checkpoint();
        for (name, state) in [("old", old), ("new", new)] {
            if state != Absent {
                register(&checkpoint, name);
            }
            if state == Removed {
                checkpoint.remove_sink(&name.into(), REMOVED).unwrap();
            }
        }

        let renamed = checkpoint.rename_sink(&"old".into(), &"new".into(), RESTORED);
        let found = renamed.ok().map(|is_known| {
            let state = match checkpoint.stored_sinks().unwrap().as_slice() {
                [] => Absent,
                [StoredSink { name, removed_at: None, .. }] if name == "new" => Configured,
                [StoredSink { name, .. }] if name == "new" => Removed,
                other => panic!("{old:?}, {new:?}: {other:?}"),
            };
            (is_known, state)
        });
        assert_eq!(found, expected, "{old:?}, {new:?}");
    }
}

/// A sink that was renamed without `renamed_from`, and got the key afterward.
#[test]
fn a_late_rename_continues_at_the_later_cursor() {
    for (old, new, expected) in [
        (at(4, 0), at(2, 5), at(4, 0)),
        (at(2, 5), at(4, 0), at(4, 0)),
        (at(2, 7), at(2, 5), at(2, 7)),
    ] {
        let (_directory, checkpoint) = new_checkpoint();
        for text in ["2026-11-20", "2026-11-21", "2026-11-22"] {
            commit_day(&checkpoint, text, 1, 1);
        }
        for (sink, to) in [("old", old), ("new", new)] {
            register(&checkpoint, sink);
            deliver_to(&checkpoint, sink, to);
        }
        checkpoint.remove_sink(&"old".into(), REMOVED).unwrap();

        assert!(checkpoint.rename_sink(&"old".into(), &"new".into(), RESTORED).unwrap());
        assert_eq!(names(&checkpoint), ["new"]);
        let sink = &checkpoint.status(StatusDetail::Items).unwrap().sinks[0];
        assert_eq!((sink.cursors[0].at, sink.sent), (expected, 20));
        assert_eq!(checkpoint.mark(&"new".into()).unwrap().as_deref(), Some(&b"new"[..]));
    }
}

#[test]
fn a_late_rename_keeps_every_dead_letter_once() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    for sink in ["old", "new"] {
        register(&checkpoint, sink);
        reject_first(&checkpoint, sink);
    }
    checkpoint.remove_sink(&"old".into(), REMOVED).unwrap();

    checkpoint.rename_sink(&"old".into(), &"new".into(), RESTORED).unwrap();
    assert_eq!(query_number(&checkpoint, "SELECT count(*) FROM dead_letter"), 1);
    assert_eq!(checkpoint.status(StatusDetail::Summary).unwrap().sinks[0].dead_letters, 1);
    assert_eq!(open_observations(&checkpoint), 1);
}

#[test]
fn the_cursor_file_keeps_removed_sinks() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        commit_day(&checkpoint, "2026-11-20", 1, 1);
        for sink in ["removed", "configured"] {
            register(&checkpoint, sink);
            deliver_to(&checkpoint, sink, at(2, 0));
        }
        checkpoint.remove_sink(&"removed".into(), REMOVED).unwrap();
        checkpoint.write_cursor_file().unwrap();
    }

    let rebuilt = lose_database(directory.path());
    let carried = rebuilt.cursors().unwrap().carried;
    let times: Vec<_> = carried.iter().map(|c| (c.sink.as_str(), c.removed_at)).collect();
    assert_eq!(times, [("configured", None), ("removed", Some(REMOVED))]);
    register(&rebuilt, "removed");
    commit_day(&rebuilt, "2026-11-20", 1, 1);
    assert_eq!(rebuilt.unsent_entries(&"removed".into()).unwrap(), 0, "nothing is sent again");

    // The file was not written since, so the next database finds both sinks again.
    drop(rebuilt);
    let rebuilt = lose_database(directory.path());
    rebuilt.delete_removed_sinks(REMOVED).unwrap();
    let carried = rebuilt.cursors().unwrap().carried;
    assert_eq!(carried.iter().map(|c| c.sink.as_str()).collect::<Vec<_>>(), ["configured"]);
}

/// Regression: a sink that was renamed while its database was lost received all days again.
#[test]
fn a_rename_uses_the_cursor_file() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        commit_day(&checkpoint, "2026-11-20", 1, 1);
        register(&checkpoint, "old");
        deliver_to(&checkpoint, "old", at(2, 0));
        checkpoint.write_cursor_file().unwrap();
    }

    let rebuilt = lose_database(directory.path());
    assert!(!rebuilt.rename_sink(&"old".into(), &"new".into(), RESTORED).unwrap());
    register(&rebuilt, "new");
    commit_day(&rebuilt, "2026-11-20", 1, 1);
    assert_eq!(rebuilt.unsent_entries(&"new".into()).unwrap(), 0);
}

/// Regression: the cursors of a removed sink whose name was given to another one stayed in the
/// cursor file, and the renamed sink skipped days after the loss of the database.
#[test]
fn a_replaced_sink_leaves_no_saved_cursor() {
    let (directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    for sink in ["old", "new"] {
        register(&checkpoint, sink);
    }
    deliver_to(&checkpoint, "new", at(2, 0));
    checkpoint.remove_sink(&"new".into(), REMOVED).unwrap();
    checkpoint.write_cursor_file().unwrap();
    drop(checkpoint);

    // The file is read when the checkpoint is opened.
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert!(checkpoint.rename_sink(&"old".into(), &"new".into(), RESTORED).unwrap());
    let saved = checkpoint.saved_cursors();
    let positions: Vec<_> = saved.cursors.iter().map(|c| (c.sink.as_str(), c.seq)).collect();
    assert_eq!(positions, [("new", Seq::FIRST)]);
}

/// Regression: the rename of a removed sink to its own name deleted it.
#[test]
fn a_rename_to_the_same_name_changes_nothing() {
    for is_removed in [false, true] {
        let (_directory, checkpoint) = new_checkpoint();
        commit_day(&checkpoint, "2026-11-20", 1, 1);
        register(&checkpoint, "s");
        deliver_to(&checkpoint, "s", at(1, 7));
        if is_removed {
            checkpoint.remove_sink(&"s".into(), REMOVED).unwrap();
        }
        let before = checkpoint.cursors().unwrap();

        assert!(
            checkpoint.rename_sink(&"s".into(), &"s".into(), RESTORED).unwrap(),
            "{is_removed}"
        );
        assert_eq!(names(&checkpoint), ["s"], "{is_removed}");
        assert_eq!(checkpoint.cursors().unwrap(), before, "{is_removed}");
        assert_eq!(
            checkpoint.mark(&"s".into()).unwrap().as_deref(),
            Some(&b"s"[..]),
            "{is_removed}"
        );
    }
    let (_directory, checkpoint) = new_checkpoint();
    assert!(!checkpoint.rename_sink(&"absent".into(), &"absent".into(), RESTORED).unwrap());
}

/// An advance without moves does not find out by a cursor that its sink does not exist.
#[test]
fn an_advance_of_an_unknown_sink_stores_nothing() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    let dead_letter = DeadLetter {
        tenant: tenant(),
        at: at(1, 0),
        event_id: EventId::from_bytes([7; 20]),
        reason: "no such field".into(),
    };
    let (sink, letters) = (SinkName::new("unknown"), [dead_letter]);
    for lane in [Lane::Live, Lane::DeadLetters] {
        let advance = Advance { lane, dead_letters: &letters, ..live_advance(&sink, &[]) };
        checkpoint.advance(&advance).unwrap_err();
        assert_eq!(open_observations(&checkpoint), 0, "{lane:?}");
        assert_eq!(checkpoint.next_seq(tenant()).unwrap(), Seq::new(2), "{lane:?}");
    }
}
