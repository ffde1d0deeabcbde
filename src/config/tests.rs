//! Tests of the configuration: values, defaults, and the messages for faults. They also check that
//! the published examples are valid, and that the reference describes every key.

mod confidentiality;
#[cfg(all(feature = "email", feature = "kafka", feature = "object_store"))]
mod example_file;
mod layers;

use super::*;
use crate::settings::{self, KeyDefinition, Shape};

const GOOD: &str = r#"
[state]
directory = "/var/lib/secure-score-forwarder"

[[tenants]]
name = "contoso"
id = "3f5c1d2e-0000-4000-8000-00000000c0de"
[tenants.labels]
customer = "c-17"
[tenants.credential]
kind = "client_secret"
client_id = "11111111-2222-4333-8444-555555555555"
client_secret = { credential = "graph-secret" }

[[sinks]]
name = "arcsight"
type = "syslog"
address = "tls://siem.example.com:6514"

[[sinks]]
name = "local"
type = "file"
path = "/var/log/secure-score/records.jsonl"
"#;

/// The faults of [`GOOD`] after a change, each on one line that is followed by its hint.
fn faults(change: impl FnOnce(String) -> String) -> String {
    match Configuration::parse("c.toml", &change(GOOD.to_owned())) {
        Ok(_) => String::new(),
        Err(error) => rendered(&error),
    }
}

