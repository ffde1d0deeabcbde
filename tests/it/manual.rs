//! The documentation: every command in it is run, here or by the script or test that `ELSEWHERE`
//! names; every configuration in it is parsed; every record in it matches the schema; its figures
//! agree with the code (see `figures`); the manifests and the chart for Kubernetes are valid (see
//! `kubernetes`); the documented registration of an application works (see `registration`); and the
//! tutorial for contributors names only what exists (see `tutorial`).

mod compared;
mod figures;
mod json;
mod kubernetes;
mod registration;
mod tutorial;

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use secure_score_forwarder::config::Configuration;

use crate::support::{
    CANARY, OTHER, Process, TENANT, Workspace, eventually, rsyslog::Rsyslog, write,
};

/// The pages, and the folders of pages, whose commands and configurations are tested.
const PAGES: &[&str] = &["README.md", "docs/tutorials", "docs/how-to", "docs/explanation"];

/// What runs a command of another program.
enum Coverage {
    /// A script that contains this text.
    Script(&'static str, &'static str),
    /// A test in this file of `tests/it`.
    Test(&'static str, &'static str),
}
use Coverage::{Script, Test};

/// The beginnings of documented commands of other programs, and what runs them.
const ELSEWHERE: &[(&str, Coverage)] = &[
    ("git clone ", Script("tests/quick-start", "cargo demo")),
    ("cd secure-score-forwarder", Script("tests/quick-start", "cargo demo")),
    ("cargo demo", Script("tests/quick-start", "cargo demo")),
    ("cargo build ", Script("deploy/package", "cargo build ")),
    ("tests/quick", Script("tests/quick", "cargo test")),
    ("tests/run", Script("tests/run", "cargo test")),
    ("apt-get install ", Script("tests/service", "apt-get install ")),
    ("dnf install ", Script("tests/rpm", "rpm_in_root -i")),
    ("podman build ", Script("tests/container", "podman build ")),
    ("podman run ", Script("tests/container", "podman run ")),
    ("docker compose ", Script("tests/container", "podman-compose")),
    ("systemctl ", Script("tests/service", "systemctl ")),
    ("systemd-creds encrypt", Script("tests/service", "systemd-creds encrypt")),
    ("journalctl ", Script("tests/service", "journalctl ")),
    ("curl -fsS http://127.0.0.1:9633/readyz", Script("tests/service", "/readyz")),
    ("curl -fsS -X PUT", Test("siem.rs", "records_reach_the_data_stream_of_the_template")),
    ("kubectl ", Test("manual/kubernetes.rs", "manifests_fit_the_schemas_of_kubernetes")),
    (
        "helm upgrade --install ",
        Test("manual/kubernetes.rs", "the_documented_helm_command_renders_the_chart"),
    ),
    ("mkdir -m 700 ", Test("attacks/supply_chain.rs", "changed_packages_do_not_verify")),
    ("gpg ", Test("attacks/supply_chain.rs", "changed_packages_do_not_verify")),
    ("gpgv ", Test("attacks/supply_chain.rs", "changed_packages_do_not_verify")),
    ("sha256sum --check", Test("attacks/supply_chain.rs", "changed_packages_do_not_verify")),
    ("grep --extended-regexp", Test("attacks/supply_chain.rs", "changed_packages_do_not_verify")),
    ("grep --fixed-strings", Test("attacks/supply_chain.rs", "changed_packages_do_not_verify")),
    ("rpmkeys ", Test("attacks/supply_chain.rs", "changed_packages_do_not_verify")),
    ("install -m 640", Test("manual.rs", "a_self_signed_certificate_is_accepted")),
    ("openssl req", Test("manual.rs", "a_self_signed_certificate_is_accepted")),
    ("cat certificate.pem key.pem", Test("manual.rs", "a_self_signed_certificate_is_accepted")),
    (
        "/usr/share/secure-score-forwarder/register-app.sh",
        Test("manual/registration.rs", "registration_prints_a_valid_configuration"),
    ),
    ("az rest ", Test("manual/registration.rs", "documented_requests_to_graph_succeed")),
    ("GRAPH=$(az rest ", Test("manual/registration.rs", "documented_requests_to_graph_succeed")),
];

/// Steps of the how-to guides that `tests/service` runs on a host with systemd.
const SERVICE_STEPS: &[&str] = &[
    "systemctl reload",
    "systemctl restart",
    "systemctl stop",
    "systemctl start secure-score-forwarder-once.timer",
    "--allow-downgrades",
    "state restore",
    "systemd-creds encrypt",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text of every page in `PAGES`, by its path.
fn pages() -> BTreeMap<String, String> {
    pages_in(PAGES)
}

/// The text of these pages, and of every page in these folders, by its path.
fn pages_in(paths: &[&str]) -> BTreeMap<String, String> {
    fn collect(path: &Path, pages: &mut BTreeMap<String, String>) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                collect(&entry.unwrap().path(), pages);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            pages.insert(name, std::fs::read_to_string(path).unwrap());
        }
    }

    let mut pages = BTreeMap::new();
    for path in paths {
        collect(&root().join(path), &mut pages);
    }
    pages
}

