//! The README and the manual: every command that they show is run, here or where it says; every
//! configuration that they show is one.

use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use secure_score_forwarder::config::Configuration;

use crate::support::{CANARY, OTHER, Process, TENANT, Workspace, eventually, fs, rsyslog::Rsyslog};

/// Commands of the system, by their front: run in `tests/service`, in a container, or by a test of the
/// name given.
const ELSEWHERE: &[(&str, &str)] = &[
    ("apt-get install", "service"),
    ("systemctl ", "service"),
    ("systemd-creds encrypt", "service"),
    ("curl -fsS http://127.0.0.1:9633/readyz", "service"),
    ("curl -fsS -X PUT", "siem"),
    ("install -m 640", "a_certificate_of_ones_own_signs_in"),
    ("openssl req", "a_certificate_of_ones_own_signs_in"),
    ("cat certificate.pem key.pem", "a_certificate_of_ones_own_signs_in"),
    ("/usr/share/secure-score-forwarder/register-app.sh", "the_script_registers_the_app"),
    ("az ", "the_script_registers_the_app"),
    ("--api-permissions", "the_script_registers_the_app"),
    ("GRAPH=$(az", "the_script_registers_the_app"),
    ("\"{", "the_script_registers_the_app"),
    ("cargo run --release -- demo", "daemon"),
    ("tests/run", "this"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> BTreeMap<String, String> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.push(root().join("README.md"));
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// The lines of a page's indented and fenced shell blocks that are commands.
fn commands(page: &str) -> Vec<String> {
    let mut fence: Option<String> = None;
    let mut commands = Vec::new();
    for line in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language.to_owned()) };
            continue;
        }
        let is_shell = match &fence {
            Some(language) => language == "sh",
            None => line.starts_with("    ") && !line.trim_start().starts_with(['|', '-', '*']),
        };
        let text = line.trim().split("   #").next().unwrap().trim();
        if is_shell && !text.is_empty() && !text.starts_with('#') {
            commands.push(text.to_owned());
        }
    }
    commands
}

#[test]
fn every_command_that_is_shown_is_run_somewhere() {
    let mut all = 0;
    for (name, page) in pages() {
        for command in commands(&page) {
            all += 1;
            let ours = command.starts_with("secure-score-forwarder ");
            let known = ELSEWHERE.iter().any(|(front, _)| command.starts_with(front));
            assert!(ours || known, "{name}: nothing runs `{command}`");
        }
    }
    assert!(all > 30, "{all}");
    let service = std::fs::read_to_string(root().join("tests/service")).unwrap();
    for front in [
        "systemctl reload",
        "systemctl stop",
        "systemctl start secure-score-forwarder-once.timer",
        "--allow-downgrades",
        "state restore",
        "systemd-creds encrypt",
    ] {
        assert!(service.contains(front), "{front}");
    }
}

/// A host as the manual has it: `contoso` and `fabrikam`, a past tenant, a receiver.
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
fn every_command_of_ours_does_what_the_manual_says() {
    let receiver = Rsyslog::new();
    for (name, page) in pages() {
        let workspace = host(&receiver);
        let binary = Path::new(env!("CARGO_BIN_EXE_secure-score-forwarder")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        for command in commands(&page).iter().filter(|c| c.starts_with("secure-score-forwarder ")) {
            // `init` has tests of its own, for it wants answers.
            if command.ends_with(" init") {
                continue;
            }
            let here = workspace.path("").display().to_string();
            let line = command.replace("/var/lib/", &here).replace("/var/backups/", &here);
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec {line}")]).env("PATH", &path).env("NO_COLOR", "1");
            shell.env("SECURE_SCORE_FORWARDER_CONFIG", workspace.path("config.toml"));
            shell.current_dir(workspace.path("")).stdout(Stdio::piped()).stderr(Stdio::piped());
            let daemon = Process::of(shell);
            if command.ends_with(" run") {
                eventually("it listens to commands", || workspace.run(&["reload"]).code == 0);
                daemon.signal("TERM");
            }
            // What looks at `fabrikam`, which nobody serves, has something to say.
            let may_owe =
                ["once", "check --online", "status"].iter().any(|end| command.ends_with(end));
            let lone_backup = name == "docs/disaster-recovery.md" && command.contains("restore");
            let run = daemon.end();
            assert!(
                run.code == 0 || (may_owe && run.code == 1) || lone_backup,
                "{name}: {command}\n{}{}",
                run.stdout,
                run.stderr
            );
        }
    }
}

#[test]
fn every_configuration_that_is_shown_is_one() {
    const STATE: &str = "[state]\ndirectory = \"/var/lib/x\"\n";
    const TENANT: &str = "[[tenants]]\nname = \"shown\"\nid = \"cccccccc-0000-4000-8000-00000000c0de\"\ncredential = \"shown\"\n[credentials.shown]\nkind = \"managed_identity\"\n";
    const APP: &str = "[credentials.app]\nkind = \"managed_identity\"\n";
    const SINK: &str = "[[sinks]]\nname = \"shown\"\ntype = \"stdout\"\n";
    let mut shown = 0;
    for (name, page) in pages() {
        for block in page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            // Fences in lists are indented.
            let mut text: String =
                block.lines().map(|line| line.trim_start().to_owned() + "\n").collect();
            if text.contains("tenants_file") {
                continue;
            }
            if text.starts_with("[tenants.credential]") {
                text = format!(
                    "[[tenants]]\nname = \"t\"\nid = \"dddddddd-0000-4000-8000-00000000c0de\"\n{text}"
                );
            }
            for (part, whole) in [("[state]", STATE), ("[[tenants]]", TENANT), ("[[sinks]]", SINK)]
            {
                if !text.contains(part) {
                    text += &format!("\n{whole}");
                }
            }
            if text.contains("credential = \"app\"") && !text.contains("[credentials.app]") {
                text += &format!("\n{APP}");
            }
            if let Err(error) = Configuration::parse(&name, &text) {
                panic!("{name}:\n{error}\n{text}");
            }
            shown += 1;
        }
    }
    assert!(shown >= 9, "{shown}");
    for file in ["kubernetes/base/config.toml", "compose/config.toml"] {
        let path = root().join("deploy").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        if let Err(error) = Configuration::parse(file, &text) {
            panic!("{error}");
        }
    }
}

