//! Tables of facts and the conditions that follow from them.

use std::time::Duration;

use super::*;
use ConditionKind as Kind;

use crate::model::{ClockOffset, Day, ObservationKind, OpenObservation, PollErrorClass};

pub(crate) mod fleet;
mod past_bugs;

const NOW: &str = "2026-11-30T12:00:00Z";

fn at(text: &str) -> UnixMillis {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

fn day(text: &str) -> Day {
    Day::parse(text).unwrap()
}

fn facts() -> ConditionFacts {
    ConditionFacts {
        now: at(NOW),
        daemon: DaemonFacts::Running(at("2026-11-01T00:00:00Z")),
        tenants: vec![tenant("contoso")],
        sinks: vec![sink("siem")],
        stalled: Vec::new(),
        free_bytes: Some(10 << 30),
        reserved_bytes: 16 << 20,
        storage: None,
        clock: None,
        outdated_cursor_file: None,
        rejected_configuration: None,
        configuration: ConfigurationFacts::InForce,
        unreported: None,
    }
}

/// A tenant without conditions.
fn tenant(name: &str) -> TenantFacts {
    TenantFacts {
        name: name.to_owned(),
        credential: "app".to_owned(),
        newest_day: Some(day("2026-11-30")),
        last_attempt: Some(at("2026-11-30T06:15:00Z")),
        ..TenantFacts::default()
    }
}

/// A sink without conditions.
fn sink(name: &str) -> SinkFacts {
    SinkFacts {
        name: name.into(),
        failure: None,
        parked: Parked::Nothing,
        failing_since: None,
        backlog: 0,
        oldest_day: None,
        last_acknowledgement: Some(at("2026-11-30T06:16:00Z")),
        sends_digests: false,
        dead_letters: 0,
    }
}

fn error(class: PollErrorClass, message: &str) -> PollErrorFacts {
    PollErrorFacts {
        reason: Explanation::new(message).with_hint("act"),
        class: Some(class),
        since: Some(at("2026-11-30T06:15:00Z")),
    }
}

/// The difference between a clock that shows `now`, and one that is behind it.
fn clock_ahead(now: UnixMillis, ahead: Duration) -> ClockDifference {
    let since = now.saturating_sub(ahead);
    ClockDifference { offset: ClockOffset::between(now.into(), since.into()), since }
}

/// The severity and kind of each condition.
fn kinds(facts: &ConditionFacts) -> Vec<(ConditionSeverity, ConditionKind)> {
    conditions(facts).iter().map(|condition| (condition.severity, condition.kind)).collect()
}

#[test]
fn healthy_facts_have_no_conditions() {
    let facts = facts();
    assert_eq!(conditions(&facts), []);
    assert_eq!(Health::of(&[]), Health::Healthy);
    assert_eq!(headline(Counts::of(&facts, &[]), &[]), "1 tenant is current; 1 sink is healthy");
}

/// A name, a change of healthy facts, and the only condition that follows.
type Case = (&'static str, fn(&mut ConditionFacts), ConditionSeverity, ConditionKind);

const OF_DAEMON_AND_SINKS: &[Case] = &[
    (
        "a stalled loop",
        |f| f.stalled.push("x".to_owned()),
        ConditionSeverity::Error,
        Kind::LoopStalled,
    ),
    ("a full disk", |f| f.free_bytes = Some(1 << 20), ConditionSeverity::Error, Kind::DiskFull),
    (
        "a checkpoint that cannot be written",
        |f| {
            let reason = Explanation::new("the disk of the checkpoint reported an error");
            f.storage = Some(StorageFacts { reason, since: f.now });
        },
        ConditionSeverity::Error,
        Kind::StorageFailing,
    ),
    (
        "a second cursor file that cannot be written",
        |f| f.outdated_cursor_file = Some("cannot write `cursors.json.new`".into()),
        ConditionSeverity::Warning,
        Kind::CursorFileOutdated,
    ),
    (
        "a second cursor file in a storage that fails",
        |f| {
            f.outdated_cursor_file = Some("the disk is full".into());
            f.storage = Some(StorageFacts { reason: "the disk is full".into(), since: f.now });
        },
        ConditionSeverity::Error,
        Kind::StorageFailing,
    ),
    ("little space", |f| f.free_bytes = Some(100 << 20), ConditionSeverity::Warning, Kind::DiskLow),
    (
        "a clock that is ten minutes ahead",
        |f| f.clock = Some(clock_ahead(f.now, Duration::from_mins(10))),
        ConditionSeverity::Warning,
        Kind::ClockWrong,
    ),
    (
        "a clock that is forty days ahead",
        |f| f.clock = Some(clock_ahead(f.now, Duration::from_hours(40 * 24))),
        ConditionSeverity::Error,
        Kind::ClockWrong,
    ),
    (
        "a rejected reload",
        |f| {
            let reason = Explanation::new("c.toml:3:1: unknown key `x`");
            f.rejected_configuration = Some(RejectedConfiguration { at: f.now, reason });
        },
        ConditionSeverity::Error,
        Kind::ConfigurationRejected,
    ),
    (
        "invalid files",
        |f| f.configuration = ConfigurationFacts::Invalid("c.toml:3:1: unknown key `x`".into()),
        ConditionSeverity::Error,
        Kind::ConfigurationInvalid,
    ),
    (
        "changed files",
        |f| f.configuration = ConfigurationFacts::Changed,
        ConditionSeverity::Warning,
        Kind::ConfigurationChanged,
    ),
    (
        "a stopped daemon",
        |f| f.daemon = DaemonFacts::Stopped,
        ConditionSeverity::Warning,
        Kind::DaemonStopped,
    ),
    (
        "a daemon that does not respond",
        |f| f.unreported = Some("no response within 2 s".into()),
        ConditionSeverity::Warning,
        Kind::DaemonSilent,
    ),
    ("dead letters", |f| f.sinks[0].dead_letters = 7, ConditionSeverity::Error, Kind::DeadLetters),
    (
        "a parked sink",
        |f| {
            f.sinks[0].failure = Some("the token is rejected".into());
            f.sinks[0].parked = Parked::Sink;
        },
        ConditionSeverity::Error,
        Kind::SinkParked,
    ),
    (
        "a parked target",
        |f| {
            f.sinks[0].failure = Some("index `a` is missing".into());
            f.sinks[0].parked = Parked::Targets;
        },
        ConditionSeverity::Error,
        Kind::TargetParked,
    ),
    (
        "withheld records",
        |f| {
            f.sinks[0].failure = Some("tenant `a`: too large".into());
            f.sinks[0].parked = Parked::Tenants;
        },
        ConditionSeverity::Error,
        Kind::TargetParked,
    ),
    (
        "a sink that retries",
        |f| {
            f.sinks[0].failure = Some("connection refused".into());
            f.sinks[0].last_acknowledgement = Some(at("2026-11-30T11:50:00Z"));
        },
        ConditionSeverity::Warning,
        Kind::SinkRetrying,
    ),
    (
        "a sink that has retried for long",
        |f| f.sinks[0].failure = Some("connection refused".into()),
        ConditionSeverity::Error,
        Kind::SinkRetrying,
    ),
    (
        "no acknowledgement",
        |f| f.sinks[0].backlog = 3,
        ConditionSeverity::Warning,
        Kind::SinkSilent,
    ),
    (
        "a fresh backlog",
        |f| {
            f.sinks[0].backlog = 3;
            f.sinks[0].last_acknowledgement = Some(at("2026-11-30T11:59:00Z"));
        },
        ConditionSeverity::Info,
        Kind::SinkDelivering,
    ),
];

const OF_TENANTS: &[Case] = &[
    (
        "an expired secret",
        |f| f.tenants[0].error = Some(error(PollErrorClass::Credential, "the secret has expired")),
        ConditionSeverity::Error,
        Kind::CredentialRejected,
    ),
    (
        "a missing permission",
        |f| f.tenants[0].error = Some(error(PollErrorClass::Permission, "no permission")),
        ConditionSeverity::Error,
        Kind::CredentialRejected,
    ),
    (
        "a failed poll",
        |f| f.tenants[0].error = Some(error(PollErrorClass::Unavailable, "connection refused")),
        ConditionSeverity::Warning,
        Kind::PollFailing,
    ),
    (
        "a fault of the configuration",
        |f| f.tenants[0].error = Some(error(PollErrorClass::Configuration, "same tenant")),
        ConditionSeverity::Error,
        Kind::PollFailing,
    ),
    (
        "an error of an unknown class",
        |f| {
            let unknown = error(PollErrorClass::Credential, "of a later release");
            f.tenants[0].error = Some(PollErrorFacts { class: None, ..unknown });
        },
        ConditionSeverity::Warning,
        Kind::PollFailing,
    ),
    (
        "a partial response",
        |f| f.tenants[0].error = Some(error(PollErrorClass::Incomplete, "no catalog")),
        ConditionSeverity::Warning,
        Kind::ResponseIncomplete,
    ),
    (
        "data that is four days old",
        |f| f.tenants[0].newest_day = Some(day("2026-11-26")),
        ConditionSeverity::Error,
        Kind::TenantBehind,
    ),
    (
        "a day that is late",
        |f| {
            f.tenants[0].newest_day = Some(day("2026-11-29"));
            f.tenants[0].due_since = Some(at("2026-11-30T05:00:00Z"));
        },
        ConditionSeverity::Warning,
        Kind::DayLate,
    ),
    (
        "a day that was due an hour ago",
        |f| {
            f.tenants[0].newest_day = Some(day("2026-11-29"));
            f.tenants[0].due_since = Some(at("2026-11-30T11:00:00Z"));
        },
        ConditionSeverity::Info,
        Kind::DayLate,
    ),
    (
        "a new tenant",
        |f| f.tenants[0] = TenantFacts { name: "new".to_owned(), ..TenantFacts::default() },
        ConditionSeverity::Info,
        Kind::NeverPolled,
    ),
    (
        "a tenant without a score",
        |f| f.tenants[0].newest_day = None,
        ConditionSeverity::Warning,
        Kind::TenantBehind,
    ),
];

/// Regression: the page showed a healthy state above dead letters, an expiring certificate, and
/// data that was three days old; an expired secret was shown as work in progress.
#[test]
fn every_problem_is_a_condition() {
    for (name, change, severity, kind) in OF_DAEMON_AND_SINKS.iter().chain(OF_TENANTS) {
        let mut facts = facts();
        change(&mut facts);
        assert_eq!(kinds(&facts), [(*severity, *kind)], "{name}");
    }
}

/// Regression: the first date in the reason was taken for the end of the credential.
#[test]
fn open_observations_are_conditions_once() {
    let cases = [
        (ObservationKind::Gap, None, Some(ConditionSeverity::Warning)),
        (ObservationKind::ForeignTenant, None, Some(ConditionSeverity::Error)),
        (ObservationKind::CredentialExpiring, None, Some(ConditionSeverity::Warning)),
        (
            ObservationKind::CredentialExpiring,
            Some(at("2026-12-08T00:00:00Z")),
            Some(ConditionSeverity::Warning),
        ),
        (
            ObservationKind::CredentialExpiring,
            Some(at("2026-12-07T23:59:59Z")),
            Some(ConditionSeverity::Error),
        ),
        // Other facts report these, so they are not reported twice.
        (ObservationKind::PollFailed, None, None),
        (ObservationKind::Stale, None, None),
        (ObservationKind::DeadLetter, None, None),
    ];

    for (what, expires, expected) in cases {
        let mut facts = facts();
        facts.tenants[0].observations.push(OpenObservation {
            what,
            first_day: day("2026-11-20"),
            since: at("2026-11-21T06:15:00Z"),
            reason: Explanation::new("issued on 2026-11-01"),
            expires,
        });

        let found: Vec<ConditionSeverity> = conditions(&facts).iter().map(|c| c.severity).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{what:?}: {expires:?}");
    }
}

/// Regression: the error of an expired secret was cut exactly before its hint.
#[test]
fn sentences_and_hints_are_complete() {
    let long = "x".repeat(2_000);
    let mut facts = facts();
    facts.tenants[0].error = Some(error(PollErrorClass::Credential, &long));

    let found = conditions(&facts);
    let explanation = found[0].explanation();
    assert_eq!(explanation.message, format!("tenant `contoso`: polls are failing: {long}"));
    assert_eq!(explanation.hint.as_deref(), Some("act"));
}

#[test]
fn a_tenant_that_only_fails_is_behind() {
    let mut facts = facts();
    facts.tenants[0].newest_day = None;
    for (since, expected) in [
        ("2026-11-27T06:15:00Z", vec![(ConditionSeverity::Warning, Kind::PollFailing)]),
        (
            "2026-11-26T06:15:00Z",
            vec![
                (ConditionSeverity::Error, Kind::TenantBehind),
                (ConditionSeverity::Warning, Kind::PollFailing),
            ],
        ),
    ] {
        let unavailable = error(PollErrorClass::Unavailable, "connection refused");
        facts.tenants[0].error = Some(PollErrorFacts { since: Some(at(since)), ..unavailable });
        assert_eq!(kinds(&facts), expected, "{since}");
    }
}

#[test]
fn the_most_urgent_conditions_are_first() {
    let mut facts = facts();
    facts.tenants = vec![tenant("a"), tenant("b"), tenant("c")];
    facts.tenants[0].error = Some(error(PollErrorClass::Unavailable, "timeout"));
    facts.tenants[2].error = Some(error(PollErrorClass::Credential, "expired"));
    facts.sinks[0].backlog = 1;
    facts.sinks[0].last_acknowledgement = Some(facts.now);

    let subjects: Vec<Option<String>> = conditions(&facts)
        .iter()
        .map(|condition| condition.subject.name().map(str::to_owned))
        .collect();
    assert_eq!(subjects, [Some("c".to_owned()), Some("a".to_owned()), Some("siem".to_owned())]);
    assert_eq!(Health::of(&conditions(&facts)), Health::Failing);
}

#[test]
fn a_waiting_digest_is_no_condition() {
    let mut facts = facts();
    facts.sinks[0].sends_digests = true;
    facts.sinks[0].backlog = 7;
    facts.sinks[0].last_acknowledgement = Some(at("2026-11-23T07:00:00Z"));
    assert_eq!(conditions(&facts), []);

    // The time without an acknowledgement begins with the failure.
    facts.sinks[0].failure = Some("connection refused".into());
    facts.sinks[0].failing_since = Some(facts.now);
    assert_eq!(kinds(&facts), [(ConditionSeverity::Warning, ConditionKind::SinkRetrying)]);
}

#[test]
fn equal_conditions_are_one_group() {
    let mut facts = facts();
    facts.tenants = (0..500).map(|index| tenant(&format!("t{index}"))).collect();
    for index in [3, 7, 8, 9, 100] {
        facts.tenants[index].error = Some(error(PollErrorClass::Unavailable, "connection refused"));
    }
    facts.tenants[10].error = Some(error(PollErrorClass::Unavailable, "timeout"));

    let conditions = conditions(&facts);
    let groups = grouped(&conditions);
    let lines: Vec<String> = groups.iter().map(|group| group.explanation().message).collect();
    assert_eq!(
        lines,
        [
            "5 tenants: polls are failing: connection refused (`t3`, `t7`, `t8` and 2 more)",
            "tenant `t10`: polls are failing: timeout"
        ]
    );
    let counts = Counts::of(&facts, &conditions);
    assert_eq!(headline(counts, &conditions), "494 of 500 tenants are current; 1 sink is healthy");
    assert_eq!(
        status_line(counts, &conditions),
        format!("{}; {}", headline(counts, &conditions), lines.join("; "))
    );
}

#[test]
fn readiness_depends_on_loops_sinks_and_all_tenants() {
    let mut facts = facts();
    facts.tenants = vec![tenant("a"), tenant("b")];
    let reasons = |facts: &ConditionFacts| -> Vec<String> {
        not_ready_reasons(facts, &conditions(facts)).into_iter().map(|r| r.message).collect()
    };

    facts.tenants[0].error = Some(error(PollErrorClass::Credential, "expired"));
    facts.sinks[0].dead_letters = 7;
    assert_eq!(reasons(&facts), Vec::<String>::new(), "other tenants can be polled");

    facts.tenants[1].error = Some(error(PollErrorClass::Unavailable, "timeout"));
    assert_eq!(
        reasons(&facts),
        ["polls of all tenants fail: tenant `a`: polls are failing: expired"]
    );

    facts.tenants[1].error = None;
    facts.sinks[0].failure = Some("the token is rejected".into());
    facts.sinks[0].parked = Parked::Targets;
    assert_eq!(reasons(&facts), Vec::<String>::new(), "other targets receive their records");
    facts.sinks[0].parked = Parked::Sink;
    facts.stalled.push("the scheduler has not run for 5 minutes".to_owned());
    assert_eq!(
        reasons(&facts),
        [
            "the scheduler has not run for 5 minutes",
            "sink `siem`: parked, 0 log entries unsent: the token is rejected"
        ]
    );
}

#[test]
fn names_of_kinds_are_unique() {
    let names: std::collections::BTreeSet<&str> =
        ConditionKind::ALL.into_iter().map(ConditionKind::as_str).collect();
    assert_eq!(names.len(), ConditionKind::ALL.len());
}
