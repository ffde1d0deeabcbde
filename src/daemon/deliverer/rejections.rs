//! Decides when rejected records indicate a fault of the configuration: more than 20 rejections in
//! a row, or more than 50 among the last 1,000 records. In this case, the sink is parked; if it
//! has several targets, they are counted separately, and only the target is parked.
//!
//! Records that have arrived are settled before. A run of rejections that no accepted record has
//! followed stays in the backlog, because the fault may have caused it. Start reading at
//! [`RejectionCounter::judge`]. See decisions 0022 and 0081.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::DeliveryError;
use crate::{
    checkpoint::{DeadLetter, Position},
    model::{EventId, TenantId},
    sink::{Failure, RefusedTarget, TargetName},
};

/// More rejections in a row than this park the sink or the target.
const MAX_REJECTED_IN_A_ROW: usize = 20;
/// More rejections than this among the last [`WINDOW_RECORDS`] park the sink or the target.
const MAX_REJECTED_IN_WINDOW: usize = 50;
const WINDOW_RECORDS: usize = 1_000;

/// The outcome of sending one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeliveryOutcome {
    /// Not sent, or neither acknowledged nor rejected yet.
    Unknown,
    /// Acknowledged by the receiver.
    Arrived,
    /// Rejected, with the message of the receiver or of the encoder.
    Rejected(String),
    /// Kept in the backlog until the receiver accepts a parked target.
    Withheld,
}

/// A record and its outcome.
#[derive(Clone, Debug)]
pub(super) struct RecordOutcome {
    /// The tenant of the record.
    pub tenant: TenantId,
    /// The position of the record in the tenant's log.
    pub at: Position,
    pub event_id: EventId,
    /// The place at the receiver; `None` if the sink has only one, or if the record could not be
    /// encoded.
    pub target: Option<TargetName>,
    pub outcome: DeliveryOutcome,
}

/// What the outcomes of a batch mean for the cursors, the targets and the sink.
pub(super) struct BatchVerdict {
    /// The outcomes. A tenant's cursor may pass its records up to the first one that is not
    /// settled.
    pub outcomes: Vec<RecordOutcome>,
    /// The targets that reject too many records.
    pub rejecting: Vec<RefusedTarget>,
    /// The error that stops the sink; `None` if it continues.
    pub stopped: Option<DeliveryError>,
}

/// Counts the rejections among the most recent records of a sink and of each of its targets.
#[derive(Debug, Default)]
pub(super) struct RejectionCounter {
    /// The records without a target, and all accepted ones.
    sink: RecentOutcomes,
    /// The targets that have rejected a record.
    targets: HashMap<TargetName, RecentOutcomes>,
}

#[derive(Debug, Default)]
struct RecentOutcomes {
    rejected_in_a_row: usize,
    /// Whether each of the last [`WINDOW_RECORDS`] records was rejected, oldest first.
    window: VecDeque<bool>,
}

/// The rejections that no accepted record has followed.
#[derive(Default)]
struct TrailingRejections {
    indexes: Vec<usize>,
    /// Whether an accepted record precedes them.
    has_begun: bool,
    /// Whether there are records that were not sent, or whose outcome is not known.
    is_incomplete: bool,
}

impl RecordOutcome {
    /// The dead letter of a rejected record.
    pub(super) fn dead_letter(&self) -> Option<DeadLetter> {
        match &self.outcome {
            DeliveryOutcome::Rejected(reason) => Some(DeadLetter {
                tenant: self.tenant,
                at: self.at,
                event_id: self.event_id,
                reason: reason.clone(),
            }),
            _ => None,
        }
    }

    /// Whether the receiver has acknowledged the record.
    pub(super) fn has_arrived(&self) -> bool {
        self.outcome == DeliveryOutcome::Arrived
    }

    /// Whether a cursor may pass the record.
    pub(super) fn is_settled(&self) -> bool {
        self.has_arrived() || self.is_rejected()
    }

    fn is_rejected(&self) -> bool {
        matches!(self.outcome, DeliveryOutcome::Rejected(_))
    }

    /// Whether the record counts for a target, or for the sink itself.
    fn counts_for(&self, target: Option<&TargetName>) -> bool {
        self.target.as_ref() == target || (target.is_none() && self.has_arrived())
    }
}

impl BatchVerdict {
    /// The verdict for dead letters that were retried. One that is rejected again stays a dead
    /// letter, and does not count against the sink.
    pub(super) fn of_dead_letters(
        outcomes: Vec<RecordOutcome>,
        rejecting: Vec<RefusedTarget>,
        stopped: Option<DeliveryError>,
    ) -> Self {
        Self { outcomes, rejecting, stopped }
    }
}

