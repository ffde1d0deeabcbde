//! The outcomes of the records of a batch after each kind of failure.

use std::time::Duration;

use super::*;
use crate::{
    daemon::deliverer::failing_tenants::DivisionTime,
    model::{CheckpointId, EventId, Seq},
    sink::{Progress, SentDays},
};

fn batch(records: u8) -> Batch {
    let mut batch = Batch::default();
    for n in 0..records {
        batch.push_encoded(EventId::from_bytes([n; 20]), &[n]);
    }
    batch
}

/// One letter per outcome.
fn letters(delivery: &Delivery) -> String {
    let letter = |outcome: &DeliveryOutcome| match outcome {
        DeliveryOutcome::Unknown => '?',
        DeliveryOutcome::Arrived => 'a',
        DeliveryOutcome::Rejected(_) => 'r',
        DeliveryOutcome::Withheld => 'w',
    };
    delivery.outcomes.iter().map(letter).collect()
}

#[test]
fn a_large_batch_is_sent_in_halves() {
    let whole = batch(5);
    let mut delivery = Delivery::new(&whole);
    delivery.record(&whole, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![1] }));
    assert_eq!(letters(&delivery), "?a???");

    let first = delivery.next().unwrap();
    delivery.record(&first, Ok(Receipt { mark: Some(vec![1]) }));
    assert_eq!(letters(&delivery), "aaa??");

    let second = delivery.next().unwrap();
    let poison = Failure::Poison { rejected: vec![(1, "no".into())], rest_delivered: false };
    delivery.record(&second, Err(poison));
    assert_eq!(letters(&delivery), "aaa?r");

    let last = delivery.next().unwrap();
    delivery.record(&last, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![] }));
    assert_eq!((letters(&delivery).as_str(), delivery.mark.as_deref()), ("aaarr", Some(&[1][..])));
    assert!(delivery.next().is_none() && delivery.stopped.is_none());
}

/// A batch with one record per pair of the first digit of a tenant and a target.
fn routed(records: &[(u8, &str)]) -> Batch {
    let mut batch = Batch::default();
    for (tenant, target) in records {
        let id = format!("{tenant:02}000000-0000-4000-8000-000000000000");
        batch.push_encoded_to(TenantId::parse(&id).unwrap(), target, b"x");
    }
    batch
}

/// Regression: the rest of a batch was sent with the progress after a rejected record. A kill
/// before the record was stored as a dead letter lost it, because the sink continued at this
/// progress.
#[test]
fn no_progress_passes_a_rejected_record() {
    let rejecting = Failure::Poison { rejected: vec![(0, "no".into())], rest_delivered: false };
    // The records whose tenants have a progress afterward.
    for (failure, expected) in [(rejecting, [1, 2]), (refusal(&[], None), [0, 1])] {
        let mut whole = routed(&[(1, "good"), (2, "good"), (3, "bad"), (1, "good")]);
        let tenants: Vec<TenantId> = whole.items()[..3].iter().map(|item| item.tenant).collect();
        let progress = tenants.iter().map(|tenant| Progress {
            tenant: *tenant,
            checkpoint: CheckpointId::new("x"),
            seq: Seq::FIRST,
            sent: SentDays::default(),
        });
        whole.set_progress(progress.collect());

        let mut delivery = Delivery::new(&whole);
        delivery.record(&whole, Err(failure));
        let rest = delivery.next().unwrap();
        assert_eq!(rest.len(), 3);
        let left: Vec<TenantId> = rest.progress().iter().map(|progress| progress.tenant).collect();
        assert_eq!(left, expected.map(|index| tenants[index]));
    }
}

fn refusal(arrived: &[usize], rest: Option<Failure>) -> Failure {
    let name = TargetName::new("bad");
    let refused = RefusedTarget { name, reason: "no `bad`".into(), hint: None };
    let (arrived, rest) = (arrived.to_vec(), rest.map(Box::new));
    Failure::Refused(Refusal { targets: vec![refused], arrived, rest })
}

