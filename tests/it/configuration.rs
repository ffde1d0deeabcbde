//! Defaults, files in directories, environment variables, and `check --show-effective`, as
//! `docs/how-to/organize-the-configuration.md` describes them.

use crate::support::{Run, Workspace, write};

/// A workspace with defaults, a sink in the main file and one in `sinks.d`.
fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.head = "[defaults.tenants]\ninitial_backfill_days = 9\n\
                      [defaults.sinks]\nmax_rate = 50\ntexts = \"full\"\n"
        .to_owned();
    workspace.file_sink("local");
    std::fs::create_dir(workspace.path("sinks.d")).unwrap();
    write(
        workspace.path("sinks.d/otlp.toml"),
        "[[sinks]]\nname = \"otel\"\ntype = \"otlp\"\nurl = \"https://127.0.0.1:4318/v1/logs?key=query\"\nmax_rate = 7\n",
    );
    workspace
}

/// Runs a command with environment variables.
fn run_with(workspace: &Workspace, args: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = workspace.command(args);
    command.envs(variables.iter().copied());
    Run::of(command.output().unwrap())
}

/// The lines of a table of `check --show-effective`, from its heading to the next one.
fn table<'a>(text: &'a str, heading: &str, key: &str) -> Vec<&'a str> {
    let tables = text.split("\n\n").map(|table| table.trim_start_matches('\n'));
    let mut found = tables.filter(|table| table.starts_with(heading) && table.contains(key));
    found.next().unwrap_or_else(|| panic!("{heading} {key}: {text}")).lines().collect()
}

#[test]
fn effective_values_are_shown_with_their_origins() {
    let workspace = workspace();
    let run = run_with(
        &workspace,
        &["check", "--show-effective"],
        &[("SECURE_SCORE_FORWARDER__SCHEDULE__JITTER", "1m")],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);

    let main = workspace.path("config.toml").display().to_string();
    let file = workspace.path("sinks.d/otlp.toml").display().to_string();
    for (heading, key, value, origin) in [
        (
            "[schedule]",
            "jitter",
            "\"1m\"",
            "environment variable `SECURE_SCORE_FORWARDER__SCHEDULE__JITTER`".to_owned(),
        ),
        ("[schedule]", "timezone", "\"UTC\"", "default".to_owned()),
        ("[[tenants]]", "initial_backfill_days", "9", format!("defaults, {main}:4")),
        ("[[sinks]]\nname = \"local\"", "max_rate", "50", format!("defaults, {main}:6")),
        ("[[sinks]]\nname = \"otel\"", "max_rate", "7", format!("{file}:5")),
        ("[[sinks]]\nname = \"otel\"", "texts", "\"full\"", format!("defaults, {main}:7")),
    ] {
        let lines = table(&run.stdout, heading, key);
        let line = lines.iter().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        assert!(line.starts_with(&format!("{key} = {value} ")), "{line}");
        assert!(line.ends_with(&format!("  # {origin}")), "{line}");
    }

    let unset = "# records is not set: `change` and `quality` for `chat` and `email`; otherwise";
    assert!(run.stdout.contains(unset), "{}", run.stdout);
    let text: toml::Table = run.stdout[run.stdout.find("\n[").unwrap()..].parse().unwrap();
    assert_eq!(text["sinks"].as_array().unwrap().len(), 2);
}

/// Regression: the query of a URL, which can contain a key, was printed.
#[test]
fn secret_parts_of_urls_are_not_shown() {
    let workspace = workspace();
    for args in [&["check", "--show-effective"][..], &["check", "--show-effective", "--json"]] {
        let run = workspace.run_ok(args);
        assert!(run.stdout.contains("https://127.0.0.1:4318/v1/logs?[redacted]"), "{}", run.stdout);
        assert!(!run.stdout.contains("key=query"), "{}", run.stdout);
    }
}