impl RejectionCounter {
    /// Counts the outcomes of a batch, oldest first, and decides which of them are settled.
    /// `rejecting` are the targets that have already exceeded a limit within the batch, and
    /// `stopped` is the error that has already stopped its delivery.
    pub(super) fn judge(
        &mut self,
        mut outcomes: Vec<RecordOutcome>,
        mut rejecting: Vec<RefusedTarget>,
        stopped: Option<DeliveryError>,
    ) -> BatchVerdict {
        stop_cursors(&mut outcomes);
        let mut exceeded = self.count(&outcomes);
        let is_sink_at_fault = exceeded.remove(&None::<TargetName>);
        let parks =
            is_sink_at_fault || stopped.as_ref().is_some_and(DeliveryError::is_misconfigured);

        for name in exceeded.into_iter().flatten() {
            if rejecting.iter().all(|target| target.name != name) {
                rejecting.push(rejecting_target(name.clone(), of_target(&outcomes, Some(&name))));
            }
        }
        let too_many = || too_many(of_target(&outcomes, None));
        let stopped = stopped.or_else(|| is_sink_at_fault.then(too_many));

        for target in &rejecting {
            self.targets.remove(&target.name);
            keep_back(&mut outcomes, Some(&target.name), &DeliveryOutcome::Withheld);
        }
        if parks {
            *self = Self::default();
            let mut targets: BTreeSet<Option<TargetName>> =
                outcomes.iter().map(|outcome| outcome.target.clone()).collect();
            targets.insert(None);
            for target in &targets {
                keep_back(&mut outcomes, target.as_ref(), &DeliveryOutcome::Unknown);
            }
        }
        stop_cursors(&mut outcomes);
        BatchVerdict { outcomes, rejecting, stopped }
    }

    /// Counts outcomes, and returns the targets that have exceeded a limit; `None` is the sink
    /// itself.
    fn count(&mut self, outcomes: &[RecordOutcome]) -> BTreeSet<Option<TargetName>> {
        let mut exceeded = BTreeSet::new();
        for outcome in outcomes.iter().filter(|outcome| outcome.is_settled()) {
            let recent = match &outcome.target {
                None => Some(&mut self.sink),
                Some(target) if outcome.is_rejected() => {
                    Some(self.targets.entry(target.clone()).or_default())
                }
                Some(target) => {
                    self.sink.add(outcome);
                    self.targets.get_mut(target)
                }
            };
            if recent.is_some_and(|recent| recent.add(outcome)) {
                exceeded.insert(outcome.target.clone());
            }
        }
        exceeded
    }
}

impl RecentOutcomes {
    /// Adds the outcome of a record. Returns whether it exceeds a limit.
    fn add(&mut self, outcome: &RecordOutcome) -> bool {
        let is_rejected = outcome.is_rejected();
        self.rejected_in_a_row = if is_rejected { self.rejected_in_a_row + 1 } else { 0 };
        self.window.push_back(is_rejected);
        if self.window.len() > WINDOW_RECORDS {
            self.window.pop_front();
        }

        // Only a rejection can exceed a limit, so other records do not require counting.
        is_rejected
            && (self.rejected_in_a_row > MAX_REJECTED_IN_A_ROW
                || self.window.iter().filter(|rejected| **rejected).count()
                    > MAX_REJECTED_IN_WINDOW)
    }
}

/// Gives all records of a tenant after its first one that is not settled the same outcome, because
/// the cursor stops there.
fn stop_cursors(outcomes: &mut [RecordOutcome]) {
    let mut stopped: HashMap<TenantId, DeliveryOutcome> = HashMap::new();
    for outcome in outcomes {
        if let Some(first) = stopped.get(&outcome.tenant) {
            outcome.outcome = first.clone();
        } else if !outcome.is_settled() {
            stopped.insert(outcome.tenant, outcome.outcome.clone());
        }
    }
}

/// Returns rejections to the backlog, as `kept`: those that no accepted record of the target, or of
/// the target and the same tenant, has followed. A short run at the end of a complete batch is
/// caused by the records themselves.
fn keep_back(outcomes: &mut [RecordOutcome], target: Option<&TargetName>, kept: &DeliveryOutcome) {
    // The key `None` is for the records of all tenants.
    let mut runs: HashMap<Option<TenantId>, TrailingRejections> = HashMap::new();
    for (index, outcome) in outcomes.iter().enumerate().rev() {
        if !outcome.counts_for(target) {
            continue;
        }
        for key in [None, Some(outcome.tenant)] {
            let run = runs.entry(key).or_default();
            match outcome.outcome {
                DeliveryOutcome::Arrived => run.has_begun = true,
                DeliveryOutcome::Rejected(_) if run.has_begun => {}
                DeliveryOutcome::Rejected(_) => run.indexes.push(index),
                DeliveryOutcome::Unknown | DeliveryOutcome::Withheld => run.is_incomplete = true,
            }
        }
    }

    for run in runs.into_values() {
        if run.is_incomplete || run.indexes.len() > MAX_REJECTED_IN_A_ROW {
            for index in run.indexes {
                outcomes[index].outcome = kept.clone();
            }
        }
    }
}

