//! The entries that sinks have not received, and the states of polls, in generated checkpoints: the
//! queries return the same as loops over the lists of a model. Start reading at [`Model`].

use std::collections::BTreeMap;

use super::*;
use crate::checkpoint::{pending::PENDING, polls::POLL_STATES, sink_status::BACKLOG};

const SINKS: [&str; 3] = ["a", "b", "c"];
const TENANTS: usize = 6;
/// The number of days that a generated checkpoint can contain, from [`first_day`] on.
const DAYS: i32 = 20;
const SEEDS: u64 = 24;

/// What a generated checkpoint contains.
struct Model {
    filters: [EntryFilter; SINKS.len()],
    /// Whether the last sink was removed from the configuration.
    is_last_removed: bool,
    /// By the index of the tenant; an entry with `seq` 1 is the first of its log.
    logs: Vec<Vec<ModelEntry>>,
    /// By the indexes of the sink and the tenant.
    cursors: BTreeMap<(usize, usize), ModelCursor>,
}

struct ModelEntry {
    /// The day of a snapshot, or the day on which an observation was noticed.
    day: Day,
    content: Content,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Snapshot {
        has_body: bool,
        backfilled: bool,
    },
    Gap,
    /// An observation about the dead letters of the sink with this index.
    DeadLetters(usize),
}

#[derive(Debug)]
pub(super) struct ModelCursor {
    pub(super) at: Position,
    pub(super) floor: Day,
    pub(super) is_active: bool,
}

impl Model {
    /// Fills an empty checkpoint. The tenants are added in the order of their indexes.
    fn generate(checkpoint: &Checkpoint, random: &mut fastrand::Rng) -> Self {
        let filters = SINKS.map(|sink| {
            let sink = &SinkName::new(sink);
            checkpoint.register_sink(sink, &[], OtherTenants::Keep, first_day()).unwrap();
            let filter = if random.bool() { EntryFilter::All } else { EntryFilter::Snapshots };
            checkpoint.set_entry_filter(sink, filter).unwrap();
            filter
        });
        let is_last_removed = random.bool();
        if is_last_removed {
            let last = &SinkName::new(SINKS[SINKS.len() - 1]);
            checkpoint.remove_sink(last, first_day().start()).unwrap();
        }

        let (mut logs, mut cursors) = (Vec::new(), BTreeMap::new());
        for tenant in 0..TENANTS {
            let mut log = Vec::new();
            for _ in 0..random.u8(..8) {
                append(checkpoint, tenant, &mut log, random_entry(random));
            }
            for sink in 0..SINKS.len() {
                if random.u8(..4) > 0 {
                    let cursor = add_cursor(checkpoint, sink, tenant, log.len(), random);
                    cursors.insert((sink, tenant), cursor);
                }
            }
            logs.push(log);
        }

        let model = Self { filters, is_last_removed, logs, cursors };
        model.deactivate_cursors(checkpoint);
        model
    }

    fn deactivate_cursors(&self, checkpoint: &Checkpoint) {
        for (number, sink) in SINKS.iter().enumerate() {
            let active: Vec<TenantId> = (0..TENANTS)
                .filter(|tenant| self.active_cursor(number, *tenant).is_some())
                .map(numbered_tenant)
                .collect();
            let others = OtherTenants::Deactivate;
            checkpoint.register_sink(&SinkName::new(sink), &active, others, first_day()).unwrap();
        }
    }

    fn active_cursor(&self, sink: usize, tenant: usize) -> Option<&ModelCursor> {
        self.cursors.get(&(sink, tenant)).filter(|cursor| cursor.is_active)
    }

    /// The entries of a tenant that a sink has not received, each with its `seq`.
    fn unsent(&self, sink: usize, tenant: usize) -> Vec<(u64, &ModelEntry)> {
        let Some(cursor) = self.active_cursor(sink, tenant) else { return Vec::new() };
        let receives = |entry: &ModelEntry| match entry.content {
            Content::Snapshot { has_body, .. } => has_body,
            Content::Gap => self.filters[sink] == EntryFilter::All,
            Content::DeadLetters(of) => self.filters[sink] == EntryFilter::All && of != sink,
        };

        let mut unsent: Vec<(u64, &ModelEntry)> = (1..).zip(&self.logs[tenant]).collect();
        unsent.retain(|(seq, entry)| {
            *seq >= cursor.at.seq.get() && entry.day >= cursor.floor && receives(entry)
        });
        unsent
    }

