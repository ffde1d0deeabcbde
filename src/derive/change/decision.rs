//! Finds new decisions: the entries of `controlStateUpdates` that were not seen before. A decision
//! is reported once, with the first entry whose catalog contains it. Its event ID depends on the
//! decision alone, so it stays the same if another entry reports it after the checkpoint was lost.

use super::ComparedDay;
use crate::model::{
    Cause, Change, ChangeKind, ControlState, Day, DecisionState, ProfileSlot, StateUpdate,
};

/// Appends one change per decision that the base's catalog does not contain.
///
/// At first contact, all decisions are appended as historical changes. Any other entry without a
/// base has none: the next entry with a base reports them.
pub(super) fn changes<'a>(day: &ComparedDay<'a>, out: &mut Vec<Change<'a>>) {
    let catalog = day.catalog;
    let (base_day, base_catalog) = match &day.comparison.base {
        Some(base) => (Some(base.facts.day), base.catalog),
        None if day.comparison.first_contact => (None, None),
        None => return,
    };
    if base_catalog.is_some_and(|base| std::ptr::eq(base, catalog)) {
        return;
    }

    for slot in catalog.slots() {
        // If the catalog lists a profile twice, only the first one counts.
        if !catalog.find(&slot.profile.id).is_some_and(|first| std::ptr::eq(first, slot)) {
            continue;
        }

        let known = base_catalog.and_then(|base| base.find(&slot.profile.id));
        for (index, decision) in slot.decisions.iter().enumerate() {
            let is_in =
                |others: &[StateUpdate]| others.iter().any(|o| o.is_same_decision(decision));
            if is_default(decision)
                || known.is_some_and(|known| is_in(&known.decisions))
                || is_in(&slot.decisions[..index])
            {
                continue;
            }
            out.push(Change {
                cause: Cause::Tenant,
                base_day,
                before: side(previous(slot, decision)),
                after: side(Some(decision)),
                // A decision that the base's catalog does not contain is recent, even if the day
                // that reports it is historical. Without that catalog, its age is unknown.
                historical: base_catalog.is_none(),
                ..Change::new(ChangeKind::DecisionChanged, &slot.profile.id)
            });
        }
    }
}

/// The day on which a decision was made; `None` if its time is absent or cannot be parsed.
pub(super) fn day(decision: &StateUpdate) -> Option<Day> {
    decision.updated.as_deref().and_then(Day::of_instant_text)
}

fn side(decision: Option<&StateUpdate>) -> ControlState<'_> {
    ControlState { decision, ..ControlState::default() }
}

/// Whether an entry is the initial state of every control and not a decision.
fn is_default(decision: &StateUpdate) -> bool {
    let is_empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let is_default = || decision.known_state() == Some(DecisionState::Default);
    is_empty(&decision.updated) && (decision.state.is_none() || is_default())
}

/// The decision that was in force before this one.
fn previous<'a>(slot: &'a ProfileSlot, decision: &StateUpdate) -> Option<&'a StateUpdate> {
    let earlier = slot.decisions.iter().filter(|other| other.by_time(decision).is_lt());
    earlier.max_by(|a, b| a.in_time(b))
}
