//! The service's own user against root: links, hard links and FIFOs that it plants in its
//! directories, and triggers in a backup. Every test requires root. Start reading at
//! [`no_command_of_root_uses_planted_files`].

mod foreign_configuration;
mod handed_down;
pub(super) mod trap;
mod volumes;

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::Path,
};

use clap::CommandFactory;
use secure_score_forwarder::cli::Args;

use self::trap::{KINDS, OTHER, Trap, run_within_limit, set_mode};
use crate::{
    init::{CLIENT, init},
    state::{query, with_days},
    support::{CANARY, TENANT, Workspace, eventually, free_port, summaries, write},
};

/// Every command with options that let it use as much as possible. `{backup}` and `{saved}` are
/// files of root, and `{new}` does not exist.
const COMMANDS: &[(&str, &str)] = &[
    ("init", "--offline"),
    ("run", ""),
    ("reload", ""),
    ("once", "--json"),
    ("poll", ""),
    ("fetch", "--output jsonl"),
    ("check", "--online"),
    ("status", "--json"),
    ("backfill", "--days 3"),
    ("replay", "--sink local --from 2020-01-01"),
    ("dead-letters list", ""),
    ("dead-letters show", "5d0c6b2f91aa"),
    ("dead-letters retry", "--sink local"),
    ("dead-letters discard", "--sink local --all --yes"),
    ("report", "--output {new}/"),
    ("baseline set", "--day 2026-11-01"),
    ("baseline show", ""),
    ("baseline diff", "--exit-code"),
    ("state verify", ""),
    ("state repair", "--set-aside"),
    ("state backup", "{new}"),
    ("state restore", "{backup}"),
    ("state prune", "--compact"),
    ("state export", ""),
    ("state forget", "--tenant aaaaaaaa-0000-4000-8000-00000000c0de --yes"),
    ("test-sink", "local"),
    ("login", "--plaintext"),
    ("consent-url", ""),
    ("import", "{saved}"),
    ("import-config", "{saved}"),
    ("demo", "--days 1 --report {new}"),
    ("schema", ""),
    ("man", ""),
    ("reference", "--directory {new}"),
    ("completions", "bash"),
    ("complete", "tenants"),
];

/// The commands that use no configuration.
const INDEPENDENT: &[&str] =
    &["init", "import-config", "demo", "schema", "man", "reference", "completions"];

/// The names of the commands that have no subcommands, also of hidden ones.
fn command_names(command: &clap::Command, path: &str) -> Vec<String> {
    let subcommands: Vec<_> =
        command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    if subcommands.is_empty() {
        return vec![path.trim().to_owned()];
    }
    let names = |command: &&clap::Command| {
        command_names(command, &format!("{path} {}", command.get_name()))
    };
    subcommands.iter().flat_map(names).collect()
}

/// A new command must be added to the table, so that it is attacked too.
#[test]
fn every_command_is_attacked() {
    let mut listed: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
    let mut existing = command_names(&Args::command(), "");
    listed.sort_unstable();
    existing.sort_unstable();
    assert_eq!(listed, existing);
}

/// Regression: the user of the service replaces its files by links, hard links and FIFOs, and waits
/// for root to run a command: `state restore` truncated any file, and `status` never ended. No
/// command of root changes a file behind them or waits for them.
#[test]
fn no_command_of_root_uses_planted_files() {
    let trap = Trap::new();
    for kind in KINDS {
        for (name, options) in COMMANDS {
            trap.plant_everything(kind);
            let before = trap.outside();

            let run = trap.run(name, options);
            assert!((0..=3).contains(&run.code), "{kind:?} {name}: {run:?}");
            assert_eq!(trap.outside(), before, "{kind:?} {name}: {run:?}");
            if ["once", "status", "state repair"].contains(name) {
                assert_eq!(run.code, 3, "{kind:?} {name}: {run:?}");
                assert!(run.stderr.contains(kind.message()), "{kind:?} {name}: {run:?}");
            }
        }
    }
}