/// Regression: the refusal of one tenant's index parked the sink for all tenants.
#[test]
fn a_refused_target_withholds_only_its_tenants() {
    let records = [(1, "good"), (2, "good"), (2, "bad"), (1, "good"), (2, "good"), (3, "good")];
    for (arrived, rest, letters_after, sent_later) in [
        (&[][..], None, "?ww?w?", 3),
        (&[0, 1, 3, 5], None, "aawawa", 0),
        (&[0], Some(Failure::retry("busy")), "aww?w?", 0),
    ] {
        let whole = routed(&records);
        let mut delivery = Delivery::new(&whole);
        let is_stopped = rest.is_some();
        delivery.record(&whole, Err(refusal(arrived, rest)));

        assert_eq!(letters(&delivery), letters_after);
        assert_eq!(delivery.refused.len(), 1);
        assert_eq!(delivery.stopped.is_some(), is_stopped);
        assert_eq!(delivery.next().map_or(0, |part| part.len()), sent_later);
    }
}

#[test]
fn parts_that_wait_omit_withheld_tenants() {
    let whole = routed(&[(1, "bad"), (2, "good"), (1, "good"), (1, "bad")]);
    let mut delivery = Delivery::new(&whole);
    delivery.record(&whole, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![] }));
    let first = delivery.next().unwrap();
    delivery.record(&first, Err(refusal(&[], None)));

    let second = delivery.next().unwrap();
    delivery.record(&second, Ok(Receipt::default()));
    assert!(delivery.next().is_none() && delivery.stopped.is_none());
    assert_eq!(letters(&delivery), "waww");
}

#[test]
fn a_refusal_of_nothing_that_was_sent_stops() {
    let whole = routed(&[(1, "good")]);
    let mut delivery = Delivery::new(&whole);
    delivery.record(&whole, Err(refusal(&[], None)));
    assert!(delivery.next().is_none());
    assert!(delivery.stopped.is_some_and(|stopped| stopped.is_misconfigured()));
}

#[test]
fn a_failure_keeps_known_outcomes() {
    let whole = batch(4);
    let mut delivery = Delivery::new(&whole);
    delivery.record(&whole, Err(Failure::TooLarge { reason: "big".into(), arrived: vec![] }));
    let first = delivery.next().unwrap();
    delivery.record(&first, Ok(Receipt::default()));

    let second = delivery.next().unwrap();
    let arrived = vec![1];
    let failure = Failure::Partial { arrived, failure: Box::new(Failure::retry("gone")) };
    delivery.record(&second, Err(failure));
    assert_eq!(letters(&delivery), "aa?a");
    assert!(delivery.next().is_none() && delivery.stopped.is_some());
}

/// Regression: one index, or one tenant, with too many rejected records stopped the delivery to
/// all others.
#[test]
fn rejections_stop_only_their_tenant() {
    for target in ["bad", "good"] {
        let mut records = vec![(1, target); 30];
        records.extend([(2, "good"), (2, "good")]);
        let whole = routed(&records);
        let mut delivery = Delivery::new(&whole);
        let mut part = whole.part(0..whole.len());
        for _ in 0..21 {
            let rejected = vec![(0, "no".into())];
            delivery.record(&part, Err(Failure::Poison { rejected, rest_delivered: false }));
            part = delivery.next().unwrap();
        }

        assert_eq!(part.len(), 2, "only the records of the other tenant are sent");
        assert_eq!(letters(&delivery), format!("{}{}??", "r".repeat(21), "w".repeat(9)));
        assert!(delivery.stopped.is_none());
        let ExcessiveRejections { target: rejecting, source, problem } = &delivery.rejecting[0];
        assert_eq!(rejecting.as_ref(), Some(&TargetName::new(target)));
        assert_eq!(*source, RejectionSource::Tenant(whole.items()[0].tenant));
        assert_eq!(problem.message, "the receiver rejects too many records: no");
    }
}

/// The trials of a sink that is parked, for which few tenants are tried.
fn parked() -> TenantTrials {
    let mut trials = TenantTrials::default();
    trials.park();
    trials
}

