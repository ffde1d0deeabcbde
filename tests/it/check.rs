//! `check` and `schema`: everything that is validated without a connection, and the files that a
//! configuration includes.

use std::{
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    sync::Arc,
};

use axum::{Router, http::Uri};
use tokio::{net::TcpListener, runtime::Runtime, sync::Barrier};

use crate::support::{
    CANARY, OTHER, Run, TENANT, Workspace, endpoint::entra_token, faults::FaultyApi, free_port,
    runtime, write,
};

/// The number of the user without privileges, on every system.
const UNPRIVILEGED: u32 = 65_534;

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The document that `check --json` prints, and the exit code.
fn document(workspace: &Workspace, args: &[&str]) -> (serde_json::Value, i32) {
    let run = workspace.run(&[&["check", "--json"], args].concat());
    (serde_json::from_str(&run.stdout).unwrap(), run.code)
}

#[test]
fn check_of_a_valid_configuration_creates_nothing() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let run = workspace.run_ok(&["check"]);
    assert!(run.stdout.ends_with("config.toml` is valid: 1 tenant, 1 sink\n"), "{}", run.stdout);
    assert!(!workspace.state().exists());
}

#[test]
fn reports_every_fault_with_its_location() {
    let mut workspace = Workspace::new();
    workspace.extra = "retries = 3".to_owned();
    workspace.sink("a", "type = \"syslog\"\naddress = \"relay://127.0.0.1:2514\"");
    workspace.sink(
        "b",
        "type = \"splunk_hec\"\nurl = \"http://splunk.example.com:8088\"\ntoken = \"in-the-open\"",
    );

    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2);
    assert!(!run.stderr.contains("in-the-open"));
    for (location, fault) in [
        (":8:1: ", "unknown key `tenants[0].retries`"),
        (":17:11: ", "unknown scheme `relay`: expected tcp, tls, relp, relps, udp or unix"),
        (":22:7: ", "`url` must use https, or http to a loopback address"),
        (":23:9: ", "`sinks[1].token` must refer to a secret, not contain it"),
    ] {
        let line = run
            .stderr
            .lines()
            .find(|line| line.contains(fault))
            .unwrap_or_else(|| panic!("{fault}: {}", run.stderr));
        assert!(line.contains(location), "{line}");
    }

    // Every other command rejects the configuration as well.
    assert_eq!(workspace.run(&["once"]).code, 2);
    assert_eq!(workspace.run(&["status"]).code, 2);
}

#[test]
fn reports_secrets_that_cannot_be_read() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.sink(
        "splunk",
        "type = \"splunk_hec\"\nurl = \"https://127.0.0.1:8088\"\ntoken = { credential = \"hec\" }",
    );
    std::fs::remove_file(workspace.path("secret")).unwrap();
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2);
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert!(lines[0].contains("config.toml:12:17: cannot read the secret"), "{}", run.stderr);
    assert!(
        lines[1].contains(
            "config.toml:23:9: no credential `hec`: systemd did not load it, and the file `/etc/secure-score-forwarder/secrets/hec` does not exist"
        ),
        "{}",
        run.stderr
    );
}

#[test]
fn reads_credentials_from_the_directory_of_systemd() {
    let mut workspace = Workspace::new();
    workspace.sink("splunk", "type = \"splunk_hec\"\nurl = \"https://127.0.0.1:8088\"\ntoken = { credential = \"hec-secret\" }");
    write(workspace.path("hec-secret"), CANARY);
    let mut command = workspace.command(&["check"]);
    command.env("CREDENTIALS_DIRECTORY", workspace.path(""));
    assert!(command.status().unwrap().success());
    // If a directory is loaded as `secrets`, systemd prefixes the name of each file.
    std::fs::rename(workspace.path("hec-secret"), workspace.path("secrets_hec-secret")).unwrap();
    let mut command = workspace.command(&["check"]);
    command.env("CREDENTIALS_DIRECTORY", workspace.path(""));
    assert!(command.status().unwrap().success());
}

/// The example file, with its secret, and with a state directory that this user can create.
#[test]
fn the_example_configuration_passes_check() {
    let mut workspace = Workspace::against("http://127.0.0.1:1");
    let file = workspace.path("config.example.toml");
    workspace.run_ok(&["reference", "--example", file.to_str().unwrap()]);
    workspace.literal = Some(std::fs::read_to_string(&file).unwrap());
    write(workspace.path("graph-secret"), CANARY);

    let mut command = workspace.command(&["check"]);
    command.env("CREDENTIALS_DIRECTORY", workspace.path(""));
    command.env("SECURE_SCORE_FORWARDER__STATE__DIRECTORY", workspace.state());
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("` is valid: 1 tenant, 1 sink"), "{}", run.stdout);
}

