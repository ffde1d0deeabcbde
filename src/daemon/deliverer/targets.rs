//! The targets of one sink that its receiver refuses, such as one of many indices, and the tenants
//! that are withheld because the receiver rejects too many of their records, or fails for each
//! request with them.
//!
//! Only these tenants, and those whose records are sent to a refused target, wait: their cursors
//! stay where they are, so nothing is lost and nothing else is stored. Every five minutes, they are
//! tried again. The module decides which records wait; it reads no log and sends nothing. Start
//! reading at [`ParkedTargets::park`]. See decisions 0081, 0087 and 0093.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tokio::time::Instant;

use super::{
    rejections::{DeliveryOutcome, RecordOutcome},
    retry::PARKED_WAIT,
};
use crate::{
    checkpoint::Lane,
    model::TenantId,
    sink::{Batch, Failure, Refusal, RefusedTarget, TargetName},
};

/// The parked targets of a sink, and the tenants that wait. It can be lost: they are then tried
/// again at once.
#[derive(Debug, Default)]
pub(super) struct ParkedTargets {
    parked: BTreeMap<TargetName, ParkedTarget>,
    /// The tenants that are withheld because of their own records.
    withheld: BTreeMap<TenantId, ParkedTarget>,
    /// The tenants whose cursors are behind the positions up to which their logs were read, because
    /// records were withheld. No batch moves these cursors until they are read again.
    held: HashSet<(Lane, TenantId)>,
    /// The parked target to which the next record is sent.
    tried: Option<TargetName>,
    /// The tenants with records for a target whose outcome was not known at the last attempt.
    busy: HashSet<TenantId>,
}

#[derive(Debug)]
struct ParkedTarget {
    refused: RefusedTarget,
    /// When the target is tried again.
    retry_at: Instant,
    trial: TargetTrial,
    /// Whether it was logged.
    is_logged: bool,
}

/// What is sent to a parked target to try it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetTrial {
    /// One record, because the receiver refuses all records for the target.
    OneRecord,
    /// A whole batch, because the receiver has rejected too many records: one does not show
    /// whether the fault is in the record or in the target.
    WholeBatch,
}

impl ParkedTargets {
    /// Parks targets, and returns those that were not parked yet. The others keep waiting.
    pub(super) fn park(
        &mut self,
        refused: Vec<RefusedTarget>,
        trial: TargetTrial,
        now: Instant,
    ) -> Vec<RefusedTarget> {
        let mut new = Vec::new();
        for refused in refused {
            let (retry_at, is_logged) = (now + PARKED_WAIT, true);
            let parked = ParkedTarget { refused: refused.clone(), retry_at, trial, is_logged };
            if self.parked.insert(refused.name.clone(), parked).is_none() {
                new.push(refused);
            }
        }
        new
    }

    /// Withholds the records of a tenant. `refused` has a name for the tenant, and its message.
    pub(super) fn withhold(
        &mut self,
        lane: Lane,
        tenant: TenantId,
        refused: RefusedTarget,
        now: Instant,
    ) {
        // Nothing else is read until the tenant is tried again, even if its cursor has moved.
        if lane != Lane::DeadLetters {
            self.held.insert((lane, tenant));
        }
        let (retry_at, trial) = (now + PARKED_WAIT, TargetTrial::WholeBatch);
        let is_logged = self.withheld.get(&tenant).is_some_and(|withheld| withheld.is_logged);
        let withheld = ParkedTarget { refused, retry_at, trial, is_logged };
        self.withheld.insert(tenant, withheld);
    }

    /// The withheld tenants that are not logged yet, each with its message. They are returned once.
    pub(super) fn take_unlogged(&mut self) -> Vec<(TenantId, RefusedTarget)> {
        let unlogged = self.withheld.iter_mut().filter(|(_, withheld)| !withheld.is_logged);
        let logged = unlogged.map(|(tenant, withheld)| {
            withheld.is_logged = true;
            (*tenant, withheld.refused.clone())
        });
        logged.collect()
    }

    /// The tenants that are withheld because of their own records.
    pub(super) fn withheld_tenants(&self) -> BTreeSet<TenantId> {
        self.withheld.keys().copied().collect()
    }

    /// Releases a tenant whose records the receiver accepts. Returns whether it was withheld.
    pub(super) fn release_tenant(&mut self, tenant: TenantId) -> bool {
        self.withheld.remove(&tenant).is_some()
    }

    /// Releases these tenants, because the whole sink is parked.
    pub(super) fn release_tenants(&mut self, tenants: &BTreeSet<TenantId>) {
        self.withheld.retain(|tenant, _| !tenants.contains(tenant));
    }

