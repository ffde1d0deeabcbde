//! A batch that is filled or in flight: the encoded records of one or more tenants, and the range
//! of each tenant's log that they cover.
//!
//! It stores the position of every record, including those that could not be encoded, so that
//! outcomes can be translated into cursor movements; see [`OutgoingBatch::moves`].

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::rejections::{DeliveryOutcome, RecordOutcome};
use crate::{
    checkpoint::{CursorMove, DeadLetterId, Lane, Position, QueuedDeadLetter},
    model::{EventId, TenantId},
    sink::{Batch, Limits},
};

/// The records of a batch, and the parts of the log that they were derived from.
#[derive(Debug)]
pub(super) struct OutgoingBatch {
    /// The encoded records; those that could not be encoded are missing.
    pub batch: Batch,
    /// The lane of all records: a batch has records of one lane only.
    pub lane: Lane,
    /// All records, in the order in which they were added.
    slots: Vec<Slot>,
    /// The ranges of the log that are covered, in order. A tenant may have several.
    spans: Vec<CursorMove>,
    /// When the first record was added.
    since: Option<Instant>,
}

/// A record of the batch. The slots that are not rejected correspond to the items of `batch`, in
/// the same order.
#[derive(Debug)]
struct Slot {
    tenant: TenantId,
    at: Position,
    event_id: EventId,
    /// Why the record could not be encoded; such a record is not in `batch`.
    rejected: Option<String>,
    /// The dead letter that this record retries.
    dead_letter: Option<DeadLetterId>,
}

impl OutgoingBatch {
    /// An empty batch that reuses the memory of `batch`.
    pub(super) fn new(lane: Lane, mut batch: Batch) -> Self {
        batch.clear();
        Self { batch, lane, slots: Vec::new(), spans: Vec::new(), since: None }
    }

    /// Starts a range at this position of the tenant's log, or continues the last range if it ends
    /// there. The following calls of [`Self::add`] and [`Self::advance_to`] belong to it.
    pub(super) fn begin(&mut self, tenant: TenantId, from: Position) {
        let continues = self.spans.last().is_some_and(|s| s.tenant == tenant && s.to == from);
        if !continues {
            self.spans.push(CursorMove { tenant, from, to: from });
        }
    }

    /// Extends the current range to this position, exclusively.
    pub(super) fn advance_to(&mut self, to: Position) {
        if let Some(span) = self.spans.last_mut() {
            span.to = to;
        }
    }