fn of_target<'o>(
    outcomes: &'o [RecordOutcome],
    target: Option<&'o TargetName>,
) -> impl Iterator<Item = &'o DeliveryOutcome> {
    let of_target = outcomes.iter().filter(move |outcome| outcome.target.as_ref() == target);
    of_target.map(|outcome| &outcome.outcome)
}

/// Whether the number of rejections in one batch of `records` indicates a fault of the
/// configuration. If so, the delivery ends early, because each rejection may require sending the
/// rest again.
pub(super) fn are_too_many(rejected: usize, records: usize) -> bool {
    (rejected > MAX_REJECTED_IN_A_ROW && rejected > records / 2)
        || rejected > MAX_REJECTED_IN_WINDOW.max(records / 20)
}

/// The error that parks a sink after too many rejections. Quotes the first reason.
pub(super) fn too_many<'o>(outcomes: impl Iterator<Item = &'o DeliveryOutcome>) -> DeliveryError {
    DeliveryError::Sink(Failure::misconfigured(too_many_reason(outcomes)))
}

/// A target that is parked after too many rejections. Quotes the first reason.
pub(super) fn rejecting_target<'o>(
    name: TargetName,
    outcomes: impl Iterator<Item = &'o DeliveryOutcome>,
) -> RefusedTarget {
    let reason = format!("target `{name}`: {}", too_many_reason(outcomes));
    RefusedTarget { name, reason, hint: None }
}

