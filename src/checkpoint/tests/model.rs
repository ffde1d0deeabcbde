//! Random sequences of calls, on a checkpoint and on a model in memory: every result is the same,
//! and so is everything that the queries return after every call.
//!
//! `calls` generates the calls, and `run` makes each of them on both, with the `values` that they
//! represent. `polls`, `deliveries` and `sinks` change the model as the documentation of the calls
//! describes, `views` and `history` derive from it what the queries return, and `check` and
//! `entries` compare; `commands`, `domains`, `notes` and `queries` do all of this for one area.
//! `faulty` makes calls fail, `errors` lists calls that fail in other ways, and `coverage` requires
//! that no call is left out. The rules of the ledger are not repeated here, because the ledger has
//! its own tests. Start reading at [`Run::execute`].

mod calls;
mod check;
mod commands;
mod coverage;
mod deliveries;
mod domains;
mod entries;
mod errors;
mod faulty;
mod history;
mod notes;
mod polls;
mod queries;
mod run;
mod sinks;
mod values;
mod views;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use self::{
    commands::ModelImport,
    domains::ModelResolution,
    notes::Notes,
    run::{Run, Storage},
};
use super::{backlog::ModelCursor, *};
use crate::{
    checkpoint::backend::{FromValue, SqlValue},
    ledger::MissingDay,
    model::{Baseline, CheckpointId},
};

/// The number of tenants.
const TENANTS: usize = 2;
/// The names of the sinks.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// The types of the sinks.
const TYPES: [&str; 2] = ["file", "kafka"];
/// The number of days that snapshots have, from [`first_day`] on.
const DAYS: i32 = 7;
/// The number of different scores of a day.
const SCORES: u32 = 3;
/// The days of the times of calls, relative to [`first_day`]. At the last ones, Microsoft no longer
/// keeps some of the days.
const TIMES: [i32; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 91, 93, 95, 97];
/// The number of newest days whose bodies are never pruned.
const KEPT_DAYS: i32 = 90;