/// Regression: the user replaces the file of a sink by a link, and `test-sink`, `init` and a first
/// `once` of root followed it and gave the target to the user. Only a regular file of the user is
/// opened, by the user.
#[test]
fn sinks_of_root_follow_no_planted_file() {
    let trap = Trap::new();
    for kind in KINDS {
        trap.plant_sinks(kind);
        let before = trap.outside();

        let run = trap.run("once", "");
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(kind.message()), "{kind:?}: {run:?}");
        let run = trap.run("test-sink", "local");
        assert_eq!(run.code, 2, "{run:?}");
        assert!(run.stderr.contains(kind.message()), "{kind:?}: {run:?}");
        for (name, options) in [
            ("check", "--online"),
            ("replay", "--sink local --from 2020-01-01"),
            ("dead-letters retry", "--sink local"),
        ] {
            let run = trap.run(name, options);
            assert!((0..=2).contains(&run.code), "{kind:?} {name}: {run:?}");
        }

        assert_eq!(trap.outside(), before, "{kind:?}");
        assert_owned_by(&trap.workspace.state(), OTHER);
    }
}

/// The user replaces the files that only some commands write. They are replaced in turn, and what
/// is behind them does not change.
#[test]
fn a_restore_replaces_planted_files_only() {
    let trap = Trap::new();
    for kind in KINDS {
        trap.plant_leftovers(kind);
        let before = trap.outside();

        for (name, options) in [("state restore", "{backup}"), ("once", ""), ("state verify", "")] {
            let run = trap.run(name, options);
            assert_eq!(run.code, 0, "{kind:?} {name}: {run:?}");
            assert_eq!(trap.outside(), before, "{kind:?} {name}: {run:?}");
        }
        let cursors = trap.workspace.state().join("cursors.json");
        assert!(std::fs::symlink_metadata(cursors).unwrap().is_file(), "{kind:?}");
    }
}

/// Regression: `init` opened the file of the sink as root and followed the link.
#[test]
fn the_tests_of_init_follow_no_link() {
    let workspace = Workspace::new();
    set_mode(workspace.path(""), 0o755);
    let configured = workspace.configuration();
    let url = configured.split("login_url = \"").nth(1).unwrap().split('"').next().unwrap();
    for directory in [workspace.state(), workspace.path("out")] {
        std::fs::create_dir(&directory).unwrap();
        chown(directory, Some(OTHER), Some(OTHER)).unwrap();
    }
    write(workspace.path("canary"), "unchanged");
    let link = workspace.path("out/records.jsonl");
    symlink(workspace.path("canary"), &link).unwrap();

    let answers = format!("{TENANT}\n\n{CLIENT}\n\n{CANARY}-client\n{}\n", link.display());
    let (listen, cloud) = (format!("127.0.0.1:{}", free_port()), format!("{url},{url}"));
    let config = workspace.path("new/config.toml");
    let run = init(&workspace, &config, &["--cloud", &cloud, "--listen", &listen], &answers);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("is a symbolic link"), "{run:?}");
    assert_eq!(std::fs::read_to_string(workspace.path("canary")).unwrap(), "unchanged");
    assert_eq!(std::fs::metadata(workspace.path("canary")).unwrap().uid(), 0);
    assert_owned_by(&workspace.state(), OTHER);
}

