//! Makes each call of a sequence on a checkpoint and on the model, and compares the results.

use std::collections::HashMap;

use super::{
    calls::{
        Call, Delivery, DeliveryCall, OperatorCall, Outcome, Poll, PollCall, Richer, RicherCopy,
        SinkCall, Step,
    },
    values::{
        DayCopy, baseline, catalog_members, dead_letter, new_entries, observation, tenants_of,
        without_ids,
    },
    *,
};

/// A checkpoint and its model.
pub(super) struct Run {
    pub(super) checkpoint: Checkpoint,
    pub(super) model: Model,
    pub(super) storage: Storage,
    /// The catalog versions that were read, as a daemon caches them.
    pub(super) catalogs: HashMap<CatalogVersion, Members>,
    /// The last entry of each log that was compared since the last change of any of them.
    pub(super) compared: BTreeMap<TenantId, Seq>,
    /// The plan of the backend, which has no effect unless the storage is faulty.
    pub(super) faults: FaultPlan,
    /// The content of the database before the last write, if the storage is faulty.
    pub(super) rows_before: Vec<String>,
    directory: tempfile::TempDir,
}

/// Where a checkpoint is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// In memory; a new process may find an outdated second cursor file.
    Memory,
    /// As `Memory`, but calls fail as planned.
    Faulty,
    /// In files; the second cursor file is written before a restart.
    Files,
}

impl Run {
    /// Makes calls on an empty checkpoint and on the model.
    ///
    /// # Panics
    ///
    /// Panics if a result, or what the queries return after a call, differs.
    pub(super) fn execute(storage: Storage, calls: &[Call]) {
        let mut run = Self::new(storage);
        for call in calls {
            run.call(call);
        }
        run.check_everything();
    }

    pub(super) fn new(storage: Storage) -> Self {
        let (directory, faults) = (tempfile::tempdir().unwrap(), FaultPlan::default());
        let path = directory.path();
        let checkpoint = match storage {
            Storage::Memory => Checkpoint::in_memory(path).unwrap(),
            Storage::Faulty => Checkpoint::in_memory_with_faults(path, faults.clone()).unwrap(),
            Storage::Files => open(path),
        };

        let model = Model { id: checkpoint.id().to_owned(), ..Model::default() };
        Self {
            checkpoint,
            model,
            storage,
            catalogs: HashMap::new(),
            compared: BTreeMap::new(),
            faults,
            rows_before: Vec::new(),
            directory,
        }
    }

    /// Makes a call, and compares what it can have changed.
    pub(super) fn call(&mut self, call: &Call) {
        match call {
            Call::Poll { tenant, call } => self.poll(tenants()[*tenant], call),
            // The deliverer of a removed sink is not running.
            Call::Delivery { sink, .. } if self.model.is_removed(&sink_name(*sink)) => {}
            Call::Delivery { sink, call } => self.deliver(&sink_name(*sink), call),
            Call::Sink { sink, call } => self.change_sink(&sink_name(*sink), call),
            Call::Operator(call) => self.operate(call),
            Call::Command(call) => self.command(call),
            Call::Domain(call) => self.resolve(call),
            Call::Note(call) => self.note(call),
            Call::Query(query) => self.ask(query),
        }
        if !matches!(call, Call::Query(_)) {
            self.check();
        }
    }

    fn poll(&mut self, id: TenantId, call: &PollCall) {
        match call {
            PollCall::Commit(poll) => self.commit(id, poll),
            PollCall::Fail { at, class, not_before } => {
                self.fail_poll(id, time_at(*at), *class, not_before.map(time_at));
            }
            PollCall::Begin { at } => {
                let found = self.write(|checkpoint| checkpoint.begin_poll(id, time_at(*at)));
                self.follow(found, |model| {
                    model.running.insert(id);
                });
            }
            PollCall::Abandon => {
                let found = self.write(|checkpoint| checkpoint.abandon_poll(id));
                self.follow(found, |model| {
                    model.running.remove(&id);
                });
            }
        }
    }

