//! Tests of dead letters, and of replays that are limited to some of the tenants.

use super::*;

/// The event ID of the dead letter with this record index.
fn event_id(record_index: u32) -> EventId {
    EventId::from_bytes([u8::try_from(record_index).unwrap(); 20])
}

/// A checkpoint in which the sink `s` has the dead letters 1, 2 and 3 of one tenant.
fn with_dead_letters() -> (tempfile::TempDir, Checkpoint) {
    let (directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    register(&checkpoint, "s");

    let dead_letters = [1, 2, 3].map(|record_index| DeadLetter {
        tenant: tenant(),
        at: at(1, record_index),
        event_id: event_id(record_index),
        reason: "no".into(),
    });
    let (sink, moves) = (SinkName::new("s"), [cursor_move(at(1, 0), at(2, 0))]);
    let advance = Advance { dead_letters: &dead_letters, ..live_advance(&sink, &moves) };
    assert_eq!(checkpoint.advance(&advance).unwrap(), LogGrowth::Grown);
    (directory, checkpoint)
}

fn key(record_index: u32) -> DeadLetterKey {
    DeadLetterKey { sink: "s".into(), event_id: event_id(record_index) }
}

/// The phase and the details of all observations, in the order of the log.
fn observations(checkpoint: &Checkpoint) -> Vec<(String, String)> {
    let sql = "SELECT phase, details FROM entry WHERE kind = 2 ORDER BY seq";
    let rows = checkpoint.reading(|store| {
        store.query_all(sql, values![], |row| Ok((row.get("phase")?, row.get("details")?)))
    });
    rows.unwrap()
}

/// Regression: the metrics read all groups of dead letters at every scrape, and showed none.
#[test]
fn a_status_reads_only_its_detail() {
    let (_directory, checkpoint) = with_dead_letters();
    for (detail, expected) in [
        (StatusDetail::Summary, [0, 0, 0]),
        (StatusDetail::Groups, [1, 0, 0]),
        (StatusDetail::Items, [0, 3, 1]),
    ] {
        let status = checkpoint.status(detail).unwrap();
        let sink = &status.sinks[0];
        let (groups, letters) = (&status.dead_letter_groups, &status.dead_letters);
        assert_eq!([groups.len(), letters.len(), sink.cursors.len()], expected, "{detail:?}");
        assert_eq!(sink.dead_letters, 3, "{detail:?}");
    }
}

#[test]
fn groups_count_letters_retries_and_days() {
    let (_directory, checkpoint) = with_dead_letters();
    assert_eq!(checkpoint.retry_dead_letters(&[key(2)]).unwrap(), 1);

    let groups = |filter: &DeadLetterFilter| checkpoint.dead_letter_groups(filter).unwrap();
    let stored = day("2026-11-20");
    let expected = DeadLetterGroup {
        sink: "s".into(),
        tenant: tenant(),
        reason: "no".to_owned(),
        letters: 3,
        queued: 1,
        days: Some((stored, stored)),
        newest_id: event_id(3),
        newest_at: UnixMillis::default(),
    };
    assert_eq!(groups(&DeadLetterFilter::default()), [expected]);
    assert!(groups(&DeadLetterFilter::of_sink(&"other".into())).is_empty());
}

#[test]
fn every_discard_is_reported() {
    let (_directory, checkpoint) = with_dead_letters();
    let now = UnixMillis::new(1_795_341_600_000);
    let discard = |keys: &[DeadLetterKey]| checkpoint.discard_dead_letters(keys, now).unwrap();

    assert_eq!(discard(&[key(2)]), (1, LogGrowth::Grown));
    assert_eq!(discard(&[key(2)]), (0, LogGrowth::Unchanged));
    assert_eq!(discard(&[key(1), key(3)]), (2, LogGrowth::Grown));

    let expected = [
        ("begin", "no"),
        ("end", "an operator discarded 1 rejected record"),
        ("begin", "2 rejected records remain"),
        ("end", "an operator discarded 2 rejected records"),
    ];
    let expected = expected.map(|(phase, details)| (phase.to_owned(), details.to_owned()));
    assert_eq!(observations(&checkpoint), expected);
    assert_eq!(checkpoint.count_dead_letters(&DeadLetterFilter::default()).unwrap(), 0);
}

#[test]
fn a_discard_keeps_the_first_rejection_time() {
    let (_directory, checkpoint) = with_dead_letters();
    let now = UnixMillis::new(1_795_341_600_000);
    let _ = checkpoint.discard_dead_letters(&[key(1)], now).unwrap();
    assert_eq!(query_number(&checkpoint, "SELECT since FROM open_observation"), 0);
}

/// The observation of a renamed sink ends, although its dead letters are kept.
#[test]
fn a_discard_after_a_rename_is_reported() {
    let (_directory, checkpoint) = with_dead_letters();
    let _ = checkpoint.rename_sink(&"s".into(), &"renamed".into(), UnixMillis::default()).unwrap();

    let renamed = DeadLetterKey { sink: "renamed".into(), ..key(1) };
    let discarded = checkpoint.discard_dead_letters(&[renamed], UnixMillis::default()).unwrap();
    assert_eq!(discarded, (1, LogGrowth::Grown));
    let phases: Vec<String> =
        observations(&checkpoint).into_iter().map(|(phase, _)| phase).collect();
    assert_eq!(phases, ["begin", "end", "begin", "end", "begin"]);
}

#[test]
fn finds_dead_letters_by_all_criteria() {
    let (_directory, checkpoint) = with_dead_letters();
    let all = DeadLetterFilter::default();
    let of_tenant = |tenant| DeadLetterFilter { tenants: Some(vec![tenant]), ..all.clone() };
    let with_id = |prefix: &str| DeadLetterFilter { event_id_prefix: prefix.into(), ..all.clone() };

    for (filter, expected) in [
        (all.clone(), 3),
        (DeadLetterFilter::of_sink(&"s".into()), 3),
        (DeadLetterFilter::of_sink(&"other".into()), 0),
        (of_tenant(tenant()), 3),
        (of_tenant(other_tenant()), 0),
        (with_id("02"), 1),
        (with_id("0"), 3),
        (with_id("0203"), 0),
        (with_id(&event_id(3).to_string()), 1),
    ] {
        let found = checkpoint.find_dead_letters(&filter, 9).unwrap();
        assert_eq!(found.len(), expected, "{filter:?}");
        assert_eq!(checkpoint.count_dead_letters(&filter).unwrap(), expected as u64, "{filter:?}");
    }
    let newest = checkpoint.find_dead_letters(&all, 1).unwrap();
    assert_eq!(newest[0].key(), key(3));
}

#[test]
fn only_the_named_dead_letters_are_retried() {
    let (_directory, checkpoint) = with_dead_letters();
    assert_eq!(checkpoint.retry_dead_letters(&[key(1), key(3), key(9)]).unwrap(), 2);
    let pending = checkpoint.pending_dead_letters(&"s".into(), &[tenant()], 9).unwrap();
    assert_eq!(pending.iter().map(QueuedDeadLetter::key).collect::<Vec<_>>(), [key(1), key(3)]);
}

/// Regression: the dead letters of a tenant that waits took the places of those of other tenants.
#[test]
fn only_the_given_tenants_are_retried() {
    let (_directory, checkpoint) = with_dead_letters();
    let tenants = [tenant(), other_tenant()];
    let others = OtherTenants::Deactivate;
    checkpoint.register_sink(&"s".into(), &tenants, others, day("2026-11-01")).unwrap();
    let letters = [DeadLetter {
        tenant: other_tenant(),
        at: at(1, 0),
        event_id: event_id(4),
        reason: "no".into(),
    }];
    let (sink, lane) = (SinkName::new("s"), Lane::DeadLetters);
    let advance = Advance { lane, dead_letters: &letters, ..live_advance(&sink, &[]) };
    let _ = checkpoint.advance(&advance).unwrap();
    assert_eq!(checkpoint.retry_dead_letters(&[1, 2, 3, 4].map(key)).unwrap(), 4);

    let pending = |tenants: &[TenantId], limit| {
        let letters = checkpoint.pending_dead_letters(&"s".into(), tenants, limit).unwrap();
        letters.iter().map(QueuedDeadLetter::key).collect::<Vec<_>>()
    };
    assert_eq!(pending(&tenants, 9), [1, 2, 3, 4].map(key));
    assert_eq!(pending(&tenants, 3), [1, 2, 3].map(key));
    assert_eq!(pending(&[other_tenant()], 3), [key(4)]);
    assert!(pending(&[], 3).is_empty());
}

#[test]
fn a_replay_is_limited_to_its_tenants() {
    let (_directory, checkpoint) = new_checkpoint();
    let tenants = [tenant(), other_tenant()];
    let (first, last) = (day("2026-11-20"), day("2026-11-21"));
    checkpoint.register_sink(&"s".into(), &tenants, OtherTenants::Deactivate, first).unwrap();
    for text in ["2026-11-20", "2026-11-21"] {
        commit_day(&checkpoint, text, 1, 1);
    }
    commit_day(&checkpoint, "2026-11-21", 2, 2);

    commit_day_of(other_tenant(), &checkpoint, "2026-11-21", 1, 1);

    let scope = checkpoint.replay_scope(&"s".into(), &tenants, first, last).unwrap();
    let counts = scope.tenants.iter().map(|t| (t.days, t.snapshots, t.last_seq.get()));
    let counts: Vec<_> = counts.collect();
    assert_eq!((scope.days, counts), (2, vec![(2, 3, 3), (1, 1, 1)]));

    let now = UnixMillis::default();
    assert_eq!(checkpoint.add_replay(&"s".into(), &[other_tenant()], first, last, now).unwrap(), 1);
    let (_, pending) = checkpoint.pending_replay(&"s".into(), &|_| true).unwrap().unwrap();
    assert_eq!(pending.iter().map(|p| p.tenant).collect::<Vec<_>>(), [other_tenant()]);
    assert_eq!(query_number(&checkpoint, "SELECT count(*) FROM replay_cursor"), 1);
    assert_eq!(checkpoint.add_replay(&"s".into(), &[], first, last, now).unwrap(), 0);
}

#[test]
fn a_replay_uses_each_tenant_once() {
    let (_directory, checkpoint) = new_checkpoint();
    // The order of the tenants is not that of their GUIDs.
    let tenants = [other_tenant(), tenant()];
    let day = day("2026-11-20");
    checkpoint.register_sink(&"s".into(), &tenants, OtherTenants::Deactivate, day).unwrap();
    for tenant in tenants {
        commit_day_of(tenant, &checkpoint, "2026-11-20", 1, 1);
    }

    let repeated = [tenant(), other_tenant(), tenant()];
    let scope = checkpoint.replay_scope(&"s".into(), &repeated, day, day).unwrap();
    let counts: Vec<_> = scope.tenants.iter().map(|t| (t.tenant, t.snapshots)).collect();
    assert_eq!((scope.days, counts), (1, tenants.map(|tenant| (tenant, 1)).to_vec()));
    let now = UnixMillis::default();
    assert_eq!(checkpoint.add_replay(&"s".into(), &repeated, day, day, now).unwrap(), 2);
}

/// Regression: while a tenant was withheld, a replay with its entries delayed all later ones.
#[test]
fn a_waiting_tenant_delays_no_later_replay() {
    let (_directory, checkpoint) = new_checkpoint();
    let tenants = [tenant(), other_tenant()];
    let day = day("2026-11-20");
    checkpoint.register_sink(&"s".into(), &tenants, OtherTenants::Deactivate, day).unwrap();
    for tenant in tenants {
        commit_day_of(tenant, &checkpoint, "2026-11-20", 1, 1);
        let now = UnixMillis::default();
        assert_eq!(checkpoint.add_replay(&"s".into(), &[tenant], day, day, now).unwrap(), 1);
    }

    let first = |is_served: &dyn Fn(TenantId) -> bool| {
        let (_, pending) = checkpoint.pending_replay(&"s".into(), is_served).unwrap()?;
        Some(pending.iter().map(|pending| pending.tenant).collect::<Vec<_>>())
    };
    assert_eq!(first(&|_| true), Some(vec![tenant()]), "the oldest one is the first");
    assert_eq!(first(&|id| id == other_tenant()), Some(vec![other_tenant()]));
    assert_eq!(first(&|_| false), None);
    assert_eq!(first(&|_| true), Some(vec![tenant()]), "nothing was deleted");
}

#[test]
fn an_empty_replay_is_not_stored() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    register(&checkpoint, "s");
    let (stored, other) = (day("2026-11-20"), day("2026-11-21"));
    let add = |sink: &str, day| {
        checkpoint.add_replay(&sink.into(), &[tenant()], day, day, UnixMillis::default()).unwrap()
    };

    assert_eq!((add("s", other), add("unknown", stored)), (0, 0));
    assert_eq!(query_number(&checkpoint, "SELECT count(*) FROM replay"), 0);
    assert_eq!(query_number(&checkpoint, "SELECT count(*) FROM replay_cursor"), 0);
    assert_eq!(add("s", stored), 1);
}

