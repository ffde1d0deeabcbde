//! Every way in which a poll can end, with and without a restart before the next one: no day is
//! lost or stored twice, and the next poll requests what is missing. Start reading at [`between`].

use std::time::Duration;

use tokio::time::sleep;

use super::{
    arrivals::Repeats,
    harness::{Harness, Setup},
    scripted_sink::Step,
};
use crate::{
    checkpoint::{PollState, StatusDetail},
    daemon::{
        PollError, PollReport,
        collector::{CatalogRead, PollResponse},
    },
    ledger,
    model::{Day, ObservationKind, Phase, PollErrorClass},
    source::SourceError,
};

/// What happens between two polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    Restart,
}

const BETWEEN: [Between; 2] = [Between::Nothing, Between::Restart];

/// The days that a first poll requests, each with the same score.
const DAYS: [(i32, u32); 3] = [(-2, 5), (-1, 5), (0, 5)];
/// The log after these days.
const STORED: [(i32, u32); 3] = [(-2, 1), (-1, 1), (0, 1)];

async fn between(harness: &mut Harness, between: Between) {
    if between == Between::Restart {
        harness.restart().await;
    }
}

/// A harness whose tenants have no log.
fn harness() -> Harness {
    Harness::new(Setup { controls: 3, ..Setup::default() })
}

fn state(harness: &Harness) -> PollState {
    harness.checkpoint().poll_state(harness.id(0)).unwrap()
}

/// The numbers of new days and of new revisions of a poll that was complete.
fn complete(report: Result<PollReport, PollError>) -> (usize, usize) {
    let report = report.unwrap();
    assert_eq!(report.incomplete, None, "{report:?}");
    (report.days, report.revisions)
}

/// The missing days of the first tenant, as offsets for [`Harness::day`].
fn missing(harness: &Harness) -> Vec<i32> {
    let missing = harness.checkpoint().missing_days(harness.id(0)).unwrap();
    let offset = |day: Day| day.number() - harness.day(0).number();
    missing.iter().map(|missing| offset(missing.day)).collect()
}

fn unavailable() -> SourceError {
    SourceError::Status { what: "Graph", status: 503, reason: String::new() }
}

/// Delivers the log, and checks that the sink has received all of it.
async fn deliver(harness: &mut Harness) {
    harness.sink.begin([], Step::Acknowledge);
    harness.deliver().await;
    let expected = harness.records().await;
    assert!(!expected.is_empty());
    harness.check(&expected, Repeats::Nothing);
}