    /// The tenants of a batch whose records are sent to a parked target, which is tried again.
    pub(super) fn tenants_of_parked(&self, batch: &Batch) -> BTreeSet<TenantId> {
        if self.parked.is_empty() {
            return BTreeSet::new();
        }
        let is_parked = |target: &TargetName| self.parked.contains_key(target);
        let items = batch.items().iter();
        let tried = items.filter(|item| item.target.as_ref().is_some_and(is_parked));
        tried.map(|item| item.tenant).collect()
    }

    /// Lets all targets and tenants that are due at this time wait again, because several of them
    /// were tried again without success.
    pub(super) fn postpone_due(&mut self, now: Instant) {
        let waiting = self.parked.values_mut().chain(self.withheld.values_mut());
        for parked in waiting.filter(|parked| parked.retry_at <= now) {
            parked.retry_at = now + PARKED_WAIT;
        }
    }

    /// Whether a target is parked.
    pub(super) fn contains(&self, target: &TargetName) -> bool {
        self.parked.contains_key(target)
    }

    /// Releases the target to which a record has been delivered. Returns whether it was parked.
    pub(super) fn release(&mut self, target: &TargetName) -> bool {
        self.parked.remove(target).is_some()
    }

    /// Releases the targets and the tenants that were due at this time. Each of them has been tried
    /// and was refused again, which changes its time, or nothing is left to send to it.
    pub(super) fn release_due(&mut self, now: Instant) {
        self.parked.retain(|_, parked| parked.retry_at > now);
        self.withheld.retain(|_, parked| parked.retry_at > now);
    }

    /// Whether no target is parked and no tenant is withheld.
    pub(super) fn is_empty(&self) -> bool {
        self.parked.is_empty() && self.withheld.is_empty()
    }

    /// Whether a target is parked, and not only tenants are withheld.
    pub(super) fn has_parked_targets(&self) -> bool {
        !self.parked.is_empty()
    }

    /// The names of the parked targets, in their order, and of the withheld tenants.
    pub(super) fn names(&self) -> impl Iterator<Item = &TargetName> {
        self.refused().map(|refused| &refused.name)
    }

    /// Whether a tenant whose records are sent to these targets must wait: it is withheld, or one
    /// of them is parked, and is not due at this time.
    pub(super) fn block(&self, tenant: TenantId, targets: &[String], now: Instant) -> bool {
        let parked = targets.iter().filter_map(|name| self.parked.get(name.as_str()));
        let mut waiting = parked.chain(self.withheld.get(&tenant));
        waiting.any(|parked| parked.retry_at > now)
    }

    /// Notes that the records of a tenant with these targets are read from now on.
    pub(super) fn begin(&mut self, targets: &[String]) {
        let mut parked = targets.iter().filter_map(|name| self.parked.get_key_value(name.as_str()));
        let tried = parked.find(|(_, parked)| parked.trial == TargetTrial::OneRecord);
        self.tried = tried.map(|(name, _)| name.clone());
    }

    /// Whether a record of the tenant that is being read is sent alone, because it shows whether
    /// its target is still refused. The records after it would arrive again and again.
    pub(super) fn tries_one_record(&self) -> bool {
        self.tried.as_ref().is_some_and(|target| self.parked.contains_key(target))
    }

    /// The outcomes as far as they may move cursors: after a withheld record of a tenant, all its
    /// later records are withheld too. Dead letters have no cursor, so they are unchanged.
    pub(super) fn hold_back(
        &mut self,
        lane: Lane,
        mut outcomes: Vec<RecordOutcome>,
    ) -> Vec<RecordOutcome> {
        if lane == Lane::DeadLetters {
            return outcomes;
        }
        for outcome in &mut outcomes {
            if outcome.outcome == DeliveryOutcome::Withheld {
                self.held.insert((lane, outcome.tenant));
            } else if self.holds(lane, outcome.tenant) {
                outcome.outcome = DeliveryOutcome::Withheld;
            }
        }
        outcomes
    }

    /// Notes the tenants with withheld records.
    pub(super) fn hold(&mut self, lane: Lane, outcomes: &[RecordOutcome]) {
        if lane != Lane::DeadLetters {
            let withheld = |outcome: &&RecordOutcome| outcome.outcome == DeliveryOutcome::Withheld;
            let withheld = outcomes.iter().filter(withheld);
            self.held.extend(withheld.map(|outcome| (lane, outcome.tenant)));
        }
    }

