//! Exit codes of commands that depend on the daemon: without one, with one that has another
//! configuration, and with a process that accepts no requests. `docs/reference/exit-codes.md`
//! lists these situations.

use secure_score_forwarder::checkpoint::Checkpoint;

use crate::support::{OTHER, TENANT, Workspace, eventually, summaries, write};

const REPLAY: &[&str] = &["replay", "--sink", "local", "--from", "2020-01-01"];

/// Regression: without a daemon, `reload` exited with 1 and `poll` with 2.
#[test]
fn commands_that_need_a_daemon_exit_with_2() {
    let mut workspace = Workspace::against("http://127.0.0.1:1");
    workspace.file_sink("local");
    for command in ["reload", "poll"] {
        for options in [&[command][..], &[command, "--json"]] {
            let run = workspace.run(options);
            assert_eq!(run.code, 2, "{options:?}: {}", run.stderr);
            let message = format!("error: cannot {command}");
            assert!(run.stderr.starts_with(&message), "{}", run.stderr);
            assert!(run.stderr.contains(": no daemon is running\n  hint: "), "{}", run.stderr);
        }
    }
}

/// Regression: an error of the daemon had the exit code 1 in some commands and 2 in others.
#[test]
fn requests_that_the_daemon_rejects_exit_with_2() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 2".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the daemon delivers", || summaries(&file) > 0);

    // The daemon is not reloaded, so it does not know the new tenant and the new sink, and still
    // has the removed tenant.
    workspace.tenants = vec![("fabrikam", OTHER)];
    workspace.file_sink("new");
    let targets = workspace.path("targets.txt");
    write(&targets, "AdminMFAV2 100%\n");
    let targets = targets.display().to_string();
    for (command, message) in [
        (&["poll", "--tenant", "fabrikam"][..], "the running configuration has no tenant"),
        (
            &["backfill", "--days", "3", "--tenant", "fabrikam"],
            "the running configuration has no tenant",
        ),
        (&["replay", "--sink", "new", "--from", "2020-01-01"], "there is no sink `new`"),
        (
            &["baseline", "set", "--tenant", "fabrikam", "--file", targets.as_str()],
            "unknown tenant `fabrikam`",
        ),
        (
            &["state", "forget", "--tenant", TENANT, "--yes"],
            "the running configuration still contains the tenant",
        ),
    ] {
        let run = workspace.run(command);
        assert_eq!(run.code, 2, "{command:?}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{command:?}: {}", run.stderr);
    }

    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

#[test]
fn without_a_socket_commands_exit_with_3() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 2".to_owned();
    workspace.file_sink("local");
    workspace.run_ok(&["once"]);

    let _held = Checkpoint::open(&workspace.state()).unwrap();
    for command in [&["poll"][..], &["reload"], &["state", "prune"], REPLAY] {
        let run = workspace.run(command);
        assert_eq!(run.code, 3, "{command:?}: {}", run.stderr);
        assert!(run.stderr.contains("which does not accept commands"), "{}", run.stderr);
    }
}