/// A batch with one record of each of these tenants, of a receiver that rejects all of them.
/// Regression: the third tenant parked the sink, before a record of the others was sent.
#[test]
fn many_tenants_are_tried_before_the_sink_parks() {
    let many: Vec<u8> = (1..=70).collect();
    for (tenants, trials, withheld, is_stopped) in [
        (&[1, 1, 1][..], TenantTrials::default(), 1, false),
        (&[1, 2, 1], TenantTrials::default(), 2, false),
        (&[1, 2, 3, 4], TenantTrials::default(), 4, false),
        (many.as_slice(), TenantTrials::default(), 63, true),
        (&[1, 2], parked(), 2, false),
        (&[1, 2, 3, 4], parked(), 2, true),
    ] {
        for rejects_all in [
            Failure::RejectsAll { reason: "no".into(), hint: Some("check the URL".into()) },
            Failure::Denied { reason: "no".into(), hint: Some("check the URL".into()) },
        ] {
            let (whole, division) = suspicious(tenants, &[]);
            let division = TenantDivision { trials, ..division };
            let mut delivery = Delivery::new(&whole).divided_by(division);
            delivery.record(&whole, Err(rejects_all.clone()));
            send_parts(&mut delivery, tenants, &rejects_all);

            let found: BTreeSet<TenantId> =
                delivery.rejecting.iter().filter_map(|of| of.source.tenant()).collect();
            assert_eq!(found.len(), withheld, "{tenants:?}");
            assert_eq!(delivery.alone.len(), withheld, "{tenants:?}");
            let unknown = letters(&delivery).matches('?').count();
            assert_eq!(unknown > 0, is_stopped, "{tenants:?}");

            let mut hints = delivery.rejecting.iter().map(|of| of.problem.hint.as_deref());
            assert!(hints.all(|hint| hint == Some("check the URL")), "{tenants:?}");
            let stopped = delivery.stopped.as_ref().map(ToString::to_string);
            assert_eq!(stopped, is_stopped.then(|| "no".to_owned()), "{tenants:?}");
        }
    }
}

/// Records that arrive show that the receiver works.
#[test]
fn an_arrival_ends_a_series_of_rejections() {
    let tenants: Vec<u8> = (1..=99).collect();
    let hostile: Vec<u8> = tenants.iter().copied().filter(|n| *n != 50).collect();
    let (whole, division) = suspicious(&tenants, &[]);
    let mut delivery = Delivery::new(&whole).divided_by(division);
    let failure = Failure::RejectsAll { reason: "no".into(), hint: None };
    delivery.record(&whole, Err(failure.clone()));
    assert_eq!(send_parts(&mut delivery, &hostile, &failure), tenants.len());
    assert!(delivery.stopped.is_none());
    assert_eq!((delivery.rejecting.len(), letters(&delivery).matches('a').count()), (98, 1));
}

/// Regression: the text of one tenant, because of which a filter rejects a whole request,
/// stopped the delivery to all tenants.
#[test]
fn a_rejected_batch_is_sent_by_tenant() {
    let rejects_all = || Failure::RejectsAll { reason: "forbidden".into(), hint: None };
    let partial = || Failure::Partial { arrived: vec![0], failure: Box::new(rejects_all()) };

    for (failure, expected) in [(rejects_all(), "awaawa"), (partial(), "awaawa")] {
        let whole = routed(&[(1, "x"), (2, "x"), (3, "x"), (1, "x"), (2, "x"), (4, "x")]);
        let hostile = whole.items()[1].tenant;
        let mut delivery = Delivery::new(&whole);
        delivery.record(&whole, Err(failure));
        while let Some(part) = delivery.next() {
            let is_rejected = part.items().iter().any(|item| item.tenant == hostile);
            let result = if is_rejected { Err(rejects_all()) } else { Ok(Receipt::default()) };
            delivery.record(&part, result);
        }

        assert_eq!(letters(&delivery), expected);
        assert!(delivery.stopped.is_none());
        let sources: Vec<RejectionSource> =
            delivery.rejecting.iter().map(|rejecting| rejecting.source).collect();
        assert_eq!(sources, [RejectionSource::Request(hostile)]);
    }
}