    /// Notes for which tenants the receiver was busy, and which of them have records that arrived.
    pub(super) fn note_busy(&mut self, outcomes: &[RecordOutcome]) {
        for outcome in outcomes.iter().filter(|outcome| outcome.target.is_some()) {
            match outcome.outcome {
                DeliveryOutcome::Unknown => {
                    self.busy.insert(outcome.tenant);
                }
                DeliveryOutcome::Arrived => {
                    self.busy.remove(&outcome.tenant);
                }
                DeliveryOutcome::Rejected(_) | DeliveryOutcome::Withheld => {}
            }
        }
    }

    /// Whether the target of a tenant was busy at the last attempt.
    pub(super) fn is_busy(&self, tenant: TenantId) -> bool {
        self.busy.contains(&tenant)
    }

    /// The tenants in two groups, whose dead letters are retried one after the other. Those whose
    /// target was busy are last, because the failure of their records ends the attempt.
    pub(super) fn busy_last(&self, tenants: impl Iterator<Item = TenantId>) -> [Vec<TenantId>; 2] {
        let (busy, others) = tenants.partition(|tenant| self.is_busy(*tenant));
        [others, busy]
    }

    /// Whether records of the tenant were withheld since its cursor was read.
    pub(super) fn holds(&self, lane: Lane, tenant: TenantId) -> bool {
        self.held.contains(&(lane, tenant))
    }

    /// Notes that all batches are settled, and that the cursors are read again.
    pub(super) fn cursors_are_read(&mut self) {
        self.held.clear();
    }

    /// The failure that reports all parked targets and withheld tenants; `None` if there are none.
    pub(super) fn failure(&self) -> Option<Failure> {
        let targets: Vec<RefusedTarget> = self.refused().cloned().collect();
        let refusal = Refusal { targets, ..Refusal::default() };
        (!refusal.targets.is_empty()).then_some(Failure::Refused(refusal))
    }

