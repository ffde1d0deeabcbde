mod files;

use super::*;
use crate::model::{Day, DayFacts, EventId, Observation, Phase, What};
use crate::{compressed::CompressedText, wire};

fn tenant() -> TenantId {
    TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap()
}

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

fn body(day: &str, score: u32) -> String {
    let controls: Vec<String> = (0..50)
        .map(|i| format!(r#"{{"controlName":"c{i}","score":{score},"scoreInPercentage":{i},"description":"A control of the tenant, number {i}, described at some length."}}"#))
        .collect();
    format!(
        r#"{{"id":"x_{day}","createdDateTime":"{day}T00:00:00Z","currentScore":{score},"controlScores":[{}]}}"#,
        controls.join(",")
    )
}

fn facts(body: &str) -> DayFacts {
    DayFacts::of(&wire::snapshot(body).unwrap()).unwrap()
}

fn nothing() -> PollCommit<'static> {
    PollCommit {
        observed_ms: 1_795_341_600_000,
        entries: vec![],
        enriched: vec![],
        catalog: vec![],
        observations: vec![],
        held: vec![],
        requested_from: Some(Day::of(jiff::Timestamp::UNIX_EPOCH)),
        missing: vec![],
        no_longer_missing: vec![],
        polled_back_to: None,
        end: PollEnd::Complete,
    }
}

fn take_day(checkpoint: &Checkpoint, text: &str, score: u32, revision: u32) {
    let body = body(text, score);
    let facts = facts(&body);
    let entry = NewEntry {
        snapshot_id: "x",
        revision,
        facts: &facts,
        body: &CompressedText::compress(&body).unwrap(),
        observed_ms: 0,
        base: None,
        flags: EntryFlags::default(),
    };
    checkpoint.commit_poll(tenant(), &PollCommit { entries: vec![entry], ..nothing() }).unwrap();
}

#[test]
fn what_was_taken_is_read_back_as_sent() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        for (index, text) in ["2026-11-19", "2026-11-20", "2026-11-21"].into_iter().enumerate() {
            take_day(&checkpoint, text, u32::try_from(index).unwrap(), 1);
        }
    }
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let entries = checkpoint.read(&wanted(1, "2026-11-20")).unwrap();
    assert_eq!(
        entries
            .iter()
            .map(|e| (snapshot(e).snapshot.seq, snapshot(e).snapshot.day))
            .collect::<Vec<_>>(),
        [(2, day("2026-11-20")), (3, day("2026-11-21"))]
    );
    assert_eq!(snapshot(&entries[1]).body, body("2026-11-21", 2));
    let ledger = checkpoint.stored_days(tenant(), day("2026-11-01")).unwrap();
    assert_eq!(ledger[&day("2026-11-19")].facts, facts(&body("2026-11-19", 0)));
}

fn snapshot(stored: &LogEntry) -> &StoredSnapshot {
    match stored {
        LogEntry::Snapshot(entry) => entry,
        LogEntry::Observation(_) => panic!("an observation"),
    }
}

fn wanted(seq: u64, floor: &str) -> ReadRequest {
    ReadRequest {
        tenant: tenant(),
        first_seq: seq,
        last_seq: u64::MAX,
        first_day: day(floor),
        last_day: None,
        max_bytes: usize::MAX,
        with_observations: true,
        with_bases: true,
    }
}

#[test]
fn days_alike_cost_little() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    for number in 0..40 {
        take_day(&checkpoint, &day("2026-10-01").plus(number).to_string(), 5, 1);
    }
    let connection = checkpoint.connection();
    let keys: i64 = connection
        .query_row("SELECT count(*) FROM body WHERE codec = 1", [], |row| row.get(0))
        .unwrap();
    let bytes: i64 = connection
        .query_row("SELECT sum(length(bytes)) FROM body WHERE codec = 2", [], |row| row.get(0))
        .unwrap();
    assert_eq!(keys, 2, "a key frame serves 31 others");
    assert!(bytes / 38 < 200, "{bytes}");
}

