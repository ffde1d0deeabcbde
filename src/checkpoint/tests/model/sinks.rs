//! The sinks of the model: registration, filters, failures, and removal from the configuration.

use std::collections::btree_map::Entry;

use super::*;

/// A first day is later than today by at most this; see `Checkpoint::confirm_start_day`.
const MAX_DAYS_AHEAD: i32 = 2;
/// A removal may be later than now by this.
const TOLERANCE: Duration = Duration::from_mins(5);

impl Model {
    pub(super) fn register(
        &mut self,
        name: &SinkName,
        tenants: &[TenantId],
        others: OtherTenants,
        start_from: Day,
    ) {
        if self.sink(name).is_none() {
            self.sinks.push(ModelSink::new(name));
        }
        for tenant in tenants {
            self.tenant_mut(*tenant);
        }
        let positions: Vec<(TenantId, Position)> =
            tenants.iter().map(|tenant| (*tenant, self.first_position(name, *tenant))).collect();

        let sink = self.sink_mut(name).unwrap();
        if others == OtherTenants::Deactivate {
            for cursor in sink.cursors.values_mut() {
                cursor.is_active = false;
            }
        }
        let floor = sink.first_day(start_from);
        let cursors_before = sink.cursors.len();
        for (tenant, at) in positions {
            let new = ModelCursor { at, floor, is_active: true };
            sink.cursors.entry(tenant).or_insert(new).is_active = true;
        }
        if sink.cursors.len() > cursors_before {
            sink.provisional = Some(floor);
        }
    }

    /// The position of a new cursor: the one in the second cursor file, within the log.
    fn first_position(&self, sink: &SinkName, tenant: TenantId) -> Position {
        let (guid, end) = (tenant.to_string(), self.next_seq(tenant));
        let mut saved = self.saved.current_cursors(&self.id);
        match saved.find(|cursor| cursor.sink == *sink && cursor.tenant == guid) {
            Some(cursor) if cursor.seq > end => at(end.get(), 0),
            Some(cursor) => at(cursor.seq.get(), cursor.record_index),
            None => at(1, 0),
        }
    }

    pub(super) fn confirm_start(&mut self, name: &SinkName, start_from: Day, today: Day) -> bool {
        let Some(sink) = self.sink_mut(name) else { return false };
        let provisional = sink.provisional.take().filter(|stored| start_from < *stored);
        let mut has_moved = provisional.is_some_and(|stored| sink.move_back(stored, start_from));

        let latest = today.plus(MAX_DAYS_AHEAD);
        for cursor in sink.cursors.values_mut() {
            if cursor.floor > latest && cursor.floor > start_from {
                cursor.floor = start_from;
                has_moved = true;
            }
        }
        has_moved
    }

    pub(super) fn set_filter(&mut self, name: &SinkName, filter: EntryFilter) {
        if let Some(sink) = self.sink_mut(name) {
            sink.filter = filter;
        }
    }

    pub(super) fn set_type(&mut self, name: &SinkName, kind: &'static str) {
        if let Some(sink) = self.sink_mut(name) {
            sink.kind = Some(kind);
        }
    }

    pub(super) fn set_mark(&mut self, name: &SinkName, mark: &[u8]) {
        if let Some(sink) = self.sink_mut(name) {
            sink.mark = Some(mark.to_vec());
        }
    }

    pub(super) fn record_failure(
        &mut self,
        name: &SinkName,
        failure: SinkFailure,
        reason: &Explanation,
        now: UnixMillis,
    ) {
        let Some(sink) = self.sink_mut(name) else { return };
        let since = sink.failure.as_ref().map_or(now, |stored| stored.since);
        sink.failure = Some(ModelFailure { failure, reason: reason.clone(), since });
    }

    pub(super) fn clear_failure(&mut self, name: &SinkName) {
        if let Some(sink) = self.sink_mut(name) {
            sink.failure = None;
        }
    }

    pub(super) fn remove_sink(&mut self, name: &SinkName, now: UnixMillis) {
        self.end_conditions(name, now, "the sink was removed");
        let sink = self.sink_mut(name).filter(|sink| sink.removed_at.is_none());
        if let Some(sink) = sink {
            sink.removed_at = Some(now);
            sink.failure = None;
        }
    }

    /// Returns whether the sink was removed.
    pub(super) fn restore_sink(&mut self, name: &SinkName, now: UnixMillis) -> bool {
        let removed_at = self.sink_mut(name).and_then(|sink| sink.removed_at.take());
        if removed_at.is_some() {
            self.begin_conditions(name, now);
        }
        removed_at.is_some()
    }

    pub(super) fn rename_sink(
        &mut self,
        old: &SinkName,
        new: &SinkName,
        now: UnixMillis,
    ) -> Result<bool, Refusal> {
        let (exists, is_taken) = (self.sink(old).is_some(), self.sink(new).is_some());
        match (self.is_removed(old), self.is_removed(new)) {
            _ if !exists || old == new => {}
            (true, _) if is_taken => self.merge_sink(old, new, now),
            (false, false) if is_taken => {
                return Err(Refusal::SinkExists(old.clone(), new.clone()));
            }
            _ => {
                self.delete_sink(new);
                if is_taken {
                    self.saved.forget_sink(new);
                }
                self.end_conditions(old, now, &format!("the sink was renamed to `{new}`"));
                self.sink_mut(old).unwrap().name.clone_from(new);
                self.move_letters_and_replays(old, new);
            }
        }

        self.saved.rename_sink(old, new);
        Ok(exists)
    }

