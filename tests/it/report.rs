//! The report agrees with the records that were sent, and opens in a browser; `layout` measures its
//! pages.

mod layout;

use secure_score_forwarder::{clock, model::Day};
use serde_json::Value;

use crate::support::{OTHER, Workspace, browser::chromium, records_of_kinds, remove_profile};

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
    // The decisions of the simulated tenant are older than its first day.
    let report = json(&workspace, &["--from", "2026-01-01"]);
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

    // A record of history has the lowest severity and the day of its entry. A report has the
    // severity that the rules define, and the day of the decision.
    let key = |date: &Value, change: &Value, control: &Value| {
        let (what, cause) = (&change["what"], &change["cause"]);
        let is_historical = change["historical"] == true;
        let severity = if is_historical { &Value::Null } else { &change["severity"] };
        let is_old_decision = is_historical && what == "decision_changed";
        let date = if is_old_decision { &Value::Null } else { date };
        format!("{date} {what} {control} {:?} {cause} {severity}", change["delta"].as_f64())
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

    let mut history =
        report["changes"].as_array().unwrap().iter().filter(|c| c["historical"] == true);
    assert!(history.any(|change| change["severity"].as_u64() > Some(1)), "all are informational");

    let points = |key: &str| report["points"][key].as_f64().unwrap();
    let parts = points("achieved") + points("asserted") + points("provided");
    assert!((parts - points("sum_of_controls")).abs() < 0.01);
    assert!(points("asserted") > 0.0, "the simulated tenant claims points through a third party");
}

/// The report as JSON with these options.
fn json(workspace: &Workspace, options: &[&str]) -> Value {
    let command = [&["report", "--format", "json"][..], options].concat();
    serde_json::from_str(&workspace.run_ok(&command).stdout).unwrap()
}

#[test]
fn changes_are_ordered_and_added_up() {
    let workspace = workspace();
    workspace.run_ok(&["once"]);
    let report = json(&workspace, &["--days", "10"]);

    let changes = report["changes"].as_array().unwrap();
    let points: Vec<f64> = changes.iter().filter_map(|change| change["points"].as_f64()).collect();
    let (lost, gained): (Vec<f64>, Vec<f64>) = points.iter().partition(|points| **points < 0.0);
    assert!(!lost.is_empty() && !gained.is_empty(), "{points:?}");
    assert!(lost.is_sorted() && gained.is_sorted_by(|a, b| a >= b), "{points:?}");
    assert_eq!([lost.clone(), gained.clone()].concat(), points, "losses first");

    let period = &report["period"];
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    assert!((period["points_lost"].as_f64().unwrap() + sum(&lost)).abs() < 0.01);
    assert!((period["points_gained"].as_f64().unwrap() - sum(&gained)).abs() < 0.01);
    let summary = report["summary"].as_str().unwrap();
    assert!(summary.contains("controls lost") && !summary.contains(". "), "{summary}");

    // The period before consists of the other ten days.
    let previous = &report["previous_period"];
    assert_eq!((&period["stored_days"], &previous["stored_days"]), (&10.into(), &10.into()));
    let other = json(&workspace, &["--to", previous["last_day"].as_str().unwrap(), "--days", "10"]);
    for key in ["points_lost", "points_gained", "percentage", "high_severity_changes"] {
        assert_eq!(previous[key], other["period"][key], "{key}");
    }
    assert_eq!(other["previous_period"], Value::Null);
}

#[test]
fn a_month_selects_its_days() {
    let workspace = workspace();
    workspace.run_ok(&["once"]);
    let today = Day::of(clock::now());
    let month = today.to_string()[..7].to_owned();

    let report = json(&workspace, &["--month", &month]);
    let (first, last) = (format!("{month}-01"), today.to_string());
    assert_eq!((&report["first_day"], &report["last_day"]), (&first.into(), &last.into()));
    let days = report["days"].as_array().unwrap();
    assert!(!days.is_empty());
    assert!(days.iter().all(|day| day["date"].as_str().unwrap().starts_with(&month)));

    for (options, message) in
        [(["--month", "2026-13"], "expected a month"), (["--month", "2999-01"], "is in the future")]
    {
        let run = workspace.run(&[&["report"][..], &options[..]].concat());
        assert!(run.code == 2 && run.stderr.contains(message), "{}", run.stderr);
    }
    let run = workspace.run(&["report", "--month", &month, "--days", "3"]);
    assert!(run.code == 2 && run.stderr.contains("cannot be used with"), "{}", run.stderr);
}

