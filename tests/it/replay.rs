//! Replays, test records, and sinks that are added, renamed, removed or restricted.

use crate::support::{
    OTHER, Workspace, counts, eventually,
    hec::{Hec, TOKEN},
    records,
};

fn workspace(days: u32) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = format!("initial_backfill_days = {days}");
    workspace
}

fn day_of(record: &serde_json::Value) -> String {
    record["snapshot"]["date"].as_str().unwrap().to_owned()
}

#[test]
fn a_replay_repeats_days_with_the_same_ids() {
    let mut workspace = workspace(10);
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let before = records(&file);
    let days: std::collections::BTreeSet<String> = before.iter().map(day_of).collect();
    let (from, to) = (days.iter().nth(3).unwrap(), days.iter().nth(5).unwrap());

    let run = workspace.run_ok(&["replay", "--sink", "local", "--from", from, "--to", to]);
    assert!(run.stderr.contains("queued to be sent again: 3 days, about "), "{}", run.stderr);
    let after = records(&file);
    let replayed = &after[before.len()..];
    assert!(replayed.iter().all(|record| record["replayed"] == true));
    assert!(before.iter().all(|record| record.get("replayed").is_none()));
    let selected: Vec<_> = before.iter().filter(|r| (from..=to).contains(&&day_of(r))).collect();
    assert_eq!(replayed.len(), selected.len());
    assert!(replayed.iter().zip(selected).all(|(a, b)| a["event_id"] == b["event_id"]));
    assert_eq!(workspace.status()["replays"].as_array().unwrap().len(), 0);

    let none = ["replay", "--sink", "local", "--from", "2001-01-01", "--to", "2001-01-02"];
    let run = workspace.run_ok(&none);
    assert!(run.stderr.contains("no stored days in this range"), "{}", run.stderr);
    let run = workspace.run(&["replay", "--sink", "locl", "--from", from]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("no sink `locl`\n  hint: use one of: local"), "{}", run.stderr);
}

#[test]
fn a_replay_is_sent_to_the_daemon() {
    let mut workspace = workspace(5);
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    let summaries = || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.matches("\"kind\":\"summary\"").count()
    };
    eventually("the days are delivered", || summaries() == 5);
    let run = workspace.run_ok(&["replay", "--sink", "local", "--from", "2020-01-01"]);
    assert!(run.stderr.contains("queued to be sent again: 5 days, about "), "{}", run.stderr);
    eventually("the days are delivered twice", || summaries() == 10);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

#[test]
fn a_replay_is_resumed_after_a_crash() {
    let hec = Hec::new();
    let mut workspace = workspace(90);
    let token = workspace.secret("hec-secret", TOKEN);
    let section = format!("type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}", hec.url);
    workspace.sink("splunk", &section);
    workspace.run_ok(&["once"]);
    let whole = hec.ids().len();

    // The limited rate leaves time to kill the process during the replay.
    workspace.clear_sinks().sink("splunk", &format!("{section}\nmax_rate = 4000"));
    let process = workspace.spawn(&["replay", "--sink", "splunk", "--from", "2020-01-01"]);
    eventually("the replay has begun", || hec.ids().len() > whole + 2_000);
    process.kill();
    let left = workspace.status()["replays"][0]["entries_left"].as_u64().unwrap();
    assert!((1..90).contains(&left), "{left}");

    workspace.run_ok(&["once"]);
    let received = counts(hec.ids().iter().map(String::as_str));
    assert!(received.values().all(|count| (2..=3).contains(count)));
    let repeats = received.values().filter(|count| **count == 3).count();
    assert!(repeats <= 1_000, "{repeats}");
}

#[test]
fn a_replay_is_limited_to_the_selected_tenants() {
    let mut workspace = workspace(4);
    workspace.tenants.push(("fabrikam", OTHER));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let before = records(&file);

    let from = "2020-01-01";
    let all = ["replay", "--sink", "local", "--from", from, "--dry-run"];
    let run = workspace.run_ok(&all);
    assert!(run.stdout.starts_with("4 days × 2 tenants, about "), "{}", run.stdout);
    let run = workspace.run_ok(&[&all[..], &["--json"]].concat());
    let estimate: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&estimate["state"], &estimate["tenant_days"]), (&"estimated".into(), &8.into()));
    let ratio = |name: &str, exact: usize| estimate[name].as_f64().unwrap() / exact as f64;
    let size = std::fs::metadata(&file).unwrap().len() as usize;
    assert!((ratio("estimated_records", before.len()) - 1.0).abs() < 0.1, "{estimate}");
    assert!((ratio("estimated_bytes", size) - 1.0).abs() < 0.2, "{estimate}");
    assert_eq!(records(&file).len(), before.len(), "nothing was sent");
    assert_eq!(workspace.status()["replays"].as_array().unwrap().len(), 0);

    let some = ["replay", "--sink", "local", "--from", from, "--tenant", "fab*", "--json"];
    let run = workspace.run_ok(&some);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let replayed = records(&file).split_off(before.len());
    assert!(replayed.iter().all(|record| record["tenant"]["name"] == "fabrikam"));
    let of_fabrikam = before.iter().filter(|record| record["tenant"]["name"] == "fabrikam");
    assert_eq!(replayed.len(), of_fabrikam.count());
    assert_eq!(report["records_delivered"], replayed.len());
    assert_eq!((&report["state"], &report["tenants"]), (&"delivered".into(), &1.into()));

    let run = workspace.run(&["replay", "--sink", "local", "--from", from, "--tenant", "unknown"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("no tenant `unknown`\n  hint: use one of: "), "{}", run.stderr);
}

