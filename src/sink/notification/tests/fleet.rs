//! The records of the fleet in `conditions::tests::fleet`, and the messages about them: nothing in
//! a message may grow with the number of tenants.

use std::collections::BTreeMap;

use super::*;
use crate::{
    conditions::tests::fleet::{TENANTS, facts},
    derive::{ObservationEntry, Rules, quality},
    error::Explanation,
    model::{
        Observation, ObservationKind, ObservationSubject, Phase, Seq, SnapshotRef, Tenant,
        TenantId, UnixMillis,
    },
    text::count,
};

/// The number of tenants with dead letters.
const REJECTED_TENANTS: usize = 300;

/// Calls a function with the record of an observation.
fn with_record(tenant: &str, observation: &Observation, mut take: impl FnMut(&Record<'_>)) {
    let tenant = Tenant { id: TenantId::TEST, name: tenant.to_owned(), labels: BTreeMap::new() };
    let entry = ObservationEntry {
        tenant: &tenant,
        observation,
        snapshot: &SnapshotRef::of_observation(observation.first_day, Seq::FIRST),
        observed_time: "2026-11-30T12:00:00Z",
        observed_at: UnixMillis::new(1_796_040_000_000),
        repeats: 0,
        replayed: false,
        rules: Rules::none(),
    };
    take(&quality(&entry));
}

/// One problem of each kind that a record can report. All tenants have the same problem with their
/// credential.
pub(in crate::sink) fn problems() -> Vec<Notice> {
    let facts = facts();
    let today = facts.now.day();
    let mut notices = Vec::new();
    let mut observe = |tenant: &str, observation: Observation| {
        with_record(tenant, &observation, |record| notices.push(Notice::of(record)));
    };
    let began = |what, subject: ObservationSubject, reason: &Explanation| Observation {
        what,
        subject,
        first_day: today,
        phase: Phase::Begin,
        details: reason.message.clone(),
        hint: reason.hint.clone(),
    };

    let unknown = || ObservationSubject::Other(String::new());

    for (index, tenant) in facts.tenants.iter().enumerate() {
        for open in &tenant.observations {
            observe(&tenant.name, began(open.what, unknown(), &open.reason));
        }
        if let Some(error) = &tenant.error {
            let subject = error.class.map_or_else(unknown, ObservationSubject::of_failed_poll);
            observe(&tenant.name, began(ObservationKind::PollFailed, subject, &error.reason));
        }
        if tenant.newest_day.is_some_and(|day| day.plus(3) < today) {
            let reason = Explanation::new("the newest day is too old").with_hint("wait");
            observe(&tenant.name, began(ObservationKind::Stale, unknown(), &reason));
        }
        if index < REJECTED_TENANTS {
            let reason = "the endpoint returned HTTP 400".to_owned();
            let rejected = Observation::of_dead_letters(&"d".into(), today, Phase::Begin, reason);
            observe(&tenant.name, rejected);
        }
    }
    notices
}

/// A different change in each tenant.
pub(in crate::sink) fn changes() -> Vec<Notice> {
    let changed = |index: usize| Notice {
        sentence: format!("Review control {index}: score fell from 10 to 0 of 10 points"),
        ..change(&format!("t{index:04}"), "regressed", -10.0, 8)
    };
    (0..TENANTS).map(changed).collect()
}

/// The records of an operator who discards 1 to `most` dead letters of each tenant.
pub(in crate::sink) fn discard(most: usize, mut take: impl FnMut(&Record<'_>)) {
    let today = facts().now.day();
    for index in 0..TENANTS {
        let details =
            format!("an operator discarded {}", count(index % most + 1, "rejected record"));
        let end = Observation::of_dead_letters(&"d".into(), today, Phase::End, details);
        with_record(&format!("t{index:04}"), &end, &mut take);
    }
}

/// Whether the rows of a part are those of the worst problems first.
fn is_ranked(part: &Part) -> bool {
    let names = ["Critical", "High", "Medium", "Low", "Informational"];
    let rows = part.facts.iter().filter(|(name, _)| name != Part::HINT);
    rows.map(|(name, _)| names.iter().position(|known| known == name)).is_sorted()
}

/// Regression: the problems of a digest were at its end, below the screen, and had no hints.
#[test]
fn a_digest_of_a_fleet_fits_a_screen() {
    let notices = [problems(), changes()].concat();
    let message = Mode::Digest.message(&notices, &[]);
    assert!(message.title.ends_with(" in 1,000 tenants"), "{}", message.title);

    let text = message.text(EventIdLines::Omitted);
    assert!(text.lines().count() <= 30, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 220), "{text}");

    let open = &message.parts[1];
    assert_eq!(open.heading, "Open problems");
    assert_eq!(open.severity, Severity::High);
    assert!(is_ranked(open), "{text}");
    let first = &open.facts[0].1;
    assert!(first.starts_with("t0000 and 299 other tenants: the receiver of sink d"), "{first}");
    for hint in notices.iter().filter_map(|notice| notice.hint.as_ref()) {
        assert!(open.facts.iter().any(|(_, value)| value == hint), "{hint}: {text}");
    }
}

#[test]
fn fleet_messages_have_one_part_per_problem() {
    let message = Mode::Messages.message(&problems(), &[]);
    let headings: Vec<&str> = message.parts.iter().map(|part| part.heading.as_str()).collect();
    assert_eq!(
        headings,
        [
            "High · t0000 and 299 other tenants · dead letter",
            "High · t0010 · poll failed",
            "High · t0040 · stale",
            "Medium · t0000 and 999 other tenants · credential expiring",
            "Medium · t0020 · poll failed",
            "Medium · t0030 · poll failed",
            "Low · t0060 · gap",
        ]
    );
}
