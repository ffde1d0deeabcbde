//! The second cursor file: what is sent again after the database was lost.

use super::*;

#[test]
fn sends_no_day_again_after_losing_the_database() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        commit_day(&checkpoint, "2026-11-20", 1, 1);
        commit_day(&checkpoint, "2026-11-21", 1, 1);
        for (sink, to) in [("complete", at(3, 0)), ("behind", at(2, 5))] {
            register(&checkpoint, sink);
            let moves = [cursor_move(at(1, 0), to)];
            let _ = checkpoint.advance(&live_advance(&sink.into(), &moves)).unwrap();
        }
        checkpoint.write_cursor_file().unwrap();
    }

    let rebuilt = lose_database(directory.path());
    for sink in ["complete", "behind", "new"] {
        register(&rebuilt, sink);
    }
    for text in ["2026-11-20", "2026-11-21", "2026-11-22"] {
        commit_day(&rebuilt, text, 1, 1);
    }

    let backlog =
        |sink: &str| rebuilt.pending(&sink.into()).unwrap().first().map_or(0, |p| p.entries);
    assert_eq!((backlog("complete"), backlog("behind"), backlog("new")), (1, 2, 3));
}

/// Regression: after the loss of the database, all days before the newest sent day counted as sent,
/// including a late day and a missing day that had never been sent.
#[test]
fn sends_unsent_days_after_losing_the_database() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        commit_day(&checkpoint, "2026-11-20", 1, 1);
        commit_day(&checkpoint, "2026-11-21", 1, 1);
        // A late day that is not sent yet.
        commit_day(&checkpoint, "2026-11-15", 1, 1);
        let (tenants, others) = ([tenant(), other_tenant()], OtherTenants::Deactivate);
        checkpoint.register_sink(&"s".into(), &tenants, others, day("2026-11-01")).unwrap();
        let moves = [cursor_move(at(1, 0), at(3, 0))];
        let _ = checkpoint.advance(&live_advance(&"s".into(), &moves)).unwrap();
        checkpoint.write_cursor_file().unwrap();

        let sent_before = |checkpoint: &Checkpoint| {
            let file = checkpoint.cursors().unwrap();
            let cursor = file.cursors.iter().find(|c| c.tenant == tenant().to_string());
            cursor.unwrap().sent_before.clone()
        };
        assert_eq!(sent_before(&checkpoint), "2026-11-15");
        // A missing day may still be listed.
        commit(&checkpoint, &PollCommit { missing: vec![day("2026-11-12")], ..empty_commit() });
        assert_eq!(sent_before(&checkpoint), "2026-11-12");
    }

    // The database is lost twice before the sink is registered again.
    lose_database(directory.path()).write_cursor_file().unwrap();
    let rebuilt = lose_database(directory.path());
    register(&rebuilt, "s");
    for text in ["2026-11-10", "2026-11-15", "2026-11-20"] {
        commit_day(&rebuilt, text, 1, 1);
    }

    let pending = &rebuilt.pending(&"s".into()).unwrap()[0];
    assert_eq!((pending.entries, pending.first_day), (2, day("2026-11-15")));
}
