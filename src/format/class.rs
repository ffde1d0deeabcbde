//! What a record is called: the class that rules of a SIEM key on, what has happened in a word, and in
//! a sentence for people. The same in every format that has a place for it.

use super::{
    change::{change_sentence, quality_sentence},
    text::cut,
};
use crate::model::{Body, ChangeKind, Number, Record};

/// Characters of a title: enough for any, and it keeps CEF's `msg` within its limit.
pub(super) const TITLE: usize = 512;

/// The class of a record, which rules key on, and its name.
pub(super) fn class(record: &Record<'_>) -> (&'static str, &'static str) {
    match record.body {
        Body::Control(_) => ("ControlSnapshot", "Secure Score control snapshot"),
        Body::Summary(_) => ("TenantScore", "Secure Score of a tenant"),
        Body::Change(ref change) => class_of_change(change.change.what),
        Body::Quality(_) => ("DataQuality", "Secure Score data quality"),
    }
}

fn class_of_change(what: ChangeKind) -> (&'static str, &'static str) {
    match what {
        ChangeKind::Regressed => ("ControlRegressed", "Secure Score control regressed"),
        ChangeKind::Improved => ("ControlImproved", "Secure Score control improved"),
        ChangeKind::Added => ("ControlAdded", "Secure Score control added"),
        ChangeKind::Removed => ("ControlRemoved", "Secure Score control removed"),
        ChangeKind::MaxScoreChanged => {
            ("ControlMaxScoreChanged", "Secure Score control weighs differently")
        }
        ChangeKind::DecisionChanged => {
            ("ControlStateChanged", "Secure Score decision on a control")
        }
        ChangeKind::Deprecated => ("ControlDeprecated", "Secure Score control retired"),
        ChangeKind::ImplementationChanged => {
            ("ControlImplementationChanged", "Secure Score control implemented differently")
        }
        ChangeKind::BaselineDrift => ("ControlBaselineDrift", "Secure Score baseline drift"),
        ChangeKind::AcceptanceExpired => {
            ("ControlAcceptanceExpired", "Secure Score acceptance expired")
        }
    }
}

/// What has happened, in a word.
pub(super) fn action(record: &Record<'_>) -> &'static str {
    match &record.body {
        Body::Change(change) => change.change.what.as_str(),
        Body::Quality(quality) => quality.what.as_str(),
        Body::Control(_) | Body::Summary(_) => "snapshot",
    }
}

/// A record in one sentence, for people.
pub(super) fn sentence(record: &Record<'_>) -> String {
    let points =
        |number: Option<Number>| number.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    match &record.body {
        Body::Control(control) => match (control.score, control.max_score) {
            (Some(score), Some((max, _))) => {
                format!("{}: {score} of {max} points", cut(control.title(), TITLE))
            }
            (Some(score), None) => format!("{}: {score} points", cut(control.title(), TITLE)),
            (None, _) => cut(control.title(), TITLE).into_owned(),
        },
        Body::Summary(summary) => {
            format!("Secure Score {} of {} points", points(summary.current), points(summary.max))
        }
        Body::Change(change) => change_sentence(change),
        Body::Quality(quality) => quality_sentence(quality),
    }
}
