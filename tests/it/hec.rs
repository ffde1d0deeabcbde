//! Splunk's collector, by its code table.

use crate::support::{
    Workspace, but_quality, counts, eventually,
    hec::{Hec, TOKEN},
    ids, records,
};

fn workspace(hec: &Hec, extra: &str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 10".to_owned();
    let token = workspace.secret("hec-secret", TOKEN);
    workspace.sink(
        "splunk",
        &format!("type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}\n{extra}", hec.url),
    );
    workspace
}

#[test]
fn delivers_envelopes_with_the_canonical_record() {
    let hec = Hec::new();
    let mut workspace = workspace(&hec, "index = \"posture\"");
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let taken = hec.taken();
    let local = records(&file);
    let events: Vec<_> = taken.events.iter().map(|event| event["event"].clone()).collect();
    assert_eq!(events, local);
    let event = &taken.events[0];
    assert_eq!(event["index"], "posture");
    assert_eq!(event["source"], "secure-score:contoso");
    assert_eq!(event["sourcetype"], "microsoft:securescore:control");
    assert_eq!(event["fields"]["event_id"], event["event"]["event_id"]);
    let day = event["event"]["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(event["time"].as_f64().unwrap() as i64, day.as_second());
    assert!(taken.largest < 600 << 10);
}

#[test]
fn without_gzip_the_same() {
    let hec = Hec::new();
    workspace(&hec, "gzip = false").run_ok(&["once"]);
    assert!(hec.ids().len() > 2_000);
}

#[test]
fn busy_is_tried_again() {
    let hec = Hec::new();
    hec.answer(503, r#"{"text":"Server is busy","code":9}"#).answer(429, "").answer(500, "<html>");
    let workspace = workspace(&hec, "");
    workspace.run_ok(&["once"]);
    assert!(counts(hec.ids().iter().map(String::as_str)).values().all(|count| *count == 1));
}

#[test]
fn a_wrong_token_parks_the_sink_keeps_its_backlog_and_stops_no_other() {
    let hec = Hec::new();
    let mut workspace = workspace(&hec, "");
    let file = workspace.file_sink("local");
    let right = std::fs::read(workspace.path("hec-secret")).unwrap();
    std::fs::write(workspace.path("hec-secret"), "CANARY-5ecr3t-wrong").unwrap();
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("sink splunk: 0 records delivered, then: the collector answered 4 \"Invalid token\": check the token"), "{}", run.stderr);
    assert_eq!(workspace.status()["sinks"][0]["backlog_days"], 10);
    assert!(!records(&file).is_empty());
    std::fs::write(workspace.path("hec-secret"), right).unwrap();
    workspace.run_ok(&["once"]);
    assert_eq!(hec.ids(), ids(&records(&file)).collect::<Vec<_>>());
}

#[test]
fn the_event_that_is_named_becomes_a_dead_letter() {
    let hec = Hec::new();
    let mut workspace = workspace(&hec, "");
    let file = workspace.file_sink("local");
    hec.poison("\"id\":\"OneAdmin\"");
    let run = workspace.run_ok(&["once"]);
    assert!(!run.stderr.contains("parked"));
    let poisoned = but_quality(&file).iter().filter(|r| r["control"]["id"] == "OneAdmin").count();
    assert_eq!(poisoned, 10);
    assert_eq!(workspace.status()["sinks"][0]["rejected"], 10);
    assert_eq!(hec.ids().len(), but_quality(&file).len() - 10);
}

#[test]
fn too_many_refusals_are_no_dead_letters_but_a_fault() {
    let hec = Hec::new();
    let workspace = workspace(&hec, "");
    hec.poison("secure-score-forwarder/1");
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("the receiver rejects too many records"), "{}", run.stderr);
    let status = workspace.status();
    assert_eq!(
        (&status["sinks"][0]["rejected"], &status["sinks"][0]["backlog_days"]),
        (&0.into(), &10.into())
    );
}

#[test]
fn a_batch_too_large_is_halved() {
    let hec = Hec::new();
    hec.max_body(100 << 10);
    let workspace = workspace(&hec, "");
    workspace.run_ok(&["once"]);
    assert!(hec.taken().largest <= 100 << 10);
    assert!(counts(hec.ids().iter().map(String::as_str)).values().all(|count| *count == 1));
    assert_eq!(workspace.status()["sinks"][0]["rejected"], 0);
}

