//! Conditions that were missing or wrong, or that an output did not follow.

use super::*;
use crate::model::ObservationSubject;

/// Regression: the general hint replaced the hint of the fault.
#[test]
fn a_rejected_reload_keeps_its_hint() {
    for (hint, expected) in [
        (Some("remove the key"), "remove the key"),
        (None, "run `check`, correct the faults, and run `reload`"),
    ] {
        let reason =
            Explanation { message: "unknown key `x`".to_owned(), hint: hint.map(str::to_owned) };
        let mut facts = facts();
        facts.rejected_configuration =
            Some(RejectedConfiguration { at: facts.now, reason: reason.clone() });
        // The same fault is not reported twice.
        facts.configuration = ConfigurationFacts::Invalid(reason);

        let conditions = conditions(&facts);
        assert_eq!(conditions.len(), 1, "{conditions:?}");
        assert_eq!(conditions[0].hint.as_deref(), Some(expected));
    }
}

/// Regression: `status` exited with 0 although a condition needed an operator.
#[test]
fn every_error_is_incomplete() {
    for (name, change, severity, kind) in OF_DAEMON_AND_SINKS.iter().chain(OF_TENANTS) {
        let mut facts = facts();
        change(&mut facts);
        let is_error = *severity == ConditionSeverity::Error;
        let is_harmless = matches!(
            kind,
            Kind::DiskLow
                | Kind::ConfigurationChanged
                | Kind::DaemonStopped
                | Kind::DaemonSilent
                | Kind::DayLate
                | Kind::CredentialExpiring
                | Kind::DataQuality
                | Kind::ClockWrong
                | Kind::CursorFileOutdated
        );
        assert_eq!(is_incomplete(&conditions(&facts)), is_error || !is_harmless, "{name}");
    }
    assert!(!is_incomplete(&[]));
}

/// Regression: without a daemon, a sink was shown as `retrying`, although nothing retried it.
#[test]
fn without_a_daemon_a_sink_waits() {
    for (daemon, what) in [
        (DaemonFacts::Stopped, "waiting for the daemon"),
        (DaemonFacts::NotUsed, "waiting for the next `once` or `run`"),
    ] {
        for (failure, severity) in
            [(None, ConditionSeverity::Info), (Some("refused".into()), ConditionSeverity::Warning)]
        {
            let mut facts = facts();
            facts.daemon = daemon;
            facts.sinks[0].backlog = 2;
            facts.sinks[0].failure = failure;

            let conditions = conditions(&facts);
            let waiting = conditions.iter().find(|c| c.kind == Kind::SinkWaiting).unwrap();
            assert_eq!(waiting.severity, severity);
            let start = format!("{what}, 2 log entries unsent");
            assert!(waiting.sentence.starts_with(&start), "{}", waiting.sentence);
            assert_eq!(SinkHealth::of(&[waiting]), SinkHealth::Waiting);
        }
    }
}

/// Regression: a stopped daemon was no condition, so `status` reported `Healthy`.
#[test]
fn only_an_expected_daemon_is_reported_stopped() {
    let mut facts = facts();
    facts.daemon = DaemonFacts::NotUsed;
    assert_eq!(conditions(&facts), [], "`once` polls");

    facts.daemon = DaemonFacts::Stopped;
    assert_eq!(kinds(&facts), [(ConditionSeverity::Warning, Kind::DaemonStopped)]);
}

/// Regression: a chat showed a rejected secret as less severe than one that expires soon.
#[test]
fn conditions_are_as_urgent_as_observations() {
    for class in PollErrorClass::ALL {
        let mut facts = facts();
        facts.tenants[0].error = Some(error(class, "failed"));
        let subject = ObservationSubject::of_failed_poll(class);
        let severity = ObservationKind::PollFailed.severity(Some(&subject));
        assert_eq!(kinds(&facts)[0].0, ConditionSeverity::of(severity), "{class:?}");
    }

    let of = |what: ObservationKind| ConditionSeverity::of(what.severity(None));
    assert_eq!(of(ObservationKind::Stale), ConditionSeverity::Error, "as `tenant_behind`");
    assert_eq!(of(ObservationKind::DeadLetter), ConditionSeverity::Error, "as `dead_letters`");
    assert_eq!(of(ObservationKind::CredentialExpiring), ConditionSeverity::Warning);
}

#[test]
fn a_headline_counts_credentials_that_expire() {
    let mut facts = facts();
    facts.tenants = vec![tenant("a"), tenant("b")];
    for (index, tenant) in facts.tenants.iter_mut().enumerate() {
        tenant.credential = format!("tenant {index}");
        tenant.observations.push(OpenObservation {
            what: ObservationKind::CredentialExpiring,
            first_day: day("2026-11-20"),
            since: at("2026-11-21T06:15:00Z"),
            reason: Explanation::new("the credential expires soon"),
            expires: None,
        });
    }

    let conditions = conditions(&facts);
    assert_eq!(
        conditions[0].explanation().message,
        "credential `tenant 0`: the credential expires soon, used by 1 tenant"
    );
    assert_eq!(
        headline(Counts::of(&facts, &conditions), &conditions),
        "2 tenants are current; 1 sink is healthy; 2 credentials expire soon"
    );
    let none = Counts { tenants: 0, current_tenants: 0, sinks: 0, healthy_sinks: 0 };
    assert_eq!(headline(none, &[]), "no tenants and no sinks");
}

/// Regression: with partial responses for all tenants, the process was not ready.
#[test]
fn incomplete_polls_do_not_prevent_readiness() {
    for (class, is_ready) in [
        (Some(PollErrorClass::Incomplete), true),
        (Some(PollErrorClass::Credential), false),
        (None, false),
    ] {
        let mut facts = facts();
        let reason = Explanation { message: "x".to_owned(), hint: None };
        facts.tenants[0].error = Some(PollErrorFacts { reason, class, since: None });
        let reasons = not_ready_reasons(&facts, &conditions(&facts));
        assert_eq!(reasons.is_empty(), is_ready, "{class:?}: {reasons:?}");
    }
}

/// Regression: withheld records of a tenant were reported as a parked target.
#[test]
fn withheld_tenants_have_their_own_wording() {
    for (parked, what) in [
        (Parked::Targets, "a target is parked"),
        (Parked::Tenants, "records of a tenant are withheld"),
    ] {
        let mut facts = facts();
        facts.sinks[0].failure = Some("tenant `contoso`: too large".into());
        facts.sinks[0].parked = parked;

        let found = conditions(&facts);
        let expected = format!("{what}, 0 log entries unsent: tenant `contoso`: too large");
        assert_eq!(found[0].sentence, expected);
    }
}