/// What only root can read or write is still used for root, although the command runs as the owner
/// of the state directory.
#[test]
fn root_keeps_access_to_its_own_files() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    set_mode(workspace.path(""), 0o755);
    for (directory, owner) in [("state", OTHER), ("out", OTHER), ("root", 0), ("sinks.d", 0)] {
        std::fs::create_dir(workspace.path(directory)).unwrap();
        chown(workspace.path(directory), Some(owner), Some(owner)).unwrap();
        set_mode(workspace.path(directory), 0o700);
    }
    let sink = |name: &str| {
        let path = workspace.path(&format!("out/{name}.jsonl"));
        format!("[[sinks]]\nname = \"{name}\"\ntype = \"file\"\npath = \"{}\"\n", path.display())
    };
    write(workspace.path("sinks.d/secret-1.toml"), &sink("local"));
    write(workspace.path("root/secret-targets.txt"), "AdminMFAV2 100%\n");
    let root = |name: &str| workspace.path(&format!("root/{name}")).display().to_string();
    let run = |args: &[&str]| {
        let command = workspace.command(args);
        set_mode(workspace.path("config.toml"), 0o600);
        let run = run_within_limit(command);
        assert_eq!(run.code, 0, "{args:?}: {run:?}");
        assert_owned_by(&workspace.state(), OTHER);
        assert_owned_by(&workspace.path("out"), OTHER);
    };

    run(&["once"]);
    assert_eq!(summaries(&workspace.path("out/local.jsonl")), 3);
    run(&["report", "--output", &root("one.html")]);
    run(&["report", "--output", &root("many/")]);
    run(&["baseline", "set", "--file", &root("secret-targets.txt")]);
    run(&["state", "backup", &root("backup.db")]);
    run(&["state", "restore", &root("backup.db")]);
    run(&["state", "verify"]);

    assert_eq!(std::fs::read_dir(root("many")).unwrap().count(), 1);
    for name in ["one.html", "many", "backup.db"] {
        assert_eq!(std::fs::metadata(root(name)).unwrap().uid(), 0, "{name}");
    }
    let mode = std::fs::metadata(root("backup.db")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A workspace whose state directory belongs to the user of the service.
fn owned_by_the_service() -> (Workspace, std::path::PathBuf) {
    let (workspace, file) = with_days(1);
    set_mode(workspace.path(""), 0o755);
    for entry in std::fs::read_dir(workspace.state()).unwrap() {
        chown(entry.unwrap().path(), Some(OTHER), Some(OTHER)).unwrap();
    }
    chown(workspace.state(), Some(OTHER), Some(OTHER)).unwrap();
    (workspace, file)
}

/// Regression: the user plants a link to a file that only root can read, root names the link as the
/// input of a command, and the user received a copy of the file. What is behind a link of another
/// user is never opened as root.
#[test]
fn inputs_behind_planted_links_are_not_read() {
    let (workspace, _) = owned_by_the_service();
    let (secret, link) = (workspace.path("of-root"), workspace.state().join("planted"));
    write(&secret, "known only to root\n");
    set_mode(&secret, 0o600);
    symlink(&secret, &link).unwrap();
    lchown(&link, Some(OTHER), Some(OTHER)).unwrap();
    let planted = link.display().to_string();

    for command in [
        &["state", "restore", &planted][..],
        &["import", &planted],
        &["baseline", "set", "--file", &planted],
    ] {
        let run = run_within_limit(workspace.command(command));
        assert_ne!(run.code, 0, "{command:?}: {run:?}");
        assert!(!run.stderr.contains("known only"), "{command:?}: {run:?}");
        for entry in std::fs::read_dir(workspace.state()).unwrap() {
            let path = entry.unwrap().path();
            let is_copy = path != link
                && std::fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"known only"));
            assert!(!is_copy, "{command:?}: {}", path.display());
        }
    }

    // A link of root is followed.
    let backup = workspace.path("backup.db");
    workspace.run_ok(&["state", "backup", &backup.display().to_string()]);
    symlink(&backup, workspace.path("link-of-root")).unwrap();
    let of_root = workspace.path("link-of-root").display().to_string();
    workspace.run_ok(&["state", "restore", &of_root]);
}

