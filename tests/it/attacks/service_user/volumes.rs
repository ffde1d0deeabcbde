//! Volumes of containers with an arbitrary user ID, as on OpenShift: what one user of the group has
//! written, another one continues. Some volumes let all users write, which is only reported.

use std::{
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::Command,
};

use serde_json::Value;

use super::trap::{command_as, run_as, set_mode};
use crate::support::{Process, Workspace, counts, eventually, ids, records, summaries};

/// Two users whose only group is that of root.
const FIRST: u32 = 61_001;
const SECOND: u32 = 61_002;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

/// The beginning of the warning about a state directory, and that of its hint.
fn warnings(state: &Path) -> [String; 2] {
    let (shown, volume) = (state.display(), state.parent().unwrap().display());
    [
        format!(
            "other users can exchange the state directory `{shown}`, because all users can write to `{volume}`"
        ),
        format!("run `chmod o-w {volume}`; or, if all users must be able to write"),
    ]
}

/// Regression: another user of the group to which a volume belongs, as on OpenShift, could not use
/// the checkpoint or the file of a sink, and the mode of the directory was changed.
#[test]
fn a_volume_of_a_group_remains_shared() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    // The volume of a container, whose mode the user cannot change.
    set_mode(workspace.path(""), 0o1777);
    set_mode(workspace.path("secret"), 0o644);
    for directory in ["state", "out"] {
        std::fs::create_dir(workspace.path(directory)).unwrap();
        chown(workspace.path(directory), Some(FIRST), Some(0)).unwrap();
        set_mode(workspace.path(directory), 0o2775);
    }
    let file = workspace.path("out/local.jsonl");
    workspace.sink("local", &format!("type = \"file\"\npath = \"{}\"", file.display()));

    let run = run_as(&workspace, FIRST, &["once"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!run.stderr.contains("exchange"), "{run:?}");
    assert_eq!((mode(&workspace.state()), mode(&file)), (0o2775, 0o660));
    let run = run_as(&workspace, SECOND, &["once"]);
    assert_eq!(run.code, 0, "{run:?}");

    // An earlier version created the file with the second mode.
    for (mode, is_reported) in [(0o660, false), (0o600, true)] {
        set_mode(&file, mode);
        let run = run_as(&workspace, SECOND, &["check"]);
        let reported = run.stderr.contains("error: sink `local`: cannot write");
        assert_eq!(reported, is_reported, "{run:?}");
    }
    set_mode(&file, 0o660);

    chown(workspace.state(), Some(0), Some(0)).unwrap();
    set_mode(workspace.state(), 0o777);
    let run = run_as(&workspace, SECOND, &["once"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("every user of this host can change"), "{run:?}");
    assert!(run.stderr.contains("set `state.directory` to a new directory in it"), "{run:?}");
}

/// Regression: a volume with the mode 0777 was refused: the state directory in it, because all
/// users can exchange it, and the file of a sink, because another user of the group had created it.
#[test]
fn a_volume_of_all_users_remains_shared() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let (file, state) = (workspace.file_sink("local"), workspace.state());
    chown(workspace.path(""), Some(0), Some(0)).unwrap();
    set_mode(workspace.path(""), 0o777);
    set_mode(workspace.path("secret"), 0o644);
    std::fs::create_dir(&state).unwrap();
    chown(&state, Some(FIRST), Some(0)).unwrap();
    set_mode(&state, 0o2775);

    for user in [FIRST, SECOND] {
        let run = run_as(&workspace, user, &["once"]);
        assert_eq!(run.code, 0, "{user}: {run:?}");
        for text in warnings(&state) {
            assert_eq!(run.stderr.matches(&text).count(), 1, "{user}: {run:?}");
        }
        assert_eq!((mode(&state), summaries(&file)), (0o2775, 3), "{user}");
        // Kubernetes gives the files of a volume to the group before the next container starts.
        for (paths, permissions) in [(&state, "g+rwX"), (&file, "g+rw")] {
            let changed = Command::new("chmod").args(["-R", permissions]).arg(paths).status();
            assert!(changed.unwrap().success());
        }
    }
    assert!(counts(ids(&records(&file))).values().all(|times| *times == 1), "nothing is repeated");

    let daemon = Process::of(command_as(&workspace, SECOND, &["run"]));
    eventually("the control socket is bound", || state.join("control.sock").exists());
    let run = run_as(&workspace, SECOND, &["reload"]);
    assert_eq!(run.code, 0, "{run:?}");
    daemon.signal("TERM");
    let run = daemon.end();
    assert_eq!(run.code, 0, "{run:?}");
    for text in warnings(&state) {
        assert_eq!(run.stderr.matches(&text).count(), 1, "{run:?}");
    }
    assert_eq!(mode(&state), 0o2775);
}

/// A state directory that the program creates in such a volume is shared with the group, and
/// `check` reports it before and after that.
#[test]
fn exchangeable_state_directories_are_warnings() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    set_mode(workspace.path(""), 0o755);
    chown(workspace.path("secret"), Some(FIRST), Some(0)).unwrap();
    set_mode(workspace.path("secret"), 0o640);
    let (volume, state) = (workspace.path("volume"), workspace.path("volume/state"));
    std::fs::create_dir(&volume).unwrap();
    chown(&volume, Some(0), Some(0)).unwrap();
    let file = volume.join("local.jsonl");
    workspace.sink("local", &format!("type = \"file\"\npath = \"{}\"", file.display()));
    let configured = workspace.state().display().to_string();
    let configuration = workspace.configuration();
    workspace.literal = Some(configuration.replace(&configured, &state.display().to_string()));

    set_mode(&volume, 0o777);
    let texts = warnings(&state);
    for is_new in [true, false] {
        assert_eq!(state.exists(), !is_new);
        let run = run_as(&workspace, FIRST, &["check", "--json"]);
        assert_eq!(run.code, 0, "{is_new}: {run:?}");
        let document: Value = serde_json::from_str(&run.stdout).unwrap();
        let found = document["warnings"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{is_new}: {found:?}");
        assert!(found[0]["message"].as_str().unwrap().starts_with(&texts[0]), "{found:?}");
        assert!(found[0]["hint"].as_str().unwrap().starts_with(&texts[1]), "{found:?}");
        assert_eq!(found[0]["line"], 2, "{found:?}");
        assert_eq!(run_as(&workspace, FIRST, &["check", "--strict"]).code, 2, "{is_new}");

        let run = run_as(&workspace, FIRST, &["once"]);
        assert_eq!(run.code, 0, "{is_new}: {run:?}");
        assert_eq!((mode(&state), mode(&file)), (0o770, 0o660), "{is_new}");
    }

    let run = run_as(&workspace, SECOND, &["once"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(summaries(&file), 3);
    set_mode(&volume, 0o1777);
    let run = run_as(&workspace, FIRST, &["check", "--strict"]);
    assert_eq!(run.code, 0, "{run:?}");
}
