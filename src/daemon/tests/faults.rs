//! A fault of the database at each call of a poll and of a delivery: once before and once after the
//! effect of the call, and with an unknown outcome of each commit. No day and no record is lost,
//! and at most one window arrives again. Start reading at [`at_each_call`].

use super::{
    harness::{Harness, Setup},
    scripted_sink::{Repeats, Step},
};
use crate::{
    checkpoint::{FaultMoment, FaultPlan},
    model::Phase,
};

/// How often a poll is repeated at most, as the schedule does it.
const MAX_POLLS: usize = 3;
/// The days of each tenant: two tenants with 10 records per day have 40 records, in four batches.
const DAYS: i32 = 2;

/// Runs a scenario once without a fault, and once for each fault. A scenario passes the plan to its
/// harness, and begins it before the calls that can fail.
async fn at_each_call(scenario: impl AsyncFn(&FaultPlan)) {
    let plan = FaultPlan::default();
    scenario(&plan).await;
    let (calls, commits) = (plan.calls(), plan.commits());
    assert!(!commits.is_empty() && calls > commits.len() as u64, "{plan:?}");

    let calls = (0..calls)
        .flat_map(|call| [FaultMoment::Before, FaultMoment::After].map(|moment| (call, moment)));
    let commits = commits.into_iter().flat_map(|call| {
        [FaultMoment::LostBefore, FaultMoment::LostAfter].map(|moment| (call, moment))
    });
    for fault in calls.chain(commits) {
        plan.set(Some(fault));
        scenario(&plan).await;
        assert!(plan.has_failed(), "the call was not reached: {plan:?}");
    }
}

fn harness(plan: &FaultPlan) -> Harness {
    Harness::new(Setup { controls: 9, records: 10, faults: plan.clone(), ..Setup::default() })
}

/// Polls the first tenant until a poll succeeds.
fn poll(harness: &Harness, plan: &FaultPlan, days: &[(i32, u32)]) {
    let mut polls = (0..MAX_POLLS).map(|_| harness.poll_days(0, days));
    assert!(polls.any(|poll| poll.is_ok()), "{plan:?}");
}

/// Delivers until the script has ended, and the rest after a kill of the process.
async fn deliver_with_kill(harness: &mut Harness) {
    harness.start();
    harness.sink.script_ended().await;
    harness.restart().await;
    harness.deliver().await;
}

#[tokio::test(start_paused = true)]
async fn polls_lose_and_repeat_no_day() {
    at_each_call(async |plan| {
        let mut harness =
            Harness::new(Setup { controls: 3, faults: plan.clone(), ..Setup::default() });
        plan.begin();
        poll(&harness, plan, &[(-2, 5), (-1, 5), (0, 5)]);
        poll(&harness, plan, &[(-2, 5), (-1, 7), (0, 5)]);
        plan.end();

        assert_eq!(harness.snapshots(0), [(-2, 1), (-1, 1), (0, 1), (-1, 2)], "{plan:?}");
        let (checkpoint, id) = (harness.checkpoint(), harness.id(0));
        assert!(checkpoint.missing_days(id).unwrap().is_empty(), "{plan:?}");
        assert!(checkpoint.running_polls().unwrap().is_empty(), "{plan:?}");
        assert_eq!(checkpoint.poll_state(id).unwrap().polled.failures, 0, "{plan:?}");
        // Every failure that was recorded has ended.
        let observations = harness.observations(0);
        let count = |of: Phase| observations.iter().filter(|(_, phase)| *phase == of).count();
        assert_eq!(count(Phase::Begin), count(Phase::End), "{plan:?}: {observations:?}");

        harness.deliver().await;
        let expected = harness.records().await;
        harness.check(&expected, Repeats::Nothing);
    })
    .await;
}

/// Delivers with the planned fault and a kill, and panics if a record is missing, if more of them
/// are repeated than the guarantees permit, or if they have another order.
async fn check_delivery(plan: &FaultPlan, harness: &mut Harness) {
    plan.begin();
    deliver_with_kill(harness).await;

    let expected = harness.records().await;
    assert!(harness.rejected().len() <= 1, "{plan:?}");
    harness.check(&expected, Repeats::OneWindow);
    harness.sink.check_order();
}

#[tokio::test(start_paused = true)]
async fn deliveries_lose_no_record() {
    at_each_call(async |plan| {
        let mut harness = harness(plan);
        harness.append_days(DAYS);
        // The rest of the first batch is the second step.
        harness.sink.begin([Step::RejectFirst, Step::Acknowledge], Step::Acknowledge);
        check_delivery(plan, &mut harness).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn replays_lose_no_record() {
    at_each_call(async |plan| {
        let mut harness = harness(plan);
        harness.append_days(DAYS);
        harness.deliver().await;
        harness.replay();
        harness.sink.begin([Step::Acknowledge, Step::RejectFirst], Step::Acknowledge);
        check_delivery(plan, &mut harness).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn retries_lose_no_dead_letter() {
    at_each_call(async |plan| {
        let mut harness = harness(plan);
        harness.append_days(DAYS);
        harness.sink.begin([], Step::RejectEvery(3));
        harness.deliver().await;
        let letters = harness.rejected();
        harness.retry_dead_letters();
        harness.sink.begin([Step::RejectFirst, Step::Acknowledge], Step::Acknowledge);
        plan.begin();
        deliver_with_kill(&mut harness).await;

        plan.end();
        assert!(harness.rejected().len() <= 1, "{plan:?}");
        harness.check(&letters, Repeats::OneWindow);
    })
    .await;
}