/// Regression: the message named the file twice.
#[test]
fn names_the_path_of_a_missing_configuration() {
    let workspace = Workspace::new();
    let mut command = workspace.command(&["check"]);
    let path = workspace.path("config.toml");
    std::fs::remove_file(&path).unwrap();
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 2);
    let message = format!("error: cannot read `{}`: No such file or directory", path.display());
    assert!(run.stderr.starts_with(&message), "{}", run.stderr);
    assert_eq!(run.stderr.matches("config.toml").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("\n  hint: pass --config with the path"), "{}", run.stderr);
}

#[test]
fn schemas_are_valid_json_schemas() {
    let workspace = Workspace::new();
    for name in ["record", "configuration"] {
        let schema = serde_json::from_str(&workspace.run_ok(&["schema", name]).stdout).unwrap();
        jsonschema::meta::validate(&schema).unwrap();
    }
}

#[test]
fn configuration_schema_agrees_with_check() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.sink("k", "type = \"syslog\"\naddress = \"tcp://127.0.0.1:514\"\nformat = \"json\"");
    let schema =
        serde_json::from_str(&workspace.run_ok(&["schema", "configuration"]).stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let configuration: toml::Table = workspace.configuration().parse().unwrap();
    validator.validate(&serde_json::to_value(&configuration).unwrap()).unwrap();
    let misspelled = workspace.configuration().replace("address", "adress");
    assert!(
        !validator
            .is_valid(&serde_json::to_value(misspelled.parse::<toml::Table>().unwrap()).unwrap())
    );
}

#[test]
fn tenants_of_directory_and_csv_share_a_credential() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.tenants.clear();
    workspace.file_sink("local");
    workspace.head = format!(
        "[credentials.app]\nkind = \"client_secret\"\nclient_id = \"11111111-2222-4333-8444-555555555555\"\nclient_secret = {{ file = \"{}\" }}",
        workspace.path("secret").display()
    );
    let configuration = format!("tenants_file = \"tenants.csv\"\n{}", workspace.configuration());
    std::fs::create_dir(workspace.path("tenants.d")).unwrap();
    let url = &api.url;
    write(
        workspace.path("tenants.d/contoso.toml"),
        &format!(
            "[[tenants]]\nname = \"contoso\"\nid = \"{TENANT}\"\ncredential = \"app\"\ninitial_backfill_days = 4\ncloud = {{ login_url = \"{url}\", graph_url = \"{url}\" }}\n"
        ),
    );
    write(
        workspace.path("tenants.csv"),
        &format!("name,id,credential,label.customer\n\"fab, rikam\",{OTHER},app,c-2\n"),
    );

    let mut command = workspace.command(&["check"]);
    write(workspace.path("config.toml"), &configuration);
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("2 tenants, 1 sink"), "{}", run.stdout);

    // The tenant of the CSV file is in the global cloud, which a test must not use, so it is
    // removed.
    std::fs::remove_file(workspace.path("tenants.csv")).unwrap();
    write(workspace.path("tenants.csv"), "name,id\n");
    let mut command = workspace.command(&["once"]);
    write(workspace.path("config.toml"), &configuration);
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("tenant `contoso`: 4 new days"), "{}", run.stderr);
}

/// Regression: a certificate or a secret that only root can read passed `check` with a warning, and
/// the service failed.
#[test]
fn files_that_the_service_cannot_read_are_errors() {
    let mut workspace = Workspace::new();
    workspace.sink("local", "type = \"stdout\"");
    // Root can read every file, so the service is another user then: the owner of its directory.
    let (unreadable, readable) = if rustix::process::geteuid().is_root() {
        std::fs::create_dir(workspace.state()).unwrap();
        chown(workspace.state(), Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
        set_mode(workspace.path(""), 0o755);
        (0o600, 0o644)
    } else {
        (0o000, 0o600)
    };

    let secret = workspace.path("secret");
    set_mode(&secret, unreadable);
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains(&format!("cannot read `{}`", secret.display())), "{}", run.stderr);
    assert!(run.stderr.contains("config.toml:12:17: "), "{}", run.stderr);
    let hint = format!("and `chmod 640 {}`", secret.display());
    assert!(run.stderr.contains("hint: run `chgrp ") && run.stderr.contains(&hint), "{run:?}");
    assert!(!run.stdout.contains("is valid"), "{}", run.stdout);

    set_mode(&secret, readable);
    workspace.run_ok(&["check"]);
}

