//! Counts the failed requests of each tenant whose cause the receiver does not state: it, or a
//! firewall before it, responds with HTTP 5xx, or closes the connection; a request that was
//! rejected alone counts too.
//!
//! The usual cause is the receiver, so such a failure is retried. If it repeats, the cause can also
//! be a text of one tenant, and the records of several tenants are sent by tenant. Tenants whose
//! requests fail are served last, because only the records of others can show that the receiver
//! works; see decision 0093. This module sends nothing and withholds no tenant. Start reading at
//! [`FailingTenants::serves`] and [`FailingTenants::division_of`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use fastrand::Rng;

use super::{rejections::RecordOutcome, tenant_trials::TenantTrials};
use crate::{model::TenantId, sink::Batch};

/// With this failure in a row, the records of a tenant are sent separately from those of others.
const MAX_SHARED_FAILURES: u32 = 3;

/// The failures of each tenant since the last batch in which all of its records arrived. It can be
/// lost: the failures are then counted again.
#[derive(Debug, Default)]
pub(super) struct FailingTenants {
    failures: HashMap<TenantId, TenantFailures>,
    /// Whether the next batch with a suspected tenant is sent by tenant at once, instead of only
    /// after it has failed again.
    is_due: bool,
    /// The current turn of the attempt.
    turn: ServingTurn,
    /// Whether a request has failed in this attempt without a reason.
    has_failed: bool,
    /// Determines the order of tenants that have failed equally often.
    random: Rng,
}

#[derive(Clone, Copy, Debug, Default)]
struct TenantFailures {
    /// The failed batches with its records. A part of a divided batch counts twice.
    number: u32,
    /// Whether a request with only its records has failed: the texts of others are not the cause.
    has_failed_alone: bool,
    /// Whether records of another tenant have arrived since the last one of these failures.
    others_arrived: bool,
    /// Whether the tenant is withheld.
    is_withheld: bool,
}

/// How the records of a batch are divided if its delivery fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TenantDivision {
    /// The suspected tenants of the batch, those with the fewest failures first. The records of
    /// each of them are sent alone, in this order, after those of all other tenants.
    pub suspected: Vec<TenantId>,
    /// The failures of the tenants of the batch.
    pub failures: BTreeMap<TenantId, u32>,
    /// Determines the order of tenants with the same number of failures, which must not choose it
    /// by their IDs; `None` for the order of the IDs.
    pub seed: Option<u64>,
    /// The suspected tenants since whose last failure records of others have arrived.
    pub witnessed: BTreeSet<TenantId>,
    /// The tenants that are withheld, or whose target is parked, and that are tried again.
    pub withheld: BTreeSet<TenantId>,
    /// The requests that were rejected in this attempt before.
    pub trials: TenantTrials,
    /// When the batch may be divided.
    pub time: DivisionTime,
}

/// When a batch that has failed may be divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DivisionTime {
    /// At once.
    #[default]
    Now,
    /// With the next attempt: later batches have been sent, so the records of a tenant would
    /// arrive in another order.
    NextAttempt,
}

/// When a tenant is served within an attempt, with the number of its failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum ServingTurn {
    /// No request with its records has failed, or a record of another tenant has arrived since.
    #[default]
    First,
    /// All failed requests had records of other tenants too, which may be the cause.
    AfterSharedFailures(u32),
    AfterFailures(u32),
    /// The tenant is withheld, and is tried again.
    Withheld(u32),
}

/// What happened to the parts of a batch that failed without a rejection. A part that was not sent,
/// or whose records were sent again in other parts, has not failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PartFailures {
    /// Whether a part has failed.
    pub has_failed: bool,
    /// The tenants of failed parts with the records of several tenants.
    pub together: HashSet<TenantId>,
    /// The tenants whose records failed in a batch without those of others.
    pub single: HashSet<TenantId>,
    /// The tenants whose records failed alone after the batch had been divided, or whose requests
    /// were rejected alone.
    pub alone: HashSet<TenantId>,
    /// Whether the batch must be divided, but not before the next attempt.
    pub is_division_due: bool,
}

