//! An entry, with its catalog, becomes records. Pure, and the only way records come to be, so
//! that every sink, replay and report tells the same story.

mod change;
mod control;
mod quality;
mod rules;
mod selection;
mod summary;

use std::cell::RefCell;

pub use change::{Base, Comparison, Measured, Point, changes};
pub use quality::{Observed, quality};
pub use rules::{Expectation, Rules, SeverityRule};
pub use selection::{FullEvery, Glob, Selection, Which};

use crate::model::{
    Body, Catalog, Change, ChangeRecord, ControlFacts, ControlScore, DayFacts, EventId, EventIds,
    Kind, ProfileSlot, Record, Snapshot, SnapshotRef, Subject, Tenant,
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
    pub catalog: &'a Catalog,
    pub comparison: Comparison<'a>,
    pub rules: &'a Rules,
    /// It is sent once more, because somebody asked.
    pub replayed: bool,
}

/// The records of one entry, made one at a time. A record's place is its index here: controls by
/// id, then the summary, changes by control, and for each control of the day the place of an
/// acceptance that has expired. A place does not depend on the selection, so a cursor stays true
/// when the configuration changes.
#[derive(Debug)]
pub struct Records<'a> {
    entry: &'a Entry<'a>,
    snapshot: &'a Snapshot<'a>,
    selection: &'a Selection,
    /// Indices into the snapshot's controls: sorted by id, each id once, and of a revision only
    /// those that differ from the one before; and whether the selection wants it.
    controls: Vec<(u32, bool)>,
    /// All that has changed, if the selection wants changes at all, and whether it wants this one.
    changes: Vec<(Change<'a>, bool)>,
    /// The controls of the day, where decisions are expected of any.
    expectable: Vec<&'a str>,
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
        let changes = if selection.changes {
            changes_of(entry, snapshot, &controls, selection)
        } else {
            Vec::new()
        };
        let expects = selection.changes && !entry.rules.expected.is_empty();
        let expectable = if expects { controls.iter().map(name).collect() } else { Vec::new() };
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
        let mut records = Self {
            entry,
            snapshot,
            selection,
            controls,
            changes,
            expectable,
            selected: 0,
            controls_total,
            ids,
        };
        records.selected = records.count();
        records
    }

    fn count(&self) -> u32 {
        let wanted = |wanted: bool| u32::from(wanted);
        let expired = (0..self.expectable.len()).filter(|index| self.expired(*index).is_some());
        self.controls.iter().map(|(_, w)| wanted(*w)).sum::<u32>()
            + self.changes.iter().map(|(_, w)| wanted(*w)).sum::<u32>()
            + u32::try_from(expired.count()).unwrap_or(0)
            + wanted(self.selection.summary)
    }

    /// One past the last place.
    pub fn end(&self) -> u32 {
        let places = self.controls.len() + 1 + self.changes.len() + self.expectable.len();
        u32::try_from(places).unwrap_or(u32::MAX)
    }

    /// The same records for one of whom a sink was given so many: its summary says so.
    #[must_use]
    pub fn of_which_given(mut self, given: u32) -> Self {
        self.selected = given;
        self
    }

    /// How many records the selection leaves.
    pub fn selected(&self) -> u32 {
        self.selected
    }

    /// The record at a place; `None` past the end and where the selection leaves one out.
    pub fn at(&self, place: u32) -> Option<Record<'a>> {
        let place = place as usize;
        if let Some(&(index, wanted)) = self.controls.get(place) {
            return wanted.then(|| self.control(index));
        }
        match place - self.controls.len() {
            0 => self.selection.summary.then(|| self.summary()),
            place => match self.changes.get(place - 1) {
                Some((change, wanted)) => {
                    wanted.then(|| self.change(change::record(change.clone(), self.entry)))
                }
                None => self.expired(place - 1 - self.changes.len()).map(|c| self.change(c)),
            },
        }
    }

    /// What is at the place of an acceptance that may have expired.
    fn expired(&self, index: usize) -> Option<ChangeRecord<'a>> {
        let record = change::expired(self.expectable.get(index)?, self.entry)?;
        self.selection.wants_change(&record.change, self.entry).then_some(record)
    }

    fn change(&self, change: ChangeRecord<'a>) -> Record<'a> {
        let ids = &mut self.ids.borrow_mut();
        let control = Subject { kind: Kind::Control, what: "", control: change.change.control };
        // Only what is measured from an earlier revision goes on from it.
        let is_revised = change.change.base_day == Some(self.entry.snapshot.day);
        let previous =
            if is_revised { previous_control_id(ids, &control, self.entry.history) } else { None };
        let event_id = change.event_id(self.entry, ids, previous);
        let time_ms = change::time_ms(&change.change, self.entry);
        Record { time_ms, ..self.record(event_id, Body::Change(Box::new(change))) }
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
            time_ms: entry.snapshot.day.epoch_ms(),
            tenant: entry.tenant,
            snapshot: entry.snapshot,
            replayed: entry.replayed,
            body,
        }
    }
}

/// The changes of an entry, from its facts alone: the same that [`Records`] makes of its body.
pub fn changes_from_facts<'a>(entry: &'a Entry<'a>, facts: &'a DayFacts) -> Vec<ChangeRecord<'a>> {
    let points: Vec<Point<'a>> = facts.controls.iter().map(Point::of).collect();
    let found = changes(&measured(entry), &points).into_iter();
    let mut records: Vec<ChangeRecord<'a>> =
        found.map(|change| change::record(change, entry)).collect();
    if !entry.rules.expected.is_empty() {
        records.extend(points.iter().filter_map(|point| change::expired(point.name, entry)));
    }
    records
}

fn measured<'a>(entry: &'a Entry<'a>) -> Measured<'a> {
    Measured {
        day: entry.snapshot.day,
        historical: entry.snapshot.is_historical(),
        backfilled: entry.snapshot.backfilled,
        catalog: entry.catalog,
        comparison: &entry.comparison,
    }
}

/// What has changed, by control; and whether the selection wants it.
fn changes_of<'a>(
    entry: &'a Entry<'a>,
    snapshot: &'a Snapshot<'a>,
    controls: &[u32],
    selection: &Selection,
) -> Vec<(Change<'a>, bool)> {
    let points: Vec<Point<'a>> = controls
        .iter()
        .map(|&index| {
            let control = &snapshot.controls[index as usize];
            let &ControlScore { score, percentage, count, total, on, .. } = control;
            Point { name: &control.name, score, percentage, count, total, on }
        })
        .collect();
    let wanted = |change: Change<'a>| {
        let wanted = selection.wants_change(&change, entry);
        (change, wanted)
    };
    changes(&measured(entry), &points).into_iter().map(wanted).collect()
}

impl<'a> Entry<'a> {
    /// What is known of a control, if not now, then when the base was told.
    fn profile(&self, control: &str) -> Option<&'a ProfileSlot> {
        let then = || self.comparison.base.as_ref()?.catalog?.find(control);
        self.catalog.find(control).or_else(then)
    }
}

impl Rules {
    /// Of a configuration that says nothing.
    pub fn none() -> &'static Self {
        &change::NO_RULES
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
