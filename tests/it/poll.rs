//! `poll`: polls through the daemon, and the log line at the end of an outage.

use crate::support::{
    OTHER, Run, Workspace, eventually,
    faults::{Fault, FaultyApi},
    summaries,
};

/// A workspace that reads three days from an API, and the path of its file sink.
fn against(api: &FaultyApi) -> (Workspace, std::path::PathBuf) {
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    (workspace, file)
}

fn response(status: u16, headers: &[(&'static str, &str)]) -> Fault {
    let mut all = vec![("content-type", "application/json".to_owned())];
    all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let body = br#"{"error":{"code":"AccessDenied","message":"no"}}"#;
    Fault::Respond(status, all, body.to_vec())
}

/// Waits until a poll of the first tenant has failed.
fn await_failure(workspace: &Workspace) {
    eventually("a poll has failed", || {
        workspace.try_status().is_some_and(|s| s["tenants"][0]["error"]["message"].is_string())
    });
}

#[test]
fn polls_the_selected_tenants_through_the_daemon() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.tenants.push(("fabrikam", OTHER));
    let file = workspace.file_sink("local");
    let run = workspace.run(&["poll"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("no daemon is running\n  hint: run `once`"), "{}", run.stderr);

    let daemon = workspace.spawn(&["run"]);
    eventually("the days of both tenants are delivered", || summaries(&file) == 6);
    let run = workspace.run_ok(&["poll", "--tenant", "fab*", "--json"]);
    assert!(run.stderr.contains("tenant `fabrikam`: 0 new days, newest `20"), "{}", run.stderr);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["complete"], true);
    let tenants = document["tenants"].as_array().unwrap();
    assert_eq!((tenants.len(), &tenants[0]["name"]), (1, &"fabrikam".into()));
    assert_eq!((&tenants[0]["state"], &tenants[0]["new_days"]), (&"complete".into(), &0.into()));

    let all = workspace.run_ok(&["poll"]).stderr;
    assert!(all.contains("tenant `contoso`") && all.contains("tenant `fabrikam`"), "{all}");
    assert!(all.contains("\npolls complete: 2 of 2 tenants\n"), "{all}");
    let unknown = workspace.run(&["poll", "--tenant", "unknown", "--json"]);
    assert_eq!(unknown.code, 2);
    let document: serde_json::Value = serde_json::from_str(&unknown.stdout).unwrap();
    assert_eq!(document["errors"][0]["message"], "the configuration has no tenant `unknown`");
    assert!(document["errors"][0]["hint"].is_string());
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// Regression: a failing tenant was printed among hundreds of lines, and there was no summary.
#[test]
fn incomplete_tenants_are_first_and_counted() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.tenants.push(("fabrikam", "bbbbbbbb-0000-4000-8000-00000000c0de"));
    workspace.file_sink("local");
    let assert_order = |run: &Run, summary: &str| {
        assert_eq!(run.code, 1, "{run:?}");
        let at = |text: &str| run.stderr.find(text).unwrap_or_else(|| panic!("{text}: {run:?}"));
        assert!(at("tenant `fabrikam`: ") < at("tenant `contoso`: "), "{}", run.stderr);
        assert!(at("tenant `contoso`: ") < at(summary), "{}", run.stderr);
    };

    let both = "polls complete: 1 of 2 tenants; deliveries complete: 1 of 1 sink\n";
    assert_order(&workspace.run(&["once"]), both);
    let polls = "polls complete: 1 of 2 tenants\n";
    assert_order(&workspace.run(&["backfill", "--days", "2"]), polls);

    let daemon = workspace.spawn(&["run"]);
    eventually("the daemon accepts commands", || {
        workspace.run(&["poll", "--tenant", "contoso"]).code == 0
    });
    assert_order(&workspace.run(&["poll"]), polls);
    let run = workspace.run(&["poll", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["tenants"][0]["name"], "fabrikam");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

#[test]
fn a_pause_that_microsoft_requests_is_respected() {
    let api = FaultyApi::new();
    let (workspace, _) = against(&api);
    api.fail("/secureScores", response(429, &[("retry-after", "600")]));
    let daemon = workspace.spawn(&["run"]);
    await_failure(&workspace);

    let requests = api.requests().len();
    let run = workspace.run(&["poll", "--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("Microsoft requested a pause of another "), "{}", run.stderr);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["tenants"][0]["state"], "paused");
    let seconds = document["tenants"][0]["retry_after_seconds"].as_u64().unwrap();
    assert!((300..=721).contains(&seconds), "{seconds}");
    assert_eq!(api.requests().len(), requests, "no request was sent");

    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

#[test]
fn the_end_of_failed_polls_is_logged_once() {
    let api = FaultyApi::new();
    let (workspace, file) = against(&api);
    api.fail("/secureScores", response(403, &[]));
    let daemon = workspace.spawn(&["run"]);
    await_failure(&workspace);

    // A reload keeps the beginning of the outage.
    workspace.run_ok(&["reload"]);
    eventually("the polls succeed again", || summaries(&file) == 3);
    workspace.run_ok(&["poll"]);
    daemon.signal("TERM");
    let log = daemon.end().stderr;
    let ends: Vec<&str> = log.lines().filter(|l| l.contains("polls succeed again")).collect();
    assert_eq!(ends.len(), 1, "{log}");
    assert!(ends[0].contains("outage=") && ends[0].contains("days=3"), "{log}");
}

/// Regression: a restart during an outage lost its beginning, so its end was not logged.
#[test]
fn an_outage_end_is_logged_after_a_restart() {
    let api = FaultyApi::new();
    let (mut workspace, file) = against(&api);
    let absent = workspace.path("absent");
    let parked = absent.join("records.jsonl").display().to_string();
    workspace.sink("parked", &format!("type = \"file\"\npath = \"{parked}\""));
    api.fail("/secureScores", response(403, &[]));
    let daemon = workspace.spawn(&["run"]);
    await_failure(&workspace);
    workspace.run_ok(&["poll"]);
    eventually("the sink is parked", || {
        let status = workspace.status();
        let sinks = status["sinks"].as_array().unwrap();
        sinks.iter().any(|sink| sink["name"] == "parked" && sink["failing_since"].is_string())
    });

    // The polls fail again, so that both outages begin before the restart.
    api.fail("/secureScores", response(403, &[]));
    assert_eq!(workspace.run(&["poll"]).code, 1);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);

    std::fs::create_dir(&absent).unwrap();
    let daemon = workspace.spawn(&["run"]);
    eventually("the polls succeed again", || workspace.run(&["poll"]).code == 0);
    eventually("everything is delivered", || {
        summaries(&file) == 3
            && summaries(&absent.join("records.jsonl")) == 3
            && workspace.is_delivered()
    });
    workspace.run_ok(&["poll"]);
    daemon.signal("TERM");
    let log = daemon.end().stderr;
    let ends: Vec<&str> = log.lines().filter(|line| line.contains("outage=")).collect();
    assert_eq!(ends.len(), 2, "{log}");
    for (end, subject) in
        [("polls succeed again", "tenant=\"contoso\""), ("sink recovered", "sink=\"parked\"")]
    {
        assert!(ends.iter().any(|line| line.contains(end) && line.contains(subject)), "{log}");
    }
}