    fn pending(&self, sink: usize) -> Vec<Pending> {
        let mut pending = Vec::new();
        for tenant in 0..TENANTS {
            let unsent = self.unsent(sink, tenant);
            let Some((_, first)) = unsent.first() else { continue };
            let cursor = &self.cursors[&(sink, tenant)];
            pending.push(Pending {
                tenant: numbered_tenant(tenant),
                at: cursor.at,
                first_day: cursor.floor,
                last_day: None,
                last_seq: Seq::new(unsent[unsent.len() - 1].0),
                entries: unsent.len() as u64,
                backfilled: matches!(first.content, Content::Snapshot { backfilled: true, .. }),
            });
        }
        pending
    }

    /// The name of each sink that is not removed, the number of entries that it has not received,
    /// and their oldest day.
    fn backlogs(&self) -> Vec<(&'static str, u64, Option<Day>)> {
        let sinks = SINKS.len() - usize::from(self.is_last_removed);
        (0..sinks)
            .map(|sink| {
                let unsent: Vec<(u64, &ModelEntry)> =
                    (0..TENANTS).flat_map(|tenant| self.unsent(sink, tenant)).collect();
                let oldest = unsent.iter().map(|(_, entry)| entry.day).min();
                (SINKS[sink], unsent.len() as u64, oldest)
            })
            .collect()
    }
}

fn first_day() -> Day {
    day("2026-11-01")
}

fn random_day(random: &mut fastrand::Rng) -> Day {
    first_day().plus(random.i32(0..DAYS))
}

fn random_entry(random: &mut fastrand::Rng) -> ModelEntry {
    let content = match random.u8(..5) {
        0 => Content::Gap,
        1 => Content::DeadLetters(random.usize(..SINKS.len())),
        _ => Content::Snapshot { has_body: random.u8(..4) > 0, backfilled: random.bool() },
    };
    ModelEntry { day: random_day(random), content }
}

fn numbered_tenant(number: usize) -> TenantId {
    TenantId::parse(&format!("aaaaaaaa-0000-4000-8000-{number:012}")).unwrap()
}

/// An empty checkpoint that does not wait for the disk.
fn fast_checkpoint() -> (tempfile::TempDir, Checkpoint) {
    let (directory, checkpoint) = new_checkpoint();
    checkpoint.raw().run("PRAGMA synchronous = OFF");
    (directory, checkpoint)
}

/// A commit that is not the result of a poll.
fn import() -> PollCommit<'static> {
    PollCommit { end: PollEnd::NoPoll, requested_from: None, ..empty_commit() }
}

/// Appends an entry to the log of a tenant.
fn append(checkpoint: &Checkpoint, tenant: usize, log: &mut Vec<ModelEntry>, entry: ModelEntry) {
    let (id, seq) = (numbered_tenant(tenant), u32::try_from(log.len() + 1).unwrap());
    match entry.content {
        Content::Snapshot { has_body, backfilled } => {
            let flags = EntryFlags { backfilled, ..EntryFlags::default() };
            append_snapshot(checkpoint, id, entry.day, seq, flags);
            if !has_body {
                let sql = "UPDATE entry SET body = NULL
                    WHERE seq = ?2 AND tenant = (SELECT id FROM tenant WHERE guid = ?1)";
                let removed = checkpoint
                    .administrative(|store| store.execute(sql, values![id.to_string(), seq]));
                assert_eq!(removed.unwrap(), 1);
            }
        }

        Content::Gap => {
            let gap = Observation {
                what: ObservationKind::Gap,
                subject: ObservationSubject::Day(first_day().plus(seq.cast_signed())),
                first_day: first_day(),
                phase: Phase::Begin,
                details: String::new(),
                hint: None,
            };
            observe(checkpoint, id, entry.day, gap);
        }
        Content::DeadLetters(sink) => {
            // Only the end follows a begin, and only a begin follows an end.
            let earlier = log.iter().filter(|earlier| earlier.content == entry.content).count();
            let phase = if earlier.is_multiple_of(2) { Phase::Begin } else { Phase::End };
            let details = "rejected".to_owned();
            let observation =
                Observation::of_dead_letters(&SINKS[sink].into(), first_day(), phase, details);
            observe(checkpoint, id, entry.day, observation);
        }
    }

    log.push(entry);
    let next = checkpoint.next_seq(id).unwrap();
    assert_eq!(next, Seq::new(seq.into()).next(), "one entry was appended");
}

