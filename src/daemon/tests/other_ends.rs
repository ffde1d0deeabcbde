//! Ends of batches that depend on time, on a reload or on the encoder: what is delivered in the
//! meantime, and when the delivery continues.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    arrivals::Repeats,
    ends::{Interruption, TestedLane, changed},
    harness::{Harness, SINK, Setup, Targets},
    scripted_sink::{RestOfBatch, Step, StoredWith},
};
use crate::{model::EventId, sink::Failure};

/// Before the next attempt: nothing, or the end of the deliverer.
const INTERRUPTIONS: [Option<Interruption>; 3] =
    [None, Some(Interruption::Reload), Some(Interruption::Kill)];

/// A harness whose first batch has this end, and whose deliverer has received it, with the records
/// of the dead letters that are retried; see [`TestedLane::prepare`].
async fn started(lane: TestedLane, setup: Setup, end: Step) -> (Harness, BTreeSet<EventId>) {
    let mut harness = Harness::new(setup);
    let letters = lane.prepare(&mut harness).await;
    harness.sink.begin([end], Step::Acknowledge);
    harness.start();
    harness.sink.script_ended().await;
    (harness, letters)
}

/// Delivers the rest, and checks that each record of the lane arrives once or is a dead letter.
/// `letters` are the records of the dead letters that are retried.
async fn finish(harness: &mut Harness, lane: TestedLane, letters: &BTreeSet<EventId>) {
    harness.deliver().await;
    match lane {
        TestedLane::DeadLetters => harness.check(letters, Repeats::Nothing),
        TestedLane::Live | TestedLane::Replay => {
            let expected = harness.records().await;
            harness.check(&expected, Repeats::Nothing);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_a_hanging_delivery() {
    for lane in TestedLane::ALL {
        let (mut harness, letters) = started(lane, Setup::default(), Step::Hang).await;
        sleep(Duration::from_hours(1)).await;
        assert!(harness.sink.arrived().is_empty(), "{lane:?}");

        let reloaded = Instant::now();
        harness.reload(changed).await;
        assert_eq!(reloaded.elapsed().as_secs(), 30, "it waits for acknowledgements");
        assert_eq!(harness.rejected(), letters, "{lane:?}");
        finish(&mut harness, lane, &letters).await;
        assert!(harness.rejected().is_empty(), "{lane:?}");
    }
}

/// Each day of each tenant has one record of the control.
#[tokio::test(start_paused = true)]
async fn records_without_encoding_become_dead_letters() {
    for lane in [TestedLane::Live, TestedLane::Replay] {
        let mut harness = Harness::new(Setup::default());
        let letters = lane.prepare(&mut harness).await;
        harness.sink.begin([], Step::Acknowledge);
        harness.sink.forget_control("c07");
        finish(&mut harness, lane, &letters).await;
        assert_eq!(harness.rejected().len(), 6, "{lane:?}");
    }
}

/// Regression: the progress at the receiver was that after a rejected record, so a kill before the
/// record was stored as a dead letter lost it.
#[tokio::test(start_paused = true)]
async fn a_kill_loses_no_rejected_record() {
    let pending = || Step::Acknowledge.later(Duration::from_secs(5));
    for (script, unknown_control, rejected) in [
        (vec![Step::RejectFirst, pending()], None, 0),
        // Each of the six days has a record of the control.
        (vec![pending()], Some("c07"), 6),
    ] {
        // Each batch has the 13 records of one day.
        let setup = Setup { records: 13, stored: StoredWith::Progress, ..Setup::default() };
        let mut harness = Harness::new(setup);
        harness.append_days(3);
        harness.sink.follow(script, Step::Acknowledge);
        if let Some(control) = unknown_control {
            harness.sink.forget_control(control);
        }
        harness.start();
        harness.sink.script_ended().await;
        harness.restart().await;
        harness.deliver().await;

        assert_eq!(harness.rejected().len(), rejected, "{unknown_control:?}");
        let expected = harness.records().await;
        harness.check(&expected, Repeats::OneWindow);
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_sink_continues_when_it_is_restarted() {
    for lane in TestedLane::ALL {
        for interruption in [Interruption::Reload, Interruption::Kill] {
            let failure = Failure::misconfigured("no permission");
            let (mut harness, letters) = started(lane, Setup::default(), Step::Fail(failure)).await;
            sleep(Duration::from_mins(4)).await;
            assert!(harness.sink.arrived().is_empty(), "{lane:?}");
            assert_eq!(harness.rejected(), letters, "{lane:?}");

            let restarted = Instant::now();
            interruption.interrupt(&mut harness).await;
            finish(&mut harness, lane, &letters).await;
            let time = restarted.elapsed();
            assert!(time < Duration::from_mins(1), "{lane:?} {interruption:?}: {time:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_target_delays_no_other() {
    for lane in TestedLane::ALL {
        for interruption in INTERRUPTIONS {
            let setup = Setup { targets: Targets::PerTenant, ..Setup::default() };
            let step = Step::RefuseTarget(RestOfBatch::NotSent);
            let (mut harness, letters) = started(lane, setup, step).await;
            sleep(Duration::from_mins(4)).await;

            // The other tenant has three days with 13 records each, of which 13 became dead
            // letters.
            let refused = harness.id(0);
            let arrivals = harness.sink.arrivals();
            assert!(arrivals.iter().all(|arrival| arrival.tenant != refused), "{lane:?}");
            let of_others = if lane == TestedLane::DeadLetters { 13 } else { 39 };
            assert_eq!(arrivals.len(), of_others, "{lane:?}");

            if let Some(interruption) = interruption {
                interruption.interrupt(&mut harness).await;
            }
            finish(&mut harness, lane, &letters).await;
            assert!(harness.rejected().is_empty(), "{lane:?} {interruption:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_requested_delay_is_respected() {
    let reason = "too many requests".to_owned();
    let delay = Duration::from_mins(10);
    let failure = Failure::Retry { reason, after: Some(delay), hint: None };
    let lane = TestedLane::Live;
    let (mut harness, letters) = started(lane, Setup::default(), Step::Fail(failure)).await;

    sleep(delay.saturating_sub(Duration::from_secs(1))).await;
    assert!(harness.sink.arrived().is_empty());
    finish(&mut harness, lane, &letters).await;
}

#[tokio::test(start_paused = true)]
async fn a_renamed_sink_continues_from_its_cursors() {
    for lane in [TestedLane::Live, TestedLane::Replay] {
        let (mut harness, letters) = started(lane, Setup::default(), Step::Acknowledge).await;
        let name = format!("name = \"{SINK}\"");
        let renamed = format!("name = \"renamed\"\nrenamed_from = \"{SINK}\"");
        harness.reload(|text| text.replace(&name, &renamed)).await;
        assert!(!harness.sink.arrived().is_empty(), "{lane:?}");
        finish(&mut harness, lane, &letters).await;
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
    finish(&mut harness, TestedLane::Live, &BTreeSet::new()).await;
}