/// The contents of the fenced blocks of a language. A fence in a list is indented, and its
/// indentation is removed.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<(bool, String)> = None;
    for line in page.lines() {
        let text = line.trim_start();
        match (&mut block, text.strip_prefix("```")) {
            (None, Some(found)) => block = Some((found == language, String::new())),
            (Some((selected, content)), Some(_)) => {
                if *selected {
                    blocks.push(std::mem::take(content));
                }
                block = None;
            }
            (Some((_, content)), None) => *content += &format!("{text}\n"),
            (None, None) => {}
        }
    }
    blocks
}

/// The commands in the shell blocks of a page, without comments.
pub(crate) fn commands(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for block in blocks(page, "sh") {
        for line in block.replace("\\\n", " ").lines() {
            let command = line.split("   #").next().unwrap().trim();
            if !command.is_empty() && !command.starts_with('#') {
                commands.push(command.to_owned());
            }
        }
    }
    commands
}

#[test]
fn every_documented_command_is_run() {
    let mut count = 0;
    for (name, page) in pages() {
        for command in commands(&page) {
            count += 1;
            let is_own = command.starts_with("secure-score-forwarder ");
            let is_elsewhere = ELSEWHERE.iter().any(|(prefix, _)| command.starts_with(prefix));
            assert!(is_own || is_elsewhere, "{name}: no test runs `{command}`");
        }
    }
    assert!(count > 80, "only {count} commands were found");
}

#[test]
fn scripts_and_tests_that_run_commands_exist() {
    for (prefix, coverage) in ELSEWHERE {
        let (path, text) = match coverage {
            Script(path, text) => ((*path).to_owned(), (*text).to_owned()),
            Test(file, name) => (format!("tests/it/{file}"), format!("fn {name}()")),
        };
        assert!(read(&path).contains(&text), "{path} does not run `{prefix}`: no `{text}`");
    }

    let service = read("tests/service");
    for step in SERVICE_STEPS {
        assert!(service.contains(step), "tests/service does not run `{step}`");
    }
}

/// A host like the one that the documentation assumes: the tenants `contoso` and `fabrikam`, a
/// tenant that is no longer configured, and the sinks `rsyslog` and `local`. The API has no tenant
/// `fabrikam`.
fn host(receiver: &Rsyslog) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    workspace.tenants.push(("past", OTHER));
    workspace.sink(
        "rsyslog",
        &format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{}\"", receiver.tcp),
    );
    workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    workspace.tenants =
        vec![("contoso", TENANT), ("fabrikam", "bbbbbbbb-0000-4000-8000-00000000c0de")];
    workspace.write_configuration();
    workspace
}