fn append_snapshot(
    checkpoint: &Checkpoint,
    tenant: TenantId,
    day: Day,
    revision: u32,
    flags: EntryFlags,
) {
    let json = format!(
        r#"{{"id":"x_{day}","createdDateTime":"{day}T00:00:00Z","currentScore":1,"controlScores":[{{"controlName":"c","score":1}}]}}"#
    );
    let facts = facts(&json);
    let entry = NewEntry {
        snapshot_id: "x",
        revision,
        facts: &facts,
        body: &CompressedText::compress(&json).unwrap(),
        observed_at: UnixMillis::default(),
        base: None,
        flags,
    };
    let _ =
        checkpoint.commit_poll(tenant, &PollCommit { entries: vec![entry], ..import() }).unwrap();
}

fn observe(checkpoint: &Checkpoint, tenant: TenantId, noticed: Day, observation: Observation) {
    let (observed_at, observations) = (noticed.start(), vec![observation]);
    let commit = PollCommit { observed_at, observations, ..import() };
    let _ = checkpoint.commit_poll(tenant, &commit).unwrap();
}

/// Adds a cursor, and moves it to any position in a log with this number of entries. It is active
/// until [`Model::deactivate_cursors`] is called.
fn add_cursor(
    checkpoint: &Checkpoint,
    sink: usize,
    tenant: usize,
    entries: usize,
    random: &mut fastrand::Rng,
) -> ModelCursor {
    let (tenant, floor) = (numbered_tenant(tenant), random_day(random));
    let name = &SinkName::new(SINKS[sink]);
    checkpoint.register_sink(name, &[tenant], OtherTenants::Keep, floor).unwrap();
    // A provisional first day would also apply to the next cursor of the sink.
    checkpoint.confirm_start_day(name, floor, first_day().plus(DAYS)).unwrap();

    let end = entries as u64 + 1;
    let seq = random.u64(1..=end);
    let to = at(seq, if seq == end { 0 } else { random.u32(..3) });
    let moves = [CursorMove { tenant, from: at(1, 0), to }];
    let _ = checkpoint.advance(&live_advance(name, &moves)).unwrap();
    ModelCursor { at: to, floor, is_active: random.u8(..4) > 0 }
}

#[test]
fn backlogs_equal_those_of_a_model() {
    for seed in 0..SEEDS {
        let (_directory, checkpoint) = fast_checkpoint();
        let model = Model::generate(&checkpoint, &mut fastrand::Rng::with_seed(seed));

        for (number, sink) in SINKS.iter().enumerate() {
            let pending = checkpoint.pending(&SinkName::new(sink)).unwrap();
            assert_eq!(pending, model.pending(number), "seed {seed}, sink {sink}");
        }
        let status = checkpoint.status(StatusDetail::Summary).unwrap();
        let backlogs: Vec<(&str, u64, Option<Day>)> = status
            .sinks
            .iter()
            .map(|sink| (sink.name.as_str(), sink.backlog, sink.oldest_day))
            .collect();
        assert_eq!(backlogs, model.backlogs(), "seed {seed}");
    }
}

/// Ends a poll of a tenant in one of all ways, or imports a day, and updates the expected state.
/// `number` is the revision of an imported day, and must differ from call to call.
fn poll(
    checkpoint: &Checkpoint,
    tenant: TenantId,
    number: u32,
    random: &mut fastrand::Rng,
    state: &mut PollState,
) {
    let day = random_day(random);
    let not_before = random.bool().then(|| random_day(random).start());
    let back_to = random.bool().then(|| random_day(random));
    let failures = state.polled.failures + 1;

    match random.u8(..5) {
        0 => {
            append_snapshot(checkpoint, tenant, day, number, EntryFlags::default());
            state.polled.newest_day = state.polled.newest_day.max(Some(day));
        }
        1 => {
            end_poll(checkpoint, tenant, day, back_to, PollEnd::Complete);
            state.polled.last_success = Some(day.start());
            let stored = state.polled_back_to.into_iter();
            state.polled_back_to = stored.chain(back_to).min();
            set_attempt(state, day, 0, None);
        }
        2 => {
            let reason = Explanation::new("no catalog");
            let end = PollEnd::Incomplete { reason, not_before };
            end_poll(checkpoint, tenant, day, None, end);
            set_attempt(state, day, failures, not_before);
        }
        3 => {
            fail_poll(checkpoint, tenant, day, PollErrorClass::Unavailable, not_before);
            set_attempt(state, day, failures, not_before);
        }
        _ => {
            fail_poll(checkpoint, tenant, day, PollErrorClass::Disk, not_before);
            state.failed_locally = true;
        }
    }
}

