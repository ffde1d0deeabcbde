//! An observation entry becomes a record.

use super::Rules;
use crate::model::{
    Body, EventId, EventIds, Field, Kind, Observation, QualityRecord, Record, SnapshotRef, Subject,
    Tenant,
};

/// An observation entry of the log.
#[derive(Debug)]
pub struct Observed<'a> {
    pub tenant: &'a Tenant,
    pub observation: &'a Observation,
    /// What stands for the snapshot that an observation is not of: its first day, and `seq`.
    pub place: &'a SnapshotRef,
    pub observed_time: &'a str,
    pub observed_ms: i64,
    /// How often the same thing began, or ended, on the same first day before.
    pub repeats: u32,
    pub replayed: bool,
    pub rules: &'a Rules,
}

/// The record of an observation.
pub fn quality<'a>(observed: &Observed<'a>) -> Record<'a> {
    let Observation { what, subject, first_day, phase, details, hint } = observed.observation;
    Record {
        event_id: event_id(observed),
        observed_time: observed.observed_time,
        observed_ms: observed.observed_ms,
        time_ms: observed.observed_ms,
        tenant: observed.tenant,
        snapshot: observed.place,
        replayed: observed.replayed,
        body: Body::Quality(QualityRecord {
            what: *what,
            phase: *phase,
            subject,
            first_day: *first_day,
            details,
            hint: hint.as_deref(),
            severity: observed.rules.severity_of_quality(*what, *phase),
        }),
    }
}

/// What begins anew on the day on which it began before has an id of its own, through the one
/// before.
fn event_id(observed: &Observed<'_>) -> EventId {
    let Observation { what, subject, first_day, phase, .. } = observed.observation;
    let mut ids = EventIds::new(observed.tenant.id, *first_day);
    let day = first_day.to_string();
    let fields = [Field::Text(what.as_str()), Field::Text(&day), Field::Text(phase.as_str())];
    let facts = ids.digest(&fields);
    let subject = Subject { kind: Kind::Quality, what: what.as_str(), control: subject };
    let first = ids.make(&subject, &facts, None);
    (0..observed.repeats).fold(first, |previous, _| ids.make(&subject, &facts, Some(previous)))
}
