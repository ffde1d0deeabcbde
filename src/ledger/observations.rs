//! The observations that follow from a plan: gaps, partial days and stale scores, and their ends.

use super::{Plan, Seen};
use crate::model::{Day, Observation, Phase, What};

/// A tenant whose newest day is older than this many days is stale.
const STALE_DAYS: i32 = 3;

/// The observations about days that a poll makes: gaps that begin, partial days, whether the score
/// is stale, and the ends of what was observed about days that are now complete.
///
/// The result states what holds now. The caller appends only what begins or ends: an observation
/// that already has this phase is not repeated.
pub fn observations(
    seen: &[Seen],
    plan: &Plan,
    newest: Option<Day>,
    today: Day,
) -> Vec<Observation> {
    let mut observations = Vec::new();

    for day in &plan.missing {
        let details = "Microsoft does not list this day";
        observations.push(of_day(What::Gap, *day, Phase::Begin, details));
    }
    for day in &plan.unfinished {
        let details = "only a part of this day was received";
        observations.push(of_day(What::Partial, *day, Phase::Begin, details));
    }

    let complete = plan.releases.iter().filter(|release| !release.partial);
    let complete = complete.map(|release| seen[release.index].facts.day);
    for day in complete.chain(plan.settled.iter().copied()) {
        for what in [What::Gap, What::ForeignTenant, What::Implausible, What::Partial] {
            let details = "a complete snapshot of the day was received";
            observations.push(of_day(what, day, Phase::End, details));
        }
    }

    if let Some(newest) = newest {
        let is_stale = newest < today.plus(-STALE_DAYS);
        observations.push(Observation {
            what: What::Stale,
            subject: "newest".to_owned(),
            first_day: newest,
            phase: if is_stale { Phase::Begin } else { Phase::End },
            details: format!("the newest day is more than {STALE_DAYS} days old"),
            hint: None,
        });
    }

    observations
}

fn of_day(what: What, day: Day, phase: Phase, details: &str) -> Observation {
    Observation {
        what,
        subject: day.to_string(),
        first_day: day,
        phase,
        details: details.to_owned(),
        hint: None,
    }
}
