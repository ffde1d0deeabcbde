//! What `status` shows of a daemon in another process, of sinks, and of the next polls.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use super::*;
use crate::{checkpoint::FaultPlan, model::ClockOffset};

/// Regression: `status` reported a healthy daemon that could not write for an hour.
#[test]
fn a_daemon_that_cannot_write_is_reported() {
    let minute = |number: i64| UnixMillis::new(number * 60_000);
    let live = Err(NoLiveFacts::NoResponse("no response within 2 s".into()));
    let daemon = DaemonState::Elsewhere { pid: 7, since: minute(100), live: &live };
    for (alive_at, now, since) in [
        // An earlier version stores no time.
        (None, 500, None),
        (Some(199), 200, None),
        (Some(195), 200, None),
        (Some(194), 200, Some(194)),
        // The previous daemon has stored the time.
        (Some(20), 105, None),
        (Some(20), 106, Some(100)),
        // The clock was set back.
        (Some(900), 200, None),
    ] {
        let found = daemon.storage(alive_at.map(minute), minute(now));
        let found = found.map(|facts| facts.since);
        assert_eq!(found, since.map(minute), "{alive_at:?} {now}");
    }
    assert_eq!(DaemonState::Stopped.storage(Some(minute(1)), minute(900)), None);
}

/// Regression: `status` reported a healthy daemon while the daemon could not store a fault of
/// its storage, or that its clock was wrong.
#[test]
fn the_running_daemon_knows_more_than_the_checkpoint() {
    let time = UnixMillis::new;
    let difference = |seconds, since| {
        let local = time(1_795_341_600_000).saturating_add(Duration::from_secs(seconds));
        let offset = ClockOffset::between(local.into(), time(1_795_341_600_000).into());
        Some(ClockDifference { offset, since: time(since) })
    };
    let storage = StorageFacts { reason: "the disk is full".into(), since: time(150) };
    let report =
        DaemonReport { pid: 7, stalled: vec!["stored".to_owned()], ..DaemonReport::default() };

    let reported = Ok(LiveFacts {
        stalled: vec!["live".to_owned()],
        storage: Some(storage.clone()),
        clock: difference(900, 200),
    });
    let daemon = DaemonState::Elsewhere { pid: 7, since: time(100), live: &reported };
    assert_eq!(daemon.stalled(Some(&report)), ["live"]);
    assert_eq!(daemon.storage(Some(time(190)), time(200)), Some(storage));
    assert_eq!(daemon.clock(None), difference(900, 200));
    assert_eq!(daemon.clock(difference(60, 50)), difference(900, 50));
    assert_eq!(daemon.unreported(), None);

    assert_eq!(daemon.live_facts(), LiveFactsState::Included);

    let reason = Explanation::new("no response within 2 s");
    let silent = Err(NoLiveFacts::NoResponse(reason.clone()));
    let daemon = DaemonState::Elsewhere { pid: 7, since: time(100), live: &silent };
    assert_eq!(daemon.stalled(Some(&report)), ["stored"]);
    assert_eq!(daemon.clock(difference(60, 50)), difference(60, 50));
    assert_eq!(daemon.unreported(), Some(reason));
    assert_eq!(daemon.live_facts(), LiveFactsState::NoResponse);
    // A daemon that the user may not ask is not at fault.
    let forbidden = Err(NoLiveFacts::NotPermitted);
    let daemon = DaemonState::Elsewhere { pid: 7, since: time(100), live: &forbidden };
    assert_eq!(daemon.stalled(Some(&report)), ["stored"]);
    assert_eq!((daemon.unreported(), daemon.live_facts()), (None, LiveFactsState::NotPermitted));
}

/// An acknowledgement in the future would count as one until then, and so would the beginning
/// of a failure.
#[test]
fn times_of_sinks_in_the_future_are_unknown() {
    let now = UnixMillis::new(500 * 60_000);
    for (minute, is_known) in [(1, true), (500, true), (900, false)] {
        let time = Some(UnixMillis::new(minute * 60_000));
        let status =
            SinkStatus { last_acknowledgement: time, failing_since: time, ..SinkStatus::default() };
        let facts = sink_facts(&status, now);
        let expected = time.filter(|_| is_known);
        assert_eq!(facts.last_acknowledgement, expected, "{minute}");
        assert_eq!(facts.failing_since, expected, "{minute}");
    }
}