#[tokio::test(start_paused = true)]
async fn complete_polls_store_each_day_once() {
    for then in BETWEEN {
        let mut harness = harness();
        assert_eq!(complete(harness.poll_days(0, &DAYS)), (3, 0));
        between(&mut harness, then).await;
        assert_eq!(complete(harness.poll_days(0, &DAYS)), (0, 0), "{then:?}");

        assert_eq!(harness.snapshots(0), STORED, "{then:?}");
        let PollState { polled, polled_back_to, .. } = state(&harness);
        assert_eq!((polled.failures, polled_back_to), (0, Some(harness.day(-2))), "{then:?}");
        deliver(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_score_is_one_revision() {
    for then in BETWEEN {
        let mut harness = harness();
        assert_eq!(complete(harness.poll_days(0, &DAYS)), (3, 0));
        for expected in [(0, 1), (0, 0)] {
            between(&mut harness, then).await;
            let days = [(-2, 5), (-1, 7), (0, 5)];
            assert_eq!(complete(harness.poll_days(0, &days)), expected, "{then:?}");
        }
        assert_eq!(harness.snapshots(0), [&STORED[..], &[(-1, 2)]].concat(), "{then:?}");
        deliver(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_day_listed_twice_is_stored_once() {
    let mut harness = harness();
    let days = [(-1, 5), (0, 5), (0, 7)];
    assert_eq!(complete(harness.poll_days(0, &days)), (2, 0));
    assert_eq!(harness.snapshots(0), [(-1, 1), (0, 1)]);
    deliver(&mut harness).await;
}

/// The catalog, or a part of the scores, cannot be read.
#[tokio::test(start_paused = true)]
async fn days_are_held_until_they_are_complete() {
    let without_catalog = |mut response: PollResponse| {
        response.catalog = CatalogRead::Failed(unavailable());
        response
    };
    let partial = |mut response: PollResponse| {
        for snapshot in &mut response.snapshots {
            snapshot.partial = true;
        }
        response.warning = Some("a provider did not respond".to_owned());
        response
    };
    let causes: [fn(PollResponse) -> PollResponse; 2] = [without_catalog, partial];

    for (cause, then) in causes.into_iter().flat_map(|cause| BETWEEN.map(|then| (cause, then))) {
        let mut harness = harness();
        for failures in 1..=2 {
            let response = cause(harness.response(0, &DAYS));
            let report = harness.poll(0, |_| Ok(response)).unwrap();
            assert_eq!((report.days, report.held), (0, 3), "{then:?} {report:?}");
            assert!(report.incomplete.is_some(), "{then:?} {report:?}");
            assert_eq!(state(&harness).polled.failures, failures);
            assert_eq!(missing(&harness), [-2, -1, 0]);
            between(&mut harness, then).await;
        }

        assert_eq!(complete(harness.poll_days(0, &DAYS)), (3, 0), "{then:?}");
        assert_eq!(harness.snapshots(0), STORED, "{then:?}");
        assert!(harness.checkpoint().held_days(harness.id(0)).unwrap().is_empty());
        assert!(missing(&harness).is_empty(), "{then:?}");
        deliver(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_day_is_completed_by_a_revision() {
    for then in BETWEEN {
        let mut harness = harness();
        // Nothing is held.
        let schedule = "[schedule]\npartial_hold = \"0s\"\n";
        harness.reload(|text| format!("{text}{schedule}")).await;
        let mut response = harness.response(0, &DAYS);
        response.snapshots[2].partial = true;
        let report = harness.poll(0, |_| Ok(response)).unwrap();
        assert_eq!((report.days, report.held), (3, 0), "{then:?} {report:?}");

        between(&mut harness, then).await;
        let days = [(-2, 5), (-1, 5), (0, 7)];
        assert_eq!(complete(harness.poll_days(0, &days)), (0, 1), "{then:?}");
        assert_eq!(harness.snapshots(0), [&STORED[..], &[(0, 2)]].concat(), "{then:?}");
        deliver(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_backfill_is_continued() {
    for then in BETWEEN {
        let mut harness = harness();
        let mut response = harness.response(0, &DAYS[1..]);
        (response.complete, response.failure) = (false, Some(unavailable()));
        let report = harness.poll(0, |_| Ok(response)).unwrap();
        assert_eq!((report.days, report.incomplete.is_some()), (2, true), "{then:?} {report:?}");
        assert_eq!(state(&harness).polled_back_to, None, "{then:?}");

        between(&mut harness, then).await;
        let oldest = harness.day(-2);
        let report = harness.poll(0, |requested| {
            assert_eq!(requested, oldest, "{then:?}");
            Ok(harness.response(0, &DAYS))
        });
        assert_eq!(complete(report), (1, 0), "{then:?}");
        assert_eq!(harness.snapshots(0), [(-1, 1), (0, 1), (-2, 1)], "{then:?}");
        assert_eq!(state(&harness).polled_back_to, Some(oldest), "{then:?}");
        deliver(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_response_completes_no_backfill() {
    for then in BETWEEN {
        let mut harness = harness();
        assert_eq!(complete(harness.poll_days(0, &[])), (0, 0));
        assert_eq!(state(&harness).polled_back_to, None, "{then:?}");
        between(&mut harness, then).await;
        assert_eq!(complete(harness.poll_days(0, &DAYS)), (3, 0), "{then:?}");
        assert_eq!(state(&harness).polled_back_to, Some(harness.day(-2)), "{then:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_day_stays_missing() {
    for then in BETWEEN {
        let mut harness = harness();
        for _ in 0..2 {
            let mut response = harness.response(0, &[(-2, 5), (0, 5)]);
            let (rejected, today) = (harness.day(-1), harness.day(0));
            response.rejected.push(ledger::unreadable("not JSON", Some(rejected), today));
            let report = harness.poll(0, |_| Ok(response)).unwrap();
            assert_eq!(report.rejected, 1, "{then:?} {report:?}");
            assert_eq!(missing(&harness), [-1], "{then:?}");
            between(&mut harness, then).await;
        }

        assert_eq!(complete(harness.poll_days(0, &DAYS)), (1, 0), "{then:?}");
        assert!(missing(&harness).is_empty(), "{then:?}");
        let implausible = ObservationKind::Implausible.as_str();
        let expected = [(implausible, Phase::Begin), (implausible, Phase::End)];
        assert_eq!(harness.observations(0), expected, "{then:?}");
        assert_eq!(harness.snapshots(0), [(-2, 1), (0, 1), (-1, 1)], "{then:?}");
        deliver(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_day_is_requested_again() {
    for then in BETWEEN {
        let mut harness = harness();
        let earlier = |text: &str| text.replace("_days = 3", "_days = 10");
        harness.reload(earlier).await;
        let listed: Vec<(i32, u32)> =
            (-9..=0).filter(|day| *day != -6).map(|day| (day, 5)).collect();
        assert_eq!(complete(harness.poll_days(0, &listed)), (9, 0));
        assert_eq!(missing(&harness), [-6], "{then:?}");

        between(&mut harness, then).await;
        let missing_day = harness.day(-6);
        let report = harness.poll(0, |requested| {
            assert_eq!(requested, missing_day, "{then:?}");
            let listed: Vec<(i32, u32)> = (-6..=0).map(|day| (day, 5)).collect();
            Ok(harness.response(0, &listed))
        });
        assert_eq!(complete(report), (1, 0), "{then:?}");
        assert!(missing(&harness).is_empty(), "{then:?}");
        let name = ObservationKind::Gap.as_str();
        let expected = [(name, Phase::Begin), (name, Phase::End)];
        assert_eq!(harness.observations(0), expected, "{then:?}");
        deliver(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_and_reported_once() {
    for then in BETWEEN {
        let mut harness = harness();
        for failures in 1..=3 {
            let failed = harness.poll(0, |_| Err(unavailable().into()));
            assert!(failed.is_err());
            assert_eq!(state(&harness).polled.failures, failures, "{then:?}");
            between(&mut harness, then).await;
        }
        let name = ObservationKind::PollFailed.as_str();
        assert_eq!(harness.observations(0), [(name, Phase::Begin)], "{then:?}");

        assert_eq!(complete(harness.poll_days(0, &DAYS)), (3, 0), "{then:?}");
        let expected = [(name, Phase::Begin), (name, Phase::End)];
        assert_eq!(harness.observations(0), expected, "{then:?}");
        assert_eq!(state(&harness).polled.failures, 0, "{then:?}");
        deliver(&mut harness).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_local_failure_counts_no_attempt() {
    for then in BETWEEN {
        let mut harness = harness();
        assert!(harness.poll(0, |_| Err(PollError::DiskFull)).is_err());
        let PollState { polled, failed_locally, .. } = state(&harness);
        assert_eq!((polled.failures, failed_locally), (0, true), "{then:?}");
        assert!(!harness.tenant(0).is_retry_due());
        sleep(Duration::from_secs(31)).await;
        assert!(harness.tenant(0).is_retry_due());

        between(&mut harness, then).await;
        assert!(state(&harness).failed_locally, "{then:?}");
        assert_eq!(complete(harness.poll_days(0, &DAYS)), (3, 0), "{then:?}");
        assert!(!state(&harness).failed_locally, "{then:?}");
        assert!(harness.tenant(0).local_retry().is_none(), "{then:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_tenant_waits_after_a_restart() {
    let pause = Duration::from_mins(10);
    for then in BETWEEN {
        let mut harness = harness();
        harness.tenant(0).graph.restore_pause(pause);
        let throttled = SourceError::Throttled { what: "Graph", status: 429, after: Some(pause) };
        assert!(harness.poll(0, |_| Err(throttled.into())).is_err());
        assert!(state(&harness).not_before.is_some(), "{then:?}");

        between(&mut harness, then).await;
        sleep(Duration::from_mins(9)).await;
        assert!(harness.tenant(0).is_backing_off(), "{then:?}");
        assert!(!harness.tenant(1).is_backing_off(), "{then:?}");
        sleep(Duration::from_mins(2)).await;
        assert!(!harness.tenant(0).is_backing_off(), "{then:?}");

        assert_eq!(complete(harness.poll_days(0, &DAYS)), (3, 0), "{then:?}");
        assert_eq!(state(&harness).not_before, None, "{then:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_was_killed_delays_the_next() {
    let mut harness = harness();
    harness.begin_poll(0);
    harness.restart().await;
    assert!(!harness.tenant(0).is_backing_off());
    harness.record_interrupted_polls();
    assert!(harness.tenant(0).is_backing_off() && !harness.tenant(1).is_backing_off());

    let status = harness.checkpoint().status(StatusDetail::Summary).unwrap();
    let id = harness.id(0);
    let stored = status.tenants.iter().find(|tenant| tenant.id == Some(id)).unwrap();
    assert_eq!(stored.error_class, Some(PollErrorClass::Interrupted));
    assert_eq!(state(&harness).polled.failures, 1);

    // An operator can poll the tenant nevertheless.
    assert_eq!(complete(harness.poll_days(0, &DAYS)), (3, 0));
    assert!(harness.checkpoint().running_polls().unwrap().is_empty());
    deliver(&mut harness).await;
}

#[tokio::test(start_paused = true)]
async fn polls_of_tenants_are_independent() {
    for then in BETWEEN {
        let mut harness = harness();
        assert!(harness.poll(0, |_| Err(unavailable().into())).is_err());
        assert_eq!(complete(harness.poll_days(1, &DAYS)), (3, 0), "{then:?}");
        between(&mut harness, then).await;
        assert_eq!(complete(harness.poll_days(0, &DAYS)), (3, 0), "{then:?}");
        assert_eq!(harness.snapshots(0), STORED, "{then:?}");
        assert_eq!(harness.snapshots(1), STORED, "{then:?}");
        deliver(&mut harness).await;
    }
}
