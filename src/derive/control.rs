//! Builds the record of one control. Joins the score of a control with its profile and the decision
//! in force. The maximum score has three possible origins, which the record states.

use std::sync::Arc;

use crate::{
    derive::Entry,
    model::{ControlFacts, ControlRecord, ControlScore, MaxScoreSource, Number, ProfileSlot},
};

/// The source of a maximum score that takes precedence if both are available.
///
/// The catalog describes the day on which it was read. A backfilled day is older than its catalog,
/// so the maximum that follows from score and percentage takes precedence for such a day.
#[derive(Clone, Copy, Debug)]
pub(super) enum PreferredMax {
    /// The maximum score in the profile.
    Catalog,
    /// The result of score × 100 / percentage.
    Quotient,
}

impl PreferredMax {
    /// The source for a day, by whether a backfill read it.
    pub(super) fn of_day(is_backfilled: bool) -> Self {
        if is_backfilled { Self::Quotient } else { Self::Catalog }
    }
}

/// Builds the record of a control from the snapshot, the catalog and the decision in force.
pub(super) fn record<'a>(control: &'a ControlScore<'a>, entry: &Entry<'a>) -> ControlRecord<'a> {
    let profile = entry.catalog.find(&control.name);
    let in_catalog = profile.and_then(|slot| slot.profile.max_score);
    let in_snapshot = control.max_score.map(|max| (max, MaxScoreSource::Snapshot));
    let preferred = PreferredMax::of_day(entry.snapshot.backfilled);
    let max_score =
        in_snapshot.or_else(|| max_score(in_catalog, control.score, control.percentage, preferred));

    ControlRecord {
        id: &control.name,
        category: control.category.as_deref().or_else(|| profile?.profile.category.as_deref()),
        description: control.description.as_deref(),
        score: control.score,
        max_score,
        percentage: control.percentage,
        implementation_status: control.implementation_status.as_deref().filter(|s| !s.is_empty()),
        count: control.count,
        total: control.total,
        on: control.on,
        last_synced: control.last_synced.as_deref(),
        profile,
        decision: profile.and_then(ProfileSlot::decision),
        additional: &control.additional,
    }
}

/// The facts of a control of a snapshot. The name is left empty, because it is not compared.
pub(super) fn facts(control: &ControlScore<'_>) -> ControlFacts {
    ControlFacts {
        name: Arc::default(),
        score: control.score,
        percentage: control.percentage,
        count: control.count,
        total: control.total,
        on: control.on,
    }
}

/// The maximum score of a control on a day, in points, with its source; `None` if it cannot be
/// determined.
pub(super) fn max_score(
    in_catalog: Option<Number>,
    score: Option<Number>,
    percentage: Option<Number>,
    preferred: PreferredMax,
) -> Option<(Number, MaxScoreSource)> {
    let in_catalog = in_catalog.map(|max| (max, MaxScoreSource::Catalog));
    let computed = || {
        let max = from_percentage(score?, percentage?)?;
        Some((max, MaxScoreSource::Percentage))
    };

    match preferred {
        PreferredMax::Catalog => in_catalog.or_else(computed),
        PreferredMax::Quotient => computed().or(in_catalog),
    }
}

/// Score × 100 / percentage, rounded to two decimal places; `None` if the percentage is 0.
fn from_percentage(score: Number, percentage: Number) -> Option<Number> {
    if percentage <= Number::ZERO {
        return None;
    }
    let max = score.get() * 100.0 / percentage.get();
    Number::new((max * 100.0).round() / 100.0)
}
