//! A thousand tenants with one failure of each kind: nothing that shows it may grow with the number
//! of tenants.

use super::*;

/// The number of tenants.
pub(crate) const TENANTS: usize = 1_000;

/// The kinds that [`facts`] contains; the other kinds cannot occur together with these.
const KINDS: [Kind; 14] = [
    Kind::LoopStalled,
    Kind::DiskFull,
    Kind::ConfigurationRejected,
    Kind::SinkParked,
    Kind::SinkRetrying,
    Kind::SinkSilent,
    Kind::DeadLetters,
    Kind::CredentialRejected,
    Kind::PollFailing,
    Kind::ResponseIncomplete,
    Kind::TenantBehind,
    Kind::DayLate,
    Kind::CredentialExpiring,
    Kind::DataQuality,
];

/// The facts of the fleet.
pub(crate) fn facts() -> ConditionFacts {
    let mut facts = super::facts();
    facts.tenants = (0..TENANTS).map(|index| tenant(&format!("t{index:04}"))).collect();
    facts.sinks = ["a", "b", "c", "d", "healthy"].map(sink).into();

    facts.stalled.push("the scheduler has not run for 5 minutes".to_owned());
    facts.free_bytes = Some(1 << 20);
    let reason = Explanation::new("c.toml:3:1: unknown key `x`").with_hint("remove the key");
    facts.rejected_configuration = Some(RejectedConfiguration { at: facts.now, reason });

    facts.sinks[0].parked = Parked::Sink;
    facts.sinks[0].failure = Some("the receiver rejects the token".into());
    facts.sinks[1].failure = Some("connection refused".into());
    facts.sinks[2].backlog = 3;
    facts.sinks[3].dead_letters = 1_200;

    facts.tenants[10].error = Some(error(PollErrorClass::Credential, "the secret has expired"));
    facts.tenants[20].error = Some(error(PollErrorClass::Unavailable, "connection refused"));
    facts.tenants[30].error = Some(error(PollErrorClass::Incomplete, "no catalog"));
    facts.tenants[40].newest_day = Some(day("2026-11-20"));
    facts.tenants[50].newest_day = Some(day("2026-11-29"));
    facts.tenants[50].due_since = Some(at("2026-11-30T05:00:00Z"));
    facts.tenants[60].observations.push(open(ObservationKind::Gap, None));
    for tenant in &mut facts.tenants {
        let expires = Some(at("2026-12-20T00:00:00Z"));
        tenant.observations.push(open(ObservationKind::CredentialExpiring, expires));
    }
    facts
}

fn open(what: ObservationKind, expires: Option<UnixMillis>) -> OpenObservation {
    OpenObservation {
        what,
        first_day: day("2026-11-20"),
        since: at("2026-11-21T06:15:00Z"),
        reason: Explanation::new("noticed").with_hint("act"),
        expires,
    }
}

#[test]
fn a_fleet_has_one_group_per_kind() {
    let conditions = conditions(&facts());
    let groups = grouped(&conditions);
    let mut kinds: Vec<Kind> = groups.iter().map(|group| group.condition.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, KINDS);
}

/// Regression: a shared secret that expired soon degraded each of its tenants, so that none of them
/// was healthy.
#[test]
fn an_expiring_credential_does_not_affect_its_tenants() {
    let facts = facts();
    let conditions = conditions(&facts);
    let expiring: Vec<&Condition> =
        conditions.iter().filter(|c| c.kind == Kind::CredentialExpiring).collect();
    let [expiring] = expiring[..] else { panic!("{expiring:?}") };
    assert_eq!(
        expiring.explanation().message,
        "credential `app`: valid until `2026-12-20T00:00:00Z`, used by 1,000 tenants"
    );
    assert_eq!(
        (expiring.severity, &expiring.hint),
        (ConditionSeverity::Warning, &Some("act".into()))
    );

    let headline = headline(Counts::of(&facts, &conditions), &conditions);
    assert!(
        headline.starts_with("994 of 1,000 tenants are current; 1 of 5 sinks is healthy; "),
        "{headline}"
    );
    assert!(headline.ends_with("; credential `app` expires soon"), "{headline}");
}
