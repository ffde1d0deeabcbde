//! `init`: the questions, the configuration and its test; `man` and `completions`.

use std::{
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use crate::support::{CANARY, Run, TENANT, Workspace, free_port, records, write};

pub const CLIENT: &str = "11111111-2222-4333-8444-555555555555";

/// Starts `init` with a pipe for its answers.
fn start(workspace: &Workspace, config: &std::path::Path, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secure-score-forwarder"));
    command.arg("init").args(more).arg("--config").arg(config);
    command.arg("--state-directory").arg(workspace.state());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Runs `init`, and writes the answers to its standard input.
pub fn init(workspace: &Workspace, config: &std::path::Path, more: &[&str], answers: &str) -> Run {
    let mut child = start(workspace, config, more);
    // The command may end before it has read all answers.
    let _ = child.stdin.take().unwrap().write_all(answers.as_bytes());
    Run::of(child.wait_with_output().unwrap())
}

/// The directories and files that `init` could create.
fn exists(workspace: &Workspace, config: &std::path::Path) -> bool {
    config.exists() || workspace.path("secrets").exists() || workspace.state().exists()
}

#[test]
fn writes_and_tests_a_configuration() {
    let workspace = Workspace::new();
    let configured = workspace.configuration();
    let url = configured.split("login_url = \"").nth(1).unwrap().split('"').next().unwrap();
    let (config, file) = (workspace.path("new-secret/config.toml"), workspace.path("out.jsonl"));
    std::fs::create_dir(workspace.path("new-secret")).unwrap();
    let answers =
        format!("{TENANT}\n\n{CLIENT}\n\n{CANARY}-client\nnonsense://x\n{}\n", file.display());

    let listen = format!("127.0.0.1:{}", free_port());
    let cloud = format!("{url},{url}");
    let run = init(&workspace, &config, &["--cloud", &cloud, "--listen", &listen], &answers);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);

    for expected in [
        "unsupported receiver",
        "Name of the tenant in records [main]: ",
        "2. Name in records: main\n",
        "5. Client secret: (not shown)\n",
        "config.toml`; testing it:",
    ] {
        assert!(run.stderr.contains(expected), "{expected}: {}", run.stderr);
    }
    for expected in [
        "tenant `main`: signed in and read",
        "sink `siem`: one test record was delivered",
        "hint: run `secure-score-forwarder run --config",
    ] {
        assert!(run.stdout.contains(expected), "{expected}: {}", run.stdout);
    }

    assert_eq!(records(&file).len(), 1);
    let secret = workspace.path("new-secret/secrets/graph-secret");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), format!("{CANARY}-client\n"));
    for private in [&secret, &workspace.path("new-secret/secrets"), &workspace.state()] {
        assert_eq!(std::fs::metadata(private).unwrap().permissions().mode() & 0o007, 0);
    }
    assert!(!std::fs::read_to_string(&config).unwrap().contains(CANARY));

    let again = init(&workspace, &config, &[], &answers);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("exists and is not overwritten"), "{}", again.stderr);
}

/// An invalid answer is rejected immediately, so the input ends before the last question.
#[test]
fn invalid_answers_write_nothing() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    let config = workspace.path("config.toml");
    let complete = format!("{TENANT}\n\n{CLIENT}\n\nsecret\n/x\n");
    let certificate = workspace.path("app.pem").display().to_string();
    write(&certificate, "not a certificate");
    for (answers, expected) in [
        (format!("{TENANT}\nname\n"), "the input ended before the last question"),
        (
            format!("{TENANT}\n\n{CLIENT}\n/nowhere/app.pem\n"),
            "the file `/nowhere/app.pem` does not exist",
        ),
        // Regression: every readable file was accepted.
        (
            format!("{TENANT}\n\n{CLIENT}\n{certificate}\n"),
            "the file is neither PEM nor a PFX file that the password decrypts\n  hint: enter a PEM",
        ),
        ("not a tenant\n".to_owned(), "is neither a tenant GUID nor a domain"),
        (format!("{TENANT}\n\nmy-app\n"), "`client_id` must be the GUID"),
        (format!("{complete}yes\nyes\n99\n"), "this is not the number of an answer"),
        (format!("{complete}perhaps\n"), "the answer is neither yes nor no"),
    ] {
        let run = init(&workspace, &config, &["--offline"], &answers);
        assert_eq!(run.code, 2, "{}", run.stderr);
        for text in [expected, "the input ended before the last question; nothing was written"] {
            assert!(run.stderr.contains(text), "{text}: {}", run.stderr);
        }
        assert!(!exists(&workspace, &config), "{expected}");
    }

    let stopped = init(&workspace, &config, &["--offline"], &format!("{complete}yes\nyes\nno\n"));
    assert_eq!(stopped.code, 1, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("stopped; nothing was written"), "{}", stopped.stderr);
    assert!(!exists(&workspace, &config));
}

/// Regression: the directory of the configuration had to exist, and the one of a file receiver was
/// not offered, so that nothing could be delivered.
#[test]
fn missing_directories_are_created() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    let config = workspace.path("new/forwarder/config.toml");
    let (directory, records) = (config.parent().unwrap(), workspace.path("logs"));
    let answers =
        format!("{TENANT}\n\n{CLIENT}\n\nsecret\n{}\n", records.join("x.jsonl").display());
    let run = init(&workspace, &config, &["--offline"], &answers);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    for (question, path) in [
        ("Create the directory of the file", &*records),
        ("Create the directory of the configuration", directory),
    ] {
        let shown = format!("{question} `{}` (mode ", path.display());
        assert!(run.stderr.contains(&shown), "{shown}: {}", run.stderr);
    }

    assert!(config.exists() && directory.join("secrets/graph-secret").exists());
    for (path, mode) in [(&*records, 0o750), (directory, 0o700)] {
        let permissions = std::fs::metadata(path).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{}", path.display());
    }

    let below = config.join("below/config.toml");
    let run = init(&workspace, &below, &["--offline"], &answers);
    assert!(run.code == 2 && run.stderr.contains("is not a directory"), "{}", run.stderr);
}

