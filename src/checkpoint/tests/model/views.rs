//! What the queries return, derived from the model.

use std::ops::RangeInclusive;

use super::*;
use crate::{
    ledger::DayPresence,
    model::{OpenObservation, Polled},
};

impl Model {
    /// The entries that a sink has not received, by tenant.
    pub(super) fn pending(&self, sink: &SinkName) -> Vec<Pending> {
        let Some(sink) = self.sink(sink) else { return Vec::new() };
        let of_tenant = |tenant: &ModelTenant| {
            let cursor = sink.cursors.get(&tenant.id)?;
            let unsent = sink.unsent(tenant);
            let (_, first) = unsent.first()?;
            Some(Pending {
                tenant: tenant.id,
                at: cursor.at,
                first_day: cursor.floor,
                last_day: None,
                last_seq: unsent.last()?.0,
                entries: unsent.len() as u64,
                backfilled: first.snapshot().is_some_and(|first| first.flags.backfilled),
            })
        };
        self.tenants.iter().filter_map(of_tenant).collect()
    }

    /// The entries that a replay has not sent, by tenant.
    pub(super) fn pending_of(&self, replay: &ModelReplay) -> Vec<Pending> {
        let sink = self.sink(&replay.sink).filter(|sink| sink.removed_at.is_none());
        let Some(sink) = sink else { return Vec::new() };
        let days = replay.first_day..=replay.last_day;
        let of_tenant = |tenant: &ModelTenant| {
            let cursor = replay.cursors.get(&tenant.id)?;
            sink.cursors.get(&tenant.id).filter(|live| live.is_active)?;

            let mut unsent: Vec<(Seq, &ModelEntry)> = tenant.entries().collect();
            unsent.retain(|(seq, entry)| {
                (cursor.at.seq..=cursor.last_seq).contains(seq)
                    && days.contains(&entry.day())
                    && sink.receives(entry)
            });
            Some(Pending {
                tenant: tenant.id,
                at: cursor.at,
                first_day: replay.first_day,
                last_day: Some(replay.last_day),
                last_seq: unsent.last()?.0,
                entries: unsent.len() as u64,
                backfilled: true,
            })
        };
        self.tenants.iter().filter_map(of_tenant).collect()
    }

    /// The `seq` of each entry that a request reads.
    pub(super) fn read(&self, request: &ReadRequest) -> Vec<Seq> {
        let tenant = self.tenant(request.tenant).into_iter();
        let log = tenant.flat_map(ModelTenant::entries);
        let is_requested = |seq: Seq, day: Day| {
            (request.first_seq..=request.last_seq).contains(&seq)
                && request.first_day <= day
                && request.last_day.is_none_or(|last| day <= last)
        };

        let (mut read, mut bytes) = (Vec::new(), 0);
        for (seq, entry) in log.filter(|(seq, entry)| is_requested(*seq, entry.day())) {
            match entry {
                ModelEntry::Snapshot(snapshot) => {
                    let Some(body) = &snapshot.body else { continue };
                    bytes += body.len();
                }
                ModelEntry::Observation(..) if request.with_observations => {}
                ModelEntry::Observation(..) => continue,
            }
            read.push(seq);
            if bytes >= request.max_bytes {
                break;
            }
        }
        read
    }

    /// The missing days of a tenant.
    pub(super) fn missing_days(&self, tenant: TenantId) -> &[MissingDay] {
        let Some(tenant) = self.tenant(tenant) else { return &[] };
        &tenant.missing
    }

    /// The current cursors, and those of the second cursor file that have none although their sink
    /// and their tenant exist.
    pub(super) fn cursor_file(&self) -> CursorFile {
        let mut sinks: Vec<&ModelSink> = self.sinks.iter().collect();
        sinks.sort_by_key(|sink| sink.name.clone());
        let mut cursors = Vec::new();
        for sink in sinks {
            for (tenant, cursor) in &sink.cursors {
                cursors.push(SavedCursor {
                    sink: sink.name.clone(),
                    tenant: tenant.to_string(),
                    seq: cursor.at.seq,
                    record_index: cursor.at.record_index,
                    sent_before: self.first_unsent_day(*tenant, cursor).to_string(),
                    removed_at: sink.removed_at,
                });
            }
        }

        let key = |cursor: &SavedCursor| (cursor.sink.clone(), cursor.tenant.clone());
        let stored: BTreeSet<(SinkName, String)> = cursors.iter().map(key).collect();
        let is_known = |cursor: &&SavedCursor| {
            let mut tenants = self.tenants.iter();
            self.sink(&cursor.sink).is_some()
                && tenants.any(|tenant| tenant.id.to_string() == cursor.tenant)
        };
        let saved = self.saved.current_cursors(&self.id).filter(is_known);
        cursors.extend(saved.filter(|cursor| !stored.contains(&key(cursor))).cloned());
        CursorFile { checkpoint_id: self.id.clone(), cursors, carried: Vec::new() }
    }

