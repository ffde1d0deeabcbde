//! Changes and observations: the JSON members that several formats share, and the sentences that
//! are shown to a person in every SIEM and report. The members are part of the canonical record;
//! the sentences are only displayed.

use std::borrow::Cow;

use super::{
    members::{boolean, close, end, float, integer, open, plain_number, text},
    text::{cut, points_unit},
};
use crate::model::{
    Acceptance, AcceptedData, Cause, Change, ChangeKind, ChangeRecord, ControlState, DecisionState,
    Number, ObservationKind, ObservationSubject, Phase, QualityRecord, StateUpdate,
};

/// The maximum number of characters of a title in a sentence.
const MAX_TITLE: usize = 256;
/// The maximum number of characters of a comment in a sentence.
const MAX_COMMENT: usize = 256;

/// Writes the members of the object `change`.
pub(super) fn write_change(record: &ChangeRecord<'_>, out: &mut Vec<u8>) {
    let change = &record.change;
    text("what", Some(change.what.as_str()), out);
    text("cause", Some(change.cause.as_str()), out);
    text("base", change.base_day.map(|day| day.to_string()).as_deref(), out);

    for (key, side) in [("before", &change.before), ("after", &change.after)] {
        if *side != ControlState::default() {
            open(key, out);
            write_side(side, out);
            end(out);
        }
    }
    float("delta", change.delta, out);
    boolean("historical", Some(change.historical), out);
    boolean("flapping", Some(change.flapping), out);
    integer("severity", record.severity.cef().into(), out);

    if let Some(from) = &change.baseline {
        open("baseline", out);
        text("name", Some(from.name), out);
        text("day", from.day.map(|day| day.to_string()).as_deref(), out);
        text("target", Some(&from.target.to_string()), out);
        boolean("below", Some(change.is_below_baseline()), out);
        end(out);
    }
    if record.acceptance != Acceptance::None {
        let by = record.acceptance.expected_by();
        let is_expected = matches!(record.acceptance, Acceptance::Expected(_));
        boolean("expected", Some(is_expected), out);
        text("owner", by.map(|by| by.owner), out);
        let expires = by.and_then(|by| by.expires);
        text("expires", expires.map(|day| day.to_string()).as_deref(), out);
    }
}

fn write_side(side: &ControlState<'_>, out: &mut Vec<u8>) {
    float("score", side.score, out);
    float("max_score", side.max_score, out);
    float("percentage", side.percentage, out);
    plain_number("count", side.count, out);
    plain_number("total", side.total, out);
    boolean("on", side.on, out);
    boolean("deprecated", side.deprecated, out);

    if let Some(StateUpdate { state, assigned_to, comment, updated_by, updated }) = side.decision {
        text("state", state.as_deref(), out);
        text("state_assigned_to", assigned_to.as_deref(), out);
        text("state_updated_by", updated_by.as_deref(), out);
        text("state_updated", updated.as_deref(), out);
        text("state_comment", comment.as_deref(), out);
    }
}

/// Writes the members of the object `control` of a change: the control that has changed.
pub(super) fn write_control(record: &ChangeRecord<'_>, out: &mut Vec<u8>) {
    text("id", Some(record.change.control), out);
    let profile = record.profile;
    text("title", profile.and_then(|p| p.title.as_deref()).map(str::trim), out);
    text("category", record.category, out);
    text("service", profile.and_then(|p| p.service.as_deref()), out);
    text("tier", profile.and_then(|p| p.tier.as_deref()), out);
    text("action_url", profile.and_then(|p| p.action_url.as_deref()), out);
}

/// Writes the members of the object `quality`.
pub(super) fn write_quality(record: &QualityRecord<'_>, out: &mut Vec<u8>) {
    text("what", Some(record.what.as_str()), out);
    text("phase", Some(record.phase.as_str()), out);
    text("subject", Some(&record.subject.text()), out);
    text("first_day", Some(&record.first_day.to_string()), out);
    integer("severity", record.severity.cef().into(), out);
    text("details", Some(record.details), out);
    text("hint", record.hint, out);
}

/// A JSON object with the members that `write` writes.
pub(super) fn object(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![b'{'];
    write(&mut out);
    close(b'}', &mut out);
    out
}

/// Describes a change in one sentence for a person, such as `Require MFA: score fell from 10 to 0
/// of 10 points; caused by the tenant`.
pub fn change_sentence(record: &ChangeRecord<'_>) -> String {
    let change = &record.change;
    let title = cut(record.title(), MAX_TITLE);
    let event = event(record);

    // The other kinds have only one possible cause, or name it in the event.
    let cause = match change.what {
        ChangeKind::Regressed | ChangeKind::Improved | ChangeKind::BaselineDrift => {
            match change.cause {
                Cause::Tenant => "; caused by the tenant",
                Cause::Microsoft => "; caused by Microsoft changing the control",
                Cause::Unknown => "; cause unknown",
            }
        }
        _ => "",
    };
    let flapping = if change.flapping { "; flapping" } else { "" };

    format!("{title}: {event}{cause}{flapping}")
}

