//! What root hands to the processes that it executes as the user of the service, and what these
//! processes must not start or inherit.

use std::{
    io::Read,
    os::unix::fs::{PermissionsExt, chown, symlink},
    process::{Command, Stdio},
};

use super::trap::{OTHER, run_within_limit, set_mode};
use crate::{
    auth::against,
    login::user,
    support::{
        Workspace, endpoint::Endpoint, entra::Entra, eventually, hec::TOKEN, runtime, write,
    },
};

/// The bits of a mode that the user of the service has through its group.
const GROUP_WRITE: u32 = 0o660;

/// Gives a state directory to the user of the service.
fn give_state(workspace: &Workspace) {
    set_mode(workspace.path(""), 0o755);
    std::fs::create_dir_all(workspace.state()).unwrap();
    chown(workspace.state(), Some(OTHER), Some(OTHER)).unwrap();
}

/// Regression: the user of the service named a secret of root in its own configuration, and its own
/// receiver, and `test-sink` of root sent the secret there. Root uses no configuration that another
/// user can change.
#[test]
fn secrets_of_root_need_a_configuration_of_root() {
    let receiver = Endpoint::new(r#"{"text":"Success","code":0}"#);
    let mut workspace = Workspace::new();
    let token = workspace.secret("hec-secret", TOKEN);
    let section = format!("type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}", receiver.url);
    workspace.sink("own", &section);
    give_state(&workspace);
    set_mode(workspace.path("hec-secret"), 0o600);
    let config = workspace.path("config.toml");
    let message = format!("root does not use `{}`", config.display());

    for (owner, mode, is_used) in [(OTHER, 0o644, false), (0, GROUP_WRITE, false), (0, 0o640, true)]
    {
        let test = workspace.command(&["test-sink", "own"]);
        let check = workspace.command(&["check"]);
        chown(&config, Some(owner), Some(OTHER)).unwrap();
        set_mode(&config, mode);

        let run = run_within_limit(test);
        assert_eq!(run.code, if is_used { 0 } else { 2 }, "{owner} {mode:o}: {run:?}");
        assert_eq!(receiver.accepted().is_empty(), !is_used, "{owner} {mode:o}");
        let run = run_within_limit(check);
        assert_eq!(run.stderr.contains(&message), !is_used, "{owner} {mode:o}: {run:?}");
        assert_eq!(run.stderr.contains("sudo -u USER"), !is_used, "{owner} {mode:o}: {run:?}");
    }
}

/// Regression: with a state directory of root, or a file in its place, root itself read the secrets
/// for a configuration of the user of the service.
#[test]
fn root_uses_no_configuration_of_another_user() {
    let receiver = Endpoint::new(r#"{"text":"Success","code":0}"#);
    let mut workspace = Workspace::new();
    let token = workspace.secret("hec-secret", TOKEN);
    let section = format!("type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}", receiver.url);
    workspace.sink("own", &section);
    set_mode(workspace.path(""), 0o755);
    set_mode(workspace.path("hec-secret"), 0o600);
    let config = workspace.path("config.toml");

    for is_directory in [true, false] {
        if is_directory {
            std::fs::create_dir(workspace.state()).unwrap();
        } else {
            std::fs::remove_dir_all(workspace.state()).unwrap();
            write(workspace.state(), "a file");
        }
        for (owner, directory_mode) in [(OTHER, 0o755), (0, 0o775)] {
            let test = workspace.command(&["test-sink", "own"]);
            chown(&config, Some(owner), Some(OTHER)).unwrap();
            set_mode(&config, 0o640);
            set_mode(workspace.path(""), directory_mode);
            let run = run_within_limit(test);
            assert_eq!(run.code, 2, "{run:?}");
            assert!(run.stderr.contains("root does not use `"), "{run:?}");
            set_mode(workspace.path(""), 0o755);
        }
    }
    assert!(receiver.accepted().is_empty());
}

/// Regression: only files that existed at that moment were examined, and of the directories only
/// those that lead to them after all links are followed: another user could add a file to the
/// configuration, or lead root to another one. Everything on the way must belong to root.
#[test]
fn everything_that_leads_to_a_configuration_is_examined() {
    let mut workspace = Workspace::new();
    workspace.sink("local", "type = \"stdout\"");
    give_state(&workspace);
    let at = |name: &str| workspace.path(name);
    for name in ["real", "foreign", "csv"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    symlink("../real/config.toml", at("foreign/link")).unwrap();
    for name in ["foreign", "csv"] {
        chown(at(name), Some(OTHER), Some(OTHER)).unwrap();
    }
    let refused = |command: Command, changeable: &str| {
        let run = run_within_limit(command);
        assert_eq!(run.code, 2, "{changeable}: {run:?}");
        assert!(run.stderr.contains("root does not use `"), "{changeable}: {run:?}");
        let named = format!("`{}`", at(changeable).display());
        assert!(run.stderr.contains(&named), "{changeable}: {run:?}");
    };

    for name in ["sinks.d", "tenants.d"] {
        for (owner, mode) in [(OTHER, 0o755), (0, 0o775), (0, 0o1777)] {
            std::fs::create_dir(at(name)).unwrap();
            chown(at(name), Some(owner), Some(OTHER)).unwrap();
            set_mode(at(name), mode);
            refused(workspace.command(&["status"]), name);
            std::fs::remove_dir(at(name)).unwrap();
        }
    }

    // The directory of another user contains a link of root to a file of root.
    let command = workspace.command(&["status"]);
    std::fs::rename(at("config.toml"), at("real/config.toml")).unwrap();
    symlink("foreign/link", at("config.toml")).unwrap();
    refused(command, "foreign");

    // A file that another user can create, or add to the directory of the main file.
    let mut command = workspace.command(&["status"]);
    command.env("SECURE_SCORE_FORWARDER__TENANTS_FILE", "csv/tenants.csv");
    refused(command, "csv");
    set_mode(at(""), 0o777);
    refused(workspace.command(&["status"]), "config.toml");
    set_mode(at(""), 0o755);
}

/// Regression: the user of the service traced the browser that `login` of root had started as that
/// user, wrote commands to the terminal of root, and read the files that root's shell had open.
#[test]
fn login_of_root_starts_no_foreign_browser() {
    for is_root in [true, false] {
        let entra = Entra::new();
        let mut workspace = against(&entra);
        workspace.head = user(&workspace, true);
        workspace.credential = Some("credential = \"me\"".to_owned());
        give_state(&workspace);
        if is_root {
            chown(workspace.state(), Some(0), Some(0)).unwrap();
        }
        let (programs, seen) = (workspace.path("programs"), workspace.path("seen"));
        for directory in [&programs, &seen] {
            std::fs::create_dir(directory).unwrap();
        }
        set_mode(&seen, 0o777);
        let browser = programs.join("xdg-open");
        write(&browser, &format!("#!/bin/sh\n: >{}/opened\n", seen.display()));
        std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();

        sign_in_on_a_terminal(&workspace, &programs.display().to_string());
        let is_opened = || seen.join("opened").exists();
        if is_root {
            eventually("the browser of root is started", is_opened);
        } else {
            assert!(!is_opened(), "a browser of another user was started");
        }
    }
}

/// Runs `login` with this directory of programs, and opens the page that it prints.
fn sign_in_on_a_terminal(workspace: &Workspace, programs: &str) {
    workspace.write_configuration();
    let line = format!(
        "exec {} login --config {}",
        env!("CARGO_BIN_EXE_secure-score-forwarder"),
        workspace.path("config.toml").display()
    );
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("PATH", path)
        .env("DISPLAY", ":0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();

    let mut output = child.stdout.take().unwrap();
    let mut text = String::new();
    let url = loop {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error}: {text}"));
        text.push(byte[0].into());
        let end = text.trim_end_matches(['\r', '\n']);
        let line = end.rsplit('\n').next().unwrap_or_default();
        if text.ends_with('\n') && line.starts_with("http") {
            break line.trim().to_owned();
        }
    };
    runtime().block_on(async {
        let browser = reqwest::Client::builder().no_proxy().build().unwrap();
        browser.get(url).send().await.unwrap().text().await.unwrap()
    });
    output.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
}
