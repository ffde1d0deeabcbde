//! The watch of the storage while nothing else is written: it ends the daemon after another process
//! has written to the checkpoint, and reports a commit whose outcome stays unknown.

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use super::{
    harness::{Harness, Setup},
    *,
};
use crate::{
    checkpoint::{FaultMoment, FaultPlan},
    daemon::storage_watch::watch_storage,
};

/// The write test is due every 30 seconds, and a fault is tested again after ten.
const WRITE_TEST: Duration = Duration::from_secs(30);
const FAULT_TEST: Duration = Duration::from_secs(10);

/// Watches the storage of an engine. Returns where a loss is reported.
fn watched(engine: &Arc<Engine>) -> (mpsc::Receiver<CheckpointError>, JoinHandle<()>) {
    let (_, current) = watch::channel(Arc::clone(engine));
    let (sender, lost) = mpsc::channel(1);
    (lost, tokio::spawn(watch_storage(current, Arc::default(), sender)))
}

/// Regression: a daemon whose claim was lost continued, stored nothing, and was `Healthy`.
#[tokio::test(start_paused = true)]
async fn a_lost_claim_ends_the_watch() {
    let harness = Harness::new(Setup::default());
    let (mut lost, watching) = watched(harness.engine());
    sleep(4 * WRITE_TEST).await;
    assert!(lost.try_recv().is_err() && !watching.is_finished());

    let other_process = harness.checkpoint().restarted().unwrap();
    other_process.confirm_writable().unwrap();
    let error = timeout(2 * WRITE_TEST, lost.recv()).await.unwrap().unwrap();
    assert!(matches!(error, CheckpointError::ClaimLost(_)), "{error:?}");
    timeout(WRITE_TEST, watching).await.unwrap().unwrap();
}

/// Regression: a commit whose outcome stayed unknown was no fault of the storage.
#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_a_fault() {
    /// The third call of the write test, after the beginning and the statement.
    const COMMIT: usize = 2;

    for moment in [FaultMoment::LostBefore, FaultMoment::LostAfter] {
        let faults = FaultPlan::default();
        let harness = Harness::new(Setup { faults: faults.clone(), ..Setup::default() });
        let (mut lost, watching) = watched(harness.engine());
        let fault = || harness.engine().meters().storage.current();
        sleep(FAULT_TEST / 2).await;
        assert_eq!(fault(), None, "{moment:?}");

        faults.set(Some((COMMIT, moment)));
        faults.begin();
        sleep(WRITE_TEST).await;
        let reason = fault().unwrap().reason;
        assert!(reason.message.starts_with("cannot determine"), "{moment:?}: {reason:?}");
        assert!(reason.hint.is_some(), "{moment:?}");

        sleep(FAULT_TEST).await;
        assert_eq!(fault(), None, "{moment:?}");
        assert!(lost.try_recv().is_err() && !watching.is_finished(), "{moment:?}");
        watching.abort();
    }
}
