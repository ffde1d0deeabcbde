//! Counts rejected records. More than 20 in a row, or more than 50 among the last 1,000, exceed a
//! limit: the cause is not a single record.
//!
//! If most of them are those of one tenant, only this tenant is withheld, unless too many tenants
//! are suspected of showing a fault of the configuration. This module changes no outcome. Start
//! reading at [`RecentOutcomes::reject`]. See decisions 0022 and 0087.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
};

use crate::model::TenantId;

/// More rejections in a row than this exceed a limit.
pub(super) const MAX_REJECTED_IN_A_ROW: usize = 20;
/// More rejections than this among the last [`WINDOW_RECORDS`] exceed a limit.
const MAX_REJECTED_IN_WINDOW: usize = 50;
const WINDOW_RECORDS: usize = 1_000;

/// The number of tenants that can be withheld at the same time although the cause may be the
/// configuration. With another one, the sink or the target parks.
pub(super) const MAX_SUSPECTED_TENANTS: usize = 2;

/// Whose records are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RejectionSource {
    /// At least three quarters of the records are those of at most [`MAX_SUSPECTED_TENANTS`]
    /// tenants. Contains the tenant with the most records.
    Tenant(TenantId),
    /// A whole request with the records of this tenant alone was rejected. `tenant_trials` limits
    /// the number of such tenants.
    Request(TenantId),
    /// More tenants have a larger part of the records.
    ManyTenants,
}

/// The most recent records of a sink, or of one of its targets, without the rejected records of
/// withheld tenants.
#[derive(Debug, Default)]
pub(super) struct RecentOutcomes {
    /// The number of rejected records since the last accepted one, by tenant.
    in_a_row: HashMap<TenantId, usize>,
    /// The last [`WINDOW_RECORDS`] records, oldest first: the tenant of a rejected record, and
    /// `None` for an accepted one.
    window: VecDeque<Option<TenantId>>,
    /// The rejected records in the window, by tenant.
    rejected: HashMap<TenantId, RecentRejections>,
    /// Whether a record of the current batch was accepted.
    has_accepted: bool,
    /// The withheld tenants whose rejections may be due to the configuration.
    suspects: BTreeMap<TenantId, Suspicion>,
}

/// The rejected records of a tenant in the window.
#[derive(Debug)]
struct RecentRejections {
    /// The number of records, at least 1.
    records: usize,
    /// The message of the receiver for the first of them.
    reason: String,
    /// Whether some of them became dead letters with an earlier batch.
    are_dead_letters: bool,
}

/// Why the rejections of a withheld tenant may be due to the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    /// No record of any tenant was accepted in the batch with which it was withheld, or since then.
    NothingAccepted,
    /// Some of its records became dead letters. A fault of the configuration must not cause that
    /// for one tenant after another.
    DeadLetters,
    /// As [`Self::NothingAccepted`], but a whole request was rejected, which is limited elsewhere.
    WholeRequest,
}

impl RejectionSource {
    /// The tenant, if it is only one.
    pub(super) fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Tenant(tenant) | Self::Request(tenant) => Some(tenant),
            Self::ManyTenants => None,
        }
    }
}

impl RecentOutcomes {
    /// Adds an accepted record.
    pub(super) fn accept(&mut self) {
        self.in_a_row.clear();
        self.has_accepted = true;
        self.push(None);
    }

    /// Adds a rejected record of a tenant, with the message of the receiver. Returns whose records
    /// exceed a limit, if it is exceeded.
    pub(super) fn reject(&mut self, tenant: TenantId, reason: &str) -> Option<RejectionSource> {
        *self.in_a_row.entry(tenant).or_default() += 1;
        let recent = self.rejected.entry(tenant).or_insert_with(|| RecentRejections {
            records: 0,
            reason: reason.to_owned(),
            are_dead_letters: false,
        });
        recent.records += 1;
        self.push(Some(tenant));

        let in_a_row = self.in_a_row.iter().map(|(tenant, records)| (*tenant, *records));
        let in_window = self.rejected.iter().map(|(tenant, recent)| (*tenant, recent.records));
        source_above(MAX_REJECTED_IN_A_ROW, in_a_row)
            .or_else(|| source_above(MAX_REJECTED_IN_WINDOW, in_window))
    }

