//! The report agrees with the records that were sent, and opens in a browser.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::support::{OTHER, Workspace, records_of_kinds, remove_profile};

/// A workspace with twenty days and a sink that receives all records.
fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 20".to_owned();
    let section = format!(
        "type = \"file\"\npath = \"{}\"\nhistorical_changes = true",
        workspace.path("all.jsonl").display()
    );
    workspace.sink("all", &section);
    workspace
}

#[test]
fn report_agrees_with_the_records() {
    let workspace = workspace();
    workspace.run_ok(&["once"]);
    let report = workspace.run_ok(&["report", "--format", "json"]).stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let file = workspace.path("all.jsonl");

    let summaries = records_of_kinds(&file, &["summary"]);
    let days = report["days"].as_array().unwrap();
    assert_eq!(days.len(), 20);
    for (day, summary) in days.iter().zip(&summaries) {
        assert_eq!(day["date"], summary["snapshot"]["date"]);
        for (key, record_key) in [
            ("score", "current"),
            ("max_score", "max"),
            ("percentage", "percentage"),
            ("sum_of_controls", "sum_of_controls"),
            ("controls", "controls_total"),
        ] {
            assert_eq!(day[key].as_f64(), summary["score"][record_key].as_f64(), "{key}");
        }
    }

    let newest = summaries.last().unwrap()["score"]["categories"].as_object().unwrap();
    // Facts have no category. The points of a control without a profile are therefore missing from
    // its category and are in another one that the records do not have.
    let mut unassigned = 0.0;
    let mut missing = 0.0;
    for category in report["categories"].as_array().unwrap() {
        let score = category["score"].as_f64().unwrap();
        match newest.get(category["name"].as_str().unwrap()) {
            Some(points) => missing += points.as_f64().unwrap() - score,
            None => unassigned += score,
        }
    }
    assert!((unassigned - missing).abs() < 0.01 && unassigned < 20.0, "{unassigned} {missing}");

    let key = |date: &Value, change: &Value, control: &Value| {
        let delta = change["delta"].as_f64();
        format!(
            "{date} {} {control} {delta:?} {} {}",
            change["what"], change["cause"], change["severity"]
        )
    };
    let mut records: Vec<String> = records_of_kinds(&file, &["change"])
        .iter()
        .filter(|r| r["change"]["what"] != "implementation_changed")
        .map(|r| key(&r["snapshot"]["date"], &r["change"], &r["control"]["id"]))
        .collect();
    let changes = report["changes"].as_array().unwrap();
    let mut changes: Vec<String> =
        changes.iter().map(|c| key(&c["date"], c, &c["control"])).collect();
    records.sort();
    changes.sort();
    assert_eq!(changes, records);

    let points = |key: &str| report["points"][key].as_f64().unwrap();
    let parts = points("achieved") + points("asserted") + points("provided");
    assert!((parts - points("sum_of_controls")).abs() < 0.01);
    assert!(points("asserted") > 0.0, "the simulated tenant claims points through a third party");
}

#[test]
fn report_is_limited_to_its_window() {
    let workspace = workspace();
    workspace.run_ok(&["once"]);
    let csv = workspace.run_ok(&["report", "--format", "csv", "--days", "5"]).stdout;
    assert_eq!(csv.lines().count(), 6);

    let reversed = workspace.run(&["report", "--from", "2026-01-02", "--to", "2026-01-01"]);
    assert_eq!(reversed.code, 2);
    let unknown = workspace.run(&["report", "--tenant", "fabrikam"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("no tenant `fabrikam`"));
}

#[test]
fn overview_has_one_line_per_tenant() {
    let mut workspace = workspace();
    workspace.tenants.push(("fabrikam", OTHER));
    workspace.run_ok(&["once"]);
    let csv = workspace.run_ok(&["report", "--format", "csv"]).stdout;
    assert_eq!(csv.lines().count(), 3);
    let percentage = |line: &str| line.split(',').nth(5).unwrap().parse::<f64>().unwrap();
    let percentages: Vec<f64> = csv.lines().skip(1).map(percentage).collect();
    assert!(percentages[0] <= percentages[1], "lowest first: {percentages:?}");

    let page = workspace.run_ok(&["report"]).stdout;
    assert!(page.contains("of 2 tenants") && page.contains("fabrikam"));
    let one = workspace.run_ok(&["report", "--tenant", "fabrikam", "--format", "markdown"]).stdout;
    assert!(one.starts_with("# Microsoft Secure Score of fabrikam"));
}

#[test]
fn page_opens_in_a_browser_without_requests() {
    let workspace = workspace();
    workspace.run_ok(&["once"]);
    let page = workspace.path("report.html");
    workspace.run_ok(&["report", "--output", &page.display().to_string()]);

    let browser = |profile: &Path, more: &[&str]| {
        let mut command = Command::new("chromium");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.arg(format!("--user-data-dir={}", profile.display())).args(more);
        let output = command.arg(format!("file://{}", page.display())).output();
        output.expect("cannot start chromium: run `tests/run --all`")
    };

    let profiles = [workspace.path("browser-secret-1"), workspace.path("browser-secret-2")];
    let dom = browser(&profiles[0], &["--dump-dom", "--enable-logging=stderr"]);
    let text = String::from_utf8_lossy(&dom.stdout);
    assert!(text.contains("Microsoft Secure Score of contoso") && text.contains("<svg"), "{text}");
    // The page's policy blocks every request, and the browser logs a blocked request.
    let log = String::from_utf8_lossy(&dom.stderr);
    assert!(!log.contains("Content Security Policy"), "{log}");

    let screenshot = workspace.path("report.png");
    let argument = format!("--screenshot={}", screenshot.display());
    browser(&profiles[1], &[argument.as_str(), "--window-size=1000,1400"]);
    assert!(std::fs::metadata(&screenshot).unwrap().len() > 20_000);
    profiles.iter().for_each(|profile| remove_profile(profile));
}
