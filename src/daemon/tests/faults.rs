//! A fault of the database at each call of a delivery: before and after the effect of the call,
//! with an unknown outcome of each commit, and with another process that takes over the claim. No
//! record is lost, and at most one window arrives again; nothing does if a mark or the progress is
//! stored with the records. `faulty_polls` and `faulty_starts` have the same faults. Start reading
//! at [`at_each_call`].

use std::time::Duration;

use tokio::time::sleep;

use super::{
    arrivals::Repeats,
    harness::{Harness, Setup},
    scripted_sink::{Step, StoredWith},
};
use crate::{
    checkpoint::{FaultMoment, FaultPlan},
    sink::Failure,
};

/// How often a test checks whether the claim is lost.
const INTERVAL: Duration = Duration::from_secs(1);
/// In this time, a deliverer makes several attempts.
const SEVERAL_ATTEMPTS: Duration = Duration::from_mins(2);

/// Runs a scenario once without a fault, and once for each fault. A scenario passes the plan to its
/// harness, and begins it before the calls that can fail.
pub(super) async fn at_each_call(scenario: impl AsyncFn(&FaultPlan)) {
    let plan = FaultPlan::default();
    scenario(&plan).await;
    let faults = plan.possible_faults();
    let has_commit = faults.iter().any(|(_, moment)| *moment == FaultMoment::LostBefore);
    assert!(has_commit, "{plan:?}");

    for fault in faults {
        plan.set(Some(fault));
        scenario(&plan).await;
        assert!(plan.has_failed(), "the call was not reached: {plan:?}");
    }
}

/// Two tenants with five records per day, in batches of at most four.
fn harness(plan: &FaultPlan, stored: StoredWith) -> Harness {
    let (faults, records) = (plan.clone(), 4);
    Harness::new(Setup { controls: 4, records, stored, faults, ..Setup::default() })
}

/// The loss of a connection, after which the sink must be opened again.
fn broken() -> Failure {
    Failure::Broken { reason: "the connection was lost".to_owned() }
}

/// Waits until another process has taken over the claim. Panics if this one sends records although
/// it has noticed that.
async fn silence_after_takeover(harness: &Harness, plan: &FaultPlan) {
    while !plan.is_taken_over() {
        sleep(INTERVAL).await;
    }
    sleep(SEVERAL_ATTEMPTS).await;
    let requests = harness.sink.requests();
    sleep(SEVERAL_ATTEMPTS).await;
    assert_eq!(harness.sink.requests(), requests, "{plan:?}");
}

/// Delivers until the script has ended, and the rest after a kill of the process. A process that
/// loses its claim is replaced by another one.
async fn deliver_with_kill(harness: &mut Harness, plan: &FaultPlan) {
    harness.start();
    tokio::select! {
        () = harness.sink.script_ended() => {}
        () = silence_after_takeover(harness, plan) => {}
    }
    harness.restart().await;

    harness.start();
    tokio::select! {
        () = harness.until_delivered() => {}
        () = silence_after_takeover(harness, plan) => {}
    }
    if plan.is_taken_over() {
        harness.restart().await;
    }
    harness.deliver().await;
}

/// Delivers with the planned fault and a kill, and panics if a record is missing, if more of them
/// are repeated than is permitted, or if they have another order.
async fn check_delivery(harness: &mut Harness, plan: &FaultPlan, repeats: Repeats) {
    plan.begin();
    deliver_with_kill(harness, plan).await;

    let expected = harness.records().await;
    assert!(harness.rejected().len() <= 1, "{plan:?}");
    harness.check(&expected, repeats);
    harness.sink.check_order();
}

#[tokio::test(start_paused = true)]
async fn deliveries_lose_no_record() {
    at_each_call(async |plan| {
        let mut harness = harness(plan, StoredWith::Nothing);
        harness.append_days(1);
        // The rest of the first batch is the second step, whose failure is recorded.
        let script = [Step::RejectFirst, Step::Fail(Failure::retry("busy")), Step::Acknowledge];
        harness.sink.begin(script, Step::Acknowledge);
        check_delivery(&mut harness, plan, Repeats::OneWindow).await;
    })
    .await;
}

/// As a file: the records of a batch that is not confirmed are removed when the sink is opened.
#[tokio::test(start_paused = true)]
async fn sinks_with_a_mark_repeat_nothing() {
    at_each_call(async |plan| {
        let mut harness = harness(plan, StoredWith::Mark);
        harness.append_days(1);
        let script = [Step::Acknowledge, Step::Lose(broken()), Step::Acknowledge];
        harness.sink.begin(script, Step::Acknowledge);
        check_delivery(&mut harness, plan, Repeats::Nothing).await;
    })
    .await;
}

/// As Kafka: the cursors move to the progress at the receiver when the sink is opened. A batch has
/// the records of one day.
#[tokio::test(start_paused = true)]
async fn sinks_with_progress_repeat_nothing() {
    at_each_call(async |plan| {
        let mut harness = harness(plan, StoredWith::Progress);
        harness.append_days(2);
        harness.sink.begin([Step::Acknowledge, Step::Lose(broken())], Step::Acknowledge);
        check_delivery(&mut harness, plan, Repeats::Nothing).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn replays_lose_no_record() {
    at_each_call(async |plan| {
        let mut harness = harness(plan, StoredWith::Nothing);
        harness.append_days(1);
        harness.deliver().await;
        harness.replay();
        harness.sink.begin([Step::Acknowledge, Step::RejectFirst], Step::Acknowledge);
        check_delivery(&mut harness, plan, Repeats::OneWindow).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn retries_lose_no_dead_letter() {
    at_each_call(async |plan| {
        let mut harness = harness(plan, StoredWith::Nothing);
        harness.append_days(1);
        harness.sink.begin([], Step::RejectEvery(3));
        harness.deliver().await;
        let letters = harness.rejected();
        harness.retry_dead_letters();
        harness.sink.begin([Step::RejectFirst, Step::Acknowledge], Step::Acknowledge);
        plan.begin();
        deliver_with_kill(&mut harness, plan).await;

        plan.end();
        assert!(harness.rejected().len() <= 1, "{plan:?}");
        harness.check(&letters, Repeats::OneWindow);
    })
    .await;
}