#[test]
fn a_backoff_ends_with_the_daemon() {
    let hour = Duration::from_hours(1);
    let schedule = Schedule::new("0 6 * * *", TimeZone::UTC, Duration::ZERO, hour).unwrap();
    let time = UnixMillis::new;
    let (started, now) = (time(1_000), time(5_000).into());
    let polling = Polling { schedule: &schedule, started, now };

    for (last_attempt, not_before, expected) in [
        (None, None, 5_000),
        (Some(4_000), Some(9_000), 9_000),
        (Some(1_000), Some(9_000), 9_000),
        (Some(4_000), Some(4_500), 5_000),
        // The previous process made this attempt.
        (Some(900), Some(9_000), 5_000),
        // An earlier version stored no time.
        (Some(4_000), None, 5_000),
    ] {
        let status = TenantStatus {
            polled: Polled { last_attempt: last_attempt.map(time), ..Polled::default() },
            not_before: not_before.map(time),
            ..TenantStatus::default()
        };
        let next = polling.next(None, &status);
        assert_eq!(next, Some(time(expected)), "{last_attempt:?} {not_before:?}");
    }
}

/// Regression: after a restart, `status` showed the next poll of the schedule for a tenant whose
/// interrupted backfill was continued at once.
#[test]
fn unfinished_polls_are_due_now() {
    /// 10:00 UTC.
    const NOW: UnixMillis = UnixMillis::new(1_795_341_600_000);

    let hour = Duration::from_hours(1);
    let schedule = Schedule::new("0 6 * * *", TimeZone::UTC, Duration::ZERO, hour).unwrap();
    let minute = |number: i64| UnixMillis::new(NOW.as_i64() + number * 60_000);
    // Today's snapshot, which was read at 07:00, is read again at 22:00.
    for (started, last_attempt, failures, requested, expected) in [
        (-5, -180, 0, None, 720),
        // The restart has interrupted the backfill.
        (-5, -180, 0, Some(-200), 0),
        // The response to the backfill was partial.
        (-300, -180, 0, Some(-200), 720),
        // A command has just requested the backfill.
        (-300, -180, 0, Some(-1), 0),
        (-5, -1, 1, None, 4),
        // The start repeats the failed poll.
        (0, -1, 1, None, 0),
    ] {
        let status = TenantStatus {
            polled: Polled {
                last_attempt: Some(minute(last_attempt)),
                last_success: Some(minute(-180)),
                failures,
                newest_day: Some(NOW.day()),
            },
            backfill_requested: requested.map(minute),
            ..TenantStatus::default()
        };

        let polling =
            Polling { schedule: &schedule, started: minute(started), now: minute(0).into() };
        let next = polling.next(Some(TenantId::TEST), &status);
        assert_eq!(next, Some(minute(expected)), "{started} {last_attempt} {requested:?}");
    }
}

/// Regression: the domains were read after the rest, with one transaction for each tenant.
#[test]
fn domains_are_read_with_the_rest() {
    let (directory, plan) = (tempfile::tempdir().unwrap(), FaultPlan::default());
    let checkpoint = Checkpoint::in_memory_with_faults(directory.path(), plan.clone()).unwrap();
    checkpoint.store_resolved_domain("contoso.com", TenantId::TEST).unwrap();

    let secret = directory.path().join("secret");
    fs_err::write(&secret, "secret").unwrap();
    let read = |domains: &[&str]| {
        let mut text = format!(
            "[state]\ndirectory = \"{}\"\n[credentials.app]\nkind = \"client_secret\"\n\
             client_id = \"11111111-2222-4333-8444-555555555555\"\n\
             client_secret = {{ file = \"{}\" }}\n[[sinks]]\nname = \"a\"\ntype = \"stdout\"\n",
            directory.path().display(),
            secret.display()
        );
        for domain in domains {
            let name = domain.replace('.', "-");
            let tenant = format!("name = \"{name}\"\nid = \"{domain}\"\ncredential = \"app\"");
            writeln!(text, "[[tenants]]\n{tenant}").unwrap();
        }
        let configuration = Configuration::parse("c.toml", &text).unwrap();

        plan.set(None);
        plan.begin();
        let (detail, daemon) = (StatusDetail::Summary, DaemonState::Stopped);
        let now = UnixMillis::new(1_795_341_600_000).into();
        let status = CurrentStatus::read(&configuration, &checkpoint, detail, daemon, now).unwrap();
        plan.end();
        let ids: Vec<_> = status.tenants.iter().map(|tenant| tenant.id).collect();
        (ids, plan.possible_faults().len())
    };
    let (ids, calls) = read(&["contoso.com"]);
    assert_eq!(ids, [Some(TenantId::TEST)]);
    assert_eq!(read(&["contoso.com", "fabrikam.com"]), (vec![Some(TenantId::TEST), None], calls));
}