    /// The first day that a sink may not have received. Days before the first one that it receives
    /// count as received.
    fn first_unsent_day(&self, tenant: TenantId, cursor: &ModelCursor) -> Day {
        let tenant = self.tenant(tenant).unwrap();
        let (mut sent, mut unsent) = (Vec::new(), Vec::new());
        for (seq, snapshot) in tenant.snapshots() {
            let days = if seq < cursor.at.seq { &mut sent } else { &mut unsent };
            days.push(snapshot.facts.day);
        }
        let expected = tenant.missing.iter().filter(|day| day.presence == DayPresence::Expected);
        unsent.extend(expected.map(|missing| missing.day));
        unsent.retain(|day| *day >= cursor.floor);

        let after_sent = sent.iter().max().map_or(cursor.floor, |day| day.plus(1));
        unsent.into_iter().chain([after_sent.max(cursor.floor)]).min().unwrap()
    }

    fn queued_commands(&self, tenant: &ModelTenant) -> u64 {
        let imports = self.imports.iter().filter(|import| import.tenant == tenant.id);
        (tenant.backfills.len() + imports.count()) as u64
    }

    pub(super) fn tenant_status(&self) -> Vec<TenantStatus> {
        let status = |tenant: &ModelTenant| TenantStatus {
            id: Some(tenant.id),
            polled: tenant.poll_state().polled,
            days: tenant.days().len() as u64,
            missing: tenant
                .missing
                .iter()
                .filter(|day| day.presence == DayPresence::Expected)
                .count() as u64,
            last_error: tenant.last_error.as_ref().map(|(reason, _)| reason.clone()),
            error_class: tenant.last_error.as_ref().map(|(_, class)| *class),
            failing_since: tenant.failing_since,
            not_before: tenant.polls.not_before,
            observations: tenant.open_observations(),
            queued_commands: self.queued_commands(tenant),
            backfill_requested: tenant.backfills.iter().map(|(_, requested)| *requested).max(),
        };
        self.tenants.iter().map(status).collect()
    }

    pub(super) fn poll_states(&self) -> Vec<(TenantId, PollState)> {
        self.tenants.iter().map(|tenant| (tenant.id, tenant.poll_state())).collect()
    }

    pub(super) fn failures(&self) -> StoredFailures {
        let mut failures = StoredFailures::default();
        for tenant in &self.tenants {
            let class = tenant.last_error.as_ref().map(|(_, class)| *class);
            if class.is_some_and(|class| class != PollErrorClass::Incomplete) {
                failures.tenants.extend(tenant.failing_since.map(|since| (tenant.id, since)));
            }
        }
        for (domain, failure) in &self.unresolved {
            failures.domains.insert((*domain).to_owned(), failure.failing_since);
        }
        for sink in self.sinks.iter().filter(|sink| sink.removed_at.is_none()) {
            let since = sink.failure.as_ref().map(|failure| (sink.name.clone(), failure.since));
            failures.sinks.extend(since);
        }
        failures
    }

    pub(super) fn sink_status(&self) -> Vec<SinkStatus> {
        let configured = self.sinks.iter().filter(|sink| sink.removed_at.is_none());
        configured.map(|sink| self.status_of(sink)).collect()
    }

