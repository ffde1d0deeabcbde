//! `init`: questions, a configuration, the acknowledgement; `man` and `completions`.

use std::{io::Write, os::unix::fs::PermissionsExt, process::Stdio};

use crate::support::{CANARY, Run, TENANT, Workspace, free_port, records};

/// Runs `init` with these answers.
fn init(workspace: &Workspace, config: &std::path::Path, more: &[&str], answers: &str) -> Run {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_secure-score-forwarder"));
    command.arg("init").args(more).arg("--config").arg(config);
    command.arg("--state-directory").arg(workspace.state());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have heard enough before the end.
    let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    Run::of(child.wait_with_output().unwrap())
}

#[test]
fn it_asks_writes_and_proves() {
    let workspace = Workspace::new();
    let configured = workspace.configuration();
    let url = configured.split("login_url = \"").nth(1).unwrap().split('"').next().unwrap();
    let (config, file) = (workspace.path("new-secret/config.toml"), workspace.path("out.jsonl"));
    std::fs::create_dir(workspace.path("new-secret")).unwrap();
    let answers = format!(
        "{TENANT}\n\n11111111-2222-4333-8444-555555555555\n\n{CANARY}-client\nnonsense://x\n{}\n",
        file.display()
    );
    let listen = format!("127.0.0.1:{}", free_port());
    let cloud = format!("{url},{url}");
    let run = init(&workspace, &config, &["--cloud", &cloud, "--listen", &listen], &answers);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    for said in [
        "that is none of these",
        "A name for it, which records carry [main]: ",
        "is written. Now the acknowledgement.",
    ] {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
    for said in [
        "tenant main: signed in, and read",
        "sink siem: one test record was delivered",
        "To start: secure-score-forwarder run --config",
    ] {
        assert!(run.stdout.contains(said), "{said}: {}", run.stdout);
    }
    assert_eq!(records(&file).len(), 1);
    let secret = workspace.path("new-secret/secrets/graph-secret");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), format!("{CANARY}-client\n"));
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o007, 0);
    assert!(!std::fs::read_to_string(&config).unwrap().contains(CANARY));

    let again = init(&workspace, &config, &[], &answers);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("is there already, and is not overwritten"), "{}", again.stderr);
}

#[test]
fn answers_that_make_no_configuration_write_nothing() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    let config = workspace.path("config.toml");
    for (answers, said) in [
        (format!("{TENANT}\nname\n"), "the answers ended before the questions did"),
        (format!("{TENANT}\n\nid\n/nowhere/app.pem\n"), "there is no file `/nowhere/app.pem`"),
        ("not a tenant\n\nid\n\nsecret\n/x\n".to_owned(), "is neither a tenant GUID nor a domain"),
    ] {
        let run = init(&workspace, &config, &["--offline"], &answers);
        assert_eq!(run.code, 2, "{}", run.stderr);
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
        assert!(!config.exists() && !workspace.path("secrets").exists());
    }
}

#[test]
fn what_does_not_work_is_said_and_the_configuration_stays_to_be_mended() {
    let workspace = Workspace::new();
    let configured = workspace.configuration();
    let url = configured.split("login_url = \"").nth(1).unwrap().split('"').next().unwrap();
    let config = workspace.path("config.toml");
    let port = free_port();
    let answers = format!(
        "{TENANT}\n\n11111111-2222-4333-8444-555555555555\n\nwrong\ntcp://127.0.0.1:{port}\nxml\njson\n"
    );
    let run = init(&workspace, &config, &["--cloud", &format!("{url},{url}")], &answers);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("AADSTS7000215"), "{}", run.stdout);
    assert!(run.stderr.contains("sink siem: cannot connect to 127.0.0.1"), "{}", run.stderr);
    assert!(run.stderr.contains("try `check --online` again"), "{}", run.stderr);
    assert!(config.exists());
}

#[test]
fn every_command_has_a_page_and_every_shell_its_completions() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    let bare = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_secure-score-forwarder"))
            .args(args)
            .output();
        Run::of(output.unwrap())
    };
    let pages = workspace.path("man");
    let run = bare(&["man", "--directory", &pages.display().to_string()]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for page in ["", "-run", "-once", "-state", "-state-backup", "-baseline-set", "-init"] {
        let path = pages.join(format!("secure-score-forwarder{page}.1"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.contains(".SH SYNOPSIS"), "{text}");
    }
    assert!(bare(&["man"]).stdout.contains(".SH \"EXIT STATUS\""));
    for shell in ["bash", "zsh", "fish"] {
        let run = bare(&["completions", shell]);
        assert!(run.code == 0 && run.stdout.contains("test-sink"), "{shell}");
    }
}

#[test]
fn a_secret_that_is_kept_already_is_not_asked_for() {
    let workspace = Workspace::new();
    let config = workspace.path("kept/config.toml");
    std::fs::create_dir_all(workspace.path("kept/secrets")).unwrap();
    std::fs::write(workspace.path("kept/secrets/graph-secret"), format!("{CANARY}-client\n"))
        .unwrap();
    let answers = format!(
        "{TENANT}\n\n11111111-2222-4333-8444-555555555555\n\n{}\n",
        workspace.path("out.jsonl").display()
    );
    let run = init(&workspace, &config, &["--offline"], &answers);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("graph-secret` is used"), "{}", run.stderr);
    assert!(!run.stderr.contains(CANARY));
}
