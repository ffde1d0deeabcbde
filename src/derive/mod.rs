//! Derives the records of one log entry from its snapshot and catalog.
//!
//! Derivation is a pure function of the entry, its base, the rules and the selection: no I/O, no
//! clock. It is the only source of records, so all sinks, replays and reports agree. Start reading
//! at [`Records`] for a snapshot entry and at [`quality`] for an observation entry.

mod change;
mod control;
mod quality;
mod rules;
mod selection;
mod summary;

use std::{cell::RefCell, collections::BTreeSet};

pub use change::{Base, ComparedDay, Comparison, ControlFactsRef, changes};
pub use quality::{ObservationEntry, quality};
pub use rules::{Expectation, Rules, SeverityRule};
pub use selection::{ControlFilter, FullEvery, Glob, Selection};

use crate::model::{
    Body, Catalog, Change, ChangeRecord, ControlFacts, ControlList, ControlScore, DayFacts,
    EventId, EventIds, Kind, ProfileSlot, Record, Snapshot, SnapshotRef, Subject, Tenant,
    UnixMillis,
};

/// A snapshot entry of the log, without its body.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The tenant with the name and the labels of the current configuration.
    pub tenant: &'a Tenant,
    /// The day, its revision, the position in the log, and how the snapshot was read.
    pub snapshot: &'a SnapshotRef,
    /// When the poll read the snapshot, as RFC 3339 in UTC.
    pub observed_time: &'a str,
    /// The same time as `observed_time`.
    pub observed_at: UnixMillis,
    /// The facts of the day's earlier revisions, oldest first; empty for the first revision.
    pub history: &'a [DayFacts],
    /// The catalog that was read with the day; empty if there was none.
    pub catalog: &'a Catalog,
    /// What the changes of the entry are measured against.
    pub comparison: Comparison<'a>,
    /// The rules of the tenant.
    pub rules: &'a Rules,
    /// Whether the entry is sent again by a replay.
    pub replayed: bool,
}

/// The records of one entry, built one at a time.
///
/// Every record has a slot, and the slot number is the record index that a cursor stores. The
/// slots are, in this order: one per control, by control ID; the summary; one per change, by
/// control ID; and, if the rules expect any decisions, one per control of the day for an
/// acceptance that has expired. The index of a record does not depend on the selection, so a
/// cursor stays valid when the configuration changes.
#[derive(Debug)]
pub struct Records<'a> {
    entry: &'a Entry<'a>,
    snapshot: &'a Snapshot<'a>,
    selection: &'a Selection,
    /// Indices into the snapshot's controls, sorted by ID without duplicates, each with a flag that
    /// is set if the selection includes it. For a revision, only the controls that differ from the
    /// previous revision.
    controls: Vec<(u32, bool)>,
    /// The changes of the day, each with the same flag. Empty if the selection includes no changes
    /// at all.
    changes: Vec<(Change<'a>, bool)>,
    /// The IDs of controls whose acceptance may have expired: all of the day if the rules expect
    /// any decisions, otherwise none.
    acceptance_controls: Vec<&'a str>,
    selected: u32,
    /// The number of distinct controls of the day.
    controls_total: u32,
    /// Indices of the controls that are not used, because another one has the same ID in any case.
    repeated: Vec<u32>,
    ids: RefCell<EventIds>,
}

