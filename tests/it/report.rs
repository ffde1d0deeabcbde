//! The report says what the records said, and opens in a browser.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::support::{OTHER, Workspace, of_kinds, remove_profile};

/// Twenty days, and a sink that got everything.
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
fn a_report_has_the_numbers_of_the_records() {
    let workspace = workspace();
    workspace.run_ok(&["once"]);
    let report = workspace.run_ok(&["report", "--format", "json"]).stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    let file = workspace.path("all.jsonl");
    let summaries = of_kinds(&file, &["summary"]);
    let days = report["days"].as_array().unwrap();
    assert_eq!(days.len(), 20);
    for (day, summary) in days.iter().zip(&summaries) {
        assert_eq!(day["date"], summary["snapshot"]["date"]);
        for (ours, theirs) in [
            ("score", "current"),
            ("max_score", "max"),
            ("percentage", "percentage"),
            ("sum_of_controls", "sum_of_controls"),
            ("controls", "controls_total"),
        ] {
            assert_eq!(day[ours].as_f64(), summary["score"][theirs].as_f64(), "{ours}");
        }
    }
    let newest = summaries.last().unwrap()["score"]["categories"].as_object().unwrap();
    // Facts have no categories: of a control without a profile nobody remembers it.
    let mut unknown = 0.0;
    let mut lacking = 0.0;
    for category in report["categories"].as_array().unwrap() {
        let score = category["score"].as_f64().unwrap();
        match newest.get(category["name"].as_str().unwrap()) {
            Some(told) => lacking += told.as_f64().unwrap() - score,
            None => unknown += score,
        }
    }
    assert!((unknown - lacking).abs() < 0.01 && unknown < 20.0, "{unknown} {lacking}");
    let key = |date: &Value, change: &Value, control: &Value| {
        let delta = change["delta"].as_f64();
        format!(
            "{date} {} {control} {delta:?} {} {}",
            change["what"], change["cause"], change["severity"]
        )
    };
    let mut records: Vec<String> = of_kinds(&file, &["change"])
        .iter()
        .filter(|r| r["change"]["what"] != "implementation_changed")
        .map(|r| key(&r["snapshot"]["date"], &r["change"], &r["control"]["id"]))
        .collect();
    let told = report["changes"].as_array().unwrap();
    let mut told: Vec<String> = told.iter().map(|c| key(&c["date"], c, &c["control"])).collect();
    records.sort();
    told.sort();
    assert_eq!(told, records);
    let points = &report["points"];
    let of = |key: &str| points[key].as_f64().unwrap();
    assert!(
        (of("achieved") + of("asserted") + of("provided") - of("sum_of_controls")).abs() < 0.01
    );
    assert!(of("asserted") > 0.0, "the simulated tenant claims points through a third party");
}

#[test]
fn a_report_is_limited_to_its_window() {
    let workspace = workspace();
    workspace.run_ok(&["once"]);
    let csv = workspace.run_ok(&["report", "--format", "csv", "--days", "5"]).stdout;
    assert_eq!(csv.lines().count(), 6);
    let wrong = workspace.run(&["report", "--from", "2026-01-02", "--to", "2026-01-01"]);
    assert_eq!(wrong.code, 2);
    let unknown = workspace.run(&["report", "--tenant", "nobody"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("no tenant `nobody`"));
}

#[test]
fn several_tenants_are_a_line_each() {
    let mut workspace = workspace();
    workspace.tenants.push(("fabrikam", OTHER));
    workspace.run_ok(&["once"]);
    let csv = workspace.run_ok(&["report", "--format", "csv"]).stdout;
    assert_eq!(csv.lines().count(), 3);
    let share = |line: &str| line.split(',').nth(5).unwrap().parse::<f64>().unwrap();
    let shares: Vec<f64> = csv.lines().skip(1).map(share).collect();
    assert!(shares[0] <= shares[1], "the lowest first: {shares:?}");
    let page = workspace.run_ok(&["report"]).stdout;
    assert!(page.contains("of 2 tenants") && page.contains("fabrikam"));
    let one = workspace.run_ok(&["report", "--tenant", "fabrikam", "--format", "markdown"]).stdout;
    assert!(one.starts_with("# Microsoft Secure Score of fabrikam"));
}

#[test]
fn the_page_opens_in_a_browser_and_asks_for_nothing() {
    let workspace = workspace();
    workspace.run_ok(&["once"]);
    let page = workspace.path("report.html");
    workspace.run_ok(&["report", "--output", &page.display().to_string()]);
    let browser = |profile: &Path, more: &[&str]| {
        let mut command = Command::new("chromium");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.arg(format!("--user-data-dir={}", profile.display())).args(more);
        let output = command.arg(format!("file://{}", page.display())).output();
        output.expect("chromium runs: tests/run installs it")
    };
    let profiles = [workspace.path("browser-secret-1"), workspace.path("browser-secret-2")];
    let dom = browser(&profiles[0], &["--dump-dom", "--enable-logging=stderr"]);
    let text = String::from_utf8_lossy(&dom.stdout);
    assert!(text.contains("Microsoft Secure Score of contoso") && text.contains("<svg"), "{text}");
    // Whatever it wanted to load would be refused by its own policy, and be complained of.
    let complaints = String::from_utf8_lossy(&dom.stderr);
    assert!(!complaints.contains("Content Security Policy"), "{complaints}");
    let picture = workspace.path("report.png");
    let shot = format!("--screenshot={}", picture.display());
    browser(&profiles[1], &[shot.as_str(), "--window-size=1000,1400"]);
    assert!(std::fs::metadata(&picture).unwrap().len() > 20_000);
    profiles.iter().for_each(|profile| remove_profile(profile));
}
