//! Builds the record of a change: its severity, its time and its event ID. The event ID must depend
//! only on the compared facts and, for `acceptance_expired`, on the last day of the expectation. It
//! must never depend on the severity, which the operator may change before a replay.

use super::decision;
use crate::{
    derive::{Entry, Rules},
    model::{
        Acceptance, Cause, Change, ChangeKind, ChangeRecord, ControlState, DecisionState, EventId,
        EventIds, Field, Kind, StateUpdate, Subject, UnixMillis,
    },
};

/// The rules of a configuration that defines none.
pub(in crate::derive) static NO_RULES: Rules = Rules { severity: Vec::new(), expected: Vec::new() };

/// Builds the record of a change: adds the profile, the acceptance and the severity.
pub(in crate::derive) fn record<'a>(change: Change<'a>, entry: &Entry<'a>) -> ChangeRecord<'a> {
    let slot = entry.profile(change.control);
    let profile = slot.map(|slot| slot.profile.as_ref());
    let category = profile.and_then(|profile| profile.category.as_deref());

    let acceptance = match (change.what, change.after.decision) {
        (ChangeKind::DecisionChanged, Some(decision)) => {
            let day = decision::day(decision).unwrap_or(entry.snapshot.day);
            entry.rules.acceptance(change.control, decision.state.as_deref(), day)
        }
        _ => Acceptance::None,
    };

    let severity = entry.rules.severity(&change, category, acceptance);
    ChangeRecord { change, severity, category, profile, acceptance }
}

/// Builds the `acceptance_expired` record of a control if the decision in force accepts a risk, and
/// if the rules expected that on the base day and no longer do. Returns `None` otherwise.
pub(in crate::derive) fn expired<'a>(
    control: &'a str,
    entry: &Entry<'a>,
) -> Option<ChangeRecord<'a>> {
    let base_day = entry.comparison.base.as_ref()?.facts.day;
    let decision = entry.catalog.find(control)?.decision()?;
    let state = decision.state.as_deref();
    let expected_by = entry.rules.expired(control, state, base_day, entry.snapshot.day)?;

    let change = Change {
        cause: Cause::Tenant,
        base_day: Some(base_day),
        after: ControlState { decision: Some(decision), ..ControlState::default() },
        historical: entry.snapshot.is_historical(),
        ..Change::new(ChangeKind::AcceptanceExpired, control)
    };
    let record = record(change, entry);
    Some(ChangeRecord { acceptance: Acceptance::Expired(expected_by), ..record })
}

/// The time of a change: when the poll observed it, or for a historical change the start of the day
/// on which it happened.
pub(in crate::derive) fn time(change: &Change<'_>, entry: &Entry<'_>) -> UnixMillis {
    let is_decision = change.what == ChangeKind::DecisionChanged;
    let decision = change.after.decision.filter(|_| is_decision);
    match decision.and_then(decision::day) {
        _ if !change.historical => entry.observed_at,
        Some(day) => day.start(),
        None => entry.snapshot.day.start(),
    }
}

impl ChangeRecord<'_> {
    /// The event ID of the change. `previous` is the ID under which an earlier revision of the day
    /// sent the control. A decision does not use it, because its ID depends on the decision alone.
    pub(in crate::derive) fn event_id(
        &self,
        entry: &Entry<'_>,
        ids: &mut EventIds,
        previous: Option<EventId>,
    ) -> EventId {
        let Change { what, control, before, after, .. } = &self.change;
        let subject = Subject { kind: Kind::Change, what: what.as_str(), control };

        if let (ChangeKind::DecisionChanged, Some(decision)) = (what, after.decision) {
            let day = decision::day(decision).unwrap_or(entry.snapshot.day);
            let mut ids = EventIds::new(entry.tenant.id, day);
            let facts = ids.hash(&decision_fields(decision));
            return ids.make(&subject, &facts, None);
        }

        let base = self.change.base_day.map(|day| day.to_string()).unwrap_or_default();
        let baseline = self.change.baseline.map_or("", |from| from.name);
        let mut fields = vec![Field::Text(&base)];
        for side in [before, after] {
            fields.extend(side_fields(*what, side));
        }
        fields.push(Field::Text(baseline));
        let expires =
            self.acceptance.expected_by().and_then(|by| by.expires).map(|day| day.to_string());
        if *what == ChangeKind::AcceptanceExpired {
            fields.push(Field::Text(expires.as_deref().unwrap_or_default()));
        }

        let facts = ids.hash(&fields);
        ids.make(&subject, &facts, previous)
    }
}

/// The facts of one side that the event ID is computed from. Microsoft removes counts from the copy
/// of a past day, so they are included only for a kind of change that has no score.
fn side_fields<'a>(what: ChangeKind, side: &ControlState<'a>) -> Vec<Field<'a>> {
    let flag = |flag: Option<bool>| match flag {
        Some(true) => Field::Text("true"),
        Some(false) => Field::Text("false"),
        None => Field::Text("-"),
    };

    match what {
        ChangeKind::MaxScoreChanged => vec![Field::Number(side.max_score)],
        ChangeKind::Deprecated => vec![flag(side.deprecated)],
        ChangeKind::ImplementationChanged => {
            vec![
                Field::Number(side.percentage),
                Field::Number(side.count),
                Field::Number(side.total),
                flag(side.on),
            ]
        }
        ChangeKind::DecisionChanged | ChangeKind::AcceptanceExpired => {
            side.decision.map(|decision| decision_fields(decision).to_vec()).unwrap_or_default()
        }
        _ => vec![Field::Number(side.score), Field::Number(side.percentage)],
    }
}

fn decision_fields(decision: &StateUpdate) -> [Field<'_>; 3] {
    let StateUpdate { updated, updated_by, state, .. } = decision;
    [
        Field::Text(updated.as_deref().unwrap_or_default()),
        Field::Text(updated_by.as_deref().unwrap_or_default()),
        Field::Text(DecisionState::spelled(state.as_deref().unwrap_or_default())),
    ]
}
