//! Sinks that are removed from the configuration: they return without repeats, are deleted after
//! their time, and are reported together with a new sink that may be a renamed one.

use std::path::Path;

use crate::{
    state::{query, sql},
    support::{Workspace, counts, eventually, ids, records, summaries},
};

fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    workspace
}

fn file_section(path: &Path) -> String {
    format!("type = \"file\"\npath = \"{}\"", path.display())
}

/// The names of the sinks in `status`, sorted.
fn shown_sinks(workspace: &Workspace) -> Vec<String> {
    let status = workspace.status();
    let sinks = status["sinks"].as_array().unwrap().iter();
    let mut names: Vec<String> =
        sinks.map(|sink| sink["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn stored_sinks(workspace: &Workspace) -> i64 {
    query(workspace, "SELECT count(*) FROM sink")
}

/// Removes the sink `siem`, and reads two more days while it is not configured.
fn leave_out_siem(workspace: &mut Workspace) {
    workspace.clear_sinks().file_sink("other");
    workspace.run_ok(&["once"]);
    workspace.run_ok(&["backfill", "--days", "7"]);
    assert_eq!(shown_sinks(workspace), ["other"]);
}

/// Regression: a sink that was left out of the configuration for a day received 90 days again.
#[test]
fn a_returning_sink_receives_only_new_days() {
    let mut workspace = workspace();
    let file = workspace.file_sink("siem");
    workspace.run_ok(&["once"]);
    assert_eq!(summaries(&file), 5);

    leave_out_siem(&mut workspace);
    workspace.file_sink("siem");
    workspace.run_ok(&["once"]);
    assert_eq!(summaries(&file), 7);
    assert!(counts(ids(&records(&file))).values().all(|times| *times == 1), "nothing is repeated");
    assert_eq!(shown_sinks(&workspace), ["other", "siem"]);
}

#[test]
fn a_sink_that_returns_too_late_is_new() {
    let mut workspace = workspace();
    let file = workspace.file_sink("siem");
    workspace.run_ok(&["once"]);
    leave_out_siem(&mut workspace);
    assert_eq!(stored_sinks(&workspace), 2);

    sql(&workspace, "UPDATE sink SET removed = removed - 31 * 86400000 WHERE name = 'siem'");
    workspace.run_ok(&["once"]);
    assert_eq!(stored_sinks(&workspace), 1, "the time has passed");
    workspace.file_sink("siem");
    workspace.run_ok(&["once"]);
    assert_eq!(summaries(&file), 12, "five days, and then seven days again");
}

#[test]
fn removed_sinks_can_be_deleted_at_once() {
    let mut workspace = workspace();
    workspace.head = "removed_sinks = \"0d\"\n".to_owned();
    workspace.file_sink("siem");
    workspace.run_ok(&["once"]);
    leave_out_siem(&mut workspace);
    assert_eq!(stored_sinks(&workspace), 1);
}

/// Regression: a sink that was renamed without `renamed_from` received 90 days again without a
/// message.
#[test]
fn a_rename_without_the_key_is_reported() {
    let mut workspace = workspace();
    let file = workspace.file_sink("old");
    workspace.run_ok(&["once"]);
    let sent = records(&file).len() as f64;
    workspace.clear_sinks();
    let new = workspace.file_sink("new");

    let run = workspace.run_ok(&["check"]);
    let text = run.stdout + &run.stderr;
    let message =
        "sink `old` was removed and sink `new` is new: `new` will receive the last 90 days, about ";
    let (_, rest) = text.split_once(message).unwrap_or_else(|| panic!("{text}"));
    let estimated: f64 = rest.split(' ').next().unwrap().replace(',', "").parse().unwrap();
    assert!((estimated / sent - 1.0).abs() < 0.1, "{rest} {sent}");
    let hint =
        "hint: set `renamed_from = \"old\"` in the section of `new` to continue at its cursors";
    assert!(text.contains(hint), "{text}");

    let run = workspace.run_ok(&["once"]);
    assert!(run.stderr.contains(message) && run.stderr.contains(hint), "{}", run.stderr);
    assert_eq!(summaries(&new), 5, "a warning prevents nothing");
    let run = workspace.run_ok(&["check"]);
    let text = run.stdout + &run.stderr;
    assert!(!text.contains("was removed"), "the sink is not new anymore: {text}");
}

#[test]
fn the_key_can_be_added_after_the_rename() {
    let mut workspace = workspace();
    workspace.file_sink("old");
    workspace.run_ok(&["once"]);
    let sent = workspace.status()["sinks"][0]["sent"].clone();

    // The new sink has been started under its new name, but could not deliver yet.
    workspace.clear_sinks();
    let file = workspace.file_sink("new");
    std::fs::create_dir(&file).unwrap();
    assert_eq!(workspace.run(&["once"]).code, 1, "the path of the file is a directory");
    std::fs::remove_dir(&file).unwrap();

    let section = format!("{}\nrenamed_from = \"old\"", file_section(&file));
    workspace.clear_sinks().sink("new", &section);
    workspace.run_ok(&["once"]);
    assert_eq!(summaries(&file), 0, "nothing is sent again");
    assert_eq!(shown_sinks(&workspace), ["new"]);
    assert_eq!(workspace.status()["sinks"][0]["sent"], sent);
    workspace.run_ok(&["backfill", "--days", "6"]);
    workspace.run_ok(&["once"]);
    assert_eq!(summaries(&file), 1, "only the new day is sent");
}

#[test]
fn a_daemon_reports_and_keeps_removed_sinks() {
    let mut workspace = workspace();
    let file = workspace.file_sink("old");
    let daemon = workspace.spawn(&["run"]);
    eventually("five days are delivered", || summaries(&file) == 5 && workspace.is_delivered());

    workspace.clear_sinks();
    let new = workspace.file_sink("new");
    let run = workspace.run_ok(&["reload"]);
    assert!(
        run.stdout.ends_with("\n1 sink added: `new`\n1 sink removed: `old`\n"),
        "{}",
        run.stdout
    );
    let warning = "warning: sink `old` was removed and sink `new` is new: ";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
    eventually("the new sink has all days", || summaries(&new) == 5 && workspace.is_delivered());

    workspace.clear_sinks().file_sink("old");
    workspace.run_ok(&["reload"]);
    eventually("the old sink is back", || shown_sinks(&workspace) == ["old"]);
    eventually("everything is acknowledged", || workspace.is_delivered());
    daemon.signal("TERM");
    let run = daemon.end();
    assert_eq!(run.code, 0, "{}", run.stderr);

    assert_eq!(summaries(&file), 5);
    for message in ["sink removed; its cursors are kept", "continues from its cursors"] {
        assert!(run.stderr.contains(message), "{message}: {}", run.stderr);
    }
}
