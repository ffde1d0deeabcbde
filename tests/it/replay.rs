//! Replays, dead letters, and sinks that are added, renamed, removed or restricted.

use crate::support::{
    OTHER, Workspace, counts, eventually,
    faults::{Fault, FaultyApi},
    hec::{Hec, TOKEN},
    records, records_of_kinds,
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
    assert!(run.stderr.contains("3 days to be sent again"), "{}", run.stderr);
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
    assert!(run.stderr.contains("5 days to be sent again"), "{}", run.stderr);
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
fn dead_letters_are_listed_and_retried() {
    let hec = Hec::new();
    let mut workspace = workspace(5);
    let token = workspace.secret("hec-secret", TOKEN);
    workspace
        .sink("splunk", &format!("type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}", hec.url));
    let other = workspace.file_sink("other");
    let phases = || -> Vec<String> {
        let phase = |record: &serde_json::Value| {
            assert_eq!(record["quality"]["subject"], "splunk");
            record["quality"]["phase"].as_str().unwrap().to_owned()
        };
        records_of_kinds(&other, &["quality"]).iter().map(phase).collect()
    };

    hec.poison("\"id\":\"OneAdmin\"");
    workspace.run_ok(&["once"]);
    assert_eq!(phases(), ["begin"], "one observation, for the other sinks");
    let status = workspace.status();
    assert_eq!(status["sinks"][0]["dead_letters"], 5);
    let letters = status["dead_letters"].as_array().unwrap();
    assert!(letters.len() == 5 && letters[0]["reason"].as_str().unwrap().contains("Invalid data"));
    let shown = workspace.run(&["status"]).stdout;
    assert!(shown.contains("run `replay --sink NAME --rejected` to send them again"), "{shown}");

    // A retry that is rejected again changes nothing.
    let run = workspace.run_ok(&["replay", "--sink", "splunk", "--rejected"]);
    assert!(run.stderr.contains("5 dead letters to be sent again"), "{}", run.stderr);
    assert_eq!(workspace.status()["sinks"][0]["dead_letters"], 5);

    hec.poison("matches no record");
    let before = hec.ids().len();
    workspace.run_ok(&["replay", "--sink", "splunk", "--rejected"]);
    assert_eq!(hec.ids().len(), before + 5);
    assert_eq!(workspace.status()["sinks"][0]["dead_letters"], 0);
    workspace.run_ok(&["once"]);
    assert_eq!(phases(), ["begin", "end"]);
    let received = hec.received();
    let last = &received.events.last().unwrap()["event"];
    assert_eq!((&last["control"]["id"], &last["replayed"]), (&"OneAdmin".into(), &true.into()));
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

    std::fs::write(workspace.path("hec-secret"), "CANARY-5ecr3t-wrong").unwrap();
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
fn an_oversize_record_becomes_a_dead_letter() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let rsyslog = crate::support::rsyslog::Rsyslog::new();
    let section = |max: &str| {
        format!(
            "type = \"syslog\"\naddress = \"tcp://127.0.0.1:{}\"\nformat = \"json\"\nmax_message = \"{max}\"",
            rsyslog.tcp
        )
    };
    workspace.sink("siem", &section("8KiB"));
    api.fail(
        "/secureScores",
        Fault::Change(|text| {
            let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
            page["value"][0]["controlScores"][3]["implementationStatus"] =
                "long ".repeat(2_000).into();
            page.to_string()
        }),
    );
    workspace.run_ok(&["once"]);
    assert_eq!(workspace.status()["sinks"][0]["dead_letters"], 1);

    workspace.clear_sinks().sink("siem", &section("60KiB"));
    workspace.run_ok(&["replay", "--sink", "siem", "--rejected"]);
    assert_eq!(workspace.status()["sinks"][0]["dead_letters"], 0);
    eventually("the record has arrived", || {
        rsyslog.messages().iter().any(|m| m["msg"].as_str().unwrap().contains("long long long"))
    });
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
        rest.split(' ').next().unwrap().parse().unwrap()
    };

    workspace.run_ok(&["once"]);
    let sent = std::fs::read(workspace.path("new.cef")).unwrap();
    let (records, megabytes) = (records(&file).len() as f64, sent.len() as f64 / 1e6);
    assert!((number("about ") / records - 1.0).abs() < 0.05, "{line} {records}");
    assert!((number("records and ") / megabytes - 1.0).abs() < 0.1, "{line} {megabytes}");
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

/// Regression: a retry of many dead letters that were rejected again parked the sink, and was
/// repeated every five minutes.
#[test]
fn rejected_retries_do_not_park_the_sink() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let rsyslog = crate::support::rsyslog::Rsyslog::new();
    workspace.sink(
        "siem",
        &format!(
            "type = \"syslog\"\naddress = \"tcp://127.0.0.1:{}\"\nformat = \"json\"\nmax_message = \"8KiB\"",
            rsyslog.tcp
        ),
    );

    api.fail(
        "/secureScores",
        Fault::Change(|text| {
            let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
            for index in (0..100).step_by(4) {
                page["value"][0]["controlScores"][index]["implementationStatus"] =
                    "long ".repeat(2_000).into();
            }
            page.to_string()
        }),
    );

    workspace.run_ok(&["once"]);
    assert_eq!(workspace.status()["sinks"][0]["dead_letters"], 25);
    workspace.run_ok(&["replay", "--sink", "siem", "--rejected"]);
    assert_eq!(workspace.status()["sinks"][0]["dead_letters"], 25);
    workspace.run_ok(&["once"]);
}