#[test]
fn a_revision_brings_its_history() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    take_day(&checkpoint, "2026-11-21", 1, 1);
    take_day(&checkpoint, "2026-11-21", 2, 2);
    let entries = checkpoint.read(&wanted(2, "2026-11-01")).unwrap();
    assert_eq!(snapshot(&entries[0]).history, [facts(&body("2026-11-21", 1))]);
}

#[test]
fn a_rich_copy_replaces_the_poor_body_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    take_day(&checkpoint, "2026-11-21", 1, 1);
    let rich = body("2026-11-21", 1).replace("described", "now described");
    let rich_facts = facts(&rich);
    let enriched = EnrichedDay {
        revision: 1,
        facts: &rich_facts,
        body: &CompressedText::compress(&rich).unwrap(),
    };
    checkpoint
        .commit_poll(tenant(), &PollCommit { enriched: vec![enriched], ..nothing() })
        .unwrap();
    let entries = checkpoint.read(&wanted(1, "2026-11-01")).unwrap();
    assert_eq!((entries.len(), snapshot(&entries[0]).body.as_str()), (1, rich.as_str()));
}

#[test]
fn a_body_that_was_replaced_is_kept_for_those_that_lean_on_it_only() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    take_day(&checkpoint, "2026-11-20", 1, 1);
    take_day(&checkpoint, "2026-11-21", 1, 1);
    for word in ["now", "then", "once more"] {
        let rich = body("2026-11-21", 1).replace("described", &format!("{word} described"));
        let rich_facts = facts(&rich);
        let enriched = EnrichedDay {
            revision: 1,
            facts: &rich_facts,
            body: &CompressedText::compress(&rich).unwrap(),
        };
        checkpoint
            .commit_poll(tenant(), &PollCommit { enriched: vec![enriched], ..nothing() })
            .unwrap();
        let entries = checkpoint.read(&wanted(1, "2026-11-01")).unwrap();
        assert_eq!(snapshot(&entries[1]).body, rich);
    }
    let orphans: i64 = checkpoint
        .connection()
        .query_row(
            "SELECT count(*) FROM body WHERE id NOT IN (SELECT body FROM entry WHERE body IS NOT NULL)
               AND id NOT IN (SELECT key_frame FROM body WHERE key_frame IS NOT NULL)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(orphans, 0);
}

