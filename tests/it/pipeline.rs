//! From the API to a file with `once`, and the commands that read the result.

use std::collections::HashSet;

use crate::support::{OTHER, TENANT, Workspace, counts, ids, records};

#[test]
fn delivers_ninety_days_exactly_once() {
    let mut workspace = Workspace::new();
    let file = workspace.file_sink("local");
    let first = workspace.run_ok(&["once"]);
    assert!(first.stderr.contains("tenant `contoso`: 90 new days"), "{}", first.stderr);
    let streamed = records(&file);
    assert!(counts(ids(&streamed)).values().all(|count| *count == 1));
    let days: Vec<&str> =
        summaries(&streamed).map(|r| r["snapshot"]["date"].as_str().unwrap()).collect();
    assert_eq!(days.len(), 90);
    assert!(days.is_sorted(), "oldest first");

    let second = workspace.run_ok(&["once"]);
    assert!(second.stderr.contains("tenant `contoso`: 0 new days"), "{}", second.stderr);
    assert!(second.stderr.contains("sink `local`: 0 records delivered"), "{}", second.stderr);
    assert_eq!(records(&file).len(), streamed.len());
}

#[test]
fn summaries_state_the_number_of_records() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let streamed = records(&file);
    for summary in summaries(&streamed) {
        let day = &summary["snapshot"]["date"];
        let count = streamed.iter().filter(|r| r["snapshot"]["date"] == *day).count();
        assert_eq!(summary["score"]["records_sent"].as_u64().unwrap() as usize, count);
        let controls =
            streamed.iter().filter(|r| r["snapshot"]["date"] == *day && r["kind"] == "control");
        let sum: f64 = controls.map(|r| r["control"]["score"].as_f64().unwrap()).sum();
        assert!((summary["score"]["sum_of_controls"].as_f64().unwrap() - sum).abs() < 0.01);
    }
}

#[test]
fn every_record_matches_the_schema() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5\n[tenants.labels]\ncustomer = \"c-17\"".to_owned();
    let file = workspace.file_sink("local");
    workspace.sink(
        "full",
        &format!(
            "type = \"file\"\npath = \"{}\"\ntexts = \"full\"",
            workspace.path("full.jsonl").display()
        ),
    );
    workspace.run_ok(&["once"]);

    let validator = workspace.record_validator();
    let streamed = [records(&file), records(&workspace.path("full.jsonl"))].concat();
    for record in &streamed {
        validator.validate(record).unwrap_or_else(|error| panic!("{error}: {record}"));
        assert_eq!(record["tenant"]["labels"]["customer"], "c-17");
    }
    let newest = streamed.iter().rev().find(|r| r["kind"] == "control").unwrap();
    assert!(newest["control"]["description"].is_string() && newest["control"]["state"].is_string());
}

#[test]
fn a_rebuilt_checkpoint_has_the_same_ids() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 10".to_owned();
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let before: HashSet<String> = ids(&records(&file)).map(str::to_owned).collect();

    std::fs::remove_dir_all(workspace.state()).unwrap();
    std::fs::remove_file(&file).unwrap();
    workspace.run_ok(&["once"]);
    let after: HashSet<String> = ids(&records(&file)).map(str::to_owned).collect();
    assert_eq!(before, after);
}

#[test]
fn a_lost_database_causes_no_repeats() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 10".to_owned();
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let before = records(&file).len();
    for name in ["checkpoint.db", "checkpoint.db-wal", "checkpoint.db-shm"] {
        let _ = std::fs::remove_file(workspace.state().join(name));
    }
    let lost = workspace.run(&["once"]);
    assert_eq!(lost.code, 3, "{}", lost.stderr);
    assert!(lost.stderr.contains("but `cursors.json` contains its cursors"), "{}", lost.stderr);

    workspace.run_ok(&["state", "repair"]);
    let run = workspace.run_ok(&["once"]);
    assert!(run.stderr.contains("10 new days"), "{}", run.stderr);
    assert_eq!(records(&file).len(), before);
}

#[test]
fn a_new_sink_receives_history_from_its_start() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 10".to_owned();
    let old = workspace.file_sink("old");
    workspace.run_ok(&["once"]);
    let days: Vec<String> = summaries(&records(&old))
        .map(|r| r["snapshot"]["date"].as_str().unwrap().to_owned())
        .collect();

    let new = workspace.file_sink("new");
    workspace.sink(
        "bounded",
        &format!(
            "type = \"file\"\npath = \"{}\"\nstart_from = \"{}\"",
            workspace.path("b.jsonl").display(),
            days[7]
        ),
    );
    workspace.run_ok(&["once"]);
    assert_eq!(records(&new), records(&old));
    assert_eq!(summaries(&records(&workspace.path("b.jsonl"))).count(), 3);
}

