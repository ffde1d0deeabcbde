//! The ledger: decides which days of an answer are new, revised, enriched, held, missing or
//! rejected.
//!
//! This module is pure. It compares the days that were just read with the stored ones and returns a
//! [`Plan`] of what is appended to the log, in the order of release; the collector carries it out.
//! Start reading at [`accept`] and [`plan`].

mod accept;
mod observations;
mod plan;

use std::collections::BTreeMap;

pub use accept::{Rejected, accept, unreadable};
pub use observations::observations;
pub use plan::plan;

use crate::{
    compressed::CompressedText,
    model::{Day, DayFacts},
};

/// An accepted snapshot: decoded, plausible, and of the tenant that was polled.
#[derive(Clone, Debug)]
pub struct Seen {
    pub snapshot_id: String,
    pub facts: DayFacts,
    /// The body as Microsoft sent it.
    pub body: CompressedText,
    /// Whether Microsoft marked the answer as incomplete.
    pub partial: bool,
    /// When the snapshot was read, in milliseconds since 1970-01-01.
    pub observed_ms: i64,
    pub origin: Origin,
}

/// The origin of a copy of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The poll that is being processed.
    Poll,
    /// An earlier poll, which accepted the day and held it.
    Held,
    /// A file with a saved answer.
    Import,
}

/// An entry to append to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The index of the copy in the list of seen days.
    pub index: usize,
    pub revision: u32,
    /// The day and revision that changes are measured from.
    pub base: Option<(Day, u32)>,
    pub late: bool,
    pub backfilled: bool,
    /// The copy is incomplete and was held for the whole hold time.
    pub partial: bool,
}

/// What is done with the days of an answer. Every index refers to the list of seen days.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The entries to append, oldest day first.
    pub releases: Vec<Release>,
    /// Rich copies of days whose stored copy is poor: the index, and the revision that gets the
    /// body.
    pub enriched: Vec<(usize, u32)>,
    /// Indexes of days that are accepted but not released yet, because they are incomplete.
    pub held: Vec<usize>,
    /// Days between two known days that the answer should have listed and did not.
    pub missing: Vec<Day>,
    /// Known days that were read again, completely and with the stored facts.
    pub settled: Vec<Day>,
    /// Days of which a complete copy is still needed.
    pub unfinished: Vec<Day>,
}

/// What a poll requested, and what was stored before it.
#[derive(Clone, Copy, Debug)]
pub struct PollScope {
    /// The first day of the answer, which lists every day from there on that Microsoft has. `None`
    /// for an answer from which nothing follows about days that it does not list.
    pub from: Option<Day>,
    pub earliest_kept: Option<Day>,
    pub newest_kept: Option<Day>,
    /// The newest complete day and its revision, which is the next base.
    pub newest_complete: Option<(Day, u32)>,
    pub today: Day,
}

/// How an incomplete day is treated.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Whether the catalog was read to its end.
    pub catalog_complete: bool,
    /// Since when each held day is held, in milliseconds since 1970-01-01.
    pub since: BTreeMap<Day, i64>,
    pub now_ms: i64,
    /// For how long a day is held, in milliseconds.
    pub limit_ms: i64,
}

/// The number of newest days that every poll reads again, because they can be late or revised.
pub const REREAD_DAYS: i32 = 3;

#[cfg(test)]
mod tests;
