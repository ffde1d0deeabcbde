//! Tests of the log and the cursors; `backlog` compares queries with a model, `continuity` tests
//! lost databases, `cursor_checks` tests damaged cursors, `damage` tests random damages, `erasure`
//! tests what is erased, `faults` makes the backend fail, `files` tests opening, `migration` tests
//! older versions, `model` compares all calls with a model, `numbers` tests damaged numbers,
//! `panics` tests interrupted transactions, `polls` tests results of polls, `pruning` tests which
//! bodies are kept, `queued_commands` tests backfills and imports, `removed_sinks` tests sinks that
//! are not configured, `resending` tests dead letters and replays, `saved_cursors` tests the second
//! cursor file, and `versions` compares migrated databases with what they contained.

mod backlog;
mod continuity;
mod cursor_checks;
mod damage;
mod erasure;
pub(super) mod faults;
mod files;
mod migration;
mod model;
mod numbers;
mod panics;
mod polls;
mod pruning;
mod queued_commands;
mod removed_sinks;
mod resending;
mod saved_cursors;
mod versions;

use std::time::Duration;

use super::{
    sqlite::{directory::DATABASE, raw::RawDatabase},
    *,
};
use crate::{
    compressed::CompressedText,
    error::Explanation,
    model::{
        Day, DayFacts, EventId, Observation, ObservationKind, ObservationSubject, Phase,
        PollErrorClass, Seq, SinkName, TenantId, UnixMillis,
    },
    wire,
};

fn tenant() -> TenantId {
    TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap()
}

fn other_tenant() -> TenantId {
    TenantId::parse("aaaaaaaa-0000-4000-8000-00000000c0de").unwrap()
}

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

/// A snapshot with 50 controls whose scores are all `score`.
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

/// An empty checkpoint, and the directory that is deleted when the test ends.
fn new_checkpoint() -> (tempfile::TempDir, Checkpoint) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    (directory, checkpoint)
}

/// Deletes the database, and opens the one that an operator has created in its place.
fn lose_database(directory: &Path) -> Checkpoint {
    for file in ["checkpoint.db", "checkpoint.db-wal", "checkpoint.db-shm"] {
        let _ = fs_err::remove_file(directory.join(file));
    }
    Checkpoint::set_aside(directory, "lost").unwrap();
    Checkpoint::open(directory).unwrap()
}

/// The result of a query that returns one number.
fn query_number(checkpoint: &Checkpoint, sql: &str) -> i64 {
    checkpoint.raw().number(&format!("SELECT ({sql}) AS number")).unwrap()
}

/// Changes rows as only damage can.
fn change(checkpoint: &Checkpoint, sql: &'static str) {
    checkpoint.administrative(|store| store.execute(sql, values![])).unwrap();
}

/// Registers a sink that receives only [`tenant`].
fn register(checkpoint: &Checkpoint, sink: &str) {
    let others = OtherTenants::Deactivate;
    checkpoint.register_sink(&sink.into(), &[tenant()], others, day("2026-11-01")).unwrap();
}

fn at(seq: u64, record_index: u32) -> Position {
    Position { seq: Seq::new(seq), record_index }
}

fn cursor_move(from: Position, to: Position) -> CursorMove {
    CursorMove { tenant: tenant(), from, to }
}

/// An advance of live cursors without records.
fn live_advance<'a>(sink: &'a SinkName, moves: &'a [CursorMove]) -> Advance<'a> {
    Advance {
        sink,
        lane: Lane::Live,
        moves,
        mark: None,
        sent: 0,
        truncated: 0,
        dead_letters: &[],
        delivered_dead_letters: &[],
        now: UnixMillis::default(),
    }
}

/// A complete poll that has read nothing.
fn empty_commit() -> PollCommit<'static> {
    PollCommit {
        observed_at: UnixMillis::new(1_795_341_600_000),
        requested_from: Some(Day::of(jiff::Timestamp::UNIX_EPOCH)),
        end: PollEnd::Complete,
        ..PollCommit::default()
    }
}

fn commit(checkpoint: &Checkpoint, poll: &PollCommit<'_>) {
    let _ = checkpoint.commit_poll(tenant(), poll).unwrap();
}

fn commit_day(checkpoint: &Checkpoint, text: &str, score: u32, revision: u32) {
    commit_day_of(tenant(), checkpoint, text, score, revision);
}

