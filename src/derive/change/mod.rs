//! Compares a day with its base and lists what changed.
//!
//! Scores are read from the facts of both days; maximum scores, deprecations and decisions are read
//! from the two catalogs. An absent value never differs from another one, and without a base no
//! control has changed. The result must depend only on the arguments, so that every sink, replay
//! and report gets the same changes. Start reading at [`changes`]. See decision 0036.

mod cause;
mod decision;
mod drift;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(super) use record::{NO_RULES, expired, record, time};

use crate::{
    derive::control::PreferredMax,
    model::{
        Baseline, Catalog, Cause, Change, ChangeKind, ControlFacts, ControlState, Day, DayFacts,
        Number, ProfileSlot, Seq,
    },
};

/// A day that is compared with its base.
#[derive(Clone, Copy, Debug)]
pub struct ComparedDay<'a> {
    pub day: Day,
    /// Whether the day was backfilled or imported: its changes were not observed when they
    /// happened.
    pub historical: bool,
    /// Whether a backfill read the day.
    pub backfilled: bool,
    /// Whether the day may have more controls; see [`DayFacts::has_lost_controls`].
    pub has_lost_controls: bool,
    /// The catalog that was read with the day.
    pub catalog: &'a Catalog,
    /// What the day is compared with.
    pub comparison: &'a Comparison<'a>,
}

/// What an entry is compared with.
#[derive(Debug, Default)]
pub struct Comparison<'a> {
    /// `None` if the entry has no base, or if no changes are requested.
    pub base: Option<Base<'a>>,
    /// Whether the log has no earlier complete day of this tenant.
    pub first_contact: bool,
    /// Whether the entry revises a day that is followed by newer days in the log. Decisions and
    /// changes of the catalog that became known since then are reported with those newer days.
    pub has_later_days: bool,
    /// The baseline in force; `None` if the tenant has none.
    pub baseline: Option<&'a Baseline>,
}

/// The day or revision that an entry is compared with.
#[derive(Debug)]
pub struct Base<'a> {
    /// The base in the tenant's log.
    pub seq: Seq,
    /// The facts of the base.
    pub facts: &'a DayFacts,
    /// The catalog of the base; `None` if it had none.
    pub catalog: Option<&'a Catalog>,
    /// Whether a backfill read the base.
    pub backfilled: bool,
    /// The facts of the chain of bases before this one, over 14 days, oldest first. They are needed
    /// to detect flapping, and for the controls that the base has lost.
    pub earlier: &'a [Arc<DayFacts>],
}

/// The facts of a control on one day, from stored facts or directly from a snapshot. A fact that
/// the source does not contain is `None`.
#[derive(Clone, Copy, Debug)]
pub struct ControlFactsRef<'a> {
    /// The ID of the control.
    pub name: &'a str,
    /// Points.
    pub score: Option<Number>,
    /// 0 to 100.
    pub percentage: Option<Number>,
    /// Users or devices that satisfy the control.
    pub count: Option<Number>,
    /// Users or devices in the scope of the control.
    pub total: Option<Number>,
    /// Whether the setting is on, for a control that has no count.
    pub on: Option<bool>,
}

/// All changes of a day, ordered by control and kind. `controls` are the day's controls, sorted by
/// name without duplicates.
pub fn changes<'a>(day: &ComparedDay<'a>, controls: &[ControlFactsRef<'a>]) -> Vec<Change<'a>> {
    let mut changes = Vec::new();

    if let Some(base) = &day.comparison.base {
        let catalog_changed = !day.comparison.has_later_days && base.has_other_catalog(day.catalog);
        let pair = DayPair { day, base, catalog_changed };
        let known = base.known_controls();
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for (before, after) in joined(&known.controls, controls) {
            match (before, after) {
                (Some(before), None) => removed.push(before),
                (None, Some(after)) => added.push(after),
                (before, after) => pair.compare_control(before, after, &mut changes),
            }
        }
        for (before, after) in joined_in_any_case(removed, added) {
            // A control that is absent from an incomplete list may still exist.
            let is_certain = match (before, after) {
                (Some(_), None) => !day.has_lost_controls,
                (None, Some(_)) => known.is_complete,
                _ => true,
            };
            if is_certain {
                pair.compare_control(before, after, &mut changes);
            }
        }
    }
    if !day.comparison.has_later_days {
        decision::changes(day, &mut changes);
    }

    changes.sort_by(|a, b| (a.control, a.what).cmp(&(b.control, b.what)));
    changes
}

/// A full outer join of two lists that are sorted by name.
fn joined<'a, 'p>(
    before: &'p [ControlFactsRef<'a>],
    after: &'p [ControlFactsRef<'a>],
) -> impl Iterator<Item = (Option<ControlFactsRef<'a>>, Option<ControlFactsRef<'a>>)> + use<'a, 'p>
{
    let mut before = before.iter().copied().peekable();
    let mut after = after.iter().copied().peekable();

    std::iter::from_fn(move || {
        let order = match (before.peek(), after.peek()) {
            (Some(before), Some(after)) => before.name.cmp(after.name),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return None,
        };
        Some((
            if order.is_le() { before.next() } else { None },
            if order.is_ge() { after.next() } else { None },
        ))
    })
}

