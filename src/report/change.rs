//! A change as a report lists it. Everything except the severity of history is taken from the
//! change record, so that a report and the sinks agree.

use crate::{
    derive::Rules,
    format::change_sentence,
    model::{Cause, Change, ChangeKind, ChangeRecord, Day, Number, Severity},
};

/// A change as the report lists it.
#[derive(Clone, Debug)]
pub struct ReportedChange {
    /// The day of the entry that contains the change, not that of its base. For a decision that was
    /// made before the first poll, the day of the decision.
    pub day: Day,
    pub what: ChangeKind,
    pub cause: Cause,
    /// The severity by the rules of the tenant, also for a historical change.
    pub severity: Severity,
    /// The ID of the control, such as `AdminMFAV2`.
    pub control: String,
    /// The title of the profile, or the ID of the control if it has none.
    pub title: String,
    /// The effect on the score of the tenant, in points: negative for a loss. `None` if the change
    /// has no effect or it is unknown.
    pub points: Option<Number>,
    /// The difference that the change record contains, as in
    /// [`Change::delta`](crate::model::Change::delta).
    pub delta: Option<Number>,
    /// Whether the change was not observed when it happened.
    pub historical: bool,
    /// Whether the score has reversed its direction at least twice within 14 days.
    pub flapping: bool,
    /// Whether the control misses its target after the change; `false` for every kind except
    /// `baseline_drift`.
    pub below_baseline: bool,
    /// The message of the change record, which begins with the title of the control.
    pub sentence: String,
}

impl ReportedChange {
    /// The change of a record. `entry` is the day of its entry.
    pub(super) fn of(record: &ChangeRecord<'_>, entry: Day, rules: &Rules) -> Self {
        let change = &record.change;
        Self {
            day: listed_day(change).unwrap_or(entry),
            what: change.what,
            cause: change.cause,
            severity: rules.severity_by_rules(change, record.category, record.acceptance),
            control: change.control.to_owned(),
            title: record.title().to_owned(),
            points: points(change),
            delta: change.delta,
            historical: change.historical,
            flapping: change.flapping,
            below_baseline: change.is_below_baseline(),
            sentence: change_sentence(record),
        }
    }
}

/// The day of a decision from before the first poll, which is derived from the first entry and is
/// usually older. `None` for any other change.
fn listed_day(change: &Change<'_>) -> Option<Day> {
    if !change.historical || change.what != ChangeKind::DecisionChanged {
        return None;
    }
    Day::of_instant_text(change.after.decision?.updated.as_deref()?)
}

/// The effect of a change on the score of the tenant.
fn points(change: &Change<'_>) -> Option<Number> {
    let points = match change.what {
        ChangeKind::Regressed | ChangeKind::Improved => change.delta,
        ChangeKind::Added => change.after.score,
        ChangeKind::Removed => change.before.score.and_then(|score| Number::new(-score.get())),
        // These compare the score with a target, or describe something else than the score.
        ChangeKind::BaselineDrift
        | ChangeKind::MaxScoreChanged
        | ChangeKind::DecisionChanged
        | ChangeKind::Deprecated
        | ChangeKind::ImplementationChanged
        | ChangeKind::AcceptanceExpired => None,
    };
    points.filter(|points| *points != Number::ZERO)
}
