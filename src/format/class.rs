//! The class, the action and the message of a record, which are the same in every format that has a
//! field for them. Detection rules in SIEMs match the class and the action, so their values must
//! never change.

use super::{
    change::{change_sentence, quality_sentence},
    text::{cut, points_unit},
};
use crate::model::{Body, ChangeKind, Number, Record};

/// The maximum number of characters of a title. It keeps `msg` of CEF within its limit.
pub(super) const TITLE: usize = 512;

/// The class of a record, by which the rules of a SIEM select records, and its readable name.
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
            ("ControlMaxScoreChanged", "Secure Score control maximum score changed")
        }
        ChangeKind::DecisionChanged => {
            ("ControlStateChanged", "Secure Score control decision changed")
        }
        ChangeKind::Deprecated => ("ControlDeprecated", "Secure Score control deprecated"),
        ChangeKind::ImplementationChanged => {
            ("ControlImplementationChanged", "Secure Score control implementation changed")
        }
        ChangeKind::BaselineDrift => ("ControlBaselineDrift", "Secure Score baseline drift"),
        ChangeKind::AcceptanceExpired => {
            ("ControlAcceptanceExpired", "Secure Score risk acceptance expired")
        }
    }
}

/// The kind of change or observation; `snapshot` for a control and a summary.
pub(super) fn action(record: &Record<'_>) -> &'static str {
    match &record.body {
        Body::Change(change) => change.change.what.as_str(),
        Body::Quality(quality) => quality.what.as_str(),
        Body::Control(_) | Body::Summary(_) => "snapshot",
    }
}

/// The message of a record: one sentence for a person.
pub fn sentence(record: &Record<'_>) -> String {
    let points =
        |number: Option<Number>| number.map_or_else(|| "unknown".to_owned(), |n| n.to_string());

    match &record.body {
        Body::Control(control) => match (control.score, control.max_score) {
            (Some(score), Some((max, _))) => {
                let unit = points_unit(Some(max));
                format!("{}: {score} of {max} {unit}", cut(control.title(), TITLE))
            }
            (Some(score), None) => {
                let unit = points_unit(Some(score));
                format!("{}: {score} {unit}", cut(control.title(), TITLE))
            }
            (None, _) => cut(control.title(), TITLE).into_owned(),
        },
        Body::Summary(summary) => {
            let (current, max) = (points(summary.current), points(summary.max));
            format!("Secure Score {current} of {max} {}", points_unit(summary.max))
        }
        Body::Change(change) => change_sentence(change),
        Body::Quality(quality) => quality_sentence(quality),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the page for QRadar listed event IDs that no record has.
    #[test]
    fn qradar_page_lists_every_event_id() {
        let page = include_str!("../../deploy/siem/qradar/README.md");
        let table = page.split("| event ID |").nth(1).unwrap().split("\n\n").next().unwrap();
        let first_cells = table.lines().skip(1).filter_map(|line| line.split('|').nth(1));
        let mut listed: Vec<&str> =
            first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        listed.sort_unstable();

        let mut known: Vec<&str> = ChangeKind::ALL.map(|what| class_of_change(what).0).to_vec();
        known.extend(["ControlSnapshot", "TenantScore"]);
        known.sort_unstable();
        assert_eq!(listed, known);
    }
}
