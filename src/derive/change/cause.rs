//! Who is behind a change: the tenant, or Microsoft's catalog.

use super::{Both, Point};
use crate::model::{Catalog, Cause, Number, ProfileSlot};

/// Of a score that moved. The tenant, if the control weighs what it weighed; Microsoft, if it was
/// retired, or weighs something else and is met to the same share.
pub(super) fn of_facts(both: &Both<'_>) -> Cause {
    let gone = |slot: &ProfileSlot| slot.profile.deprecated == Some(true);
    match (both.profile_then, both.profile_now) {
        (Some(_), None) => return Cause::Microsoft,
        (Some(then), Some(now)) if gone(now) && !gone(then) => return Cause::Microsoft,
        _ => {}
    }
    match (both.max_then, both.max_now) {
        (Some(then), Some(now)) if alike(then, now) => Cause::Tenant,
        (Some(then), Some(now)) => {
            let share = |point: &Point<'_>, max: Number| {
                let computed = || Number::new(point.score?.get() * 100.0 / max.get());
                point.percentage.or_else(computed)
            };
            match (share(&both.then, then), share(&both.now, now)) {
                (Some(then), Some(now)) if alike(then, now) => Cause::Microsoft,
                _ => Cause::Unknown,
            }
        }
        _ => Cause::Unknown,
    }
}

pub(super) fn of_added(control: &str, then: Option<&Catalog>, now: &Catalog) -> Cause {
    match then.map(|then| then.find(control)) {
        Some(None) if now.find(control).is_some() => Cause::Microsoft,
        _ => Cause::Unknown,
    }
}

pub(super) fn of_removed(control: &str, then: Option<&Catalog>, now: &Catalog) -> Cause {
    let gone = now.find(control).is_none_or(|slot| slot.profile.deprecated == Some(true));
    match then.and_then(|then| then.find(control)) {
        Some(_) if gone => Cause::Microsoft,
        _ => Cause::Unknown,
    }
}

/// The attainable points of a day from what the facts keep: as stated, where the day agrees with it,
/// for a quotient of rounded numbers is less exact; else by the rule for records.
pub(super) fn max_score(
    point: Point<'_>,
    profile: Option<&ProfileSlot>,
    backfilled: bool,
) -> Option<Number> {
    let stated = profile.and_then(|slot| slot.profile.max_score);
    if let (Some(max), Some(score), Some(share)) = (stated, point.score, point.percentage)
        && (max.get() * share.get() / 100.0 - score.get()).abs() <= HUNDREDTH
    {
        return stated;
    }
    // Where the day contradicts what is stated, the catalog has moved before or after it.
    let quotient = backfilled || point.percentage.is_some();
    let max = crate::derive::control::max_score(stated, point.score, point.percentage, quotient);
    max.map(|(max, _)| max)
}

/// What two numbers rounded to the hundredth may differ by.
const HUNDREDTH: f64 = 0.011;

/// Equal, but for what rounding to the hundredth does to a quotient.
fn alike(a: Number, b: Number) -> bool {
    (a.get() - b.get()).abs() <= 0.01 * a.get().abs().max(b.get().abs()).max(0.1)
}
