//! A change as a record: how much it matters, and its id.

use super::decision;
use crate::{
    derive::{Entry, Rules},
    model::{
        Acceptance, Cause, Change, ChangeKind, ChangeRecord, EventId, EventIds, Field, Kind, Side,
        StateUpdate, Subject,
    },
};

pub(in crate::derive) fn record<'a>(change: Change<'a>, entry: &Entry<'a>) -> ChangeRecord<'a> {
    let slot = entry.profile(change.control);
    let profile = slot.map(|slot| slot.profile.as_ref());
    let category = profile.and_then(|profile| profile.category.as_deref());
    let acceptance = match (change.what, change.after.decision) {
        (ChangeKind::DecisionChanged, Some(taken)) => {
            let day = decision::day(taken).unwrap_or(entry.snapshot.day);
            entry.rules.acceptance(change.control, taken.state.as_deref(), day)
        }
        _ => Acceptance::None,
    };
    let severity = entry.rules.severity(&change, category, acceptance);
    ChangeRecord { change, severity, category, profile, acceptance }
}

/// That the acceptance of a control's risk, which the configuration expected on the base day, is
/// still there and no longer expected.
pub(in crate::derive) fn expired<'a>(
    control: &'a str,
    entry: &Entry<'a>,
) -> Option<ChangeRecord<'a>> {
    let base = entry.comparison.base.as_ref()?.facts.day;
    let slot = entry.catalog.find(control)?;
    let taken = slot.decision()?;
    let state = taken.state.as_deref();
    let by = entry.rules.expired(control, state, base, entry.snapshot.day)?;
    let change = Change {
        cause: Cause::Tenant,
        base_day: Some(base),
        after: Side { decision: Some(taken), ..Side::default() },
        historical: entry.snapshot.is_historical(),
        ..Change::new(ChangeKind::AcceptanceExpired, control)
    };
    let record = record(change, entry);
    Some(ChangeRecord { acceptance: Acceptance::Expired(by), ..record })
}

/// When it happened, as far as that is known: where nobody was looking, on its day.
pub(in crate::derive) fn time_ms(change: &Change<'_>, entry: &Entry<'_>) -> i64 {
    let own = change.after.decision.filter(|_| change.what == ChangeKind::DecisionChanged);
    match own.and_then(decision::day) {
        _ if !change.historical => entry.observed_ms,
        Some(day) => day.epoch_ms(),
        None => entry.snapshot.day.epoch_ms(),
    }
}

impl ChangeRecord<'_> {
    /// `previous` is the id under which the day's earlier revision streamed the control.
    pub(in crate::derive) fn event_id(
        &self,
        entry: &Entry<'_>,
        ids: &mut EventIds,
        previous: Option<EventId>,
    ) -> EventId {
        let Change { what, control, before, after, .. } = &self.change;
        let subject = Subject { kind: Kind::Change, what: what.as_str(), control };
        if let (ChangeKind::DecisionChanged, Some(taken)) = (what, after.decision) {
            let day = decision::day(taken).unwrap_or(entry.snapshot.day);
            let mut ids = EventIds::new(entry.tenant.id, day);
            let facts = ids.digest(&decided(taken));
            return ids.make(&subject, &facts, None);
        }
        let base = self.change.base_day.map(|day| day.to_string()).unwrap_or_default();
        let baseline = self.change.baseline.map_or("", |from| from.name);
        let mut fields = vec![Field::Text(&base)];
        for side in [before, after] {
            fields.extend(compared(*what, side));
        }
        fields.push(Field::Text(baseline));
        let expires = self.acceptance.by().and_then(|by| by.expires).map(|day| day.to_string());
        if *what == ChangeKind::AcceptanceExpired {
            fields.push(Field::Text(expires.as_deref().unwrap_or_default()));
        }
        let facts = ids.digest(&fields);
        ids.make(&subject, &facts, previous)
    }
}

/// The facts of a side that its id is over. Counts vanish from a day overnight, so they stay out
/// wherever there is a score.
fn compared<'a>(what: ChangeKind, side: &Side<'a>) -> Vec<Field<'a>> {
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
            side.decision.map(|taken| decided(taken).to_vec()).unwrap_or_default()
        }
        _ => vec![Field::Number(side.score), Field::Number(side.percentage)],
    }
}

fn decided(decision: &StateUpdate) -> [Field<'_>; 3] {
    [&decision.updated, &decision.updated_by, &decision.state]
        .map(|text| Field::Text(text.as_deref().unwrap_or_default()))
}

/// Rules of a configuration that says nothing.
pub(in crate::derive) static NO_RULES: Rules = Rules { severity: Vec::new(), expected: Vec::new() };
