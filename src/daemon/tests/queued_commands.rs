//! Backfills and imports that a process has queued and not carried out: the next one continues
//! them.

use std::io::{BufRead, BufReader, Write};

use tokio::{net::UnixListener, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    daemon::control::serve,
    model::{Seq, UnixMillis},
    source::simulated::{Richness, snapshot_json},
};

/// The first days of the tenants, whose initial backfill has three days.
const INITIAL_DAYS: i32 = 3;

/// How long a test waits for a response.
const LIMIT: Duration = Duration::from_mins(1);

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
    let import = process.collector().queue_import(&tenant, &items).unwrap();
    let report = process.collector().complete_import(&tenant, import).unwrap().unwrap();
    assert_eq!((report.days, report.rejected), (0, 1));
    assert_eq!(process.collector().complete_import(&tenant, import).unwrap(), None);
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

/// Serves the control socket of an engine. Returns the task, and what ends it.
fn served(engine: &Arc<Engine>, socket: &Path) -> (JoinHandle<()>, CancellationToken) {
    let listener = Arc::new(UnixListener::bind(socket).unwrap());
    let ((reloads, _), cancel) = (mpsc::channel(1), CancellationToken::new());
    (tokio::spawn(serve(Arc::clone(engine), listener, reloads, cancel.clone())), cancel)
}

/// A saved snapshot of a tenant that is this number of days old.
fn saved(engine: &Engine, name: &str, age: i32) -> String {
    snapshot_json(&id(engine, name).to_string(), today().plus(-age), Richness::Poor)
}

/// Regression: each part of an import was queued only when the previous one had been imported, so a
/// restart in between lost the days of all later parts.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_no_part_of_an_import() {
    let directory = tempfile::tempdir().unwrap();
    let process = engine(directory.path()).await;
    let socket = directory.path().join("socket");
    let (serving, cancel) = served(&process, &socket);
    // No part can be imported before the poll of the first tenant has ended.
    let polling = process.tenants().named(HARMLESS).unwrap().polling.lock().await;

    let documents = [(HARMLESS, 40), (HARMLESS, 41), (HOSTILE, 42)]
        .map(|(name, age)| (name, saved(&process, name, age)));
    let (sender, mut queued) = mpsc::unbounded_channel();
    let command = tokio::task::spawn_blocking(move || {
        let parts = documents.each_ref().map(|(tenant, item)| {
            let items = vec![item.as_str()];
            ImportPart { tenant, items }
        });
        send_import(&socket, &parts, |event| {
            if let Event::Import(ImportEvent::Queued { part }) = event {
                sender.send(*part).unwrap();
            }
        })
    });
    for part in 0..3 {
        assert_eq!(timeout(LIMIT, queued.recv()).await.unwrap(), Some(part));
    }

    cancel.cancel();
    let response = timeout(LIMIT, command).await.unwrap().unwrap().unwrap();
    let Event::Error(RequestFailure { reason, .. }) = response else { panic!("{response:?}") };
    assert!(reason.hint.unwrap().contains("queued parts of an import continue"));
    timeout(LIMIT, serving).await.unwrap().unwrap();
    assert_eq!(process.store().checkpoint().queued_imports().unwrap().len(), 3);
    drop(polling);
    drop(process);

    let process = engine(directory.path()).await;
    assert_eq!((first_day(&process, HARMLESS), first_day(&process, HOSTILE)), (None, None));
    process.collector().resume_imports().await;
    assert_eq!((first_day(&process, HARMLESS), first_day(&process, HOSTILE)), (Some(41), Some(42)));
    assert_eq!(process.store().checkpoint().queued_imports().unwrap(), []);
}

/// A command that ends early has stored the parts that the daemon has confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_an_ended_command_are_imported() {
    let directory = tempfile::tempdir().unwrap();
    let process = engine(directory.path()).await;
    let socket = directory.path().join("socket");
    let (serving, cancel) = served(&process, &socket);

    let item = saved(&process, HARMLESS, 40);
    let command = tokio::task::spawn_blocking(move || {
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        let part = serde_json::json!({ "tenant": HARMLESS, "items": [item] });
        stream.write_all(b"{\"import\":{\"parts\":2}}\n").unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), r#"{"import":"next_part"}"#);
        writeln!(stream, "{part}").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), r#"{"import":{"queued":{"part":0}}}"#);
    });
    timeout(LIMIT, command).await.unwrap().unwrap();

    let is_imported = async {
        while first_day(&process, HARMLESS).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, is_imported).await.unwrap();
    cancel.cancel();
    timeout(LIMIT, serving).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_fails_prevents_no_other_part() {
    let directory = tempfile::tempdir().unwrap();
    let process = engine(directory.path()).await;
    let socket = directory.path().join("socket");
    let (serving, cancel) = served(&process, &socket);

    let item = saved(&process, HOSTILE, 40);
    let command = tokio::task::spawn_blocking(move || {
        let parts = ["unknown", HOSTILE]
            .map(|tenant| ImportPart { tenant, items: vec![item.as_str(), "not a snapshot"] });
        let mut events = Vec::new();
        let last = send_import(&socket, &parts, |event| events.push(event.clone())).unwrap();
        (events, last)
    });
    let (events, last) = timeout(LIMIT, command).await.unwrap().unwrap();
    assert_eq!(last, Event::Done { failed: 1 });
    let imported = Event::Import(ImportEvent::Imported { part: 1, days: 1, rejected: 1 });
    assert_eq!(events.last(), Some(&imported));
    let is_failed = |event: &Event| {
        matches!(event, Event::Import(ImportEvent::Failed { part: 0, failure })
            if failure.kind == RequestFailureKind::Invalid)
    };
    assert_eq!(events.iter().filter(|event| is_failed(event)).count(), 1, "{events:?}");
    cancel.cancel();
    timeout(LIMIT, serving).await.unwrap().unwrap();
}
