//! Selects the records of an entry that a sink receives. The selection must never change the index
//! or the event ID of a record, so that cursors stay valid when the configuration changes. Start
//! reading at [`Selection`]. See decision 0021.

use wildmatch::WildMatch;

use super::{Base, Entry, control};
use crate::model::{Change, ChangeKind, ControlScore, Day, Profile, ProfileSlot};

/// The records of an entry that a sink receives.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each kind of record is selected independently")]
pub struct Selection {
    /// Whether `control` records are included.
    pub controls: bool,
    /// Whether `summary` records are included.
    pub summary: bool,
    /// Whether `change` records are included.
    pub changes: bool,
    /// Whether `quality` records are included.
    pub quality: bool,
    /// Whether historical changes are included.
    pub historical: bool,
    /// The kinds of change that are included; empty for all.
    pub kinds: Vec<ChangeKind>,
    /// The controls whose records and changes are included.
    pub control_filter: ControlFilter,
}

/// The controls whose records and changes a sink receives. An empty list of patterns matches every
/// control.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControlFilter {
    /// Patterns for the ID of the control.
    pub ids: Vec<Glob>,
    /// Patterns for the product in the profile.
    pub services: Vec<Glob>,
    /// Patterns for the category of the control.
    pub categories: Vec<Glob>,
    /// Include only controls that differ from their base, and all of them at this interval; `None`
    /// includes all of them every day.
    pub changed: Option<FullEvery>,
}

/// The interval at which all controls are sent, in days; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullEvery(pub i32);

/// A case-insensitive pattern for a name: `*` matches any characters, `?` exactly one.
#[derive(Clone, Debug, PartialEq)]
pub struct Glob(WildMatch);

impl Selection {
    /// A selection that includes every record.
    pub fn all() -> Self {
        Self {
            controls: true,
            summary: true,
            changes: true,
            quality: true,
            historical: true,
            kinds: Vec::new(),
            control_filter: ControlFilter::default(),
        }
    }

    /// Whether the selection compares an entry with its base, so that the base must be read too.
    pub fn needs_base(&self) -> bool {
        self.changes || self.controls && self.control_filter.changed.is_some()
    }

    /// Whether the selection includes a change.
    pub(super) fn selects_change(&self, change: &Change<'_>, entry: &Entry<'_>) -> bool {
        let profile = entry.profile(change.control);
        self.changes
            && (self.historical || !change.historical)
            && (self.kinds.is_empty() || self.kinds.contains(&change.what))
            && self.control_filter.matches(change.control, None, profile)
    }
}

impl ControlFilter {
    /// Whether the filter includes the record of a control.
    pub(super) fn selects(&self, score: &ControlScore<'_>, entry: &Entry<'_>) -> bool {
        if self == &Self::default() {
            return true;
        }

        let profile = entry.catalog.find(&score.name);
        self.matches(&score.name, score.category.as_deref(), profile)
            && self
                .changed
                .is_none_or(|every| every.is_full(entry) || differs(score, profile, entry))
    }

    /// Whether the patterns match a control's ID, service and category. `category` is the
    /// snapshot's; if it is absent, the profile's is used.
    fn matches(
        &self,
        control: &str,
        category: Option<&str>,
        profile: Option<&ProfileSlot>,
    ) -> bool {
        let profile_field = |field: fn(&Profile) -> &Option<String>| {
            profile.and_then(|slot| field(&slot.profile).as_deref())
        };
        let category = category.or_else(|| profile_field(|p| &p.category));

        any_matches(&self.ids, Some(control))
            && any_matches(&self.services, profile_field(|p| &p.service))
            && any_matches(&self.categories, category)
    }
}

impl FullEvery {
    /// Whether all controls of an entry are sent, because a new interval began after its base.
    /// Intervals are counted from 1970-01-01, so the result depends only on the two days, and a gap
    /// does not delay the next full day.
    fn is_full(self, entry: &Entry<'_>) -> bool {
        let interval = |day: Day| day.number().div_euclid(self.0.max(1));
        let base = entry.comparison.base.as_ref();
        base.is_none_or(|base| interval(base.facts.day) != interval(entry.snapshot.day))
    }
}

impl Glob {
    /// Every text is a valid pattern.
    pub fn new(pattern: &str) -> Self {
        Self(WildMatch::new_case_insensitive(pattern))
    }

    /// Whether the whole text matches, regardless of case.
    pub fn matches(&self, text: &str) -> bool {
        self.0.matches(text)
    }
}

/// Whether any pattern matches; an empty list matches everything, and an absent text is matched as
/// an empty one.
fn any_matches(patterns: &[Glob], text: Option<&str>) -> bool {
    patterns.is_empty() || patterns.iter().any(|p| p.matches(text.unwrap_or_default()))
}

/// Whether a control differs from its base in facts, maximum score, decision or deprecation. A
/// control without a base differs.
fn differs(score: &ControlScore<'_>, profile: Option<&ProfileSlot>, entry: &Entry<'_>) -> bool {
    let Some(Base { facts, catalog, .. }) = &entry.comparison.base else { return true };
    let Some(base_facts) = facts.control(&score.name) else { return true };
    if base_facts.differs(&control::facts(score)) {
        return true;
    }

    // Without a catalog of the base there is no profile to compare with.
    let Some(base_catalog) = catalog else { return false };
    match (base_catalog.find(&score.name), profile) {
        (Some(before), Some(after)) => {
            before.profile.max_score != after.profile.max_score
                || before.profile.deprecated != after.profile.deprecated
                || before.decision() != after.decision()
        }
        (before, after) => before.is_some() != after.is_some(),
    }
}
