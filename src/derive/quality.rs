//! Builds the record of an observation entry. An observation has no snapshot and no base: its
//! record depends only on the entry and the rules. The event ID also depends on the number of
//! earlier equal observations, because an observation can begin twice on one day.

use super::Rules;
use crate::model::{
    Body, EventId, EventIds, Field, Kind, Observation, QualityRecord, Record, SnapshotRef, Subject,
    Tenant, UnixMillis,
};

/// An observation entry of the log.
#[derive(Debug)]
pub struct ObservationEntry<'a> {
    /// The tenant that the observation is about.
    pub tenant: &'a Tenant,
    pub observation: &'a Observation,
    /// A placeholder, because an observation has no snapshot: only `day`, which is the first day of
    /// the observation, and `seq` are meaningful.
    pub snapshot: &'a SnapshotRef,
    /// When the observation was made, as RFC 3339 in UTC.
    pub observed_time: &'a str,
    /// The same time as `observed_time`.
    pub observed_at: UnixMillis,
    /// The number of earlier observations in the log with the same kind, subject, first day and
    /// phase.
    pub repeats: u32,
    /// Whether the entry is sent again by a replay.
    pub replayed: bool,
    /// The rules of the tenant, for the severity.
    pub rules: &'a Rules,
}

/// Builds the `quality` record of an observation.
pub fn quality<'a>(entry: &ObservationEntry<'a>) -> Record<'a> {
    let Observation { what, subject, first_day, phase, details, hint } = entry.observation;
    Record {
        event_id: event_id(entry),
        observed_time: entry.observed_time,
        observed_at: entry.observed_at,
        time: entry.observed_at,
        tenant: entry.tenant,
        snapshot: entry.snapshot,
        replayed: entry.replayed,
        body: Body::Quality(QualityRecord {
            what: *what,
            phase: *phase,
            subject,
            first_day: *first_day,
            details,
            hint: hint.as_deref(),
            severity: entry.rules.severity_of_quality(entry.observation),
        }),
    }
}

/// The event ID of an observation. An observation that repeats an earlier one with the same first
/// day has a different ID, because the ID of the earlier one is part of the input.
fn event_id(entry: &ObservationEntry<'_>) -> EventId {
    let Observation { what, subject, first_day, phase, .. } = entry.observation;
    let mut ids = EventIds::new(entry.tenant.id, *first_day);
    let day = first_day.to_string();
    let fields = [Field::Text(what.as_str()), Field::Text(&day), Field::Text(phase.as_str())];
    let facts = ids.hash(&fields);

    let text = subject.text();
    let subject = Subject { kind: Kind::Quality, what: what.as_str(), control: &text };
    let first = ids.make(&subject, &facts, None);
    (0..entry.repeats).fold(first, |previous, _| ids.make(&subject, &facts, Some(previous)))
}
