//! Determines whether a change was caused by the tenant or by a change of Microsoft's catalog. It
//! compares only stored numbers and catalogs, never texts. Without evidence, the cause is unknown
//! and must not be guessed.

use super::{ControlFactsRef, ControlPair, is_deprecated};
use crate::{
    derive::control::{self, PreferredMax},
    model::{Catalog, Cause, Number, ProfileSlot},
};

/// The cause of a changed score or implementation.
///
/// Microsoft caused it if the control was deprecated or left the catalog, or if its maximum score
/// changed while the percentage stayed the same. The tenant caused it if the maximum score stayed
/// the same. In all other cases the cause is unknown.
pub(super) fn of_pair(pair: &ControlPair<'_>) -> Cause {
    match (pair.profile_before, pair.profile_after) {
        (Some(_), None) => return Cause::Microsoft,
        (Some(before), Some(after)) if is_deprecated(after) && !is_deprecated(before) => {
            return Cause::Microsoft;
        }
        _ => {}
    }

    let (Some(max_before), Some(max_after)) = (pair.max_before, pair.max_after) else {
        return Cause::Unknown;
    };
    if nearly_equal(max_before, max_after) {
        return Cause::Tenant;
    }

    let percentage = |facts: &ControlFactsRef<'_>, max: Number| {
        let computed = || Number::new(facts.score?.get() * 100.0 / max.get());
        facts.percentage.or_else(computed)
    };
    match (percentage(&pair.before, max_before), percentage(&pair.after, max_after)) {
        (Some(before), Some(after)) if nearly_equal(before, after) => Cause::Microsoft,
        _ => Cause::Unknown,
    }
}

/// The cause of an added control: Microsoft if only the later catalog contains it, otherwise
/// unknown.
pub(super) fn of_added(control: &str, before: Option<&Catalog>, after: &Catalog) -> Cause {
    match before.map(|before| before.find(control)) {
        Some(None) if after.find(control).is_some() => Cause::Microsoft,
        _ => Cause::Unknown,
    }
}

/// The cause of a removed control: Microsoft if the earlier catalog contains it and the later one
/// does not, or marks it as deprecated; otherwise unknown.
pub(super) fn of_removed(control: &str, before: Option<&Catalog>, after: &Catalog) -> Cause {
    let is_retired = after.find(control).is_none_or(is_deprecated);
    match before.and_then(|before| before.find(control)) {
        Some(_) if is_retired => Cause::Microsoft,
        _ => Cause::Unknown,
    }
}

/// The maximum score of a control on a day, in points, from its facts and its profile.
///
/// If the profile's maximum agrees with the day's score and percentage, it is used, because a
/// quotient of rounded numbers is less exact. Otherwise the catalog was read before or after
/// Microsoft changed the maximum, and the quotient takes precedence. `preferred` applies to a day
/// without a percentage.
pub(super) fn max_score(
    facts: ControlFactsRef<'_>,
    profile: Option<&ProfileSlot>,
    preferred: PreferredMax,
) -> Option<Number> {
    let in_catalog = profile.and_then(|slot| slot.profile.max_score);
    if let (Some(max), Some(score), Some(percentage)) = (in_catalog, facts.score, facts.percentage)
        && (max.get() * percentage.get() / 100.0 - score.get()).abs() <= ROUNDING_TOLERANCE
    {
        return in_catalog;
    }

    let preferred = if facts.percentage.is_some() { PreferredMax::Quotient } else { preferred };
    let (max, _) = control::max_score(in_catalog, facts.score, facts.percentage, preferred)?;
    Some(max)
}

/// The largest difference, in points, between two numbers that are equal before they are rounded to
/// two decimal places.
const ROUNDING_TOLERANCE: f64 = 0.011;

/// Whether two numbers are equal within 1%: the error of a quotient of numbers that are rounded to
/// two decimal places.
fn nearly_equal(a: Number, b: Number) -> bool {
    (a.get() - b.get()).abs() <= 0.01 * a.get().abs().max(b.get().abs()).max(0.1)
}
