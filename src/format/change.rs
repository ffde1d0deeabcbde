//! What formats of JSON share about changes and observations: members, and a sentence for people.

use super::{
    members::{boolean, close, end, float, integer, open, plain_number, text},
    text::cut,
};
use crate::model::{
    Acceptance, Cause, Change, ChangeKind, ChangeRecord, Number, Phase, QualityRecord, Side,
    StateUpdate, What,
};

/// Characters of a title in a sentence.
const TITLE: usize = 256;
/// And of somebody's comment.
const COMMENT: usize = 256;

/// The members of `change`.
pub(super) fn write_change(record: &ChangeRecord<'_>, out: &mut Vec<u8>) {
    let change = &record.change;
    text("what", Some(change.what.as_str()), out);
    text("cause", Some(change.cause.as_str()), out);
    text("base", change.base_day.map(|day| day.to_string()).as_deref(), out);
    for (key, side) in [("before", &change.before), ("after", &change.after)] {
        if *side != Side::default() {
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
        let by = record.acceptance.by();
        let is_expected = matches!(record.acceptance, Acceptance::Expected(_));
        boolean("expected", Some(is_expected), out);
        text("owner", by.map(|by| by.owner), out);
        let expires = by.and_then(|by| by.expires);
        text("expires", expires.map(|day| day.to_string()).as_deref(), out);
    }
}

fn write_side(side: &Side<'_>, out: &mut Vec<u8>) {
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

/// What is said of the control that has changed.
pub(super) fn write_control(record: &ChangeRecord<'_>, out: &mut Vec<u8>) {
    text("id", Some(record.change.control), out);
    let profile = record.profile;
    text("title", profile.and_then(|p| p.title.as_deref()).map(str::trim), out);
    text("category", record.category, out);
    text("service", profile.and_then(|p| p.service.as_deref()), out);
    text("tier", profile.and_then(|p| p.tier.as_deref()), out);
    text("action_url", profile.and_then(|p| p.action_url.as_deref()), out);
}

/// The members of `quality`.
pub(super) fn write_quality(record: &QualityRecord<'_>, out: &mut Vec<u8>) {
    text("what", Some(record.what.as_str()), out);
    text("phase", Some(record.phase.as_str()), out);
    text("subject", Some(record.subject), out);
    text("first_day", Some(&record.first_day.to_string()), out);
    integer("severity", record.severity.cef().into(), out);
    text("details", Some(record.details), out);
    text("hint", record.hint, out);
}

/// As one JSON object.
pub(super) fn object(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![b'{'];
    write(&mut out);
    close(b'}', &mut out);
    out
}

/// A change in one sentence, for people.
pub fn change_sentence(record: &ChangeRecord<'_>) -> String {
    let change = &record.change;
    let title = cut(record.title(), TITLE);
    let said = happened(record);
    let why = match (change.what, change.cause) {
        (ChangeKind::Regressed | ChangeKind::Improved | ChangeKind::BaselineDrift, cause) => {
            match cause {
                Cause::Tenant => "; Microsoft did not change the control",
                Cause::Microsoft => "; Microsoft changed the control",
                Cause::Unknown => "; why is not known",
            }
        }
        (ChangeKind::Added | ChangeKind::Removed, Cause::Microsoft) => "; by Microsoft",
        _ => "",
    };
    let flapping = if change.flapping { "; it keeps changing" } else { "" };
    format!("{title}: {said}{why}{flapping}")
}

fn happened(record: &ChangeRecord<'_>) -> String {
    let change = &record.change;
    let Change { before, after, .. } = change;
    let of = |max: Option<Number>| max.map(|max| format!(" of {max}")).unwrap_or_default();
    let points = |n: Option<Number>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let moved = || {
        let (then, now) = (points(before.score), points(after.score));
        format!("from {then} to {now}{} points", of(after.max_score))
    };
    match change.what {
        ChangeKind::Regressed => format!("fell {}", moved()),
        ChangeKind::Improved => format!("rose {}", moved()),
        ChangeKind::Added => {
            format!("new, with {}{} points", points(after.score), of(after.max_score))
        }
        ChangeKind::Removed => format!("gone, with {} points", points(before.score)),
        ChangeKind::MaxScoreChanged => format!(
            "weighs {} points instead of {}",
            points(after.max_score),
            points(before.max_score)
        ),
        ChangeKind::Deprecated if after.deprecated == Some(false) => "no longer retired".to_owned(),
        ChangeKind::Deprecated => "retired by Microsoft".to_owned(),
        ChangeKind::ImplementationChanged => implementation(before, after),
        ChangeKind::DecisionChanged => decision(record),
        ChangeKind::AcceptanceExpired => {
            let by = record.acceptance.by();
            let until = by.and_then(|by| by.expires).map(|day| day.to_string()).unwrap_or_default();
            let owner = by.map_or("", |by| by.owner);
            format!("still accepted, which {owner} expected until {until} only")
        }
        ChangeKind::BaselineDrift => {
            let target = change.baseline.map(|from| from.target.to_string()).unwrap_or_default();
            let name = change.baseline.map_or("", |from| from.name);
            let place = if change.is_below_baseline() { "below" } else { "back at" };
            format!("{place} the target of {target} in baseline {name}, {}", moved())
        }
    }
}

fn implementation(before: &Side<'_>, after: &Side<'_>) -> String {
    match (before.on, after.on) {
        (Some(then), Some(now)) if then != now => {
            return if now { "switched on" } else { "switched off" }.to_owned();
        }
        _ => {}
    }
    let extent = |side: &Side<'_>| match (side.count, side.total, side.percentage) {
        (Some(count), Some(total), _) => format!("{count} of {total}"),
        (_, _, Some(share)) => format!("{share} %"),
        (Some(count), ..) => count.to_string(),
        _ => "unknown".to_owned(),
    };
    format!("met by {} instead of {}", extent(after), extent(before))
}

fn decision(record: &ChangeRecord<'_>) -> String {
    let Some(taken) = record.change.after.decision else { return String::new() };
    let state = match taken.state.as_deref() {
        Some("Ignored") => "risk accepted",
        Some("ThirdParty") => "said to be met by a third party",
        Some("Reviewed") => "reviewed",
        Some("Default") => "decision taken back",
        Some(other) => other,
        None => "decided",
    };
    let filled = |text: &Option<String>| {
        text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let by = filled(&taken.updated_by).map(|by| format!(" by {by}")).unwrap_or_default();
    let comment = filled(&taken.comment).map(|c| format!(" ({})", cut(&c, COMMENT)));
    let expected = match record.acceptance {
        Acceptance::Expected(by) => format!("; {} expected it", by.owner),
        Acceptance::Expired(by) => format!("; {} no longer expected it", by.owner),
        Acceptance::Unexpected => "; nobody expected it".to_owned(),
        Acceptance::None => String::new(),
    };
    format!("{state}{by}{}{expected}", comment.unwrap_or_default())
}

/// An observation in one sentence, for people.
pub fn quality_sentence(record: &QualityRecord<'_>) -> String {
    let QualityRecord { what, phase, subject, first_day, details, .. } = record;
    let thing = match what {
        What::Gap => format!("day {subject} is missing"),
        What::Stale => format!("no score newer than {first_day}"),
        What::Partial => format!("day {subject} is only known in part"),
        What::Implausible => format!("a score that cannot be true ({subject})"),
        What::ForeignTenant => format!("a score of another tenant ({subject})"),
        What::PollFailed => "the tenant cannot be read".to_owned(),
        What::CredentialExpiring => "the credential expires soon".to_owned(),
        What::CatalogStale => "the catalog cannot be read".to_owned(),
        What::DeadLetter => format!("sink {subject} has records that its receiver refuses"),
    };
    match phase {
        Phase::Begin if details.is_empty() => thing,
        Phase::Begin => format!("{thing}: {details}"),
        Phase::End => format!("over: {thing}"),
    }
}
