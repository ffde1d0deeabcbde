//! The record of one control.

use std::sync::Arc;

use crate::{
    derive::Entry,
    model::{ControlFacts, ControlRecord, ControlScore, MaxScoreSource, Number, ProfileSlot},
};

pub(super) fn record<'a>(control: &'a ControlScore<'a>, entry: &Entry<'a>) -> ControlRecord<'a> {
    let profile = entry.catalog.find(&control.name);
    let stated = profile.and_then(|slot| slot.profile.max_score);
    let own = control.max_score.map(|max| (max, MaxScoreSource::Snapshot));
    let backfilled = entry.snapshot.backfilled;
    ControlRecord {
        id: &control.name,
        category: control.category.as_deref().or_else(|| profile?.profile.category.as_deref()),
        description: control.description.as_deref(),
        score: control.score,
        max_score: own.or_else(|| max_score(stated, control.score, control.percentage, backfilled)),
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

/// The facts of a control that stands alone; the name is not compared and stays out.
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

/// The maximum of the day. Today's catalog, which states one, speaks for today; of a day long past
/// the score and its percentage know better, where they say anything.
pub(super) fn max_score(
    stated: Option<Number>,
    score: Option<Number>,
    percentage: Option<Number>,
    backfilled: bool,
) -> Option<(Number, MaxScoreSource)> {
    let stated = stated.map(|max| (max, MaxScoreSource::Catalog));
    let derived = || {
        let max = from_percentage(score?, percentage?)?;
        Some((max, MaxScoreSource::Percentage))
    };
    if backfilled { derived().or(stated) } else { stated.or_else(derived) }
}

/// `score x 100 / percentage`, to the hundredth. Nothing can be had from a percentage of 0.
fn from_percentage(score: Number, percentage: Number) -> Option<Number> {
    if percentage <= Number::ZERO {
        return None;
    }
    let max = score.get() * 100.0 / percentage.get();
    Number::new((max * 100.0).round() / 100.0)
}