    fn commit(&mut self, id: TenantId, poll: &Poll) {
        let stored = self.model.tenant(id).into_iter().flat_map(ModelTenant::snapshots);
        let stored: Vec<&ModelSnapshot> = stored.map(|(_, snapshot)| snapshot).collect();
        let richer = poll.enriched.filter(|_| !stored.is_empty());
        let richer = richer.map(|richer| richer_copy(richer, &stored));
        let copy = |day: i32, score: u32| DayCopy::new(day_at(day), f64::from(score), "");
        let new: Vec<DayCopy> = poll.entries.iter().map(|new| copy(new.day, new.score)).collect();
        let held: Vec<DayCopy> = poll.held.iter().map(|held| copy(held.0, held.1)).collect();

        let enriched = richer.iter().map(|(revision, DayCopy { facts, body })| EnrichedDay {
            revision: *revision,
            facts,
            body,
        });
        let commit = PollCommit {
            observed_at: time_at(poll.at),
            entries: new_entries(poll, &new, &stored),
            enriched: enriched.collect(),
            held: held.iter().map(|copy| (copy.facts.day, &copy.body)).collect(),
            catalog: catalog_members(poll.catalog),
            observations: poll.observations.iter().map(observation).collect(),
            credential_expiry: poll.credential_expiry.map(time_at),
            requested_from: poll.requested_from.map(day_at),
            missing: poll.missing.iter().copied().map(day_at).collect(),
            no_longer_missing: poll.no_longer_missing.iter().copied().map(day_at).collect(),
            polled_back_to: poll.polled_back_to.map(day_at),
            finished: poll.finished.map(|number| self.model.import_id(number)),
            end: poll.end.clone(),
        };

        let found = self.write(|checkpoint| checkpoint.commit_poll(id, &commit));
        self.settle(found, |model| model.commit(id, &commit));
        if !commit.enriched.is_empty() {
            self.compared.remove(&id);
        }
    }

    fn fail_poll(
        &mut self,
        id: TenantId,
        at: UnixMillis,
        class: PollErrorClass,
        not_before: Option<UnixMillis>,
    ) {
        let reason = Explanation::new(class.as_str()).with_hint("wait");
        let observation = &Observation::of_failed_poll(class, at.day(), &reason);
        let failure = PollFailure { at, reason: &reason, class, observation, not_before };
        let found = self.write(|checkpoint| {
            if class.is_local() {
                checkpoint.record_local_poll_failure(id, &failure)
            } else {
                checkpoint.record_poll_failure(id, &failure)
            }
        });
        self.follow(found, |model| model.fail_poll(id, &failure));
    }

    fn deliver(&mut self, sink: &SinkName, call: &DeliveryCall) {
        match call {
            DeliveryCall::Advance(delivery) => self.deliver_live(sink, delivery),
            DeliveryCall::AdvanceReplay { tenant, waiting, step, at } => {
                let waiting = waiting.map(tenant_at);
                self.deliver_replay(sink, (*tenant, waiting), step, time_at(*at));
            }
            DeliveryCall::Redeliver { outcomes, at } => {
                self.redeliver(sink, outcomes, time_at(*at));
            }
            DeliveryCall::SkipTo { tenant, seq } => {
                let tenant = tenant_at(*tenant);
                let to = at(self.model.next_seq(tenant).get().min(*seq), 0);
                let found = self.write(|checkpoint| checkpoint.skip_to(sink, tenant, to));
                self.follow(found, |model| model.skip_to(sink, tenant, to));
            }
            DeliveryCall::SetMark(mark) => {
                let found = self.write(|checkpoint| checkpoint.set_mark(sink, &[*mark]));
                self.follow(found, |model| model.set_mark(sink, &[*mark]));
            }
            DeliveryCall::Fail { failure, reason, at } => {
                let (reason, now) = (Explanation::new(REASONS[*reason]), time_at(*at));
                let found = self.write(|checkpoint| {
                    checkpoint.record_sink_failure(sink, *failure, &reason, now)
                });
                self.follow(found, |model| model.record_failure(sink, *failure, &reason, now));
            }
            DeliveryCall::Recover => {
                let found = self.write(|checkpoint| checkpoint.clear_sink_failure(sink));
                self.follow(found, |model| model.clear_failure(sink));
            }
        }
    }

