//! A wrong clock, now or earlier: it is reported, decides nothing that lasts, and delays nothing.

use std::time::{Duration, Instant};

use crate::{
    state::{query, sql},
    support::{
        Workspace, eventually,
        faults::{Fault, FaultyApi},
        summaries,
    },
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";
/// The time within which polls resume after the clock is right.
const RECOVERY: Duration = Duration::from_secs(60);
/// The number of days that a poll reads in these tests.
const DAYS: usize = 5;

fn against(api: &FaultyApi) -> (Workspace, std::path::PathBuf) {
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = format!("initial_backfill_days = {DAYS}");
    let file = workspace.file_sink("siem");
    (workspace, file)
}

/// The severity of the condition of the clock; `None` without a condition.
fn clock_condition(workspace: &Workspace) -> Option<String> {
    let status = workspace.status();
    let conditions = status["conditions"].as_array().unwrap().iter();
    let mut of_clock = conditions.filter(|condition| condition["kind"] == "clock_wrong");
    of_clock.next().map(|condition| condition["severity"].as_str().unwrap().to_owned())
}

/// Regression: days were stored and released by a clock that was months ahead, and a sink that was
/// added meanwhile received nothing.
#[test]
fn a_clock_that_is_days_off_releases_nothing() {
    for days in [-100, 100, 2] {
        let api = FaultyApi::new();
        let (workspace, file) = against(&api);
        api.set_date_skew(days * 86_400);
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        for part in ["the clock of this host is ", " Microsoft's", "NTP"] {
            assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
        }
        assert_eq!(summaries(&file), 0);
        assert_eq!(query(&workspace, "SELECT count(*) FROM entry WHERE kind = 1"), 0);
        assert_eq!(query(&workspace, "SELECT count(*) FROM missing"), 0);
        assert_eq!(clock_condition(&workspace).as_deref(), Some("error"));

        // The first day that a sink has if the clock of this host is 100 days ahead.
        sql(
            &workspace,
            "UPDATE cursor SET floor = floor + 100;
             UPDATE meta SET value = date(value, '+100 days') WHERE key = 'start siem';",
        );
        api.set_date_skew(0);
        workspace.run_ok(&["once"]);
        assert_eq!(summaries(&file), DAYS, "{days}");
        assert_eq!(clock_condition(&workspace), None);
        assert_eq!(query(&workspace, "SELECT count(*) FROM meta WHERE key = 'start siem'"), 0);
    }
}

#[test]
fn a_clock_that_is_minutes_off_is_reported() {
    let api = FaultyApi::new();
    let (workspace, file) = against(&api);
    api.set_date_skew(-1_200);
    let run = workspace.run_ok(&["once"]);
    assert!(run.stderr.contains("the clock of this host is 20m"), "{}", run.stderr);
    assert_eq!(summaries(&file), DAYS);
    assert_eq!(clock_condition(&workspace).as_deref(), Some("warning"));

    api.set_date_skew(0);
    let run = workspace.run_ok(&["once"]);
    assert!(!run.stderr.contains("the clock of this host"), "{}", run.stderr);
    assert_eq!(clock_condition(&workspace), None);
}

/// Regression: a clock that was set right was reported as wrong until the next poll, which may be a
/// day away.
#[test]
fn a_wrong_clock_is_compared_without_polls() {
    let api = FaultyApi::new();
    let (workspace, _) = against(&api);
    api.set_date_skew(1_200);
    workspace.run_ok(&["once"]);
    assert_eq!(clock_condition(&workspace).as_deref(), Some("warning"));

    api.clear();
    api.set_date_skew(0);
    let daemon = workspace.spawn(&["run"]);
    eventually("the condition is cleared", || clock_condition(&workspace).is_none());
    let compared = |path: &String| path.ends_with("/openid-configuration");
    assert!(api.requests().iter().any(compared), "{:?}", api.requests());
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// Regression: after a wrong clock was right again, polls waited up to five minutes, and the daemon
/// was reported as not ready because of the clock.
#[test]
fn polls_resume_when_the_clock_is_right() {
    let api = FaultyApi::new();
    let (workspace, file) = against(&api);
    api.set_date_skew(-40 * 86_400);
    assert_eq!(workspace.run(&["once"]).code, 1);
    let failures = || query(&workspace, "SELECT failures FROM tenant WHERE guid <> '-'");
    let before = failures();
    let daemon = workspace.spawn(&["run"]);
    eventually("a poll of the daemon has failed", || failures() > before);
    assert_eq!(clock_condition(&workspace).as_deref(), Some("error"));
    assert_eq!(summaries(&file), 0);

    api.set_date_skew(0);
    let right = Instant::now();
    eventually("the days are delivered", || summaries(&file) == DAYS);
    assert!(right.elapsed() < RECOVERY, "{:?}", right.elapsed());
    assert_eq!(clock_condition(&workspace), None);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// A stored time that a poll could wait for.
struct StoredTime {
    name: &'static str,
    /// Moves the time by `SHIFT` milliseconds from `NOW`.
    statement: &'static str,
    /// A condition that is true after the poll, and only if the time was not waited for.
    outcome: &'static str,
}

/// The tenant was polled now, with success.
const IS_POLLED: &str = "(SELECT count(*) FROM tenant WHERE guid <> '-' AND failures = 0
    AND not_before IS NULL AND abs(last_attempt - NOW) < 120000
    AND abs(last_success - NOW) < 120000)";

const STORED_TIMES: &[StoredTime] = &[
    StoredTime {
        name: "last attempt",
        statement: "UPDATE tenant SET last_attempt = NOW + SHIFT WHERE guid <> '-'",
        outcome: IS_POLLED,
    },
    StoredTime {
        name: "last success",
        statement: "UPDATE tenant SET last_attempt = NOW + SHIFT, last_success = NOW + SHIFT
             WHERE guid <> '-'",
        outcome: IS_POLLED,
    },
    StoredTime {
        name: "last failed attempt",
        statement: "UPDATE tenant SET last_attempt = NOW + SHIFT, last_success = NOW + SHIFT,
             failures = 60, last_error = 'x', error_class = 'unavailable',
             failing_since = NOW + SHIFT WHERE guid <> '-'",
        outcome: IS_POLLED,
    },
    StoredTime {
        name: "Retry-After",
        statement: "UPDATE tenant SET failures = 1, last_error = 'x', not_before = NOW + SHIFT
             WHERE guid <> '-'",
        outcome: IS_POLLED,
    },
    // The day is older than those that every poll reads.
    StoredTime {
        name: "request of a missing day",
        statement: "INSERT OR REPLACE INTO missing (tenant, day, requests, last_requested)
             SELECT id, unixepoch() / 86400 - 10, 60, NOW + SHIFT FROM tenant WHERE guid <> '-'",
        outcome: "NOT EXISTS (SELECT 1 FROM missing WHERE day = unixepoch() / 86400 - 10
             AND abs(last_requested - NOW) > 120000)",
    },
];

/// Regression: after a clock had been 40 days ahead, nothing was polled until it had caught up.
#[test]
fn no_stored_time_is_waited_for() {
    let api = FaultyApi::new();
    let (workspace, file) = against(&api);
    workspace.run_ok(&["once"]);

    for StoredTime { name, statement, outcome } in STORED_TIMES {
        for (shift, command) in SHIFTS_AND_COMMANDS {
            // Without the stored time, a poll is due.
            let reset = "UPDATE tenant SET last_attempt = 0, last_success = 0 WHERE guid <> '-'";
            sql(&workspace, &format!("{reset}; {};", shifted(statement, *shift)));
            api.clear();

            let outcome = format!("SELECT {}", shifted(outcome, *shift));
            assert_outcome(&workspace, command, &format!("{name} {shift}"), || {
                api.requests().iter().any(|path| path.contains(SCORES))
                    && query(&workspace, &outcome) == 1
            });
        }
    }
    let entries = query(&workspace, "SELECT count(*) FROM entry WHERE kind = 1");
    assert_eq!(i64::try_from(summaries(&file)).unwrap(), entries, "nothing is repeated");
}

const DAY_MS: i64 = 86_400_000;
const SHIFTS_AND_COMMANDS: &[(i64, &str)] =
    &[(-40 * DAY_MS, "once"), (-40 * DAY_MS, "run"), (40 * DAY_MS, "once"), (40 * DAY_MS, "run")];

/// The statement for this shift in milliseconds.
fn shifted(statement: &str, shift: i64) -> String {
    statement.replace("NOW", "(unixepoch() * 1000)").replace("SHIFT", &format!("({shift})"))
}

/// Runs `once`, or the daemon until the outcome is there. The exit code of `once` is not examined.
fn assert_outcome(workspace: &Workspace, command: &str, name: &str, outcome: impl Fn() -> bool) {
    let case = format!("{name} {command}");
    if command == "once" {
        let run = workspace.run(&["once"]);
        assert!(outcome(), "{case}: {}", run.stderr);
    } else {
        let daemon = workspace.spawn(&["run"]);
        eventually(&case, outcome);
        daemon.signal("TERM");
        assert_eq!(daemon.end().code, 0, "{case}");
    }
}

/// A hold that began in the future was never over, if the API returned no new copy of the day.
#[test]
fn no_beginning_of_a_hold_is_waited_for() {
    let refused = || Fault::Respond(403, vec![], b"{}".to_vec());
    for (shift, command) in SHIFTS_AND_COMMANDS {
        let api = FaultyApi::new();
        let (workspace, file) = against(&api);
        api.fail(PROFILES, refused());
        assert_eq!(workspace.run(&["once"]).code, 1);
        assert_eq!(summaries(&file), 0);
        assert!(query(&workspace, "SELECT count(*) FROM held") > 0);

        let moved = "UPDATE held SET since = NOW + SHIFT, observed = NOW + SHIFT";
        sql(&workspace, &shifted(moved, *shift));
        api.fail(SCORES, refused()).fail(PROFILES, refused());
        assert_outcome(&workspace, command, &format!("hold {shift}"), || {
            query(&workspace, "SELECT count(*) FROM held") == 0 && summaries(&file) == DAYS
        });
    }
}

#[test]
fn no_backoff_of_a_domain_is_waited_for() {
    for (shift, command) in SHIFTS_AND_COMMANDS {
        let api = FaultyApi::new();
        let (mut workspace, file) = against(&api);
        workspace.tenants = vec![("contoso", "contoso.example")];
        api.fail("/openid-configuration", Fault::Respond(503, vec![], Vec::new()));
        assert_eq!(workspace.run(&["once"]).code, 1);
        assert_eq!(query(&workspace, "SELECT count(*) FROM unresolved_domain"), 1);

        let moved = "UPDATE unresolved_domain SET last_attempt = NOW + SHIFT,
             failing_since = NOW + SHIFT, not_before = NOW + SHIFT";
        sql(&workspace, &shifted(moved, *shift));
        assert_outcome(&workspace, command, &format!("domain {shift}"), || {
            query(&workspace, "SELECT count(*) FROM unresolved_domain") == 0
                && summaries(&file) == DAYS
        });
    }
}

/// After a digest in the future, all digests until then would be left out.
#[test]
fn no_digest_in_the_future_is_waited_for() {
    for command in ["once", "run"] {
        let api = FaultyApi::new();
        let (mut workspace, _) = against(&api);
        let url = workspace.secret("hook", "http://127.0.0.1:9/hook");
        // The digest is due too rarely to be sent by this test.
        let chat =
            format!("type = \"chat\"\nservice = \"slack\"\nurl = {url}\ndigest = \"0 0 29 2 *\"");
        workspace.sink("chat", &chat);
        workspace.run_ok(&["once"]);

        let ahead = "SELECT CAST(CAST(h.mark AS TEXT) AS INTEGER) > NOW + 60000
             FROM sink_host h JOIN sink s ON s.id = h.sink WHERE s.name = 'chat'";
        let is_ahead = || query(&workspace, &shifted(ahead, 0)) == 1;
        assert!(!is_ahead());
        let moved = "UPDATE sink_host SET mark = CAST(CAST(NOW + SHIFT AS TEXT) AS BLOB)
             WHERE sink = (SELECT id FROM sink WHERE name = 'chat')";
        sql(&workspace, &shifted(moved, 40 * DAY_MS));
        assert!(is_ahead());
        assert_outcome(&workspace, command, "digest", || !is_ahead());
    }
}

/// Bodies are pruned once per day; a day in the future must not delay that. The daemon prunes ten
/// minutes after its start, so only `once` is tested.
#[test]
fn no_pruning_in_the_future_is_waited_for() {
    let api = FaultyApi::new();
    let (workspace, _) = against(&api);
    workspace.run_ok(&["once"]);
    for days in [-40, 40] {
        let moved = format!("UPDATE meta SET value = date('now', '{days} days')");
        sql(&workspace, &format!("{moved} WHERE key = 'pruned'"));
        let is_today = "SELECT count(*) FROM meta WHERE key = 'pruned' AND value = date('now')";
        assert_eq!(query(&workspace, is_today), 0);
        workspace.run_ok(&["once"]);
        assert_eq!(query(&workspace, is_today), 1, "{days}");
    }
}

#[test]
fn removal_times_in_the_future_are_corrected() {
    let api = FaultyApi::new();
    let (mut workspace, _) = against(&api);
    workspace.run_ok(&["once"]);
    workspace.clear_sinks().file_sink("other");
    workspace.run_ok(&["once"]);

    let removed = "SELECT removed - unixepoch() * 1000 FROM sink WHERE name = 'siem'";
    sql(&workspace, "UPDATE sink SET removed = removed + 40 * 86400000 WHERE name = 'siem'");
    workspace.run_ok(&["once"]);
    assert!(query(&workspace, removed) < 60_000, "the time of the removal is corrected");
}