fn rendered(error: &ConfigError) -> String {
    let lines = error.explanations().into_iter().map(|explanation| match explanation.hint {
        Some(hint) => format!("{}\n  hint: {hint}", explanation.message),
        None => explanation.message,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn check(from: &str, to: &str, expected: &str) {
    assert!(GOOD.contains(from), "{from}");
    assert_eq!(faults(|text| text.replacen(from, to, 1)), expected);
}

#[test]
fn reads_values_and_defaults() {
    let configuration = Configuration::parse("c.toml", GOOD).unwrap();
    assert_eq!(configuration.tenants[0].labels["customer"], "c-17");
    assert_eq!(
        configuration.tenants[0].access.cloud,
        crate::source::Cloud::named("global").unwrap()
    );
    assert_eq!(configuration.sinks[0].texts, Texts::None);
    assert_eq!(configuration.sinks[1].texts, Texts::Short);
    assert_eq!(configuration.removed_sinks, Duration::from_hours(30 * 24));
}

#[test]
fn unknown_keys_get_location_and_nearest_key() {
    let found = faults(|text| text.replacen("address = ", "adress = ", 1));
    let missing =
        "c.toml:15:1: `sinks[0].address` is missing\n  hint: set `address` to the receiver: ";
    assert!(found.starts_with(missing), "{found}");
    let unknown = "c.toml:18:1: unknown key `sinks[0].adress`\n  hint: use `address`";
    assert!(found.ends_with(unknown), "{found}");
    check(
        "[tenants.labels]",
        "[tenants.lables]",
        "c.toml:8:10: unknown key `tenants[0].lables`\n  hint: use `labels`",
    );
    let kinds: Vec<&str> = crate::sink::KINDS.iter().map(|kind| kind.name).collect();
    check(
        "type = \"file\"",
        "type = \"fil\"",
        &format!(
            "c.toml:22:8: `sinks[1].type` must be one of: {}\n  hint: use `file`",
            kinds.join(", ")
        ),
    );
}

#[test]
fn rejects_reserved_keys() {
    let found = faults(|text| text.replacen("[state]", "[state]\nurl = \"postgres://db\"", 1));
    assert!(found.contains("`state.url` is not supported by this version"), "{found}");
}

#[test]
#[cfg(not(feature = "object_store"))]
fn rejects_sinks_that_are_not_built() {
    check(
        "type = \"file\"",
        "type = \"object_store\"",
        "c.toml:22:8: `sinks[1].type = \"object_store\"` is not supported by this build\n  hint: build with `--features object_store`",
    );
}

#[test]
fn rejects_and_never_prints_inline_secrets() {
    let found =
        faults(|text| text.replacen("{ credential = \"graph-secret\" }", "\"canary-7a\"", 1));
    assert!(
        found.starts_with(
            "c.toml:13:17: `tenants[0].credential.client_secret` must refer to a secret, not contain it"
        ),
        "{found}"
    );
    assert!(!found.contains("canary"));
}

#[test]
fn reports_all_faults_together() {
    let found = faults(|text| {
        text.replacen("kind = \"client_secret\"", "kind = \"client_secre\"", 1)
            .replacen("directory = \"/var", "directory = \"var", 1)
            .replacen("tls://siem.example.com:6514", "udp://siem.example.com:514", 1)
            + "retries = 3\n[schedule]\ncron = \"never\"\ntimezone = 7\njitter = \"ten minutes\"\n"
    });

    let locations: Vec<&str> = found
        .lines()
        .filter_map(|line| {
            line.split(": ").next().filter(|location| location.starts_with("c.toml"))
        })
        .collect();
    assert_eq!(
        locations,
        [
            "c.toml:3:13",
            "c.toml:11:8",
            "c.toml:18:11",
            "c.toml:24:1",
            "c.toml:26:8",
            "c.toml:27:12",
            "c.toml:28:10"
        ],
        "{found}"
    );
}

#[test]
fn rejects_duplicate_names_and_destinations() {
    let duplicate = GOOD.replace("\"local\"", "\"arcsight\"");
    let error = Configuration::parse("c.toml", &duplicate).unwrap_err().to_string();
    assert!(error.contains("duplicate `name = \"arcsight\"`"), "{error}");

    let shared = format!(
        "{GOOD}\n[[sinks]]\nname = \"again\"\ntype = \"file\"\npath = \"/var/log/secure-score/records.jsonl\"\n"
    );
    let error = Configuration::parse("c.toml", &shared).unwrap_err().to_string();
    assert!(error.contains("both write to `/var/log"), "{error}");
}

#[test]
fn rejects_renaming_from_a_configured_sink() {
    for (old, is_valid) in [("former", true), ("arcsight", false), ("local", false)] {
        let key = format!("name = \"local\"\nrenamed_from = \"{old}\"");
        let found = faults(|text| text.replacen("name = \"local\"", &key, 1));
        assert_eq!(!found.contains("is the name of a configured sink"), is_valid, "{old}: {found}");
        assert_eq!(found.is_empty(), is_valid, "{found}");
    }
}

#[test]
fn tenant_ids_are_guids_or_domains() {
    for (id, is_valid) in [
        ("contoso.onmicrosoft.com", true),
        ("common", false),
        ("organizations", false),
        ("a b.c", false),
        ("", false),
    ] {
        let found = faults(|text| text.replacen("3f5c1d2e-0000-4000-8000-00000000c0de", id, 1));
        assert_eq!(found.is_empty(), is_valid, "{id}: {found}");
    }
}

#[test]
fn invalid_toml_has_a_location() {
    let found = faults(|text| text.replacen("[state]", "[state", 1));
    assert!(found.starts_with("c.toml:2:7: "), "{found}");
}

#[test]
fn the_configuration_in_the_readme_is_valid() {
    let readme = include_str!("../../README.md");
    let shown: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(shown.len(), 1);
    Configuration::parse("README.md", shown[0]).unwrap();
}

/// Regression: the page omitted the tables of single sinks, such as `sasl` of Kafka.
#[test]
fn the_reference_has_every_key() {
    let page = settings::reference(KEYS);
    let rows = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, every_key(KEYS).len(), "{page}");
    // The row of a tag lists the variants of its table.
    for row in ["| `type` | `\"stdout\"`, ", "| `kind` | `\"client_secret\"`, "] {
        assert!(page.contains(row), "{page}");
    }
}

/// The keys of a table, of the tables inside it, and of their variants.
fn every_key(keys: &'static [KeyDefinition]) -> Vec<&'static KeyDefinition> {
    let supported = keys.iter().filter(|key| !matches!(key.shape, Shape::Reserved));
    supported.flat_map(|key| [vec![key], keys_inside(key.shape)].concat()).collect()
}

fn keys_inside(shape: Shape) -> Vec<&'static KeyDefinition> {
    match shape {
        Shape::NameOrSection(shape) => keys_inside(*shape),
        Shape::Table(keys) | Shape::Tables(keys) | Shape::OneOfOrTable { keys, .. } => {
            every_key(keys)
        }
        Shape::Tagged { keys, variants, .. } => {
            let variants = variants().into_iter().filter_map(|variant| variant.keys);
            [keys].into_iter().chain(variants).flat_map(every_key).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn reads_rules_for_each_tenant() {
    let rules = "[[severity]]\nwhat = [\"regressed\", \"gap\"]\nseverity = \"high\"\n[[expected_decisions]]\ncontrol = \"A*\"\nstate = \"Ignored\"\nowner = \"anna\"\ntenants = [\"other\"]\n";
    let read = Configuration::parse("c.toml", &format!("{rules}{GOOD}")).unwrap();
    let tenant = &read.tenants[0].rules;
    assert_eq!((tenant.severity.len(), tenant.expected.len()), (1, 0));

    let for_all = rules.replace("tenants = [\"other\"]\n", "");
    let read = Configuration::parse("c.toml", &format!("{for_all}{GOOD}")).unwrap();
    assert_eq!(read.tenants[0].rules.expected.len(), 1);

    for (from, to, fault) in [
        ("\"gap\"", "\"gab\"", "`gab` is not a kind of change or observation"),
        ("severity = \"high\"", "severity = \"hot\"", "`severity[0].severity` must be one of"),
        (
            "state = \"Ignored\"",
            "state = \"Reviewed\"",
            "`expected_decisions[0].state` must be one of",
        ),
        ("owner = \"anna\"\n", "", "`expected_decisions[0].owner` is missing"),
    ] {
        let text = format!("{}{GOOD}", rules.replacen(from, to, 1));
        let found = Configuration::parse("c.toml", &text).unwrap_err().to_string();
        assert!(found.contains(fault), "{to}: {found}");
    }
}

#[test]
fn digests_use_the_zone_of_the_schedule() {
    let chat = |digest: &str| {
        format!(
            "{GOOD}[[sinks]]\nname = \"chat\"\ntype = \"chat\"\nservice = \"slack\"\nurl = {{ env = \"HOOK\" }}\ndigest = \"{digest}\"\n[schedule]\ntimezone = \"Europe/Berlin\"\n"
        )
    };

    let read = Configuration::parse("c.toml", &chat("0 8 * * 1")).unwrap();
    let sink = read.sinks.iter().find(|sink| sink.name == "chat").unwrap();
    let next = sink.digest.as_ref().unwrap().next("2026-11-22T12:00:00Z".parse().unwrap());
    assert_eq!(next, Some("2026-11-23T07:00:00Z".parse().unwrap()));
    assert!((sink.selection.changes, sink.selection.controls) == (true, false));
    assert_eq!(sink.start_from, Some(Day::of(crate::clock::now())));
    assert!(read.sinks.iter().any(|sink| sink.digest.is_none() && sink.start_from.is_none()));

    for (digest, fault) in [
        ("weekly", "`digest`: `weekly` is not a cron expression of five fields"),
        ("0 0 30 2 *", "`digest`: `0 0 30 2 *` never occurs"),
    ] {
        let error = Configuration::parse("c.toml", &chat(digest)).unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
    }
}

#[test]
fn rejects_clouds_without_the_api() {
    check(
        "id = \"3f5c1d2e-0000-4000-8000-00000000c0de\"",
        "id = \"3f5c1d2e-0000-4000-8000-00000000c0de\"\ncloud = \"china\"",
        "c.toml:8:9: the cloud `china` does not offer the Secure Score API\n  hint: use one of: global, us-gov-high, us-gov-dod",
    );
    let found = faults(|text| {
        text.replacen(
            "[tenants.labels]",
            "cloud = { login_url = \"https://login.chinacloudapi.cn\", graph_url = \"http://graph.microsoft.com\" }\n[tenants.labels]",
            1,
        )
    });
    assert!(found.contains("the cloud `china` does not offer the Secure Score API"), "{found}");
    assert!(found.contains("`cloud.graph_url` must be https://host"), "{found}");
}

#[test]
fn reads_every_kind_of_credential() {
    let kind = |section: &str| {
        let found = faults(|text| {
            let from = text.find("kind = ").unwrap();
            let to = text.find("[[sinks]]").unwrap();
            format!("{}{section}\n{}", &text[..from], &text[to..])
        });
        found.lines().next().unwrap_or_default().to_owned()
    };
    let id = "client_id = \"11111111-2222-4333-8444-555555555555\"";

    for valid in [
        format!("kind = \"certificate\"\n{id}\ncertificate = \"/c.pem\"\nsend_chain = true"),
        format!(
            "kind = \"certificate\"\n{id}\ncertificate = \"/c.pfx\"\npassword = {{ file = \"/p\" }}"
        ),
        "kind = \"managed_identity\"".to_owned(),
        "kind = \"managed_identity\"\nobject_id = \"x\"".to_owned(),
        format!("kind = \"workload_identity\"\n{id}\ntoken_file = \"/t\""),
        format!("kind = \"user\"\n{id}\ntoken_key = {{ credential = \"k\" }}"),
    ] {
        assert_eq!(kind(&valid), "");
    }

    for (invalid, expected) in [
        (
            format!("kind = \"certificate\"\n{id}\ncertificate = \"c.pem\""),
            "c.toml:13:15: `tenants[0].credential.certificate` must be an absolute path",
        ),
        (
            "kind = \"managed_identity\"\nobject_id = \"x\"\nclient_id = \"y\"".to_owned(),
            "c.toml:11:8: only one of `client_id`, `object_id` and `resource_id` can be set",
        ),
        (
            "kind = \"user\"\nclient_id = \"me\"".to_owned(),
            "c.toml:12:13: `client_id` must be the GUID that Entra calls \"Application (client) ID\"",
        ),
        (
            "kind = \"password\"".to_owned(),
            "c.toml:11:8: `tenants[0].credential.kind` must be one of: client_secret, certificate, managed_identity, workload_identity, user, environment",
        ),
    ] {
        assert_eq!(kind(&invalid), expected);
    }
}

#[test]
fn tenants_share_a_named_credential() {
    let shared = |name: &str| {
        GOOD.replacen(
            "[tenants.credential]",
            &format!("[[tenants]]\nname = \"b\"\nid = \"b.example\"\ncredential = \"{name}\"\n[tenants.labels]\n[credentials.app]"),
            1,
        )
        .replacen("[tenants.labels]", "credential = \"app\"\n[tenants.labels]", 1)
    };
    let configuration = Configuration::parse("c.toml", &shared("app")).unwrap();
    let credential = |index: usize| &configuration.tenants[index].access.credential;
    assert!(Arc::ptr_eq(credential(0), credential(1)));
    let names = configuration.tenants.iter().map(|tenant| tenant.credential.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["app", "app"]);

    let own = Configuration::parse("c.toml", GOOD).unwrap();
    assert_eq!(own.tenants[0].credential, "tenant contoso");
    assert_eq!(own.credentials[0].name, own.tenants[0].credential);

    let error = rendered(&Configuration::parse("c.toml", &shared("ap")).unwrap_err());
    assert_eq!(error, "c.toml:14:14: unknown credential `ap`\n  hint: use one of: app");
}

#[test]
fn common_mistakes_get_a_hint() {
    for (from, to, hint) in [
        ("[[tenants]]", "[tenants]", "write [[tenants]] with double brackets"),
        ("type = \"file\"", "type = \"file\"\nstart_from = 2026-01-01", "put the date in quotes"),
        ("type = \"file\"", "type = \"file\"\nstart_from = \"2126-01-01\"", "is in the future"),
        ("[state]", "[schedule]\nrecheck_interval = \"0s\"\n[state]", "must be from 1m to 1d"),
        ("[state]", "[state]\nremoved_sinks = \"367d\"", "must be at most 366d"),
        // The other keys are checked although the tag is missing.
        ("type = \"file\"", "texts = \"many\"", "`sinks[1].texts` must be one of"),
    ] {
        let found = faults(|text| text.replacen(from, to, 1));
        assert!(found.contains(hint), "{to}: {found}");
    }
}