impl TenantDivision {
    /// Whether the rejection of a request with the records of a tenant can show a fault of the
    /// whole sink. It shows nothing new if the tenant is tried again, or if records of others have
    /// arrived since its last failure.
    pub(super) fn is_new(&self, tenant: TenantId) -> bool {
        !self.withheld.contains(&tenant) && !self.witnessed.contains(&tenant)
    }

    /// The order in which the records of each of these tenants are sent alone: those with the
    /// fewest failures first, and withheld ones last.
    pub(super) fn in_order(&self, tenants: BTreeSet<TenantId>) -> Vec<TenantId> {
        let mut order: Vec<TenantId> = tenants.into_iter().collect();
        if let Some(seed) = self.seed {
            Rng::with_seed(seed).shuffle(&mut order);
        }
        order.sort_by_key(|tenant| {
            (self.withheld.contains(tenant), self.failures.get(tenant).copied().unwrap_or_default())
        });
        order
    }
}

impl FailingTenants {
    /// Begins an attempt with the first turn.
    pub(super) fn begin_attempt(&mut self) {
        self.turn = ServingTurn::default();
        self.has_failed = false;
    }

    /// Begins the next turn that serves a tenant. Returns whether there is one.
    pub(super) fn begin_next_turn(&mut self) -> bool {
        let next = self.turn_after(self.turn);
        self.turn = next.unwrap_or(self.turn);
        next.is_some()
    }

    /// Notes which tenants are withheld. They are served after all others.
    pub(super) fn note_withheld(&mut self, withheld: &BTreeSet<TenantId>) {
        for tenant in withheld {
            self.failures.entry(*tenant).or_default();
        }
        for (tenant, failures) in &mut self.failures {
            failures.is_withheld = withheld.contains(tenant);
        }
        self.failures.retain(|_, failures| failures.is_withheld || failures.number > 0);
    }

    /// Whether a tenant is served in the current turn. After a failure, such a tenant has failed
    /// less often than those of the failed batch, which are served in later turns.
    pub(super) fn serves(&self, tenant: TenantId) -> bool {
        self.turn_of(tenant) <= self.turn
    }

    /// Whether a request has failed in this attempt without a reason.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// When a tenant is served. As soon as a record of another tenant has arrived, the receiver
    /// works, so the tenant is served like all others again.
    fn turn_of(&self, tenant: TenantId) -> ServingTurn {
        self.failures.get(&tenant).map_or_else(ServingTurn::default, |failures| failures.turn())
    }

    /// The next turn after this one that serves a tenant; `None` if there is none. Each failure
    /// moves its tenant to a later turn, so no tenant can be the first one in each attempt.
    fn turn_after(&self, turn: ServingTurn) -> Option<ServingTurn> {
        self.failures.values().map(|failures| failures.turn()).filter(|next| *next > turn).min()
    }

    /// How a batch is divided if its delivery fails now.
    pub(super) fn division_of(&mut self, batch: &Batch, time: DivisionTime) -> TenantDivision {
        let seed = Some(self.random.u64(..));
        let mut division = TenantDivision { seed, time, ..TenantDivision::default() };
        if self.failures.is_empty() {
            return division;
        }

        let tenants: BTreeSet<TenantId> = batch.items().iter().map(|item| item.tenant).collect();
        let mut suspected = BTreeSet::new();
        for tenant in tenants {
            let Some(failures) = self.failures.get(&tenant) else { continue };
            division.failures.insert(tenant, failures.number);
            if failures.number.saturating_add(1) < MAX_SHARED_FAILURES {
                continue;
            }
            suspected.insert(tenant);
            if failures.others_arrived {
                division.witnessed.insert(tenant);
            }
        }
        division.suspected = division.in_order(suspected);
        division
    }

    /// Whether a batch is sent by tenant at once. The next call for another batch returns `false`.
    pub(super) fn begins_divided(&mut self, division: &TenantDivision) -> bool {
        !division.suspected.is_empty() && std::mem::take(&mut self.is_due)
    }

