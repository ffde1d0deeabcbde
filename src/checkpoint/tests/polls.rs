//! The results of polls: which ones end a running poll, which days are then missing, and what a
//! server cannot fill.

use super::{continuity::back_up, *};
use crate::{
    checkpoint::backend::values,
    error::Explanation,
    ledger::{DayPresence, MissingDay},
    model::{AcceptedData, DataFaults, PollErrorClass, RejectedSnapshots},
};

impl Checkpoint {
    /// Damages the row of a tenant, so that the state of its polls cannot be read.
    pub(crate) fn damage_poll_state(&self, tenant: TenantId) {
        let sql = "UPDATE tenant SET failures = 4294967296 WHERE guid = ?1";
        let guid = tenant.to_string();
        let damaged = self.administrative(|store| store.execute(sql, values![guid]));
        assert_eq!(damaged.unwrap(), 1);
    }
}

fn observation(what: ObservationKind, number: u32) -> Observation {
    Observation {
        what,
        subject: ObservationSubject::Other(format!("unreadable, {number} bytes")),
        first_day: day("2026-11-20"),
        phase: Phase::Begin,
        details: "cannot decode a snapshot".to_owned(),
        hint: None,
    }
}

/// Regression: a server could add conditions and entries of the log with every response.
#[test]
fn rejected_snapshots_cannot_fill_the_log() {
    let (_directory, checkpoint) = new_checkpoint();
    for (what, expected) in [(ObservationKind::Implausible, 128), (ObservationKind::Gap, 1_000)] {
        let observations = (0..1_000).map(|number| observation(what, number)).collect();
        commit(&checkpoint, &PollCommit { observations, ..empty_commit() });
        for table in ["open_observation", "entry"] {
            let name = what.as_str();
            let sql = format!("SELECT count(*) FROM {table} WHERE what = '{name}'");
            assert_eq!(query_number(&checkpoint, &sql), expected, "{table} {name}");
        }
    }
}

/// Regression: the faults of the scores began again with every day, although they were the same.
/// New faults are reported although others are open.
#[test]
fn only_changed_faults_begin_again() {
    let (_directory, checkpoint) = new_checkpoint();
    let observe = |data: AcceptedData, fault: Option<&str>| {
        let mut faults = DataFaults::default();
        if let Some(fault) = fault {
            faults.add(fault.to_owned());
        }
        let begin = Observation::of_faults(data, day("2026-11-20"), &faults);
        let phase = if faults.is_empty() { Phase::End } else { Phase::Begin };
        let observations = vec![Observation { phase, ..begin }];
        commit(&checkpoint, &PollCommit { observations, ..empty_commit() });
        let subject = data.as_str();
        let sql = format!("SELECT count(*) FROM entry WHERE kind = 2 AND subject = '{subject}'");
        query_number(&checkpoint, &sql)
    };

    for data in [AcceptedData::Scores, AcceptedData::Catalog] {
        for (fault, entries) in
            [(None, 0), (Some("a"), 1), (Some("a"), 1), (Some("b"), 3), (None, 4), (None, 4)]
        {
            assert_eq!(observe(data, fault), entries, "{data:?} {fault:?}");
        }
    }
}

/// The kind and the subject of an open observation, and whether it ends with the snapshots without
/// a usable day, in a poll on 2026-11-22.
const SUBJECTS: &[(ObservationKind, &str, bool)] = &[
    (ObservationKind::Implausible, "unreadable, 812 bytes", true),
    (ObservationKind::Implausible, "unreadable, 0 bytes", true),
    (ObservationKind::Implausible, "3f5c1d2e-0000-4000-8000-00000000c0de_x", true),
    (ObservationKind::Implausible, "", true),
    (ObservationKind::Implausible, "2026-11-23", true),
    (ObservationKind::ForeignTenant, "aaaaaaaa-0000-4000-8000-00000000c0de_y", true),
    (ObservationKind::ForeignTenant, "9999-12-31", true),
    // Each of these ends with another observation.
    (ObservationKind::Implausible, "2026-11-22", false),
    (ObservationKind::Implausible, "2026-11-20", false),
    (ObservationKind::ForeignTenant, "2026-11-20", false),
    (ObservationKind::Implausible, RejectedSnapshots::Further.as_str(), false),
    (ObservationKind::Implausible, AcceptedData::Scores.as_str(), false),
    (ObservationKind::Implausible, AcceptedData::Catalog.as_str(), false),
    (ObservationKind::Gap, "unreadable, 812 bytes", false),
];

