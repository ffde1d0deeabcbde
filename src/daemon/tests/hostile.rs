//! Tests of many tenants, for some of which the receiver, or a firewall before it, fails for each
//! request or denies it. The records of all others are delivered, by `once` and soon by the daemon,
//! and a fault of the receiver or of the configuration costs few requests. Start reading at
//! [`harness`].

use std::{collections::BTreeSet, ops::Range, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    harness::{Harness, Setup},
    scripted_sink::LIMIT,
};
use crate::{checkpoint::SinkFailure, error::Hint, model::TenantId, sink::Failure};

/// The days of each tenant.
const DAYS: i32 = 3;
/// The records of each tenant: 13 for each day. Without another setup, a batch has at most 24.
const RECORDS: usize = 39;
/// More records than all tenants have.
const ALL_RECORDS: usize = 2_000;

/// A harness with days of all tenants, whose receiver fails for each batch with a record of these
/// ones.
fn harness(setup: Setup, hostile: Range<usize>, failure: Failure) -> Harness {
    let harness = Harness::new(setup);
    harness.append_days(DAYS);
    harness.sink.fail_for(hostile.map(|number| harness.id(number)), failure);
    harness
}

/// Like [`harness`], with one harmless tenant, which is served after all others.
fn with_one_harmless(hostile: usize, failure: Failure) -> Harness {
    harness(Setup { tenants: hostile + 1, ..Setup::default() }, 0..hostile, failure)
}

fn denied() -> Failure {
    Failure::Denied { reason: "HTTP 404".to_owned(), hint: Some("check the URL".into()) }
}

/// Panics unless all records of these tenants have arrived, each once, and no others.
fn check_arrivals(harness: &Harness, tenants: Range<usize>) {
    let arrivals = harness.sink.arrivals();
    let arrived: BTreeSet<TenantId> = arrivals.iter().map(|arrival| arrival.tenant).collect();
    let records = tenants.len() * RECORDS;
    let expected: BTreeSet<TenantId> = tenants.map(|number| harness.id(number)).collect();
    assert_eq!(arrived, expected);
    assert_eq!((arrivals.len(), harness.sink.arrived().len()), (records, records));
    assert!(harness.rejected().is_empty());
}

/// Regression: four tenants, each of which filled a batch alone, exhausted the attempts of `once`,
/// so no record of the others was sent.
#[tokio::test(start_paused = true)]
async fn failing_tenants_never_exhaust_once() {
    for hostile in [1, 3, 4, 5, 20] {
        for failure in [Failure::retry("HTTP 502"), Failure::Broken { reason: "reset".into() }] {
            let harness = with_one_harmless(hostile, failure);
            let report = harness.deliver_once().await;
            assert!(report.stopped.is_some(), "{hostile}: {report:?}");
            assert_eq!(report.rejected, 0, "{hostile}");
            check_arrivals(&harness, hostile..hostile + 1);
        }
    }
}

/// Regression: each tenant whose requests failed doubled the wait of the daemon.
#[tokio::test(start_paused = true)]
async fn failing_tenants_lengthen_no_wait() {
    let mut harness = with_one_harmless(20, Failure::retry("HTTP 502"));
    let started = Instant::now();
    harness.start();
    while harness.sink.arrived().len() < RECORDS {
        assert!(started.elapsed() < LIMIT);
        sleep(Duration::from_secs(1)).await;
    }

    assert!(started.elapsed() < Duration::from_mins(2), "{:?}", started.elapsed());
    check_arrivals(&harness, 20..21);
    harness.stop().await;
}

/// An outage costs `once` at most 64 requests more than four attempts, each after a wait, and at
/// most three more with the third and the fourth attempt.
#[tokio::test(start_paused = true)]
async fn an_outage_ends_once_after_few_requests() {
    for (tenants, records, requests) in [(1, 24, 4), (30, 24, 68), (30, ALL_RECORDS, 10)] {
        let setup = Setup { tenants, records, ..Setup::default() };
        let harness = harness(setup, 0..tenants, Failure::retry("HTTP 502"));
        let started = Instant::now();
        let report = harness.deliver_once().await;

        assert_eq!(report.stopped.unwrap().to_string(), "HTTP 502", "{tenants} {records}");
        assert_eq!(harness.sink.requests(), requests, "{tenants} {records}");
        assert!(started.elapsed() < Duration::from_mins(2), "{:?}", started.elapsed());
        assert_eq!(harness.failure(), Some(SinkFailure::Retrying), "{tenants} {records}");
    }
}

