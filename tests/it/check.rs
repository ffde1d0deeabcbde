//! `check` and `schema`: everything that is validated without a connection, and the files that a
//! configuration includes.

use crate::support::{CANARY, OTHER, Run, TENANT, Workspace, faults::FaultyApi, write};

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
