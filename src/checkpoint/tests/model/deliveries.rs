//! The deliveries of the model: cursors, dead letters and replays.

use super::*;
use crate::text::count;

impl Model {
    /// Advances the live cursors of a sink, or those of a replay. `delivered` are the dead
    /// letters whose IDs are in the advance.
    pub(super) fn advance(
        &mut self,
        advance: &Advance<'_>,
        delivered: &[(TenantId, Position)],
    ) -> Result<LogGrowth, Refusal> {
        let Advance { sink, lane, now, .. } = *advance;
        for step in advance.moves {
            if self.position_mut(sink, lane, step.tenant).copied() != Some(step.from) {
                return Err(Refusal::CursorMoved(sink.clone()));
            }
        }

        for step in advance.moves {
            *self.position_mut(sink, lane, step.tenant).unwrap() = step.to;
        }
        let Some(known) = self.sink_mut(sink) else {
            return Err(Refusal::CursorMoved(sink.clone()));
        };
        known.count(advance);

        let mut growth = LogGrowth::Unchanged;
        for letter in advance.dead_letters {
            growth = growth.and(self.reject(sink, letter, now));
        }
        for (tenant, at) in delivered {
            self.letters.retain(|letter| !is_at(letter, sink, *tenant, *at));
            if self.count_letters(sink, *tenant) == 0 {
                let details = "all dead letters were delivered".to_owned();
                growth = growth.and(self.observe_letters(sink, *tenant, now, Phase::End, details));
            }
        }
        Ok(growth)
    }

    /// The position of the live cursor of a sink.
    pub(super) fn position(&self, sink: &SinkName, tenant: TenantId) -> Option<Position> {
        Some(self.sink(sink)?.cursors.get(&tenant)?.at)
    }

    fn position_mut(
        &mut self,
        sink: &SinkName,
        lane: Lane,
        tenant: TenantId,
    ) -> Option<&mut Position> {
        match lane {
            Lane::Live => Some(&mut self.sink_mut(sink)?.cursors.get_mut(&tenant)?.at),
            Lane::Replay(id) => {
                let replay = self.replays.iter_mut().find(|replay| replay.id == Some(id))?;
                Some(&mut replay.cursors.get_mut(&tenant)?.at)
            }
            Lane::DeadLetters => None,
        }
    }

    /// Returns whether the cursor was behind the entry.
    pub(super) fn skip_to(&mut self, sink: &SinkName, tenant: TenantId, to: Position) -> bool {
        match self.position_mut(sink, Lane::Live, tenant) {
            Some(position) if position.seq < to.seq => {
                *position = to;
                true
            }
            _ => false,
        }
    }

    /// Records a dead letter. One at the same position is replaced.
    fn reject(&mut self, sink: &SinkName, letter: &DeadLetter, now: UnixMillis) -> LogGrowth {
        let DeadLetter { tenant, at, event_id, reason } = letter.clone();
        self.letters.retain(|stored| !is_at(stored, sink, tenant, at));
        let day = self.entry(tenant, at.seq).map(|entry| match entry {
            ModelEntry::Snapshot(snapshot) => snapshot.facts.day,
            ModelEntry::Observation(observation, _) => observation.first_day,
        });

        self.letters.push(QueuedDeadLetter {
            id: no_id(),
            sink: sink.clone(),
            tenant,
            at,
            day,
            event_id,
            reason: reason.clone(),
            rejected_at: now,
            retry: false,
        });
        self.observe_letters(sink, tenant, now, Phase::Begin, reason)
    }

    /// Observes the dead letters of a sink and a tenant.
    fn observe_letters(
        &mut self,
        sink: &SinkName,
        tenant: TenantId,
        now: UnixMillis,
        phase: Phase,
        details: String,
    ) -> LogGrowth {
        let observation = Observation::of_dead_letters(sink, now.day(), phase, details);
        self.tenant_mut(tenant).observe(&[observation], now)
    }

    fn count_letters(&self, sink: &SinkName, tenant: TenantId) -> u64 {
        let letters = self.letters.iter();
        letters.filter(|letter| letter.sink == *sink && letter.tenant == tenant).count() as u64
    }

    /// Returns how many of the dead letters exist.
    pub(super) fn retry(&mut self, keys: &[DeadLetterKey]) -> u64 {
        let mut queued = 0;
        for letter in self.letters.iter_mut().filter(|letter| keys.contains(&letter.key())) {
            letter.retry = true;
            queued += 1;
        }
        queued
    }