/// Regression: HTTP 302, 401, 404 or 405 for the text of one tenant parked the sink for all.
#[tokio::test(start_paused = true)]
async fn only_the_denied_tenant_is_withheld() {
    for (hostile, records) in [(0, 24), (0, ALL_RECORDS), (2, 24), (2, ALL_RECORDS)] {
        let setup = Setup { tenants: 3, records, ..Setup::default() };
        let harness = harness(setup, hostile..hostile + 1, denied());
        let report = harness.deliver_once().await;

        let expected = format!("tenant `t{hostile}`: HTTP 404");
        assert_eq!(report.stopped.unwrap().to_string(), expected, "{records}");
        assert_eq!(harness.failure(), Some(SinkFailure::TenantsWithheld), "{hostile} {records}");
        check_arrivals(&harness, if hostile == 0 { 1..3 } else { 0..2 });

        harness.sink.fail_for(std::iter::empty(), denied());
        let report = harness.deliver_once().await;
        assert!(report.stopped.is_none(), "{hostile} {records}: {report:?}");
        check_arrivals(&harness, 0..3);
    }
}

/// A fault of the configuration parks the sink at once, with the message of the receiver, also if
/// only some tenants have records.
#[tokio::test(start_paused = true)]
async fn denials_of_all_tenants_park_the_sink() {
    for (tenants, with_days, records, requests) in [
        (1, 1, 24, 1),
        (2, 1, 24, 1),
        (2, 2, 24, 2),
        (3, 2, 24, 2),
        (30, 1, ALL_RECORDS, 1),
        (30, 2, ALL_RECORDS, 3),
        (30, 30, 24, 3),
        (30, 30, ALL_RECORDS, 4),
    ] {
        let harness = Harness::new(Setup { tenants, records, ..Setup::default() });
        (0..with_days).for_each(|number| harness.append_days_of(number, DAYS));
        harness.sink.fail_for((0..tenants).map(|number| harness.id(number)), denied());
        let started = Instant::now();
        let stopped = harness.deliver_once().await.stopped.unwrap();

        let case = format!("{tenants} {with_days} {records}");
        assert_eq!(stopped.to_string(), "HTTP 404", "{case}");
        assert_eq!(stopped.hint().as_deref(), Some("check the URL"), "{case}");
        assert_eq!(harness.failure(), Some(SinkFailure::Parked), "{case}");
        assert_eq!(harness.sink.requests(), requests, "{case}");
        assert!(started.elapsed() < Duration::from_secs(1), "{case}");

        harness.sink.fail_for(std::iter::empty(), denied());
        let report = harness.deliver_once().await;
        assert!(report.stopped.is_none(), "{case}: {report:?}");
        check_arrivals(&harness, 0..with_days);
    }
}

/// While no other tenant has records, nothing shows whether the denied tenant is the cause.
#[tokio::test(start_paused = true)]
async fn records_of_others_end_a_park() {
    let mut harness = Harness::new(Setup::default());
    harness.append_days_of(0, DAYS);
    harness.sink.fail_for(std::iter::once(harness.id(0)), denied());
    harness.start();
    sleep(Duration::from_mins(1)).await;
    assert_eq!(harness.failure(), Some(SinkFailure::Parked));

    harness.append_days_of(1, DAYS);
    sleep(Duration::from_mins(5)).await;
    check_arrivals(&harness, 1..2);
    assert_eq!(harness.failure(), Some(SinkFailure::TenantsWithheld));
    harness.stop().await;
}

/// Regression: if the requests of more than two tenants were rejected, these were the first ones in
/// each attempt, so the sink parked before a record of the others was sent.
#[tokio::test(start_paused = true)]
async fn rejected_tenants_are_served_last() {
    let rejected = Failure::RejectsAll { reason: "HTTP 403".to_owned(), hint: None };
    for failure in [denied(), rejected] {
        let setup = Setup { tenants: 6, records: ALL_RECORDS, ..Setup::default() };
        let mut harness = harness(setup, 0..4, failure);
        harness.start();
        sleep(Duration::from_mins(12)).await;
        check_arrivals(&harness, 4..6);
        harness.stop().await;
    }
}
