//! Which observations begin or end something. Most observations describe a state that is already
//! known, and an end must never appear in the log without its begin.
//!
//! An observation about rejected snapshots whose subject is one of an earlier release ends together
//! with the one about the snapshots without a usable day. The one about accepted data describes the
//! faults that were found when it began, so it ends and begins again when they change. Start
//! reading at [`OpenConditions::observe`]; see decisions 0038 and 0077.

use std::collections::BTreeMap;

use crate::model::{
    AcceptedData, Day, Observation, ObservationKind, ObservationSubject, Phase, RejectedSnapshots,
};

/// An observation that has begun and has not ended, as the checkpoint stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCondition {
    /// The name of its [`ObservationKind`], which may be one of a later release.
    pub what: String,
    /// Distinguishes observations of one kind.
    pub subject: ObservationSubject,
    /// The first day of its begin.
    pub first_day: Day,
    /// The reason at its begin.
    pub details: String,
}

/// The observations of a tenant that have begun and have not ended.
#[derive(Clone, Debug, Default)]
pub struct OpenConditions {
    /// By the name of the kind and by the subject.
    by_kind: BTreeMap<String, BTreeMap<ObservationSubject, Begin>>,
}

/// What is known about the begin of an observation.
#[derive(Clone, Debug)]
struct Begin {
    first_day: Day,
    details: String,
}

/// The number of open observations of one kind about rejected snapshots, whose subjects a server
/// chooses. Further ones do not begin.
const MAX_OPEN_REJECTIONS: usize = 128;

impl OpenConditions {
    /// The open observations of a tenant, in any order.
    pub fn new(open: Vec<OpenCondition>) -> Self {
        let mut conditions = Self::default();
        for OpenCondition { what, subject, first_day, details } in open {
            let subjects = conditions.by_kind.entry(what).or_default();
            subjects.insert(subject, Begin { first_day, details });
        }
        conditions
    }

    /// What to append to the log because of an observation, in this order: the ends of former
    /// subjects, the end of the same observation with other faults, and the observation itself if
    /// it begins or ends something. An end has the first day of its begin. Empty if nothing
    /// changes.
    pub fn observe(&mut self, observation: &Observation) -> Vec<Observation> {
        let mut changes = self.end_former_subjects(observation);
        changes.extend(self.end_changed_faults(observation));
        changes.extend(self.change_phase(observation));
        changes
    }

    /// Ends the observations of the same kind with a former subject, ordered by its text, if this
    /// is the end of the one about the snapshots without a usable day.
    fn end_former_subjects(&mut self, observation: &Observation) -> Vec<Observation> {
        let Observation { what, subject, first_day: today, phase, .. } = observation;
        let undated = ObservationSubject::Rejected(RejectedSnapshots::Undated);
        if *subject != undated || *phase == Phase::Begin {
            return Vec::new();
        }

        let subjects = self.by_kind.get(what.as_str()).into_iter().flat_map(BTreeMap::keys);
        let mut former: Vec<ObservationSubject> =
            subjects.filter(|subject| subject.is_former(*today)).cloned().collect();
        former.sort_by_cached_key(ToString::to_string);
        let ends = former.into_iter().filter_map(|subject| {
            let end = Observation { subject, ..observation.clone() };
            self.change_phase(&end)
        });
        ends.collect()
    }

    /// Ends the open observation about accepted data if this one has other faults.
    fn end_changed_faults(&mut self, observation: &Observation) -> Option<Observation> {
        let Observation { what, subject, phase, details, .. } = observation;
        let other_faults = match subject {
            ObservationSubject::Accepted(AcceptedData::Scores) => "a snapshot has other faults",
            ObservationSubject::Accepted(AcceptedData::Catalog) => "the catalog has other faults",
            _ => return None,
        };
        if *what != ObservationKind::Implausible || *phase == Phase::End {
            return None;
        }

        let begin = self.by_kind.get(what.as_str())?.get(subject)?;
        if begin.details == *details {
            return None;
        }

        let details = other_faults.to_owned();
        let end = Observation { phase: Phase::End, details, hint: None, ..observation.clone() };
        self.change_phase(&end)
    }

    /// Begins an observation that is not open, or ends one that is. `None` if nothing changes.
    fn change_phase(&mut self, observation: &Observation) -> Option<Observation> {
        let Observation { what, subject, first_day, phase, details, .. } = observation;
        let subjects = self.by_kind.entry(what.as_str().to_owned()).or_default();

        match phase {
            Phase::Begin => {
                // Otherwise, a server could fill the log.
                let is_full = subjects.len() >= MAX_OPEN_REJECTIONS;
                if subjects.contains_key(subject) || is_full && is_about_rejected(observation) {
                    return None;
                }

                let begin = Begin { first_day: *first_day, details: details.clone() };
                subjects.insert(subject.clone(), begin);
                Some(observation.clone())
            }
            Phase::End => {
                let begin = subjects.remove(subject)?;
                Some(Observation { first_day: begin.first_day, ..observation.clone() })
            }
        }
    }
}

/// Whether an observation is about rejected snapshots.
fn is_about_rejected(observation: &Observation) -> bool {
    let Observation { what, subject, .. } = observation;
    matches!(what, ObservationKind::Implausible | ObservationKind::ForeignTenant)
        && !matches!(subject, ObservationSubject::Accepted(_))
}

#[cfg(test)]
mod tests;