/// Regression: HTTP 302, 401, 404 or 405 for the text of one tenant parked the sink for all.
#[test]
fn a_denied_batch_is_sent_by_tenant() {
    let denied = || Failure::Denied { reason: "HTTP 404".into(), hint: Some("check it".into()) };
    for (tenants, hostile, expected, withheld, requests) in [
        (&[1, 2, 3, 1][..], &[2][..], "awaa", &[2][..], 3),
        (&[1, 2, 3, 4], &[1, 4], "waaw", &[1, 4], 4),
        (&[1, 2, 3, 4, 5], &[1, 2, 3, 4], "wwwwa", &[1, 2, 3, 4], 5),
        (&[1, 1], &[1], "ww", &[1], 0),
        (&[1, 2, 3], &[1, 2, 3], "www", &[1, 2, 3], 3),
    ] {
        let (whole, division) = suspicious(tenants, &[]);
        let mut delivery = Delivery::new(&whole).divided_by(division);
        delivery.record(&whole, Err(denied()));
        assert_eq!(send_parts(&mut delivery, hostile, &denied()), requests, "{tenants:?}");
        assert_eq!(letters(&delivery), expected, "{tenants:?}");
        assert!(delivery.stopped.is_none(), "{tenants:?}");

        // It is not the fault of a target, and the tenants are remembered.
        assert!(delivery.rejecting.iter().all(|of| of.target.is_none()), "{tenants:?}");
        let sources: Vec<RejectionSource> = delivery.rejecting.iter().map(|of| of.source).collect();
        let withheld: Vec<TenantId> = withheld.iter().copied().map(tenant).collect();
        let tenants_at_fault = withheld.iter().copied().map(RejectionSource::Request);
        assert!(sources.into_iter().eq(tenants_at_fault), "{tenants:?}");
        let alone: Vec<TenantId> = delivery.alone.iter().map(|of| of.tenant).collect();
        assert_eq!(alone, withheld, "{tenants:?}");
        let RejectedAlone { cause, problem, .. } = &delivery.alone[0];
        assert_eq!((*cause, problem.message.as_str()), (UsualCause::Configuration, "HTTP 404"));
        assert_eq!(problem.hint.as_deref(), Some("check it"), "{tenants:?}");
        let withheld: HashSet<TenantId> = withheld.into_iter().collect();
        assert_eq!(delivery.failures.alone, withheld, "{tenants:?}");
    }
}

/// Regression: withheld tenants that were tried again in one batch parked the sink. Only some of
/// them are tried again while nothing arrives.
#[test]
fn withheld_tenants_show_no_new_fault() {
    for failure in [
        Failure::Denied { reason: "no".into(), hint: None },
        Failure::RejectsAll { reason: "no".into(), hint: None },
    ] {
        for (withheld, witnessed, trials, expected, requests, new) in [
            (&[1, 2, 3, 4][..], &[][..], TenantTrials::default(), "wwww", 3, 0),
            (&[1, 2, 3, 4], &[], parked(), "wwww", 3, 0),
            (&[1, 2], &[], TenantTrials::default(), "wwww", 4, 2),
            // Those that are not withheld are sent first.
            (&[1], &[], parked(), "?ww?", 3, 2),
            (&[], &[1, 2, 3], parked(), "wwww", 4, 1),
        ] {
            let (whole, mut division) = suspicious(&[1, 2, 3, 4], &[]);
            division.withheld = withheld.iter().copied().map(tenant).collect();
            division.witnessed = witnessed.iter().copied().map(tenant).collect();
            division.trials = trials;
            let mut delivery = Delivery::new(&whole).divided_by(division);
            delivery.record(&whole, Err(failure.clone()));
            let sent = send_parts(&mut delivery, &[1, 2, 3, 4], &failure);

            let case = format!("{failure:?} {withheld:?} {witnessed:?}");
            assert_eq!((letters(&delivery).as_str(), sent), (expected, requests), "{case}");
            assert_eq!(delivery.alone.len(), new, "{case}");
            assert_eq!(delivery.stopped.is_some(), expected.contains('?'), "{case}");
            let is_limited = requests == 3 && expected == "wwww";
            assert_eq!(delivery.trials.has_retried_enough(), is_limited, "{case}");
        }
    }
}

