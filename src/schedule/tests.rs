//! Tables of previous polls and the polls that are due after them.

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn schedule(cron: &str, zone: &str) -> Schedule {
    let zone = TimeZone::get(zone).unwrap();
    Schedule::new(cron, zone, Duration::ZERO, 2 * HOUR).unwrap()
}

fn tenant() -> TenantId {
    TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn polled(success: &str, newest: &str) -> Polled {
    let time = Some(at(success).into());
    Polled { last_attempt: time, last_success: time, failures: 0, newest_day: Day::parse(newest) }
}

#[test]
fn due_depends_on_time_and_previous_polls() {
    let daily = schedule("15 6 * * *", "UTC");
    let check = |polled: Polled, now: &str, expected: Option<Due>| {
        assert_eq!(daily.due(tenant(), &polled, at(now)), expected, "{now} {polled:?}");
    };

    check(Polled::default(), "2026-11-22T00:00:00Z", Some(Due::First));
    check(polled("2026-11-21T06:16:00Z", "2026-11-21"), "2026-11-22T06:14:59Z", None);
    check(polled("2026-11-21T23:00:00Z", "2026-11-21"), "2026-11-22T06:15:00Z", Some(Due::Daily));

    // The daemon was not running when polls were due, even for days: one poll is enough.
    check(polled("2026-11-18T06:16:00Z", "2026-11-18"), "2026-11-22T11:00:00Z", Some(Due::Daily));
    check(polled("2026-11-22T11:00:00Z", "2026-11-22"), "2026-11-22T11:01:00Z", None);

    // Today's snapshot is not published yet.
    check(polled("2026-11-22T06:15:30Z", "2026-11-21"), "2026-11-22T08:15:00Z", None);
    check(polled("2026-11-22T06:15:30Z", "2026-11-21"), "2026-11-22T08:15:30Z", Some(Due::Recheck));

    // After midnight and before the daily poll, today's snapshot is not expected.
    check(polled("2026-11-21T23:00:00Z", "2026-11-21"), "2026-11-22T03:00:00Z", None);

    // Today's snapshot is read again late in the day.
    check(polled("2026-11-22T06:15:30Z", "2026-11-22"), "2026-11-22T22:00:00Z", Some(Due::Late));
    check(polled("2026-11-22T22:00:10Z", "2026-11-22"), "2026-11-22T23:00:00Z", None);

    // The clock was set back by some seconds.
    check(polled("2026-11-23T06:15:30Z", "2026-11-23"), "2026-11-23T06:15:10Z", None);
}

/// The next poll is the first minute at which a poll is due.
#[test]
fn the_next_poll_is_when_one_is_due() {
    let daily = schedule("15 6 * * *", "Europe/Berlin");
    let failed = Polled { failures: 3, ..polled("2026-11-22T05:15:00Z", "2026-11-21") };
    for state in [
        polled("2026-11-21T06:16:00Z", "2026-11-21"),
        polled("2026-11-22T05:16:00Z", "2026-11-21"),
        polled("2026-11-22T05:16:00Z", "2026-11-22"),
        polled("2026-11-22T22:00:30Z", "2026-11-22"),
        failed,
        Polled::default(),
    ] {
        for now in ["2026-11-22T05:20:00Z", "2026-11-22T12:00:00Z", "2026-11-22T23:30:00Z"] {
            if state.last_attempt > Some(at(now).into()) {
                continue;
            }
            let minutes = (0..3 * 24 * 60).map(|minute| {
                at(now).checked_add(jiff::SignedDuration::from_mins(minute)).unwrap()
            });
            let due = minutes.into_iter().find(|time| daily.due(tenant(), &state, *time).is_some());

            let next = daily.next_poll(tenant(), &state, at(now)).unwrap();
            let wait = due.unwrap().duration_since(next);
            assert!(wait.unsigned_abs() < Duration::from_mins(1), "{now} {state:?}: {next}");
        }
    }
}

#[test]
fn retry_delays_grow_up_to_a_limit() {
    let daily = schedule("15 6 * * *", "UTC");
    let failed = |failures| Polled { failures, ..polled("2026-11-22T06:15:00Z", "2026-11-21") };
    let due = |failures, now: &str| daily.due(tenant(), &failed(failures), at(now)).is_some();

    assert!(!due(1, "2026-11-22T06:19:59Z") && due(1, "2026-11-22T06:20:00Z"));
    assert!(!due(3, "2026-11-22T06:34:59Z") && due(3, "2026-11-22T06:35:00Z"));
    assert!(!due(50, "2026-11-22T08:14:59Z") && due(50, "2026-11-22T08:15:00Z"));
    for (failures, then) in [(3, "2026-11-22T06:35:00Z"), (50, "2026-11-22T08:15:00Z")] {
        assert_eq!(daily.retry_at(&failed(failures)), Some(at(then)));
    }
    assert_eq!(daily.retry_at(&failed(0)), None);
}

/// Steps through every minute of the days around the start or end of daylight saving time:
/// there must be one daily poll per day.
#[test]
fn daylight_saving_neither_skips_nor_repeats_a_day() {
    for (zone, cron, from, days) in [
        ("Europe/Dublin", "0 18 * * *", "2026-03-27T00:00:00Z", 4),
        ("Europe/Dublin", "0 18 * * *", "2026-10-23T00:00:00Z", 4),
        ("Europe/London", "0 0 * * *", "2026-03-27T12:00:00Z", 4),
        ("Europe/Berlin", "30 2 * * *", "2026-03-27T12:00:00Z", 4),
        ("Europe/Berlin", "30 2 * * *", "2026-10-23T12:00:00Z", 4),
    ] {
        let schedule = schedule(cron, zone);
        let mut polled = polled(from, "2030-01-01");
        let start = at(from);
        let mut times = Vec::new();
        for minute in 1..=days * 24 * 60 {
            let now = start.checked_add(jiff::SignedDuration::from_mins(minute)).unwrap();
            if schedule.due(tenant(), &polled, now) == Some(Due::Daily) {
                polled.last_attempt = Some(now.into());
                polled.last_success = polled.last_attempt;
                times.push(now.to_zoned(TimeZone::get(zone).unwrap()));
            }
        }
        assert_eq!(i64::try_from(times.len()).unwrap(), days, "{zone} {cron} {times:?}");
    }
}

/// The operator selects another zone every day, also on 29 February. Each UTC day has a poll, and
/// at most one for each of its two zones.
#[test]
fn changes_of_the_zone_skip_no_day() {
    const DAYS: i64 = 6;

    let zones = ["UTC", "Pacific/Auckland", "America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata"];
    let schedules = zones.map(|zone| schedule("15 6 * * *", zone));
    let start = at("2028-02-26T12:00:00Z");
    let mut polled = polled("2028-02-26T12:00:00Z", "2030-01-01");
    let mut polls_of_days = std::collections::BTreeMap::<Day, usize>::new();
    for minute in 1..=DAYS * 24 * 60 {
        let now = start.checked_add(jiff::SignedDuration::from_mins(minute)).unwrap();
        let number = usize::try_from(minute / (24 * 60)).unwrap() % schedules.len();
        if schedules[number].due(tenant(), &polled, now) == Some(Due::Daily) {
            polled.last_attempt = Some(now.into());
            polled.last_success = polled.last_attempt;
            *polls_of_days.entry(Day::of(now)).or_default() += 1;
        }
    }

    let first = Day::parse("2028-02-27").unwrap();
    for day in (0..5).map(|number| first.plus(number)) {
        let polls = polls_of_days.get(&day).copied().unwrap_or(0);
        assert!((1..=2).contains(&polls), "{day}: {polls_of_days:?}");
    }
}

#[test]
fn jitter_is_stable_and_bounded() {
    let schedule = Schedule::new("0 6 * * *", TimeZone::UTC, 10 * HOUR, HOUR).unwrap();
    let other = TenantId::parse("aaaaaaaa-0000-4000-8000-00000000c0de").unwrap();
    assert_ne!(schedule.jitter_of(tenant()), schedule.jitter_of(other));
    assert!(schedule.jitter_of(tenant()) <= 10 * HOUR);
}

#[test]
fn rejects_invalid_cron_expressions() {
    for cron in ["", "15 6 * *", "0 15 6 * * *", "99 6 * * *", "@daily"] {
        assert!(Schedule::new(cron, TimeZone::UTC, HOUR, HOUR).is_err(), "{cron}");
    }
}

/// Regression: `60 * * * *` was reported as an expression without five fields.
#[test]
fn errors_name_the_wrong_field() {
    for (cron, error) in [
        ("60 * * * *", "`60 * * * *`: the minute `60` is not valid; expected 0 to 59"),
        ("0 24 * * *", "`0 24 * * *`: the hour `24` is not valid; expected 0 to 23"),
        ("0 0 32 * *", "`0 0 32 * *`: the day of month `32` is not valid; expected 1 to 31"),
        ("0 0 * 13 *", "`0 0 * 13 *`: the month `13` is not valid; expected 1 to 12"),
        ("0 0 * * x", "`0 0 * * x`: the day of week `x` is not valid; expected 0 to 7"),
    ] {
        let found = Schedule::new(cron, TimeZone::UTC, HOUR, HOUR).unwrap_err();
        assert_eq!(found.to_string(), error);
    }
}

#[test]
fn gaps_of_more_than_a_day_are_found() {
    for (cron, zone, days) in [
        ("15 6 * * *", "UTC", None),
        ("* * * * *", "UTC", None),
        ("30 2 * * *", "Europe/Berlin", None),
        ("0 6 * * 1-5", "UTC", Some(3)),
        ("0 0 31 * *", "UTC", Some(61)),
        ("0 0 1 1 *", "UTC", Some(365)),
        ("0 0 29 2 *", "UTC", Some(1_461)),
        // From the last minute of January to the first one of the next January.
        ("* * * 1 *", "UTC", Some(334)),
    ] {
        let gap = schedule(cron, zone).longest_gap(at("2025-11-22T12:00:00Z"));
        // In whole hours.
        let found = gap.map(|gap| gap.as_secs() / 3_600);
        assert_eq!(found, days.map(|days| days * 24), "{cron}");
    }
}

/// Regression: after a poll with a clock that was 40 days ahead, nothing was polled for 40 days.
#[test]
fn polls_in_the_future_are_not_awaited() {
    let daily = schedule("15 6 * * *", "UTC");
    let now = at("2026-11-22T12:00:00Z");
    let (past, future) = ("2026-11-22T11:59:00Z", "2027-01-01T12:00:00Z");
    let state = |attempt: &str, success: Option<&str>, failures| Polled {
        last_attempt: Some(at(attempt).into()),
        last_success: success.map(|time| at(time).into()),
        failures,
        newest_day: Day::parse("2026-11-22"),
    };

    for (attempt, success, failures, expected) in [
        (past, Some(past), 0, None),
        (past, None, 0, None),
        (past, Some(past), 1, None),
        (past, Some(future), 1, None),
        (future, Some(future), 0, Some(Due::Daily)),
        (future, None, 0, Some(Due::Daily)),
        (past, Some(future), 0, Some(Due::Daily)),
        (future, Some(past), 1, Some(Due::Retry)),
        (future, Some(future), 60, Some(Due::Retry)),
    ] {
        let state = state(attempt, success, failures);
        assert_eq!(daily.due(tenant(), &state, now), expected, "{state:?}");
        let next = daily.next_poll(tenant(), &state, now).unwrap();
        assert_eq!(next == now, expected.is_some(), "{state:?}: {next}");
    }
}

/// With every stored time, the next poll is at most a day and the jitter away, and a poll that was
/// just recorded is not repeated at once.
#[test]
fn no_stored_time_delays_or_repeats_polls() {
    let jitter = HOUR;
    let daily = Schedule::new("15 6 * * *", TimeZone::UTC, jitter, 2 * HOUR).unwrap();
    let now = at("2026-11-22T12:00:00Z");
    let hours = [-9_600, -960, -25, -3, -1, 0, 1, 3, 25, 960, 9_600];
    let times = hours.map(|hours| now + jiff::SignedDuration::from_hours(hours));
    let outcomes = [(0, "2026-11-22"), (0, "2026-11-20"), (1, "2026-11-22"), (60, "2026-11-22")];

    for attempt in times {
        for success in times.map(Some).into_iter().chain([None]) {
            for (failures, day) in outcomes {
                let stored = Polled {
                    last_attempt: Some(attempt.into()),
                    last_success: success.map(Into::into),
                    failures,
                    newest_day: Day::parse(day),
                };
                let next = daily.next_poll(tenant(), &stored, now).unwrap();
                let wait = next.duration_since(now);
                assert!(wait <= jiff::SignedDuration::from_hours(25), "{stored:?}: {wait}");

                let time = Some(now.into());
                let recorded = if failures == 0 {
                    Polled { last_attempt: time, last_success: time, ..stored }
                } else {
                    Polled { last_attempt: time, ..stored }
                };
                assert_eq!(daily.due(tenant(), &recorded, now), None, "{recorded:?}");
            }
        }
    }
}
