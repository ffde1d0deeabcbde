//! The control socket while commands wait for polls.

use tokio::{net::UnixListener, sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::daemon::control::serve;

/// How long the test waits for a response.
const LIMIT: Duration = Duration::from_mins(1);

/// Regression: eight commands that waited for a poll occupied all connections, so `status` showed
/// no fault of the storage.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_commands_leave_connections_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::build(configuration(directory.path()).await).unwrap();
    let socket = directory.path().join("socket");
    let listener = Arc::new(UnixListener::bind(&socket).unwrap());
    let ((reloads, _), cancel) = (mpsc::channel(1), CancellationToken::new());
    let served = tokio::spawn(serve(engine.clone(), listener, reloads, cancel.clone()));
    let ask = move |request: Request| send_request(&socket, &request, |_| {}).unwrap();

    // No poll of this tenant can begin, so all commands but the one that is rejected wait for it.
    let _polling = engine.tenants().named(HARMLESS).unwrap().polling.lock().await;
    let mut commands = JoinSet::new();
    for _ in 0..9 {
        let ask = ask.clone();
        let request = Request::Poll { tenants: vec![HARMLESS.to_owned()] };
        commands.spawn_blocking(move || ask(request));
    }
    let rejected = timeout(LIMIT, commands.join_next()).await.unwrap().unwrap().unwrap();
    match rejected {
        Event::Error(failure) => {
            assert_eq!(failure.kind, RequestFailureKind::Incomplete);
            assert_eq!(failure.reason.message, "8 other commands are waiting for polls");
        }
        other => panic!("{other:?}"),
    }

    for request in [Request::LiveFacts, Request::Prune] {
        let ask = ask.clone();
        let asked = tokio::task::spawn_blocking(move || ask(request));
        let event = timeout(LIMIT, asked).await.unwrap().unwrap();
        assert!(matches!(event, Event::LiveFacts(_) | Event::Pruned(_)), "{event:?}");
    }
    assert!(commands.try_join_next().is_none());

    cancel.cancel();
    while let Some(event) = timeout(LIMIT, commands.join_next()).await.unwrap() {
        assert!(matches!(event.unwrap(), Event::Error(_)));
    }
    timeout(LIMIT, served).await.unwrap().unwrap();
}
