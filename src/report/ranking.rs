//! The order of the changes in a report: losses first, the largest first; then gains, the largest
//! first; then changes without points, the most severe first. A table of limited length omits the
//! changes with the fewest points, never a larger change for a smaller one, and knows the sum of
//! what it omits. Start reading at [`RankedChanges::of`].

use std::cmp::Ordering;

use super::{PointTotals, ReportedChange, cut::omission};
use crate::{model::Number, text::with_separators};

/// Changes in the order in which a report lists them.
pub(super) struct RankedChanges<'a> {
    /// The changes that lost points.
    pub lost: ChangeList<'a>,
    /// The changes that gained points.
    pub gained: ChangeList<'a>,
    /// All other changes, such as decisions.
    pub other: ChangeList<'a>,
}

/// Some changes, and the sum of those that are not listed.
pub(super) struct ChangeList<'a> {
    pub listed: Vec<&'a ReportedChange>,
    /// Ordered in the same way.
    omitted: Vec<&'a ReportedChange>,
}

impl<'a> RankedChanges<'a> {
    /// Ranks changes. At most `limit` changes with points and `limit` other changes are listed.
    pub(super) fn of(changes: &'a [ReportedChange], limit: usize) -> Self {
        let (mut scored, mut other): (Vec<&ReportedChange>, Vec<&ReportedChange>) =
            changes.iter().partition(|change| change.points.is_some());
        scored.sort_by(|a, b| by_points(a, b));
        other.sort_by(|a, b| by_severity(a, b));

        // Losses and gains are limited together, so that no loss is omitted for a smaller gain.
        let is_loss = |change: &&ReportedChange| change.points.is_some_and(Number::is_negative);
        let omitted = scored.split_off(limit.min(scored.len()));
        let (lost, gained) = scored.into_iter().partition(is_loss);
        let (omitted_lost, omitted_gained) = omitted.into_iter().partition(is_loss);
        let omitted_other = other.split_off(limit.min(other.len()));

        Self {
            lost: ChangeList { listed: lost, omitted: omitted_lost },
            gained: ChangeList { listed: gained, omitted: omitted_gained },
            other: ChangeList { listed: other, omitted: omitted_other },
        }
    }

    /// The listed changes in their order.
    pub(super) fn listed(&self) -> impl Iterator<Item = &'a ReportedChange> {
        let lists = [&self.lost, &self.gained, &self.other];
        lists.into_iter().flat_map(|list| list.listed.iter().copied())
    }
}

impl ChangeList<'_> {
    /// The number of changes, including those that are not listed.
    pub(super) fn len(&self) -> usize {
        self.listed.len() + self.omitted.len()
    }

    /// The number and the sum of the changes that are not listed, as a sentence; `None` if all are
    /// listed.
    pub(super) fn omission(&self) -> Option<String> {
        let first = self.omitted.first()?;
        let number = self.omitted.len();

        let Some(most) = first.points else {
            let severity = first.severity.as_str();
            let number = with_separators(number);
            return Some(format!(
                "Changes that are not listed: {number}, with at most {severity} severity."
            ));
        };
        let sum = PointTotals::of(self.omitted.iter().copied()).net();
        Some(omission("Changes", number, sum.get().abs(), most.get().abs()))
    }
}

/// The most points first, without regard to the sign.
pub(super) fn by_points(a: &ReportedChange, b: &ReportedChange) -> Ordering {
    let size = |change: &ReportedChange| change.points.map_or(0.0, |points| points.get().abs());
    size(b).total_cmp(&size(a)).then_with(|| by_severity(a, b))
}

/// The most severe first, then the largest difference, then the newest.
fn by_severity(a: &ReportedChange, b: &ReportedChange) -> Ordering {
    let delta = |change: &ReportedChange| change.delta.map_or(0.0, |delta| delta.get().abs());
    b.severity
        .cmp(&a.severity)
        .then_with(|| delta(b).total_cmp(&delta(a)))
        .then_with(|| (b.day, &a.control).cmp(&(a.day, &b.control)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{model::Severity, report::tests::change_of_points};

    fn values(list: &[&ReportedChange]) -> Vec<f64> {
        list.iter().map(|change| change.points.unwrap().get()).collect()
    }

    #[test]
    fn losses_precede_gains_and_the_largest_is_first() {
        let changes = [Some(0.1), Some(-2.0), None, Some(10.0), Some(-10.0)].map(change_of_points);
        let ranked = RankedChanges::of(&changes, 10);
        let order: Vec<_> = ranked.listed().map(|change| change.points.map(Number::get)).collect();
        assert_eq!(order, [Some(-10.0), Some(-2.0), Some(10.0), Some(0.1), None]);
        assert_eq!(ranked.lost.omission(), None);
    }

    /// Regression: the newest and most severe changes were listed, so that a change of 0.1 points
    /// was shown while one of ten points was not.
    #[test]
    fn the_smallest_changes_are_omitted() {
        let points = [-0.1, 10.0, -9.0, 0.2, -0.3, 8.0, -0.2, 1_000.0];
        let changes = points.map(|points| change_of_points(Some(points)));
        let ranked = RankedChanges::of(&changes, 4);

        assert_eq!(values(&ranked.lost.listed), [-9.0]);
        assert_eq!(values(&ranked.gained.listed), [1_000.0, 10.0, 8.0]);
        assert_eq!((ranked.lost.len(), ranked.gained.len()), (4, 4));
        assert_eq!(
            ranked.lost.omission().unwrap(),
            "Changes that are not listed: 3, with 0.6 points in total and at most 0.3 points each."
        );
    }

    #[test]
    fn other_changes_are_ordered_by_severity() {
        let severities = [Severity::Low, Severity::Critical, Severity::Medium];
        let changes =
            severities.map(|severity| ReportedChange { severity, ..change_of_points(None) });
        let ranked = RankedChanges::of(&changes, 1);

        assert_eq!(ranked.other.listed[0].severity, Severity::Critical);
        assert_eq!(
            ranked.other.omission().unwrap(),
            "Changes that are not listed: 2, with at most medium severity."
        );
    }

    proptest! {
        /// The lists together contain every change once, and no omitted change has more points
        /// than a listed one.
        #[test]
        fn an_omitted_change_is_never_larger(
            values in prop::collection::vec(prop::option::of(-100_i32..100), 0..60),
            limit in 0_usize..20,
        ) {
            let change = |value: &Option<i32>| {
                let points = value.filter(|points| *points != 0);
                change_of_points(points.map(|points| f64::from(points) / 10.0))
            };
            let changes: Vec<ReportedChange> = values.iter().map(change).collect();
            let ranked = RankedChanges::of(&changes, limit);

            let size = |change: &&ReportedChange| change.points.map_or(0.0, |p| p.get().abs());
            let listed = ranked.lost.listed.iter().chain(&ranked.gained.listed).map(size);
            let omitted = ranked.lost.omitted.iter().chain(&ranked.gained.omitted).map(size);
            let least = listed.fold(f64::INFINITY, f64::min);
            prop_assert!(omitted.fold(0.0, f64::max) <= least);
            let lists = [&ranked.lost, &ranked.gained, &ranked.other];
            prop_assert_eq!(lists.iter().map(|list| list.len()).sum::<usize>(), changes.len());

            let all = PointTotals::of(&changes);
            let mut parts = PointTotals::of(ranked.listed());
            for change in lists.iter().flat_map(|list| &list.omitted) {
                parts.add(change);
            }
            prop_assert_eq!(all, parts);
        }
    }
}
