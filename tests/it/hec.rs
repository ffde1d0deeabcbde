//! Splunk's collector, by its code table.

use crate::support::{
    Workspace, counts,
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
    let poisoned = records(&file).iter().filter(|r| r["control"]["id"] == "OneAdmin").count();
    assert_eq!(poisoned, 10);
    assert_eq!(workspace.status()["sinks"][0]["rejected"], 10);
    assert_eq!(hec.ids().len(), records(&file).len() - 10);
}

#[test]
fn too_many_refusals_are_no_dead_letters_but_a_fault() {
    let hec = Hec::new();
    let workspace = workspace(&hec, "");
    hec.poison("secure-score-forwarder/1");
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("the receiver refuses too many records"), "{}", run.stderr);
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
