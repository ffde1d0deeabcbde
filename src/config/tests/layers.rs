//! Tests of the values from the environment and from `[defaults]`, and of the list of effective values.

use super::*;

/// The configuration after some variables were set, or its faults.
fn with_variables(variables: &[(&str, &str)]) -> Result<Configuration, String> {
    let variable = |(name, value): &(&str, &str)| {
        (format!("SECURE_SCORE_FORWARDER__{name}"), (*value).to_owned())
    };
    let variables = variables.iter().map(variable).collect();
    Configuration::parse_with("c.toml", GOOD, variables).map_err(|error| rendered(&error))
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

#[test]
fn unusable_variables_are_faults() {
    let prefix = "environment variable `SECURE_SCORE_FORWARDER__";
    for (name, value, expected) in [
        ("SCHEDULE__CRN", "x", "SCHEDULE__CRN`: no key is named `CRN`\n  hint: use `CRON`"),
        ("SCHEDULE__JITTER", "x", "SCHEDULE__JITTER`: `schedule.jitter` must be a duration"),
        ("STATE__RETENTION_DAYS", "many", "`state.retention_days` must be a whole number from 90"),
        ("SCHEDULE", "x", "`schedule` is a list or a table\n  hint: set it in the configuration"),
        ("SINKS__OTHER__PATH", "/x", "no table in `sinks` has a name like `OTHER`"),
        ("SINKS__LOCAL__RECORDS", "x", "`sinks.LOCAL.records` is a list or a table"),
        ("SINKS__LOCAL__PATH__X", "x", "`sinks.LOCAL.path` has no key `X`"),
        (
            "TENANTS__CONTOSO__CREDENTIAL__CLIENT_SECRET",
            "canary",
            "must refer to a secret, not contain it\n  hint: end the name with `__CREDENTIAL`",
        ),
    ] {
        let faults = with_variables(&[(name, value)]).unwrap_err();
        assert!(faults.starts_with(prefix) && faults.contains(expected), "{name}: {faults}");
        assert!(!faults.contains("canary"), "{faults}");
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

    let shown: Vec<String> = read
        .inspection
        .effective
        .iter()
        .filter(|table| table.heading == "[[sinks]]")
        .flat_map(|table| &table.values)
        .filter(|value| ["max_rate", "ca_file", "controls"].contains(&value.key))
        .map(|value| format!("{} = {} # {}", value.key, value.value, value.origin))
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

    let unknown = text.replace("max_rate = 50", "path = \"/x\"");
    let error = rendered(&Configuration::parse("c.toml", &unknown).unwrap_err());
    assert!(error.contains("unknown key `defaults.sinks.path`"), "{error}");
}

#[test]
fn effective_values_contain_no_secret() {
    let sink = "[[sinks]]\nname = \"hook\"\ntype = \"http\"\nurl = \"https://h/canary\"\n";
    let read = Configuration::parse("c.toml", &format!("{GOOD}{sink}")).unwrap();
    let shown = format!("{:?}", read.inspection.effective);
    assert!(!shown.contains("canary") && shown.contains("[redacted]"), "{shown}");
    assert!(shown.contains("graph-secret"), "{shown}");
}
