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

/// The effective values of a text.
fn effective_values(text: &str) -> Vec<EffectiveTable> {
    let layers = layers_of("c.toml", text, Vec::new());
    effective(&layers.merge().unwrap(), KEYS, &layers.faults)
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

/// Regression: bytes that are not UTF-8 were replaced in a path, and a variable for a whole value
/// replaced one for a key in it.
#[test]
fn variables_never_change_a_value_silently() {
    let faults = with_variables(&[("STATE__DIRECTORY", "/d\u{fffd}ta")]).unwrap_err();
    assert!(faults.contains("STATE__DIRECTORY`: the value is not UTF-8"), "{faults}");

    let both =
        [("TENANTS__CONTOSO__CREDENTIAL", "app"), ("TENANTS__CONTOSO__CREDENTIAL__KIND", "user")];
    let faults = with_variables(&both).unwrap_err();
    let expected = "another variable also sets `tenants.contoso.credential`, or a key in it";
    assert!(faults.contains(expected), "{faults}");
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
fn a_variable_names_the_csv_file() {
    let text = format!("tenants_file = \"a.csv\"\n{GOOD}");
    let layers = layers_of("c.toml", &text, Vec::new());
    let name = "SECURE_SCORE_FORWARDER__TENANTS_FILE";
    for (variable, value, expected) in [
        (name, "b.csv", "b.csv"),
        (name, "", ""),
        // A value that is not UTF-8 is a fault.
        (name, "\u{fffd}.csv", "a.csv"),
        ("SECURE_SCORE_FORWARDER__TENANTS", "b.csv", "a.csv"),
    ] {
        let variables = [(variable.to_owned(), value.to_owned())];
        assert_eq!(layers.tenants_file(&variables), Some(expected), "{variable} {value}");
    }
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

    let effective = effective_values(&text);
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
fn notification_sinks_do_not_inherit_records() {
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
    assert_eq!(
        warning.message,
        "`records` contains `control`, and each poll produces hundreds of these records: a `chat` sink would post all of them as messages"
    );
    assert_eq!(
        warning.hint.as_deref(),
        Some("remove `control` from `records`, and add another sink for them")
    );

    let summaries = read("records = [\"summary\", \"change\"]\n");
    let warning = &summaries.inspection.warnings[0];
    assert!(warning.message.contains("each new day of a tenant produces such a record"));
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
    let tables = effective_values(&format!("{defaults}{GOOD}"));
    let cloud = tables.iter().find(|table| table.heading == "[tenants.cloud]").unwrap();
    let origins: Vec<String> = cloud.values.iter().map(|value| value.origin.to_string()).collect();
    assert_eq!(origins, ["defaults, c.toml:2", "defaults, c.toml:3"]);

    let sinks = tables.iter().find(|table| table.heading == "[[sinks]]").unwrap();
    let records = sinks.values.iter().find(|value| value.key == "records").unwrap();
    assert_eq!(records.value, None);
    assert!(records.origin.to_string().starts_with("not set: `change`"), "{}", records.origin);
}

#[test]
fn effective_values_contain_no_secret() {
    let sink = "[[sinks]]\nname = \"hook\"\ntype = \"http\"\nurl = \"https://h/canary\"\n[[sinks]]\nname = \"o\"\ntype = \"otlp\"\nurl = \"https://h/v1?key=canary\"\n";
    let shown = format!("{:?}", effective_values(&format!("{GOOD}{sink}")));
    assert!(!shown.contains("canary") && shown.contains("[redacted]"), "{shown}");
    assert!(shown.contains("graph-secret"), "{shown}");
    assert!(shown.contains("https://h/v1?[redacted]"), "{shown}");
}

/// A configuration with a table for each variant: `type` of a sink and `kind` of a credential.
fn with_every_variant() -> String {
    let named = |list: &str, tag: &str, name: &str| match list {
        "credentials" => format!("[credentials.{name}]\n{tag} = \"{name}\"\n"),
        list => format!("[[{list}]]\nname = \"{name}\"\n{tag} = \"{name}\"\n"),
    };
    let variants = |list: &str| {
        let key = KEYS.iter().find(|key| key.name == list).unwrap();
        let Shape::Tagged { tag, variants, .. } = key.shape else { panic!("{list} has no tag") };
        let built = variants().into_iter().filter(|variant| variant.keys.is_some());
        built.map(|variant| named(list, tag, variant.name)).collect::<String>()
    };
    format!(
        "[[tenants]]\nname = \"contoso\"\n[tenants.credential]\nkind = \"user\"\n[[severity]]\n[[expected_decisions]]\n{}{}",
        variants("credentials"),
        variants("sinks")
    )
}

/// A variable and a value for each key of a table that is neither a list nor a table, and for the
/// keys of the tables within it. `path` is the beginning of the names.
fn variables_of(keys: &[&KeyDefinition], path: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for key in keys {
        let name = format!("{path}{}", key.name.to_ascii_uppercase());
        let value = match key.shape {
            Shape::Table(inner) => {
                let inner: Vec<&KeyDefinition> = inner.iter().collect();
                variables.extend(variables_of(&inner, &format!("{name}__")));
                continue;
            }
            Shape::Secret(_) | Shape::TextOrSecret(_) => {
                variables.push((format!("{name}__ENV"), "X".to_owned()));
                continue;
            }

            Shape::Bool => "true".to_owned(),
            Shape::Integer { min, .. } => min.to_string(),
            Shape::Text
            | Shape::File
            | Shape::Duration { .. }
            | Shape::Size { .. }
            | Shape::Day
            | Shape::OneOf(_)
            | Shape::OneOfOrTable { .. } => "x".to_owned(),
            _ => continue,
        };
        variables.push((name, value));
    }
    variables
}

/// Every key whose value is neither a list nor a table can be set, in each variant of its table,
/// except the names by which tables are addressed and the tags of this test.
#[test]
fn variables_can_set_every_single_value() {
    let mut variables = variables_of(&KEYS.iter().collect::<Vec<_>>(), "");
    for key in KEYS {
        match key.shape {
            Shape::Tables(keys) => {
                let element = if key.name == "tenants" { "CONTOSO" } else { "0" };
                let path = format!("{}__{element}__", key.name.to_ascii_uppercase());
                variables.extend(variables_of(&keys.iter().collect::<Vec<_>>(), &path));
            }
            Shape::Tagged { keys, variants, .. } => {
                for variant in variants() {
                    let Some(own) = variant.keys else { continue };
                    let list = key.name.to_ascii_uppercase();
                    let path = format!("{list}__{}__", variant.name.to_ascii_uppercase());
                    let keys: Vec<&KeyDefinition> = keys.iter().chain(own).collect();
                    variables.extend(variables_of(&keys, &path));
                }
            }
            _ => {}
        }
    }

    let is_set_elsewhere = |name: &str| {
        ["__NAME", "__TYPE", "__KIND"].iter().any(|end| name.ends_with(end))
            || name.starts_with("DEFAULTS__")
    };
    variables.retain(|(name, _)| !is_set_elsewhere(name));
    assert!(variables.len() > 250, "only {} variables", variables.len());
    let prefixed = variables
        .into_iter()
        .map(|(name, value)| (format!("SECURE_SCORE_FORWARDER__{name}"), value))
        .collect();

    let layers = layers_of("c.toml", &with_every_variant(), prefixed);
    assert!(layers.merge().is_some());
    let faults: Vec<String> = layers.faults.sorted().iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