/// Regression: the user plants a link in the place of the directory in which root stores backups,
/// and root created a file behind it. Nothing is created there.
#[test]
fn backups_are_not_written_through_planted_links() {
    let (workspace, _) = owned_by_the_service();
    let outside = workspace.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let link = workspace.state().join("backups");
    symlink(&outside, &link).unwrap();
    lchown(&link, Some(OTHER), Some(OTHER)).unwrap();

    let to = link.join("backup.db").display().to_string();
    let run = run_within_limit(workspace.command(&["state", "backup", &to]));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("belongs to another user"), "{run:?}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

/// Regression: the user traced the process that root had executed as the user, and so controlled
/// the terminal of root and took the files that are handed down. The kernel denies that from the
/// first instruction on, because the user cannot read the program.
#[test]
fn processes_of_root_cannot_be_traced() {
    let (workspace, _) = owned_by_the_service();
    let daemon = workspace.spawn(&["run"]);
    let process = std::path::PathBuf::from(format!("/proc/{}", daemon.id()));
    let is_other = || {
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with(&format!("Uid:\t{OTHER}\t")))
    };
    eventually("the daemon runs as the user", || {
        let program = std::fs::read_link(process.join("exe")).unwrap_or_default();
        is_other() && program.starts_with("/memfd:secure-score-forwarder (deleted)")
    });

    let program = std::fs::metadata(process.join("exe")).unwrap();
    assert_eq!((program.uid(), program.mode() & 0o777), (0, 0o111));
    // The entries of a process that cannot be traced belong to root.
    assert_owned_by(&process.join("fd"), 0);
    daemon.kill();
}

/// The user of the service changes a backup so that root restores a trigger. A backup contains the
/// tables of its version and nothing else.
#[test]
fn a_backup_with_a_trigger_is_rejected() {
    let (workspace, _) = with_days(2);
    let (backup, changed) = (workspace.path("backup.db"), workspace.path("changed.db"));
    workspace.run_ok(&["state", "backup", &backup.display().to_string()]);
    let id = workspace.status()["checkpoint_id"].clone();
    let entries = || query(&workspace, "SELECT count(*) FROM entry");
    let stored = entries();

    for (change, reason) in [
        (
            "CREATE TRIGGER t AFTER UPDATE ON meta BEGIN DELETE FROM entry; END",
            "it contains a trigger or a view",
        ),
        ("CREATE VIEW v AS SELECT * FROM meta", "it contains a trigger or a view"),
        ("CREATE TABLE more (a)", "its tables are not those of version"),
        ("DROP INDEX entry_body", "its tables are not those of version"),
    ] {
        std::fs::copy(&backup, &changed).unwrap();
        let connection = rusqlite::Connection::open(&changed).unwrap();
        connection.execute_batch(change).unwrap();
        drop(connection);

        let run = workspace.run(&["state", "restore", &changed.display().to_string()]);
        assert_eq!(run.code, 2, "{change}: {run:?}");
        assert!(run.stderr.contains(reason), "{change}: {run:?}");
        assert_eq!(workspace.status()["checkpoint_id"], id, "{change}");
        assert_eq!(entries(), stored, "{change}");
    }
    workspace.run_ok(&["state", "restore", &backup.display().to_string()]);
}

/// A service that runs as root does not write into a directory of another user.
#[test]
fn root_rejects_a_sink_in_a_foreign_directory() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let out = workspace.path("out");
    std::fs::create_dir(&out).unwrap();
    chown(&out, Some(OTHER), Some(OTHER)).unwrap();
    let section = format!("type = \"file\"\npath = \"{}\"", out.join("x.jsonl").display());
    workspace.sink("local", &section);

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{run:?}");
    let message = format!("`{}` belongs to another user (ID {OTHER})", out.display());
    assert!(run.stderr.contains(&message), "{run:?}");
    assert!(run.stderr.contains("hint: run the command as the user with the ID"), "{run:?}");
    assert_eq!(std::fs::read_dir(out).unwrap().count(), 0);
}

/// Asserts that everything in a directory belongs to a user.
fn assert_owned_by(directory: &Path, owner: u32) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.uid(), owner, "{}", path.display());
        assert_eq!(metadata.permissions().mode() & 0o002, 0, "{}", path.display());
    }
}