#[test]
fn profiles_are_kept_once_and_versions_only_when_something_changed() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let other = TenantId::parse("aaaaaaaa-0000-4000-8000-00000000c0de").unwrap();
    let member = |shared, decisions| CatalogMember { shared, decisions };
    let both = vec![member(r#"{"id":"A"}"#, ""), member(r#"{"id":"B"}"#, "[1]")];
    checkpoint.commit_poll(tenant(), &PollCommit { catalog: both.clone(), ..nothing() }).unwrap();
    checkpoint
        .commit_poll(
            tenant(),
            &PollCommit { catalog: both.iter().rev().copied().collect(), ..nothing() },
        )
        .unwrap();
    checkpoint.commit_poll(tenant(), &PollCommit { catalog: vec![], ..nothing() }).unwrap();
    checkpoint.commit_poll(other, &PollCommit { catalog: both, ..nothing() }).unwrap();
    checkpoint
        .commit_poll(
            tenant(),
            &PollCommit { catalog: vec![member(r#"{"id":"A"}"#, "[2]")], ..nothing() },
        )
        .unwrap();
    let count = |table: &str| -> i64 {
        checkpoint
            .connection()
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!((count("profile"), count("catalog")), (2, 3));
    let members = checkpoint.catalog(3).unwrap();
    assert_eq!((members.len(), members[0].decisions.as_str()), (1, "[2]"));
    assert_eq!(checkpoint.profile(members[0].profile).unwrap(), r#"{"id":"A"}"#);
}

#[test]
fn a_cursor_moves_only_from_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    take_day(&checkpoint, "2026-11-20", 1, 1);
    take_day(&checkpoint, "2026-11-21", 1, 1);
    checkpoint.register_sink("s", &[tenant()], true, day("2026-11-01")).unwrap();
    let (start, middle, end) = (
        Position { seq: 1, record_index: 0 },
        Position { seq: 2, record_index: 7 },
        Position { seq: 3, record_index: 0 },
    );
    let letter = DeadLetter {
        tenant: tenant(),
        at: start,
        event_id: EventId::from_bytes([7; 20]),
        reason: "no".into(),
    };
    let advance = |from, to, letters: &[DeadLetter]| {
        checkpoint.advance(&Advance {
            sink: "s",
            lane: Lane::Live,
            moves: &[CursorMove { tenant: tenant(), from, to }],
            mark: Some(b"m"),
            sent: 10,
            truncated: 0,
            dead_letters: letters,
            delivered_dead_letters: &[],
            now_ms: 0,
        })
    };
    advance(start, middle, &[letter]).unwrap();
    assert!(matches!(advance(start, end, &[]), Err(CheckpointError::CursorMoved(_))));
    assert_eq!(checkpoint.pending("s").unwrap()[0].at, middle);
    assert_eq!(checkpoint.pending("s").unwrap()[0].entries, 1);
    advance(middle, end, &[]).unwrap();
    assert!(checkpoint.pending("s").unwrap().is_empty());
    let status = checkpoint.status().unwrap();
    assert_eq!(
        (status.sinks[0].sent, status.sinks[0].rejected, status.sinks[0].backlog),
        (20, 1, 0)
    );
    assert_eq!(checkpoint.mark("s").unwrap().as_deref(), Some(&b"m"[..]));
}

#[test]
fn an_observation_begins_once_and_ends_once() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let observe = |phase, first: &str| {
        let observation = Observation {
            what: What::Gap,
            subject: "g".into(),
            first_day: day(first),
            phase,
            details: String::new(),
            hint: None,
        };
        checkpoint
            .commit_poll(tenant(), &PollCommit { observations: vec![observation], ..nothing() })
            .unwrap();
    };
    observe(Phase::End, "2026-11-01");
    observe(Phase::Begin, "2026-11-02");
    observe(Phase::Begin, "2026-11-03");
    observe(Phase::End, "2026-11-04");
    let connection = checkpoint.connection();
    let mut statement =
        connection.prepare("SELECT phase, day FROM entry WHERE kind = 2 ORDER BY seq").unwrap();
    let rows: Vec<(String, i32)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let first = day("2026-11-02").number();
    assert_eq!(rows, [("begin".to_owned(), first), ("end".to_owned(), first)]);
}

#[test]
fn owed_days_are_asked_for_seven_times_then_weekly() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let now = nothing().observed_ms;
    let missing = Day::from_number(i32::try_from(now / 86_400_000).unwrap()).unwrap().plus(-5);
    for _ in 0..7 {
        checkpoint
            .commit_poll(tenant(), &PollCommit { missing: vec![missing], ..nothing() })
            .unwrap();
    }
    assert!(checkpoint.due_missing_days(tenant(), now + 86_400_000).unwrap().is_empty());
    assert_eq!(checkpoint.due_missing_days(tenant(), now + 8 * 86_400_000).unwrap(), [missing]);
    checkpoint
        .commit_poll(tenant(), &PollCommit { observed_ms: now + 90 * 86_400_000, ..nothing() })
        .unwrap();
    assert!(
        checkpoint.due_missing_days(tenant(), now + 100 * 86_400_000).unwrap().is_empty(),
        "absent at the source"
    );
}

#[test]
fn the_second_cursor_file_saves_sending_all_again() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        take_day(&checkpoint, "2026-11-20", 1, 1);
        take_day(&checkpoint, "2026-11-21", 1, 1);
        checkpoint.register_sink("whole", &[tenant()], true, day("2026-11-01")).unwrap();
        checkpoint.register_sink("part", &[tenant()], true, day("2026-11-01")).unwrap();
        for (sink, to) in [
            ("whole", Position { seq: 3, record_index: 0 }),
            ("part", Position { seq: 2, record_index: 5 }),
        ] {
            let from = Position { seq: 1, record_index: 0 };
            checkpoint
                .advance(&Advance {
                    sink,
                    lane: Lane::Live,
                    moves: &[CursorMove { tenant: tenant(), from, to }],
                    truncated: 0,
                    delivered_dead_letters: &[],
                    mark: None,
                    sent: 1,
                    dead_letters: &[],
                    now_ms: 0,
                })
                .unwrap();
        }
        checkpoint.write_cursor_file().unwrap();
    }
    for file in ["checkpoint.db", "checkpoint.db-wal", "checkpoint.db-shm"] {
        let _ = fs_err::remove_file(directory.path().join(file));
    }
    let rebuilt = Checkpoint::open(directory.path()).unwrap();
    for sink in ["whole", "part", "new"] {
        rebuilt.register_sink(sink, &[tenant()], true, day("2026-11-01")).unwrap();
    }
    for text in ["2026-11-20", "2026-11-21", "2026-11-22"] {
        take_day(&rebuilt, text, 1, 1);
    }
    let left = |sink: &str| rebuilt.pending(sink).unwrap().first().map_or(0, |p| p.entries);
    assert_eq!((left("whole"), left("part"), left("new")), (1, 2, 3));
}

/// Days older than the newest one sent were taken for sent after a loss, though they never were.
#[test]
fn what_was_not_sent_before_a_loss_is_sent_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let other = TenantId::parse("aaaaaaaa-0000-4000-8000-00000000c0de").unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        take_day(&checkpoint, "2026-11-20", 1, 1);
        take_day(&checkpoint, "2026-11-21", 1, 1);
        // A late one, not sent yet; and one missing, that may come.
        take_day(&checkpoint, "2026-11-15", 1, 1);
        checkpoint.register_sink("s", &[tenant(), other], true, day("2026-11-01")).unwrap();
        let advance = Advance {
            sink: "s",
            lane: Lane::Live,
            moves: &[CursorMove {
                tenant: tenant(),
                from: Position { seq: 1, record_index: 0 },
                to: Position { seq: 3, record_index: 0 },
            }],
            truncated: 0,
            delivered_dead_letters: &[],
            mark: None,
            sent: 2,
            dead_letters: &[],
            now_ms: 0,
        };
        checkpoint.advance(&advance).unwrap();
        checkpoint.write_cursor_file().unwrap();
        let sent_before = |checkpoint: &Checkpoint| {
            let file = checkpoint.cursors().unwrap();
            let of_tenant = file.cursors.iter().find(|c| c.tenant == tenant().to_string());
            of_tenant.unwrap().sent_before.clone()
        };
        assert_eq!(sent_before(&checkpoint), "2026-11-15");
        let missing = vec![day("2026-11-12")];
        checkpoint.commit_poll(tenant(), &PollCommit { missing, ..nothing() }).unwrap();
        assert_eq!(sent_before(&checkpoint), "2026-11-12");
    }
    let lose = || {
        for file in ["checkpoint.db", "checkpoint.db-wal", "checkpoint.db-shm"] {
            let _ = fs_err::remove_file(directory.path().join(file));
        }
        Checkpoint::open(directory.path()).unwrap()
    };
    // Lost twice before the tenant is met again.
    lose().write_cursor_file().unwrap();
    let rebuilt = lose();
    rebuilt.register_sink("s", &[tenant()], true, day("2026-11-01")).unwrap();
    for text in ["2026-11-10", "2026-11-15", "2026-11-20"] {
        take_day(&rebuilt, text, 1, 1);
    }
    let pending = &rebuilt.pending("s").unwrap()[0];
    assert_eq!((pending.entries, pending.first_day), (2, day("2026-11-15")));
}

#[test]
fn a_damaged_cursor_file_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let file = CursorFile { checkpoint_id: "x".into(), ..CursorFile::default() };
    file.write(directory.path()).unwrap();
    assert_eq!(CursorFile::read(directory.path()).unwrap(), Some(file));
    let path = directory.path().join("cursors.json");
    let text = fs_err::read_to_string(&path).unwrap();
    for at in 0..text.len() - 1 {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        fs_err::write(&path, &bytes).unwrap();
        assert!(CursorFile::read(directory.path()).is_err(), "byte {at}");
    }
}