fn commit_day_of(tenant: TenantId, checkpoint: &Checkpoint, text: &str, score: u32, revision: u32) {
    let body = body(text, score);
    let facts = facts(&body);

    let entry = NewEntry {
        snapshot_id: "x",
        revision,
        facts: &facts,
        body: &CompressedText::compress(&body).unwrap(),
        observed_at: UnixMillis::default(),
        base: None,
        flags: EntryFlags::default(),
    };
    let poll = PollCommit { entries: vec![entry], ..empty_commit() };
    assert_eq!(checkpoint.commit_poll(tenant, &poll).unwrap(), LogGrowth::Grown);
}

/// Commits a richer copy of a stored day.
fn commit_enriched(checkpoint: &Checkpoint, rich: &str) {
    let rich_facts = facts(rich);
    let enriched = EnrichedDay {
        revision: 1,
        facts: &rich_facts,
        body: &CompressedText::compress(rich).unwrap(),
    };
    commit(checkpoint, &PollCommit { enriched: vec![enriched], ..empty_commit() });
}

#[test]
fn reads_entries_as_they_were_committed() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        for (index, text) in ["2026-11-19", "2026-11-20", "2026-11-21"].into_iter().enumerate() {
            commit_day(&checkpoint, text, u32::try_from(index).unwrap(), 1);
        }
    }

    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let entries = checkpoint.read(&read_request(1, "2026-11-20")).unwrap();
    assert_eq!(
        entries
            .iter()
            .map(|e| (snapshot(e).snapshot.seq.get(), snapshot(e).snapshot.day))
            .collect::<Vec<_>>(),
        [(2, day("2026-11-20")), (3, day("2026-11-21"))]
    );
    assert_eq!(snapshot(&entries[1]).body, body("2026-11-21", 2));

    let days = checkpoint.stored_days(tenant(), day("2026-11-01")).unwrap();
    assert_eq!(days[&day("2026-11-19")].facts, facts(&body("2026-11-19", 0)));
}

fn snapshot(entry: &LogEntry) -> &StoredSnapshot {
    match entry {
        LogEntry::Snapshot(snapshot) => snapshot,
        LogEntry::Observation(_) => panic!("expected a snapshot, found an observation"),
    }
}

fn read_request(first_seq: u64, first_day: &str) -> ReadRequest {
    ReadRequest {
        tenant: tenant(),
        first_seq: Seq::new(first_seq),
        last_seq: Seq::MAX,
        first_day: day(first_day),
        last_day: None,
        max_bytes: usize::MAX,
        with_observations: true,
        with_bases: true,
    }
}

#[test]
fn compresses_similar_days_with_a_key_frame() {
    let (_directory, checkpoint) = new_checkpoint();
    for number in 0..40 {
        commit_day(&checkpoint, &day("2026-10-01").plus(number).to_string(), 5, 1);
    }

    let key_frames = query_number(&checkpoint, "SELECT count(*) FROM body WHERE codec = 1");
    let bytes = query_number(&checkpoint, "SELECT sum(length(bytes)) FROM body WHERE codec = 2");
    assert_eq!(key_frames, 2, "31 bodies depend on one key frame");
    assert!(bytes / 38 < 200, "{bytes}");
}

#[test]
fn a_revision_includes_its_earlier_revisions() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-21", 1, 1);
    commit_day(&checkpoint, "2026-11-21", 2, 2);

    let entries = checkpoint.read(&read_request(2, "2026-11-01")).unwrap();
    assert_eq!(snapshot(&entries[0]).history, [facts(&body("2026-11-21", 1))]);
}

#[test]
fn a_richer_copy_replaces_the_body() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-21", 1, 1);

    let rich = body("2026-11-21", 1).replace("described", "now described");
    commit_enriched(&checkpoint, &rich);

    let entries = checkpoint.read(&read_request(1, "2026-11-01")).unwrap();
    assert_eq!((entries.len(), snapshot(&entries[0]).body.as_str()), (1, rich.as_str()));
}

