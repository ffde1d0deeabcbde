//! The calls of a sequence, and how they are generated. Small numbers select tenants, sinks, days
//! and times.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    commands::{self, CommandCall},
    domains::{self, DomainCall},
    notes::{self, NoteCall},
    queries::{self, Query},
    *,
};

/// One call of a checkpoint.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Poll { tenant: usize, call: PollCall },
    Delivery { sink: usize, call: DeliveryCall },
    Sink { sink: usize, call: SinkCall },
    Operator(OperatorCall),
    Command(CommandCall),
    Domain(DomainCall),
    Note(NoteCall),
    Query(Query),
}

/// A call of the collector.
#[derive(Clone, Debug)]
pub(super) enum PollCall {
    Commit(Box<Poll>),
    Fail { at: usize, class: PollErrorClass, not_before: Option<usize> },
    Begin { at: usize },
    Abandon,
}

/// What a poll has read.
#[derive(Clone, Debug)]
pub(super) struct Poll {
    pub(super) at: usize,
    pub(super) entries: Vec<NewDay>,
    /// The days to hold, each with its score.
    pub(super) held: Vec<(i32, u32)>,
    pub(super) enriched: Option<Richer>,
    pub(super) catalog: usize,
    /// Each is a number of [`OBSERVED`], the first day, and the phase.
    pub(super) observations: Vec<(usize, i32, Phase)>,
    pub(super) credential_expiry: Option<usize>,
    pub(super) missing: Vec<i32>,
    pub(super) no_longer_missing: Vec<i32>,
    pub(super) requested_from: Option<i32>,
    pub(super) polled_back_to: Option<i32>,
    /// The number of the import that the commit completes; see [`Model::import_id`].
    pub(super) finished: Option<usize>,
    pub(super) end: PollEnd,
}

/// A richer copy of a stored snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Richer {
    /// The number of the snapshot.
    pub(super) number: usize,
    pub(super) copy: RicherCopy,
}

/// What a richer copy replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RicherCopy {
    /// The snapshot.
    Usable,
    /// Nothing, because its facts are others.
    OtherFacts,
    /// Nothing, because its revision is not stored.
    OtherRevision,
}

/// A snapshot to append.
#[derive(Clone, Debug)]
pub(super) struct NewDay {
    pub(super) day: i32,
    pub(super) score: u32,
    pub(super) revision: NewRevision,
    pub(super) base: NewBase,
    pub(super) flags: EntryFlags,
}

/// The revision of a snapshot to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewRevision {
    Next,
    /// The last one that is stored, which fails.
    Stored,
}

/// The base of a snapshot to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewBase {
    /// The snapshot before it in the log, if there is one.
    Previous,
    None,
}

/// A call of a deliverer.
#[derive(Clone, Debug)]
pub(super) enum DeliveryCall {
    Advance(Delivery),
    /// Advances the oldest replay for one of its tenants.
    AdvanceReplay {
        tenant: usize,
        /// The tenant that is not served.
        waiting: Option<usize>,
        step: Step,
        at: usize,
    },
    /// Sends the queued dead letters again; the outcomes repeat if there are more letters.
    Redeliver {
        outcomes: Vec<Outcome>,
        at: usize,
    },
    SkipTo {
        tenant: usize,
        seq: u64,
    },
    SetMark(u8),
    Fail {
        failure: SinkFailure,
        reason: usize,
        at: usize,
    },
    Recover,
}

/// An advance of live cursors.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// One for each tenant.
    pub(super) steps: Vec<Option<Step>>,
    pub(super) mark: Option<u8>,
    pub(super) sent: u64,
    pub(super) truncated: u64,
    pub(super) at: usize,
}

/// A move of a cursor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) origin: Origin,
    /// How many entries it moves forward, within the log.
    pub(super) entries: u64,
    pub(super) records: u32,
    /// The number of the reason for which the first record is rejected.
    pub(super) rejection: Option<usize>,
}

/// Where a move of a cursor starts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    Cursor,
    /// At a position at which the cursor is not.
    Elsewhere,
}

/// What happens to a dead letter that is sent again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Acknowledged,
    Rejected,
    Unknown,
}

/// A call that registers or changes a sink.
#[derive(Clone, Debug)]
pub(super) enum SinkCall {
    Register { tenants: Vec<usize>, others: OtherTenants, start_from: i32 },
    ConfirmStart { start_from: i32, today: i32 },
    SetFilter(EntryFilter),
    SetType(usize),
    Remove { at: usize },
    Restore { at: usize },
    Rename { to: usize, at: usize },
    Drop { at: usize },
    AddReplay { tenants: Vec<usize>, first: i32, last: i32, at: usize },
}