    fn deliver_live(&mut self, sink: &SinkName, delivery: &Delivery) {
        let (mut moves, mut dead_letters) = (Vec::new(), Vec::new());
        for (tenant, step) in tenants().into_iter().zip(&delivery.steps) {
            let Some(step) = step else { continue };
            let cursor = self.model.position(sink, tenant).unwrap_or(at(1, 0));
            let end = self.model.next_seq(tenant);
            moves.push(step.cursor_move(tenant, cursor, end));
            // Only records of entries can be rejected.
            let rejection = step.rejection.filter(|_| cursor.seq < end);
            dead_letters.extend(rejection.map(|reason| dead_letter(tenant, cursor, reason)));
        }

        let mark = delivery.mark.map(|mark| [mark]);
        let Delivery { sent, truncated, at, .. } = *delivery;
        let advance = Advance {
            mark: mark.as_ref().map(|mark| &mark[..]),
            sent,
            truncated,
            dead_letters: &dead_letters,
            now: time_at(at),
            ..live_advance(sink, &moves)
        };
        self.advance(&advance, &[]);
    }

    /// Advances a replay, if the sink has one, for the tenant with a number among its tenants.
    fn deliver_replay(
        &mut self,
        sink: &SinkName,
        (number, waiting): (usize, Option<TenantId>),
        step: &Step,
        now: UnixMillis,
    ) {
        let is_served = |tenant: TenantId| waiting != Some(tenant);
        let found = self.repeat(|checkpoint| checkpoint.pending_replay(sink, &is_served)).unwrap();
        let (lane, pending) = found.unwrap_or_else(|| (Lane::Replay(unknown_row()), Vec::new()));
        assert_eq!(pending, self.model.pending_replay(sink, lane, is_served), "{sink}");

        let (moves, dead_letters) = match pending.get(number % pending.len().max(1)) {
            Some(Pending { tenant, at, last_seq, .. }) => (
                [step.cursor_move(*tenant, *at, last_seq.next())],
                step.rejection.map(|reason| dead_letter(*tenant, *at, reason)),
            ),
            None => ([step.cursor_move(tenants()[number], at(1, 0), Seq::FIRST)], None),
        };
        let dead_letters: Vec<DeadLetter> = dead_letters.into_iter().collect();
        let advance = Advance {
            lane,
            sent: 1,
            dead_letters: &dead_letters,
            now,
            ..live_advance(sink, &moves)
        };
        self.advance(&advance, &[]);
    }

    fn redeliver(&mut self, sink: &SinkName, outcomes: &[Outcome], now: UnixMillis) {
        let letters = self.checkpoint.pending_dead_letters(sink, &tenants(), usize::MAX).unwrap();
        assert_eq!(without_ids(&letters), self.model.queued_letters(sink), "{sink}");

        let (mut acknowledged, mut rejected) = (Vec::new(), Vec::new());
        // One of them was deleted while the request was running.
        let mut ids: Vec<DeadLetterId> = vec![unknown_row()];
        for (letter, outcome) in letters.iter().zip(outcomes.iter().cycle()) {
            match outcome {
                Outcome::Acknowledged => {
                    ids.push(letter.id);
                    acknowledged.push((letter.tenant, letter.at));
                }
                Outcome::Rejected => rejected.push(dead_letter(letter.tenant, letter.at, 0)),
                Outcome::Unknown => {}
            }
        }

        let advance = Advance {
            lane: Lane::DeadLetters,
            sent: ids.len() as u64,
            dead_letters: &rejected,
            delivered_dead_letters: &ids,
            now,
            ..live_advance(sink, &[])
        };
        self.advance(&advance, &acknowledged);
    }

