//! The values that the numbers of calls represent, and errors in a form that can be compared.

use super::{
    calls::{NewBase, NewRevision, Origin, Poll, Step},
    *,
};
use crate::model::{Number, Target};

/// A copy of a day, as a poll reads it.
pub(super) struct DayCopy {
    pub(super) facts: DayFacts,
    pub(super) body: CompressedText,
}

impl DayCopy {
    /// A copy whose control has this score and these other members.
    pub(super) fn new(day: Day, score: f64, members: &str) -> Self {
        let json = format!(
            r#"{{"id":"x_{day}","createdDateTime":"{day}T00:00:00Z","currentScore":{score},"controlScores":[{{"controlName":"c{score}","score":{score}{members}}}]}}"#
        );
        Self { facts: facts(&json), body: CompressedText::compress(&json).unwrap() }
    }

    /// A copy with the same facts and with texts, which depend on a number.
    pub(super) fn richer(stored: &DayFacts, number: usize) -> Self {
        let score = stored.current_score.map(Number::get).unwrap();
        Self::new(stored.day, score, &format!(r#","description":"copy {number}""#))
    }
}

impl Step {
    /// The move of a cursor in a log, or in the part of it that ends before the entry `end`.
    pub(super) fn cursor_move(&self, tenant: TenantId, cursor: Position, end: Seq) -> CursorMove {
        let seq = Seq::new(cursor.seq.get().saturating_add(self.entries));
        let seq = seq.min(end).max(cursor.seq);
        let first_record = if seq == cursor.seq { cursor.record_index } else { 0 };
        let record_index = if seq < end { first_record + self.records } else { 0 };
        let from = match self.origin {
            Origin::Cursor => cursor,
            Origin::Elsewhere => at(cursor.seq.get(), cursor.record_index + 100),
        };
        CursorMove { tenant, from, to: Position { seq, record_index } }
    }
}

/// The entries of a poll. `new` are their copies, and `stored` the snapshots of the log.
pub(super) fn new_entries<'a>(
    poll: &Poll,
    new: &'a [DayCopy],
    stored: &[&ModelSnapshot],
) -> Vec<NewEntry<'a>> {
    let mut revisions: BTreeMap<Day, u32> =
        stored.iter().map(|snapshot| (snapshot.facts.day, snapshot.revision)).collect();
    let mut previous = stored.last().map(|last| (last.facts.day, last.revision));

    let mut entries = Vec::new();
    for (plan, DayCopy { facts, body }) in poll.entries.iter().zip(new) {
        let revision = revisions.entry(facts.day).or_insert(0);
        if plan.revision == NewRevision::Next || *revision == 0 {
            *revision += 1;
        }
        entries.push(NewEntry {
            snapshot_id: "x",
            revision: *revision,
            facts,
            body,
            observed_at: time_at(poll.at),
            base: previous.filter(|_| plan.base == NewBase::Previous),
            flags: plan.flags,
        });
        previous = Some((facts.day, *revision));
    }
    entries
}

pub(super) fn catalog_members(number: usize) -> Vec<CatalogMember<'static>> {
    let members = CATALOGS[number].iter();
    members.map(|&(shared, decisions)| CatalogMember { shared, decisions }).collect()
}

/// An observation; see [`Poll::observations`].
pub(super) fn observation((number, first_day, phase): &(usize, i32, Phase)) -> Observation {
    let (what, subject) = OBSERVED[*number];
    let first_day = day_at(*first_day);
    let subject = if subject.is_empty() { first_day.to_string() } else { subject.to_owned() };
    Observation {
        what,
        subject: ObservationSubject::parse(what, subject),
        first_day,
        phase: *phase,
        details: format!("found on {first_day}"),
        hint: (what == ObservationKind::CredentialExpiring).then(|| "renew it".to_owned()),
    }
}

/// The rejected record at a position.
pub(super) fn dead_letter(tenant: TenantId, at: Position, reason: usize) -> DeadLetter {
    let mut event_id = [0; 20];
    event_id[0] = tenant.as_bytes()[0];
    event_id[1..9].copy_from_slice(&at.seq.get().to_be_bytes());
    event_id[9..13].copy_from_slice(&at.record_index.to_be_bytes());
    let event_id = EventId::from_bytes(event_id);
    DeadLetter { tenant, at, event_id, reason: REASONS[reason].to_owned() }
}

pub(super) fn baseline(target: u8) -> Baseline {
    let points = Target::Points(Number::new(f64::from(target)).unwrap());
    let (name, targets) = (format!("target {target}"), vec![("c1".to_owned(), points)]);
    Baseline { name, day: Some(first_day()), since: Seq::ZERO, targets }
}

pub(super) fn tenants_of(numbers: &[usize]) -> Vec<TenantId> {
    numbers.iter().copied().map(tenant_at).collect()
}

pub(super) fn without_ids(letters: &[QueuedDeadLetter]) -> Vec<QueuedDeadLetter> {
    let without_id = |letter: &QueuedDeadLetter| QueuedDeadLetter { id: no_id(), ..letter.clone() };
    letters.iter().map(without_id).collect()
}

/// Why a call has failed. Panics if the error is not one of the model.
pub(super) fn refusal(error: CheckpointError) -> Refusal {
    match error {
        CheckpointError::CursorMoved(sink) => Refusal::CursorMoved(sink),
        CheckpointError::SinkExists(old, new) => Refusal::SinkExists(old, new),
        CheckpointError::Storage(StorageFault::Unexpected, _) => Refusal::DuplicateRevision,
        other => panic!("{other:?}"),
    }
}
