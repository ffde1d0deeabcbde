//! What of an answer is news. Pure: the days that are kept and the days just read, to what is to
//! be appended to the log, in the order of release.

mod accept;
mod noticed;
mod plan;

use std::collections::BTreeMap;

pub use accept::{Refused, accept, unreadable};
pub use noticed::observations;
pub use plan::plan;

use crate::{
    compressed::CompressedText,
    model::{Day, DayFacts},
};

/// A snapshot, decoded, and found to be this tenant's.
#[derive(Clone, Debug)]
pub struct Seen {
    pub snapshot_id: String,
    pub facts: DayFacts,
    /// As sent.
    pub body: CompressedText,
    /// Microsoft said that something is missing in it.
    pub partial: bool,
    /// When it was read, in milliseconds since 1970-01-01.
    pub observed_ms: i64,
    pub origin: Origin,
}

/// Where a copy of a day comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Poll,
    /// Read earlier, and held back since then.
    Held,
    /// An answer that somebody had saved.
    Import,
}

/// One thing to append. `index` is into the days seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub index: usize,
    pub revision: u32,
    /// The day and revision that changes are measured from.
    pub base: Option<(Day, u32)>,
    pub late: bool,
    pub backfilled: bool,
    /// Something is missing in it, and it was held back for long enough.
    pub partial: bool,
}

/// What is to be done with an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Oldest day first.
    pub releases: Vec<Release>,
    /// Rich copies of days kept poor: index, and the revision that is enriched.
    pub enriched: Vec<(usize, u32)>,
    /// Days taken and not released yet, by index: something is missing in them.
    pub held: Vec<usize>,
    /// Days between two days known that the answer should have listed and did not.
    pub missing: Vec<Day>,
    /// Days seen again, whole and as they are kept.
    pub settled: Vec<Day>,
    /// Days of which a better copy is still wanted.
    pub unfinished: Vec<Day>,
}

/// What a poll asked for and knew before.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The answer lists every day from this one on, as far as Microsoft has it; `None` for an
    /// answer that says nothing of what it does not list.
    pub from: Option<Day>,
    pub earliest_kept: Option<Day>,
    pub newest_kept: Option<Day>,
    /// The newest day kept of which nothing is missing, and its revision: the next base.
    pub newest_whole: Option<(Day, u32)>,
    pub today: Day,
}

/// How a day that is not whole is treated.
#[derive(Clone, Debug)]
pub struct Holding {
    /// The catalog was read to its end.
    pub catalog_whole: bool,
    /// Since when days are held, in milliseconds since 1970-01-01.
    pub since: BTreeMap<Day, i64>,
    pub now_ms: i64,
    /// A day is held for so long, in milliseconds.
    pub limit_ms: i64,
}

/// The days that every poll looks at again, for they may be late or revised.
pub const WINDOW: i32 = 3;

#[cfg(test)]
mod tests;