    fn advance(&mut self, advance: &Advance<'_>, delivered: &[(TenantId, Position)]) {
        let found = self.write(|checkpoint| checkpoint.advance(advance));
        self.settle(found, |model| model.advance(advance, delivered));
    }

    fn change_sink(&mut self, sink: &SinkName, call: &SinkCall) {
        match call {
            SinkCall::Register { tenants: numbers, others, start_from } => {
                let (ids, day) = (tenants_of(numbers), day_at(*start_from));
                let found =
                    self.write(|checkpoint| checkpoint.register_sink(sink, &ids, *others, day));
                self.follow(found, |model| model.register(sink, &ids, *others, day));
            }
            SinkCall::ConfirmStart { start_from, today } => {
                let (start_from, today) = (day_at(*start_from), day_at(*today));
                let found =
                    self.write(|checkpoint| checkpoint.confirm_start_day(sink, start_from, today));
                self.follow(found, |model| model.confirm_start(sink, start_from, today));
            }
            SinkCall::SetFilter(filter) => {
                let found = self.write(|checkpoint| checkpoint.set_entry_filter(sink, *filter));
                self.follow(found, |model| model.set_filter(sink, *filter));
            }
            SinkCall::SetType(number) => {
                let kind = TYPES[*number];
                let found = self.write(|checkpoint| checkpoint.set_sink_type(sink, kind));
                self.follow(found, |model| model.set_type(sink, kind));
            }
            SinkCall::Remove { at } => {
                let found = self.write(|checkpoint| checkpoint.remove_sink(sink, time_at(*at)));
                self.follow(found, |model| model.remove_sink(sink, time_at(*at)));
            }
            SinkCall::Restore { at } => {
                let found = self.write(|checkpoint| checkpoint.restore_sink(sink, time_at(*at)));
                self.follow(found, |model| model.restore_sink(sink, time_at(*at)));
            }
            SinkCall::Rename { to, at } => {
                let (new, now) = (sink_name(*to), time_at(*at));
                let found = self.write(|checkpoint| checkpoint.rename_sink(sink, &new, now));
                self.settle(found, |model| model.rename_sink(sink, &new, now));
            }
            SinkCall::Drop { at } => {
                let found = self.write(|checkpoint| checkpoint.drop_sink(sink, time_at(*at)));
                self.follow(found, |model| model.drop_sink(sink, time_at(*at)));
            }
            SinkCall::AddReplay { tenants: numbers, first, last, at } => {
                let (ids, first, last) = (tenants_of(numbers), day_at(*first), day_at(*last));
                let now = time_at(*at);
                let found =
                    self.write(|checkpoint| checkpoint.add_replay(sink, &ids, first, last, now));
                self.follow(found, |model| model.add_replay(sink, &ids, (first, last)));
            }
        }
    }