/// Regression: a copy with another fact replaced the facts and kept their hash, so that `verify`
/// reported damage.
#[test]
fn a_copy_with_another_hash_replaces_nothing() {
    let (_directory, checkpoint) = new_checkpoint();
    let complete = body("2026-11-21", 1);
    let poor = complete.replace(r#","scoreInPercentage":7,"#, ",");
    let entry = NewEntry {
        snapshot_id: "x",
        revision: 1,
        facts: &facts(&poor),
        body: &CompressedText::compress(&poor).unwrap(),
        observed_at: UnixMillis::default(),
        base: None,
        flags: EntryFlags::default(),
    };
    commit(&checkpoint, &PollCommit { entries: vec![entry], ..empty_commit() });
    let progress = || checkpoint.days_before(tenant(), Seq::new(2)).unwrap();
    let before = progress();

    commit_enriched(&checkpoint, &complete);
    assert_eq!(checkpoint.verify().unwrap().findings, []);
    assert_eq!(progress(), before, "receivers have this hash");
    let entries = checkpoint.read(&read_request(1, "2026-11-01")).unwrap();
    assert_eq!(snapshot(&entries[0]).body, poor);
    assert_eq!(query_number(&checkpoint, "SELECT count(*) FROM body"), 1);

    let rich = poor.replace("described", "now described");
    commit_enriched(&checkpoint, &rich);
    let entries = checkpoint.read(&read_request(1, "2026-11-01")).unwrap();
    assert_eq!(snapshot(&entries[0]).body, rich);
    assert_eq!(progress(), before);
}

#[test]
fn deletes_replaced_bodies_without_dependents() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    commit_day(&checkpoint, "2026-11-21", 1, 1);

    for word in ["now", "then", "again"] {
        let rich = body("2026-11-21", 1).replace("described", &format!("{word} described"));
        commit_enriched(&checkpoint, &rich);
        let entries = checkpoint.read(&read_request(1, "2026-11-01")).unwrap();
        assert_eq!(snapshot(&entries[1]).body, rich);
    }

    let orphans = query_number(
        &checkpoint,
        "SELECT count(*) FROM body WHERE id NOT IN (SELECT body FROM entry WHERE body IS NOT NULL)
           AND id NOT IN (SELECT key_frame FROM body WHERE key_frame IS NOT NULL)",
    );
    assert_eq!(orphans, 0);
}