#[test]
fn a_collector_that_is_down_keeps_the_backlog() {
    let hec = Hec::new();
    let mut workspace = workspace(&hec, "");
    workspace.sink(
        "down",
        &format!(
            "type = \"splunk_hec\"\nurl = \"http://127.0.0.1:{}\"\ntoken = {{ file = \"{}\" }}",
            crate::support::free_port(),
            workspace.path("hec-secret").display()
        ),
    );
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    let status = workspace.status();
    let of = |name: &str| {
        status["sinks"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone()
    };
    assert_eq!(
        (of("splunk")["backlog_days"].as_u64(), of("down")["backlog_days"].as_u64()),
        (Some(0), Some(10))
    );
    assert!(of("down")["last_error"].is_string());
}

/// Every event of the file, each so often at most.
fn assert_taken(hec: &Hec, file: &std::path::Path, most: usize) -> usize {
    let got = counts(hec.ids().iter().map(String::as_str));
    let expected = records(file);
    assert_eq!(ids(&expected).filter(|id| !got.contains_key(*id)).count(), 0);
    assert!(got.values().all(|count| *count <= most));
    hec.ids().len() - expected.len()
}

const ACKNOWLEDGED: &str = "acknowledgement = true\nacknowledgement_timeout = \"2s\"";

#[test]
fn acknowledged_late_and_with_several_requests_on_their_way() {
    let hec = Hec::new();
    hec.acknowledge(3);
    let mut workspace = workspace(&hec, ACKNOWLEDGED);
    workspace.extra = "initial_backfill_days = 60".to_owned();
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    assert_eq!(assert_taken(&hec, &file, 1), 0);
    let taken = hec.taken();
    assert!(taken.accepted > 10 && taken.questions < 3 * taken.accepted, "{}", taken.questions);
    assert_eq!(taken.channels.len(), 1);
}

/// Without being told: the token's answer says so.
#[test]
fn acknowledgement_is_used_where_the_token_has_it() {
    let hec = Hec::new();
    hec.acknowledge(0);
    let mut workspace = workspace(&hec, "");
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    assert_eq!(assert_taken(&hec, &file, 1), 0);
    assert!(hec.taken().questions > 0);
}

#[test]
fn an_acknowledgement_that_never_comes_sends_that_request_again() {
    let hec = Hec::new();
    hec.acknowledge(0).forget(1);
    let mut workspace = workspace(&hec, ACKNOWLEDGED);
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let repeated = assert_taken(&hec, &file, 2);
    assert!((1..=1_000).contains(&repeated), "{repeated}");
    assert_eq!(hec.taken().channels.len(), 2, "the old channel is given up");
}

#[test]
fn a_collector_that_never_acknowledges_has_delivered_nothing() {
    let hec = Hec::new();
    hec.acknowledge(usize::MAX);
    let workspace = workspace(&hec, &ACKNOWLEDGED.replace("2s", "1s"));
    let mut daemon = workspace.spawn(&["run"]);
    eventually("somebody hears of it", || {
        let status = workspace.try_status().unwrap_or_default();
        let error = status["sinks"][0]["last_error"].as_str().unwrap_or_default();
        error.contains("were not acknowledged: the time for it is over")
    });
    assert!(daemon.is_running());
    assert_eq!(workspace.status()["sinks"][0]["sent"], 0);
    daemon.kill();
}

#[test]
fn a_collector_that_restarts_forgets_its_promises() {
    let hec = Hec::new();
    hec.acknowledge(20);
    let mut workspace = workspace(&hec, &ACKNOWLEDGED.replace("2s", "10s"));
    let file = workspace.file_sink("local");
    let run = workspace.spawn(&["once"]);
    eventually("something is promised", || hec.taken().questions > 2);
    hec.restart();
    let run = run.end();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_taken(&hec, &file, 2);
}

#[test]
fn another_node_behind_the_load_balancer_knows_nothing_of_the_first_ones_promises() {
    let hec = Hec::new();
    hec.acknowledge(20).cookie("NODE=one; Path=/");
    let mut workspace = workspace(&hec, &ACKNOWLEDGED.replace("2s", "10s"));
    let file = workspace.file_sink("local");
    let run = workspace.spawn(&["once"]);
    eventually("something is promised", || hec.taken().questions > 2);
    // From the cookie on it is the second node that answers, and it has promised nothing.
    hec.another_node("NODE=two; Path=/");
    let run = run.end();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_taken(&hec, &file, 2);
    assert_eq!(hec.taken().channels.len(), 2);
}

#[test]
fn a_token_without_acknowledgement_parks_a_sink_that_demands_it() {
    let hec = Hec::new();
    let workspace = workspace(&hec, ACKNOWLEDGED);
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("14 \"ACK is disabled\": enable indexer acknowledgement"),
        "{}",
        run.stderr
    );
    assert!(hec.ids().is_empty(), "nothing was sent");
}

#[test]
fn the_next_collector_takes_over_from_one_that_is_down() {
    let hec = Hec::new();
    hec.acknowledge(0);
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 10".to_owned();
    let token = workspace.secret("hec-secret", TOKEN);
    let down = crate::support::free_port();
    workspace.sink(
        "splunk",
        &format!(
            "type = \"splunk_hec\"\nurls = [\"http://127.0.0.1:{down}\", \"{}\"]\ntoken = {token}\n{ACKNOWLEDGED}",
            hec.url
        ),
    );
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    assert_eq!(assert_taken(&hec, &file, 1), 0);
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stdout.contains(&format!("sink splunk: 127.0.0.1:{down}: ")), "{}", run.stdout);
}
