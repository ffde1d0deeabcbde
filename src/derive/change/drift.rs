//! Drift from the baseline: a control came below its target, moved there, or came back to it.

use super::{Both, Compared, delta};
use crate::model::{Change, ChangeKind, DriftFrom, Number, Target};

pub(super) fn changes<'a>(compared: &Compared<'a, '_>, both: &Both<'a>, out: &mut Vec<Change<'a>>) {
    if compared.measured.comparison.behind {
        return;
    }
    let Some(baseline) = compared.measured.comparison.baseline else { return };
    let Some(target) = baseline.target(both.now.name) else { return };
    let is_below = |point: &super::Point<'_>| target.is_missed(point.score, point.percentage);
    let Some(now) = is_below(&both.now) else { return };
    // The first entry under a baseline says all that is below it.
    let then = compared.base.seq >= baseline.since && is_below(&both.then) == Some(true);
    let moved = super::differ(both.then.score, both.now.score);
    if now == then && !(now && moved) {
        return;
    }
    out.push(Change {
        before: both.then.whole(both.max_then),
        after: both.now.whole(both.max_now),
        cause: super::cause::of_facts(both),
        delta: below(target, both),
        baseline: Some(DriftFrom { name: &baseline.name, day: baseline.day, target }),
        ..compared.change(ChangeKind::BaselineDrift, both.now.name)
    });
}

/// Points from the target: negative where it is missed.
fn below(target: Target, both: &Both<'_>) -> Option<Number> {
    let wanted = match target {
        Target::Points(points) => points,
        Target::Percent(percent) => Number::new(both.max_now?.get() * percent.get() / 100.0)?,
    };
    delta(Some(wanted), both.now.score)
}
