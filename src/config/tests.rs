use super::*;

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

/// The faults of [`GOOD`] with something changed in it, one a line.
fn faults(change: impl FnOnce(String) -> String) -> String {
    match Configuration::parse("c.toml", &change(GOOD.to_owned())) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

fn check(from: &str, to: &str, want: &str) {
    assert!(GOOD.contains(from), "{from}");
    assert_eq!(faults(|text| text.replacen(from, to, 1)), want);
}

#[test]
fn a_good_one_means_what_it_says() {
    let configuration = Configuration::parse("c.toml", GOOD).unwrap();
    assert_eq!(configuration.tenants[0].labels["customer"], "c-17");
    assert_eq!(
        configuration.tenants[0].access.cloud,
        crate::source::Cloud::named("global").unwrap()
    );
    assert_eq!(configuration.sinks[0].texts, Texts::None);
    assert_eq!(configuration.sinks[1].texts, Texts::Short);
}

#[test]
fn unknown_keys_name_the_nearest_known_one_and_the_place() {
    check(
        "address = ",
        "adress = ",
        "c.toml:15:1: `sinks[0].address` is missing\n  hint: tcp://, tls://, relp://, relps:// or udp:// with host:port, or unix:///path.\nc.toml:18:1: unknown key `sinks[0].adress`\n  hint: did you mean `address`?",
    );
    check(
        "[tenants.labels]",
        "[tenants.lables]",
        "c.toml:8:10: unknown key `tenants[0].lables`\n  hint: did you mean `labels`?",
    );
    let kinds: Vec<&str> = crate::sink::KINDS.iter().map(|kind| kind.name).collect();
    check(
        "type = \"file\"",
        "type = \"fil\"",
        &format!(
            "c.toml:22:8: `sinks[1].type` must be one of: {}\n  hint: did you mean `file`?",
            kinds.join(", ")
        ),
    );
}

#[test]
fn what_is_not_in_this_version_is_refused_by_name() {
    let found = faults(|text| text.replacen("[state]", "[state]\nurl = \"postgres://db\"", 1));
    assert!(found.contains("`state.url` is not in this version"), "{found}");
}

#[test]
#[cfg(not(feature = "object_store"))]
fn what_is_not_in_this_build_is_refused_by_name() {
    check(
        "type = \"file\"",
        "type = \"object_store\"",
        "c.toml:22:8: `sinks[1].type = \"object_store\"` is not in this build\n  hint: `--features object_store` builds it in",
    );
}

#[test]
fn a_secret_is_never_the_text_itself_and_never_printed() {
    let found =
        faults(|text| text.replacen("{ credential = \"graph-secret\" }", "\"canary-7a\"", 1));
    assert!(
        found.starts_with(
            "c.toml:13:17: `tenants[0].credential.client_secret` must not hold the secret itself"
        ),
        "{found}"
    );
    assert!(!found.contains("canary"));
}

#[test]
fn every_fault_at_once() {
    let found = faults(|text| {
        text.replacen("kind = \"client_secret\"", "kind = \"client_secre\"", 1)
            .replacen("directory = \"/var", "directory = \"var", 1)
            .replacen("tls://siem.example.com:6514", "udp://siem.example.com:514", 1)
            + "retries = 3\n[schedule]\ncron = \"never\"\ntimezone = 7\njitter = \"ten minutes\"\n"
    });
    let places: Vec<&str> = found
        .lines()
        .filter_map(|line| line.split(": ").next().filter(|p| p.starts_with("c.toml")))
        .collect();
    assert_eq!(
        places,
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
fn what_contradicts_itself() {
    let twice = GOOD.replace("\"local\"", "\"arcsight\"");
    assert!(
        Configuration::parse("c.toml", &twice)
            .unwrap_err()
            .to_string()
            .contains("`name = \"arcsight\"` stands twice")
    );
    let shared = format!(
        "{GOOD}\n[[sinks]]\nname = \"again\"\ntype = \"file\"\npath = \"/var/log/secure-score/records.jsonl\"\n"
    );
    assert!(
        Configuration::parse("c.toml", &shared)
            .unwrap_err()
            .to_string()
            .contains("both write to /var/log")
    );
    for (old, good) in [("former", true), ("arcsight", false), ("local", false)] {
        let key = format!("name = \"local\"\nrenamed_from = \"{old}\"");
        let found = faults(|text| text.replacen("name = \"local\"", &key, 1));
        assert_eq!(!found.contains("names a sink that is configured"), good, "{old}: {found}");
        assert_eq!(found.is_empty(), good, "{found}");
    }
    for (id, good) in [
        ("contoso.onmicrosoft.com", true),
        ("common", false),
        ("organizations", false),
        ("a b.c", false),
        ("", false),
    ] {
        let found = faults(|text| text.replacen("3f5c1d2e-0000-4000-8000-00000000c0de", id, 1));
        assert_eq!(found.is_empty(), good, "{id}: {found}");
    }
}

#[test]
fn what_is_not_toml_says_where() {
    let found = faults(|text| text.replacen("[state]", "[state", 1));
    assert!(found.starts_with("c.toml:2:7: "), "{found}");
}

/// The configurations that the manual shows are good ones, also with every default written out.
#[test]
#[cfg(all(feature = "kafka", feature = "object_store"))]
fn what_the_manual_shows() {
    let readme = include_str!("../../README.md");
    let shown: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(shown.len(), 1);
    let example = include_str!("../../deploy/config.example.toml");
    // Behind the two lines of its head, every comment of one `#` at the start of a line is a default.
    let defaults = example.splitn(3, '\n').nth(2).unwrap().replace("\n# ", "\n");
    assert_ne!(example.len(), defaults.len());
    for text in [shown[0], example, &defaults] {
        Configuration::parse("shown", text).unwrap();
    }
}

#[test]
fn rules_of_changes_are_read_for_each_tenant_and_their_faults_named() {
    let rules = "[[severity]]\nwhat = [\"regressed\", \"gap\"]\nseverity = \"high\"\n[[expected_decisions]]\ncontrol = \"A*\"\nstate = \"Ignored\"\nowner = \"anna\"\ntenants = [\"nobody\"]\n";
    let read = Configuration::parse("c.toml", &format!("{rules}{GOOD}")).unwrap();
    let tenant = &read.tenants[0].rules;
    assert_eq!((tenant.severity.len(), tenant.expected.len()), (1, 0));
    let everybody = rules.replace("tenants = [\"nobody\"]\n", "");
    let read = Configuration::parse("c.toml", &format!("{everybody}{GOOD}")).unwrap();
    assert_eq!(read.tenants[0].rules.expected.len(), 1);
    for (from, to, fault) in [
        ("\"gap\"", "\"gab\"", "`gab` is no kind of change or observation"),
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
fn clouds_without_the_api_are_refused_with_the_reason() {
    check(
        "id = \"3f5c1d2e-0000-4000-8000-00000000c0de\"",
        "id = \"3f5c1d2e-0000-4000-8000-00000000c0de\"\ncloud = \"china\"",
        "c.toml:8:9: the cloud `china` has no Secure Score\n  hint: Microsoft's Graph has this API in global, us-gov-high and us-gov-dod only",
    );
    let found = faults(|text| {
        text.replacen(
            "[tenants.labels]",
            "cloud = { login_url = \"https://login.chinacloudapi.cn\", graph_url = \"http://graph.microsoft.com\" }\n[tenants.labels]",
            1,
        )
    });
    assert!(found.contains("the cloud `china` has no Secure Score"), "{found}");
    assert!(found.contains("`cloud.graph_url` must be https://host"), "{found}");
}

#[test]
fn every_kind_of_credential_is_read() {
    let kind = |section: &str| {
        let found = faults(|text| {
            let from = text.find("kind = ").unwrap();
            let to = text.find("[[sinks]]").unwrap();
            format!("{}{section}\n{}", &text[..from], &text[to..])
        });
        found.lines().next().unwrap_or_default().to_owned()
    };
    let id = "client_id = \"11111111-2222-4333-8444-555555555555\"";
    for good in [
        format!("kind = \"certificate\"\n{id}\ncertificate = \"/c.pem\"\nsend_chain = true"),
        format!(
            "kind = \"certificate\"\n{id}\ncertificate = \"/c.pfx\"\npassword = {{ file = \"/p\" }}"
        ),
        "kind = \"managed_identity\"".to_owned(),
        "kind = \"managed_identity\"\nobject_id = \"x\"".to_owned(),
        format!("kind = \"workload_identity\"\n{id}\ntoken_file = \"/t\""),
        format!("kind = \"user\"\n{id}\ntoken_key = {{ credential = \"k\" }}"),
    ] {
        assert_eq!(kind(&good), "");
    }
    for (bad, want) in [
        (
            format!("kind = \"certificate\"\n{id}\ncertificate = \"c.pem\""),
            "c.toml:13:15: `certificate` must be absolute: the service does not run where you do",
        ),
        (
            "kind = \"managed_identity\"\nobject_id = \"x\"\nclient_id = \"y\"".to_owned(),
            "c.toml:11:8: name one of `client_id`, `object_id` and `resource_id`",
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
        assert_eq!(kind(&bad), want);
    }
}

#[test]
fn a_credential_may_be_shared_by_name() {
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
    let error = Configuration::parse("c.toml", &shared("ap")).unwrap_err().to_string();
    assert_eq!(error, "c.toml:14:14: there is no credential `ap`\n  hint: there are: app");
}

#[test]
fn slips_of_the_pen_get_a_hint() {
    for (from, to, hint) in [
        ("[[tenants]]", "[tenants]", "write [[tenants]], with two brackets"),
        (
            "type = \"file\"",
            "type = \"file\"\nstart_from = 2026-01-01",
            "put the date between quotes",
        ),
        ("type = \"file\"", "type = \"file\"\nstart_from = \"2126-01-01\"", "is a day to come"),
        ("[state]", "[schedule]\nlook_again = \"0s\"\n[state]", "must be at least 1m"),
        // A missing tag hides nothing else.
        ("type = \"file\"", "texts = \"many\"", "`sinks[1].texts` must be one of"),
    ] {
        let found = faults(|text| text.replacen(from, to, 1));
        assert!(found.contains(hint), "{to}: {found}");
    }
}