impl<'a> Records<'a> {
    /// Determines the slots of the entry. `snapshot` must be the decoded body of `entry`.
    pub fn new(entry: &'a Entry<'a>, snapshot: &'a Snapshot<'a>, selection: &'a Selection) -> Self {
        let mut controls = snapshot.used_controls();
        let name = |index: &u32| snapshot.controls[*index as usize].name.as_ref();

        let repeated = if controls.len() == snapshot.controls.len() {
            Vec::new()
        } else {
            let used: BTreeSet<u32> = controls.iter().copied().collect();
            let all = (0_u32..).take(snapshot.controls.len());
            all.filter(|index| !used.contains(index)).collect()
        };
        let controls_total = u32::try_from(controls.len()).unwrap_or(u32::MAX);

        let changes = if selection.changes {
            changes_of_snapshot(entry, snapshot, &controls, selection)
        } else {
            Vec::new()
        };
        let may_expire = selection.changes && !entry.rules.expected.is_empty();
        let acceptance_controls =
            if may_expire { controls.iter().map(name).collect() } else { Vec::new() };

        // A revision sends only the controls that differ from the previous revision. The changes
        // above are measured from the base, so they need all controls.
        if let Some(previous) = entry.history.last() {
            controls.retain(|&index| {
                let control = &snapshot.controls[index as usize];
                let earlier = previous.control(&control.name);
                earlier.is_none_or(|earlier| earlier.differs(&control::facts(control)))
            });
        }
        let with_selection = |index: u32| {
            let control = &snapshot.controls[index as usize];
            (index, selection.controls && selection.control_filter.selects(control, entry))
        };
        let controls: Vec<(u32, bool)> = controls.into_iter().map(with_selection).collect();

        let ids = RefCell::new(EventIds::new(entry.tenant.id, entry.snapshot.day));
        let mut records = Self {
            entry,
            snapshot,
            selection,
            controls,
            changes,
            acceptance_controls,
            selected: 0,
            controls_total,
            repeated,
            ids,
        };
        records.selected = records.count_selected();
        records
    }

    fn count_selected(&self) -> u32 {
        let count = |is_selected: bool| u32::from(is_selected);
        let expired = (0..self.acceptance_controls.len())
            .filter(|index| self.expired_acceptance(*index).is_some());

        self.controls.iter().map(|(_, is_selected)| count(*is_selected)).sum::<u32>()
            + self.changes.iter().map(|(_, is_selected)| count(*is_selected)).sum::<u32>()
            + u32::try_from(expired.count()).unwrap_or(0)
            + count(self.selection.summary)
    }

    /// The number of slots: one more than the last record index.
    pub fn end(&self) -> u32 {
        let slots = self.controls.len() + 1 + self.changes.len() + self.acceptance_controls.len();
        u32::try_from(slots).unwrap_or(u32::MAX)
    }

    /// Sets the number of records that the summary reports, instead of [`Self::selected`]: a record
    /// that is sent again must equal the one that the sink first received.
    #[must_use]
    pub fn with_records_sent(mut self, records_sent: u32) -> Self {
        self.selected = records_sent;
        self
    }

    /// The number of records that the selection includes.
    pub fn selected(&self) -> u32 {
        self.selected
    }

    /// The record in a slot; `None` past the last slot and where the selection excludes the record.
    pub fn at(&self, slot: u32) -> Option<Record<'a>> {
        let slot = slot as usize;
        if let Some(&(index, is_selected)) = self.controls.get(slot) {
            return is_selected.then(|| self.control(index));
        }

        match slot - self.controls.len() {
            0 => self.selection.summary.then(|| self.summary()),
            slot => {
                if let Some((change, is_selected)) = self.changes.get(slot - 1) {
                    is_selected.then(|| self.change(change::record(change.clone(), self.entry)))
                } else {
                    let index = slot - 1 - self.changes.len();
                    self.expired_acceptance(index).map(|record| self.change(record))
                }
            }
        }
    }

    /// The change record of an acceptance slot, if the control's acceptance has expired and the
    /// selection includes it.
    fn expired_acceptance(&self, index: usize) -> Option<ChangeRecord<'a>> {
        let record = change::expired(self.acceptance_controls.get(index)?, self.entry)?;
        self.selection.selects_change(&record.change, self.entry).then_some(record)
    }

    fn change(&self, change: ChangeRecord<'a>) -> Record<'a> {
        let ids = &mut self.ids.borrow_mut();
        let control = Subject { kind: Kind::Control, what: "", control: change.change.control };

        // Only a change that is measured from an earlier revision of the day continues the chain
        // of that revision's event IDs.
        let is_revised = change.change.base_day == Some(self.entry.snapshot.day);
        let previous =
            if is_revised { previous_control_id(ids, &control, self.entry.history) } else { None };

        let event_id = change.event_id(self.entry, ids, previous);
        let time = change::time(&change.change, self.entry);
        Record { time, ..self.record(event_id, Body::Change(Box::new(change))) }
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

        let used = (0_u32..)
            .zip(&self.snapshot.controls)
            .filter(|(index, _)| !self.repeated.contains(index))
            .map(|(_, control)| control);
        let body = summary::record(self.snapshot, used, self.controls_total, self.selected());
        self.record(event_id, Body::Summary(body))
    }

    fn record(&self, event_id: EventId, body: Body<'a>) -> Record<'a> {
        let entry = self.entry;
        Record {
            event_id,
            observed_time: entry.observed_time,
            observed_at: entry.observed_at,
            time: entry.snapshot.day.start(),
            tenant: entry.tenant,
            snapshot: entry.snapshot,
            replayed: entry.replayed,
            body,
        }
    }
}

impl<'a> Entry<'a> {
    /// The profile of a control from the entry's catalog, or from its base's catalog if the control
    /// is no longer in the entry's.
    fn profile(&self, control: &str) -> Option<&'a ProfileSlot> {
        let in_base = || self.comparison.base.as_ref()?.catalog?.find(control);
        self.catalog.find(control).or_else(in_base)
    }
}

