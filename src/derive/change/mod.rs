//! What has changed between a day and its base. Pure: the same for every sink, replay and report.
//!
//! Scores come from the facts of both days, weights, deprecations and decisions from their
//! catalogs. Absent never differs, and without a base nothing has changed.

mod cause;
mod decision;
mod drift;
mod record;

use std::sync::Arc;

pub(super) use record::{NO_RULES, expired, record, time_ms};

use crate::model::{
    Baseline, Catalog, Change, ChangeKind, ControlFacts, Day, DayFacts, Number, ProfileSlot, Side,
};

/// A day, beside what it is measured from.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    pub day: Day,
    /// Read back or imported: what it shows was not noticed when it happened.
    pub historical: bool,
    pub backfilled: bool,
    pub catalog: &'a Catalog,
    pub comparison: &'a Comparison<'a>,
}

/// What an entry is measured against.
#[derive(Debug, Default)]
pub struct Comparison<'a> {
    /// `None` where there is none, or nobody asks for changes.
    pub base: Option<Base<'a>>,
    /// No whole day of this tenant came before it.
    pub first_contact: bool,
    /// A revision of a day after which others have come: what is known since then, they tell.
    pub behind: bool,
    pub baseline: Option<&'a Baseline>,
}

/// The day, or the revision, that an entry is measured from.
#[derive(Debug)]
pub struct Base<'a> {
    pub seq: u64,
    pub facts: &'a DayFacts,
    pub catalog: Option<&'a Catalog>,
    pub backfilled: bool,
    /// The facts of the base's own base, and of that one's, over a fortnight; oldest first.
    pub earlier: &'a [Arc<DayFacts>],
}

/// A control's facts on one day.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    pub name: &'a str,
    pub score: Option<Number>,
    pub percentage: Option<Number>,
    pub count: Option<Number>,
    pub total: Option<Number>,
    pub on: Option<bool>,
}

/// Everything that has changed, by control. `points` are the day's, sorted by name, each once.
pub fn changes<'a>(measured: &Measured<'a>, points: &[Point<'a>]) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    if let Some(base) = &measured.comparison.base {
        let moved = !measured.comparison.behind && base.has_moved(measured.catalog);
        let compared = Compared { measured, base, moved };
        for (then, now) in joined(&base.facts.controls, points) {
            compared.control(then, now, &mut changes);
        }
    }
    if !measured.comparison.behind {
        decision::changes(measured, &mut changes);
    }
    changes.sort_by(|a, b| (a.control, a.what).cmp(&(b.control, b.what)));
    changes
}

/// Two sorted lists side by side.
fn joined<'a, 'p>(
    then: &'a [ControlFacts],
    now: &'p [Point<'a>],
) -> impl Iterator<Item = (Option<Point<'a>>, Option<Point<'a>>)> + use<'a, 'p> {
    let mut then = then.iter().map(Point::of).peekable();
    let mut now = now.iter().copied().peekable();
    std::iter::from_fn(move || {
        let order = match (then.peek(), now.peek()) {
            (Some(then), Some(now)) => then.name.cmp(now.name),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return None,
        };
        Some((
            if order.is_le() { then.next() } else { None },
            if order.is_ge() { now.next() } else { None },
        ))
    })
}

struct Compared<'a, 'm> {
    measured: &'m Measured<'a>,
    base: &'a Base<'a>,
    /// The catalog is another one than the base had.
    moved: bool,
}

/// A control on both days.
#[derive(Clone, Copy)]
struct Both<'a> {
    then: Point<'a>,
    now: Point<'a>,
    profile_then: Option<&'a ProfileSlot>,
    profile_now: Option<&'a ProfileSlot>,
    max_then: Option<Number>,
    max_now: Option<Number>,
}