    /// Adds a record of the current range, which is encoded in `batch` unless it was `rejected`.
    pub(super) fn add(&mut self, at: Position, event_id: EventId, rejected: Option<String>) {
        if let Some(span) = self.spans.last() {
            let tenant = span.tenant;
            self.slots.push(Slot { tenant, at, event_id, rejected, dead_letter: None });
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// Adds a record that is a dead letter, as [`Self::add`] does.
    pub(super) fn add_dead_letter(&mut self, letter: &QueuedDeadLetter, rejected: Option<String>) {
        self.add(letter.at, letter.event_id, rejected);
        if let Some(slot) = self.slots.last_mut() {
            slot.dead_letter = Some(letter.id);
        }
    }

    /// Whether the batch has reached a limit. Rejected records count, because their number must be
    /// limited too.
    pub(super) fn is_full(&self, limits: Limits) -> bool {
        self.slots.len() >= limits.records || self.batch.bytes().len() >= limits.bytes
    }

    /// The time since the first record was added.
    pub(super) fn age(&self) -> Duration {
        self.since.map_or_else(Default::default, |since| since.elapsed())
    }

    /// Whether there are no records to send and no cursors to move.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.spans.iter().all(|span| span.from == span.to)
    }

    /// The number of records that could not be encoded, and the first reason, by tenant.
    pub(super) fn rejected(&self) -> BTreeMap<TenantId, (usize, &str)> {
        let mut rejected = BTreeMap::new();
        for slot in &self.slots {
            if let Some(reason) = slot.rejected.as_deref() {
                rejected.entry(slot.tenant).or_insert((0, reason)).0 += 1;
            }
        }
        rejected
    }

    /// The number of records of a tenant, including those that could not be encoded.
    pub(super) fn records_of(&self, tenant: TenantId) -> usize {
        self.slots.iter().filter(|slot| slot.tenant == tenant).count()
    }

    /// The number of records, including those that could not be encoded.
    pub(super) fn records(&self) -> usize {
        self.slots.len()
    }

    /// The outcome of every record, in order. `outcomes` are those of the items of `batch`.
    pub(super) fn outcomes(&self, outcomes: Vec<DeliveryOutcome>) -> Vec<RecordOutcome> {
        let mut sent = outcomes.into_iter();
        let mut targets = self.batch.items().iter().map(|item| item.target.clone());
        let outcome = |slot: &Slot| {
            let (target, outcome) = match &slot.rejected {
                Some(reason) => (None, DeliveryOutcome::Rejected(reason.clone())),
                None => (targets.next().flatten(), sent.next().unwrap_or(DeliveryOutcome::Unknown)),
            };
            let Slot { tenant, at, event_id, .. } = *slot;
            RecordOutcome { tenant, at, event_id, target, outcome }
        };
        self.slots.iter().map(outcome).collect()
    }

    /// The position of each tenant's cursor when the whole batch is settled.
    pub(super) fn ends(&self) -> impl Iterator<Item = (TenantId, Position)> {
        let ends: BTreeMap<_, _> = self.spans.iter().map(|span| (span.tenant, span.to)).collect();
        ends.into_iter()
    }

    /// The IDs of the dead letters that have arrived. `outcomes` are those of all records.
    pub(super) fn delivered_dead_letters(&self, outcomes: &[RecordOutcome]) -> Vec<DeadLetterId> {
        let outcomes = self.slots.iter().zip(outcomes);
        outcomes
            .filter(|(_, outcome)| outcome.has_arrived())
            .filter_map(|(slot, _)| slot.dead_letter)
            .collect()
    }

    /// The cursor movements that these outcomes permit: each tenant's cursor stops at its first
    /// record that is not settled.
    pub(super) fn moves(&self, outcomes: &[RecordOutcome]) -> Vec<CursorMove> {
        let unsettled: Vec<&RecordOutcome> =
            outcomes.iter().filter(|outcome| !outcome.is_settled()).collect();

        let mut stopped = HashSet::new();
        let mut moves = Vec::new();
        for span in self.spans.iter().filter(|span| span.from != span.to) {
            let first_unsettled = unsettled.iter().find(|outcome| {
                outcome.tenant == span.tenant && outcome.at >= span.from && outcome.at < span.to
            });
            let to = first_unsettled.map_or(span.to, |outcome| outcome.at);
            // A cursor that has stopped is not at the beginning of a later range.
            if to != span.from && !stopped.contains(&span.tenant) {
                moves.push(CursorMove { to, ..*span });
            }
            if first_unsettled.is_some() {
                stopped.insert(span.tenant);
            }
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Seq;

    fn tenant(n: u8) -> TenantId {
        TenantId::parse(&format!("{n:02x}000000-0000-4000-8000-000000000000")).unwrap()
    }

    fn at(seq: u64, record_index: u32) -> Position {
        Position { seq: Seq::new(seq), record_index }
    }

    fn id(n: u8) -> EventId {
        EventId::from_bytes([n; 20])
    }

    /// Two tenants, and one record that could not be encoded.
    fn outgoing() -> OutgoingBatch {
        let mut outgoing = OutgoingBatch::new(Lane::Live, Batch::default());
        outgoing.begin(tenant(1), at(1, 0));
        outgoing.add(at(1, 0), id(1), None);
        outgoing.add(at(1, 1), id(2), Some("too long".into()));
        outgoing.advance_to(at(2, 0));
        outgoing.begin(tenant(1), at(2, 0));
        outgoing.add(at(2, 5), id(3), None);
        outgoing.advance_to(at(3, 0));
        outgoing.begin(tenant(2), at(9, 0));
        outgoing.add(at(9, 7), id(4), None);
        outgoing.advance_to(at(10, 0));
        outgoing
    }

    /// Each movement as (seq, record index) of its two ends.
    fn ranges(moves: &[CursorMove]) -> Vec<((u64, u32), (u64, u32))> {
        moves
            .iter()
            .map(|m| (m.from, m.to))
            .map(|(from, to)| {
                ((from.seq.get(), from.record_index), (to.seq.get(), to.record_index))
            })
            .collect()
    }

    #[test]
    fn outcomes_include_records_that_were_not_sent() {
        let outgoing = outgoing();
        let (tenant, records) = (tenant(1), outgoing.records());
        assert_eq!((outgoing.records_of(tenant), records), (3, 4));
        assert_eq!(outgoing.rejected(), BTreeMap::from([(tenant, (1, "too long"))]));

        let outcomes = outgoing.outcomes(vec![DeliveryOutcome::Arrived, DeliveryOutcome::Arrived]);
        let letters: String = outcomes
            .iter()
            .map(|outcome| match outcome.outcome {
                DeliveryOutcome::Arrived => 'a',
                DeliveryOutcome::Rejected(_) => 'r',
                DeliveryOutcome::Withheld => 'w',
                DeliveryOutcome::Unknown => '?',
            })
            .collect();
        assert_eq!(letters, "ara?");
    }

    #[test]
    fn a_withheld_record_stops_only_its_tenant() {
        let mut outgoing = outgoing();
        outgoing.begin(tenant(1), at(3, 0));
        outgoing.add(at(3, 2), id(5), None);
        outgoing.advance_to(at(4, 0));
        let (arrived, withheld) = (DeliveryOutcome::Arrived, DeliveryOutcome::Withheld);
        let outcomes =
            outgoing.outcomes(vec![arrived.clone(), withheld.clone(), arrived, withheld]);
        assert_eq!(ranges(&outgoing.moves(&outcomes)), [((1, 0), (2, 5)), ((9, 0), (10, 0))]);
    }

    #[test]
    fn cursors_stop_at_the_first_unsettled_record() {
        let outgoing = outgoing();
        let moves = |settled: usize| {
            let mut outcomes = outgoing.outcomes(vec![DeliveryOutcome::Arrived; 3]);
            for outcome in &mut outcomes[settled..] {
                outcome.outcome = DeliveryOutcome::Unknown;
            }
            ranges(&outgoing.moves(&outcomes))
        };
        assert_eq!(moves(4), [((1, 0), (3, 0)), ((9, 0), (10, 0))]);
        assert_eq!(moves(3), [((1, 0), (3, 0)), ((9, 0), (9, 7))]);
        assert_eq!(moves(2), [((1, 0), (2, 5)), ((9, 0), (9, 7))]);
        assert_eq!(moves(0), [((9, 0), (9, 7))]);
    }

    /// Regression: the cursors of all tenants stopped at a record of one whose outcome was unknown.
    #[test]
    fn an_unknown_record_stops_only_its_tenant() {
        let outgoing = outgoing();
        let (arrived, unknown) = (DeliveryOutcome::Arrived, DeliveryOutcome::Unknown);
        let outcomes = outgoing.outcomes(vec![unknown, arrived.clone(), arrived]);
        assert_eq!(ranges(&outgoing.moves(&outcomes)), [((9, 0), (10, 0))]);
    }
}
