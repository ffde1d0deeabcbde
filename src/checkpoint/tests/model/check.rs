//! Compares what the queries of a checkpoint return with the model.

use std::collections::HashMap;

use super::{
    run::{Run, Storage},
    values::without_ids,
    *,
};

/// SQL: the bodies that nothing refers to.
const UNUSED_BODIES: &str =
    "SELECT count(*) FROM body WHERE id NOT IN (SELECT body FROM entry WHERE body IS NOT NULL)
        AND id NOT IN (SELECT key_frame FROM body WHERE key_frame IS NOT NULL)";

/// Compares fields of two values.
macro_rules! assert_fields {
    ($found:expr, $expected:expr, $($field:ident)+) => {
        $(assert_eq!($found.$field, $expected.$field, "{}", stringify!($field));)+
    };
}

impl Run {
    /// Compares what every call can change.
    pub(super) fn check(&mut self) {
        for name in NAMES.map(SinkName::new) {
            let expected = self.model.pending(&name);
            assert_eq!(self.checkpoint.pending(&name).unwrap(), expected, "{name}");
        }
        self.check_status();
        assert_eq!(self.checkpoint.cursors().unwrap(), self.model.cursor_file());

        for tenant in tenants() {
            let missing = self.checkpoint.missing_days(tenant).unwrap();
            assert_eq!(missing, self.model.missing_days(tenant), "{tenant}");
            self.check_new_entries(tenant);
        }
    }

    /// Compares everything else, and all logs.
    pub(super) fn check_everything(&mut self) {
        self.compared.clear();
        for tenant in (0..=TENANTS).map(tenant_at) {
            self.check_new_entries(tenant);
            self.check_past_entries(tenant, first_day(), Seq::ZERO);
            self.check_days(tenant);
        }

        self.check_polls();
        self.check_commands();
        self.check_domains();
        self.check_other_notes();
        self.check_sinks();
        self.check_details();

        let checkpoint = &self.checkpoint;
        assert_eq!(query_number(checkpoint, UNUSED_BODIES), 0, "bodies that are not used");
        if self.storage == Storage::Files {
            let findings = checkpoint.verify().unwrap().findings;
            assert!(findings.is_empty(), "{findings:?}");
        }
    }

    fn check_status(&self) {
        let found = self.checkpoint.status(StatusDetail::Items).unwrap();
        let (tenants, sinks) = (self.model.tenant_status(), self.model.sink_status());
        assert_eq!((found.tenants.len(), found.sinks.len()), (tenants.len(), sinks.len()));
        for (found, expected) in found.tenants.iter().zip(&tenants) {
            assert_fields!(found, expected, id polled days missing last_error error_class);
            assert_fields!(found, expected, failing_since not_before observations);
            assert_fields!(found, expected, queued_commands backfill_requested);
        }
        for (found, expected) in found.sinks.iter().zip(&sinks) {
            assert_fields!(found, expected, name sent rejected truncated dead_letters backlog);
            assert_fields!(found, expected, oldest_day last_acknowledgement last_error failure);
            assert_fields!(found, expected, failing_since cursors);
        }

        let replays = found.replays.iter();
        let replays: Vec<_> = replays
            .map(|replay| {
                (replay.sink.as_str(), replay.first_day, replay.last_day, replay.remaining)
            })
            .collect();
        assert_eq!(replays, self.model.unfinished_replays());
        let mut newest = self.model.configured_letters();
        newest.truncate(50);
        assert_eq!(without_ids(&found.dead_letters), newest);

        assert_eq!(found.checkpoint_id, self.model.id);
        assert_eq!(found.outdated_cursor_file, self.model.outdated);
        self.check_unresolved(&found.unresolved);
        self.check_notes(&found);
    }

    /// Compares the parts of the status that depend on the requested detail.
    fn check_details(&self) {
        let status = |detail| self.checkpoint.status(detail).unwrap();
        let (summary, groups) = (status(StatusDetail::Summary), status(StatusDetail::Groups));
        let expected = self.model.letter_groups(&DeadLetterFilter::default());
        assert_eq!(groups.dead_letter_groups, expected);
        assert!(summary.dead_letter_groups.is_empty());
        assert!(status(StatusDetail::Items).dead_letter_groups.is_empty());
        for status in [summary, groups] {
            assert!(status.dead_letters.is_empty());
            assert!(status.sinks.iter().all(|sink| sink.cursors.is_empty()));
        }
        self.check_dead_letters(&DeadLetterFilter::default(), u32::MAX);
    }

