//! Tests of the values from the environment and from `[defaults]`, and of the list of effective
//! values.

use super::*;

/// The configuration after some variables were set, or its faults.
fn with_variables(variables: &[(&str, &str)]) -> Result<Configuration, String> {
    let variable = |(name, value): &(&str, &str)| {
        (format!("SECURE_SCORE_FORWARDER__{name}"), (*value).to_owned())
    };
    let variables = variables.iter().map(variable).collect();
    read::read(&layers_of("c.toml", GOOD, variables))
        .map_err(|faults| rendered(&ConfigError(faults)))
}

#[test]
fn environment_variables_set_keys() {
    let read = with_variables(&[
        ("STATE__DIRECTORY", "/data"),
        ("STATE__RETENTION_DAYS", "120"),
        ("SCHEDULE__JITTER", "1m"),
        ("SINKS__LOCAL__PATH", "/data/x"),
        ("SINKS__ARCSIGHT__TAG", "false"),
        ("SINKS__ARCSIGHT__MESSAGE", "rfc3164"),
        ("TENANTS__CONTOSO__INITIAL_BACKFILL_DAYS", "7"),
        ("TENANTS__CONTOSO__CREDENTIAL__CLIENT_SECRET__ENV", "SECRET"),
    ])
    .unwrap();

    assert_eq!(read.state_directory, Path::new("/data"));
    assert_eq!((read.retention_days, read.tenants[0].initial_backfill_days), (120, 7));
    assert_eq!(read.secrets[0].reference, SecretRef::Env("SECRET".to_owned()));
    let claim = read.sinks[1].plan.exclusive_resource().unwrap();
    assert!(claim.contains("/data/x"), "{claim}");
}

/// Variables that set nothing: name, value, and a part of the fault.
const UNUSABLE_VARIABLES: &[(&str, &str, &str)] = &[
    ("SCHEDULE__CRN", "x", "SCHEDULE__CRN`: no key is named `CRN`\n  hint: use `CRON`"),
    ("SCHEDULE__JITTER", "x", "SCHEDULE__JITTER`: `schedule.jitter` must be a duration"),
    ("STATE__RETENTION_DAYS", "many", "`state.retention_days` must be a whole number from 90"),
    ("SCHEDULE", "x", "`schedule` is a list or a table\n  hint: set it in the configuration"),
    (
        "SINKS__OTHER__PATH",
        "/x",
        "no table in `sinks` has a name like `OTHER`\n  hint: use one of: ARCSIGHT, LOCAL",
    ),
    (
        "CREDENTIALS__APP__KIND",
        "user",
        "no table in `credentials` has a name like `APP`\n  hint: add the table to the",
    ),
    ("SINKS__LOCAL__RECORDS", "x", "`sinks.local.records` is a list or a table"),
    ("SINKS__LOCAL__PATH__X", "x", "`sinks.local.path` has no key `X`"),
    (
        "TENANTS__CONTOSO__CREDENTIAL__CLIENT_SECRETS",
        "x",
        "no key is named `CLIENT_SECRETS`\n  hint: use `CLIENT_SECRET`",
    ),
    (
        "TENANTS__CONTOSO__CREDENTIAL__CLIENT_SECRET",
        "canary",
        "must refer to a secret, not contain it\n  hint: end the name with `__CREDENTIAL`",
    ),
];