#[test]
fn missing_files_of_certificates_are_errors() {
    let mut workspace = Workspace::new();
    workspace.sink(
        "siem",
        "type = \"syslog\"\naddress = \"tls://127.0.0.1:6514\"\nca_file = \"/nowhere/ca.pem\"",
    );
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2);
    let message = "cannot read `/nowhere/ca.pem`: the file does not exist";
    assert!(run.stderr.contains(message), "{}", run.stderr);
    assert_eq!(run.stderr.matches("/nowhere/ca.pem").count(), 1, "{}", run.stderr);
}

/// Regression: a relative path was valid in the directory where `check` ran, and missing where the
/// service runs.
#[test]
fn relative_paths_are_errors_everywhere() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.credential = Some(
        "[tenants.credential]\nkind = \"client_secret\"\nclient_id = \"11111111-2222-4333-8444-555555555555\"\nclient_secret = { file = \"secret\" }"
            .to_owned(),
    );
    for directory in [workspace.path(""), "/".into()] {
        let output = workspace.command(&["check"]).current_dir(directory).output().unwrap();
        let run = Run::of(output);
        assert_eq!(run.code, 2);
        assert!(run.stderr.contains("client_secret.file` must be an absolute path"), "{run:?}");
    }
}

#[test]
fn strict_turns_warnings_into_errors() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.run_ok(&["check", "--strict"]);

    // Regression: a secret that every user can read passed without a message.
    let secret = workspace.path("secret");
    set_mode(&secret, 0o644);
    let run = workspace.run_ok(&["check"]);
    let warning = format!("every user of this host can read the secret in `{}`", secret.display());
    assert!(run.stderr.contains(&warning), "{}", run.stderr);
    assert!(run.stdout.contains("is valid"), "{}", run.stdout);
    let run = workspace.run(&["check", "--strict"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("error: 1 warning, which `--strict` rejects"), "{}", run.stderr);

    let (printed, code) = document(&workspace, &["--strict"]);
    assert_eq!((code, &printed["valid"]), (2, &false.into()));
    assert_eq!(printed["warnings"][0]["line"], 12);
    assert!(printed["warnings"][0]["hint"].as_str().unwrap().starts_with("run `chmod 640 "));
}

#[test]
fn unusable_state_directories_are_errors() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let configuration = workspace.configuration();
    let (state, secret) = (workspace.state(), workspace.path("secret"));

    for directory in [secret.clone(), secret.join("below")] {
        let (from, to) = (state.display().to_string(), directory.display().to_string());
        workspace.literal = Some(configuration.replace(&from, &to));
        let run = workspace.run(&["check"]);
        assert_eq!(run.code, 2, "{run:?}");
        let message = format!(
            "config.toml:2:13: cannot use the state directory `{to}`: `{}` is not a directory",
            secret.display()
        );
        assert!(run.stderr.contains(&message), "{}", run.stderr);
    }
}

/// Regression: a directory in which root may write, but no file can be created, passed `check`.
#[test]
fn state_directories_that_cannot_be_created_are_errors() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let (configuration, state) = (workspace.configuration(), workspace.state());
    for (directory, reason) in [
        ("/proc/x", "it does not exist, and no directory can be created in `/proc`: "),
        ("/proc", "cannot write to it: "),
    ] {
        let configured = configuration.replace(&state.display().to_string(), directory);
        workspace.literal = Some(configured);
        let run = workspace.run(&["check"]);
        assert_eq!(run.code, 2, "{run:?}");
        let message = format!("cannot use the state directory `{directory}`: ");
        assert!(run.stderr.contains(&message) && run.stderr.contains(reason), "{}", run.stderr);
    }
}

/// Regression: a port that is in use passed `check`, and the service did not start.
#[test]
fn a_port_in_use_is_an_error() {
    let port = free_port();
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.head = format!("[admin]\nlisten = \"127.0.0.1:{port}\"");
    workspace.run_ok(&["check"]);

    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2);
    let message = format!("cannot listen on `127.0.0.1:{port}`: the address is in use");
    assert!(run.stderr.contains(&message), "{}", run.stderr);
    drop(taken);

    // The daemon that holds the checkpoint is the one that listens.
    let daemon = workspace.spawn(&["run"]);
    crate::support::eventually("the daemon listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    workspace.run_ok(&["check"]);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

#[test]
fn equal_faults_of_many_tenants_are_reported_once() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.tenants =
        vec![("a", TENANT), ("b", OTHER), ("c", "cccccccc-0000-4000-8000-00000000c0de")];
    workspace.extra = "clod = \"global\"".to_owned();
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("unknown key `tenants[].clod`, on 3 lines, first at "), "{run:?}");
    assert_eq!(run.stderr.matches("clod").count(), 1, "{}", run.stderr);

    let (printed, code) = document(&workspace, &[]);
    assert_eq!((code, &printed["valid"], &printed["tenants"]), (2, &false.into(), &().into()));
    let error = &printed["errors"][0];
    assert_eq!((&error["line"], &error["lines"]), (&8.into(), &3.into()));
    assert_eq!(error["hint"], "use `cloud`");
}

