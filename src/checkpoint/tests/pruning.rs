//! Pruning: which bodies are kept, in transactions of any size.

use super::*;
use crate::checkpoint::{backend::values, pruning::PruneLimits};

/// The smallest transactions, larger ones, and one that prunes everything.
const LIMITS: [PruneLimits; 5] = [
    PruneLimits { bodies: 1, candidates: 1 },
    PruneLimits { bodies: 1, candidates: 3 },
    PruneLimits { bodies: 3, candidates: 1 },
    PruneLimits { bodies: 2, candidates: 4 },
    PruneLimits { bodies: 100, candidates: 100 },
];

fn today() -> Day {
    day("2026-11-22")
}

/// A checkpoint in which the sink `s` needs three days of [`tenant`], of which one has a dead
/// letter, and none of [`other_tenant`].
fn with_old_days() -> (tempfile::TempDir, Checkpoint) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
    let others = OtherTenants::Deactivate;
    checkpoint.register_sink(&"s".into(), &[tenant()], others, day("2026-01-03")).unwrap();

    for text in ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04", "2026-01-05"] {
        commit_day(&checkpoint, text, 1, 1);
    }
    for text in ["2026-01-02", "2026-01-06", "2026-08-23", "2026-08-24"] {
        commit_day_of(other_tenant(), &checkpoint, text, 1, 1);
    }

    let dead_letter = DeadLetter {
        tenant: tenant(),
        at: at(2, 0),
        event_id: EventId::from_bytes([7; 20]),
        reason: "no".into(),
    };
    let (sink, moves) = (SinkName::new("s"), [cursor_move(at(1, 0), at(4, 0))]);
    let advance = Advance { dead_letters: &[dead_letter], ..live_advance(&sink, &moves) };
    assert_eq!(checkpoint.advance(&advance).unwrap(), LogGrowth::Grown);
    (directory, checkpoint)
}

/// The days whose bodies are stored, in the order of the tenants.
fn days_with_body(checkpoint: &Checkpoint) -> Vec<String> {
    let sql = "SELECT day FROM entry WHERE body IS NOT NULL ORDER BY tenant, day";
    let days = checkpoint
        .reading(|store| store.query_all(sql, values![], |row| row.get::<i32>("day")))
        .unwrap();
    days.into_iter().map(|day| Day::from_number(day).unwrap().to_string()).collect()
}

/// The bodies that are needed are between those that are not, so that some transactions prune
/// nothing, and are not the last ones.
#[test]
fn only_bodies_that_nothing_needs_are_pruned() {
    for limits in LIMITS {
        let (_directory, checkpoint) = with_old_days();
        let prune = |before, max_size| {
            checkpoint.prune_within(limits, day(before), max_size, today()).unwrap().days
        };

        assert_eq!(prune("2026-01-06", None), 3, "{limits:?}");
        let kept = ["2026-01-02", "2026-01-04", "2026-01-05"];
        let others = ["2026-01-06", "2026-08-23", "2026-08-24"];
        assert_eq!(days_with_body(&checkpoint), [kept, others].concat(), "{limits:?}");
        assert_eq!(prune("2026-01-06", None), 0, "{limits:?}");

        // The newest 90 days are kept, regardless of the size.
        assert_eq!(prune("2026-01-01", Some(u64::MAX)), 0, "{limits:?}");
        assert_eq!(prune("2026-01-01", Some(0)), 2, "{limits:?}");
        assert_eq!(days_with_body(&checkpoint), [&kept[..], &others[2..]].concat(), "{limits:?}");
    }
}

#[test]
fn a_replay_protects_its_bodies() {
    let (_directory, checkpoint) = with_old_days();
    let (first, last) = (day("2026-01-03"), day("2026-01-03"));
    let now = UnixMillis::default();
    assert_eq!(checkpoint.add_replay(&"s".into(), &[tenant()], first, last, now).unwrap(), 1);

    let mut kept = days_with_body(&checkpoint);
    assert_eq!(kept.remove(5), "2026-01-02", "the first day of the other tenant");
    assert_eq!(checkpoint.prune(day("2026-01-06"), None, today()).unwrap().days, 1);
    assert_eq!(days_with_body(&checkpoint), kept);
}

/// A damaged cursor could be that of a sink that has not received the body.
#[test]
fn a_damaged_cursor_stops_pruning() {
    let (_directory, checkpoint) = with_old_days();
    checkpoint
        .administrative(|store| store.execute("UPDATE cursor SET seq = -1", values![]))
        .unwrap();
    let pruned = checkpoint.prune(day("2026-01-06"), None, today());
    assert!(matches!(pruned, Err(CheckpointError::Damaged(_))), "{pruned:?}");
    assert_eq!(days_with_body(&checkpoint).len(), 9);
}