impl<'a> Compared<'a, '_> {
    fn control(&self, then: Option<Point<'a>>, now: Option<Point<'a>>, out: &mut Vec<Change<'a>>) {
        match (then, now) {
            (Some(then), Some(now)) => self.both(then, now, out),
            (None, Some(now)) => {
                out.push(Change {
                    after: now.whole(self.max_now(now)),
                    cause: cause::of_added(now.name, self.base.catalog, self.measured.catalog),
                    ..self.change(ChangeKind::Added, now.name)
                });
                drift::changes(self, &self.pair(Point::absent(now.name), now), out);
            }
            (Some(then), None) => out.push(Change {
                before: then.whole(self.max_then(then)),
                cause: cause::of_removed(then.name, self.base.catalog, self.measured.catalog),
                ..self.change(ChangeKind::Removed, then.name)
            }),
            (None, None) => {}
        }
    }

    fn both(&self, then: Point<'a>, now: Point<'a>, out: &mut Vec<Change<'a>>) {
        let scores = differ(then.score, now.score);
        let shares = differ(then.percentage, now.percentage);
        let extents = differ(then.count, now.count)
            || differ(then.total, now.total)
            || matches!((then.on, now.on), (Some(then), Some(now)) if then != now);
        let targets = self.measured.comparison.baseline.is_some();
        if !(scores || shares || extents || self.moved || targets) {
            return;
        }
        let both = self.pair(then, now);
        if self.moved {
            self.catalog(&both, out);
        }
        if scores {
            self.score(&both, out);
        } else if extents || shares && !(self.moved && both.is_weighed_anew()) {
            out.push(Change {
                before: Side { score: then.score, ..then.extent() },
                after: Side { score: now.score, ..now.extent() },
                cause: cause::of_facts(&both),
                ..self.change(ChangeKind::ImplementationChanged, now.name)
            });
        }
        drift::changes(self, &both, out);
    }

    fn pair(&self, then: Point<'a>, now: Point<'a>) -> Both<'a> {
        Both {
            then,
            now,
            profile_then: self.base.catalog.and_then(|catalog| catalog.find(then.name)),
            profile_now: self.measured.catalog.find(now.name),
            max_then: self.max_then(then),
            max_now: self.max_now(now),
        }
    }

    fn score(&self, both: &Both<'a>, out: &mut Vec<Change<'a>>) {
        let Both { then, now, .. } = *both;
        let fell = now.score < then.score;
        let what = if fell { ChangeKind::Regressed } else { ChangeKind::Improved };
        out.push(Change {
            before: then.whole(both.max_then),
            after: now.whole(both.max_now),
            cause: cause::of_facts(both),
            delta: delta(then.score, now.score),
            flapping: self.flaps(now),
            ..self.change(what, now.name)
        });
    }

    /// What the catalog says of a control now, and did not then.
    fn catalog(&self, both: &Both<'a>, out: &mut Vec<Change<'a>>) {
        let (Some(then), Some(now)) = (both.profile_then, both.profile_now) else { return };
        let (max_then, max_now) = (then.profile.max_score, now.profile.max_score);
        if differ(max_then, max_now) {
            let side = |max, percentage| Side { max_score: max, percentage, ..Side::default() };
            out.push(Change {
                before: side(max_then, both.then.percentage),
                after: side(max_now, both.now.percentage),
                cause: crate::model::Cause::Microsoft,
                delta: delta(max_then, max_now),
                // Both catalogs were read when they were news, whatever day they came with.
                historical: false,
                ..self.change(ChangeKind::MaxScoreChanged, both.now.name)
            });
        }
        let gone = |slot: &ProfileSlot| slot.profile.deprecated == Some(true);
        if gone(then) != gone(now) {
            let side = |slot| Side { deprecated: Some(gone(slot)), ..Side::default() };
            out.push(Change {
                before: side(then),
                after: side(now),
                cause: crate::model::Cause::Microsoft,
                historical: false,
                ..self.change(ChangeKind::Deprecated, both.now.name)
            });
        }
    }

    fn change(&self, what: ChangeKind, control: &'a str) -> Change<'a> {
        Change {
            base_day: Some(self.base.facts.day),
            historical: self.measured.historical,
            ..Change::new(what, control)
        }
    }

    fn max_then(&self, then: Point<'_>) -> Option<Number> {
        let profile = self.base.catalog.and_then(|catalog| catalog.find(then.name));
        cause::max_score(then, profile, self.base.backfilled)
    }

    fn max_now(&self, now: Point<'_>) -> Option<Number> {
        cause::max_score(now, self.measured.catalog.find(now.name), self.measured.backfilled)
    }

    /// Whether the score has turned twice within the days that are looked at.
    fn flaps(&self, now: Point<'_>) -> bool {
        let facts = self.base.earlier.iter().map(AsRef::as_ref).chain([self.base.facts]);
        let scores = facts.filter_map(|day| day.control(now.name)?.score).chain(now.score);
        let (mut last, mut rose, mut turns) = (None::<Number>, None::<bool>, 0);
        for score in scores {
            if let Some(before) = last.filter(|before| *before != score) {
                let rises = score > before;
                turns += u32::from(rose.is_some_and(|rose| rose != rises));
                rose = Some(rises);
            }
            last = Some(score);
        }
        turns >= 2
    }
}

impl Both<'_> {
    fn is_weighed_anew(&self) -> bool {
        let stated = |slot: Option<&ProfileSlot>| slot.and_then(|slot| slot.profile.max_score);
        differ(stated(self.profile_then), stated(self.profile_now))
    }
}

impl Base<'_> {
    fn has_moved(&self, now: &Catalog) -> bool {
        self.catalog.is_some_and(|then| !std::ptr::eq(then, now))
    }
}

impl<'a> Point<'a> {
    fn absent(name: &'a str) -> Self {
        Self { name, score: None, percentage: None, count: None, total: None, on: None }
    }

    pub fn of(facts: &'a ControlFacts) -> Self {
        let ControlFacts { name, score, percentage, count, total, on } = facts;
        Self { name, score: *score, percentage: *percentage, count: *count, total: *total, on: *on }
    }

    fn extent(self) -> Side<'static> {
        let Self { percentage, count, total, on, .. } = self;
        Side { percentage, count, total, on, ..Side::default() }
    }

    fn whole(self, max_score: Option<Number>) -> Side<'static> {
        Side { score: self.score, max_score, ..self.extent() }
    }
}

impl<'a> Change<'a> {
    fn new(what: ChangeKind, control: &'a str) -> Self {
        Self {
            what,
            control,
            cause: crate::model::Cause::Unknown,
            base_day: None,
            before: Side::default(),
            after: Side::default(),
            delta: None,
            historical: false,
            flapping: false,
            baseline: None,
        }
    }

    /// Of a drift: whether the control is below its target now.
    pub fn is_below_baseline(&self) -> bool {
        self.baseline.is_some_and(|from| {
            from.target.is_missed(self.after.score, self.after.percentage) == Some(true)
        })
    }
}

fn differ(a: Option<Number>, b: Option<Number>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

/// To the hundredth: a difference of floats carries noise that no score has.
fn delta(then: Option<Number>, now: Option<Number>) -> Option<Number> {
    Number::new(((now?.get() - then?.get()) * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests;