#[test]
fn a_directory_gets_one_file_per_tenant() {
    let mut workspace = workspace();
    workspace.tenants.push(("../other", OTHER));
    workspace.extra += "\nlabels = { customer = \"c-17\" }";
    workspace.run_ok(&["once"]);

    let directory = workspace.path("reports");
    let output = format!("{}/", directory.display());
    let run = workspace.run_ok(&["report", "--title", "Monthly review", "--output", &output]);
    assert!(run.stderr.contains("wrote 2 reports to"), "{}", run.stderr);
    let other = format!("_.._other-{OTHER}.html");
    assert_eq!(names_in(&directory), [other.as_str(), "contoso.html"]);
    let page = std::fs::read_to_string(directory.join(other)).unwrap();
    assert!(page.contains("<h1>Monthly review</h1>") && page.contains("Tenant ../other, "));

    // The directory exists, so the path needs no separator.
    let output = directory.display().to_string();
    for tenants in ["con*", "customer=c-1*"] {
        workspace.run_ok(&["report", "--tenant", tenants, "--format", "csv", "--output", &output]);
        assert!(directory.join("contoso.csv").exists(), "{tenants}");
    }
    assert_eq!(names_in(&directory).len(), 4);
}

/// The names of the files in a directory, sorted.
fn names_in(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_pattern_without_a_match_is_named() {
    let mut workspace = workspace();
    workspace.tenants.push(("fabrikam", OTHER));
    workspace.run_ok(&["once"]);

    let report = json(&workspace, &["--tenant", "fab*", "--tenant", "contoso"]);
    assert_eq!(report["tenants"].as_array().unwrap().len(), 2);
    for (pattern, message) in [
        ("c-1*", "no tenant matches `c-1*`"),
        ("customer=c-17", "no tenant matches `customer=c-17`"),
        ("contosso", "no tenant `contosso`"),
    ] {
        let run = workspace.run(&["report", "--tenant", "contoso", "--tenant", pattern]);
        assert!(run.code == 2 && run.stdout.is_empty(), "{pattern}: {}", run.stdout);
        assert!(run.stderr.contains(message), "{}", run.stderr);
    }

    let run = workspace.run(&["report", "--format", "csv", "--title", "Review"]);
    assert!(run.code == 2 && run.stderr.contains("has no title"), "{}", run.stderr);
}

/// Regression: a tenant whose ID is configured, and that had never been read, got a page without
/// data, and the exit code was 0.
#[test]
fn tenants_without_data_are_incomplete() {
    let mut workspace = workspace();
    workspace.run_ok(&["once"]);
    workspace.tenants.push(("fabrikam", OTHER));
    let file = workspace.path("report.html");
    let output = file.display().to_string();

    let run = workspace.run(&["report", "--tenant", "fabrikam", "--output", &output]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert!(run.stderr.contains("tenant `fabrikam`: no data yet"), "{}", run.stderr);
    assert!(!file.exists());

    // The overview contains the tenant, so that it is not overlooked.
    let run = workspace.run_ok(&["report", "--format", "csv"]);
    assert!(run.stdout.contains("fabrikam"), "{}", run.stdout);
    assert!(run.stderr.contains("tenant `fabrikam`: no data yet"), "{}", run.stderr);
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

    let url = format!("file://{}", page.display());
    let profiles = [workspace.path("browser-secret-1"), workspace.path("browser-secret-2")];
    let dom = chromium(&profiles[0], &["--dump-dom", "--enable-logging=stderr", &url]);
    let text = String::from_utf8_lossy(&dom.stdout);
    assert!(text.contains("Microsoft Secure Score of contoso") && text.contains("<svg"), "{text}");
    // The page's policy blocks every request, and the browser logs a blocked request.
    let log = String::from_utf8_lossy(&dom.stderr);
    assert!(!log.contains("Content Security Policy"), "{log}");

    let screenshot = workspace.path("report.png");
    let argument = format!("--screenshot={}", screenshot.display());
    chromium(&profiles[1], &[&argument, "--window-size=1000,1400", &url]);
    assert!(std::fs::metadata(&screenshot).unwrap().len() > 20_000);
    profiles.iter().for_each(|profile| remove_profile(profile));
}
