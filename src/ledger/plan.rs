//! Plans what happens to each day of a response: release it, hold it, enrich the stored copy, or
//! report it as missing. Days are processed from the oldest to the newest, because the base of a
//! day is the newest complete day before it. Start reading at [`plan`].
//! See decisions 0005 and 0007.

use std::collections::BTreeMap;

use super::{AcceptedSnapshot, Holding, PollPlan, PollScope, REREAD_DAYS, Release, SnapshotOrigin};
use crate::model::{Day, FactsComparison, KeptDay, compare, day_hash};

/// Compares the snapshots that were read with the stored days. `kept` must contain the newest
/// stored day and all stored days since [`PollScope::from`].
pub fn plan(
    snapshots: &[AcceptedSnapshot],
    kept: &BTreeMap<Day, KeptDay>,
    scope: PollScope,
    holding: &Holding,
) -> PollPlan {
    // If a day occurs twice, the first copy is used; copies of this poll precede held ones.
    let mut by_day: BTreeMap<Day, usize> = BTreeMap::new();
    for (index, snapshot) in snapshots.iter().enumerate() {
        by_day.entry(snapshot.facts.day).or_insert(index);
    }

    let mut planner = Planner {
        plan: PollPlan::default(),
        holding,
        today: scope.today,
        newest: scope.newest_kept,
        newest_complete: scope.newest_complete,
    };
    for (&day, &index) in &by_day {
        let copy = &snapshots[index];
        match kept.get(&day) {
            None => planner.new_day(index, copy),
            Some(stored) if stored.partial => planner.completion(index, copy, stored),
            Some(stored) => planner.known_day(index, copy, stored),
        }
    }

    let mut plan = planner.plan;
    plan.missing = missing(&by_day, kept, scope);
    plan
}

/// Processes the days of a response, oldest first.
struct Planner<'a> {
    plan: PollPlan,
    holding: &'a Holding,
    today: Day,
    /// The newest day, stored or planned.
    newest: Option<Day>,
    /// The newest complete day, stored or planned, and its revision: the base of the next day.
    newest_complete: Option<(Day, u32)>,
}

impl Planner<'_> {
    /// A day that is not stored yet.
    fn new_day(&mut self, index: usize, copy: &AcceptedSnapshot) {
        let day = copy.facts.day;

        let partial = !self.is_complete(copy);
        if partial {
            self.plan.unfinished.push(day);
            if self.holding.is_held(day, copy.observed_at) {
                self.plan.held.push(index);
                return;
            }
        }

        let late = self.newest.is_some_and(|newest| day < newest);
        let base = self.newest_complete.filter(|(base, _)| !late && !partial && *base < day);
        let backfilled = self.is_backfilled(day);
        self.plan.releases.push(Release { index, revision: 1, base, late, backfilled, partial });

        self.newest = self.newest.max(Some(day));
        if !partial && self.newest_complete.is_none_or(|(complete, _)| complete < day) {
            self.newest_complete = Some((day, 1));
        }
    }

    /// A day that is stored as partial. A complete copy becomes a revision; its base is the one
    /// that the day would have had if its first copy had been complete.
    fn completion(&mut self, index: usize, copy: &AcceptedSnapshot, stored: &KeptDay) {
        let day = copy.facts.day;

        if !self.is_complete(copy) {
            self.plan.unfinished.push(day);
            return;
        }

        let is_newest = self.newest == Some(day);
        let base = self.newest_complete.filter(|(base, _)| is_newest && *base < day);
        let revision = stored.revision.saturating_add(1);
        self.release_revision(index, day, revision, base);

        if self.newest_complete.is_none_or(|(complete, _)| complete <= day) {
            self.newest_complete = Some((day, revision));
        }
    }

    /// A day that is stored completely.
    fn known_day(&mut self, index: usize, copy: &AcceptedSnapshot, stored: &KeptDay) {
        // An incomplete copy cannot be compared with the complete one that is stored.
        if copy.partial || copy.origin == SnapshotOrigin::Held {
            return;
        }

        let day = copy.facts.day;
        match compare(&stored.facts, &copy.facts) {
            comparison @ (FactsComparison::Same | FactsComparison::Enriches) => {
                let is_useful = stored.without_body || comparison == FactsComparison::Enriches;
                // A body is replaced only by one with exactly the same facts, because event IDs
                // are computed from the facts: a copy with one more fact would change the IDs of
                // records that were already sent.
                if is_useful && day_hash(&stored.facts) == day_hash(&copy.facts) {
                    self.plan.enriched.push((index, stored.revision));
                }
                self.plan.settled.push(day);
            }
            // An import adds days and never revises a stored one.
            FactsComparison::Revision if copy.origin == SnapshotOrigin::Import => {}
            // A revision is released only together with the complete catalog of the same poll.
            FactsComparison::Revision if !self.is_complete(copy) => self.plan.unfinished.push(day),
            FactsComparison::Revision => {
                let revision = stored.revision.saturating_add(1);
                self.release_revision(index, day, revision, Some((day, stored.revision)));
                if self.newest_complete.is_some_and(|(complete, _)| complete == day) {
                    self.newest_complete = Some((day, revision));
                }
            }
        }
    }

    fn is_complete(&self, copy: &AcceptedSnapshot) -> bool {
        !copy.partial && self.holding.catalog_complete && copy.origin != SnapshotOrigin::Held
    }

    /// Whether a day is older than the days that every poll reads.
    fn is_backfilled(&self, day: Day) -> bool {
        day < self.today.plus(1 - REREAD_DAYS)
    }

    /// Releases a complete copy of a day that is in the log.
    fn release_revision(
        &mut self,
        index: usize,
        day: Day,
        revision: u32,
        base: Option<(Day, u32)>,
    ) {
        let backfilled = self.is_backfilled(day);
        let (late, partial) = (false, false);
        self.plan.releases.push(Release { index, revision, base, late, backfilled, partial });
    }
}

/// The days between known days that were requested and are neither in the response nor stored.
fn missing(
    by_day: &BTreeMap<Day, usize>,
    kept: &BTreeMap<Day, KeptDay>,
    scope: PollScope,
) -> Vec<Day> {
    let Some(from) = scope.from else { return Vec::new() };

    // No day before the first known one counts as missing: the tenant may not have had a score yet.
    let first_seen = by_day.first_key_value().map(|(day, _)| *day);
    let last_seen = by_day.last_key_value().map(|(day, _)| *day);
    let earliest = [scope.earliest_kept, first_seen].into_iter().flatten().min();
    let last = [scope.newest_kept, last_seen].into_iter().flatten().max();
    let (Some(earliest), Some(last)) = (earliest, last) else { return Vec::new() };

    let from = from.max(earliest).max(scope.today.oldest_at_source());
    let days = (from.number()..last.number()).filter_map(Day::from_number);
    days.filter(|day| !by_day.contains_key(day) && !kept.contains_key(day)).collect()
}