    /// Returns how many dead letters were deleted.
    pub(super) fn discard(&mut self, keys: &[DeadLetterKey], now: UnixMillis) -> (u64, LogGrowth) {
        let is_discarded = |letter: &QueuedDeadLetter| keys.contains(&letter.key());
        let mut discarded: BTreeMap<(TenantId, SinkName), u64> = BTreeMap::new();
        for letter in self.letters.iter().filter(|letter| is_discarded(letter)) {
            *discarded.entry((letter.tenant, letter.sink.clone())).or_default() += 1;
        }
        self.letters.retain(|letter| !is_discarded(letter));

        let mut growth = LogGrowth::Unchanged;
        for ((tenant, sink), records) in &discarded {
            growth = growth.and(self.observe_discard(sink, *tenant, *records, now));
        }
        (discarded.values().sum(), growth)
    }

    /// The observation about the dead letters ends, and begins again if others remain.
    fn observe_discard(
        &mut self,
        sink: &SinkName,
        tenant: TenantId,
        records: u64,
        now: UnixMillis,
    ) -> LogGrowth {
        let rejected = |number: u64| count(number, "rejected record");
        let details = "the receiver rejected records".to_owned();
        let end = format!("an operator discarded {}", rejected(records));
        let begun = self.observe_letters(sink, tenant, now, Phase::Begin, details);
        let growth = begun.and(self.observe_letters(sink, tenant, now, Phase::End, end));

        let remaining = self.count_letters(sink, tenant);
        if remaining == 0 {
            return growth;
        }
        let details = format!("{} remain", rejected(remaining));
        let begun = self.observe_letters(sink, tenant, now, Phase::Begin, details);
        let letters = self.letters.iter();
        let of_sink = letters.filter(|letter| letter.sink == *sink && letter.tenant == tenant);
        let oldest = of_sink.map(|letter| letter.rejected_at).min().unwrap();
        self.tenant_mut(tenant).dead_letter_condition(sink).unwrap().since = oldest;
        growth.and(begun)
    }

    /// Returns the number of entries to send.
    pub(super) fn add_replay(
        &mut self,
        sink: &SinkName,
        tenants: &[TenantId],
        (first_day, last_day): (Day, Day),
    ) -> u64 {
        let Some(receiver) = self.sink(sink) else { return 0 };
        let is_received = |tenant: &&TenantId| {
            receiver.cursors.get(*tenant).is_some_and(|cursor| cursor.is_active)
        };
        let cursors = tenants.iter().filter(is_received).map(|tenant| {
            let last_seq = self.last_seq(*tenant);
            (*tenant, ModelReplayCursor { at: at(1, 0), last_seq })
        });

        let cursors = cursors.collect();
        let (id, sink) = (None, sink.clone());
        let replay = ModelReplay { id, sink, first_day, last_day, cursors };
        let entries: u64 = self.pending_of(&replay).iter().map(|pending| pending.entries).sum();
        if entries > 0 {
            self.replays.push(replay);
        }
        entries
    }

    /// What the oldest replay of a sink with entries for a tenant that `is_served` sends; empty if
    /// there is none. Deletes the finished replays before it. `lane` contains its ID.
    pub(super) fn pending_replay(
        &mut self,
        sink: &SinkName,
        lane: Lane,
        is_served: impl Fn(TenantId) -> bool,
    ) -> Vec<Pending> {
        let mut index = 0;
        while let Some(replay) = self.replays.get(index) {
            let pending = self.pending_of(replay);
            if replay.sink != *sink {
                index += 1;
            } else if pending.is_empty() {
                self.replays.remove(index);
            } else if pending.iter().any(|pending| is_served(pending.tenant)) {
                let Lane::Replay(id) = lane else { panic!("{lane:?} is not a replay") };
                let known = self.replays[index].id.replace(id);
                assert!(known.is_none_or(|known| known == id), "{known:?} {id}");
                return pending;
            } else {
                index += 1;
            }
        }
        Vec::new()
    }

    /// An entry of a log.
    pub(super) fn entry(&self, tenant: TenantId, seq: Seq) -> Option<&ModelEntry> {
        let index = usize::try_from(seq.get().checked_sub(1)?).unwrap();
        self.tenant(tenant)?.log.get(index)
    }
}

impl ModelSink {
    /// Counts the records of an advance, and stores its mark. Parked targets and withheld tenants
    /// need an operator, so their failure remains.
    fn count(&mut self, advance: &Advance<'_>) {
        self.sent += advance.sent;
        self.rejected += advance.dead_letters.len() as u64;
        self.truncated += advance.truncated;
        self.last_acknowledgement = Some(advance.now);
        if let Some(mark) = advance.mark {
            self.mark = Some(mark.to_vec());
        }

        let remaining = [SinkFailure::TargetsParked, SinkFailure::TenantsWithheld];
        self.failure = self.failure.take().filter(|stored| remaining.contains(&stored.failure));
    }
}

fn is_at(letter: &QueuedDeadLetter, sink: &SinkName, tenant: TenantId, at: Position) -> bool {
    letter.sink == *sink && letter.tenant == tenant && letter.at == at
}