#[test]
fn selects_records_by_kind() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let path = workspace.path("s.jsonl");
    workspace.sink(
        "s",
        &format!("type = \"file\"\npath = \"{}\"\nrecords = [\"summary\"]", path.display()),
    );
    workspace.run_ok(&["once"]);
    let streamed = records(&path);
    assert_eq!(streamed.len(), 3);
    assert!(streamed.iter().all(|r| r["score"]["records_sent"] == 1));
}

#[test]
fn stdout_contains_only_records() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.sink("pipe", "type = \"stdout\"");
    let run = workspace.run_ok(&["once"]);
    assert!(run.stdout.lines().count() > 600);
    assert!(run.stdout.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn backfill_adds_older_days() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);

    let run = workspace.run_ok(&["backfill", "--days", "30"]);
    assert!(run.stderr.contains("tenant `contoso`: 25 new days"), "{}", run.stderr);
    workspace.run_ok(&["once"]);
    let streamed = records(&file);
    let late = summaries(&streamed)
        .filter(|r| r["snapshot"]["late"] == true && r["snapshot"]["backfilled"] == true)
        .count();
    assert_eq!((summaries(&streamed).count(), late), (30, 25));
    assert_eq!(workspace.run(&["backfill", "--days", "91"]).code, 2);
    assert_eq!(workspace.run(&["backfill", "--days", "3", "--tenant", "unknown"]).code, 2);
}

#[test]
fn status_prints_text_and_json() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.file_sink("local");
    assert_eq!(workspace.run(&["status"]).code, 3, "without a checkpoint");
    workspace.run_ok(&["once"]);
    let status = workspace.status();
    assert_eq!(status["tenants"][0]["days"], 3);
    assert_eq!(status["sinks"][0]["backlog_entries"], 0);
    let text = workspace.run_ok(&["status"]).stdout;
    assert!(
        text.contains("contoso") && text.contains("local") && text.contains("no daemon is running"),
        "{text}"
    );
}

#[test]
fn fetch_prints_all_formats() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let fetch = |output: &str, days: &str| {
        workspace.run_ok(&["fetch", "--days", days, "--output", output]).stdout
    };
    let jsonl = fetch("jsonl", "2");
    assert_eq!(
        summaries(&jsonl.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<_>>())
            .count(),
        2
    );

    let list: Vec<serde_json::Value> = serde_json::from_str(&fetch("json", "1")).unwrap();
    assert_eq!(summaries(&list).count(), 1);

    let raw = fetch("raw", "9");
    assert_eq!(raw.lines().count(), 9);
    let newest: serde_json::Value = serde_json::from_str(raw.lines().next().unwrap()).unwrap();
    assert_eq!(newest["azureTenantId"], TENANT);

    let csv = fetch("csv", "1");
    assert!(csv.starts_with("tenant,day,control,") && csv.lines().count() == list.len() + 1);
    assert!(fetch("table", "1").contains("AdminMFAV2"));
    assert!(!workspace.state().exists(), "fetch stores nothing");
    assert_eq!(workspace.run(&["fetch", "--days", "0"]).code, 2);
}

#[test]
fn a_domain_is_resolved_and_stored() {
    let mut workspace = Workspace::new();
    let file = workspace.file_sink("local");
    let configuration = workspace.configuration().replace(
        &format!("id = \"{TENANT}\""),
        "id = \"contoso.example\"\ninitial_backfill_days = 3",
    );
    let run = |configuration: &str| {
        let mut command = workspace.command(&["once"]);
        std::fs::write(workspace.path("config.toml"), configuration).unwrap();
        crate::support::Run::of(command.output().unwrap())
    };
    assert_eq!(run(&configuration).code, 0);
    assert!(records(&file).iter().all(|r| r["tenant"]["id"] == TENANT));

    let duplicate = format!("{configuration}\n{}", tenant_section(&configuration));
    let run = run(&duplicate);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("tenants `contoso` and `again` have the same ID"),
        "{}",
        run.stderr
    );
}

