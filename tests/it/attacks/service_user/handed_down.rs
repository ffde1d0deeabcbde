//! What root hands to the processes that it executes as the user of the service, and what these
//! processes must not start or inherit.

use std::{
    io::Read,
    os::unix::fs::{PermissionsExt, chown},
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
/// receiver, and `test-sink` of root sent the secret there. Root hands secrets only to a
/// configuration that only root can change.
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

    for (owner, mode, is_used) in [(OTHER, 0o644, false), (0, GROUP_WRITE, false), (0, 0o640, true)]
    {
        let test = workspace.command(&["test-sink", "own"]);
        let check = workspace.command(&["check"]);
        chown(&config, Some(owner), Some(OTHER)).unwrap();
        set_mode(&config, mode);

        let run = run_within_limit(test);
        assert_eq!(run.code == 0, is_used, "{owner} {mode:o}: {run:?}");
        assert_eq!(receiver.accepted().is_empty(), !is_used, "{owner} {mode:o}");
        let warning = "can change `";
        let run = run_within_limit(check);
        assert_eq!(run.stderr.contains(warning), !is_used, "{owner} {mode:o}: {run:?}");
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