    /// Counts what happened to a batch. `outcomes` are those of the receiver.
    pub(super) fn count(&mut self, outcomes: &[RecordOutcome], failures: &PartFailures) {
        let PartFailures { has_failed, together, single, alone, is_division_due } = failures;
        if !has_failed && alone.is_empty() && self.failures.is_empty() {
            return;
        }
        self.has_failed |= *has_failed;
        self.is_due |= *is_division_due;

        let arrived = outcomes.iter().filter(|outcome| outcome.has_arrived());
        let arrived: HashSet<TenantId> = arrived.map(|outcome| outcome.tenant).collect();
        let failed = together.iter().chain(single).chain(alone);
        let failed: HashSet<TenantId> = failed.copied().collect();

        self.failures.retain(|tenant, _| !arrived.contains(tenant) || failed.contains(tenant));
        for (tenant, failures) in &mut self.failures {
            failures.others_arrived |= arrived.iter().any(|other| other != tenant);
        }
        for tenant in failed {
            let is_alone = alone.contains(&tenant);
            let failures = self.failures.entry(tenant).or_default();
            failures.number = failures.number.saturating_add(if is_alone { 2 } else { 1 });
            failures.has_failed_alone |= is_alone || single.contains(&tenant);
            failures.others_arrived = false;
        }
    }
}

