//! Tests of what several formats share. They cover the human-readable sentences, and the hint of an
//! observation in every format.

use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::model::{
    Acceptance, Body, Cause, Change, ChangeKind, ChangeRecord, ControlState, Day, DriftFrom,
    EventIds, ExpectedBy, Kind, Number, ObservationKind, ObservationSubject, Phase, QualityRecord,
    Seq, Severity, SnapshotRef, StateUpdate, Subject, Target, Tenant, TenantId,
};

const HINT: &str = "run `secure-score-forwarder check --online`, then = or | \\";

static NO_SUBJECT: ObservationSubject = ObservationSubject::Other(String::new());

fn quality(phase: Phase, hint: Option<&str>) -> QualityRecord<'_> {
    QualityRecord {
        what: ObservationKind::PollFailed,
        phase,
        subject: &NO_SUBJECT,
        first_day: Day::parse("2026-11-22").unwrap(),
        details: "Microsoft Graph returned 403: Forbidden",
        hint,
        severity: Severity::Medium,
    }
}

/// The `quality` record with or without a hint, in one format.
fn formatted(format: FormatName, hint: Option<&str>) -> String {
    let tenant = Tenant { id: TenantId::TEST, name: "contoso".into(), labels: [].into() };
    let day = Day::parse("2026-11-22").unwrap();
    let observed_at = day.start().saturating_add(Duration::from_mins(375));
    let subject = Subject { kind: Kind::Quality, what: "poll_failed", control: "" };
    let record = Record {
        event_id: EventIds::new(tenant.id, day).make(&subject, &[0; 32], None),
        observed_time: "2026-11-22T06:15:00Z",
        observed_at,
        time: observed_at,
        tenant: &tenant,
        snapshot: &SnapshotRef::of_observation(day, Seq::new(7)),
        replayed: false,
        body: Body::Quality(quality(Phase::Begin, hint)),
    };

    let options = Options { texts: Texts::None, host: "collector".into(), fields: vec![] };
    let mut out = Vec::new();
    Formatter::new(format, options).write(&record, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn json_formats_include_the_hint() {
    for (format, pointers) in [
        (FormatName::Json, &["/quality/hint"][..]),
        (FormatName::Ecs, &["/microsoft/secure_score/quality/hint"]),
        (FormatName::Ocsf, &["/remediation/desc", "/unmapped/quality/hint"]),
        (FormatName::CloudEvents, &["/data/quality/hint"]),
    ] {
        let with: Value = serde_json::from_str(&formatted(format, Some(HINT))).unwrap();
        let without: Value = serde_json::from_str(&formatted(format, None)).unwrap();
        for pointer in pointers {
            assert_eq!(with.pointer(pointer).unwrap(), HINT, "{format:?} {pointer}");
            assert_eq!(without.pointer(pointer), None, "{format:?} {pointer}");
        }
    }
}

#[test]
fn cef_has_the_hint_in_its_json() {
    let line = formatted(FormatName::Cef, Some(HINT));
    let (_, rest) = line.split_once(" cs6Label=rest cs6=").unwrap();
    let unescaped = rest.replace("\\=", "=").replace("\\\\", "\\");
    let rest: Value = serde_json::from_str(&unescaped).unwrap();
    assert_eq!(rest["quality"]["hint"], HINT);

    assert!(!formatted(FormatName::Cef, None).contains("hint"));
}

#[test]
fn leef_has_the_hint_as_an_attribute() {
    for format in [FormatName::Leef, FormatName::Leef2] {
        let line = formatted(format, Some(HINT));
        assert!(line.contains(&format!("\thint={HINT}\t")), "{line}");
        assert!(!formatted(format, None).contains("hint="));
    }
}

#[test]
fn csv_has_the_hint_in_its_last_column() {
    let row = formatted(FormatName::Csv, Some("set `proxy`"));
    assert_eq!(COLUMNS.last(), Some(&"hint"));
    assert!(row.ends_with(",set `proxy`"), "{row}");

    let row = formatted(FormatName::Csv, None);
    assert_eq!(row.matches(',').count(), COLUMNS.len() - 1, "{row}");
    assert!(row.ends_with(','), "{row}");
}

#[test]
fn message_never_contains_the_hint() {
    let begin = quality(Phase::Begin, Some(HINT));
    assert_eq!(
        quality_sentence(&begin),
        "the poll of the tenant failed: Microsoft Graph returned 403: Forbidden"
    );
    let end = quality(Phase::End, None);
    assert_eq!(quality_sentence(&end), "resolved: the poll of the tenant failed");
}

fn change(what: ChangeKind, cause: Cause) -> Change<'static> {
    let side = |score| ControlState {
        score: Number::new(score),
        max_score: Number::new(10.0),
        ..ControlState::default()
    };
    Change {
        what,
        control: "AdminMFAV2",
        cause,
        base_day: Day::parse("2026-11-21"),
        before: side(8.0),
        after: side(0.5),
        delta: Number::new(-7.5),
        historical: false,
        flapping: false,
        baseline: None,
    }
}

fn sentence_of(change: Change<'_>, acceptance: Acceptance<'_>) -> String {
    let record = ChangeRecord {
        change,
        severity: Severity::High,
        category: None,
        profile: None,
        acceptance,
    };
    let sentence = change_sentence(&record);
    sentence.strip_prefix("AdminMFAV2: ").unwrap().to_owned()
}

#[test]
fn sentences_describe_changes_of_a_score() {
    let drift = |score| {
        let target = Target::Percent(Number::new(100.0).unwrap());
        let side = ControlState {
            score: Number::new(score),
            percentage: Number::new(score * 10.0),
            max_score: Number::new(10.0),
            ..ControlState::default()
        };
        Change {
            after: side,
            baseline: Some(DriftFrom { name: "q4", day: None, target }),
            ..change(ChangeKind::BaselineDrift, Cause::Unknown)
        }
    };

    let of_one_point = Change {
        after: ControlState {
            score: Number::new(0.5),
            max_score: Number::new(1.0),
            ..ControlState::default()
        },
        ..change(ChangeKind::Regressed, Cause::Unknown)
    };

    for (change, expected) in [
        (
            change(ChangeKind::Regressed, Cause::Tenant),
            "score fell from 8 to 0.5 of 10 points; caused by the tenant",
        ),
        (
            Change { flapping: true, ..change(ChangeKind::Improved, Cause::Microsoft) },
            "score rose from 8 to 0.5 of 10 points; caused by Microsoft changing the control; flapping",
        ),
        (
            change(ChangeKind::Added, Cause::Microsoft),
            "control added by Microsoft with 0.5 of 10 points",
        ),
        (change(ChangeKind::Removed, Cause::Unknown), "control removed with 8 points"),
        (of_one_point, "score fell from 8 to 0.5 of 1 point; cause unknown"),
        (
            drift(4.0),
            "below the target of 100% in baseline q4: 4 of 10 points, previously 8; cause unknown",
        ),
        (
            drift(10.0),
            "back at the target of 100% in baseline q4: 10 of 10 points, previously 8; cause unknown",
        ),
    ] {
        assert_eq!(sentence_of(change, Acceptance::None), expected);
    }
}

#[test]
fn sentences_describe_decisions() {
    let decision = |state: &str| StateUpdate {
        state: Some(state.into()),
        updated_by: Some("ben".into()),
        comment: Some(" until the ERP is gone ".into()),
        ..StateUpdate::default()
    };
    let anna = ExpectedBy { owner: "anna", expires: Day::parse("2026-11-21") };

    for (what, state, acceptance, expected) in [
        (
            ChangeKind::DecisionChanged,
            "Ignored",
            Acceptance::Unexpected,
            "risk accepted by ben (until the ERP is gone); not an expected decision",
        ),
        (
            ChangeKind::DecisionChanged,
            "ThirdParty",
            Acceptance::Expected(anna),
            "marked as resolved through a third party by ben (until the ERP is gone); expected by anna",
        ),
        (
            ChangeKind::DecisionChanged,
            "Planned",
            Acceptance::None,
            "state set to Planned by ben (until the ERP is gone)",
        ),
        (
            ChangeKind::AcceptanceExpired,
            "Ignored",
            Acceptance::Expired(anna),
            "acceptance expired: anna expected it until 2026-11-21",
        ),
    ] {
        let decision = decision(state);
        let after = ControlState { decision: Some(&decision), ..ControlState::default() };
        let change = Change { after, ..change(what, Cause::Tenant) };

        assert_eq!(sentence_of(change, acceptance), expected);
    }
}

#[test]
fn sentences_describe_changes_of_the_implementation() {
    let side = |count: f64, on| ControlState {
        count: Number::new(count),
        total: Number::new(20.0),
        on,
        ..ControlState::default()
    };
    for (before, after, expected) in [
        (side(4.0, None), side(5.0, None), "implementation changed from 4 of 20 to 5 of 20"),
        (side(4.0, Some(true)), side(4.0, Some(false)), "switched off"),
    ] {
        let change =
            Change { before, after, ..change(ChangeKind::ImplementationChanged, Cause::Tenant) };
        assert_eq!(sentence_of(change, Acceptance::None), expected);
    }
}
