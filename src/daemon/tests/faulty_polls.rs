//! A fault of the database at each call of a poll, and of an import; see `faults`. No day is lost
//! or stored twice, and a command that was queued is carried out. Start reading at [`poll`].

use super::{
    arrivals::Repeats,
    faults::at_each_call,
    fixtures::profiles,
    harness::{Harness, Setup},
};
use crate::{
    checkpoint::{CheckpointError, FaultPlan, PollState},
    daemon::{
        PollError,
        collector::{CatalogRead, PollResponse},
    },
    model::{ObservationKind, Phase},
    source::SourceError,
};

/// How often a poll or a command is repeated at most.
const MAX_ATTEMPTS: usize = 4;
/// The controls of each day.
const CONTROLS: u32 = 3;
/// The days that a first poll requests, each with the same score.
const DAYS: [(i32, u32); 3] = [(-2, 5), (-1, 5), (0, 5)];

/// A harness with one tenant, whose log is empty.
fn harness(plan: &FaultPlan, credential_days: Option<i32>) -> Harness {
    let (tenants, controls, faults) = (1, CONTROLS, plan.clone());
    Harness::new(Setup { tenants, controls, credential_days, faults, ..Setup::default() })
}

/// Polls the tenant until a poll succeeds, as the schedule does. A process that has lost its claim
/// is replaced by another one.
async fn poll(harness: &mut Harness, plan: &FaultPlan, respond: impl Fn(&Harness) -> PollResponse) {
    for _ in 0..MAX_ATTEMPTS {
        let response = respond(harness);
        match harness.poll(0, |_| Ok(response)) {
            Ok(_) => return,
            Err(PollError::Checkpoint(CheckpointError::ClaimLost(_))) => harness.restart().await,
            Err(_) => {}
        }
    }
    panic!("no poll succeeds: {plan:?}");
}

fn state(harness: &Harness) -> PollState {
    harness.checkpoint().poll_state(harness.id(0)).unwrap()
}

/// The number of observations that begin, and of those that end. An observation about the
/// credential does not count, because it never ends here.
fn phases(harness: &Harness) -> (usize, usize) {
    let mut observations = harness.observations(0);
    observations.retain(|(what, _)| *what != ObservationKind::CredentialExpiring.as_str());
    let count = |of: Phase| observations.iter().filter(|(_, phase)| *phase == of).count();
    (count(Phase::Begin), count(Phase::End))
}

/// Panics if something is left of polls that failed, or if a sink does not receive each record of
/// the log once.
async fn check(harness: &mut Harness, plan: &FaultPlan) {
    let (checkpoint, id) = (harness.checkpoint(), harness.id(0));
    assert!(checkpoint.missing_days(id).unwrap().is_empty(), "{plan:?}");
    assert!(checkpoint.held_days(id).unwrap().is_empty(), "{plan:?}");
    assert!(checkpoint.running_polls().unwrap().is_empty(), "{plan:?}");
    let PollState { polled, queued_backfill, failed_locally, .. } = state(harness);
    assert_eq!((polled.failures, queued_backfill, failed_locally), (0, None, false), "{plan:?}");

    if plan.is_taken_over() {
        harness.restart().await;
    }
    harness.deliver().await;
    let expected = harness.records().await;
    assert!(!expected.is_empty(), "{plan:?}");
    harness.check(&expected, Repeats::Nothing);
}

/// The first poll cannot read the catalog, and holds the days. The second one is complete.
#[tokio::test(start_paused = true)]
async fn held_days_are_released_once() {
    at_each_call(async |plan| {
        let mut harness = harness(plan, Some(10));
        plan.begin();
        poll(&mut harness, plan, |harness| {
            let error = SourceError::Status { what: "Graph", status: 503, reason: String::new() };
            PollResponse { catalog: CatalogRead::Failed(error), ..harness.response(0, &DAYS) }
        })
        .await;
        let held = plan.without_faults(|| harness.checkpoint().held_days(harness.id(0)).unwrap());
        assert_eq!(held.len(), DAYS.len(), "{plan:?}");
        poll(&mut harness, plan, |harness| {
            let catalog = CatalogRead::Complete(profiles(CONTROLS));
            PollResponse { catalog, ..harness.response(0, &DAYS) }
        })
        .await;
        plan.end();

        assert_eq!(harness.snapshots(0), [(-2, 1), (-1, 1), (0, 1)], "{plan:?}");
        let (begun, ended) = phases(&harness);
        assert!(begun == ended && begun >= DAYS.len(), "{plan:?}: {begun} {ended}");
        let expiring = (ObservationKind::CredentialExpiring.as_str(), Phase::Begin);
        let observations = harness.observations(0);
        let found = observations.iter().filter(|observation| **observation == expiring).count();
        assert_eq!(found, 1, "{plan:?}: {observations:?}");
        check(&mut harness, plan).await;
    })
    .await;
}

/// A poll with a queued backfill, a revision, and a copy that has the texts of a stored day.
#[tokio::test(start_paused = true)]
async fn backfills_and_revisions_are_stored_once() {
    at_each_call(async |plan| {
        let mut harness = harness(plan, None);
        harness.poll_days(0, &DAYS).unwrap();
        plan.begin();
        for _ in 0..MAX_ATTEMPTS {
            harness.queue_backfill(0, -5);
            if plan.without_faults(|| state(&harness).queued_backfill.is_some()) {
                break;
            }
            harness.restart().await;
        }
        poll(&mut harness, plan, |harness| {
            let days = [(-5, 5), (-4, 5), (-3, 5), (-2, 5), (-1, 7), (0, 5)];
            let mut response = harness.response(0, &days);
            response.snapshots[3] = harness.rich_snapshot(0, -2, 5);
            response
        })
        .await;
        plan.end();

        let stored = [(-2, 1), (-1, 1), (0, 1), (-5, 1), (-4, 1), (-3, 1), (-1, 2)];
        assert_eq!(harness.snapshots(0), stored, "{plan:?}");
        let days = harness.checkpoint().stored_days(harness.id(0), harness.day(-5)).unwrap();
        let rich: Vec<bool> = days.values().map(|stored| stored.facts.rich).collect();
        assert_eq!(rich, [false, false, false, true, false, false], "{plan:?}");
        let (begun, ended) = phases(&harness);
        assert_eq!(begun, ended, "{plan:?}");
        check(&mut harness, plan).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_import_is_completed_once() {
    at_each_call(async |plan| {
        let mut harness = harness(plan, None);
        plan.begin();
        let mut is_queued = false;
        for _ in 0..MAX_ATTEMPTS {
            is_queued = is_queued || harness.queue_import(0, -40).is_ok();
            // The next process completes it.
            harness.restart().await;
            harness.resume_imports().await;
            let queued = || harness.checkpoint().queued_imports().unwrap();
            if is_queued && plan.without_faults(queued).is_empty() {
                break;
            }
        }
        plan.end();

        let queued = harness.checkpoint().queued_imports().unwrap();
        assert!(is_queued && queued.is_empty(), "{plan:?}: {queued:?}");
        assert_eq!(harness.snapshots(0), [(-40, 1)], "{plan:?}");
        check(&mut harness, plan).await;
    })
    .await;
}
