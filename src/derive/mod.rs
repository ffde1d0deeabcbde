//! An entry, with its catalogue, becomes records. Pure, and the only way records come to be, so
//! that every sink, replay and report tells the same story.

mod control;
mod selection;
mod summary;

use std::cell::RefCell;

pub use selection::{FullEvery, Glob, Selection, Which};

use crate::model::{
    Body, Catalogue, ControlFacts, DayFacts, EventId, EventIds, Kind, Record, Snapshot,
    SnapshotRef, Subject, Tenant,
};

/// A snapshot entry of the log, without its body.
#[derive(Debug)]
pub struct Entry<'a> {
    pub tenant: &'a Tenant,
    pub snapshot: &'a SnapshotRef,
    /// When the poll read it: RFC 3339 in UTC, and in milliseconds since 1970-01-01.
    pub observed_time: &'a str,
    pub observed_ms: i64,
    /// The facts of the day's earlier revisions, oldest first; empty for the first.
    pub history: &'a [DayFacts],
    pub catalogue: &'a Catalogue,
    /// What changes are measured from; `None` where there is none, or nobody asks for changes.
    pub base: Option<Base<'a>>,
    /// It is sent once more, because somebody asked.
    pub replayed: bool,
}

/// The day, or the revision, that an entry is measured from.
#[derive(Debug)]
pub struct Base<'a> {
    pub facts: &'a DayFacts,
    pub catalogue: Option<&'a Catalogue>,
}

/// The records of one entry, made one at a time. A record's place is its index here: controls by
/// id, then the summary. It does not depend on the selection, so a cursor stays true when the
/// configuration changes.
#[derive(Debug)]
pub struct Records<'a> {
    entry: &'a Entry<'a>,
    snapshot: &'a Snapshot<'a>,
    selection: &'a Selection,
    /// Indices into the snapshot's controls: sorted by id, each id once, and of a revision only
    /// those that differ from the one before; and whether the selection wants it.
    controls: Vec<(u32, bool)>,
    selected: u32,
    /// Different controls in the day.
    controls_total: u32,
    ids: RefCell<EventIds>,
}

impl<'a> Records<'a> {
    pub fn new(entry: &'a Entry<'a>, snapshot: &'a Snapshot<'a>, selection: &'a Selection) -> Self {
        let mut controls: Vec<u32> = (0_u32..).take(snapshot.controls.len()).collect();
        let name = |index: &u32| snapshot.controls[*index as usize].name.as_ref();
        controls.sort_by(|a, b| name(a).cmp(name(b)));
        controls.dedup_by(|later, first| name(later) == name(first));
        let controls_total = u32::try_from(controls.len()).unwrap_or(u32::MAX);
        if let Some(previous) = entry.history.last() {
            controls.retain(|&index| {
                let control = &snapshot.controls[index as usize];
                let kept = previous.control(&control.name);
                kept.is_none_or(|kept| kept.differs(&control::facts(control)))
            });
        }
        let ids = RefCell::new(EventIds::new(entry.tenant.id, entry.snapshot.day));
        let wanted = |index: u32| {
            let control = &snapshot.controls[index as usize];
            (index, selection.controls && selection.which.wants(control, entry))
        };
        let controls: Vec<(u32, bool)> = controls.into_iter().map(wanted).collect();
        let selected = controls.iter().map(|(_, wanted)| u32::from(*wanted)).sum::<u32>()
            + u32::from(selection.summary);
        Self { entry, snapshot, selection, controls, selected, controls_total, ids }
    }

    /// One past the last place.
    pub fn end(&self) -> u32 {
        u32::try_from(self.controls.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// How many records the selection leaves.
    pub fn selected(&self) -> u32 {
        self.selected
    }

    /// The record at a place; `None` past the end and where the selection leaves one out.
    pub fn at(&self, place: u32) -> Option<Record<'a>> {
        match self.controls.get(place as usize) {
            Some(&(index, wanted)) => wanted.then(|| self.control(index)),
            None if place + 1 == self.end() => self.selection.summary.then(|| self.summary()),
            None => None,
        }
    }

    fn control(&self, index: u32) -> Record<'a> {
        let control = &self.snapshot.controls[index as usize];
        let subject = Subject { kind: Kind::Control, what: "", control: &control.name };
        let ids = &mut self.ids.borrow_mut();
        let previous = previous_control_id(ids, &subject, self.entry.history);
        let facts = ids.facts(control.score, control.percentage);
        let event_id = ids.make(&subject, &facts, previous);
        self.record(event_id, Body::Control(control::record(control, self.entry)))
    }

    fn summary(&self) -> Record<'a> {
        let subject = Subject { kind: Kind::Summary, what: "", control: "" };
        let ids = &mut self.ids.borrow_mut();
        let previous = previous_summary_id(ids, &subject, self.entry.history);
        let facts = ids.facts(self.snapshot.current_score, self.snapshot.max_score);
        let event_id = ids.make(&subject, &facts, previous);
        let body = summary::record(self.snapshot, self.controls_total, self.selected());
        self.record(event_id, Body::Summary(body))
    }

    fn record(&self, event_id: EventId, body: Body<'a>) -> Record<'a> {
        let entry = self.entry;
        Record {
            event_id,
            observed_time: entry.observed_time,
            observed_ms: entry.observed_ms,
            tenant: entry.tenant,
            snapshot: entry.snapshot,
            replayed: entry.replayed,
            body,
        }
    }
}

/// The id under which a control was last streamed by an earlier revision of the day.
fn previous_control_id(
    ids: &mut EventIds,
    subject: &Subject<'_>,
    history: &[DayFacts],
) -> Option<EventId> {
    let mut id = None;
    let mut last: Option<&ControlFacts> = None;
    for facts in history {
        let now = facts.control(subject.control);
        if let Some(now) = now.filter(|now| last.is_none_or(|last| last.differs(now))) {
            let facts = ids.facts(now.score, now.percentage);
            id = Some(ids.make(subject, &facts, id));
        }
        last = now;
    }
    id
}

/// The id of the last summary of the day; every revision streams one.
fn previous_summary_id(
    ids: &mut EventIds,
    subject: &Subject<'_>,
    history: &[DayFacts],
) -> Option<EventId> {
    history.iter().fold(None, |previous, day| {
        let facts = ids.facts(day.current_score, day.max_score);
        Some(ids.make(subject, &facts, previous))
    })
}

#[cfg(test)]
mod tests;
