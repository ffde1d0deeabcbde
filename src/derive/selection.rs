//! Which of an entry's records a sink is given.

use wildmatch::WildMatch;

use super::{Base, Entry, control};
use crate::model::{Change, ChangeKind, ControlScore, ProfileSlot};

/// What a sink wants of an entry.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each kind of record is a choice of its own")]
pub struct Selection {
    pub controls: bool,
    pub summary: bool,
    pub changes: bool,
    pub quality: bool,
    /// Changes that nobody was looking at when they happened, too.
    pub historical: bool,
    /// Only these kinds of change; empty: all.
    pub kinds: Vec<ChangeKind>,
    pub which: Which,
}

/// Which controls. An empty list of patterns wants everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Which {
    pub ids: Vec<Glob>,
    pub services: Vec<Glob>,
    pub categories: Vec<Glob>,
    /// Only controls that differ from their base, and all of them once in so many days.
    pub changed: Option<FullEvery>,
}

/// Days, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullEvery(pub i32);

/// A pattern for a name: `*` for any characters, `?` for one, whatever the case.
#[derive(Clone, Debug, PartialEq)]
pub struct Glob(WildMatch);

impl Selection {
    /// Every record.
    pub fn all() -> Self {
        Self {
            controls: true,
            summary: true,
            changes: true,
            quality: true,
            historical: true,
            kinds: Vec::new(),
            which: Which::default(),
        }
    }

    /// Bases have to be at hand.
    pub fn needs_base(&self) -> bool {
        self.changes || self.controls && self.which.changed.is_some()
    }

    pub(super) fn wants_change(&self, change: &Change<'_>, entry: &Entry<'_>) -> bool {
        self.changes
            && (self.historical || !change.historical)
            && (self.kinds.is_empty() || self.kinds.contains(&change.what))
            && self.which.fits(change.control, None, entry.profile(change.control))
    }
}

impl Which {
    pub(super) fn wants(&self, score: &ControlScore<'_>, entry: &Entry<'_>) -> bool {
        if self == &Self::default() {
            return true;
        }
        let profile = entry.catalog.find(&score.name);
        self.fits(&score.name, score.category.as_deref(), profile)
            && self
                .changed
                .is_none_or(|every| every.is_full(entry) || differs(score, profile, entry))
    }

    /// Whether id, service and category are wanted.
    fn fits(&self, control: &str, category: Option<&str>, profile: Option<&ProfileSlot>) -> bool {
        let of_profile = |field: fn(&crate::model::Profile) -> &Option<String>| {
            profile.and_then(|slot| field(&slot.profile).as_deref())
        };
        let category = category.or_else(|| of_profile(|p| &p.category));
        matches(&self.ids, Some(control))
            && matches(&self.services, of_profile(|p| &p.service))
            && matches(&self.categories, category)
    }
}

impl FullEvery {
    /// The first day after its base in a new span of so many days, counted from 1970-01-01: it
    /// depends on the days alone, and a gap postpones nothing.
    fn is_full(self, entry: &Entry<'_>) -> bool {
        let span = |day: crate::model::Day| day.number().div_euclid(self.0.max(1));
        entry
            .comparison
            .base
            .as_ref()
            .is_none_or(|base| span(base.facts.day) != span(entry.snapshot.day))
    }
}

impl Glob {
    pub fn new(pattern: &str) -> Self {
        Self(WildMatch::new_case_insensitive(pattern))
    }

    pub fn matches(&self, text: &str) -> bool {
        self.0.matches(text)
    }
}

fn matches(patterns: &[Glob], text: Option<&str>) -> bool {
    patterns.is_empty() || patterns.iter().any(|p| p.matches(text.unwrap_or_default()))
}

/// Whether a control differs from its base in facts, attainable points, decision or deprecation.
fn differs(score: &ControlScore<'_>, now: Option<&ProfileSlot>, entry: &Entry<'_>) -> bool {
    let Some(Base { facts, catalog, .. }) = &entry.comparison.base else { return true };
    let Some(before) = facts.control(&score.name) else { return true };
    if before.differs(&control::facts(score)) {
        return true;
    }
    // Without a catalog of that day there is nothing to compare with.
    let Some(catalog) = catalog else { return false };
    match (catalog.find(&score.name), now) {
        (Some(before), Some(now)) => {
            before.profile.max_score != now.profile.max_score
                || before.profile.deprecated != now.profile.deprecated
                || before.decision() != now.decision()
        }
        (before, now) => before.is_some() != now.is_some(),
    }
}