    /// The message of the receiver for the first rejected record of a tenant in the window.
    pub(super) fn reason(&self, tenant: TenantId) -> Option<&str> {
        self.rejected.get(&tenant).map(|recent| recent.reason.as_str())
    }

    /// Withholds a tenant: its earlier rejections do not count anymore. Returns whether other
    /// tenants remain of those that are `served` and not withheld yet. If none do, the sink or the
    /// target must park.
    pub(super) fn withhold(
        &mut self,
        tenant: TenantId,
        mut served: impl Iterator<Item = TenantId>,
    ) -> bool {
        self.in_a_row.remove(&tenant);
        self.window.retain(|rejected| *rejected != Some(tenant));
        let suspicion = match self.rejected.remove(&tenant) {
            Some(recent) if recent.are_dead_letters => Suspicion::DeadLetters,
            _ => Suspicion::NothingAccepted,
        };
        self.suspects.insert(tenant, suspicion);
        served.any(|other| !self.suspects.contains_key(&other))
    }

    /// Notes that records of a withheld tenant became dead letters.
    pub(super) fn note_dead_letters(&mut self, tenant: TenantId) {
        self.suspects.insert(tenant, Suspicion::DeadLetters);
    }

    /// Notes that a tenant is withheld because a whole request with its records was rejected. None
    /// of them became a dead letter for this reason.
    pub(super) fn note_whole_request(&mut self, tenant: TenantId) {
        self.suspects.insert(tenant, Suspicion::WholeRequest);
    }

    /// The withheld tenants whose rejections may be due to the configuration.
    pub(super) fn suspects(&self) -> impl Iterator<Item = TenantId> {
        self.suspects.keys().copied()
    }

    /// Whether so many tenants are suspected at the end of a batch that the sink or the target must
    /// park.
    pub(super) fn has_too_many_suspects(&self) -> bool {
        let suspicions = self.suspects.values();
        let left = suspicions.filter(|suspicion| match suspicion {
            Suspicion::NothingAccepted => !self.has_accepted,
            Suspicion::DeadLetters => true,
            Suspicion::WholeRequest => false,
        });
        left.count() > MAX_SUSPECTED_TENANTS
    }

    /// Forgets the suspicion against all tenants that are not withheld anymore.
    pub(super) fn retain_suspects(&mut self, withheld: &BTreeSet<TenantId>) {
        self.suspects.retain(|tenant, _| withheld.contains(tenant));
    }

    /// Ends a batch, whose rejected records became dead letters.
    pub(super) fn end_batch(&mut self) {
        for recent in self.rejected.values_mut() {
            recent.are_dead_letters = true;
        }
        if std::mem::take(&mut self.has_accepted) {
            self.suspects.retain(|_, suspicion| *suspicion == Suspicion::DeadLetters);
        }
    }

    fn push(&mut self, rejected: Option<TenantId>) {
        self.window.push_back(rejected);
        if self.window.len() <= WINDOW_RECORDS {
            return;
        }

        let oldest = self.window.pop_front().flatten();
        if let Some(tenant) = oldest
            && let Some(recent) = self.rejected.get_mut(&tenant)
        {
            recent.records = recent.records.saturating_sub(1);
            if recent.records == 0 {
                self.rejected.remove(&tenant);
            }
        }
    }
}

/// Whose records are rejected, from the number of rejected records of each tenant.
pub(super) fn source_of(mut rejected: Vec<(TenantId, usize)>) -> RejectionSource {
    rejected.sort_unstable_by_key(|(tenant, records)| (Reverse(*records), *tenant));
    let records: usize = rejected.iter().map(|(_, records)| records).sum();
    let others = rejected.iter().skip(MAX_SUSPECTED_TENANTS);
    let of_others: usize = others.map(|(_, records)| records).sum();

    match rejected.first() {
        Some((tenant, _)) if of_others <= records / 4 => RejectionSource::Tenant(*tenant),
        _ => RejectionSource::ManyTenants,
    }
}

/// Whether the number of rejections in one batch of `records` exceeds a limit. If so, the delivery
/// ends early, because each rejection may require sending the rest again.
pub(super) fn are_too_many(rejected: usize, records: usize) -> bool {
    (rejected > MAX_REJECTED_IN_A_ROW && rejected > records / 2)
        || rejected > MAX_REJECTED_IN_WINDOW.max(records / 20)
}