    pub(super) fn drop_sink(&mut self, name: &SinkName, now: UnixMillis) {
        self.end_conditions(name, now, "the sink was removed");
        self.delete_sink(name);
        self.saved.forget_sink(name);
    }

    pub(super) fn correct_removals(&mut self, now: UnixMillis) {
        let latest = now.saturating_add(TOLERANCE);
        for sink in &mut self.sinks {
            sink.removed_at = sink.removed_at.map(|at| if at > latest { now } else { at });
        }
    }

    /// Returns the names of the deleted sinks.
    pub(super) fn delete_removed(&mut self, until: UnixMillis) -> Vec<SinkName> {
        let is_expired = |sink: &&ModelSink| sink.removed_at.is_some_and(|at| at <= until);
        let expired: Vec<SinkName> =
            self.sinks.iter().filter(is_expired).map(|sink| sink.name.clone()).collect();

        self.saved.forget_removed(until);
        for name in &expired {
            self.delete_sink(name);
            self.saved.forget_sink(name);
        }
        expired
    }

    /// Deletes a sink with everything that belongs to it, if it exists.
    fn delete_sink(&mut self, name: &SinkName) {
        self.sinks.retain(|sink| sink.name != *name);
        self.letters.retain(|letter| letter.sink != *name);
        self.replays.retain(|replay| replay.sink != *name);
    }

    /// Merges a removed sink into another one, which continues after what either of them has sent.
    fn merge_sink(&mut self, old: &SinkName, new: &SinkName, now: UnixMillis) {
        let index = self.sinks.iter().position(|sink| sink.name == *old).unwrap();
        let removed = self.sinks.remove(index);
        self.sink_mut(new).unwrap().merge(removed);

        // A record that both receivers rejected is one dead letter.
        let of_new = self.letters.iter().filter(|letter| letter.sink == *new);
        let common: BTreeSet<(TenantId, Position)> =
            of_new.map(|letter| (letter.tenant, letter.at)).collect();
        self.letters
            .retain(|letter| letter.sink != *old || !common.contains(&(letter.tenant, letter.at)));
        self.move_letters_and_replays(old, new);
        if !self.is_removed(new) {
            self.begin_conditions(new, now);
        }
    }

    fn move_letters_and_replays(&mut self, old: &SinkName, new: &SinkName) {
        for letter in self.letters.iter_mut().filter(|letter| letter.sink == *old) {
            letter.sink.clone_from(new);
        }
        for replay in self.replays.iter_mut().filter(|replay| replay.sink == *old) {
            replay.sink.clone_from(new);
        }
    }

    /// Ends the open observations about the dead letters of a sink.
    fn end_conditions(&mut self, sink: &SinkName, now: UnixMillis, details: &str) {
        for tenant in &mut self.tenants {
            let Some(open) = tenant.dead_letter_condition(sink) else { continue };
            let (phase, details) = (Phase::End, details.to_owned());
            let end = Observation { phase, details, hint: None, ..open.begin.clone() };
            let _ = tenant.observe(&[end], now);
        }
    }

    /// Begins the observations about the dead letters of a sink, unless they are open.
    fn begin_conditions(&mut self, sink: &SinkName, now: UnixMillis) {
        for tenant in &mut self.tenants {
            let mut letters = self.letters.iter();
            let newest = letters.rfind(|letter| letter.sink == *sink && letter.tenant == tenant.id);
            let Some(newest) = newest else { continue };
            let (day, reason) = (now.day(), newest.reason.clone());
            let begin = Observation::of_dead_letters(sink, day, Phase::Begin, reason);
            let _ = tenant.observe(&[begin], now);
        }
    }
}

impl ModelSink {
    fn new(name: &SinkName) -> Self {
        Self {
            name: name.clone(),
            kind: None,
            cursors: BTreeMap::new(),
            provisional: None,
            filter: EntryFilter::Snapshots,
            mark: None,
            sent: 0,
            rejected: 0,
            truncated: 0,
            last_acknowledgement: None,
            failure: None,
            removed_at: None,
        }
    }

    /// The first day of new cursors. Moves the provisional ones back if it is earlier than theirs.
    fn first_day(&mut self, start_from: Day) -> Day {
        match self.provisional {
            Some(stored) if start_from < stored => {
                self.move_back(stored, start_from);
                self.provisional = Some(start_from);
                start_from
            }
            Some(stored) => stored,
            None => start_from,
        }
    }

    /// Moves the cursors that begin on the day `from` back to the day `to`. Returns whether there
    /// are any.
    fn move_back(&mut self, from: Day, to: Day) -> bool {
        let mut has_moved = false;
        for cursor in self.cursors.values_mut().filter(|cursor| cursor.floor == from) {
            cursor.floor = to;
            has_moved = true;
        }
        has_moved
    }

    /// Continues after everything that a removed sink has sent.
    fn merge(&mut self, removed: Self) {
        for (tenant, cursor) in removed.cursors {
            match self.cursors.entry(tenant) {
                Entry::Vacant(vacant) => {
                    vacant.insert(cursor);
                }
                Entry::Occupied(mut own) if cursor.at > own.get().at => {
                    own.get_mut().at = cursor.at;
                    own.get_mut().floor = cursor.floor;
                }
                Entry::Occupied(_) => {}
            }
        }

        self.sent += removed.sent;
        self.rejected += removed.rejected;
        self.truncated += removed.truncated;
        self.mark = self.mark.take().or(removed.mark);
        self.last_acknowledgement = self.last_acknowledgement.or(removed.last_acknowledgement);
    }
}