/// Regression: observations with a subject of an earlier release never ended.
#[test]
fn former_subjects_end_with_their_cause() {
    let (today, began) = (empty_commit().observed_at.day(), day("2026-11-20"));
    assert_eq!(today, day("2026-11-22"));
    for (what, subject, ends) in SUBJECTS {
        let (_directory, checkpoint) = new_checkpoint();
        let observe = |what, subject: &str, first_day, phase| {
            let subject = ObservationSubject::parse(what, subject.to_owned());
            let first = observation(what, 1);
            let observations = vec![Observation { subject, first_day, phase, ..first }];
            commit(&checkpoint, &PollCommit { observations, ..empty_commit() });
        };
        let observe_undated = |phase| {
            for what in [ObservationKind::Implausible, ObservationKind::ForeignTenant] {
                observe(what, RejectedSnapshots::Undated.as_str(), today, phase);
            }
        };
        let open = format!("SELECT count(*) FROM open_observation WHERE subject = '{subject}'");

        observe(*what, subject, began, Phase::Begin);
        observe_undated(Phase::Begin);
        assert_eq!(query_number(&checkpoint, &open), 1, "{what:?} `{subject}`: still the cause");
        observe_undated(Phase::End);
        assert_eq!(query_number(&checkpoint, &open), i64::from(!ends), "{what:?} `{subject}`");

        let ended = format!(
            "SELECT count(*) FROM entry WHERE subject = '{subject}' AND phase = 'end' AND day = {}",
            began.number()
        );
        assert_eq!(query_number(&checkpoint, &ended), i64::from(*ends), "{what:?} `{subject}`");
    }
}

#[test]
fn a_result_ends_a_running_poll() {
    let (_directory, checkpoint) = new_checkpoint();
    let began = UnixMillis::new(1_795_341_600_000);
    let begin_both = || {
        checkpoint.begin_poll(tenant(), began).unwrap();
        checkpoint.begin_poll(other_tenant(), began).unwrap();
    };
    let running = || checkpoint.running_polls().unwrap();

    begin_both();
    commit(&checkpoint, &PollCommit { end: PollEnd::NoPoll, ..empty_commit() });
    assert_eq!(running().len(), 2, "an import is not the result of a poll");
    commit(&checkpoint, &empty_commit());
    assert_eq!(running(), [other_tenant()]);

    begin_both();
    let failure = PollFailure {
        at: began,
        reason: &Explanation::new("no response"),
        class: PollErrorClass::Unavailable,
        observation: &observation(ObservationKind::PollFailed, 1),
        not_before: None,
    };
    let _ = checkpoint.record_poll_failure(tenant(), &failure).unwrap();
    assert_eq!(running(), [other_tenant()]);
}

/// A backup that was made during a poll must not delay polls after it was restored.
#[test]
fn copies_contain_no_running_polls() {
    let (directory, checkpoint) = new_checkpoint();
    commit_day(&checkpoint, "2026-11-20", 1, 1);
    checkpoint.begin_poll(tenant(), UnixMillis::new(1)).unwrap();
    let backup = directory.path().join("backup.db");
    back_up(&checkpoint, &backup);

    let restored = tempfile::tempdir().unwrap();
    Checkpoint::restore(restored.path(), &backup, "stamp").unwrap();
    let checkpoint = Checkpoint::open(restored.path()).unwrap();
    assert!(checkpoint.running_polls().unwrap().is_empty());
}

/// Regression: a missing day that was requested while the clock was ahead was not requested again
/// until the clock had caught up, or was marked as absent at the source for good.
#[test]
fn requests_with_a_wrong_clock_delay_no_other() {
    let (_directory, checkpoint) = new_checkpoint();
    let now = empty_commit().observed_at;
    let ahead = now.saturating_add(Duration::from_hours(24 * 120));
    let missing = now.day().plus(-5);
    for _ in 0..8 {
        let poll = PollCommit { missing: vec![missing], observed_at: ahead, ..empty_commit() };
        commit(&checkpoint, &poll);
    }
    let presence = || checkpoint.missing_days(tenant()).unwrap()[0].presence;
    assert_eq!(presence(), DayPresence::Absent);

    // An import and the release of held days confirm no clock.
    commit(&checkpoint, &PollCommit { requested_from: None, ..empty_commit() });
    assert_eq!(presence(), DayPresence::Absent);
    let today = Some(now.day());
    commit(&checkpoint, &PollCommit { requested_from: today, ..empty_commit() });
    assert_eq!(presence(), DayPresence::Expected);
    assert_eq!(checkpoint.due_missing_days(tenant(), now).unwrap(), [missing]);
}

#[test]
fn a_partial_release_leaves_the_day_missing() {
    let (_directory, checkpoint) = new_checkpoint();
    let now = empty_commit().observed_at;
    let days = ["2026-11-19", "2026-11-20", "2026-11-21"];
    commit(&checkpoint, &PollCommit { missing: days.map(day).to_vec(), ..empty_commit() });
    let missing = |text, requests| {
        let presence = DayPresence::Expected;
        MissingDay { day: day(text), requests, last_requested: now, presence }
    };
    let stored = || checkpoint.missing_days(tenant()).unwrap();
    assert_eq!(stored(), days.map(|day| missing(day, 1)));

    for (text, partial) in [("2026-11-20", true), ("2026-11-21", false)] {
        let body = body(text, 1);
        let entry = NewEntry {
            snapshot_id: "x",
            revision: 1,
            facts: &facts(&body),
            body: &CompressedText::compress(&body).unwrap(),
            observed_at: now,
            base: None,
            flags: EntryFlags { partial, ..EntryFlags::default() },
        };
        let (entries, requested_from) = (vec![entry], None);
        commit(&checkpoint, &PollCommit { entries, requested_from, ..empty_commit() });
    }
    assert_eq!(stored(), [missing("2026-11-19", 1), missing("2026-11-20", 0)]);
}

