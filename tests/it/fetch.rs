//! `fetch`: what is printed, also if only a part could be read. Tests of the terminal use `script`
//! of util-linux. It reports no size, so the width is that of `$COLUMNS`, or else the default.

use std::{
    collections::HashMap,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    data::EditedTenant,
    support::{OTHER, Run, Workspace, faults::Fault},
};

/// The lines that a command prints on a terminal.
fn on_terminal(workspace: &Workspace, arguments: &str, columns: Option<&str>) -> Vec<String> {
    workspace.write_configuration();
    let binary = env!("CARGO_BIN_EXE_secure-score-forwarder");
    let config = workspace.path("config.toml").display().to_string();
    // The progress bar is drawn on standard error.
    let line = format!("{binary} {arguments} --config {config} 2>/dev/null");

    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    match columns {
        Some(columns) => command.env("COLUMNS", columns),
        None => command.env_remove("COLUMNS"),
    };
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stdout);

    // The terminal shows the end of the input of `script` as `^D`.
    let text = run.stdout.replace(['\r', '\u{8}'], "").replace("^D", "");
    text.lines().map(str::to_owned).collect()
}

/// Regression: with 80 columns, every title was wrapped to a few letters per line.
#[test]
fn a_table_fits_into_the_terminal() {
    let mut workspace = Workspace::new();
    workspace.tenants.push(("fabrikam", OTHER));
    workspace.file_sink("local");
    let controls = workspace.run_ok(&["fetch", "--output", "csv"]).stdout.lines().count();

    for (columns, width) in [(None, 80), (Some("0"), 80), (Some("50"), 50), (Some("160"), 160)] {
        let lines = on_terminal(&workspace, "fetch", columns);
        let widest = lines.iter().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= width, "{columns:?}: {}", lines.join("\n"));
        for tenant in ["contoso, 20", "fabrikam, 20"] {
            let totals = lines.iter().filter(|line| line.starts_with(tenant)).count();
            assert_eq!(totals, 1, "{}", lines.join("\n"));
        }
        // The CSV has a header, and the total as a row. Each table has a header, and the second one
        // follows an empty line.
        assert_eq!(lines.len(), controls - 1 + 2 + 1, "{}", lines.join("\n"));
    }
}

#[test]
fn an_error_is_followed_by_its_hint() {
    let mut workspace = Workspace::new();
    workspace.tenants.push(("nowhere", "nowhere.example"));
    workspace.file_sink("local");
    let run = workspace.run(&["fetch"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.starts_with("contoso, 20"), "{}", run.stdout);

    let mut lines = run.stderr.lines().skip_while(|line| !line.starts_with("tenant `nowhere`: "));
    assert!(lines.next().is_some(), "{}", run.stderr);
    assert!(lines.all(|line| line.starts_with("  hint: ")), "{}", run.stderr);
}

/// Regression: with several tenants, `fetch` printed the controls of the second tenant with the
/// titles of the first.
#[test]
fn fetch_prints_the_titles_of_each_tenant() {
    let tenant = EditedTenant::new();
    let mut workspace = tenant.workspace;
    workspace.tenants.push(("fabrikam", OTHER));

    // The first catalog is in reverse order.
    let reverse = |page: &mut Value| page["value"].as_array_mut().unwrap().reverse();
    tenant.api.fail("/secureScoreControlProfiles", Fault::Edit(reverse));
    let fetched = workspace.run_ok(&["fetch", "--output", "jsonl"]).stdout;
    let records: Vec<Value> =
        fetched.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let mut titles = HashMap::new();
    for record in records.iter().filter(|r| r["kind"] == "control") {
        let (id, title) = (record["control"]["id"].as_str().unwrap(), &record["control"]["title"]);
        assert_eq!(*titles.entry(id).or_insert(title), title, "{id}");
    }
}

/// Regression: `fetch` printed an empty list without a message if no snapshot could be used.
#[test]
fn fetch_prints_why_a_snapshot_is_missing() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| page["value"] = json!([null]));
    let run = tenant.workspace.run(&["fetch", "--days", "3", "--output", "json"]);
    assert_eq!((run.code, run.stdout.split_whitespace().collect::<String>()), (1, "[]".to_owned()));
    assert!(run.stderr.contains("null instead of an object"), "{}", run.stderr);

    tenant.scores(|page| page["value"] = json!([]));
    let run = tenant.workspace.run_ok(&["fetch", "--days", "3", "--output", "json"]);
    assert!(run.stderr.contains("Microsoft lists no snapshot since"), "{}", run.stderr);
}

/// Regression: `fetch` printed no day if Graph refused every method to read the older ones,
/// although a poll delivers the newer ones.
#[test]
fn days_before_a_refused_page_are_printed() {
    const SCORES: &str = "/secureScores";
    /// More requests than all methods of paging send.
    const REFUSALS: usize = 20;

    let tenant = EditedTenant::new();
    tenant.api.fail(SCORES, Fault::Change(|first_page| first_page));
    let body = br#"{"error":{"message":"no such page"}}"#;
    let json = ("content-type", "application/json".to_owned());
    for _ in 0..REFUSALS {
        tenant.api.fail(SCORES, Fault::Respond(400, vec![json.clone()], body.to_vec()));
    }

    let run = tenant.workspace.run(&["fetch", "--days", "30", "--output", "csv"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let totals: Vec<&str> = run.stdout.lines().filter(|line| line.contains("(total)")).collect();
    assert_eq!(totals.len(), 10, "the days of the first page: {totals:?}");
    let oldest = totals[9].split(',').nth(1).unwrap();
    for expected in [
        format!("tenant `contoso`: the days before `{oldest}` are missing: "),
        "HTTP 400: no such page".to_owned(),
    ] {
        assert!(run.stderr.contains(&expected), "{expected}: {}", run.stderr);
    }

    // If no page can be read, nothing is printed.
    let run = tenant.workspace.run(&["fetch", "--days", "30", "--output", "raw"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
}
