//! What is released, held, enriched or missed.

use std::collections::BTreeMap;

use super::{Asked, Holding, Origin, Plan, Release, Seen, WINDOW};
use crate::model::{Comparison, Day, KeptDay, compare, day_digest};

/// Compares what was seen with what is kept, which must hold the newest day and all from
/// [`Asked::from`] on.
pub fn plan(seen: &[Seen], kept: &BTreeMap<Day, KeptDay>, asked: Asked, holding: &Holding) -> Plan {
    // Of a day that stands twice in an answer the first counts, and a fresh copy before a held one.
    let mut by_day: BTreeMap<Day, usize> = BTreeMap::new();
    for (index, seen) in seen.iter().enumerate() {
        by_day.entry(seen.facts.day).or_insert(index);
    }
    let mut planning = Planning {
        plan: Plan::default(),
        holding,
        today: asked.today,
        newest: asked.newest_kept,
        newest_whole: asked.newest_whole,
    };
    for (&day, &index) in &by_day {
        let copy = &seen[index];
        match kept.get(&day) {
            None => planning.new_day(index, copy),
            Some(old) if old.partial => planning.completion(index, copy, old),
            Some(old) => planning.known_day(index, copy, old),
        }
    }
    let mut plan = planning.plan;
    plan.missing = missing(&by_day, kept, asked);
    plan
}

struct Planning<'a> {
    plan: Plan,
    holding: &'a Holding,
    today: Day,
    newest: Option<Day>,
    newest_whole: Option<(Day, u32)>,
}

impl Planning<'_> {
    fn new_day(&mut self, index: usize, copy: &Seen) {
        let day = copy.facts.day;
        let partial = !self.is_whole(copy);
        if partial {
            self.plan.unfinished.push(day);
            let since = self.holding.since.get(&day).copied().unwrap_or(copy.observed_ms);
            if self.holding.now_ms - since < self.holding.limit_ms {
                self.plan.held.push(index);
                return;
            }
        }
        let late = self.newest.is_some_and(|newest| day < newest);
        let base = self.newest_whole.filter(|(base, _)| !late && !partial && *base < day);
        self.release(index, copy, 1, base, late, partial);
        self.newest = self.newest.max(Some(day));
        if !partial && self.newest_whole.is_none_or(|(whole, _)| whole < day) {
            self.newest_whole = Some((day, 1));
        }
    }

    /// A day told in part, and now to its end: a revision, with the base that it should have had.
    fn completion(&mut self, index: usize, copy: &Seen, old: &KeptDay) {
        let day = copy.facts.day;
        if !self.is_whole(copy) {
            self.plan.unfinished.push(day);
            return;
        }
        let in_time = self.newest == Some(day);
        let base = self.newest_whole.filter(|(base, _)| in_time && *base < day);
        let revision = old.revision + 1;
        self.release(index, copy, revision, base, false, false);
        if self.newest_whole.is_none_or(|(whole, _)| whole <= day) {
            self.newest_whole = Some((day, revision));
        }
    }

    fn known_day(&mut self, index: usize, copy: &Seen, old: &KeptDay) {
        // What a copy lacks says nothing about a day that is known to its end.
        if copy.partial || copy.origin == Origin::Held {
            return;
        }
        let day = copy.facts.day;
        match compare(&old.facts, &copy.facts) {
            comparison @ (Comparison::Same | Comparison::Enriches) => {
                let wanted = old.bodiless || comparison == Comparison::Enriches;
                // What was told went out under ids over its facts: texts of a copy that states a
                // fact more would go out under others.
                if wanted && day_digest(&old.facts) == day_digest(&copy.facts) {
                    self.plan.enriched.push((index, old.revision));
                }
                self.plan.settled.push(day);
            }
            // A saved answer adds to history, and does not change what was told.
            Comparison::Revision if copy.origin == Origin::Import => {}
            // Wanted with the catalog that belongs to it.
            Comparison::Revision if !self.is_whole(copy) => self.plan.unfinished.push(day),
            Comparison::Revision => {
                let revision = old.revision + 1;
                self.release(index, copy, revision, Some((day, old.revision)), false, false);
                if self.newest_whole.is_some_and(|(whole, _)| whole == day) {
                    self.newest_whole = Some((day, revision));
                }
            }
        }
    }

    fn is_whole(&self, copy: &Seen) -> bool {
        !copy.partial && self.holding.catalog_whole && copy.origin != Origin::Held
    }

    fn release(
        &mut self,
        index: usize,
        copy: &Seen,
        revision: u32,
        base: Option<(Day, u32)>,
        late: bool,
        partial: bool,
    ) {
        let backfilled = copy.facts.day < self.today.plus(1 - WINDOW);
        self.plan.releases.push(Release { index, revision, base, late, backfilled, partial });
    }
}

/// Days that lie between days known and that this answer reached back over without listing them.
fn missing(by_day: &BTreeMap<Day, usize>, kept: &BTreeMap<Day, KeptDay>, asked: Asked) -> Vec<Day> {
    let Some(from) = asked.from else { return Vec::new() };
    let first_seen = by_day.first_key_value().map(|(day, _)| *day);
    let last_seen = by_day.last_key_value().map(|(day, _)| *day);
    // A tenant's first day is the first there is.
    let earliest = [asked.earliest_kept, first_seen].into_iter().flatten().min();
    let last = [asked.newest_kept, last_seen].into_iter().flatten().max();
    let (Some(earliest), Some(last)) = (earliest, last) else { return Vec::new() };
    let from = from.max(earliest).max(asked.today.plus(-89));
    let days = (from.number()..last.number()).filter_map(Day::from_number);
    days.filter(|day| !by_day.contains_key(day) && !kept.contains_key(day)).collect()
}