/// A tenant that the sink does not receive cannot be replayed to it.
#[test]
fn a_replay_to_the_wrong_sink_is_rejected() {
    let mut workspace = workspace(2);
    workspace.tenants.push(("fabrikam", OTHER));
    let path = workspace.path("one").display().to_string();
    workspace.sink("one", &format!("type = \"file\"\npath = \"{path}\"\ntenants = [\"contoso\"]"));
    workspace.run_ok(&["once"]);
    for dry_run in [None, Some("--dry-run")] {
        let mut replay =
            vec!["replay", "--sink", "one", "--from", "2020-01-01", "--tenant", "fabrikam"];
        replay.extend(dry_run);
        let run = workspace.run(&replay);
        assert_eq!(run.code, 2, "{}", run.stderr);
        let message = "sink `one` does not receive the selected tenants\n  hint: ";
        assert!(run.stderr.contains(message), "{}", run.stderr);
    }
}

#[test]
fn test_sink_sends_a_marked_record() {
    let hec = Hec::new();
    hec.acknowledge(1);
    let mut workspace = workspace(2);
    let token = workspace.secret("hec-secret", TOKEN);
    workspace.sink(
        "splunk",
        &format!(
            "type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}\nacknowledgement = true",
            hec.url
        ),
    );
    let run = workspace.run_ok(&["test-sink", "splunk"]);
    assert!(
        run.stdout.contains("acknowledgement: the indexer acknowledged the record"),
        "{}",
        run.stdout
    );
    {
        let received = hec.received();
        let event = &received.events[0]["event"];
        assert!(run.stdout.contains(event["event_id"].as_str().unwrap()));
        assert_eq!(event["tenant"]["name"], "test");
        assert_eq!(event["control"]["id"], "secure-score-forwarder-test");
    }

    let run = workspace.run_ok(&["test-sink", "splunk", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&report["delivered"], &report["error"]), (&true.into(), &().into()));
    assert_eq!(report["event_id"], hec.received().events[1]["event"]["event_id"]);

    std::fs::write(workspace.path("hec-secret"), "CANARY-5ecr3t-wrong").unwrap();
    let run = workspace.run(&["test-sink", "splunk", "--json"]);
    assert_eq!(run.code, 2);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["delivered"], false);
    assert!(report["error"]["message"].as_str().unwrap().contains("returned code 4"), "{report}");
    let run = workspace.run(&["test-sink", "splunk"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("sink `splunk`: the collector returned code 4"), "{}", run.stderr);
    assert_eq!(workspace.run(&["test-sink", "spunk"]).code, 2);
    assert!(!workspace.state().join("checkpoint.db").exists(), "no checkpoint is needed");
}

#[test]
fn a_renamed_sink_keeps_its_cursors() {
    let mut workspace = workspace(5);
    let file = workspace.file_sink("old");
    workspace.run_ok(&["once"]);
    let before = records(&file).len();
    let section = format!("type = \"file\"\npath = \"{}\"", file.display());
    workspace.clear_sinks().sink("new", &format!("{section}\nrenamed_from = \"old\""));
    // The second run also succeeds, because the key may stay in the configuration.
    for _ in 0..2 {
        let run = workspace.run_ok(&["once"]);
        assert!(run.stderr.contains("sink `new`: 0 records delivered"), "{}", run.stderr);
    }
    assert_eq!(records(&file).len(), before);
    assert_eq!(workspace.status()["sinks"].as_array().unwrap().len(), 1);
}

