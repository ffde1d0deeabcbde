//! Tests of dead letters that are retried: those of one tenant never delay those of another, also
//! if its records are rejected, cannot be derived, or cause a panic.

use super::*;
use crate::{
    checkpoint::{
        Advance, DeadLetter, DeadLetterFilter, DeadLetterKey, EntryFlags, Lane, NewEntry,
        PollCommit,
    },
    compressed::CompressedText,
    model::{DayFacts, EventId, Seq, TenantId, UnixMillis},
    wire,
};

/// More dead letters than are retried at a time.
const MANY: u32 = 501;

async fn engine_with(directory: &Path, sink: &FaultySink) -> Arc<Engine> {
    let mut configuration = configuration(directory).await;
    configuration.sinks[0].plan = Arc::new(sink.clone());
    Engine::build(configuration).unwrap()
}

pub(super) fn id(engine: &Engine, name: &str) -> TenantId {
    engine.tenants().named(name).unwrap().resolved().unwrap().id
}

/// Stores this number of dead letters of the first entry in the log of a tenant, and queues them
/// for a retry. If the log is empty, that entry is the observation about the dead letters: each of
/// them then has its record.
pub(super) fn queue(engine: &Engine, name: &str, number: u32) {
    let tenant = id(engine, name);
    let letter = |record_index: u32| {
        let mut event_id = [0; 20];
        event_id[..4].copy_from_slice(&record_index.to_be_bytes());
        event_id[4] = *name.as_bytes().last().unwrap();
        let (at, event_id) =
            (Position { seq: Seq::FIRST, record_index }, EventId::from_bytes(event_id));
        DeadLetter { tenant, at, event_id, reason: "rejected before".to_owned() }
    };
    let letters: Vec<DeadLetter> = (0..number).map(letter).collect();

    let advance = Advance {
        sink: &"local".into(),
        lane: Lane::DeadLetters,
        moves: &[],
        mark: None,
        sent: 0,
        truncated: 0,
        dead_letters: &letters,
        delivered_dead_letters: &[],
        now: UnixMillis::default(),
    };
    let _ = engine.store().checkpoint().advance(&advance).unwrap();
    let key =
        |letter: &DeadLetter| DeadLetterKey { sink: "local".into(), event_id: letter.event_id };
    let keys: Vec<DeadLetterKey> = letters.iter().map(key).collect();
    assert_eq!(engine.store().checkpoint().retry_dead_letters(&keys).unwrap(), u64::from(number));
}

/// The number of dead letters of a tenant that are queued for a retry.
pub(super) fn queued(engine: &Engine, name: &str) -> u64 {
    let tenants = Some(vec![id(engine, name)]);
    let filter = DeadLetterFilter { tenants, ..DeadLetterFilter::default() };
    let groups = engine.store().checkpoint().dead_letter_groups(&filter).unwrap();
    groups.iter().map(|group| group.queued).sum()
}

/// Appends a snapshot that cannot be decoded to the empty log of a tenant. The live cursor has
/// passed it.
fn append_undecodable(engine: &Engine, name: &str) {
    let tenant = id(engine, name);
    let day = r#"{"createdDateTime":"2026-11-20T00:00:00Z","controlScores":[]}"#;
    let facts = DayFacts::of(&wire::snapshot(day).unwrap()).unwrap();
    let entry = NewEntry {
        snapshot_id: "x",
        revision: 1,
        facts: &facts,
        body: &CompressedText::compress("not JSON").unwrap(),
        observed_at: UnixMillis::default(),
        base: None,
        flags: EntryFlags::default(),
    };
    let commit = PollCommit { entries: vec![entry], ..PollCommit::default() };
    let _ = engine.store().checkpoint().commit_poll(tenant, &commit).unwrap();
    let next = Position { seq: Seq::new(2), record_index: 0 };
    assert!(engine.store().checkpoint().skip_to(&"local".into(), tenant, next).unwrap());
}

/// Regression: while a tenant was withheld, its dead letters were all that was selected for a
/// retry, so those of no other tenant were sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_withheld_tenant_delays_no_retry() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FaultySink { rejected: Some(HOSTILE), ..FaultySink::default() };
    let engine = engine_with(directory.path(), &sink).await;
    assert!(id(&engine, HOSTILE) < id(&engine, HARMLESS), "its dead letters are the first ones");
    queue(&engine, HOSTILE, MANY);
    queue(&engine, HARMLESS, 1);

    let report = deliver_queued(&engine, &"local".into()).await;
    assert!(matches!(report.stopped, Some(DeliveryError::Sink(Failure::Refused(_)))), "{report:?}");
    assert_eq!(*sink.arrived.lock().unwrap(), BTreeSet::from([HARMLESS.to_owned()]));
    assert_eq!((queued(&engine, HOSTILE), queued(&engine, HARMLESS)), (u64::from(MANY), 0));
    assert_eq!((report.delivered, report.rejected), (1, 0));
}

/// Regression: a dead letter whose entry could not be decoded ended each attempt, so no other one
/// was retried.
#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_entry_delays_no_retry() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FaultySink::default();
    let engine = engine_with(directory.path(), &sink).await;
    append_undecodable(&engine, HOSTILE);
    queue(&engine, HOSTILE, 1);
    queue(&engine, HARMLESS, 1);

    let report = deliver_queued(&engine, &"local".into()).await;
    assert!(report.stopped.is_none(), "{report:?}");
    assert_eq!((report.delivered, report.rejected), (1, 1));
    assert_eq!(*sink.arrived.lock().unwrap(), BTreeSet::from([HARMLESS.to_owned()]));

    let letters =
        engine.store().checkpoint().find_dead_letters(&DeadLetterFilter::default(), 9).unwrap();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert!(letter.tenant == id(&engine, HOSTILE) && !letter.retry, "{letter:?}");
    assert!(letter.reason.starts_with("cannot decode entry 1 of the log: "), "{letter:?}");
}

/// Regression: a panic during the retry of a dead letter was repeated by each attempt, so no other
/// one was retried.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_delays_no_other_retry() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FaultySink { hostile: Some(HOSTILE), ..FaultySink::default() };
    let engine = engine_with(directory.path(), &sink).await;
    queue(&engine, HOSTILE, 1);
    queue(&engine, HARMLESS, 1);

    let report = deliver_queued(&engine, &"local".into()).await;
    assert!(matches!(report.stopped, Some(DeliveryError::Panicked(_))), "{report:?}");
    assert_eq!(*sink.arrived.lock().unwrap(), BTreeSet::from([HARMLESS.to_owned()]));
    assert_eq!((queued(&engine, HOSTILE), queued(&engine, HARMLESS)), (1, 0));
    assert_eq!(engine.meters().panics(ContainedTask::Sink), 2, "the suspect was tried again");
}