#[test]
fn links_of_the_manual_lead_somewhere() {
    for (name, page) in pages() {
        for (at, _) in page.match_indices("](") {
            let target = page[at + 2..].split(')').next().unwrap();
            if !target.contains("://") && !target.starts_with('#') {
                let path = root().join(Path::new(&name).parent().unwrap()).join(target);
                assert!(path.exists(), "{name}: {target}");
            }
        }
    }
}

/// The Azure CLI as the script uses it: writes down what it is asked, and answers as the real one.
const AZ: &str = r#"#!/bin/sh
printf '%s\n' "$*" >>"$AZ_LOG"
case "$*" in
    "account show"*) echo 3f5c1d2e-0000-4000-8000-00000000c0de ;;
    "ad app create"*) echo 11111111-2222-4333-8444-555555555555 ;;
    "ad sp show"*) exit 3 ;;
    "ad app permission admin-consent"*) [ -z "$NO_CONSENT" ] || exit 1 ;;
    "ad app credential reset"*) cp "$(printf '%s' "$*" | sed 's/.*@\([^ ]*\).*/\1/')" "$AZ_LOG.pem" ;;
esac
"#;

#[test]
fn the_script_registers_the_app_and_its_key_stays() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    fs(file("az"), AZ);
    fs(file("sleep"), "#!/bin/sh\n");
    for program in ["az", "sleep"] {
        std::fs::set_permissions(file(program), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let register = |more: &[&str], no_consent: &str| {
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command
            .arg(root().join("deploy/register-app.sh"))
            .args(["--out", &file("out").display().to_string()])
            .args(more);
        command
            .env("PATH", path)
            .env("AZ_LOG", file("az.log"))
            .env("NO_CONSENT", no_consent)
            .output()
            .unwrap()
    };
    let output = register(&[], "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let asked = std::fs::read_to_string(file("az.log")).unwrap();
    // That permission of Microsoft Graph, as an application's, and no other.
    let granted: Vec<&str> = asked.lines().filter(|line| line.contains("permission add")).collect();
    assert_eq!(
        granted,
        [
            "ad app permission add --id 11111111-2222-4333-8444-555555555555 --api 00000003-0000-0000-c000-000000000000 --api-permissions bf394140-e372-4bf9-a898-299cfc7564e5=Role"
        ]
    );
    assert!(asked.contains("--sign-in-audience AzureADMyOrg"), "{asked}");
    let uploaded = std::fs::read_to_string(file("az.log.pem")).unwrap();
    assert!(
        uploaded.contains("BEGIN CERTIFICATE") && !uploaded.contains("PRIVATE KEY"),
        "{uploaded}"
    );
    let pem = file("out/secure-score-forwarder.pem");
    assert_eq!(std::fs::metadata(&pem).unwrap().permissions().mode() & 0o777, 0o600);
    // What it prints is a configuration, and the key is one that signs.
    let section = said.split_once("[[tenants]]").unwrap().1;
    let section = section.replace(
        "/etc/secure-score-forwarder/secure-score-forwarder.pem",
        &pem.display().to_string(),
    );
    let mut workspace = Workspace::against("http://127.0.0.1:1");
    let configuration = format!(
        "[state]\ndirectory = \"{}\"\n[[sinks]]\nname = \"out\"\ntype = \"stdout\"\n[[tenants]]{section}",
        workspace.state().display()
    );
    workspace.literal = Some(configuration);
    workspace.run_ok(&["check"]);

    let again = register(&[], "");
    assert!(!again.status.success(), "a key is not overwritten");
    std::fs::remove_file(&pem).unwrap();
    let refused = register(&["--multi-tenant"], "yes");
    assert!(refused.status.success());
    let warned = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(warned.contains("admin-consent --id 11111111"), "{warned}");
    assert!(std::fs::read_to_string(file("az.log")).unwrap().contains("AzureADMultipleOrgs"));
    assert_eq!(register(&["--colour"], "").status.code(), Some(2));
}

#[test]
fn a_certificate_of_ones_own_signs_in() {
    let page = pages().remove("docs/certificates.md").unwrap();
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
    // `install -m 640` from standard input, as the first page has it.
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

/// The manifests, as kubectl makes them, against the API's own schemas.
#[test]
fn the_manifests_fit_the_schemas_of_kubernetes() {
    let directory = tempfile::tempdir().unwrap();
    for kind in ["deployment", "cronjob"] {
        let made = Command::new("kubectl")
            .arg("kustomize")
            .arg(root().join("deploy/kubernetes").join(kind))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let file = directory.path().join(format!("{kind}.yaml"));
        std::fs::write(&file, &made.stdout).unwrap();
        let output = Command::new(
            crate::support::cache("PYTHON_READERS", "python").join("bin/kubernetes-validate"),
        )
        .arg("--strict")
        .arg(&file)
        .output()
        .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("passed"), "{said}");
        let text = String::from_utf8(made.stdout).unwrap();
        for promised in [
            "readOnlyRootFilesystem: true",
            "runAsNonRoot: true",
            "allowPrivilegeEscalation: false",
            "- ALL",
            "automountServiceAccountToken: false",
        ] {
            assert!(text.contains(promised), "{kind}: {promised}");
        }
    }
}