    fn refused(&self) -> impl Iterator<Item = &RefusedTarget> {
        let parked = self.parked.values().chain(self.withheld.values());
        parked.map(|parked| &parked.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::Position,
        model::{EventId, Seq},
    };

    fn tenant(n: u8) -> TenantId {
        TenantId::parse(&format!("{n:02}000000-0000-4000-8000-000000000000")).unwrap()
    }

    fn refused(name: &str) -> RefusedTarget {
        let reason = format!("no index `{name}`");
        RefusedTarget { name: TargetName::new(name), reason, hint: None }
    }

    fn targets(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_tenants_of_a_parked_target_wait() {
        let start = Instant::now();
        let mut parked = ParkedTargets::default();
        let one = TargetTrial::OneRecord;
        assert_eq!(parked.park(vec![refused("a"), refused("b")], one, start).len(), 2);
        assert!(parked.park(vec![refused("a")], one, start).is_empty(), "it was parked already");
        assert!(parked.has_parked_targets());

        for (names, blocked) in
            [(&["a"][..], true), (&["c"], false), (&["c", "b"], true), (&[], false)]
        {
            assert_eq!(parked.block(tenant(1), &targets(names), start), blocked, "{names:?}");
        }
        let due = start + PARKED_WAIT;
        assert!(!parked.block(tenant(1), &targets(&["a"]), due), "it is tried again");
    }

    #[test]
    fn only_the_withheld_tenant_waits() {
        let start = Instant::now();
        let due = start + PARKED_WAIT;
        let mut parked = ParkedTargets::default();
        for is_first in [true, false] {
            parked.withhold(Lane::Live, tenant(1), refused("tenant one"), start);
            assert_eq!(parked.take_unlogged().len(), usize::from(is_first));
        }
        assert!(!parked.has_parked_targets() && !parked.is_empty());
        assert!(parked.holds(Lane::Live, tenant(1)) && !parked.holds(Lane::Live, tenant(2)));
        assert!(parked.block(tenant(1), &[], start) && !parked.block(tenant(2), &[], start));
        assert_eq!(parked.failure().unwrap().to_string(), "no index `tenant one`");

        parked.cursors_are_read();
        assert!(!parked.block(tenant(1), &[], due) && !parked.holds(Lane::Live, tenant(1)));
        parked.begin(&[]);
        assert!(!parked.tries_one_record(), "it is tried again with a batch");
        assert_eq!(parked.withheld_tenants(), BTreeSet::from([tenant(1)]));
        assert!(parked.release_tenant(tenant(1)) && parked.is_empty());

        for (lane, is_held) in [(Lane::Live, true), (Lane::DeadLetters, false)] {
            parked.withhold(lane, tenant(1), refused("tenant one"), start);
            assert_eq!(parked.holds(lane, tenant(1)), is_held);
            parked.release_due(start);
            assert_eq!(parked.names().count(), 1);
            parked.release_due(due);
            assert!(parked.is_empty());
        }
    }

    #[test]
    fn a_due_target_is_tried_with_one_record() {
        let start = Instant::now();
        let mut parked = ParkedTargets::default();
        parked.park(vec![refused("a")], TargetTrial::OneRecord, start);
        parked.begin(&targets(&["b"]));
        assert!(!parked.tries_one_record());
        parked.begin(&targets(&["b", "a"]));
        assert!(parked.tries_one_record());

        assert!(parked.release(&TargetName::new("a")));
        assert!(!parked.tries_one_record() && parked.is_empty());

        parked.park(vec![refused("a")], TargetTrial::WholeBatch, start);
        parked.begin(&targets(&["a"]));
        assert!(!parked.tries_one_record() && parked.contains(&TargetName::new("a")));
    }

    #[test]
    fn targets_without_records_are_forgotten() {
        let start = Instant::now();
        let mut parked = ParkedTargets::default();
        parked.park(vec![refused("a"), refused("b")], TargetTrial::OneRecord, start);
        let due = start + PARKED_WAIT;
        parked.park(vec![refused("b")], TargetTrial::OneRecord, due);
        parked.release_due(start);
        assert_eq!(parked.names().count(), 2);

        parked.release_due(due);
        assert_eq!(parked.failure().unwrap().to_string(), "no index `b`");
        parked.release_due(due + PARKED_WAIT);
        assert!(parked.failure().is_none());
    }

    /// Outcomes of the tenants 1 and 2: `a` arrived, `w` withheld.
    fn outcomes(text: &str) -> Vec<RecordOutcome> {
        let outcome = |(record_index, letter): (u32, &str)| RecordOutcome {
            tenant: tenant(if letter.starts_with('1') { 1 } else { 2 }),
            at: Position { seq: Seq::FIRST, record_index },
            event_id: EventId::from_bytes([0; 20]),
            target: None,
            outcome: if letter.ends_with('a') {
                DeliveryOutcome::Arrived
            } else {
                DeliveryOutcome::Withheld
            },
        };
        (0..).zip(text.split(' ')).map(outcome).collect()
    }

    #[test]
    fn later_records_of_a_held_tenant_wait() {
        let mut parked = ParkedTargets::default();
        let held = |parked: &mut ParkedTargets, lane, text| -> String {
            let letter = |outcome: &RecordOutcome| match outcome.outcome {
                DeliveryOutcome::Withheld => 'w',
                _ => 'a',
            };
            parked.hold_back(lane, outcomes(text)).iter().map(letter).collect()
        };

        assert_eq!(held(&mut parked, Lane::Live, "1a 2a 1w 1a 2a"), "aawwa");
        assert_eq!(held(&mut parked, Lane::Live, "1a 2a"), "wa", "the batch was in flight");
        assert_eq!(held(&mut parked, Lane::DeadLetters, "1a 1w 1a"), "awa");
        parked.cursors_are_read();
        assert_eq!(held(&mut parked, Lane::Live, "1a 2a"), "aa");

        parked.hold(Lane::DeadLetters, &outcomes("2w"));
        parked.hold(Lane::Live, &outcomes("1w 2a"));
        assert_eq!(held(&mut parked, Lane::Live, "1a 2a"), "wa");
    }

    #[test]
    fn a_tenant_is_busy_until_a_record_arrives() {
        let mut parked = ParkedTargets::default();
        for (letters, target, is_busy) in
            [("1? 2a", "a", true), ("1a", "a", false), ("1a 1?", "a", true), ("1a 1?", "", false)]
        {
            let mut all = outcomes(letters);
            for (outcome, letter) in all.iter_mut().zip(letters.split(' ')) {
                outcome.target = Some(TargetName::new(target)).filter(|_| !target.is_empty());
                if letter.ends_with('?') {
                    outcome.outcome = DeliveryOutcome::Unknown;
                }
            }
            parked.note_busy(&all);
            assert_eq!(parked.is_busy(tenant(1)), is_busy, "{letters} {target}");
            assert!(!parked.is_busy(tenant(2)));

            // Regression: while a target was busy, no dead letter of a later tenant was retried.
            let ([one, two], none) = ([1, 2].map(tenant), Vec::new());
            let expected = if is_busy { [vec![two], vec![one]] } else { [vec![one, two], none] };
            assert_eq!(parked.busy_last([one, two].into_iter()), expected, "{letters} {target}");
            parked.busy.clear();
        }
    }
}
