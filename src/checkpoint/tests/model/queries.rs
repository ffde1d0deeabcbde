//! Queries with arguments: what they return, also about tenants, sinks and rows that do not exist,
//! and for empty ranges.

use std::ops::ControlFlow;

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    calls::{any_tenant, time},
    run::Run,
    values::{tenants_of, without_ids},
    *,
};
use crate::{ledger::due_days, model::KeptDay};

/// The beginnings of event IDs: those of one tenant, of one entry, and of none.
const PREFIXES: [&str; 5] = ["", "3f", "3f0000000000000001", "aa", "ff"];

/// A call that only reads.
#[derive(Clone, Debug)]
pub(super) enum Query {
    Entries(ReadRequest),
    PastEntries {
        tenant: usize,
        from: i32,
        after: u64,
    },
    Bodies {
        tenant: usize,
        from: Option<i32>,
        to: Option<i32>,
        /// After how many bodies the visitor stops.
        limit: usize,
    },
    Snapshots {
        tenant: usize,
        seq: u64,
        day: i32,
    },
    DaysBefore {
        tenant: usize,
        seq: u64,
    },
    StoredDays {
        tenant: usize,
        from: i32,
    },
    DueDays {
        tenant: usize,
        now: usize,
    },
    DeadLetters {
        filter: DeadLetterFilter,
        limit: u32,
    },
    QueuedDeadLetters {
        sink: usize,
        tenants: Vec<usize>,
        limit: usize,
    },
    ReplayScope {
        sink: usize,
        tenants: Vec<usize>,
        first: i32,
        last: i32,
    },
    UnknownRows,
}

pub(super) fn query() -> impl Strategy<Value = Query> {
    let letters = (letter_filter(), 0_u32..5)
        .prop_map(|(filter, limit)| Query::DeadLetters { filter, limit });
    let queued = (0..NAMES.len(), vec(any_tenant(), 0..3), 1_usize..4)
        .prop_map(|(sink, tenants, limit)| Query::QueuedDeadLetters { sink, tenants, limit });
    let scope = (0..NAMES.len(), vec(any_tenant(), 0..4), 0..DAYS, 0..DAYS)
        .prop_map(|(sink, tenants, first, last)| Query::ReplayScope { sink, tenants, first, last });
    prop_oneof![
        4 => read_request().prop_map(Query::Entries),
        6 => history_query(),
        2 => letters,
        1 => queued,
        2 => scope,
        1 => Just(Query::UnknownRows),
    ]
}

fn read_request() -> impl Strategy<Value = ReadRequest> {
    let tenant = any_tenant().prop_map(tenant_at);
    let days = (0..DAYS, option::of(0..DAYS));
    let max_bytes = select(vec![1, 200, usize::MAX]);
    (tenant, 1_u64..8, 0_u64..17, days, max_bytes, any::<bool>(), any::<bool>()).prop_map(
        |(tenant, first, last, (first_day, last_day), max_bytes, with_bases, observations)| {
            ReadRequest {
                tenant,
                first_seq: Seq::new(first),
                last_seq: Seq::new(last),
                first_day: day_at(first_day),
                last_day: last_day.map(day_at),
                max_bytes,
                with_bases,
                with_observations: observations,
            }
        },
    )
}

/// A query about the days of a tenant.
fn history_query() -> impl Strategy<Value = Query> {
    let past = (any_tenant(), 0..DAYS, 0_u64..6)
        .prop_map(|(tenant, from, after)| Query::PastEntries { tenant, from, after });
    let bodies = (any_tenant(), option::of(0..DAYS), option::of(0..DAYS), 1_usize..5)
        .prop_map(|(tenant, from, to, limit)| Query::Bodies { tenant, from, to, limit });
    let snapshots = (any_tenant(), 0_u64..9, 0..DAYS)
        .prop_map(|(tenant, seq, day)| Query::Snapshots { tenant, seq, day });
    let before =
        (any_tenant(), 0_u64..12).prop_map(|(tenant, seq)| Query::DaysBefore { tenant, seq });
    let stored =
        (any_tenant(), 0..DAYS).prop_map(|(tenant, from)| Query::StoredDays { tenant, from });
    let due = (any_tenant(), time()).prop_map(|(tenant, now)| Query::DueDays { tenant, now });
    prop_oneof![past, bodies, snapshots, before, stored, due]
}

fn letter_filter() -> impl Strategy<Value = DeadLetterFilter> {
    let sink = option::of((0..NAMES.len()).prop_map(sink_name));
    let tenants = option::of(vec(any_tenant().prop_map(tenant_at), 0..3));
    (sink, tenants, select(PREFIXES.to_vec())).prop_map(|(sink, tenants, prefix)| {
        DeadLetterFilter { sink, tenants, event_id_prefix: prefix.to_owned() }
    })
}

