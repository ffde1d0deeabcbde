//! The observations that follow from a plan: gaps, partial days, stale scores and faulty data, and
//! their ends. They are derived only from the snapshots, the plan and the newest day, so a repeated
//! poll reports the same ones. Start reading at [`observations`].

use super::{AcceptedSnapshot, PollPlan, Rejections, Release, SnapshotOrigin};
use crate::model::{
    AcceptedData, DataFaults, Day, Observation, ObservationKind, ObservationSubject, Phase,
};

/// The score of a tenant is stale if its newest day is more than this many days old.
const STALE_DAYS: i32 = 3;

/// The observations of a poll about days: gaps, partial days, faulty data, whether the score is
/// stale, and the ends of earlier observations about days that are now complete.
///
/// The result describes the current state. The checkpoint appends an observation only if it changes
/// the phase.
pub fn observations(
    snapshots: &[AcceptedSnapshot],
    plan: &PollPlan,
    rejected: &Rejections,
    newest: Option<Day>,
    today: Day,
) -> Vec<Observation> {
    let mut observations = Vec::new();

    // A day whose snapshot was rejected is listed, and has its own observation.
    for day in plan.missing.iter().filter(|day| !rejected.names(**day)) {
        let details = if rejected.has_unnamed() {
            "no readable snapshot names this day"
        } else {
            "Microsoft does not list this day"
        };
        observations.push(of_day(ObservationKind::Gap, *day, Phase::Begin, details));
    }
    for day in &plan.unfinished {
        let details = "only a part of this day was received";
        observations.push(of_day(ObservationKind::Partial, *day, Phase::Begin, details));
    }

    let complete = plan.releases.iter().filter(|release| !release.partial);
    let complete = complete.map(|release| snapshots[release.index].facts.day);
    for day in complete.chain(plan.settled.iter().copied()) {
        observations.extend(ends_of_day(day, rejected));
    }

    // A fault in a saved file is not an observation about the tenant.
    let releases = plan.releases.iter().map(|release| (release, &snapshots[release.index]));
    for (release, released) in releases.filter(|(_, r)| r.origin != SnapshotOrigin::Import) {
        observations.extend(faulty_day(release, released, newest));
    }

    if let Some(newest) = newest {
        let is_stale = newest < today.plus(-STALE_DAYS);
        observations.push(Observation {
            what: ObservationKind::Stale,
            subject: ObservationSubject::Newest,
            first_day: newest,
            phase: if is_stale { Phase::Begin } else { Phase::End },
            details: format!("the newest day is more than {STALE_DAYS} days old"),
            hint: None,
        });
    }

    observations
}

/// The ends of all observations about a day of which a complete copy was received. If the same
/// response has another copy that was rejected, that observation continues.
fn ends_of_day(day: Day, rejected: &Rejections) -> Vec<Observation> {
    let mut kinds = vec![ObservationKind::Gap, ObservationKind::Partial];
    if !rejected.names(day) {
        kinds.extend([ObservationKind::ForeignTenant, ObservationKind::Implausible]);
    }

    let details = "a complete snapshot of the day was received";
    kinds.into_iter().map(|what| of_day(what, day, Phase::End, details)).collect()
}

/// The observation about the faults of the catalog: its end if there are none.
pub fn faulty_catalog(faults: &DataFaults, today: Day) -> Observation {
    let begin = Observation::of_faults(AcceptedData::Catalog, today, faults);
    if faults.is_empty() { ended(begin, "the catalog has no faults") } else { begin }
}

/// The observation about the faults of a released day, and its end if the day has none. It stays
/// open from day to day; the checkpoint begins it again only if the faults are others. A day that
/// is older than the newest one does not end it, because the newest one may still have the faults.
fn faulty_day(
    release: &Release,
    released: &AcceptedSnapshot,
    newest: Option<Day>,
) -> Option<Observation> {
    let day = released.facts.day;
    let begin = Observation::of_faults(AcceptedData::Scores, day, &released.faults);
    if !released.faults.is_empty() {
        return Some(begin);
    }

    let is_old_revision = release.revision > 1 && newest.is_some_and(|newest| day < newest);
    let is_followed = release.late || is_old_revision;
    (!is_followed).then(|| ended(begin, "a newer snapshot has no faults"))
}

fn ended(begin: Observation, details: &str) -> Observation {
    Observation { phase: Phase::End, details: details.to_owned(), hint: None, ..begin }
}

fn of_day(what: ObservationKind, day: Day, phase: Phase, details: &str) -> Observation {
    Observation {
        what,
        subject: ObservationSubject::Day(day),
        first_day: day,
        phase,
        details: details.to_owned(),
        hint: None,
    }
}