    fn status_of(&self, sink: &ModelSink) -> SinkStatus {
        let unsent: Vec<(Seq, &ModelEntry)> =
            self.tenants.iter().flat_map(|tenant| sink.unsent(tenant)).collect();
        let cursor_status = |tenant: &ModelTenant| {
            let cursor = sink.cursors.get(&tenant.id)?;
            Some(CursorStatus { tenant: tenant.id, at: cursor.at })
        };
        let letters = self.letters.iter().filter(|letter| letter.sink == sink.name);

        SinkStatus {
            name: sink.name.clone(),
            sent: sink.sent,
            rejected: sink.rejected,
            truncated: sink.truncated,
            dead_letters: letters.count() as u64,
            backlog: unsent.len() as u64,
            oldest_day: unsent.iter().map(|(_, entry)| entry.day()).min(),
            last_acknowledgement: sink.last_acknowledgement,
            last_error: sink.failure.as_ref().map(|failure| failure.reason.clone()),
            failure: sink.failure.as_ref().map(|failure| failure.failure),
            failing_since: sink.failure.as_ref().map(|failure| failure.since),
            cursors: self.tenants.iter().filter_map(cursor_status).collect(),
        }
    }

    /// The sink, the first and the last day of each replay that is not finished, and the number of
    /// its remaining entries.
    pub(super) fn unfinished_replays(&self) -> Vec<(&str, Day, Day, u64)> {
        let remaining = |replay: &ModelReplay| -> u64 {
            self.pending_of(replay).iter().map(|pending| pending.entries).sum()
        };
        let replays = self.replays.iter().map(|replay| {
            (replay.sink.as_str(), replay.first_day, replay.last_day, remaining(replay))
        });
        replays.filter(|(.., remaining)| *remaining > 0).collect()
    }

    /// The dead letters of the sinks that are configured, newest first.
    pub(super) fn configured_letters(&self) -> Vec<QueuedDeadLetter> {
        let letters = self.letters.iter().rev();
        letters.filter(|letter| !self.is_removed(&letter.sink)).cloned().collect()
    }

    /// The entries that a replay sends, if the sink is configured.
    pub(super) fn replay_scope(
        &self,
        sink: &SinkName,
        tenants: &[TenantId],
        days: &RangeInclusive<Day>,
    ) -> ReplayScope {
        let sink = self.sink(sink).filter(|sink| sink.removed_at.is_none());
        let Some(sink) = sink else { return ReplayScope::default() };

        let (mut all_days, mut scope) = (BTreeSet::new(), ReplayScope::default());
        let is_received =
            |id: &TenantId| sink.cursors.get(id).is_some_and(|cursor| cursor.is_active);
        for tenant in &self.tenants {
            if !tenants.contains(&tenant.id) || !is_received(&tenant.id) {
                continue;
            }
            let mut sent: Vec<(Seq, &ModelEntry)> = tenant.entries().collect();
            sent.retain(|(_, entry)| days.contains(&entry.day()) && sink.receives(entry));
            let snapshots = sent.iter().filter(|(_, entry)| entry.snapshot().is_some());
            let seqs: Vec<Seq> = snapshots.clone().map(|(seq, _)| *seq).collect();
            let days: BTreeSet<Day> = snapshots.map(|(_, entry)| entry.day()).collect();
            if sent.is_empty() {
                continue;
            }

            scope.tenants.push(ReplayTenant {
                tenant: tenant.id,
                days: days.len() as u64,
                snapshots: seqs.len() as u64,
                observations: (sent.len() - seqs.len()) as u64,
                first_seq: seqs.first().copied().unwrap_or(Seq::ZERO),
                last_seq: seqs.last().copied().unwrap_or(Seq::ZERO),
            });
            all_days.extend(days);
        }
        ReplayScope { days: all_days.len() as u64, ..scope }
    }

    /// The dead letters that are sent to a sink again, in the order of the logs.
    pub(super) fn queued_letters(&self, name: &SinkName) -> Vec<QueuedDeadLetter> {
        let Some(sink) = self.sink(name) else { return Vec::new() };
        let is_active =
            |tenant: &TenantId| sink.cursors.get(tenant).is_some_and(|cursor| cursor.is_active);
        let queued = self
            .letters
            .iter()
            .filter(|letter| letter.sink == *name && letter.retry && is_active(&letter.tenant));
        let mut queued: Vec<QueuedDeadLetter> = queued.cloned().collect();
        queued.sort_by_key(|letter| (letter.tenant, letter.at));
        queued
    }

