//! What goes out as one batch: records of one tenant or of many, and how far each tenant's log is
//! through with them.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::refusals::{DeliveryOutcome, RecordOutcome};
use crate::{
    checkpoint::{CursorMove, Lane, Position, QueuedDeadLetter},
    model::{EventId, TenantId},
    sink::{Batch, Limits},
};

/// A batch that is being filled, or on its way.
#[derive(Debug)]
pub(super) struct OutgoingBatch {
    pub batch: Batch,
    pub lane: Lane,
    slots: Vec<Slot>,
    spans: Vec<CursorMove>,
    /// When the first record went in.
    since: Option<Instant>,
}

/// A record of the outgoing. Those not refused stand in the batch, in the same order.
#[derive(Debug)]
struct Slot {
    tenant: TenantId,
    at: Position,
    event_id: EventId,
    /// Refused before it was sent, with the reason.
    refused: Option<String>,
    /// The dead letter that it is on the list as.
    letter: Option<i64>,
}

impl OutgoingBatch {
    pub(super) fn new(lane: Lane, mut batch: Batch) -> Self {
        batch.clear();
        Self { batch, lane, slots: Vec::new(), spans: Vec::new(), since: None }
    }

    /// What follows is of this tenant, from this place on.
    pub(super) fn begin(&mut self, tenant: TenantId, from: Position) {
        let goes_on = self.spans.last().is_some_and(|s| s.tenant == tenant && s.to == from);
        if !goes_on {
            self.spans.push(CursorMove { tenant, from, to: from });
        }
    }

    /// The tenant begun last is through up to here.
    pub(super) fn reached(&mut self, to: Position) {
        if let Some(span) = self.spans.last_mut() {
            span.to = to;
        }
    }