/// A call for an operator, or of the maintenance.
#[derive(Clone, Debug)]
pub(super) enum OperatorCall {
    /// Each bit selects some of the dead letters.
    Retry {
        letters: u8,
    },
    Discard {
        letters: u8,
        at: usize,
    },
    SetBaseline {
        tenant: usize,
        target: u8,
        at: usize,
    },
    Prune {
        before: i32,
        max_size: Option<u64>,
        today: i32,
    },
    Forget {
        tenant: usize,
        at: usize,
    },
    CorrectRemovals {
        at: usize,
    },
    DeleteRemoved {
        until: usize,
    },
    WriteCursorFile,
    Restart,
}

/// A sequence of calls.
pub(super) fn sequence() -> impl Strategy<Value = Vec<Call>> {
    vec(call(), 1..70)
}

pub(super) fn call() -> impl Strategy<Value = Call> {
    let (tenant, sink) = (0..TENANTS, 0..NAMES.len());
    let poll = (tenant, poll_call()).prop_map(|(tenant, call)| Call::Poll { tenant, call });
    let delivery = (sink.clone(), delivery_call());
    let delivery = delivery.prop_map(|(sink, call)| Call::Delivery { sink, call });
    let change = (sink, sink_call()).prop_map(|(sink, call)| Call::Sink { sink, call });
    let operator = operator_call().prop_map(Call::Operator);

    prop_oneof![
        10 => poll,
        9 => delivery,
        9 => change,
        4 => operator,
        2 => commands::call().prop_map(Call::Command),
        1 => domains::call().prop_map(Call::Domain),
        1 => notes::call().prop_map(Call::Note),
        6 => queries::query().prop_map(Call::Query),
    ]
}

/// The number of a time.
pub(super) fn time() -> impl Strategy<Value = usize> {
    0..TIMES.len()
}

/// The number of a tenant, or of one that is never polled.
pub(super) fn any_tenant() -> impl Strategy<Value = usize> {
    0..=TENANTS
}

fn poll_call() -> impl Strategy<Value = PollCall> {
    let failure = (time(), select(PollErrorClass::ALL.to_vec()), option::of(time()));
    let failure = failure.prop_map(|(at, class, not_before)| {
        // A poll that fails because of this host is not throttled.
        let not_before = not_before.filter(|_| !class.is_local());
        PollCall::Fail { at, class, not_before }
    });
    prop_oneof![
        8 => poll().prop_map(|poll| PollCall::Commit(Box::new(poll))),
        2 => failure,
        1 => time().prop_map(|at| PollCall::Begin { at }),
        1 => Just(PollCall::Abandon),
    ]
}

fn poll() -> impl Strategy<Value = Poll> {
    let (read, held) = (vec(new_day(), 0..3), vec((0..DAYS, 0..SCORES), 0..2));
    let days = (read, held, option::weighted(0.2, richer()), 0..CATALOGS.len());
    let phase = select(vec![Phase::Begin, Phase::End]);
    let noticed = vec((0..OBSERVED.len(), 0..DAYS, phase), 0..3);
    let noticed = (noticed, option::weighted(0.3, time()));
    let requested = (vec(0..DAYS, 0..3), vec(0..DAYS, 0..2), option::of(0..DAYS));
    let end = (option::of(0..DAYS), option::weighted(0.2, 0_usize..9), poll_end());

    (time(), days, noticed, requested, end).prop_map(|(at, days, noticed, requested, end)| {
        let (entries, held, enriched, catalog) = days;
        let (observations, credential_expiry) = noticed;
        let (missing, no_longer_missing, requested_from) = requested;
        let (polled_back_to, finished, end) = end;
        Poll {
            at,
            entries,
            held,
            enriched,
            catalog,
            observations,
            credential_expiry,
            missing,
            no_longer_missing,
            requested_from,
            polled_back_to,
            finished,
            end,
        }
    })
}

fn new_day() -> impl Strategy<Value = NewDay> {
    let revision = prop_oneof![15 => Just(NewRevision::Next), 1 => Just(NewRevision::Stored)];
    let base = select(vec![NewBase::Previous, NewBase::None]);
    (0..DAYS, 0..SCORES, revision, base, 0_i64..16).prop_map(
        |(day, score, revision, base, flags)| {
            let flags = EntryFlags::from_bits(flags);
            NewDay { day, score, revision, base, flags }
        },
    )
}

fn richer() -> impl Strategy<Value = Richer> {
    let copy = prop_oneof![
        4 => Just(RicherCopy::Usable),
        1 => Just(RicherCopy::OtherFacts),
        1 => Just(RicherCopy::OtherRevision),
    ];
    (0_usize..9, copy).prop_map(|(number, copy)| Richer { number, copy })
}

fn poll_end() -> impl Strategy<Value = PollEnd> {
    let incomplete = option::of(time()).prop_map(|not_before| PollEnd::Incomplete {
        reason: Explanation::new("no catalog").with_hint("grant the permission"),
        not_before: not_before.map(time_at),
    });
    prop_oneof![3 => Just(PollEnd::Complete), 1 => incomplete, 1 => Just(PollEnd::NoPoll)]
}

