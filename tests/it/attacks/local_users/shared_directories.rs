//! What another user plants in a directory to which all users can write: the file of a sink, with
//! the group of the service because of the set-group-ID bit of the directory, names of rotated
//! files, and a state directory. Every test requires root.

use std::{
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use super::set_mode;
use crate::{
    attacks::service_user::trap::run_as,
    support::{Workspace, summaries},
};

/// The user of the service, whose only group is that of the directory, as in a container.
const SERVICE: u32 = 61_001;
/// Another user with this group.
const MEMBER: u32 = 61_002;
/// A user of the host who is not a member of this group.
const ATTACKER: u32 = 61_003;

/// A workspace with the sink `local`, in a directory with this mode and the group of the service,
/// and the path of its file.
fn workspace(mode: u32) -> (Workspace, PathBuf) {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    set_mode(workspace.path(""), 0o755);
    set_mode(workspace.path("secret"), 0o644);
    for (directory, owner, mode) in [("state", SERVICE, 0o700), ("out", 0, mode)] {
        std::fs::create_dir(workspace.path(directory)).unwrap();
        chown(workspace.path(directory), Some(owner), Some(0)).unwrap();
        set_mode(workspace.path(directory), mode);
    }

    let file = workspace.path("out/local.jsonl");
    workspace.sink("local", &format!("type = \"file\"\npath = \"{}\"", file.display()));
    (workspace, file)
}

/// Runs a script with this path as the attacker.
fn attack(script: &str, path: &Path) {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(path).uid(ATTACKER).gid(ATTACKER);
    assert!(shell.status().unwrap().success(), "{script}");
}

/// Creates a file as the attacker that all users can read and write.
fn plant(file: &Path) {
    attack("umask 0; echo planted > \"$0\"", file);
    let planted = std::fs::metadata(file).unwrap();
    let found = (planted.uid(), planted.gid(), planted.mode() & 0o777);
    assert_eq!(found, (ATTACKER, 0, 0o666), "the directory gives its group to the file");
}

/// Regression: the planted file was used because of its group, so the attacker could read and
/// change all records of the sink. Nothing is written to it, and only the operator can decide what
/// it is.
#[test]
fn planted_files_with_the_group_are_refused() {
    for mode in [0o2777, 0o3777] {
        let (workspace, file) = workspace(mode);
        plant(&file);

        let message = format!(
            "`{}` belongs to another user (ID {ATTACKER}), and every user of this host can create such a file in its directory",
            file.display()
        );
        let hint = format!("run `chmod o-w {}`", workspace.path("out").display());
        for (command, code) in
            [(&["check"][..], 2), (&["once"], 1), (&["test-sink", "local"], 2), (&["once"], 1)]
        {
            let run = run_as(&workspace, SERVICE, command);
            assert_eq!(run.code, code, "{mode:o} {command:?}: {run:?}");
            assert!(run.stderr.contains(&message), "{mode:o} {command:?}: {run:?}");
            assert!(run.stderr.contains(&hint), "{mode:o} {command:?}: {run:?}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "planted\n", "{mode:o}");

        // A file that the service itself creates there is used, also by the next run.
        std::fs::remove_file(&file).unwrap();
        for _ in 0..2 {
            let run = run_as(&workspace, SERVICE, &["once"]);
            assert_eq!(run.code, 0, "{mode:o}: {run:?}");
        }
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), SERVICE, "{mode:o}");
        assert_eq!(summaries(&file), 3, "{mode:o}");
    }
}

/// In a directory of all users that gives its group to no file, the group of a file is evidence.
/// What the attacker can create there is refused.
#[test]
fn only_groups_are_evidence_in_open_directories() {
    let (workspace, file) = workspace(0o777);
    let owner = format!("belongs to another user (ID {ATTACKER})");
    for (script, message) in [
        ("umask 0; echo planted > \"$0\"", owner.as_str()),
        (
            "umask 0; echo planted > \"$0.x\"; ln \"$0.x\" \"$0\"",
            "is one of 2 names (hard links) of the same file",
        ),
        ("ln -s ../secret \"$0\"", "is a symbolic link"),
        ("mkfifo -m 666 \"$0\"", "is not a regular file"),
    ] {
        attack(script, &file);
        for (command, code) in [("check", 2), ("once", 1)] {
            let run = run_as(&workspace, SERVICE, &[command]);
            assert_eq!(run.code, code, "{script} {command}: {run:?}");
            assert!(run.stderr.contains(message), "{script} {command}: {run:?}");
        }
        attack("rm -f \"$0\" \"$0.x\"", &file);
    }

    // The file of another user of the group.
    std::fs::write(&file, "").unwrap();
    chown(&file, Some(MEMBER), Some(0)).unwrap();
    set_mode(&file, 0o660);
    let run = run_as(&workspace, SERVICE, &["once"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(summaries(&file), 3);
}

/// The attacker can exchange a state directory in such a directory. What replaces it belongs to the
/// attacker, and nothing is stored there.
#[test]
fn planted_state_directories_are_refused() {
    let (mut workspace, file) = workspace(0o777);
    let (previous, state) = (workspace.state(), workspace.path("out/state"));
    std::fs::rename(&previous, &state).unwrap();
    let configuration = workspace.configuration();
    let (from, to) = (previous.display().to_string(), state.display().to_string());
    workspace.literal = Some(configuration.replace(&from, &to));
    let run = run_as(&workspace, SERVICE, &["once"]);
    assert_eq!(run.code, 0, "{run:?}");

    let message = format!("`{to}` belongs to another user (ID {ATTACKER})");
    for planted in [
        "mkdir -m 755 \"$0\"",
        "mkdir -m 777 \"$0\"",
        "mkdir -m 755 \"$0.own\" && ln -s \"$0.own\" \"$0\"",
    ] {
        attack(&format!("mv \"$0\" \"$0.old\" && {planted}"), &state);
        for command in ["once", "run"] {
            let run = run_as(&workspace, SERVICE, &[command]);
            assert_eq!(run.code, 3, "{planted} {command}: {run:?}");
            assert!(run.stderr.contains(&message), "{planted} {command}: {run:?}");
        }
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "{planted}");
        attack("rm -rf \"$0\" \"$0.own\" && mv \"$0.old\" \"$0\"", &state);
    }

    for (mode, code) in [(0o777, 3), (0o1777, 3), (0o700, 0)] {
        set_mode(&state, mode);
        let run = run_as(&workspace, SERVICE, &["once"]);
        assert_eq!(run.code, code, "{mode:o}: {run:?}");
        let refused = run.stderr.contains(&format!("every user of this host can change `{to}`"));
        assert_eq!(refused, code == 3, "{mode:o}: {run:?}");
    }
    assert_eq!(summaries(&file), 3);
}

/// Regression: the attacker planted names of later rotated files, and the service deleted its own
/// acknowledged files to keep `rotate_keep`; and a directory with an early name parked the sink.
#[test]
fn planted_names_of_rotated_files_are_ignored() {
    for mode in [0o777, 0o1777] {
        assert_only_own_files_are_rotated(mode);
    }
}

fn assert_only_own_files_are_rotated(mode: u32) {
    let (mut workspace, file) = workspace(mode);
    workspace.clear_sinks();
    workspace.sink(
        "local",
        &format!(
            "type = \"file\"\npath = \"{}\"\nrotate_daily = true\nrotate_keep = 2",
            file.display()
        ),
    );
    let rotated = |stamp: &str| workspace.path(&format!("out/local.jsonl.{stamp}T000000Z-000"));
    let own = [(file.clone(), "current\n"), (rotated("20201122"), "acknowledged\n")];
    for (path, content) in &own {
        std::fs::write(path, content).unwrap();
        chown(path, Some(SERVICE), Some(0)).unwrap();
    }
    let yesterday = SystemTime::now() - Duration::from_hours(48);
    std::fs::File::options().append(true).open(&file).unwrap().set_modified(yesterday).unwrap();
    let script = "mkdir \"$0\" && : > \"$1\" && : > \"$2\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(rotated("19990101"));
    shell.args([rotated("20980101"), rotated("20990101")]).uid(ATTACKER).gid(ATTACKER);
    assert!(shell.status().unwrap().success());

    let run = run_as(&workspace, SERVICE, &["once"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(summaries(&file), 3);
    let mut contents: Vec<String> = std::fs::read_dir(workspace.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| *path != file && path.is_file())
        .map(|path| std::fs::read_to_string(path).unwrap())
        .filter(|content| !content.is_empty())
        .collect();
    contents.sort();
    assert_eq!(contents, ["acknowledged\n", "current\n"]);
}
