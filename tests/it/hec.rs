//! The HEC sink, against a receiver that follows Splunk's table of status codes.

use crate::support::{
    Workspace, counts, eventually,
    hec::{Hec, TOKEN},
    ids, records, without_observations,
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

    let received = hec.received();
    let local = records(&file);
    let events: Vec<_> = received.events.iter().map(|event| event["event"].clone()).collect();
    assert_eq!(events, local);

    let event = &received.events[0];
    assert_eq!(event["index"], "posture");
    assert_eq!(event["source"], "secure-score:contoso");
    assert_eq!(event["sourcetype"], "microsoft:securescore:control");
    assert_eq!(event["fields"]["event_id"], event["event"]["event_id"]);
    let day = event["event"]["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(event["time"].as_f64().unwrap() as i64, day.as_second());
    assert!(received.largest_body < 600 << 10);
}

#[test]
fn delivers_without_compression() {
    let hec = Hec::new();
    workspace(&hec, "gzip = false").run_ok(&["once"]);
    assert!(hec.ids().len() > 2_000);
}

#[test]
fn retries_when_the_collector_is_busy() {
    let hec = Hec::new();
    hec.respond_once(503, r#"{"text":"Server is busy","code":9}"#)
        .respond_once(429, "")
        .respond_once(500, "<html>");
    let workspace = workspace(&hec, "");
    workspace.run_ok(&["once"]);
    assert!(counts(hec.ids().iter().map(String::as_str)).values().all(|count| *count == 1));
}

#[test]
fn a_wrong_token_parks_only_this_sink() {
    let hec = Hec::new();
    let mut workspace = workspace(&hec, "");
    let file = workspace.file_sink("local");
    let valid = std::fs::read(workspace.path("hec-secret")).unwrap();
    std::fs::write(workspace.path("hec-secret"), "CANARY-5ecr3t-wrong").unwrap();
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    let message = "sink `splunk`: 0 records delivered, then stopped: the collector returned code 4: Invalid token";
    assert!(run.stderr.contains(message), "{}", run.stderr);
    assert!(run.stderr.contains("check the token"), "{}", run.stderr);
    assert_eq!(workspace.status()["sinks"][0]["backlog_entries"], 10);
    assert!(!records(&file).is_empty());

    std::fs::write(workspace.path("hec-secret"), valid).unwrap();
    workspace.run_ok(&["once"]);
    assert_eq!(hec.ids(), ids(&records(&file)).collect::<Vec<_>>());
}

#[test]
fn an_invalid_event_becomes_a_dead_letter() {
    let hec = Hec::new();
    let mut workspace = workspace(&hec, "");
    let file = workspace.file_sink("local");
    hec.poison("\"id\":\"OneAdmin\"");
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "dead letters make a run incomplete");
    assert!(!run.stderr.contains("parked"));

    let expected = without_observations(&file);
    let poisoned = expected.iter().filter(|r| r["control"]["id"] == "OneAdmin").count();
    assert_eq!(poisoned, 10);
    assert_eq!(workspace.status()["sinks"][0]["rejected"], 10);
    assert_eq!(hec.ids().len(), expected.len() - 10);
}

/// Regression: if a collector rejected every event of a small batch, each one became a dead letter.
#[test]
fn rejections_of_all_events_park_the_sink() {
    for extra in ["", "records = [\"summary\"]"] {
        let hec = Hec::new();
        let workspace = workspace(&hec, extra);
        hec.poison("secure-score-forwarder/1");
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        for text in ["sink parked", "code 6: Invalid data format", "rejects every event"] {
            assert!(run.stderr.contains(text), "{extra}: {text}: {}", run.stderr);
        }
        // The whole batch, and three of its events.
        assert_eq!(hec.received().requests, 4, "{extra}");

        let status = workspace.status();
        assert_eq!(
            (&status["sinks"][0]["rejected"], &status["sinks"][0]["backlog_entries"]),
            (&0.into(), &10.into()),
            "{extra}"
        );
    }
}

#[test]
fn halves_a_batch_that_is_too_large() {
    let hec = Hec::new();
    hec.max_body(100 << 10);
    let workspace = workspace(&hec, "");
    workspace.run_ok(&["once"]);
    assert!(hec.received().largest_body <= 100 << 10);
    assert!(counts(hec.ids().iter().map(String::as_str)).values().all(|count| *count == 1));
    assert_eq!(workspace.status()["sinks"][0]["rejected"], 0);
}

#[test]
fn keeps_the_backlog_while_the_collector_is_down() {
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
    let sink = |name: &str| {
        status["sinks"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone()
    };
    assert_eq!(
        (sink("splunk")["backlog_entries"].as_u64(), sink("down")["backlog_entries"].as_u64()),
        (Some(0), Some(10))
    );
    assert!(sink("down")["error"]["message"].is_string());
}

/// Asserts that every record of the file has arrived at least once and at most `max` times. Returns
/// the number of repeats.
fn assert_received(hec: &Hec, file: &std::path::Path, max: usize) -> usize {
    let received = counts(hec.ids().iter().map(String::as_str));
    let expected = records(file);
    assert_eq!(ids(&expected).filter(|id| !received.contains_key(*id)).count(), 0);
    assert!(received.values().all(|count| *count <= max));
    hec.ids().len() - expected.len()
}

const ACKNOWLEDGED: &str = "acknowledgement = true\nacknowledgement_timeout = \"2s\"";

#[test]
fn waits_for_acknowledgements_of_several_requests() {
    let hec = Hec::new();
    hec.acknowledge(3);
    let mut workspace = workspace(&hec, ACKNOWLEDGED);
    workspace.extra = "initial_backfill_days = 60".to_owned();
    let file = workspace.file_sink("local");

    workspace.run_ok(&["once"]);

    assert_eq!(assert_received(&hec, &file, 1), 0);
    let received = hec.received();
    assert!(
        received.accepted_requests > 10 && received.ack_polls < 3 * received.accepted_requests,
        "{}",
        received.ack_polls
    );
    assert_eq!(received.channels.len(), 1);
}

/// The collector returns an ackId if its token has indexer acknowledgement.
#[test]
fn uses_acknowledgement_if_the_token_supports_it() {
    let hec = Hec::new();
    hec.acknowledge(0);
    let mut workspace = workspace(&hec, "");
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    assert_eq!(assert_received(&hec, &file, 1), 0);
    assert!(hec.received().ack_polls > 0);
}

#[test]
fn resends_an_unacknowledged_request() {
    let hec = Hec::new();
    hec.acknowledge(0).never_acknowledge(1);
    let mut workspace = workspace(&hec, ACKNOWLEDGED);
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let repeated = assert_received(&hec, &file, 2);
    assert!((1..=1_000).contains(&repeated), "{repeated}");
    assert_eq!(hec.received().channels.len(), 2, "the old channel is replaced");
}

#[test]
fn nothing_is_delivered_without_an_acknowledgement() {
    let hec = Hec::new();
    hec.acknowledge(usize::MAX);
    let workspace = workspace(&hec, &ACKNOWLEDGED.replace("2s", "1s"));
    let mut daemon = workspace.spawn(&["run"]);
    eventually("the status reports the missing acknowledgement", || {
        let status = workspace.try_status().unwrap_or_default();
        let error = status["sinks"][0]["error"]["message"].as_str().unwrap_or_default();
        error.contains("were not acknowledged: the acknowledgement timed out")
    });
    assert!(daemon.is_running());
    assert_eq!(workspace.status()["sinks"][0]["sent"], 0);
    daemon.kill();
}

#[test]
fn resends_pending_requests_after_a_collector_restart() {
    let hec = Hec::new();
    hec.acknowledge(20);
    let mut workspace = workspace(&hec, &ACKNOWLEDGED.replace("2s", "10s"));
    let file = workspace.file_sink("local");
    let run = workspace.spawn(&["once"]);
    eventually("a request is pending", || hec.received().ack_polls > 2);
    hec.restart();
    let run = run.end();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_received(&hec, &file, 2);
}

#[test]
fn resends_pending_requests_to_another_node() {
    let hec = Hec::new();
    hec.acknowledge(20).set_cookie("NODE=one; Path=/");
    let mut workspace = workspace(&hec, &ACKNOWLEDGED.replace("2s", "10s"));
    let file = workspace.file_sink("local");
    let run = workspace.spawn(&["once"]);
    eventually("a request is pending", || hec.received().ack_polls > 2);
    // The second node sets a new cookie and has no pending requests.
    hec.switch_node("NODE=two; Path=/");
    let run = run.end();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_received(&hec, &file, 2);
    assert_eq!(hec.received().channels.len(), 2);
}

#[test]
fn a_token_without_required_acknowledgement_parks_the_sink() {
    let hec = Hec::new();
    let workspace = workspace(&hec, ACKNOWLEDGED);
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    for text in ["code 14: ACK is disabled", "enable indexer acknowledgement"] {
        assert!(run.stderr.contains(text), "{}", run.stderr);
    }
    assert!(hec.ids().is_empty(), "nothing was sent");
}

#[test]
fn uses_the_next_collector_when_one_is_down() {
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
    assert_eq!(assert_received(&hec, &file, 1), 0);

    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stdout.contains(&format!("sink `splunk`: `127.0.0.1:{down}`: ")), "{}", run.stdout);
}