#[test]
fn stores_profiles_once_and_only_changed_catalogs() {
    let (_directory, checkpoint) = new_checkpoint();

    let member = |shared, decisions| CatalogMember { shared, decisions };
    let both = vec![member(r#"{"id":"A"}"#, ""), member(r#"{"id":"B"}"#, "[1]")];
    let reversed = both.iter().rev().copied().collect();
    let changed = vec![member(r#"{"id":"A"}"#, "[2]")];
    for (tenant, catalog) in [
        (tenant(), both.clone()),
        (tenant(), reversed),
        (tenant(), vec![]),
        (other_tenant(), both),
        (tenant(), changed),
    ] {
        let commit = PollCommit { catalog, ..empty_commit() };
        let _ = checkpoint.commit_poll(tenant, &commit).unwrap();
    }

    let count = |table: &str| query_number(&checkpoint, &format!("SELECT count(*) FROM {table}"));
    assert_eq!((count("profile"), count("catalog")), (2, 3));

    let sql = "SELECT max(id) AS newest FROM catalog";
    let newest: Result<CatalogVersion, _> =
        checkpoint.reading(|store| store.query_one(sql, values![], |row| row.get("newest")));
    let members = checkpoint.catalog(newest.unwrap()).unwrap();
    assert_eq!((members.len(), members[0].decisions.as_str()), (1, "[2]"));
    assert_eq!(checkpoint.profile(members[0].profile).unwrap(), r#"{"id":"A"}"#);
}

#[test]
fn a_cursor_advances_only_from_its_position() {
    let (_directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    commit_day(&checkpoint, "2026-11-21", 1, 1);
    register(&checkpoint, "s");

    let (start, middle, end) = (at(1, 0), at(2, 7), at(3, 0));
    let dead_letter = DeadLetter {
        tenant: tenant(),
        at: start,
        event_id: EventId::from_bytes([7; 20]),
        reason: "no".into(),
    };
    let advance = |from, to, dead_letters: &[DeadLetter]| {
        checkpoint.advance(&Advance {
            mark: Some(b"m"),
            sent: 10,
            dead_letters,
            ..live_advance(&"s".into(), &[cursor_move(from, to)])
        })
    };

    assert_eq!(advance(start, middle, &[dead_letter]).unwrap(), LogGrowth::Grown);
    assert!(matches!(advance(start, end, &[]), Err(CheckpointError::CursorMoved(_))));
    assert_eq!(checkpoint.pending(&"s".into()).unwrap()[0].at, middle);
    assert_eq!(checkpoint.pending(&"s".into()).unwrap()[0].entries, 1);
    assert_eq!(advance(middle, end, &[]).unwrap(), LogGrowth::Unchanged);
    assert!(checkpoint.pending(&"s".into()).unwrap().is_empty());

    let status = checkpoint.status(StatusDetail::Summary).unwrap();
    assert_eq!(
        (status.sinks[0].sent, status.sinks[0].rejected, status.sinks[0].backlog),
        (20, 1, 0)
    );
    assert_eq!(checkpoint.mark(&"s".into()).unwrap().as_deref(), Some(&b"m"[..]));
}

#[test]
fn an_observation_begins_once_and_ends_once() {
    let (_directory, checkpoint) = new_checkpoint();
    let observe = |phase, first: &str| {
        let observation = Observation {
            what: ObservationKind::Gap,
            subject: ObservationSubject::Day(day("2026-11-01")),
            first_day: day(first),
            phase,
            details: String::new(),
            hint: None,
        };
        commit(&checkpoint, &PollCommit { observations: vec![observation], ..empty_commit() });
    };

    observe(Phase::End, "2026-11-01");
    observe(Phase::Begin, "2026-11-02");
    observe(Phase::Begin, "2026-11-03");
    observe(Phase::End, "2026-11-04");

    let sql = "SELECT phase, day FROM entry WHERE kind = 2 ORDER BY seq";
    let rows = checkpoint.reading(|store| {
        store.query_all(sql, values![], |row| {
            Ok((row.get::<String>("phase")?, row.get::<i32>("day")?))
        })
    });
    let first = day("2026-11-02").number();
    assert_eq!(rows.unwrap(), [("begin".to_owned(), first), ("end".to_owned(), first)]);
}

#[test]
fn polls_update_the_expiry_of_a_credential() {
    let (_directory, checkpoint) = new_checkpoint();
    let expiring = Observation {
        what: ObservationKind::CredentialExpiring,
        subject: ObservationSubject::Credential,
        first_day: day("2026-11-01"),
        phase: Phase::Begin,
        details: "soon".into(),
        hint: None,
    };

    for (observations, expiry, stored) in
        [(vec![expiring], Some(1), 1), (vec![], None, 1), (vec![], Some(2), 2)]
    {
        let credential_expiry = expiry.map(UnixMillis::new);
        commit(&checkpoint, &PollCommit { observations, credential_expiry, ..empty_commit() });
        let status = checkpoint.status(StatusDetail::Summary).unwrap();
        let open = &status.tenants[0].observations;
        assert_eq!((open.len(), open[0].expires), (1, Some(UnixMillis::new(stored))));
    }
}

#[test]
fn a_failed_resolution_keeps_its_backoff() {
    let (_directory, checkpoint) = new_checkpoint();
    let reason = Explanation::new("no such domain");
    for (at, not_before) in [(1, 10), (20, 40)] {
        let failure = ResolutionFailure {
            at: UnixMillis::new(at),
            reason: &reason,
            class: PollErrorClass::Configuration,
            not_before: Some(UnixMillis::new(not_before)),
        };
        checkpoint.record_resolution_failure("contoso.com", &failure).unwrap();

        let stored = &checkpoint.status(StatusDetail::Summary).unwrap().unresolved[0];
        let times = [stored.last_attempt, stored.failing_since, stored.not_before.unwrap()];
        assert_eq!(times, [at, 1, not_before].map(UnixMillis::new));
    }
}

#[test]
fn requests_missing_days_seven_times_then_weekly() {
    let (_directory, checkpoint) = new_checkpoint();
    let now = empty_commit().observed_at;
    let after = |days: u64| now.saturating_add(Duration::from_hours(24 * days));
    let due = |now| checkpoint.due_missing_days(tenant(), now).unwrap();

    let missing = now.day().plus(-5);
    for _ in 0..7 {
        commit(&checkpoint, &PollCommit { missing: vec![missing], ..empty_commit() });
    }
    assert!(due(after(1)).is_empty());
    assert_eq!(due(after(8)), [missing]);

    commit(&checkpoint, &PollCommit { observed_at: after(90), ..empty_commit() });
    assert!(due(after(100)).is_empty(), "absent at the source");
}