/// A full outer join of controls that only one of two days has with exactly this ID. Two whose IDs
/// differ only in case are the same control.
fn joined_in_any_case<'a>(
    removed: Vec<ControlFactsRef<'a>>,
    added: Vec<ControlFactsRef<'a>>,
) -> Vec<(Option<ControlFactsRef<'a>>, Option<ControlFactsRef<'a>>)> {
    let mut by_folded_name: BTreeMap<String, Vec<ControlFactsRef<'a>>> = BTreeMap::new();
    for after in added {
        by_folded_name.entry(after.name.to_ascii_lowercase()).or_default().push(after);
    }

    let mut pairs = Vec::with_capacity(removed.len());
    for before in removed {
        let after = by_folded_name.get_mut(&before.name.to_ascii_lowercase()).and_then(Vec::pop);
        pairs.push((Some(before), after));
    }
    pairs.extend(by_folded_name.into_values().flatten().map(|after| (None, Some(after))));
    pairs
}

/// The controls that a tenant had before a day.
struct KnownControls<'a> {
    /// Sorted by name, without duplicates.
    controls: Vec<ControlFactsRef<'a>>,
    /// Whether there were no others.
    is_complete: bool,
}

/// A day and its base.
struct DayPair<'a, 'd> {
    day: &'d ComparedDay<'a>,
    base: &'a Base<'a>,
    /// Whether the catalog version of the day differs from that of its base, and changes of the
    /// catalog are reported with this day.
    catalog_changed: bool,
}

/// A control on a day and on its base.
#[derive(Clone, Copy)]
struct ControlPair<'a> {
    before: ControlFactsRef<'a>,
    after: ControlFactsRef<'a>,
    profile_before: Option<&'a ProfileSlot>,
    profile_after: Option<&'a ProfileSlot>,
    max_before: Option<Number>,
    max_after: Option<Number>,
}