    /// Compares the entries that were not compared before.
    fn check_new_entries(&mut self, tenant: TenantId) {
        let compared = self.compared.get(&tenant).copied().unwrap_or(Seq::ZERO);
        self.check_read(&ReadRequest {
            tenant,
            first_seq: compared.next(),
            last_seq: Seq::MAX,
            first_day: first_day(),
            last_day: None,
            max_bytes: usize::MAX,
            with_bases: true,
            with_observations: true,
        });
        self.compared.insert(tenant, self.model.last_seq(tenant));
    }

    /// Compares the states of polls, and what is failing.
    fn check_polls(&self) {
        let (checkpoint, model) = (&self.checkpoint, &self.model);
        let running: Vec<TenantId> = model.running.iter().copied().collect();
        assert_eq!(checkpoint.running_polls().unwrap(), running);
        assert_eq!(checkpoint.failures().unwrap(), model.failures());

        let (polled, expected) = (checkpoint.poll_states().unwrap(), model.poll_states());
        assert_eq!(polled.count(), expected.len());
        let expected: HashMap<TenantId, PollState> = expected.into_iter().collect();
        for tenant in (0..=TENANTS).map(tenant_at) {
            let state = expected.get(&tenant).cloned().unwrap_or_default();
            assert_eq!(checkpoint.poll_state(tenant).unwrap(), state, "{tenant}");
            assert_eq!(polled.of(tenant), FoundPollState::Readable(state), "{tenant}");
        }

        let ends = model.tenants.iter().map(|tenant| (tenant.id, tenant.next_seq()));
        assert_eq!(checkpoint.log_ends().unwrap(), ends.collect::<HashMap<_, _>>());
    }

    /// Compares which days are stored, held and due.
    fn check_days(&self, id: TenantId) {
        let checkpoint = &self.checkpoint;
        let empty = ModelTenant::new(id);
        let tenant = self.model.tenant(id).unwrap_or(&empty);
        assert_eq!(checkpoint.next_seq(id).unwrap(), tenant.next_seq());
        assert_eq!(checkpoint.baselines(id).unwrap(), tenant.baselines);

        let held = checkpoint.held_days(id).unwrap();
        let held_day = |held: &HeldDay| (held.day, held.since, held.observed_at, held.body.clone());
        let found: Vec<_> = held.iter().map(held_day).collect();
        assert_eq!(found, tenant.held.values().map(held_day).collect::<Vec<_>>());

        self.check_stored_days(id, first_day());
        self.check_days_before(id, Seq::MAX);
        self.check_range(id, Seq::FIRST, first_day());
        self.check_bodies(id, (None, None), usize::MAX);
        self.check_due(id, time_at(0));

        let days = tenant.days();
        let range = days.first().zip(days.last()).map(|(first, last)| *first..=*last);
        assert_eq!(checkpoint.stored_day_range(id).unwrap(), range);
        assert_eq!(checkpoint.newest_day(id).unwrap(), days.last().copied());
        let complete = tenant.snapshots().filter(|(_, snapshot)| !snapshot.flags.partial);
        let complete = complete.map(|(_, snapshot)| (snapshot.facts.day, snapshot.revision)).max();
        assert_eq!(checkpoint.newest_complete_day(id).unwrap(), complete);
        let polled = tenant.snapshots().filter(|(_, snapshot)| !snapshot.flags.imported);
        let polled = polled.map(|(_, snapshot)| snapshot.facts.day).max();
        let resume_days = (polled, tenant.held.keys().next().copied());
        assert_eq!(checkpoint.resume_days(id).unwrap(), resume_days);
    }

    fn check_sinks(&self) {
        let (checkpoint, model) = (&self.checkpoint, &self.model);
        let stored = model.sinks.iter().map(|sink| {
            let (name, kind) = (sink.name.clone(), sink.kind.map(str::to_owned));
            StoredSink { name, kind, removed_at: sink.removed_at }
        });
        assert_eq!(checkpoint.stored_sinks().unwrap(), stored.collect::<Vec<_>>());

        let provisional = model.sinks.iter().filter(|sink| sink.provisional.is_some());
        let mut provisional: Vec<&str> = provisional.map(|sink| sink.name.as_str()).collect();
        provisional.sort_unstable();
        assert_eq!(checkpoint.provisional_sinks().unwrap(), provisional);

        for sink in &model.sinks {
            assert_eq!(checkpoint.mark(&sink.name).unwrap(), sink.mark, "{}", sink.name);
            let unsent: u64 = model.pending(&sink.name).iter().map(|p| p.entries).sum();
            assert_eq!(checkpoint.unsent_entries(&sink.name).unwrap(), unsent, "{}", sink.name);
        }
    }
}
