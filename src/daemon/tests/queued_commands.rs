//! Backfills and imports that a process has queued and not carried out: the next one continues
//! them.

use super::*;
use crate::{
    model::{Seq, UnixMillis},
    source::simulated::{Richness, snapshot_json},
};

/// The first days of the tenants, whose initial backfill has three days.
const INITIAL_DAYS: i32 = 3;

/// An engine as a new process builds it on the same state directory.
async fn engine(directory: &Path) -> Arc<Engine> {
    Engine::build(configuration(directory).await).unwrap()
}

fn today() -> Day {
    Day::of(clock::now())
}

fn id(engine: &Engine, name: &str) -> TenantId {
    engine.tenants().named(name).unwrap().resolved().unwrap().id
}

/// How many days ago the first stored day of a tenant is.
fn first_day(engine: &Engine, name: &str) -> Option<i32> {
    let days = engine.store().checkpoint().stored_day_range(id(engine, name)).unwrap()?;
    Some(today().number() - days.start().number())
}

/// How many days ago the queued backfill of a tenant begins.
fn queued(engine: &Engine, name: &str) -> Option<i32> {
    let state = engine.store().checkpoint().poll_state(id(engine, name)).unwrap();
    Some(today().number() - state.queued_backfill?.number())
}

/// What a daemon does after its start.
async fn first_round(engine: &Arc<Engine>) {
    let mut poller = Poller::new(Arc::clone(engine));
    poller.start_due();
    poller.idle().await;
}

/// Regression: a restart forgot a backfill that it had interrupted.
#[tokio::test(flavor = "multi_thread")]
async fn a_queued_backfill_is_continued() {
    let directory = tempfile::tempdir().unwrap();
    let process = engine(directory.path()).await;
    backfill(&process, None, &[], |_, _| {}).await;
    // The process ends after it has queued the backfill, and before its first request.
    let tenants: Vec<_> = process.tenants().iter().skip(1).cloned().collect();
    process.collector().queue_backfills(&tenants, today().plus(-9));
    drop(process);

    let process = engine(directory.path()).await;
    assert_eq!(queued(&process, HOSTILE), Some(9));
    first_round(&process).await;
    assert_eq!((queued(&process, HOSTILE), first_day(&process, HOSTILE)), (None, Some(9)));
    assert_eq!(first_day(&process, HARMLESS), Some(INITIAL_DAYS - 1), "it was not queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_backfill_stays_queued() {
    let directory = tempfile::tempdir().unwrap();
    let mut faulty = configuration(directory.path()).await;
    faulty.tenants[1].access.credential = Arc::new(FaultyCredential);
    let process = Engine::build(faulty).unwrap();
    let polls = backfill(&process, Some(today().plus(-9)), &[], |_, _| {}).await;
    assert!(polls[0].1.is_ok() && polls[1].1.is_err(), "{polls:?}");
    assert_eq!((queued(&process, HARMLESS), queued(&process, HOSTILE)), (None, Some(9)));
    drop(process);

    let process = engine(directory.path()).await;
    backfill(&process, None, &[], |_, _| {}).await;
    assert_eq!((queued(&process, HOSTILE), first_day(&process, HOSTILE)), (None, Some(9)));
}

/// Regression: a restart forgot an import that it had interrupted.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_import_is_completed_once() {
    let directory = tempfile::tempdir().unwrap();
    let process = engine(directory.path()).await;
    let tenant = process.tenants().named(HARMLESS).unwrap().resolved().unwrap();
    let item = snapshot_json(&tenant.id.to_string(), today().plus(-40), Richness::Poor);
    let items = [item.as_str(), "not a snapshot"];
    // The process ends before it has carried out what it has queued.
    process.store().checkpoint().queue_import(tenant.id, &items, UnixMillis::default()).unwrap();
    drop(process);

    let process = engine(directory.path()).await;
    for _ in 0..2 {
        process.collector().resume_imports().await;
        assert_eq!(first_day(&process, HARMLESS), Some(40));
        // The day, and the observation that it is old.
        assert_eq!(process.store().checkpoint().next_seq(tenant.id).unwrap(), Seq::new(3));
        assert_eq!(process.store().checkpoint().queued_imports().unwrap(), []);
    }

    // A completed import leaves nothing to continue.
    let report = process.collector().import(&tenant, &items).unwrap();
    assert_eq!((report.days, report.rejected), (0, 1));
    assert_eq!(process.store().checkpoint().queued_imports().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_an_unknown_tenant_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let process = engine(directory.path()).await;
    let unknown = TenantId::parse("bbbbbbbb-0000-4000-8000-00000000c0de").unwrap();
    let known = id(&process, HOSTILE);
    let item = snapshot_json(&known.to_string(), today().plus(-5), Richness::Poor);
    for tenant in [unknown, known] {
        process.store().checkpoint().queue_import(tenant, &[&item], UnixMillis::default()).unwrap();
    }

    process.collector().resume_imports().await;
    assert_eq!(process.store().checkpoint().queued_imports().unwrap(), []);
    assert_eq!(first_day(&process, HOSTILE), Some(5));
    assert_eq!(process.store().checkpoint().next_seq(unknown).unwrap(), Seq::FIRST);
}