/// The failing tenant is configured last, and shown first.
#[test]
fn online_results_begin_with_failures() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.tenants.push(("fabrikam", "bbbbbbbb-0000-4000-8000-00000000c0de"));
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1, "{run:?}");
    let at = |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("{text}: {run:?}"));
    assert!(at("tenant `fabrikam`: ") < at("tenant `contoso`: signed in"));
    let summary = "1 of 2 tenants can be polled; 1 of 1 sink responded as expected\n";
    assert!(run.stdout.ends_with(summary), "{}", run.stdout);

    let (printed, code) = document(&workspace, &["--online"]);
    assert_eq!((code, &printed["valid"]), (1, &true.into()));
    assert_eq!(printed["online"]["tenants"][0]["name"], "fabrikam");
    assert_eq!(printed["online"]["tenants"][0]["usable"], false);
}

/// A fault that is found without a connection is not reported again by `--online`.
#[test]
fn faults_of_sink_files_are_reported_once() {
    let mut workspace = Workspace::new();
    let (directory, link) = (workspace.path("directory"), workspace.path("link"));
    std::fs::create_dir(&directory).unwrap();
    symlink("target", &link).unwrap();

    for (path, message, code) in [
        (link, "is a symbolic link", 2),
        (directory, "Is a directory", 2),
        (workspace.path("missing/local.jsonl"), "No such file or directory", 1),
    ] {
        let section = format!("type = \"file\"\npath = \"{}\"", path.display());
        workspace.clear_sinks().sink("local", &section);
        let run = workspace.run(&["check", "--online"]);
        let output = format!("{}{}", run.stdout, run.stderr);
        assert_eq!((run.code, output.matches(message).count()), (code, 1), "{output}");
        assert_eq!(output.matches("sink `local`: ").count(), 1, "{output}");
    }
}

/// An API that issues tokens only when this many requests for one are waiting, and has no scores.
fn api_for_parallel_requests(requests: usize) -> (Runtime, String) {
    let waiting = Arc::new(Barrier::new(requests));
    let respond = move |uri: Uri| {
        let waiting = Arc::clone(&waiting);
        async move {
            let body = if uri.path().ends_with("/token") {
                waiting.wait().await;
                entra_token("token").1
            } else {
                "{\"value\": []}".to_owned()
            };
            ([("content-type", "application/json")], body)
        }
    };

    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(respond);
    runtime.spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
    (runtime, url)
}

/// Tenants that are contacted one after another would never receive a token.
#[test]
fn online_contacts_eight_tenants_at_a_time() {
    let (_runtime, url) = api_for_parallel_requests(8);
    let mut workspace = Workspace::against(&url);
    workspace.file_sink("local");
    let tenant = |number: usize| -> (&'static str, &'static str) {
        let id = format!("{number:08x}-0000-4000-8000-00000000c0de");
        (format!("t{number}").leak(), id.leak())
    };
    workspace.tenants = (0..16).map(tenant).collect();

    let run = workspace.run_ok(&["check", "--online"]);
    let summary = "16 of 16 tenants can be polled; 1 of 1 sink responded as expected\n";
    assert!(run.stdout.ends_with(summary), "{run:?}");
}

#[test]
fn misspelled_controls_are_found_after_the_first_poll() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.file_sink("local");
    let keys = "type = \"stdout\"\nrecords = [\"control\"]\ncontrol_ids = [\"AdminMFAV3\"]";
    workspace.sink("selected", keys);
    assert!(!workspace.run_ok(&["check"]).stderr.contains("AdminMFAV3"), "nothing is known yet");

    workspace.run_ok(&["once"]);
    let run = workspace.run_ok(&["check"]);
    let warning = "warning: ";
    let message = "`AdminMFAV3` in `control_ids` matches no known ID\n  hint: use `AdminMFAV2`";
    assert!(run.stderr.contains(warning) && run.stderr.contains(message), "{}", run.stderr);
}