#[test]
fn documented_commands_of_the_program_succeed() {
    let receiver = Rsyslog::new();
    for (name, page) in pages() {
        let workspace = host(&receiver);
        let binary = Path::new(env!("CARGO_BIN_EXE_secure-score-forwarder")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        for command in commands(&page).iter().filter(|c| c.starts_with("secure-score-forwarder ")) {
            // `init` reads answers; `tests/it/init.rs` tests it.
            if command.ends_with(" init") {
                continue;
            }
            // `poll` sends a request to a running daemon.
            let is_poll = command.starts_with("secure-score-forwarder poll");
            let daemon = is_poll.then(|| workspace.spawn(&["run"]));
            if daemon.is_some() {
                let poll = ["poll", "--tenant", "contoso"];
                eventually("the daemon polls", || workspace.run(&poll).code == 0);
            }

            let here = workspace.path("").display().to_string();
            let line = command.replace("/var/lib/", &here).replace("/var/backups/", &here);
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec {line}")]).env("PATH", &path).env("NO_COLOR", "1");
            shell.env("SECURE_SCORE_FORWARDER_CONFIG", workspace.path("config.toml"));
            shell.current_dir(workspace.path("")).stdout(Stdio::piped()).stderr(Stdio::piped());

            let process = Process::of(shell);
            if command.ends_with(" run") {
                eventually("the daemon accepts commands", || workspace.run(&["reload"]).code == 0);
                process.signal("TERM");
            }
            let run = process.end();
            if let Some(daemon) = daemon {
                daemon.signal("TERM");
                daemon.end();
            }

            // These commands report that `fabrikam` cannot be polled.
            let reports_fabrikam = command.contains(" status")
                || ["once", "once --json", "check --online"]
                    .iter()
                    .any(|end| command.ends_with(end));
            assert!(
                run.code == 0 || (reports_fabrikam && run.code == 1),
                "{name}: {command}\n{}{}",
                run.stdout,
                run.stderr
            );
        }
    }
}

/// A configuration from a page, completed with the sections that it omits.
fn completed(block: &str) -> String {
    const STATE: &str = "[state]\ndirectory = \"/var/lib/x\"\n";
    const TENANT: &str = "[[tenants]]\nname = \"added\"\nid = \"cccccccc-0000-4000-8000-00000000c0de\"\ncredential = \"added\"\n[credentials.added]\nkind = \"managed_identity\"\n";
    const APP: &str = "[credentials.app]\nkind = \"managed_identity\"\n";
    const SINK: &str = "[[sinks]]\nname = \"added\"\ntype = \"stdout\"\n";

    let mut text = block.to_owned();
    if text.starts_with("[tenants.credential]") {
        text = format!(
            "[[tenants]]\nname = \"t\"\nid = \"dddddddd-0000-4000-8000-00000000c0de\"\n{text}"
        );
    }
    for (section, example) in [("[state]", STATE), ("[[tenants]]", TENANT), ("[[sinks]]", SINK)] {
        let is_elsewhere = section == "[[tenants]]" && text.contains("tenants_file");
        if !text.contains(section) && !is_elsewhere {
            text += &format!("\n{example}");
        }
    }
    if text.contains("credential = \"app\"") && !text.contains("[credentials.app]") {
        text += &format!("\n{APP}");
    }
    text
}

#[test]
fn documented_configurations_are_valid() {
    let directory = tempfile::tempdir().unwrap();
    let mut count = 0;
    for (name, page) in pages() {
        // The table that `tenants_file` names is on the same page.
        if let Some(tenants) = blocks(&page, "csv").first() {
            write(directory.path().join("tenants.csv"), tenants);
        }
        for block in blocks(&page, "toml") {
            if block.contains("object_store") && cfg!(not(feature = "object_store"))
                || block.contains("type = \"email\"") && cfg!(not(feature = "email"))
            {
                continue;
            }
            let text = completed(&block);
            let path = directory.path().join("config.toml");
            write(&path, &text);
            if let Err(error) = Configuration::load(&path) {
                panic!("{name}:\n{error}\n{text}");
            }
            count += 1;
        }
    }
    assert!(count >= 40, "only {count} configurations were found");

    for file in ["deploy/kubernetes/base/config.toml", "deploy/compose/config.toml"] {
        if let Err(error) = Configuration::parse(file, &read(file)) {
            panic!("{error}");
        }
    }
}

#[test]
fn documented_records_match_the_schema() {
    let validator = Workspace::against("http://127.0.0.1:1").record_validator();
    let mut count = 0;
    for (name, page) in pages_in(&["README.md", "docs"]) {
        for block in blocks(&page, "json") {
            if !block.contains("\"event_id\"") {
                continue;
            }
            let record: serde_json::Value = serde_json::from_str(&block)
                .unwrap_or_else(|error| panic!("{name}: {error}\n{block}"));
            validator.validate(&record).unwrap_or_else(|error| panic!("{name}: {error}\n{block}"));
            count += 1;
        }
    }
    assert!(count >= 2, "only {count} records were found");
}

#[test]
fn a_self_signed_certificate_is_accepted() {
    let page = pages().remove("docs/how-to/certificates.md").unwrap();
    let directory = tempfile::tempdir().unwrap();
    for command in commands(&page) {
        if command.starts_with("openssl") || command.starts_with("cat ") {
            let status = Command::new("sh")
                .args(["-c", &command])
                .current_dir(directory.path())
                .stderr(Stdio::null())
                .status();
            assert!(status.unwrap().success(), "{command}");
        }
    }
    let pem = directory.path().join("app.pem");
    let mut workspace = Workspace::against("http://127.0.0.1:1");
    workspace.credential = Some(format!(
        "[tenants.credential]\nkind = \"certificate\"\nclient_id = \"11111111-2222-4333-8444-555555555555\"\ncertificate = \"{}\"",
        pem.display()
    ));
    workspace.file_sink("local");
    workspace.run_ok(&["check"]);

    // The tutorial stores a secret with `install -m 640` from standard input.
    let target = directory.path().join("graph-secret");
    let mut child = Command::new("install")
        .args(["-m", "640", "/dev/stdin"])
        .arg(&target)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(CANARY.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(target).unwrap(), CANARY);
}