fn delivery_call() -> impl Strategy<Value = DeliveryCall> {
    let replay = (0..TENANTS, option::weighted(0.3, 0..TENANTS), step(), time()).prop_map(
        |(tenant, waiting, step, at)| DeliveryCall::AdvanceReplay { tenant, waiting, step, at },
    );
    let outcomes = vec![Outcome::Acknowledged, Outcome::Rejected, Outcome::Unknown];
    let redeliver = (vec(select(outcomes), 3), time())
        .prop_map(|(outcomes, at)| DeliveryCall::Redeliver { outcomes, at });
    let skip =
        (any_tenant(), 1_u64..9).prop_map(|(tenant, seq)| DeliveryCall::SkipTo { tenant, seq });

    let (parked, withheld) = (SinkFailure::TargetsParked, SinkFailure::TenantsWithheld);
    let failures = vec![SinkFailure::Retrying, SinkFailure::Parked, parked, withheld];
    let failure = (select(failures), 0..REASONS.len(), time())
        .prop_map(|(failure, reason, at)| DeliveryCall::Fail { failure, reason, at });
    prop_oneof![
        10 => delivery().prop_map(DeliveryCall::Advance),
        4 => replay,
        3 => redeliver,
        2 => skip,
        1 => any::<u8>().prop_map(DeliveryCall::SetMark),
        2 => failure,
        1 => Just(DeliveryCall::Recover),
    ]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let steps = vec(option::weighted(0.8, step()), TENANTS);
    (steps, option::of(any::<u8>()), 0_u64..9, 0_u64..3, time()).prop_map(
        |(steps, mark, sent, truncated, at)| Delivery { steps, mark, sent, truncated, at },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let origin = prop_oneof![12 => Just(Origin::Cursor), 1 => Just(Origin::Elsewhere)];
    let rejection = option::weighted(0.3, 0..REASONS.len());
    (origin, 0_u64..4, 0_u32..3, rejection).prop_map(|(origin, entries, records, rejection)| Step {
        origin,
        entries,
        records,
        rejection,
    })
}

fn sink_call() -> impl Strategy<Value = SinkCall> {
    let others = select(vec![OtherTenants::Keep, OtherTenants::Deactivate]);
    let register =
        (vec(0..TENANTS, 0..3), others, 0..DAYS).prop_map(|(tenants, others, start_from)| {
            SinkCall::Register { tenants, others, start_from }
        });
    let confirm = (0..DAYS, -4..DAYS)
        .prop_map(|(start_from, today)| SinkCall::ConfirmStart { start_from, today });
    let rename = (0..NAMES.len(), time()).prop_map(|(to, at)| SinkCall::Rename { to, at });
    let replay = (vec(any_tenant(), 1..3), 0..DAYS, 0..DAYS, time())
        .prop_map(|(tenants, first, last, at)| SinkCall::AddReplay { tenants, first, last, at });

    prop_oneof![
        10 => register,
        1 => confirm,
        2 => select(vec![EntryFilter::All, EntryFilter::Snapshots]).prop_map(SinkCall::SetFilter),
        1 => (0..TYPES.len()).prop_map(SinkCall::SetType),
        2 => time().prop_map(|at| SinkCall::Remove { at }),
        2 => time().prop_map(|at| SinkCall::Restore { at }),
        2 => rename,
        1 => time().prop_map(|at| SinkCall::Drop { at }),
        4 => replay,
    ]
}

fn operator_call() -> impl Strategy<Value = OperatorCall> {
    let discard =
        (any::<u8>(), time()).prop_map(|(letters, at)| OperatorCall::Discard { letters, at });
    let baseline = (0..TENANTS, any::<u8>(), time())
        .prop_map(|(tenant, target, at)| OperatorCall::SetBaseline { tenant, target, at });
    let max_size = select(vec![None, Some(0), Some(u64::MAX)]);
    let prune = (0..DAYS + 2, max_size, 0..DAYS + 2).prop_map(|(before, max_size, today)| {
        OperatorCall::Prune { before, max_size, today: today + KEPT_DAYS }
    });
    let forget =
        (any_tenant(), time()).prop_map(|(tenant, at)| OperatorCall::Forget { tenant, at });

    prop_oneof![
        3 => any::<u8>().prop_map(|letters| OperatorCall::Retry { letters }),
        3 => discard,
        1 => baseline,
        3 => prune,
        1 => forget,
        1 => time().prop_map(|at| OperatorCall::CorrectRemovals { at }),
        1 => time().prop_map(|until| OperatorCall::DeleteRemoved { until }),
        1 => Just(OperatorCall::WriteCursorFile),
        2 => Just(OperatorCall::Restart),
    ]
}