/// Updates the expected state after a poll that counts as an attempt.
fn set_attempt(state: &mut PollState, day: Day, failures: u32, not_before: Option<UnixMillis>) {
    state.polled.last_attempt = Some(day.start());
    state.polled.failures = failures;
    state.not_before = not_before;
    state.failed_locally = false;
}

fn end_poll(
    checkpoint: &Checkpoint,
    tenant: TenantId,
    day: Day,
    polled_back_to: Option<Day>,
    end: PollEnd,
) {
    let commit = PollCommit { observed_at: day.start(), polled_back_to, end, ..empty_commit() };
    let _ = checkpoint.commit_poll(tenant, &commit).unwrap();
}

fn fail_poll(
    checkpoint: &Checkpoint,
    tenant: TenantId,
    day: Day,
    class: PollErrorClass,
    not_before: Option<UnixMillis>,
) {
    let reason = Explanation::new("no response");
    let observation = Observation {
        what: ObservationKind::PollFailed,
        subject: ObservationSubject::of_failed_poll(class),
        first_day: day,
        phase: Phase::Begin,
        details: reason.message.clone(),
        hint: None,
    };

    let (at, reason, observation) = (day.start(), &reason, &observation);
    let failure = PollFailure { at, reason, class, observation, not_before };
    let recorded = if class.is_local() {
        checkpoint.record_local_poll_failure(tenant, &failure)
    } else {
        checkpoint.record_poll_failure(tenant, &failure)
    };
    let _ = recorded.unwrap();
}

#[test]
fn poll_states_equal_those_of_a_model() {
    for seed in 0..SEEDS {
        let (_directory, checkpoint) = fast_checkpoint();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut expected = Vec::new();
        for number in 0..TENANTS {
            let (tenant, mut state) = (numbered_tenant(number), PollState::default());
            // A tenant without a poll may have a cursor.
            if random.bool() {
                checkpoint
                    .register_sink(&SINKS[0].into(), &[tenant], OtherTenants::Keep, first_day())
                    .unwrap();
            }
            for number in 1..=random.u32(..6) {
                poll(&checkpoint, tenant, number, &mut random, &mut state);
            }
            expected.push((tenant, state));
        }

        let states = checkpoint.poll_states().unwrap();
        assert!(states.count() <= TENANTS, "seed {seed}");
        for (tenant, state) in expected {
            assert_eq!(checkpoint.poll_state(tenant).unwrap(), state, "seed {seed}");
            let stored = states.of(tenant);
            assert_eq!(stored, FoundPollState::Readable(state), "seed {seed}, tenant {tenant}");
        }
    }
}

/// The steps in which SQLite runs a query.
fn plan(checkpoint: &Checkpoint, sql: &str) -> Vec<String> {
    checkpoint.raw().texts(&format!("EXPLAIN QUERY PLAN {sql}"), "detail")
}

/// Regression: every look for unsent entries searched the log of each tenant, although most tenants
/// have no new entries.
#[test]
fn tenants_without_new_entries_are_not_searched() {
    let (_directory, checkpoint) = new_checkpoint();
    for sql in [PENDING, BACKLOG] {
        let plan = plan(&checkpoint, sql);
        let step = |start: &str| plan.iter().position(|step| step.starts_with(start));
        let (tenant, entry) = (step("SEARCH t "), step("SEARCH e "));
        assert!(tenant.is_some() && tenant < entry, "{plan:?}");
    }
}

#[test]
fn newest_days_are_found_by_index() {
    let (_directory, checkpoint) = new_checkpoint();
    let plan = plan(&checkpoint, POLL_STATES);
    assert!(plan.iter().any(|step| step.contains("INDEX entry_day ")), "{plan:?}");
}