    /// The dead letters that a filter selects, newest first.
    pub(super) fn selected_letters(&self, filter: &DeadLetterFilter) -> Vec<QueuedDeadLetter> {
        let DeadLetterFilter { sink, tenants, event_id_prefix } = filter;
        let mut letters = self.configured_letters();
        letters.retain(|letter| {
            sink.as_ref().is_none_or(|sink| *sink == letter.sink)
                && tenants.as_ref().is_none_or(|tenants| tenants.contains(&letter.tenant))
                && letter.event_id.to_string().starts_with(event_id_prefix)
        });
        letters
    }

    /// The groups of the dead letters that a filter selects, the one with the newest letter first.
    pub(super) fn letter_groups(&self, filter: &DeadLetterFilter) -> Vec<DeadLetterGroup> {
        let mut groups: Vec<DeadLetterGroup> = Vec::new();
        for letter in self.selected_letters(filter) {
            let day = letter.day.unwrap();
            let queued = u64::from(letter.retry);
            let same = groups.iter_mut().find(|group| {
                (&group.sink, group.tenant, &group.reason)
                    == (&letter.sink, letter.tenant, &letter.reason)
            });

            if let Some(group) = same {
                group.letters += 1;
                group.queued += queued;
                group.days = group.days.map(|(first, last)| (first.min(day), last.max(day)));
                continue;
            }
            groups.push(DeadLetterGroup {
                sink: letter.sink,
                tenant: letter.tenant,
                reason: letter.reason,
                letters: 1,
                queued,
                days: Some((day, day)),
                newest_id: letter.event_id,
                newest_at: letter.rejected_at,
            });
        }
        groups
    }
}

impl ModelTenant {
    /// The days that are stored.
    pub(super) fn days(&self) -> BTreeSet<Day> {
        self.snapshots().map(|(_, snapshot)| snapshot.facts.day).collect()
    }

    /// The earliest first day of a queued backfill.
    pub(super) fn first_backfill(&self) -> Option<Day> {
        self.backfills.iter().map(|(first_day, _)| *first_day).min()
    }

    fn poll_state(&self) -> PollState {
        let newest_day = self.days().last().copied();
        let class = self.last_error.as_ref().map(|(_, class)| *class);
        PollState {
            polled: Polled { newest_day, ..self.polls.polled },
            queued_backfill: self.first_backfill(),
            failed_locally: class.is_some_and(PollErrorClass::is_local),
            ..self.polls.clone()
        }
    }

    /// The open observations, without gaps that Microsoft no longer keeps.
    fn open_observations(&self) -> Vec<OpenObservation> {
        let absent = self.missing.iter().filter(|day| day.presence == DayPresence::Absent);
        let absent: BTreeSet<Day> = absent.map(|missing| missing.day).collect();
        let is_shown = |open: &&ModelCondition| {
            open.begin.what != ObservationKind::Gap || !absent.contains(&open.begin.first_day)
        };
        let mut shown: Vec<&ModelCondition> = self.open.iter().filter(is_shown).collect();
        shown.sort_by_key(|open| {
            (open.begin.first_day, open.begin.what.as_str(), open.begin.subject.to_string())
        });

        let shown = shown.into_iter().map(|ModelCondition { begin, since, expires }| {
            let reason = Explanation { message: begin.details.clone(), hint: begin.hint.clone() };
            let (what, first_day) = (begin.what, begin.first_day);
            OpenObservation { what, first_day, since: *since, reason, expires: *expires }
        });
        shown.collect()
    }
}

impl ModelSink {
    /// Whether an entry is sent to the sink.
    fn receives(&self, entry: &ModelEntry) -> bool {
        match entry {
            ModelEntry::Snapshot(snapshot) => snapshot.body.is_some(),
            ModelEntry::Observation(observation, _) => {
                let is_about_itself = observation.subject.is_sink(&self.name);
                self.filter == EntryFilter::All && !is_about_itself
            }
        }
    }

    /// The entries of a tenant that the sink has not received, each with its `seq`; none if it does
    /// not receive the tenant.
    fn unsent<'a>(&self, tenant: &'a ModelTenant) -> Vec<(Seq, &'a ModelEntry)> {
        let cursor = self.cursors.get(&tenant.id).filter(|cursor| cursor.is_active);
        let Some(cursor) = cursor else { return Vec::new() };
        let entries = tenant.entries().filter(|(seq, entry)| {
            *seq >= cursor.at.seq && entry.day() >= cursor.floor && self.receives(entry)
        });
        entries.collect()
    }
}
