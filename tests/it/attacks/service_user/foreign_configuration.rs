//! Configurations that another user can change, and state directories that another user has
//! created. Root uses neither.

use std::{collections::BTreeSet, os::unix::fs::chown, path::Path};

use super::{
    COMMANDS, INDEPENDENT, assert_owned_by, owned_by_the_service,
    trap::{OTHER, run_within_limit, set_mode},
};
use crate::support::Workspace;

/// A user who is neither root nor the user of the service.
const THIRD: u32 = 65_533;

/// Regression: root acted as the owner of any state directory that the configuration of another
/// user named, and passed variables such as `AZURE_CLIENT_SECRET` to the receivers of that user;
/// `consent-url` and the completion of names used it too. Root refuses such a configuration for
/// every command.
#[test]
fn no_command_of_root_uses_a_foreign_configuration() {
    let (workspace, _) = owned_by_the_service();
    let config = workspace.path("config.toml");
    let new = workspace.path("new").display().to_string();
    let message = format!("root does not use `{}`", config.display());
    let names = || {
        let entries = std::fs::read_dir(workspace.state()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>()
    };

    let before = names();
    for (name, options) in COMMANDS.iter().filter(|(name, _)| !INDEPENDENT.contains(name)) {
        let options = ["{new}", "{backup}", "{saved}"]
            .iter()
            .fold((*options).to_owned(), |options, part| options.replace(part, &new));
        let args: Vec<&str> = name.split_whitespace().chain(options.split_whitespace()).collect();
        let command = workspace.command(&args);
        chown(&config, Some(THIRD), Some(THIRD)).unwrap();

        let run = run_within_limit(command);
        if *name == "complete" {
            // A message would appear in the middle of a command line.
            assert_eq!((run.code, run.stdout + &run.stderr), (0, String::new()));
        } else {
            assert_eq!(run.code, 2, "{name}: {run:?}");
            let is_refused = run.stderr.contains(&message) || run.stdout.contains(&message);
            assert!(is_refused, "{name}: {run:?}");
        }
        assert_eq!(names(), before, "{name}");
        assert!(!Path::new(&new).exists(), "{name}");
    }
}

/// Regression: root acted as the user who had created the missing state directory where every user
/// can create one, and handed the secrets to that user; `check` advised to let that user read them.
#[test]
fn root_acts_as_no_planted_owner() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    set_mode(workspace.path(""), 0o755);
    let (shared, state) = (workspace.path("shared"), workspace.path("shared/state"));
    for directory in [&shared, &state, &workspace.path("out")] {
        std::fs::create_dir(directory).unwrap();
    }
    for directory in [&state, &workspace.path("out")] {
        chown(directory, Some(OTHER), Some(OTHER)).unwrap();
    }
    let file = workspace.path("out/local.jsonl");
    workspace.sink("local", &format!("type = \"file\"\npath = \"{}\"", file.display()));
    let configured = workspace.state().display().to_string();
    let configuration = workspace.configuration();
    workspace.literal = Some(configuration.replace(&configured, &state.display().to_string()));

    for mode in [0o1777, 0o777, 0o775] {
        set_mode(&shared, mode);
        for command in ["once", "status", "check"] {
            let run = run_within_limit(workspace.command(&[command]));
            assert_eq!(run.code, 3, "{mode:o} {command}: {run:?}");
            let messages = [
                format!("`{}` belongs to another user (ID {OTHER})", state.display()),
                format!("can write to `{}`", shared.display()),
            ];
            let is_named = messages.iter().all(|message| run.stderr.contains(message));
            assert!(is_named && !run.stderr.contains("chgrp"), "{mode:o} {command}: {run:?}");
            assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "{mode:o} {command}");
        }
    }

    set_mode(&shared, 0o755);
    let run = run_within_limit(workspace.command(&["once"]));
    assert_eq!(run.code, 0, "{run:?}");
    assert_owned_by(&state, OTHER);
}