impl TenantFailures {
    fn turn(self) -> ServingTurn {
        match self {
            Self { is_withheld: true, number, .. } => ServingTurn::Withheld(number),
            Self { others_arrived: true, .. } | Self { number: 0, .. } => ServingTurn::First,
            Self { has_failed_alone: true, number, .. } => ServingTurn::AfterFailures(number),
            Self { number, .. } => ServingTurn::AfterSharedFailures(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::Position,
        daemon::deliverer::rejections::DeliveryOutcome,
        model::{EventId, Seq},
    };

    fn tenant(n: u8) -> TenantId {
        TenantId::parse(&format!("{n:02}000000-0000-4000-8000-000000000000")).unwrap()
    }

    fn batch(tenants: &[u8]) -> Batch {
        let mut batch = Batch::default();
        for n in tenants {
            batch.push_encoded_to(tenant(*n), "x", b"x");
        }
        batch
    }

    /// Counts a batch: one digit for each tenant, and after it `a` for an arrived record, `r` for a
    /// rejected and `w` for a withheld one, `?` for a failed part with records of several tenants,
    /// `1` for one with those of a tenant, `!` for one that failed after the batch was divided, `-`
    /// for one that was not sent, and `x` for a request that was rejected alone.
    fn count(failing: &mut FailingTenants, records: &str) {
        let (mut outcomes, mut failures) = (Vec::new(), PartFailures::default());
        for record in records.split(' ') {
            let tenant = tenant(record[..1].parse().unwrap());
            let outcome = match &record[1..] {
                "a" => DeliveryOutcome::Arrived,
                "r" => DeliveryOutcome::Rejected("no".to_owned()),
                "w" | "x" => DeliveryOutcome::Withheld,
                _ => DeliveryOutcome::Unknown,
            };

            failures.has_failed |= record.ends_with(['?', '1', '!']);
            match &record[1..] {
                "?" => failures.together.insert(tenant),
                "1" => failures.single.insert(tenant),
                "!" | "x" => failures.alone.insert(tenant),
                _ => false,
            };
            outcomes.push(RecordOutcome {
                tenant,
                at: Position { seq: Seq::FIRST, record_index: 0 },
                event_id: EventId::from_bytes([0; 20]),
                target: None,
                outcome,
            });
        }
        failing.count(&outcomes, &failures);
    }

    /// After these batches, the suspected tenants of a batch with those from 1 to 4, and the
    /// witnessed ones of them.
    #[test]
    fn the_third_failure_in_a_row_is_divided() {
        for (batches, suspected, witnessed) in [
            (&["1? 2?"][..], &[][..], &[][..]),
            (&["1? 2?", "1? 2?"], &[1, 2], &[]),
            // A record that arrives ends the row, unless others of the tenant fail.
            (&["1? 2?", "1? 2a", "2?"], &[1], &[]),
            (&["1? 1a", "1a 1?"], &[1], &[]),
            (&["1? 2?", "1? 2?", "1a 2?"], &[2], &[]),
            (&["1? 2?", "1? 2?", "1a 2a"], &[], &[]),
            // The order of the batches changes, but the failing tenant is in each that fails.
            (&["1? 2?", "3a", "1? 4?", "3a"], &[1], &[1]),
            (&["2?", "2?", "2a 2?", "2a"], &[], &[]),
            (&["1? 2? 3?", "1! 2! 3?"], &[1, 2, 3], &[]),
            (&["1! 2?"], &[1], &[]),
            // A part that was not sent has not failed.
            (&["1? 2?", "1! 2-"], &[1], &[]),
            // Neither a rejection nor a record that waits is a failure of a request.
            (&["1r 2w", "1r 2w", "1r 2w"], &[], &[]),
            (&["1? 2?", "1? 2?", "1r 2w"], &[1, 2], &[]),
        ] {
            let mut failing = FailingTenants::default();
            for records in batches {
                count(&mut failing, records);
            }

            let division = failing.division_of(&batch(&[1, 2, 3, 4]), DivisionTime::Now);
            let found: BTreeSet<TenantId> = division.suspected.into_iter().collect();
            let expected: BTreeSet<TenantId> = suspected.iter().copied().map(tenant).collect();
            assert_eq!(found, expected, "{batches:?}");
            let expected: BTreeSet<TenantId> = witnessed.iter().copied().map(tenant).collect();
            assert_eq!(division.witnessed, expected, "{batches:?}");
        }
    }

    /// Regression: of tenants that had failed equally often, the one with the lowest ID was always
    /// sent first.
    #[test]
    fn the_order_of_equal_tenants_is_random() {
        let (mut suspected, mut alone) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..64 {
            let random = Rng::with_seed(seed);
            let mut failing = FailingTenants { random, ..FailingTenants::default() };
            count(&mut failing, "1? 2? 3?");
            count(&mut failing, "1! 2! 3?");

            let division = failing.division_of(&batch(&[1, 2, 3]), DivisionTime::Now);
            assert_eq!(division.suspected[0], tenant(3), "the fewest failures are first");
            let order = division.in_order([1, 2, 3, 4].map(tenant).into());
            assert_eq!(order[..2], [tenant(4), tenant(3)]);
            suspected.insert(division.suspected);
            alone.insert(order);

            let withheld = BTreeSet::from([tenant(4)]);
            let division = TenantDivision { withheld, ..TenantDivision::default() };
            let order = division.in_order([2, 4, 9].map(tenant).into());
            assert_eq!(order, [2, 9, 4].map(tenant), "withheld tenants are last");
        }
        assert_eq!((suspected.len(), alone.len()), (2, 2));
    }

    /// After these batches, the turns of the tenants from 1 to 3: the number of failures, after `s`
    /// for shared ones, and after `w` for a withheld tenant.
    #[test]
    fn failing_tenants_are_served_last() {
        for (batches, withheld, turns) in [
            (&[][..], None, ["", "", ""]),
            (&["1?"][..], None, ["s1", "", ""]),
            (&["1?", "1?"], None, ["s2", "", ""]),
            (&["1?", "2?", "1? 3?"], None, ["s2", "s1", "s1"]),
            // A record of another tenant shows that the receiver works.
            (&["1?", "1?", "2a"], None, ["", "", ""]),
            (&["1?", "2a", "1?"], None, ["s2", "", ""]),
            (&["1?", "1a 1?"], None, ["s2", "", ""]),
            (&["1?", "1a"], None, ["", "", ""]),
            (&["1? 2?", "1! 2a"], None, ["3", "", ""]),
            // The records of another tenant may be the cause of a shared failure.
            (&["11", "2? 3?", "2? 3?"], None, ["1", "s2", "s2"]),
            (&["1? 2?", "1! 2-"], None, ["3", "s1", ""]),
            // Those whose requests were rejected are not the first ones of the next attempt.
            (&["1x"], None, ["2", "", ""]),
            (&["1x", "2a"], None, ["", "", ""]),
            (&["1w"], None, ["", "", ""]),
            // A withheld tenant is always last.
            (&["1x", "2a"], Some(1), ["w2", "", ""]),
            (&["2?", "2?"], Some(1), ["w0", "s2", ""]),
        ] {
            let mut failing = FailingTenants::default();
            for records in batches {
                count(&mut failing, records);
            }
            failing.note_withheld(&withheld.map(tenant).into_iter().collect());
            let found = [1, 2, 3].map(|n| failing.turn_of(tenant(n)));

            let text = |turn| match turn {
                ServingTurn::First => String::new(),
                ServingTurn::AfterSharedFailures(number) => format!("s{number}"),
                ServingTurn::AfterFailures(number) => number.to_string(),
                ServingTurn::Withheld(number) => format!("w{number}"),
            };
            assert_eq!(found.map(text), turns, "{batches:?}");

            let first = failing.turn_after(ServingTurn::default());
            let later: Vec<ServingTurn> =
                std::iter::successors(first, |turn| failing.turn_after(*turn)).collect();
            let expected: BTreeSet<ServingTurn> =
                found.into_iter().filter(|turn| *turn != ServingTurn::First).collect();
            assert!(later.into_iter().eq(expected), "{batches:?}");

            failing.note_withheld(&BTreeSet::new());
            let is_withheld = |n| matches!(failing.turn_of(tenant(n)), ServingTurn::Withheld(_));
            assert!(![1, 2, 3].into_iter().any(is_withheld), "{batches:?}");
        }
    }

    /// Regression: the tenants that were served first failed in each attempt, so no record of the
    /// others was sent. Each attempt ends with the first failure.
    #[test]
    fn no_tenant_is_the_first_in_each_attempt() {
        const HOSTILE: u8 = 5;
        const HARMLESS: u8 = 9;
        let mut failing = FailingTenants::default();
        let mut attempts = 0;
        loop {
            // Within a turn, those that fail are served first.
            let first = (1..=HOSTILE).chain([HARMLESS]).min_by_key(|n| failing.turn_of(tenant(*n)));
            if first == Some(HARMLESS) {
                break;
            }
            count(&mut failing, &format!("{}?", first.unwrap()));
            attempts += 1;
        }
        assert_eq!(attempts, HOSTILE, "each of them has failed once");

        count(&mut failing, &format!("{HARMLESS}a"));
        assert_eq!(failing.turn_after(ServingTurn::default()), None);
    }

    /// Each tenant fills a batch alone. After the last failure of a round, no tenant is left that
    /// has failed less often.
    #[test]
    fn only_the_last_failure_ends_a_round() {
        const TENANTS: u8 = 5;
        let mut failing = FailingTenants::default();
        for attempt in 1..=3 * TENANTS {
            failing.begin_attempt();
            let first = (1..=TENANTS).min_by_key(|n| failing.turn_of(tenant(*n))).unwrap();
            while !failing.serves(tenant(first)) {
                assert!(failing.begin_next_turn());
            }
            assert!(!failing.has_failed());

            count(&mut failing, &format!("{first}?"));
            assert!(failing.has_failed());
            let are_left = (1..=TENANTS).any(|n| failing.serves(tenant(n)));
            assert_eq!(are_left, !attempt.is_multiple_of(TENANTS), "attempt {attempt}");
        }
    }

    #[test]
    fn a_division_that_is_due_waits_for_suspects() {
        let mut failing = FailingTenants::default();
        count(&mut failing, "1? 2?");
        let due =
            PartFailures { has_failed: true, is_division_due: true, ..PartFailures::default() };
        failing.count(&[], &due);
        count(&mut failing, "1? 2?");

        let harmless = failing.division_of(&batch(&[3]), DivisionTime::Now);
        assert!(!failing.begins_divided(&harmless));
        let suspected = failing.division_of(&batch(&[1, 3]), DivisionTime::Now);
        assert!(failing.begins_divided(&suspected));
        assert!(!failing.begins_divided(&suspected), "the next batch is sent as a whole first");
    }
}
