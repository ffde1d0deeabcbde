//! Tests of the verdicts: which tenant, target or sink is at fault, and which records are settled.

use super::*;
use crate::model::Seq;

/// One outcome per letter: `a` arrived, `r` rejected, `?` unknown.
fn outcomes(text: &str) -> Vec<RecordOutcome> {
    let outcome = |(record_index, letter)| RecordOutcome {
        tenant: tenant(1),
        at: Position { seq: Seq::FIRST, record_index },
        event_id: EventId::from_bytes([u8::try_from(record_index % 256).unwrap(); 20]),
        target: None,
        outcome: match letter {
            'a' => DeliveryOutcome::Arrived,
            'r' => DeliveryOutcome::Rejected("no".into()),
            _ => DeliveryOutcome::Unknown,
        },
    };
    (0..).zip(text.chars()).map(outcome).collect()
}

fn tenant(n: u8) -> TenantId {
    TenantId::parse(&format!("{n:02}000000-0000-4000-8000-000000000000")).unwrap()
}

/// The outcomes of records of several tenants. A part has the number of the tenant, a letter and a
/// count.
type Parts<'p> = &'p [(u8, char, usize)];

/// Records of several tenants, each with a target that has the number of its tenant, or with none
/// if `noun` is empty. All tenants share the target `shared`.
fn of_tenants(noun: &str, parts: Parts<'_>) -> Vec<RecordOutcome> {
    let mut all = Vec::new();
    for &(n, letter, records) in parts {
        let name = if noun == "shared" { noun.to_owned() } else { format!("{noun}{n}") };
        let name = TargetName::new(&name);
        for mut outcome in outcomes(&letter.to_string().repeat(records)) {
            outcome.tenant = tenant(n);
            outcome.target = Some(name.clone()).filter(|_| !noun.is_empty());
            all.push(outcome);
        }
    }
    all
}

/// The tenants from 1 to `last` that a target serves; a target with a number serves only the tenant
/// with this number.
fn served(last: u8, target: Option<&TargetName>) -> Vec<TenantId> {
    let own = |n: &u8| {
        let name = target.map_or("", TargetName::as_str);
        !name.ends_with(|c: char| c.is_ascii_digit()) || name.ends_with(&n.to_string())
    };
    (1..=last).filter(own).map(tenant).collect()
}

/// Judges outcomes of a sink that serves the tenants from 1 to `last`.
fn judged(
    counter: &mut RejectionCounter,
    outcomes: Vec<RecordOutcome>,
    last: u8,
    withheld: &[u8],
) -> BatchVerdict {
    let of_target = |target: Option<&TargetName>| served(last, target);
    let withheld = withheld.iter().copied().map(tenant).collect();
    let served = ServedTenants { withheld, of_target: &of_target };
    counter.judge(outcomes, Vec::new(), None, &served)
}

fn settled(verdict: &BatchVerdict) -> usize {
    verdict.outcomes.iter().filter(|outcome| outcome.is_settled()).count()
}

/// The number of settled records of a sink with one tenant, and whether it parks.
fn judge(counter: &mut RejectionCounter, text: &str) -> (usize, bool) {
    let verdict = judged(counter, outcomes(text), 1, &[]);
    (settled(&verdict), verdict.stopped.is_some())
}

/// The number of outcomes of each kind: arrived, rejected, unknown and withheld.
fn kinds(outcomes: &[RecordOutcome]) -> [usize; 4] {
    let mut kinds = [0; 4];
    for outcome in outcomes {
        kinds[match outcome.outcome {
            DeliveryOutcome::Arrived => 0,
            DeliveryOutcome::Rejected(_) => 1,
            DeliveryOutcome::Unknown => 2,
            DeliveryOutcome::Withheld => 3,
        }] += 1;
    }
    kinds
}

fn withheld(verdict: &BatchVerdict) -> Vec<u8> {
    let is_withheld = |n: &u8| verdict.rejected.iter().any(|(id, _)| *id == tenant(*n));
    (1..=9).filter(is_withheld).collect()
}

/// Regression: a mapping fault of one tenant's index parked the sink for all tenants, and all
/// records of the tenant became dead letters because records of another tenant followed.
#[test]
fn only_the_rejecting_target_is_parked() {
    for (parts, expected, parked) in [
        (&[(1, 'r', 400), (2, 'a', 2)][..], [2, 0, 0, 400], &["index1"][..]),
        (&[(2, 'a', 2), (1, 'a', 1), (1, 'r', 21), (2, 'a', 1)], [4, 0, 0, 21], &["index1"]),
        (&[(1, 'r', 20), (2, 'r', 20), (3, 'a', 1)], [1, 40, 0, 0], &[]),
        (&[(1, 'r', 30), (1, 'a', 1)], [1, 30, 0, 0], &["index1"]),
    ] {
        let mut counter = RejectionCounter::default();
        let verdict = judged(&mut counter, of_tenants("index", parts), 4, &[]);
        assert_eq!(kinds(&verdict.outcomes), expected, "{parts:?}");
        assert!(verdict.stopped.is_none() && verdict.rejected.is_empty(), "{parts:?}");
        let names: Vec<&str> =
            verdict.rejecting.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(names, parked, "{parts:?}");
    }
}