/// Regression: a value of the environment was `"set_by": "section"`.
#[test]
fn the_document_names_the_layer_of_each_value() {
    let workspace = workspace();
    let run = run_with(
        &workspace,
        &["check", "--show-effective", "--json"],
        &[("SECURE_SCORE_FORWARDER__STATE__RETENTION_DAYS", "120")],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);

    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let value = |table: &str, key: &str| {
        let tables = document["effective"].as_array().unwrap().iter();
        let mut values = tables
            .filter(|found| found["table"] == table)
            .flat_map(|found| found["values"].as_array().unwrap());
        values.find(|value| value["key"] == key).unwrap().clone()
    };
    for (table, key, shown, set_by) in [
        ("[state]", "retention_days", "120".into(), "environment"),
        ("[schedule]", "timezone", "\"UTC\"".into(), "program"),
        ("[[tenants]]", "initial_backfill_days", "9".into(), "defaults"),
        ("[[tenants]]", "name", "\"contoso\"".into(), "section"),
        ("[[sinks]]", "records", serde_json::Value::Null, "program"),
    ] {
        let found = value(table, key);
        assert_eq!((&found["value"], &found["set_by"]), (&shown, &set_by.into()), "{found}");
        assert_eq!(found["if_not_set"].is_string(), shown.is_null(), "{found}");
    }
}

/// Regression: misspelled variables were ignored.
#[test]
fn every_variable_of_the_program_has_an_effect() {
    let workspace = workspace();
    for (name, message) in [
        ("SECURE_SCORE_FORWARDER__SCHEDULE__CRN", "no key is named `CRN`\n  hint: use `CRON`"),
        (
            "SECURE_SCORE_FORWARDER_SCHEDULE__CRON",
            "no setting of the program has this name\n  hint: begin the name with `SECURE_SCORE_FORWARDER__`",
        ),
        (
            "secure_score_forwarder__schedule__cron",
            "the name is not in capital letters, so the variable has no effect\n  hint: use `SECURE_SCORE_FORWARDER__SCHEDULE__CRON`",
        ),
        (
            "SECURE_SCORE_FORWARDER__SINKS__OTHER__MAX_RATE",
            "no table in `sinks` has a name like `OTHER`\n  hint: use one of: LOCAL, OTEL",
        ),
    ] {
        let run = run_with(&workspace, &["check"], &[(name, "15 7 * * *")]);
        assert_eq!(run.code, 2, "{name}: {}", run.stdout);
        let message = format!("environment variable `{name}`: {message}");
        assert!(run.stderr.contains(&message), "{}", run.stderr);
    }

    // Kubernetes adds these to every container.
    for name in ["SECURE_SCORE_FORWARDER_SERVICE_HOST", "SECURE_SCORE_FORWARDER_PORT_9633_TCP"] {
        let run = run_with(&workspace, &["check"], &[(name, "10.0.0.1")]);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
}

#[test]
fn faults_name_the_file_of_their_section() {
    let workspace = workspace();
    write(
        workspace.path("sinks.d/otlp.toml"),
        "[[sinks]]\nname = \"otel\"\ntype = \"otlp\"\nurll = \"https://127.0.0.1:4318\"\n",
    );
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2);
    let file = workspace.path("sinks.d/otlp.toml").display().to_string();
    let message = format!("{file}:4:1: unknown key `sinks[0].urll`\n  hint: use `url`");
    assert!(run.stderr.contains(&message), "{}", run.stderr);
}

/// Regression: a wrong default was reported for each sink that inherited it.
#[test]
fn a_wrong_default_is_reported_once() {
    let mut workspace = workspace();
    workspace.head = workspace.head.replace("max_rate = 50", "max_rate = 0");
    for name in ["a", "b", "c"] {
        workspace.file_sink(name);
    }
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("config.toml:6:12: `defaults.sinks.max_rate` must be"), "{run:?}");
    assert_eq!(run.stderr.matches("max_rate").count(), 1, "{}", run.stderr);
}
