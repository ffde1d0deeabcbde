//! Ends of batches that depend on time, on a reload or on the encoder: what is delivered in the
//! meantime, and when the delivery continues.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    ends::{TestedLane, changed},
    harness::{Harness, SINK, Setup, Targets},
    scripted_sink::{Repeats, Step},
};
use crate::sink::Failure;

/// A harness whose first batch has this end, and whose deliverer has received it.
async fn started(lane: TestedLane, setup: Setup, end: Step) -> Harness {
    let mut harness = Harness::new(setup);
    lane.prepare(&mut harness).await;
    harness.sink.begin([end], Step::Acknowledge);
    harness.start();
    harness.sink.script_ended().await;
    harness
}

/// Delivers the rest, and checks that each record of the logs arrives once or is a dead letter.
async fn finish(harness: &mut Harness) {
    harness.deliver().await;
    let expected = harness.records().await;
    harness.check(&expected, Repeats::Nothing);
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_a_hanging_delivery() {
    for lane in [TestedLane::Live, TestedLane::Replay] {
        let mut harness = started(lane, Setup::default(), Step::Hang).await;
        sleep(Duration::from_hours(1)).await;
        assert!(harness.sink.arrived().is_empty(), "{lane:?}");

        let reloaded = Instant::now();
        harness.reload(changed).await;
        assert_eq!(reloaded.elapsed().as_secs(), 30, "it waits for acknowledgements");
        finish(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_retry_keeps_dead_letters() {
    let mut harness = started(TestedLane::DeadLetters, Setup::default(), Step::Hang).await;
    let letters = harness.rejected();
    harness.reload(changed).await;
    assert_eq!(harness.rejected(), letters);

    harness.deliver().await;
    assert!(harness.rejected().is_empty());
    harness.check(&letters, Repeats::Nothing);
}

/// Each day of each tenant has one record of the control.
#[tokio::test(start_paused = true)]
async fn records_without_encoding_become_dead_letters() {
    for lane in [TestedLane::Live, TestedLane::Replay] {
        let mut harness = Harness::new(Setup::default());
        lane.prepare(&mut harness).await;
        harness.sink.begin([], Step::Acknowledge);
        harness.sink.forget_control("c07");
        finish(&mut harness).await;
        assert_eq!(harness.rejected().len(), 6, "{lane:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_sink_continues_after_a_reload() {
    for lane in [TestedLane::Live, TestedLane::Replay] {
        let failure = Failure::misconfigured("no permission");
        let mut harness = started(lane, Setup::default(), Step::Fail(failure)).await;
        sleep(Duration::from_mins(4)).await;
        assert!(harness.sink.arrived().is_empty(), "{lane:?}");

        let reloaded = Instant::now();
        harness.reload(changed).await;
        finish(&mut harness).await;
        assert!(reloaded.elapsed() < Duration::from_mins(1), "{lane:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_target_delays_no_other() {
    for lane in [TestedLane::Live, TestedLane::Replay] {
        let setup = Setup { targets: Targets::PerTenant, ..Setup::default() };
        let mut harness = started(lane, setup, Step::RefuseTarget).await;
        sleep(Duration::from_mins(4)).await;

        // Only the other tenant has three days with 13 records each.
        let refused = harness.id(0);
        let arrivals = harness.sink.arrivals();
        assert!(arrivals.iter().all(|arrival| arrival.tenant != refused), "{lane:?}");
        assert_eq!(arrivals.len(), 39, "{lane:?}");
        finish(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_requested_delay_is_respected() {
    let reason = "too many requests".to_owned();
    let delay = Duration::from_mins(10);
    let failure = Failure::Retry { reason, after: Some(delay), hint: None };
    let mut harness = started(TestedLane::Live, Setup::default(), Step::Fail(failure)).await;

    sleep(delay.saturating_sub(Duration::from_secs(1))).await;
    assert!(harness.sink.arrived().is_empty());
    finish(&mut harness).await;
}

#[tokio::test(start_paused = true)]
async fn a_renamed_sink_continues_from_its_cursors() {
    for lane in [TestedLane::Live, TestedLane::Replay] {
        let mut harness = started(lane, Setup::default(), Step::Acknowledge).await;
        let name = format!("name = \"{SINK}\"");
        let renamed = format!("name = \"renamed\"\nrenamed_from = \"{SINK}\"");
        harness.reload(|text| text.replace(&name, &renamed)).await;
        assert!(!harness.sink.arrived().is_empty(), "{lane:?}");
        finish(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_sink_receives_new_days() {
    let mut harness = Harness::new(Setup::default());
    harness.append_days(1);
    harness.start();
    harness.until_delivered().await;
    let before = harness.sink.arrived().len();

    // The sink is closed in the meantime.
    sleep(Duration::from_hours(1)).await;
    harness.append_days(2);
    harness.until_delivered().await;
    assert_eq!((before, harness.sink.arrived().len()), (26, 52));
    finish(&mut harness).await;
}
