//! `fetch` on a terminal, which `script` of util-linux provides. It reports no size, so the width
//! is that of `$COLUMNS`, or else the default.

use std::process::{Command, Stdio};

use crate::support::{OTHER, Run, Workspace};

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