#[test]
fn a_batch_is_sent_without_withheld_tenants() {
    let whole = routed(&[(1, "x"), (2, "x"), (1, "x")]);
    let tenant = whole.items()[0].tenant;
    let source = RejectionSource::Tenant(tenant);
    let rejecting = vec![ExcessiveRejections { target: None, source, problem: too_many("no") }];
    let mut delivery = Delivery::without_tenants(&whole, rejecting);

    let part = delivery.next().unwrap();
    delivery.record(&part, Ok(Receipt::default()));
    assert_eq!(letters(&delivery), "waw");
    assert!(delivery.next().is_none() && delivery.stopped.is_none());
}

/// The tenant with this number, as in [`routed`].
fn tenant(n: u8) -> TenantId {
    routed(&[(n, "x")]).items()[0].tenant
}

/// A batch with one record of each of these tenants, which is divided by `suspected`.
fn suspicious(tenants: &[u8], suspected: &[u8]) -> (Batch, TenantDivision) {
    let records: Vec<(u8, &str)> = tenants.iter().map(|n| (*n, "x")).collect();
    let suspected = suspected.iter().copied().map(tenant).collect();
    (routed(&records), TenantDivision { suspected, ..TenantDivision::default() })
}

/// Sends all parts to a receiver that fails for each request with a record of these tenants.
/// Returns the number of requests.
fn send_parts(delivery: &mut Delivery, hostile: &[u8], failure: &Failure) -> usize {
    let hostile: Vec<TenantId> = hostile.iter().copied().map(tenant).collect();
    let mut requests = 0;
    while let Some(part) = delivery.next() {
        let fails = part.items().iter().any(|item| hostile.contains(&item.tenant));
        delivery.record(&part, if fails { Err(failure.clone()) } else { Ok(Receipt::default()) });
        requests += 1;
    }
    delivery.conclude();
    requests
}

/// The tenants that must be withheld because their requests fail.
fn failing(delivery: &Delivery) -> Vec<TenantId> {
    delivery.failing.iter().map(|(tenant, _)| *tenant).collect()
}

/// Regression: a receiver that failed for each request with the text of one tenant stopped the
/// delivery to all others.
#[test]
fn failed_requests_withhold_only_their_tenant() {
    for (tenants, suspected, hostile, expected, withheld, requests) in [
        (&[1, 2, 3, 1][..], &[1, 2, 3][..], &[2][..], "awaa", &[2][..], 3),
        // Those that are not suspected are sent together.
        (&[1, 2, 3, 1], &[2], &[2], "awaa", &[2], 2),
        (&[1, 2, 3, 4], &[1, 3, 2, 4], &[2, 3], "awwa", &[3, 2], 4),
        // A tenant that is not suspected yet fails.
        (&[1, 2, 3], &[2], &[1], "???", &[], 1),
        // Nothing arrives, so the receiver is the cause.
        (&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4], "????", &[], 3),
        (&[1, 2], &[1, 2], &[1, 2], "??", &[], 2),
        // After the third failure in a row, the rest is retried.
        (&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5], &[2, 3, 4], "awww?", &[2, 3, 4], 4),
        (&[1, 2, 3], &[], &[2], "???", &[], 0),
    ] {
        for failure in [Failure::retry("HTTP 502"), Failure::Broken { reason: "HTTP 502".into() }] {
            let (whole, division) = suspicious(tenants, suspected);
            let mut delivery = Delivery::new(&whole).divided_by(division);
            delivery.record(&whole, Err(failure.clone()));

            assert_eq!(send_parts(&mut delivery, hostile, &failure), requests, "{tenants:?}");
            assert_eq!(letters(&delivery), expected, "{tenants:?} {hostile:?}");
            let withheld: Vec<TenantId> = withheld.iter().copied().map(tenant).collect();
            assert_eq!(failing(&delivery), withheld, "{tenants:?} {hostile:?}");
            assert_eq!(delivery.stopped.is_some(), expected.contains('?'), "{tenants:?}");
            assert!(delivery.rejecting.is_empty() && delivery.failures.has_failed);
        }
    }
}