/// Regression: the effect of variables depended on the order of their names.
#[test]
fn variables_have_the_same_effect_in_any_order() {
    let read = with_variables(&[
        ("SINKS__LOCAL__ADDRESS", "tcp://h:514"),
        ("SINKS__LOCAL__TYPE", "syslog"),
        ("TENANTS__CONTOSO__CREDENTIAL__CLIENT_ID", "22222222-2222-4333-8444-555555555555"),
        ("TENANTS__CONTOSO__CREDENTIAL__KIND", "client_secret"),
    ]);
    // The key of the previous type remains, and is reported.
    let faults = read.unwrap_err();
    assert!(faults.starts_with("c.toml:23:1: unknown key `sinks[1].path`"), "{faults}");
    assert_eq!(faults.matches("unknown key").count(), 1, "{faults}");
    assert!(!faults.contains("environment variable"), "{faults}");

    for (variables, expected) in [
        (
            [("SINKS__LOCAL__NAME", "x"), ("SINKS__LOCAL__PATH", "/y")],
            "`sinks.local` is addressed by its name, which no variable can set\n  hint: set `name`",
        ),
        (
            [
                ("TENANTS__CONTOSO__CREDENTIAL__CLIENT_SECRET__ENV", "A"),
                ("TENANTS__CONTOSO__CREDENTIAL__CLIENT_SECRET__FILE", "/b"),
            ],
            "another variable also sets `tenants.contoso.credential.client_secret`",
        ),
    ] {
        let faults = with_variables(&variables).unwrap_err();
        assert!(faults.contains(expected), "{faults}");
        assert_eq!(faults.matches("environment variable").count(), 1, "{faults}");
    }
}

/// Regression: rules, labels and tables whose names contain two underscores in a variable could not
/// be addressed.
#[test]
fn variables_address_every_table() {
    let rules = "[[severity]]\nwhat = [\"gap\"]\nseverity = \"high\"\n";
    let sink = "[[sinks]]\nname = \"a--c\"\ntype = \"stdout\"\n";
    let text = format!("{rules}{}{sink}", GOOD.replace("\"contoso\"", "\"Contoso, Inc\""));
    let variables = [
        ("SEVERITY__0__SEVERITY", "low"),
        ("TENANTS__CONTOSO__INC__LABELS__CUSTOMER", "c-18"),
        ("TENANTS__CONTOSO__INC__LABELS__STAGE", "test"),
        ("SINKS__A__C__MAX_RATE", "7"),
        ("SINKS__A__C__EXTRA_FIELDS__SITE", "x"),
    ];
    let variables = variables
        .map(|(name, value)| (format!("SECURE_SCORE_FORWARDER__{name}"), value.to_owned()));
    let read = read::read(&layers_of("c.toml", &text, variables.to_vec())).unwrap();

    let tenant = &read.tenants[0];
    assert_eq!(tenant.rules.severity[0].severity, crate::model::Severity::Low);
    assert_eq!((&*tenant.labels["customer"], &*tenant.labels["stage"]), ("c-18", "test"));
    let sink = read.sinks.iter().find(|sink| sink.name == "a--c").unwrap();
    assert_eq!(sink.max_rate, Some(7));
    assert_eq!(sink.fields, [("site".to_owned(), "x".to_owned())]);
}

/// Regression: an empty value was reported twice, and a value of a variable under an index.
#[test]
fn a_wrong_variable_is_one_named_fault() {
    for (name, value, expected) in [
        ("SCHEDULE__TIMEZONE", "", "`schedule.timezone` must be a non-empty string"),
        ("TENANTS__CONTOSO__ID", "", "`tenants.contoso.id` must be a non-empty string"),
        ("SINKS__LOCAL__MAX_RATE", "x", "`sinks.local.max_rate` must be a whole number from 1"),
    ] {
        let faults = with_variables(&[(name, value)]).unwrap_err();
        assert!(faults.contains(expected), "{faults}");
        assert_eq!(faults.matches("environment variable").count(), 1, "{faults}");
    }
}

#[test]
fn unusable_variables_are_faults() {
    let prefix = "environment variable `SECURE_SCORE_FORWARDER__";
    for &(name, value, expected) in UNUSABLE_VARIABLES {
        let faults = with_variables(&[(name, value)]).unwrap_err();
        assert!(faults.starts_with(prefix) && faults.contains(expected), "{name}: {faults}");
        assert!(!faults.contains("canary"), "{faults}");
    }
}