impl<'a> DayPair<'a, '_> {
    fn compare_control(
        &self,
        before: Option<ControlFactsRef<'a>>,
        after: Option<ControlFactsRef<'a>>,
        out: &mut Vec<Change<'a>>,
    ) {
        match (before, after) {
            (Some(before), Some(after)) => self.compare_pair(before, after, out),

            (None, Some(after)) => {
                out.push(Change {
                    after: after.side_with_score(self.max_after(after)),
                    cause: cause::of_added(after.name, self.base.catalog, self.day.catalog),
                    ..self.change(ChangeKind::Added, after.name)
                });
                let pair = self.control_pair(ControlFactsRef::absent(after.name), after);
                drift::changes(self, &pair, out);
            }

            (Some(before), None) => out.push(Change {
                before: before.side_with_score(self.max_before(before)),
                cause: cause::of_removed(before.name, self.base.catalog, self.day.catalog),
                ..self.change(ChangeKind::Removed, before.name)
            }),

            (None, None) => {}
        }
    }

    fn compare_pair(
        &self,
        before: ControlFactsRef<'a>,
        after: ControlFactsRef<'a>,
        out: &mut Vec<Change<'a>>,
    ) {
        let score_differs = differ(before.score, after.score);
        let percentage_differs = differ(before.percentage, after.percentage);
        let extent_differs = differ(before.count, after.count)
            || differ(before.total, after.total)
            || matches!((before.on, after.on), (Some(before), Some(after)) if before != after);

        // Most controls are equal on both days: return before their profiles are looked up. Drift
        // may begin without a difference, because the baseline may be newer than the base.
        let facts_differ = score_differs || percentage_differs || extent_differs;
        let has_baseline = self.day.comparison.baseline.is_some();
        if !(facts_differ || self.catalog_changed || has_baseline) {
            return;
        }

        let pair = self.control_pair(before, after);
        if self.catalog_changed {
            self.push_catalog_changes(&pair, out);
        }
        if score_differs {
            self.push_score_change(&pair, out);
        } else if extent_differs
            // A new maximum score explains a percentage that changed without the score.
            || percentage_differs && !(self.catalog_changed && pair.has_new_max_score())
        {
            out.push(Change {
                before: ControlState { score: before.score, ..before.side() },
                after: ControlState { score: after.score, ..after.side() },
                cause: cause::of_pair(&pair),
                ..self.change(ChangeKind::ImplementationChanged, after.name)
            });
        }
        drift::changes(self, &pair, out);
    }

    fn control_pair(
        &self,
        before: ControlFactsRef<'a>,
        after: ControlFactsRef<'a>,
    ) -> ControlPair<'a> {
        ControlPair {
            before,
            after,
            profile_before: self.base.catalog.and_then(|catalog| catalog.find(before.name)),
            profile_after: self.day.catalog.find(after.name),
            max_before: self.max_before(before),
            max_after: self.max_after(after),
        }
    }

    fn push_score_change(&self, pair: &ControlPair<'a>, out: &mut Vec<Change<'a>>) {
        let ControlPair { before, after, .. } = *pair;
        let fell = after.score < before.score;
        let what = if fell { ChangeKind::Regressed } else { ChangeKind::Improved };
        out.push(Change {
            before: before.side_with_score(pair.max_before),
            after: after.side_with_score(pair.max_after),
            cause: cause::of_pair(pair),
            delta: delta(before.score, after.score),
            flapping: self.is_flapping(after),
            ..self.change(what, after.name)
        });
    }

    /// The changes of a control's profile: maximum score and deprecation.
    fn push_catalog_changes(&self, pair: &ControlPair<'a>, out: &mut Vec<Change<'a>>) {
        let (Some(before), Some(after)) = (pair.profile_before, pair.profile_after) else {
            return;
        };

        // A catalog is current when it is read, even if it is read with a historical day. Its
        // changes are therefore never historical.
        let (max_before, max_after) = (before.profile.max_score, after.profile.max_score);
        if differ(max_before, max_after) {
            let side = |max, percentage| ControlState {
                max_score: max,
                percentage,
                ..ControlState::default()
            };
            out.push(Change {
                before: side(max_before, pair.before.percentage),
                after: side(max_after, pair.after.percentage),
                cause: Cause::Microsoft,
                delta: delta(max_before, max_after),
                historical: false,
                ..self.change(ChangeKind::MaxScoreChanged, pair.after.name)
            });
        }

        if is_deprecated(before) != is_deprecated(after) {
            let side = |slot| ControlState {
                deprecated: Some(is_deprecated(slot)),
                ..ControlState::default()
            };
            out.push(Change {
                before: side(before),
                after: side(after),
                cause: Cause::Microsoft,
                historical: false,
                ..self.change(ChangeKind::Deprecated, pair.after.name)
            });
        }
    }

    fn change(&self, what: ChangeKind, control: &'a str) -> Change<'a> {
        Change {
            base_day: Some(self.base.facts.day),
            historical: self.day.historical,
            ..Change::new(what, control)
        }
    }

    fn max_before(&self, before: ControlFactsRef<'_>) -> Option<Number> {
        let profile = self.base.catalog.and_then(|catalog| catalog.find(before.name));
        cause::max_score(before, profile, PreferredMax::of_day(self.base.backfilled))
    }

    fn max_after(&self, after: ControlFactsRef<'_>) -> Option<Number> {
        let profile = self.day.catalog.find(after.name);
        cause::max_score(after, profile, PreferredMax::of_day(self.day.backfilled))
    }

    /// Whether the score has reversed its direction at least twice within [`Base::earlier`], the
    /// base and this day.
    fn is_flapping(&self, after: ControlFactsRef<'_>) -> bool {
        let days = self.base.earlier.iter().map(AsRef::as_ref).chain([self.base.facts]);
        let scores = days.filter_map(|day| day.control(after.name)?.score).chain(after.score);

        let (mut last, mut rose, mut reversals) = (None::<Number>, None::<bool>, 0);
        for score in scores {
            if let Some(before) = last.filter(|before| *before != score) {
                let rises = score > before;
                reversals += u32::from(rose.is_some_and(|rose| rose != rises));
                rose = Some(rises);
            }
            last = Some(score);
        }
        reversals >= 2
    }
}