/// The rollback removes the rows of new names, so a later commit must insert them again.
#[test]
fn a_failed_commit_leaves_no_names() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::in_memory(directory.path()).unwrap();
    let body = body("2026-11-21", 1);
    let (facts, compressed) = (facts(&body), CompressedText::compress(&body).unwrap());
    let entry = || NewEntry {
        snapshot_id: "x",
        revision: 1,
        facts: &facts,
        body: &compressed,
        observed_at: UnixMillis::default(),
        base: None,
        flags: EntryFlags::default(),
    };

    // A day cannot have the same revision twice.
    let twice = PollCommit { entries: vec![entry(), entry()], ..empty_commit() };
    checkpoint.commit_poll(tenant(), &twice).unwrap_err();
    commit(&checkpoint, &PollCommit { entries: vec![entry()], ..empty_commit() });

    let restarted = checkpoint.restarted().unwrap();
    let days = restarted.stored_days(tenant(), day("2026-11-01")).unwrap();
    assert_eq!(days[&day("2026-11-21")].facts, facts);
}

/// The observation ends on the day on which it was noticed.
#[test]
fn a_damaged_first_day_prevents_no_poll() {
    let (_directory, checkpoint) = new_checkpoint();
    let observe = |phase| {
        let observations = vec![Observation { phase, ..observation(ObservationKind::Gap, 1) }];
        commit(&checkpoint, &PollCommit { observations, ..empty_commit() });
    };

    observe(Phase::Begin);
    let sql = "UPDATE open_observation SET first_day = 2147483647";
    checkpoint.administrative(|store| store.execute(sql, values![])).unwrap();
    observe(Phase::End);
    assert_eq!(query_number(&checkpoint, "SELECT count(*) FROM open_observation"), 0);
    let ended = query_number(&checkpoint, "SELECT day FROM entry WHERE phase = 'end'");
    assert_eq!(ended, i64::from(empty_commit().observed_at.day().number()));
}

#[test]
fn holds_from_the_future_begin_again() {
    let (_directory, checkpoint) = new_checkpoint();
    let now = empty_commit().observed_at;
    let body = CompressedText::compress("{}").unwrap();
    let hold = |observed_at| {
        let held = vec![(now.day(), &body)];
        commit(&checkpoint, &PollCommit { observed_at, held, ..empty_commit() });
        checkpoint.held_days(tenant()).unwrap()[0].since
    };

    let ahead = now.saturating_add(Duration::from_hours(24 * 40));
    assert_eq!(hold(ahead), ahead);
    assert_eq!(hold(now), now);
    assert_eq!(hold(now.saturating_add(Duration::from_hours(1))), now, "the first hold counts");
}

/// Changes that damage the state of [`tenant`], and what is then known about it.
const DAMAGES: &[(&str, FoundPollState)] = &[
    (
        "UPDATE tenant SET polled_back_to = -2147483649 WHERE guid LIKE '3f5c1d2e-%'",
        FoundPollState::Damaged,
    ),
    ("UPDATE tenant SET failures = -1 WHERE guid LIKE '3f5c1d2e-%'", FoundPollState::Damaged),
    ("UPDATE queued_command SET first_day = 2147483648", FoundPollState::Damaged),
    ("UPDATE tenant SET guid = 'x' WHERE guid LIKE '3f5c1d2e-%'", FoundPollState::Unidentified),
];

/// Regression: a damaged row of one tenant prevented the polls of all tenants.
#[test]
fn a_damaged_state_is_that_of_one_tenant() {
    for (sql, expected) in DAMAGES {
        let (_directory, checkpoint) = new_checkpoint();
        for id in [tenant(), other_tenant()] {
            let _ = checkpoint.commit_poll(id, &empty_commit()).unwrap();
        }
        let first_day = day("2026-11-01");
        checkpoint.queue_backfills(&[tenant()], first_day, UnixMillis::default()).unwrap();
        change(&checkpoint, sql);

        let states = checkpoint.poll_states().unwrap();
        assert_eq!(states.of(tenant()), *expected, "{sql}");
        let other = checkpoint.poll_state(other_tenant()).unwrap();
        assert_eq!(states.of(other_tenant()), FoundPollState::Readable(other), "{sql}");

        let is_unidentified = *expected == FoundPollState::Unidentified;
        assert_eq!(states.unidentified().is_some(), is_unidentified, "{sql}");
        assert_eq!(checkpoint.poll_state(tenant()).is_ok(), is_unidentified, "{sql}");
    }
}