/// Regression: a tenant whose records were all rejected, for example because of their size, parked
/// the sink for all tenants.
#[test]
fn only_the_rejected_tenant_is_withheld() {
    let scattered = [[(1, 'r', 1), (2, 'a', 3)]; 60].concat();
    let mixed = [[(1, 'r', 1), (1, 'a', 9), (2, 'a', 1)]; 60].concat();

    for (parts, expected, tenants) in [
        (&[(1, 'r', 400), (2, 'a', 2)][..], [2, 0, 0, 400], &[1][..]),
        (&[(1, 'r', 400)], [0, 0, 0, 400], &[1]),
        (&[(2, 'a', 2), (1, 'a', 1), (1, 'r', 21), (2, 'a', 1)], [4, 0, 0, 21], &[1]),
        (&[(1, 'r', 20), (2, 'a', 1)], [1, 20, 0, 0], &[]),
        (&[(1, 'r', 30), (1, 'a', 1)], [1, 30, 0, 0], &[1]),
        (&[(1, 'r', 10), (2, 'r', 11), (3, 'a', 1)], [1, 10, 0, 11], &[2]),
        (&[(1, 'r', 21), (2, 'r', 21), (3, 'a', 1)], [1, 0, 0, 42], &[1, 2]),
        (&[(1, 'r', 21), (2, 'r', 21), (3, 'r', 21), (4, 'a', 1)], [1, 0, 0, 63], &[1, 2, 3]),
        (&[(1, 'r', 21), (2, 'a', 1), (1, '?', 2)], [1, 0, 0, 23], &[1]),
        (scattered.as_slice(), [180, 0, 0, 60], &[1]),
        (mixed.as_slice(), [600, 60, 0, 0], &[1]),
    ] {
        for noun in ["", "shared"] {
            let mut counter = RejectionCounter::default();
            let verdict = judged(&mut counter, of_tenants(noun, parts), 4, &[]);
            assert_eq!(kinds(&verdict.outcomes), expected, "{noun} {parts:?}");
            assert!(verdict.stopped.is_none() && verdict.rejecting.is_empty(), "{noun} {parts:?}");
            assert_eq!(withheld(&verdict), tenants, "{noun} {parts:?}");
        }
    }
}

/// A fault of the configuration affects every tenant.
#[test]
fn rejections_of_many_tenants_park_the_sink() {
    for (parts, last, expected) in [
        (&[(1, 'r', 7), (2, 'r', 7), (3, 'r', 7)][..], 9, [0, 0, 21, 0]),
        (&[(1, 'r', 21), (2, 'r', 21), (3, 'r', 21)], 9, [0, 0, 0, 63]),
        (&[(1, 'r', 21), (2, 'r', 21)], 2, [0, 0, 21, 21]),
        (&[(1, 'r', 21)], 1, [0, 0, 21, 0]),
        (&[(1, 'r', 30), (1, 'a', 1)], 1, [1, 30, 0, 0]),
    ] {
        let mut counter = RejectionCounter::default();
        let verdict = judged(&mut counter, of_tenants("", parts), last, &[]);
        assert_eq!(kinds(&verdict.outcomes), expected, "{parts:?}");
        assert!(verdict.stopped.is_some() && verdict.rejected.is_empty(), "{parts:?}");

        let mut counter = RejectionCounter::default();
        let verdict = judged(&mut counter, of_tenants("shared", parts), last, &[]);
        assert_eq!(verdict.rejecting.len(), 1, "{parts:?}");
        assert!(verdict.stopped.is_none() && verdict.rejected.is_empty(), "{parts:?}");
    }
}