/// Regression: after an invalid answer, all questions had to be answered again.
#[test]
fn one_answer_can_be_corrected() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    let config = workspace.path("config.toml");
    // The second answer is changed after the summary; no directory of the state is created.
    let answers = format!(
        "nowhere\n{TENANT}\nmistaken\n{CLIENT}\n\nsecret\nelasticsearch\nelastic\nhttps://elastic.example.com\n\n\nno\nyes\n2\ncontoso\n\n"
    );
    let run = init(&workspace, &config, &["--offline"], &answers);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);

    let text = std::fs::read_to_string(&config).unwrap();
    for expected in
        [TENANT, "name = \"contoso\"", "type = \"elasticsearch\"\nurl = \"https://elastic.example"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!workspace.state().exists());
    let mode = std::fs::metadata(workspace.path("secrets")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn an_interrupted_interview_leaves_nothing_behind() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    let config = workspace.path("config.toml");
    let mut child = start(&workspace, &config, &["--offline"]);
    let mut answers = child.stdin.take().unwrap();
    answers.write_all(format!("{TENANT}\nmain\n{CLIENT}\n\n").as_bytes()).unwrap();

    // The command waits for the secret.
    let mut stderr = child.stderr.take().unwrap();
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("Value of the client secret: ") {
        let mut byte = [0];
        stderr.read_exact(&mut byte).unwrap();
        shown.extend(byte);
    }
    let interrupt = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());

    let status = child.wait().unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(status.code(), Some(130), "{rest}");
    assert!(rest.contains("interrupted; nothing was written"), "{rest}");
    assert!(!exists(&workspace, &config));
    drop(answers);
}

#[test]
fn keeps_the_configuration_if_the_test_fails() {
    let workspace = Workspace::new();
    let configured = workspace.configuration();
    let url = configured.split("login_url = \"").nth(1).unwrap().split('"').next().unwrap();
    let config = workspace.path("config.toml");
    let port = free_port();
    let answers = format!("{TENANT}\n\n{CLIENT}\n\nwrong\ntcp://127.0.0.1:{port}\nxml\njson\n");
    let run = init(&workspace, &config, &["--cloud", &format!("{url},{url}")], &answers);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("AADSTS7000215"), "{}", run.stdout);
    assert!(run.stdout.contains("sink `siem`: cannot connect to `127.0.0.1"), "{}", run.stdout);
    assert!(run.stderr.contains("run `check --online` again"), "{}", run.stderr);
    assert!(config.exists());
}

/// Regression: `check --online` reported the fault of a sink, and `test-sink` reported it again.
#[test]
fn each_fault_of_a_sink_is_reported_once() {
    let workspace = Workspace::new();
    let configured = workspace.configuration();
    let url = configured.split("login_url = \"").nth(1).unwrap().split('"').next().unwrap();
    let cloud = format!("{url},{url}");
    let (directory, link) = (workspace.path("directory"), workspace.path("link"));
    std::fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink("target", &link).unwrap();
    let port = free_port();

    for (number, (receiver, message)) in [
        (link.display().to_string(), "is a symbolic link"),
        (directory.display().to_string(), "Is a directory"),
        (format!("tcp://127.0.0.1:{port}"), "cannot connect to"),
    ]
    .into_iter()
    .enumerate()
    {
        let config = workspace.path(&format!("new-{number}-secret/config.toml"));
        let answers = format!("{TENANT}\n\n{CLIENT}\n\n{CANARY}-client\n{receiver}\n\n");
        let listen = format!("127.0.0.1:{}", free_port());
        let run = init(&workspace, &config, &["--cloud", &cloud, "--listen", &listen], &answers);
        let output = format!("{}{}", run.stdout, run.stderr);
        assert_eq!(run.code, 1, "{receiver}: {output}");
        assert_eq!(output.matches(message).count(), 1, "{receiver}: {output}");
    }
}

#[test]
fn generates_man_pages_and_completions() {
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

    let page = std::fs::read_to_string(pages.join("secure-score-forwarder-replay.1")).unwrap();
    assert!(page.contains(".SH EXAMPLES\n  secure\\-score\\-forwarder replay "), "{page}");
    for hidden in ["reference", "complete"] {
        assert!(!pages.join(format!("secure-score-forwarder-{hidden}.1")).exists(), "{hidden}");
    }
    assert!(bare(&["man"]).stdout.contains(".SH \"EXIT STATUS\""));
    for shell in ["bash", "zsh", "fish"] {
        let run = bare(&["completions", shell]);
        assert!(run.code == 0 && run.stdout.contains("test-sink"), "{shell}");
    }
}

#[test]
fn uses_an_existing_secret_file() {
    let workspace = Workspace::new();
    let config = workspace.path("kept/config.toml");
    std::fs::create_dir_all(workspace.path("kept/secrets")).unwrap();
    std::fs::write(workspace.path("kept/secrets/graph-secret"), format!("{CANARY}-client\n"))
        .unwrap();
    let answers = format!("{TENANT}\n\n{CLIENT}\n\n{}\n", workspace.path("out.jsonl").display());
    let run = init(&workspace, &config, &["--offline"], &answers);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stderr.contains("Value of the client secret: using the existing file"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains(CANARY));
}
