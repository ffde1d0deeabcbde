//! Decisions: each entry of `controlStateUpdates` that has not been seen before.

use super::Measured;
use crate::model::{Catalog, Cause, Change, ChangeKind, Day, ProfileSlot, Side, StateUpdate};

/// What was decided since the base; at first contact, all that ever was, as history. An entry
/// without a base that is not the first says nothing: the next one that has a base will.
pub(super) fn changes<'a>(measured: &Measured<'a>, out: &mut Vec<Change<'a>>) {
    let now = measured.catalog;
    let (base, then) = match &measured.comparison.base {
        Some(base) => (Some(base), base.catalog),
        None if measured.comparison.first_contact => (None, None),
        None => return,
    };
    if then.is_some_and(|then| std::ptr::eq(then, now)) {
        return;
    }
    for slot in now.slots() {
        // Of a profile that stands twice the first counts.
        if !now.find(&slot.profile.id).is_some_and(|first| std::ptr::eq(first, slot)) {
            continue;
        }
        let known = then.and_then(|then: &Catalog| then.find(&slot.profile.id));
        for (index, decision) in slot.decisions.iter().enumerate() {
            let seen = |others: &[StateUpdate]| others.iter().any(|other| same(other, decision));
            if is_default(decision)
                || known.is_some_and(|known| seen(&known.decisions))
                || seen(&slot.decisions[..index])
            {
                continue;
            }
            out.push(Change {
                cause: Cause::Tenant,
                base_day: base.map(|base| base.facts.day),
                before: side(before(slot, decision)),
                after: side(Some(decision)),
                // News since the base's catalog was read, on whatever day it is told.
                historical: then.is_none(),
                ..Change::new(ChangeKind::DecisionChanged, &slot.profile.id)
            });
        }
    }
}

/// The day on which it was taken.
pub(super) fn day(decision: &StateUpdate) -> Option<Day> {
    decision.updated.as_deref().and_then(Day::of_instant_text)
}

fn side(decision: Option<&StateUpdate>) -> Side<'_> {
    Side { decision, ..Side::default() }
}

/// What decisions are told apart by, beside their control.
fn same(a: &StateUpdate, b: &StateUpdate) -> bool {
    (&a.updated, &a.updated_by, &a.state) == (&b.updated, &b.updated_by, &b.state)
}

/// Nothing was ever decided: what every control begins with.
fn is_default(decision: &StateUpdate) -> bool {
    let text = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    text(&decision.updated) && decision.state.as_deref().is_none_or(|state| state == "Default")
}

/// The decision that was in force before this one.
fn before<'a>(slot: &'a ProfileSlot, decision: &StateUpdate) -> Option<&'a StateUpdate> {
    let earlier = slot.decisions.iter().filter(|other| other.updated < decision.updated);
    earlier.max_by(|a, b| a.updated.cmp(&b.updated))
}
