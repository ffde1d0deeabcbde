//! The observations that follow from a plan: gaps, partial days and stale scores, and their ends.
//! They are derived only from the snapshots, the plan and the newest day, so a repeated poll
//! reports the same ones. Start reading at [`observations`].

use super::{AcceptedSnapshot, PollPlan};
use crate::model::{Day, Observation, ObservationKind, Phase};

/// The score of a tenant is stale if its newest day is more than this many days old.
const STALE_DAYS: i32 = 3;

/// The observations of a poll about days: gaps, partial days, whether the score is stale, and the
/// ends of earlier observations about days that are now complete.
///
/// The result describes the current state. The checkpoint appends an observation only if it changes
/// the phase.
pub fn observations(
    snapshots: &[AcceptedSnapshot],
    plan: &PollPlan,
    newest: Option<Day>,
    today: Day,
) -> Vec<Observation> {
    let mut observations = Vec::new();

    for day in &plan.missing {
        let details = "Microsoft does not list this day";
        observations.push(of_day(ObservationKind::Gap, *day, Phase::Begin, details));
    }
    for day in &plan.unfinished {
        let details = "only a part of this day was received";
        observations.push(of_day(ObservationKind::Partial, *day, Phase::Begin, details));
    }

    let complete = plan.releases.iter().filter(|release| !release.partial);
    let complete = complete.map(|release| snapshots[release.index].facts.day);
    for day in complete.chain(plan.settled.iter().copied()) {
        for what in [
            ObservationKind::Gap,
            ObservationKind::ForeignTenant,
            ObservationKind::Implausible,
            ObservationKind::Partial,
        ] {
            let details = "a complete snapshot of the day was received";
            observations.push(of_day(what, day, Phase::End, details));
        }
    }

    if let Some(newest) = newest {
        let is_stale = newest < today.plus(-STALE_DAYS);
        observations.push(Observation {
            what: ObservationKind::Stale,
            subject: "newest".to_owned(),
            first_day: newest,
            phase: if is_stale { Phase::Begin } else { Phase::End },
            details: format!("the newest day is more than {STALE_DAYS} days old"),
            hint: None,
        });
    }

    observations
}

fn of_day(what: ObservationKind, day: Day, phase: Phase, details: &str) -> Observation {
    Observation {
        what,
        subject: day.to_string(),
        first_day: day,
        phase,
        details: details.to_owned(),
        hint: None,
    }
}
