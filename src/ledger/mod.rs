//! The ledger: decides which days of a response are new, revised, enriched, held, missing or
//! rejected.
//!
//! This module is pure. It compares the days that were just read with the stored ones and returns a
//! [`PollPlan`] of what to append to the log, in the order of release; the collector executes it.
//! It also has the rules for what the checkpoint stores: which missing days are requested again,
//! which observations begin or end, and which bodies may be pruned. Start reading at [`accept`] and
//! [`plan`].

mod accept;
mod emptied;
mod observations;
mod phases;
mod plan;
mod plausibility;
mod rejections;
mod requests;
mod retention;

use std::{collections::BTreeMap, time::Duration};

pub use accept::{Rejected, accept, unreadable};
pub use emptied::reject_emptied;
pub use observations::{faulty_catalog, observations};
pub use phases::{OpenCondition, OpenConditions};
pub use plan::plan;
pub use plausibility::CatalogMaxima;
pub use rejections::Rejections;
pub use requests::{Completeness, DayPresence, MissingDay, RequestedDays, after_poll, due_days};
pub use retention::{BodyUse, prunable_before};

pub use crate::model::REREAD_DAYS;
use crate::{
    compressed::CompressedText,
    model::{
        ControlFacts, DataFaults, Day, DayFacts, FactsComparison, Number, UnixMillis, compare,
        day_hash,
    },
};

/// An accepted snapshot: decoded, plausible, and of the tenant that was polled.
#[derive(Clone, Debug)]
pub struct AcceptedSnapshot {
    /// The `id` of Microsoft's snapshot.
    pub snapshot_id: String,
    /// The facts of the snapshot; they also contain the date of the day.
    pub facts: DayFacts,
    /// The body as Microsoft sent it.
    pub body: CompressedText,
    /// Whether Microsoft marked the response as incomplete.
    pub partial: bool,
    /// When the snapshot was read.
    pub observed_at: UnixMillis,
    /// The source of the copy.
    pub origin: SnapshotOrigin,
    /// What was removed or replaced, and which values are impossible.
    pub faults: DataFaults,
}

/// The origin of a copy of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOrigin {
    /// The poll that is being processed.
    Poll,
    /// An earlier poll, which accepted the day and held it.
    Held,
    /// A file with a saved response.
    Import,
}

/// An entry to append to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The index of the copy in the snapshots that were passed to [`plan`].
    pub index: usize,
    /// The revision of the day, starting at 1.
    pub revision: u32,
    /// The day and revision that changes are measured from.
    pub base: Option<(Day, u32)>,
    /// A later day is already in the log.
    pub late: bool,
    /// The day is older than the newest days that every poll reads.
    pub backfilled: bool,
    /// The copy is incomplete and was held for [`Holding::limit`].
    pub partial: bool,
}

/// What to do with the days of a response. Every index refers to the snapshots that were passed to
/// [`plan`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PollPlan {
    /// The entries to append, oldest day first.
    pub releases: Vec<Release>,
    /// Copies that replace the stored body because it has fewer texts or was pruned: the index, and
    /// the stored revision.
    pub enriched: Vec<(usize, u32)>,
    /// Indexes of days that are accepted but not released yet, because they are incomplete.
    pub held: Vec<usize>,
    /// Days between two known days that the response should have listed and did not.
    pub missing: Vec<Day>,
    /// Known days that were read again, completely and with the stored facts.
    pub settled: Vec<Day>,
    /// Days whose copy in the response is incomplete; they are requested again.
    pub unfinished: Vec<Day>,
}

/// What a poll requested, and what was stored before it.
#[derive(Clone, Copy, Debug)]
pub struct PollScope {
    /// The first day that was requested. The response lists every later day that Microsoft has.
    /// `None` if the absence of a day has no meaning, as in an import.
    pub from: Option<Day>,
    /// The earliest stored day; `None` if no day is stored.
    pub earliest_kept: Option<Day>,
    /// The newest stored day; `None` if no day is stored.
    pub newest_kept: Option<Day>,
    /// The newest complete day and its revision, which is the next base.
    pub newest_complete: Option<(Day, u32)>,
    /// The UTC day of the poll.
    pub today: Day,
}

/// How to treat incomplete days.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Whether the catalog was read to its end.
    pub catalog_complete: bool,
    /// When each held day was first held.
    pub since: BTreeMap<Day, UnixMillis>,
    /// The time of the poll.
    pub now: UnixMillis,
    /// How long a day is held.
    pub limit: Duration,
}

impl Holding {
    /// Whether an incomplete day is still held. `observed_at` is when the copy was read. A time in
    /// the future is unknown: the hold then begins with the copy, or is over.
    fn is_held(&self, day: Day, observed_at: UnixMillis) -> bool {
        let first_held = self.since.get(&day).copied().unwrap_or(observed_at);
        let since = first_held.known_past(self.now).or(observed_at.known_past(self.now));
        since.is_some_and(|since| since.saturating_add(self.limit) > self.now)
    }
}

impl AcceptedSnapshot {
    /// The approximate number of bytes that the snapshot takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let controls = self.facts.controls.iter();
        let facts = controls.map(|control| control.name.len() + size_of::<ControlFacts>());
        facts.sum::<usize>().saturating_add(self.body.compressed_bytes())
    }

    /// Combines two copies of one day in a response, which is a fault. The copy that is used does
    /// not depend on the order in which Microsoft lists them: it is the complete one, then the one
    /// with texts, with more controls, and with the higher score.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let is_equal = compare(&self.facts, &other.facts) != FactsComparison::Revision;
        let is_preferred = other.rank() > self.rank();

        let mut used = if is_preferred { other } else { self };
        let values = if is_equal { "" } else { ", with different values" };
        used.faults.add(format!("the day appears more than once{values}"));
        used
    }

    /// The rank among several copies of one day. Two copies with different facts have different
    /// ranks.
    fn rank(&self) -> impl PartialOrd + use<> {
        let Self { facts, partial, .. } = self;
        let number = |number: Option<Number>| number.map(Number::get);
        let controls: Vec<_> = facts
            .controls
            .iter()
            .map(|c| ([c.score, c.percentage, c.count, c.total].map(number), c.on))
            .collect();
        let scores = [facts.current_score, facts.max_score].map(number);
        (!partial, facts.rich, controls.len(), scores, day_hash(facts), controls)
    }
}

#[cfg(test)]
mod tests;
