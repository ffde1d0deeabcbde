//! `--tenant` has the same form in every command: a name, an ID, a pattern or a label.

use crate::support::{OTHER, TENANT, Workspace};

/// The commands with `--tenant` that need no daemon.
const COMMANDS: &[&[&str]] = &[
    &["fetch", "--output", "csv"],
    &["backfill", "--days", "1"],
    &["baseline", "set", "--name", "agreed"],
    &["baseline", "show"],
    &["baseline", "diff"],
    &["consent-url"],
    &["state", "export"],
    &["report", "--format", "csv"],
    &["replay", "--sink", "local", "--from", "2020-01-01", "--dry-run"],
    &["dead-letters", "list"],
];

/// Regression: some commands accepted only exact names.
#[test]
fn every_command_accepts_patterns_of_tenants() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1\nlabels = { customer = \"c-17\" }".to_owned();
    workspace.tenants.push(("fabrikam", OTHER));
    workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let with_tenant = |command: &[&'static str], pattern: &'static str| {
        [command, &["--tenant", pattern][..]].concat()
    };

    for &command in COMMANDS {
        for pattern in ["contoso", "con*", TENANT] {
            let run = workspace.run_ok(&with_tenant(command, pattern));
            let output = run.stdout + &run.stderr;
            let has_other = output.contains("fabrikam") || output.contains(OTHER);
            assert!(!has_other, "{command:?} {pattern}: {output}");
        }
        workspace.run_ok(&with_tenant(command, "customer=c-1*"));

        let run = workspace.run(&with_tenant(command, "north*"));
        assert_eq!(run.code, 2, "{command:?}: {}", run.stderr);
        assert!(run.stderr.contains("no tenant matches `north*`"), "{}", run.stderr);
    }

    let exported = workspace.run_ok(&["state", "export", "--tenant", "*a*"]).stdout;
    assert!(exported.contains(OTHER) && !exported.contains(TENANT), "{exported}");
}