impl ControlPair<'_> {
    fn has_new_max_score(&self) -> bool {
        let max_score = |slot: Option<&ProfileSlot>| slot.and_then(|slot| slot.profile.max_score);
        differ(max_score(self.profile_before), max_score(self.profile_after))
    }
}

impl<'a> Base<'a> {
    /// The controls of the base. Those that it has lost are as on the last day that had them.
    fn known_controls(&self) -> KnownControls<'a> {
        let mut controls: Vec<_> = self.facts.controls.iter().map(ControlFactsRef::of).collect();
        if !self.facts.has_lost_controls {
            return KnownControls { controls, is_complete: true };
        }

        let mut names: BTreeSet<String> =
            controls.iter().map(|control| control.name.to_ascii_lowercase()).collect();
        let mut is_complete = false;
        for day in self.earlier.iter().rev() {
            let lost = day.controls.iter().filter(|c| names.insert(c.name.to_ascii_lowercase()));
            controls.extend(lost.map(ControlFactsRef::of));
            if !day.has_lost_controls {
                is_complete = true;
                break;
            }
        }
        controls.sort_by(|a, b| a.name.cmp(b.name));
        KnownControls { controls, is_complete }
    }

    /// Whether the catalog version of an entry differs from that of this base. The caller passes
    /// the same catalog for the same version, so comparing the addresses is sufficient.
    fn has_other_catalog(&self, catalog: &Catalog) -> bool {
        self.catalog.is_some_and(|base_catalog| !std::ptr::eq(base_catalog, catalog))
    }
}

impl<'a> ControlFactsRef<'a> {
    /// A reference to stored facts.
    pub fn of(facts: &'a ControlFacts) -> Self {
        let ControlFacts { name, score, percentage, count, total, on } = facts;
        Self { name, score: *score, percentage: *percentage, count: *count, total: *total, on: *on }
    }

    fn absent(name: &'a str) -> Self {
        Self { name, score: None, percentage: None, count: None, total: None, on: None }
    }

    /// One side of a change, without the score.
    fn side(self) -> ControlState<'static> {
        let Self { percentage, count, total, on, .. } = self;
        ControlState { percentage, count, total, on, ..ControlState::default() }
    }

    /// One side of a change, with the score and the maximum score.
    fn side_with_score(self, max_score: Option<Number>) -> ControlState<'static> {
        ControlState { score: self.score, max_score, ..self.side() }
    }
}

impl<'a> Change<'a> {
    fn new(what: ChangeKind, control: &'a str) -> Self {
        Self {
            what,
            control,
            cause: Cause::Unknown,
            base_day: None,
            before: ControlState::default(),
            after: ControlState::default(),
            delta: None,
            historical: false,
            flapping: false,
            baseline: None,
        }
    }

    /// Whether the control misses its target after this change; `false` for a change that is not a
    /// `baseline_drift`.
    pub fn is_below_baseline(&self) -> bool {
        self.baseline.is_some_and(|from| {
            from.target.is_missed(self.after.score, self.after.percentage) == Some(true)
        })
    }
}

fn is_deprecated(slot: &ProfileSlot) -> bool {
    slot.profile.deprecated == Some(true)
}

/// Whether two values differ. An absent value never differs.
fn differ(a: Option<Number>, b: Option<Number>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

/// The difference rounded to two decimal places, which removes the rounding error of floats.
fn delta(before: Option<Number>, after: Option<Number>) -> Option<Number> {
    Number::new(((after?.get() - before?.get()) * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests;
