//! `check` and `schema`: everything that is validated without a connection.

use crate::support::{CANARY, Workspace, fs};

#[test]
fn check_of_a_valid_configuration_creates_nothing() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let run = workspace.run_ok(&["check"]);
    assert!(run.stdout.ends_with("config.toml is valid: 1 tenant, 1 sink\n"), "{}", run.stdout);
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
        (":22:7: ", "`url` must be https, or http to a loopback address"),
        (":23:9: ", "`sinks[1].token` must refer to a secret, not contain it"),
    ] {
        let line = run
            .stderr
            .lines()
            .find(|line| line.contains(fault))
            .unwrap_or_else(|| panic!("{fault}: {}", run.stderr));
        assert!(line.contains(location), "{line}");
    }
    // Every other command rejects the configuration, too.
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
            "config.toml:23:9: no credential `hec`: systemd has not loaded one, and there is no file `/etc/secure-score-forwarder/secrets/hec`"
        ),
        "{}",
        run.stderr
    );
}

#[test]
fn reads_credentials_from_the_directory_of_systemd() {
    let mut workspace = Workspace::new();
    workspace.sink("splunk", "type = \"splunk_hec\"\nurl = \"https://127.0.0.1:8088\"\ntoken = { credential = \"hec-secret\" }");
    fs(workspace.path("hec-secret"), CANARY);
    let mut command = workspace.command(&["check"]);
    command.env("CREDENTIALS_DIRECTORY", workspace.path(""));
    assert!(command.status().unwrap().success());
    // If a directory is loaded as `secrets`, systemd prefixes the name of each file.
    std::fs::rename(workspace.path("hec-secret"), workspace.path("secrets_hec-secret")).unwrap();
    let mut command = workspace.command(&["check"]);
    command.env("CREDENTIALS_DIRECTORY", workspace.path(""));
    assert!(command.status().unwrap().success());
}

#[test]
fn names_the_path_of_a_missing_configuration() {
    let workspace = Workspace::new();
    let mut command = workspace.command(&["check"]);
    std::fs::remove_file(workspace.path("config.toml")).unwrap();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("config.toml: failed to open file"));
}

#[test]
fn schemas_are_valid_json_schemas() {
    let workspace = Workspace::new();
    for of in ["record", "configuration"] {
        let schema = serde_json::from_str(&workspace.run_ok(&["schema", of]).stdout).unwrap();
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