#[test]
fn a_limit_counts_only_selected_tenants() {
    let (_directory, checkpoint) = with_dead_letters();
    // The newest dead letter belongs to another tenant.
    let others = OtherTenants::Keep;
    checkpoint.register_sink(&"s".into(), &[other_tenant()], others, day("2026-11-01")).unwrap();
    commit_day_of(other_tenant(), &checkpoint, "2026-11-20", 1, 1);
    let newest = DeadLetter {
        tenant: other_tenant(),
        at: at(1, 4),
        event_id: event_id(4),
        reason: "no".into(),
    };
    let sink = SinkName::new("s");
    let moves = [CursorMove { tenant: other_tenant(), from: at(1, 0), to: at(2, 0) }];
    let advance = Advance { dead_letters: &[newest], ..live_advance(&sink, &moves) };
    assert_eq!(checkpoint.advance(&advance).unwrap(), LogGrowth::Grown);

    let filter = DeadLetterFilter { tenants: Some(vec![tenant()]), ..DeadLetterFilter::default() };
    let found = checkpoint.find_dead_letters(&filter, 2).unwrap();
    assert_eq!(found.iter().map(QueuedDeadLetter::key).collect::<Vec<_>>(), [key(3), key(2)]);
    assert!(checkpoint.find_dead_letters(&filter, 0).unwrap().is_empty());
    assert_eq!(checkpoint.count_dead_letters(&filter).unwrap(), 3);
    let groups = checkpoint.dead_letter_groups(&filter).unwrap();
    assert_eq!(groups.iter().map(|group| group.letters).collect::<Vec<_>>(), [3]);
}
