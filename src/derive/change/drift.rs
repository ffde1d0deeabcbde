//! Compares a control with its target in the baseline. The comparison uses the score or the
//! percentage of the day, never the state at the time when the baseline was set. Without a
//! baseline, or without a target for the control, there is no drift.

use super::{ControlFactsRef, ControlPair, DayPair, delta, differ};
use crate::model::{Change, ChangeKind, DriftFrom, Number, Target};

/// Appends a `baseline_drift` if the control fell below its target, if its score changed while it
/// was below, or if it reached the target again.
pub(super) fn changes<'a>(
    days: &DayPair<'a, '_>,
    pair: &ControlPair<'a>,
    out: &mut Vec<Change<'a>>,
) {
    if days.day.comparison.has_later_days {
        return;
    }
    let Some(baseline) = days.day.comparison.baseline else { return };
    let Some(target) = baseline.target(pair.after.name) else { return };

    // The first entry under a new baseline reports every control that is below its target, so its
    // base counts as meeting the targets.
    let is_below = |facts: &ControlFactsRef<'_>| target.is_missed(facts.score, facts.percentage);
    let Some(is_below_after) = is_below(&pair.after) else { return };
    let is_below_before = days.base.seq >= baseline.since && is_below(&pair.before) == Some(true);

    let score_differs = differ(pair.before.score, pair.after.score);
    if is_below_after == is_below_before && !(is_below_after && score_differs) {
        return;
    }
    out.push(Change {
        before: pair.before.side_with_score(pair.max_before),
        after: pair.after.side_with_score(pair.max_after),
        cause: super::cause::of_pair(pair),
        delta: distance(target, pair),
        baseline: Some(DriftFrom { name: &baseline.name, day: baseline.day, target }),
        ..days.change(ChangeKind::BaselineDrift, pair.after.name)
    });
}

/// The distance from the target in points, negative if the target is missed; `None` if the target
/// is a percentage and the maximum score is unknown.
fn distance(target: Target, pair: &ControlPair<'_>) -> Option<Number> {
    let target = match target {
        Target::Points(points) => points,
        Target::Percent(percent) => Number::new(pair.max_after?.get() * percent.get() / 100.0)?,
    };
    delta(Some(target), pair.after.score)
}