/// Regression: the URL of a webhook, which can be a secret, was accepted from the environment.
#[test]
fn variables_only_refer_to_possible_secrets() {
    let sink = "[[sinks]]\nname = \"hook\"\ntype = \"http\"\nurl = \"https://h/a\"\n";
    let with = |name: &str| {
        let name = format!("SECURE_SCORE_FORWARDER__SINKS__HOOK__{name}");
        let variables = vec![(name, "canary".to_owned())];
        let text = format!("{GOOD}{sink}");
        read::read(&layers_of("c.toml", &text, variables))
            .map_err(|faults| rendered(&ConfigError(faults)))
    };

    let faults = with("URL").unwrap_err();
    assert!(faults.contains("`sinks.hook.url` can be a secret"), "{faults}");
    assert!(faults.contains("hint: end the name with `__CREDENTIAL`"), "{faults}");
    assert!(!faults.contains("canary"), "{faults}");

    let read = with("URL__ENV").unwrap();
    let reference = SecretRef::Env("canary".to_owned());
    assert!(read.secrets.iter().any(|secret| secret.reference == reference));
}

#[test]
fn tenants_and_sinks_inherit_defaults() {
    let credential = "[credentials.app]\nkind = \"managed_identity\"\n";
    let defaults = "[defaults.tenants]\ncredential = \"app\"\ninitial_backfill_days = 9\n[defaults.sinks]\nmax_rate = 50\ntexts = \"full\"\nca_file = \"/ca.pem\"\nchanges = [\"regressed\"]\n";
    let tenants = "[[tenants]]\nname = \"a\"\nid = \"a.example\"\n[[tenants]]\nname = \"b\"\nid = \"b.example\"\ninitial_backfill_days = 3\n";
    let sinks = "[[sinks]]\nname = \"x\"\ntype = \"stdout\"\nrecords = [\"control\"]\n[[sinks]]\nname = \"y\"\ntype = \"syslog\"\naddress = \"tls://h:1\"\nmax_rate = 7\n";
    let text = format!("[state]\ndirectory = \"/x\"\n{credential}{defaults}{tenants}{sinks}");

    let read = Configuration::parse("c.toml", &text).unwrap();
    let days: Vec<i32> = read.tenants.iter().map(|t| t.initial_backfill_days).collect();
    assert_eq!(days, [9, 3]);
    let rates: Vec<Option<u32>> = read.sinks.iter().map(|sink| sink.max_rate).collect();
    assert_eq!(rates, [Some(50), Some(7)]);
    assert!(read.sinks.iter().all(|sink| sink.texts == Texts::Full));
    // The certificate authorities are used by one of the sinks, and reported once.
    assert_eq!(read.inspection.files.len(), 1);

    let effective = read::effective_values(&layers_of("c.toml", &text, Vec::new())).unwrap();
    let shown: Vec<String> = effective
        .iter()
        .filter(|table| table.heading == "[[sinks]]")
        .flat_map(|table| &table.values)
        .filter(|value| ["max_rate", "ca_file", "controls"].contains(&value.key))
        .map(|value| {
            format!("{} = {} # {}", value.key, value.value.as_deref().unwrap(), value.origin)
        })
        .collect();
    assert_eq!(
        shown,
        [
            "controls = \"all\" # default",
            "max_rate = 50 # defaults, c.toml:9",
            "controls = \"all\" # default",
            "max_rate = 7 # c.toml:28",
            "ca_file = \"/ca.pem\" # defaults, c.toml:11",
        ]
    );

    let tenants = effective.iter().filter(|table| table.heading == "[[tenants]]");
    let clouds: Vec<&str> = tenants
        .flat_map(|table| &table.values)
        .filter(|value| value.key == "cloud")
        .filter_map(|value| value.value.as_deref())
        .collect();
    assert_eq!(clouds, ["\"global\""; 2]);

    let unknown = text.replace("max_rate = 50", "path = \"/x\"");
    let error = rendered(&Configuration::parse("c.toml", &unknown).unwrap_err());
    let expected = "c.toml:9:1: `defaults.sinks.path`: `path` cannot have a common default\n  hint: set `path` in each sink";
    assert_eq!(error, expected);
}