fn source_above(
    limit: usize,
    rejected: impl Iterator<Item = (TenantId, usize)>,
) -> Option<RejectionSource> {
    let rejected: Vec<(TenantId, usize)> = rejected.collect();
    let records: usize = rejected.iter().map(|(_, records)| records).sum();
    (records > limit).then(|| source_of(rejected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: u8) -> TenantId {
        TenantId::parse(&format!("{n:02}000000-0000-4000-8000-000000000000")).unwrap()
    }

    #[test]
    fn at_most_two_tenants_are_a_source() {
        for (rejected, expected) in [
            (&[(1, 21)][..], Some(1)),
            (&[(1, 10), (2, 11)], Some(2)),
            (&[(1, 19), (2, 1), (3, 1)], Some(1)),
            (&[(3, 24), (2, 24), (1, 3)], Some(2)),
            (&[(1, 7), (2, 7), (3, 7)], None),
            (&[(1, 17), (2, 17), (3, 17)], None),
            (&[(1, 10), (2, 5), (3, 3), (4, 3)], None),
            (&[], None),
        ] {
            let counts = rejected.iter().map(|(n, records)| (tenant(*n), *records)).collect();
            let expected = expected
                .map_or(RejectionSource::ManyTenants, |n| RejectionSource::Tenant(tenant(n)));
            assert_eq!(source_of(counts), expected, "{rejected:?}");
        }
    }

    #[test]
    fn rejections_leave_the_window() {
        let mut recent = RecentOutcomes::default();
        for _ in 0..50 {
            assert_eq!(recent.reject(tenant(1), "first"), None);
            recent.accept();
        }
        for _ in 0..WINDOW_RECORDS - 100 {
            recent.accept();
        }
        assert_eq!(recent.reason(tenant(1)), Some("first"));
        // The oldest record of the window is a rejected one, which this one replaces.
        assert_eq!(recent.reject(tenant(1), "last"), None);
        let source = RejectionSource::Tenant(tenant(1));
        assert_eq!(recent.reject(tenant(1), "last"), Some(source));

        for _ in 0..WINDOW_RECORDS {
            recent.accept();
        }
        assert_eq!(recent.reason(tenant(1)), None);
    }

    #[test]
    fn a_withheld_tenant_does_not_count() {
        let mut recent = RecentOutcomes::default();
        for _ in 0..20 {
            assert_eq!(recent.reject(tenant(1), "no"), None);
        }
        assert!(recent.withhold(tenant(1), [1, 2].map(tenant).into_iter()));
        for _ in 0..20 {
            assert_eq!(recent.reject(tenant(2), "no"), None);
        }
        assert!(!recent.withhold(tenant(2), [2].map(tenant).into_iter()), "no tenant remains");
    }

    /// One batch per word, with one event per letter: `w` another tenant is withheld, `d` records
    /// of the last one of them become dead letters, `a` a record is accepted, and `q` another
    /// tenant is withheld because a whole request was rejected.
    #[test]
    fn suspects_are_limited_until_records_are_accepted() {
        for (batches, is_permitted) in [
            ("w w", true),
            ("w w w", false),
            ("www", false),
            ("wawaw", true),
            ("awww", true),
            ("www a", false),
            ("w w a w w a w w", true),
            ("w aw w w", true),
            ("w aw w w w", false),
            ("wda wda w", false),
            ("wda wa wa", true),
            ("wdwdwda", false),
            ("wa wa wda", true),
            ("qqqq q q", true),
            ("qw wq", true),
            ("w q w qw", false),
        ] {
            let (mut recent, mut last, mut permitted) = (RecentOutcomes::default(), 0, true);

            for batch in batches.split(' ') {
                for event in batch.chars() {
                    match event {
                        'a' => recent.accept(),
                        'd' => recent.note_dead_letters(tenant(last)),
                        _ => {
                            last += 1;
                            assert!(recent.withhold(tenant(last), (1..=99).map(tenant)));
                            if event == 'q' {
                                recent.note_whole_request(tenant(last));
                            }
                        }
                    }
                }
                permitted &= !recent.has_too_many_suspects();
                recent.end_batch();
            }
            assert_eq!(permitted, is_permitted, "{batches}");
        }
    }
}