impl Run {
    /// Compares the results of a query.
    pub(super) fn ask(&mut self, query: &Query) {
        match query {
            Query::Entries(request) => self.check_read(request),
            Query::PastEntries { tenant, from, after } => {
                self.check_past_entries(tenant_at(*tenant), day_at(*from), Seq::new(*after));
            }
            Query::Bodies { tenant, from, to, limit } => {
                let days = (from.map(day_at), to.map(day_at));
                self.check_bodies(tenant_at(*tenant), days, *limit);
            }
            Query::Snapshots { tenant, seq, day } => {
                self.check_range(tenant_at(*tenant), Seq::new(*seq), day_at(*day));
            }
            Query::DaysBefore { tenant, seq } => {
                self.check_days_before(tenant_at(*tenant), Seq::new(*seq));
            }
            Query::StoredDays { tenant, from } => {
                self.check_stored_days(tenant_at(*tenant), day_at(*from));
            }
            Query::DueDays { tenant, now } => self.check_due(tenant_at(*tenant), time_at(*now)),
            Query::DeadLetters { filter, limit } => self.check_dead_letters(filter, *limit),
            Query::QueuedDeadLetters { sink, tenants, limit } => {
                self.check_queued_letters(&sink_name(*sink), &tenants_of(tenants), *limit);
            }
            Query::ReplayScope { sink, tenants, first, last } => {
                let (sink, ids) = (sink_name(*sink), tenants_of(tenants));
                let (first, last) = (day_at(*first), day_at(*last));
                let found = self.checkpoint.replay_scope(&sink, &ids, first, last).unwrap();
                assert_eq!(found, self.model.replay_scope(&sink, &ids, &(first..=last)));
            }
            Query::UnknownRows => self.check_unknown_rows(),
        }
    }

    pub(super) fn check_bodies(
        &self,
        id: TenantId,
        (from, to): (Option<Day>, Option<Day>),
        limit: usize,
    ) {
        let mut visited = Vec::new();
        let visit = |body: &str| {
            visited.push(body.to_owned());
            if visited.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        self.checkpoint.for_each_body(id, from, to, visit).unwrap();

        let mut expected = self.model.bodies(id, from, to);
        expected.truncate(limit);
        assert_eq!(visited, expected, "{id}");
    }

    pub(super) fn check_range(&self, id: TenantId, seq: Seq, day: Day) {
        let found = self.checkpoint.snapshot_range(id, seq, day).unwrap();
        assert_eq!(found, self.model.snapshot_range(id, seq, day), "{id} {seq} {day}");
    }

    pub(super) fn check_days_before(&self, id: TenantId, seq: Seq) {
        let found = self.checkpoint.days_before(id, seq).unwrap();
        assert_eq!(found, self.model.days_before(id, seq), "{id} {seq}");
    }

    pub(super) fn check_stored_days(&self, id: TenantId, from: Day) {
        let found = self.checkpoint.stored_days(id, from).unwrap();
        let expected = self.model.stored_days(id, from);
        let comparable = |days: BTreeMap<Day, KeptDay>| -> Vec<_> {
            let of_day = |(day, kept): (Day, KeptDay)| {
                (day, kept.revision, kept.partial, kept.without_body, kept.facts)
            };
            days.into_iter().map(of_day).collect()
        };
        assert_eq!(comparable(found), comparable(expected), "{id} {from}");
    }

    pub(super) fn check_due(&self, id: TenantId, now: UnixMillis) {
        let found = self.checkpoint.due_missing_days(id, now).unwrap();
        assert_eq!(found, due_days(self.model.missing_days(id), now), "{id}");
    }

    pub(super) fn check_dead_letters(&self, filter: &DeadLetterFilter, limit: u32) {
        let (checkpoint, mut expected) = (&self.checkpoint, self.model.selected_letters(filter));
        assert_eq!(checkpoint.count_dead_letters(filter).unwrap(), expected.len() as u64);
        let groups = checkpoint.dead_letter_groups(filter).unwrap();
        assert_eq!(groups, self.model.letter_groups(filter), "{filter:?}");

        expected.truncate(limit as usize);
        let found = checkpoint.find_dead_letters(filter, limit).unwrap();
        assert_eq!(without_ids(&found), expected, "{filter:?}");
    }

    fn check_queued_letters(&self, sink: &SinkName, ids: &[TenantId], limit: usize) {
        let found = self.checkpoint.pending_dead_letters(sink, ids, limit).unwrap();
        let mut expected = self.model.queued_letters(sink);
        expected.retain(|letter| ids.contains(&letter.tenant));
        expected.truncate(limit);
        assert_eq!(without_ids(&found), expected, "{sink}");
    }

    /// An entry names its catalog, and a catalog its profiles, so a missing one is damage.
    fn check_unknown_rows(&self) {
        let catalog = self.checkpoint.catalog(unknown_row());
        assert!(matches!(catalog, Err(CheckpointError::Damaged(_))), "{catalog:?}");
        let profile = self.checkpoint.profile(unknown_row());
        assert!(matches!(profile, Err(CheckpointError::Damaged(_))), "{profile:?}");
    }
}