/// Regression: the records of a default for receivers that store everything were also sent to chats
/// and mailboxes.
#[test]
fn sinks_for_people_do_not_inherit_records() {
    let defaults = "[defaults.sinks]\nrecords = [\"control\", \"summary\"]\nstart_from = \"2024-01-01\"\nhistorical_changes = true\nmax_rate = 5\n";
    let chat = "[[sinks]]\nname = \"chat\"\ntype = \"chat\"\nservice = \"slack\"\nurl = { env = \"HOOK\" }\n";
    let read = |keys: &str| {
        Configuration::parse("c.toml", &format!("{defaults}{GOOD}{chat}{keys}")).unwrap()
    };

    let inherited = read("");
    let sink = inherited.sinks.iter().find(|sink| sink.name == "chat").unwrap();
    let selection = &sink.selection;
    assert_eq!((selection.controls, selection.summary, selection.changes), (false, false, true));
    assert!(!selection.historical);
    assert_eq!(sink.start_from, Some(Day::of(crate::clock::now())));
    assert_eq!(sink.max_rate, Some(5));
    let local = inherited.sinks.iter().find(|sink| sink.name == "local").unwrap();
    assert!(local.selection.controls && !local.selection.changes && local.start_from.is_some());
    assert!(inherited.inspection.warnings.is_empty(), "{:?}", inherited.inspection.warnings);

    let explicit = read("records = [\"control\", \"change\"]\n");
    let warning = &explicit.inspection.warnings[0];
    assert!(warning.message.starts_with("`records` contains `control`: `type = \"chat\"`"));
    assert_eq!(
        warning.hint.as_deref(),
        Some("remove `control` from `records`, and add another sink for them")
    );
}

/// Regression: a wrong default was also reported for each sink that inherited it.
#[test]
fn a_wrong_default_is_one_fault() {
    for (key, expected) in [
        ("max_rate = 0", "c.toml:2:12: `defaults.sinks.max_rate` must be a whole number from 1"),
        ("ca_file = \"ca.pem\"", "c.toml:2:11: `defaults.sinks.ca_file` must be an absolute path"),
        ("texs = \"full\"", "c.toml:2:1: unknown key `defaults.sinks.texs`\n  hint: use `texts`"),
        ("address = \"tcp://h:1\"", "c.toml:2:1: `defaults.sinks.address`: `address` cannot have"),
    ] {
        let found = faults(|text| format!("[defaults.sinks]\n{key}\n{text}"));
        assert!(found.starts_with(expected), "{found}");
        assert_eq!(found.matches("c.toml:").count(), 1, "{found}");
    }

    let found = faults(|text| format!("[defaults.tenants]\ncloud = 7\n{text}"));
    assert_eq!(found.matches("c.toml:").count(), 1, "{found}");
}

/// Regression: the tables of an inherited value were shown as if the section contained them.
#[test]
fn inherited_tables_are_shown_as_defaults() {
    let defaults = "[defaults.tenants.cloud]\nlogin_url = \"https://l.example\"\ngraph_url = \"https://g.example\"\n";
    let layers = layers_of("c.toml", &format!("{defaults}{GOOD}"), Vec::new());
    let tables = read::effective_values(&layers).unwrap();
    let cloud = tables.iter().find(|table| table.heading == "[tenants.cloud]").unwrap();
    let origins: Vec<String> = cloud.values.iter().map(|value| value.origin.to_string()).collect();
    assert_eq!(origins, ["defaults, c.toml:2", "defaults, c.toml:3"]);

    let sinks = tables.iter().find(|table| table.heading == "[[sinks]]").unwrap();
    let records = sinks.values.iter().find(|value| value.key == "records").unwrap();
    assert_eq!(records.value, None);
    assert!(records.origin.to_string().starts_with("not set: all four"), "{}", records.origin);
}

#[test]
fn effective_values_contain_no_secret() {
    let sink = "[[sinks]]\nname = \"hook\"\ntype = \"http\"\nurl = \"https://h/canary\"\n[[sinks]]\nname = \"o\"\ntype = \"otlp\"\nurl = \"https://h/v1?key=canary\"\n";
    let layers = layers_of("c.toml", &format!("{GOOD}{sink}"), Vec::new());
    let shown = format!("{:?}", read::effective_values(&layers).unwrap());
    assert!(!shown.contains("canary") && shown.contains("[redacted]"), "{shown}");
    assert!(shown.contains("graph-secret"), "{shown}");
    assert!(shown.contains("https://h/v1?[redacted]"), "{shown}");
}