impl Rules {
    /// The rules of a configuration that defines none.
    pub fn none() -> &'static Self {
        &change::NO_RULES
    }
}

/// The changes of an entry, derived from its facts without its body. They equal those that
/// [`Records`] derives from the body with a selection that includes everything.
pub fn changes_from_facts<'a>(entry: &'a Entry<'a>, facts: &'a DayFacts) -> Vec<ChangeRecord<'a>> {
    let controls: Vec<ControlFactsRef<'a>> =
        facts.controls.iter().map(ControlFactsRef::of).collect();
    let has_lost_controls = facts.has_lost_controls;
    let day = ComparedDay { has_lost_controls, ..compared_day(entry) };
    let changes = changes(&day, &controls);

    let mut records: Vec<ChangeRecord<'a>> =
        changes.into_iter().map(|change| change::record(change, entry)).collect();
    if !entry.rules.expected.is_empty() {
        records.extend(controls.iter().filter_map(|control| change::expired(control.name, entry)));
    }
    records
}

/// The day of an entry, with all its controls.
fn compared_day<'a>(entry: &'a Entry<'a>) -> ComparedDay<'a> {
    ComparedDay {
        day: entry.snapshot.day,
        historical: entry.snapshot.is_historical(),
        backfilled: entry.snapshot.backfilled,
        has_lost_controls: false,
        catalog: entry.catalog,
        comparison: &entry.comparison,
    }
}

/// The changes of a snapshot, by control ID, each with a flag that is set if the selection includes
/// it. `controls` are indices into the snapshot's controls, sorted by ID without duplicates.
fn changes_of_snapshot<'a>(
    entry: &'a Entry<'a>,
    snapshot: &'a Snapshot<'a>,
    controls: &[u32],
    selection: &Selection,
) -> Vec<(Change<'a>, bool)> {
    let controls: Vec<ControlFactsRef<'a>> = controls
        .iter()
        .map(|&index| {
            let control = &snapshot.controls[index as usize];
            let &ControlScore { score, percentage, count, total, on, .. } = control;
            ControlFactsRef { name: &control.name, score, percentage, count, total, on }
        })
        .collect();

    let with_selection = |change: Change<'a>| {
        let is_selected = selection.selects_change(&change, entry);
        (change, is_selected)
    };
    let has_lost_controls = snapshot.control_list != ControlList::Complete;
    let day = ComparedDay { has_lost_controls, ..compared_day(entry) };
    changes(&day, &controls).into_iter().map(with_selection).collect()
}

/// The event ID under which an earlier revision of the day last sent a control; `None` if no
/// earlier revision sent it.
fn previous_control_id(
    ids: &mut EventIds,
    subject: &Subject<'_>,
    history: &[DayFacts],
) -> Option<EventId> {
    let mut id = None;
    let mut last: Option<&ControlFacts> = None;

    // A revision sends a control only if its facts differ from those of the previous revision.
    for facts in history {
        let current = facts.control(subject.control);
        if let Some(sent) = current.filter(|facts| last.is_none_or(|last| last.differs(facts))) {
            let facts = ids.facts(sent.score, sent.percentage);
            id = Some(ids.make(subject, &facts, id));
        }
        last = current;
    }
    id
}

/// The event ID of the day's last summary; every revision sends one.
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