    /// The tenant's record at this place is in the batch, or was refused.
    pub(super) fn put(&mut self, at: Position, event_id: EventId, refused: Option<String>) {
        if let Some(span) = self.spans.last() {
            self.slots.push(Slot { tenant: span.tenant, at, event_id, refused, letter: None });
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// As [`Self::put`], of a record that is on the dead-letter list.
    pub(super) fn put_letter(&mut self, letter: &QueuedDeadLetter, refused: Option<String>) {
        self.put(letter.at, letter.event_id, refused);
        if let Some(slot) = self.slots.last_mut() {
            slot.letter = Some(letter.id);
        }
    }

    /// Records that cannot be encoded fill a batch too, or they would be remembered without end.
    pub(super) fn is_full(&self, limits: Limits) -> bool {
        self.slots.len() >= limits.records || self.batch.bytes().len() >= limits.bytes
    }

    pub(super) fn age(&self) -> std::time::Duration {
        self.since.map_or_else(Default::default, |since| since.elapsed())
    }

    /// Nothing to send and no cursor to move.
    pub(super) fn is_void(&self) -> bool {
        self.slots.is_empty() && self.spans.iter().all(|span| span.from == span.to)
    }

    /// How many were refused before they were sent, and the first reason.
    pub(super) fn refused(&self) -> (usize, Option<&str>) {
        let mut reasons = self.slots.iter().filter_map(|slot| slot.refused.as_deref());
        let first = reasons.next();
        (usize::from(first.is_some()) + reasons.count(), first)
    }

    pub(super) fn records(&self) -> usize {
        self.slots.len()
    }

    /// What became of each record, sent or not, in the order of the outgoing. `outcomes` are of the
    /// batch.
    pub(super) fn outcomes(&self, outcomes: Vec<DeliveryOutcome>) -> Vec<RecordOutcome> {
        let mut sent = outcomes.into_iter();
        let outcome = |slot: &Slot| RecordOutcome {
            tenant: slot.tenant,
            at: slot.at,
            event_id: slot.event_id,
            outcome: match &slot.refused {
                Some(reason) => DeliveryOutcome::Refused(reason.clone()),
                None => sent.next().unwrap_or(DeliveryOutcome::Unknown),
            },
        };
        self.slots.iter().map(outcome).collect()
    }

    /// How far each tenant is through when all of the load is.
    pub(super) fn ends(&self) -> impl Iterator<Item = (TenantId, Position)> {
        let ends: BTreeMap<_, _> = self.spans.iter().map(|span| (span.tenant, span.to)).collect();
        ends.into_iter()
    }

    /// The dead letters among the settled that have arrived now.
    pub(super) fn delivered_letters(&self, settled: &[RecordOutcome]) -> Vec<i64> {
        let of_settled = self.slots.iter().zip(settled);
        of_settled
            .filter(|(_, outcome)| outcome.outcome == DeliveryOutcome::Arrived)
            .filter_map(|(slot, _)| slot.letter)
            .collect()
    }

    /// How far each tenant's cursor may move when the first `settled` outcomes are.
    pub(super) fn moves(&self, outcomes: &[RecordOutcome], settled: usize) -> Vec<CursorMove> {
        let open = &outcomes[settled..];
        let reached = |span: &CursorMove| {
            let first_open = open.iter().find(|outcome| {
                outcome.tenant == span.tenant && outcome.at >= span.from && outcome.at < span.to
            });
            CursorMove { to: first_open.map_or(span.to, |outcome| outcome.at), ..*span }
        };
        self.spans.iter().map(reached).filter(|span| span.from != span.to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: u8) -> TenantId {
        TenantId::parse(&format!("{n:02x}000000-0000-4000-8000-000000000000")).unwrap()
    }

    fn at(seq: u64, record_index: u32) -> Position {
        Position { seq, record_index }
    }

    fn id(n: u8) -> EventId {
        EventId::from_bytes([n; 20])
    }

    /// Two tenants, one record refused before it was sent.
    fn outgoing() -> OutgoingBatch {
        let mut outgoing = OutgoingBatch::new(Lane::Live, Batch::default());
        outgoing.begin(tenant(1), at(1, 0));
        outgoing.put(at(1, 0), id(1), None);
        outgoing.put(at(1, 1), id(2), Some("too long".into()));
        outgoing.reached(at(2, 0));
        outgoing.begin(tenant(1), at(2, 0));
        outgoing.put(at(2, 5), id(3), None);
        outgoing.reached(at(3, 0));
        outgoing.begin(tenant(2), at(9, 0));
        outgoing.put(at(9, 7), id(4), None);
        outgoing.reached(at(10, 0));
        outgoing
    }

    fn shown(moves: &[CursorMove]) -> Vec<((u64, u32), (u64, u32))> {
        moves
            .iter()
            .map(|m| ((m.from.seq, m.from.record_index), (m.to.seq, m.to.record_index)))
            .collect()
    }

    #[test]
    fn fates_stand_in_order_whether_sent_or_not() {
        let outgoing = outgoing();
        let outcomes = outgoing.outcomes(vec![DeliveryOutcome::Arrived, DeliveryOutcome::Arrived]);
        let letters: String = outcomes
            .iter()
            .map(|outcome| match outcome.outcome {
                DeliveryOutcome::Arrived => 'a',
                DeliveryOutcome::Refused(_) => 'r',
                DeliveryOutcome::Unknown => '?',
            })
            .collect();
        assert_eq!(letters, "ara?");
    }

    #[test]
    fn each_tenant_moves_as_far_as_its_own_records_are_settled() {
        let outgoing = outgoing();
        let outcomes = outgoing.outcomes(vec![DeliveryOutcome::Arrived; 3]);
        assert_eq!(shown(&outgoing.moves(&outcomes, 4)), [((1, 0), (3, 0)), ((9, 0), (10, 0))]);
        assert_eq!(shown(&outgoing.moves(&outcomes, 3)), [((1, 0), (3, 0)), ((9, 0), (9, 7))]);
        assert_eq!(shown(&outgoing.moves(&outcomes, 2)), [((1, 0), (2, 5)), ((9, 0), (9, 7))]);
        assert_eq!(shown(&outgoing.moves(&outcomes, 0)), [((9, 0), (9, 7))]);
    }
}