#[test]
fn the_demo_leaves_no_files() {
    let scratch = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_secure-score-forwarder"))
        .arg("demo")
        .env("TMPDIR", scratch.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for part in [
        "CEF:0|Microsoft|Secure Score|",
        "\"schema\":\"secure-score-forwarder/1\"",
        "90 days read",
        "second poll: no new days, 0 records delivered",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

/// A second section for the tenant of a configuration, with another name and with its GUID.
fn tenant_section(configuration: &str) -> String {
    let from = configuration.find("[[tenants]]").unwrap();
    let to = configuration.find("[[sinks]]").unwrap();
    configuration[from..to].replace("\"contoso\"", "\"again\"").replace("contoso.example", TENANT)
}

fn summaries(records: &[serde_json::Value]) -> impl Iterator<Item = &serde_json::Value> {
    records.iter().filter(|record| record["kind"] == "summary")
}

/// A workspace with three days of two tenants and nothing delivered, and the path of the sink's
/// file.
fn two_tenants_undelivered() -> (Workspace, std::path::PathBuf) {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.tenants.push(("fabrikam", OTHER));
    let file = workspace.file_sink("local");
    std::fs::create_dir(&file).unwrap();
    assert_eq!(workspace.run(&["once"]).code, 1, "the path of the file is a directory");
    std::fs::remove_dir(&file).unwrap();
    (workspace, file)
}

/// Regression: a tenant that was removed from the configuration but had a backlog kept other
/// tenants from being served.
#[test]
fn a_removed_tenant_blocks_no_other() {
    let (mut workspace, file) = two_tenants_undelivered();
    for (name, id) in [("fabrikam", OTHER), ("contoso", TENANT)] {
        workspace.tenants = vec![(name, id)];
        workspace.run_ok(&["once"]);
        let streamed = records(&file);
        let count = summaries(&streamed).filter(|r| r["tenant"]["name"] == name).count();
        assert_eq!(count, 3);
    }
}

/// Regression: one entry that could not be read blocked all tenants.
#[test]
fn an_unreadable_entry_blocks_only_its_tenant() {
    let (workspace, file) = two_tenants_undelivered();
    let database = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    let damaged = database.execute(
        "UPDATE body SET bytes = x'00' WHERE id IN (SELECT body FROM entry e JOIN tenant t ON t.id = e.tenant WHERE guid = ?1)",
        [TENANT],
    );
    assert!(damaged.unwrap() > 0);
    drop(database);

    let run = workspace.run(&["once"]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("a stored body cannot be read"), "{}", run.stderr);
    let streamed = records(&file);
    assert_eq!(summaries(&streamed).count(), 3);
    assert!(streamed.iter().all(|r| r["tenant"]["name"] == "fabrikam"));
}

/// Regression: a tenant whose domain had never been resolved was missing from `status`.
#[test]
fn status_lists_an_unresolved_tenant() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.tenants = vec![("nowhere", "nowhere.example")];
    assert_eq!(workspace.run(&["once"]).code, 1);
    let tenant = &workspace.status()["tenants"][0];
    assert_eq!((&tenant["name"], &tenant["id"]), (&"nowhere".into(), &"nowhere.example".into()));
    assert!(tenant["error"]["message"].is_string(), "the reason is shown: {tenant}");
    assert!(tenant["failing_since"].is_string(), "{tenant}");
}

/// Regression: `once` omitted the hint of a sink that stopped, and `status` joined it to the
/// message.
#[test]
fn a_stopped_sink_is_shown_with_its_hint() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let path = workspace.path("absent/records.jsonl");
    workspace.sink("local", &format!("type = \"file\"\npath = \"{}\"", path.display()));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let status = workspace.run(&["status"]).stdout;

    let hint = "  hint: create the directory and make it writable by the service's user";
    for (text, start) in [
        (&run.stderr, "sink `local`: 0 records delivered, then stopped: cannot write "),
        (&status, "error: sink `local`: parked, "),
    ] {
        let after = text.lines().skip_while(|line| !line.starts_with(start)).nth(1);
        assert_eq!(after, Some(hint), "{text}");
    }
}

/// Across all rotated files, every record occurs once and every line is complete, although the
/// process is killed several times.
#[test]
fn rotation_loses_and_repeats_nothing() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 60".to_owned();
    let whole = workspace.file_sink("whole");
    std::fs::create_dir(workspace.path("rotated")).unwrap();
    let path = workspace.path("rotated/records.csv");
    workspace.sink(
        "rotated",
        &format!(
            "type = \"file\"\npath = \"{}\"\nformat = \"csv\"\nrotate_size = \"1MiB\"\nrotate_daily = true\nmax_rate = 4000",
            path.display()
        ),
    );

    for run_ms in [150, 400, 900] {
        let process = workspace.spawn(&["once"]);
        std::thread::sleep(std::time::Duration::from_millis(run_ms));
        process.kill();
    }
    workspace.run_ok(&["once"]);

    let mut files: Vec<_> = std::fs::read_dir(workspace.path("rotated"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    let mut ids = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.len() <= 1 << 20 && text.ends_with('\n'));
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("kind,event_id,"), "{}", file.display());
        ids.extend(lines.map(|line| line.split(',').nth(1).unwrap().to_owned()));
    }

    let expected = records(&whole);
    let counted = crate::support::counts(ids.iter().map(String::as_str));
    assert!(counted.values().all(|count| *count == 1));
    assert_eq!(counted.len(), expected.len());
}
