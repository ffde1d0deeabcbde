//! What a poll, an import or the release of held days commits. The ledger has decided all of it;
//! nothing here reads or writes the database. Start reading at [`PollCommit`].

use super::{CommandId, EntryFlags};
use crate::{
    compressed::CompressedText,
    error::Explanation,
    model::{Day, DayFacts, Observation, UnixMillis},
};

/// A snapshot to append to the log.
#[derive(Debug)]
pub struct NewEntry<'a> {
    /// The `id` of Microsoft's snapshot.
    pub snapshot_id: &'a str,
    /// Revisions of a day are numbered from 1.
    pub revision: u32,
    /// The facts of the day; they also contain the date of the day.
    pub facts: &'a DayFacts,
    /// The JSON as Microsoft sent it.
    pub body: &'a CompressedText,
    /// When it was read.
    pub observed_at: UnixMillis,
    /// The day and revision that changes are measured from.
    pub base: Option<(Day, u32)>,
    /// How the snapshot was accepted.
    pub flags: EntryFlags,
}

/// A richer copy of a stored day with the same hash ([`day_hash`](crate::model::day_hash)): it
/// replaces the stored body and facts, and appends no entry. A copy with another hash changes
/// nothing.
#[derive(Debug)]
pub struct EnrichedDay<'a> {
    /// The revision of the stored day that is replaced.
    pub revision: u32,
    /// The facts of the richer copy; they also contain the date of the day.
    pub facts: &'a DayFacts,
    /// The JSON of the richer copy as Microsoft sent it.
    pub body: &'a CompressedText,
}

/// One profile of a catalog.
#[derive(Clone, Copy, Debug)]
pub struct CatalogMember<'a> {
    /// The JSON of the profile without its decisions, which is the same for many tenants.
    pub shared: &'a str,
    /// The JSON of this tenant's decisions on the control.
    pub decisions: &'a str,
}

/// Everything that one poll of one tenant has read. The default commits nothing, and is not the
/// result of a poll.
#[derive(Debug, Default)]
pub struct PollCommit<'a> {
    /// When the poll read it.
    pub observed_at: UnixMillis,
    /// In the order of release.
    pub entries: Vec<NewEntry<'a>>,
    /// Stored days whose body and facts are replaced.
    pub enriched: Vec<EnrichedDay<'a>>,
    /// Days to hold, each with its body.
    pub held: Vec<(Day, &'a CompressedText)>,
    /// All profiles; empty if the catalog was not read completely.
    pub catalog: Vec<CatalogMember<'a>>,
    /// Observations that begin or end with this poll; one that changes nothing is not appended.
    pub observations: Vec<Observation>,
    /// When the credential of the tenant expires, if the tenant has an open observation about that;
    /// `None` keeps what is stored.
    pub credential_expiry: Option<UnixMillis>,
    /// The first day that the poll requested; `None` if there was no request.
    pub requested_from: Option<Day>,
    /// Days that were requested and not listed.
    pub missing: Vec<Day>,
    /// Days that the response listed completely and that are stored completely.
    pub no_longer_missing: Vec<Day>,
    /// The first day that the poll requested, if all days from it on were read. It completes the
    /// queued backfills that begin on this day or later.
    pub polled_back_to: Option<Day>,
    /// The queued import that is completed.
    pub finished: Option<CommandId>,
    /// The outcome, which is recorded in the state of the tenant.
    pub end: PollEnd,
}

/// The outcome of the poll that is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PollEnd {
    /// Everything that the poll requested was read.
    Complete,
    /// Something is missing, and the poll is retried soon.
    Incomplete {
        /// Why the poll is incomplete, for `status`.
        reason: Explanation,
        /// From the server's `Retry-After`: no request before this time.
        not_before: Option<UnixMillis>,
    },
    /// There was no poll: an import, or the release of held days.
    #[default]
    NoPoll,
}

impl PollCommit<'_> {
    /// The facts of all days whose facts are stored: those that are appended or replaced.
    pub(super) fn stored_facts(&self) -> impl Iterator<Item = &DayFacts> {
        let appended = self.entries.iter().map(|entry| entry.facts);
        appended.chain(self.enriched.iter().map(|enriched| enriched.facts))
    }
}