/// A tenant whose records are alone in a batch is withheld only if those of others have arrived.
#[test]
fn a_single_tenant_fails_only_with_a_witness() {
    for (is_witnessed, expected) in [(true, "www"), (false, "???")] {
        let (whole, mut division) = suspicious(&[1, 1, 1], &[1]);
        if is_witnessed {
            division.witnessed.insert(tenant(1));
        }
        let mut delivery = Delivery::new(&whole).divided_by(division);
        delivery.record(&whole, Err(Failure::retry("HTTP 502")));
        assert_eq!(send_parts(&mut delivery, &[1], &Failure::retry("HTTP 502")), 0);
        assert_eq!(letters(&delivery), expected);
        assert_eq!(delivery.stopped.is_none(), is_witnessed);
    }

    // The records that have arrived are those of others.
    let (whole, division) = suspicious(&[1, 2, 1], &[1, 2]);
    let mut delivery = Delivery::new(&whole).divided_by(division);
    let failure = Box::new(Failure::retry("HTTP 502"));
    delivery.record(&whole, Err(Failure::Partial { arrived: vec![0, 1], failure }));
    delivery.conclude();
    assert_eq!((letters(&delivery).as_str(), failing(&delivery)), ("aaw", vec![tenant(1)]));
    let problem = &delivery.failing[0].1;
    assert_eq!(problem.message, "each request with its records fails: HTTP 502");
    assert!(problem.hint.is_some());
}

/// No request is sent earlier than the receiver has requested, or before later batches are settled.
#[test]
fn a_division_can_wait_for_an_attempt() {
    let after = Some(Duration::from_secs(7));
    let busy = Failure::Retry { reason: "HTTP 503".into(), after, hint: None };
    for (failure, time) in
        [(&busy, DivisionTime::Now), (&Failure::retry("HTTP 503"), DivisionTime::NextAttempt)]
    {
        let (whole, division) = suspicious(&[1, 2], &[1, 2]);
        let mut delivery = Delivery::new(&whole).divided_by(TenantDivision { time, ..division });
        delivery.record(&whole, Err(failure.clone()));
        assert_eq!(send_parts(&mut delivery, &[1], failure), 0);
        assert!(delivery.stopped.is_some() && delivery.failures.is_division_due);
    }

    for (suspected, expected, is_due) in [(&[1, 2][..], "??", true), (&[2, 1], "wa", false)] {
        let (whole, division) = suspicious(&[1, 2], suspected);
        let mut delivery = Delivery::by_tenant(&whole, division);
        send_parts(&mut delivery, &[1], &busy);
        assert_eq!(letters(&delivery), expected, "{suspected:?}");
        assert_eq!(delivery.failures.is_division_due, is_due, "{suspected:?}");
        assert_eq!(delivery.failures.alone, HashSet::from([tenant(1)]), "{suspected:?}");
    }
}

#[test]
fn a_sink_with_a_mark_is_not_reopened() {
    let (whole, division) = suspicious(&[1, 2, 3], &[2, 3]);
    let mut delivery = Delivery::by_tenant(&whole, division);
    let first = delivery.next().unwrap();
    delivery.record(&first, Ok(Receipt { mark: Some(vec![1]) }));
    let second = delivery.next().unwrap();
    delivery.record(&second, Err(Failure::Broken { reason: "reset".into() }));
    assert!(delivery.next().is_none() && delivery.stopped.is_some());
    assert_eq!(letters(&delivery), "a??");
}