fn too_many_reason<'o>(mut outcomes: impl Iterator<Item = &'o DeliveryOutcome>) -> String {
    let first = outcomes.find_map(|outcome| match outcome {
        DeliveryOutcome::Rejected(reason) => Some(reason.as_str()),
        _ => None,
    });
    format!("the receiver rejects too many records: {}", first.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One outcome per letter: `a` arrived, `r` rejected, `?` unknown.
    fn outcomes(text: &str) -> Vec<RecordOutcome> {
        let tenant = TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap();
        let outcome = |(record_index, letter)| RecordOutcome {
            tenant,
            at: Position { seq: 1, record_index },
            event_id: EventId::from_bytes([u8::try_from(record_index % 256).unwrap(); 20]),
            target: None,
            outcome: match letter {
                'a' => DeliveryOutcome::Arrived,
                'r' => DeliveryOutcome::Rejected("no".into()),
                _ => DeliveryOutcome::Unknown,
            },
        };
        (0..).zip(text.chars()).map(outcome).collect()
    }

    fn settled(verdict: &BatchVerdict) -> usize {
        verdict.outcomes.iter().filter(|outcome| outcome.is_settled()).count()
    }

    fn judge(counter: &mut RejectionCounter, text: &str) -> (usize, bool) {
        let verdict = counter.judge(outcomes(text), Vec::new(), None);
        (settled(&verdict), verdict.stopped.is_some())
    }

    /// Records of several tenants, each with a target that has the number of its tenant, or with
    /// none if `noun` is empty. A part has the number of the tenant, a letter and a count.
    fn of_tenants(noun: &str, parts: &[(u8, char, usize)]) -> Vec<RecordOutcome> {
        let mut all = Vec::new();
        for &(tenant, letter, records) in parts {
            let id = format!("{tenant:02}000000-0000-4000-8000-000000000000");
            let name = TargetName::new(&format!("{noun}{tenant}"));
            for mut outcome in outcomes(&letter.to_string().repeat(records)) {
                outcome.tenant = TenantId::parse(&id).unwrap();
                outcome.target = Some(name.clone()).filter(|_| !noun.is_empty());
                all.push(outcome);
            }
        }
        all
    }

    /// The number of outcomes of each kind: arrived, rejected, unknown and withheld.
    fn kinds(outcomes: &[RecordOutcome]) -> [usize; 4] {
        let mut kinds = [0; 4];
        for outcome in outcomes {
            kinds[match outcome.outcome {
                DeliveryOutcome::Arrived => 0,
                DeliveryOutcome::Rejected(_) => 1,
                DeliveryOutcome::Unknown => 2,
                DeliveryOutcome::Withheld => 3,
            }] += 1;
        }
        kinds
    }

    /// Regression: a mapping fault of one tenant's index parked the sink for all tenants, and all
    /// records of the tenant became dead letters because records of another tenant followed.
    #[test]
    fn only_the_rejecting_target_is_parked() {
        for (parts, expected, parked) in [
            (&[(1, 'r', 400), (2, 'a', 2)][..], [2, 0, 0, 400], &["index1"][..]),
            (&[(2, 'a', 2), (1, 'a', 1), (1, 'r', 21), (2, 'a', 1)], [4, 0, 0, 21], &["index1"]),
            (&[(1, 'r', 20), (2, 'r', 20), (3, 'a', 1)], [1, 40, 0, 0], &[]),
            (&[(1, 'r', 30), (1, 'a', 1)], [1, 30, 0, 0], &["index1"]),
        ] {
            let mut counter = RejectionCounter::default();
            let verdict = counter.judge(of_tenants("index", parts), Vec::new(), None);
            assert_eq!(kinds(&verdict.outcomes), expected, "{parts:?}");
            assert!(verdict.stopped.is_none(), "{parts:?}");
            let names: Vec<&str> =
                verdict.rejecting.iter().map(|target| target.name.as_str()).collect();
            assert_eq!(names, parked, "{parts:?}");
        }
    }

    /// Regression: the rejected records of a tenant became dead letters because records of another
    /// tenant, which were accepted, followed them.
    #[test]
    fn a_run_of_one_tenant_stays_queued() {
        let parts = [(1, 'r', 400), (2, 'a', 2)];
        let verdict = RejectionCounter::default().judge(of_tenants("", &parts), Vec::new(), None);
        assert_eq!(kinds(&verdict.outcomes), [2, 0, 400, 0]);
        assert!(verdict.stopped.is_some() && verdict.rejecting.is_empty());
    }

    /// Regression: an outcome of one tenant that was not known kept the records of all others that
    /// had arrived from being settled.
    #[test]
    fn an_unknown_outcome_stops_only_its_tenant() {
        let parts = [(1, '?', 2), (2, 'a', 3), (1, 'a', 1), (3, 'r', 1)];
        let stopped = Some(DeliveryError::Sink(Failure::retry("busy")));
        let mut counter = RejectionCounter::default();
        let verdict = counter.judge(of_tenants("index", &parts), Vec::new(), stopped);
        assert_eq!(kinds(&verdict.outcomes), [3, 1, 3, 0]);
    }

    /// A record that cannot be encoded has no target, so accepted records of all targets count.
    #[test]
    fn single_records_without_targets_never_add_up() {
        let mut counter = RejectionCounter::default();
        for _ in 0..40 {
            let mut all = of_tenants("index", &[(1, 'a', 30)]);
            all.extend(of_tenants("", &[(1, 'r', 1)]));
            let verdict = counter.judge(all, Vec::new(), None);
            assert!(verdict.stopped.is_none() && verdict.rejecting.is_empty());
        }
    }

    #[test]
    fn a_run_of_rejections_stays_in_the_backlog() {
        let mut counter = RejectionCounter::default();
        assert_eq!(judge(&mut counter, &"r".repeat(20)), (20, false));
        // The run exceeds the limit, but only one of its records is in this batch.
        assert_eq!(judge(&mut counter, "r"), (1, true));
        // The counter starts again after the sink has been parked.
        assert_eq!(judge(&mut counter, &"r".repeat(20)), (20, false));

        let mut counter = RejectionCounter::default();
        assert_eq!(judge(&mut counter, &format!("aaa{}", "r".repeat(30))), (3, true));
        assert_eq!(judge(&mut counter, &"r".repeat(30)), (0, true));
    }

    /// Regression: records that had arrived after a run of rejections were sent again with every
    /// attempt of the parked sink.
    #[test]
    fn arrived_records_are_settled_before_parking() {
        let mut counter = RejectionCounter::default();
        let text = format!("{}aaa", "r".repeat(30));
        assert_eq!(judge(&mut counter, &text), (33, true));
        assert_eq!(judge(&mut counter, "aaa"), (3, false));
    }

    #[test]
    fn nothing_after_an_unknown_outcome_is_settled() {
        let mut counter = RejectionCounter::default();
        assert_eq!(judge(&mut counter, "aar?ara"), (3, false));
        let stopped = Some(DeliveryError::Sink(Failure::misconfigured("no")));
        let verdict = counter.judge(outcomes("aarr?a"), Vec::new(), stopped);
        assert_eq!((settled(&verdict), verdict.stopped.is_some()), (2, true));
    }

    #[test]
    fn parks_above_five_percent_of_a_thousand() {
        let mut counter = RejectionCounter::default();
        let batch = format!("aaar{}", "a".repeat(16));
        for _ in 0..200 {
            let judged = judge(&mut counter, &batch);
            assert_eq!(judged, (20, false), "one record in twenty does not exceed the limit");
        }
        assert_eq!(judge(&mut counter, &format!("rr{}", "a".repeat(18))), (20, true));
    }
}
