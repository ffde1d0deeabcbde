//! The command line before anything is asked of anybody.

use crate::support::{CANARY, Workspace, fs};

#[test]
fn a_good_configuration_is_valid_and_makes_nothing() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let run = workspace.run_ok(&["check"]);
    assert!(run.stdout.ends_with("config.toml is valid: 1 tenant, 1 sink\n"), "{}", run.stdout);
    assert!(!workspace.state().exists());
}

#[test]
fn every_fault_is_printed_with_its_place_and_the_exit_is_2() {
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
    for (place, fault) in [
        (":8:1: ", "unknown key `tenants[0].retries`"),
        (":17:11: ", "unknown scheme `relay`: use tcp, tls, relp, relps, udp or unix"),
        (":22:7: ", "`url` must be https, or http to a loopback address"),
        (":23:9: ", "`sinks[1].token` must refer to a secret, not contain it"),
    ] {
        let line = run
            .stderr
            .lines()
            .find(|line| line.contains(fault))
            .unwrap_or_else(|| panic!("{fault}: {}", run.stderr));
        assert!(line.contains(place), "{line}");
    }
    // The other commands say the same.
    assert_eq!(workspace.run(&["once"]).code, 2);
    assert_eq!(workspace.run(&["status"]).code, 2);
}

#[test]
fn secrets_that_cannot_be_read_are_faults_too() {
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
fn credentials_come_from_systemds_directory() {
    let mut workspace = Workspace::new();
    workspace.sink("splunk", "type = \"splunk_hec\"\nurl = \"https://127.0.0.1:8088\"\ntoken = { credential = \"hec-secret\" }");
    fs(workspace.path("hec-secret"), CANARY);
    let mut command = workspace.command(&["check"]);
    command.env("CREDENTIALS_DIRECTORY", workspace.path(""));
    assert!(command.status().unwrap().success());
    // Of a directory that is loaded as `secrets` systemd names each file like this.
    std::fs::rename(workspace.path("hec-secret"), workspace.path("secrets_hec-secret")).unwrap();
    let mut command = workspace.command(&["check"]);
    command.env("CREDENTIALS_DIRECTORY", workspace.path(""));
    assert!(command.status().unwrap().success());
}

#[test]
fn a_missing_configuration_says_where_it_was_looked_for() {
    let workspace = Workspace::new();
    let mut command = workspace.command(&["check"]);
    std::fs::remove_file(workspace.path("config.toml")).unwrap();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("config.toml: failed to open file"));
}

#[test]
fn schemas_are_json_schemas() {
    let workspace = Workspace::new();
    for of in ["record", "configuration"] {
        let schema = serde_json::from_str(&workspace.run_ok(&["schema", of]).stdout).unwrap();
        jsonschema::meta::validate(&schema).unwrap();
    }
}

#[test]
fn the_schema_of_the_configuration_takes_what_check_takes() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.sink("k", "type = \"syslog\"\naddress = \"tcp://127.0.0.1:514\"\nformat = \"json\"");
    let schema =
        serde_json::from_str(&workspace.run_ok(&["schema", "configuration"]).stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let written: toml::Table = workspace.configuration().parse().unwrap();
    validator.validate(&serde_json::to_value(&written).unwrap()).unwrap();
    let wrong = workspace.configuration().replace("address", "adress");
    assert!(
        !validator.is_valid(&serde_json::to_value(wrong.parse::<toml::Table>().unwrap()).unwrap())
    );
}