/// Sends batches to a sink that serves the tenants from 1 to `last`. Returns the number of dead
/// letters, and the number of batches until the sink parks, if it does.
fn deliver(batches: &[Parts<'_>], last: u8) -> (usize, Option<usize>) {
    let (mut counter, mut parked, mut dead_letters) = (RejectionCounter::default(), Vec::new(), 0);
    for (number, parts) in (1..).zip(batches) {
        let verdict = judged(&mut counter, of_tenants("", parts), last, &parked);
        dead_letters += kinds(&verdict.outcomes)[1];
        if verdict.stopped.is_some() {
            return (dead_letters, Some(number));
        }

        // A tenant with accepted records is released.
        let arrived = verdict.outcomes.iter().filter(|outcome| outcome.has_arrived());
        let arrived: BTreeSet<TenantId> = arrived.map(|outcome| outcome.tenant).collect();
        parked.retain(|n| !arrived.contains(&tenant(*n)));
        parked.extend(withheld(&verdict));
    }
    (dead_letters, None)
}

#[test]
fn a_fault_for_all_tenants_parks_soon() {
    let [one, two, three, four] = [1, 2, 3, 4].map(|n| [(n, 'r', 400)]);
    let accepted: Parts<'_> = &[(9, 'a', 30)];

    for (batches, last, expected) in [
        // Every batch has the records of one tenant.
        (&[&one[..], &two, &three][..], 9, (0, Some(3))),
        (&[&one, &two, accepted], 9, (0, None)),
        (&[&one, &two], 2, (0, Some(2))),
        (&[&one], 1, (0, Some(1))),
        // The records of others are accepted, so that those of each tenant can be the cause.
        (&[&one, accepted, &two, accepted, &three, accepted, &four], 9, (0, None)),
    ] {
        assert_eq!(deliver(batches, last), expected, "{batches:?}");
    }
}

/// A fault for some records of each tenant must not cause more and more dead letters.
#[test]
fn a_fault_for_some_records_parks_soon() {
    let [one, two, three] = [1, 2, 3].map(|n| [(n, 'r', 30), (n, 'a', 1)]);
    let [one_accepted, two_accepted, accepted] = [1, 2, 9].map(|n| [(n, 'a', 9)]);

    for (batches, expected) in [
        (&[&one[..], &accepted, &two, &accepted, &three][..], (90, Some(5))),
        (&[&one, &two, &one_accepted, &two_accepted, &three], (90, None)),
    ] {
        assert_eq!(deliver(batches, 9), expected, "{batches:?}");
    }
}

/// A few rejections do not show whether the records or the configuration are the cause.
#[test]
fn small_batches_have_few_dead_letters() {
    let parts = |n, records| [(n, 'r', records)];
    let (one, two, more) = (parts(1, 20), parts(2, 1), parts(2, 20));
    assert_eq!(deliver(&[&one, &two, &more], 9), (21, None));

    let [one, two, three] = [1, 2, 3].map(|n| parts(n, 7));
    assert_eq!(deliver(&[&one, &two, &three], 9), (21, Some(3)));
}

/// A withheld tenant is tried again with a batch.
#[test]
fn a_tenant_is_released_when_records_are_accepted() {
    for (parts, expected, tenants) in [
        (&[(1, 'r', 5), (2, 'a', 1)][..], [1, 0, 0, 5], &[1][..]),
        (&[(1, 'r', 1)], [0, 0, 0, 1], &[1]),
        (&[(1, 'r', 5), (1, 'a', 1)], [1, 5, 0, 0], &[]),
        (&[(1, 'a', 3), (1, 'r', 2)], [3, 2, 0, 0], &[]),
        (&[(1, 'a', 3), (1, 'r', 21)], [3, 0, 0, 21], &[1]),
        (&[(1, 'r', 3), (1, '?', 2)], [0, 0, 0, 5], &[1]),
        // Those that were withheld before show nothing new about the configuration.
        (&[(1, 'r', 30), (2, 'r', 30), (3, 'r', 30)], [0, 0, 0, 90], &[1, 2, 3]),
        (&[(1, 'r', 30), (2, 'r', 30), (4, 'r', 30)], [0, 0, 0, 90], &[1, 2, 4]),
    ] {
        let mut counter = RejectionCounter::default();
        let verdict = judged(&mut counter, of_tenants("", parts), 9, &[1, 2, 3]);
        assert_eq!(kinds(&verdict.outcomes), expected, "{parts:?}");
        assert!(verdict.stopped.is_none(), "{parts:?}");
        assert_eq!(withheld(&verdict), tenants, "{parts:?}");
    }
}

#[test]
fn messages_name_the_first_reason() {
    let mut all = of_tenants("", &[(1, 'r', 21), (2, 'a', 1)]);
    all[0].outcome = DeliveryOutcome::Rejected("too large".into());
    let verdict = judged(&mut RejectionCounter::default(), all.clone(), 2, &[]);
    let expected = "the receiver rejects too many records: too large";
    assert_eq!(verdict.rejected, [(tenant(1), Explanation::new(expected))]);

    let verdict = judged(&mut RejectionCounter::default(), all, 1, &[]);
    assert_eq!(verdict.stopped.unwrap().to_string(), expected);
}

/// A limit that is exceeded by dead letters, which were rejected before, changes no outcome.
#[test]
fn dead_letters_remain_rejected() {
    type Served<'a> = &'a dyn Fn(Option<&TargetName>) -> Vec<TenantId>;

    let served = |_: Option<&TargetName>| vec![tenant(1), tenant(2)];
    let alone = |_: Option<&TargetName>| vec![tenant(1)];

    let cases: [(Served<'_>, _, _); 4] = [
        (&served, None, (1, 0, false)),
        (&served, Some("index"), (1, 0, false)),
        (&alone, Some("index"), (0, 1, false)),
        (&alone, None, (0, 0, true)),
    ];
    for (of_target, target, expected) in cases {
        let rejecting = vec![ExcessiveRejections {
            target: target.map(TargetName::new),
            source: RejectionSource::Tenant(tenant(1)),
            problem: too_many("no"),
        }];
        let served = ServedTenants { withheld: BTreeSet::new(), of_target };
        let verdict = BatchVerdict::of_dead_letters(outcomes("rrr"), rejecting, None, &served);
        assert_eq!(kinds(&verdict.outcomes), [0, 3, 0, 0]);
        let BatchVerdict { rejected, rejecting, stopped, .. } = verdict;
        assert_eq!((rejected.len(), rejecting.len(), stopped.is_some()), expected, "{target:?}");
    }
}

/// Regression: an outcome of one tenant that was not known kept the records of all others that had
/// arrived from being settled.
#[test]
fn an_unknown_outcome_stops_only_its_tenant() {
    let parts = [(1, '?', 2), (2, 'a', 3), (1, 'a', 1), (3, 'r', 1)];
    let stopped = Some(DeliveryError::Sink(Failure::retry("busy")));
    let of_target = |target: Option<&TargetName>| served(4, target);
    let served = ServedTenants { withheld: BTreeSet::new(), of_target: &of_target };
    let mut counter = RejectionCounter::default();
    let verdict = counter.judge(of_tenants("index", &parts), Vec::new(), stopped, &served);
    assert_eq!(kinds(&verdict.outcomes), [3, 1, 3, 0]);
}

/// A record that cannot be encoded has no target, so accepted records of all targets count.
#[test]
fn single_records_without_targets_never_add_up() {
    let mut counter = RejectionCounter::default();
    for _ in 0..40 {
        let mut all = of_tenants("index", &[(1, 'a', 30)]);
        all.extend(of_tenants("", &[(1, 'r', 1)]));
        let verdict = judged(&mut counter, all, 1, &[]);
        assert!(verdict.stopped.is_none() && verdict.rejecting.is_empty());
    }
}

#[test]
fn a_run_of_rejections_stays_in_the_backlog() {
    let mut counter = RejectionCounter::default();
    assert_eq!(judge(&mut counter, &"r".repeat(20)), (20, false));
    // The run exceeds the limit, but only one of its records is in this batch.
    assert_eq!(judge(&mut counter, "r"), (1, true));
    // The counter starts again after the sink has been parked.
    assert_eq!(judge(&mut counter, &"r".repeat(20)), (20, false));

    let mut counter = RejectionCounter::default();
    assert_eq!(judge(&mut counter, &format!("aaa{}", "r".repeat(30))), (3, true));
    assert_eq!(judge(&mut counter, &"r".repeat(30)), (0, true));
}

/// Regression: records that had arrived after a run of rejections were sent again with every
/// attempt of the parked sink.
#[test]
fn arrived_records_are_settled_before_parking() {
    let mut counter = RejectionCounter::default();
    let text = format!("{}aaa", "r".repeat(30));
    assert_eq!(judge(&mut counter, &text), (33, true));
    assert_eq!(judge(&mut counter, "aaa"), (3, false));
}

#[test]
fn nothing_after_an_unknown_outcome_is_settled() {
    let mut counter = RejectionCounter::default();
    assert_eq!(judge(&mut counter, "aar?ara"), (3, false));

    let stopped = Some(DeliveryError::Sink(Failure::misconfigured("no")));
    let of_target = |target: Option<&TargetName>| served(1, target);
    let served = ServedTenants { withheld: BTreeSet::new(), of_target: &of_target };
    let verdict = counter.judge(outcomes("aarr?a"), Vec::new(), stopped, &served);
    assert_eq!((settled(&verdict), verdict.stopped.is_some()), (2, true));
}

#[test]
fn parks_above_five_percent_of_a_thousand() {
    let mut counter = RejectionCounter::default();
    let batch = format!("aaar{}", "a".repeat(16));
    for _ in 0..200 {
        let judged = judge(&mut counter, &batch);
        assert_eq!(judged, (20, false), "one record in twenty does not exceed the limit");
    }
    assert_eq!(judge(&mut counter, &format!("rr{}", "a".repeat(18))), (20, true));
}