/// What happened to the control, without its title and the cause.
fn event(record: &ChangeRecord<'_>) -> String {
    let change = &record.change;
    let Change { before, after, .. } = change;

    let points = |n: Option<Number>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let of_max = |max: Option<Number>| max.map(|max| format!(" of {max}")).unwrap_or_default();
    let after_score = || {
        let unit = points_unit(after.max_score.or(after.score));
        format!("{}{} {unit}", points(after.score), of_max(after.max_score))
    };
    let by_microsoft = if change.cause == Cause::Microsoft { " by Microsoft" } else { "" };

    match change.what {
        ChangeKind::Regressed => {
            format!("score fell from {} to {}", points(before.score), after_score())
        }
        ChangeKind::Improved => {
            format!("score rose from {} to {}", points(before.score), after_score())
        }
        ChangeKind::Added => format!("control added{by_microsoft} with {}", after_score()),
        ChangeKind::Removed => {
            let unit = points_unit(before.score);
            format!("control removed{by_microsoft} with {} {unit}", points(before.score))
        }

        ChangeKind::MaxScoreChanged => format!(
            "maximum score changed from {} to {} {}",
            points(before.max_score),
            points(after.max_score),
            points_unit(after.max_score)
        ),
        ChangeKind::Deprecated if after.deprecated == Some(false) => {
            "control no longer deprecated by Microsoft".to_owned()
        }
        ChangeKind::Deprecated => "control deprecated by Microsoft".to_owned(),

        ChangeKind::ImplementationChanged => implementation(before, after),
        ChangeKind::DecisionChanged => decision(record),

        ChangeKind::AcceptanceExpired => {
            let by = record.acceptance.expected_by();
            let expires =
                by.and_then(|by| by.expires).map(|day| day.to_string()).unwrap_or_default();
            let owner = by.map_or("", |by| by.owner);
            format!("acceptance expired: {owner} expected it until {expires}")
        }

        ChangeKind::BaselineDrift => {
            let target = change.baseline.map(|from| from.target.to_string()).unwrap_or_default();
            let name = change.baseline.map_or("", |from| from.name);
            let result = if change.is_below_baseline() { "below" } else { "back at" };
            let (before, after) = (points(before.score), after_score());
            format!(
                "{result} the target of {target} in baseline {name}: {after}, previously {before}"
            )
        }
    }
}

fn implementation(before: &ControlState<'_>, after: &ControlState<'_>) -> String {
    match (before.on, after.on) {
        (Some(before), Some(after)) if before != after => {
            return if after { "switched on" } else { "switched off" }.to_owned();
        }
        _ => {}
    }

    let extent = |side: &ControlState<'_>| match (side.count, side.total, side.percentage) {
        (Some(count), Some(total), _) => format!("{count} of {total}"),
        (_, _, Some(percentage)) => format!("{percentage}%"),
        (Some(count), ..) => count.to_string(),
        _ => "unknown".to_owned(),
    };
    format!("implementation changed from {} to {}", extent(before), extent(after))
}

fn decision(record: &ChangeRecord<'_>) -> String {
    let Some(decision) = record.change.after.decision else { return String::new() };
    let state: Cow<'_, str> = match (decision.known_state(), decision.state.as_deref()) {
        (Some(DecisionState::Ignored), _) => "risk accepted".into(),
        (Some(DecisionState::ThirdParty), _) => "marked as resolved through a third party".into(),
        (Some(DecisionState::Reviewed), _) => "marked as reviewed".into(),
        (Some(DecisionState::Default), _) => "decision withdrawn".into(),
        (None, Some(other)) => format!("state set to {other}").into(),
        (None, None) => "decision changed".into(),
    };

    let filled = |text: &Option<String>| {
        text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let by = filled(&decision.updated_by).map(|by| format!(" by {by}")).unwrap_or_default();
    let comment = filled(&decision.comment).map(|text| format!(" ({})", cut(&text, MAX_COMMENT)));
    let expected = match record.acceptance {
        Acceptance::Expected(by) => format!("; expected by {}", by.owner),
        Acceptance::Expired(by) => format!("; no longer expected by {}", by.owner),
        Acceptance::Unexpected => "; not an expected decision".to_owned(),
        Acceptance::None => String::new(),
    };

    format!("{state}{by}{}{expected}", comment.unwrap_or_default())
}

/// Describes an observation in one sentence for a person. The hint is not a part of it.
pub fn quality_sentence(record: &QualityRecord<'_>) -> String {
    let QualityRecord { what, phase, subject, first_day, details, .. } = record;
    let problem = match what {
        ObservationKind::Gap => format!("day {subject} is missing"),
        ObservationKind::Stale => format!("no score is newer than {first_day}"),
        ObservationKind::Partial => format!("day {subject} is incomplete"),
        ObservationKind::Implausible => match subject {
            ObservationSubject::Accepted(AcceptedData::Scores) => {
                format!("the scores of {first_day} contain faults")
            }
            ObservationSubject::Accepted(AcceptedData::Catalog) => {
                "the catalog contains faults".to_owned()
            }
            _ => format!("implausible score rejected ({subject})"),
        },
        ObservationKind::ForeignTenant => format!("score of another tenant rejected ({subject})"),
        ObservationKind::PollFailed => "the poll of the tenant failed".to_owned(),
        ObservationKind::CredentialExpiring => "the credential expires soon".to_owned(),
        ObservationKind::CatalogStale => "the catalog could not be read completely".to_owned(),
        ObservationKind::DeadLetter => format!("the receiver of sink {subject} rejected records"),
    };

    match phase {
        Phase::Begin if details.is_empty() => problem,
        Phase::Begin => format!("{problem}: {details}"),
        Phase::End => format!("resolved: {problem}"),
    }
}