    fn operate(&mut self, call: &OperatorCall) {
        match call {
            OperatorCall::Retry { letters } => {
                let keys = self.keys(*letters);
                let found = self.write(|checkpoint| checkpoint.retry_dead_letters(&keys));
                self.follow(found, |model| model.retry(&keys));
            }
            OperatorCall::Discard { letters, at } => {
                let (keys, now) = (self.keys(*letters), time_at(*at));
                let found = self.write(|checkpoint| checkpoint.discard_dead_letters(&keys, now));
                self.follow(found, |model| model.discard(&keys, now));
            }
            OperatorCall::SetBaseline { tenant, target, at } => {
                let (id, baseline) = (tenants()[*tenant], baseline(*target));
                let found =
                    self.write(|checkpoint| checkpoint.set_baseline(id, &baseline, time_at(*at)));
                self.follow(found, |model| model.set_baseline(id, &baseline));
            }
            OperatorCall::Prune { before, max_size, today } => {
                self.prune(day_at(*before), *max_size, day_at(*today));
            }
            OperatorCall::Forget { tenant, at } => self.forget(tenant_at(*tenant), time_at(*at)),
            OperatorCall::CorrectRemovals { at } => {
                let found = self.write(|checkpoint| checkpoint.correct_removal_times(time_at(*at)));
                self.follow(found, |model| model.correct_removals(time_at(*at)));
            }
            OperatorCall::DeleteRemoved { until } => {
                let found =
                    self.write(|checkpoint| checkpoint.delete_removed_sinks(time_at(*until)));
                self.follow(found, |model| model.delete_removed(time_at(*until)));
            }
            OperatorCall::WriteCursorFile => self.write_cursor_file(),
            OperatorCall::Restart => self.restart(),
        }
    }

    /// Some of the dead letters of configured sinks, and one that does not exist.
    fn keys(&self, selected: u8) -> Vec<DeadLetterKey> {
        let letters = self.model.configured_letters();
        let is_selected = |number: usize| selected & (1 << (number % 8)) != 0;
        let numbered = letters.iter().enumerate().filter(|(number, _)| is_selected(*number));
        let unknown =
            DeadLetterKey { sink: sink_name(0), event_id: EventId::from_bytes([0xff; 20]) };
        numbered.map(|(_, letter)| letter.key()).chain([unknown]).collect()
    }

    fn prune(&mut self, before: Day, max_size: Option<u64>, today: Day) {
        let found = self.repeat(|checkpoint| checkpoint.prune(before, max_size, today)).unwrap();
        let days = self.model.prune(before, max_size, today);
        // The bodies that were pruned before a fault stay pruned.
        if self.faults.has_failed() {
            assert!(found.days <= days, "{found:?} {days}");
        } else {
            assert_eq!(found.days, days);
        }
        assert_eq!(found.used_bytes, self.checkpoint.used_bytes().unwrap());
        self.compared.clear();
    }

    fn forget(&mut self, id: TenantId, now: UnixMillis) {
        let found = self.repeat(|checkpoint| checkpoint.forget(id, now)).unwrap();
        assert_eq!(found, self.model.forget(id, now));
        self.compared.remove(&id);
    }

    fn restart(&mut self) {
        if self.storage == Storage::Files {
            self.write_cursor_file();
            // The lock is released before the files are opened again.
            self.checkpoint = Checkpoint::in_memory(self.directory.path()).unwrap();
            self.checkpoint = open(self.directory.path());
        } else {
            self.checkpoint = self.repeat(Checkpoint::restarted).unwrap();
        }
        self.model.saved.clone_from(&self.model.file);
        self.compared.clear();
    }
}

/// The copy that a poll has read of one of the stored snapshots, and the revision that it names.
fn richer_copy(richer: Richer, stored: &[&ModelSnapshot]) -> (u32, DayCopy) {
    let Richer { number, copy } = richer;
    let snapshot = stored[number % stored.len()];
    match copy {
        RicherCopy::Usable => (snapshot.revision, DayCopy::richer(&snapshot.facts, number)),
        RicherCopy::OtherFacts => {
            (snapshot.revision, DayCopy::new(snapshot.facts.day, f64::from(SCORES), ""))
        }
        RicherCopy::OtherRevision => {
            (snapshot.revision + 100, DayCopy::richer(&snapshot.facts, number))
        }
    }
}

/// Opens a checkpoint in files, without waits for the disk.
fn open(directory: &Path) -> Checkpoint {
    let checkpoint = Checkpoint::open(directory).unwrap();
    checkpoint.raw().run("PRAGMA synchronous = OFF");
    checkpoint
}
