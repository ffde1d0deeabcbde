//! What was noticed about the data.

use super::{Plan, Seen};
use crate::model::{Day, Observation, Phase, What};

/// A newest day older than this is stale.
const STALE_DAYS: i32 = 3;

/// What an answer shows about days: gaps that open and close, a score that has gone stale, days in
/// part, days refused that have come after all.
pub fn observations(
    seen: &[Seen],
    plan: &Plan,
    newest: Option<Day>,
    today: Day,
) -> Vec<Observation> {
    let observation = |what, subject: String, first_day, phase, details: &str| Observation {
        what,
        subject,
        first_day,
        phase,
        details: details.to_owned(),
        hint: None,
    };
    let mut noticed = Vec::new();
    for day in &plan.missing {
        noticed.push(observation(
            What::Gap,
            day.to_string(),
            *day,
            Phase::Begin,
            "Microsoft does not list this day",
        ));
    }
    for day in &plan.unfinished {
        noticed.push(observation(
            What::Partial,
            day.to_string(),
            *day,
            Phase::Begin,
            "only a part of this day could be had",
        ));
    }
    let whole = plan.releases.iter().filter(|release| !release.partial);
    let whole = whole.map(|release| seen[release.index].facts.day);
    for day in whole.chain(plan.settled.iter().copied()) {
        for what in [What::Gap, What::ForeignTenant, What::Implausible, What::Partial] {
            noticed.push(observation(what, day.to_string(), day, Phase::End, "the day has come"));
        }
    }
    if let Some(newest) = newest {
        let phase = if newest < today.plus(-STALE_DAYS) { Phase::Begin } else { Phase::End };
        noticed.push(observation(
            What::Stale,
            "newest".to_owned(),
            newest,
            phase,
            "the newest day is older than it should be",
        ));
    }
    noticed
}