#[test]
fn dropping_a_backlog_requires_a_key() {
    let mut workspace = workspace(3);
    let file = workspace.file_sink("local");
    let down =
        format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{}\"", crate::support::free_port());
    workspace.sink("siem", &down);
    assert_eq!(workspace.run(&["once"]).code, 1);
    workspace.clear_sinks().file_sink("local");
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("sink `siem` is no longer configured, but has 3 unsent log entries"),
        "{}",
        run.stderr
    );

    workspace.sink("siem", &format!("{down}\ndiscard_backlog = true"));
    workspace.run_ok(&["once"]);
    workspace.clear_sinks().file_sink("local");
    workspace.run_ok(&["once"]);
    assert_eq!(workspace.status()["sinks"].as_array().unwrap().len(), 1);
    assert!(!records(&file).is_empty());
}

#[test]
fn a_sink_receives_only_its_selection() {
    let mut workspace = workspace(3);
    workspace.tenants.push(("fabrikam", OTHER));
    let all = workspace.file_sink("all");
    let paths: Vec<_> = ["one", "id", "identity", "some"].map(|n| workspace.path(n)).to_vec();
    let mut sink = |index: usize, name: &str, extra: &str| {
        let path = paths[index].display().to_string();
        workspace.sink(name, &format!("type = \"file\"\npath = \"{path}\"\n{extra}"));
    };
    sink(0, "one", "tenants = [\"fab*\"]");
    sink(1, "id", &format!("tenants = [\"{OTHER}\"]"));
    sink(2, "identity", "categories = [\"identity\"]\nrecords = [\"control\"]");
    sink(3, "some", "control_ids = [\"*mfa*\"]\nmax_rate = 1000");
    workspace.run_ok(&["once"]);
    let stored = |index: usize| records(&paths[index]);
    let every = records(&all);

    let fabrikam = every.iter().filter(|r| r["tenant"]["id"] == OTHER).cloned().collect::<Vec<_>>();
    assert_eq!((stored(0), stored(1)), (fabrikam.clone(), fabrikam));
    let found = stored(2);
    assert!(!found.is_empty() && found.iter().all(|r| r["control"]["category"] == "Identity"));

    let some = stored(3);
    let summaries = some.iter().filter(|r| r["kind"] == "summary");
    let controls = some.iter().filter(|r| r["kind"] == "control");
    assert!(controls.clone().count() > 0);
    assert!(
        controls
            .clone()
            .all(|r| { r["control"]["id"].as_str().unwrap().to_ascii_lowercase().contains("mfa") })
    );
    // A summary states the number of records of its day that were sent to its sink.
    let sent: u64 = summaries.map(|r| r["score"]["records_sent"].as_u64().unwrap()).sum();
    assert_eq!(sent, some.len() as u64);
    assert!(workspace.is_delivered());
}

/// `controls = "changed"` sends the controls that differ from the previous day, all controls once a
/// week, and every summary.
#[test]
fn sends_only_changed_controls() {
    let mut workspace = workspace(30);
    let all = workspace.file_sink("all");
    let changed = workspace.path("changed");
    workspace.sink(
        "changed",
        &format!("type = \"file\"\npath = \"{}\"\ncontrols = \"changed\"", changed.display()),
    );
    workspace.run_ok(&["once"]);
    let (every, changed) = (records(&all), records(&changed));
    let summaries = |records: &[serde_json::Value]| {
        records.iter().filter(|r| r["kind"] == "summary").map(day_of).collect::<Vec<_>>()
    };
    assert_eq!(summaries(&every), summaries(&changed));

    let mut full_days = 0;
    let mut last: std::collections::HashMap<String, (serde_json::Value, serde_json::Value)> =
        Default::default();
    for day in summaries(&every) {
        let controls_of = |records: &[serde_json::Value]| -> Vec<serde_json::Value> {
            let is_selected = |r: &&serde_json::Value| r["kind"] == "control" && day_of(r) == day;
            records.iter().filter(is_selected).cloned().collect()
        };
        let (controls, sent) = (controls_of(&every), controls_of(&changed));
        let sent_ids: Vec<&str> =
            sent.iter().map(|r| r["control"]["id"].as_str().unwrap()).collect();
        if sent.len() == controls.len() {
            full_days += 1;
        }
        for control in &controls {
            let id = control["control"]["id"].as_str().unwrap().to_owned();
            let facts =
                (control["control"]["score"].clone(), control["control"]["percentage"].clone());
            let differs =
                last.insert(id.clone(), facts.clone()).is_none_or(|before| before != facts);
            if differs {
                assert!(sent_ids.contains(&id.as_str()), "{day} {id}");
            }
        }
    }
    assert!((5..=6).contains(&full_days), "{full_days}");
    assert!(changed.len() < every.len() / 3, "{} of {}", changed.len(), every.len());
}

