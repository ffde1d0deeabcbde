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

fn rejected() -> Failure {
    Failure::RejectsAll { reason: "HTTP 403".to_owned(), hint: None }
}

fn busy(reason: &str, after: Duration) -> Failure {
    Failure::Retry { reason: reason.to_owned(), after: Some(after), hint: None }
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

/// An outage costs `once` at most 64 attempts more than four, each after a wait. From the third one
/// on, each of them costs at most three further requests.
#[tokio::test(start_paused = true)]
async fn an_outage_ends_once_after_few_requests() {
    for (tenants, records, requests) in [(1, 24, 4), (30, 24, 68), (30, ALL_RECORDS, 82)] {
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
/// only some tenants have records. Each of them is tried, because its texts could be the cause.
#[tokio::test(start_paused = true)]
async fn denials_of_all_tenants_park_the_sink() {
    for (tenants, with_days, records, requests) in [
        (1, 1, 24, 1),
        (2, 1, 24, 1),
        (2, 2, 24, 2),
        (3, 2, 24, 2),
        (30, 1, ALL_RECORDS, 1),
        (30, 2, ALL_RECORDS, 3),
        (30, 30, 24, 30),
        (30, 30, ALL_RECORDS, 31),
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

/// The longest time until the records of the harmless tenant have arrived, and until all others are
/// withheld. A delay that the receiver requests applies to all tenants, at most twice for each of
/// the hostile ones.
fn longest_wait(hostile: usize, failure: &Failure) -> Duration {
    let attempts = u32::try_from(2 * hostile + 8).unwrap();
    match failure {
        Failure::Retry { after: Some(after), .. } => attempts * (*after + Duration::from_secs(2)),
        Failure::Retry { .. } => Duration::from_mins(3),
        _ => Duration::from_secs(1),
    }
}

/// Waits until this number of records has arrived. Panics if it takes longer than `limit`.
async fn until_arrived(harness: &Harness, records: usize, limit: Duration, case: &str) {
    let started = Instant::now();
    while harness.sink.arrived().len() < records {
        assert!(started.elapsed() <= limit, "{case}: {:?}", harness.failure());
        sleep(Duration::from_millis(500)).await;
    }
}

/// One run of `once` delivers all records of a harmless tenant.
async fn check_once(harness: &Harness, harmless: usize, failure: &Failure, case: &str) {
    harness.append_days(DAYS);
    let report = harness.deliver_once().await;
    assert!(report.stopped.is_some(), "{case}");
    assert_ne!(harness.failure(), Some(SinkFailure::Parked), "{case}: {report:?}");
    if !matches!(failure, Failure::Retry { .. }) {
        assert_eq!(harness.failure(), Some(SinkFailure::TenantsWithheld), "{case}: {report:?}");
    }
    check_arrivals(harness, harmless..harmless + 1);
}

/// The daemon delivers the records of a harmless tenant soon, also those that are added later.
async fn check_daemon(harness: &mut Harness, harmless: usize, failure: &Failure, case: &str) {
    let hostile = harness.tenants() - 1;
    let longest = longest_wait(hostile, failure);
    harness.append_days(DAYS - 1);
    harness.start();
    until_arrived(harness, 2 * RECORDS / 3, longest, case).await;
    sleep(longest).await;
    assert_ne!(harness.failure(), Some(SinkFailure::Parked), "{case}");

    harness.append_days(DAYS);
    // While only hostile tenants are left, the attempts become rare.
    let is_retried = matches!(failure, Failure::Retry { .. });
    let delay = Duration::from_secs(if is_retried { 310 } else { 1 });
    until_arrived(harness, RECORDS, delay, case).await;
    check_arrivals(harness, harmless..harmless + 1);

    if !is_retried {
        // Some of the hostile tenants are tried again.
        for _ in 0..3 {
            let requests = harness.sink.requests();
            sleep(Duration::from_mins(5)).await;
            let requests = harness.sink.requests() - requests;
            assert!((1..=6).contains(&requests), "{case}: {requests}");
            assert_eq!(harness.failure(), Some(SinkFailure::TenantsWithheld), "{case}");
        }
    }
    harness.stop().await;
}

/// Any number of hostile tenants, in each position, delays no harmless one.
async fn check_all(failure: &Failure) {
    for hostile in [1, 2, 3, 4, 9, 40] {
        for (harmless, records) in
            [(0, 24), (0, ALL_RECORDS), (hostile, 24), (hostile, ALL_RECORDS)]
        {
            let case = format!("{failure:?}: {hostile} hostile, {harmless}, {records} records");
            // The order of tenants is random.
            fastrand::seed(u64::try_from(hostile + harmless + records).unwrap());
            let setup = Setup { tenants: hostile + 1, records, ..Setup::default() };
            let new = || {
                let harness = Harness::new(setup.clone());
                let all = (0..=hostile).filter(|number| *number != harmless);
                harness.sink.fail_for(all.map(|number| harness.id(number)), failure.clone());
                harness
            };
            Box::pin(check_once(&new(), harmless, failure, &case)).await;
            Box::pin(check_daemon(&mut new(), harmless, failure, &case)).await;
        }
    }
}

/// Regression: three tenants whose requests were rejected were the first ones in each run of
/// `once`, so the sink parked before a record of the others was sent. In the daemon, they parked
/// the sink again when records of others had arrived.
#[tokio::test(start_paused = true)]
async fn rejected_tenants_delay_no_other() {
    Box::pin(check_all(&rejected())).await;
}

/// Regression: as for rejected tenants, with HTTP 302, 401, 404 or 405.
#[tokio::test(start_paused = true)]
async fn denied_tenants_delay_no_other() {
    Box::pin(check_all(&denied())).await;
}

/// Regression: records that were not sent, because the receiver had requested a delay for those of
/// one tenant, counted as failed, so the delay ended `once`.
#[tokio::test(start_paused = true)]
async fn tenants_with_a_requested_delay_stop_no_other() {
    Box::pin(check_all(&busy("HTTP 429", Duration::from_secs(30)))).await;
}

/// The longest wait of `once` is shorter than the requested delay.
#[tokio::test(start_paused = true)]
async fn tenants_with_a_long_delay_stop_no_other() {
    Box::pin(check_all(&busy("HTTP 503", Duration::from_mins(2)))).await;
}

#[tokio::test(start_paused = true)]
async fn failing_tenants_delay_no_other() {
    Box::pin(check_all(&Failure::retry("HTTP 502"))).await;
}

/// Up to 64 tenants are tried before the sink parks, and three with each attempt after that.
#[tokio::test(start_paused = true)]
async fn tenants_of_a_parked_sink_take_turns() {
    const HOSTILE: usize = 100;
    for (records, failure) in [(24, denied()), (ALL_RECORDS, rejected())] {
        let setup = Setup { tenants: HOSTILE + 1, records, ..Setup::default() };
        let mut harness = harness(setup, 0..HOSTILE, failure);
        harness.start();
        until_arrived(&harness, RECORDS, Duration::from_mins(70), "parked").await;

        // As soon as a record has arrived, no number of hostile tenants parks the sink.
        for _ in 0..4 {
            sleep(Duration::from_mins(5)).await;
            assert_eq!(harness.failure(), Some(SinkFailure::TenantsWithheld), "{records}");
        }
        check_arrivals(&harness, HOSTILE..HOSTILE + 1);
        harness.stop().await;
    }
}

/// A wrong token costs few requests, also if it is wrong for hours, or becomes wrong later.
#[tokio::test(start_paused = true)]
async fn a_wrong_token_costs_few_requests() {
    // A batch has one day of one tenant, or those of all tenants.
    for (tenants, records) in [(3, 13), (3, ALL_RECORDS), (100, 13), (100, ALL_RECORDS)] {
        let mut harness = Harness::new(Setup { tenants, records, ..Setup::default() });
        for (start, days) in [(true, DAYS - 1), (false, DAYS)] {
            let case = format!("{tenants} {records} {days}");
            let before = harness.sink.requests();
            harness.sink.fail_for((0..tenants).map(|number| harness.id(number)), denied());
            harness.append_days(days);
            if start {
                harness.start();
            }
            sleep(Duration::from_secs(30)).await;
            let requests = harness.sink.requests() - before;
            assert!((tenants.min(64)..=66).contains(&requests), "{case}: {requests}");
            assert_eq!(harness.failure(), Some(SinkFailure::Parked), "{case}");

            for attempt in 0..20 {
                let before = harness.sink.requests();
                sleep(Duration::from_mins(5)).await;
                let requests = harness.sink.requests() - before;
                assert!((1..=4).contains(&requests), "{case}: {attempt} {requests}");
                assert_eq!(harness.failure(), Some(SinkFailure::Parked), "{case}");
            }

            harness.sink.fail_for(std::iter::empty(), denied());
            sleep(Duration::from_mins(5)).await;
            assert_eq!(harness.failure(), None, "{case}");
        }
        check_arrivals(&harness, 0..tenants);
        harness.stop().await;
    }
}