/// The profiles and the decisions of catalogs. Two of them differ only in their order, and the
/// empty one was not read completely.
const CATALOGS: [&[(&str, &str)]; 5] = [
    &[],
    &[(r#"{"id":"A"}"#, "")],
    &[(r#"{"id":"A"}"#, ""), (r#"{"id":"B"}"#, "[1]")],
    &[(r#"{"id":"B"}"#, "[1]"), (r#"{"id":"A"}"#, "")],
    &[(r#"{"id":"A"}"#, "[2]")],
];

/// The kinds and the subjects of observations; an empty subject represents the day.
const OBSERVED: [(ObservationKind, &str); 7] = [
    (ObservationKind::Gap, ""),
    (ObservationKind::Stale, "newest"),
    (ObservationKind::PollFailed, "poll"),
    (ObservationKind::CredentialExpiring, "credential"),
    (ObservationKind::Implausible, "secureScores"),
    (ObservationKind::Implausible, "unreadable, 7 bytes"),
    (ObservationKind::Implausible, "snapshots without a usable day"),
];

/// Why records are rejected, and why sinks fail.
const REASONS: [&str; 2] = ["no such field", "too large"];

/// The decisions of a catalog version by profile.
type Members = BTreeMap<String, String>;

/// What a checkpoint contains.
#[derive(Debug, Default)]
struct Model {
    /// The ID of the checkpoint.
    id: CheckpointId,
    /// In the order in which they were added, like everything else that is a list.
    tenants: Vec<ModelTenant>,
    sinks: Vec<ModelSink>,
    /// Their IDs are [`no_id`].
    letters: Vec<QueuedDeadLetter>,
    replays: Vec<ModelReplay>,
    imports: Vec<ModelImport>,
    /// The tenants that domains were resolved to.
    domains: BTreeMap<&'static str, TenantId>,
    unresolved: BTreeMap<&'static str, ModelResolution>,
    notes: Notes,
    /// The tenants whose polls are running.
    running: BTreeSet<TenantId>,
    /// The second cursor file as it was when the checkpoint was opened, without what was deleted
    /// since.
    saved: CursorFile,
    /// The second cursor file as it was written last.
    file: CursorFile,
    /// Why that file is outdated.
    outdated: Option<Explanation>,
}

#[derive(Debug)]
struct ModelTenant {
    id: TenantId,
    /// The entry with `seq` 1 is the first.
    log: Vec<ModelEntry>,
    /// All versions.
    catalogs: Vec<Members>,
    open: Vec<ModelCondition>,
    missing: Vec<MissingDay>,
    held: BTreeMap<Day, HeldDay>,
    baselines: Vec<Baseline>,
    /// The first days of the queued backfills, and when they were requested.
    backfills: Vec<(Day, UnixMillis)>,
    /// Without the newest day, the queued backfill, and whether the last failure was local.
    polls: PollState,
    last_error: Option<(Explanation, PollErrorClass)>,
    failing_since: Option<UnixMillis>,
}

#[derive(Debug)]
enum ModelEntry {
    Snapshot(Box<ModelSnapshot>),
    /// An observation, and when it was noticed.
    Observation(Observation, UnixMillis),
}

#[derive(Debug)]
struct ModelSnapshot {
    snapshot_id: String,
    revision: u32,
    facts: DayFacts,
    /// `None` after it was pruned.
    body: Option<String>,
    observed_at: UnixMillis,
    base: Option<(Day, u32)>,
    flags: EntryFlags,
    /// The index of the version in the catalogs of the tenant.
    catalog: Option<usize>,
}

/// An observation that has begun and has not ended.
#[derive(Debug)]
struct ModelCondition {
    begin: Observation,
    since: UnixMillis,
    expires: Option<UnixMillis>,
}

#[derive(Debug)]
struct ModelSink {
    name: SinkName,
    kind: Option<&'static str>,
    cursors: BTreeMap<TenantId, ModelCursor>,
    /// The provisional first day.
    provisional: Option<Day>,
    filter: EntryFilter,
    mark: Option<Vec<u8>>,
    sent: u64,
    rejected: u64,
    truncated: u64,
    last_acknowledgement: Option<UnixMillis>,
    failure: Option<ModelFailure>,
    removed_at: Option<UnixMillis>,
}

/// Why a sink makes no progress.
#[derive(Debug)]
struct ModelFailure {
    failure: SinkFailure,
    reason: Explanation,
    since: UnixMillis,
}

#[derive(Debug)]
struct ModelReplay {
    /// `None` until a deliverer has read it.
    id: Option<ReplayId>,
    sink: SinkName,
    first_day: Day,
    last_day: Day,
    cursors: BTreeMap<TenantId, ModelReplayCursor>,
}

#[derive(Debug)]
struct ModelReplayCursor {
    at: Position,
    /// The last entry to send.
    last_seq: Seq,
}

/// Why a call fails, although the database does not.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The sink whose cursor is at another position.
    CursorMoved(SinkName),
    /// The old and the new name of a sink.
    SinkExists(SinkName, SinkName),
    /// A day already has a revision with this number.
    DuplicateRevision,
}

impl Model {
    fn tenant(&self, id: TenantId) -> Option<&ModelTenant> {
        self.tenants.iter().find(|tenant| tenant.id == id)
    }

    /// The tenant, which is added if it does not exist.
    fn tenant_mut(&mut self, id: TenantId) -> &mut ModelTenant {
        if self.tenant(id).is_none() {
            self.tenants.push(ModelTenant::new(id));
        }
        self.tenants.iter_mut().find(|tenant| tenant.id == id).unwrap()
    }

    /// The last entry of a tenant, or [`Seq::ZERO`].
    fn last_seq(&self, id: TenantId) -> Seq {
        self.tenant(id).map_or(Seq::ZERO, ModelTenant::last_seq)
    }

    /// The `seq` of the next entry of a tenant.
    fn next_seq(&self, id: TenantId) -> Seq {
        self.last_seq(id).next()
    }

    fn sink(&self, name: &SinkName) -> Option<&ModelSink> {
        self.sinks.iter().find(|sink| sink.name == *name)
    }

    fn sink_mut(&mut self, name: &SinkName) -> Option<&mut ModelSink> {
        self.sinks.iter_mut().find(|sink| sink.name == *name)
    }

    /// Whether a sink exists and was removed from the configuration.
    fn is_removed(&self, name: &SinkName) -> bool {
        self.sink(name).is_some_and(|sink| sink.removed_at.is_some())
    }
}

impl ModelTenant {
    fn new(id: TenantId) -> Self {
        Self {
            id,
            log: Vec::new(),
            catalogs: Vec::new(),
            open: Vec::new(),
            missing: Vec::new(),
            held: BTreeMap::new(),
            baselines: Vec::new(),
            backfills: Vec::new(),
            polls: PollState::default(),
            last_error: None,
            failing_since: None,
        }
    }

    /// The last entry of the log, or [`Seq::ZERO`].
    fn last_seq(&self) -> Seq {
        Seq::new(self.log.len() as u64)
    }

    fn next_seq(&self) -> Seq {
        self.last_seq().next()
    }

    /// All entries of the log, each with its `seq`.
    fn entries(&self) -> impl Iterator<Item = (Seq, &ModelEntry)> {
        (1..).map(Seq::new).zip(&self.log)
    }

    /// All snapshots of the log, each with its `seq`.
    fn snapshots(&self) -> impl Iterator<Item = (Seq, &ModelSnapshot)> {
        self.entries().filter_map(|(seq, entry)| Some((seq, entry.snapshot()?)))
    }

    fn snapshots_mut(&mut self) -> impl Iterator<Item = (Seq, &mut ModelSnapshot)> {
        let entries = (1..).map(Seq::new).zip(&mut self.log);
        entries.filter_map(|(seq, entry)| match entry {
            ModelEntry::Snapshot(snapshot) => Some((seq, snapshot.as_mut())),
            ModelEntry::Observation(..) => None,
        })
    }
}

impl ModelEntry {
    fn snapshot(&self) -> Option<&ModelSnapshot> {
        match self {
            Self::Snapshot(snapshot) => Some(snapshot.as_ref()),
            Self::Observation(..) => None,
        }
    }

    /// The day of a snapshot, or the day on which an observation was noticed.
    fn day(&self) -> Day {
        match self {
            Self::Snapshot(snapshot) => snapshot.facts.day,
            Self::Observation(_, noticed_at) => noticed_at.day(),
        }
    }
}

/// An ID that is not compared, because only the database assigns it.
fn no_id() -> DeadLetterId {
    DeadLetterId::from_value(SqlValue::Int(0)).unwrap()
}

/// An ID that no row has.
fn unknown_row<T: FromValue>() -> T {
    T::from_value(SqlValue::Int(1 << 40)).unwrap()
}

fn tenants() -> [TenantId; TENANTS] {
    [tenant(), other_tenant()]
}

/// The tenant with this number. The one after the last is never polled, and no sink receives it.
fn tenant_at(number: usize) -> TenantId {
    tenants().get(number).copied().unwrap_or(TenantId::TEST)
}

fn first_day() -> Day {
    day("2026-01-05")
}

/// The name of the sink with this number.
fn sink_name(number: usize) -> SinkName {
    NAMES[number].into()
}

/// The day with this number.
fn day_at(number: i32) -> Day {
    first_day().plus(number)
}

/// The time with this number, in the morning of its day.
fn time_at(number: usize) -> UnixMillis {
    day_at(TIMES[number]).start().saturating_add(Duration::from_hours(6))
}

proptest! {
    // All calls occur about a hundred times; more cases take longer than all other unit tests.
    #![proptest_config(ProptestConfig { cases: 112, ..ProptestConfig::default() })]

    #[test]
    fn calls_equal_those_of_a_model(calls in calls::sequence()) {
        Run::execute(Storage::Memory, &calls);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn failed_calls_happen_completely_or_not(calls in faulty::sequence()) {
        Run::execute_with_faults(&calls);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn reopened_files_equal_the_model(calls in calls::sequence()) {
        Run::execute(Storage::Files, &calls);
    }
}