#[test]
fn check_estimates_the_backlog_of_a_new_sink() {
    let mut workspace = workspace(20);
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let output = workspace.run_ok(&["check"]).stdout;
    assert!(!output.contains("will receive"), "{output}");

    let path = workspace.path("new.cef").display().to_string();
    workspace.sink("new", &format!("type = \"file\"\npath = \"{path}\"\nformat = \"cef\""));
    let output = workspace.run_ok(&["check"]).stdout;
    let line = output.lines().find(|line| line.starts_with("sink `new` is new")).unwrap_or(&output);
    assert!(line.contains("will receive 20 days, about "), "{output}");
    let number = |after: &str| -> f64 {
        let rest = line.split(after).nth(1).unwrap().trim_start();
        rest.split(' ').next().unwrap().replace(',', "").parse().unwrap()
    };

    workspace.run_ok(&["once"]);
    let sent = std::fs::read(workspace.path("new.cef")).unwrap();
    let (records, megabytes) = (records(&file).len() as f64, sent.len() as f64 / 1e6);
    assert!((number("about ") / records - 1.0).abs() < 0.05, "{line} {records}");
    assert!((number("records, ") / megabytes - 1.0).abs() < 0.1, "{line} {megabytes}");
}

/// Regression: the days of all tenants were added up and shown as days.
#[test]
fn estimates_state_days_and_tenants() {
    let mut workspace = workspace(3);
    workspace.tenants.push(("fabrikam", OTHER));
    workspace.file_sink("local");
    workspace.run_ok(&["once"]);

    workspace.file_sink("new");
    let output = workspace.run_ok(&["check"]).stdout;
    let line = "sink `new` is new and will receive 3 days × 2 tenants, about ";
    assert!(output.contains(line), "{output}");
    let document: serde_json::Value =
        serde_json::from_str(&workspace.run_ok(&["check", "--json"]).stdout).unwrap();
    let estimate = &document["estimates"][0];
    let numbers = ["days", "tenants", "tenant_days"].map(|member| estimate[member].as_u64());
    assert_eq!(numbers, [Some(3), Some(2), Some(6)], "{estimate}");
}

/// Regression: a replay sent days of a tenant that the sink no longer selected.
#[test]
fn a_replay_respects_the_current_selection() {
    let mut workspace = workspace(3);
    workspace.tenants.push(("fabrikam", OTHER));
    let folder = workspace.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("local.jsonl");
    let section = format!("type = \"file\"\npath = \"{}\"", file.display());
    workspace.sink("local", &section);
    workspace.run_ok(&["once"]);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_ne!(workspace.run(&["replay", "--sink", "local", "--from", "2020-01-01"]).code, 0);
    assert_eq!(workspace.status()["replays"].as_array().unwrap().len(), 1);

    workspace.clear_sinks().sink("local", &format!("{section}\ntenants = [\"contoso\"]"));
    std::fs::create_dir(&folder).unwrap();
    workspace.run_ok(&["once"]);
    let replayed = records(&file);
    assert!(!replayed.is_empty() && replayed.iter().all(|r| r["tenant"]["name"] == "contoso"));
    assert_eq!(workspace.status()["replays"].as_array().unwrap().len(), 0, "the replay has ended");
}

/// Regression: the conflict was detected only after other changes had been applied.
#[test]
fn a_sink_cannot_take_an_existing_name() {
    let mut workspace = workspace(3);
    workspace.file_sink("old");
    workspace.file_sink("new");
    workspace.run_ok(&["once"]);

    let file = workspace.path("new.jsonl");
    let section = format!("type = \"file\"\npath = \"{}\"", file.display());
    workspace.clear_sinks().sink("new", &format!("{section}\nrenamed_from = \"old\""));
    workspace.file_sink("third");
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("cannot rename sink `old` to `new`"), "{}", run.stderr);
    assert_eq!(workspace.status()["sinks"].as_array().unwrap().len(), 2, "nothing was changed");
}

/// Regression: with a limit that is too small for any record, every record became a dead letter.
#[test]
fn unencodable_records_park_the_sink() {
    let mut workspace = workspace(3);
    let rsyslog = crate::support::rsyslog::Rsyslog::new();
    let section = |max: &str| {
        format!(
            "type = \"syslog\"\naddress = \"tcp://127.0.0.1:{}\"\nformat = \"json\"\nmax_message = \"{max}\"",
            rsyslog.tcp
        )
    };
    workspace.sink("siem", &section("1KiB"));
    let run = workspace.run(&["once"]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("records for this sink: "), "{}", run.stderr);
    let sink = workspace.status()["sinks"][0].clone();
    assert_eq!((&sink["dead_letters"], &sink["sent"]), (&0.into(), &0.into()));

    workspace.clear_sinks().sink("siem", &section("60KiB"));
    workspace.run_ok(&["once"]);
    let sink = workspace.status()["sinks"][0].clone();
    assert_eq!((&sink["dead_letters"], &sink["backlog_entries"]), (&0.into(), &0.into()));
}
